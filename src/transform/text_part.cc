#include "transform/text_part.h"

#include <algorithm>

#include "formats/json.h"
#include "model/model_config.h"
#include "storage/store.h"
#include "transform/class_rules.h"

namespace ingot::transform {
namespace {

constexpr std::pair<std::string_view, std::string_view> kPrefixes[] = {{"model.language_model.", "model."}, {"language_model.", ""}, {"model.text_model.", "model."}};

// The name that the text part has alone; nothing for the other parts'.
std::optional<std::string> text_name(const std::string& name) {
  for (const auto& [prefix, instead] : kPrefixes)
    if (name.starts_with(prefix)) return std::string(instead) + name.substr(prefix.size());
  return name == "lm_head.weight" ? std::optional(name) : std::nullopt;
}

}  // namespace

Result<Artifact> text_part(Artifact model, const std::function<void(const std::string&)>& on_notice) {
  const auto text = model.files.find("config.json");
  if (model.naming != "hf" || text == model.files.end()) return model;
  const std::string what = "reading " + join_path(model.path, "config.json");
  const auto config = parse_json(text->second, what);
  const Json* own = config.ok() ? json_member(*config, "text_config") : nullptr;
  if (!own || !own->is_object()) return model;
  INGOT_ASSIGN(const Architecture* arch, find_architecture(*config, what));
  TensorList tensors;
  for (const auto& t : model.tensors)
    if (auto name = text_name(t.name)) tensors.push_back({*std::move(name), t.node});
  // Its weights may have been saved alone.
  if (tensors.size() <= 1) tensors = model.tensors;
  const auto named = [&](const LazyTensor& t) { return map_to_gguf(*arch, t.name).has_value(); };
  if (std::none_of(tensors.begin(), tensors.end(), named)) {
    std::vector<std::string> prefixes;
    for (const auto& [prefix, instead] : kPrefixes) prefixes.push_back(fmt::format("'{}'", prefix));
    return bad_input("converting {}: of the text part of {} no tensor is found: their names were looked for behind {}, and as those of {} alone. Load the model with "
                     "transformers, and save its language model by itself", model.path, class_of(*config), fmt::join(prefixes, ", "), arch->classes[0]);
  }
  if (const size_t others = model.tensors.size() - tensors.size(); on_notice)
    on_notice(fmt::format("'{}' is a model of several parts (\"{}\"): its text part alone is converted{}", model.path, class_of(*config),
                          others ? fmt::format(", {} tensor{} left out", others, others == 1 ? " of the others is" : "s of the others are") : ""));
  model.tensors = std::move(tensors);
  Json alone = language_config(*config);
  alone["architectures"] = {arch->classes[0]}, alone["model_type"] = arch->model_types[0];
  const TensorRule *embedding = arch->by_role("embedding"), *head = arch->by_role("output");
  const bool no_head = embedding && head && model.find(embedding->hf[0]) && !model.find(head->hf[0]);
  if (no_head && !json_member(*config, "tie_word_embeddings") && !json_bool(alone, "tie_word_embeddings").value_or(arch->tied_by_default)) {
    alone["tie_word_embeddings"] = true;
    if (on_notice) on_notice(fmt::format("'{}': the text part has no head, and the root of config.json does not say 'tie_word_embeddings': its embedding is taken for it", model.path));
  }
  text->second = json_text(OrderedJson(alone));
  INGOT_ASSIGN(model, with_class_defaults(std::move(model), on_notice));
  return with_class_tensors(std::move(model), on_notice);
}

}  // namespace ingot::transform
