// Chat templates against Python: what transformers renders of the templates of released models, and what its environment renders of small
// statements (tests/data/make/chat_templates.py).
#include "tokenizer/jinja.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace ingot {
namespace {

OrderedJson data(const std::string& name) {
  FILE* p = popen(("xz -dc '" INGOT_SOURCE_DIR "/tests/data/chat/" + name + ".json.xz'").c_str(), "r");
  std::string text;
  char buffer[1 << 16];
  for (size_t n; p && (n = fread(buffer, 1, sizeof buffer, p)) > 0;) text.append(buffer, n);
  EXPECT_TRUE(p && pclose(p) == 0) << name;
  auto j = parse_json_ordered(text, name);
  EXPECT_TRUE(j.ok()) << j.error().message;
  return j.ok() ? *j : OrderedJson();
}

std::tm noted_time() {
  std::tm t{};
  t.tm_year = 126, t.tm_mon = 2, t.tm_mday = 7, t.tm_hour = 14, t.tm_min = 5, t.tm_sec = 9;
  t.tm_wday = 6, t.tm_yday = 65;
  return t;
}

// Null where Python has an error.
void expect_same(const Result<std::string>& ours, const OrderedJson& theirs, const std::string& what) {
  if (theirs.is_null()) EXPECT_FALSE(ours.ok()) << what << "\nPython has an error, we have: " << *ours;
  else if (!ours.ok()) ADD_FAILURE() << what << "\nPython has no error, we have: " << ours.error().message << "\nexpected: " << theirs;
  else EXPECT_EQ(*ours, theirs.get<std::string>()) << what;
}

TEST(Jinja, StatementsGiveWhatPythonGives) {
  const OrderedJson all = data("statements");
  ASSERT_GT(all["cases"].size(), 1000u);
  for (const OrderedJson& one : all["cases"]) expect_same(render_jinja(one[0].get<std::string>(), all["variables"], noted_time()), one[1], one[0]);
}

TEST(Jinja, ChatTemplatesOfReleasedModelsGiveWhatTransformersGives) {
  const OrderedJson all = data("conversations");
  ASSERT_GT(all["templates"].size(), 50u);
  for (const auto& [name, text] : all["templates"].items()) {
    for (size_t i = 0; i < all["conversations"].size(); ++i) {
      const OrderedJson& given = all["conversations"][i];
      ChatRequest request;
      request.messages = given["messages"];
      if (given.contains("tools")) request.tools = given["tools"];
      if (given.contains("documents")) request.documents = given["documents"];
      if (given.contains("variables")) request.variables = given["variables"];
      request.add_generation_prompt = given.value("add_generation_prompt", true);
      request.special_tokens = all["special"].get<std::map<std::string, std::string>>();
      request.now = noted_time();
      expect_same(render_chat(text, request), all["rendered"][name][i], name + ", conversation " + std::to_string(i));
    }
  }
}

}  // namespace
}  // namespace ingot
