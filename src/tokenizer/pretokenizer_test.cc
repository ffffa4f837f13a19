// Patterns (Oniguruma's meaning, hostile ones), the steps with their behaviors, and the names of known rules.
#include "tokenizer/pretokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

using Kind = PreTokenizerRule::Kind;
using Pieces = std::vector<std::string>;

struct Collect : PieceSink {
  Pieces pieces;
  void piece(std::string_view text, bool) override { pieces.emplace_back(text); }
};

PreTokenizerRule split_rule(std::string pattern, SplitBehavior behavior = SplitBehavior::kIsolated,
                            bool invert = false, Kind kind = Kind::kSplitRegex) {
  PreTokenizerRule r;
  r.kind = kind;
  r.pattern = std::move(pattern);
  r.behavior = behavior;
  r.invert = invert;
  return r;
}
PreTokenizerRule rule(Kind kind) {
  PreTokenizerRule r;
  r.kind = kind;
  return r;
}

Pieces cut(PreTokenizerRules rules, std::string_view text) {
  auto pre = PreTokenizer::compile(std::move(rules));
  EXPECT_TRUE(pre.ok()) << pre.error().message;
  if (!pre.ok()) return {};
  Collect out;
  const Status s = pre->split(text, *Regex::new_workspace(), out);
  EXPECT_TRUE(s.ok()) << s.error().message;
  return out.pieces;
}

// The matches of `pattern`, by both ways of compiling.
Pieces matches(std::string_view pattern, std::string_view text) {
  Pieces found[2];
  for (const bool trusted : {false, true}) {
    auto regex = Regex::compile(pattern, trusted);
    EXPECT_TRUE(regex.ok()) << regex.error().message;
    if (!regex.ok()) return {};
    const auto workspace = Regex::new_workspace();
    Regex::Iterator it(*regex, text, *workspace);
    size_t b = 0, e = 0;
    while (it.next(&b, &e)) found[trusted].emplace_back(text.substr(b, e - b));
    EXPECT_TRUE(it.status().ok());
  }
  EXPECT_EQ(found[0], found[1]);
  return found[0];
}

std::string refusal(std::string_view pattern) {
  auto regex = Regex::compile(pattern, false);
  return regex.ok() ? "accepted" : regex.error().message;
}

TEST(Regex, MeansWhatOnigurumaMeans) {
  EXPECT_EQ(matches(R"(\h+)", "xyz12ab\t"), (Pieces{"12ab"}));       // hexadecimal digits
  EXPECT_EQ(matches(R"(\v)", "\n\v"), (Pieces{"\v"}));               // the one character
  EXPECT_EQ(matches(R"(\s)", "a\u180E\u3000"), (Pieces{"\u3000"}));  // U+180E is no white space
  EXPECT_EQ(matches(R"(\w+)", "a\u0301b-\u00B2"), (Pieces{"a\u0301b", "\u00B2"}));
  EXPECT_EQ(matches(R"([\w]+)", "a\u0301b-\u00B2"), (Pieces{"a\u0301b"}));
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", "1234567"), (Pieces{"1234567"}));  // repeated, not possessive
  EXPECT_EQ(matches(R"(a{,2})", "aaa"), (Pieces{"aa", "a"}));
  EXPECT_EQ(matches(R"(a{x})", "aa{x}"), (Pieces{"a{x}"}));
  EXPECT_EQ(matches(R"((?m).+)", "a\nb"), (Pieces{"a\nb"}));  // dot matches newline
  EXPECT_EQ(matches(R"(^a|b$)", "ab\nab"), (Pieces{"a", "b", "a", "b"}));
  EXPECT_EQ(matches(R"(x(?i)y|z)", "xY xZ xz Z"), (Pieces{"xY", "xZ", "xz"}));  // the option opens a group
  EXPECT_EQ(matches(R"(\p{Han}+)", "\u4E2D\u3002\u6587"),
            (Pieces{"\u4E2D", "\u6587"}));  // the script, not its extensions
  EXPECT_EQ(matches(R"([\p{L}&&[^a-z]]+)", "abCDe\u00C9"), (Pieces{"CD", "\u00C9"}));
  EXPECT_EQ(matches(R"([^(\s|[.,])]+)", "ab.c (d"), (Pieces{"ab", "c", "d"}));
  EXPECT_EQ(matches(R"([^\S\n]+)", "a \t\nb"), (Pieces{" \t"}));
  EXPECT_EQ(matches(R"([\P{space}!]+)", "a! b"), (Pieces{"a!", "b"}));  // once a bracket in the middle of a class
  EXPECT_EQ(matches(R"([\D\P{L}]+)", "1a2"), (Pieces{"1a2"}));
  EXPECT_EQ(matches(R"([^\D]+)", "a12b"), (Pieces{"12"}));
  EXPECT_EQ(matches(R"([a\-z]+)", "a-z b"), (Pieces{"a-z"}));
  EXPECT_EQ(matches(R"([]a]+)", "a]b"), (Pieces{"a]"}));
  EXPECT_EQ(matches(R"(\u4e2d|\x{6587})", "\u4E2D\u6587"), (Pieces{"\u4E2D", "\u6587"}));
  EXPECT_EQ(matches(R"((?i:'s))", "'S'\u017F"), (Pieces{"'S", "'\u017F"}));  // the long s folds to s
  EXPECT_EQ(matches(R"([[:punct:]]+)", "a$.\u20AC"), (Pieces{"$.\u20AC"}));
  EXPECT_EQ(matches(R"((?<=a)b)", "ab b"), (Pieces{"b"}));
}

