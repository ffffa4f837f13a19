// Byte pair encoding. Pieces seen before come from a cache; a long piece of characters is cut where no merge can reach across.
#include "tokenizer/bpe.h"

#include <algorithm>

#include "tokenizer/byte_tokens.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

constexpr size_t kUncut = PieceCache::kMaxBytes;  // shorter pieces are not worth the search for cuts

}  // namespace

struct Bpe::BpeScratch : TokenModel::Scratch, MergeTable::Scratch {
  PieceCache cache;
};

Result<std::unique_ptr<Bpe>> Bpe::make(const Vocabulary& vocabulary, const std::vector<BpeMerge>& merges,
                                       const BpeOptions& options) {
  std::unique_ptr<Bpe> bpe(new Bpe(vocabulary, merges.size()));
  bpe->options_ = options;
  constexpr size_t kTogether = 128;
  std::string joined;
  std::vector<std::string_view> made(kTogether);
  int32_t ids[kTogether];
  size_t ends[kTogether];
  for (size_t from = 0; from < merges.size(); from += kTogether) {
    const size_t count = std::min(kTogether, merges.size() - from);
    joined.clear();
    for (size_t k = 0; k < count; ++k) {
      const std::string_view left = vocabulary.text(merges[from + k].left), right = vocabulary.text(merges[from + k].right);
      if (right.size() < options.going_on.size())
        return bad_input("model.merges[{}]: {} is shorter than continuing_subword_prefix, {}", from + k, quoted(right),
                         quoted(std::string_view(options.going_on)));
      joined.append(left).append(right.substr(options.going_on.size()));
      ends[k] = joined.size();
    }
    for (size_t k = 0, begin = 0; k < count; begin = ends[k++]) made[k] = std::string_view(joined).substr(begin, ends[k] - begin);
    vocabulary.find_all({made.data(), count}, ids);
    for (size_t k = 0; k < count; ++k) {
      const BpeMerge& m = merges[from + k];
      if (ids[k] < 0)
        return bad_input("model.merges[{}]: {} + {} makes {}, which is not in the vocabulary", from + k, quoted(vocabulary.text(m.left)),
                         quoted(vocabulary.text(m.right)), quoted(made[k]));
      bpe->table_.add(m.left, m.right, static_cast<uint32_t>(from + k), ids[k], options.first_counts);
    }
  }
  if (options.byte_level) bpe->open_bytes();
  else bpe->find_joints(merges);
  return bpe;
}

void Bpe::open_bytes() {
  plain_bytes_ = !options_.affixes();
  for (int b = 0; b < 256; ++b) {
    std::string spelled;
    unicode::append_utf8(spelled, unicode::byte_to_char(static_cast<uint8_t>(b)));
    add_symbols(spelled, byte_symbols_[b]);
    // An unknown byte needs the memory of its neighbours (fuse_unk): add_symbols handles the whole piece
    // then.
    if (byte_symbols_[b].size() != 1 || vocabulary_.find(spelled) < 0) plain_bytes_ = false;
  }
  if (!options_.ignore_merges) return;
  raw_texts_.resize(static_cast<size_t>(vocabulary_.end_id()));
  whole_.reserve(vocabulary_.count());
  for (int32_t id = 0; id < vocabulary_.end_id(); ++id) {
    std::string& raw = raw_texts_[static_cast<size_t>(id)];
    if (vocabulary_.has(id) && unicode::byte_chars_to_bytes(vocabulary_.text(id), raw) && !raw.empty()) whole_.insert(raw, id);
  }
}

void Bpe::find_joints(const std::vector<BpeMerge>& merges) {
  if (options_.affixes()) return;  // what a character is depends on its place in the piece
  std::vector<bool> is_byte(static_cast<size_t>(vocabulary_.end_id()), false);  // or the unknown token
  if (options_.unk_id >= 0) is_byte[static_cast<size_t>(options_.unk_id)] = true;
  no_unknown_ = options_.byte_fallback;
  for (int b = 0; b < 256 && options_.byte_fallback; ++b) {
    const int32_t id = vocabulary_.find(byte_token(static_cast<uint8_t>(b)));
    if (id >= 0) is_byte[static_cast<size_t>(id)] = true;
    else no_unknown_ = false;
  }
  for (const BpeMerge& m : merges) {
    // These stand for characters that their texts do not show.
    if (is_byte[static_cast<size_t>(m.left)] || is_byte[static_cast<size_t>(m.right)]) return;
    const std::string_view left = vocabulary_.text(m.left), right = vocabulary_.text(m.right);
    if (left.empty() || right.empty()) return;
    const char *last = left.data() + left.size() - 1, *first = right.data();
    while (last > left.data() && (static_cast<uint8_t>(*last) & 0xC0) == 0x80) --last;
    const char32_t before = unicode::next_char(last);
    joints_.add(before, unicode::next_char(first));
  }
  cuts_ = true;
  if (no_unknown_) return;
  known_.resize(0x110000 / 64);
  for (int32_t id = 0; id < vocabulary_.end_id(); ++id) {
    const std::string_view text = vocabulary_.text(id);
    if (text.empty() || text.size() > 4) continue;
    const char* p = text.data();
    const char32_t c = unicode::next_char(p);
    if (p == text.data() + text.size()) known_[c >> 6] |= uint64_t{1} << (c & 63);
  }
}

