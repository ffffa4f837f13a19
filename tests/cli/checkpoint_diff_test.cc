// ingot checkpoint diff and export: over checkpoints of a real small model and its optimizer.
#include <filesystem>

#include "checkpoint/checkpoint_testing.h"
#include "formats/safetensors.h"
#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The bundled model as a training run saves it, with an optimizer's group and a state of plain values.
class CheckpointOfModel : public CliTest {
 protected:
  void SetUp() override {
    const auto model = open_model(local_store(), example("tiny-llama-base"));
    ASSERT_TRUE(model.ok()) << model.error().message;
    for (const LazyTensor& t : model->tensors) {
      const auto* source = dynamic_cast<const Source*>(t.node.get());
      auto& bytes = bytes_.emplace_back(bytes_of(t.spec()));
      ASSERT_TRUE(source && source->read(Region::all(t.spec().shape), bytes).ok());
      weights_.push_back({t.name, t.spec(), bytes.data(), false});
    }
    save(100, 1e-3, 0.75);
    moments_[5] += 0.25F;
    save(200, 5e-4, 0.5);
  }

  void save(int64_t step, double lr, double loss, bool config = true) {
    checkpoint::Snapshot s;
    s.step = step;
    s.metrics = {{"val_loss", loss}, {"acc", 1 - loss}};
    s.groups = {{"model", weights_}, {"optimizer", {{"state.0.exp_avg", {DType::kF32, {static_cast<int64_t>(moments_.size())}}, reinterpret_cast<const std::byte*>(moments_.data()), false}}}};
    s.state = fmt::format(R"({{"ingot": "state", "version": 1, "state": {{"optimizer": {{"param_groups": [{{"lr": {}, "betas": {{"$tuple": [0.9, 0.95]}}}}], )"
                          R"("state": {{"$dict": [[0, {{"step": {}, "exp_avg": {{"$tensor": ["optimizer", "state.0.exp_avg"]}}}}]]}}}}, "epoch": 1}}}})", lr, step);
    if (config)
      for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"}) s.files[name] = read_file(example("tiny-llama-base") + "/" + name);
    checkpoint::SaveOptions o;
    o.time = 1790000000 + static_cast<double>(step);
    const auto saved = checkpoint::save(local_store(), run(), s, o);
    ASSERT_TRUE(saved.ok()) << saved.error().message;
  }
  std::string run(const std::string& below = "") const { return dir_ / (below.empty() ? "run" : "run/" + below); }
  static Finished command(std::vector<std::string> words) {
    words.insert(words.begin(), "checkpoint");
    return ingot(words);
  }

  std::vector<std::vector<std::byte>> bytes_;
  std::vector<checkpoint::Tensor> weights_;
  std::vector<float> moments_ = std::vector<float>(1000, 0.5F);
};

TEST_F(CheckpointOfModel, DiffTellsMetricsValuesByTheirPlacesAndTensorsByGroup) {
  const Finished f = command({"diff", run(), "100", "200", "--json"});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  const json j = result_of(f);
  EXPECT_EQ(j["same"], false);
  EXPECT_EQ(j["metrics"]["val_loss"], json({{"a", 0.75}, {"b", 0.5}}));
  EXPECT_EQ(j["values"]["optimizer.param_groups.0.lr"], json({{"a", 0.001}, {"b", 0.0005}}));
  EXPECT_EQ(j["values"]["optimizer.state.0.step"], json({{"a", 100}, {"b", 200}}));
  EXPECT_EQ(j["values"].size(), 2U) << j["values"];
  EXPECT_EQ(j["groups"]["model"]["unchanged"], weights_.size());
  EXPECT_EQ(j["groups"]["model"]["changed"], 0);
  EXPECT_EQ(j["groups"]["optimizer"]["changed"], 1);
  EXPECT_EQ(j["groups"]["optimizer"]["max_error"], 0.25);
  ASSERT_EQ(j["tensors"].size(), 1U) << "what has one hash is not read";
  EXPECT_EQ(j["tensors"][0]["name"], "optimizer/state.0.exp_avg");
  EXPECT_EQ(j["tensors"][0]["different"], 1);
  const Finished text = command({"diff", run("checkpoint-100"), run("latest")});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("optimizer.param_groups.0.lr"), std::string::npos) << text.out;
  EXPECT_LT(text.out.find("group"), text.out.find("optimizer/state.0.exp_avg")) << "the summary comes first\n" << text.out;
}

