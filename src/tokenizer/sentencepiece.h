// tokenizer.model: what a file of SentencePiece says. Its bytes are a protobuf message (ModelProto), read here field by field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/tokenizer.h"

namespace ingot {

struct SentencePieceModel {
  struct Piece {
    std::string_view text;  // into the file's bytes
    float score = 0;
    TokenType type = TokenType::kNormal;
  };
  std::vector<Piece> pieces;  // by id

  bool unigram = true;  // else BPE
  bool byte_fallback = false;
  int32_t unk_id = 0, bos_id = 1, eos_id = 2;  // -1: none
  std::string_view unk_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>";

  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  std::string_view charsmap;  // precompiled; empty: none

  // `bytes` must outlive what is read. Fails on what is damaged, on pieces that are no text or come twice, on the types WORD and CHAR,
  // and on a unigram model that has no token for what it does not know.
  static Result<SentencePieceModel> read(std::string_view bytes);
};

}  // namespace ingot
