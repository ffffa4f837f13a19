// Reading GGUF. Every count and length is checked against the bytes that are really there before anything of that
// size is allocated.
#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "formats/formats.h"
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
constexpr size_t kMaxFaults = 20;  // that are told of one file
constexpr uint64_t kChunk = 256 << 10;

// Reads the head of a file in order, a chunk at a time; the first failure sticks.
class HeaderReader {
 public:
  explicit HeaderReader(const OpenedFile& opened)
      : file_(*opened.file), path_(opened.path), size_(file_.size()), chunk_(std::max(kChunk, opened.chunk)), buffer_(opened.head) {}

  template <class T>
  bool read(T* v) {
    return bytes(v, sizeof(T));
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
  if (n && !r->bytes(v.data(), n * sizeof(T))) return false;
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
  v.reserve(n);
  for (uint64_t i = 0; i < n; ++i)
    if (!read_value(r, element, depth + 1, &v.emplace_back())) return false;
  out->v = std::move(v);
  return true;
}

struct Info {
  std::string name;
  TensorSpec spec;
  uint64_t offset = 0;
};

bool valid_name(std::string_view s) {
  return std::none_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

bool read_info(HeaderReader* r, Info* t) {
  uint32_t dims = 0, type = 0;
  if (!r->string(&t->name, kMaxTensorName, "a tensor's name")) return false;
  if (t->name.empty() || !valid_name(t->name)) return r->fail("a tensor has a name that is empty or no text");
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

// A contradiction of the file with itself: an error, or told to whoever only looks.
Status fault(Faults* faults, Error e) {
  if (!faults) return e;
  if (faults->size() < kMaxFaults) faults->push_back(std::move(e.message));
  return {};
}

// Where tensors and data must be: everything within the file, aligned, each byte of the data in one tensor or in the
// padding up to the alignment. llama.cpp loads nothing else.
struct DataPart {
  uint64_t begin, size, alignment;
};
Status check_placement(const std::vector<Info>& infos, DataPart data, const std::string& path, Faults* faults) {
  std::vector<const Info*> by_offset;
  for (const auto& t : infos) {
    const uint64_t size = bytes_of(t.spec);
    uint64_t end = 0;
    if (!checked_add(t.offset, size, &end) || !checked_add(data.begin, end, &end))
      return bad_input("reading {}: tensor '{}' starts at offset {}, beyond what a file can hold; the header is damaged", path, t.name,
                       t.offset);
    if (t.offset % data.alignment != 0)
      INGOT_TRY(fault(faults, bad_input("reading {}: tensor '{}' starts at offset {}, expected a multiple of {}; the header is damaged",
                                        path, t.name, t.offset, data.alignment)));
    if (t.offset + size > data.size)
      INGOT_TRY(fault(faults, bad_input("reading {}: tensor '{}' needs bytes {} to {} of the data, but the file holds only {}; it is "
                                        "truncated, copy it again",
                                        path, t.name, t.offset, t.offset + size, data.size)));
    if (size) by_offset.push_back(&t);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
  uint64_t end = 0;  // of the data that belongs to tensors so far
  for (size_t i = 0; i < by_offset.size(); ++i) {
    const Info& t = *by_offset[i];
    if (i && t.offset < end)
      INGOT_TRY(fault(faults, bad_input("reading {}: tensors '{}' and '{}' overlap; the header is damaged", path, by_offset[i - 1]->name,
                                        t.name)));
    else if (t.offset > align_up(end, data.alignment))
      INGOT_TRY(fault(faults, bad_input("reading {}: bytes {} to {} of the data, before tensor '{}', belong to no tensor; expected it to "
                                        "start at {}: the header is damaged, or another program left a hole",
                                        path, end, t.offset, t.name, align_up(end, data.alignment))));
    end = std::max(end, t.offset + bytes_of(t.spec));
  }
  // Writers pad the last tensor to the alignment or to the format's 32, or not at all.
  const uint64_t last = std::max(align_up(end, data.alignment), align_up(end, 32));
  if (data.size > last)
    INGOT_TRY(fault(faults, bad_input("reading {}: it has {} bytes, but what its header tells of ends at byte {}: bytes were added, or the "
                                      "header is damaged; copy it again",
                                      path, data.begin + data.size, data.begin + end)));
  return {};
}

// Adds one file's metadata and tensors.
Status read_file(const OpenedFile& opened, Artifact* a, Faults* faults) {
  auto source = std::make_shared<SourceFile>();
  const std::string& path = source->path = opened.path;
  source->file = opened.file;
  HeaderReader r(opened);
  char magic[4];
  uint32_t version = 0;
  uint64_t n_tensors = 0, n_kv = 0;
  if (!r.bytes(magic, 4)) return r.take_status();
  if (std::memcmp(magic, "GGUF", 4) != 0) return bad_input("reading {}: it does not begin with GGUF", path);
  if (!r.read(&version)) return r.take_status();
  if (version == 0x02000000 || version == 0x03000000)
    return bad_input("reading {}: it is a big-endian GGUF, which is not supported; convert it with gguf-py's "
                     "gguf_convert_endian.py",
                     path);
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
                     path, n_tensors, n_kv, source->file->size());
  if (n_kv > kMaxKeys || n_tensors > kMaxTensors)
    return bad_input("reading {}: the header has {} tensors and {} key-values, at most {} and {} are supported", path, n_tensors, n_kv,
                     kMaxTensors, kMaxKeys);
  std::unordered_set<std::string> keys;
  for (uint64_t i = 0; i < n_kv; ++i) {
    std::string key;
    uint32_t type = 0;
    if (!r.string(&key, kMaxKey, "a metadata key") || !r.read(&type)) return r.take_status();
    if (key.empty() || !valid_name(key)) return bad_input("reading {}: metadata key {} is empty or no text", path, i);
    if (type > 12) return bad_input("reading {}: the metadata key '{}' has the unknown type {}", path, key, type);
    if (!keys.insert(key).second) return bad_input("reading {}: the metadata key '{}' stands twice", path, key);
    MetaValue v;
    if (!read_value(&r, static_cast<GgufType>(type), 0, &v))
      return std::move(r.take_status().take_error()).during(fmt::format("metadata key '{}'", key));
    a->metadata.emplace_back(std::move(key), std::move(v));
  }
  uint64_t alignment = 32;
  if (const MetaValue* m = a->meta("general.alignment")) {
    const auto* v = std::get_if<uint32_t>(&m->v);
    if (!v || *v == 0 || (*v & (*v - 1)) != 0 || *v > (1u << 24))
      return bad_input("reading {}: general.alignment is not a power of two between 1 and 16 MiB", path);
    alignment = *v;
  }
  std::vector<Info> infos;
  std::unordered_set<std::string> names;
  for (uint64_t i = 0; i < n_tensors; ++i) {
    Info t;
    if (!read_info(&r, &t)) return r.take_status();
    if (!names.insert(t.name).second)
      return bad_input("reading {}: the tensor '{}' stands twice", path, t.name);
    infos.push_back(std::move(t));
  }
  const uint64_t data = align_up(r.pos(), alignment), size = source->file->size();
  if (n_tensors && data > size)
    INGOT_TRY(fault(faults, bad_input("reading {}: the file ends at byte {}, before the data at {}; it is truncated, copy it again", path,
                                      size, data)));
  INGOT_TRY(check_placement(infos, {data, size > data ? size - data : 0, alignment}, path, faults));
  source->header_hash = r.hash();
  for (auto& t : infos)
    a->tensors.push_back({t.name, make_file_tensor(source, t.name, data + t.offset, t.spec)});
  return {};
}

std::optional<int64_t> small_int(const Artifact& a, std::string_view key) {
  const MetaValue* m = a.meta(key);
  if (!m) return std::nullopt;
  if (auto* v = std::get_if<uint16_t>(&m->v)) return *v;
  if (auto* v = std::get_if<uint32_t>(&m->v)) return *v;
  if (auto* v = std::get_if<int32_t>(&m->v)) return *v;
  return std::nullopt;
}

struct Part {
  bool there = true;
  Status status;  // of reading it
  Artifact piece;
  Faults faults;
};

Part read_part(Store& store, const std::string& path, bool look_only) {
  Part p;
  auto opened = open_head(store, path);
  if (opened.ok()) {
    p.status = read_file(*opened, &p.piece, look_only ? &p.faults : nullptr);
    return p;
  }
  const auto stat = store.stat(path);
  p.there = !stat.ok() || *stat;
  p.status = stat.ok() ? opened.take_error() : stat.error();
  return p;
}

// model-00001-of-00003.gguf and its siblings; the first one carries the metadata.
Status read_splits(Store& store, const std::string& path, int64_t count, Artifact* a, Faults* faults) {
  if (count > static_cast<int64_t>(kMaxGgufSplits))
    return fault(faults, bad_input("opening {}: split.count is {}, expected at most {}", path, count, kMaxGgufSplits));
  const std::string tail = fmt::format("-00001-of-{:05}.gguf", count);
  if (path.size() < tail.size() || path.substr(path.size() - tail.size()) != tail)
    return fault(faults, bad_input("opening {}: it is part of a set of {} files; give the first one, named ...{}", path, count, tail));
  const std::string stem = path.substr(0, path.size() - tail.size());
  // Not all at once: of a set that claims thousands of parts and has none, a few are looked for.
  constexpr int64_t kTogether = 64;
  std::vector<Part> parts;
  for (int64_t i = 2; i <= count && (!faults || faults->size() < kMaxFaults); ++i) {
    const auto path_of = [&](int64_t n) { return fmt::format("{}-{:05}-of-{:05}.gguf", stem, n, count); };
    const size_t at = static_cast<size_t>(i - 2) % kTogether;
    if (at == 0) {
      parts = std::vector<Part>(static_cast<size_t>(std::min(kTogether, count - i + 1)));
      Calls calls;
      for (size_t k = 0; k < parts.size(); ++k)
        calls.push_back([&, k] { parts[k] = read_part(store, path_of(i + static_cast<int64_t>(k)), faults != nullptr); });
      INGOT_TRY(call_together(store, "opening " + path, calls));
    }
    Part& part = parts[at];
    if (!part.there) {
      INGOT_TRY(fault(faults, bad_input("opening {}: its part {} is not there; download it", path, path_of(i))));
      continue;
    }
    INGOT_TRY(std::move(part.status));
    for (auto& f : part.faults) INGOT_TRY(fault(faults, Error{ErrorKind::kBadInput, std::move(f)}));
    if (small_int(part.piece, "split.no") != i - 1 || small_int(part.piece, "split.count") != count)
      INGOT_TRY(fault(faults, bad_input("opening {}: {} says that it is another part; the set is mixed up", path, path_of(i))));
    for (const auto& t : part.piece.tensors) {
      if (!a->find(t.name))
        a->tensors.push_back(t);
      else
        INGOT_TRY(fault(faults, bad_input("opening {}: the tensor '{}' is in two parts", path, t.name)));
    }
  }
  if (auto n = small_int(*a, "split.tensors.count"); n && *n != static_cast<int64_t>(a->tensors.size()))
    INGOT_TRY(fault(faults, bad_input("opening {}: the parts hold {} tensors, expected {}", path, a->tensors.size(), *n)));
  std::erase_if(a->metadata, [](const auto& kv) { return kv.first.starts_with("split."); });
  return {};
}

}  // namespace

int probe_gguf(const Probe& p) {
  if (p.directory) return 0;
  if (p.file.head.starts_with("GGUF")) return 100;
  return p.path.size() > 5 && p.path.ends_with(".gguf") ? 30 : 0;
}

Result<Artifact> open_gguf(Store& store, const Probe& p, Faults* faults) {
  Artifact a;
  a.path = p.path;
  a.format = a.naming = "gguf";
  INGOT_TRY(read_file(p.file, &a, faults));
  if (auto n = small_int(a, "split.count"); n && *n > 1) INGOT_TRY(read_splits(store, p.path, *n, &a, faults));
  return a;
}

}  // namespace ingot
