// The mix that ships with ingot is what it promises to be: enough text of each kind, of which nothing is filler, in two halves that have nothing in common.
#include "calibrate/builtin_texts.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <set>

#include "tokenizer/tokenizer_testing.h"
#include "tokenizer/unicode.h"

namespace ingot::calibrate {
namespace {

constexpr BuiltinHalf kBoth[] = {BuiltinHalf::kCalibrate, BuiltinHalf::kEvaluate};

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// Bytes that a byte of text takes when packed: a repeated one takes nearly none.
double packed_share(const std::string& text) {
  uLongf size = compressBound(text.size());
  std::string packed(size, '\0');
  EXPECT_EQ(compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(text.data()), text.size(), 9), Z_OK);
  return static_cast<double>(size) / static_cast<double>(text.size());
}

TEST(BuiltinTexts, AreAllCategoriesInBothHalvesAndAsMuchAsPromised) {
  size_t total = 0;
  for (const BuiltinHalf half : kBoth) {
    std::vector<std::string> categories;
    size_t bytes = 0;
    for (const Text& t : builtin_texts(half)) {
      EXPECT_EQ(t.name, "builtin");
      EXPECT_TRUE(unicode::is_valid_utf8(t.text)) << t.category;
      EXPECT_EQ(t.text.find("for evaluation ===="), std::string::npos) << t.category;
      EXPECT_EQ(t.text.find('\r'), std::string::npos) << t.category;
      categories.push_back(t.category);
      bytes += t.text.size();
    }
    EXPECT_EQ(categories, (std::vector<std::string>{"code", "dialogue", "long-context", "math-and-data", "non-latin", "prose"}));
    EXPECT_GT(bytes, 55'000u);
    total += bytes;
  }
  EXPECT_GE(total, 120'000u);
  EXPECT_LE(total, 165'000u);
}

TEST(BuiltinTexts, AreNoFiller) {
  std::set<std::string> seen;
  for (const BuiltinHalf half : kBoth)
    for (const Text& t : builtin_texts(half)) {
      EXPECT_GT(packed_share(t.text), 0.40) << t.category;
      // A line that says something stands once in the whole mix; what code begins and ends with may come again.
      for (const std::string& line : lines_of(t.text)) EXPECT_TRUE(line.size() < 40 || seen.insert(line).second) << t.category << ": " << line;
    }
}

TEST(BuiltinTexts, GiveWindowsOfEachCategory) {
  const testing::TinyLlama model;
  const Tokenizer t = testing::must(Tokenizer::from_hf(model.files()));
  std::map<std::string, int64_t> windows;
  for (const BuiltinHalf half : kBoth) {
    const auto w = cut(t, builtin_texts(half), {});
    ASSERT_TRUE(w.ok()) << w.error().message;
    EXPECT_TRUE(w->too_short.empty());
    EXPECT_EQ(w->names, std::vector<std::string>{"builtin"});
    std::map<std::string, int64_t> of_half;
    for (const int32_t c : w->category) ++of_half[w->categories[static_cast<size_t>(c)]];
    for (const auto& [category, n] : of_half) {
      EXPECT_GE(n, 4) << category;
      windows[category] += n;
    }
  }
  EXPECT_EQ(windows.size(), 6u);
  for (const auto& [category, n] : windows) EXPECT_GE(n, 8) << category;
}

TEST(BuiltinTexts, AreReadByTheirName) {
  for (const BuiltinHalf half : kBoth) {
    const auto texts = read_texts({"builtin"}, half);
    ASSERT_TRUE(texts.ok());
    const auto expected = builtin_texts(half);
    ASSERT_EQ(texts->size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ((*texts)[i].text, expected[i].text);
  }
}

}  // namespace
}  // namespace ingot::calibrate
