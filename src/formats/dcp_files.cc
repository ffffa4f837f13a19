#include "formats/dcp_files.h"

#include <algorithm>
#include <mutex>

#include "base/memory.h"
#include "formats/dcp_shards.h"
#include "formats/file_pieces.h"
#include "formats/file_ranges.h"
#include "formats/hf_weights.h"
#include "formats/pickle_values.h"
#include "formats/torch_archive.h"

namespace ingot {
namespace {

constexpr uint64_t kHead = 4 << 10;          // torch puts all but the data and the directory there
constexpr uint64_t kTail = 72 << 10;         // what an archive's end is looked for in
constexpr uint64_t kMaxValue = 16u << 20;    // a plain value of more is passed over
constexpr uint64_t kReadTogether = 4u << 20; // values

std::string place_text(const std::string& path, const std::string& key, const DcpPlace& at) {
  return fmt::format("{} ('{}', {} bytes at byte {})", path, key.substr(0, 200), at.length, at.offset);
}

// A chunk whose archive is opened when it is first read.
class StoredChunk final : public Source, public InFiles {
 public:
  StoredChunk(std::shared_ptr<const ReadFile> file, std::string path, std::string key, const TensorSpec& spec, const DcpPlace& place)
      : file_(std::move(file)), path_(std::move(path)), key_(std::move(key)), spec_(spec), place_(place) {}
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override {
    return fmt::format("dcp v1:{}@{}+{} {}", file_->identity(), place_.offset, place_.length, to_string(spec_.shape));
  }
  const ReadFile* file() const override { return file_.get(); }
  uint64_t workspace(const Region& region) const override {
    int64_t first = 0;
    const uint64_t span = std::max<uint64_t>(256 << 10, 2 * file_->capabilities().request_bytes);  // as FileTensor and StridedTensor have it
    return kTail + (contiguous_in(Region::all(spec_.shape), region, &first) ? 0 : std::min(span, bytes_of(spec_)));
  }
  void trace(Origin* o) const override { o->tensor = key_, o->file = path_; }

  Result<uint64_t> read(const Region& region, MutByteView out) const override {
    if (auto s = opened(); !s.ok()) return s.take_error();
    return static_cast<const Source&>(**data_).read(region, out);
  }
  bool ranges(std::vector<FileRange>* out) const override { return opened().ok() && file_ranges(**data_, out); }

 private:
  Status opened() const {
    std::call_once(once_, [&] { data_ = within_memory("reading " + path_, [&] { return open(); }); });
    return data_.ok() ? Status() : Status(data_.error());
  }
  Result<NodePtr> open() const {
    OpenedFile part;
    part.path = place_text(path_, key_, place_);
    part.file = make_pieces_file(part.path, {{file_, place_.offset, place_.length}});
    // What is small is there with its end.
    part.head.resize(std::min(place_.length, place_.length <= kTail ? kTail : kHead));
    INGOT_TRY(part.file->read(0, {reinterpret_cast<std::byte*>(part.head.data()), part.head.size()}));
    INGOT_ASSIGN(TorchArchive archive, open_torch_archive(part));
    const PickleValue& root = archive.pickle.root();
    if (!TorchTensors::is_tensor(root)) return bad_input("reading {}: no tensor lies there; the file is of another save, or damaged", part.path);
    INGOT_ASSIGN(NodePtr node, archive.tensors.tensor(key_, root));
    if (!node) return bad_input("reading {}: the chunk holds no data: {}", part.path, archive.tensors.notices().empty() ? "" : archive.tensors.notices()[0]);
    if (node->spec() != spec_)
      return bad_input("reading {}: a chunk of {} {} lies there, by the metadata it is {} {}; the file is of another save", part.path,
                       info(node->spec().type).name,
                       to_string(node->spec().shape), info(spec_.type).name, to_string(spec_.shape));
    if (!dynamic_cast<const Source*>(node.get())) return bad_input("reading {}: the chunk is sparse; save its to_dense()", part.path);
    return node;
  }

