#include "model/architecture.h"

#include <algorithm>
#include <cctype>

#include "model/embedded.h"

namespace ingot {
namespace {

// Reads a number without needless zeros.
bool take_number(std::string_view* name, int* out) {
  size_t n = 0;
  int value = 0;
  while (n < name->size() && (*name)[n] >= '0' && (*name)[n] <= '9' && n < 7) value = value * 10 + ((*name)[n++] - '0');
  if (n == 0 || n > 6 || (n > 1 && (*name)[0] == '0')) return false;
  name->remove_prefix(n);
  *out = value;
  return true;
}

std::optional<MappedName> map_name(const Architecture& a, std::string_view name, std::vector<std::string> TensorRule::*from, std::vector<std::string> TensorRule::*to) {
  for (const auto& r : a.tensors) {
    if (r.alternative && to == &TensorRule::hf) continue;
    for (size_t part = 0; part < (r.*from).size(); ++part)
      if (const auto h = match_template((r.*from)[part], name)) return MappedName{&r, h->layer, h->expert, part, expand((r.*to)[0], h->layer, std::max(h->expert, 0))};
  }
  return std::nullopt;
}

std::vector<std::string> with_part(std::vector<std::string> shape, const TensorRule& r, size_t part) {
  if (!r.parts.empty() && static_cast<size_t>(r.axis) < shape.size()) shape[static_cast<size_t>(r.axis)] = r.parts[part];
  return shape;
}

std::vector<std::string> classes_of(const Json& config) {
  std::vector<std::string> classes;
  if (const Json* m = json_member(config, "architectures"); m && m->is_array())
    for (const auto& e : *m)
      if (const auto* s = e.get_ptr<const std::string*>()) classes.push_back(*s);
  return classes;
}

// "LlamaModel": saved from the bare model, whose head is missing or tied. GPT-2's head is called otherwise.
bool names(std::string_view known, std::string_view found) {
  if (known == found) return true;
  if (!found.ends_with("Model")) return false;
  for (const std::string_view end : {"ForCausalLM", "LMHeadModel"})
    if (known.ends_with(end) && known.substr(0, known.size() - end.size()) == found.substr(0, found.size() - 5)) return true;
  return false;
}

// "Qwen3" of Qwen3ForCausalLM.
std::string_view stem(std::string_view name) {
  for (const std::string_view end : {"LMHeadModel", "Model"})
    if (name.ends_with(end)) return name.substr(0, name.size() - end.size());
  return name.substr(0, name.find("For"));
}

// The known class that may be meant, or whose family it is of; or empty.
std::string nearest_class(const std::string& name, const std::vector<std::string>& known) {
  const auto alike = [](char x, char y) { return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y)); };
  std::string best;
  size_t most = 3;  // letters that they begin with at least, and more
  for (const std::string& k : known) {
    const std::string_view a = stem(name), b = stem(k);
    const auto n = static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end(), alike).first - a.begin());
    if (n > most) most = n, best = k;
  }
  return best;
}

// A model of several parts: its text part says what it is by its class or its type.
const Architecture* text_part(const std::vector<Architecture>& all, const Json& config, const std::vector<std::string>& classes) {
  const Json* text = json_member(config, "text_config");
  if (!text || !text->is_object()) return nullptr;
  for (const auto& a : all)
    for (const auto& w : a.wrappers)
      if (std::find(classes.begin(), classes.end(), w) != classes.end()) return &a;
  const auto inner = classes_of(*text);
  const std::string type = json_string(*text, "model_type").value_or("");
  for (const auto& a : all) {
    for (const auto& c : a.classes)
      if (std::find(inner.begin(), inner.end(), c) != inner.end()) return &a;
    if (std::find(a.model_types.begin(), a.model_types.end(), type) != a.model_types.end()) return &a;
  }
  return nullptr;
}

}  // namespace

std::vector<std::string> TensorRule::hf_shape(size_t part) const { return hf.size() > 1 ? with_part(shape, *this, part) : shape; }

std::vector<std::string> TensorRule::gguf_shape(size_t part) const {
  std::vector<std::string> s = gguf.size() > 1 ? with_part(shape, *this, part) : shape;
  if (transpose) std::swap(s[0], s[1]);
  if (per_expert()) s.insert(s.begin(), "experts");
  return s;
}

const TensorRule* Architecture::by_role(std::string_view role) const {
  for (const auto& t : tensors)
    if (t.role == role) return &t;
  return nullptr;
}

Result<const std::vector<Architecture>*> architectures() {
  static const Result<std::vector<Architecture>> all = []() -> Result<std::vector<Architecture>> {
    std::vector<Architecture> v;
    for (int i = 0; i < kArchitectureFileCount; ++i) {
      INGOT_ASSIGN(auto a, parse_architecture(kArchitectureFiles[i].text, fmt::format("data/architectures/{}.json", kArchitectureFiles[i].name)));
      v.push_back(std::move(a));
    }
    return v;
  }();
  if (!all.ok()) return all.error();
  return &all.value();
}

