// Reading JSON as Python's json.loads reads it (the expectations below are its answers, Python 3.11), and writing it again.
#include "formats/json.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "formats/json_scan.h"

namespace ingot {
namespace {

std::string read_again(std::string_view text) {
  auto j = parse_json_ordered(text, "f");
  return j.ok() ? json_text(*j) : "error: " + j.error().message;
}
std::string brief(std::string_view text) {
  auto j = parse_json(text, "f");
  return j.ok() ? json_brief(*j) : "error: " + j.error().message;
}

TEST(Json, WhatTransformersWritesWhereNoLimitIsKnownIsRead) {
  const std::string text = R"({"model_max_length": 1000000000000000019884624838656, "x": 1})";
  auto j = parse_json(text, "f");
  ASSERT_TRUE(j.ok()) << j.error().message;
  EXPECT_EQ(json_int(*j, "x"), 1);
  EXPECT_EQ(json_int(*j, "model_max_length"), std::nullopt);
  EXPECT_EQ(json_number(*j, "model_max_length"), 1e30);
  EXPECT_EQ(read_again(text), "{\n  \"model_max_length\": 1000000000000000019884624838656,\n  \"x\": 1\n}\n");
}

TEST(Json, NumbersThatNoTypeHoldsAreKeptAsTheyStand) {
  for (const char* odd : {"NaN", "Infinity", "-Infinity", "1e999", "-1e400", "1e99999999999999999999", "18446744073709551616",
                          "-9223372036854775809", "0.001e312"}) {
    auto j = parse_json(fmt::format("{{\"a\": [{}]}}", odd), "f");
    ASSERT_TRUE(j.ok()) << odd << j.error().message;
    const Json& e = (*j)["a"][0];
    EXPECT_EQ(json_odd(e), odd);
    EXPECT_FALSE(e.is_number() || e.is_string() || e.is_null()) << odd;
    EXPECT_EQ(json_brief(*j), fmt::format("{{\"a\":[{}]}}", odd));
  }
  EXPECT_EQ(finite_number(*parse_json("18446744073709551616", "f")), 18446744073709551616.0);
  EXPECT_EQ(finite_number(*parse_json("-9223372036854775809", "f")), -9223372036854775809.0);
  for (const char* not_finite : {"NaN", "Infinity", "-Infinity", "1e999", "-1e400", "\"\\ud8001\"", "\"1\"", "null", "true"})
    EXPECT_EQ(finite_number(*parse_json(not_finite, "f")), std::nullopt) << not_finite;
  // More digits than a double has.
  EXPECT_EQ(finite_number(*parse_json(std::string(400, '9'), "f")), std::nullopt);
}

TEST(Json, NumbersAtTheEdgesAreNumbers) {
  EXPECT_EQ(brief("[18446744073709551615, 9223372036854775808, -9223372036854775808, 9223372036854775807]"),
            "[18446744073709551615,9223372036854775808,-9223372036854775808,9223372036854775807]");
  EXPECT_EQ(brief("[1e-400, -1e-400, 5e-324, 1.7976931348623157e308, -0, 0.0, 1E+2, 0.0000001e310]"),
            "[0.0,-0.0,5e-324,1.7976931348623157e+308,0,0.0,100.0,1e+303]");
  EXPECT_EQ(json_int(*parse_json("{\"a\":18446744073709551615}", "f"), "a"), std::nullopt);
  EXPECT_EQ(json_int(*parse_json("{\"a\":9223372036854775807}", "f"), "a"), INT64_MAX);
}

TEST(Json, OfARepeatedKeyTheLastValueCountsAtTheFirstPlace) {
  const char* text = R"({"a": 1, "b": {"x": 1, "y": [], "x": NaN}, "a": {"z": 2}, "c": 3, "a": 4})";
  EXPECT_EQ(read_again(text), "{\n  \"a\": 4,\n  \"b\": {\n    \"x\": NaN,\n    \"y\": []\n  },\n  \"c\": 3\n}\n");
  EXPECT_EQ(brief(text), R"({"a":4,"b":{"x":NaN,"y":[]},"c":3})");
}

TEST(Json, AByteOrderMarkIsPassedOver) {
  EXPECT_EQ(brief("\xEF\xBB\xBF {\"a\": 1}"), R"({"a":1})");
  EXPECT_NE(brief("\xEF\xBB\xBF\xEF\xBB\xBF{}").find("not valid JSON"), std::string::npos);
  EXPECT_NE(brief(std::string_view("\xFF\xFE{\0}\0", 6)).find("UTF-16"), std::string::npos);
}

TEST(Json, HalfOfASurrogatePairIsNoTextAndStays) {
  auto j = parse_json_ordered(R"({"a": "x\ud800", "\uDFFFk": 1, "b": "\ud83d\ude00", "c": "\ude00\ud83d"})", "f");
  ASSERT_TRUE(j.ok()) << j.error().message;
  EXPECT_FALSE((*j)["a"].is_string());
  EXPECT_EQ((*j)["b"], "\xF0\x9F\x98\x80");
  EXPECT_EQ(json_odd((*j)["c"]), R"("\ude00\ud83d")");
  EXPECT_EQ(json_text(*j),
            "{\n  \"a\": \"x\\ud800\",\n  \"\\udfffk\": 1,\n  \"b\": \"\\ud83d\\ude00\",\n  \"c\": \"\\ude00\\ud83d\"\n}\n");
  EXPECT_EQ(json_string(Json(*j), "a"), std::nullopt);
  EXPECT_EQ(json_shown(*j)["a"], "\"x\\ud800\"");
}

TEST(Json, WhatPythonRefusesIsRefusedWithItsPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "it ends after 0 bytes: expected a value"}, {"{} x", "byte 4 near 'x': something follows"},
      {"[1,]\n", "byte 4 (line 1) near ']\n': expected a value"},   {R"({"a":1,})", "near '}': expected a key"},
      {"{'a': 1}", "near ''a': 1}': expected a key"},  {"{\"a\" 1}", "expected a colon"},
      {"[1 2]", "near '2]': expected a comma or ]"},   {R"({"a":1 "b":2})", "expected a comma or }"},
      {"[1}", "expected a comma or ]"},                {"{\"a\":1]", "expected a comma or }"},
      {"[", "it ends after 1 bytes"},                  {"\"a", "a text has no end"},
      {"\"a\n\"", "a control character"},              {R"("\x")", "not an escape"},
      {R"("\u12g4")", "not an escape"},                {R"("\u+123")", "not an escape"},
      {R"("\u123)", "not an escape"},                  {"01", "near '1': something follows"},
      {"1.", "near '.': something follows"},           {"1e", "near 'e': something follows"},
      {".5", "expected a value"},                      {"+1", "expected a value"},
      {"-", "expected a value"},                       {"nan", "expected a value"},
      {"inf", "expected a value"},                     {"-NaN", "expected a value"},
      {"True", "expected a value"},                    {"[1,\n\n// x\n1]", "line 3"},
      {"\"\xc3\"", "no UTF-8"},                        {"\"\xed\xa0\x80\"", "no UTF-8"},
      {"[]]", "something follows"},                    {"\f1", "expected a value"},
  };
  for (const auto& [text, why] : cases) {
    const std::string message = brief(text);
    EXPECT_TRUE(message.starts_with("error: f: not valid JSON")) << text << ": " << message;
    EXPECT_NE(message.find(why), std::string::npos) << text << ": " << message;
    EXPECT_FALSE(strict_json(text, "f").ok()) << text;
  }
  EXPECT_NE(brief("[\"0123456789012345678\xC3\xA9, more\" x]").find("near 'x]'"), std::string::npos);
  EXPECT_NE(brief(std::string("x123456789012345678\xC3\xA9") + "123").find("near 'x123456789012345678'"), std::string::npos);
}

