// torch.distributed.checkpoint, written as one rank would: `.metadata`, a pickle, and __0_N.distcp, in which each tensor and value is an archive of torch.save of
// its own; a large tensor is several of them, rows by rows, so that a reader loads it in parts. dcp.load reads it at any world size. The state that names stand for (state_tree.h) is stored as torch flattens it.
#include <algorithm>
#include <set>

#include "formats/dcp_metadata.h"
#include "formats/json.h"
#include "formats/output_formats.h"
#include "formats/outputs.h"
#include "formats/row_range.h"
#include "formats/state_tree.h"
#include "formats/torch_write.h"
#include "formats/zip_write.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr char kMetadataModule[] = "torch.distributed.checkpoint.metadata", kFileSystem[] = "torch.distributed.checkpoint.filesystem", kFolder[] = "archive";

// A place in the nested state: keys of dicts and positions in lists.
struct Part {
  std::string key;
  bool position = false;
};
using Path = std::vector<Part>;

constexpr uint64_t kMostChunk = 1u << 30, kLeastChunk = 64u << 10;

// An archive: rows of a tensor from `begin`, or a plain value.
struct Piece {
  TensorSpec spec;
  int64_t begin = 0;
  std::string file = {};
  uint64_t offset = 0, length = 0;
};

// What is stored: a tensor, or a plain value.
struct Stored {
  std::string key;
  Path path;
  const NamedSpec* tensor = nullptr;
  const TorchType* type = nullptr;
  const StateNode* value = nullptr;
  std::vector<Piece> pieces = {};
};

// A tensor of the checkpoint, of which the output has `rows.size()` tensors; each begins at a row.
struct Cut {
  std::string name;
  Shape shape;
  std::vector<int64_t> rows;
};

// Large tensors in parts of about `most` bytes. Names of one tensor stay so.
std::vector<Cut> cut_large(TensorList* tensors, uint64_t most) {
  std::vector<Cut> cuts;
  std::vector<LazyTensor> out;
  std::map<std::pair<NodePtr, int64_t>, NodePtr> made;
  for (const LazyTensor& t : *tensors) {
    const TensorSpec s = t.spec();
    const uint64_t bytes = bytes_of(s);
    const int64_t granule = s.shape.rank ? t.node->granularity()[0] : 1;
    int64_t rows = s.shape.rank ? s.shape[0] : 0;
    if (bytes > most && rows > granule) rows = std::max<int64_t>(1, static_cast<int64_t>(most / std::max<uint64_t>(1, bytes / static_cast<uint64_t>(rows))) / granule) * granule;
    Cut c{t.name, s.shape, {}};
    if (rows >= (s.shape.rank ? s.shape[0] : 0)) {
      c.rows = {0};
      out.push_back(t);
    } else {
      for (int64_t begin = 0; begin < s.shape[0]; begin += rows) {
        NodePtr& part = made[{t.node, begin}];
        if (!part) part = row_range(t.node, begin, std::min(rows, s.shape[0] - begin));
        c.rows.push_back(begin);
        out.push_back({fmt::format("{} from row {}", t.name, begin), part});
      }
    }
    cuts.push_back(std::move(c));
  }
  *tensors = std::move(out);
  return cuts;
}

// What torch flattens a state to: each tensor, each plain value, but lists in which there is neither a tensor nor a dict as one.
class Flattener {
 public:
  // Of tensors by their numbers, then values. `untold`: of the containers the kinds that their members' paths do not tell.
  static std::vector<Stored> run(const StateNode& root, size_t tensors, StateKinds* untold) {
    Flattener f;
    f.flat_.resize(tensors);
    f.walk(root, true);
    *untold = std::move(f.untold_);
    return std::move(f.flat_);
  }

 private:
  static bool is_value(const StateNode& n, bool root) {
    if (n.tensor >= 0) return false;
    return n.plain || (!root && (n.below.empty() || (n.by_position() && std::all_of(n.below.begin(), n.below.end(), [](const StateNode& b) { return is_value(b, false); }) &&
                                                     std::none_of(n.below.begin(), n.below.end(), [](const StateNode& b) { return b.plain && b.value.is_object(); }))));
  }
  void walk(const StateNode& n, bool root) {
    const bool value = is_value(n, root);
    if (value || n.tensor >= 0) {
      Stored s;
      s.path = path_;
      for (const Part& p : path_) s.key += (&p == &path_[0] ? "" : ".") + p.key;
      if (value) s.value = &n, flat_.push_back(std::move(s));
      else flat_[static_cast<size_t>(n.tensor)] = std::move(s);
      return;
    }
    std::string path;
    for (const Part& p : path_) path += (&p == &path_[0] ? "" : "/") + p.key;
    if (n.kind != dcp_kind(path, n.by_position())) untold_[path] = n.kind;
    for (const StateNode& b : n.below) {
      path_.push_back({b.key, n.by_position()});
      walk(b, false);
      path_.pop_back();
    }
  }

