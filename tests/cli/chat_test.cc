// ingot run --chat.
#include <nlohmann/json.hpp>

#include "program.h"

namespace ingot::testing {
namespace {

using Chat = CliTest;
using nlohmann::json;

const std::string kModel = example("tiny-llama-base");
const std::string kBos = "<|begin_of_text|>";

// With lines on standard input.
Finished piped(const std::string& lines, const std::string& arguments) {
  Child child({"/bin/sh", "-c", "printf '" + lines + "' | '" INGOT_PROGRAM "' run '" + kModel + "' --chat " + arguments});
  return child.finish();
}

TEST_F(Chat, AMessageIsTheTemplatesPromptAndNothingIsAddedToIt) {
  const json chat = result_of(ingot({"run", kModel, "--chat", "--system", "Be kind.", "--prompt", " Hello ", "-n", "8", "--json"}));
  const std::string prompt = kBos + "<|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello"
                             "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
  EXPECT_EQ(chat["prompt"], prompt);
  // One BOS: the same as the text that comes after it.
  const json plain = result_of(ingot({"run", kModel, "--prompt", prompt.substr(kBos.size()), "-n", "8", "--json"}));
  EXPECT_EQ(chat["ids"], plain["ids"]);
  EXPECT_EQ(chat["prompt_tokens"], plain["prompt_tokens"]);
}

TEST_F(Chat, LinesOfStandardInputAreAConversationWhoseHistoryIsKept) {
  const json all = result_of(piped("Hello\\n\\n  \\nAnd you?", "-n 6 --json"));
  const json& m = all["messages"];
  ASSERT_EQ(m.size(), 4u) << all;
  EXPECT_EQ(m[0], (json{{"role", "user"}, {"content", "Hello"}}));
  EXPECT_EQ(m[1]["role"], "assistant");
  EXPECT_EQ(m[2]["content"], "And you?");
  // The second answer is what a run over the whole conversation gives: what the session kept of the first turn changes nothing.
  write_file(dir_ / "said.jinja", "{{ bos_token }}" + [&] {
    std::string text;
    for (size_t i = 0; i < 3; ++i)
      text += "<|start_header_id|>" + m[i]["role"].get<std::string>() + "<|end_header_id|>\n\n{{ " + json(m[i]["content"]).dump() + " | trim }}<|eot_id|>";
    return text + "<|start_header_id|>assistant<|end_header_id|>\n\n\n";
  }());
  const json whole = result_of(ingot({"run", kModel, "--chat", "--chat-template", dir_ / "said.jinja", "--prompt", "x", "-n", "6", "--json"}));
  EXPECT_EQ(m[3]["content"], whole["text"]);
}

TEST_F(Chat, AMessageThatDoesNotFitIsLeftOutAndSaidSo) {
  std::string words;
  for (int i = 0; i < 6000; ++i) words += std::to_string(i) + " ";
  const Finished f = piped(words + "\\nHello\\n", "-n 4");
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.err.find("the message is left out"), std::string::npos) << f.err;
  EXPECT_FALSE(f.out.empty());
}

TEST_F(Chat, AnotherTemplateAndItsVariables) {
  write_file(dir_ / "other.jinja", "{{ bos_token }}{{ mood }}: {{ messages[0].content }}");
  const json r = result_of(ingot({"run", kModel, "--chat", "--chat-template", dir_ / "other.jinja", "--chat-template-kwargs", R"({"mood": "gay"})", "-p", "x", "-n", "1", "--json"}));
  EXPECT_EQ(r["prompt"], kBos + "gay: x");
}

TEST_F(Chat, ATextOrATemplateMayComeThroughAPipe) {
  write_file(dir_ / "t", "{{ bos_token }}[{{ messages[0].content }}]");
  const auto shell = [&](const std::string& arguments) {
    return Child({"/bin/sh", "-c", "cd '" + dir_.path() + "'; mkfifo f; cat t > f 2> /dev/null & '" INGOT_PROGRAM "' " + arguments + "; e=$?; kill $! 2> /dev/null; rm f; exit $e"}).finish();
  };
  EXPECT_EQ(result_of(shell("run '" + kModel + "' --chat --chat-template f -p x -n 1 --json"))["prompt"], kBos + "[x]");
  const std::string ids = ingot({"tokenize", kModel, "-f", dir_ / "t"}).out;
  EXPECT_EQ(shell("tokenize '" + kModel + "' -f f").out, ids);
  EXPECT_EQ(shell("tokenize '" + kModel + "' -f /dev/stdin < f").out, ids);
  const Finished endless = shell("run '" + kModel + "' --chat --chat-template /dev/zero -p x");
  EXPECT_EQ(endless.exit_code, 3);
  EXPECT_NE(endless.err.find("'/dev/zero' holds more than 4.19 MB of text"), std::string::npos) << endless.err;
}

TEST_F(Chat, ToolsAndDocumentsOfTheVariablesReachTheTemplate) {
  write_file(dir_ / "tools.jinja", "{{ bos_token }}{{ tools }} {{ documents }}");
  const auto prompt = [&](const std::string& variables) {
    return result_of(ingot({"run", kModel, "--chat", "--chat-template", dir_ / "tools.jinja", "--chat-template-kwargs", variables, "-p", "x", "-n", "1", "--json"}))["prompt"];
  };
  EXPECT_EQ(prompt(R"({"tools": ["t"], "documents": [{"text": "d"}]})"), kBos + "['t'] [{'text': 'd'}]");
  EXPECT_EQ(prompt("{}"), kBos + "None None");
}

TEST_F(Chat, WhatCannotBeSaysWhy) {
  write_file(dir_ / "refuses.jinja", "{{ bos_token }}\n{{ raise_exception('no ' ~ messages[0].role) }}");
  struct {
    std::vector<std::string> arguments;
    int exit_code;
    std::vector<std::string> said;
  } cases[] = {
      {{"run", kModel, "--chat", "-p", "x", "--chat-template", dir_ / "refuses.jinja"}, 3, {"chat template", "line 2", "no user"}},
      {{"run", kModel, "--chat", "-p", "x", "--chat-template", "tool_use"}, 3, {"tool_use", "'default'"}},
      {{"run", kModel, "--chat", "-p", "x", "--chat-template-kwargs", "[1]"}, 2, {"--chat-template-kwargs", "object"}},
      {{"run", kModel, "--chat", "-p", "x", "--chat-template-kwargs", R"({"messages": []})"}, 2, {"--chat-template-kwargs", "'messages'", "--system"}},
      {{"run", kModel, "--chat", "-p", "x", "--chat-template-kwargs", R"({"add_generation_prompt": false})"}, 2, {"'add_generation_prompt'"}},
      {{"run", kModel, "-p", "x", "--chat-template", "default"}, 2, {"--chat-template", "--chat"}},
  };
  for (const auto& c : cases) {
    const Finished f = ingot(c.arguments);
    EXPECT_EQ(f.exit_code, c.exit_code) << f.err;
    for (const std::string& said : c.said) EXPECT_NE(f.err.find(said), std::string::npos) << f.err;
  }
}

TEST_F(Chat, AModelWithoutATemplateSaysWhatToDo) {
  const std::string bare = dir_ / "bare.gguf";
  const Finished made = ingot({"convert", kModel, "--type", "F16", "--out", bare});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  // A GGUF has the template of its directory; a model without one is made by leaving the file out.
  EXPECT_EQ(ingot({"run", bare, "--chat", "-p", "x", "-n", "1"}).exit_code, 0);
  const std::string copy = dir_ / "copy";
  Child child({"/bin/sh", "-c", "mkdir '" + copy + "' && cp '" + kModel + "'/* '" + copy + "' && rm -f '" + copy + "'/chat_template.jinja"});
  ASSERT_EQ(child.finish().exit_code, 0);
  const Finished f = ingot({"run", copy, "--chat", "-p", "x"});
  EXPECT_EQ(f.exit_code, 3);
  for (const char* said : {"has no chat template", "--chat-template FILE"}) EXPECT_NE(f.err.find(said), std::string::npos) << f.err;
}

TEST_F(Chat, OnATerminalLinesAreAskedFor) {
  SpawnOptions o;
  o.terminal = true;
  Child child({INGOT_PROGRAM, "run", kModel, "--chat", "-n", "3"}, o);
  ASSERT_TRUE(child.wait_for([](const std::string& seen) { return seen.find("> ") != std::string::npos; }));
  child.type("Hello\n");
  ASSERT_TRUE(child.wait_for([](const std::string& seen) { return seen.find("> ", seen.find("> ") + 2) != std::string::npos; }));
  child.type("\x04");
  EXPECT_EQ(child.finish().exit_code, 0);
}

}  // namespace
}  // namespace ingot::testing
