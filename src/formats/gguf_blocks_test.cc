#include "formats/gguf_blocks.h"

#include <gtest/gtest.h>

#include "exec/evaluate.h"
#include "formats/formats_testing.h"

namespace ingot {
namespace {

TEST(GgufBlocks, AreAskedForWhole) {
  std::vector<std::byte> bytes(3 * 2 * 18);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  Artifact gguf;
  gguf.path = "/m/a.gguf", gguf.format = gguf.naming = "gguf";
  gguf.tensors.push_back({"t", make_memory_tensor({DType::kQ4_0, {3, 64}}, bytes)});
  auto kept = gguf_as_bytes(gguf);
  ASSERT_TRUE(kept.ok()) << kept.error().message;
  EXPECT_EQ(kept->find("t")->spec().shape, (Shape{3, 36}));
  auto back = gguf_from_bytes(*kept);
  ASSERT_TRUE(back.ok()) << back.error().message;
  const NodePtr node = back->find("t")->node;
  // 18 bytes are no power of two: the least that both sides have whole is one block.
  EXPECT_EQ(node->granularity(), (Shape{1, 32}));
  const Region second{{1, 32}, {2, 32}};
  auto half = evaluate(node, second);
  ASSERT_TRUE(half.ok()) << half.error().message;
  EXPECT_EQ(std::memcmp(half->data(), bytes.data() + 36 + 18, 18), 0);
  EXPECT_EQ(std::memcmp(half->data() + 18, bytes.data() + 72 + 18, 18), 0);
}

}  // namespace
}  // namespace ingot
