// ingot checkpoint rescue: over directories as the frameworks leave them, whole and torn.
#include <sys/stat.h>

#include <filesystem>

#include "checkpoint/checkpoint_testing.h"
#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class RescueCommand : public CliTest {
 protected:
  // A sample of tests/data/checkpoints, by its directory's name.
  std::string sample(const std::string& name, const std::string& as = "run") const {
    fs::copy(data_file("checkpoints/" + name + "/ckpt"), dir_ / as, fs::copy_options::recursive);
    return dir_ / as;
  }
  json rescue(const std::string& path, std::vector<std::string> more = {}, int exit_code = 0) const {
    std::vector<std::string> words = {"checkpoint", "rescue", path, "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished f = ingot(words);
    EXPECT_EQ(f.exit_code, exit_code) << f.out << f.err;
    return result_of(f);
  }
  static const json* at(const json& j, const std::string& end) {
    for (const json& x : j["checkpoints"])
      if (x["path"].get<std::string>().ends_with(end)) return &x;
    ADD_FAILURE() << "no checkpoint " << end << " in " << j.dump(1);
    return nullptr;
  }
  static std::string faults(const json& x) {
    std::string s;
    for (const json& f : x["faults"]) s += f["what"].get<std::string>() + "\n";
    return s;
  }
  static void cut(const std::string& path, double share) { fs::resize_file(path, static_cast<uint64_t>(static_cast<double>(fs::file_size(path)) * share)); }
  static void flip(const std::string& path, double where) {
    std::string bytes = read_file(path);
    const auto at = static_cast<size_t>(static_cast<double>(bytes.size()) * where);
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write_file(path, bytes);
  }
  void ours(const std::string& directory, bool still = false) const {
    checkpoint::Manifest before;
    for (int64_t step = 100; step <= 300; step += 100) {
      auto s = checkpoint::testing::make_state(step, {{"model", {1000, 7}}, {"optimizer", {2000}}}, still);
      if (still) s.fill(0, 0, 1), s.fill(1, 0, 1);
      s.snapshot.state = R"({"ingot": "state", "version": 1, "state": {"model": {"t0": {"$tensor": ["model", "t0"]}}, "optimizer": {"param_groups": []}, "rng": {"torch": 1}}})";
      checkpoint::SaveOptions o;
      o.time = 1790000000 + static_cast<double>(step);
      if (still && step > 100) o.previous = &before;
      const auto saved = checkpoint::save(local_store(), directory, s.snapshot, o);
      ASSERT_TRUE(saved.ok()) << saved.error().message;
      before = saved->manifest;
    }
  }
};

TEST_F(RescueCommand, OursAreComparedByTheirHashesAndTheTornFileIsNamed) {
  ours(dir_.path());
  json j = rescue(dir_.path());
  EXPECT_EQ(j["whole"], 3);
  EXPECT_EQ(j["resumable"], dir_ / "checkpoint-300");
  // One bit, which no size tells.
  flip(dir_ / "checkpoint-300/optimizer.safetensors", 0.5);
  j = rescue(dir_.path());
  EXPECT_EQ(j["whole"], 2);
  EXPECT_EQ(j["resumable"], dir_ / "checkpoint-200");
  const json& torn = *at(j, "checkpoint-300");
  EXPECT_EQ(torn["outcome"], "torn");
  EXPECT_EQ(torn["parts"]["optimizer"], "torn");
  EXPECT_EQ(torn["parts"]["model"], "whole");
  EXPECT_EQ(torn["weights"], dir_ / "checkpoint-300");
  EXPECT_NE(torn["recovery"].get<std::string>().find("ingot convert"), std::string::npos);
  EXPECT_NE(faults(torn).find("its bytes have changed"), std::string::npos) << faults(torn);
  // --quick goes by sizes.
  EXPECT_EQ(rescue(dir_.path(), {"--quick"})["whole"], 3);
  cut(dir_ / "checkpoint-300/model.safetensors", 0.5);
  j = rescue(dir_.path(), {"--quick"});
  EXPECT_NE(faults(*at(j, "checkpoint-300")).find("truncated at byte"), std::string::npos) << j.dump(1);
  EXPECT_EQ((*at(j, "checkpoint-300"))["weights"], nullptr);
}

