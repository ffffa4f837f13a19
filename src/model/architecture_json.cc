// Reading data/architectures/*.json. A file may begin with another one ("like"): its objects add to that one's and replace members of the same name, its
// tensors and metadata those of the same GGUF name; "without" takes some out. A key that is not known is an error: a misspelt one must not pass silently.
#include <algorithm>
#include <initializer_list>

#include "model/architecture.h"
#include "model/embedded.h"
#include "model/known_keys.h"

namespace ingot {
namespace {

constexpr int kMostLike = 8;  // files, one like another

Result<std::vector<std::string>> string_list(const Json& j, const std::string& what) {
  std::vector<std::string> v;
  if (j.is_string()) return std::vector<std::string>{j.get<std::string>()};
  if (!j.is_array()) return bad_input("{}: expected a list of texts, found {}", what, json_brief(j));
  for (const auto& e : j) {
    const auto* s = e.get_ptr<const std::string*>();
    if (!s) return bad_input("{}: expected a text, found {}", what, json_brief(e));
    v.push_back(*s);
  }
  return v;
}

std::string text_of(const Json& j, const char* key) { return json_string(j, key).value_or(""); }
bool flag_of(const Json& j, const char* key) { return json_bool(j, key).value_or(false); }

Result<TensorRule> tensor_rule(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"hf", "gguf", "shape", "parts", "axis", "transpose", "permute", "regroup", "add", "f32", "role", "optional", "alternative", "announced",
                           "assumed"}, what));
  TensorRule r;
  for (auto [key, list] : {std::pair{"hf", &r.hf}, {"gguf", &r.gguf}, {"shape", &r.shape}, {"parts", &r.parts}})
    if (const Json* m = json_member(j, key)) {
      INGOT_ASSIGN(*list, string_list(*m, what + ": " + key));
    }
  r.axis = static_cast<int>(json_int(j, "axis").value_or(0));
  r.add = json_number(j, "add").value_or(0);
  r.transpose = flag_of(j, "transpose"), r.f32 = flag_of(j, "f32"), r.alternative = flag_of(j, "alternative"), r.assumed = flag_of(j, "assumed");
  r.permute = text_of(j, "permute"), r.regroup = text_of(j, "regroup"), r.role = text_of(j, "role"), r.announced = text_of(j, "announced");
  r.optional = flag_of(j, "optional") || !r.announced.empty() || r.alternative;
  if (r.hf.empty() || r.gguf.empty()) return bad_input("{}: a tensor needs 'hf' and 'gguf'", what);
  const size_t several = std::max(r.hf.size(), r.gguf.size());
  if (std::min(r.hf.size(), r.gguf.size()) != 1 || r.parts.size() != (several > 1 ? several : 0) || r.axis < 0 || r.axis >= std::max<int>(1, static_cast<int>(r.shape.size())))
    return bad_input("{}: {}: one tensor is made of several, or several of one, each with its extent in 'parts' along a dimension of 'shape'", what, r.hf[0]);
  for (const auto* side : {&r.hf, &r.gguf})
    for (const auto& t : *side)
      if ((t.find("{i}") != std::string::npos) != r.per_layer() || (side == &r.hf && (t.find("{e}") != std::string::npos) != r.per_expert()))
        return bad_input("{}: {}: all templates of a rule are of a layer, and all of 'hf' of an expert, or none is", what, r.hf[0]);
  if (several > 1 && (r.transpose || r.per_expert() || !r.permute.empty() || !r.regroup.empty()))
    return bad_input("{}: {}: what is cut or joined is not moved otherwise", what, r.hf[0]);
  if (r.transpose && r.shape.size() != 2) return bad_input("{}: {}: 'transpose' needs two dimensions", what, r.hf[0]);
  return r;
}

