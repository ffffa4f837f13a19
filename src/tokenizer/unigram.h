// Unigram: of all ways to cut a piece into tokens the one with the largest sum of scores (Viterbi), as the tokenizers library finds it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/status.h"
#include "tokenizer/model.h"
#include "tokenizer/trie.h"
#include "tokenizer/vocabulary.h"

namespace ingot {

struct UnigramOptions {
  int32_t unk_id = -1;         // must be a token: what a character becomes that no token covers
  bool byte_fallback = false;  // or else <0xXX> tokens, where they are there
  std::optional<double> unk_score;  // the penalty of an unknown character; else 10 below the least score
  bool lookup_unknown = true;  // unknown characters side by side may be a token together: so in the library, not in llama.cpp
};

class Unigram : public TokenModel {
 public:
  // `scores` by id; tokens of a score that is no number are never used. `vocabulary` must outlive the model.
  static Result<std::unique_ptr<Unigram>> make(const Vocabulary& vocabulary, const std::vector<double>& scores,
                                               const UnigramOptions& options);
  std::unique_ptr<Scratch> new_scratch() const override;
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const override;
  const UnigramOptions& options() const { return options_; }
  const std::vector<double>& scores() const { return scores_; }

 private:
  struct UnigramScratch;
  Unigram(const Vocabulary& vocabulary, const std::vector<double>& scores, const UnigramOptions& options)
      : vocabulary_(vocabulary), scores_(scores), options_(options) {}
  void add_unknown(std::string_view text, std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary_;
  std::vector<double> scores_;
  UnigramOptions options_;
  double unk_score_ = 0;
  Trie trie_;
  int32_t bytes_[256];  // <0xXX>; -1 where there is none
};

}  // namespace ingot
