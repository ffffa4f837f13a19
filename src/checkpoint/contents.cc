#include "checkpoint/contents.h"

#include <algorithm>

namespace ingot::checkpoint {
namespace {

// Whether an object with that member is anywhere in a state: an optimizer has "param_groups", a scheduler "last_epoch".
bool holds(const Json& j, const char* member) {
  if (j.is_object() && j.contains(member)) return true;
  if (!j.is_structured()) return false;
  return std::any_of(j.begin(), j.end(), [&](const Json& x) { return holds(x, member); });
}

// The first that fits counts: "model_optim_rng" is asked of its content.
struct Word {
  std::string_view word, part;
  bool begins = true;  // else anywhere
};
constexpr Word kWords[] = {{"optim", "optimizer"},         {"optimizer", "optimizer", false}, {"exp_avg", "optimizer"},   {"master", "optimizer"},
                           {"scheduler", "scheduler", false}, {"scaler", "scaler", false},     {"rng", "rng"},             {"random", "rng"},
                           {"dataloader", "data", false},  {"dl_state", "data"},              {"sampler", "data"},        {"loader", "data"},
                           {"data", "data"},               {"loops", "data"},                 {"model", "model"},         {"state_dict", "model"},
                           {"module", "model"},            {"net", "model"},                  {"weights", "model"},       {"params", "model"},
                           {"pytorch_model", "model"},     {"adapter_model", "model"},        {"consolidated", "model"},  {"step", "step"},
                           {"global_step", "step"},        {"iteration", "step"},             {"epoch", "step"},          {"training_state", "step"},
                           {"trainer_state", "step"},      {"recipe_state", "step"},          {"train_state", "step"}};

}  // namespace

Contents contents_of(const Json& state) {
  Contents c;
  if (!state.is_object()) return c;
  c["step"];  // the manifest has it
  std::set<std::string> tensors;  // keys that have some, and are nothing else that is known
  for (const auto& [key, value] : state.items()) {
    bool known = false;
    const auto add = [&, k = key](const char* part, bool is) {
      if (is) c[part].insert(k), known = true;
    };
    add("optimizer", holds(value, "param_groups"));
    add("scheduler", holds(value, "last_epoch"));
    add("rng", holds(value, "gauss") || holds(value, "torch"));
    add("data", holds(value, "position") && holds(value, "epoch"));
    add("scaler", holds(value, "growth_factor"));
    if (!known && (holds(value, "$tensor") || holds(value, "$array"))) tensors.insert(key);
  }
  // Beside "model" the gradients that a run accumulates are no model.
  const bool named = std::any_of(tensors.begin(), tensors.end(), [](const std::string& k) { return part_named(k) == "model"; });
  for (const std::string& k : tensors)
    if (!named || part_named(k) == "model") c["model"].insert(k);
  return c;
}

std::string_view part_named(std::string_view name) {
  for (const Word& w : kWords)
    if (w.begins ? name.starts_with(w.word) : name.find(w.word) != std::string_view::npos) return w.part;
  return "";
}

}  // namespace ingot::checkpoint
