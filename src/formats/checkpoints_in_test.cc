// Directories above checkpoints, as trainers and scripts leave them: the one that is meant opens, with a notice, or one error lists what there is.
#include "formats/checkpoints_in.h"

#include <filesystem>

#include "formats/outputs.h"
#include "formats/samples_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

class CheckpointsIn : public ::testing::Test {
 protected:
  void put(const std::string& path, std::string_view bytes) { put_file(*store_, path, bytes); }
  // A model of one tensor, whose only value is `value`.
  void save(const std::string& dir, float value) {
    Artifact a;
    a.files["config.json"] = "{}";
    a.tensors = {{"t", f32_tensor({1}, {value})}};
    write_output(hf_directory_output(a, *store_, dir, kDefaultShardBytes));
  }
  void save_torch(const std::string& path, float value) {
    Artifact a;
    a.tensors = {{"t", f32_tensor({1}, {value})}};
    write_output(*make_output(a, *store_, path, "torch"));
  }
  void opens(const std::string& path, float value, const std::string& said) {
    const auto a = open_model(*store_, path);
    ASSERT_TRUE(a.ok()) << a.error().message;
    ASSERT_EQ(a->tensors.size(), 1U);
    EXPECT_EQ(to_floats(*evaluate(a->tensors[0].node))[0], value) << a->path;
    std::string all;
    for (const auto& n : a->notices) all += n + "\n";
    EXPECT_NE(all.find(said), std::string::npos) << all;
  }
  void refused(const std::string& path, const std::string& said) {
    const auto a = open_model(*store_, path);
    ASSERT_FALSE(a.ok()) << said;
    EXPECT_EQ(a.error().kind, ErrorKind::kBadInput);
    EXPECT_NE(a.error().message.find(said), std::string::npos) << a.error().message;
  }

  std::unique_ptr<Store> store_ = make_memory_store();
};

TEST_F(CheckpointsIn, TheTrainersLastIsTakenByItsNumber) {
  for (int n : {90, 500, 1000}) save(fmt::format("run/checkpoint-{}", n), static_cast<float>(n));
  put("run/runs/log", "x");
  put("run/trainer_state.json", "{}");
  opens("run", 1000, "run: checkpoint-1000 is taken, the last of its 3 checkpoints, as transformers resumes");
  // One that was not saved to its end is passed over: without weights, or with the mark that transformers sets.
  put("run/checkpoint-2000/trainer_state.json", "{}");
  save("run/checkpoint-1500", 1500);
  put("run/checkpoint-1500/checkpoint-is-incomplete.txt", "");
  opens("run", 1000, "passed over, as it was not saved to its end: checkpoint-2000, checkpoint-1500");
  // One that is damaged is not: an older model is another one.
  put("run/checkpoint-3000/model.safetensors", std::string_view("\x40\0\0\0\0\0\0\0{\"t", 11));
  refused("run", "run/checkpoint-3000/model.safetensors: the header claims 64 bytes, but only 3 follow; the file is truncated, copy it again; to take another, give "
                 "run/checkpoint-1000 (or checkpoint-500, checkpoint-90)");
  // A configuration that was put above them before the first was saved is no model; weights are.
  put("run/config.json", "{}");
  refused("run", "run/checkpoint-3000/model.safetensors: the header claims");
  save("run", 1);
  opens("run", 1, "");
  EXPECT_TRUE(open_model(*store_, "run")->notices.empty());
  put("none/checkpoint-7/trainer_state.json", "{}");
  refused("none", "none of its 1 checkpoints has weights that are whole (the last is none/checkpoint-7)");
}

