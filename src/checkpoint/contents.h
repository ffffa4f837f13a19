// What a training state holds, told by its keys and its files' names: which of them are for the model, which for the optimizer, and so on.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "formats/json.h"

namespace ingot::checkpoint {

// In this order wherever they are told.
inline constexpr std::string_view kParts[] = {"model", "optimizer", "scheduler", "scaler", "rng", "data", "step"};

// By part, the keys of the state that hold it.
using Contents = std::map<std::string, std::set<std::string>, std::less<>>;
// Of a nest as state.json has it (its member "state"): by what its objects are, whatever they are called there.
Contents contents_of(const Json& state);

// By a name alone, of a key or a file, as frameworks and scripts have them: "lr_schedulers", "optim_states", "random_states_0.pkl". Empty where it says nothing.
std::string_view part_named(std::string_view name);

}  // namespace ingot::checkpoint
