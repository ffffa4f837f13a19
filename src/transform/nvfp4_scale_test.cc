// NVFP4 with its scales: read back wherever values are taken, gone where the blocks are.
#include "transform/nvfp4_scale.h"

#include "formats/gguf_scales.h"
#include "transform/gguf_map.h"
#include "transform/gguf_to_hf.h"
#include "transform/quantize.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

Artifact plain_gguf() {
  auto g = to_gguf(example_base());
  EXPECT_TRUE(g.ok()) << g.error().message;
  return g.ok() ? *g : Artifact();
}

// Written and opened again.
Artifact as_file(const Artifact& a, Store& store, const std::string& path) {
  run_output(gguf_output(a, store, path));
  return open_or_die(store, path);
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, energy = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    energy += std::pow(static_cast<double>(b[i]), 2);
  }
  return error / energy;
}

TEST(Nvfp4Scale, IsWrittenBesideEachWeightAndReadBack) {
  const Artifact g = plain_gguf();
  auto q = quantize_gguf(g, "NVFP4");
  ASSERT_TRUE(q.ok()) << q.error().message;
  auto memory = make_memory_store();
  Store& store = *memory;
  const Artifact file = as_file(*q, store, "q.gguf");
  int scaled = 0;
  for (size_t i = 0; i < file.tensors.size(); ++i) {
    const LazyTensor& t = file.tensors[i];
    if (t.spec().type != DType::kNVFP4) continue;
    const std::string scale = gguf_scale_name(t.name);
    ASSERT_EQ(file.find(scale) != nullptr, t.name.starts_with("blk.")) << t.name;  // get_rows knows none
    if (!file.find(scale)) continue;
    ++scaled;
    EXPECT_EQ(file.tensors[i + 1].name, scale);
    EXPECT_TRUE(is_gguf_scale(file, scale));
    EXPECT_EQ(file.find(scale)->spec(), (TensorSpec{DType::kF32, {1}}));
    const auto want = values(g.find(t.name)->node), got = values(gguf_values(file, t));
    float largest = 0;
    for (const float x : want) largest = std::max(largest, std::fabs(x));
    const float s = values(file.find(scale)->node)[0];
    EXPECT_LE(largest / s, 2688.0f);
    EXPECT_GT(largest / s, 2687.0f);
    EXPECT_LT(relative_error(got, want), 0.0068) << t.name;
  }
  EXPECT_EQ(scaled, 42);
}

// A large model's weights are a hundredth: there the blocks' own scales have two or three bits.
TEST(Nvfp4Scale, SmallWeightsLoseNoMoreThanLargeOnes) {
  const LazyTensor* t = nullptr;
  const Artifact g = plain_gguf();
  ASSERT_TRUE(t = g.find("blk.3.ffn_up.weight"));
  for (const float factor : {1.0f, 0.02f}) {
    auto want = values(t->node);
    for (float& x : want) x *= factor;
    const NodePtr floats = typed_tensor(DType::kF32, t->spec().shape, want);
    const Nvfp4Scaled s = nvfp4_scaled(floats);
    const auto with = cast(t->name, s.values, DType::kNVFP4), without = cast(t->name, floats, DType::kNVFP4);
    ASSERT_TRUE(with.ok() && without.ok());
    auto got = values(*with);
    const float scale = values(s.scale)[0];
    for (float& x : got) x *= scale;
    EXPECT_LT(relative_error(got, want), 0.0068);
    if (factor < 1) {
      EXPECT_GT(relative_error(values(*without), want), 0.02);
    }
  }
}

TEST(Nvfp4Scale, GoesIntoTheValuesWhereverTheyAreTaken) {
  auto q = quantize_gguf(plain_gguf(), "NVFP4");
  ASSERT_TRUE(q.ok());
  auto memory = make_memory_store();
  Store& store = *memory;
  const Artifact file = as_file(*q, store, "q.gguf");
  const std::string name = "blk.1.ffn_down.weight";
  const auto want = values(gguf_values(file, *file.find(name)));
  const auto hf = to_hf(file, {});
  ASSERT_TRUE(hf.ok()) << hf.error().message;
  const LazyTensor* down = hf->find("model.layers.1.mlp.down_proj.weight");
  ASSERT_TRUE(down);
  EXPECT_LT(relative_error(values(down->node), want), 1e-6);  // F16
  for (const auto& t : hf->tensors) EXPECT_EQ(t.name.find("scale"), std::string::npos) << t.name;
  QuantizeOptions o;
  o.allow_requantize = true;
  const auto again = quantize_gguf(file, "Q8_0", o);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_LT(relative_error(values(again->find(name)->node), want), 1e-4);
  for (const auto& t : again->tensors) EXPECT_FALSE(t.name.ends_with("scale")) << t.name;
  // What stays as it is keeps its scale.
  const auto same = quantize_gguf(file, "NVFP4");
  ASSERT_TRUE(same.ok()) << same.error().message;
  EXPECT_EQ(same->tensors.size(), file.tensors.size());
  EXPECT_EQ(*evaluate(same->find(name)->node), *evaluate(file.find(name)->node));
}