  Path path_;
  std::vector<Stored> flat_;
  StateKinds untold_;
};

class MetadataWriter {
 public:
  MetadataWriter(const std::vector<Stored>& all, const StateKinds& untold) : all_(all), untold_(untold) {}

  std::string write() {
    begin(kMetadataModule, "Metadata");
    w_.text("state_dict_metadata");
    w_.open_dict();
    for (const Stored& s : all_) w_.text(s.key), put_entry(s);
    w_.close_dict();
    w_.text("planner_data");
    w_.open_dict();
    for (const Stored& s : all_) w_.text(s.key), put_path(s.path);
    w_.close_dict();
    w_.text("storage_data");
    w_.open_dict();
    for (const Stored& s : all_) put_places(s);
    w_.close_dict();
    w_.text("storage_meta"), w_.none();
    w_.text("version"), w_.text("1.0.0");
    if (!untold_.empty()) w_.text(kKindsKey), w_.text(kinds_text(untold_));  // torch passes over it
    end();
    return w_.finish();
  }

 private:
  // An object of a dataclass and its attributes.
  void begin(const char* module, const char* name) {
    w_.global(module, name);
    w_.empty_tuple();
    w_.make();
    w_.open_dict();
  }
  void end() {
    w_.close_dict();
    w_.build();
  }
  // A call with one argument.
  template <class F>
  void called(const char* module, const char* name, F argument) {
    w_.global(module, name);
    w_.open_tuple();
    argument();
    w_.close_tuple();
    w_.call();
  }
  void put_size(const Shape& s) {
    called("torch", "Size", [&] {
      w_.open_tuple();
      for (int i = 0; i < s.rank; ++i) w_.integer(s[i]);
      w_.close_tuple();
    });
  }
  static Shape offsets(const Piece& p) {
    Shape s = p.spec.shape;
    for (int i = 0; i < s.rank; ++i) s[i] = i ? 0 : p.begin;
    return s;
  }

  void put_entry(const Stored& s) {
    if (!s.tensor) {
      begin(kMetadataModule, "BytesStorageMetadata");
      return end();
    }
    const Shape& shape = s.tensor->second.shape;
    begin(kMetadataModule, "TensorStorageMetadata");
    w_.text("properties");
    w_.global(kMetadataModule, "TensorProperties");
    w_.empty_tuple();
    w_.make();
    w_.open_tuple();  // its own __setstate__
    w_.global("torch", s.type->dtype);
    called("torch.serialization", "_get_layout", [&] { w_.text("torch.strided"); });
    w_.boolean(false);  // requires_grad
    called(kMetadataModule, "_MEM_FORMAT_ENCODING", [&] { w_.integer(0); });
    w_.boolean(false);  // pin_memory
    w_.close_tuple();
    w_.build();
    w_.text("size"), put_size(shape);
    w_.text("chunks");
    w_.open_list();
    for (const Piece& p : s.pieces) {
      begin(kMetadataModule, "ChunkStorageMetadata");
      w_.text("offsets"), put_size(offsets(p));
      w_.text("sizes"), put_size(p.spec.shape);
      end();
    }
    w_.close_list();
    end();
  }

  void put_path(const Path& path) {
    w_.open_tuple();
    for (const Part& p : path) p.position ? w_.integer(std::stoll(p.key)) : w_.text(p.key);
    w_.close_tuple();
  }

  void put_places(const Stored& s) {
    for (size_t k = 0; k < s.pieces.size(); ++k) {
      const Piece& p = s.pieces[k];
      begin(kMetadataModule, "MetadataIndex");
      w_.text("fqn"), w_.text(s.key);
      w_.text("offset");
      s.tensor ? put_size(offsets(p)) : w_.none();
      w_.text("index");
      s.tensor ? w_.integer(static_cast<int64_t>(k)) : w_.none();
      end();
      begin(kFileSystem, "_StorageInfo");
      w_.text("relative_path"), w_.text(p.file);
      w_.text("offset"), w_.integer(static_cast<int64_t>(p.offset));
      w_.text("length"), w_.integer(static_cast<int64_t>(p.length));
      w_.text("transform_descriptors"), w_.none();
      end();
    }
  }

  const std::vector<Stored>& all_;
  const StateKinds& untold_;
  PickleWriter w_;
};

using Values = std::vector<std::pair<std::string, OrderedJson>>;