  std::shared_ptr<const ReadFile> file_;
  std::string path_, key_;
  TensorSpec spec_;
  DcpPlace place_;
  mutable std::once_flag once_;
  mutable Result<NodePtr> data_ = NodePtr();
};

std::string offsets_text(const Region& r) { return to_string(r.begin); }

}  // namespace

Result<DcpFiles::File> DcpFiles::open_one(Store& store, const std::string& path) {
  INGOT_ASSIGN(auto opened, store.open(path));
  File f;
  f.file = std::move(opened), f.path = path;
  char head[9] = {};
  const uint64_t n = std::min<uint64_t>(sizeof head, f.file->size());
  if (n) INGOT_TRY(f.file->read(0, {reinterpret_cast<std::byte*>(head), n}));
  if (n < sizeof head || head[8] != '{' || std::string_view(head, 4) == "PK\3\4") return f;
  // FileSystemWriter(serialization_format=SAFETENSORS): the offsets of .metadata mean nothing then.
  f.archives = false;
  INGOT_ASSIGN(const OpenedFile whole, open_head(store, path));
  INGOT_ASSIGN(SafetensorsFile rows, read_safetensors(whole));
  INGOT_ASSIGN(const auto offsets, dcp_saved_offsets(rows, path));
  for (size_t i = 0; i < rows.tensors.size(); ++i) f.rows[{rows.tensors[i].name, to_string(offsets[i])}] = rows.tensors[i].node;
  return f;
}

Result<DcpFiles> DcpFiles::open(Store& store, const std::string& directory, const DcpMetadata& m) {
  DcpFiles out;
  out.hash_ = m.hash;
  std::vector<Result<File>> opened(m.files.size(), Result<File>(File()));
  Calls calls;
  for (size_t i = 0; i < m.files.size(); ++i) calls.push_back([&, i] { opened[i] = open_one(store, join_path(directory, m.files[i])); });
  INGOT_TRY(call_together(store, "opening " + directory, calls));
  std::vector<std::string> absent;
  std::optional<Error> first;
  for (size_t i = 0; i < opened.size(); ++i) {
    if (opened[i].ok()) continue;
    INGOT_ASSIGN(const auto there, store.stat(join_path(directory, m.files[i])));
    if (!there) absent.push_back(m.files[i]);
    else if (!first) first = opened[i].error();
  }
  std::vector<FilePiece> all;
  for (auto& f : opened) {
    if (!f.ok()) continue;
    all.push_back({f->file, 0, f->file->size()});
    out.files_.push_back(*std::move(f));
  }
  if (!absent.empty()) {
    std::string sample;
    size_t lost = 0;
    for (const DcpEntry& e : m.entries) {
      const auto gone = [&](const DcpPlace& p) { return std::find(absent.begin(), absent.end(), m.files[p.file]) != absent.end(); };
      if (e.tensor ? std::any_of(e.chunks.begin(), e.chunks.end(), [&](const DcpChunk& c) { return gone(c.place); }) : gone(e.place))
        if (!lost++) sample = e.key;
    }
    return bad_input("opening {}: of the {} files that its {} names {} {} missing: {}; parts of '{}'{} lie there. Copy the files of all ranks",
                     directory, m.files.size(),
                     kDcpMetadata, absent.size(), absent.size() == 1 ? "is" : "are", some_of(absent), sample.substr(0, 200),
                         lost > 1 ? fmt::format(" and {} others", lost - 1) : "");
  }
  if (first) return *first;
  out.all_ = make_pieces_file(directory, std::move(all));
  for (const DcpEntry& e : m.entries) {
    const auto check = [&](const DcpPlace& p) -> Status {
      const File& f = out.files_[p.file];
      if (uint64_t end = 0; f.archives && (!checked_add(p.offset, p.length, &end) || end > f.file->size()))
        return bad_input("opening {}: '{}' has {} bytes at byte {} of {}, which has {}; the file is truncated, or of another save: copy it again",
                         directory, e.key.substr(0, 200),
                         p.length, p.offset, m.files[p.file], f.file->size());
      return {};
    };
    if (!e.tensor) INGOT_TRY(check(e.place));
    for (const DcpChunk& c : e.chunks) INGOT_TRY(check(c.place));
  }
  return out;
}

Result<std::shared_ptr<const Source>> DcpFiles::chunk(const DcpEntry& e, const DcpChunk& c) const {
  const File& f = files_[c.place.file];
  const TensorSpec spec{e.spec.type, c.region.extent};
  if (f.archives) return std::shared_ptr<const Source>(std::make_shared<StoredChunk>(f.file, f.path, e.key, spec, c.place));
  const auto it = f.rows.find({e.key, offsets_text(c.region)});
  if (it == f.rows.end())
    return bad_input("opening {}: the chunk {} of '{}', which should lie there, does not; the file is of another save", f.path, to_string(c.region), e.key);
  if (it->second->spec() != spec)
    return bad_input("opening {}: the chunk at {} of '{}' is {} {}, by the metadata {} {}; the file is of another save", f.path, offsets_text(c.region), e.key,
                     info(it->second->spec().type).name, to_string(it->second->spec().shape), info(spec.type).name, to_string(spec.shape));
  return std::dynamic_pointer_cast<const Source>(it->second);
}

Status DcpFiles::values(const std::vector<std::pair<const DcpEntry*, std::string>>& entries, Artifact* a, StateKinds* kinds) const {
  std::vector<size_t> order(entries.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto place = [&](size_t i) -> const DcpPlace& { return entries[i].first->place; };
  std::sort(order.begin(), order.end(), [&](size_t x, size_t y) {
    return std::tie(place(x).file, place(x).offset) < std::tie(place(y).file, place(y).offset);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const DcpPlace &a = place(order[i - 1]), &b = place(order[i]);
    if (files_[a.file].archives && a.file == b.file && b.offset < a.offset + a.length)
      return bad_input("opening {}: '{}' and '{}' lie in the same bytes; the file is damaged", files_[a.file].path, entries[order[i - 1]].first->key,
                       entries[order[i]].first->key);
  }
  size_t large = 0;
  std::string sample;
  for (size_t i = 0; i < order.size();) {
    const DcpPlace& first = place(order[i]);
    const File& f = files_[first.file];
    if (!f.archives || first.length > kMaxValue) {
      if (!large++) sample = entries[order[i]].second;
      ++i;
      continue;
    }
    uint64_t end = first.offset + first.length;
    size_t n = i + 1;
    for (; n < order.size() && place(order[n]).file == first.file && place(order[n]).offset <= end + f.file->capabilities().request_bytes; ++n) {
      const uint64_t to = std::max(end, place(order[n]).offset + place(order[n]).length);
      if (to - first.offset > kReadTogether) break;
      end = to;
    }
    std::string bytes(end - first.offset, '\0');
    INGOT_TRY(f.file->read(first.offset, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()}));
    for (; i < n; ++i) {
      const auto& [entry, name] = entries[order[i]];
      OpenedFile part;
      part.path = place_text(f.path, entry->key, entry->place);
      part.file = make_pieces_file(part.path, {{f.file, entry->place.offset, entry->place.length}});
      part.head = bytes.substr(entry->place.offset - first.offset, entry->place.length);
      INGOT_ASSIGN(TorchArchive archive, open_torch_archive(part));
      const auto take = [&](const std::string& at, const PickleValue& v) -> Result<bool> {
        const bool tensor = TorchTensors::is_tensor(v);
        INGOT_ASSIGN(NodePtr node, tensor ? archive.tensors.tensor(at, v) : archive.tensors.array(at, v));
        const bool taken = tensor || node;
        if (node) a->tensors.push_back({at, std::move(node)});
        return taken;
      };
      INGOT_TRY(flatten_pickle(archive.pickle, archive.pickle.root(), name, "reading " + part.path, take, &a->values, kinds, &a->notices));
      for (auto& notice : archive.tensors.notices()) a->notices.push_back(std::move(notice));
    }
  }
  if (large) a->notices.push_back(fmt::format("{}: '{}'{} passed over: {} more than {} bytes, or lie{} in a safetensors file", a->path, sample,
                                              large == 1 ? " is" : fmt::format(" and {} others are", large - 1), large == 1 ? "it has" : "they have",
                                                  kMaxValue, large == 1 ? "s" : ""));
  return {};
}

}  // namespace ingot
