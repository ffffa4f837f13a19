#include "formats/safetensors.h"

#include <algorithm>
#include <unordered_map>

#include "formats/formats.h"
#include "formats/json.h"
#include "formats/safetensors_header.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference reader's own limit
constexpr uint64_t kMaxSideFile = 128u << 20;
constexpr uint64_t kMaxIndex = 32u << 20;  // its JSON takes 20 times as much in memory; a real one has 10 MB at most

uint64_t le64(const std::string& s) {
  uint64_t v = 0;
  for (int i = 7; i >= 0; --i) v = v << 8 | static_cast<unsigned char>(s[static_cast<size_t>(i)]);
  return v;
}

std::string known_dtypes() {
  std::string s;
#define TYPE(e, name, block, bytes, ggml, st) \
  if (*st) s += (s.empty() ? "" : " ") + std::string(st);
#include "tensor/types.def"
#undef TYPE
  return s;
}

// Type and shape of one row, and the bytes they take.
Result<TensorSpec> check_row(const SafetensorsRow& r, const std::string& path) {
  if (!r.has_dtype || !r.has_shape || !r.has_offsets)
    return bad_input("reading {}: tensor '{}' has no {}; the header is damaged", path, r.name,
                     !r.has_dtype ? "dtype" : !r.has_shape ? "shape" : "data_offsets");
  const auto type = dtype_by_st_name(r.dtype);
  if (!type)
    return bad_input("reading {}: tensor '{}' has the dtype '{}', which ingot does not know (known: {})", path, r.name,
                     r.dtype.substr(0, 40), known_dtypes());
  if (r.shape.size() > static_cast<size_t>(kMaxDims))
    return bad_input("reading {}: tensor '{}' has {} dimensions; at most {} are supported", path, r.name,
                     r.shape.size(), kMaxDims);
  TensorSpec spec{*type, {}};
  uint64_t n = 1;
  for (uint64_t d : r.shape) {
    // A zero must not hide an overflow: whoever multiplies in another order would meet it.
    if (!checked_mul(n, std::max<uint64_t>(d, 1), &n) || n > static_cast<uint64_t>(INT64_MAX) / 16)
      return bad_input("reading {}: the shape of tensor '{}' overflows (a dimension of {}); the header is damaged",
                       path, r.name, d);
    spec.shape.push_back(static_cast<int64_t>(d));
  }
  if (spec.shape.back() % info(*type).block != 0)
    return bad_input("reading {}: tensor '{}' is {} with rows of {} elements, which do not fill whole bytes", path,
                     r.name, r.dtype, spec.shape.back());
  return spec;
}

struct Placed {
  const SafetensorsRow* row;
  TensorSpec spec;
};

// The data must be covered exactly once, from 0 to the end.
Status check_offsets(std::vector<Placed>* rows, uint64_t data, const std::string& path) {
  for (const auto& p : *rows) {
    const auto& o = p.row->offsets;
    if (o.size() != 2 || o[0] > o[1])
      return bad_input("reading {}: the data_offsets of tensor '{}' are not [begin, end]; the header is damaged", path,
                       p.row->name);
    if (o[1] > data)
      return bad_input(
          "reading {}: tensor '{}' ends at byte {} of the data, but the file holds only {} bytes of it; the file is "
          "truncated or its header damaged, copy it again",
          path, p.row->name, o[1], data);
    if (o[1] - o[0] != bytes_of(p.spec))
      return bad_input("reading {}: tensor '{}' has {} bytes in the file, but {} {} needs {}; the header is damaged",
                       path, p.row->name, o[1] - o[0], info(p.spec.type).name, to_string(p.spec.shape),
                       bytes_of(p.spec));
  }
  std::sort(rows->begin(), rows->end(), [](const Placed& a, const Placed& b) {
    if (a.row->offsets != b.row->offsets) return a.row->offsets < b.row->offsets;
    return a.row->name < b.row->name;
  });
  uint64_t at = 0;
  const SafetensorsRow* before = nullptr;
  for (const auto& p : *rows) {
    if (p.row->offsets[0] < at)
      return bad_input("reading {}: tensors '{}' and '{}' overlap (bytes {} to {}); the header is damaged", path,
                       before->name, p.row->name, p.row->offsets[0], at);
    if (p.row->offsets[0] > at)
      return bad_input("reading {}: bytes {} to {} of the data, before tensor '{}', belong to no tensor", path, at,
                       p.row->offsets[0], p.row->name);
    at = p.row->offsets[1];
    before = p.row;
  }
  if (at != data)
    return bad_input(
        "reading {}: the tensors end at byte {} of the data, but the file holds {} bytes of it; bytes were added or "
        "the header is damaged",
        path, at, data);
  return {};
}

