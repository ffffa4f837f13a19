// Byte pair encoding: merges of ranked pairs, as the tokenizers library does them. Byte-level and
// character-level (unk_token, byte_fallback).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"

namespace ingot {

struct BpeOptions {
  bool byte_level = false;     // pieces are bytes; the vocabulary spells them in GPT-2's alphabet
  bool ignore_merges = false;  // a piece that is a token is taken whole
  bool byte_fallback = false;  // characters that are no token become <0xXX> tokens
  bool fuse_unk = false;
  bool first_counts = false;  // of merges listed twice: the first, as in llama.cpp; else the last, as in the library
  int32_t unk_id = -1;  // -1: what has no token is dropped, as the library does; or kNoUnknown
  // What the tokens of all but a piece's first character begin with, and that of its last one ends with (CLIP: "</w>").
  std::string going_on = {}, word_end = {};
  bool affixes() const { return !going_on.empty() || !word_end.empty(); }
};

// One merge: the tokens joined, in the order of rank.
struct BpeMerge {
  int32_t left, right;
};

class Bpe : public TokenModel {
 public:
  // Every merge must name tokens of `vocabulary` and make one; `vocabulary` must outlive the model.
  static Result<std::unique_ptr<Bpe>> make(const Vocabulary& vocabulary, const std::vector<BpeMerge>& merges,
                                           const BpeOptions& options);
  std::unique_ptr<Scratch> new_scratch() const override;
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const override;
  const BpeOptions& options() const { return options_; }

  // The tokens (at most `limit`) that a piece can equal and that its merges do not give. Without any,
  // ignore_merges changes nothing.
  std::vector<int32_t> beyond_merges(const std::vector<bool>& skip, size_t limit) const;
  // Whether this is the place in the list of merges by which the pair is ranked.
  bool ranks(const BpeMerge& merge, size_t place) const {
    const MergeTable::Pair* p = table_.find(merge.left, merge.right);
    return p && p->rank == place;
  }

 private:
  struct BpeScratch;
  explicit Bpe(const Vocabulary& vocabulary, size_t merges) : vocabulary_(vocabulary), table_(merges) {}
  void open_bytes();
  void find_joints(const std::vector<BpeMerge>& merges);
  bool known(char32_t c) const { return c >> 6 < known_.size() && (known_[c >> 6] >> (c & 63) & 1) != 0; }
  bool may_cut(char32_t before, char32_t after) const {
    return !joints_.joined(before, after) && (no_unknown_ || (known(before) && known(after)));
  }
  void add_symbols(std::string_view piece, std::vector<int32_t>& symbols) const;
  void encode_part(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary_;
  BpeOptions options_;
  MergeTable table_;
  // Byte level: what one byte opens with (nothing, a token, a fallback).
  std::vector<int32_t> byte_symbols_[256];
  bool plain_bytes_ = false;            // every byte opens with exactly one token
  std::vector<std::string> raw_texts_;  // ignore_merges under byte level: the tokens as bytes
  TextIndex whole_;                     // and their index; else empty
  // Of characters: between some of them a piece can be cut.
  bool cuts_ = false;
  bool no_unknown_ = false;      // every character is a token or bytes that are
  std::vector<uint64_t> known_;  // a bit for each character that is a token
  Joints joints_;
};

}  // namespace ingot