Result<MetadataRule> metadata_rule(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"key", "type", "from", "value", "off", "optional", "special"}, what));
  MetadataRule r;
  r.key = text_of(j, "key"), r.type = text_of(j, "type"), r.special = text_of(j, "special");
  r.optional = flag_of(j, "optional");
  if (const Json* v = json_member(j, "value")) r.value = *v;
  r.off = json_number(j, "off");
  if (const Json* f = json_member(j, "from")) {
    INGOT_ASSIGN(r.from, string_list(*f, what));
  }
  const auto fits = [&](const Json& v) {
    return r.type == "string" ? v.is_string() : r.type == "bool" ? v.is_boolean() : v.is_number();
  };
  const bool known = r.type == "u32" || r.type == "f32" || r.type == "bool" || (r.type == "string" && r.from.empty());
  if (r.special.empty() && (r.key.empty() || !known || (r.from.empty() && r.value.is_null()) || (!r.value.is_null() && !fits(r.value))))
    return bad_input("{}: a metadata rule needs 'key', 'type' (u32, f32, bool or string) and 'from' or a 'value' of that type", what);
  return r;
}

Result<LayerKinds> layer_kinds(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"norm", "rope", "rope_layers", "sliding_rope", "activation", "gated", "fused_gate", "parallel", "parallel_by", "embedding_scale",
                           "logit_scale", "routing_normalized", "attention_scale", "attention_key", "rope_key", "rope_period_key", "sliding_base"}, what));
  LayerKinds k;
  struct Choice {
    const char* key;
    std::string* value;
    std::vector<std::string_view> known;  // empty: any
  };
  for (const Choice& c : {Choice{"norm", &k.norm, {"rms", "layer"}}, {"rope", &k.rope, {"halves", "interleaved", "none"}}, {"sliding_rope", &k.sliding_rope, {"same", "own"}},
                          {"activation", &k.activation, {"silu", "gelu", "gelu_tanh"}}, {"embedding_scale", &k.embedding_scale, {"sqrt_hidden"}},
                          {"logit_scale", &k.logit_scale, {"multiply", "divide"}}, {"rope_layers", &k.rope_layers, {}}, {"parallel_by", &k.parallel_by, {}},
                          {"attention_key", &k.attention_key, {}}, {"rope_key", &k.rope_key, {}}, {"rope_period_key", &k.rope_period_key, {}}}) {
    const auto v = json_string(j, c.key);
    if (!v) continue;
    if (!c.known.empty() && std::find(c.known.begin(), c.known.end(), *v) == c.known.end())
      return bad_input("{}: '{}' is \"{}\": no such kind of a layer; known are {}", what, c.key, *v, fmt::join(c.known, ", "));
    *c.value = *v;
  }
  if (k.rope_layers != "all" && k.rope_layers != "sliding" && !k.rope_layers.starts_with("period "))
    return bad_input("{}: 'rope_layers' is \"{}\", expected all, sliding, or \"period N\"", what, k.rope_layers);
  for (auto [key, value] : {std::pair{"gated", &k.gated}, {"fused_gate", &k.fused_gate}, {"parallel", &k.parallel}, {"routing_normalized", &k.routing_normalized}})
    *value = json_bool(j, key).value_or(*value);
  k.sliding_base = json_number(j, "sliding_base");
  if (const Json* m = json_member(j, "attention_scale"); m && m->is_object())
    for (const auto& [layers, path] : m->items()) k.attention_scale[std::atoll(layers.c_str())] = path.get<std::string>();
  return k;
}

Result<WindowRule> window_rule(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"key", "missing", "enabled_by", "below", "below_missing", "before", "before_missing", "unrotated", "period", "read", "always", "told", "absent"}, what));
  WindowRule w;
  w.key = text_of(j, "key"), w.enabled_by = text_of(j, "enabled_by"), w.below = text_of(j, "below");
  w.missing = json_int(j, "missing").value_or(0), w.period = json_int(j, "period").value_or(0);
  w.below_missing = json_int(j, "below_missing").value_or(0);
  w.before = text_of(j, "before"), w.before_missing = json_int(j, "before_missing").value_or(0);
  w.unrotated = flag_of(j, "unrotated"), w.absent = flag_of(j, "absent");
  w.read = json_bool(j, "read").value_or(true), w.always = flag_of(j, "always"), w.told = flag_of(j, "told");
  if (w.key.empty()) return bad_input("{}: a window needs the 'key' of config.json", what);
  return w;
}

