// adapter_config.json of PEFT's LoRA: what it says about how the weights are merged. A field that changes the merge and
// is not supported is refused by its name; what PEFT 0.21 does not know it passes over, and so does this, which tells.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "transform/pattern.h"

namespace ingot::transform {

// A module by the name that the base has for it, and by the one that it had where the adapter was trained (within a wrapper, without "model."): the
// configuration speaks of the latter.
struct ModuleName {
  std::string base, trained;
};

// target_modules, exclude_modules: a list of name ends, or one expression for the whole name.
struct ModuleSelector {
  std::vector<std::string> names;
  std::optional<Pattern> pattern;
  bool all_linear = false;  // "all-linear": whatever the file holds
  bool absent = false;      // PEFT's own choice for the model
  bool empty() const { return names.empty() && !pattern && !all_linear; }
  Result<bool> matches(const ModuleName& module) const;
  // Named in full, not by its end.
  bool names_whole(const ModuleName& module) const;
};

struct LoraConfig {
  int64_t r = 8;
  double alpha = 8;
  bool rslora = false;
  bool fan_in_fan_out = false;
  bool lora_bias = false;
  // ensure_weight_tying, as far as PEFT heeds it: by the names that it knows for embeddings and heads among the targets, and in modules_to_save.
  bool ties_factors = false, ties_saved = false;
  std::string bias = "none";
  std::vector<std::pair<Pattern, int64_t>> rank_pattern;  // in the file's order: the first that matches holds
  std::vector<std::pair<Pattern, double>> alpha_pattern;
  ModuleSelector targets, excluded;
  std::vector<std::string> modules_to_save;
  // trainable_token_indices: rows by the name end of a module; the name is empty for the input embedding.
  std::vector<std::pair<std::string, std::vector<int64_t>>> token_indices;
  std::string task_type;
  bool random_factors = false;           // init_lora_weights: without factors in the file PEFT's change the model at random
  std::vector<std::string> passed_over;  // fields that are set and that PEFT does not know either
  std::optional<std::vector<int64_t>> layers;  // layers_to_transform
  std::vector<Pattern> layer_patterns;         // layers_pattern, with the layer's number as group 1

  struct Scaling {
    int64_t rank;
    double alpha;
    double scale;  // alpha / r, or alpha / sqrt(r)
  };
  Result<Scaling> scaling(const ModuleName& module) const;
  // Whether PEFT would put an adapter on this module.
  Result<bool> is_target(const ModuleName& module) const;
  // Whether the module, or one that it lies in, is replaced as a whole: PEFT compares ends of names without regard for dots.
  bool is_saved(const ModuleName& module) const;
  // The rows of it that were trained; null for none.
  const std::vector<int64_t>* rows_of(const ModuleName& module, bool embedding) const;
};

// target_modules of a configuration that has none, by the model's model_type. Errors: kBadInput where PEFT knows no default.
Status set_default_targets(const std::string& model_type, const std::string& path, LoraConfig* config);

// `path` names the file in messages.
Result<LoraConfig> parse_lora_config(const std::string& json, const std::string& path);

}  // namespace ingot::transform