std::unique_ptr<TokenModel::Scratch> Bpe::new_scratch() const { return std::make_unique<BpeScratch>(); }

// The symbols a piece of characters opens with: tokens, fallback bytes, or the unknown token, in the
// library's order.
void Bpe::add_symbols(std::string_view piece, std::vector<int32_t>& symbols) const {
  bool unknown = false;  // an unknown token waits, to be fused with the next
  std::string affixed;
  for (const char *p = piece.data(), *end = p + piece.size(); p < end;) {
    const char* from = p;
    unicode::next_char(p);
    std::string_view c(from, static_cast<size_t>(p - from));
    if (options_.affixes()) {
      affixed.assign(from == piece.data() ? "" : options_.going_on).append(c).append(p == end ? options_.word_end : "");
      c = affixed;
    }
    if (const int32_t id = vocabulary_.find(c); id >= 0) {
      if (unknown) symbols.push_back(options_.unk_id);
      unknown = false;
      symbols.push_back(id);
      continue;
    }
    if (options_.byte_fallback) {
      const size_t before = symbols.size();
      for (const char b : c) {
        const int32_t id = vocabulary_.find(byte_token(static_cast<uint8_t>(b)));
        if (id < 0) break;
        symbols.push_back(id);
      }
      if (symbols.size() - before == c.size()) continue;
      symbols.resize(before);
    }
    if (options_.unk_id == -1) continue;
    if (unknown && !options_.fuse_unk) symbols.push_back(options_.unk_id);
    unknown = true;
  }
  if (unknown) symbols.push_back(options_.unk_id);
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  auto& s = static_cast<BpeScratch&>(scratch);
  if (options_.byte_level) return encode_part(piece, s, ids);
  if (options_.ignore_merges)
    if (const int32_t whole = vocabulary_.find(piece); whole >= 0) return ids.push_back(whole);
  if (!cuts_ || piece.size() <= kUncut) return encode_part(piece, s, ids);
  const char *p = piece.data(), *end = p + piece.size(), *from = p;
  char32_t before = unicode::next_char(p);
  while (p < end) {
    const char* at = p;
    const char32_t c = unicode::next_char(p);
    if (may_cut(before, c)) {
      encode_part({from, static_cast<size_t>(at - from)}, s, ids);
      from = at;
    }
    before = c;
  }
  encode_part({from, static_cast<size_t>(end - from)}, s, ids);
}

void Bpe::encode_part(std::string_view piece, BpeScratch& s, std::vector<int32_t>& ids) const {
  PieceCache::Slot* slot = s.cache.slot(piece);
  if (slot && slot->holds(piece)) {
    ids.insert(ids.end(), slot->id, slot->id + slot->ids);
    return;
  }
  s.symbols.clear();
  if (const int32_t whole = whole_.find(piece); whole >= 0) {
    s.symbols.push_back(whole);
  } else {
    if (plain_bytes_) {
      s.symbols.resize(piece.size());
      for (size_t i = 0; i < piece.size(); ++i)
        s.symbols[i] = byte_symbols_[static_cast<uint8_t>(piece[i])][0];
    } else if (options_.byte_level) {
      std::string spelled;
      unicode::append_byte_chars(spelled, piece);
      add_symbols(spelled, s.symbols);
    } else {
      add_symbols(piece, s.symbols);
    }
    table_.merge(s);
  }
  ids.insert(ids.end(), s.symbols.begin(), s.symbols.end());
  if (slot) slot->keep(piece, s.symbols.data(), s.symbols.size());
}

std::vector<int32_t> Bpe::beyond_merges(const std::vector<bool>& skip, size_t limit) const {
  BpeScratch s;
  std::string raw;
  std::vector<int32_t> found;
  for (int32_t id = 0; id < vocabulary_.end_id() && found.size() < limit; ++id) {
    if (!vocabulary_.has(id) || (static_cast<size_t>(id) < skip.size() && skip[static_cast<size_t>(id)]))
      continue;
    if (options_.byte_level && !unicode::byte_chars_to_bytes(vocabulary_.text(id), raw))
      continue;  // no piece is this
    s.symbols.clear();
    add_symbols(vocabulary_.text(id), s.symbols);
    table_.merge(s);
    if (s.symbols.size() != 1 || s.symbols[0] != id) found.push_back(id);
  }
  return found;
}

}  // namespace ingot