TEST(Nvfp4Scale, EachMatrixHasItsOwn) {
  std::vector<float> x(3 * 2 * 64, 0.0f);
  for (int i = 0; i < 128; ++i) x[static_cast<size_t>(i)] = 1e-3f * static_cast<float>(i % 7 - 3);
  for (int i = 256; i < 384; ++i) x[static_cast<size_t>(i)] = 1e20f * static_cast<float>(i % 5 - 2);
  const auto s = nvfp4_scaled(typed_tensor(DType::kF32, {3, 2, 64}, x));
  const auto scale = values(s.scale), divided = values(s.values);
  ASSERT_EQ(scale.size(), 3u);
  EXPECT_NEAR(scale[0], 3e-3f / 2688, 1e-12f);
  EXPECT_EQ(scale[1], 1);
  EXPECT_NEAR(scale[2] / (2e20f / 2688), 1, 1e-6);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE(std::fabs(divided[i]), 2688.0f);
    EXPECT_EQ(divided[i], x[i] / scale[i / 128]);
  }
}

TEST(Nvfp4Scale, WhatIsNotFiniteIsNamed) {
  for (const float bad : {std::nanf(""), INFINITY}) {
    Artifact g = plain_gguf();
    const Shape shape = g.find("blk.0.attn_q.weight")->spec().shape;
    std::vector<float> x(static_cast<size_t>(shape.elements()), 0.5f);
    x[700] = bad;
    for (size_t i = 0; i < g.tensors.size(); ++i)
      if (g.tensors[i].name == "blk.0.attn_q.weight") g.tensors.node(i) = typed_tensor(DType::kF32, shape, x);
    const auto q = quantize_gguf(g, "NVFP4");
    ASSERT_TRUE(q.ok());
    expect_error(evaluate(q->find("blk.0.attn_q.weight")->node), {"writing tensor 'blk.0.attn_q.weight' as NVFP4", std::isnan(bad) ? "NaN" : "inf"});
  }
}

// llama.cpp's models of these names do not multiply by it.
TEST(Nvfp4Scale, IsWrittenWhereLlamaCppReadsIt) {
  Artifact g = plain_gguf();
  EXPECT_TRUE(has_nvfp4_scale(g, "blk.0.ffn_up.weight"));
  EXPECT_TRUE(has_nvfp4_scale(g, "blk.10.attn_output.weight"));
  for (const char* name : {"token_embd.weight", "output.weight", "blk.0.ffn_gate_inp.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.bias"}) EXPECT_FALSE(has_nvfp4_scale(g, name)) << name;
  set_meta(&g, "general.architecture", {std::string("gemma2")});
  EXPECT_FALSE(has_nvfp4_scale(g, "blk.0.ffn_up.weight"));
  EXPECT_TRUE(has_nvfp4_scale(g, "blk.0.attn_v.weight"));
}

TEST(Nvfp4Scale, OfAnotherShapeOrTypeIsRefused) {
  auto q = quantize_gguf(plain_gguf(), "NVFP4");
  ASSERT_TRUE(q.ok());
  for (const bool type : {false, true}) {
    Artifact bad = *q;
    for (size_t i = 0; i < bad.tensors.size(); ++i)
      if (bad.tensors[i].name == "blk.2.attn_k.scale") bad.tensors.node(i) = typed_tensor(type ? DType::kF16 : DType::kF32, type ? Shape{1} : Shape{2}, {1, 1});
    auto memory = make_memory_store();
  Store& store = *memory;
    run_output(gguf_output(bad, store, "bad.gguf"));
    expect_error(open_model(store, "bad.gguf"), {"the scale 'blk.2.attn_k.scale' is", "expected F32 with 1 value for 'blk.2.attn_k.weight'"});
  }
}

}  // namespace
}  // namespace ingot::transform
