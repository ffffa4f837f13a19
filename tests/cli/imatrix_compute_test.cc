// ingot imatrix: both kinds of files, stopped and gone on with, merged, looked at, and what is refused.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <thread>

#include "program.h"
#include "storage/store.h"
#include "transform/importance.h"
#include "formats/formats.h"

namespace ingot::testing {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const std::string kBase = example("tiny-llama-base");

std::vector<std::string> words(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_EQ(f.exit_code, exit_code) << f.err;
  for (const std::string& part : parts) EXPECT_NE(f.err.find(part), std::string::npos) << part << "\n" << f.err;
}

// Prose and code that lie in the repository.
std::string some_text() {
  const std::string root = INGOT_SOURCE_DIR;
  return read_file(root + "/LICENSE") + read_file(root + "/src/cli/args.cc") + read_file(root + "/src/cli/text.cc");
}

transform::ImportanceSums read(const std::string& path) {
  const auto at = locate(path);
  const auto a = open_model(*at->store, at->path);
  EXPECT_TRUE(a.ok()) << a.error().message;
  if (!a.ok()) return {};
  auto sums = transform::read_importance_sums({*a});
  EXPECT_TRUE(sums.ok()) << sums.error().message;
  return sums.ok() ? *sums : transform::ImportanceSums();
}

class ImatrixCompute : public CliTest {
 protected:
  void SetUp() override { write_file(text_, some_text()); }
  Finished imatrix(const std::string& out, const std::vector<std::string>& more = {}, const std::string& model = kBase) const {
    return ingot(words({"imatrix", model, "--calibrate", text_, "--ctx", "128", "--out", dir_ / out}, more));
  }
  const std::string text_ = dir_ / "text.txt";
};

// The reference's file is of another text, but of the same model: the columns that matter are the same ones.
TEST_F(ImatrixCompute, HasTheReferencesKeysAndTensorsAndItsColumns) {
  const Finished f = imatrix("m.gguf");
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const json mine = result_of(ingot({"inspect", dir_ / "m.gguf", "--json", "-v"})), theirs = result_of(ingot({"inspect", data_file("quant/imatrix.gguf"), "--json", "-v"}));
  std::vector<std::string> my_keys, their_keys;
  for (const auto& [k, v] : mine["metadata"].items()) my_keys.push_back(k);
  for (const auto& [k, v] : theirs["metadata"].items()) their_keys.push_back(k);
  EXPECT_EQ(my_keys, their_keys);
  EXPECT_EQ(mine["metadata"]["imatrix.datasets"], json({"text.txt"}));
  EXPECT_EQ(mine["metadata"]["imatrix.chunk_size"], 128);
  EXPECT_EQ(mine["tensors"], theirs["tensors"]);
  const auto a = read(dir_ / "m.gguf"), b = read(data_file("quant/imatrix.gguf"));
  EXPECT_EQ(a.chunks * 128, a.entries.at("blk.0.attn_q.weight").counts[0]);
  for (const auto& [name, e] : a.entries) {
    const auto& r = b.entries.at(name);
    double product = 0, x = 0, y = 0;
    for (size_t i = 0; i < e.values.size(); ++i) product += e.values[i] * r.values[i], x += e.values[i] * e.values[i], y += r.values[i] * r.values[i];
    EXPECT_GT(product / std::sqrt(x * y), 0.7) << name;
  }
}

TEST_F(ImatrixCompute, GgufAndDatSayTheSameAndQuantizeTakesBoth) {
  ASSERT_EQ(imatrix("m.gguf").exit_code, 0);
  ASSERT_EQ(imatrix("m.dat").exit_code, 0);
  ASSERT_EQ(imatrix("other.imatrix", {"--output-format", "dat"}).exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "other.imatrix"), read_file(dir_ / "m.dat"));
  EXPECT_EQ(ingot({"diff", dir_ / "m.gguf", dir_ / "m.dat"}).exit_code, 0);
  // As llama-imatrix makes one of the other.
  ASSERT_EQ(ingot({"imatrix", "--in-file", dir_ / "m.gguf", "-o", dir_ / "converted.dat"}).exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "converted.dat"), read_file(dir_ / "m.dat"));
  ASSERT_EQ(ingot({"imatrix", dir_ / "m.gguf", "-o", dir_ / "converted2.dat"}).exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "converted2.dat"), read_file(dir_ / "m.dat"));
  for (const char* file : {"m.gguf", "m.dat"}) {
    const Finished q = ingot({"quantize", kBase, "--type", "IQ2_XXS", "--out", dir_ / "q.gguf", "--force", "--imatrix", dir_ / file});
    ASSERT_EQ(q.exit_code, 0) << q.err;
    EXPECT_EQ(q.err.find("importance"), std::string::npos) << q.err;
    EXPECT_EQ(result_of(ingot({"inspect", dir_ / "q.gguf", "--json"}))["metadata"]["quantize.imatrix.dataset"], "text.txt");
  }
}

