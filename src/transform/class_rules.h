// What the model's class in transformers takes for granted, makes of a configuration that says less than all, and passes over.
#pragma once

#include <functional>
#include <string>

#include "model/architecture.h"
#include "tensor/artifact.h"

namespace ingot::transform {

// The first class that config.json names; empty where it names none.
std::string class_of(const Json& config);

// Tells which numbers are taken as the class has them.
void tell_defaults(const std::vector<std::pair<std::string, Json>>& taken, const std::string& path, const std::function<void(const std::string&)>& on_notice);

// The model with a config.json that names its class and all that the class would add: the class by model_type where it is missing or unknown, numbers that
// are missing as the class has them, no flags that the class does not read. kBadInput where class and model_type are two models, or the configuration is no
// object. `on_notice` may be empty.
Result<Artifact> with_class_defaults(Artifact model, const std::function<void(const std::string&)>& on_notice);

// Under plain names: without tensors that the class has not, whatever the configuration says; of a tied pair of which only the head is stored, that is the
// embedding.
Result<Artifact> with_class_tensors(Artifact model, const std::function<void(const std::string&)>& on_notice);

// Without the names that transformers does not save because it ties them again as it loads: of one tensor that has them all. The head of a known class; of another one
// all names but the first, unless the configuration ties nothing.
Artifact without_ties(Artifact model);

// The model with a configuration that says what transformers 5 makes of a pair that is to be tied: where the two differ, they are not.
Result<Artifact> with_settled_head(Artifact model, const std::function<void(const std::string&)>& on_notice);
// By their first rows; the rest is compared as it streams (lora_nodes.h, same_as).
Result<bool> differ_at_once(const NodePtr& a, const NodePtr& b);

// Whether transformers, which has no such tensor in a model of so many layers, passes over it with a warning: buffers, heads of a training, layers beyond
// the last, scales left over. `mapped`: what the name is in GGUF.
bool is_passed_over(const std::string& name, const std::optional<MappedName>& mapped, int64_t layers);

}  // namespace ingot::transform
