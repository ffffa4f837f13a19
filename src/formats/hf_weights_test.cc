// Directories of weights as people really have them: each opens as transformers opens it, or says what is missing and where it is.
#include "formats/hf_weights.h"

#include <filesystem>
#include <fstream>

#include "formats/formats_testing.h"
#include "formats/index_check.h"
#include "formats/outputs.h"

namespace ingot {
namespace {

using namespace ingot::testing;

const std::string kPointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976698672\n";
const std::string kIndex = "m/model.safetensors.index.json";

class HfWeights : public ::testing::Test {
 protected:
  // Tensors "t1" .. "tN" of 4 values N, each in a shard of its own where `sharded`.
  void save(const std::string& dir, int n, bool sharded) {
    Artifact a;
    a.format = "safetensors";
    a.files["config.json"] = "{}";
    for (int i = 1; i <= n; ++i) a.tensors.push_back({fmt::format("t{}", i), f32_tensor({4}, std::vector<float>(4, static_cast<float>(n)))});
    write_output(hf_directory_output(a, *store_, dir, sharded ? 1 : kDefaultShardBytes));
  }
  void put(const std::string& path, std::string_view bytes) { put_file(*store_, path, bytes); }
  void copy(const std::string& from, const std::string& to) { put(to, get_file(*store_, from)); }
  void remove(const std::string& path) { ASSERT_TRUE(store_->remove(path).ok()); }

  // m opens with `tensors`, whose values are all `value`; its notices say `said`.
  void opens(size_t tensors, float value, const std::vector<std::string>& said) {
    auto a = open_model(*store_, "m");
    ASSERT_TRUE(a.ok()) << a.error().message;
    EXPECT_EQ(a->naming, "hf");
    EXPECT_EQ(a->tensors.size(), tensors);
    for (const auto& t : a->tensors) EXPECT_EQ(to_floats(*evaluate(t.node)), std::vector<float>(4, value)) << t.name;
    std::string all;
    for (const auto& n : a->notices) all += n + "\n";
    EXPECT_EQ(all.empty(), said.empty()) << all;
    for (const auto& part : said) EXPECT_NE(all.find(part), std::string::npos) << "no '" << part << "' in: " << all;
  }
  void refused(const std::vector<std::string>& said, const std::string& path = "m") {
    auto a = open_model(*store_, path);
    ASSERT_FALSE(a.ok());
    EXPECT_EQ(a.error().kind, ErrorKind::kBadInput);
    for (const auto& part : said) EXPECT_NE(a.error().message.find(part), std::string::npos) << "no '" << part << "' in: " << a.error().message;
  }

