// ingot inspect: what is in a model, from its headers; one tensor's values with --tensor.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "cli/command.h"
#include "cli/findings.h"
#include "cli/job.h"
#include "cli/metadata.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "cli/tree.h"
#include "formats/formats.h"
#include "formats/gguf.h"
#include "formats/index_check.h"
#include "formats/json.h"
#include "formats/state_tree.h"
#include "formats/training_beside.h"
#include "transform/gguf_check.h"
#include "transform/measure.h"

namespace ingot::cli {

namespace {

// The files in the directory; of a distributed checkpoint those below, too. In a model's directory what lies deeper is another one, and so is what a link to a
// directory leads to. (Links to files are how the Hub's cache holds them.)
Status add_files(Store& store, const std::string& directory, int levels, std::set<std::string>* files) {
  INGOT_ASSIGN(const auto entries, store.list(directory));
  for (const Entry& e : entries) {
    const std::string path = join_path(directory, e.name);
    if (!e.directory) {
      files->insert(path);
    } else if (levels > 1) {
      INGOT_ASSIGN(const auto there, store.stat(path));
      if (there && !there->link) INGOT_TRY(add_files(store, path, levels - 1, files));
    }
  }
  return {};
}

// Of the file, or of those in the directory; of a set of splits, all that were found.
Result<uint64_t> disk_bytes(Store& store, const Artifact& a, bool directory, Faults* faults) {
  std::set<std::string> files = {a.path};
  if (directory) {
    files.clear();
    INGOT_TRY(add_files(store, a.path, a.format == "safetensors" || a.format == "torch" ? 1 : 8, &files));
  } else {
    for (const LazyTensor& t : a.tensors)
      if (Origin o = origin_of(*t.node); !o.file.empty()) files.insert(std::move(o.file));
  }
  uint64_t sum = 0;
  for (const std::string& file : files) {
    const auto there = store.stat(file);
    if (!there.ok()) faults->push_back("what it takes on disk is not all counted: " + there.error().message);
    else if (*there) sum += (*there)->size;
  }
  return sum;
}

// What contradicts itself in the file; of a Hugging Face model what ship would tell of it, too.
std::vector<std::string> oddities(const Artifact& a, const Diagnosis& d, Faults faults) {
  const std::string* type = meta_string(a, "general.type");
  if (a.naming == "gguf" && (!type || *type == "model")) {
    const transform::GgufReport r = transform::examine_gguf(a);
    for (const auto* list : {&r.faults, &r.token_faults, &r.warnings}) faults.insert(faults.end(), list->begin(), list->end());
  }
  for (const auto& s : d.odd) faults.push_back(s.message);
  if (!d.verdict.ok()) faults.push_back("'ingot ship' would refuse it: " + d.verdict.error().message);
  return faults;
}

std::string dump_safe(const OrderedJson& j) {
  return j.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

struct TypeTotals {
  uint64_t tensors = 0, elements = 0, bytes = 0;
};
std::vector<std::pair<std::string, TypeTotals>> by_type(const Artifact& a) {
  std::map<std::string, TypeTotals> m;
  for (const LazyTensor& t : a.tensors) {
    const TensorSpec s = t.spec();
    TypeTotals& x = m[std::string(info(s.type).name)];
    ++x.tensors;
    x.elements += static_cast<uint64_t>(s.shape.elements());
    x.bytes += bytes_of(s);
  }
  std::vector<std::pair<std::string, TypeTotals>> v(m.begin(), m.end());
  std::sort(v.begin(), v.end(), [](const auto& x, const auto& y) {
    return x.second.bytes != y.second.bytes ? x.second.bytes > y.second.bytes : x.first < y.first;
  });
  return v;
}

constexpr size_t kFirst = 8;

// A line of blocks, the greatest count the whole height.
std::string bars(const std::vector<uint64_t>& counts) {
  static constexpr const char* kBars[] = {" ", "\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588"};
  const uint64_t most = *std::max_element(counts.begin(), counts.end());
  std::string out;
  for (const uint64_t n : counts) out += kBars[n == 0 ? 0 : 1 + 7 * n / std::max<uint64_t>(most, 1)];
  return out;
}

Status inspect_tensor(Context& c, const Artifact& a, const std::string& name) {
  const LazyTensor* t = a.find(name);
  if (!t) {
    std::vector<std::string> names;
    for (const LazyTensor& x : a.tensors) names.push_back(x.name);
    const std::string near = nearest(name, names);
    return bad_input("'{}' has no tensor '{}'; {}", a.path, name,
                     near.empty() ? "'ingot inspect' without --tensor lists them"
                                  : fmt::format("did you mean '{}'?", near));
  }
  const TensorSpec spec = t->spec();
  ExecOptions options = exec_options(c);
  options.on_progress = nullptr;
  INGOT_ASSIGN(const auto measured, transform::measure({*t}, options));
  const transform::TensorMeasure& s = measured[0];
  INGOT_ASSIGN(const std::vector<double> some, transform::first_values(*t, kFirst));
  const auto n = static_cast<double>(s.finite());
  OrderedJson first = OrderedJson::array();
  std::string first_text;
  for (const double v : some) {
    first.push_back(std::isfinite(v) ? OrderedJson(v) : OrderedJson(fmt::format("{}", v)));
    first_text += fmt::format("{}{:.6g}", first_text.empty() ? "" : " ", v);
  }
  OrderedJson j = {{"path", a.path},
                   {"tensor", t->name},
                   {"type", info(spec.type).name},
                   {"shape", shape_json(spec.shape)},
                   {"bytes", bytes_of(spec)},
                   {"values", s.count},
                   {"nan", s.nan},
                   {"infinite", s.infinite},
                   {"zero", s.zero}};
  Table table({"", "="});
  table.row({"tensor", printable(t->name)});
  table.row({"type", std::string(info(spec.type).name)});
  table.row({"shape", to_string(spec.shape)});
  table.row({"size", fmt::format("{} ({} values)", format_bytes(bytes_of(spec)), format_count(s.count))});
  if (n > 0) {
    const double mean = s.sum / n, rms = std::sqrt(s.squares / n);
    const double deviation = std::sqrt(std::max(0.0, s.squares / n - mean * mean));
    j["min"] = s.min, j["max"] = s.max, j["mean"] = mean, j["deviation"] = deviation, j["rms"] = rms;
    table.row({"range", fmt::format("{:.6g} to {:.6g}", s.min, s.max)});
    table.row({"mean", fmt::format("{:.6g}, standard deviation {:.6g}, rms {:.6g}", mean, deviation, rms)});
  }
  if (n > 0 && s.max > s.min) {
    constexpr int kBins = 40;
    INGOT_ASSIGN(const auto counts, transform::histogram(*t, s.min, s.max, kBins, options));
    j["histogram"] = counts;
    table.row({"histogram", fmt::format("|{}|", bars(counts))});
  }
  table.row({"zeros", format_count(s.zero)});
  std::string where;
  if (s.first_nonfinite >= 0) {
    where = to_string(index_in(Region::all(spec.shape), s.first_nonfinite));
    j["first_nonfinite"] = shape_json(index_in(Region::all(spec.shape), s.first_nonfinite));
  }
  if (!where.empty()) where = "; the first at " + where;
  table.row({"NaN, infinite", fmt::format("{}, {}{}", format_count(s.nan), format_count(s.infinite), where)});
  if (!first_text.empty()) table.row({"first values", first_text});
  j["first"] = first;
  return c.report.result(j, table.str(0, stdout_width()));
}

OrderedJson values_json(const std::map<std::string, std::string>& all) {
  OrderedJson values = OrderedJson::object();
  for (const auto& [name, text] : all) {
    auto value = parse_json_ordered(text, name);
    values[name] = value.ok() ? json_shown(*std::move(value)) : OrderedJson(text);
  }
  return values;
}

constexpr size_t kMostKey = 60, kMostName = 200;

std::string text_of(const Artifact& a, const std::vector<std::pair<std::string, OrderedJson>>& config, uint64_t on_disk,
                    const TrainingBeside& training, const std::vector<std::string>& odd, const OrderedJson& tokenizer, bool list) {
  const Totals totals = totals_of(a);
  const std::string kind = beside_a_model(a);
  std::string out = fmt::format("{}: {}{}, {} on disk\n{}, {}, {:.2f} bits each\n\n", printable(a.path),
                                a.format, kind.empty() || kind == a.format ? "" : fmt::format(" ({})", kind), format_bytes(on_disk), count_of(totals.tensors, "tensor"),
                                count_of(totals.elements, "value"), totals.bits_per_weight());
  const int width = stdout_is_terminal() ? stderr_width() : 100;
  const auto wrapped = [&](const std::string& text, int indent) { return stdout_is_terminal() ? wrap(text, width - 1, indent) : text; };
  for (const std::string& text : odd) out += fmt::format("{}\n", wrapped(fmt::format("odd: {}", printable(text)), 5));
  if (!odd.empty()) out += "\n";
  Table types({"type", ">tensors", ">values", ">size"});
  for (const auto& [name, t] : by_type(a))
    types.row({name, format_count(t.tensors), format_count(t.elements), format_bytes(t.bytes)});
  out += types.str();
  if (!a.metadata.empty()) {
    Table t({"metadata", ""});
    size_t longest = 0;
    for (const auto& [k, v] : a.metadata) longest = std::max(longest, std::min(k.size(), kMostKey));
    for (const auto& [k, v] : a.metadata)
      t.row({shown(k, kMostKey), meta_text(v, std::max(20, width - static_cast<int>(longest) - 5))});
    out += "\n";
    out += t.str(2);
  }
  for (const auto& [name, values] : config) {
    Table t({name, ""});
    size_t longest = name.size();
    for (const auto& [k, v] : values.items()) longest = std::max(longest, std::min(k.size(), kMostKey));
    const int room = std::clamp(width - static_cast<int>(longest) - 5, 20, 70);
    for (const auto& [k, v] : values.items())
      if (!v.is_null()) t.row({shown(k, kMostKey), v.is_string() ? shown(v.get_ref<const std::string&>(), room) : shown(dump_safe(v), room)});
    out += "\n";
    out += t.str(2);
  }
  if (!a.files.empty()) {
    Table t({"file", ">size"});
    for (const auto& [name, bytes] : a.files) t.row({printable(name), format_bytes(bytes.size())});
    out += "\n";
    out += t.str(2);
  }
  if (!training.files.empty()) {
    Table t({"beside, of its training", ""});
    for (const auto& [kind, names] : training.files) t.row({kind, shown(join(names, ", "), 70)});
    for (const auto& [name, value] : training.values) t.row({shown(name, kMostKey), shown(value, 70)});
    out += "\n";
    out += t.str(2);
  }
  if (!tokenizer.is_null()) out += fmt::format("\n{}\n", wrapped("tokenizer: " + tokenizer_text(tokenizer), 11));
  if (const std::string end = end_text(tokenizer); !end.empty()) out += fmt::format("{}\n", wrapped("ends a text: " + end, 13));
  if (!a.values.empty()) {
    Table t({"value", ""});
    constexpr size_t kMostValues = 24;
    size_t rows = 0;
    for (const auto& [name, text] : a.values)
      if (list || rows++ < kMostValues) t.row({shown(name, kMostKey), shown(text, 70)});
    out += fmt::format("\n{}", t.str(2));
    if (!list && a.values.size() > kMostValues) out += fmt::format("  and {} more (--list)\n", format_count(a.values.size() - kMostValues));
  }
  if (!list) return fmt::format("{}\n{}", out, tensor_tree(a));
  Table t({"tensor", "type", "shape", ">size"});
  for (const LazyTensor& x : a.tensors) {
    const TensorSpec s = x.spec();
    t.row({shown(x.name, kMostName), std::string(info(s.type).name), to_string(s.shape), format_bytes(bytes_of(s))});
  }
  return fmt::format("{}\n{}", out, t.str());
}

}  // namespace

Status command_inspect(Context& c) {
  std::string path, tensor;
  bool list = false;
  c.args.usage("inspect PATH [--list | --tensor NAME] [--json]");
  c.args.detail("The tensors are shown by module, alike ones together; --list has a line for each. Reads headers only, whatever the model's size; --tensor reads that tensor.");
  c.args.positional("PATH|-m,--model", &path, "a model file or directory, an adapter, or a name like org/model");
  c.args.section("Options");
  c.args.flag("--list", &list, "a line for each tensor, with its whole name");
  c.args.text("--tensor", "NAME", &tensor, "one tensor: range, mean, histogram, NaN and infinity counts, first values");
  c.args.example("ingot inspect model.gguf");
  c.args.example("ingot inspect base/ --tensor model.norm.weight");
  c.args.example("ingot inspect model.gguf --json | jq .types");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};

