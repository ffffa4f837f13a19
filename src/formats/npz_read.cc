// NumPy's files: .npz, a ZIP archive of .npy files, and .npy alone (NEP 1; format versions 1.0 to 3.0). Objects, texts and records are no tensors: they are
// passed over with a notice, or an error where they are all, and never unpickled.
#include <algorithm>
#include <charconv>

#include "base/memory.h"
#include "formats/formats.h"
#include "formats/hf_weights.h"
#include "formats/inflated_file.h"
#include "formats/strided_tensor.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr uint64_t kMaxHeader = 64 << 10;  // a dict of three members

struct NpyHeader {
  TensorSpec spec;
  bool big_endian = false, fortran = false;
  bool pair = false;  // complex128: real and imaginary part along a last dimension of 2
  uint64_t size = 0;  // of all before the data
};

std::optional<DType> type_of(std::string_view name) {
  static constexpr std::pair<std::string_view, DType> kTypes[] = {
      {"f2", DType::kF16}, {"f4", DType::kF32}, {"f8", DType::kF64}, {"i1", DType::kI8},  {"i2", DType::kI16}, {"i4", DType::kI32}, {"i8", DType::kI64},
      {"u1", DType::kU8},  {"u2", DType::kU16}, {"u4", DType::kU32}, {"u8", DType::kU64}, {"b1", DType::kBool}, {"c8", DType::kC64}};
  for (const auto& [n, t] : kTypes)
    if (n == name) return t;
  return std::nullopt;
}

// The dict, a literal of Python with exactly these members: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class DictReader {
 public:
  explicit DictReader(std::string_view text) : rest_(text) {}

  bool read(std::string* descr, bool* fortran, std::vector<int64_t>* shape) {
    int seen = 0;
    if (!take("{")) return false;
    while (!take("}")) {
      std::string key;
      if (!text(&key) || !take(":")) return false;
      if (key == "descr" && !(seen & 1)) seen |= 1, seen |= text(descr) ? 0 : 8;
      else if (key == "fortran_order" && !(seen & 2)) seen |= 2, *fortran = take("True"), seen |= *fortran || take("False") ? 0 : 8;
      else if (key == "shape" && !(seen & 4)) seen |= 4, seen |= dims(shape) ? 0 : 8;
      else return false;
      if (seen & 8) return false;
      if (!take(",") && !rest_.starts_with("}")) return false;
    }
    return seen == 7 && rest_.find_first_not_of(" \n") == std::string_view::npos;
  }

 private:
  void blank() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size())); }
  bool take(std::string_view word) {
    blank();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    blank();
    return true;
  }
  bool text(std::string* out) {
    blank();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) return false;
    const size_t end = rest_.find(rest_[0], 1);
    if (end == std::string_view::npos || rest_.substr(0, end).find('\\') != std::string_view::npos) return false;
    *out = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    blank();
    return true;
  }
  bool dims(std::vector<int64_t>* out) {
    if (!take("(")) return false;
    while (!take(")")) {
      int64_t n = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), n);
      if (error != std::errc() || n < 0 || out->size() > 64) return false;
      rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
      take("L");  // of Python 2
      out->push_back(n);
      if (!take(",") && !rest_.starts_with(")")) return false;
    }
    return true;
  }
  std::string_view rest_;
};