const std::vector<std::string>& model_side_files() {
  static const std::vector<std::string> names = {
      "config.json",           "generation_config.json",  "tokenizer.json",
      "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
      "chat_template.jinja",   "chat_template.json",      "tokenizer.model",
      "merges.txt",            "vocab.json",              "vocab.txt",
      "tekken.json",           "preprocessor_config.json", "processor_config.json"};
  return names;
}

// {"weight_map": {tensor: file}}; the file must be a plain name, so that an index cannot point outside.
Result<std::map<std::string, std::string>> read_index(Store& store, const std::string& path) {
  INGOT_ASSIGN(std::string text, read_text(store, path, kMaxIndex));
  INGOT_ASSIGN(Json j, parse_json(text, "reading " + path));
  const Json* map = json_member(j, "weight_map");
  if (!map || !map->is_object() || map->empty())
    return bad_input("reading {}: there is no 'weight_map' with tensor names and files; the index is damaged", path);
  std::map<std::string, std::string> out;
  for (auto it = map->begin(); it != map->end(); ++it) {
    const std::string* file = it.value().get_ptr<const std::string*>();
    if (!file)
      return bad_input("reading {}: the file of tensor '{}' is {}, expected a text", path, it.key(),
                       json_brief(it.value()));
    if (file->empty() || *file == "." || *file == ".." || file->find('/') != std::string::npos ||
        file->find('\\') != std::string::npos || file->find('\0') != std::string::npos)
      return bad_input("reading {}: the file '{}' of tensor '{}' lies outside the directory; refused", path,
                       file->substr(0, 200), it.key());
    out[it.key()] = *file;
  }
  return out;
}

Status open_shards(Store& store, const std::string& dir, const std::string& index_name, Artifact* a) {
  const std::string index_path = join_path(dir, index_name);
  INGOT_ASSIGN(auto map, read_index(store, index_path));
  std::vector<std::string> shards;
  for (const auto& [name, file] : map) shards.push_back(file);
  std::sort(shards.begin(), shards.end());
  shards.erase(std::unique(shards.begin(), shards.end()), shards.end());
  std::unordered_map<std::string, std::string> seen;
  for (const auto& shard : shards) {
    const std::string path = join_path(dir, shard);
    INGOT_ASSIGN(const auto there, store.stat(path));
    if (!there)
      return bad_input("opening {}: the index names the shard '{}', which is not there; download it", index_path,
                       shard);
    INGOT_ASSIGN(auto file, read_safetensors(store, path));
    for (auto& t : file.tensors) {
      if (auto [it, fresh] = seen.emplace(t.name, shard); !fresh)
        return bad_input("opening {}: tensor '{}' is in two shards, '{}' and '{}'", index_path, t.name, it->second,
                         shard);
      if (auto it = map.find(t.name); it != map.end() && it->second != shard)
        return bad_input("opening {}: the index puts tensor '{}' into '{}', but it is in '{}'", index_path, t.name,
                         it->second, shard);
      a->tensors.push_back(std::move(t));
    }
  }
  for (const auto& [name, shard] : map)
    if (!seen.count(name))
      return bad_input("opening {}: the index puts tensor '{}' into '{}', where it is not", index_path, name, shard);
  return {};
}

bool ends_with(std::string_view s, std::string_view end) {
  return s.size() >= end.size() && s.substr(s.size() - end.size()) == end;
}

}  // namespace

