// ingot convert between formats that hold weights: what comes back is what went in.
#include <gtest/gtest.h>

#include <filesystem>

#include "program.h"

namespace ingot::testing {
namespace {

const std::string kBase = example("tiny-llama-base");

class Convert : public CliTest {
 protected:
  void convert(std::vector<std::string> words) const {
    words.insert(words.begin(), "convert");
    const Finished f = ingot(words);
    EXPECT_EQ(f.exit_code, 0) << f.out << f.err;
  }
  std::string hash(const std::string& path, const char* which = "exact") const {
    const Finished f = ingot({"hash", path, "--json"});
    EXPECT_EQ(f.exit_code, 0) << f.out << f.err;
    return result_of(f)[which];
  }
  void refused(const std::vector<std::string>& words, int exit_code, const std::string& part) const {
    const Finished f = ingot(words);
    EXPECT_EQ(f.exit_code, exit_code) << f.out << f.err;
    EXPECT_NE(f.err.find(part), std::string::npos) << f.err;
  }
};

TEST_F(Convert, ThroughEveryFormatAndBack) {
  const std::string exact = hash(kBase);
  convert({kBase, dir_ / "model.bin"});
  convert({kBase, "--to", "torch", "--out", dir_ / "binary", "--max-shard-size", "4MB"});
  convert({kBase, "--to", "dcp", "--out", dir_ / "dcp"});
  EXPECT_TRUE(exists(dir_ / "binary/pytorch_model.bin.index.json"));
  EXPECT_TRUE(exists(dir_ / "binary/tokenizer.json"));
  EXPECT_TRUE(exists(dir_ / "dcp/.metadata"));
  for (const char* made : {"model.bin", "binary", "dcp"}) EXPECT_EQ(hash(dir_ / made), exact) << made;
  convert({dir_ / "dcp", "--out", dir_ / "back", "--config-from", kBase});
  EXPECT_TRUE(same_bytes(dir_ / "back/model.safetensors", kBase + "/model.safetensors"));
  EXPECT_TRUE(exists(dir_ / "back/tokenizer.json"));
  // And weights of torch are a model wherever one is taken.
  convert({dir_ / "binary", dir_ / "a.gguf", "F16"});
  convert({kBase, dir_ / "b.gguf", "F16", "--name", "binary"});
  EXPECT_EQ(hash(dir_ / "a.gguf"), hash(dir_ / "b.gguf"));
  convert({kBase, dir_ / "model.npz", "--dtype", "f32"});
  EXPECT_EQ(hash(dir_ / "model.npz", "value"), hash(kBase, "value"));
}

TEST_F(Convert, GgufBecomesADirectoryOfTheSameModel) {
  convert({kBase, dir_ / "f32.gguf", "F32"});
  convert({dir_ / "f32.gguf", "--out", dir_ / "hf", "--dtype", "bf16"});
  EXPECT_EQ(hash(dir_ / "hf"), hash(kBase));
  const std::string text = "The quick\n\tbrown fox, 12345 \xC3\xA9\xE6\xBC\xA2";
  EXPECT_EQ(ingot({"tokenize", dir_ / "hf", "--text", text}).out, ingot({"tokenize", kBase, "--text", text}).out);
  convert({dir_ / "hf", dir_ / "again.gguf", "F32"});
  EXPECT_EQ(hash(dir_ / "again.gguf"), hash(dir_ / "f32.gguf"));
}

TEST_F(Convert, WhatIsAlreadyWhatIsAskedIsCopiedWhenThatIsAskedFor) {
  convert({kBase, "--out", dir_ / "m.gguf"});
  const std::vector<std::pair<std::string, std::string>> same = {{kBase, "dir"}, {kBase + "/model.safetensors", "a.safetensors"}, {dir_ / "m.gguf", "n.gguf"}};
  for (const auto& [from, to] : same) {
    refused({"convert", from, "--out", dir_ / to}, 2, "is already what is asked");
    EXPECT_FALSE(exists(dir_ / to));
    convert({from, "--out", dir_ / to, "--force-copy"});
    EXPECT_EQ(hash(dir_ / to), hash(from));
  }
  EXPECT_TRUE(same_bytes(dir_ / "m.gguf", dir_ / "n.gguf") && same_bytes(kBase + "/model.safetensors", dir_ / "a.safetensors"));
  // Nothing hashed: a plain copy, which finds its own output as any other.
  convert({dir_ / "m.gguf", "--out", dir_ / "new/o.gguf", "--force-copy", "--no-hash"});
  EXPECT_TRUE(same_bytes(dir_ / "m.gguf", dir_ / "new/o.gguf"));
  refused({"convert", dir_ / "m.gguf", "--out", dir_ / "new/o.gguf", "--force-copy", "--no-hash"}, 2, "exists already");
  refused({"convert", kBase, "--out", dir_ / "other", "--force-copy", "--no-hash"}, 2, "is a directory");
  refused({"convert", kBase, "--out", dir_ / "p.gguf", "--no-hash"}, 2, "--force-copy");
  // Another type, or shards: something is converted.
  convert({dir_ / "m.gguf", "--type", "F32", "--out", dir_ / "f32.gguf"});
  convert({kBase, "--out", dir_ / "shards", "--max-shard-size", "4MB"});
}

TEST_F(Convert, AStateOfTrainingKeepsItsPlainValues) {
  const std::string state = data_file("checkpoints/torch-zip/ckpt/default.pt");
  const auto values = result_of(ingot({"inspect", state, "--json"}))["values"];
  ASSERT_GT(values.size(), 40u);
  convert({state, dir_ / "copy.pt"});
  convert({state, dir_ / "state.safetensors"});
  for (const char* made : {"copy.pt", "state.safetensors"}) {
    EXPECT_EQ(hash(dir_ / made), hash(state)) << made;
    EXPECT_EQ(result_of(ingot({"inspect", dir_ / made, "--json"}))["values"], values) << made;
  }
  refused({"convert", state, "--out", dir_ / "model"}, 2, "no config.json");
}

TEST_F(Convert, ZeroBecomesUniversalAndDcpWithAllOfItsState) {
  const std::string zero = data_file("checkpoints/deepspeed-zero1-bf16/ckpt"), exact = hash(zero);
  convert({zero, "--to", "deepspeed-universal", "--out", dir_ / "universal"});
  convert({zero, "--to", "dcp", "--out", dir_ / "dcp"});
  EXPECT_TRUE(exists(dir_ / "universal/global_step3_universal/zero/emb.weight/exp_avg_sq.pt"));
  // A buffer has its float32 values there, as ds_to_universal copies what no optimizer steps; and the older name of the format is known.
  EXPECT_TRUE(exists(dir_ / "universal/global_step3_universal/zero/seen/fp32.pt"));
  EXPECT_FALSE(exists(dir_ / "universal/global_step3_universal/zero/seen/exp_avg.pt"));
  convert({zero, "--to", "deepspeed", "--out", dir_ / "again"});
  EXPECT_TRUE(same_bytes(dir_ / "universal/global_step3_universal/zero/seen/fp32.pt", dir_ / "again/global_step3_universal/zero/seen/fp32.pt"));
  for (const char* made : {"universal", "dcp"}) EXPECT_EQ(hash(dir_ / made), exact) << made;
  refused({"convert", kBase, "--to", "deepspeed", "--out", dir_ / "none"}, 2, "it has no float32 copies that an optimizer steps");
}

TEST_F(Convert, WeightsWithoutAConfigurationAskForOne) {
  convert({kBase, dir_ / "model.bin"});
  refused({"convert", dir_ / "model.bin", "--out", dir_ / "d/"}, 2, "give the model's own by --config-from DIR, or name one file: " + (dir_ / "d.safetensors"));
  refused({"convert", dir_ / "model.bin", "--out", dir_ / "d", "--config-from", dir_ / "nothing"}, 3, "nothing");
  refused({"convert", kBase, "--out", dir_ / "m.npz"}, 2, "has the type BF16, which NumPy does not have");
  refused({"convert", kBase, "--out", dir_ / "m.pt", "--provenance"}, 2, "no place for a manifest");
  refused({"convert", kBase, "--to", "torch", "--out", dir_ / "m.npz"}, 2, "is the name of a file, but a");
  EXPECT_TRUE(empty_but_for(dir_.path(), {"model.bin"}));
}

// One storage under two names: transformers' save_pretrained writes one of them, save_model says both.
TEST_F(Convert, ADirectoryIsOnlyMadeOfTheTensorsOfItsClass) {
  std::filesystem::copy(kBase, dir_ / "other");
  auto config = nlohmann::json::parse(read_file(kBase + "/config.json"));
  const int64_t layers = config["num_hidden_layers"], rows = config["vocab_size"];
  for (const auto& [key, value, part] : {std::tuple{"num_hidden_layers", layers + 1, "9 of the tensors that LlamaForCausalLM has by config.json are missing"},
                                         std::tuple{"vocab_size", rows + 1, "have another shape than config.json makes"}}) {
    auto changed = config;
    changed[key] = value;
    write_file(dir_ / "other/config.json", changed.dump());
    refused({"convert", kBase, "--out", dir_ / "made", "--config-from", dir_ / "other", "--dtype", "f32"}, 3, part);
    refused({"lora", "merge", dir_ / "other", example("lora-code"), dir_ / "made"}, 3, part);
    EXPECT_FALSE(exists(dir_ / "made"));
    // Of weights that another program saved, too.
    refused({"verify", dir_ / "other"}, 3, part);
  }
  convert({kBase, "--out", dir_ / "one.bin", "--dtype", "f32", "--config-from", dir_ / "other"});  // a file of weights is none of a class
}

TEST_F(Convert, TiedWeightsAreWrittenOnce) {
  std::string header = R"({"__metadata__":{"encoder.embed_tokens.weight":"shared.weight","format":"pt"},"shared.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::filesystem::create_directory(dir_ / "t5");
  write_file(dir_ / "t5/model.safetensors", std::string{static_cast<char>(header.size()), 0, 0, 0, 0, 0, 0, 0} + header + "12345678");
  write_file(dir_ / "t5/config.json", R"({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "tie_word_embeddings": true})");
  convert({dir_ / "t5", "--to", "torch", "--out", dir_ / "bin/"});
  EXPECT_EQ(hash(dir_ / "bin"), hash(dir_ / "t5"));
  convert({dir_ / "bin", "--out", dir_ / "again/"});
  EXPECT_EQ(read_file(dir_ / "again/model.safetensors").find("encoder."), std::string::npos);
  convert({dir_ / "bin/pytorch_model.bin", dir_ / "one.safetensors"});
  // As safetensors' save_model has it: the first name by the alphabet stays, the others are told.
  EXPECT_NE(read_file(dir_ / "one.safetensors").find(R"("shared.weight":"encoder.embed_tokens.weight"},"encoder.embed_tokens.weight":{)"), std::string::npos);
  EXPECT_EQ(hash(dir_ / "one.safetensors"), hash(dir_ / "t5"));
}

TEST_F(Convert, WhatCannotBeCastIsToldWithoutACircle) {
  std::string header = R"({"x":{"dtype":"F4","shape":[16],"data_offsets":[0,8]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  write_file(dir_ / "f4.safetensors", std::string{static_cast<char>(header.size()), 0, 0, 0, 0, 0, 0, 0} + header + "12345678");
  for (const char* out : {"f4.pt", "f4.npz"}) {
    const Finished f = ingot({"convert", dir_ / "f4.safetensors", dir_ / out, "--dtype", "bf16"});
    EXPECT_EQ(f.exit_code, 2);
    EXPECT_NE(f.err.find("F4 cannot be cast yet; kept as it is: x"), std::string::npos) << f.err;
    EXPECT_NE(f.err.find("; write safetensors, which has it"), std::string::npos) << f.err;
  }
}

TEST_F(Convert, AnAdapterBecomesPefts) {
  const std::string lora = data_file("adapters/lora-gguf"), base = data_file("checkpoints/megatron/llama/hf");
  // llama.cpp's file of the same adapter: names, the order of rows and the embedding's factors undone.
  convert({lora + "/lora.gguf", "--to", "peft", "--out", dir_ / "peft", "--config-from", base});
  EXPECT_TRUE(same_bytes(dir_ / "peft/adapter_model.safetensors", lora + "/peft/adapter_model.safetensors"));
  const auto made = nlohmann::json::parse(read_file(dir_ / "peft/adapter_config.json"));
  auto given = nlohmann::json::parse(read_file(lora + "/peft/adapter_config.json"));
  EXPECT_EQ(made["target_modules"], (std::vector<std::string>{"embed_tokens", "down_proj", "k_proj", "q_proj", "v_proj", "model.layers.1.self_attn.o_proj"}));
  EXPECT_EQ(made["rank_pattern"], (nlohmann::json{{"model.layers.0.self_attn.v_proj", 3}, {"model.layers.1.self_attn.v_proj", 3}}));
  EXPECT_EQ(made["base_model_name_or_path"], base);
  for (const char* key : {"target_modules", "rank_pattern", "base_model_name_or_path"}) given[key] = made[key];
  EXPECT_EQ(made, given);
  refused({"convert", lora + "/lora.gguf", "--to", "peft", "--out", dir_ / "none"}, 3, "llama.cpp has the rows of 'blk.0.attn_k.weight' in another order, by heads");
  // One of PEFT's own keeps its configuration as it is; a file of its weights stands for both.
  convert({lora + "/peft", "--to", "peft", "--out", dir_ / "same"});
  for (const char* name : {"/adapter_model.safetensors", "/adapter_config.json"}) EXPECT_TRUE(same_bytes(dir_ / "same" + name, lora + "/peft" + name)) << name;
  convert({lora + "/peft/adapter_model.safetensors", "--to", "peft", "--out", dir_ / "half", "--dtype", "f16"});
  EXPECT_TRUE(same_bytes(dir_ / "half/adapter_config.json", lora + "/peft/adapter_config.json"));
  EXPECT_EQ(std::filesystem::file_size(dir_ / "half/adapter_model.safetensors") < std::filesystem::file_size(lora + "/peft/adapter_model.safetensors"), true);
  refused({"convert", kBase, "--to", "peft", "--out", dir_ / "none"}, 3, "is no adapter that PEFT could load");
}

TEST_F(Convert, LargeTensorsOfADistributedCheckpointAreInParts) {
  convert({kBase, "--to", "dcp", "--out", dir_ / "dcp", "--max-shard-size", "500KB"});
  EXPECT_EQ(hash(dir_ / "dcp"), hash(kBase));
  for (const auto& e : std::filesystem::directory_iterator(dir_ / "dcp"))
    if (e.path().extension() == ".distcp") {
      EXPECT_LE(e.file_size(), 520'000u) << e.path();
    }
  convert({dir_ / "dcp", "--out", dir_ / "back", "--config-from", kBase});
  EXPECT_TRUE(same_bytes(dir_ / "back/model.safetensors", kBase + "/model.safetensors"));
}

}  // namespace
}  // namespace ingot::testing