TEST_F(RescueCommand, NothingIsChanged) {
  ours(dir_.path());
  sample("plain-script", "theirs");
  fs::remove(dir_ / "checkpoint-200/manifest.json");
  std::map<std::string, std::pair<fs::file_time_type, std::string>> before, after;
  const auto look = [&](auto* into) {
    for (const auto& e : fs::recursive_directory_iterator(dir_.path()))
      (*into)[e.path().string()] = {e.last_write_time(), e.is_regular_file() ? read_file(e.path().string()) : ""};
  };
  look(&before);
  const json j = rescue(dir_.path());
  EXPECT_EQ(j["whole"], 2);
  look(&after);
  EXPECT_EQ(before, after);
}

TEST_F(RescueCommand, SharedFilesAreToldAndADamagedOneIsMendedFromAnotherCopy) {
  ours(dir_.path(), true);
  json j = rescue(dir_.path());
  ASSERT_FALSE(j["shared"].empty()) << j.dump(1);
  EXPECT_EQ(j["shared"][0]["steps"], json({300, 200, 100}));
  // A copy of its own for step 300, which then goes bad: step 200 still has the bytes.
  const std::string name = j["shared"][0]["name"], own = dir_ / ("checkpoint-300/" + name), bytes = read_file(own);
  fs::remove(own);
  write_file(own, bytes);
  flip(own, 0.9);
  j = rescue(dir_.path());
  const json& torn = *at(j, "checkpoint-300");
  ASSERT_EQ(torn["repairs"].size(), 1U) << torn.dump(1);
  fs::copy_file(torn["repairs"][0]["from"].get<std::string>(), torn["repairs"][0]["to"].get<std::string>(), fs::copy_options::overwrite_existing);
  EXPECT_EQ(rescue(dir_.path())["whole"], 3);
}

TEST_F(RescueCommand, ASaveThatDidNotEndIsTornAndItsModelCanBeTaken) {
  ours(dir_.path());
  fs::remove(dir_ / "checkpoint-300/manifest.json");
  fs::create_directory(dir_ / ".checkpoint-400.ingot-0123456789ab.part");
  write_file(dir_ / ".checkpoint-400.ingot-0123456789ab.part/model.safetensors", "half");
  const json j = rescue(dir_.path());
  EXPECT_EQ(j["torn"], 2);
  EXPECT_EQ((*at(j, "checkpoint-300"))["weights"], dir_ / "checkpoint-300");
  EXPECT_EQ((*at(j, ".part"))["weights"], nullptr);
  EXPECT_EQ(j["resumable"], dir_ / "checkpoint-200");
}

TEST_F(RescueCommand, TrainersDirectories) {
  const std::string run = sample("hf-trainer-bf16");
  json j = rescue(run);
  const json whole = *at(j, "checkpoint-3");
  EXPECT_EQ(whole["made_by"], "transformers Trainer");
  EXPECT_EQ(whole["outcome"], "unverified");
  EXPECT_EQ(whole["step"], 3);
  for (const char* part : {"model", "optimizer", "scheduler", "rng", "step"}) EXPECT_EQ(whole["parts"][part], "whole") << part;
  EXPECT_EQ(whole["resumes"], true);
  EXPECT_NE(whole["checked"].get<std::string>().find("checksums compared"), std::string::npos) << whole["checked"];
  // The optimizer is cut: the model can be taken.
  cut(run + "/checkpoint-3/optimizer.pt", 0.6);
  j = rescue(run);
  EXPECT_EQ(j["resumable"], nullptr);
  EXPECT_EQ(j["weights"], run + "/checkpoint-3");
  const json& torn = *at(j, "checkpoint-3");
  EXPECT_EQ(torn["parts"]["optimizer"], "torn");
  EXPECT_EQ(torn["parts"]["model"], "whole");
  EXPECT_NE(faults(torn).find("optimizer.pt: it begins as a ZIP archive, but has no end record"), std::string::npos) << faults(torn);
  // And the model, too: nothing is left.
  cut(run + "/checkpoint-3/model.safetensors", 0.6);
  j = rescue(run, {}, 5);
  EXPECT_EQ((*at(j, "checkpoint-3"))["recovery"], "nothing can be taken");
}

