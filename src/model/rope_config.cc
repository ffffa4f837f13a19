#include "model/rope_config.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "model/model_config.h"

namespace ingot {
namespace {

constexpr const char kParameters[] = "rope_parameters", kScaling[] = "rope_scaling";
constexpr const char kTypes[] = "linear, dynamic, yarn, longrope, llama3";

// One set of parameters for each kind of layer ("full_attention": {...}): that of the layers that see everything, if those with a window have plain
// angles. Else another object that nothing here reads.
Status choose_set(RopeConfig* chosen, const Architecture& arch, const std::string& what) {
  const RopeConfig& r = *chosen;
  const Json *full = json_member(r.values, "full_attention"), *sliding = json_member(r.values, "sliding_attention");
  if (arch.layer.sliding_rope == "own" && full && full->is_object()) {
    const std::string type = sliding ? json_string(*sliding, "rope_type").value_or("default") : "default";
    if (type != "default")
      return bad_input("{}: '{}' scales the angles of layers with a window ({}), which {} models do not do", what, r.place, json_brief(*sliding), arch.name);
    chosen->place += ".full_attention";
    chosen->values = Json(*full);
    return {};
  }
  if (arch.layer.sliding_rope == "own" && arch.window && r.place == kParameters && !r.values.empty())
    return bad_input("{}: '{}' is {}, and of {} models transformers reads nothing there but 'full_attention' and 'sliding_attention', each with its own: put what the model was "
                     "trained with under these", what, r.place, json_brief(r.values), arch.classes[0]);
  for (const auto& [key, value] : r.values.items())
    if (value.is_object())
      return bad_input("{}: '{}' has separate parameters for '{}' layers ({}); {} models have one set for all layers", what, r.place, key,
                       json_brief(value), arch.name);
  return {};
}

// The rest of a head that is not rotated: a layout that the architecture does not have.
Status check_whole_head(const Json& config, const RopeConfig& r, const Architecture& arch, const std::string& what) {
  for (const Json* where : {&config, &r.values})
    for (const char* key : {"partial_rotary_factor", "rotary_pct", "rotary_percent"}) {
      INGOT_ASSIGN(const auto part, read_config_number(*where, key, what));
      if (part && *part != 1)
        return bad_input("{}: '{}' is {}: by it only a part of each head would be rotated, which of {} transformers 4 did, transformers 5 does not where nothing is scaled, and "
                         "GGUF's {} cannot say; remove it if the model was trained without", what, where == &config ? key : r.place + "." + key, *part, arch.classes[0], arch.name);
    }
  return {};
}

// Where Python finds it true: an empty object, false and 0 count as absent in transformers.
const Json* stated(const Json& config, const char* key) {
  const Json* m = json_member(config, key);
  const bool nothing = m && (*m == false || *m == 0 || *m == "" || (m->is_structured() && m->empty()));
  return nothing ? nullptr : m;
}

Status check_agreement(const Json& config, const Json* parameters, const Json* scaling, const std::string& what) {
  if (parameters && scaling && parameters->is_object() && scaling->is_object()) {
    // transformers 5 believes rope_scaling alone, but for the angle's base at the top of the file; llama.cpp rope_parameters.
    const auto spelled = [](const Json& j, const std::string& key) { return json_member(j, key == "type" || key == "rope_type" ? (j.contains("rope_type") ? "rope_type" : "type") : key); };
    const auto agree = [&](const Json& one, const Json& other, bool base) {
      return std::all_of(one.items().begin(), one.items().end(), [&](const auto& item) {
        if (item.value().is_null()) return true;
        const Json* same = spelled(other, item.key());
        if (!same && base && item.key() == "rope_theta") same = json_member(config, "rope_theta");
        if (!same && base && item.key() == "rope_theta") return item.value() == 10000;
        if (!same && (item.key() == "type" || item.key() == "rope_type")) return item.value() == "default";
        return same && *same == item.value();
      });
    };
    if (!agree(*scaling, *parameters, false) || !agree(*parameters, *scaling, true))
      return bad_input("{}: 'rope_parameters' is {} and 'rope_scaling' is {}, which contradict each other; keep the one that the model was trained with", what,
                       json_brief(*parameters), json_brief(*scaling));
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

// As types are called now: "su" at first, and of Phi-3 "yarn", too.
std::string type_now(const std::string& type, const Architecture& arch) { return type == "su" || (type == "yarn" && arch.name == "phi3") ? "longrope" : type; }

Result<std::string> read_type(const RopeConfig& r, const Architecture& arch, const std::string& what) {
  const Json *now = json_member(r.values, "rope_type"), *older = json_member(r.values, "type");
  for (const Json* m : {now, older})
    if (m && !m->is_string()) return bad_input("{}: the type in '{}' is {}, expected a text like \"linear\"", what, r.place, json_brief(*m));
  const auto named = [&](const Json& m) { return type_now(m.get_ref<const std::string&>(), arch); };
  if (now && older && named(*now) != named(*older))
    return bad_input("{}: in '{}' the 'rope_type' is {} and the 'type' {}, which contradict each other", what, r.place, json_brief(*now),
                     json_brief(*older));
  if (!now) now = older;
  return now ? named(*now) : std::string("default");
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

// As transformers' _compute_yarn_parameters. What it does not read but others do, and what only it does, are refused.
Status read_yarn(RopeConfig* r, const std::string& what) {
  std::map<std::string, std::optional<double>> v;
  for (const char* key : {"attention_factor", "attn_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "extrapolation_factor"}) {
    INGOT_ASSIGN(v[key], read_config_number(r->values, key, what));
  }
  const auto or_default = [&](const char* key, double other) { return v[key].value_or(0) != 0 ? *v[key] : other; };  // 0 counts as absent there
  r->beta_fast = or_default("beta_fast", 32), r->beta_slow = or_default("beta_slow", 1);
  if (!(r->beta_slow > 0) || !(r->beta_fast > r->beta_slow))
    return bad_input("{}: 'beta_fast' of '{}' is {} and 'beta_slow' {}, expected numbers above zero, the former the larger", what, r->place,
                     r->beta_fast, r->beta_slow);
  const double mscale = or_default("mscale", 0), all = or_default("mscale_all_dim", 0);
  r->magnitude = v["attention_factor"] ? *v["attention_factor"]
                 : mscale != 0 && all != 0 ? yarn_magnitude(*r->factor, mscale) / yarn_magnitude(*r->factor, all)
                                           : yarn_magnitude(*r->factor);
  if (!(r->magnitude > 0) || !std::isfinite(r->magnitude))
    return bad_input("{}: the numbers of the yarn rope scaling multiply the attention by {}, expected a number above zero: {}", what,
                     r->magnitude, json_brief(r->values));
  if (v["attn_factor"] && std::abs(*v["attn_factor"] / r->magnitude - 1) > 1e-6)
    return bad_input("{}: 'attn_factor' of '{}' is {}, which transformers does not read: it takes {}; say it as 'attention_factor' if the model "
                     "was trained with it, else remove it", what, r->place, *v["attn_factor"], r->magnitude);
  if (v["extrapolation_factor"].value_or(1) != 1)
    return bad_input("{}: 'extrapolation_factor' of '{}' is {}, which transformers does not read: it takes 1; remove it if the model was trained "
                     "so", what, r->place, *v["extrapolation_factor"]);
  if (const auto m = r->values.find("truncate"); m != r->values.end() && *m != true)  // null counts as false there
    return bad_input("{}: 'truncate' of '{}' is {}; only true is supported: GGUF has no other yarn", what, r->place, json_brief(*m));
  return {};
}

Result<std::vector<double>> read_factors(const RopeConfig& r, const char* key, const std::string& what) {
  std::vector<double> out;
  const Json* m = json_member(r.values, key);
  if (!m || !m->is_array()) return bad_input("{}: '{}' of '{}' is {}, expected a list of numbers, one for each pair of a head's elements", what, key,
                                             r.place, m ? json_brief(*m) : "missing");
  for (const Json& e : *m) {
    const auto v = finite_number(e);
    if (!v || !std::isnormal(static_cast<float>(*v)) || !(*v > 0))
      return bad_input("{}: '{}' of '{}' has {}, expected numbers above zero", what, key, r.place, json_brief(e));
    out.push_back(*v);
  }
  return out;
}

// As transformers' _compute_longrope_parameters.
Status read_longrope(RopeConfig* r, std::optional<double> context, const std::string& what) {
  INGOT_ASSIGN(r->short_factors, read_factors(*r, "short_factor", what));
  INGOT_ASSIGN(r->long_factors, read_factors(*r, "long_factor", what));
  INGOT_ASSIGN(const auto given, read_config_number(r->values, "attention_factor", what));
  const double original = *r->original_context, stretched = r->factor.value_or(context.value_or(original) / original);
  r->magnitude = given ? *given : stretched > 1 ? std::sqrt(1 + std::log(stretched) / std::log(original)) : 1;
  if (!(r->magnitude > 0) || !std::isfinite(r->magnitude))
    return bad_input("{}: the numbers of the longrope rope scaling multiply the attention by {}, expected a number above zero", what, r->magnitude);
  return {};
}

}  // namespace

double yarn_magnitude(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

Result<RopeConfig> read_rope_config(const Json& config, const Architecture& arch, const std::string& what) {
  RopeConfig r;
  const Json *parameters = stated(config, kParameters), *scaling = stated(config, kScaling);
  INGOT_TRY(check_agreement(config, parameters, scaling, what));
  r.place = parameters ? kParameters : kScaling;
  if (const Json* m = parameters ? parameters : scaling) {
    if (!m->is_object()) return bad_input("{}: '{}' is {}, expected an object", what, r.place, json_brief(*m));
    r.values = *m;
  }
  INGOT_TRY(choose_set(&r, arch, what));
  if (!arch.params.count("rope_dim")) INGOT_TRY(check_whole_head(config, r, arch, what));
  INGOT_ASSIGN(r.type, read_type(r, arch, what));
  INGOT_ASSIGN(r.factor, read_config_number(r.values, "factor", what));
  if (r.type == "default") {
    // Whoever wrote "default" meant it; without any type it may have been forgotten.
    if (r.factor && *r.factor != 1 && !json_member(r.values, "rope_type") && !json_member(r.values, "type"))
      return bad_input("{}: '{}' has a 'factor' of {}, but no 'rope_type', so that nothing would be scaled; supported are {}", what, r.place,
                       *r.factor, kTypes);
    return r;
  }
  const bool longrope = r.type == "longrope";
  if (r.type != "llama3" && r.type != "linear" && r.type != "dynamic" && r.type != "yarn" && !longrope)
    return bad_input("{}: the rope scaling {} is not supported (supported: default, {})", what, json_brief(r.values), kTypes);
  const bool from_contexts = r.type == "yarn" && r.values.contains("factor");  // null there
  if (!r.factor && !longrope && !from_contexts) return bad_input("{}: '{}' is of type {}, but has no 'factor'", what, r.place, r.type);
  if (r.factor && !(*r.factor > 0)) return bad_input("{}: 'factor' of '{}' is {}, expected a number above zero", what, r.place, *r.factor);
  if (r.type == "linear" || r.type == "dynamic") return r;
  INGOT_ASSIGN(r.original_context, original_context(config, r, what));
  INGOT_ASSIGN(const auto context, read_config_number(config, "max_position_embeddings", what));
  if (!r.original_context && r.type != "llama3") r.original_context = context;  // what transformers takes; of llama3, others take 8192
  if (!r.original_context || !(*r.original_context >= 1) || *r.original_context > 4e9)
    return bad_input("{}: {} rope scaling needs 'original_max_position_embeddings', the context before it was lengthened{}", what, r.type,
                     r.original_context ? fmt::format(", not {}", *r.original_context) : "");
  if (!r.factor && from_contexts) r.factor = context.value_or(*r.original_context) / *r.original_context;
  if (r.type == "yarn") INGOT_TRY(read_yarn(&r, what));
  if (longrope) INGOT_TRY(read_longrope(&r, context, what));
  return r;
}

}  // namespace ingot