TEST_F(ImatrixCompute, TheBytesDependOnNoThreadsMemoryOrForm) {
  ASSERT_EQ(imatrix("1.gguf", {"--threads", "1", "--chunks", "9"}).exit_code, 0);
  const std::string bytes = read_file(dir_ / "1.gguf");
  for (const auto& more : std::vector<std::vector<std::string>>{{"--threads", "2"}, {"--threads", "7"}, {"--memory", "24M"}, {"-t", "2", "--memory", "28M"}}) {
    ASSERT_EQ(imatrix("n.gguf", words({"--chunks", "9", "--force"}, more)).exit_code, 0);
    EXPECT_EQ(read_file(dir_ / "n.gguf") == bytes, true) << more[1];
  }
  // As a directory and as GGUF of the same type.
  ASSERT_EQ(ingot({"convert", kBase, dir_ / "base.gguf"}).exit_code, 0);
  ASSERT_EQ(imatrix("g.gguf", {"--chunks", "9"}, dir_ / "base.gguf").exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "g.gguf") == bytes, true);
  const Finished least = imatrix("m.gguf", {"--chunks", "9", "--memory", "4M"});
  expect_said(least, 2, {"--memory", "is too little", "give --memory "});
}

TEST_F(ImatrixCompute, HalvesMergedAreTheWhole) {
  ASSERT_EQ(imatrix("whole.gguf", {"--chunks", "16"}).exit_code, 0);
  ASSERT_EQ(imatrix("a.gguf", {"--chunks", "7"}).exit_code, 0);
  ASSERT_EQ(imatrix("b.gguf", {"--chunk", "7", "--chunks", "9"}).exit_code, 0);
  ASSERT_EQ(ingot({"imatrix", "--in-file", dir_ / "a.gguf", "--in-file", dir_ / "b.gguf", "--out", dir_ / "ab.gguf"}).exit_code, 0);
  // And the second half run on top of the first.
  ASSERT_EQ(imatrix("on.gguf", {"--chunk", "7", "--chunks", "9", "--in-file", dir_ / "a.gguf"}).exit_code, 0);
  const auto whole = read(dir_ / "whole.gguf");
  for (const char* file : {"ab.gguf", "on.gguf"}) {
    const auto merged = read(dir_ / file);
    EXPECT_EQ(merged.chunks, 16u) << file;
    EXPECT_EQ(merged.chunk_size, 128u);
    EXPECT_EQ(merged.datasets, (std::vector<std::string>{"text.txt", "text.txt"}));
    ASSERT_EQ(merged.entries.size(), whole.entries.size());
    for (const auto& [name, e] : whole.entries) {
      const auto& m = merged.entries.at(name);
      EXPECT_EQ(m.counts, e.counts);
      for (size_t i = 0; i < e.values.size(); ++i) EXPECT_NEAR(m.values[i], e.values[i], 3e-7 * e.values[i]) << name;
    }
  }
  // With a model and no text nothing is run: the files are held against it.
  const Finished held = ingot({"imatrix", kBase, "--in-file", dir_ / "a.gguf", "--in-file", dir_ / "b.gguf", "--out", dir_ / "held.gguf"});
  ASSERT_EQ(held.exit_code, 0) << held.err;
  EXPECT_EQ(read_file(dir_ / "held.gguf"), read_file(dir_ / "ab.gguf"));
}

