// Models without some of their layers: what stays is numbered anew, and the metadata and the importance matrix follow.
#include "transform/layers.h"

#include "exec/load.h"
#include "formats/gguf.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

NodePtr one(uint8_t value) { return make_memory_tensor({DType::kU8, {1}}, {std::byte{value}}); }

Artifact of_layers(int n) {
  Artifact a;
  a.path = "m.gguf", a.format = a.naming = "gguf";
  a.metadata = {{"general.architecture", MetaValue{std::string("toy")}},
                {"toy.block_count", MetaValue{static_cast<uint32_t>(n)}},
                {"toy.leading_dense_block_count", MetaValue{uint32_t{3}}},
                {"toy.nextn_predict_layers", MetaValue{uint32_t{2}}},
                {"toy.attention.head_count_kv", MetaValue{std::vector<int32_t>{0, 1, 2, 3, 4}}},
                {"toy.attention.sliding_window_pattern", MetaValue{MetaArray{{true}, {true}, {false}, {true}, {false}}}},
                {"toy.rope.dimension_sections", MetaValue{std::vector<int32_t>{7, 8, 9}}},
                {"tokenizer.ggml.scores", MetaValue{std::vector<float>(static_cast<size_t>(n), 1)}}};
  a.tensors.push_back({"token_embd.weight", one(100)});
  for (int i = n - 1; i >= 0; --i)
    for (const char* what : {"attn_q.weight", "ffn_down.weight"}) a.tensors.push_back({fmt::format("blk.{}.{}", i, what), one(static_cast<uint8_t>(i))});
  a.tensors.push_back({"output_norm.weight", one(101)});
  return a;
}

TEST(Layers, NumberOfAName) {
  EXPECT_EQ(layer_of("blk.0.attn_q.weight"), 0);
  EXPECT_EQ(layer_of("blk.123.x"), 123);
  for (const char* name : {"blk.", "blk.x.y", "blk.7", "blk.-1.x", "v.blk.3.x", "output.weight", "blk.99999999999999999999.x", "blk.01.x"}) EXPECT_EQ(layer_of(name), -1) << name;
}

TEST(Layers, ThoseThatStayAreNumberedAnew) {
  const auto pruned = prune_layers(of_layers(5), {1, 3});
  ASSERT_TRUE(pruned.ok()) << pruned.error().message;
  EXPECT_EQ(pruned->tensors.size(), 2u + 2 * 3);
  const std::map<std::string, uint8_t> from = {{"blk.0.attn_q.weight", 0}, {"blk.1.ffn_down.weight", 2}, {"blk.2.attn_q.weight", 4}, {"token_embd.weight", 100}, {"output_norm.weight", 101}};
  for (const auto& [name, value] : from) {
    const LazyTensor* t = pruned->find(name);
    ASSERT_TRUE(t) << name;
    std::byte read{};
    ASSERT_TRUE(load(TensorList({*t}), {MutByteView(&read, 1)}, {}).ok());
    EXPECT_EQ(std::to_integer<uint8_t>(read), value) << name;
  }
  EXPECT_EQ(std::get<uint32_t>(pruned->meta("toy.block_count")->v), 3u);
  EXPECT_EQ(std::get<uint32_t>(pruned->meta("toy.leading_dense_block_count")->v), 2u);
  EXPECT_EQ(std::get<uint32_t>(pruned->meta("toy.nextn_predict_layers")->v), 1u);
  EXPECT_EQ(std::get<std::vector<int32_t>>(pruned->meta("toy.attention.head_count_kv")->v), (std::vector<int32_t>{0, 2, 4}));
  EXPECT_EQ(std::get<MetaArray>(pruned->meta("toy.attention.sliding_window_pattern")->v).size(), 3u);
  EXPECT_EQ(std::get<std::vector<int32_t>>(pruned->meta("toy.rope.dimension_sections")->v).size(), 3u);
  EXPECT_EQ(std::get<std::vector<float>>(pruned->meta("tokenizer.ggml.scores")->v).size(), 5u);  // of tokens, as many as there are layers by chance
  EXPECT_TRUE(pruned->notices.empty());
}

