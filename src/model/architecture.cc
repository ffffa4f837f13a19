#include "model/architecture.h"

#include <cmath>

#include "model/embedded.h"

namespace ingot {
namespace {

constexpr int64_t kMaxParam = int64_t{1} << 31;  // of a dimension or a count; keeps products within int64

Result<std::vector<std::string>> string_list(const Json& j, const std::string& what) {
  std::vector<std::string> v;
  if (!j.is_array()) return bad_input("{}: expected a list of texts, found {}", what, json_brief(j));
  for (const auto& e : j) {
    const auto* s = e.get_ptr<const std::string*>();
    if (!s) return bad_input("{}: expected a text, found {}", what, json_brief(e));
    v.push_back(*s);
  }
  return v;
}

// Every key of an object must be one of these: a misspelt key in our data must not pass silently.
Status known_keys(const Json& j, std::initializer_list<std::string_view> keys, const std::string& what) {
  if (!j.is_object()) return bad_input("{}: expected an object, found {}", what, json_brief(j));
  for (auto it = j.begin(); it != j.end(); ++it) {
    bool known = false;
    for (auto k : keys) known = known || k == it.key();
    if (!known) return bad_input("{}: unknown key '{}'", what, it.key());
  }
  return {};
}

Result<TensorRule> tensor_rule(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"hf", "gguf", "shape", "permute", "role", "optional", "announced"}, what));
  TensorRule r;
  r.hf = json_string(j, "hf").value_or("");
  r.gguf = json_string(j, "gguf").value_or("");
  r.permute = json_string(j, "permute").value_or("");
  r.role = json_string(j, "role").value_or("");
  r.announced = json_string(j, "announced").value_or("");
  r.optional = json_bool(j, "optional").value_or(false) || !r.announced.empty();
  if (r.hf.empty() || r.gguf.empty()) return bad_input("{}: a tensor needs 'hf' and 'gguf'", what);
  if (const Json* s = json_member(j, "shape")) {
    INGOT_ASSIGN(r.shape, string_list(*s, what));
  }
  return r;
}

Result<MetadataRule> metadata_rule(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"key", "type", "from", "optional", "special"}, what));
  MetadataRule r;
  r.key = json_string(j, "key").value_or("");
  r.type = json_string(j, "type").value_or("");
  r.special = json_string(j, "special").value_or("");
  r.optional = json_bool(j, "optional").value_or(false);
  if (const Json* f = json_member(j, "from")) {
    INGOT_ASSIGN(r.from, string_list(*f, what));
  }
  if (r.special.empty() && (r.key.empty() || r.from.empty() || (r.type != "u32" && r.type != "f32")))
    return bad_input("{}: a metadata rule needs 'key', 'from' and 'type' u32 or f32", what);
  return r;
}

// The layer number if `name` is the template with a number for {i}; -1 if it is the template without one.
std::optional<int> match(std::string_view tmpl, std::string_view name) {
  const auto at = tmpl.find("{i}");
  if (at == std::string_view::npos) return tmpl == name ? std::optional<int>(-1) : std::nullopt;
  const auto head = tmpl.substr(0, at), tail = tmpl.substr(at + 3);
  if (name.size() <= head.size() + tail.size() || name.substr(0, head.size()) != head ||
      name.substr(name.size() - tail.size()) != tail)
    return std::nullopt;
  const auto digits = name.substr(head.size(), name.size() - head.size() - tail.size());
  if (digits.size() > 6 || (digits.size() > 1 && digits[0] == '0')) return std::nullopt;
  int n = 0;
  for (char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    n = n * 10 + (c - '0');
  }
  return n;
}

}  // namespace

const TensorRule* Architecture::by_role(std::string_view role) const {
  for (const auto& t : tensors)
    if (t.role == role) return &t;
  return nullptr;
}