TEST_F(CheckpointOfModel, DiffOfEqualOnesAndExitCodes) {
  EXPECT_EQ(command({"diff", run(), "100", "200", "--exit-code"}).exit_code, 1);
  const Finished same = command({"diff", run("checkpoint-200"), run("latest"), "--exit-code"});
  EXPECT_EQ(same.exit_code, 0) << same.err;
  EXPECT_NE(same.out.find("nothing differs"), std::string::npos) << same.out;
  EXPECT_EQ(command({"diff", run(), "100", "300"}).exit_code, 5);
  // Tensors of equal values in files of other hashes (their order), and groups that one side has not.
  std::reverse(weights_.begin(), weights_.end());
  save(300, 5e-4, 0.5);
  weights_.pop_back();
  save(400, 5e-4, 0.5);
  const json j = result_of(command({"diff", run(), "300", "400", "--json"}));
  EXPECT_EQ(j["groups"]["model"]["only_a"], 1) << j["groups"];
  EXPECT_EQ(j["groups"]["model"]["changed"], 0);
  EXPECT_EQ(j["groups"]["model"]["unchanged"], weights_.size());
}

TEST_F(CheckpointOfModel, DiffOfOthersCheckpointsIsThatOfModels) {
  const std::string theirs = data_file("checkpoints/plain-script/ckpt/checkpoint-3");
  const Finished f = command({"diff", theirs, theirs, "--exit-code"});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(command({"diff", theirs, run("latest"), "--exit-code"}).exit_code, 1);
}

TEST_F(CheckpointOfModel, ExportToADirectoryAndToGguf) {
  const Finished hf = command({"export", run(), dir_ / "hf"});
  ASSERT_EQ(hf.exit_code, 0) << hf.err;
  EXPECT_NE(hf.err.find("compared with the manifest"), std::string::npos) << hf.err;
  EXPECT_EQ(ingot({"diff", dir_ / "hf", example("tiny-llama-base"), "--exit-code"}).exit_code, 0);
  EXPECT_FALSE(exists(dir_ / "hf/optimizer.safetensors"));
  const Finished q = command({"export", run("latest"), dir_ / "m.gguf", "--type", "Q4_K_M"});
  ASSERT_EQ(q.exit_code, 0) << q.err;
  EXPECT_EQ(ingot({"run", dir_ / "m.gguf", "--prompt", "def", "-n", "4"}).exit_code, 0);
  ASSERT_EQ(command({"export", run("checkpoint-100"), dir_ / "plain.gguf", "--json"}).exit_code, 0);
  EXPECT_EQ(ingot({"diff", dir_ / "plain.gguf", example("tiny-llama-base"), "--exit-code"}).exit_code, 0);
  // What was chosen is told, and is the best.
  const json best = result_of(command({"export", run(), dir_ / "best", "--step", "best", "--metric", "acc", "--max", "--dry-run", "--json"}));
  EXPECT_EQ(best["dry_run"], true);
  const Finished which = command({"export", run(), dir_ / "best", "--step", "best", "--metric", "val_loss", "--dry-run"});
  EXPECT_NE(which.err.find("step 200"), std::string::npos) << which.err;
  EXPECT_EQ(command({"export", run(), dir_ / "hf"}).exit_code, 0) << "up to date";
}

