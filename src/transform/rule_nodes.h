// The nodes by which a rule of an architecture makes tensors of a GGUF file from those of a Hugging Face directory, and the way back.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "tensor/node.h"

namespace ingot::transform {

// A param of the model in the rule's layer; nothing where it is not known.
using ParamOf = std::function<std::optional<int64_t>(const std::string& name)>;

// How many tensors a rule has on the Hugging Face side: its templates, or one for each expert. An error names the param that is not known.
Result<size_t> hf_count(const TensorRule& rule, const ParamOf& param);
// `in`: all of one side, in order. The result: all of the other. Types stay, but for what `add` makes F32.
Result<std::vector<NodePtr>> to_gguf_nodes(const TensorRule& rule, std::vector<NodePtr> in, const ParamOf& param);
// What `add` added stays added: the difference would be rounded.
Result<std::vector<NodePtr>> to_hf_nodes(const TensorRule& rule, std::vector<NodePtr> in, const ParamOf& param);

// x + value, elementwise in f32, F32 out.
NodePtr add_constant(NodePtr node, double value);

}  // namespace ingot::transform