// Its size is right and its central directory is there: the checksums alone tell.
TEST_F(RescueCommand, AFlippedBitInATorchFileIsFoundByItsChecksum) {
  const std::string run = sample("plain-script");
  EXPECT_EQ((*at(rescue(run), "checkpoint-3"))["resumes"], true);
  flip(run + "/checkpoint-3/optimizer.pt", 0.5);
  const json j = rescue(run);
  EXPECT_EQ((*at(j, "checkpoint-3"))["parts"]["optimizer"], "torn");
  EXPECT_NE(faults(*at(j, "checkpoint-3")).find("CRC-32"), std::string::npos) << j.dump(1);
  // `latest` names it.
  EXPECT_NE(j["notes"].dump().find("which is torn"), std::string::npos) << j["notes"];
  EXPECT_EQ(rescue(run, {"--quick"})["torn"], 0);
}

TEST_F(RescueCommand, LightningsFiles) {
  const std::string folder = dir_ / "lightning_logs/version_0/checkpoints";
  fs::create_directories(dir_ / "lightning_logs/version_0");
  fs::copy(data_file("checkpoints/lightning-bf16/ckpt"), folder, fs::copy_options::recursive);
  fs::copy(folder + "/epoch=0-step=3.ckpt", folder + "/epoch=1-step=6.ckpt");
  cut(folder + "/epoch=1-step=6.ckpt", 0.9);
  const json j = rescue(dir_ / "lightning_logs");
  const json& whole = *at(j, "step=3.ckpt");
  EXPECT_EQ(whole["made_by"], "Lightning");
  EXPECT_EQ(whole["step"], 3);
  for (const char* part : {"model", "optimizer", "scheduler"}) EXPECT_EQ(whole["parts"][part], "whole") << part << whole.dump(1);
  EXPECT_EQ((*at(j, "step=6.ckpt"))["outcome"], "torn");
  EXPECT_EQ((*at(j, "step=6.ckpt"))["step"], 6);
  EXPECT_EQ(j["resumable"], folder + "/epoch=0-step=3.ckpt");
}

TEST_F(RescueCommand, DistributedCheckpoints) {
  const std::string run = sample("dcp-4rank", "checkpoint-7");
  json j = rescue(dir_.path());
  EXPECT_EQ((*at(j, "checkpoint-7"))["made_by"], "torch DCP");
  EXPECT_EQ((*at(j, "checkpoint-7"))["outcome"], "unverified") << j.dump(1);
  EXPECT_EQ((*at(j, "checkpoint-7"))["step"], 3) << "its own step goes before that of its name";
  const std::string bytes = read_file(run + "/__2_0.distcp");
  flip(run + "/__2_0.distcp", 0.5);
  EXPECT_NE(faults(*at(rescue(dir_.path(), {}, 5), "checkpoint-7")).find("__2_0.distcp"), std::string::npos);
  cut(run + "/__2_0.distcp", 0.5);
  EXPECT_NE(faults(*at(rescue(dir_.path(), {}, 5), "checkpoint-7")).find("__2_0.distcp"), std::string::npos);
  fs::remove(run + "/__2_0.distcp");
  EXPECT_NE(faults(*at(rescue(dir_.path(), {}, 5), "checkpoint-7")).find("__2_0.distcp"), std::string::npos);
  write_file(run + "/__2_0.distcp", bytes);
  EXPECT_EQ(rescue(dir_.path())["torn"], 0);
  fs::remove(run + "/.metadata");
  EXPECT_NE(faults(*at(rescue(dir_.path(), {}, 5), "checkpoint-7")).find("no .metadata"), std::string::npos);
}

