// Names of tensors as wrappers leave them ("_orig_mod.", "module.", "base_model.model."), brought back to the model's own: the one place for
// base weights and adapters. Names are changed only where all of a file's then find a tensor, each one of its own.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tensor/artifact.h"

namespace ingot::transform {

using KnownName = std::function<bool(const std::string&)>;

struct PlainNames {
  std::vector<std::string> names;  // in the order of those given
  std::string changes;             // "'_orig_mod.' taken off 39 names (torch.compile)"; empty where all stood as they are
};
// Nothing where a name leads to none that is known, or two to the same.
std::optional<PlainNames> plain_names(const std::vector<std::string>& names, const KnownName& known);

// For an error about a name that is not known: " (the prefix 'module.' is DataParallel's or DeepSpeed's)"; empty where it has no such part.
std::string likely_origin(const std::string& name);

// The tensors of a Hugging Face model under the names of its architecture, where plain_names() finds them all; else as they are. `on_notice` may be
// empty. Errors: kBadInput for a whole PEFT model saved in one, whose factors are no weights of the model.
Result<Artifact> with_plain_names(Artifact model, const std::function<void(const std::string&)>& on_notice);

}  // namespace ingot::transform
