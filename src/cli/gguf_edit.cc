// ingot gguf edit: keys of the metadata set and deleted. The protocol stands in docs/formats/gguf-edit.md.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "cli/gguf.h"
#include "cli/job.h"
#include "cli/metadata.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "commit/patch.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/outputs.h"
#include "transform/gguf_check.h"

namespace ingot::cli {
namespace {

using Value = decltype(MetaValue::v);

constexpr std::pair<const char*, size_t> kTypes[] = {{"bool", 0}, {"u8", 1}, {"i8", 2}, {"u16", 3}, {"i16", 4}, {"u32", 5}, {"i32", 6}, {"u64", 7}, {"i64", 8}, {"f32", 9}, {"f64", 10}, {"str", 11}};

// One value of the variant's alternative `type`; nothing where the text is none.
std::optional<Value> scalar_of(const Json& j, size_t type) {
  const auto integer = [&]<class T>(T) -> std::optional<Value> {
    const bool above = j.is_number_unsigned() || (j.is_number_integer() && j.get<int64_t>() >= 0);
    if (above ? j.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<T>::max())
              : j.is_number_integer() && std::is_signed_v<T> && j.get<int64_t>() >= static_cast<int64_t>(std::numeric_limits<T>::min()))
      return Value(static_cast<T>(above ? j.get<uint64_t>() : static_cast<uint64_t>(j.get<int64_t>())));
    return std::nullopt;
  };
  const auto number = finite_number(j);
  if (type == 0) return j.is_boolean() ? std::optional<Value>(j.get<bool>()) : std::nullopt;
  if (type == 1) return integer(uint8_t{});
  if (type == 2) return integer(int8_t{});
  if (type == 3) return integer(uint16_t{});
  if (type == 4) return integer(int16_t{});
  if (type == 5) return integer(uint32_t{});
  if (type == 6) return integer(int32_t{});
  if (type == 7) return integer(uint64_t{});
  if (type == 8) return integer(int64_t{});
  if (type == 9) return number && std::isfinite(static_cast<float>(*number)) ? std::optional<Value>(static_cast<float>(*number)) : std::nullopt;
  if (type == 10) return number ? std::optional<Value>(*number) : std::nullopt;
  return j.is_string() ? std::optional<Value>(j.get<std::string>()) : std::nullopt;
}

// The type of the elements of a list, as scalar_of() numbers them.
size_t element_type(const Value& v) {
  if (std::holds_alternative<std::vector<std::string>>(v)) return 11;
  if (std::holds_alternative<std::vector<int32_t>>(v)) return 6;
  if (std::holds_alternative<std::vector<uint32_t>>(v)) return 5;
  if (std::holds_alternative<std::vector<float>>(v)) return 9;
  const auto* list = std::get_if<MetaArray>(&v);
  return list && !list->empty() && (*list)[0].v.index() <= 11 ? (*list)[0].v.index() : 6;
}

size_t guessed_type(const Json& j) {
  if (j.is_boolean()) return 0;
  if (j.is_number_unsigned() || (j.is_number_integer() && j.get<int64_t>() >= 0)) return j.get<uint64_t>() <= UINT32_MAX ? 5 : 7;
  if (j.is_number_integer()) return j.get<int64_t>() >= INT32_MIN ? 6 : 8;
  return j.is_number() ? 9 : 11;
}

std::optional<Value> list_of(const Json& j, size_t type) {
  MetaArray all;
  for (const Json& e : j) {
    auto v = scalar_of(e, type);
    if (!v) return std::nullopt;
    all.push_back({*std::move(v)});
  }
  const auto plain = [&]<class T>(T) {
    std::vector<T> out;
    for (MetaValue& e : all) out.push_back(std::get<T>(std::move(e.v)));
    return Value(std::move(out));
  };
  if (type == 11) return plain(std::string());
  if (type == 6) return plain(int32_t{});
  if (type == 5) return plain(uint32_t{});
  if (type == 9) return plain(float{});
  return Value(std::move(all));
}

// `text` in the type of the value that is there, or in one of its own ("u8:5"), or in the one that it looks like.
Result<MetaValue> value_of(const std::string& key, std::string text, const MetaValue* old) {
  std::optional<size_t> type;
  for (const auto& [name, index] : kTypes)
    if (text.starts_with(std::string(name) + ":")) {
      type = index, text.erase(0, std::string_view(name).size() + 1);
      break;
    }
  auto parsed = parse_json(text, "--set");
  const bool list = parsed.ok() && parsed->is_array() && (!old || old->v.index() > 11) && type != size_t{11};
  if (!type && old) type = old->v.index() <= 11 ? old->v.index() : element_type(old->v);
  const Json j = list || (parsed.ok() && type != size_t{11} && !parsed->is_structured()) ? *parsed : Json(text);
  if (!type) type = !list ? guessed_type(j) : j.empty() ? 6 : guessed_type(*std::min_element(j.begin(), j.end()));
  if (old && old->v.index() > 11 && !list) return usage("--set {}={}: the key has a list; give one, like [1, 2]", key, text);
  if (auto v = list ? list_of(j, *type) : scalar_of(j, *type)) return MetaValue{*std::move(v)};
  return usage("--set {}={}: expected {}{}{}", key, text, list ? "a list of " : "", kTypes[*type].first, old ? ", which the key is; another type is said so: --set KEY=str:TEXT" : "");
}

struct Edit {
  std::vector<std::string> set, removed;
  bool any() const { return !set.empty() || !removed.empty(); }
};

Result<Edit> edit(Artifact* a, const std::vector<std::pair<std::string, std::string>>& given) {
  Edit done;
  for (const auto& [option, value] : given) {
    const bool set = option == "--set", text = option == "--set-file";
    if (!set && !text && option != "--delete") continue;
    const size_t equals = set || text ? value.find('=') : value.size();
    if (equals == std::string::npos || equals == 0) return usage("{} takes KEY=VALUE, not '{}'", option, value);
    const std::string key = value.substr(0, equals);
    const auto it = std::find_if(a->metadata.begin(), a->metadata.end(), [&](const auto& kv) { return kv.first == key; });
    const bool there = it != a->metadata.end();
    if (option == "--delete") {
      std::vector<std::string> keys;
      for (const auto& kv : a->metadata) keys.push_back(kv.first);
      const std::string near = nearest(key, keys);
      if (!there) return Error{ErrorKind::kNotFound, fmt::format("'{}' has no key '{}'{}", a->path, key, near.empty() ? "" : fmt::format("; did you mean '{}'?", near))};
      a->metadata.erase(it), done.removed.push_back(key);
      continue;
    }
    MetaValue made;
    if (text) {
      INGOT_ASSIGN(const Located from, input_path(value.substr(equals + 1)));
      INGOT_ASSIGN(made.v, read_text(*from.store, from.path, 16u << 20));
    } else {
      INGOT_ASSIGN(made, value_of(key, value.substr(equals + 1), there ? &it->second : nullptr));
    }
    if (there) it->second = std::move(made);
    else a->metadata.emplace_back(key, std::move(made));
    done.set.push_back(key);
  }
  return done;
}

Result<std::string> header_of(const Artifact& a) {
  std::vector<NamedSpec> specs;
  for (const LazyTensor& t : a.tensors) specs.emplace_back(t.name, t.spec());
  INGOT_ASSIGN(Layout l, layout_gguf(a, specs));
  return std::move(l.files[0].extents[0].bytes);
}

// The bytes that become others, where all of them can be changed at once: the header keeps its length, and they lie within a page.
struct Patch {
  uint64_t offset = 0;
  std::string bytes;
};
Result<std::optional<Patch>> patch_of(Store& store, const std::string& path, const Artifact& before, const Artifact& after) {
  INGOT_ASSIGN(const std::string old, header_of(before));
  INGOT_ASSIGN(const std::string made, header_of(after));
  if (old.size() != made.size()) return std::optional<Patch>();
  INGOT_ASSIGN(const auto file, store.open(path));
  std::string lies(std::min<uint64_t>(old.size(), file->size()), '\0');
  INGOT_TRY(file->read(0, MutByteView(reinterpret_cast<std::byte*>(lies.data()), lies.size())));
  if (lies != old) return std::optional<Patch>();  // another version, order of bytes or padding than ours
  const auto first = static_cast<size_t>(std::mismatch(old.begin(), old.end(), made.begin()).first - old.begin());
  if (first == old.size()) return std::optional(Patch());
  size_t last = old.size() - 1;
  while (old[last] == made[last]) --last;
  Patch p{first, made.substr(first, last + 1 - first)};
  return fits_patch(p.offset, p.bytes.size()) ? std::optional(std::move(p)) : std::nullopt;
}

Status check_edit(const Artifact& before, const Artifact& after) {
  const auto was = transform::examine_gguf(before).faults, is = transform::examine_gguf(after).faults;
  for (const std::string& f : is)
    if (std::find(was.begin(), was.end(), f) == was.end())
      return bad_input("editing {}: the file would contradict itself: {}; --force writes it all the same", before.path, f);
  return {};
}

}  // namespace