Result<Architecture> parse_architecture(std::string_view json, const std::string& what) {
  INGOT_ASSIGN(Json j, parse_strict_json(json, what));
  INGOT_TRY(known_keys(j, {"name", "classes", "block", "require", "params", "multiples", "windows", "tensors", "drop", "metadata",
                           "tied_by_default"}, what));
  Architecture a;
  a.name = json_string(j, "name").value_or("");
  if (a.name.empty()) return bad_input("{}: there is no 'name'", what);
  a.tied_by_default = json_bool(j, "tied_by_default").value_or(false);
  for (auto [key, list] : {std::pair{"classes", &a.classes}, std::pair{"drop", &a.drop}})
    if (const Json* m = json_member(j, key)) {
      INGOT_ASSIGN(*list, string_list(*m, what + ": " + key));
    }
  if (const Json* m = json_member(j, "block"); m && m->is_object())
    for (auto it = m->begin(); it != m->end(); ++it) a.block[it.key()] = json_string(*m, it.key()).value_or("");
  for (auto [key, map] : {std::pair{"require", &a.require}, std::pair{"params", &a.params}})
    if (const Json* m = json_member(j, key); m && m->is_object())
      for (auto it = m->begin(); it != m->end(); ++it) {
        INGOT_ASSIGN((*map)[it.key()], string_list(it.value(), what + ": " + it.key()));
      }
  if (const Json* m = json_member(j, "multiples"); m && m->is_object())
    for (auto it = m->begin(); it != m->end(); ++it) {
      a.multiples[it.key()] = json_string(*m, it.key()).value_or("");
      if (!a.params.count(it.key()) || !a.params.count(a.multiples[it.key()]))
        return bad_input("{}: 'multiples' has '{}': both must be params", what, it.key());
    }
  if (const Json* m = json_member(j, "windows"); m && m->is_object())
    for (auto it = m->begin(); it != m->end(); ++it) {
      INGOT_TRY(known_keys(it.value(), {"key", "missing"}, what + ": windows"));
      a.windows[it.key()] = {json_string(it.value(), "key").value_or(""), json_int(it.value(), "missing").value_or(0)};
    }
  if (const Json* m = json_member(j, "tensors"))
    for (const auto& e : *m) {
      INGOT_ASSIGN(auto r, tensor_rule(e, what + ": tensors"));
      for (const auto& f : r.shape) {
        std::string_view rest = f;
        while (!rest.empty()) {
          const auto star = rest.find('*');
          if (!a.params.count(std::string(rest.substr(0, star))))
            return bad_input("{}: '{}' is no param (shape of {})", what, rest.substr(0, star), r.hf);
          rest = star == std::string_view::npos ? std::string_view() : rest.substr(star + 1);
        }
      }
      if (!r.permute.empty() && !a.params.count(r.permute))
        return bad_input("{}: '{}' is no param (permute of {})", what, r.permute, r.hf);
      a.tensors.push_back(std::move(r));
    }
  if (const Json* m = json_member(j, "metadata"))
    for (const auto& e : *m) {
      INGOT_ASSIGN(auto r, metadata_rule(e, what + ": metadata"));
      a.metadata.push_back(std::move(r));
    }
  if (a.tensors.empty() || !a.params.count("layers")) return bad_input("{}: no 'tensors', or no param 'layers'", what);
  return a;
}

Result<const std::vector<Architecture>*> architectures() {
  static const Result<std::vector<Architecture>> all = []() -> Result<std::vector<Architecture>> {
    std::vector<Architecture> v;
    for (int i = 0; i < kArchitectureFileCount; ++i) {
      INGOT_ASSIGN(auto a, parse_architecture(kArchitectureFiles[i].text,
                                              fmt::format("data/architectures/{}.json", kArchitectureFiles[i].name)));
      v.push_back(std::move(a));
    }
    return v;
  }();
  if (!all.ok()) return all.error();
  return &all.value();
}