TEST(Regex, KnowsCharactersYoungerThanPcre2) {
  // U+31350 (Unicode 15) is a letter, U+1FAE8 a symbol, U+1CCF0 (Unicode 16) a digit.
  EXPECT_EQ(matches(R"(\p{L}+)", "a\U00031350b\U0001FAE8"), (Pieces{"a\U00031350b"}));
  EXPECT_EQ(matches(R"(\P{L}+)", "a\U00031350b\U0001FAE8"), (Pieces{"\U0001FAE8"}));
  EXPECT_EQ(matches(R"([^\s\p{L}\p{N}]+)", "a\U00031350 \U0001CCF0\U0001FAE8"), (Pieces{"\U0001FAE8"}));
  EXPECT_EQ(matches(R"(\d)", "\U0001CCF0"), (Pieces{"\U0001CCF0"}));
}

TEST(Regex, EmptyMatchesAdvance) {
  EXPECT_EQ(matches("b*", "abb\u00E9"), (Pieces{"", "bb", ""}));
  EXPECT_EQ(matches("", "ab").size(), 3u);
}

TEST(Regex, RefusesByName) {
  EXPECT_NE(refusal(R"(\k<a>)").find("\\k"), std::string::npos);
  EXPECT_NE(refusal(R"((*FAIL))").find("(*"), std::string::npos);
  EXPECT_NE(refusal(R"(\p{InBasicLatin})").find("not accepted"), std::string::npos);
  EXPECT_NE(refusal("(a").find("malformed"), std::string::npos);
  EXPECT_NE(refusal("a)").find("malformed"), std::string::npos);
  EXPECT_NE(refusal("[a").find("malformed"), std::string::npos);
  EXPECT_NE(refusal("*a").find("malformed"), std::string::npos);
  EXPECT_NE(refusal("[z-a]").find("backwards"), std::string::npos);
  EXPECT_NE(refusal("\xFF").find("UTF-8"), std::string::npos);
  EXPECT_NE(refusal("a\\").find("malformed"), std::string::npos);
  EXPECT_NE(refusal(std::string(100, '(') + std::string(100, ')')).find("deeply"), std::string::npos);
  EXPECT_NE(refusal(std::string(100, '[')).find("malformed"), std::string::npos);
  EXPECT_NE(refusal(std::string(70000, 'a')).find("bytes long"), std::string::npos);
  EXPECT_NE(refusal("((((a{9999}){9999}){9999}){9999})").find("not accepted"), std::string::npos);
}

