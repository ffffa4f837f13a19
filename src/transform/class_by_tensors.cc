#include "transform/class_by_tensors.h"

#include <algorithm>
#include <set>

#include "formats/hf_weights.h"
#include "model/model_config.h"
#include "transform/class_rules.h"

namespace ingot::transform {
namespace {

// Of any configuration: what training, generation, the tokenizer and the library do, not the layers. The rope_ keys are judged where they are read.
constexpr std::string_view kHarmless[] = {
    "architectures", "model_type", "auto_map", "transformers_version", "torch_dtype", "dtype", "name_or_path", "quantization_config", "initializer_range", "initializer_std", "use_cache",
    "tie_word_embeddings", "rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings", "original_max_position_embeddings", "model_max_length", "max_length",
    "seq_length", "gradient_checkpointing", "output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "return_dict_in_generate", "use_return_dict", "torchscript",
    "use_bfloat16", "tf_legacy_loss", "is_decoder", "tokenizer_class", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params", "do_sample",
    "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "num_beams", "num_beam_groups", "num_return_sequences", "early_stopping", "cache_implementation",
    "unsloth_version", "unsloth_fixed", "use_flash_attn", "use_flash_attention_2", "attn_implementation", "fused_lm_head_loss", "pretraining_tp", "router_aux_loss_coef", "is_llama_config"};

// Of transformers 5, those whose tensors and keys are a known class's, and what they compute in another way.
constexpr std::pair<std::string_view, std::string_view> kOtherwise[] = {
    {"GemmaForCausalLM", "its norms multiply by one more than their weights, its embeddings by the root of the width"},
    {"Ernie4_5ForCausalLM", "it rotates neighbouring elements of a head instead of its halves"},
    {"HeliumForCausalLM", "it rotates neighbouring elements of a head instead of its halves"},
    {"Ministral3ForCausalLM", "it scales queries by their position"}};

// Flags of what the known classes do, whether they read them or not.
constexpr std::string_view kDone[] = {"norm_topk_prob", "is_causal", "use_causal_mask", "use_rope", "pre_norm"};

bool is_harmless(const std::string& key, const Json& value) {
  if (key.starts_with('_') || key.ends_with("_token_id") || key.find("dropout") != std::string::npos || key.ends_with("_pdrop")) return true;
  if (std::find(std::begin(kDone), std::end(kDone), key) != std::end(kDone)) return value.is_null() || value == true;
  // What it is where it does nothing: absent, off, a factor of one.
  if (value.is_null() || value == false || value == 0 || value == 1 || value == "" || ((value.is_object() || value.is_array()) && value.empty())) return true;
  if (key == "layer_types" && value.is_array())
    return std::all_of(value.begin(), value.end(), [](const Json& v) { return v == "full_attention"; });
  return std::find(std::begin(kHarmless), std::end(kHarmless), key) != std::end(kHarmless);
}

std::set<std::string> keys_read_by(const Architecture& a) {
  std::set<std::string> keys;
  const auto add = [&](const std::vector<std::string>& paths) {
    for (const auto& path : paths)
      for (const auto& key : path_keys(path)) keys.insert(key.substr(0, key.find('.')));
  };
  for (const auto& [param, paths] : a.params) add(paths);
  for (const auto& rule : a.metadata) add(rule.from);
  for (const auto& [key, rule] : a.require) keys.insert(key);
  for (const auto& [key, value] : a.defaults.items()) keys.insert(key);
  for (const auto& rule : a.tensors) keys.insert(rule.announced);
  if (a.window) keys.insert({a.window->key, a.window->enabled_by, a.window->below, "layer_types"});
  return keys;
}

// Why it is not of that architecture; the later the check, the nearer it is.
struct Misfit {
  enum Stage { kTensors, kNumbers, kKeys, kNone } stage = kNone;
  std::string text;
};

// A flag that says of tensors whether they are there, and what is there, agree.
bool agrees(const TensorRule& rule, const Json& config, const std::set<const TensorRule*>& seen) {
  const Json* flag = json_member(config, rule.announced);
  return (flag ? *flag == true : rule.assumed) == (seen.count(&rule) > 0);
}

bool windows_are_off(const Json& config) { return !json_bool(config, "use_sliding_window").value_or(true); }

// Whether the class gives layers a window where config.json speaks of one that cuts something, with the key that it names, and nowhere else.
Result<bool> windows_agree(const Architecture& a, const Json& config, int64_t layers, const std::string& what) {
  if (!a.window) return true;
  INGOT_ASSIGN(const Windows made, attention_windows(a, config, layers, what));
  const auto window = config_number(config, a.window->key), context = config_number(config, "max_position_embeddings");
  const Json* types = json_member(config, "layer_types");
  const bool of_layers = types && std::find(types->begin(), types->end(), "sliding_attention") != types->end();
  const bool cuts = !window || !context || *window < *context;
  const bool said = cuts && (of_layers || (window && !windows_are_off(config)));
  return said == made.window.has_value() && (!said || window);
}

Misfit misfit(const Architecture& a, const Artifact& hf, const Json& config, const std::string& what) {
  std::set<const TensorRule*> seen;
  for (const auto& t : hf.tensors) {
    const auto m = map_to_gguf(a, t.name);
    if (!m && !is_dropped(a, t.name)) return {Misfit::kTensors, fmt::format("'{}' is no tensor of it", t.name.substr(0, 100))};
    if (m) seen.insert(m->rule);
  }
  for (const auto& rule : a.tensors) {
    const bool missing = !rule.optional && rule.role != "output" && !seen.count(&rule) &&
                         std::none_of(a.tensors.begin(), a.tensors.end(), [&](const TensorRule& r) { return r.alternative && seen.count(&r); });
    if (missing || (!rule.announced.empty() && !agrees(rule, config, seen)))
      return {Misfit::kTensors, seen.count(&rule) ? fmt::format("'{}' is there, which config.json does not say", expand(rule.hf[0], 0, 0))
                                                  : fmt::format("'{}' is missing", expand(rule.hf[0], 0, 0))};
  }
  const TensorRule* head = a.by_role("output");
  if (head && !seen.count(head) && !json_bool(config, "tie_word_embeddings").value_or(false))
    return {Misfit::kTensors, fmt::format("'{}' is missing, and config.json does not say 'tie_word_embeddings': true", head->hf[0])};
  const Json whole = with_defaults(a, config);
  const auto params = config_params(a, whole, what);
  if (!params.ok()) return {Misfit::kNumbers, params.error().message};
  for (const auto& t : hf.tensors) {
    const auto m = map_to_gguf(a, t.name);
    if (!m) continue;
    const auto shape = shape_of(m->rule->hf_shape(m->part), *params, t.name);
    if (!shape.ok()) return {Misfit::kNumbers, shape.error().message};
    if (!(*shape == t.spec().shape)) return {Misfit::kNumbers, fmt::format("'{}' is {}, and would be {}", t.name, to_string(t.spec().shape), to_string(*shape))};
  }
  auto read = keys_read_by(a);
  if (std::any_of(seen.begin(), seen.end(), [](const TensorRule* r) { return r->hf[0].ends_with(".q_proj.bias"); })) read.insert("attention_bias");
  if (windows_are_off(config)) read.insert("sliding_window");
  std::vector<std::string> keys;
  for (const auto& [key, value] : config.items())
    if (!read.count(key) && !is_harmless(key, value)) keys.push_back(fmt::format("'{}' ({})", key.substr(0, 60), json_brief(value)));
  const auto other = [&](const std::string& why, const char* it) {
    return Misfit{Misfit::kKeys, fmt::format("{}. If the model computes as {} does in spite of {}, set 'architectures' to [\"{}\"] and 'model_type' to \"{}\"", why, a.classes[0], it,
                                             a.classes[0], a.model_types[0])};
  };
  if (!keys.empty()) return other(fmt::format("config.json has {}, which that class does not read", some_of(keys)), keys.size() == 1 ? "it" : "them");
  const auto agree = windows_agree(a, whole, params->at("layers"), what);
  if (!agree.ok()) return {Misfit::kNumbers, agree.error().message};
  if (!*agree) return other(fmt::format("config.json ('{}', 'use_sliding_window', 'layer_types') and that class do not agree on which layers have a window", a.window->key), "it");
  return {};
}

}  // namespace

Result<const Architecture*> architecture_or_like(const Artifact& hf, const Json& config, const std::string& path, const std::function<void(const std::string&)>& on_notice) {
  const std::string what = "reading " + path;
  auto known = find_architecture(config, what);
  const std::string name = class_of(config);
  // Another task's head, or none, is another model.
  if (known.ok() || json_member(config, "text_config") || !name.ends_with("ForCausalLM")) return known;
  for (const auto& [other, how] : kOtherwise)
    if (name == other) return unknown_architecture(config, what, fmt::format("; its tensors have the names of a known class's, but {}", how));
  INGOT_ASSIGN(const auto* all, architectures());
  const Architecture* nearest = nullptr;
  Misfit least{Misfit::kTensors, ""};
  for (const Architecture& a : *all) {
    if (!a.by_tensors) continue;
    Misfit m = misfit(a, hf, config, what);
    if (m.stage == Misfit::kNone) {
      if (on_notice) {
        on_notice(fmt::format("{}: the class {} is unknown; names and shapes of its tensors are those of {}, and it is taken as that. If it computes in another way "
                              "(another activation, norm, scale or mask), the result is wrong: compare what it generates with the original's (ingot run)", path, name, a.classes[0]));
        tell_defaults(missing_defaults(a, config), path, on_notice);
      }
      return &a;
    }
    if (!nearest || m.stage > least.stage) nearest = &a, least = std::move(m);
  }
  return nearest ? unknown_architecture(config, what, fmt::format("; tried by its tensors as {}, {}", nearest->classes[0], least.text)) : known.error();
}

}  // namespace ingot::transform