Result<SafetensorsFile> read_safetensors(Store& store, const std::string& path) {
  INGOT_ASSIGN(auto opened, store.open(path));
  auto source = std::make_shared<SourceFile>();
  source->file = std::move(opened);
  source->path = path;
  const uint64_t size = source->file->size();
  if (size < 8)
    return bad_input("reading {}: the file has {} bytes, less than the 8 of a safetensors header length; it is "
                     "truncated, copy it again",
                     path, size);
  std::string head(8, '\0');
  INGOT_TRY(source->file->read(0, MutByteView(reinterpret_cast<std::byte*>(head.data()), 8)));
  const uint64_t n = le64(head);
  if (n > kMaxHeader)
    return bad_input("reading {}: the header claims {} bytes, more than the format's limit of {}; the file is damaged "
                     "or no safetensors file",
                     path, n, kMaxHeader);
  if (n > size - 8)
    return bad_input("reading {}: the header claims {} bytes, but only {} follow; the file is truncated, copy it again",
                     path, n, size - 8);
  std::string json(n, '\0');
  INGOT_TRY(source->file->read(8, MutByteView(reinterpret_cast<std::byte*>(json.data()), json.size())));
  INGOT_ASSIGN(auto header, parse_safetensors_header(json, path));
  source->header_hash = to_hex(hash128(as_bytes(json)));
  json = {};

  std::vector<Placed> rows;
  rows.reserve(header.rows.size());
  for (const auto& r : header.rows) {
    INGOT_ASSIGN(TensorSpec spec, check_row(r, path));
    rows.push_back({&r, spec});
  }
  INGOT_TRY(check_offsets(&rows, size - 8 - n, path));
  SafetensorsFile out;
  out.metadata = std::move(header.metadata);
  out.tensors.reserve(rows.size());
  for (const auto& p : rows)
    out.tensors.push_back(
        {p.row->name, make_file_tensor(source, p.row->name, 8 + n + p.row->offsets[0], p.spec)});
  return out;
}

Result<std::map<std::string, std::string>> read_side_files(Store& store, const std::string& directory,
                                                           const std::vector<std::string>& names) {
  std::map<std::string, std::string> out;
  for (const auto& name : names) {
    const std::string path = join_path(directory, name);
    INGOT_ASSIGN(const auto there, store.stat(path));
    if (!there || there->directory()) continue;
    INGOT_ASSIGN(out[name], read_text(store, path, kMaxSideFile));
  }
  return out;
}

int probe_safetensors(const Probe& p) {
  if (p.directory) {
    if (p.has("model.safetensors") || p.has("model.safetensors.index.json")) return 95;
    for (const auto& n : p.names)
      if (ends_with(n, ".safetensors") && n != "adapter_model.safetensors") return 60;
    if (p.has("config.json")) return 20;  // to say what is missing
    return 0;
  }
  // The header is JSON: a length of at most 100 MB, then '{'. A name gives the rest, for truncated files.
  if (p.head.size() >= 9 && le64(p.head) <= kMaxHeader && p.head[8] == '{') return 80;
  return ends_with(p.path, ".safetensors") ? 40 : 0;
}

Result<Artifact> open_safetensors(Store& store, const std::string& path, Faults*) {
  Artifact a;
  a.path = path;
  a.format = "safetensors";
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there || !there->directory()) {
    INGOT_ASSIGN(auto file, read_safetensors(store, path));
    a.tensors = std::move(file.tensors);
    for (auto& [k, v] : file.metadata) a.metadata.push_back({k, MetaValue{v}});
    return a;
  }
  INGOT_ASSIGN(auto entries, store.list(path));
  std::vector<std::string> weights;
  bool single = false, index = false, torch = false;
  for (const auto& e : entries) {
    if (e.name == "model.safetensors") single = true;
    if (e.name == "model.safetensors.index.json") index = true;
    if (ends_with(e.name, ".bin") || ends_with(e.name, ".pt") || ends_with(e.name, ".pth")) torch = true;
    if (ends_with(e.name, ".safetensors") && e.name != "adapter_model.safetensors") weights.push_back(e.name);
  }
  if (single || (!index && weights.size() == 1)) {
    INGOT_ASSIGN(auto file, read_safetensors(store, join_path(path, single ? "model.safetensors" : weights[0])));
    a.tensors = std::move(file.tensors);
  } else if (index) {
    INGOT_TRY(open_shards(store, path, "model.safetensors.index.json", &a));
  } else if (weights.empty()) {
    return bad_input("opening {}: the directory has no *.safetensors file{}", path,
                     torch ? ", only torch files (.bin, .pt), which are not supported yet; save the model with "
                             "safe_serialization=True"
                           : "; download the weights");
  } else {
    return bad_input("opening {}: {} *.safetensors files but no model.safetensors.index.json that tells which belong "
                     "to the model; download the index",
                     path, weights.size());
  }
  INGOT_ASSIGN(a.files, read_side_files(store, path, model_side_files()));
  return a;
}

}  // namespace ingot
