// The importance matrices that llama-imatrix wrote before it wrote GGUF (a .dat file): for each weight the name, how many calls were counted, and a sum for
// each of its input columns; then how many chunks were read, and of which text.
#include <algorithm>
#include <unordered_set>

#include "base/utf8.h"
#include "formats/file_tensor.h"
#include "formats/formats.h"
#include "formats/json.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr int32_t kMaxName = 1024, kMaxDataset = 65536;

bool is_name(std::string_view s) {
  return s.ends_with(".weight") && valid_utf8(s) && std::none_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x21 || c == 0x7f; });
}

// Reads in order; what it read is hashed, values are passed over.
class Reader {
 public:
  Reader(const ReadFile& file, const std::string& path) : file_(file), path_(path) {}

  Status number(int32_t* out) { return bytes(out, sizeof *out); }
  Status text(int32_t limit, const char* what, std::string* out) {
    int32_t n = 0;
    INGOT_TRY(number(&n));
    if (n < 0 || n > limit) return bad_input("reading {}: {} is {} bytes long, expected at most {}; the file is damaged", path_, what, n, limit);
    out->resize(static_cast<size_t>(n));
    return bytes(out->data(), out->size());
  }
  Status skip(uint64_t n) {
    INGOT_TRY(want(n));
    pos_ += n;
    return {};
  }
  uint64_t pos() const { return pos_; }
  uint64_t left() const { return file_.size() - pos_; }
  std::string hash() { return to_hex(hash_.digest()); }

 private:
  Status want(uint64_t n) const {
    if (n <= left()) return {};
    return bad_input("reading {}: it ends at byte {} where {} more were expected at byte {}; it is truncated, copy it again", path_, file_.size(), n, pos_);
  }
  Status bytes(void* out, size_t n) {
    INGOT_TRY(want(n));
    const MutByteView view(static_cast<std::byte*>(out), n);
    INGOT_TRY(file_.read(pos_, view));
    hash_.update(view);
    pos_ += n;
    return {};
  }
  const ReadFile& file_;
  const std::string& path_;
  uint64_t pos_ = 0;
  Hasher128 hash_;
};

}  // namespace

// It has no magic: a count, and the name of a weight.
int probe_imatrix(const Probe& p) {
  if (p.directory || p.file.head.size() < 8) return 0;
  int32_t size = 0;
  std::memcpy(&size, p.file.head.data() + 4, sizeof size);
  if (size < 1 || size > kMaxName || p.file.head.size() < 8 + static_cast<size_t>(size)) return 0;
  return is_name(std::string_view(p.file.head).substr(8, static_cast<size_t>(size))) ? 60 : 0;
}

Result<Artifact> open_imatrix(Store&, const Probe& p, Faults*) {
  Artifact a;
  a.path = p.path;
  a.format = a.naming = "imatrix";
  auto source = std::make_shared<SourceFile>();
  source->path = p.path;
  source->file = p.file.file;
  Reader r(*source->file, p.path);
  int32_t entries = 0;
  INGOT_TRY(r.number(&entries));
  // The shortest entry: three numbers and a name of one byte.
  if (entries < 1 || static_cast<uint64_t>(entries) > r.left() / 13)
    return bad_input("reading {}: it claims {} entries, more than its {} bytes can hold; it is truncated or damaged", p.path, entries, source->file->size());
  struct Entry {
    std::string name;
    uint64_t at;
    int64_t values;
  };
  std::vector<Entry> found;
  std::unordered_set<std::string> names;
  OrderedJson calls = OrderedJson::array();  // beside the tensors
  for (int32_t i = 0; i < entries; ++i) {
    Entry e;
    int32_t count = 0, values = 0;
    INGOT_TRY(r.text(kMaxName, "a name", &e.name));
    if (!is_name(e.name)) return bad_input("reading {}: entry {} has a name that is that of no weight; the file is damaged", p.path, i);
    if (!names.insert(e.name).second) return bad_input("reading {}: the entry '{}' stands twice", p.path, e.name);
    INGOT_TRY(r.number(&count));
    INGOT_TRY(r.number(&values));
    if (values < 1 || static_cast<uint64_t>(values) > r.left() / sizeof(float))
      return bad_input("reading {}: the entry '{}' claims {} values, but {} bytes are left; the file is truncated or damaged", p.path, e.name, values, r.left());
    e.at = r.pos(), e.values = values;
    calls.push_back(count);
    INGOT_TRY(r.skip(static_cast<uint64_t>(values) * sizeof(float)));
    found.push_back(std::move(e));
  }
  a.values["calls"] = calls.dump();
  if (r.left() > 0) {  // older files end here
    int32_t chunks = 0;
    std::string dataset;
    INGOT_TRY(r.number(&chunks));
    a.values["chunks"] = std::to_string(chunks);
    if (r.left() > 0) {
      INGOT_TRY(r.text(kMaxDataset, "the dataset's name", &dataset));
      a.values["dataset"] = OrderedJson(dataset).dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    }
  }
  source->header_hash = r.hash();
  for (Entry& e : found) {
    NodePtr node = make_file_tensor(source, e.name, e.at, {DType::kF32, {e.values}});
    a.tensors.push_back({std::move(e.name), std::move(node)});
  }
  return a;
}

}  // namespace ingot