TEST_F(RescueCommand, DeepSpeedsTags) {
  const std::string run = sample("deepspeed-zero1-bf16");
  const json whole = *at(rescue(run), "global_step3");
  EXPECT_EQ(whole["made_by"], "DeepSpeed");
  EXPECT_EQ(whole["outcome"], "unverified") << whole.dump(1);
  EXPECT_EQ(whole["resumes"], true) << whole.dump(1);
  EXPECT_EQ(whole["step"], 3);
  cut(run + "/global_step3/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", 0.5);
  const json j = rescue(run);
  const json& torn = *at(j, "global_step3");
  EXPECT_NE(faults(torn).find("bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"), std::string::npos) << faults(torn);
  EXPECT_EQ(torn["parts"]["optimizer"], "torn");
  // Stage 1 has the weights of the forward pass whole in one file.
  EXPECT_EQ(torn["weights"], run + "/global_step3/mp_rank_00_model_states.pt") << torn.dump(1);
  fs::remove(run + "/global_step3/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt");
  EXPECT_EQ((*at(rescue(run), "global_step3"))["outcome"], "torn");
}

TEST_F(RescueCommand, AMissingShardIsNamed) {
  const std::string run = sample("torch-sharded", "checkpoint-9");
  EXPECT_EQ(rescue(dir_.path())["torn"], 0);
  fs::remove(run + "/pytorch_model-00003-of-00004.bin");
  EXPECT_NE(faults(*at(rescue(dir_.path(), {}, 5), "checkpoint-9")).find("pytorch_model-00003-of-00004.bin"), std::string::npos);
}

TEST_F(RescueCommand, FilesOfScriptsByTheirSteps) {
  const std::string zip = data_file("checkpoints/torch-zip/ckpt/default.pt"), legacy = data_file("checkpoints/torch-legacy/ckpt/legacy.pt");
  fs::create_directory(dir_ / "out");
  fs::copy(zip, dir_ / "out/step-100.pt");
  fs::copy(legacy, dir_ / "out/step-200.pt");
  fs::copy(zip, dir_ / "out/step-300.pt");
  cut(dir_ / "out/step-300.pt", 0.7);
  write_file(dir_ / "out/step-400.pt", "");
  write_file(dir_ / "out/step-500.pt", std::string(5000, '\0'));
  cut(dir_ / "out/step-200.pt", 0.7);
  // Pairs of one step belong together.
  const std::string optimizer = data_file("checkpoints/plain-script/ckpt/checkpoint-3/optimizer.pt");
  for (const char* step : {"7", "8"}) {
    fs::copy(zip, dir_ / (std::string("out/model_") + step + ".pt"));
    fs::copy(optimizer, dir_ / (std::string("out/optimizer_") + step + ".pt"));
  }
  cut(dir_ / "out/optimizer_8.pt", 0.5);
  const json j = rescue(dir_.path());
  ASSERT_EQ(j["checkpoints"].size(), 7U) << j.dump(1);
  for (const char* torn : {"step-200.pt", "step-300.pt", "step-400.pt", "step-500.pt", "model_8.pt"}) EXPECT_EQ((*at(j, torn))["outcome"], "torn") << torn;
  EXPECT_NE(faults(*at(j, "step-400.pt")).find("it is empty"), std::string::npos);
  EXPECT_EQ((*at(j, "step-100.pt"))["outcome"], "unverified");
  EXPECT_EQ((*at(j, "model_7.pt"))["resumes"], true) << at(j, "model_7.pt")->dump(1);
  EXPECT_EQ((*at(j, "model_8.pt"))["parts"]["optimizer"], "torn");
}

