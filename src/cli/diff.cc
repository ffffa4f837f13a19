// ingot diff: what differs between two models, whatever format each is in: tensors, shapes, types, values, metadata, configuration.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "cli/command.h"
#include "cli/job.h"
#include "cli/metadata.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "exec/load.h"
#include "formats/state_tree.h"
#include "transform/imatrix_entries.h"
#include "transform/measure.h"
#include "transform/source_form.h"

namespace ingot::cli {

namespace {

using transform::TensorDifference;

// A tensor of both sides, of one shape.
struct Compared {
  std::string name;
  NodePtr a, b;
  DType type_a, type_b;  // as they lie in the files
  TensorDifference d;
};

struct Comparison {
  std::string under;  // why other names than those of the files, if so
  std::vector<Compared> pairs;
  std::vector<std::pair<std::string, std::string>> shapes;  // name; "[3, 4] and [4, 3]"
  std::vector<std::string> only_a, only_b;
  std::vector<std::string> beside;  // metadata and files that differ
};

// The types that tensors have as a side was opened, beneath what brings it into another form.
class TypesOf {
 public:
  explicit TypesOf(const Artifact& opened) {
    for (const LazyTensor& t : opened.tensors) nodes_.insert(t.node.get());
  }
  DType operator()(const Node& node) const {
    const Node* n = &node;
    for (auto in = n->inputs(); !in.empty() && !nodes_.contains(n); in = n->inputs()) n = in[0].get();
    return n->spec().type;
  }

