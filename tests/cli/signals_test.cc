// Ctrl-C before the work has begun: never the silent death of a process that has no handler yet.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "base/sanitized.h"
#include "program.h"

namespace ingot::testing {
namespace {

using Signals = CliTest;

const std::string kBase = example("tiny-llama-base");

// Every command, with what it needs to do its work.
std::vector<std::vector<std::string>> commands(const std::string& out) {
  return {{"ship", kBase, "--adapter", example("lora-code"), "--type", "Q4_K_M", "--out", out + "/a.gguf", "--test", "x"},
          {"convert", kBase, "--out", out + "/b"},
          {"quantize", kBase, "--type", "Q8_0", "--out", out + "/new/c.gguf"},
          {"quantize", kBase, "--type", "Q8_0", "--out", out + "/c.gguf", "--dry-run"},
          {"lora", "merge", kBase, "--adapter", example("lora-code"), "--out", out + "/d"},
          {"run", kBase, "--prompt", "x"},
          {"tokenize", kBase, "--text", "x"},
          {"inspect", kBase},
          {"verify", kBase},
          {"list", "types"}};
}

TEST_F(Signals, OneBeforeMainEndsEveryCommandWithItsMessage) {
  // Handlers come after the sanitizer's own start, and nothing may be loaded before it.
  if (kSanitized) GTEST_SKIP() << "not with a sanitizer";
  SpawnOptions o;
  o.set = {{"LD_PRELOAD", INGOT_EARLY_SIGNAL}};
  for (const auto& words : commands(dir_.path())) {
    const Finished f = ingot(words, o);
    EXPECT_EQ(f.exit_code, 4) << words[0] << ": signal " << f.signal << "\n" << f.err;
    EXPECT_EQ(f.err, "ingot: interrupted before anything was done\n") << words[0];
    EXPECT_EQ(f.out, "") << words[0];
    EXPECT_TRUE(empty_but_for(dir_.path(), {}));
    auto json = words;
    json.emplace_back("--json");
    EXPECT_EQ(result_of(ingot(json, o))["error"]["kind"], "interrupted") << words[0];
  }
}

// Whether the process catches the signal; true as well when it is gone.
bool caught_or_gone(pid_t pid, int signal) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  bool there = false;
  for (std::string line; std::getline(status, line);) {
    there = there || line.starts_with("State:\tR") || line.starts_with("State:\tS") || line.starts_with("State:\tD");
    if (line.starts_with("SigCgt:")) return !there || (std::strtoull(line.c_str() + 7, nullptr, 16) >> (signal - 1) & 1);
  }
  return true;
}

TEST_F(Signals, OneAsSoonAsTheHandlerIsThereIsNotLost) {
  if (!exists("/proc/self/status")) GTEST_SKIP() << "no /proc here";
  const std::string pipe = dir_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    for (const auto& [command, file] : {std::pair("tokenize", std::string("-")), {"run", "-"}, {"run", pipe}}) {
      // Waits for its standard input, a terminal, or for a pipe's writer for ever: it cannot be done before the signal comes.
      SpawnOptions o;
      o.terminal = true;
      o.terminal_stdout = false;
      Child child({INGOT_PROGRAM, command, kBase, "--file", file}, o);
      while (!caught_or_gone(child.pid(), signal)) {
      }
      child.send(signal);
      const Finished f = child.finish();
      EXPECT_EQ(f.exit_code, 4) << command << ": signal " << f.signal << "\n" << f.err;
      EXPECT_NE(f.err.find("interrupted"), std::string::npos) << f.err;
      EXPECT_EQ(f.out, "");
    }
}

// nohup and background jobs of a script.
TEST_F(Signals, WhatTheCallerIgnoresStaysIgnored) {
  if (kSanitized) GTEST_SKIP() << "not with a sanitizer";
  const std::string script = "trap '' INT; LD_PRELOAD=$2 exec $0 inspect $1";
  const Finished f = Child({"/bin/sh", "-c", script, INGOT_PROGRAM, kBase, INGOT_EARLY_SIGNAL}).finish();
  EXPECT_EQ(f.exit_code, 0) << f.err;
}

}  // namespace
}  // namespace ingot::testing
