#include "tokenizer/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tokenizer/byte_tokens.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

constexpr double kUnknownPenalty = 10;

}  // namespace

struct Unigram::UnigramScratch : TokenModel::Scratch {
  // The best way to a place of the piece: its last token, and where that begins.
  struct Best {
    double score;
    int32_t id;
    uint32_t from;
  };
  static constexpr uint32_t kUnreached = ~0u;
  std::vector<Best> best;
  std::vector<uint32_t> ends;
  std::vector<int32_t> found;
  PieceCache cache;
};

Result<std::unique_ptr<Unigram>> Unigram::make(const Vocabulary& vocabulary, const std::vector<double>& scores,
                                               const UnigramOptions& options) {
  if (!vocabulary.has(options.unk_id))
    return bad_input("model.unk_id: {} found; a Unigram model needs a token for what it does not know", options.unk_id);
  std::unique_ptr<Unigram> model(new Unigram(vocabulary, scores, options));
  model->scores_.resize(static_cast<size_t>(vocabulary.end_id()), std::numeric_limits<double>::quiet_NaN());
  double least = std::numeric_limits<double>::infinity();
  std::vector<std::pair<std::string_view, int32_t>> entries;
  entries.reserve(vocabulary.count());
  for (int32_t id = 0; id < vocabulary.end_id(); ++id) {
    const double score = model->scores_[static_cast<size_t>(id)];
    if (!vocabulary.has(id) || std::isnan(score)) continue;
    entries.emplace_back(vocabulary.text(id), id);
    least = std::min(least, score);
  }
  model->unk_score_ = options.unk_score.value_or(least - kUnknownPenalty);
  model->trie_ = Trie(std::move(entries));
  for (int b = 0; b < 256; ++b) model->bytes_[b] = options.byte_fallback ? vocabulary.find(byte_token(static_cast<uint8_t>(b))) : -1;
  return model;
}

std::unique_ptr<TokenModel::Scratch> Unigram::new_scratch() const { return std::make_unique<UnigramScratch>(); }

void Unigram::add_unknown(std::string_view text, std::vector<int32_t>& ids) const {
  if (options_.lookup_unknown)
    if (const int32_t id = vocabulary_.find(text); id >= 0) return ids.push_back(id);
  if (std::all_of(text.begin(), text.end(), [&](char b) { return bytes_[static_cast<uint8_t>(b)] >= 0; })) {
    for (const char b : text) ids.push_back(bytes_[static_cast<uint8_t>(b)]);
  } else {
    ids.push_back(options_.unk_id);
  }
}

void Unigram::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  auto& s = static_cast<UnigramScratch&>(scratch);
  PieceCache::Slot* slot = s.cache.slot(piece);
  if (slot && slot->holds(piece)) {
    ids.insert(ids.end(), slot->id, slot->id + slot->ids);
    return;
  }
  s.best.assign(piece.size() + 1, {0, -1, UnigramScratch::kUnreached});
  for (size_t at = 0; at < piece.size();) {
    const char* p = piece.data() + at;
    unicode::next_char(p);
    const size_t next = static_cast<size_t>(p - piece.data());
    const double here = s.best[at].score;
    const auto reach = [&](size_t end, int32_t id, double score) {
      auto& b = s.best[end];
      if (b.from == UnigramScratch::kUnreached || score > b.score) b = {score, id, static_cast<uint32_t>(at)};
    };
    bool one_character = false;
    uint32_t node = Trie::kRoot;
    for (size_t end = at; end < piece.size() && (node = trie_.step(node, piece[end])) != Trie::kNone; ++end) {
      const int32_t id = trie_.id(node);
      if (id < 0) continue;
      reach(end + 1, id, scores_[static_cast<size_t>(id)] + here);
      one_character = one_character || end + 1 == next;
    }
    if (!one_character) reach(next, options_.unk_id, unk_score_ + here);
    at = next;
  }
  s.ends.clear();
  for (size_t end = piece.size(); end > 0; end = s.best[end].from) s.ends.push_back(static_cast<uint32_t>(end));
  s.found.clear();
  for (size_t begin = 0, i = s.ends.size(); i-- > 0;) {
    size_t end = s.ends[i];
    const int32_t id = s.best[end].id;
    if (id != options_.unk_id) {
      s.found.push_back(id);
    } else {  // what is unknown side by side is one
      while (i > 0 && s.best[s.ends[i - 1]].id == options_.unk_id) end = s.ends[--i];
      add_unknown(piece.substr(begin, end - begin), s.found);
    }
    begin = end;
  }
  ids.insert(ids.end(), s.found.begin(), s.found.end());
  if (slot) slot->keep(piece, s.found.data(), s.found.size());
  if (piece.size() > (1 << 20)) s.best = {};  // one monstrous piece must not keep its memory
}

}  // namespace ingot