// From the first bytes of an .npy; `what` begins errors: "reading a.npz: its record w.npy". `odd`, where it is given, gets why a whole array is no tensor; else
// that is an error, too.
Result<NpyHeader> read_header(std::string_view head, const std::string& what, std::string* odd = nullptr) {
  if (!head.starts_with(kMagic) || head.size() < 12) return bad_input("{} does not begin as a .npy file", what);
  const int version = static_cast<unsigned char>(head[6]);
  if (version < 1 || version > 3) return bad_input("{} has version {} of the .npy format; known are 1, 2 and 3", what, version);
  const size_t wide = version == 1 ? 2 : 4;
  uint64_t size = 0;
  for (size_t i = wide; i-- > 0;) size = size << 8 | static_cast<unsigned char>(head[8 + i]);
  if (size > kMaxHeader) return bad_input("{} claims a header of {} bytes, more than {}; the file is damaged", what, size, kMaxHeader);
  NpyHeader h;
  h.size = 8 + wide + size;
  if (head.size() < h.size) return bad_input("{} ends within its header, of which it claims {} bytes; the file is truncated, copy it again", what, size);
  const auto no_tensor = [&](const std::string& why) -> Result<NpyHeader> {
    if (!odd) return bad_input("{} {}", what, why);
    *odd = why;
    return h;
  };
  std::string descr;
  std::vector<int64_t> shape;
  if (!DictReader(head.substr(8 + wide, size)).read(&descr, &h.fortran, &shape)) {
    if (head.substr(0, h.size).find("'descr': [") != std::string_view::npos) return no_tensor("is an array of records; save its fields one by one");
    return bad_input("{} has a header that is no dict of one descr, fortran_order and shape; the file is damaged", what);
  }
  std::string_view type = descr;
  if (!type.empty() && (type[0] == '<' || type[0] == '>' || type[0] == '|' || type[0] == '=')) h.big_endian = type[0] == '>', type.remove_prefix(1);
  if (type == "O") return no_tensor("is an array of Python objects, which only running its pickle could read; save numbers");
  h.pair = type == "c16";
  if (h.pair) type = "f8";
  const auto known = type_of(type);
  if (!known)
    return no_tensor(fmt::format("has the type '{}', which is no type of tensors here{}", descr.substr(0, 40), type == "V2" ? " (bfloat16, perhaps: save it as float32, or with safetensors)" : ""));
  if (h.pair) shape.push_back(2);
  if (shape.size() > static_cast<size_t>(kMaxDims)) return no_tensor(fmt::format("has {} dimensions; at most {} are supported", shape.size(), kMaxDims));
  h.spec.type = *known;
  uint64_t n = static_cast<uint64_t>(info(*known).bytes);
  for (const int64_t d : shape) {
    if (!checked_mul(n, std::max<uint64_t>(static_cast<uint64_t>(d), 1), &n) || n > static_cast<uint64_t>(INT64_MAX) / 16)
      return bad_input("{} has a shape that overflows (a dimension of {}); the file is damaged", what, d);
    h.spec.shape.push_back(d);
  }
  return h;
}

std::string pair_notice(const std::string& path, const std::string& name) {
  return fmt::format("{}: '{}' is complex128: kept as F64 with a last dimension of real and imaginary part", path, name);
}

NodePtr place(const std::shared_ptr<const SourceFile>& source, const std::string& name, uint64_t offset, const NpyHeader& h) {
  StridedView v;
  v.offset = offset;
  v.spec = h.spec;
  v.swap = h.big_endian;
  int64_t stride = 1;
  const int rank = h.spec.shape.rank, own = rank - (h.pair ? 1 : 0);  // the pair stands together in either order
  if (h.pair) v.strides[static_cast<size_t>(own)] = 1, stride = 2;
  for (int k = 0; k < own; ++k) {
    const int i = h.fortran ? k : own - 1 - k;
    v.strides[static_cast<size_t>(i)] = stride;
    stride *= std::max<int64_t>(h.spec.shape[i], 1);
  }
  return v.contiguous() ? make_file_tensor(source, name, offset, h.spec) : make_strided_tensor(source, name, v);
}

Result<std::string> head_of(const ReadFile& file, uint64_t offset, uint64_t size) {
  std::string head(std::min<uint64_t>(size, 128), '\0');
  INGOT_TRY(file.read(offset, {reinterpret_cast<std::byte*>(head.data()), head.size()}));
  uint64_t want = head.size();
  if (head.size() >= 12 && head.starts_with(kMagic)) {
    const auto at = [&](size_t i) { return static_cast<uint64_t>(static_cast<unsigned char>(head[i])); };
    want = head[6] == 1 ? 10 + (at(8) | at(9) << 8) : 12 + (at(8) | at(9) << 8 | at(10) << 16 | at(11) << 24);
  }
  if (const size_t have = head.size(); want > have && want <= std::min(size, kMaxHeader + 12)) {
    head.resize(want);
    INGOT_TRY(file.read(offset + have, {reinterpret_cast<std::byte*>(head.data()) + have, head.size() - have}));
  }
  return head;
}