  std::unique_ptr<Store> store_ = make_memory_store();
};

TEST_F(HfWeights, APlainModelSaysNothing) {
  save("m", 2, false);
  for (const char* beside : {"m/optimizer.pt", "m/consolidated.safetensors", "m/model.fp16.safetensors",
                             "m/training_args.bin", "m/._model.safetensors"})
    put(beside, "not read");
  opens(2, 2, {});
  save("s", 3, true);
  EXPECT_TRUE(open_model(*store_, "s")->notices.empty());
}

TEST_F(HfWeights, WithoutItsIndexASetThatIsWholeOpens) {
  save("m", 3, true);
  remove(kIndex);
  opens(3, 3, {"there is no model.safetensors.index.json", "3 shards", "whole"});
  // Beside it what Mistral's repositories have, and what a training left.
  put("m/consolidated.safetensors", "not read");
  put("m/optimizer.pt", "x");
  put("m/._model-00001-of-00003.safetensors", "of macOS");
  put("m/model.fp16.safetensors", "not read");
  opens(3, 3, {"3 shards", "passed over: model.fp16.safetensors"});
}

TEST_F(HfWeights, ASetMayCountFromNought) {
  save("m", 2, true);
  remove(kIndex);
  copy("m/model-00001-of-00002.safetensors", "m/model-00000-of-00002.safetensors");
  copy("m/model-00002-of-00002.safetensors", "m/model-00001-of-00002.safetensors");
  remove("m/model-00002-of-00002.safetensors");
  opens(2, 2, {"2 shards"});
}

TEST_F(HfWeights, WithoutItsIndexASetThatIsNotWholeNamesWhatIsMissing) {
  save("m", 6, true);
  remove(kIndex);
  remove("m/model-00002-of-00006.safetensors");
  put("m/model-00002-of-00006.safetensors.incomplete", "half");
  refused({"opening m:", "of 6 shards 5 are there", "missing: model-00002-of-00006.safetensors;",
           "unfinished: model-00002-of-00006.safetensors.incomplete"});
  for (int i : {1, 3, 4, 6}) remove(fmt::format("m/model-0000{}-of-00006.safetensors", i));
  // One that is left is no model either, though it is the only file.
  refused({"of 6 shards 1 is there", "model-00001-of-00006.safetensors, model-00002-of-00006.safetensors, model-00003-of-00006.safetensors and 2 more"});
}

TEST_F(HfWeights, AClaimOfManyShardsCostsNothing) {
  put("m/config.json", "{}");
  put("m/model-00007-of-99999.safetensors", "x");
  refused({"of 99999 shards 1 is there", "model-00001-of-99999.safetensors", "and 99995 more"});
  put("n/model-7-of-999999999.safetensors", "x");
  refused({"of 999999999 shards 1 is there", "model-1-of-999999999.safetensors"}, "n");
  // No name of a shard: numbers that are none, too long, too large.
  for (const char* name : {"model-00003-of-00002", "model-1-of-0", "model-of-2", "-1-of-1", "model-1-of-99999999999999999999999", "model-1of-2"}) {
    store_ = make_memory_store();
    save("one", 1, false);
    copy("one/model.safetensors", fmt::format("m/{}.safetensors", name));
    opens(1, 1, {fmt::format("{}.safetensors is taken, the only safetensors file here", name)});
  }
}

TEST_F(HfWeights, ATensorInTwoShardsIsAnError) {
  save("m", 2, true);
  remove(kIndex);
  copy("m/model-00001-of-00002.safetensors", "m/model-00002-of-00002.safetensors");
  refused({"opening m:", "tensor 't1' is in two shards", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"});
}

TEST_F(HfWeights, TwoSetsWithoutAnIndexAreNotGuessed) {
  save("m", 3, true);
  save("n", 2, true);
  copy("n/model-00001-of-00002.safetensors", "m/model-00001-of-00002.safetensors");
  remove(kIndex);
  refused({"2 sets", "1 of 2 like model-00001-of-00002.safetensors", "3 of 3 like model-00001-of-00003.safetensors"});
  // A set of a variant is no rival: transformers asks for it by name.
  remove("m/model-00001-of-00002.safetensors");
  for (int i : {1, 2}) copy(fmt::format("n/model-0000{}-of-00002.safetensors", i), fmt::format("m/model.fp16-0000{}-of-00002.safetensors", i));
  opens(3, 3, {"3 shards"});
  for (int i : {1, 2, 3}) remove(fmt::format("m/model-0000{}-of-00003.safetensors", i));
  opens(2, 2, {"2 shards"});
}

TEST_F(HfWeights, TheSingleFileGoesBeforeAnIndexAsInTransformers) {
  save("m", 3, true);
  save("n", 2, false);
  copy("n/model.safetensors", "m/model.safetensors");
  opens(2, 2, {"model.safetensors is taken", "passed over", "model.safetensors.index.json, model-00001-of-00003.safetensors", "1 more"});
  // Shards alone, and an index alone, are as old.
  remove(kIndex);
  opens(2, 2, {"model-00001-of-00003.safetensors, model-00002-of-00003.safetensors, model-00003-of-00003.safetensors"});
  for (int i : {1, 2, 3}) remove(fmt::format("m/model-0000{}-of-00003.safetensors", i));
  // MLX writes an index of the single file.
  put(kIndex, "broken, and of no interest");
  opens(2, 2, {});
}

TEST_F(HfWeights, ShardsThatTheIndexDoesNotNameAreTold) {
  save("m", 3, true);
  put("m/model-00001-of-00005.safetensors", "of an earlier save");
  put("m/consolidated.safetensors", "the same model once more");
  opens(3, 3, {"the index does not name model-00001-of-00005.safetensors; passed over"});
  put("m/extra.safetensors", "of anything");
  opens(3, 3, {"the index does not name extra.safetensors, model-00001-of-00005.safetensors", "passed over"});
}

TEST_F(HfWeights, AnIndexThatNamesAbsentFilesSaysWhatIsThere) {
  save("m", 4, true);
  remove("m/model-00002-of-00004.safetensors");
  refused({kIndex, "1 of the 4 files that the index names is not there: model-00002-of-00004.safetensors.", "hf download"});
  put("m/model-00002-of-00004.safetensors.part", "half");
  put("m/.cache/huggingface/download/model-00002-of-00004.safetensors.4d7a.incomplete", "half");
  refused({"unfinished downloads: model-00002-of-00004.safetensors.part, "
           ".cache/huggingface/download/model-00002-of-00004.safetensors.4d7a.incomplete"});
  // Of those that are there one is a pointer, or has no byte.
  put("m/model-00003-of-00004.safetensors", kPointer);
  refused({"1 of the 4", "one cannot be read", "git-lfs pointer"});
  put("m/model-00003-of-00004.safetensors", "");
  refused({"1 of the 4", "one cannot be read", "model-00003-of-00004.safetensors: the file is empty"});
  for (int i : {1, 3, 4}) remove(fmt::format("m/model-0000{}-of-00004.safetensors", i));
  put("m/weights.safetensors", "x");
  refused({"4 of the 4 files", "and 1 more", "instead there is weights.safetensors"});
}

TEST_F(HfWeights, AnIndexOfAnotherSaveBesideAWholeSet) {
  save("m", 3, true);
  save("n", 5, true);
  copy("n/model.safetensors.index.json", kIndex);
  refused({"5 of the 5 files", "a whole set of 3 shards", "model-00001-of-00003.safetensors", "remove the index"});
  remove(kIndex);
  opens(3, 3, {"3 shards"});
}

TEST_F(HfWeights, AnIndexOfAMillionShards) {
  std::string map;
  for (int i = 0; i < 1'000'000; ++i) map += fmt::format("{}\"{}\":\"{:x}\"", i ? "," : "", i, i);
  put(kIndex, "{\"weight_map\":{" + map + "}}");
  refused({"1000000 of the 1000000 files", "and 999997 more"});
}

TEST_F(HfWeights, APointerOrAPageInPlaceOfAFileIsNamed) {
  struct Case {
    const char* bytes;
    const char* said;
  };
  const Case cases[] = {{kPointer.c_str(), "git lfs pull"},
                        {"<!DOCTYPE html>\n<html><head>", "a web page"},
                        {"\xEF\xBB\xBF\n  <HTML lang=en>", "a web page"},
                        {"Entry not found", "a server's refusal"},
                        {"Access to model meta-llama/Llama-3.2-1B is restricted.", "a server's refusal"},
                        {"", "the file is empty"}};
  for (const Case& c : cases) {
    store_ = make_memory_store();
    save("m", 2, true);
    put("m/model-00002-of-00002.safetensors", c.bytes);
    refused({"m/model-00002-of-00002.safetensors", c.said});
    refused({"m/model-00002-of-00002.safetensors", c.said}, "m/model-00002-of-00002.safetensors");
    save("m", 2, true);
    put(kIndex, c.bytes);
    refused({kIndex, c.said});
    put("m/model.safetensors", c.bytes);
    refused({"m/model.safetensors", c.said});
    put("a/adapter_config.json", "{}");
    put("a/adapter_model.safetensors", c.bytes);
    refused({"a/adapter_model.safetensors", c.said}, "a");
    put("x.gguf", c.bytes);
    refused({"x.gguf", c.said}, "x.gguf");
    // Nobody reads config.json here, and who does says so.
    store_ = make_memory_store();
    save("m", 1, false);
    put("m/config.json", c.bytes);
    opens(1, 1, {});
  }
  put("m/chat_template.jinja", kPointer);
  refused({"m/chat_template.jinja", "git-lfs pointer"});
}

TEST_F(HfWeights, TheOnlyFileIsTakenWhateverItsName) {
  save("n", 2, false);
  copy("n/model.safetensors", "m/model.fp16.safetensors");
  put("m/config.json", "{}");
  opens(2, 2, {"model.fp16.safetensors is taken, the only safetensors file here"});
  put("m/consolidated.safetensors", "not read");
  opens(2, 2, {"model.fp16.safetensors is taken, the only safetensors file here"});
  copy("n/model.safetensors", "m/model.bf16.safetensors");
  refused({"2 *.safetensors files", "model.bf16.safetensors, model.fp16.safetensors", "give the one that is wanted the name model.safetensors"});
}

TEST_F(HfWeights, AnAdapterBesideTheModelsWeightsIsNotTheModel) {
  save("m", 3, true);
  put("m/adapter_config.json", "{}");
  copy("m/model-00001-of-00003.safetensors", "m/adapter_model.safetensors");
  opens(3, 3, {"adapter_model.safetensors", "not applied"});
  remove(kIndex);
  opens(3, 3, {"not applied", "3 shards"});
}

// verl saves the adapter below the base; axolotl the configurations of both above checkpoints of the adapter.
TEST_F(HfWeights, AnAdapterBelowTheModelsWeightsIsTold) {
  save("m", 1, false);
  put("m/lora_adapter/adapter_config.json", "{}");
  opens(1, 1, {"the adapter in m/lora_adapter is not applied"});
  for (const char* step : {"90", "1000"}) copy("m/model.safetensors", fmt::format("x/checkpoint-{}/adapter_model.safetensors", step));
  save("x", 1, false);
  EXPECT_TRUE(open_model(*store_, "x")->notices.empty());
  put("x/adapter_config.json", "{}");
  const auto a = open_model(*store_, "x");
  ASSERT_TRUE(a.ok()) << a.error().message;
  ASSERT_EQ(a->notices.size(), 1u);
  EXPECT_NE(a->notices[0].find("give the last, x/checkpoint-1000, by --adapter"), std::string::npos) << a->notices[0];
}

TEST_F(HfWeights, AnAdapterOfMlxIsNoModel) {
  save("n", 1, false);
  put("m/adapter_config.json", "{}");
  copy("n/model.safetensors", "m/adapters.safetensors");
  refused({"opening the adapter m", "MLX", "mlx_lm.fuse"});
}

TEST_F(HfWeights, RowsOfAddedTokensBesideAnAdapterAreTold) {
  save("n", 1, false);
  put("m/adapter_config.json", "{}");
  copy("n/model.safetensors", "m/adapter_model.safetensors");
  copy("n/model.safetensors", "m/new_embeddings.safetensors");
  const auto a = open_model(*store_, "m");
  ASSERT_TRUE(a.ok()) << a.error().message;
  ASSERT_EQ(a->notices.size(), 1u);
  EXPECT_NE(a->notices[0].find("new_embeddings.safetensors"), std::string::npos) << a->notices[0];
}

// What the Trainer leaves of an adapter.
TEST_F(HfWeights, ACheckpointOfAnAdapterIsTheAdapter) {
  save("n", 1, false);
  put("run/checkpoint-500/adapter_config.json", "{}");
  copy("n/model.safetensors", "run/checkpoint-500/adapter_model.safetensors");
  for (const char* name : {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin", "README.md", "global_step500/x.pt"})
    put(fmt::format("run/checkpoint-500/{}", name), "x");
  auto a = open_model(*store_, "run/checkpoint-500");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->naming, "peft");
  EXPECT_TRUE(a->notices.empty());
  // Above it the last is taken, by its number.
  for (const char* step : {"1000", "90"})
    for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
      copy(fmt::format("run/checkpoint-500/{}", name), fmt::format("run/checkpoint-{}/{}", step, name));
  put("run/runs/log", "x");
  put("run/trainer_state.json", "{}");
  EXPECT_EQ(open_model(*store_, "run")->path, "run/checkpoint-1000");
  put("run/adapter_config.json", "{}");  // axolotl puts it there first
  EXPECT_EQ(open_model(*store_, "run")->path, "run/checkpoint-1000");
}

TEST_F(HfWeights, WithoutWeightsTheyAreSoughtNearby) {
  save("m/model", 1, false);
  refused({"opening m:", "give m/model"});
  put("m/config.json", "{}");
  refused({"no *.safetensors file; its subdirectory has: give m/model"});
  save("m/final", 1, false);
  refused({"give m/model (or final)"});

  const std::pair<const char*, const char*> cases[] = {
      {"global_step12/zero_pp_rank_0_mp_rank_00_model_states.pt", "m/global_step12/zero_pp_rank_0_mp_rank_00_model_states.pt: it begins"},
      {"zero_to_fp32.py", "copy global_stepN/ and latest, too"},
      {"pytorch_model_fsdp_0/__0_0.distcp", "opening m/pytorch_model_fsdp_0: it has data of ranks (*.distcp), but no .metadata"},
      {"model.safetensors.crdownload", "only unfinished downloads (model.safetensors.crdownload)"},
      {"optimizer.pt", "download the weights"},
      {"tokenizer.json", "download the weights"},
  };
  for (const auto& [file, said] : cases) {
    store_ = make_memory_store();
    put("m/config.json", "{}");
    put(fmt::format("m/{}", file), "x");
    refused({said});
  }
}

TEST_F(HfWeights, WhatTheConfigurationNamesIsTaken) {
  save("m", 2, false);
  save("n", 3, true);
  save("one", 1, false);
  for (int i : {1, 2, 3}) copy(fmt::format("n/model-0000{}-of-00003.safetensors", i), fmt::format("m/sub/model-0000{}-of-00003.safetensors", i));
  put("m/sub/a.safetensors.index.json", "{\"weight_map\": {\"t1\": \"sub/model-00001-of-00003.safetensors\", \"t2\": \"sub/model-00002-of-00003.safetensors\", "
                                        "\"t3\": \"sub/model-00003-of-00003.safetensors\"}}");
  copy("one/model.safetensors", "m/other.safetensors");
  const auto config = [&](const std::string& name) { put("m/config.json", "{\"a\": 1, \"transformers_weights\": " + name + "}"); };
  config("\"other.safetensors\"");
  opens(1, 1, {"other.safetensors is taken, which config.json names (transformers_weights)"});
  config("\"sub/a.safetensors.index.json\"");
  opens(3, 3, {"sub/a.safetensors.index.json is taken"});
  // What is written has the usual names.
  EXPECT_EQ(open_model(*store_, "m")->files.at("config.json"), "{\n  \"a\": 1\n}\n");
  // Whatever else lies there.
  remove("m/model.safetensors");
  put("m/pytorch_model.bin", "PK");
  opens(3, 3, {"sub/a.safetensors.index.json is taken"});
  config("\"gone.safetensors\"");
  refused({"m/gone.safetensors"});
  for (const char* bad : {"\"../n/x.safetensors\"", "\"/x.safetensors\"", "\"adapter_model.bin\"", "3", "[]"}) {
    config(bad);
    refused({"'transformers_weights' of config.json is", "expected a *.safetensors file of the directory"});
  }
  config("null");
  refused({"pytorch_model.bin"});
}

// As transformers has it: of an index only the files count.
TEST_F(HfWeights, WhatAnIndexSaysOfTensorsIsTold) {
  save("m", 2, true);
  const auto index = [&](const std::string& map) { put(kIndex, "{\"weight_map\": {" + map + "}}"); };
  const std::string one = "\"model-00001-of-00002.safetensors\"", two = "\"model-00002-of-00002.safetensors\"";
  index("\"t1\":" + two + ",\"t2\":" + one);
  opens(2, 2, {"another shard than the index says: 't1' (model-00001-of-00002.safetensors, not model-00002-of-00002.safetensors), 't2'"});
  index("\"t1\":" + one + ",\"t2\":" + two + ",\"inv_freq\":" + one);
  opens(2, 2, {"no shard has: 'inv_freq'"});
  index("\"t1\":" + one + ",\"x\":" + two + ",\"y\":" + two);
  refused({"opening m/model.safetensors.index.json: none of the 2 tensors that it names for model-00002-of-00002.safetensors is there, in that file or another ('x', 'y')"});
  // Its total size matters to nobody; who looks is told.
  put(kIndex, "{\"metadata\": {\"total_size\": 33.0}, \"weight_map\": {\"t1\":" + one + ",\"t2\":" + two + "}}");
  opens(2, 2, {});
  const auto index_of = check_indexes(*store_, "m");
  ASSERT_TRUE(index_of.ok() && index_of->errors.empty() && index_of->warnings.size() == 1);
  EXPECT_NE(index_of->warnings[0].find("its total_size is 33, but the tensors of its shards take 32"), std::string::npos) << index_of->warnings[0];
  save("n", 3, false);
  copy("n/model.safetensors", "m/copy.safetensors");  // t1 and t2 of other values, before the shards in order
  index("\"t3\":\"copy.safetensors\",\"t1\":" + one + ",\"t2\":" + two);
  const auto a = open_model(*store_, "m");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_NE(a->notices[0].find("in two shards, of which the later counts: 't1' (copy.safetensors, model-00001-of-00002.safetensors)"), std::string::npos) << a->notices[0];
  EXPECT_EQ(to_floats(*evaluate(a->find("t1")->node)), std::vector<float>(4, 2));
  EXPECT_EQ(to_floats(*evaluate(a->find("t3")->node)), std::vector<float>(4, 3));
}

TEST_F(HfWeights, OtherFormatsAreNamed) {
  save("n", 1, false);
  copy("n/model.safetensors", "m/consolidated.safetensors");
  put("m/params.json", "{}");
  refused({"consolidated.safetensors", "Mistral's own format", "convert_mistral_weights_to_hf.py"});
  put("meta/params.json", "{}");
  for (const char* rank : {"meta/consolidated.00.pth", "meta/consolidated.01.pth"}) {
    put(rank, "weights");
    refused({"consolidated.00.pth", "Meta's own format", "convert_llama_weights_to_hf.py"}, "meta");
  }
  save("v", 2, true);
  for (int i : {1, 2}) copy(fmt::format("v/model-0000{}-of-00002.safetensors", i), fmt::format("f/model-0000{}-of-00002.fp16.safetensors", i));
  put("f/model.safetensors.index.fp16.json", "{}");
  refused({"variant", "model.safetensors.index.fp16.json", "give the index the name model.safetensors.index.json"}, "f");
  copy("n/model.safetensors", "single/model-00001-of-00001.safetensors");
  const auto single = open_model(*store_, "single");
  ASSERT_TRUE(single.ok()) << single.error().message;
  EXPECT_NE(single->notices[0].find("the name of model-00001-of-00001.safetensors proves it whole"), std::string::npos) << single->notices[0];
  save("hub/snapshots/4d7a", 1, false);
  put("hub/refs/main", "4d7a");
  refused({"give hub/snapshots/4d7a"}, "hub");
  for (const auto& [file, said] : {std::pair{"m.gguf", "it has a GGUF file: give d/m.gguf"}, {"tf_model.h5", "weights of TensorFlow or Flax (tf_model.h5)"},
                                   {"flax_model.msgpack", "weights of TensorFlow or Flax (flax_model.msgpack)"}}) {
    store_ = make_memory_store();
    put("d/config.json", "{}");
    put(fmt::format("d/{}", file), "x");
    refused({said}, "d");
  }
  put("x/model.safetensors", "# xet version 0\nfilesize = 13644312\n");
  refused({"pointer of the Hub's Xet storage"}, "x");
  for (const char* name : {"model.safetensors.index.json", "config.json"}) {
    put(fmt::format("x/{}", name), "{\"weight_map\": {}}");
    refused({"give the directory that it lies in: x"}, fmt::format("x/{}", name));
  }
}

TEST_F(HfWeights, AnAdapterOfTorchBesideTheModelIsTold) {
  save("m", 1, false);
  put("m/adapter_model.bin", "x");
  opens(1, 1, {"(adapter_model.bin) is not applied"});
}

// A snapshot of the Hub's cache is links to blobs.
TEST(HfWeightsLocal, ALinkToABlobThatIsNotThere) {
  namespace fs = std::filesystem;
  const std::string dir = ::testing::TempDir() + "/ingot-dangling";
  fs::remove_all(dir);
  fs::create_directories(dir);
  const auto dangle = [&](const std::string& name) {
    fs::remove(dir + "/" + name);
    fs::create_symlink("../../blobs/4d7a", dir + "/" + name);
  };
  const auto expect_link = [&](const std::string& name) {
    auto a = open_model(local_store(), dir);
    ASSERT_FALSE(a.ok()) << name;
    EXPECT_NE(a.error().message.find(name + ": it is a link to a file that is not there"), std::string::npos) << a.error().message;
  };
  std::ofstream(dir + "/config.json") << "{}";
  dangle("model.safetensors");
  expect_link("model.safetensors");
  // An index beside it is taken.
  Artifact one;
  one.format = "safetensors";
  one.tensors.push_back({"t", f32_tensor({1}, {1})});
  write_output(safetensors_output(one, local_store(), dir + "/shard.safetensors"));
  std::ofstream(dir + "/model.safetensors.index.json") << R"({"weight_map": {"t": "shard.safetensors"}})";
  dangle("generation_config.json");
  auto a = open_model(local_store(), dir);
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_NE(a->find("t"), nullptr);
  ASSERT_EQ(a->notices.size(), 2u);
  EXPECT_NE(a->notices[0].find("model.safetensors is a link to a file that is not there; model.safetensors.index.json is taken"), std::string::npos) << a->notices[0];
  EXPECT_NE(a->notices[1].find("generation_config.json: it is a link"), std::string::npos) << a->notices[1];
  for (const char* name : {"tokenizer.json", "config.json", "model.safetensors.index.json"}) {
    dangle(name);
    expect_link(name);
    fs::remove(dir + "/" + name);
    if (std::string(name) == "config.json") std::ofstream(dir + "/config.json") << "{}";
  }
  fs::remove_all(dir);
}

TEST(HfWeightsLocal, AFolderOfTemplatesThatIsALinkToNothing) {
  namespace fs = std::filesystem;
  const std::string dir = ::testing::TempDir() + "/ingot-templates", folder = dir + "/additional_chat_templates";
  fs::remove_all(dir);
  Artifact a;
  a.files["config.json"] = "{}";
  a.tensors.push_back({"t", f32_tensor({1}, {1})});
  write_output(hf_directory_output(a, local_store(), dir, kDefaultShardBytes));
  fs::create_symlink("gone", folder);
  const auto gone = open_model(local_store(), dir);
  ASSERT_FALSE(gone.ok());
  EXPECT_NE(gone.error().message.find(folder + ": it is a link to a directory that is not there"), std::string::npos) << gone.error().message;
  fs::create_directory(dir + "/gone");
  std::ofstream(dir + "/gone/rag.jinja") << "R";
  auto there = open_model(local_store(), dir);
  ASSERT_TRUE(there.ok()) << there.error().message;
  EXPECT_EQ(there->files["additional_chat_templates/rag.jinja"], "R");
  // As in transformers, a file of that name is none of the model's.
  fs::remove(folder);
  std::ofstream(folder) << "x";
  EXPECT_TRUE(open_model(local_store(), dir).ok());
  fs::remove_all(dir);
}

}  // namespace
}  // namespace ingot