// Numbers that count no layers of this model stay; nothing overflows.
TEST(Layers, WhatTheMetadataSaysMayBeWrong) {
  for (const MetaValue& wrong : {MetaValue{int64_t{INT64_MIN}}, MetaValue{uint64_t{UINT64_MAX}}, MetaValue{int32_t{-1}}, MetaValue{uint32_t{4000000000}}, MetaValue{std::string("2")}}) {
    Artifact a = of_layers(5);
    for (auto& [key, value] : a.metadata)
      if (key == "toy.nextn_predict_layers" || key == "toy.leading_dense_block_count") value = wrong;
    const auto pruned = prune_layers(a, {4});
    ASSERT_TRUE(pruned.ok()) << pruned.error().message;
    const auto same = [&]<class T>(const T& v) {
      if constexpr (std::is_integral_v<T>) {
        EXPECT_EQ(std::get<T>(pruned->meta("toy.nextn_predict_layers")->v), v);
      }
    };
    std::visit(same, wrong.v);
    a.metadata[1].second = wrong;
    EXPECT_FALSE(prune_layers(a, {4}).ok());
  }
  // More layers than have tensors: lists and the last ones go by what block_count says.
  Artifact more = of_layers(4);
  more.metadata[1].second = MetaValue{uint32_t{5}};
  const auto pruned = prune_layers(more, {0});
  ASSERT_TRUE(pruned.ok());
  EXPECT_EQ(std::get<std::vector<int32_t>>(pruned->meta("toy.attention.head_count_kv")->v), (std::vector<int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(std::get<uint32_t>(pruned->meta("toy.nextn_predict_layers")->v), 2u);
}

TEST(Layers, AWindowOfEverySoManyIsToldOf) {
  Artifact a = of_layers(5);
  std::erase_if(a.metadata, [](const auto& kv) { return kv.first.ends_with("pattern"); });
  a.metadata.push_back({"toy.attention.sliding_window", MetaValue{uint32_t{4096}}});
  const auto pruned = prune_layers(a, {0});
  ASSERT_TRUE(pruned.ok());
  ASSERT_EQ(pruned->notices.size(), 1u);
  EXPECT_NE(pruned->notices[0].find("toy.attention.sliding_window"), std::string::npos);
}

TEST(Layers, WhatCannotBeLeftOut) {
  const auto refused = [](const Artifact& a, const std::set<int64_t>& layers) {
    const auto r = prune_layers(a, layers);
    return r.ok() ? "" : r.error().message;
  };
  EXPECT_NE(refused(of_layers(5), {1, 5}).find("it has no layer 5; its layers are 0 to 4"), std::string::npos);
  EXPECT_NE(refused(of_layers(2), {0, 1}).find("all 2 of its layers"), std::string::npos);
  Artifact two = of_layers(2);
  two.tensors.push_back({"enc.blk.0.attn_q.weight", one(0)});
  EXPECT_NE(refused(two, {0}).find("an encoder and a decoder"), std::string::npos);
  for (const char* every : {"full_attention_interval", "moe_every_n_layers"}) {
    Artifact kinds = of_layers(4);
    kinds.metadata.push_back({fmt::format("toy.{}", every), MetaValue{uint32_t{2}}});
    EXPECT_NE(refused(kinds, {0}).find(every), std::string::npos);
    kinds.metadata.back().second = MetaValue{uint32_t{1}};
    EXPECT_EQ(refused(kinds, {0}), "");
  }
  Artifact each = of_layers(2);
  each.tensors.push_back({"per_layer_token_embd.weight", one(0)});
  EXPECT_NE(refused(each, {0}).find("a part for each layer"), std::string::npos);
  Artifact uncounted = of_layers(2);
  uncounted.metadata.resize(1);
  EXPECT_NE(refused(uncounted, {0}).find("block_count"), std::string::npos);
  uncounted.tensors = {{"output_norm.weight", one(0)}};
  EXPECT_NE(refused(uncounted, {0}).find("it has none"), std::string::npos);
}

TEST(Layers, ImportanceFollows) {
  Importance whole;
  for (const char* name : {"blk.0.a.weight", "blk.1.a.weight", "blk.2.a.weight", "output.weight"}) whole.weights.emplace(name, std::make_shared<std::vector<float>>(1, static_cast<float>(name[4])));
  const Importance rest = without_layers(whole, {1});
  EXPECT_EQ(rest.weights.size(), 3u);
  EXPECT_EQ(rest.weights.at("blk.1.a.weight"), whole.weights.at("blk.2.a.weight"));
  EXPECT_EQ(rest.weights.at("output.weight"), whole.weights.at("output.weight"));
}

}  // namespace
}  // namespace ingot::transform
