// Byte views and a bounds-checked little-endian cursor. Every parser reads untrusted bytes through ByteReader:
// it never reads past the end, and once a read fails every later one fails too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ingot {

using ByteView = std::span<const std::byte>;
using MutByteView = std::span<std::byte>;

inline ByteView as_bytes(std::string_view s) { return {reinterpret_cast<const std::byte*>(s.data()), s.size()}; }
inline std::string_view as_text(ByteView b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

// a * b or a + b without wrapping; false when the result does not fit.
inline bool checked_mul(uint64_t a, uint64_t b, uint64_t* out) { return !__builtin_mul_overflow(a, b, out); }
inline bool checked_add(uint64_t a, uint64_t b, uint64_t* out) { return !__builtin_add_overflow(a, b, out); }
constexpr uint64_t align_up(uint64_t x, uint64_t a) { return (x + a - 1) / a * a; }

class ByteReader {
 public:
  explicit ByteReader(ByteView b) : b_(b) {}
  // Reads one trivially copyable little-endian value; false at the end of the bytes.
  template <class T>
  bool read(T* v) {
    if (remaining() < sizeof(T)) return fail();
    std::memcpy(v, b_.data() + pos_, sizeof(T));
    pos_ += sizeof(T);
    return true;
  }
  // A view of the next n bytes.
  bool view(uint64_t n, ByteView* v) {
    if (remaining() < n) return fail();
    *v = b_.subspan(pos_, n);
    pos_ += n;
    return true;
  }
  bool skip(uint64_t n) {
    ByteView v;
    return view(n, &v);
  }
  // A text as ByteWriter::text() writes it.
  bool text(std::string* s) {
    uint32_t n;
    ByteView v;
    if (!read(&n) || !view(n, &v)) return false;
    *s = as_text(v);
    return true;
  }
  uint64_t pos() const { return pos_; }
  uint64_t remaining() const { return failed_ ? 0 : b_.size() - pos_; }
  bool failed() const { return failed_; }

 private:
  bool fail() {
    failed_ = true;
    return false;
  }
  ByteView b_;
  uint64_t pos_ = 0;
  bool failed_ = false;
};

class ByteWriter {
 public:
  template <class T>
  void write(T v) {
    append(&v, sizeof v);
  }
  void append(const void* p, size_t n) { out_.append(static_cast<const char*>(p), n); }
  void append(std::string_view s) { out_.append(s); }
  void text(std::string_view s) {  // u32 size, bytes
    write(static_cast<uint32_t>(s.size()));
    append(s);
  }
  void pad_to(uint64_t a) { out_.resize(align_up(out_.size(), a), '\0'); }
  uint64_t size() const { return out_.size(); }
  std::string& str() { return out_; }

 private:
  std::string out_;
};

}  // namespace ingot
