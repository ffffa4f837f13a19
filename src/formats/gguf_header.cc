// The header of a GGUF file. Every count and length is checked against the bytes that are really there before anything of that size is allocated.
#include "formats/gguf_header.h"

#include <algorithm>
#include <unordered_set>

#include "base/utf8.h"
#include "formats/gguf.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxHeaderBytes = 512u << 20;  // of metadata and tensor infos; a real one has at most some 20 MB
constexpr uint64_t kMaxString = 64u << 20;
constexpr uint64_t kMaxKey = 65535;
constexpr uint64_t kMaxTensorName = 1024;
// What takes many times its bytes of the file in memory, in one file; real ones stay a hundred times below.
constexpr uint64_t kMaxKeys = 1u << 16;
constexpr uint64_t kMaxTensors = 1u << 20;
constexpr uint64_t kMaxTexts = 16u << 20;  // in lists
constexpr uint64_t kMaxMixed = 4u << 20;   // elements of lists that are kept value by value
constexpr int kMaxArrayDepth = 4;
constexpr uint64_t kChunk = 256 << 10;

// Reads the head of a file in order, a chunk at a time; the first failure sticks.
class HeaderReader {
 public:
  explicit HeaderReader(const OpenedFile& opened)
      : file_(*opened.file), path_(opened.path), size_(file_.size()), chunk_(std::max(kChunk, opened.chunk)), buffer_(opened.head) {}

  template <class T>
  bool read(T* v) {
    return elements(v, 1);
  }
  // Numbers, in the machine's order.
  template <class T>
  bool elements(T* v, uint64_t n) {
    if (!bytes(v, n * sizeof(T))) return false;
    for (uint64_t i = 0; big_endian && sizeof(T) > 1 && i < n; ++i) {
      auto* b = reinterpret_cast<std::byte*>(v + i);
      std::reverse(b, b + sizeof(T));
    }
    return true;
  }
  bool bytes(void* out, uint64_t n) {
    if (!want(n)) return false;
    auto* to = static_cast<char*>(out);
    while (n > 0) {
      if (at_ == buffer_.size() && !refill()) return false;
      const uint64_t take = std::min<uint64_t>(n, buffer_.size() - at_);
      std::memcpy(to, buffer_.data() + at_, take);
      to += take, at_ += take, pos_ += take, n -= take;
    }
    return true;
  }
  bool string(std::string* s, uint64_t limit, const char* what) {
    uint64_t n = 0;
    if (!read(&n)) return false;
    if (n > limit) return fail(fmt::format("{} is {} bytes long, at most {} are possible", what, n, limit));
    if (!want(n)) return false;
    s->resize(n);
    return bytes(s->data(), n);
  }
  // False, and an error that says so, when fewer than n bytes are left.
  bool want(uint64_t n) {
    if (status_.ok() && n <= left() && pos_ + n <= kMaxHeaderBytes) return true;
    if (!status_.ok()) return false;
    if (n > left())
      return fail(fmt::format("the file ends at byte {} where at least {} more were expected at byte {}; it is "
                              "truncated, copy it again",
                              size_, n, pos_));
    return fail(fmt::format("the header takes more than {} bytes", kMaxHeaderBytes));
  }
  bool fail(const std::string& why) {
    if (status_.ok()) status_ = bad_input("reading {}: {}", path_, why);
    return false;
  }
  uint64_t left() const { return size_ - pos_; }
  uint64_t pos() const { return pos_; }
  Status take_status() { return std::move(status_); }
  // Of all that was read; to be asked once, at the end.
  std::string hash() {
    hash_.update(as_bytes(buffer_.substr(0, at_)));
    return to_hex(hash_.digest());
  }

  uint64_t texts = 0, mixed = 0;  // read so far
  bool big_endian = false;

 private:
  bool refill() {
    hash_.update(as_bytes(buffer_));
    own_.resize(std::min(chunk_, size_ - pos_));
    at_ = 0;
    if (auto s = file_.read(pos_, MutByteView(reinterpret_cast<std::byte*>(own_.data()), own_.size())); !s.ok()) {
      status_ = std::move(s);
      buffer_ = {};
      return false;
    }
    buffer_ = own_;
    return true;
  }
  const ReadFile& file_;
  const std::string& path_;
  const uint64_t size_, chunk_;
  uint64_t pos_ = 0;
  std::string own_;
  std::string_view buffer_;  // the file's head, then own_
  size_t at_ = 0;
  Status status_;
  Hasher128 hash_;
};