Result<LlamaCpp> llama_cpp_rule(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"unread", "needed", "square", "one_base", "ffn_scales"}, what));
  LlamaCpp l;
  for (auto [key, list] : {std::pair{"unread", &l.unread}, {"needed", &l.needed}})
    if (const Json* m = json_member(j, key)) {
      INGOT_ASSIGN(*list, string_list(*m, what));
    }
  l.square = flag_of(j, "square"), l.one_base = flag_of(j, "one_base"), l.ffn_scales = flag_of(j, "ffn_scales");
  return l;
}

Status check_extent(const Architecture& a, const std::string& extent, const std::string& what) {
  size_t at = 0;
  while (at <= extent.size()) {
    const size_t end = std::min(extent.find_first_of("*+", at), extent.size());
    const std::string term = extent.substr(at, end - at);
    const bool number = !term.empty() && term.find_first_not_of("0123456789") == std::string::npos;
    if (!number && !a.params.count(term)) return bad_input("{}: '{}' is no param", what, term);
    at = end + 1;
  }
  return {};
}

Status check_params(const Architecture& a, const std::string& what) {
  for (const auto& r : a.tensors) {
    for (const auto* list : {&r.shape, &r.parts})
      for (const auto& e : *list) INGOT_TRY(check_extent(a, e, fmt::format("{}: shape of {}", what, r.hf[0])));
    for (const auto* param : {&r.permute, &r.regroup})
      if (!param->empty() && !a.params.count(*param)) return bad_input("{}: '{}' is no param (of {})", what, *param, r.hf[0]);
    if (r.per_expert() && !a.params.count("experts")) return bad_input("{}: {} has an expert's number, but there is no param 'experts'", what, r.hf[0]);
  }
  for (const auto& [name, by] : a.multiples)
    if (!a.params.count(name) || !a.params.count(by)) return bad_input("{}: 'multiples' has '{}': both must be params", what, name);
  if (a.tensors.empty() || !a.params.count("layers")) return bad_input("{}: no 'tensors', or no param 'layers'", what);
  return {};
}

// What identifies an entry of a list: the GGUF name, or what is special.
std::string entry_name(const Json& e) {
  for (const char* key : {"gguf", "key", "special"})
    if (const Json* m = json_member(e, key)) return (json_bool(e, "alternative").value_or(false) ? "or " : "") + m->dump();
  return e.dump();
}

// `own` over what it is like.
Result<Json> merged(Json base, const Json& own, const std::string& what) {
  for (const char* key : {"classes", "wrappers", "model_types", "window", "by_tensors", "defaults", "llama_cpp", "like", "without"}) base.erase(key);
  for (const auto& [key, value] : own.items()) {
    Json& to = base[key];
    if (to.is_object() && value.is_object()) {
      for (const auto& [k, v] : value.items())
        if (v.is_null()) to.erase(k);
        else to[k] = v;
    } else if ((key == "tensors" || key == "metadata") && to.is_array() && value.is_array()) {
      for (const Json& e : value) {
        const auto same = std::find_if(to.begin(), to.end(), [&](const Json& b) { return entry_name(b) == entry_name(e); });
        if (same != to.end()) *same = e;
        else to.push_back(e);
      }
    } else to = value;
  }
  if (const Json* m = json_member(own, "without")) {
    INGOT_ASSIGN(const auto names, string_list(*m, what + ": without"));
    for (const auto& name : names) {
      bool found = false;
      for (const char* list : {"tensors", "metadata"})
        if (Json& all = base[list]; all.is_array())
          for (size_t i = all.size(); i-- > 0;)
            if (entry_name(all[i]) == Json(name).dump()) all.erase(i), found = true;
      if (!found) return bad_input("{}: 'without' has '{}', which it is not like", what, name);
    }
  }
  return base;
}

