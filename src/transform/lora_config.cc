#include "transform/lora_config.h"

#include <algorithm>
#include <cmath>

#include "formats/json.h"

namespace ingot::transform {
namespace {

constexpr int64_t kMaxRank = 1 << 20;

// How each field of PEFT 0.21's LoraConfig is treated.
enum class Field {
  kUsed,     // read below
  kIgnored,  // does not change the merged weights
  kRefused,  // changes them, not supported: an error when set
};
struct FieldRule {
  const char* name;
  Field field;
  const char* why;  // for kRefused
};
constexpr FieldRule kFields[] = {
    {"peft_type", Field::kUsed, ""},
    {"r", Field::kUsed, ""},
    {"lora_alpha", Field::kUsed, ""},
    {"target_modules", Field::kUsed, ""},
    {"exclude_modules", Field::kUsed, ""},
    {"fan_in_fan_out", Field::kUsed, ""},
    {"bias", Field::kUsed, ""},
    {"use_rslora", Field::kUsed, ""},
    {"modules_to_save", Field::kUsed, ""},
    {"init_lora_weights", Field::kUsed, ""},
    {"layers_to_transform", Field::kUsed, ""},
    {"layers_pattern", Field::kUsed, ""},
    {"rank_pattern", Field::kUsed, ""},
    {"alpha_pattern", Field::kUsed, ""},
    {"lora_bias", Field::kUsed, ""},
    {"ensure_weight_tying", Field::kUsed, ""},
    {"trainable_token_indices", Field::kUsed, ""},
    {"task_type", Field::kUsed, ""},
    {"auto_mapping", Field::kIgnored, ""},
    {"base_model_name_or_path", Field::kIgnored, ""},
    {"base_model_class", Field::kIgnored, ""},
    {"parent_library", Field::kIgnored, ""},
    {"inference_mode", Field::kIgnored, ""},
    {"lora_dropout", Field::kIgnored, ""},
    {"megatron_core", Field::kIgnored, ""},
    {"peft_version", Field::kIgnored, ""},
    {"revision", Field::kIgnored, ""},
    {"runtime_config", Field::kIgnored, ""},
    {"qalora_group_size", Field::kIgnored, ""},  // only read with use_qalora
    {"eva_config", Field::kIgnored, ""},         // EVA initialises A and leaves the base as it is
    {"loftq_config", Field::kIgnored, ""},       // init_lora_weights tells whether it was used
    {"corda_config", Field::kIgnored, ""},
    {"lora_ga_config", Field::kIgnored, ""},
    {"use_dora", Field::kRefused, "DoRA scales the merged rows by trained magnitudes"},
    {"use_qalora", Field::kRefused, "QALoRA pools the inputs in groups"},
    {"use_bdlora", Field::kRefused, "block-diagonal factors are laid out differently"},
    {"target_parameters", Field::kRefused, "adapters on bare parameters (expert stacks) are laid out differently"},
    {"layer_replication", Field::kRefused, "the adapter belongs to a model with repeated layers"},
    {"alora_invocation_tokens", Field::kRefused, "an activated LoRA acts on some tokens only and cannot be merged"},
    {"megatron_config", Field::kRefused, "Megatron's parallel layers split the factors"},
    {"arrow_config", Field::kRefused, "Arrow routes between adapters at run time and cannot be merged"},
    {"kasa_config", Field::kRefused, "KaSA has singular values of its own"},
    {"monteclora_config", Field::kRefused, "MonteCLoRA has sampled factors of its own"},
    {"velora_config", Field::kRefused, "VeLoRA is not supported"},
};

bool is_unset(const Json& j) {
  if (j.is_null() || (j.is_boolean() && !j.get<bool>())) return true;
  if (j.is_number()) return j.get<double>() == 0;
  return (j.is_string() || j.is_array() || j.is_object()) && j.empty();
}

struct Reader {
  const Json& j;
  const std::string& path;

