// How the program speaks: help, wrong usage, bad input, exit codes, pipes, JSON.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "cli/text.h"
#include "program.h"

namespace ingot::testing {
namespace {

using Manners = CliTest;

const std::vector<std::string> kCommands = {"ship", "convert",  "quantize", "imatrix", "lora",
                                            "run",  "tokenize", "inspect",  "list", "doctor", "hash", "diff", "gguf", "verify", "checkpoint", "eval"};

TEST_F(Manners, HelpIsThereForEachCommandIn80ColumnsWithAnExample) {
  const Finished all = ingot({"--help"});
  EXPECT_EQ(all.exit_code, 0);
  EXPECT_EQ(all.err, "");
  std::vector<std::string> texts = {all.out};
  for (const std::string& c : kCommands) {
    EXPECT_NE(all.out.find("  " + c), std::string::npos) << c;
    const Finished f = ingot({c, "--help"});
    EXPECT_EQ(f.exit_code, 0) << c;
    // Examples first, then what they stand for.
    const size_t example = f.out.find("\n  ingot " + c), usage = f.out.find("\nUsage: ingot " + c);
    EXPECT_LT(example, usage) << f.out;
    EXPECT_NE(usage, std::string::npos) << f.out;
    EXPECT_EQ(ingot({"help", c}).out, f.out);
    texts.push_back(f.out);
  }
  texts.push_back(ingot({"help", "options"}).out);
  texts.push_back(ingot({"lora", "merge", "--help"}).out);
  for (const char* c : {"ls", "show", "latest", "best", "verify", "rescue", "prune", "diff", "export", "pin", "annotate", "watch"}) {
    texts.push_back(ingot({"checkpoint", c, "--help"}).out);
    EXPECT_NE(texts.back().find(std::string("\nUsage: ingot checkpoint ") + c), std::string::npos) << texts.back();
  }
  for (const std::string& text : texts) {
    for (const std::string& line : cli::split(text, '\n')) {
      // An example is to be copied: it may be longer.
      const bool example = line.rfind("  ingot ", 0) == 0;
      EXPECT_LE(cli::display_width(line), example ? 120 : 80) << line;
    }
  }
}

TEST_F(Manners, HelpIsInGroupsAndNamesOnlyOptionsThatTheCommandHeeds) {
  const std::string all = ingot({"--help"}).out;
  size_t at = 0;
  for (const char* group : {"Start", "Make", "Try", "Look", "Train", "Move"}) {
    const size_t found = all.find(std::string("\n\n") + group + "\n", at);
    ASSERT_NE(found, std::string::npos) << group << " in " << all;
    at = found;
  }
  for (const auto& [command, has, has_not] : {std::tuple{"ship", "--memory", "--chat"}, {"inspect", "--json", "--memory"}, {"run", "--seed", "--force"},
                                              {"verify", "--strict", "--seed"}, {"list", "--quiet", "--threads"}}) {
    const std::string text = ingot({command, "--help"}).out;
    EXPECT_NE(text.find(has), std::string::npos) << command;
    EXPECT_EQ(text.find(has_not), std::string::npos) << command;
  }
  // They are taken all the same, and told.
  const Finished f = ingot({"list", "types", "--force"});
  EXPECT_EQ(f.exit_code, 0);
  EXPECT_NE(f.err.find("--force changes nothing in 'ingot list'"), std::string::npos) << f.err;
}

TEST_F(Manners, AFlagTakesNoValue) {
  for (const char* flag : {"--json=true", "--quiet=1", "--dry-run=x", "--force=false"}) {
    const Finished f = ingot({"convert", example("tiny-llama-base"), "--type", "Q8_0", "--out", dir_ / "a.gguf", flag});
    EXPECT_EQ(f.exit_code, 2) << f.err;
    EXPECT_NE(f.err.find("takes no value"), std::string::npos) << f.err;
  }
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

TEST_F(Manners, ATestThatCannotRunIsSaidBeforeTheFirstByte) {
  std::string longest;
  for (int i = 0; i < 3000; ++i) longest += "hello world ";
  const Finished f = ingot({"ship", example("tiny-llama-base"), "--type", "Q8_0", "--out", dir_ / "a.gguf", "--test", longest});
  EXPECT_EQ(f.exit_code, 2) << f.err;
  EXPECT_NE(f.err.find("9002 tokens, the context is 2048"), std::string::npos) << f.err;
  EXPECT_LT(f.err.size(), 400u);
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

TEST_F(Manners, ControlCharactersOfANameReachNoTerminal) {
  const std::string out = dir_ / "e\x1b[31m\n.gguf";
  const Finished f = ingot({"quantize", example("tiny-llama-base"), "--type", "Q8_0", "--out", out});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out.find("e\\x1b[31m\\n.gguf"), std::string::npos) << f.out;
  const Finished again = ingot({"quantize", example("tiny-llama-base"), "--type", "Q6_K", "--out", out});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_EQ(std::count(again.err.begin(), again.err.end(), '\n'), 1) << again.err;
}

TEST_F(Manners, VersionIsTheProjects) {
  const std::string cmake = read_file(std::string(INGOT_SOURCE_DIR) + "/CMakeLists.txt");
  const size_t at = cmake.find("project(ingot VERSION ") + 22;
  EXPECT_EQ(ingot({"--version"}).out, "ingot " + cmake.substr(at, cmake.find(' ', at) - at) + "\n");
}

struct Usage {
  std::vector<std::string> arguments;
  int exit_code;
  std::vector<std::string> said;  // parts of stderr
};

TEST_F(Manners, WrongUsageIsNamedAndTheNearestSuggested) {
  const std::string base = example("tiny-llama-base"), lora = example("lora-code");
  const std::vector<Usage> cases = {
      {{}, 2, {"a command is needed"}},
      {{"shpi"}, 2, {"no command 'shpi'", "did you mean 'ingot ship'"}},
      {{"quantise", "x"}, 2, {"did you mean 'ingot quantize'"}},
      {{"eval", "x"}, 2, {"--text FILE"}},
      {{"eval", "--text", "x"}, 2, {"MODEL..."}},
      {{"--json"}, 2, {}},
      {{"ship", base, "--adaptr", lora}, 2, {"--adaptr", "did you mean --adapter?"}},
      {{"ship"}, 2, {"BASE"}},
      {{"ship", base, "extra", "--type", "F16", "--out", "x.gguf"}, 2, {"'extra'"}},
      {{"ship", base, "--type", "Q4_KM", "--out", "x.gguf"}, 2, {"'Q4_KM'", "Q4_K_M"}},
      {{"ship", base, "--type", "F16,Q8_0", "--out", "x.gguf"}, 2, {"{type}"}},
      {{"ship", base, "--type", "F16", "--out"}, 2, {"--out", "needs a value"}},
      {{"ship", base, "--type", "F16", "--out", "a", "--out", "b"}, 2, {"--out is given twice"}},
      {{"ship", base, "--weight", "2", "--adapter", lora, "--type", "F16", "--out", "x.gguf"},
       2,
       {"--weight", "--adapter"}},
      {{"ship", base, "--adapter", lora, "--weight", "much", "--type", "F16", "--out", "x.gguf"},
       2,
       {"'much'"}},
      {{"ship", base, "--type", "F16", "--out", "x.gguf", "--bpw", "4"}, 2, {"--bpw", "not there yet"}},
      {{"ship", base, "--type", "F16", "--out", "x.gguf", "--ollama", "n"}, 2, {"--ollama", "not there yet"}},
      {{"ship", base, "--type", "F16", "--out", "x.gguf", "--keep", "adapter-gguf=a"},
       2,
       {"adapter-gguf", "not there yet"}},
      {{"ship", base, "--type", "F16", "--out", "x.gguf", "--keep", "merge=a"}, 2, {"merged=DIR"}},
      {{"ship", base, "--type", "F16", "--out", "x.gguf", "--threads", "0"}, 2, {"--threads"}},
      {{"ship", base, "--type", "F16", "--out", "x.gguf", "--threads", "two"}, 2, {"'two'"}},
      {{"ship", base, "--type", "F16", "--out", "x.gguf", "--memory", "lots"}, 2, {"'lots'"}},
      {{"quantize", base, "--type", "Q8_0", "--out", "x.gguf", "--fit-ram", "8G"}, 2, {"--fit-ram", "not there yet"}},
      {{"quantize", base, "--bpw", "4.5", "--out", "x.gguf"}, 2, {"--bpw", "not there yet"}},
      {{"quantize", base, "--type", "Q8_0", "--out", "x.gguf", "--tensor-type", "nonsense"},
       2,
       {"PATTERN=T"}},
      {{"lora", "stack", base}, 2, {"not there yet"}},
      {{"lora", "mrge", base}, 2, {"merge"}},
      {{"lora", "merge", base, "--out", "x"}, 2, {"--adapter"}},
      {{"lora", "merge", base, "--adapter", lora, "--out", "x", "--dtype", "f8"}, 2, {"'f8'"}},
      {{"convert", base, "--out", "x.gguf", "--type", "Q4_K_M"}, 2, {"ingot quantize"}},
      {{"run", base}, 2, {"--prompt"}},
      {{"run", base, "--prompt", "x", "--system", "y"}, 2, {"--system", "--chat"}},
      {{"run", base, "--prompt", "x", "--top-p", "1.5"}, 2, {"--top-p"}},
      {{"tokenize", base, "--text", "x", "--ids", "--pieces"}, 2, {"exclude"}},
      {{"list", "typs"}, 2, {"types"}},
  };
  SpawnOptions here;
  here.directory = dir_.path();
  for (const Usage& u : cases) {
    const Finished f = ingot(u.arguments, here);
    const std::string shown = cli::join(u.arguments, " ");
    EXPECT_EQ(f.exit_code, u.exit_code) << shown << "\n" << f.err;
    for (const std::string& part : u.said)
      EXPECT_NE(f.err.find(part), std::string::npos) << shown << "\n" << f.err;
    EXPECT_TRUE(empty_but_for(dir_.path(), {})) << shown;
  }
}

TEST_F(Manners, BadInputExitsWith3AndSaysWhat) {
  write_file(dir_ / "junk.gguf", "this is no model at all");
  write_file(dir_ / "empty.gguf", "");
  const std::string lora = example("lora-code");
  const std::vector<Usage> cases = {
      {{"inspect", "nowhere/model"}, 3, {"'nowhere/model'", "Hugging Face Hub"}},
      {{"inspect", "junk.ggu"}, 3, {"no such file", "junk.gguf"}},
      {{"inspect", "junk.gguf"}, 3, {"junk.gguf"}},
      {{"inspect", "empty.gguf"}, 3, {"empty"}},
      {{"inspect", "s3://bucket/model"}, 3, {"s3://", "not there yet"}},
      {{"inspect", lora, "--tensor", "nothing.like.it"}, 3, {"nothing.like.it"}},
      {{"quantize", lora, "--type", "F16", "--out", "x.gguf"}, 3, {"adapter"}},
      {{"ship", example("tiny-llama-base"), "--adapter", "no-adapter", "--type", "F16", "--out", "x.gguf"},
       3,
       {"no-adapter"}},
      {{"run", "missing.gguf", "--prompt", "x"}, 3, {"missing.gguf"}},
  };
  SpawnOptions here;
  here.directory = dir_.path();
  for (const Usage& u : cases) {
    const Finished f = ingot(u.arguments, here);
    EXPECT_EQ(f.exit_code, u.exit_code) << cli::join(u.arguments, " ") << "\n" << f.err;
    for (const std::string& part : u.said) EXPECT_NE(f.err.find(part), std::string::npos) << f.err;
  }
  EXPECT_TRUE(empty_but_for(dir_.path(), {"empty.gguf", "junk.gguf"}));
}

TEST_F(Manners, VariablesInPathsAreExpandedAndAnUnsetOneIsNamed) {
  SpawnOptions o;
  o.set = {{"INGOT_MODELS", std::string(INGOT_SOURCE_DIR) + "/examples"}};
  o.unset = {"INGOT_UNSET"};
  EXPECT_EQ(ingot({"inspect", "${INGOT_MODELS}/tiny-llama-base"}, o).exit_code, 0);
  const Finished f = ingot({"inspect", "${INGOT_UNSET}/base"}, o);
  EXPECT_EQ(f.exit_code, 2);
  EXPECT_NE(f.err.find("INGOT_UNSET is not set"), std::string::npos) << f.err;
}

TEST_F(Manners, ErrorsAreOneLineInALogAndUncoloured) {
  const Finished f =
      ingot({"inspect", "a/very/long/path/that/goes/on/and/on/and/on/until/it/would/be/wrapped/x.gguf"});
  EXPECT_EQ(f.err.rfind("ingot: error: ", 0), 0u) << f.err;
  EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << f.err;
  EXPECT_EQ(f.err.find('\x1b'), std::string::npos);
}

TEST_F(Manners, ErrorsOnATerminalAreWrappedBetweenWordsAndNoColorIsRespected) {
  const std::string path = "no-such-directory-with-a-rather-long-name/x.gguf.part";
  for (const bool colour : {true, false}) {
    SpawnOptions o;
    o.terminal = true;
    o.columns = 50;
    o.set = {{"TERM", "xterm"}};
    if (!colour) o.set["NO_COLOR"] = "1";
    const Finished f = ingot({"inspect", "./" + path}, o);
    EXPECT_EQ(f.exit_code, 3);
    EXPECT_EQ(f.err.find("\x1b[") != std::string::npos, colour) << f.err;
    EXPECT_NE(f.err.find(path), std::string::npos) << "a path was broken: " << f.err;
  }
}

TEST_F(Manners, JsonGivesOneObjectAndOnlyEventsOnStderr) {
  const auto j = result_of(ingot({"inspect", example("tiny-llama-base"), "--json"}));
  EXPECT_EQ(j["ok"], true);
  EXPECT_EQ(j["command"], "inspect");
  const Finished bad = ingot({"inspect", "missing.gguf", "--json"});
  EXPECT_EQ(bad.exit_code, 3);
  const auto e = result_of(bad);
  EXPECT_EQ(e["ok"], false);
  EXPECT_EQ(e["error"]["kind"], "bad_input");
  EXPECT_EQ(e["error"]["exit_code"], 3);
  const auto events = events_of(bad.err);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["event"], "error");
  // Wrong usage too, wherever --json stands.
  EXPECT_EQ(result_of(ingot({"ship", "--json", "--nonsense"}))["error"]["kind"], "usage");
}

TEST_F(Manners, AReaderThatLeavesIsNoError) {
  SpawnOptions o;
  o.close_stdout = true;
  const Finished f = ingot({"list", "types"}, o);
  EXPECT_EQ(f.signal, SIGPIPE);  // as other programs in a pipe
  EXPECT_EQ(f.err, "");
}

TEST_F(Manners, AFullStandardOutputIsAnError) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  Child child({"/bin/sh", "-c", "exec \"$0\" list types >/dev/full", INGOT_PROGRAM});
  const Finished f = child.finish();
  EXPECT_EQ(f.exit_code, 1);
  EXPECT_NE(f.err.find("standard output"), std::string::npos) << f.err;
}

TEST_F(Manners, ListShowsWhatThereIs) {
  EXPECT_NE(ingot({"list", "types"}).out.find("Q4_K_M"), std::string::npos);
  EXPECT_NE(ingot({"list", "formats"}).out.find("gguf"), std::string::npos);
  EXPECT_NE(ingot({"list", "architectures"}).out.find("LlamaForCausalLM"), std::string::npos);
  EXPECT_NE(ingot({"list", "stores"}).out.find("local"), std::string::npos);
  EXPECT_EQ(ingot({"list", "methods"}).exit_code, 0);
  const auto j = result_of(ingot({"list", "types", "--json"}));
  EXPECT_GE(j["types"].size(), 10u);
}

}  // namespace
}  // namespace ingot::testing
