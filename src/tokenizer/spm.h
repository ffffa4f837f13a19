// SentencePiece's BPE as llama.cpp does it (tokenizer.ggml.model "llama"): of all neighbours that are a token together, the one of
// the highest score merges first.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"

namespace ingot {

// Calls f(left, right) for each two parts of `token` at the bounds of its characters, both not empty.
template <class F>
void for_each_split(std::string_view token, F&& f) {
  for (size_t i = 1; i < token.size(); ++i)
    if ((static_cast<uint8_t>(token[i]) & 0xC0) != 0x80) f(token.substr(0, i), token.substr(i));
}
constexpr size_t kMaxSpmToken = 1024;  // bytes; SentencePiece makes tokens of 16 characters

class Spm : public TokenModel {
 public:
  // `scores` by id, none NaN; `vocabulary` must outlive the model.
  static Result<std::unique_ptr<Spm>> make(const Vocabulary& vocabulary, const std::vector<float>& scores, int32_t unk_id);
  std::unique_ptr<Scratch> new_scratch() const override;
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const override;

 private:
  struct SpmScratch;
  Spm(const Vocabulary& vocabulary, int32_t unk_id) : vocabulary_(vocabulary), unk_id_(unk_id) {}
  void encode_part(std::string_view piece, SpmScratch& scratch, std::vector<int32_t>& ids) const;
  void add_bytes(std::string_view text, std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary_;
  int32_t unk_id_;
  int32_t bytes_[256];
  // Characters that are no token but part of some: symbols from vocabulary_.end_id() on. Behind them, others.
  Vocabulary loose_;
  MergeTable table_;
  Joints joints_;
};

}  // namespace ingot
