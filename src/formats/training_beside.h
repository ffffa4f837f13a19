// What a trainer leaves beside a model, for whoever looks at it: the optimizer, the scheduler, random numbers, the step. None of it is the model's.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "formats/formats.h"

namespace ingot {

struct TrainingBeside {
  std::map<std::string, std::vector<std::string>> files;  // by what they hold: "optimizer", "scheduler", "random numbers", "state", ..
  std::map<std::string, std::string> values;              // step, epoch, best_metric, .., as JSON
  std::vector<std::string> notices;                       // what is of another step, cannot be read, or is missing where training would go on
};
// Reads the small states, and of the optimizer's file the header and its steps. Empty where there is none of it.
TrainingBeside training_beside(Store& store, const Probe& directory);

}  // namespace ingot
