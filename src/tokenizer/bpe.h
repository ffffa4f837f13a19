// Byte pair encoding: merges of ranked pairs, as the tokenizers library does them. Byte-level and
// character-level (unk_token, byte_fallback).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"

namespace ingot {

struct BpeOptions {
  bool byte_level = false;     // pieces are bytes; the vocabulary spells them in GPT-2's alphabet
  bool ignore_merges = false;  // a piece that is a token is taken whole
  bool byte_fallback = false;  // characters that are no token become <0xXX> tokens
  bool fuse_unk = false;
  bool first_counts = false;  // of merges listed twice: the first, as in llama.cpp; else the last, as in the library
  int32_t unk_id = -1;  // -1: what has no token is dropped, as the library does
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
    const Pair* p = find(merge.left, merge.right);
    return p && p->rank == place;
  }

 private:
  struct Cache;
  struct BpeScratch;
  struct Pair {
    uint64_t key = ~0ull;  // left << 32 | right
    uint32_t rank = 0;
    int32_t id = -1;
  };
  explicit Bpe(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}
  const Pair* find(int32_t left, int32_t right) const;
  void add_symbols(std::string_view piece, std::vector<int32_t>& symbols) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;
  void merge(BpeScratch& scratch) const;

  const Vocabulary& vocabulary_;
  BpeOptions options_;
  std::vector<Pair> pairs_;  // open addressing
  int shift_ = 0;            // 64 - log2 of pairs_.size()
  std::vector<int32_t>
      byte_symbols_[256];               // byte level: what one byte opens with (nothing, a token, a fallback)
  bool plain_bytes_ = false;            // every byte opens with exactly one token
  std::vector<std::string> raw_texts_;  // ignore_merges under byte level: the tokens as bytes
  TextIndex whole_;                     // and their index
};

}  // namespace ingot
