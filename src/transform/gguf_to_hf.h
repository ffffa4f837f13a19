// A GGUF model as a Hugging Face one: names, rows and columns as the class has them, blocks as floats, config.json and the tokenizer's files made from
// the metadata. The way back from gguf_map.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "tensor/artifact.h"
#include "transform/cast.h"

namespace ingot::transform {

struct ToHfOptions {
  std::optional<DType> dtype;  // of all floats; nothing: floats stay what they are, and blocks become F16
  bool strict = false;         // what the directory cannot say of the file is an error, not a notice
  std::shared_ptr<CastCounts> counts;
  std::function<void(const std::string&)> on_notice;
};
Result<Artifact> to_hf(const Artifact& gguf, const ToHfOptions& options = {});

// The tensors alone, by `arch`. `read` makes of a tensor what is moved (a cast, or nothing); `plain`: what GGUF adds to norms is taken off again, which
// may round. The error's text says what stands in the way.
using ReadTensor = std::function<Result<NodePtr>(const LazyTensor&)>;
Result<std::vector<LazyTensor>> hf_tensors(const Artifact& gguf, const Architecture& arch, const ReadTensor& read, bool plain);

}  // namespace ingot::transform
