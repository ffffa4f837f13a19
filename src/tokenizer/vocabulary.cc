// The tokens of a model: text <-> id.
#include "tokenizer/vocabulary.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace ingot {
namespace {

constexpr size_t kBlock = 1 << 20;

size_t power_of_two(size_t n) {
  size_t c = 16;
  while (c < n) c *= 2;
  return c;
}

}  // namespace

void TextIndex::reserve(size_t n) {
  if (const size_t c = power_of_two(n + n / 2 + 1); c > slots_.size()) grow(c);
}

void TextIndex::grow(size_t capacity) {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(capacity, Slot{});
  for (const Slot& s : old)
    if (s.id >= 0) slots_[place({s.text, s.length})] = s;
}

size_t TextIndex::home(std::string_view text) const { return XXH3_64bits(text.data(), text.size()) & (slots_.size() - 1); }

// Where the text is, or would go.
size_t TextIndex::place(std::string_view text, size_t i) const {
  for (; slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1))
    if (slots_[i].length == text.size() && std::memcmp(slots_[i].text, text.data(), text.size()) == 0) break;
  return i;
}

bool TextIndex::insert(std::string_view text, int32_t id) {
  if ((size_ + 1) * 3 > slots_.size() * 2) grow(power_of_two(slots_.size() * 2));
  Slot& slot = slots_[place(text)];
  if (slot.id >= 0) return false;
  slot = {text.data(), static_cast<uint32_t>(text.size()), id};
  ++size_;
  return true;
}

int32_t TextIndex::find(std::string_view text) const { return slots_.empty() ? -1 : slots_[place(text)].id; }

void TextIndex::find_all(std::span<const std::string_view> texts, int32_t* ids) const {
  constexpr size_t kTogether = 64;
  if (slots_.empty()) return void(std::fill_n(ids, texts.size(), -1));
  for (; !texts.empty(); ids += kTogether) {
    const auto some = texts.first(std::min(kTogether, texts.size()));
    texts = texts.subspan(some.size());
    size_t at[kTogether];
    for (size_t k = 0; k < some.size(); ++k) __builtin_prefetch(&slots_[at[k] = home(some[k])]);
    for (size_t k = 0; k < some.size(); ++k) __builtin_prefetch(slots_[at[k]].text);
    for (size_t k = 0; k < some.size(); ++k) ids[k] = slots_[place(some[k], at[k])].id;
  }
}

void Vocabulary::reserve(size_t tokens, size_t bytes) {
  texts_.reserve(tokens);
  index_.reserve(tokens);
  if (bytes > 0) {
    blocks_.emplace_back();
    blocks_.back().reserve(bytes);
  }
}

std::string_view Vocabulary::store(std::string_view text) {
  if (blocks_.empty() || blocks_.back().capacity() - blocks_.back().size() < text.size()) {
    blocks_.emplace_back();
    blocks_.back().reserve(std::max(kBlock, text.size()));
  }
  std::string& block = blocks_.back();
  const size_t at = block.size();
  block.append(text);  // within capacity: views into the block stay valid
  return {block.data() + at, text.size()};
}

Vocabulary::Added Vocabulary::add(std::string_view text, int32_t id) {
  if (has(id)) return Added::kIdTaken;
  const std::string_view stored = store(text);
  if (!index_.insert(stored, id)) {
    blocks_.back().resize(blocks_.back().size() - text.size());
    return Added::kTextTaken;
  }
  if (static_cast<size_t>(id) >= texts_.size()) texts_.resize(static_cast<size_t>(id) + 1);
  texts_[id] = stored;
  return Added::kYes;
}

}  // namespace ingot