Result<const Architecture*> find_architecture(const Json& config, const std::string& what) {
  INGOT_ASSIGN(auto* all, architectures());
  std::vector<std::string> classes;
  if (const Json* m = json_member(config, "architectures"); m && m->is_array())
    for (const auto& e : *m)
      if (const auto* s = e.get_ptr<const std::string*>()) classes.push_back(*s);
  // "LlamaModel": saved from the bare model, whose head is missing or tied.
  const auto names = [](std::string_view known, std::string_view found) {
    return known == found || (found.ends_with("Model") && known.ends_with("ForCausalLM") && known.substr(0, known.size() - 11) == found.substr(0, found.size() - 5));
  };
  for (const auto& c : classes)
    for (const auto& a : *all)
      for (const auto& known : a.classes)
        if (names(known, c)) return &a;
  std::string list;
  for (const auto& a : *all)
    for (const auto& c : a.classes) list += (list.empty() ? "" : ", ") + c;
  if (classes.empty())
    return bad_input("{}: there is no 'architectures' with the model's class; ingot knows {}", what, list);
  return bad_input("{}: the architecture {} is unknown; ingot knows {} (ingot list architectures). A new one whose "
                   "layer kinds are known is one JSON file in data/architectures/",
                   what, classes[0].substr(0, 100), list);
}

const Architecture* find_architecture_by_name(std::string_view name) {
  auto all = architectures();
  if (!all.ok()) return nullptr;
  for (const auto& a : **all)
    if (a.name == name) return &a;
  return nullptr;
}

std::string expand(std::string_view tmpl, int layer) {
  const auto at = tmpl.find("{i}");
  if (at == std::string_view::npos) return std::string(tmpl);
  return fmt::format("{}{}{}", tmpl.substr(0, at), layer, tmpl.substr(at + 3));
}

std::optional<MappedName> map_to_gguf(const Architecture& a, std::string_view hf_name) {
  for (const auto& r : a.tensors)
    if (auto layer = match(r.hf, hf_name)) return MappedName{&r, *layer, expand(r.gguf, *layer)};
  return std::nullopt;
}

std::optional<MappedName> map_from_gguf(const Architecture& a, std::string_view gguf_name) {
  for (const auto& r : a.tensors)
    if (auto layer = match(r.gguf, gguf_name)) return MappedName{&r, *layer, expand(r.hf, *layer)};
  return std::nullopt;
}

bool is_dropped(const Architecture& a, std::string_view hf_name) {
  for (const auto& t : a.drop)
    if (match(t, hf_name)) return true;
  return false;
}

std::optional<double> config_number(const Json& config, std::string_view path) {
  if (const auto slash = path.find('/'); slash != std::string_view::npos) {
    const auto a = config_number(config, path.substr(0, slash)), b = config_number(config, path.substr(slash + 1));
    if (!a || !b || *b == 0 || std::fmod(*a, *b) != 0) return std::nullopt;
    return *a / *b;
  }
  if (const auto dot = path.find('.'); dot != std::string_view::npos) {
    const Json* m = json_member(config, path.substr(0, dot));
    return m ? config_number(*m, path.substr(dot + 1)) : std::nullopt;
  }
  return json_number(config, path);
}

Result<std::optional<double>> read_config_number(const Json& config, std::string_view path, const std::string& what) {
  if (const auto slash = path.find('/'); slash != std::string_view::npos) {
    INGOT_TRY(read_config_number(config, path.substr(0, slash), what));
    INGOT_TRY(read_config_number(config, path.substr(slash + 1), what));
    return config_number(config, path);
  }
  const Json* at = &config;
  std::string_view rest = path;
  for (auto dot = rest.find('.'); at && dot != std::string_view::npos; dot = rest.find('.')) {
    at = json_member(*at, rest.substr(0, dot));
    rest.remove_prefix(dot + 1);
  }
  if (const Json* m = at ? json_member(*at, rest) : nullptr; m && !finite_number(*m))
    return bad_input("{}: '{}' is {}, expected a {}number", what, path, json_brief(*m), json_odd(*m) ? "finite " : "");
  return config_number(config, path);
}

