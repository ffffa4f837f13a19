// Paths: variables, directories above an output, the Hugging Face cache, names that are long, hostile or no text, limits.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/status.h"
#include "cli/text.h"
#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

class Paths : public CliTest {
 protected:
  SpawnOptions here() const {
    SpawnOptions o;
    o.directory = dir_.path();
    return o;
  }
};
using Parents = Paths;
using HubCache = Paths;
using Names = Paths;
using SizeLimit = Paths;

const std::string kBase = example("tiny-llama-base");

void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_EQ(f.exit_code, exit_code) << f.err;
  for (const std::string& part : parts) EXPECT_NE(f.err.find(part), std::string::npos) << part << "\n" << f.err;
}

std::string quoted(const std::string& s) { return fmt::format("'{}'", s); }

std::vector<std::string> quantize(const std::string& out, std::vector<std::string> more = {}) {
  std::vector<std::string> words = {"quantize", kBase, "--type", "Q8_0", "--out", out};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST_F(Parents, AreMadeWhenTheJobRuns) {
  const Finished f = ingot(quantize(dir_ / "a/b/c.gguf"));
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_TRUE(empty_but_for(dir_ / "a/b", {"c.gguf"}));
  EXPECT_EQ(ingot(quantize("d/e.gguf"), here()).exit_code, 0);
  EXPECT_TRUE(exists(dir_ / "d/e.gguf"));
  const Finished ship = ingot({"ship", kBase, "--type", "Q8_0", "--out", dir_ / "f/x.gguf", "--keep", "merged=" + (dir_ / "g/merged")});
  EXPECT_EQ(ship.exit_code, 0) << ship.err;
  EXPECT_TRUE(exists(dir_ / "f/x.gguf") && exists(dir_ / "g/merged/config.json"));
}

TEST_F(Parents, AreNotMadeByADryRunOrARefusedJob) {
  EXPECT_EQ(ingot(quantize(dir_ / "a/b.gguf", {"--memory", "1k"})).exit_code, 2);
  EXPECT_EQ(ingot(quantize(dir_ / "a/b.gguf", {"--tensor-type", "(=Q8_0"})).exit_code, 2);
  EXPECT_EQ(ingot({"ship", kBase, "--adapter", dir_ / "none", "--type", "Q8_0", "--out", dir_ / "a/b.gguf"}).exit_code, 3);
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

TEST_F(Parents, ThatCannotBeMadeAreNamed) {
  write_file(dir_ / "file", "x");
  ASSERT_EQ(::symlink("nowhere", (dir_ / "link").c_str()), 0);
  expect_said(ingot(quantize(dir_ / "file/a.gguf")), 1, {quoted(dir_ / "file") + " is not a directory"});
  expect_said(ingot(quantize(dir_ / "file/b/a.gguf")), 1, {quoted(dir_ / "file") + " is not a directory"});
  expect_said(ingot(quantize(dir_ / "link/a.gguf")), 1, {quoted(dir_ / "link") + " is a link to nothing"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {"file", "link"}));
}

TEST_F(Names, VariablesHaveDefaults) {
  SpawnOptions o;
  o.set = {{"INGOT_OUT", dir_.path()}, {"INGOT_EMPTY", ""}};
  o.unset = {"INGOT_UNSET"};
  const auto made = [&](const std::string& out, const std::string& name) {
    const Finished f = ingot(quantize(out), o);
    EXPECT_EQ(f.exit_code, 0) << out << "\n" << f.err;
    EXPECT_TRUE(exists(dir_ / name)) << out;
  };
  made("${INGOT_OUT:-elsewhere}/a.gguf", "a.gguf");
  made("${INGOT_UNSET:-" + dir_.path() + "}/b.gguf", "b.gguf");
  made("${INGOT_EMPTY:-" + dir_.path() + "}/c.gguf", "c.gguf");
  made("${INGOT_UNSET:-${INGOT_OUT}}/d.gguf", "d.gguf");
  made("${INGOT_OUT}/${INGOT_UNSET:-e-{type}}.gguf", "e-Q8_0.gguf");
  made("${INGOT_OUT}/${INGOT_UNSET:-}f.gguf", "f.gguf");
  expect_said(ingot(quantize("${INGOT_UNSET}/a.gguf"), o), 2, {"INGOT_UNSET is not set"});
  expect_said(ingot(quantize("${INGOT_UNSET:-${INGOT_UNSET}}/a.gguf"), o), 2, {"INGOT_UNSET is not set"});
  for (const char* wrong : {"${INGOT_OUT-x}/a.gguf", "${}/a.gguf", "${:-x}/a.gguf", "${1}/a.gguf"})
    expect_said(ingot(quantize(wrong), o), 2, {"${NAME:-TEXT}"});
  expect_said(ingot(quantize("${INGOT_OUT/a.gguf"), o), 2, {"without the closing }"});
}

// hub/models--org--name as huggingface_hub lays it out, with these snapshots.
std::string cached(const std::string& hub, const std::string& name, const std::vector<std::string>& snapshots, const std::string& main) {
  const std::string root = hub + "/models--org--" + name;
  fs::create_directories(root + "/blobs");
  fs::create_directories(root + "/refs");
  fs::create_directories(root + "/snapshots");
  for (const auto& hash : snapshots) fs::create_directory_symlink(kBase, root + "/snapshots/" + hash);
  if (!main.empty()) write_file(root + "/refs/main", main);
  return root;
}

TEST_F(HubCache, ItsFoldersPointAtTheSnapshot) {
  const std::string hub = dir_ / "huggingface/hub", root = cached(hub, "one", {"abc", "def"}, "def");
  const std::string snapshot = root + "/snapshots/def";
  for (const std::string& given : {root, root + "/", root + "/snapshots", hub, dir_ / "huggingface"}) {
    expect_said(ingot({"inspect", given}), 3, {given, "Hugging Face cache", quoted(snapshot)});
    expect_said(ingot({"ship", given, "--type", "Q8_0", "--out", dir_ / "x.gguf"}), 3, {quoted(snapshot)});
    expect_said(ingot({"ship", kBase, "--adapter", given, "--type", "Q8_0", "--out", dir_ / "x.gguf"}), 3, {quoted(snapshot)});
  }
  EXPECT_EQ(ingot({"inspect", snapshot}).exit_code, 0);
  // Only one snapshot and no ref; several and none named; none.
  expect_said(ingot({"run", cached(hub, "two", {"abc"}, ""), "-p", "x"}), 3, {"models--org--two/snapshots/abc'"});
  expect_said(ingot({"tokenize", cached(hub, "three", {"abc", "def"}, "gone"), "--text", "x"}), 3, {"2 snapshots", "abc, def"});
  expect_said(ingot({"convert", cached(hub, "four", {}, ""), "--out", dir_ / "x.gguf"}), 3, {"org/four", "no snapshot", "hf download"});
  expect_said(ingot({"inspect", hub}), 3, {"4 models"});
  // A model that keeps a folder of that name is a model.
  fs::copy(kBase, dir_ / "models--mine");
  fs::create_directory(dir_ / "models--mine/snapshots");
  EXPECT_EQ(ingot({"inspect", dir_ / "models--mine"}).exit_code, 0);
}

TEST_F(Names, AMissingPathInADirectoryThatIsThereIsNoNameOfTheHub) {
  fs::create_directory(dir_ / "models");
  fs::create_directory_symlink(kBase, dir_ / "models/tiny-llama");
  const Finished f = ingot({"inspect", "models/tiny-lama"}, here());
  expect_said(f, 3, {"no such file", "did you mean 'models/tiny-llama'?"});
  EXPECT_EQ(f.err.find("Hub"), std::string::npos) << f.err;
  write_file(dir_ / "file", "x");
  expect_said(ingot({"inspect", dir_ / "file/x"}), 3, {quoted(dir_ / "file") + " is not a directory"});
}

// "~" would otherwise be made as a directory of that name.
TEST_F(Names, ATildeThatTheShellLeftIsNoDirectory) {
  expect_said(ingot(quantize("~/a.gguf"), here()), 2, {"'~/a.gguf'", "${HOME}/a.gguf"});
  expect_said(ingot({"inspect", "~/model"}, here()), 2, {"${HOME}/model"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
  fs::create_directory(dir_ / "~");
  EXPECT_EQ(ingot(quantize("~/a.gguf"), here()).exit_code, 0);
}

TEST_F(Names, OfAnotherKindThanWhatWouldBeWrittenAreRefused) {
  const std::string lora = example("lora-code");
  const auto refused = [&](const std::vector<std::string>& words, const std::vector<std::string>& parts) {
    expect_said(ingot(words, here()), 2, parts);
    EXPECT_TRUE(empty_but_for(dir_.path(), {}));
  };
  refused(quantize("new/"), {"'new/' is the name of a directory", "GGUF file"});
  refused(quantize("m.safetensors"), {"'m.safetensors'", "GGUF"});
  refused({"ship", kBase, "--type", "Q8_0", "--out", "m.onnx"}, {"GGUF", ".onnx"});
  refused({"convert", kBase, "--to", "gguf", "--out", "m.safetensors"}, {"GGUF", ".safetensors"});
  refused({"convert", kBase, "--to", "safetensors", "--out", "m.gguf"}, {"'m.gguf' is the name of a file", "directory"});
  refused({"lora", "merge", kBase, "--adapter", lora, "--out", "m.safetensors"}, {"is the name of a file"});
  refused({"ship", kBase, "--type", "Q8_0", "--out", "a.gguf", "--keep", "merged=m.gguf"}, {"'m.gguf' is the name of a file"});
  refused({"ship", kBase, "--type", "Q8_0", "--out", "a.gguf", "--keep", "f16=m/"}, {"'m/' is the name of a directory"});
  expect_said(ingot({"ship", kBase, "--type", "Q8_0", "--out", "s3://bucket/a.gguf"}), 3, {"not there yet", "write to a path here"});
}

TEST_F(Names, AFileUrlIsThePathInIt) {
  const std::string here_url = "file://" + dir_.path();
  EXPECT_EQ(ingot({"quantize", "file://" + kBase, "--type", "Q8_0", "--out", here_url + "/a%20b.gguf"}).exit_code, 0);
  EXPECT_TRUE(empty_but_for(dir_.path(), {"a b.gguf"}));
  EXPECT_EQ(ingot({"verify", here_url + "/a%20b.gguf"}).exit_code, 0);
  fs::copy(example("lora-code"), dir_ / "lora");
  expect_said(ingot({"lora", "merge", kBase, "--adapter", here_url + "/lora", "--out", dir_ / "lora"}), 2, {"is the input itself"});
  expect_said(ingot({"inspect", "file://host/m.gguf"}), 2, {"'file://host/m.gguf'", "file:///PATH"});
}

TEST_F(Names, GgufFilesBesideAModelAreItsNeighbours) {
  fs::create_directory(dir_ / "models");
  ASSERT_EQ(ingot(quantize(dir_ / "models/a.gguf")).exit_code, 0);
  const std::string model = dir_ / "model";
  fs::copy(kBase, model);
  fs::copy(dir_ / "models/a.gguf", model + "/a.gguf");
  EXPECT_EQ(ingot({"inspect", model}).exit_code, 0);
}

TEST_F(Names, ThatAreTooLongAreRefusedWithTheLimit) {
  const std::string name(300, 'x');
  for (const std::string& out : {name + ".gguf", name + "/a.gguf", "new/" + name + "/a.gguf"})
    expect_said(ingot(quantize(dir_ / out)), 2, {"bytes", "255 at most"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

// Control characters would move the cursor or the window's title; bytes that are no UTF-8 would break a log.
TEST_F(Names, HostileOnesWorkAndReachNoTerminalRaw) {
  for (const std::string odd : {"e\x1b[31m\r\nf", "\xff\xfe\x80"}) {
    const std::string model = dir_ / (odd + "-model"), adapter = dir_ / (odd + "-lora"), gguf = dir_ / (odd + ".gguf");
    fs::copy(kBase, model);
    fs::copy(example("lora-code"), adapter);
    const std::vector<std::pair<std::vector<std::string>, int>> commands = {
        {{"ship", model, "--adapter", adapter, "--type", "Q8_0", "--out", gguf, "--test", "def", "-n", "2", "-v"}, 0},
        {{"ship", model, "--type", "Q8_0", "--out", gguf}, 2},
        {{"quantize", gguf, "--type", "Q4_0", "--out", dir_ / (odd + "-2.gguf"), "--allow-requantize", "-v"}, 0},
        {{"convert", model, "--out", dir_ / (odd + "/hf"), "--force-copy", "-v"}, 0},
        {{"convert", model, "--dtype", "f32", "--out", dir_ / (odd + "/hf"), "--json"}, 2},
        {{"lora", "merge", model, "--adapter", adapter, "--out", dir_ / (odd + "-merged"), "-v"}, 0},
        {{"inspect", gguf}, 0},
        {{"inspect", model}, 0},
        {{"inspect", model, "--json"}, 0},
        {{"inspect", model, "--tensor", odd}, 3},
        {{"inspect", dir_ / (odd + "-none")}, 3},
        {{"run", gguf, "-p", "a", "-n", "2", "-v"}, 0},
        {{"run", dir_ / (odd + "-none"), "-p", "a"}, 3},
        {{"tokenize", model, "--text", "a"}, 0},
        {{"tokenize", model, "--text", "a", "--file", odd}, 2},
        {{odd}, 2},
        {{"list", odd}, 2},
        {{"ship", model, "--type", odd, "--out", gguf}, 2},
        {{"ship", model, "--" + odd}, 2},
        {{"ship", model, odd, odd}, 2},
        {{"quantize", model, "--type", "Q8_0", "--out", gguf, "--tensor-type", odd}, 2},
        {{"ship", model, "--type", "Q8_0", "--out", "${" + odd + "}"}, 2}};
    for (const auto& [words, exit_code] : commands) {
      const Finished f = ingot(words);
      EXPECT_EQ(f.exit_code, exit_code) << f.out << f.err;
      EXPECT_EQ(cli::printable(f.out + f.err, true), f.out + f.err);
      if (exit_code != 0 && words.back() != "--json") {
        EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << f.err;
      }
    }
  }
}

TEST_F(SizeLimit, AFileLargerThanTheLimitIsSaidBeforeTheFirstByte) {
  SpawnOptions o;
  o.file_size_limit = 1 << 20;
  expect_said(ingot(quantize(dir_ / "new/a.gguf"), o), 1, {"a.gguf", "7.39 MB", "1.05 MB", "ulimit -f"});
  expect_said(ingot(quantize(dir_ / "new/a.gguf", {"--dry-run"}), o), 1, {"ulimit -f"});
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
  o.file_size_limit = 100 << 20;
  EXPECT_EQ(ingot(quantize(dir_ / "a.gguf"), o).exit_code, 0);
}

TEST_F(SizeLimit, OneThatComesWhileWritingLeavesNothingUnderTheFinalName) {
  make_model(dir_ / "model", 100);
  Child child(slow_job(dir_ / "model", dir_ / "out", {"--json"}));
  ASSERT_TRUE(child.wait_for([](const std::string& err) { return err.find("\"phase\":\"write\"") != std::string::npos; }));
  const rlimit limit{1 << 20, 1 << 20};
  ASSERT_EQ(::prlimit(child.pid(), RLIMIT_FSIZE, &limit, nullptr), 0);
  const Finished f = child.finish();
  EXPECT_EQ(f.exit_code, 1) << "signal " << f.signal << " " << f.err;
  const std::string message = result_of(f)["error"]["message"];
  EXPECT_NE(message.find("ulimit -f"), std::string::npos) << message;
  EXPECT_NE(message.find("out"), std::string::npos) << message;
  for (const auto& out : slow_outputs(dir_ / "out")) EXPECT_FALSE(exists(out));
}

}  // namespace
}  // namespace ingot::testing