 private:
  std::set<const Node*> nodes_;
};

std::string type_text(DType a, DType b) {
  return a == b ? std::string(info(a).name) : fmt::format("{}, {}", info(a).name, info(b).name);
}

void match(const Artifact& a, const Artifact& b, const TypesOf& type_a, const TypesOf& type_b, Comparison* c) {
  for (const auto& t : a.tensors) {
    const LazyTensor* other = b.find(t.name);
    if (!other) {
      c->only_a.push_back(t.name);
      continue;
    }
    // GGUF has no tensors without a dimension.
    const Shape one = t.spec().shape, two = other->spec().shape;
    if (one == two) c->pairs.push_back({t.name, t.node, other->node, type_a(*t.node), type_b(*other->node), {}});
    else c->shapes.emplace_back(t.name, fmt::format("{} and {}", to_string(one), to_string(two)));
  }
  for (const auto& t : b.tensors)
    if (!a.find(t.name)) c->only_b.push_back(t.name);
}

// What stands beside the tensors in both: keys of one format's metadata, members of JSON files, plain values.
void compare_texts(const std::string& what, const std::map<std::string, std::string>& a, const std::map<std::string, std::string>& b, std::vector<std::string>* out) {
  std::set<std::string> names;
  for (const auto* side : {&a, &b})
    for (const auto& [k, v] : *side) names.insert(k);
  for (const auto& k : names) {
    const auto x = a.find(k), y = b.find(k);
    if (x != a.end() && y != b.end() && x->second == y->second) continue;
    const auto text = [](const auto& it, const auto& end) { return it == end ? std::string("nothing") : shown(it->second, 40); };
    out->push_back(fmt::format("{} {}: {}, {}", what, shown(k, 60), text(x, a.end()), text(y, b.end())));
  }
}

void add_members(const std::string& prefix, const OrderedJson& j, std::map<std::string, std::string>* all) {
  for (const auto& [k, v] : j.items()) {
    if (v.is_object() && !v.empty()) add_members(prefix + k + ".", v, all);
    else (*all)[prefix + k] = v.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  }
}

std::map<std::string, std::string> members(const Artifact& a, const std::string& file) {
  std::map<std::string, std::string> all;
  const auto it = a.files.find(file);
  if (it == a.files.end()) return all;
  const auto j = parse_json_ordered(it->second, file);
  if (!j.ok() || !j->is_object()) return {{file, it->second}};
  add_members("", *j, &all);
  return all;
}

void compare_beside(const Artifact& a, const Artifact& b, std::vector<std::string>* out) {
  if (a.naming == b.naming) {
    std::map<std::string, std::string> x, y;
    // {"format": "pt"} is the mark of whoever wrote a safetensors file; of the kinds formats tell more or less.
    for (const auto& [from, to] : {std::pair{&a, &x}, {&b, &y}})
      for (const auto& [k, v] : from->metadata)
        if (k != kKindsKey && (from->format != "safetensors" || k != "format")) (*to)[k] = meta_text(v, 200);
    compare_texts("metadata", x, y, out);
  }
  compare_texts("value", a.values, b.values, out);
  if (a.files.empty() || b.files.empty()) return;
  for (const char* json : {"config.json", "adapter_config.json", "generation_config.json", "tokenizer_config.json"})
    if (a.files.contains(json) && b.files.contains(json)) compare_texts(json, members(a, json), members(b, json), out);
  std::set<std::string> names;
  for (const auto* side : {&a, &b})
    for (const auto& [k, v] : side->files) names.insert(k);
  for (const auto& k : names) {
    const auto x = a.files.find(k), y = b.files.find(k);
    if (x == a.files.end() || y == b.files.end()) out->push_back(fmt::format("{}: only in {}", printable(k), x == a.files.end() ? "B" : "A"));
    else if (x->second != y->second && !k.ends_with("config.json")) out->push_back(fmt::format("{}: {} and {}, of other content", printable(k), format_bytes(x->second.size()), format_bytes(y->second.size())));
  }
}

Result<Comparison> compare(Context& c, Artifact a, Artifact b) {
  Comparison out;
  if (a.naming == "imatrix" && b.naming == "imatrix" && a.format != b.format) {
    INGOT_ASSIGN(a, transform::imatrix_entries(a));
    INGOT_ASSIGN(b, transform::imatrix_entries(b));
    out.under = "compared as llama-imatrix's older files have them: the mean of each column's squares, times the chunks";
  }
  compare_beside(a, b, &out.beside);
  const TypesOf type_a(a), type_b(b);
  match(a, b, type_a, type_b, &out);
  // Both of one naming, but with names that the other has not: it may spell them otherwise.
  const auto alone = [](const Comparison& x) { return x.only_a.size() + x.only_b.size(); };
  const bool spelled = a.naming == b.naming && !out.only_a.empty() && !out.only_b.empty() && !(out.pairs.empty() && out.shapes.empty());
  if (a.naming != b.naming || (out.pairs.empty() && out.shapes.empty()) || spelled) {
    std::string why_a, why_b;
    INGOT_ASSIGN(const Artifact x, transform::source_form(a, &why_a));
    INGOT_ASSIGN(const Artifact y, transform::source_form(b, &why_b));
    if (why_a.empty() && why_b.empty()) {
      Comparison form;
      match(x, y, type_a, type_b, &form);
      if ((!form.pairs.empty() || !form.shapes.empty()) && (!spelled || alone(form) < alone(out))) {
        form.beside = std::move(out.beside);
        out = std::move(form);
        out.under = "compared under the names and in the row order of the Hugging Face model";
      }
    } else if (!spelled) {
      out.under = fmt::format("names are compared as they are: {}", why_a.empty() ? why_b : why_a);
    }
  }
  // What neither side can be read as values of is compared by bytes, if it is of one type.
  std::vector<transform::TensorPair> pairs;
  for (const auto& p : out.pairs) {
    for (const NodePtr& n : {p.a, p.b})
      if (!transform::has_values(n->spec().type) && p.a->spec().type != p.b->spec().type)
        return bad_input("tensor {}: values of type {} cannot be read yet, and the other is {}", tensor_text(*n, p.name), info(n->spec().type).name,
                         info((n == p.a ? p.b : p.a)->spec().type).name);
    pairs.push_back({p.a, p.b});
  }
  ExecOptions options = exec_options(c);
  c.report.begin_progress("comparing");
  auto measured = transform::differences(pairs, options);
  c.report.end_progress();
  if (!measured.ok()) return measured.take_error();
  for (size_t i = 0; i < out.pairs.size(); ++i) out.pairs[i].d = (*measured)[i];
  return out;
}

enum class Verdict { kBytes, kValues, kDifferent };
Verdict verdict(const Compared& p) {
  if (p.d.same_bytes && p.type_a == p.type_b) return Verdict::kBytes;
  const bool read = transform::has_values(p.a->spec().type) && transform::has_values(p.b->spec().type);
  return read && p.d.different == 0 ? Verdict::kValues : Verdict::kDifferent;
}

OrderedJson number(double v) { return std::isfinite(v) ? OrderedJson(v) : OrderedJson(fmt::format("{}", v)); }

OrderedJson tensor_json(const Compared& p, Verdict v) {
  static constexpr const char* kNames[] = {"same bytes", "same values", "different"};
  return {{"name", p.name}, {"is", kNames[static_cast<int>(v)]}, {"type_a", info(p.type_a).name}, {"type_b", info(p.type_b).name}, {"shape", shape_json(p.a->spec().shape)},
          {"values", p.d.count}, {"different", p.d.different}, {"nonfinite", p.d.nonfinite}, {"max_error", number(p.d.max_error)}, {"mean_error", number(p.d.mean_error())},
          {"relative", number(p.d.relative())}, {"cosine", number(p.d.cosine())}};
}

}  // namespace

Status command_diff(Context& c) {
  std::string given_a, given_b;
  bool all = false, exit_code = false;
  c.args.usage("diff A B [--all] [--exit-code]");
  c.args.detail(
      "Tensors that only one has, of other shapes, types or values; of values the greatest and the mean error, the error relative to B (|A-B| / |B|) and the "
      "cosine. Of a Hugging Face model and a GGUF file the names and rows are brought into one form first. Configuration, metadata and small files are compared "
      "too. Both are read once, within --memory.");
  c.args.positional("A", &given_a, "a model file or directory, an adapter, a checkpoint, or a name like org/model");
  c.args.positional("B", &given_b, "the other one, which A is measured by");
  c.args.section("Options");
  c.args.flag("--all", &all, "a line for each tensor that differs, not only for those of the greatest error");
  c.args.flag("--exit-code", &exit_code, "exit code 1 where anything differs, as diff and git have it");
  c.args.example("ingot diff base/ merged/");
  c.args.example("ingot diff model-Q4_K_M.gguf base/ --all");
  c.args.example("ingot diff a.pt b.safetensors --json | jq .tensors[0]");
  c.args.unused({"--dry-run", "--force", "--no-resume", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const Located at_a, input_path(given_a));
  INGOT_ASSIGN(const Located at_b, input_path(given_b));
  INGOT_ASSIGN(const Artifact a, open_told(c, at_a));
  INGOT_ASSIGN(const Artifact b, open_told(c, at_b));
  INGOT_ASSIGN(Comparison found, compare(c, a, b));

  std::stable_sort(found.pairs.begin(), found.pairs.end(), [](const Compared& x, const Compared& y) {
    const auto worse = [](const Compared& p) { return verdict(p) != Verdict::kDifferent ? -1.0 : p.d.nonfinite ? INFINITY : p.d.relative(); };
    return worse(x) > worse(y);
  });
  uint64_t counts[3] = {};
  for (const auto& p : found.pairs) ++counts[static_cast<int>(verdict(p))];
  const bool same = counts[2] == 0 && found.only_a.empty() && found.only_b.empty() && found.shapes.empty();

  OrderedJson j = {{"a", {{"path", a.path}, {"format", a.format}, {"tensors", a.tensors.size()}}},
                   {"b", {{"path", b.path}, {"format", b.format}, {"tensors", b.tensors.size()}}},
                   {"same_tensors", same}, {"same_bytes", counts[0]}, {"same_values", counts[1]}, {"different", counts[2]},
                   {"only_a", found.only_a}, {"only_b", found.only_b}, {"beside", found.beside}};
  if (!found.under.empty()) j["note"] = found.under;
  OrderedJson shapes = OrderedJson::object();
  for (const auto& [name, text] : found.shapes) shapes[name] = text;
  j["shapes"] = shapes;
  OrderedJson tensors = OrderedJson::array();
  for (const auto& p : found.pairs) tensors.push_back(tensor_json(p, verdict(p)));
  j["tensors"] = tensors;

  std::string text;
  const int width = stdout_width();
  const auto fit = [&](std::string line) { return width ? shorten_middle(line, width) : line; };
  Table sides({"", "~", ""});
  for (const auto& [side, x] : {std::pair{"A", &a}, {"B", &b}}) sides.row({side, printable(x->path), fmt::format("{}, {}", x->format, count_of(x->tensors.size(), "tensor"))});
  text += sides.str(0, width);
  if (!found.under.empty()) text += fmt::format("{}\n", width ? wrap(printable(found.under), width, 0) : printable(found.under));
  text += fmt::format("\nsame bytes   {}\nsame values  {}\ndifferent    {}\n", format_count(counts[0]), format_count(counts[1]), format_count(counts[2]));
  constexpr size_t kShown = 20;
  const size_t most = all ? found.pairs.size() : kShown;
  if (counts[2]) {
    Table t({"~tensor", "type", "?shape", ">differ", ">max |A-B|", "?>mean |A-B|", ">|A-B|/|B|", ">cosine"});
    for (size_t i = 0; i < std::min<size_t>(counts[2], most); ++i) {
      const Compared& p = found.pairs[i];
      const double share = p.d.count ? 100.0 * static_cast<double>(p.d.different) / static_cast<double>(p.d.count) : 0;
      const bool read = transform::has_values(p.a->spec().type);
      if (!read) t.row({shown(p.name, 60), type_text(p.type_a, p.type_b), to_string(p.a->spec().shape), "bytes", "", "", "", ""});
      else t.row({shown(p.name, 60), type_text(p.type_a, p.type_b), to_string(p.a->spec().shape),
                  p.d.nonfinite ? fmt::format("{} NaN or inf", format_count(p.d.nonfinite)) : fmt::format("{:.3g} %", share), fmt::format("{:.3g}", p.d.max_error),
                  fmt::format("{:.3g}", p.d.mean_error()), fmt::format("{:.3g}", p.d.relative()), fmt::format("{:.6f}", p.d.cosine())});
    }
    text += "\n" + t.str(0, width);
    if (counts[2] > most) text += fmt::format("and {} more, of smaller errors (--all)\n", format_count(counts[2] - most));
  }
  const auto list = [&](const char* what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    text += fmt::format("\n{} ({}):\n", what, format_count(names.size()));
    for (size_t i = 0; i < std::min(names.size(), most); ++i) text += fit(fmt::format("  {}", printable(names[i]))) + "\n";
    if (names.size() > most) text += fmt::format("  and {} more (--all)\n", format_count(names.size() - most));
  };
  list("only in A", found.only_a);
  list("only in B", found.only_b);
  std::vector<std::string> other;
  for (const auto& [name, shape] : found.shapes) other.push_back(fmt::format("{}: {}", name, shape));
  list("of another shape", other);
  list("beside the tensors", found.beside);
  INGOT_TRY(c.report.result(j, text));
  if (exit_code && (!same || !found.beside.empty())) return failed("the two differ (--exit-code)");
  return {};
}

}  // namespace ingot::cli
