// torch.distributed.checkpoint, written as one rank would: `.metadata`, a pickle, and __0_N.distcp, in which each tensor and value is an archive of torch.save of
// its own. dcp.load reads it at any world size. Names with slashes are the places of a nested state ("model/emb.weight"), stored as torch flattens them.
#include <algorithm>
#include <set>

#include "formats/dcp_metadata.h"
#include "formats/json.h"
#include "formats/output_formats.h"
#include "formats/outputs.h"
#include "formats/torch_write.h"
#include "formats/zip_write.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr char kMetadataModule[] = "torch.distributed.checkpoint.metadata", kFileSystem[] = "torch.distributed.checkpoint.filesystem", kFolder[] = "archive";

std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts;
  for (size_t from = 0; from <= name.size();) {
    const size_t slash = std::min(name.find('/', from), name.size());
    parts.push_back(name.substr(from, slash - from));
    from = slash + 1;
  }
  return parts;
}

// What is stored: a tensor, or a plain value.
struct Stored {
  std::string key;
  std::vector<std::string> path;
  const NamedSpec* tensor = nullptr;
  const TorchType* type = nullptr;
  std::string file = {};
  uint64_t offset = 0, length = 0;
};

// Keys that are the positions of a list: 0, 1, .. in turn, but for the parameters of a torch optimizer, which are numbered in a dict.
class Positions {
 public:
  void add(const std::vector<std::string>& path) {
    std::string at;
    for (const auto& part : path) {
      Children& c = below_[at];
      if (c.seen.insert(part).second) c.list = c.list && part == std::to_string(c.seen.size() - 1);
      at += (at.empty() ? "" : "/") + part;
    }
  }
  bool is_list(const std::string& at) const { return !at.empty() && at != "state" && !at.ends_with("/state") && below_.at(at).list; }

 private:
  struct Children {
    std::set<std::string> seen;
    bool list = true;
  };
  std::map<std::string, Children> below_;
};

class MetadataWriter {
 public:
  explicit MetadataWriter(const std::vector<Stored>& all) : all_(all) {}

  std::string write() {
    for (const Stored& s : all_) positions_.add(s.path);
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
    for (const Stored& s : all_) put_place(s);
    w_.close_dict();
    w_.text("storage_meta"), w_.none();
    w_.text("version"), w_.text("1.0.0");
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
  static Shape zeros(Shape s) {
    for (int i = 0; i < s.rank; ++i) s[i] = 0;
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
    begin(kMetadataModule, "ChunkStorageMetadata");
    w_.text("offsets"), put_size(zeros(shape));
    w_.text("sizes"), put_size(shape);
    end();
    w_.close_list();
    end();
  }

  void put_path(const std::vector<std::string>& path) {
    w_.open_tuple();
    std::string at;
    for (const auto& part : path) {
      positions_.is_list(at) ? w_.integer(std::stoll(part)) : w_.text(part);
      at += (at.empty() ? "" : "/") + part;
    }
    w_.close_tuple();
  }

  void put_place(const Stored& s) {
    begin(kMetadataModule, "MetadataIndex");
    w_.text("fqn"), w_.text(s.key);
    w_.text("offset");
    s.tensor ? put_size(zeros(s.tensor->second.shape)) : w_.none();
    w_.text("index");
    s.tensor ? w_.integer(0) : w_.none();
    end();
    begin(kFileSystem, "_StorageInfo");
    w_.text("relative_path"), w_.text(s.file);
    w_.text("offset"), w_.integer(static_cast<int64_t>(s.offset));
    w_.text("length"), w_.integer(static_cast<int64_t>(s.length));
    w_.text("transform_descriptors"), w_.none();
    end();
  }

  const std::vector<Stored>& all_;
  PickleWriter w_;
  Positions positions_;
};

using Values = std::vector<std::pair<std::string, OrderedJson>>;

// An archive at the end of the file; where the data of the tensor in it begin.
uint64_t put_archive(FileLayout* file, Stored* s, const OrderedJson* value) {
  PickleWriter w;
  s->tensor ? put_torch_tensor(&w, s->tensor->second, *s->type, 0) : w.json(*value);
  std::string pickle = w.finish();
  const Hash128 id = hash128(as_bytes(s->key + pickle));
  s->file = file->name, s->offset = file->size;
  ZipLayout zip(file, file->size, 64);
  begin_torch_archive(&zip, kFolder, std::move(pickle));
  const uint64_t data = s->tensor ? zip.reserve(fmt::format("{}/data/0", kFolder), bytes_of(s->tensor->second)) : 0;
  end_torch_archive(&zip, kFolder, fmt::format("{:020}{:020}", id.hi, id.lo));
  s->length = file->size - s->offset;
  return data;
}

Result<Layout> layout_dcp(const std::vector<NamedSpec>& specs, const Values& values, const std::map<std::string, std::string>& files, uint64_t max_shard) {
  std::vector<Stored> all;
  std::set<std::string> keys;
  const auto add = [&](const std::string& name) -> Status {
    Stored s;
    s.path = parts_of(name);
    s.key = fmt::format("{}", fmt::join(s.path, "."));
    if (!keys.insert(s.key).second) return bad_input("writing a torch checkpoint: '{}' would be stored as '{}', as another is", name, s.key);
    all.push_back(std::move(s));
    return {};
  };
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
  for (const auto& spec : specs) {
    INGOT_TRY(add(spec.first));
    all.back().tensor = &spec;
    INGOT_ASSIGN(all.back().type, torch_type_to_write(spec));
    FileLayout* file = next(bytes_of(spec.second));
    l.tensors.push_back({static_cast<int>(l.files.size()) - 1, 0});
    l.tensors.back().offset = put_archive(file, &all.back(), nullptr);
  }
  for (const auto& [name, value] : values) {
    INGOT_TRY(add(name));
    put_archive(next(0), &all.back(), &value);
  }
  std::map<std::string, std::string> side = files;
  side[kDcpMetadata] = MetadataWriter(all).write();
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
  o.layout = [values = std::move(values), files = artifact.files, max_shard](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    if (!values.ok()) return values.error();
    return layout_dcp(specs, *values, side_files_of(files, specs), max_shard);
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
