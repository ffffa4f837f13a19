// Byte pair encoding. Short pieces are merged by scanning an array of ranks, long ones with a heap; pieces
// seen before come from a cache.
#include "tokenizer/bpe.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <queue>

#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

constexpr uint32_t kNoRank = ~0u;
constexpr size_t kShort = 48;  // symbols up to which scanning beats the heap

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
uint64_t pair_hash(uint64_t key) {
  key ^= key >> 31;
  return key * 0x9E3779B97F4A7C15ull;
}

}  // namespace

// Direct-mapped: a new piece replaces the one in its slot. Slots are one cache line, so long pieces are not
// kept.
struct Bpe::Cache {
  static constexpr size_t kSlots = 1 << 14;
  static constexpr size_t kMaxBytes = 24, kMaxIds = 8;
  struct alignas(64) Slot {
    uint8_t bytes = 0, ids = 0;
    char text[kMaxBytes];
    int32_t id[kMaxIds];
  };
  std::vector<Slot> slots{kSlots};
};

struct Bpe::BpeScratch : TokenModel::Scratch {
  struct Symbol {
    int32_t id, previous, next;
    uint32_t version;
  };
  struct Candidate {
    uint32_t rank;
    int32_t at, id;
    uint32_t left_version, right_version;
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  std::vector<int32_t> symbols;
  std::vector<const Pair*> pairs;
  std::vector<Symbol> chain;
  std::vector<Candidate> heap;
  Cache cache;
};

Result<std::unique_ptr<Bpe>> Bpe::make(const Vocabulary& vocabulary, const std::vector<BpeMerge>& merges,
                                       const BpeOptions& options) {
  std::unique_ptr<Bpe> bpe(new Bpe(vocabulary));
  bpe->options_ = options;
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, merges.size() + merges.size() / 2));
  bpe->pairs_.assign(capacity, Pair{});
  bpe->shift_ = 64 - std::countr_zero(capacity);
  std::string joined;
  uint32_t rank = 0;
  for (const BpeMerge& m : merges) {
    joined.assign(vocabulary.text(m.left));
    joined.append(vocabulary.text(m.right));
    const int32_t id = vocabulary.find(joined);
    if (id < 0) {
      return bad_input("model.merges[{}]: {} + {} makes {}, which is not in the vocabulary", rank,
                       quoted(vocabulary.text(m.left)), quoted(vocabulary.text(m.right)), quoted(joined));
    }
    const uint64_t key = pair_key(m.left, m.right);
    size_t i = pair_hash(key) >> bpe->shift_;
    while (bpe->pairs_[i].id >= 0 && bpe->pairs_[i].key != key) i = (i + 1) & (capacity - 1);
    if (bpe->pairs_[i].id < 0 || !options.first_counts) bpe->pairs_[i] = {key, rank, id};
    ++rank;
  }
  if (options.byte_level) {
    bpe->plain_bytes_ = true;
    for (int b = 0; b < 256; ++b) {
      std::string spelled;
      unicode::append_utf8(spelled, unicode::byte_to_char(static_cast<uint8_t>(b)));
      bpe->add_symbols(spelled, bpe->byte_symbols_[b]);
      // An unknown byte needs the memory of its neighbours (fuse_unk): add_symbols handles the whole piece
      // then.
      if (bpe->byte_symbols_[b].size() != 1 || vocabulary.find(spelled) < 0) bpe->plain_bytes_ = false;
    }
    if (options.ignore_merges) {
      bpe->raw_texts_.resize(static_cast<size_t>(vocabulary.end_id()));
      bpe->whole_.reserve(vocabulary.count());
      for (int32_t id = 0; id < vocabulary.end_id(); ++id) {
        std::string& raw = bpe->raw_texts_[static_cast<size_t>(id)];
        if (!vocabulary.has(id) || !unicode::byte_chars_to_bytes(vocabulary.text(id), raw) || raw.empty())
          continue;
        bpe->whole_.insert(raw, id);
      }
    }
  }
  return bpe;
}

const Bpe::Pair* Bpe::find(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  for (size_t i = pair_hash(key) >> shift_; pairs_[i].id >= 0; i = (i + 1) & (pairs_.size() - 1)) {
    if (pairs_[i].key == key) return &pairs_[i];
  }
  return nullptr;
}

std::unique_ptr<TokenModel::Scratch> Bpe::new_scratch() const { return std::make_unique<BpeScratch>(); }

// The symbols a piece of characters opens with: tokens, fallback bytes, or the unknown token, in the
// library's order.
void Bpe::add_symbols(std::string_view piece, std::vector<int32_t>& symbols) const {
  static constexpr char kHex[] = "0123456789ABCDEF";
  bool unknown = false;  // an unknown token waits, to be fused with the next
  for (const char *p = piece.data(), *end = p + piece.size(); p < end;) {
    const char* from = p;
    unicode::next_char(p);
    const std::string_view c(from, static_cast<size_t>(p - from));
    if (const int32_t id = vocabulary_.find(c); id >= 0) {
      if (unknown) symbols.push_back(options_.unk_id);
      unknown = false;
      symbols.push_back(id);
      continue;
    }
    if (options_.byte_fallback) {
      int32_t ids[4];
      size_t n = 0;
      for (const char b : c) {
        const auto u = static_cast<uint8_t>(b);
        const char token[] = {'<', '0', 'x', kHex[u >> 4], kHex[u & 15], '>'};
        ids[n] = vocabulary_.find({token, sizeof token});
        if (ids[n] < 0) break;
        ++n;
      }
      if (n == c.size()) {
        symbols.insert(symbols.end(), ids, ids + n);
        continue;
      }
    }
    if (options_.unk_id < 0) continue;
    if (unknown && !options_.fuse_unk) symbols.push_back(options_.unk_id);
    unknown = true;
  }
  if (unknown) symbols.push_back(options_.unk_id);
}