  Error wrong(const char* key, const char* expected) const {
    return bad_input("reading {}: '{}' is {}, expected {}", path, key, json_brief(*json_member(j, key)), expected);
  }
  Status boolean(const char* key, bool* out) const {
    const Json* m = json_member(j, key);
    if (!m) return {};
    if (!m->is_boolean()) return wrong(key, "true or false");
    *out = m->get<bool>();
    return {};
  }
  Status strings(const char* key, std::vector<std::string>* out) const {
    const Json* m = json_member(j, key);
    if (!m) return {};
    if (!m->is_array()) return wrong(key, "a list of texts");
    for (const auto& e : *m) {
      const auto* s = e.get_ptr<const std::string*>();
      if (!s || s->empty()) return wrong(key, "a list of texts");
      out->push_back(*s);
    }
    return {};
  }
  Status selector(const char* key, ModuleSelector* out) const {
    const Json* m = json_member(j, key);
    out->absent = !m;
    if (!m || !m->is_string()) return strings(key, &out->names);
    const std::string s = *m->get_ptr<const std::string*>();
    if (s == "all-linear") {
      out->all_linear = true;
      return {};
    }
    INGOT_ASSIGN(out->pattern, Pattern::compile(s, fmt::format("{}: {}", path, key)));
    return {};
  }
};

Status check_fields(const Json& j, const std::string& path, std::vector<std::string>* passed_over) {
  for (auto it = j.begin(); it != j.end(); ++it) {
    const FieldRule* rule = nullptr;
    for (const auto& f : kFields)
      if (it.key() == f.name) rule = &f;
    if (rule && rule->field != Field::kRefused) continue;
    if (is_unset(it.value())) continue;
    if (rule)
      return bad_input("reading {}: '{}' is set ({}), which is not supported: {}", path, rule->name,
                       json_brief(it.value()), rule->why);
    passed_over->push_back(fmt::format("'{}'", it.key().substr(0, 100)));
  }
  return {};
}

Status check_init(const Json& j, const std::string& path) {
  const Json* m = json_member(j, "init_lora_weights");
  if (!m || m->is_boolean()) return {};
  const auto* s = m->get_ptr<const std::string*>();
  for (const char* fine : {"gaussian", "eva", "orthogonal", "mica"})
    if (s && *s == fine) return {};
  return bad_input(
      "reading {}: 'init_lora_weights' is {}: PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA train against a changed base, so "
      "that merging into the original one would be wrong; convert the adapter with PEFT's "
      "path_initial_model_for_weight_conversion first",
      path, json_brief(*m));
}

// PEFT: re.match(rf"(.*\.)?({key})$", module).
Result<Pattern> name_pattern(const std::string& key, const std::string& what) {
  return Pattern::compile("(.*\\.)?(" + key + ")$", what);
}

Status read_patterns(const std::string& text, const std::string& path, LoraConfig* c) {
  INGOT_ASSIGN(OrderedJson j, parse_json_ordered(text, "reading " + path));
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    auto m = j.find(key);
    if (m == j.end()) continue;
    if (!m->is_object()) return bad_input("reading {}: '{}' is no object of module names and numbers", path, key);
    for (auto it = m->begin(); it != m->end(); ++it) {
      const bool rank = key == std::string_view("rank_pattern");
      const double v = finite_number(it.value()).value_or(NAN);
      if (!std::isfinite(v) || (rank && (v < 1 || v > kMaxRank || v != std::floor(v))))
        return bad_input("reading {}: '{}' of '{}' is {}, expected {}", path, key, it.key(),
                         json_brief(Json(it.value())), rank ? "a rank from 1" : "a finite number");
      INGOT_ASSIGN(auto p, name_pattern(it.key(), fmt::format("{}: {}", path, key)));
      if (rank) c->rank_pattern.emplace_back(std::move(p), static_cast<int64_t>(v));
      else c->alpha_pattern.emplace_back(std::move(p), v);
    }
  }
  return {};
}

Status read_layers(const Json& j, const std::string& path, LoraConfig* c) {
  const Json* m = json_member(j, "layers_to_transform");
  if (m) {
    std::vector<int64_t> v;
    const Json list = m->is_array() ? *m : Json::array({*m});
    for (const auto& e : list) {
      if (!e.is_number_integer() || e.is_number_unsigned())  // unsigned: beyond what is signed
        return bad_input("reading {}: 'layers_to_transform' is {}, expected whole numbers", path, json_brief(*m));
      v.push_back(e.get<int64_t>());
    }
    if (!v.empty()) c->layers = std::move(v);
  }
  std::vector<std::string> names;
  const Json* p = json_member(j, "layers_pattern");
  if (p && p->is_string()) names.push_back(*p->get_ptr<const std::string*>());
  else INGOT_TRY((Reader{j, path}.strings("layers_pattern", &names)));
  std::erase(names, "");
  if (names.empty()) names.push_back("[^.]*");  // any name before the first number
  if (!c->layers) return {};
  for (int64_t layer : *c->layers)
    for (const auto& n : names) {
      // The first numbered part is the layer's: nothing before it may be one.
      INGOT_ASSIGN(auto pattern, Pattern::compile(fmt::format("((?!\\d+\\.)[^.]*\\.)*?{}\\.{}\\.", n, layer),
                                                  fmt::format("{}: layers_pattern", path)));
      c->layer_patterns.push_back(std::move(pattern));
    }
  return {};
}

// A list, for the input embedding, or lists by module.
Status read_token_indices(const Json& j, const std::string& path, LoraConfig* c) {
  const Json* m = json_member(j, "trainable_token_indices");
  if (!m || is_unset(*m)) return {};
  const auto read = [&](const std::string& name, const Json& list) -> Status {
    std::vector<int64_t> rows;
    if (!list.is_array()) return Reader{j, path}.wrong("trainable_token_indices", "a list of token ids, or lists by the name of a module");
    for (const auto& e : list) {
      if (!e.is_number_integer() || e.get<int64_t>() < 0)
        return Reader{j, path}.wrong("trainable_token_indices", "a list of token ids, or lists by the name of a module");
      rows.push_back(e.get<int64_t>());
    }
    c->token_indices.emplace_back(name, std::move(rows));
    return {};
  };
  if (!m->is_object()) return read("", *m);
  for (const auto& [name, list] : m->items()) INGOT_TRY(read(name, list));
  return {};
}

Status read_tying(LoraConfig* c) {
  for (const std::string name : {"embed_tokens", "lm_head"}) {
    const auto names_it = [&](const std::string& n) { return n.substr(n.rfind('.') + 1) == name; };
    c->ties_saved |= std::any_of(c->modules_to_save.begin(), c->modules_to_save.end(), names_it);
    c->ties_factors |= std::any_of(c->targets.names.begin(), c->targets.names.end(), names_it);
    if (!c->targets.pattern) continue;
    INGOT_ASSIGN(const bool matches, c->targets.pattern->full_match(name));
    c->ties_factors |= matches;
  }
  return {};
}

bool is_or_ends_with(const std::string& module, const std::string& name) {
  if (module == name) return true;
  return module.size() > name.size() && module.ends_with(name) && module[module.size() - name.size() - 1] == '.';
}

template <class F>
Result<bool> either(const ModuleName& module, F matches) {
  INGOT_ASSIGN(const bool trained, matches(module.trained));
  if (trained || module.trained == module.base) return trained;
  return matches(module.base);
}

// TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING of PEFT, as far as it is of models for the next token.
struct DefaultTargets {
  const char* model_types;  // with a space around each
  std::vector<std::string> names;
};
const DefaultTargets kDefaultTargets[] = {
    {" llama llama4 mistral mixtral stablelm gemma gemma2 gemma3_text qwen2 qwen3 opt gptj gpt_neo ", {"q_proj", "v_proj"}},
    {" bloom gpt_neox chatglm RefinedWebModel RefinedWeb falcon ", {"query_key_value"}},
    {" gpt2 gpt_bigcode ", {"c_attn"}},
    {" phi ", {"q_proj", "v_proj", "fc1", "fc2"}},
    {" mpt ", {"Wqkv"}},
    {" codegen ", {"qkv_proj"}},
    {" nemotron_h ", {"q_proj", "k_proj", "v_proj", "o_proj"}},
};

}  // namespace

