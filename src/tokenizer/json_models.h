// The model of tokenizer.json: its vocabulary and what makes tokens of a piece.
#pragma once

#include <functional>
#include <string>

#include "tokenizer/json_reader.h"
#include "tokenizer/parts.h"

namespace ingot {

// By its type; the pre-tokenizer is read before. A new kind of model is one more row there.
Status read_model(json::Element e, TokenizerParts& parts);

// The object {token: id} that another file is.
Status read_vocab_json(std::string_view text, const char* file, TokenizerParts& parts);

// Merges, whose tokens are sought some at a time. The texts must live until finish().
class MergeReader {
 public:
  // `where` names a place for an error.
  MergeReader(TokenizerParts& parts, std::function<std::string(size_t place)> where) : parts_(parts), where_(std::move(where)) {}
  Status add(std::string_view left, std::string_view right, size_t place);
  Status add(std::string_view text, size_t place);  // "left right"; "#version" is none
  Status finish();

 private:
  static constexpr size_t kTogether = 128;
  TokenizerParts& parts_;
  std::function<std::string(size_t)> where_;
  std::vector<std::string_view> sides_;
  std::vector<size_t> places_;
};

Result<int32_t> read_id(json::Element e, const std::string& where);

}  // namespace ingot
