#include "tokenizer/sentencepiece.h"

#include <cmath>
#include <cstring>
#include <unordered_set>

#include "formats/placeholder.h"
#include "tokenizer/spm.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 30, kMaxPieces = 1 << 24;

// One message of protobuf: its fields in the order of the file.
class Message {
 public:
  explicit Message(std::string_view bytes) : bytes_(bytes) {}

  struct Field {
    uint64_t number = 0;
    uint64_t value = 0;      // a number, or the bits of a fixed one
    std::string_view bytes;  // of a text or a message
    bool is_bytes = false;

    bool flag() const { return value != 0; }
    int32_t integer() const { return static_cast<int32_t>(value); }
    float real() const {
      const auto bits = static_cast<uint32_t>(value);
      float f = 0;
      std::memcpy(&f, &bits, sizeof f);
      return f;
    }
  };
  // False at the end, and where the bytes are none of a message (ok() tells).
  bool next(Field* f) {
    uint64_t tag = 0;
    if (at_ == bytes_.size() || !varint(&tag)) return false;
    *f = {};
    f->number = tag >> 3;
    uint64_t size = 0;
    switch (tag & 7) {
      case 0:
        return varint(&f->value);
      case 1:
        return fixed(8, &f->value);
      case 5:
        return fixed(4, &f->value);
      case 2:
        if (!varint(&size) || size > bytes_.size() - at_) return ok_ = false;
        f->is_bytes = true;
        f->bytes = bytes_.substr(at_, size);
        at_ += size;
        return true;
      default:  // groups have been out of use since before SentencePiece
        return ok_ = false;
    }
  }
  bool ok() const { return ok_; }

 private:
  bool varint(uint64_t* v) {
    for (int shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const auto b = static_cast<uint8_t>(bytes_[at_++]);
      *v |= static_cast<uint64_t>(b & 0x7F) << shift;
      if (b < 0x80) return true;
    }
    return ok_ = false;
  }
  bool fixed(size_t n, uint64_t* v) {
    if (bytes_.size() - at_ < n) return ok_ = false;
    for (size_t i = 0; i < n; ++i) *v |= static_cast<uint64_t>(static_cast<uint8_t>(bytes_[at_ + i])) << (8 * i);
    at_ += n;
    return true;
  }
  std::string_view bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

// Calls f for each field; false where the message is damaged.
template <class F>
bool read_message(std::string_view bytes, F&& f) {
  Message message(bytes);
  for (Message::Field field; message.next(&field);) f(field);
  return message.ok();
}

// Llama 3 was published with one of tiktoken under this name: lines of base64, a space and a number.
bool looks_like_tiktoken(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, bytes.find('\n'));
  return line.size() > 3 && line.size() < 200 && line.find(' ') != line.npos && line.find_first_not_of("0123456789", line.find(' ') + 1) == line.npos;
}

}  // namespace

Result<SentencePieceModel> SentencePieceModel::read(std::string_view bytes) {
  if (bytes.size() > kMaxBytes) return bad_input("tokenizer.model: {} bytes found; at most {} are accepted", bytes.size(), kMaxBytes);
  if (const auto what = placeholder(bytes); !what.empty()) return bad_input("tokenizer.model: it {}", what);
  if (looks_like_tiktoken(bytes))
    return bad_input("tokenizer.model: it is a file of tiktoken, not of SentencePiece; copy tokenizer.json from the model's repository");
  SentencePieceModel m;
  int32_t model_type = 1;
  bool whole = true;
  const bool read = read_message(bytes, [&](const Message::Field& f) {
    if (!f.is_bytes) return;
    if (f.number == 1 && m.pieces.size() < kMaxPieces) {
      Piece& p = m.pieces.emplace_back();
      whole &= read_message(f.bytes, [&](const Message::Field& g) {
        if (g.number == 1) p.text = g.bytes;
        if (g.number == 2) p.score = g.real();
        if (g.number == 3) p.type = static_cast<TokenType>(g.integer());
      });
    } else if (f.number == 2) {
      whole &= read_message(f.bytes, [&](const Message::Field& g) {
        if (g.number == 3) model_type = g.integer();
        if (g.number == 35) m.byte_fallback = g.flag();
        if (g.number == 40) m.unk_id = g.integer();
        if (g.number == 41) m.bos_id = g.integer();
        if (g.number == 42) m.eos_id = g.integer();
        if (g.number == 45) m.unk_piece = g.bytes;
        if (g.number == 46) m.bos_piece = g.bytes;
        if (g.number == 47) m.eos_piece = g.bytes;
      });
    } else if (f.number == 3) {
      whole &= read_message(f.bytes, [&](const Message::Field& g) {
        if (g.number == 2) m.charsmap = g.bytes;
        if (g.number == 3) m.add_dummy_prefix = g.flag();
        if (g.number == 4) m.remove_extra_whitespaces = g.flag();
        if (g.number == 5) m.escape_whitespaces = g.flag();
      });
    }
  });
  if (!read || !whole)
    return bad_input("tokenizer.model: {} bytes found that are no whole SentencePiece file; it is truncated or damaged: copy it again", bytes.size());
  if (m.pieces.empty()) return bad_input("tokenizer.model: there are no tokens in it; copy it again");
  if (m.pieces.size() == kMaxPieces) return bad_input("tokenizer.model: more than {} tokens are too many", kMaxPieces);
  if (model_type == 3 || model_type == 4)
    return bad_input("tokenizer.model: its type is {}; supported are UNIGRAM and BPE", model_type == 3 ? "WORD" : "CHAR");
  if (model_type != 1 && model_type != 2) return bad_input("tokenizer.model: its type is {}; supported are 1 (UNIGRAM) and 2 (BPE)", model_type);
  m.unigram = model_type == 1;

  std::unordered_set<std::string_view> texts;
  bool unknown = false;
  for (size_t i = 0; i < m.pieces.size(); ++i) {
    const Piece& p = m.pieces[i];
    if (p.text.empty() || p.text.size() > kMaxSpmToken || !unicode::is_valid_utf8(p.text))
      return bad_input("tokenizer.model: the token {} is {}, of {} bytes: expected UTF-8 of 1 to {} bytes", i, quoted(p.text), p.text.size(),
                       kMaxSpmToken);
    if (!texts.insert(p.text).second) return bad_input("tokenizer.model: the token {} is {}, which is there already", i, quoted(p.text));
    if (!std::isfinite(p.score)) return bad_input("tokenizer.model: the token {}, {}, has the score {}", i, quoted(p.text), p.score);
    if (p.type < TokenType::kNormal || p.type > TokenType::kByte)
      return bad_input("tokenizer.model: the token {}, {}, is of the type {}, which is not known", i, quoted(p.text), static_cast<int>(p.type));
    unknown = unknown || p.type == TokenType::kUnknown;
  }
  if (m.unigram && (!unknown || m.unk_id < 0 || static_cast<size_t>(m.unk_id) >= m.pieces.size()))
    return bad_input("tokenizer.model: a unigram model without a token for what it does not know (unk) cannot encode every text; train it with one");
  return m;
}

}  // namespace ingot