TEST_F(CheckpointsIn, AdaptersAndOtherFrameworksToo) {
  for (int n : {5, 10}) {
    put(fmt::format("peft/checkpoint-{}/adapter_config.json", n), "{}");
    save("m", static_cast<float>(n));
    put(fmt::format("peft/checkpoint-{}/adapter_model.safetensors", n), get_file(*store_, "m/model.safetensors"));
    save(fmt::format("accelerate/checkpoints/checkpoint_{}", n), static_cast<float>(n));
    save(fmt::format("tune/epoch_{}", n), static_cast<float>(n));
  }
  opens("peft", 10, "as transformers resumes");
  EXPECT_EQ(open_model(*store_, "peft")->naming, "peft");
  opens("accelerate/checkpoints", 10, "as accelerate resumes");
  opens("accelerate", 10, "accelerate: its directory checkpoints is taken");
  opens("tune", 10, "as torchtune resumes");
  // What fully sharded training leaves within one, with the configuration beside.
  save("m", 3);
  put("fsdp/config.json", "{\"a\": 1}");
  put("fsdp/pytorch_model_fsdp_0/model.safetensors", get_file(*store_, "m/model.safetensors"));
  put("fsdp/optimizer_0/.metadata", "x");
  opens("fsdp", 3, "fsdp: pytorch_model_fsdp_0 is taken, its only checkpoint");
  EXPECT_EQ(open_model(*store_, "fsdp")->files.at("config.json"), "{\"a\": 1}");
}

TEST_F(CheckpointsIn, WithoutARuleTheyAreListed) {
  for (int n : {100, 20, 3}) save(fmt::format("run/step-{}", n), static_cast<float>(n));
  refused("run", "opening run: it holds 3 checkpoints, and nothing says which is meant: step-100 (");
  refused("run", "step-20 (");
  refused("run", "give one, like: run/step-100");
  save("other/checkpoint-3", 3);
  save("other/ema-3", 3);
  refused("other", "it holds 2 checkpoints, and nothing says which is meant: ema-3");
  save("one/step_7", 7);
  opens("one", 7, "one: step_7 is taken, its only checkpoint");
  for (int n : {9, 10, 100}) save_torch(fmt::format("files/model_{}.pth", n), static_cast<float>(n));
  refused("files", "the directory has 3 torch files, and nothing tells which is the model: model_100.pth (");
  refused("files", "give one of them, like: files/model_100.pth");
  put("files/last_checkpoint", "model_10.pth");
  opens("files", 10, "files: of its 3 torch files model_10.pth is taken, which its file 'last_checkpoint' names");
}

TEST_F(CheckpointsIn, Lightning) {
  const std::string at = "logs/lightning_logs/version_0/checkpoints/";
  save_torch(at + "epoch=0-step=3.ckpt", 3);
  put("logs/lightning_logs/version_0/hparams.yaml", "{}");
  opens("logs", 3, "logs/lightning_logs: version_0 is taken, its only checkpoint");
  save_torch(at + "epoch=1-step=6.ckpt", 6);
  refused("logs", "epoch=1-step=6.ckpt (");
  refused("logs", "give one of them, like: " + at + "epoch=1-step=6.ckpt");
  save_torch(at + "last.ckpt", 9);
  opens("logs", 9, "of its 3 torch files last.ckpt is taken, as Lightning resumes");
  put(at + "last.ckpt", "epoch=0-step=3.ckpt");  // a link that was copied as its text
  opens("logs", 3, "epoch=0-step=3.ckpt is taken, which its file 'last.ckpt' names");
  save_torch(at + "last.ckpt", 9);
  save_torch(at + "best.ckpt", 1);
  refused("logs", "the directory has 4 torch files");
  save_torch("logs/lightning_logs/version_1/checkpoints/epoch=0-step=3.ckpt", 3);
  refused("logs", "give one, like: logs/lightning_logs/version_1");
}

// With DeepSpeed a checkpoint is a directory, whose checkpoint/ `latest` names: also without that.
TEST_F(CheckpointsIn, LightningWithDeepSpeed) {
  const std::string at = "version_0/checkpoints/epoch=0-step=3.ckpt";
  save(at + "/checkpoint", 3);
  put(at + "/zero_to_fp32.py", "x");
  opens(at, 3, at + ": its directory checkpoint is taken");
  opens("version_0", 3, "version_0/checkpoints: epoch=0-step=3.ckpt is taken, its only checkpoint");
  save("version_0/checkpoints/epoch=1-step=6.ckpt/checkpoint", 6);
  refused("version_0", "give one, like: version_0/checkpoints/epoch=1-step=6.ckpt");
}