TEST(Json, NestingIsBounded) {
  const auto nested = [](size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  auto fine = parse_json_ordered(nested(900), "f");
  ASSERT_TRUE(fine.ok()) << fine.error().message;
  EXPECT_EQ(parse_json(json_text(*fine), "f")->dump(), nested(900));
  EXPECT_NE(brief(nested(901)).find("nested deeper"), std::string::npos);
  EXPECT_NE(brief(std::string(10'000'000, '[')).find("nested deeper"), std::string::npos);
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_NE(brief(objects).find("nested deeper"), std::string::npos);
}

// Keys are not searched one after the other: 200,000 of them would take minutes.
TEST(Json, ManyKeysInOrder) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += fmt::format("\"k{}\":{},", i, i);
  auto j = parse_json_ordered(text + "\"k7\":-7}", "f");
  ASSERT_TRUE(j.ok());
  EXPECT_EQ(j->size(), 200000u);
  EXPECT_EQ(std::next(j->begin(), 7).value(), -7);
}

TEST(Json, OurOwnDataIsReadStrictly) {
  EXPECT_TRUE(parse_strict_json(R"({"a": [1, {"b": null}], "c": "x"})", "f").ok());
  for (const char* bad : {R"({"a":1,"a":2})", R"({"x":{"a":1,"b":2,"a":3}})", "NaN", "[1e999]", "[18446744073709551616]", R"(["\ud800"])",
                          R"({"\ud800":1})"})
    EXPECT_FALSE(parse_strict_json(bad, "f").ok()) << bad;
}

