#include "checkpoint/manifest.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "formats/json.h"
#include "kernels/hash.h"

namespace ingot::checkpoint {
namespace {

constexpr std::string_view kHashMember = ",\"hash\":\"";
constexpr size_t kDigits = 32;

OrderedJson number(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  return d;
}

std::optional<double> as_number(const Json& j) {
  if (const auto d = finite_number(j)) return d;
  if (j == "nan") return std::nan("");
  if (j == "inf") return HUGE_VAL;
  if (j == "-inf") return -HUGE_VAL;
  return std::nullopt;
}

Result<Metrics> metrics_of(const Json& j, const std::string& path) {
  Metrics out;
  if (!j.is_object()) return bad_input("reading {}: the metrics are {}, expected an object of numbers", path, json_brief(j));
  for (const auto& [name, value] : j.items()) {
    const auto d = as_number(value);
    if (!d) return bad_input("reading {}: the metric '{}' is {}, expected a number", path, name, json_brief(value));
    out[name] = *d;
  }
  return out;
}

// An object's text without its end: it ends with the hash of all that is before.
std::string sealed(const std::string& s) { return fmt::format("{}{}{}\"}}\n", s, kHashMember, to_hex(hash128(as_bytes(s)))); }

// What is wrong with the hash that a text ends with: nothing where it is its own. Absent: it does not end with one.
std::optional<std::string> wrong_seal(std::string_view text) {
  const size_t at = text.rfind(kHashMember), end = at == std::string_view::npos ? at : at + kHashMember.size() + kDigits;
  if (at == std::string_view::npos || end > text.size() || text.substr(end) != "\"}\n") return std::nullopt;
  const std::string told(text.substr(end - kDigits, kDigits)), found = to_hex(hash128(as_bytes(text.substr(0, at))));
  return told == found ? "" : fmt::format("its own hash is {}, but it says {}: a byte of it has changed", found, told);
}

bool is_hash(const std::string& s) { return s.size() == kDigits && s.find_first_not_of("0123456789abcdef") == std::string::npos; }

// A file of the directory itself, and none that is not the manifest's to name.
bool is_object_name(const std::string& s) {
  return !s.empty() && s != "." && s != ".." && s.find('/') == std::string::npos && s.find('\0') == std::string::npos && s != kManifestFile && s != kMetricsFile &&
         s != kQuarantineFile && s != kPinnedFile && s != kWriterFile;
}

}  // namespace

const Object* Manifest::find(std::string_view name) const {
  const auto it = std::find_if(objects.begin(), objects.end(), [&](const Object& o) { return o.name == name; });
  return it == objects.end() ? nullptr : &*it;
}

std::vector<std::string> Manifest::files() const {
  std::vector<std::string> all;
  for (const Object& o : objects) all.push_back(o.file());
  all.push_back(kManifestFile);
  return all;
}

uint64_t Manifest::written() const {
  uint64_t sum = 0;
  for (const Object& o : objects) sum += o.same_as ? 0 : o.file_bytes();
  return sum;
}

uint64_t Manifest::bytes() const {
  uint64_t sum = 0;
  for (const Object& o : objects) sum += o.bytes;
  return sum;
}

std::string metrics_text(const Metrics& m) {
  OrderedJson j = OrderedJson::object();
  for (const auto& [name, d] : m) j[name] = number(d);
  return json_line(j);
}

std::string late_metrics_text(const Metrics& m) {
  std::string s = metrics_text(m);
  if (m.empty() || m.contains("hash")) return s + "\n";  // one of that name takes its place
  s.pop_back();
  return sealed(s);
}

Result<Metrics> parse_late_metrics(std::string_view text, const std::string& path) {
  const auto wrong = wrong_seal(text);
  if (wrong && !wrong->empty()) return bad_input("reading {}: {}; these metrics do not count", path, *wrong);
  INGOT_ASSIGN(Json j, parse_strict_json(text, path));
  if (wrong) j.erase("hash");
  return metrics_of(j, path);
}

std::string manifest_text(const Manifest& m) {
  std::string s = fmt::format("{{\"ingot\":\"checkpoint\",\"version\":{},\n\"step\":{},\"epoch\":{},\"time\":{},\"world\":{},\n", kVersion, m.step, m.epoch, json_double(m.time), m.world);
  if (!m.run.empty()) s += fmt::format("\"run\":{},\n", json_quote(m.run));
  if (m.parent) s += fmt::format("\"parent\":{},\n", *m.parent);
  s += fmt::format("\"metrics\":{},\n\"objects\":[", metrics_text(m.metrics));
  for (size_t i = 0; i < m.objects.size(); ++i) {
    const Object& o = m.objects[i];
    s += fmt::format("{}\n{{\"name\":{},\"bytes\":{},\"hash\":\"{}\"", i ? "," : "", json_quote(o.name), o.bytes, o.hash);
    if (o.same_as) s += fmt::format(",\"same_as\":{},\"generation\":{}", *o.same_as, o.generation);
    if (o.frames) s += fmt::format(",\"frames\":{:>16}", *o.frames);
    s += "}";
  }
  return sealed(s + "]\n");
}

Result<Manifest> parse_manifest(std::string_view text, const std::string& path) {
  const auto damaged = [&](std::string_view what) { return bad_input("reading {}: {}; the checkpoint is not whole", path, what); };
  if (text.empty()) return damaged("it is empty");
  const auto wrong = wrong_seal(text);
  if (!wrong) return damaged("it does not end as a manifest does");
  if (!wrong->empty()) return damaged(*wrong);
  INGOT_ASSIGN(const Json j, parse_strict_json(text, path));
  if (json_string(j, "ingot") != "checkpoint") return bad_input("reading {}: it is no manifest of a checkpoint (\"ingot\": \"checkpoint\")", path);
  const auto version = json_int(j, "version");
  if (!version || *version < 1) return damaged("it has no version");
  if (*version > kVersion) return usage("reading {}: it is of version {}, this ingot knows {}; a newer ingot reads it", path, *version, kVersion);
  Manifest m;
  const auto wanted = [&](const char* name, int64_t least, int64_t* into) -> Status {
    const auto n = json_int(j, name);
    if (!n || *n < least) return damaged(fmt::format("\"{}\" is {}, expected an integer of at least {}", name, json_member(j, name) ? json_brief(*json_member(j, name)) : "absent", least));
    *into = *n;
    return {};
  };
  INGOT_TRY(wanted("step", 0, &m.step));
  INGOT_TRY(wanted("epoch", 1, &m.epoch));
  if (m.epoch > kMostEpochs) return damaged(fmt::format("its epoch is {}", m.epoch));
  int64_t world = 1;
  INGOT_TRY(wanted("world", 1, &world));
  m.world = static_cast<int>(std::min<int64_t>(world, INT32_MAX));
  m.time = json_number(j, "time").value_or(0);
  m.run = json_string(j, "run").value_or("");
  m.parent = json_int(j, "parent");
  if (const Json* metrics = json_member(j, "metrics")) {
    INGOT_ASSIGN(m.metrics, metrics_of(*metrics, path));
  }
  const Json* objects = json_member(j, "objects");
  if (!objects || !objects->is_array()) return damaged("it has no objects");
  std::set<std::string> names;
  for (const Json& o : *objects) {
    const auto name = json_string(o, "name"), hash = json_string(o, "hash");
    const auto bytes = json_int(o, "bytes");
    if (!name || !is_object_name(*name) || !hash || !is_hash(*hash) || !bytes || *bytes < 0)
      return damaged(fmt::format("the object {} has no name within the directory, size and hash", json_brief(o)));
    if (!names.insert(*name).second) return damaged(fmt::format("it names '{}' twice", *name));
    const auto frames = json_int(o, "frames"), same_as = json_int(o, "same_as");
    if (json_member(o, "frames") && (!frames || *frames < 0)) return damaged(fmt::format("the frames of '{}' are {}", *name, json_brief(*json_member(o, "frames"))));
    m.objects.push_back({*name, static_cast<uint64_t>(*bytes), *hash, same_as, frames ? std::optional<uint64_t>(*frames) : std::nullopt, json_int(o, "generation").value_or(same_as ? 1 : 0)});
    if (frames && !names.insert(m.objects.back().file()).second) return damaged(fmt::format("it names '{}' twice", m.objects.back().file()));
  }
  return m;
}

}  // namespace ingot::checkpoint