TEST_F(CheckpointOfModel, ExportRefusesDamageAndTellsWhatToDo) {
  std::string bytes = read_file(run("checkpoint-200/model.safetensors"));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file(run("checkpoint-200/model.safetensors"), bytes);
  const Finished f = command({"export", run(), dir_ / "hf"});
  EXPECT_EQ(f.exit_code, 3);
  EXPECT_NE(f.err.find("rescue"), std::string::npos) << f.err;
  EXPECT_FALSE(exists(dir_ / "hf"));
  // Without a configuration.
  save(300, 1e-4, 0.4, false);
  const Finished bare = command({"export", run(), dir_ / "hf"});
  EXPECT_EQ(bare.exit_code, 2);
  EXPECT_NE(bare.err.find("--config-from DIR"), std::string::npos) << bare.err;
  EXPECT_EQ(command({"export", run(), dir_ / "hf", "--config-from", example("tiny-llama-base")}).exit_code, 0);
  EXPECT_EQ(ingot({"diff", dir_ / "hf", example("tiny-llama-base"), "--exit-code"}).exit_code, 0);
  EXPECT_EQ(command({"export", run(), dir_ / "x", "--type", "Q4_K_M"}).exit_code, 2);
  EXPECT_EQ(command({"export", run(), dir_ / "x", "--step", "best"}).exit_code, 2);
  EXPECT_EQ(command({"export", run(), dir_ / "x", "--step", "7"}).exit_code, 5);
  EXPECT_EQ(command({"export", dir_ / "nothing", dir_ / "x"}).exit_code, 5);
}

TEST_F(CheckpointOfModel, AnAdaptersCheckpointBecomesAnAdapterOrIsFoldedIn) {
  const auto adapter = read_safetensors(local_store(), example("lora-code") + "/adapter_model.safetensors");
  ASSERT_TRUE(adapter.ok());
  std::vector<std::vector<std::byte>> bytes;
  checkpoint::Snapshot s;
  s.step = 50;
  s.state = R"({"ingot": "state", "version": 1, "state": {}})";
  s.groups.push_back({"adapter_model", {}});
  for (const LazyTensor& t : adapter->tensors) {
    const auto* source = dynamic_cast<const Source*>(t.node.get());
    ASSERT_TRUE(source && source->read(Region::all(t.spec().shape), bytes.emplace_back(bytes_of(t.spec()))).ok());
    s.groups[0].tensors.push_back({t.name, t.spec(), bytes.back().data(), false});
  }
  s.files["adapter_config.json"] = read_file(example("lora-code") + "/adapter_config.json");
  ASSERT_TRUE(checkpoint::save(local_store(), dir_ / "lora-run", s, {}).ok());
  const Finished peft = command({"export", dir_ / "lora-run", dir_ / "lora"});
  ASSERT_EQ(peft.exit_code, 0) << peft.err;
  EXPECT_EQ(ingot({"diff", dir_ / "lora", example("lora-code"), "--exit-code"}).exit_code, 0);
  const Finished merged = command({"export", dir_ / "lora-run", dir_ / "merged", "--base", example("tiny-llama-base")});
  ASSERT_EQ(merged.exit_code, 0) << merged.err;
  ASSERT_EQ(ingot({"lora", "merge", example("tiny-llama-base"), example("lora-code"), dir_ / "expected"}).exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "merged/model.safetensors", dir_ / "expected/model.safetensors"));
  const Finished gguf = command({"export", dir_ / "lora-run/latest", dir_ / "m.gguf", "--base", example("tiny-llama-base"), "--type", "Q8_0"});
  EXPECT_EQ(gguf.exit_code, 0) << gguf.err;
}

TEST_F(CheckpointOfModel, LatestIsAModelsPathToo) {
  fs::remove(run("latest"));
  write_file(run("latest"), "100\n");  // a hint, and behind
  const Finished f = ingot({"inspect", run("latest")});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out.find("checkpoint-200"), std::string::npos) << f.out;
  EXPECT_EQ(ingot({"convert", run("latest"), dir_ / "m.gguf"}).exit_code, 0);
  fs::remove(run("checkpoint-200/manifest.json"));
  fs::remove(run("checkpoint-100/manifest.json"));
  const Finished none = ingot({"inspect", run("latest")});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_NE(none.err.find("rescue"), std::string::npos) << none.err;
}

}  // namespace
}  // namespace ingot::testing