void Bpe::merge_short(BpeScratch& s) const {
  std::vector<int32_t>& symbols = s.symbols;
  auto& pairs = s.pairs;
  size_t n = symbols.size();
  pairs.resize(n);
  for (size_t i = 0; i + 1 < n; ++i) pairs[i] = find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    uint32_t best = kNoRank;
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; ++i) {
      if (pairs[i] && pairs[i]->rank < best) best = pairs[i]->rank, at = i;
    }
    if (best == kNoRank) break;
    symbols[at] = pairs[at]->id;
    if (at + 2 < n) {
      std::copy_n(symbols.data() + at + 2, n - at - 2, symbols.data() + at + 1);
      std::copy_n(pairs.data() + at + 2, n - at - 2, pairs.data() + at + 1);
    }
    --n;
    if (at > 0) pairs[at - 1] = find(symbols[at - 1], symbols[at]);
    pairs[at] = at + 1 < n ? find(symbols[at], symbols[at + 1]) : nullptr;
  }
  symbols.resize(n);
}

void Bpe::merge_long(BpeScratch& s) const {
  const size_t n = s.symbols.size();
  auto& chain = s.chain;
  chain.resize(n);
  for (size_t i = 0; i < n; ++i) {
    chain[i] = {s.symbols[i], static_cast<int32_t>(i) - 1, i + 1 < n ? static_cast<int32_t>(i + 1) : -1, 0};
  }
  auto& heap = s.heap;
  heap.clear();
  const auto later = std::greater<BpeScratch::Candidate>();
  const auto push = [&](int32_t at) {
    if (at < 0 || chain[at].next < 0) return;
    const auto& right = chain[chain[at].next];
    if (const Pair* p = find(chain[at].id, right.id)) {
      heap.push_back({p->rank, at, p->id, chain[at].version, right.version});
      std::push_heap(heap.begin(), heap.end(), later);
    }
  };
  for (size_t i = 0; i + 1 < n; ++i) {
    if (const Pair* p = find(chain[i].id, chain[i + 1].id))
      heap.push_back({p->rank, static_cast<int32_t>(i), p->id, 0, 0});
  }
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const auto c = heap.back();
    heap.pop_back();
    auto& left = chain[c.at];
    // A version changes with every merge a symbol takes part in; a dead one has id -1.
    if (left.id < 0 || left.version != c.left_version || left.next < 0) continue;
    auto& right = chain[left.next];
    if (right.version != c.right_version) continue;
    left.id = c.id;
    ++left.version;
    right.id = -1;
    ++right.version;
    left.next = right.next;
    if (left.next >= 0) chain[left.next].previous = c.at;
    push(left.previous);
    push(c.at);
  }
  s.symbols.clear();
  for (int32_t i = 0; i >= 0; i = chain[i].next) s.symbols.push_back(chain[i].id);
  if (n > (1 << 20)) {  // one monstrous piece must not keep its memory
    chain = {};
    heap = {};
  }
}

void Bpe::merge(BpeScratch& scratch) const {
  if (scratch.symbols.size() < 2) return;
  if (scratch.symbols.size() <= kShort) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  auto& s = static_cast<BpeScratch&>(scratch);
  Cache::Slot* slot = nullptr;
  if (piece.size() <= Cache::kMaxBytes) {
    slot = &s.cache.slots[XXH3_64bits(piece.data(), piece.size()) & (Cache::kSlots - 1)];
    if (slot->bytes == piece.size() && std::memcmp(slot->text, piece.data(), piece.size()) == 0) {
      ids.insert(ids.end(), slot->id, slot->id + slot->ids);
      return;
    }
  }
  s.symbols.clear();
  const int32_t whole = !options_.ignore_merges ? -1
                        : options_.byte_level   ? whole_.find(piece)
                                                : vocabulary_.find(piece);
  if (whole >= 0) {
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
    merge(s);
  }
  ids.insert(ids.end(), s.symbols.begin(), s.symbols.end());
  if (slot && s.symbols.size() <= Cache::kMaxIds) {
    slot->bytes = static_cast<uint8_t>(piece.size());
    slot->ids = static_cast<uint8_t>(s.symbols.size());
    std::memcpy(slot->text, piece.data(), piece.size());
    std::copy(s.symbols.begin(), s.symbols.end(), slot->id);
  }
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
    merge(s);
    if (s.symbols.size() != 1 || s.symbols[0] != id) found.push_back(id);
  }
  return found;
}

}  // namespace ingot
