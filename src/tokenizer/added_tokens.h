// Added tokens: texts that are found in the input before anything else is done to it, with the flags of
// tokenizer.json. The search takes the leftmost, then the longest; llama.cpp's the longest wherever it stands.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ingot {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;      // control tokens: skipped in decoded text
  bool single_word = false;  // not beside a word character
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // is sought in the normalized text, in its normalized form
};

// Finds a set of added tokens. Immutable after build.
class AddedTokenFinder {
 public:
  static constexpr size_t kMaxLength = 4096;
  // `text` is what to look for (the token's content, or that normalized). Of equal texts the last counts.
  void add(std::string_view text, const AddedToken* token);
  bool empty() const { return nodes_ == 0; }

  struct Segment {
    size_t begin, end;
    const AddedToken* token;  // null: text between tokens
  };
  // Calls f(Segment) over the whole of `text`, in order; segments of text are not empty. Tokens with special
  // are passed over when `parse_special` is false.
  template <class F>
  void split(std::string_view text, bool parse_special, F&& f) const {
    if (empty()) {
      if (!text.empty()) f(Segment{0, text.size(), nullptr});
      return;
    }
    size_t start_offset = 0;
    for (size_t at = 0; at < text.size();) {
      if (root_[static_cast<uint8_t>(text[at])] == 0) {
        ++at;
        continue;
      }
      size_t length = 0;
      const AddedToken* token = longest(text.substr(at), &length);
      if (!token) {
        ++at;
        continue;
      }
      size_t begin = at, end = at + length;
      at = end;
      if (token->special && !parse_special) continue;
      if (token->single_word && !stands_alone(text, begin, end)) continue;
      if (token->lstrip) begin = space_before(text, begin, start_offset);
      if (token->rstrip) end = space_after(text, end);
      if (begin >= end) {  // an earlier token took the white space that this one is made of
        start_offset = end > start_offset ? end : start_offset;
        continue;
      }
      if (start_offset < begin) f(Segment{start_offset, begin, nullptr});
      f(Segment{begin, end, token});
      start_offset = end;
    }
    if (start_offset < text.size()) f(Segment{start_offset, text.size(), nullptr});
  }

  // llama.cpp's search: all of the longest token, then those of the next in what is left. Tokens are sought by
  // their content; white space that one takes is of the C locale, and single_word is not known.
  std::vector<Segment> split_longest_first(std::string_view text, bool parse_special) const;

 private:
  const AddedToken* longest(std::string_view text, size_t* length) const;
  static bool stands_alone(std::string_view text, size_t begin, size_t end);
  static size_t space_before(std::string_view text, size_t begin, size_t floor);
  static size_t space_after(std::string_view text, size_t end);
  uint32_t child(uint32_t node, uint8_t byte) const;
  uint32_t make_child(uint32_t node, uint8_t byte);

  struct Edge {
    uint64_t key = ~0ull;
    uint32_t to = 0;
  };
  uint32_t root_[256] = {};
  uint32_t nodes_ = 0;  // node 0 is the root
  std::vector<Edge> edges_;
  std::vector<const AddedToken*> ends_;  // by node
};

}  // namespace ingot
