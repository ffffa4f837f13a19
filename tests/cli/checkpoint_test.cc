// ingot checkpoint: over directories as the Python package leaves them.
#include <filesystem>

#include "checkpoint/checkpoint_testing.h"
#include "program.h"

namespace ingot::testing {
namespace {

using nlohmann::json;

class CheckpointCommand : public CliTest {
 protected:
  void SetUp() override {
    for (int64_t step = 100; step <= 500; step += 100) {
      auto s = checkpoint::testing::make_state(step, {{"model", {1000, 7}}, {"optimizer", {2000}}});
      s.snapshot.metrics = {{"val_loss", step == 200 ? 0.5 : static_cast<double>(step) / 100}};
      checkpoint::SaveOptions o;
      o.time = 1790000000 + static_cast<double>(step);
      ASSERT_TRUE(checkpoint::save(local_store(), dir_.path(), s.snapshot, o).ok());
    }
  }
  Finished checkpoint_command(std::vector<std::string> words) const {
    words.insert(words.begin(), "checkpoint");
    return ingot(words);
  }
  std::string at(int step, const std::string& file = "") const { return dir_ / fmt::format("checkpoint-{}{}{}", step, file.empty() ? "" : "/", file); }
  void flip(const std::string& path) const {
    std::string bytes = read_file(path);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    write_file(path, bytes);
  }
  std::vector<std::string> steps() const {
    std::vector<std::string> out;
    for (const auto& e : entries(dir_.path()))
      if (e.rfind("checkpoint-", 0) == 0) out.push_back(e.substr(11));
    return out;
  }
};

TEST_F(CheckpointCommand, LsShowsThemNewestFirst) {
  std::filesystem::remove(at(400, "manifest.json"));
  const json j = result_of(checkpoint_command({"ls", dir_.path(), "--json"}));
  ASSERT_EQ(j["checkpoints"].size(), 5U);
  EXPECT_EQ(j["checkpoints"][0]["step"], 500);
  EXPECT_EQ(j["checkpoints"][0]["state"], "whole");
  EXPECT_EQ(j["checkpoints"][4]["step"], 400);
  EXPECT_EQ(j["checkpoints"][4]["state"], "torn");
  const Finished text = checkpoint_command({"ls", dir_.path()});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_NE(text.out.find("val_loss 0.5"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("400: it has no manifest: its save did not end"), std::string::npos) << text.out;
  EXPECT_EQ(checkpoint_command({"ls", dir_ / "nothing"}).exit_code, 5);
}

TEST_F(CheckpointCommand, LsAndVerifyTellWhichShareBytes) {
  EXPECT_EQ(checkpoint_command({"ls", dir_.path()}).out.find("shares with"), std::string::npos);
  const uint64_t before = result_of(checkpoint_command({"ls", dir_.path(), "--json"}))["disk_bytes"];
  for (const int step : {100, 300}) std::filesystem::create_hard_link(at(500, "optimizer.safetensors"), at(step, "linked"));
  const json j = result_of(checkpoint_command({"ls", dir_.path(), "--json"}));
  EXPECT_EQ(j["disk_bytes"], before);  // three names, one file
  EXPECT_EQ(j["checkpoints"][0]["shares_with"], json({300, 100}));
  EXPECT_EQ(j["checkpoints"][1]["shares_with"], json::array());
  EXPECT_LT(j["checkpoints"][0]["unique_bytes"], j["checkpoints"][0]["bytes"]);
  EXPECT_FALSE(j["checkpoints"][0].contains("uploaded"));  // a disk uploads nothing
  const Finished text = checkpoint_command({"ls", dir_.path()});
  EXPECT_NE(text.out.find("shares with"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("300, 100"), std::string::npos) << text.out;
  EXPECT_NE(checkpoint_command({"verify", dir_.path(), "500"}).out.find("shares files with 300, 100"), std::string::npos);
  // Removing two of three frees what only they had.
  const json pruned = result_of(checkpoint_command({"prune", dir_.path(), "--last", "1", "--dry-run", "--json"}));
  EXPECT_EQ(pruned["freed_bytes"], before - j["checkpoints"][0]["bytes"].get<uint64_t>());
}

// What a save left under its own name on a mount, of an earlier process: prune removes it; what a process of now may be writing it leaves.
TEST_F(CheckpointCommand, PruneRemovesWhatEarlierSavesLeft) {
  write_file(dir_ / "lease.json", R"({"epoch": 3, "owner": "x"})");
  for (const int step : {150, 250}) {
    std::filesystem::create_directory(at(step));
    write_file(at(step, "writer.json"), fmt::format(R"({{"ingot": "writer", "epoch": {}, "time": 1}})", step == 150 ? 1 : 3));
  }
  checkpoint::SaveOptions o;
  o.epoch = 2;
  ASSERT_TRUE(checkpoint::save(local_store(), dir_.path(), checkpoint::testing::make_state(600, {{"model", {10}}}).snapshot, o).ok());
  EXPECT_EQ(checkpoint_command({"prune", dir_.path(), "--last", "9"}).exit_code, 0);
  EXPECT_EQ(steps(), (std::vector<std::string>{"100", "200", "250", "300", "400", "500", "600"}));
}

TEST_F(CheckpointCommand, LatestAndBestPrintThePathAlone) {
  EXPECT_EQ(checkpoint_command({"latest", dir_.path()}).out, at(500) + "\n");
  std::filesystem::resize_file(at(500, "model.safetensors"), 100);
  EXPECT_EQ(checkpoint_command({"latest", dir_.path()}).out, at(400) + "\n");
  EXPECT_EQ(checkpoint_command({"best", dir_.path(), "--metric", "val_loss"}).out, at(200) + "\n");
  EXPECT_EQ(checkpoint_command({"best", dir_.path(), "--metric", "val_loss", "--max"}).out, at(400) + "\n");
  const Finished none = checkpoint_command({"latest", dir_ / "nothing"});
  EXPECT_EQ(none.exit_code, 5);
  EXPECT_EQ(none.out, "");
  const Finished instead = checkpoint_command({"latest", dir_ / "nothing", "--or", "none"});
  EXPECT_EQ(instead.exit_code, 0);
  EXPECT_EQ(instead.out, "none\n");
  EXPECT_EQ(checkpoint_command({"best", dir_.path(), "--metric", "nothing"}).exit_code, 5);
}

TEST_F(CheckpointCommand, VerifyFindsTheFileThatChanged) {
  EXPECT_EQ(checkpoint_command({"verify", dir_.path()}).exit_code, 0);
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}) {
    const std::string before = read_file(at(300, file));
    flip(at(300, file));
    const Finished f = checkpoint_command({"verify", dir_.path()});
    EXPECT_EQ(f.exit_code, 3);
    EXPECT_NE(f.out.find(file), std::string::npos) << f.out;
    EXPECT_EQ(checkpoint_command({"verify", dir_.path(), "200"}).exit_code, 0);
    write_file(at(300, file), before);
  }
}

// Of a directory under another step's name verify says what ls says, and a resume does: nobody knows which step it is.
TEST_F(CheckpointCommand, ARenamedOneIsNotWhole) {
  std::filesystem::copy(at(100), at(900), std::filesystem::copy_options::recursive);
  EXPECT_EQ(checkpoint_command({"latest", dir_.path()}).out, at(500) + "\n");
  const Finished f = checkpoint_command({"verify", dir_.path(), "900"});
  EXPECT_EQ(f.exit_code, 3);
  EXPECT_NE(f.out.find("its manifest says step 100"), std::string::npos) << f.out;
}

TEST_F(CheckpointCommand, PruneTellsWhyAndRemovesNothingDry) {
  EXPECT_EQ(checkpoint_command({"pin", dir_.path(), "100"}).exit_code, 0);
  const Finished dry = checkpoint_command({"prune", dir_.path(), "--last", "2", "--best", "1", "--metric", "val_loss", "--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_NE(dry.out.find("best val_loss (0.5)"), std::string::npos) << dry.out;
  EXPECT_NE(dry.out.find("pinned"), std::string::npos) << dry.out;
  EXPECT_EQ(steps().size(), 5U);
  EXPECT_EQ(checkpoint_command({"prune", dir_.path(), "--last", "2", "--best", "1", "--metric", "val_loss"}).exit_code, 0);
  EXPECT_EQ(steps(), (std::vector<std::string>{"100", "200", "400", "500"}));
  EXPECT_EQ(checkpoint_command({"prune", dir_.path()}).exit_code, 2);
  EXPECT_EQ(checkpoint_command({"prune", dir_.path(), "--best", "1"}).exit_code, 2);
}

TEST_F(CheckpointCommand, AnnotateAddsMetricsAndTheCheckpointStaysWhole) {
  EXPECT_EQ(checkpoint_command({"annotate", dir_.path(), "300", "bleu=31.5", "val_loss=0.1"}).exit_code, 0);
  EXPECT_EQ(checkpoint_command({"best", dir_.path(), "--metric", "val_loss"}).out, at(300) + "\n");
  EXPECT_EQ(checkpoint_command({"verify", dir_.path(), "300"}).exit_code, 0);
  EXPECT_EQ(checkpoint_command({"annotate", dir_.path(), "300", "bleu"}).exit_code, 2);
  EXPECT_EQ(checkpoint_command({"annotate", dir_.path(), "7", "bleu=1"}).exit_code, 5);
}

TEST_F(CheckpointCommand, WordsThatAreNoneAreHelped) {
  const Finished f = checkpoint_command({"lst", dir_.path()});
  EXPECT_EQ(f.exit_code, 2);
  EXPECT_NE(f.err.find("did you mean ls"), std::string::npos) << f.err;
}

}  // namespace
}  // namespace ingot::testing
