#include "formats/dcp.h"

#include "formats/formats_testing.h"
#include "formats/json.h"
#include "formats/outputs.h"
#include "formats/zip_records.h"

namespace ingot {
namespace {

using namespace ingot::testing;

// What a job writes, opened again.
Artifact written(Store& store, const Artifact& a, const std::string& path, const std::string& format, uint64_t max_shard = 1 << 30) {
  const auto output = make_output(a, store, path, format, max_shard);
  EXPECT_TRUE(output.ok()) << output.error().message;
  const auto report = run_job({*output}, {});
  EXPECT_TRUE(report.ok()) << report.error().message;
  auto read = open_model(store, path);
  EXPECT_TRUE(read.ok()) << read.error().message;
  return read.ok() ? *std::move(read) : Artifact();
}

void same(const Artifact& is, const Artifact& want) {
  ASSERT_EQ(is.tensors.size(), want.tensors.size());
  for (size_t i = 0; i < want.tensors.size(); ++i) {
    EXPECT_EQ(is.tensors[i].name, want.tensors[i].name);
    EXPECT_TRUE(is.tensors[i].spec() == want.tensors[i].spec()) << want.tensors[i].name;
    EXPECT_EQ(*evaluate(is.tensors[i].node), *evaluate(want.tensors[i].node)) << want.tensors[i].name;
  }
  ASSERT_EQ(is.values.size(), want.values.size());
  for (const auto& [name, value] : want.values) EXPECT_EQ(*parse_json(is.values.at(name), ""), *parse_json(value, "")) << name;
}

Artifact nested() {
  Artifact a;
  const NodePtr embedding = f32_tensor({5, 3}, random_floats(15, 1));
  a.tensors = {{"model/emb.weight", embedding},
               {"model/head.weight", embedding},
               {"model/half", make_memory_tensor({DType::kBF16, {3}}, std::vector<std::byte>(6, std::byte{7}))},
               {"model/byte", make_memory_tensor({DType::kF8E4M3, {4}}, std::vector<std::byte>(4, std::byte{9}))},
               {"optim/state/0/step", f32_tensor({}, {3})},
               {"none", f32_tensor({0, 2}, {})}};
  a.values = {{"step", "3"}, {"optim/param_groups/0/lr", "0.01"}, {"optim/param_groups/0/foreach", "null"}, {"note/0", "\"a\""}, {"note/1", "[1, 2.5]"}};
  return a;
}

TEST(Dcp, WhatIsWrittenIsRead) {
  auto store = make_memory_store();
  const Artifact a = nested();
  Artifact want = a;
  want.values = {{"step", "3"}, {"optim/param_groups/0/lr", "0.01"}, {"optim/param_groups/0/foreach", "null"}, {"note/0", "\"a\""}, {"note/1/0", "1"}, {"note/1/1", "2.5"}};
  same(written(*store, a, "one", "dcp"), want);
  EXPECT_EQ(store->list("one")->size(), 2U);
  same(written(*store, a, "many", "dcp", 40), want);
  EXPECT_EQ(store->list("many")->size(), 4U) << "a tensor of 60 bytes in a file of its own, twice, the rest in a third";
}

// As FSDP's ranks leave theirs: chunks of rows, each an archive, whose tiles any reader asks for.
TEST(Dcp, ALargeTensorIsInChunksOfRows) {
  auto store = make_memory_store();
  const auto v = random_floats(300 * 200, 4);
  Artifact a;
  a.tensors = {{"w", f32_tensor({300, 200}, v)}, {"flat", f32_tensor({60'000}, v)}, {"small", f32_tensor({2}, {1, 2})}};
  a.tensors.push_back({"tied", a.tensors[0].node});
  const Artifact read = written(*store, a, "d", "dcp", 100'000);
  same(read, a);
  const auto m = parse_dcp_metadata(get_file(*store, "d/.metadata"), "d");
  ASSERT_TRUE(m.ok()) << m.error().message;
  std::vector<size_t> chunks;
  for (const auto& e : m->entries) chunks.push_back(e.chunks.size());
  EXPECT_EQ(chunks, (std::vector<size_t>{3, 3, 1, 3}));
  EXPECT_EQ(m->entries[0].chunks[2].region, (Region{{250, 0}, {50, 200}}));
  for (int i : {0, 1}) expect_regions_match(read.tensors[static_cast<size_t>(i)].node, 7, 3);
}

// As torch flattens a state: lists of plain values are one, others are gone into, in the order of their numbers.
TEST(Dcp, ListsAreStoredAsTorchFlattensThem) {
  auto store = make_memory_store();
  Artifact a;
  for (int i = 0; i < 12; ++i) a.values[fmt::format("group/params/{}", i)] = fmt::format("{}", i);
  a.values["note/0"] = "\"a\"", a.values["note/1/b"] = "null", a.values["call"] = "{\"args\": [[1, 2], 3], \"x\": {}}";
  a.tensors = {{"list/1", f32_tensor({1}, {1})}, {"list/0", f32_tensor({1}, {0})}};
  (void)written(*store, a, "d", "dcp");
  const auto m = parse_dcp_metadata(get_file(*store, "d/.metadata"), "d");
  ASSERT_TRUE(m.ok()) << m.error().message;
  std::vector<std::string> keys;
  for (const auto& e : m->entries) keys.push_back(e.key);
  EXPECT_EQ(keys, (std::vector<std::string>{"list.1", "list.0", "call.args", "call.x", "group.params", "note.0", "note.1.b"}));
  EXPECT_EQ(open_model(*store, "d")->values.at("group/params/11"), "11");
}

TEST(Dcp, NamesThatWouldBeStoredAsOneAreRefused) {
  Artifact a;
  a.tensors = {{"a/b", f32_tensor({1}, {1})}, {"a.b", f32_tensor({1}, {1})}};
  a.values = {{"step", "1"}};  // a state, whose slashes lead down
  auto store = make_memory_store();
  const auto output = make_output(a, *store, "d", "dcp");
  ASSERT_TRUE(output.ok());
  const auto report = run_job({*output}, {});
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("two of its names would be stored as 'a.b'"), std::string::npos) << report.error().message;
}

// A hostile .metadata names one place again and again.
TEST(Dcp, AnArchiveIsOpenedOnceHoweverOftenItIsNamed) {
  auto store = make_memory_store();
  Artifact a;
  for (int i = 0; i < 3; ++i) a.tensors.push_back({fmt::format("w{}", i), f32_tensor({1}, {float(i)})});
  (void)written(*store, a, "d", "dcp");
  const std::vector<std::string> files = {".metadata", "__0_0.distcp"};
  const size_t whole = zip_records(*store, "d", files)->archives.size();
  EXPECT_EQ(whole, 3u);
  std::string metadata = get_file(*store, "d/.metadata");
  const auto m = parse_dcp_metadata(metadata, "d");
  ASSERT_TRUE(m.ok());
  // The last one's offset is the first one's.
  const uint64_t offset = m->entries[2].chunks[0].place.offset;
  const size_t at = metadata.rfind("J" + std::string(reinterpret_cast<const char*>(&offset), 4));
  ASSERT_NE(at, std::string::npos);
  metadata.replace(at, 5, std::string("K\0", 2));
  put_file(*store, "d/.metadata", metadata);
  const auto once = zip_records(*store, "d", files);
  ASSERT_TRUE(once.ok());
  EXPECT_EQ(once->archives.size(), 2u);
  EXPECT_TRUE(once->faults.empty());
}

// Megatron's, made of what is written: layers on a first axis, common.pt, metadata.json, and the text above.
TEST(Dcp, MegatronsLayersAreUnstacked) {
  auto store = make_memory_store();
  const auto weights = random_floats(2 * 4 * 3, 1), norms = random_floats(2 * 3, 2);
  Artifact a, common;
  a.tensors = {{"decoder.layers.mlp.linear_fc1.weight", f32_tensor({2, 4, 3}, weights)},
               {"decoder.layers.mlp.linear_fc1.layer_norm_weight", f32_tensor({2, 3}, norms)},
               {"decoder.layers.self_attention.linear_qkv.layer_norm_bias", f32_tensor({2, 3}, norms)},
               {"decoder.final_layernorm.weight", f32_tensor({3}, random_floats(3, 3))},
               {"optimizer.state.fp32_param.decoder.layers.mlp.linear_fc1.weight", f32_tensor({2, 4, 3}, weights)},
               {"optimizer.state.exp_avg.embedding.word_embeddings.weight", f32_tensor({2, 2}, {1, 2, 3, 4})}};
  (void)written(*store, a, "run/iter_0000012", "dcp");
  const auto error = [&](const std::string& path) {
    const auto opened = open_model(*store, path);
    return opened.ok() ? "opens" : opened.error().message;
  };
  put_file(*store, "run/iter_0000012/metadata.json", "{\"sharded_backend\": \"torch_dist\", \"common_backend\": \"torch\"}");
  EXPECT_NE(error("run/iter_0000012").find("there is no common.pt"), std::string::npos) << error("run/iter_0000012");
  common.values = {{"iteration", "12"}, {"args/num_layers", "2"}};
  common.tensors = {{"optimizer/common_step", f32_tensor({}, {12})}};
  (void)written(*store, common, "run/iter_0000012/common.pt", "torch");
  put_file(*store, "run/latest_checkpointed_iteration.txt", "12\n");
  const auto m = open_model(*store, "run");
  ASSERT_TRUE(m.ok()) << m.error().message;
  EXPECT_EQ(m->format, "megatron");
  std::vector<std::string> names;
  for (const auto& t : m->tensors) names.push_back(t.name);
  EXPECT_EQ(names, (std::vector<std::string>{"model/decoder.layers.0.mlp.linear_fc1.weight", "model/decoder.layers.1.mlp.linear_fc1.weight", "model/decoder.layers.0.pre_mlp_layernorm.weight",
                                             "model/decoder.layers.1.pre_mlp_layernorm.weight", "model/decoder.layers.0.input_layernorm.bias", "model/decoder.layers.1.input_layernorm.bias",
                                             "model/decoder.final_layernorm.weight", "master/decoder.layers.0.mlp.linear_fc1.weight", "master/decoder.layers.1.mlp.linear_fc1.weight",
                                             "exp_avg/embedding.word_embeddings.weight", "optimizer/common_step"}));
  EXPECT_EQ(to_floats(*evaluate(m->tensors[1].node)), std::vector<float>(weights.begin() + 12, weights.end()));
  EXPECT_EQ(to_floats(*evaluate(m->tensors[5].node)), std::vector<float>(norms.begin() + 3, norms.end()));
  for (int i : {0, 1, 2}) expect_regions_match(m->tensors[static_cast<size_t>(i)].node, 5, 1);
  EXPECT_EQ(m->values.at("iteration"), "12");

  put_file(*store, "run/latest_checkpointed_iteration.txt", "9");
  EXPECT_NE(error("run").find("it names iteration 9, but there is no iter_0000009; of those that are there give one itself: run/iter_0000012"), std::string::npos) << error("run");
  put_file(*store, "run/latest_checkpointed_iteration.txt", "relea");
  EXPECT_NE(error("run").find("it says 'relea', expected the number of an iteration, or release"), std::string::npos) << error("run");
  EXPECT_NE(error("run/iter_0000012/__0_0.distcp").find("give the directory: run/iter_0000012"), std::string::npos);
}

// A chunk whose archive is another's is found when it is read.
TEST(Dcp, AChunkOfAnotherShapeIsToldWhenItIsRead) {
  auto store = make_memory_store();
  Artifact a;
  a.tensors = {{"w", f32_tensor({2, 3}, random_floats(6, 1))}};
  (void)written(*store, a, "a", "dcp");
  a.tensors = {{"w", f32_tensor({3, 2}, random_floats(6, 1))}};
  (void)written(*store, a, "b", "dcp");
  put_file(*store, "b/__0_0.distcp", get_file(*store, "a/__0_0.distcp"));
  const auto mixed = open_model(*store, "b");
  ASSERT_TRUE(mixed.ok()) << mixed.error().message;
  const auto bytes = evaluate(mixed->tensors[0].node);
  ASSERT_FALSE(bytes.ok());
  EXPECT_NE(bytes.error().message.find("a chunk of F32 [2, 3] lies there, by the metadata it is F32 [3, 2]"), std::string::npos) << bytes.error().message;
}

// Half a byte an element: rows of none to divide by.
TEST(Dcp, TensorsOfLessThanAByteAreRefusedNotDivided) {
  Artifact a;
  a.naming = "hf";
  a.tensors = {{"w", make_memory_tensor({DType::kF4, {1 << 18}}, std::vector<std::byte>(1 << 17))}};
  auto store = make_memory_store();
  const auto output = make_output(a, *store, "d", "dcp", 64 << 10);
  EXPECT_FALSE(output.ok() && plan_job({*output}, {}).ok());
}

}  // namespace
}  // namespace ingot