TEST_F(RescueCommand, AMixtureIsToldNewestFirstAndPeopleReadIt) {
  ours(dir_.path());
  fs::create_directories(dir_ / "old");
  fs::copy(data_file("checkpoints/plain-script/ckpt/checkpoint-3"), dir_ / "old/checkpoint-3", fs::copy_options::recursive);
  fs::copy(data_file("checkpoints/accelerate/ckpt"), dir_ / "acc", fs::copy_options::recursive);
  const json j = rescue(dir_.path());
  ASSERT_EQ(j["checkpoints"].size(), 5U) << j.dump(1);
  EXPECT_EQ(j["checkpoints"][0]["path"], dir_ / "checkpoint-300");
  EXPECT_EQ((*at(j, "checkpoint_1"))["made_by"], "accelerate");
  SpawnOptions terminal;
  terminal.terminal = true;
  const Finished f = ingot({"checkpoint", "rescue", dir_.path()}, terminal);
  EXPECT_FALSE(render(f.err.substr(0, f.err.find("\nunverified:")), 80).wrapped) << f.err;
  EXPECT_NE(f.err.find("resumes fully"), std::string::npos) << f.err;
}

TEST_F(RescueCommand, HostileNamesPipesAndLoops) {
  ours(dir_.path());
  ASSERT_EQ(::mkfifo((dir_ / "checkpoint-5").c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo((dir_ / "model.pt").c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo((dir_ / "latest").c_str(), 0600), 0);
  fs::create_directory_symlink(dir_.path(), dir_ / "loop");
  fs::create_directory_symlink("checkpoint-6", dir_ / "checkpoint-6");
  fs::create_directory(dir_ / "a\nb\x1b[31m");
  fs::copy(data_file("checkpoints/torch-zip/ckpt/default.pt"), dir_ / "a\nb\x1b[31m/step-1.pt");
  fs::create_directory(dir_ / "checkpoint-7");
  ASSERT_EQ(::mkfifo((dir_ / "checkpoint-7/optimizer.pt").c_str(), 0600), 0);
  const Finished f = ingot({"checkpoint", "rescue", dir_.path()});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(f.out.find("\x1b"), std::string::npos) << f.out;
  const json j = rescue(dir_.path());
  EXPECT_EQ(j["whole"], 3);
  EXPECT_EQ((*at(j, "step-1.pt"))["outcome"], "unverified");
  EXPECT_EQ((*at(j, "checkpoint-7"))["resumes"], false);
  for (const char* command : {"ls", "latest", "verify"}) EXPECT_EQ(ingot({"checkpoint", command, dir_.path()}).exit_code, 0) << command;
}

// `ls` and `verify` of a directory in which ingot has saved none.
TEST_F(RescueCommand, OthersAreListedAndReadToTheirEnd) {
  const std::string run = dir_ / "run";
  fs::copy(data_file("checkpoints/megatron/llama/megatron"), run, fs::copy_options::recursive);
  const auto command = [&](const char* name) { return ingot({"checkpoint", name, run}); };
  for (const char* name : {"ls", "verify"}) {
    const Finished f = command(name);
    EXPECT_EQ(f.exit_code, 0) << f.err;
    EXPECT_NE(f.out.find("5  iter_0000005  Megatron  unverified  model"), std::string::npos) << f.out;
    EXPECT_NE(f.out.find("none was saved by ingot"), std::string::npos) << f.out;
  }
  const json j = result_of(ingot({"checkpoint", "ls", run, "--json"}));
  EXPECT_EQ(j["checkpoints"][0]["made_by"], "Megatron");
  cut(run + "/iter_0000005/__0_0.distcp", 0.9);
  const Finished torn = command("verify");
  EXPECT_EQ(torn.exit_code, 3);
  EXPECT_NE(torn.out.find("__0_0.distcp"), std::string::npos) << torn.out;
  EXPECT_NE(torn.err.find("1 of 1 checkpoint"), std::string::npos) << torn.err;
  EXPECT_EQ(command("latest").exit_code, 5);
}

TEST_F(RescueCommand, NothingThere) {
  EXPECT_EQ(ingot({"checkpoint", "rescue", dir_ / "nothing"}).exit_code, 5);
  EXPECT_EQ(ingot({"checkpoint", "rescue", dir_.path()}).exit_code, 5);
  fs::create_directory(dir_ / "checkpoint-8");
  const json j = rescue(dir_.path(), {}, 5);
  EXPECT_NE(faults(*at(j, "checkpoint-8")).find("it is empty"), std::string::npos);
}

}  // namespace
}  // namespace ingot::testing
