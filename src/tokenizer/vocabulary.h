// The tokens of a model: text <-> id, with holes allowed, in one arena. No model's logic lives here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ingot {

// Text to id, open addressing; the texts are owned by someone else and must outlive the map.
class TextIndex {
 public:
  void reserve(size_t n);
  // False when the text is there already (the first id stays).
  bool insert(std::string_view text, int32_t id);
  int32_t find(std::string_view text) const;  // -1 when absent
  // The same of many, whose memory is waited for together: `ids` has a place for each.
  void find_all(std::span<const std::string_view> texts, int32_t* ids) const;
  size_t size() const { return size_; }

 private:
  struct Slot {
    const char* text = nullptr;
    uint32_t length = 0;
    int32_t id = -1;
  };
  size_t home(std::string_view text) const;
  size_t place(std::string_view text, size_t from) const;
  size_t place(std::string_view text) const { return place(text, home(text)); }
  void grow(size_t capacity);
  std::vector<Slot> slots_;
  size_t size_ = 0;
};

class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(const Vocabulary&) = delete;  // the index points into the arena
  Vocabulary& operator=(const Vocabulary&) = delete;

  void reserve(size_t tokens, size_t bytes);
  enum class Added { kYes, kTextTaken, kIdTaken };
  // `id` must be >= 0 and within reason: the table of ids grows to it.
  Added add(std::string_view text, int32_t id);
  int32_t find(std::string_view text) const { return index_.find(text); }
  void find_all(std::span<const std::string_view> texts, int32_t* ids) const { index_.find_all(texts, ids); }
  bool has(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < texts_.size() && texts_[id].data() != nullptr;
  }
  std::string_view text(int32_t id) const { return has(id) ? texts_[id] : std::string_view(); }
  int32_t end_id() const { return static_cast<int32_t>(texts_.size()); }  // one past the largest id
  size_t count() const { return index_.size(); }

 private:
  std::string_view store(std::string_view text);
  std::vector<std::string> blocks_;
  std::vector<std::string_view> texts_;  // by id; a null view is a hole
  TextIndex index_;
};

}  // namespace ingot
