// Names of tensors as wrappers leave them ("_orig_mod.", "module.", "base_model.model."), brought back to the model's own: the one place for
// base weights and adapters. Names are changed only where all of a file's then find a tensor, each one of its own; only parts that no model has are
// taken off without that.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tensor/artifact.h"

namespace ingot::transform {

using KnownName = std::function<bool(const std::string&)>;

struct PlainNames {
  std::vector<std::string> names;  // in the order of those given; where nothing fits, only what no model has is off
  std::string changes;             // "'_orig_mod.' taken off (torch.compile), 39 names"; empty where all stay as they are
  // Why nothing fits, as given: the first that leads to no known name, or, where `first` is not empty, two that lead to the same.
  std::string unknown, first, second;
  bool fits = true;
  bool ok() const { return fits; }
};
// Each name brought to a known one, no two to the same. A prefix that nobody listed is taken off where it stands in front of all.
PlainNames plain_names(const std::vector<std::string>& names, const KnownName& known);

// For an error about a name that is not known: " ('module.' in it is DataParallel or DeepSpeed's)"; empty where it has no such part.
std::string likely_origin(const std::string& name, const KnownName& known);

// For messages: what a file calls a tensor may be as long as its header.
std::string brief_name(const std::string& name);

// The tensors of a Hugging Face model under the names of its architecture, as far as plain_names() finds them. `on_notice` may be empty.
// Errors: kBadInput for a whole PEFT model saved in one, whose factors are no weights of the model.
Result<Artifact> with_plain_names(Artifact model, const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
