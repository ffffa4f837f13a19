#include "transform/model_state.h"

#include <algorithm>
#include <map>
#include <set>

#include "formats/hf_weights.h"
#include "formats/state_tree.h"

namespace ingot::transform {
namespace {

// Where frameworks and scripts have the model's weights, the likelier first. DeepSpeed has the weights that were trained in 32 bits apart from those that
// the forward pass uses.
constexpr std::string_view kParts[] = {"master", "state_dict", "model_state_dict", "model", "module", "model_state", "net", "network", "weights", "params"};

// What wraps a model within a module: a LightningModule's attribute, DataParallel, FSDP.
constexpr std::string_view kWrappers[] = {"model.", "module.", "net.", "network.", "_forward_module.", "_fsdp_wrapped_module."};

// A name as transformers' classes begin them.
bool is_models(std::string_view name) {
  for (const std::string_view first : {"model.", "transformer.", "gpt_neox.", "lm_head.", "backbone."})
    if (name.starts_with(first)) return true;
  return false;
}

// Copies of the model within its module, averages of its weights or a reference ("ema.model.norm.weight" beside "model.model.norm.weight"): attributes that have all
// tensors below the wrapper `w`. They are taken out where nothing but them lies beside `w`; the result is for the notice.
std::string take_out_copies(std::string_view w, std::vector<LazyTensor>* all) {
  std::map<std::string_view, std::set<std::string_view>> attributes;  // names below each
  for (const auto& t : *all) {
    const size_t dot = std::min(t.name.find('.'), t.name.size() - 1);
    attributes[std::string_view(t.name).substr(0, dot + 1)].insert(std::string_view(t.name).substr(dot + 1));
  }
  const auto own = attributes.extract(w);
  if (own.empty() || attributes.empty() || std::none_of(own.mapped().begin(), own.mapped().end(), is_models)) return "";
  std::vector<std::string> told;
  for (const auto& [attribute, names] : attributes) {
    const auto has_all = [&](std::string_view between) {
      return std::all_of(own.mapped().begin(), own.mapped().end(), [&](std::string_view n) { return names.contains(fmt::format("{}{}", between, n)); });
    };
    if (!has_all("") && !has_all("module.")) return "";
    told.push_back(fmt::format("'{}' ({} tensors)", attribute, names.size()));
  }
  std::erase_if(*all, [&](const LazyTensor& t) { return !t.name.starts_with(w); });
  return fmt::format("; of its copies of the model '{}' is taken, not {}: to have another, save it alone", w, some_of(told));
}

}  // namespace

Result<Artifact> model_state(const Artifact& state, std::string* notice) {
  if (!state.naming.empty()) return state;
  std::map<std::string, size_t> parts;
  for (const auto& t : state.tensors) ++parts[t.name.substr(0, t.name.find('/'))];
  std::string part;
  // Megatron's own exports take what the forward pass uses.
  if (state.format == "megatron" && parts.contains("model")) part = "model";
  for (const std::string_view p : kParts)
    if (part.empty() && parts.contains(std::string(p))) part = p;
  const auto begins = [](const auto& value) { return value.first.starts_with("param_groups/"); };
  if (part.empty() && parts.contains("state") && std::any_of(state.values.begin(), state.values.end(), begins))
    return bad_input("{}: it is an optimizer's state (param_groups, and {} tensors of 'state'), no model; give the model's own file or directory", state.path, parts["state"]);
  if (part.empty()) {
    std::vector<std::string> names;
    for (const auto& [name, count] : parts) names.push_back(fmt::format("'{}' ({} tensors)", name, count));
    return bad_input("{}: it is a state of training, and none of its parts is known for a model's: {}; known: {}", state.path, some_of(names, 8),
                     fmt::join(kParts, ", "));
  }
  Artifact model = state;
  model.naming = "hf";
  model.values.clear();
  set_kinds({}, &model);
  const std::string prefix = part + "/";
  std::string copies;
  model.tensors.edit([&](std::vector<LazyTensor>& all) {
    // What is frozen, and buffers, have no copy in full precision.
    if (part == "master")
      for (auto& t : all)
        if (t.name.starts_with("model/") && !state.find(prefix + t.name.substr(6))) t.name = prefix + t.name.substr(6);
    std::erase_if(all, [&](const LazyTensor& t) { return !t.name.starts_with(prefix); });
    for (auto& t : all) {
      t.name.erase(0, prefix.size());
      std::replace(t.name.begin(), t.name.end(), '/', '.');
    }
    // Wrappers around all of it, as long as what is beneath looks like a model of its own.
    for (bool again = true; again;) {
      again = false;
      for (const std::string_view w : kWrappers) {
        if (copies.empty()) copies = take_out_copies(w, &all);
        const auto beneath = [&](const LazyTensor& t) { return t.name.starts_with(w); };
        const auto models = [&](const LazyTensor& t) { return is_models(std::string_view(t.name).substr(w.size())); };
        if (all.empty() || !std::all_of(all.begin(), all.end(), beneath) || !std::any_of(all.begin(), all.end(), models)) continue;
        for (auto& t : all) t.name.erase(0, w.size());
        again = true;
      }
    }
  });
  std::vector<std::string> left;
  for (const auto& [name, count] : parts)
    if (name != part) left.push_back(fmt::format("'{}'", name));
  *notice = fmt::format("{}: a state of training; its part '{}' is the model{}{}", state.path, part, left.empty() ? "" : fmt::format(", the rest is left out: {}", some_of(left, 8)), copies);
  return model;
}

}  // namespace ingot::transform