TEST(Json, IsWrittenAsBeforeWhereJsonCanHoldIt) {
  const std::string nasty = R"({"z": [], "a": {}, "é\u0001\"\\\/": [1, -2, 3.5, 1e-05, 1e22, true, null, ["", {"b": {}}]], "😀": "😀\u007f"})";
  std::vector<std::string> texts = {nasty, "[]", "3", "\"x\"", "null"};
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    std::ifstream f(std::string(INGOT_SOURCE_DIR "/examples/tiny-llama-base/") + name);
    std::stringstream s;
    s << f.rdbuf();
    texts.push_back(s.str());
    ASSERT_FALSE(texts.back().empty()) << name;
  }
  for (const std::string& text : texts) {
    const OrderedJson j = OrderedJson::parse(text);
    EXPECT_EQ(read_again(text), j.dump(2, ' ', true) + "\n");
    EXPECT_EQ(Json::parse(*strict_json(text, "f")), Json::parse(text));
    const std::string whole = Json(j).dump();
    EXPECT_EQ(brief(text).substr(0, 100), whole.substr(0, 100));
  }
}

TEST(Json, ForAStrictParserTheOddIsMarked) {
  const std::string text = "\xEF\xBB\xBF{\"a\": [NaN, 1e999, \"\\ud800\"], \"b\" : -0.5e3, \"\\ud800\": 1, \"b\": 2}";
  auto strict = strict_json(text, "f");
  ASSERT_TRUE(strict.ok()) << strict.error().message;
  const std::string mark = R"("\u0000no strict JSON: ")";
  EXPECT_EQ(*strict, "{\"a\":[{" + mark + ":\"NaN\"},{" + mark + ":\"1e999\"},{" + mark + R"(:"\"\\ud800\""}],"b":-0.5e3,)" +
                         R"("\u0000no strict JSON: \"\\ud800\"":1,"b":2})");
  const Json j = Json::parse(*strict);
  EXPECT_EQ(j["a"][0].begin().key(), kOddMark);
}

TEST(Json, QuotesAsSerdeDoes) {
  EXPECT_EQ(json_quote("a\"\\\n\x01\x7f\xc3\xa9"), "\"a\\\"\\\\\\n\\u0001\x7f\xc3\xa9\"");
}

}  // namespace
}  // namespace ingot