Status set_default_targets(const std::string& model_type, const std::string& path, LoraConfig* config) {
  for (const auto& [types, names] : kDefaultTargets)
    if (std::string_view(types).find(" " + model_type + " ") != std::string_view::npos) {
      config->targets.names = names;
      return {};
    }
  return bad_input("reading {}: 'target_modules' is missing or null, and for the model_type '{}' PEFT has no default; name the modules there", path,
                   model_type.substr(0, 60));
}

Result<bool> ModuleSelector::matches(const ModuleName& module) const {
  if (pattern) return either(module, [&](const std::string& m) { return pattern->full_match(m); });
  return std::any_of(names.begin(), names.end(), [&](const auto& n) { return is_or_ends_with(module.base, n) || is_or_ends_with(module.trained, n); });
}

bool ModuleSelector::names_whole(const ModuleName& module) const {
  return std::any_of(names.begin(), names.end(), [&](const auto& n) { return n == module.base || n == module.trained; });
}

Result<LoraConfig::Scaling> LoraConfig::scaling(const ModuleName& module) const {
  Scaling s{r, alpha, 0};
  for (const auto& [pattern, rank] : rank_pattern) {
    INGOT_ASSIGN(bool hit, either(module, [&, p = &pattern](const std::string& m) { return p->match(m); }));
    if (hit) {
      s.rank = rank;
      break;
    }
  }
  for (const auto& [pattern, a] : alpha_pattern) {
    INGOT_ASSIGN(bool hit, either(module, [&, p = &pattern](const std::string& m) { return p->match(m); }));
    if (hit) {
      s.alpha = a;
      break;
    }
  }
  const auto rank = static_cast<double>(s.rank);
  s.scale = s.alpha / (rslora ? std::sqrt(rank) : rank);
  return s;
}

