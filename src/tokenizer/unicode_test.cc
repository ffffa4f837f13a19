// UTF-8 repair, the byte alphabet, character classes and normalization.
#include "tokenizer/unicode.h"

#include <gtest/gtest.h>

namespace ingot::unicode {
namespace {

TEST(Unicode, ReplacesMaximalIllFormedSubparts) {
  // What Python's bytes.decode("utf-8", "replace") gives.
  EXPECT_EQ(replace_invalid_utf8("a\xFF"
                                 "b"),
            "a\uFFFDb");
  EXPECT_EQ(replace_invalid_utf8("\xE4\xB8"), "\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xE4\xB8z"), "\uFFFDz");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), "\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98"), "\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\u4E2D\U0001F600"), "\u4E2D\U0001F600");
  EXPECT_EQ(replace_invalid_utf8(""), "");
}

TEST(Unicode, WellFormedPrefixEndsWhereTheFirstBadByteStands) {
  EXPECT_EQ(well_formed_prefix(""), 0u);
  EXPECT_EQ(well_formed_prefix("a\u4E2D\U0001F600"), 8u);
  EXPECT_EQ(well_formed_prefix("a\xFF" "b"), 1u);
  EXPECT_EQ(well_formed_prefix("ab\xE4\xB8"), 2u);  // unfinished
  EXPECT_EQ(well_formed_prefix("\u00E9\xED\xA0\x80"), 2u);  // a surrogate
  EXPECT_EQ(well_formed_prefix("\xC0\xAF"), 0u);
}

TEST(Unicode, CompletePrefixHoldsBackUnfinishedCharacters) {
  EXPECT_EQ(complete_prefix(""), 0u);
  EXPECT_EQ(complete_prefix("ab"), 2u);
  EXPECT_EQ(complete_prefix("ab\xF0"), 2u);
  EXPECT_EQ(complete_prefix("ab\xF0\x9F\x98"), 2u);
  EXPECT_EQ(complete_prefix("ab\U0001F600"), 6u);
  EXPECT_EQ(complete_prefix("\xE4\xB8"), 0u);
  EXPECT_EQ(complete_prefix("a\xFF"), 2u);         // never becomes a character
  EXPECT_EQ(complete_prefix("\x80\x80\x80"), 3u);  // nor do these
  EXPECT_EQ(complete_prefix("\xE0\x80"), 2u);
}

TEST(Unicode, ByteAlphabetIsABijection) {
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  std::string spelled, back;
  append_byte_chars(spelled, all);
  EXPECT_TRUE(is_valid_utf8(spelled));
  ASSERT_TRUE(byte_chars_to_bytes(spelled, back));
  EXPECT_EQ(back, all);
  EXPECT_EQ(byte_to_char(' '), U'\u0120');
  EXPECT_EQ(byte_to_char('\n'), U'\u010A');
  EXPECT_FALSE(byte_chars_to_bytes("a b", back));  // a plain space stands for no byte
}

TEST(Unicode, ClassesFollowTheLibrary) {
  EXPECT_TRUE(is_numeric(U'\u00B2'));
  EXPECT_TRUE(is_numeric(U'\u2167'));
  EXPECT_FALSE(is_numeric(U'a'));
  EXPECT_TRUE(is_punctuation('$'));  // ASCII symbols count
  EXPECT_TRUE(is_punctuation(U'\u3002'));
  EXPECT_FALSE(is_punctuation(U'\u20AC'));
  EXPECT_FALSE(is_punctuation(U'\u061D'));  // younger than the library's table
  EXPECT_TRUE(is_whitespace(U'\u3000'));
  EXPECT_FALSE(is_whitespace(U'\u180E'));
  EXPECT_TRUE(is_word(U'\u0301'));
  EXPECT_TRUE(is_word(U'\u24B6'));
  EXPECT_FALSE(is_word(U'-'));
}

TEST(Unicode, NormalizationForms) {
  EXPECT_EQ(normalize("plain", Form::kNFC), "plain");
  EXPECT_EQ(normalize("e\u0301 x", Form::kNFC), "\u00E9 x");
  EXPECT_EQ(normalize("\u00E9", Form::kNFD), "e\u0301");
  EXPECT_EQ(normalize("\uFB01\u2460", Form::kNFKC), "fi1");
  EXPECT_EQ(normalize("\uFB01", Form::kNFC), "\uFB01");
  EXPECT_EQ(normalize("a\u0323\u0307", Form::kNFC), "\u1EA1\u0307");
  EXPECT_EQ(normalize("a\u0307\u0323", Form::kNFC), "\u1EA1\u0307");  // reordered first
  EXPECT_EQ(normalize("\u1100\u1161\u11A8", Form::kNFC), "\uAC01");
  EXPECT_EQ(normalize("\uAC01", Form::kNFD), "\u1100\u1161\u11A8");
  EXPECT_EQ(normalize("\u212B", Form::kNFC), "\u00C5");
  EXPECT_EQ(normalize("", Form::kNFC), "");
}

// utf8proc composes U+11A7 with a syllable, which makes it vanish.
TEST(Unicode, NfcKeepsTheCharacterBeforeTheTrailingJamo) {
  EXPECT_EQ(normalize("\uCDE8\u11A7x", Form::kNFC), "\uCDE8\u11A7x");
  EXPECT_EQ(normalize("\u110E\u1171\u11A7\u11A8", Form::kNFC), "\uCDE8\u11A7\u11A8");
}

TEST(Unicode, ManyMarksInARowTakeLinearTime) {
  std::string s = "a";
  for (int i = 0; i < 200000; ++i) s += i % 2 ? "\u0323" : "\u0307";
  EXPECT_EQ(normalize(s, Form::kNFD).size(), s.size());
}

TEST(Unicode, Lowercase) {
  EXPECT_EQ(lowercase("AbC\u00C9\u0416"), "abc\u00E9\u0436");
  EXPECT_EQ(lowercase("\u0130"), "i\u0307");
  EXPECT_EQ(strip_accents("e\u0301a"), "ea");
}

}  // namespace
}  // namespace ingot::unicode
