#include "model/rope_config.h"

#include "model/architecture.h"

namespace ingot {
namespace {

constexpr const char kParameters[] = "rope_parameters", kScaling[] = "rope_scaling";

// One set of parameters for each kind of layer ("full_attention": {...}), or another object that nothing here reads.
Status check_flat(const RopeConfig& r, const std::string& model, const std::string& what) {
  for (const auto& [key, value] : r.values.items())
    if (value.is_object())
      return bad_input("{}: '{}' has separate parameters for '{}' layers ({}); {} models have one set for all layers", what, r.place, key,
                       json_brief(value), model);
  return {};
}

// The rest of a head that is not rotated: a layout that the architecture does not have.
Status check_whole_head(const Json& config, const RopeConfig& r, const std::string& model, const std::string& what) {
  for (const Json* where : {&config, &r.values})
    for (const char* key : {"partial_rotary_factor", "rotary_pct", "rotary_percent"}) {
      INGOT_ASSIGN(const auto part, read_config_number(*where, key, what));
      if (part && *part != 1)
        return bad_input("{}: '{}' is {}: only a part of each head is rotated, which {} models do not do", what,
                         where == &config ? key : r.place + "." + key, *part, model);
    }
  return {};
}

Status check_agreement(const Json& config, const Json* parameters, const Json* scaling, const std::string& what) {
  if (parameters && scaling && parameters->is_object() && scaling->is_object() && !scaling->empty()) {
    // transformers 5 believes rope_scaling, llama.cpp rope_parameters.
    for (const auto& [key, value] : scaling->items()) {
      const Json* other = json_member(*parameters, key == "type" ? "rope_type" : key.c_str());
      if (!other || *other != value)
        return bad_input("{}: 'rope_parameters' is {} and 'rope_scaling' is {}, which contradict each other; keep the one that the model "
                         "was trained with", what, json_brief(*parameters), json_brief(*scaling));
    }
  }
  for (const Json* place : {parameters, scaling}) {
    const Json *inner = place ? json_member(*place, "rope_theta") : nullptr, *outer = json_member(config, "rope_theta");
    // transformers 4 reads the outer one, transformers 5 the inner one.
    if (inner && outer && *inner != *outer)
      return bad_input("{}: 'rope_theta' is {} and '{}.rope_theta' {}, which contradict each other; keep the one that the model was "
                       "trained with", what, json_brief(*outer), place == parameters ? kParameters : kScaling, json_brief(*inner));
  }
  return {};
}

Result<std::string> read_type(const RopeConfig& r, const std::string& what) {
  const Json *now = json_member(r.values, "rope_type"), *older = json_member(r.values, "type");
  for (const Json* m : {now, older})
    if (m && !m->is_string()) return bad_input("{}: the type in '{}' is {}, expected a text like \"linear\"", what, r.place, json_brief(*m));
  if (now && older && *now != *older)
    return bad_input("{}: in '{}' the 'rope_type' is {} and the 'type' {}, which contradict each other", what, r.place, json_brief(*now),
                     json_brief(*older));
  if (!now) now = older;
  return now ? now->get<std::string>() : std::string("default");
}

// Where transformers 5 and llama.cpp look first: at the top of the file.
Result<std::optional<double>> original_context(const Json& config, const RopeConfig& r, const std::string& what) {
  constexpr const char* kKey = "original_max_position_embeddings";
  INGOT_ASSIGN(const auto outer, read_config_number(config, kKey, what));
  INGOT_ASSIGN(const auto inner, read_config_number(r.values, kKey, what));
  if (outer && inner && *outer != *inner)
    return bad_input("{}: '{}' is {} and '{}.{}' {}, which contradict each other", what, kKey, *outer, r.place, kKey, *inner);
  return inner ? inner : outer;
}

}  // namespace

Result<RopeConfig> read_rope_config(const Json& config, const std::string& model, const std::string& what) {
  RopeConfig r;
  const Json *parameters = json_member(config, kParameters), *scaling = json_member(config, kScaling);
  INGOT_TRY(check_agreement(config, parameters, scaling, what));
  r.place = parameters ? kParameters : kScaling;
  if (const Json* m = parameters ? parameters : scaling) {
    if (!m->is_object()) return bad_input("{}: '{}' is {}, expected an object", what, r.place, json_brief(*m));
    r.values = *m;
  }
  INGOT_TRY(check_flat(r, model, what));
  INGOT_TRY(check_whole_head(config, r, model, what));
  INGOT_ASSIGN(r.type, read_type(r, what));
  INGOT_ASSIGN(r.factor, read_config_number(r.values, "factor", what));
  if (r.type == "default") {
    if (r.factor && *r.factor != 1)
      return bad_input("{}: '{}' has a 'factor' of {}, but {}, so that nothing would be scaled; supported are linear, llama3 and yarn", what,
                       r.place, *r.factor, r.values.contains("rope_type") || r.values.contains("type") ? "its type is default" : "no 'rope_type'");
    return r;
  }
  if (r.type != "llama3" && r.type != "linear" && r.type != "yarn")
    return bad_input("{}: the rope scaling {} is not supported (supported: default, llama3, linear, yarn)", what, json_brief(r.values));
  if (!r.factor) return bad_input("{}: '{}' is of type {}, but has no 'factor'", what, r.place, r.type);
  if (!(*r.factor > 0)) return bad_input("{}: 'factor' of '{}' is {}, expected a number above zero", what, r.place, *r.factor);
  if (r.type == "linear") return r;
  INGOT_ASSIGN(r.original_context, original_context(config, r, what));
  if (!r.original_context || !(*r.original_context >= 1) || *r.original_context > 4e9)
    return bad_input("{}: {} rope scaling needs 'original_max_position_embeddings', the context before it was lengthened{}", what, r.type,
                     r.original_context ? fmt::format(", not {}", *r.original_context) : "");
  return r;
}

}  // namespace ingot
