// --calibrate and --eval of 'ship' and 'quantize': one command for what 'imatrix', 'quantize --imatrix' and 'eval' do apart.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "program.h"

namespace ingot::testing {
namespace {

using nlohmann::json;

class Calibrated : public CliTest {
 protected:
  void SetUp() override {
    const std::string root = INGOT_SOURCE_DIR;
    write_file(text_, read_file(root + "/src/cli/args.cc") + read_file(root + "/LICENSE"));
    write_file(held_, read_file(root + "/src/cli/text.cc"));
  }
  std::vector<std::string> ship(const std::string& out, std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {"ship", kBase, "--adapter", kAdapter, "--type", "Q3_K_M,IQ2_XS", "--calibrate", text_, "--ctx", "64", "--chunks", "12", "--out", dir_ / out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string hash(const std::string& name) const { return result_of(ingot({"hash", dir_ / name, "--json"}))["exact"]; }
  std::string progress() const {
    for (const std::string& name : entries(dir_.path()))
      if (name.ends_with(".progress")) return dir_ / name;
    return "";
  }
  void kill_while_it_calibrates(const std::vector<std::string>& command) const {
    Child child(command);
    for (int i = 0; i < 12000 && progress().empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    child.send(SIGKILL);
    EXPECT_EQ(child.finish().signal, SIGKILL);
    ASSERT_NE(progress(), "");
  }
  static void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
    EXPECT_EQ(f.exit_code, exit_code) << f.err;
    for (const std::string& part : parts) EXPECT_NE(f.err.find(part), std::string::npos) << part << "\n" << f.err;
  }
  const std::string kBase = example("tiny-llama-base"), kAdapter = example("lora-code");
  const std::string text_ = dir_ / "text.txt", held_ = dir_ / "held.txt";
};

TEST_F(Calibrated, OneCommandGivesWhatThreeGive) {
  const Finished f = ingot(ship("one-{type}.gguf", {"--keep", "imatrix=" + (dir_ / "one.imatrix.gguf"), "--eval", held_, "--json"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const json one = result_of(f);
  EXPECT_EQ(one["calibration"]["chunks"], 12);
  EXPECT_EQ(one["calibration"]["tokens"], 12 * 64);
  EXPECT_EQ(one["outputs"][2]["kept"], "imatrix");
  ASSERT_EQ(ingot({"imatrix", kBase, "--adapter", kAdapter, "--calibrate", text_, "--ctx", "64", "--chunks", "12", "--out", dir_ / "im.gguf"}).exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "im.gguf") == read_file(dir_ / "one.imatrix.gguf"), true);
  ASSERT_EQ(ingot({"ship", kBase, "--adapter", kAdapter, "--type", "Q3_K_M,IQ2_XS", "--imatrix", dir_ / "im.gguf", "--out", dir_ / "two-{type}.gguf"}).exit_code, 0);
  ASSERT_EQ(ingot({"ship", kBase, "--adapter", kAdapter, "--type", "F32", "--out", dir_ / "f32.gguf"}).exit_code, 0);
  EXPECT_EQ(one["evaluation"]["arithmetic"], "exact");
  for (const char* type : {"Q3_K_M.gguf", "IQ2_XS.gguf"}) EXPECT_EQ(hash(std::string("one-") + type), hash(std::string("two-") + type));
  const json metadata = result_of(ingot({"inspect", dir_ / "one-IQ2_XS.gguf", "--json", "-v"}))["metadata"];
  EXPECT_EQ(metadata["quantize.imatrix.dataset"], "text.txt");
  EXPECT_EQ(metadata["quantize.imatrix.file"], "one.imatrix.gguf");
  EXPECT_EQ(metadata["quantize.imatrix.chunks_count"], 12);
  const json e = result_of(ingot({"eval", dir_ / "two-Q3_K_M.gguf", dir_ / "two-IQ2_XS.gguf", "--against", dir_ / "f32.gguf", "--text", held_, "--ctx", "64", "--chunks", "12", "--json"}));
  const json& measured = one["evaluation"];
  ASSERT_EQ(measured["models"].size(), 2u);
  EXPECT_EQ(measured["reference"]["perplexity"], e["reference"]["perplexity"]);
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(measured["models"][i]["kl"].is_object()) << measured["models"][i];
    for (const char* what : {"perplexity", "kl", "bytes"}) EXPECT_EQ(measured["models"][i][what], e["models"][i][what]) << what;
  }
}

TEST_F(Calibrated, WhatIsUpToDateIsNotCalibratedAgain) {
  ASSERT_EQ(ingot(ship("{type}.gguf")).exit_code, 0);
  const json again = result_of(ingot(ship("{type}.gguf", {"--json"})));
  EXPECT_EQ(again["outputs"][0]["up_to_date"], true);
  EXPECT_FALSE(again.contains("calibration"));
  // Another text is another job, though no tensor and no option is another.
  write_file(text_, read_file(held_));
  EXPECT_NE(ingot(ship("{type}.gguf")).exit_code, 0);
  const json other = result_of(ingot(ship("{type}.gguf", {"--json", "--force"})));
  EXPECT_TRUE(other.contains("calibration"));
  EXPECT_NE(other["outputs"][0]["hash"], again["outputs"][0]["hash"]);
}

TEST_F(Calibrated, KilledWhileItCalibratesItGoesOnToTheSameBytes) {
  std::vector<std::string> words = {INGOT_PROGRAM, "quantize", kBase, "--type", "Q2_K", "--calibrate", text_, "--ctx", "64", "--threads", "1", "--out"};
  const auto to = [&](const std::string& name) {
    std::vector<std::string> all = words;
    all.push_back(dir_ / name);
    return all;
  };
  kill_while_it_calibrates(to("a.gguf"));
  expect_said(Child(to("a.gguf")).finish(), 0, {"going on after "});
  ASSERT_EQ(Child(to("fresh.gguf")).finish().exit_code, 0);
  EXPECT_TRUE(same_bytes(dir_ / "a.gguf", dir_ / "fresh.gguf"));
  EXPECT_TRUE(empty_but_for(dir_.path(), {"a.gguf", "fresh.gguf", "text.txt", "held.txt"}));
}

// The sums are of the model and the text alone: what is made of them may be something else the next time.
TEST_F(Calibrated, KilledItGoesOnForOtherTypesToo) {
  std::vector<std::string> words = {INGOT_PROGRAM, "quantize", kBase, "--calibrate", text_, "--ctx", "64", "--threads", "1", "--out", dir_ / "{type}.gguf", "--type"};
  const auto of = [&](const std::string& types) {
    std::vector<std::string> all = words;
    all.push_back(types);
    return all;
  };
  kill_while_it_calibrates(of("Q2_K"));
  expect_said(Child(of("Q2_K,Q3_K_S")).finish(), 0, {"going on after "});
  EXPECT_EQ(progress(), "");
  // And one that is not wanted any more goes with the next job there.
  std::filesystem::remove(dir_ / "Q2_K.gguf");
  kill_while_it_calibrates(of("Q2_K"));
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q2_K", "--out", dir_ / "Q2_K.gguf"}).exit_code, 0);
  EXPECT_EQ(progress(), "");
}

TEST_F(Calibrated, APlanTellsOfAllThatWouldBeDone) {
  const Finished f = ingot(ship("{type}.gguf", {"--eval", held_, "--dry-run"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  for (const char* part : {"first runs 12 windows of 64 tokens", "then evaluates 12 windows of 64 tokens"}) EXPECT_NE(f.out.find(part), std::string::npos) << f.out;
  EXPECT_EQ(result_of(ingot(ship("{type}.gguf", {"--dry-run", "--json"})))["calibration"]["chunks"], 12);
  EXPECT_TRUE(empty_but_for(dir_.path(), {"text.txt", "held.txt"}));
}

TEST_F(Calibrated, WeightsAreChosenAsOfAFile) {
  ASSERT_EQ(ingot(ship("all-{type}.gguf", {"--type", "Q4_K_M"})).exit_code, 2);  // given twice
  const auto quantize = [&](const std::string& out, std::vector<std::string> more) {
    more.insert(more.begin(), {"quantize", kBase, "--type", "Q4_K_S", "--calibrate", text_, "--ctx", "64", "--chunks", "8", "--out", dir_ / out});
    return ingot(more);
  };
  ASSERT_EQ(quantize("all.gguf", {}).exit_code, 0);
  ASSERT_EQ(quantize("no.gguf", {"--exclude-weights", "ffn_"}).exit_code, 0);
  const json d = result_of(ingot({"diff", dir_ / "all.gguf", dir_ / "no.gguf", "--json", "--all"}));
  ASSERT_GT(d["tensors"].size(), 0u);
  size_t changed = 0;
  for (const json& t : d["tensors"])
    if (t["is"] == "different") {
      ++changed;
      EXPECT_NE(t["name"].get<std::string>().find("ffn_"), std::string::npos) << t;
    }
  EXPECT_GT(changed, 0u);
  expect_said(quantize("none.gguf", {"--include-weights", "nowhere"}), 2, {"--include-weights leaves no entry"});
}

TEST_F(Calibrated, WhatCannotBeIsSaidBeforeAnythingIsRun) {
  expect_said(ingot(ship("x.gguf", {"--imatrix", dir_ / "im.gguf"})), 2, {"--imatrix and --calibrate are two importance matrices"});
  expect_said(ingot({"ship", kBase, "--keep", "imatrix=" + (dir_ / "x.gguf")}), 2, {"--keep imatrix=FILE keeps what --calibrate TEXT computes"});
  expect_said(ingot({"ship", kBase, "--out", dir_ / "x.gguf", "--calibrate", text_, "--ctx", "100000"}), 2, {"--calibrate: --ctx 100000"});
  expect_said(ingot({"ship", kBase, "--out", dir_ / "x.gguf", "--eval", dir_ / "none.txt"}), 3, {"--eval: ", "none.txt"});
  expect_said(ingot({"ship", kBase, "--out", dir_ / "x.gguf", "--eval", text_, "--ctx", "100000"}), 2, {"--eval: --ctx 100000"});
  expect_said(ingot({"quantize", kBase, "--out", dir_ / "x.gguf", "--ctx", "100", "--dry-run"}), 0, {"--ctx changes nothing without --calibrate"});
  expect_said(ingot(ship("x-{type}.gguf", {"--memory", "7M"})), 2, {"--calibrate: --memory ", "is too little"});
  expect_said(ingot({"ship", kBase, "--out", dir_ / "x.gguf", "--eval", text_, "--ctx", "128", "--override-kv", "llama.context_length=int:64"}), 2, {"--eval: --ctx 128"});
  expect_said(ingot({"ship", kBase, "--out", dir_ / "x.gguf", "--calibrate", "-", "--eval", "-"}), 2, {"standard input is read once"});
  expect_said(ingot(ship("x-{type}.gguf", {"--eval", text_, "--dry-run"})), 0, {"the text that --calibrate fits the file to"});
  expect_said(ingot({"quantize", kBase, "--type", "F16", "--out", dir_ / "x.gguf", "--calibrate", text_, "--ctx", "64", "--dry-run"}), 0, {"--calibrate changes nothing in files of floats"});
  const std::string kept_text = dir_ / "text.gguf";
  write_file(kept_text, read_file(text_));
  expect_said(ingot({"ship", kBase, "--out", dir_ / "x.gguf", "--calibrate", kept_text, "--keep", "imatrix=" + kept_text, "--force"}), 2, {"is the input itself"});
  std::filesystem::remove(kept_text);
  write_file(dir_ / "short.txt", "A few words.");
  expect_said(ingot({"quantize", kBase, "--out", dir_ / "x.gguf", "--calibrate", dir_ / "short.txt"}), 3, {"tokens"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {"text.txt", "held.txt", "short.txt"}));
}

}  // namespace
}  // namespace ingot::testing
