#include "tokenizer/spm.h"

#include <algorithm>

#include "tokenizer/byte_tokens.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {

struct Spm::SpmScratch : TokenModel::Scratch, MergeTable::Scratch {
  PieceCache cache;
  std::vector<std::string_view> others;  // characters of the piece that no token holds
  std::vector<int32_t> found;
};

Result<std::unique_ptr<Spm>> Spm::make(const Vocabulary& vocabulary, const std::vector<float>& scores, int32_t unk_id) {
  std::unique_ptr<Spm> spm(new Spm(vocabulary, unk_id));
  for (int b = 0; b < 256; ++b) {
    spm->bytes_[b] = vocabulary.find(byte_token(static_cast<uint8_t>(b)));
    const char raw[] = {static_cast<char>(b)};
    if (spm->bytes_[b] < 0) spm->bytes_[b] = vocabulary.find({raw, 1});
  }
  // Ranks: one for each score.
  std::vector<float> order = scores;
  std::sort(order.begin(), order.end(), std::greater<float>());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  struct Merge {
    int32_t left, right, id;
  };
  std::vector<Merge> merges;
  const auto symbol = [&](std::string_view text) -> int32_t {
    if (const int32_t id = vocabulary.find(text); id >= 0) return id;
    const char* p = text.data();
    unicode::next_char(p);
    if (p != text.data() + text.size()) return -1;  // not one character
    if (const int32_t id = spm->loose_.find(text); id >= 0) return vocabulary.end_id() + id;
    const int32_t id = spm->loose_.end_id();
    spm->loose_.add(text, id);
    return vocabulary.end_id() + id;
  };
  for (int32_t id = 0; id < vocabulary.end_id(); ++id) {
    const std::string_view text = vocabulary.text(id);
    if (text.size() > kMaxSpmToken)
      return bad_input("tokenizer.ggml.tokens[{}]: a token of {} bytes; at most {} are accepted", id, text.size(), kMaxSpmToken);
    for_each_split(text, [&](std::string_view left, std::string_view right) {
      const int32_t l = symbol(left), r = l < 0 ? -1 : symbol(right);
      if (r < 0) return;
      merges.push_back({l, r, id});
      const char *last = left.data() + left.size() - 1, *first = right.data();
      while ((static_cast<uint8_t>(*last) & 0xC0) == 0x80) --last;
      const char32_t before = unicode::next_char(last);
      spm->joints_.add(before, unicode::next_char(first));
    });
  }
  spm->table_ = MergeTable(merges.size());
  for (const Merge& m : merges) {
    const auto at = std::lower_bound(order.begin(), order.end(), scores[static_cast<size_t>(m.id)], std::greater<float>());
    spm->table_.add(m.left, m.right, static_cast<uint32_t>(at - order.begin()), m.id);
  }
  return spm;
}

std::unique_ptr<TokenModel::Scratch> Spm::new_scratch() const { return std::make_unique<SpmScratch>(); }

void Spm::add_bytes(std::string_view text, std::vector<int32_t>& ids) const {
  for (const char c : text)
    if (const int32_t id = bytes_[static_cast<uint8_t>(c)]; id >= 0) ids.push_back(id);
    else if (unk_id_ >= 0) ids.push_back(unk_id_);
}

void Spm::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  auto& s = static_cast<SpmScratch&>(scratch);
  const char *p = piece.data(), *end = p + piece.size(), *from = p;
  for (char32_t before = unicode::next_char(p); p < end;) {
    const char* at = p;
    const char32_t c = unicode::next_char(p);
    if (!joints_.joined(before, c)) {
      encode_part({from, static_cast<size_t>(at - from)}, s, ids);
      from = at;
    }
    before = c;
  }
  encode_part({from, static_cast<size_t>(end - from)}, s, ids);
}

void Spm::encode_part(std::string_view piece, SpmScratch& s, std::vector<int32_t>& ids) const {
  PieceCache::Slot* slot = s.cache.slot(piece);
  if (slot && slot->holds(piece)) {
    ids.insert(ids.end(), slot->id, slot->id + slot->ids);
    return;
  }
  s.symbols.clear();
  s.others.clear();
  const int32_t loose = vocabulary_.end_id(), other = loose + loose_.end_id();
  for (const char *p = piece.data(), *end = p + piece.size(); p < end;) {
    const char* from = p;
    unicode::next_char(p);
    const std::string_view c(from, static_cast<size_t>(p - from));
    int32_t id = vocabulary_.find(c);
    if (id < 0 && (id = loose_.find(c)) >= 0) id += loose;
    if (id < 0) {
      id = other + static_cast<int32_t>(s.others.size());
      s.others.push_back(c);
    }
    s.symbols.push_back(id);
  }
  table_.merge(s);
  s.found.clear();
  for (const int32_t id : s.symbols)
    if (id < loose) s.found.push_back(id);
    else add_bytes(id < other ? loose_.text(id - loose) : s.others[static_cast<size_t>(id - other)], s.found);
  ids.insert(ids.end(), s.found.begin(), s.found.end());
  if (slot) slot->keep(piece, s.found.data(), s.found.size());
}

}  // namespace ingot