  INGOT_ASSIGN(const Located at, input_path(path));
  path = at.path;
  Faults faults;
  INGOT_ASSIGN(Artifact a, open_model(*at.store, path, &faults));
  set_kinds({}, &a);  // what names show already
  if (c.args.has("--tensor")) return inspect_tensor(c, a, tensor);

  std::vector<std::pair<std::string, OrderedJson>> config;
  for (const char* name : {"config.json", "adapter_config.json"}) {
    if (auto it = a.files.find(name); it != a.files.end()) {
      auto parsed = parse_json_ordered(it->second, join_path(path, name));
      if (parsed.ok() && parsed->is_object())
        config.emplace_back(name, json_shown(std::move(*parsed)));
      else
        c.report.warning(parsed.ok() ? fmt::format("{} is no JSON object", join_path(path, name))
                                     : parsed.error().message);
    }
  }
  INGOT_ASSIGN(const auto there, at.store->stat(path));
  const bool directory = there && there->directory();
  INGOT_ASSIGN(const uint64_t on_disk, disk_bytes(*at.store, a, directory, &faults));
  if (directory) {
    INGOT_ASSIGN(const IndexCheck index, check_indexes(*at.store, path));
    faults.insert(faults.end(), index.warnings.begin(), index.warnings.end());
  }
  TrainingBeside training;
  if (directory && (a.naming == "hf" || a.naming == "peft")) {
    INGOT_ASSIGN(const Probe beside, look_at(*at.store, a.path));
    if (beside.directory) training = training_beside(*at.store, beside);
    faults.insert(faults.end(), training.notices.begin(), training.notices.end());
  }
  Diagnosis d;
  if (a.naming == "hf" && directory) {
    INGOT_ASSIGN(d, diagnose(c, a));
  } else {
    faults.insert(faults.end(), a.notices.begin(), a.notices.end());
  }
  const std::vector<std::string> odd = oddities(a, d, std::move(faults));
  const OrderedJson tokenizer = tokenizer_json(a, d.gguf ? &*d.gguf : nullptr);
  if (!c.report.json()) return c.report.result({}, text_of(a, config, on_disk, training, odd, tokenizer, list));