// With what it is like, which is one of the files that are built in.
Result<Json> whole_json(std::string_view text, const std::string& what, int depth = 0) {
  INGOT_ASSIGN(Json j, parse_strict_json(text, what));
  const auto like = json_string(j, "like");
  if (!like) return j;
  const auto end = kArchitectureFiles + kArchitectureFileCount;
  const auto file = std::find_if(kArchitectureFiles, end, [&](const auto& f) { return f.name == *like; });
  if (file == end || depth >= kMostLike) return bad_input("{}: 'like' is '{}': there is no such file in data/architectures, or they go in a circle", what, *like);
  INGOT_ASSIGN(Json base, whole_json(file->text, fmt::format("data/architectures/{}.json", *like), depth + 1));
  return merged(std::move(base), j, what);
}

// Keys carry the architecture's name.
void put_name(std::string* text, const std::string& name) {
  constexpr std::string_view kHole = "{arch}";
  if (const size_t at = text->find(kHole); at != std::string::npos) text->replace(at, kHole.size(), name);
}

Result<Architecture> read_architecture(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"name", "like", "without", "classes", "wrappers", "model_types", "layer", "require", "params", "multiples", "window", "tensors", "drop",
                           "metadata", "defaults", "llama_cpp", "tied_by_default", "by_tensors"}, what));
  Architecture a;
  a.name = text_of(j, "name");
  if (a.name.empty()) return bad_input("{}: there is no 'name'", what);
  a.tied_by_default = flag_of(j, "tied_by_default"), a.by_tensors = flag_of(j, "by_tensors");
  if (const Json* m = json_member(j, "defaults"); m && m->is_object()) a.defaults = *m;
  for (auto [key, list] : {std::pair{"classes", &a.classes}, {"wrappers", &a.wrappers}, {"model_types", &a.model_types}, {"drop", &a.drop}})
    if (const Json* m = json_member(j, key)) {
      INGOT_ASSIGN(*list, string_list(*m, what + ": " + key));
    }
  if (const Json* m = json_member(j, "layer")) {
    INGOT_ASSIGN(a.layer, layer_kinds(*m, what + ": layer"));
  }
  if (const Json* m = json_member(j, "require"); m && m->is_object())
    for (const auto& [key, value] : m->items()) {
      Requirement r;
      const Json* values = value.is_object() ? json_member(value, "values") : &value;
      if (!values || !values->is_array() || values->empty()) return bad_input("{}: require: '{}' needs a list of values", what, key);
      r.values = values->get<std::vector<Json>>();
      if (const Json* missing = value.is_object() ? json_member(value, "missing") : nullptr) r.missing = *missing;
      a.require[key] = std::move(r);
    }
  if (const Json* m = json_member(j, "params"); m && m->is_object())
    for (const auto& [key, value] : m->items()) {
      INGOT_ASSIGN(a.params[key], string_list(value, what + ": " + key));
    }
  if (const Json* m = json_member(j, "multiples"); m && m->is_object())
    for (const auto& [key, value] : m->items()) a.multiples[key] = json_string(*m, key).value_or("");
  if (const Json* m = json_member(j, "window")) {
    INGOT_ASSIGN(a.window, window_rule(*m, what + ": window"));
  }
  if (const Json* m = json_member(j, "llama_cpp")) {
    INGOT_ASSIGN(a.llama_cpp, llama_cpp_rule(*m, what + ": llama_cpp"));
  }
  if (const Json* m = json_member(j, "tensors"))
    for (const auto& e : *m) {
      INGOT_ASSIGN(auto r, tensor_rule(e, what + ": tensors"));
      a.tensors.push_back(std::move(r));
    }
  if (const Json* m = json_member(j, "metadata"))
    for (const auto& e : *m) {
      INGOT_ASSIGN(auto r, metadata_rule(e, what + ": metadata"));
      put_name(&r.key, a.name);
      a.metadata.push_back(std::move(r));
    }
  INGOT_TRY(check_params(a, what));
  return a;
}

}  // namespace

Result<Architecture> parse_architecture(std::string_view text, const std::string& what) {
  INGOT_ASSIGN(const Json j, whole_json(text, what));
  return read_architecture(j, what);
}

}  // namespace ingot