// Smallest bytes of one element in the file.
uint64_t least_bytes(GgufType t) {
  switch (t) {
    case GgufType::kU8: case GgufType::kI8: case GgufType::kBool: return 1;
    case GgufType::kU16: case GgufType::kI16: return 2;
    case GgufType::kU32: case GgufType::kI32: case GgufType::kF32: return 4;
    case GgufType::kU64: case GgufType::kI64: case GgufType::kF64: case GgufType::kString: return 8;
    case GgufType::kArray: return 12;
  }
  return 0;
}

template <class T>
bool read_scalar(HeaderReader* r, MetaValue* out) {
  T v{};
  if (!r->read(&v)) return false;
  out->v = v;
  return true;
}

template <class T>
bool read_vector(HeaderReader* r, uint64_t n, MetaValue* out) {
  std::vector<T> v(n);  // want(n * size) held
  if (n && !r->elements(v.data(), n)) return false;
  out->v = std::move(v);
  return true;
}

bool read_value(HeaderReader* r, GgufType type, int depth, MetaValue* out) {
  switch (type) {
    case GgufType::kU8: return read_scalar<uint8_t>(r, out);
    case GgufType::kI8: return read_scalar<int8_t>(r, out);
    case GgufType::kU16: return read_scalar<uint16_t>(r, out);
    case GgufType::kI16: return read_scalar<int16_t>(r, out);
    case GgufType::kU32: return read_scalar<uint32_t>(r, out);
    case GgufType::kI32: return read_scalar<int32_t>(r, out);
    case GgufType::kF32: return read_scalar<float>(r, out);
    case GgufType::kU64: return read_scalar<uint64_t>(r, out);
    case GgufType::kI64: return read_scalar<int64_t>(r, out);
    case GgufType::kF64: return read_scalar<double>(r, out);
    case GgufType::kBool: {
      uint8_t b = 0;
      if (!r->read(&b)) return false;
      if (b > 1) return r->fail(fmt::format("a truth value is {}, expected 0 or 1; the file is damaged", b));
      out->v = b != 0;
      return true;
    }
    case GgufType::kString: {
      std::string s;
      if (!r->string(&s, kMaxString, "a text")) return false;
      out->v = std::move(s);
      return true;
    }
    case GgufType::kArray: break;
  }
  if (depth >= kMaxArrayDepth) return r->fail("arrays are nested too deep");
  uint32_t of = 0;
  uint64_t n = 0;
  if (!r->read(&of) || !r->read(&n)) return false;
  if (of > 12) return r->fail(fmt::format("an array has elements of the unknown type {}; the file is damaged", of));
  const auto element = static_cast<GgufType>(of);
  uint64_t least = 0;
  if (!checked_mul(n, least_bytes(element), &least) || least > r->left())
    return r->fail(fmt::format("an array claims {} elements, but only {} bytes are left; the file is truncated or "
                               "damaged",
                               n, r->left()));
  if (!r->want(least)) return false;
  if (element == GgufType::kI32) return read_vector<int32_t>(r, n, out);
  if (element == GgufType::kU32) return read_vector<uint32_t>(r, n, out);
  if (element == GgufType::kF32) return read_vector<float>(r, n, out);
  if (element == GgufType::kString) {
    if ((r->texts += n) > kMaxTexts)
      return r->fail(fmt::format("its lists hold {} texts, at most {} are supported", r->texts, kMaxTexts));
    std::vector<std::string> v;
    v.reserve(n);  // 8 bytes of each were there
    for (uint64_t i = 0; i < n; ++i)
      if (!r->string(&v.emplace_back(), kMaxString, "a text")) return false;
    out->v = std::move(v);
    return true;
  }
  if ((r->mixed += n) > kMaxMixed)
    return r->fail(fmt::format("its lists of truth values, bytes, 64-bit numbers and lists hold {} elements, at most {} are supported", r->mixed,
                               kMaxMixed));
  MetaArray v;
  v.empty_of = of;
  v.reserve(n);
  for (uint64_t i = 0; i < n; ++i)
    if (!read_value(r, element, depth + 1, &v.emplace_back())) return false;
  out->v = std::move(v);
  return true;
}

