// tokenizer.model: what is damaged, or of a kind that cannot be used, is refused with its reason.
#include "tokenizer/sentencepiece.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace testing;

// One field of a protobuf message.
std::string number(int field, uint64_t value) {
  std::string out;
  for (uint64_t v = static_cast<uint64_t>(field) << 3;; v >>= 7) {
    out += static_cast<char>((v & 0x7F) | (v > 0x7F ? 0x80 : 0));
    if (v <= 0x7F) break;
  }
  for (;; value >>= 7) {
    out += static_cast<char>((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
    if (value <= 0x7F) return out;
  }
}
std::string bytes(int field, const std::string& value) {
  std::string out = number(field, value.size());
  out[0] = static_cast<char>(out[0] | 2);
  return out + value;
}
std::string piece(const std::string& text, float score = 0, int type = 1) {
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &score, 4);
  return bytes(1, bytes(1, text) + std::string(1, 2 << 3 | 5) + bits + number(3, static_cast<uint64_t>(type)));
}

std::string error(const std::string& file) {
  const auto m = SentencePieceModel::read(file);
  return m.ok() ? "" : m.error().message;
}

const std::string kUnk = piece("<unk>", 0, 2), kBpe = bytes(2, number(3, 2)), kUnigram = bytes(2, number(3, 1));

TEST(SentencePiece, ReadsWhatItSaysAndDefaultsWhatItDoesNot) {
  const std::string file = kUnk + piece("\u2581a", -1.5f) + piece("<0x0A>", 0, 6) + bytes(2, number(3, 2) + number(35, 1) + number(41, ~0ull)) +
                           bytes(3, number(3, 0) + number(5, 0)) + bytes(4, "self test data");
  const auto m = SentencePieceModel::read(file);
  ASSERT_TRUE(m.ok()) << m.error().message;
  ASSERT_EQ(m->pieces.size(), 3u);
  EXPECT_EQ(m->pieces[1].text, "\u2581a");
  EXPECT_EQ(m->pieces[1].score, -1.5f);
  EXPECT_EQ(m->pieces[2].type, TokenType::kByte);
  EXPECT_FALSE(m->unigram);
  EXPECT_TRUE(m->byte_fallback);
  EXPECT_EQ(m->bos_id, -1);
  EXPECT_EQ(m->eos_id, 2);
  EXPECT_FALSE(m->add_dummy_prefix);
  EXPECT_TRUE(m->remove_extra_whitespaces);
  EXPECT_FALSE(m->escape_whitespaces);
}

TEST(SentencePiece, RefusesEveryTruncation) {
  const std::string file = kUnk + piece("a") + piece("bc", -2) + kBpe;
  ASSERT_EQ(error(file), "");
  const size_t bounds[] = {kUnk.size(), kUnk.size() + piece("a").size(), file.size() - kBpe.size()};
  for (size_t n = 0; n < file.size(); ++n) {
    const bool whole = std::find(std::begin(bounds), std::end(bounds), n) != std::end(bounds);  // a message of fewer fields
    EXPECT_EQ(error(file.substr(0, n)).empty(), whole) << n << ": " << error(file.substr(0, n));
  }
  EXPECT_NE(error(file.substr(0, file.size() - 1)).find("truncated or damaged"), std::string::npos);
}

TEST(SentencePiece, NamesWhatItCannotUse) {
  const auto has = [](const std::string& message, const char* part) { EXPECT_NE(message.find(part), std::string::npos) << message << "; expected " << part; };
  has(error(kUnk + bytes(2, number(3, 3))), "its type is WORD");
  has(error(kUnk + bytes(2, number(3, 4))), "its type is CHAR");
  has(error(kUnk + bytes(2, number(3, 9))), "its type is 9");
  has(error(piece("a") + kUnigram), "without a token for what it does not know");
  has(error(piece("a") + bytes(2, number(3, 1) + number(40, 7))), "without a token");
  has(error(kBpe), "no tokens");
  has(error(kUnk + piece("a") + piece("a") + kBpe), "\"a\", which is there already");
  has(error(kUnk + piece("") + kBpe), "the token 1 is \"\", of 0 bytes");
  has(error(kUnk + piece("\xFF") + kBpe), "expected UTF-8");
  has(error(kUnk + piece(std::string(5000, 'a')) + kBpe), "of 5000 bytes");
  has(error(kUnk + piece("a", std::numeric_limits<float>::quiet_NaN()) + kBpe), "the score nan");
  has(error(kUnk + piece("a", 0, 7) + kBpe), "of the type 7");
  has(error(kUnk + std::string(1, 1 << 3 | 3)), "truncated or damaged");  // a group
  has(error("IQ== 0\nIg== 1\n"), "tiktoken");
}

}  // namespace
}  // namespace ingot
