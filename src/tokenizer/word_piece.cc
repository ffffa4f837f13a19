#include "tokenizer/word_piece.h"

#include <algorithm>

#include "tokenizer/piece_cache.h"

namespace ingot {

struct WordPiece::WordScratch : TokenModel::Scratch {
  std::vector<int32_t> found;
  PieceCache cache;
};

WordPiece::WordPiece(const Vocabulary& vocabulary, WordPieceOptions options) : options_(std::move(options)) {
  std::vector<std::pair<std::string_view, int32_t>> entries;
  entries.reserve(vocabulary.count());
  for (int32_t id = 0; id < vocabulary.end_id(); ++id)
    if (vocabulary.has(id)) entries.emplace_back(vocabulary.text(id), id);
  trie_ = Trie(std::move(entries));
  begin_ = trie_.walk(options_.mark);
  going_on_ = trie_.walk(options_.going_on);
}

std::unique_ptr<TokenModel::Scratch> WordPiece::new_scratch() const { return std::make_unique<WordScratch>(); }

bool WordPiece::cut(std::string_view word, std::vector<int32_t>& ids) const {
  const auto is_start = [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; };
  if (static_cast<uint64_t>(std::count_if(word.begin(), word.end(), is_start)) > options_.most_characters) return false;
  // The mark may be a token by itself.
  uint32_t node = begin_;
  int32_t longest = options_.mark.empty() || node == Trie::kNone ? -1 : trie_.id(node);
  for (size_t at = 0, end = 0; at < word.size(); at = end, node = going_on_, longest = -1) {
    for (size_t i = at; i < word.size() && node != Trie::kNone && (node = trie_.step(node, word[i])) != Trie::kNone; ++i)
      if (trie_.id(node) >= 0) longest = trie_.id(node), end = i + 1;
    if (longest < 0) return false;
    ids.push_back(longest);
  }
  return true;
}

void WordPiece::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  auto& s = static_cast<WordScratch&>(scratch);
  PieceCache::Slot* slot = s.cache.slot(piece);
  if (slot && slot->holds(piece)) {
    ids.insert(ids.end(), slot->id, slot->id + slot->ids);
    return;
  }
  s.found.clear();
  if (!cut(piece, s.found)) s.found.assign(1, options_.unk_id);
  ids.insert(ids.end(), s.found.begin(), s.found.end());
  if (slot) slot->keep(piece, s.found.data(), s.found.size());
}

}  // namespace ingot
