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
  for (const Slot& s : old) {
    if (s.id < 0) continue;
    size_t i = s.hash & (capacity - 1);
    while (slots_[i].id >= 0) i = (i + 1) & (capacity - 1);
    slots_[i] = s;
  }
}

bool TextIndex::insert(std::string_view text, int32_t id) {
  if ((size_ + 1) * 3 > slots_.size() * 2) grow(power_of_two(slots_.size() * 2));
  const uint64_t hash = XXH3_64bits(text.data(), text.size());
  size_t i = hash & (slots_.size() - 1);
  for (; slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& s = slots_[i];
    if (s.hash == hash && s.length == text.size() && std::memcmp(s.text, text.data(), text.size()) == 0)
      return false;
  }
  slots_[i] = {text.data(), static_cast<uint32_t>(text.size()), id, hash};
  ++size_;
  return true;
}

int32_t TextIndex::find(std::string_view text) const {
  if (slots_.empty()) return -1;
  const uint64_t hash = XXH3_64bits(text.data(), text.size());
  for (size_t i = hash & (slots_.size() - 1); slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& s = slots_[i];
    if (s.hash == hash && s.length == text.size() && std::memcmp(s.text, text.data(), text.size()) == 0)
      return s.id;
  }
  return -1;
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
  if (index_.find(text) >= 0) return Added::kTextTaken;
  const std::string_view stored = store(text);
  index_.insert(stored, id);
  if (static_cast<size_t>(id) >= texts_.size()) texts_.resize(static_cast<size_t>(id) + 1);
  texts_[id] = stored;
  return Added::kYes;
}

}  // namespace ingot