Result<Artifact> open_zip(const Probe& p) {
  INGOT_ASSIGN(const ZipFile zip, ZipFile::open(p.file));
  auto source = std::make_shared<SourceFile>();
  source->file = p.file.file, source->path = p.path, source->header_hash = zip.directory_hash();
  Artifact a;
  std::vector<std::string> odd;  // what is passed over
  std::vector<const ZipEntry*> entries;
  for (const ZipEntry& e : zip.entries())
    if (e.name.ends_with(".npy")) entries.push_back(&e);
    else if (!e.name.ends_with('/')) odd.push_back(fmt::format("'{}' is no .npy file", e.name.substr(0, 200)));
  if (entries.empty()) return bad_input("reading {}: none of its {} records is a .npy file, so it is no archive of NumPy's", p.path, zip.entries().size());
  INGOT_ASSIGN(const auto offsets, zip.data_offsets(entries));
  std::vector<LazyTensor> tensors;
  for (size_t i = 0; i < entries.size(); ++i) {
    const ZipEntry& e = *entries[i];
    const std::string name = e.name.substr(0, e.name.size() - 4), what = fmt::format("reading {}: its record {}", p.path, e.name.substr(0, 200));
    const auto unpacked = [&] { return make_inflated_file(p.file.file, p.path, e, offsets[i]); };
    const uint64_t at = e.stored() ? offsets[i] : 0;
    std::shared_ptr<const ReadFile> file = p.file.file;
    if (!e.stored()) {
      INGOT_ASSIGN(file, unpacked());
    }
    INGOT_ASSIGN(const std::string head, head_of(*file, at, e.size));
    std::shared_ptr<const SourceFile> from = source;
    if (!e.stored()) {
      INGOT_ASSIGN(file, unpacked());  // anew: what unpacked the head stays with nobody
      from = std::make_shared<SourceFile>(SourceFile{file, p.path, source->header_hash});
    }
    std::string why;
    INGOT_ASSIGN(const NpyHeader h, read_header(head, what, entries.size() > 1 ? &why : nullptr));
    if (!why.empty()) {
      odd.push_back(fmt::format("'{}' {}", name.substr(0, 200), why));
      continue;
    }
    if (const uint64_t want = bytes_of(h.spec), have = e.size - h.size; want != have)
      return bad_input("{} has {} bytes of data, but {} {} needs {}; the file is damaged", what, have, info(h.spec.type).name, to_string(h.spec.shape), want);
    if (h.pair) a.notices.push_back(pair_notice(p.path, name));
    constexpr uint64_t kMostTurned = 64u << 20;  // each of its rows takes the unpacking of nearly all of it
    if (!e.stored() && h.fortran && h.spec.shape.rank > 1 && e.size > kMostTurned)
      return bad_input("{} is packed and in Fortran's order, {} bytes of it; more than {} would be unpacked over and over: save it with np.savez, or as np.ascontiguousarray()", what, e.size, kMostTurned);
    tensors.push_back({name, place(from, name, at + h.size, h)});
  }
  if (tensors.empty()) return bad_input("reading {}: none of its {} arrays is a tensor: {}", p.path, entries.size(), some_of(odd, 8));
  if (!odd.empty()) a.notices.push_back(fmt::format("{}: of its records {}: passed over", p.path, some_of(odd, 8)));
  a.path = p.path, a.format = "npz", a.naming = "hf";
  a.tensors = TensorList(std::move(tensors));
  return a;
}

}  // namespace

int probe_npz(const Probe& p) {
  if (p.directory) return 0;
  const std::string_view head = p.file.head;
  if (head.starts_with(kMagic)) return 100;
  if (!head.starts_with("PK\3\4") || head.size() < 30) return p.path.ends_with(".npz") && ZipFile::is_zip(head) ? 60 : 0;
  const size_t n = static_cast<unsigned char>(head[26]) | static_cast<size_t>(static_cast<unsigned char>(head[27])) << 8;
  return head.substr(30, n).ends_with(".npy") ? 95 : 0;
}

Result<Artifact> open_npz(Store&, const Probe& p, Faults*) {
  if (ZipFile::is_zip(p.file.head)) return open_zip(p);
  INGOT_ASSIGN(const std::string head, head_of(*p.file.file, 0, p.file.file->size()));
  INGOT_ASSIGN(const NpyHeader h, read_header(head, "reading " + p.path + ": it"));
  if (const uint64_t want = bytes_of(h.spec), have = p.file.file->size() - h.size; want != have)
    return bad_input("reading {}: it has {} bytes of data, but {} {} needs {}; the file is truncated or damaged, copy it again", p.path, have, info(h.spec.type).name,
                     to_string(h.spec.shape), want);
  auto source = std::make_shared<SourceFile>();
  source->file = p.file.file, source->path = p.path, source->header_hash = to_hex(hash128(as_bytes(std::string_view(head).substr(0, h.size))));
  const std::string file = file_name(p.path), name = file.ends_with(".npy") ? file.substr(0, file.size() - 4) : file;
  Artifact a;
  a.path = p.path, a.format = "npz", a.naming = "hf";
  a.tensors = {{name, place(source, name, h.size, h)}};
  if (h.pair) a.notices.push_back(pair_notice(p.path, name));
  return a;
}

}  // namespace ingot