bool valid_name(std::string_view s) {
  return std::none_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

bool read_info(HeaderReader* r, GgufInfo* t) {
  uint32_t dims = 0, type = 0;
  if (!r->string(&t->name, kMaxTensorName, "a tensor's name")) return false;
  if (t->name.empty() || !valid_name(t->name)) return r->fail("a tensor has a name that is empty or no text");
  if (!valid_utf8(t->name)) return r->fail("a tensor's name is no text in UTF-8; the header is damaged");
  if (!r->read(&dims)) return false;
  if (dims > 4) return r->fail(fmt::format("tensor '{}' has {} dimensions, expected at most 4", t->name, dims));
  uint64_t ne[4] = {1, 1, 1, 1};
  uint64_t n = 1;
  for (uint32_t i = 0; i < dims; ++i) {
    if (!r->read(&ne[i])) return false;
    // A zero must not hide an overflow: whoever multiplies in another order would meet it.
    if (!checked_mul(n, std::max<uint64_t>(ne[i], 1), &n) || n > static_cast<uint64_t>(INT64_MAX) / 16)
      return r->fail(fmt::format("the shape of tensor '{}' overflows (a dimension of {}); the header is damaged",
                                 t->name, ne[i]));
  }
  if (!r->read(&type) || !r->read(&t->offset)) return false;
  const auto known = type <= INT32_MAX ? dtype_by_ggml_id(static_cast<int>(type)) : std::nullopt;
  if (!known) return r->fail(fmt::format("tensor '{}' has the unknown type {}; a newer ingot may know it", t->name, type));
  t->spec.type = *known;
  for (uint32_t i = dims; i-- > 0;) t->spec.shape.push_back(static_cast<int64_t>(ne[i]));
  if (t->spec.shape.back() % info(*known).block != 0)
    return r->fail(fmt::format("tensor '{}' is {} with rows of {} elements, expected a multiple of {}", t->name,
                               info(*known).name, t->spec.shape.back(), info(*known).block));
  return true;
}

}  // namespace

Result<GgufHeader> read_gguf_header(const OpenedFile& opened) {
  const std::string& path = opened.path;
  GgufHeader h;
  HeaderReader r(opened);
  char magic[4];
  uint32_t version = 0;
  uint64_t n_tensors = 0, n_kv = 0;
  if (!r.bytes(magic, 4)) return r.take_status();
  if (std::memcmp(magic, "GGUF", 4) != 0) return bad_input("reading {}: it does not begin with GGUF", path);
  if (!r.read(&version)) return r.take_status();
  if (version == 0x02000000 || version == 0x03000000) h.big_endian = r.big_endian = true, version >>= 24;
  if (version != 2 && version != 3)
    return bad_input("reading {}: GGUF version {}, supported are 2 and 3{}", path, version,
                     version == 1 ? "; convert the model again" : "");
  if (!r.read(&n_tensors) || !r.read(&n_kv)) return r.take_status();
  // The shortest key-value takes 13 bytes, the shortest tensor info 25.
  uint64_t least = 0, least_kv = 0;
  if (!checked_mul(n_tensors, 25, &least) || !checked_mul(n_kv, 13, &least_kv) ||
      !checked_add(least, least_kv, &least) || least > r.left())
    return bad_input("reading {}: the header claims {} tensors and {} key-values, more than the file's {} bytes can "
                     "hold; it is truncated or damaged",
                     path, n_tensors, n_kv, opened.file->size());
  if (n_kv > kMaxKeys || n_tensors > kMaxTensors)
    return bad_input("reading {}: the header has {} tensors and {} key-values, at most {} and {} are supported", path, n_tensors, n_kv,
                     kMaxTensors, kMaxKeys);
  std::unordered_set<std::string> keys;
  for (uint64_t i = 0; i < n_kv; ++i) {
    std::string key;
    uint32_t type = 0;
    if (!r.string(&key, kMaxKey, "a metadata key") || !r.read(&type)) return r.take_status();
    if (key.empty() || !valid_name(key)) return bad_input("reading {}: metadata key {} is empty or no text", path, i);
    if (!valid_utf8(key)) return bad_input("reading {}: metadata key {} is no text in UTF-8; the header is damaged", path, i);
    if (type > 12) return bad_input("reading {}: the metadata key '{}' has the unknown type {}", path, key, type);
    if (!keys.insert(key).second) return bad_input("reading {}: the metadata key '{}' stands twice", path, key);
    MetaValue v;
    if (!read_value(&r, static_cast<GgufType>(type), 0, &v))
      return std::move(r.take_status().take_error()).during(fmt::format("metadata key '{}'", key));
    h.metadata.emplace_back(std::move(key), std::move(v));
  }
  for (const auto& [key, value] : h.metadata) {
    if (key != "general.alignment") continue;
    const auto* v = std::get_if<uint32_t>(&value.v);
    if (!v || *v == 0 || (*v & (*v - 1)) != 0 || *v > (1u << 24))
      return bad_input("reading {}: general.alignment is not a power of two between 1 and 16 MiB", path);
    h.alignment = *v;
  }
  std::unordered_set<std::string> names;
  for (uint64_t i = 0; i < n_tensors; ++i) {
    GgufInfo t;
    if (!read_info(&r, &t)) return r.take_status();
    if (!names.insert(t.name).second) return bad_input("reading {}: the tensor '{}' stands twice", path, t.name);
    h.tensors.push_back(std::move(t));
  }
  h.data = align_up(r.pos(), h.alignment);
  h.hash = r.hash();
  return h;
}

}  // namespace ingot