TEST_F(CheckpointsIn, WhatLatestNamesIsTaken) {
  for (int n : {2, 3}) save(fmt::format("run/checkpoint-{}", n), static_cast<float>(n));
  for (const char* text : {"checkpoint-2", "checkpoint-2\n", "checkpoint-2\r\n", " checkpoint-2/ \n", "2", "2\n"}) {
    put("run/latest", text);
    opens("run", 2, "run: checkpoint-2 is taken, which its file 'latest' names; checkpoint-3 has a greater number");
  }
  put("run/latest", "checkpoint-3\n");
  opens("run", 3, "run: checkpoint-3 is taken, which its file 'latest' names\n");
  const std::string there = "; give one that is there: run/checkpoint-3 (others: checkpoint-2)";
  for (const auto& [text, said] : {std::pair<const char*, const char*>{"", "opening run/latest: it is empty, expected the name of a checkpoint"},
                                   {" \r\n", "opening run/latest: it is empty, expected the name of a checkpoint"},
                                   {"checkpoint-9\n", "opening run/latest: it names 'checkpoint-9', which is not there"},
                                   {"9", "it names '9', which is not there"},
                                   {"a\nb", "it has several lines, expected the name of one checkpoint"},
                                   {"../run/checkpoint-2", "it names '../run/checkpoint-2', which is no place in this directory; refused"},
                                   {"..", "it names '..', which is no place in this directory; refused"},
                                   {".", "it names '.', which is no place in this directory; refused"},
                                   {"checkpoint-2/../../x", "which is no place in this directory; refused"},
                                   {"/data/run/checkpoint-2", "it names '/data/run/checkpoint-2', which is no place in this directory; give that path itself, or where it lies now"}}) {
    put("run/latest", text);
    refused("run", said + there);
  }
  put("alone/latest", "step-1");
  refused("alone", "it names 'step-1', which is not there; copy what it should name, or give the checkpoint itself");
  // A model's own weights are the model.
  save("run", 1);
  opens("run", 1, "");
}

TEST(CheckpointsInLinks, DoNotLeadInCircles) {
  const auto dir = std::filesystem::temp_directory_path() / fmt::format("ingot-circle-{}", ::getpid());
  std::filesystem::create_directories(dir);
  std::filesystem::create_directory_symlink(dir, dir / "latest");
  const auto a = open_model(local_store(), dir);
  std::filesystem::remove_all(dir);
  ASSERT_FALSE(a.ok());
  EXPECT_EQ(a.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(a.error().message.find("holds no model that ingot knows"), std::string::npos) << a.error().message;
}

// The directories of the whole set, where it is at hand; the parts of it in the repository are tested one by one.
using DirectorySamples = Samples;
TEST_F(DirectorySamples, OpenAsWhatTheyMean) {
  for (const auto& [sample, from, said] :
       {std::tuple{"plain-script", "model/", "which its file 'latest' names"}, {"hf-trainer", "model/", "as transformers resumes"}, {"hf-trainer-bf16", "model/", "checkpoint-3 is taken, its only checkpoint"},
        {"hf-trainer-peft", "model/", "checkpoint-3 is taken, its only checkpoint"}, {"accelerate", "model/", "its directory checkpoints is taken"}, {"lightning", "model/", "last.ckpt"},
        {"lightning-bf16", "model/", "the only weights file here"}}) {
    if (!begin(sample)) continue;
    const Artifact a = open(folder_);
    EXPECT_NE(notices(a).find(said), std::string::npos) << sample << ": " << notices(a);
    for (const auto& t : expected_.tensors)
      if (std::string own = t.name; own.starts_with(from)) {
        own.erase(0, std::string_view(from).size());
        for (const std::string_view of_peft : {".modules_to_save", ".default"})
          if (const size_t at = own.find(of_peft); a.naming == "peft" && at != own.npos) own.erase(at, of_peft.size());
        same(a, own, t.name);
      }
  }
}

}  // namespace
}  // namespace ingot