TEST_F(ImatrixCompute, IsUpToDateTheSecondTimeAndReplacesNothing) {
  ASSERT_EQ(imatrix("m.gguf", {"--chunks", "5"}).exit_code, 0);
  const std::string bytes = read_file(dir_ / "m.gguf");
  const Finished again = imatrix("m.gguf", {"--chunks", "5", "--json"});
  if (keeps_notes(dir_.path())) {
    EXPECT_TRUE(result_of(again)["outputs"][0]["up_to_date"]);
    EXPECT_EQ(again.err.find("\"phase\":\"loading\""), std::string::npos);  // nothing was run
  }
  expect_said(imatrix("m.gguf", {"--chunks", "6"}), 2, {"m.gguf", "exists already", "--force"});
  expect_said(imatrix("m.gguf", {"--chunks", "5", "--process-output"}), 2, {"exists already"});
  EXPECT_EQ(read_file(dir_ / "m.gguf"), bytes);
  ASSERT_EQ(imatrix("m.gguf", {"--chunks", "6", "--force"}).exit_code, 0);
  EXPECT_NE(read_file(dir_ / "m.gguf"), bytes);
  EXPECT_TRUE(empty_but_for(dir_.path(), {"m.gguf", "text.txt"}));
  const Finished dry = imatrix("d.gguf", {"--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_NE(dry.out.find("windows of 128 tokens"), std::string::npos) << dry.out;
  EXPECT_FALSE(exists(dir_ / "d.gguf"));
}

TEST_F(ImatrixCompute, TheOutputsMatrixAndAnAdapter) {
  ASSERT_EQ(imatrix("m.gguf", {"--chunks", "5"}).exit_code, 0);
  ASSERT_EQ(imatrix("o.gguf", {"--chunks", "5", "--process-output"}).exit_code, 0);
  const auto plain = read(dir_ / "m.gguf"), with = read(dir_ / "o.gguf");
  EXPECT_FALSE(plain.entries.contains("output.weight"));
  ASSERT_TRUE(with.entries.contains("output.weight"));
  EXPECT_EQ(with.entries.at("output.weight").counts, std::vector<double>{640});
  EXPECT_EQ(with.entries.at("blk.5.ffn_down.weight").values, plain.entries.at("blk.5.ffn_down.weight").values);
  ASSERT_EQ(imatrix("a.gguf", {"--chunks", "5", "--adapter", example("lora-code")}).exit_code, 0);
  const auto adapted = read(dir_ / "a.gguf");
  EXPECT_EQ(adapted.entries.at("blk.0.attn_q.weight").values, plain.entries.at("blk.0.attn_q.weight").values);  // before it, nothing changed
  EXPECT_NE(adapted.entries.at("blk.5.attn_q.weight").values, plain.entries.at("blk.5.attn_q.weight").values);
  const Finished lora = ingot({"imatrix", example("lora-code"), "-f", text_, "-c", "128", "--chunks", "5", "-o", dir_ / "l.gguf"});
  expect_said(lora, 0, {"assumed: base "});
  EXPECT_EQ(read_file(dir_ / "l.gguf"), read_file(dir_ / "a.gguf"));
}

// llama-imatrix's own words, and what it takes besides.
TEST_F(ImatrixCompute, TakesLlamaImatrixsOptions) {
  ASSERT_EQ(ingot({"convert", kBase, dir_ / "base.gguf", "F16"}).exit_code, 0);
  const Finished f = ingot({"imatrix", "-m", dir_ / "base.gguf", "-f", text_, "-o", dir_ / "m.gguf", "--ctx-size", "128", "--chunks", "4", "--from-chunk", "1", "--no-ppl", "-ofreq", "10", "--save-frequency", "0",
                            "--output-format", "gguf", "--parse-special"});
  expect_said(f, 0, {"--no-ppl changes nothing", "--output-frequency changes nothing"});
  EXPECT_EQ(read(dir_ / "m.gguf").chunks, 4u);
  const Finished shown = ingot({"imatrix", "--in-file", dir_ / "m.gguf", "--show-statistics"});
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_NE(shown.out.find("CosSim"), std::string::npos);
}

TEST_F(ImatrixCompute, StatisticsAndTheirPicture) {
  const Finished f = ingot({"imatrix", data_file("quant/imatrix.gguf"), "--stats", "--svg", dir_ / "m.svg", "--json"});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const json j = result_of(f);
  EXPECT_EQ(j["chunks"], 265);
  EXPECT_EQ(j["statistics"]["tensors"].size(), 42u);
  EXPECT_EQ(j["statistics"]["layers"].size(), 6u);
  for (const json& t : j["statistics"]["tensors"]) {
    EXPECT_GT(t["sum"], 0);
    EXPECT_EQ(t.contains("cosine"), t["layer"] != 0) << t;
    EXPECT_LE(t["entropy_share"], 1);
  }
  const std::string svg = read_file(dir_ / "m.svg");
  EXPECT_NE(svg.find("attn_k, attn_q, attn_v"), std::string::npos);
  EXPECT_NE(svg.find("ffn_down"), std::string::npos);
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
  const Finished text = ingot({"imatrix", data_file("quant/imatrix.gguf"), "--stats"});
  for (const char* part : {"attn_q", "E (norm)", "ZD", "mean CosSim", "0.9782"}) EXPECT_NE(text.out.find(part), std::string::npos) << part;
  // After a run, too, and of what is there already.
  const Finished run = imatrix("m.gguf", {"--chunks", "4", "--stats", "--json"}), again = imatrix("m.gguf", {"--chunks", "4", "--stats", "--json"});
  if (keeps_notes(dir_.path())) {
    const json a = result_of(run)["statistics"]["tensors"], b = result_of(again)["statistics"]["tensors"];
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i]["sum"].get<double>(), b[i]["sum"].get<double>(), 1e-6 * a[i]["sum"].get<double>());
  }
}