TEST(Regex, HostilePatternsFailInsteadOfHanging) {
  const auto start = std::chrono::steady_clock::now();
  for (const char* pattern : {R"((a*)*[bd])", R"((a|a)*[bd])", R"((a|aa)+$)", R"(a*a*a*a*a*a*[bd])",
                              R"((?=(a+)+[bd])a)", R"((.*)*\1[xy])"}) {
    auto regex = Regex::compile(pattern, false);
    ASSERT_TRUE(regex.ok()) << regex.error().message;
    const std::string text = std::string(3000, 'a') + "c";
    const auto workspace = Regex::new_workspace();
    Regex::Iterator it(*regex, text, *workspace);
    size_t b = 0, e = 0;
    while (it.next(&b, &e)) {
    }
    EXPECT_FALSE(it.status().ok()) << pattern;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST(PreTokenizer, Behaviors) {
  const auto with = [](SplitBehavior b, bool invert = false) {
    return cut({split_rule("-", b, invert)}, "the-final--count-");
  };
  EXPECT_EQ(with(SplitBehavior::kRemoved), (Pieces{"the", "final", "count"}));
  EXPECT_EQ(with(SplitBehavior::kIsolated), (Pieces{"the", "-", "final", "-", "-", "count", "-"}));
  EXPECT_EQ(with(SplitBehavior::kMergedWithPrevious), (Pieces{"the-", "final-", "-", "count-"}));
  EXPECT_EQ(with(SplitBehavior::kMergedWithNext), (Pieces{"the", "-final", "-", "-count", "-"}));
  EXPECT_EQ(with(SplitBehavior::kContiguous), (Pieces{"the", "-", "final", "--", "count", "-"}));
  EXPECT_EQ(with(SplitBehavior::kRemoved, true), (Pieces{"-", "-", "-", "-"}));
  EXPECT_EQ(cut({split_rule("--", SplitBehavior::kIsolated, false, Kind::kSplitString)}, "a--b---"),
            (Pieces{"a", "--", "b", "--", "-"}));
}

TEST(PreTokenizer, Steps) {
  EXPECT_EQ(cut({rule(Kind::kDigits)}, "ab12\u00B2c3"), (Pieces{"ab", "12\u00B2", "c", "3"}));
  PreTokenizerRule single = rule(Kind::kDigits);
  single.individual = true;
  EXPECT_EQ(cut({single}, "a12"), (Pieces{"a", "1", "2"}));
  EXPECT_EQ(cut({rule(Kind::kPunctuation)}, "hi!? \u3002"), (Pieces{"hi", "!", "?", " ", "\u3002"}));
  EXPECT_EQ(cut({rule(Kind::kWhitespace)}, " how are\u3000you?!x "),
            (Pieces{"how", "are", "you", "?!", "x"}));
  EXPECT_EQ(cut({rule(Kind::kWhitespaceSplit)}, " a\t b? "), (Pieces{"a", "b?"}));
  PreTokenizerRule bytes = rule(Kind::kByteLevel);
  bytes.use_regex = true;
  EXPECT_EQ(cut({bytes}, "Hello  world's"), (Pieces{"Hello", " ", " world", "'s"}));
  bytes.add_prefix_space = true;
  EXPECT_EQ(cut({bytes}, "Hello"), (Pieces{" Hello"}));
  EXPECT_EQ(cut({bytes}, ""), (Pieces{}));
  // What follows ByteLevel sees the alphabet (\u00E9 is two characters there) and the model gets bytes again.
  EXPECT_EQ(cut({rule(Kind::kByteLevel), split_rule("\u00C3")}, "x\u00E9"), (Pieces{"x", "\xC3", "\xA9"}));
  EXPECT_FALSE(PreTokenizer::compile({rule(Kind::kByteLevel), rule(Kind::kByteLevel)}).ok());
}

TEST(PreTokenizerNames, EveryEntryCompilesAndIsFoundByItsRules) {
  for (const std::string& name : pre_tokenizer_names()) {
    const NamedPreTokenizer* entry = find_pre_tokenizer(name);
    ASSERT_NE(entry, nullptr) << name;
    auto pre = PreTokenizer::compile(entry->rules);
    ASSERT_TRUE(pre.ok()) << name << ": " << pre.error().message;
    EXPECT_TRUE(pre->byte_level()) << name;
    Collect out;
    const std::string text =
        "Hello, World's 12345  x\u00E9\u4E2D\u6587\n\n  if (a == b) {\t\u0645\u0631 \U0001F600} \u0416\u0416 "
        "ok   ";
    ASSERT_TRUE(pre->split(text, *Regex::new_workspace(), out).ok());
    std::string joined;
    for (const auto& p : out.pieces) joined += p;
    EXPECT_EQ(joined, text) << name;  // nothing is lost between pieces
    if (!entry->detect) continue;
    const auto found = match_pre_tokenizers(entry->rules);
    EXPECT_TRUE(std::find(found.begin(), found.end(), entry) != found.end()) << name;
  }
  EXPECT_EQ(find_pre_tokenizer("no-such"), nullptr);
}

TEST(PreTokenizerNames, SpellingsOfTheSameRulesMatch) {
  const auto first_name = [](const PreTokenizerRules& rules) {
    const auto found = match_pre_tokenizers(rules);
    return found.empty() ? std::string() : found[0]->name;
  };
  PreTokenizerRule bytes = rule(Kind::kByteLevel);
  const std::string llama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  EXPECT_EQ(first_name({split_rule(llama3), bytes}), "llama-bpe");
  EXPECT_EQ(first_name({split_rule(llama3, SplitBehavior::kRemoved, true), bytes}), "llama-bpe");
  std::string raw = llama3;  // control characters instead of escapes
  for (size_t at; (at = raw.find("\\r\\n")) != std::string::npos;) raw.replace(at, 4, "\r\n");
  EXPECT_EQ(first_name({split_rule(raw), bytes}), "llama-bpe");
  EXPECT_EQ(first_name({split_rule(llama3, SplitBehavior::kMergedWithNext), bytes}), "");
  EXPECT_EQ(first_name({split_rule(llama3)}), "");
  EXPECT_EQ(first_name({split_rule(kGpt2Pattern), bytes}), "gpt-2");
  bytes.use_regex = true;
  EXPECT_EQ(first_name({bytes}), "gpt-2");
  bytes.add_prefix_space = true;
  EXPECT_EQ(first_name({bytes}), "");
}

}  // namespace
}  // namespace ingot