bool LoraConfig::is_saved(const ModuleName& module) const {
  for (std::string_view part : {std::string_view(module.trained), std::string_view(module.base)})
    for (;;) {
      if (std::any_of(modules_to_save.begin(), modules_to_save.end(), [&](const auto& m) { return part.ends_with(m); })) return true;
      const size_t end = part.rfind('.');
      if (end == std::string_view::npos) break;
      part = part.substr(0, end);
    }
  return false;
}

const std::vector<int64_t>* LoraConfig::rows_of(const ModuleName& module, bool embedding) const {
  for (const auto& [end, rows] : token_indices)
    if (end.empty() ? embedding : module.trained.ends_with(end) || module.base.ends_with(end)) return &rows;
  return nullptr;
}

Result<bool> LoraConfig::is_target(const ModuleName& module) const {
  INGOT_ASSIGN(bool out, excluded.matches(module));
  if (out || is_saved(module)) return false;
  if (targets.all_linear) return true;
  INGOT_ASSIGN(bool in, targets.matches(module));
  if (!in || targets.pattern || !layers || targets.names_whole(module)) return in;
  for (const auto& p : layer_patterns) {
    INGOT_ASSIGN(bool hit, either(module, [&](const std::string& m) { return p.match(m); }));
    if (hit) return true;
  }
  return false;
}

Result<LoraConfig> parse_lora_config(const std::string& text, const std::string& path) {
  INGOT_ASSIGN(Json j, parse_json(text, "reading " + path));
  if (!j.is_object()) return bad_input("reading {}: it is no JSON object", path);
  const Reader in{j, path};
  const std::string type = json_string(j, "peft_type").value_or("");
  if (type.empty() && (j.contains("fine_tune_type") || j.contains("lora_parameters")))
    return bad_input("reading {}: it is the configuration of an adapter of MLX (fine_tune_type, lora_parameters), which is not supported; fuse it into its base "
                     "with mlx_lm.fuse, or save it with PEFT's names", path);
  if (type != "LORA")
    return bad_input("reading {}: 'peft_type' is '{}'; only LORA adapters can be merged yet", path, type.substr(0, 60));
  LoraConfig c;
  INGOT_TRY(check_fields(j, path, &c.passed_over));
  INGOT_TRY(check_init(j, path));
  c.random_factors = !json_bool(j, "init_lora_weights").value_or(true);
  // PEFT has a default for a key that is missing, none for a null.
  for (const auto& [key, expected] : {std::pair{"r", "a rank from 1"}, {"lora_alpha", "a number"}, {"bias", "none, all or lora_only"}})
    if (auto it = j.find(key); it != j.end() && it->is_null())
      return bad_input("reading {}: '{}' is null, expected {}; write the value that the adapter was trained with", path, key, expected);
  if (const Json* m = json_member(j, "r")) {
    const auto r = json_int(j, "r");
    if (!r || *r < 1 || *r > kMaxRank)
      return bad_input("reading {}: the rank 'r' is {}, expected a whole number from 1", path, json_brief(*m));
    c.r = *r;
  }
  if (const Json* m = json_member(j, "lora_alpha")) {
    const auto alpha = finite_number(*m);
    if (!alpha) return in.wrong("lora_alpha", "a finite number");
    c.alpha = *alpha;
  }
  INGOT_TRY(in.boolean("use_rslora", &c.rslora));
  INGOT_TRY(in.boolean("fan_in_fan_out", &c.fan_in_fan_out));
  INGOT_TRY(in.boolean("lora_bias", &c.lora_bias));
  bool ensure_weight_tying = false;
  INGOT_TRY(in.boolean("ensure_weight_tying", &ensure_weight_tying));
  if (const Json* m = json_member(j, "bias")) {
    c.bias = json_string(j, "bias").value_or("");
    if (c.bias != "none" && c.bias != "all" && c.bias != "lora_only")
      return bad_input("reading {}: 'bias' is {}, expected none, all or lora_only", path, json_brief(*m));
  }
  INGOT_TRY(in.selector("target_modules", &c.targets));
  INGOT_TRY(in.selector("exclude_modules", &c.excluded));
  INGOT_TRY(in.strings("modules_to_save", &c.modules_to_save));
  INGOT_TRY(read_token_indices(j, path, &c));
  if (ensure_weight_tying) INGOT_TRY(read_tying(&c));
  c.task_type = json_string(j, "task_type").value_or("");
  if (c.targets.empty() && !c.targets.absent && c.modules_to_save.empty() && c.token_indices.empty())
    return bad_input("reading {}: 'target_modules' is empty, and nothing else is named that would be trained", path);
  INGOT_TRY(read_patterns(text, path, &c));
  INGOT_TRY(read_layers(j, path, &c));
  return c;
}

}  // namespace ingot::transform
