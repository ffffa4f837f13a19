#include "model/name_map.h"

#include <algorithm>
#include <initializer_list>

#include "model/architecture.h"
#include "model/embedded.h"
#include "model/known_keys.h"

namespace ingot {
namespace {

Result<std::vector<std::string>> texts(const Json& j, const char* key, const std::string& what) {
  std::vector<std::string> out;
  const Json* m = json_member(j, key);
  if (!m) return out;
  if (m->is_string()) return std::vector<std::string>{m->get<std::string>()};
  for (const Json& e : *m) {
    if (!m->is_array() || !e.is_string()) return bad_input("{}: '{}': expected texts, found {}", what, key, json_brief(*m));
    out.push_back(e.get<std::string>());
  }
  return out;
}

Result<NameConditions> conditions(const Json& j, const char* key, const std::string& what) {
  NameConditions out;
  const Json* m = json_member(j, key);
  if (m && !m->is_object()) return bad_input("{}: '{}': expected an object, found {}", what, key, json_brief(*m));
  if (m)
    for (const auto& [name, values] : m->items()) {
      if (values != "*" && !values.is_array()) return bad_input("{}: '{}': expected a list of values or \"*\", found {}", what, name, json_brief(values));
      out[name] = values.is_array() ? values.get<std::vector<Json>>() : std::vector<Json>();
    }
  return out;
}

std::string text(const Json& j, const char* key) { return json_string(j, key).value_or(""); }
bool flag(const Json& j, const char* key) { return json_bool(j, key).value_or(false); }

Result<NameRule> name_rule(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"from", "hf", "groups", "padded"}, what));
  NameRule r;
  INGOT_ASSIGN(r.from, texts(j, "from", what));
  INGOT_ASSIGN(r.hf, texts(j, "hf", what));
  r.groups = text(j, "groups"), r.padded = flag(j, "padded");
  if (r.from.empty() || r.hf.empty() || (r.padded && r.hf.size() > 1)) return bad_input("{}: a tensor needs 'from' and 'hf', of which one that is padded has one", what);
  const bool layer = r.hf[0].find("{i}") != std::string::npos, expert = r.hf[0].find("{e}") != std::string::npos;
  for (const auto* side : {&r.from, &r.hf})
    for (const std::string& t : *side)
      if ((t.find("{i}") != std::string::npos) != layer || (t.find("{e}") != std::string::npos && !expert)) return bad_input("{}: {}: not of the layers or experts of {}", what, t, r.hf[0]);
  return r;
}

Result<NamedConfig> named_config(const Json& j, const std::string& what) {
  INGOT_TRY(known_keys(j, {"key", "also", "from", "rows_of", "value", "when", "classes", "optional", "unchecked"}, what));
  NamedConfig c;
  c.key = text(j, "key"), c.also = text(j, "also"), c.rows_of = text(j, "rows_of"), c.optional = flag(j, "optional"), c.unchecked = flag(j, "unchecked");
  INGOT_ASSIGN(c.from, texts(j, "from", what));
  INGOT_ASSIGN(c.when, conditions(j, "when", what));
  INGOT_ASSIGN(c.classes, texts(j, "classes", what));
  if (const Json* v = json_member(j, "value")) c.value = *v;
  if (c.key.empty() || (c.from.empty() && c.value.is_null())) return bad_input("{}: needs a 'key', and 'from' or a 'value'", what);
  return c;
}

}  // namespace

Result<NameMap> parse_name_map(std::string_view json, const std::string& what) {
  INGOT_ASSIGN(const Json j, parse_strict_json(json, what));
  INGOT_TRY(known_keys(j, {"name", "about", "prefixes", "leave_out", "classes", "tensors", "values", "require", "config"}, what));
  NameMap m;
  m.name = text(j, "name"), m.about = text(j, "about"), m.values = text(j, "values");
  INGOT_ASSIGN(m.prefixes, texts(j, "prefixes", what));
  INGOT_ASSIGN(m.leave_out, texts(j, "leave_out", what));
  INGOT_ASSIGN(m.require, conditions(j, "require", what));
  for (const Json& c : j.value("classes", Json::array())) {
    INGOT_TRY(known_keys(c, {"name", "when"}, what + ": classes"));
    INGOT_ASSIGN(NameConditions when, conditions(c, "when", what + ": classes"));
    m.classes.push_back({text(c, "name"), std::move(when)});
    if (!architecture_of_class(m.classes.back().name)) return bad_input("{}: classes: '{}' is none of data/architectures/", what, m.classes.back().name);
  }
  for (const Json& t : j.value("tensors", Json::array())) {
    INGOT_ASSIGN(NameRule rule, name_rule(t, what + ": tensors"));
    m.tensors.push_back(std::move(rule));
  }
  for (const Json& c : j.value("config", Json::array())) {
    INGOT_ASSIGN(NamedConfig rule, named_config(c, what + ": config"));
    m.config.push_back(std::move(rule));
  }
  if (m.name.empty() || m.classes.empty() || m.tensors.empty()) return bad_input("{}: there is no 'name', 'classes' or 'tensors'", what);
  return m;
}

Result<const std::vector<NameMap>*> name_maps() {
  static const Result<std::vector<NameMap>> all = []() -> Result<std::vector<NameMap>> {
    std::vector<NameMap> v;
    for (int i = 0; i < kNameMapFileCount; ++i) {
      INGOT_ASSIGN(NameMap m, parse_name_map(kNameMapFiles[i].text, fmt::format("data/names/{}.json", kNameMapFiles[i].name)));
      v.push_back(std::move(m));
    }
    return v;
  }();
  if (!all.ok()) return all.error();
  return &all.value();
}

}  // namespace ingot
