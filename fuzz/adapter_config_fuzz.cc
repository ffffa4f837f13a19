// Fuzzes adapter_config.json: parsing, and a merge into a small base that follows from it.
#include <cstdlib>

#include "transform/lora.h"
#include "transform/lora_config.h"

namespace {

ingot::NodePtr zeros(ingot::Shape shape) {
  return ingot::make_memory_tensor({ingot::DType::kF32, shape}, std::vector<std::byte>(static_cast<size_t>(shape.elements()) * 4), "zeros");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  ingot::Artifact base, adapter;
  base.naming = "hf", base.path = "base";
  base.tensors = {{"model.layers.0.a.weight", zeros({4, 4})}, {"model.layers.0.a.bias", zeros({4})}, {"model.layers.1.a.weight", zeros({4, 4})}};
  adapter.path = "adapter", adapter.naming = "peft";
  adapter.files["adapter_config.json"] = text;
  for (const char* layer : {"0", "1"}) {
    const std::string m = std::string("base_model.model.model.layers.") + layer + ".a.";
    adapter.tensors.push_back({m + "lora_A.weight", zeros({2, 4})});
    adapter.tensors.push_back({m + "lora_B.weight", zeros({4, 2})});
  }
  (void)ingot::transform::lora_merge(base, {{adapter, 1}});
  return 0;
}