TEST_F(ImatrixCompute, FewTokensAreWarnedOf) {
  const Finished f = imatrix("m.gguf", {"--ctx", "32", "--chunks", "2", "--json"});
  expect_said(f, 2, {"--ctx is given twice"});
  const Finished g = ingot({"imatrix", kBase, "--calibrate", text_, "--ctx", "32", "--chunks", "2", "--out", dir_ / "m.gguf", "--json"});
  ASSERT_EQ(g.exit_code, 0) << g.err;
  EXPECT_NE(g.err.find("64 tokens in whole windows"), std::string::npos) << g.err;
  EXPECT_NE(g.err.find("fewer than 100 tokens came to 'blk.0.attn_k.weight' (64)"), std::string::npos) << g.err;
  EXPECT_EQ(result_of(g)["few"].size(), 42u);
  ASSERT_EQ(ingot({"quantize", kBase, "--type", "Q4_0", "--out", dir_ / "q.gguf"}).exit_code, 0);
  const Finished q = imatrix("q-imatrix.gguf", {"--chunks", "4"}, dir_ / "q.gguf");
  expect_said(q, 0, {"is quantized already (mostly Q4_0)"});
}

TEST_F(ImatrixCompute, WhatIsWrongIsNamedBeforeAnyWork) {
  write_file(dir_ / "short.txt", "A few words.");
  const auto run = [&](const std::vector<std::string>& more) {
    SpawnOptions here;
    here.directory = dir_.path();
    return ingot(words({"imatrix"}, more), here);
  };
  expect_said(run({}), 2, {"needs a model"});
  expect_said(run({"--calibrate", text_}), 2, {"needs the model"});
  expect_said(run({kBase, "--calibrate", dir_ / "short.txt", "--out", "m.gguf"}), 3, {"tokens", "512"});
  expect_said(run({kBase, "--calibrate", dir_ / "nothing.txt", "--out", "m.gguf"}), 3, {"nothing.txt"});
  expect_said(run({kBase, "--calibrate", text_, "--ctx", "4096", "--out", "m.gguf"}), 2, {"--ctx 4096", "2048 tokens"});
  expect_said(run({kBase, "--calibrate", text_, "--out", "m.npz"}), 2, {"m.npz", "GGUF"});
  expect_said(run({kBase, "--calibrate", text_, "--out", "m.gguf", "--output-format", "npz"}), 2, {"gguf or dat"});
  expect_said(run({kBase, "--calibrate", text_, "--out", kBase + "/model.safetensors"}), 2, {"model.safetensors"});
  expect_said(run({kBase, "--in-file", kBase, "--out", "m.gguf"}), 3, {"no importance matrix"});
  expect_said(run({data_file("quant/imatrix.gguf")}), 2, {"nothing to do", "--stats"});
  expect_said(run({data_file("quant/imatrix.gguf"), "--calibrate", text_}), 2, {"is an importance matrix"});
  expect_said(run({kBase, "--calibrate", text_, "--out", "m.gguf", "--svg", "m.png"}), 2, {".svg"});
  expect_said(run({kBase, "--in-file", data_file("quant/imatrix.gguf"), "--chunks", "3", "--out", "m.gguf"}), 2, {"--chunks is for a text"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {"short.txt", "text.txt"}));
}