// An archive at the end of the file; where the data of the tensor in it begin.
Result<uint64_t> put_archive(FileLayout* file, const Stored& s, Piece* p) {
  PickleWriter w;
  if (s.tensor) put_torch_tensor(&w, p->spec, *s.type, 0);
  else INGOT_TRY(put_state(&w, *s.value, [](size_t) { return Status(); }));
  std::string pickle = w.finish();
  const Hash128 id = hash128(as_bytes((p->begin ? fmt::format("{} {}", s.key, p->begin) : s.key) + pickle));
  p->file = file->name, p->offset = file->size;
  ZipLayout zip(file, file->size, 64);
  begin_torch_archive(&zip, kFolder, std::move(pickle));
  const uint64_t data = s.tensor ? zip.reserve(fmt::format("{}/data/0", kFolder), bytes_of(p->spec)) : 0;
  end_torch_archive(&zip, kFolder, fmt::format("{:020}{:020}", id.hi, id.lo));
  p->length = file->size - p->offset;
  return data;
}

// `cuts`: the tensors that `specs` are, in order, or parts of.
Result<Layout> layout_dcp(const std::vector<NamedSpec>& specs, const std::vector<Cut>& cuts, const Values& values, const StateKinds& kinds, const std::map<std::string, std::string>& files,
                          uint64_t max_shard) {
  StateTree state(kinds, !values.empty(), "writing a torch checkpoint");
  for (size_t i = 0; i < cuts.size(); ++i) INGOT_TRY(state.add(cuts[i].name, static_cast<int64_t>(i)));
  for (const auto& [name, value] : values) INGOT_TRY(state.add(name, value));
  StateKinds untold;
  std::vector<Stored> all = Flattener::run(state.finish(), cuts.size(), &untold);
  std::set<std::string> keys;
  for (const Stored& s : all)
    if (!keys.insert(s.key).second) return bad_input("writing a torch checkpoint: two of its names would be stored as '{}'", s.key);
  std::vector<NamedSpec> wholes;
  Layout l;
  uint64_t in_file = 0;
  const auto next = [&](uint64_t size) -> FileLayout* {
    if (l.files.empty() || (in_file > 0 && in_file + size > max_shard)) {
      in_file = 0;
      l.files.push_back({fmt::format("__0_{}.distcp", l.files.size()), 0, {}, {}});
    }
    in_file += size;
    return &l.files.back();
  };
  wholes.reserve(cuts.size());
  for (size_t i = 0, at = 0; i < all.size(); ++i) {
    Stored& s = all[i];
    if (i >= cuts.size()) {
      if (auto put = put_archive(next(0), s, &s.pieces.emplace_back()); !put.ok()) return put.take_error();
      continue;
    }
    s.tensor = &wholes.emplace_back(cuts[i].name, TensorSpec{specs[at].second.type, cuts[i].shape});
    INGOT_ASSIGN(s.type, torch_type_to_write(*s.tensor));
    for (const int64_t begin : cuts[i].rows) {
      const TensorSpec& part = specs[at++].second;
      FileLayout* file = next(bytes_of(part));
      INGOT_ASSIGN(const uint64_t data, put_archive(file, s, &s.pieces.emplace_back(Piece{part, begin})));
      l.tensors.push_back({static_cast<int>(l.files.size()) - 1, data});
    }
  }
  std::map<std::string, std::string> side = files;
  side[kDcpMetadata] = MetadataWriter(all, untold).write();
  for (auto& [name, bytes] : side) {
    FileLayout f;
    f.name = name, f.size = bytes.size();
    if (!bytes.empty()) f.extents.push_back({0, std::move(bytes)});
    l.files.push_back(std::move(f));
  }
  return l;
}

bool dcp_file(const std::string& name) { return name == kDcpMetadata || (name.starts_with("__") && name.ends_with(".distcp")); }

Output dcp_output(Artifact artifact, Store& store, const std::string& path, uint64_t max_shard) {
  Output o;
  Result<Values> values = Values();
  for (const auto& [name, text] : artifact.values) {
    auto value = parse_json_ordered(text, "writing a torch checkpoint: the value " + name);
    if (value.ok()) values->emplace_back(name, *std::move(value));
    else values = value.take_error();
    if (!values.ok()) break;
  }
  std::vector<Cut> cuts = cut_large(&artifact.tensors, std::clamp(max_shard, kLeastChunk, kMostChunk));
  o.layout = [cuts = std::move(cuts), values = std::move(values), kinds = kinds_of(artifact), files = artifact.files, max_shard](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    if (!values.ok()) return values.error();
    if (!kinds.ok()) return kinds.error();
    return layout_dcp(specs, cuts, *values, *kinds, side_files_of(files, specs), max_shard);
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  o.directory = true;
  o.older_name = dcp_file;
  return o;
}

}  // namespace

extern const OutputFormat kOutput_dcp = {"dcp", "", "torch's distributed checkpoints: a directory that dcp.load reads", nullptr, dcp_output, false};

}  // namespace ingot
