#include "transform/empty_tensors.h"

#include <gtest/gtest.h>

namespace ingot::transform {
namespace {

LazyTensor tensor(const std::string& name, Shape shape) {
  const TensorSpec spec{DType::kF32, shape};
  return {name, make_memory_tensor(spec, std::vector<std::byte>(bytes_of(spec)))};
}

Status check(const std::string& naming, std::vector<LazyTensor> tensors) {
  Artifact a;
  a.path = "model";
  a.naming = naming;
  a.tensors = std::move(tensors);
  return check_gathered(a);
}

TEST(CheckGathered, WeightsWithoutValuesAreNamed) {
  const LazyTensor norm = tensor("model.norm.weight", {4}), buffer = tensor("rotary.inv_freq", {0}), scale = tensor("scale.weight", {}),
                   head = tensor("lm_head.weight", {0}), up = tensor("model.layers.0.mlp.up_proj.weight", {0, 8});
  EXPECT_TRUE(check("hf", {norm, buffer, scale}).ok());
  const Status s = check("hf", {norm, buffer, scale, head, up});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().kind, ErrorKind::kBadInput);
  for (const char* part : {"opening model: 2 of 5 tensors are empty", "'lm_head.weight'", "[0]", "zero_to_fp32.py", "stage3_gather_16bit_weights_on_model_save"})
    EXPECT_NE(s.error().message.find(part), std::string::npos) << part << " in " << s.error().message;
  EXPECT_TRUE(check("gguf", {norm, head}).ok());  // nobody saves those so
  // Of an adapter the embedding's factors too, which are no ".weight".
  EXPECT_FALSE(check("peft", {tensor("base_model.model.model.embed_tokens.lora_embedding_A", {0})}).ok());
}

}  // namespace
}  // namespace ingot::transform