// A model on which a run takes seconds.
class ImatrixLong : public ImatrixCompute {
 protected:
  static void SetUpTestSuite() {
    models_ = new TemporaryDirectory;
    make_model(*models_ / "m", 40);
  }
  static void TearDownTestSuite() {
    delete models_;
    models_ = nullptr;
  }
  std::vector<std::string> command(const std::string& out, const std::vector<std::string>& more = {}) const {
    return words({INGOT_PROGRAM, "imatrix", *models_ / "m", "--calibrate", text_, "--ctx", "64", "--chunks", "120", "--threads", "1", "--out", dir_ / out}, more);
  }
  std::string progress() const {
    for (const std::string& name : entries(dir_.path()))
      if (name.ends_with(".progress")) return dir_ / name;
    return "";
  }
  // The file of a run that nobody disturbed, and nothing else, is left.
  void expect_like_fresh(const std::string& name) {
    ASSERT_EQ(Child(command("fresh.gguf")).finish().exit_code, 0);
    EXPECT_TRUE(same_bytes(dir_ / name, dir_ / "fresh.gguf"));
    EXPECT_TRUE(empty_but_for(dir_.path(), {name, "fresh.gguf", "text.txt"}));
  }
  static TemporaryDirectory* models_;
};
TemporaryDirectory* ImatrixLong::models_ = nullptr;

bool has_run(const std::string& err) {
  for (const auto& e : events_of(err))
    if (e["event"] == "progress" && e["phase"] == "calibrating" && e["done"].get<uint64_t>() >= 1536) return true;
  return false;
}

TEST_F(ImatrixLong, SigtermIsHeededAtOnceAndTheSameCommandGoesOnToTheSameBytes) {
  {
    Child child(command("a.gguf", {"--json"}));
    ASSERT_TRUE(child.wait_for(has_run));
    const double before = now();
    child.send(SIGTERM);
    const Finished f = child.finish(20);
    EXPECT_LT(now() - before, 2.0);
    EXPECT_EQ(f.exit_code, 4) << f.err;
    EXPECT_NE(result_of(f)["error"]["message"].get<std::string>().find("of 120 windows; the same command goes on there"), std::string::npos) << f.out;
    EXPECT_FALSE(exists(dir_ / "a.gguf"));
    EXPECT_NE(progress(), "");
  }
  const Finished f = Child(command("a.gguf", {"--json"})).finish();
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.err.find("going on after "), std::string::npos) << f.err;
  EXPECT_GT(result_of(f)["resumed_chunks"], 0);
  expect_like_fresh("a.gguf");
}

TEST_F(ImatrixLong, AfterKill9TheSameCommandGoesOnToTheSameBytes) {
  {
    Child child(command("a.gguf"));
    const double start = now();
    while (progress().empty() && now() - start < 60) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    child.send(SIGKILL);
    EXPECT_EQ(child.finish().signal, SIGKILL);
  }
  ASSERT_NE(progress(), "");
  const Finished f = Child(command("a.gguf", {"--threads", "2"})).finish();
  expect_said(f, 2, {"given twice"});
  const Finished g = Child(command("a.gguf")).finish();
  expect_said(g, 0, {"going on after "});
  expect_like_fresh("a.gguf");
}

TEST_F(ImatrixLong, ProgressThatIsDamagedOrOfAnotherRunIsBegunAnew) {
  const auto stop = [&] {
    Child child(command("a.gguf", {"--json"}));
    ASSERT_TRUE(child.wait_for(has_run));
    child.send(SIGTERM);
    EXPECT_EQ(child.finish(20).exit_code, 4);
    ASSERT_NE(progress(), "");
  };
  stop();
  std::string bytes = read_file(progress());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file(progress(), bytes);
  expect_said(Child(command("a.gguf")).finish(), 0, {"damaged and discarded"});
  expect_like_fresh("a.gguf");
  fs::remove(dir_ / "a.gguf");
  fs::remove(dir_ / "fresh.gguf");
  stop();
  expect_said(Child(command("a.gguf", {"--process-output"})).finish(), 0, {"other inputs or settings"});
  fs::remove(dir_ / "a.gguf");
  stop();
  const Finished anew = Child(command("a.gguf", {"--no-resume"})).finish();
  EXPECT_EQ(anew.exit_code, 0) << anew.err;
  EXPECT_EQ(anew.err.find("going on"), std::string::npos) << anew.err;
  expect_like_fresh("a.gguf");
}

}  // namespace
}  // namespace ingot::testing