namespace {

// The reason why a quotient among `from` gave no number: both are there, and one does not divide the other.
Status undivided(const Json& config, const std::vector<std::string>& from, const std::string& what) {
  for (const auto& path : from) {
    const auto slash = path.find('/');
    if (slash == std::string::npos) continue;
    const std::string over = path.substr(0, slash), under = path.substr(slash + 1);
    const auto a = config_number(config, over), b = config_number(config, under);
    if (a && b && *b != 0)
      return bad_input("{}: '{}' is {} and '{}' is {}, which does not divide it{}", what, over, *a, under, *b,
                       from[0] == path ? std::string() : fmt::format(", and there is no '{}'; one of the three is wrong or missing", from[0]));
  }
  return {};
}

}  // namespace

Result<std::map<std::string, int64_t>> config_params(const Architecture& a, const Json& config,
                                                     const std::string& what) {
  std::map<std::string, int64_t> out;
  for (const auto& [key, values] : a.require) {
    const auto found = json_string(config, key);
    if (const Json* m = json_member(config, key); m && !found)
      return bad_input("{}: '{}' is {}, expected a text like \"{}\"", what, key, json_brief(*m), values[0]);
    if (!found) continue;
    bool ok = false;
    for (const auto& v : values) ok = ok || v == *found;
    if (!ok)
      return bad_input("{}: '{}' is '{}'; of {} models ingot supports only '{}'", what, key, found->substr(0, 60),
                       a.name, values[0]);
  }
  for (const auto& [name, from] : a.params) {
    std::optional<double> v;
    for (const auto& path : from)
      if (!v) {
        INGOT_ASSIGN(v, read_config_number(config, path, what));
      }
    if (!v) INGOT_TRY(undivided(config, from, what));
    if (!v) return bad_input("{}: there is no usable number '{}'; the configuration is not whole", what, from[0]);
    if (!(*v >= 1) || *v > static_cast<double>(kMaxParam) || *v != std::floor(*v))
      return bad_input("{}: '{}' is {}, expected a whole number from 1 to {}", what, from[0], *v, kMaxParam);
    out[name] = static_cast<int64_t>(*v);
  }
  for (const auto& [name, by] : a.multiples)
    if (out.at(name) % out.at(by) != 0)
      return bad_input("{}: '{}' is {} and '{}' is {}, which does not divide it; one of them is not this model's", what, a.params.at(name)[0],
                       out.at(name), a.params.at(by)[0], out.at(by));
  return out;
}

Result<std::optional<int64_t>> attention_window(const Architecture& a, const Json& config, const std::string& what) {
  const WindowRule* rule = nullptr;
  if (const Json* classes = json_member(config, "architectures"); classes && classes->is_array())
    for (const auto& c : *classes)
      if (auto it = c.is_string() ? a.windows.find(c.get<std::string>()) : a.windows.end(); it != a.windows.end()) rule = &it->second;
  if (!rule) return std::optional<int64_t>();
  INGOT_ASSIGN(auto window, read_config_number(config, rule->key, what));
  if (!window && !config.contains(rule->key) && rule->missing > 0) window = static_cast<double>(rule->missing);
  if (!window) return std::optional<int64_t>();
  if (!(*window >= 1) || *window > static_cast<double>(kMaxParam) || *window != std::floor(*window))
    return bad_input("{}: '{}' is {}, expected a whole number from 1, or null for no window", what, rule->key, *window);
  INGOT_ASSIGN(const auto context, read_config_number(config, "max_position_embeddings", what));
  if (context && *context <= *window) return std::optional<int64_t>();
  return std::optional<int64_t>(static_cast<int64_t>(*window));
}

Result<Shape> expected_shape(const TensorRule& rule, const std::map<std::string, int64_t>& params) {
  Shape s;
  for (const auto& f : rule.shape) {
    int64_t n = 1;
    std::string_view rest = f;
    while (!rest.empty()) {
      const auto star = rest.find('*');
      const auto it = params.find(std::string(rest.substr(0, star)));
      if (it == params.end() || __builtin_mul_overflow(n, it->second, &n))
        return bad_input("the shape of {} cannot be computed from the configuration", rule.hf);
      rest = star == std::string_view::npos ? std::string_view() : rest.substr(star + 1);
    }
    s.push_back(n);
  }
  return s;
}

}  // namespace ingot