  const Totals totals = totals_of(a);
  OrderedJson j = {{"path", path},
                   {"format", a.format},
                   {"bytes", on_disk},
                   {"totals",
                    {{"tensors", totals.tensors},
                     {"values", totals.elements},
                     {"bytes", totals.bytes},
                     {"bits_per_weight", totals.bits_per_weight()}}}};
  if (const std::string kind = beside_a_model(a); !kind.empty()) j["kind"] = kind;
  if (!odd.empty()) j["odd"] = odd;
  OrderedJson types = OrderedJson::object();
  for (const auto& [name, t] : by_type(a))
    types[name] = {{"tensors", t.tensors}, {"values", t.elements}, {"bytes", t.bytes}};
  j["types"] = types;
  OrderedJson metadata = OrderedJson::object();
  for (const auto& [k, v] : a.metadata) metadata[k] = meta_json(v, c.report.verbose() ? SIZE_MAX : 16);
  j["metadata"] = metadata;
  for (const auto& [name, values] : config) j[name == "config.json" ? "config" : "adapter_config"] = values;
  if (!a.files.empty()) {
    OrderedJson files = OrderedJson::object();
    for (const auto& [name, bytes] : a.files) files[name] = bytes.size();
    j["files"] = files;
  }
  if (!tokenizer.is_null()) j["tokenizer"] = tokenizer;
  if (!training.files.empty()) j["training"] = {{"files", training.files}, {"values", values_json(training.values)}};
  if (!a.values.empty()) j["values"] = values_json(a.values);
  OrderedJson tensors = OrderedJson::array();
  for (const LazyTensor& x : a.tensors) {
    const TensorSpec s = x.spec();
    tensors.push_back({{"name", x.name},
                       {"type", info(s.type).name},
                       {"shape", shape_json(s.shape)},
                       {"bytes", bytes_of(s)}});
  }
  j["tensors"] = tensors;
  return c.report.result(j, "");
}

}  // namespace ingot::cli
