#include "cli/comparison.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "cli/job.h"
#include "cli/metadata.h"
#include "cli/output.h"
#include "cli/text.h"
#include "formats/state_tree.h"
#include "transform/imatrix_entries.h"
#include "transform/source_form.h"

namespace ingot::cli {

OrderedJson number_json(double v) { return std::isfinite(v) ? OrderedJson(v) : OrderedJson(fmt::format("{}", v)); }

namespace {

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

OrderedJson tensor_json(const Compared& p, Verdict v) {
  static constexpr const char* kNames[] = {"same bytes", "same values", "different"};
  return {{"name", p.name}, {"is", kNames[static_cast<int>(v)]}, {"type_a", info(p.type_a).name}, {"type_b", info(p.type_b).name}, {"shape", shape_json(p.a->spec().shape)},
          {"values", p.d.count}, {"different", p.d.different}, {"nonfinite", p.d.nonfinite}, {"max_error", number_json(p.d.max_error)}, {"mean_error", number_json(p.d.mean_error())},
          {"relative", number_json(p.d.relative())}, {"cosine", number_json(p.d.cosine())}};
}

}  // namespace

Verdict verdict(const Compared& p) {
  if (p.d.same_bytes && p.type_a == p.type_b) return Verdict::kBytes;
  const bool read = transform::has_values(p.a->spec().type) && transform::has_values(p.b->spec().type);
  return read && p.d.different == 0 ? Verdict::kValues : Verdict::kDifferent;
}

std::array<uint64_t, 3> Comparison::counts() const {
  std::array<uint64_t, 3> n{};
  for (const auto& p : pairs) ++n[static_cast<size_t>(verdict(p))];
  return n;
}

bool Comparison::same_tensors() const { return counts()[2] == 0 && only_a.empty() && only_b.empty() && shapes.empty(); }

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
  std::stable_sort(out.pairs.begin(), out.pairs.end(), [](const Compared& x, const Compared& y) {
    const auto worse = [](const Compared& p) { return verdict(p) != Verdict::kDifferent ? -1.0 : p.d.nonfinite ? INFINITY : p.d.relative(); };
    return worse(x) > worse(y);
  });
  return out;
}

std::string list_text(const char* what, const std::vector<std::string>& names, size_t most) {
  if (names.empty()) return "";
  const int width = stdout_width();
  std::string text = fmt::format("\n{} ({}):\n", what, format_count(names.size()));
  for (size_t i = 0; i < std::min(names.size(), most); ++i) {
    const std::string line = fmt::format("  {}", printable(names[i]));
    text += (width ? shorten_middle(line, width) : line) + "\n";
  }
  if (names.size() > most) text += fmt::format("  and {} more (--all)\n", format_count(names.size() - most));
  return text;
}

std::string differences_text(const Comparison& found, size_t most) {
  std::string text;
  const uint64_t different = found.counts()[2];
  if (different) {
    Table t({"~tensor", "type", "?shape", ">differ", ">max |A-B|", "?>mean |A-B|", ">|A-B|/|B|", ">cosine"});
    for (size_t i = 0; i < std::min<size_t>(different, most); ++i) {
      const Compared& p = found.pairs[i];
      const double share = p.d.count ? 100.0 * static_cast<double>(p.d.different) / static_cast<double>(p.d.count) : 0;
      const bool read = transform::has_values(p.a->spec().type);
      if (!read) t.row({shown(p.name, 60), type_text(p.type_a, p.type_b), to_string(p.a->spec().shape), "bytes", "", "", "", ""});
      else t.row({shown(p.name, 60), type_text(p.type_a, p.type_b), to_string(p.a->spec().shape),
                  p.d.nonfinite ? fmt::format("{} NaN or inf", format_count(p.d.nonfinite)) : fmt::format("{:.3g} %", share), fmt::format("{:.3g}", p.d.max_error),
                  fmt::format("{:.3g}", p.d.mean_error()), fmt::format("{:.3g}", p.d.relative()), fmt::format("{:.6f}", p.d.cosine())});
    }
    text += "\n" + t.str(0, stdout_width());
    if (different > most) text += fmt::format("and {} more, of smaller errors (--all)\n", format_count(different - most));
  }
  text += list_text("only in A", found.only_a, most) + list_text("only in B", found.only_b, most);
  std::vector<std::string> other;
  for (const auto& [name, shape] : found.shapes) other.push_back(fmt::format("{}: {}", name, shape));
  return text + list_text("of another shape", other, most);
}

void add_comparison(const Comparison& found, OrderedJson* j) {
  const auto counts = found.counts();
  (*j)["same_tensors"] = found.same_tensors(), (*j)["same_bytes"] = counts[0], (*j)["same_values"] = counts[1], (*j)["different"] = counts[2];
  (*j)["only_a"] = found.only_a, (*j)["only_b"] = found.only_b, (*j)["beside"] = found.beside;
  if (!found.under.empty()) (*j)["note"] = found.under;
  OrderedJson shapes = OrderedJson::object(), tensors = OrderedJson::array();
  for (const auto& [name, text] : found.shapes) shapes[name] = text;
  (*j)["shapes"] = shapes;
  for (const auto& p : found.pairs) tensors.push_back(tensor_json(p, verdict(p)));
  (*j)["tensors"] = tensors;
}

}  // namespace ingot::cli
