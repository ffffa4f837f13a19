// WordLevel: a piece is a token or unknown.
#pragma once

#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"

namespace ingot {

class WordLevel : public TokenModel {
 public:
  // `vocabulary` must outlive the model.
  WordLevel(const Vocabulary& vocabulary, int32_t unk_id) : vocabulary_(vocabulary), unk_id_(unk_id) {}
  std::unique_ptr<Scratch> new_scratch() const override { return std::make_unique<Scratch>(); }
  void encode(std::string_view piece, Scratch&, std::vector<int32_t>& ids) const override {
    const int32_t id = vocabulary_.find(piece);
    ids.push_back(id < 0 ? unk_id_ : id);
  }

 private:
  const Vocabulary& vocabulary_;
  int32_t unk_id_;
};

}  // namespace ingot
