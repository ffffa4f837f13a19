// Merging pairs of symbols. Short lists are merged by scanning an array of ranks, long ones with a heap.
#include "tokenizer/merge_table.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

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

MergeTable::MergeTable(size_t pairs) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, pairs + pairs / 2));
  pairs_.assign(capacity, Pair{});
  shift_ = 64 - std::countr_zero(capacity);
}

void MergeTable::add(int32_t left, int32_t right, uint32_t rank, int32_t id, bool first_counts) {
  const uint64_t key = pair_key(left, right);
  size_t i = pair_hash(key) >> shift_;
  while (pairs_[i].id >= 0 && pairs_[i].key != key) i = (i + 1) & (pairs_.size() - 1);
  if (pairs_[i].id < 0 || !first_counts) pairs_[i] = {key, rank, id};
}

const MergeTable::Pair* MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  for (size_t i = pair_hash(key) >> shift_; pairs_[i].id >= 0; i = (i + 1) & (pairs_.size() - 1)) {
    if (pairs_[i].key == key) return &pairs_[i];
  }
  return nullptr;
}

void MergeTable::merge_short(Scratch& s) const {
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

void MergeTable::merge_long(Scratch& s) const {
  const size_t n = s.symbols.size();
  auto& chain = s.chain;
  chain.resize(n);
  for (size_t i = 0; i < n; ++i) {
    chain[i] = {s.symbols[i], static_cast<int32_t>(i) - 1, i + 1 < n ? static_cast<int32_t>(i + 1) : -1, 0};
  }
  auto& heap = s.heap;
  heap.clear();
  const auto later = std::greater<Scratch::Candidate>();
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

void MergeTable::merge(Scratch& scratch) const {
  if (scratch.symbols.size() < 2) return;
  if (scratch.symbols.size() <= kShort) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
}

void Joints::add(char32_t before, char32_t after) {
  if (before < 128 && after < 128) {
    ascii_[before][after >> 6] |= uint64_t{1} << (after & 63);
    return;
  }
  const uint64_t key = static_cast<uint64_t>(before) << 32 | after;
  if (find(key)) return;
  const auto insert = [this](uint64_t k) {
    size_t i = pair_hash(k) >> 20 & (table_.size() - 1);
    while (table_[i] != 0) i = (i + 1) & (table_.size() - 1);
    table_[i] = k;
  };
  if (++size_ * 2 > table_.size()) {
    const std::vector<uint64_t> old = std::exchange(table_, std::vector<uint64_t>(std::max<size_t>(64, table_.size() * 2), 0));
    for (const uint64_t k : old)
      if (k != 0) insert(k);
  }
  insert(key);
}

bool Joints::find(uint64_t key) const {
  if (table_.empty()) return false;
  for (size_t i = pair_hash(key) >> 20 & (table_.size() - 1); table_[i] != 0; i = (i + 1) & (table_.size() - 1))
    if (table_[i] == key) return true;
  return false;
}

}  // namespace ingot
