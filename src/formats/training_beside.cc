#include "formats/training_beside.h"

#include <algorithm>
#include <cstring>

#include "formats/json.h"
#include "formats/torch_file.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxState = 64u << 20;  // trainer_state.json has a line for each logged step
constexpr char kTrainerState[] = "trainer_state.json";
constexpr std::string_view kEnds[] = {".pt", ".pth", ".bin", ".pkl", ".ckpt"};

struct Kind {
  std::string_view name, begin;
  bool directory = false;
};
constexpr Kind kKinds[] = {{"optimizer", "optimizer"}, {"optimizer", "optimizer_", true}, {"optimizer", "global_step", true}, {"scheduler", "scheduler."}, {"scaler", "scaler."},
                           {"random numbers", "rng_state"}, {"random numbers", "random_states"}, {"state", "trainer_state.json"}, {"state", "training_state."},
                           {"state", "recipe_state."}, {"arguments", "training_args."}, {"others", "custom_checkpoint_"}, {"others", "sampler"}, {"others", "dl_state_dict"}};

bool is_of_torch(std::string_view name) {
  return std::any_of(std::begin(kEnds), std::end(kEnds), [&](std::string_view end) { return name.ends_with(end); });
}

// The most that a parameter has taken: who was unfrozen later, or frozen since, has taken fewer. A step is a number, or a tensor of one.
std::optional<double> optimizer_step(const TorchState& s) {
  std::optional<double> most;
  const auto is_step = [](std::string_view name) { return name.starts_with("state/") && name.ends_with("/step"); };
  for (const auto& [name, value] : s.values)
    if (is_step(name))
      if (const auto j = parse_json(value, name); j.ok() && j->is_number()) most = std::max(most.value_or(0), j->get<double>());
  constexpr size_t kMost = 1 << 14;  // each is a read
  size_t looked = 0;
  for (const LazyTensor& t : s.tensors) {
    const auto* source = dynamic_cast<const Source*>(t.node.get());
    const TensorSpec spec = t.spec();
    if (!is_step(t.name) || !source || spec.shape.elements() != 1 || (spec.type != DType::kF32 && spec.type != DType::kI64) || ++looked > kMost) continue;
    std::byte bytes[8];
    if (!source->read(Region::all(spec.shape), {bytes, bytes_of(spec)}).ok()) return std::nullopt;
    float f = 0;
    int64_t i = 0;
    if (spec.type == DType::kF32) std::memcpy(&f, bytes, sizeof f);
    else std::memcpy(&i, bytes, sizeof i);
    most = std::max(most.value_or(0), spec.type == DType::kF32 ? f : static_cast<double>(i));
  }
  return most;
}

std::optional<double> number(const std::map<std::string, std::string>& values, const char* name) {
  const auto it = values.find(name);
  const auto j = it == values.end() ? Result<Json>(Json()) : parse_json(it->second, name);
  return j.ok() && j->is_number() ? std::optional(j->get<double>()) : std::nullopt;
}

}  // namespace

TrainingBeside training_beside(Store& store, const Probe& p) {
  TrainingBeside t;
  for (const Entry& e : p.entries)
    for (const Kind& k : kKinds)
      if (e.directory == k.directory && e.name.starts_with(k.begin) && (e.directory || e.name == kTrainerState || is_of_torch(e.name))) {
        t.files[std::string(k.name)].push_back(e.name);
        break;
      }
  const auto unreadable = [&](const Error& e) { t.notices.push_back(fmt::format("the model is read without it: {}", e.message)); };
  std::string of;  // where the step is told
  if (p.find(kTrainerState)) {
    const std::string path = join_path(p.path, kTrainerState);
    const auto text = read_side_file(store, path, kMaxState);
    const auto state = text.ok() ? parse_json(*text, "reading " + path) : Result<Json>(text.error());
    if (!state.ok()) unreadable(state.error());
    else
      for (const auto& [key, as] : {std::pair{"global_step", "step"}, {"max_steps", "max_steps"}, {"epoch", "epoch"}, {"num_train_epochs", "epochs"}, {"best_metric", "best_metric"},
                                    {"best_global_step", "best_step"}, {"best_model_checkpoint", "best_checkpoint"}})
        if (const Json* v = json_member(*state, key); v && !v->is_null()) t.values[as] = v->dump(-1, ' ', false, Json::error_handler_t::replace), of = kTrainerState;
    if (!t.files.contains("optimizer"))
      t.notices.push_back(fmt::format("{}: there is no optimizer.pt beside {}; the model is whole, but training cannot go on from here as it was", p.path, kTrainerState));
  }
  const auto torch = [&](const std::string& name) -> Result<TorchState> {
    INGOT_ASSIGN(const OpenedFile file, open_head(store, join_path(p.path, name)));
    return read_torch(file);
  };
  for (const std::string& name : t.files.contains("state") ? t.files.at("state") : std::vector<std::string>()) {
    if (name == kTrainerState) continue;
    const auto state = torch(name);
    if (!state.ok()) unreadable(state.error());
    else
      for (const auto& [key, value] : state->values)
        if (key.find('/') == std::string::npos) t.values.emplace(key, value), of = name;
  }
  for (const std::string& name : t.files.contains("optimizer") ? t.files.at("optimizer") : std::vector<std::string>()) {
    if (name.find('.') == std::string::npos) continue;  // a directory
    const auto state = torch(name);
    if (!state.ok()) {
      unreadable(state.error());
      continue;
    }
    const auto own = optimizer_step(*state), step = number(t.values, "step");
    if (!own) continue;
    t.values.emplace("optimizer_step", fmt::format("{}", *own));
    if (step && *step != *own)
      t.notices.push_back(fmt::format("{}: the optimizer in {} has taken {} steps, but {} is of step {}: the files are of different saves, unless steps were skipped (float16)", p.path, name,
                                      *own, of, *step));
  }
  return t;
}

}  // namespace ingot
