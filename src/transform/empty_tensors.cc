#include "transform/empty_tensors.h"

namespace ingot::transform {

Status check_gathered(const Artifact& a) {
  if (a.naming == "gguf") return {};
  size_t empty = 0;
  const LazyTensor* first = nullptr;
  for (const LazyTensor& t : a.tensors) {
    const bool weights = t.name.ends_with(".weight") || t.name.find("lora_") != std::string::npos;
    if (!weights || t.spec().shape.elements() > 0) continue;
    ++empty;
    if (!first) first = &t;
  }
  if (!first) return {};
  return bad_input("opening {}: {} of {} tensors are empty, like {} {}: it was saved without gathering the shards of DeepSpeed ZeRO-3 (or "
                   "FSDP), so the weights are not in it. Make it from the training checkpoint: python zero_to_fp32.py CHECKPOINT OUT; or "
                   "save again with stage3_gather_16bit_weights_on_model_save",
                   a.path, empty, a.tensors.size(), tensor_text(*first->node, first->name), to_string(first->spec().shape));
}

}  // namespace ingot::transform
