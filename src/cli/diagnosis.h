// What 'ingot ship' would make of a model or an adapter: found by doing what it does, up to the first byte.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/model_args.h"

namespace ingot::cli {

inline constexpr char kUsualType[] = "Q4_K_M";

struct Diagnosis {
  std::optional<OpenedModel> opened;
  std::optional<Artifact> gguf, made;  // under GGUF's names; of the usual type
  std::vector<Reporter::Said> odd;     // all that ship would tell, and if the model could not be tried
  Status verdict;                      // why it would be refused
};
// Says nothing itself. Fails only where it is interrupted.
Result<Diagnosis> diagnose(Context& context, const Artifact& opened);
Result<Diagnosis> diagnose(Context& context, const std::string& model, const std::vector<AdapterArgument>& adapters);

}  // namespace ingot::cli
