// What every kind of token model offers to the tokenizer: a piece of text in, ids out. A new kind is one file that implements
// TokenModel, and one row in read_model (json_models.cc).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace ingot {

// In place of the unknown token's id where the vocabulary has no such token: a text that needs it is an error, as in the library.
constexpr int32_t kNoUnknown = -2;

class TokenModel {
 public:
  // What one encode call needs for itself: buffers, a cache of pieces. Models make their own kind.
  class Scratch {
   public:
    virtual ~Scratch() = default;
  };
  virtual ~TokenModel() = default;
  // It may be used again, by one call at a time.
  virtual std::unique_ptr<Scratch> new_scratch() const = 0;
  // Appends the ids of `piece`, which is not empty: raw bytes under a byte-level pre-tokenizer, else UTF-8.
  virtual void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const = 0;
};

}  // namespace ingot