Result<const Architecture*> find_architecture(const Json& config, const std::string& what) {
  INGOT_ASSIGN(auto* all, architectures());
  const auto classes = classes_of(config);
  for (const auto& c : classes)
    if (const Architecture* a = architecture_of_class(c)) return a;
  if (const Architecture* a = text_part(*all, config, classes)) return a;
  if (const Architecture* a = inferred_architecture(config)) return a;
  return unknown_architecture(config, what, "");
}

Error unknown_architecture(const Json& config, const std::string& what, const std::string& tried) {
  const auto all = architectures();
  if (!all.ok()) return all.error();
  std::vector<std::string> known;
  for (const auto& a : **all) known.insert(known.end(), a.classes.begin(), a.classes.end());
  const auto classes = classes_of(config);
  if (classes.empty())
    return bad_input("{}: there is no 'architectures' with the model's class; ingot knows {}", what, fmt::join(known, ", "));
  const std::string name = classes[0].substr(0, 100), near = nearest_class(name, known);
  return bad_input("{}: the architecture {} is unknown{}{}; ingot knows {} (ingot list architectures). A new one whose "
                   "layer kinds are known is one JSON file in data/architectures/ (docs/howto/architecture.md)",
                   what, name, near.empty() ? "" : fmt::format(", the nearest that is known is {}", near), tried, fmt::join(known, ", "));
}

const Architecture* architecture_of_class(std::string_view name) {
  const auto all = architectures();
  if (!all.ok()) return nullptr;
  for (const auto& a : **all)
    for (const auto& known : a.classes)
      if (names(known, name)) return &a;
  return nullptr;
}

const Architecture* architecture_of_type(std::string_view model_type) {
  const auto all = architectures();
  if (!all.ok()) return nullptr;
  for (const auto& a : **all)
    if (std::find(a.model_types.begin(), a.model_types.end(), model_type) != a.model_types.end()) return &a;
  return nullptr;
}

const Architecture* inferred_architecture(const Json& config) {
  const auto classes = classes_of(config);
  if (const Json* given = json_member(config, "architectures"); given && !given->empty() && classes.empty()) return nullptr;  // no names: the field is wrong
  if (json_member(config, "text_config") || json_member(config, "auto_map") || !(classes.empty() || classes[0].ends_with("ForCausalLM"))) return nullptr;
  return architecture_of_type(json_string(config, "model_type").value_or(""));
}

const Architecture* find_architecture_by_name(std::string_view name, bool mixture) {
  auto all = architectures();
  const Architecture* found = nullptr;
  if (!all.ok()) return found;
  for (const auto& a : **all) {
    if (a.name != name) continue;
    if ((a.params.count("experts") > 0) == mixture) return &a;
    if (!found) found = &a;
  }
  return found;
}

std::optional<Holes> match_template(std::string_view tmpl, std::string_view name) {
  Holes h;
  for (;;) {
    const size_t hole = tmpl.find('{');
    const std::string_view text = tmpl.substr(0, hole);
    if (hole == std::string_view::npos) return text == name ? std::optional<Holes>(h) : std::nullopt;
    if (!name.starts_with(text)) return std::nullopt;
    name.remove_prefix(text.size());
    if (!take_number(&name, tmpl[hole + 1] == 'i' ? &h.layer : &h.expert)) return std::nullopt;
    tmpl.remove_prefix(hole + 3);
  }
}

std::string expand(std::string_view tmpl, int layer, int expert) {
  std::string out;
  for (;;) {
    const size_t hole = tmpl.find('{');
    out += tmpl.substr(0, hole);
    if (hole == std::string_view::npos) return out;
    out += std::to_string(tmpl[hole + 1] == 'i' ? layer : expert);
    tmpl.remove_prefix(hole + 3);
  }
}

std::optional<MappedName> map_to_gguf(const Architecture& a, std::string_view hf_name) { return map_name(a, hf_name, &TensorRule::hf, &TensorRule::gguf); }

std::optional<MappedName> map_from_gguf(const Architecture& a, std::string_view gguf_name) { return map_name(a, gguf_name, &TensorRule::gguf, &TensorRule::hf); }

bool is_dropped(const Architecture& a, std::string_view hf_name) {
  return std::any_of(a.drop.begin(), a.drop.end(), [&](std::string_view t) {
    return t.ends_with('*') ? hf_name.starts_with(t.substr(0, t.size() - 1)) : match_template(t, hf_name).has_value();
  });
}

}  // namespace ingot
