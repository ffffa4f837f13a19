// WordPiece: the longest token that a word begins with, then the longest that goes on, and so forth; a word for which that fails
// is unknown as a whole.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tokenizer/model.h"
#include "tokenizer/trie.h"
#include "tokenizer/vocabulary.h"

namespace ingot {

struct WordPieceOptions {
  int32_t unk_id = -1;              // must be a token
  std::string going_on = "##";      // what tokens begin with that go on with a word
  std::string mark;                 // what is put before each word: llama.cpp's way to tell the two kinds apart
  uint64_t most_characters = 100;   // longer words are unknown
};

class WordPiece : public TokenModel {
 public:
  // `vocabulary` must outlive the model.
  WordPiece(const Vocabulary& vocabulary, WordPieceOptions options);
  std::unique_ptr<Scratch> new_scratch() const override;
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const override;
  const WordPieceOptions& options() const { return options_; }

 private:
  struct WordScratch;
  bool cut(std::string_view word, std::vector<int32_t>& ids) const;
  WordPieceOptions options_;
  Trie trie_;
  uint32_t begin_, going_on_;  // nodes: where a word's first token is sought, and the later ones
};

}  // namespace ingot