Status gguf_edit_command(Context& c) {
  std::string path, out;
  std::vector<std::string> set, set_file, remove;
  c.args.summary("sets and deletes keys of a GGUF file's metadata");
  c.args.usage("gguf edit FILE --set KEY=VALUE --delete KEY [--out FILE]");
  c.args.detail("A key that is there keeps its type; one that is new has the type that the value looks like, or is given one: --set KEY=u8:5 (bool, u8, i8, u16, i16, u32, "
                "i32, u64, i64, f32, f64, str). Lists are written as in JSON: [1, 2].");
  c.args.detail("Without --out the file itself is changed: in place, where that is one write that a kill cannot cut in two; else a new file takes its place when it is whole. "
                "Of a set of splits the metadata is in the first file.");
  c.args.positional("FILE|-m,--model", &path, "a GGUF file");
  c.args.section("Options");
  c.args.list("--set", "K=V", &set, "a key's value; may be repeated");
  c.args.list("--set-file", "K=FILE", &set_file, "the text of a file, as for tokenizer.chat_template");
  c.args.list("--delete", "K", &remove, "a key to take out; may be repeated");
  c.args.text("-o,--out", "FILE", &out, "the edited copy; FILE stays as it is");
  c.args.example("ingot gguf edit model.gguf --set 'general.name=My model' --delete general.url");
  c.args.example("ingot gguf edit model.gguf --set-file tokenizer.chat_template=chat.jinja --out fixed.gguf");
  c.args.unused({"--strict", "--name", "--provenance", "--max-shard-size"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const Located at, input_path(path));
  INGOT_ASSIGN(const Artifact before, open_gguf_file(*at.store, at.path));
  Artifact after = before;
  INGOT_ASSIGN(const Edit done, edit(&after, c.args.given()));
  if (!done.any()) return usage("'ingot gguf edit' needs --set KEY=VALUE or --delete KEY");
  if (!c.args.common.force) INGOT_TRY(check_edit(before, after));
  OrderedJson j = {{"path", out.empty() ? at.path : out}, {"set", done.set}, {"deleted", done.removed}};
  if (out.empty()) {
    INGOT_ASSIGN(const auto patch, patch_of(*at.store, at.path, before, after));
    if (patch) {
      if (c.args.common.dry_run) return c.report.done({{"dry_run", true}, {"in_place", true}, {"bytes", patch->bytes.size()}}, fmt::format("would change {} bytes in place\n", patch->bytes.size()));
      if (!patch->bytes.empty()) INGOT_TRY(patch_file(*at.store, at.path, patch->offset, as_bytes(patch->bytes)));
      j["in_place"] = true;
      return c.report.done(j, patch->bytes.empty() ? "nothing to change: the file says so already\n" : fmt::format("changed {} bytes in place\n", patch->bytes.size()));
    }
    c.report.notice("the metadata cannot be changed in place; a new file takes the old one's when it is whole");
    c.args.common.force = true;
  }
  // An output is no input of its own job: the new file is one beside it first.
  Located to = at;
  if (out.empty()) to.path += ".edited";
  else {
    INGOT_ASSIGN(to, output_path(out, file_of("gguf"), {at.path}));
  }
  std::vector<Output> outputs;
  outputs.push_back(gguf_output(std::move(after), *to.store, to.path));
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, nullptr));
  if (!report) return {};
  if (out.empty()) INGOT_TRY(take_place(*at.store, to.path, at.path));
  OrderedJson all = report_json(outputs, *report);
  all.update(j);
  if (out.empty()) return c.report.done(all, "a new file has taken its place\n");
  return c.report.done(all, report_text(outputs, *report));
}

}  // namespace ingot::cli
