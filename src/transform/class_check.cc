#include "transform/class_check.h"

#include <algorithm>
#include <set>

#include "formats/hf_weights.h"
#include "formats/json.h"
#include "model/model_config.h"
#include "transform/class_rules.h"
#include "transform/key_names.h"
#include "transform/rule_nodes.h"
#include "transform/text_part.h"

namespace ingot::transform {
namespace {

class Examiner {
 public:
  Examiner(const Artifact& model, const Architecture& arch, const Json& config, const Params& params) : model_(model), arch_(arch), config_(config), params_(params) {}

  ClassReport run() {
    for (const LazyTensor& t : model_.tensors) look(t);
    // Saved from the bare model ("LlamaModel"), it has no head.
    const std::string own = class_of(config_);
    const bool bare = own.ends_with("Model") && std::find(arch_.classes.begin(), arch_.classes.end(), own) == arch_.classes.end();
    headless_ = bare || json_bool(config_, "tie_word_embeddings").value_or(arch_.tied_by_default);
    for (const TensorRule& r : arch_.tensors) expect(r);
    const std::string& name = arch_.classes[0];
    if (!missing_.empty())
      report_.errors.push_back(fmt::format("{} of the tensors that {} has by config.json {} missing, and the model is not whole: {}{}", missing_.size(), name,
                                           missing_.size() == 1 ? "is" : "are", some_of(missing_), advice()));
    if (!shapes_.empty())
      report_.errors.push_back(fmt::format("{} of its tensors {} another shape than config.json makes of {}: {}; the two do not belong together, or it is one rank's "
                                           "part of a model: give the model's own config.json, or the checkpoint of all ranks", shapes_.size(),
                                           shapes_.size() == 1 ? "has" : "have", name, some_of(shapes_)));
    return std::move(report_);
  }

 private:
  std::optional<int64_t> param(const std::string& name) const {
    const auto it = params_.find(name);
    return it == params_.end() ? std::nullopt : std::optional<int64_t>(it->second);
  }
  bool announced(const TensorRule& r) const { return r.announced.empty() || json_bool(config_, r.announced).value_or(r.assumed); }

  void look(const LazyTensor& t) {
    if (is_dropped(arch_, t.name)) return;
    const auto m = map_to_gguf(arch_, t.name);
    if (is_passed_over(t.name, m, params_.at("layers"))) return;
    if (!m || !announced(*m->rule)) return report_.unknown.push_back(t.name);
    have_.insert(t.name), seen_.insert(m->rule);
    const auto want = shape_of(m->rule->hf_shape(m->part), params_, t.name);
    if (const Shape found = t.spec().shape; want.ok() && !(*want == found))
      shapes_.push_back(fmt::format("'{}' {}, expected {}", brief_name(t.name), to_string(found), to_string(*want)));
  }

  void expect(const TensorRule& r) {
    if (r.optional || (r.role == "output" && headless_) || !announced(r)) return;
    if (!seen_.count(&r) && (r.alternative || spelled_otherwise(r))) return;
    const auto experts = hf_count(r, [this](const std::string& name) { return param(name); });
    const int64_t layers = r.per_layer() ? params_.at("layers") : 1, n = experts.ok() ? static_cast<int64_t>(*experts) : 1;
    for (int64_t i = 0; i < layers; ++i)
      for (int64_t k = 0; k < n; ++k)
        if (std::string name = expand(r.hf[r.per_expert() ? 0 : static_cast<size_t>(k)], static_cast<int>(i), static_cast<int>(k)); !have_.count(name))
          missing_.push_back(fmt::format("'{}'", name));
  }
  // Whether the model has what the rule gives by another rule.
  bool spelled_otherwise(const TensorRule& r) const {
    return std::any_of(seen_.begin(), seen_.end(), [&](const TensorRule* other) {
      return std::any_of(r.gguf.begin(), r.gguf.end(), [&](const std::string& g) { return std::find(other->gguf.begin(), other->gguf.end(), g) != other->gguf.end(); });
    });
  }

  std::string advice() const {
    if (report_.unknown.empty()) return "; get all of its weights: nothing but chance would stand in their place";
    const auto origin = [this](const std::string& name) { return likely_origin(name, [this](const std::string& n) { return map_to_gguf(arch_, n).has_value(); }); };
    const auto it = std::find_if(report_.unknown.begin(), report_.unknown.end(), [&](const std::string& name) { return !origin(name).empty(); });
    const std::string& other = it == report_.unknown.end() ? report_.unknown[0] : *it;
    return fmt::format("; {} others are none that it has, like '{}'{}", report_.unknown.size(), brief_name(other), origin(other));
  }

  const Artifact& model_;
  const Architecture& arch_;
  const Json& config_;
  const Params& params_;
  bool headless_ = false;
  std::set<std::string> have_;
  std::set<const TensorRule*> seen_;
  std::vector<std::string> missing_, shapes_;
  ClassReport report_;
};

}  // namespace

std::optional<ClassReport> examine_class(const Artifact& given) {
  if (given.naming != "hf" || !given.files.contains("config.json")) return std::nullopt;
  const auto model = text_part(given, {});
  if (!model.ok()) return std::nullopt;
  const auto config = parse_json(model->files.at("config.json"), "config.json");
  if (!config.ok() || json_member(*config, "quantization_config") || json_member(*config, "compression_config")) return std::nullopt;
  const auto arch = find_architecture(*config, "");
  if (!arch.ok()) return std::nullopt;
  const Json whole = with_defaults(**arch, *config);
  const auto params = config_params(**arch, whole, "");
  if (!params.ok()) return std::nullopt;
  return Examiner(*model, **arch, whole, *params).run();
}

Status check_class(const Artifact& model, bool strict, const std::function<void(const std::string&)>& on_notice) {
  const auto report = examine_class(model);
  if (!report) return {};
  if (!report->errors.empty()) return bad_input("converting {}: {}", model.path, report->errors[0]);
  if (report->unknown.empty()) return {};
  std::vector<std::string> names;
  for (const auto& name : report->unknown) names.push_back(fmt::format("'{}'", brief_name(name)));
  const std::string text = fmt::format("{} of its tensors {} none that its class has, and transformers would pass over: {}", names.size(), names.size() == 1 ? "is" : "are", some_of(names));
  if (strict) return bad_input("converting {}: {}. Without --strict this is a notice, and they are written", model.path, text);
  if (on_notice) on_notice(fmt::format("'{}': {}", model.path, text));
  return {};
}

}  // namespace ingot::transform
