#include "formats/safetensors.h"

#include <algorithm>
#include <atomic>
#include <unordered_map>

#include "formats/hf_weights.h"
#include "formats/json.h"
#include "formats/manifest.h"
#include "formats/placeholder.h"
#include "formats/safetensors_header.h"
#include "formats/shared_tensors.h"
#include "formats/state_tree.h"
#include "formats/torch_file.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference reader's own limit
constexpr uint64_t kMaxSideFile = 128u << 20;
constexpr char kTemplates[] = "additional_chat_templates";  // a folder of templates
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
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all = tokenizer_side_files();
    all.insert(all.end(), {"config.json", "preprocessor_config.json", "processor_config.json", kManifestFile});
    return all;
  }();
  return names;
}

struct Index {
  std::map<std::string, std::string> shard_of;  // tensor
  std::vector<std::string> shards;              // sorted
  bool names(const std::string& file) const { return std::binary_search(shards.begin(), shards.end(), file); }
};

// {"weight_map": {tensor: file}}; an index cannot point out of the directory.
Result<Index> read_index(Store& store, const std::string& path) {
  INGOT_ASSIGN(std::string text, read_side_file(store, path, kMaxIndex));
  INGOT_ASSIGN(Json j, parse_json(text, "reading " + path));
  const Json* map = json_member(j, "weight_map");
  if (!map || !map->is_object() || map->empty())
    return bad_input("reading {}: there is no 'weight_map' with tensor names and files; the index is damaged", path);
  Index out;
  for (auto it = map->begin(); it != map->end(); ++it) {
    const std::string* file = it.value().get_ptr<const std::string*>();
    if (!file)
      return bad_input("reading {}: the file of tensor '{}' is {}, expected a text", path, it.key(),
                       json_brief(it.value()));
    const std::string plain = plain_path(*file);
    if (!is_inside(plain))
      return bad_input("reading {}: the file '{}' of tensor '{}' {}; refused", path, file->substr(0, 200), it.key(),
                       plain.starts_with("..") || plain.starts_with('/') ? "lies outside the directory" : "is no name of a file");
    out.shard_of[it.key()] = plain;
    out.shards.push_back(plain);
  }
  std::sort(out.shards.begin(), out.shards.end());
  out.shards.erase(std::unique(out.shards.begin(), out.shards.end()), out.shards.end());
  return out;
}

using Shards = std::map<std::string, Result<SafetensorsFile>>;  // by the file's name

// Of an index only the files count that it names, as in transformers: all their tensors are taken, and of one that is in two the later file's. What it says
// of tensors besides is told where it is not so. `where` is the index, or the directory where there is none.
Status add_shards(Store& store, const Probe& p, const WeightFiles& found, const Index& index, Shards* read, Artifact* a) {
  const std::string where = join_path(p.path, found.index);
  const bool whole = std::all_of(index.shards.begin(), index.shards.end(), [&](const std::string& s) { return is_listed(p, s); });
  if (!whole && !found.index.empty()) {
    const auto bad = std::find_if(read->begin(), read->end(), [&](const auto& s) { return index.names(s.first) && !s.second.ok(); });
    return absent_shards(store, p, found.index, index.shards, bad == read->end() ? "" : bad->second.error().message);
  }
  std::unordered_map<std::string, std::string> seen;
  std::vector<std::string> twice, elsewhere, nowhere;
  std::vector<LazyTensor> tensors;
  for (const auto& shard : index.shards) {
    auto it = read->find(shard);
    if (it == read->end()) it = read->emplace(shard, read_weights_file(store, join_path(p.path, shard))).first;
    if (!it->second.ok()) return it->second.take_error();
    if (it->second->torch) a->format = "torch";
    for (auto& n : it->second->notices) a->notices.push_back(std::move(n));
    for (auto& t : it->second->tensors) {
      auto [before, fresh] = seen.emplace(t.name, shard);
      if (!fresh && found.index.empty())
        return bad_input("opening {}: tensor '{}' is in two shards, '{}' and '{}'", p.path, t.name, before->second, shard);
      if (!fresh) {
        twice.push_back(fmt::format("'{}' ({}, {})", t.name, before->second, shard));
        before->second = shard;
        std::erase_if(tensors, [&](const LazyTensor& other) { return other.name == t.name; });
      }
      tensors.push_back(std::move(t));
    }
  }
  std::map<std::string, std::pair<size_t, size_t>> absent;  // by shard: tensors that are nowhere, of all that the index says are in it
  for (const auto& [name, shard] : index.shard_of) {
    const auto it = seen.find(name);
    ++absent[shard].second;
    if (it == seen.end()) ++absent[shard].first, nowhere.push_back(fmt::format("'{}'", name));
    else if (it->second != shard) elsewhere.push_back(fmt::format("'{}' ({}, not {})", name, it->second, shard));
  }
  for (const auto& [shard, count] : absent)
    if (count.first == count.second)
      return bad_input("opening {}: none of the {} tensors that it names for {} is there, in that file or another ({}): under that name lies another file, or one of another save; "
                       "copy or download it again", where, count.second, shard, some_of(nowhere));
  a->tensors = TensorList(std::move(tensors));
  for (const auto& [what, names] : {std::pair{"tensors in two shards, of which the later counts", &twice}, {"tensors in another shard than the index says", &elsewhere},
                                    {"tensors that the index names and no shard has", &nowhere}})
    if (!names->empty()) a->notices.push_back(fmt::format("{}: {}: {}; all that is in its files is taken, as transformers does", where, what, some_of(*names)));
  if (std::string text = found.index.empty() ? "" : left_over(p, index.shards); !text.empty()) a->notices.push_back(std::move(text));
  return {};
}

// The weights, read together with what `calls` asks for.
Status read_weights(Store& store, const Probe& p, const WeightFiles& found, Calls calls, Artifact* a) {
  Result<Index> index = Index{{}, found.files};
  std::atomic<bool> index_read = false;
  if (!found.index.empty())
    calls.push_back([&] {
      index = read_index(store, join_path(p.path, found.index));
      index_read = true;
    });
  // The index need not have come for the shards to be asked for; what lies beside them is left alone once it has.
  Shards shards;
  for (const auto& name : found.files)
    calls.push_back([&, &file = shards.emplace(name, SafetensorsFile()).first->second] {
      if (!index_read || (index.ok() && index->names(name))) file = read_weights_file(store, join_path(p.path, name));
    });
  INGOT_TRY(call_together(store, "opening " + p.path, calls));
  if (!index.ok()) return index.take_error();
  a->notices = found.notices;
  return add_shards(store, p, found, *index, &shards, a);
}

}  // namespace

Result<SafetensorsFile> read_safetensors(Store& store, const std::string& path) {
  INGOT_ASSIGN(const OpenedFile file, open_head(store, path));
  return read_safetensors(file);
}

Result<SafetensorsFile> read_weights_file(Store& store, const std::string& path) {
  INGOT_ASSIGN(const OpenedFile file, open_head(store, path));
  if (torch_score(file.head, path) == 0 && path.ends_with(".safetensors")) return read_safetensors(file);
  INGOT_ASSIGN(TorchWeights torch, read_torch_weights(file));
  return SafetensorsFile{std::move(torch.tensors), {}, std::move(torch.notices), true};
}

Result<SafetensorsFile> read_safetensors(const OpenedFile& opened) {
  auto source = std::make_shared<SourceFile>();
  const std::string& path = source->path = opened.path;
  source->file = opened.file;
  const uint64_t size = source->file->size();
  if (size == 0) return bad_input("reading {}: the file is empty; download or copy it again", path);
  if (size < 8)
    return bad_input("reading {}: the file has {} bytes, less than the 8 of a safetensors header length; it is "
                     "truncated, copy it again",
                     path, size);
  const uint64_t n = le64(opened.head);
  if (n > kMaxHeader)
    return bad_input("reading {}: the header claims {} bytes, more than the format's limit of {}; the file is damaged "
                     "or no safetensors file",
                     path, n, kMaxHeader);
  if (n > size - 8)
    return bad_input("reading {}: the header claims {} bytes, but only {} follow; the file is truncated, copy it again",
                     path, n, size - 8);
  std::string json = opened.head.substr(8, n);
  if (const uint64_t have = json.size(); have < n) {
    json.resize(n);
    INGOT_TRY(source->file->read(8 + have, {reinterpret_cast<std::byte*>(json.data()) + have, n - have}));
  }
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
  // safetensors.torch.save_model: {"lm_head.weight": "model.embed_tokens.weight"}, one of the names that the tensor has beside its own (the first of them, or what
  // huggingface_hub was told to keep). Any text may be someone's own; of names that do not end alike it is told.
  const auto last_part = [](std::string_view name) { return name.substr(name.rfind('.') + 1); };
  std::unordered_map<std::string_view, size_t> stored;
  for (size_t i = 0; i < rows.size(); ++i) stored.emplace(rows[i].row->name, i);
  std::erase_if(out.metadata, [&](const auto& entry) {
    const auto& [other, kept] = entry;
    const auto it = stored.find(kept);
    if (it == stored.end() || stored.contains(other) || other == "format") return false;
    if (last_part(other) != last_part(kept))
      out.notices.push_back(fmt::format("{}: its __metadata__ has '{}' as another name of tensor '{}', as save_model writes tied ones: taken as that", path, other.substr(0, 200), kept));
    out.tensors.push_back({other, out.tensors[it->second].node});
    return true;
  });
  return out;
}

const std::vector<std::string>& tokenizer_side_files() {
  static const std::vector<std::string> names = {
      "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
      "chat_template.json",     "tokenizer.model", "merges.txt",           "vocab.json",              "vocab.txt",         "tekken.json"};
  return names;
}

Status ask_side_files(Store& store, const Probe& directory, const std::vector<std::string>& names, SideFiles* side, Calls* calls) {
  for (const auto& name : names)
    if (const Entry* e = directory.find(name); e && !e->directory) side->emplace_back(name, std::string());
  const Entry* templates = directory.find(kTemplates);
  const std::string folder = join_path(directory.path, kTemplates);
  if (templates && !templates->directory) {
    INGOT_ASSIGN(const auto there, store.stat(folder));
    if (there && there->kind == Stat::Kind::kDangling)
      return bad_input("opening {}: it is a link to a directory that is not there; download it again, or remove the link", folder);
  }
  if (templates && templates->directory) {
    INGOT_ASSIGN(const auto entries, store.list(folder));
    for (const Entry& t : entries)
      if (!t.directory && t.name.ends_with(".jinja")) side->emplace_back(join_path(kTemplates, t.name), std::string());
  }
  for (auto& [name, text] : *side)
    calls->push_back([&store, &text, path = join_path(directory.path, name)] {
      text = read_side_file(store, path, kMaxSideFile);
      // Any text is a template; who reads JSON says it there.
      const auto what = text.ok() && path.ends_with(".jinja") ? placeholder(*text) : "";
      if (!what.empty()) text = bad_input("reading {}: it {}", path, what);
    });
  return {};
}

Status take_side_files(Store& store, const Probe& directory, SideFiles side, Artifact* a) {
  for (auto& [name, text] : side) {
    // The one file without which transformers goes on.
    if (const std::string path = join_path(directory.path, name); !text.ok() && name == "generation_config.json" && is_dangling(store, path)) {
      a->notices.push_back(fmt::format("{}: it is a link to a file that is not there; the model is opened without it, as transformers does", path));
      continue;
    }
    INGOT_ASSIGN(a->files[name], std::move(text));
  }
  return {};
}

Result<std::map<std::string, std::string>> read_side_files(Store& store, const std::string& path) {
  INGOT_ASSIGN(const Probe p, look_at(store, path));
  if (!p.find("config.json")) return bad_input("opening {}: expected a directory with config.json, to take the configuration and the tokenizer from", path);
  Artifact a;
  Calls calls;
  SideFiles side;
  INGOT_TRY(ask_side_files(store, p, model_side_files(), &side, &calls));
  INGOT_TRY(call_together(store, "opening " + path, calls));
  INGOT_TRY(take_side_files(store, p, std::move(side), &a));
  a.files.erase(kManifestFile);  // of those weights
  return std::move(a.files);
}

// {path: value}, as safetensors_output() writes it. Some of them make the names those of a state.
Status read_values(const std::string& text, const std::string& path, Artifact* a) {
  INGOT_ASSIGN(const OrderedJson j, parse_json_ordered(text, fmt::format("reading {}: '{}' of its __metadata__", path, kValuesKey)));
  if (!j.is_object()) return bad_input("reading {}: '{}' of its __metadata__ is no JSON object", path, kValuesKey);
  for (const auto& [name, value] : j.items()) a->values[name] = json_line(value);
  if (!a->values.empty()) a->naming.clear();
  return {};
}

int probe_safetensors(const Probe& p) {
  if (p.directory) {
    if (is_rank_files(p)) return 90;
    const int score = weights_score(p);
    return score || !p.find("config.json") ? score : kConfigScore;  // to say what is missing
  }
  // The header is JSON: a length of at most 100 MB, then '{'. A name gives the rest, for truncated files.
  if (const auto& head = p.file.head; head.size() >= 9 && le64(head) <= kMaxHeader && head[8] == '{') return 80;
  return p.path.ends_with(".safetensors") ? 40 : 0;
}

Result<Artifact> open_safetensors(Store& store, const Probe& p, Faults*) {
  Artifact a;
  a.path = p.path;
  a.format = "safetensors";
  a.naming = "hf";
  if (!p.directory) {
    INGOT_ASSIGN(auto file, read_safetensors(p.file));
    a.tensors = std::move(file.tensors), a.notices = std::move(file.notices);
    for (auto& [k, v] : file.metadata)
      if (k == kValuesKey) INGOT_TRY(read_values(v, p.path, &a));
      else a.metadata.push_back({k, MetaValue{v}});
    if (a.meta(kKindsKey)) a.naming.clear();
    return a;
  }
  Calls calls;
  SideFiles side;
  INGOT_TRY(ask_side_files(store, p, model_side_files(), &side, &calls));
  if (is_rank_files(p)) {
    INGOT_TRY(call_together(store, "opening " + p.path, calls));
    INGOT_TRY(read_rank_files(store, p, &a));
    INGOT_TRY(take_side_files(store, p, std::move(side), &a));
    return a;
  }
  auto found = find_weights(store, p);
  Status read;
  if (found.ok()) {
    read = read_weights(store, p, *found, std::move(calls), &a);
  } else {
    INGOT_TRY(call_together(store, "opening " + p.path, calls));
    read = found.take_error();
  }
  // Seldom is it the configuration that says where the weights are.
  for (auto& [name, text] : side) {
    if (name != "config.json" || !text.ok()) continue;
    INGOT_ASSIGN(const auto named, named_weights(p, *text));
    if (!named) continue;
    read = read_weights(store, p, *named, {}, &a);
    INGOT_ASSIGN(OrderedJson config, parse_json_ordered(*text, join_path(p.path, name)));
    config.erase("transformers_weights");  // what is made of them has the usual names
    text = json_text(config);
  }
  INGOT_TRY(std::move(read));
  INGOT_TRY(take_side_files(store, p, std::move(side), &a));
  return a;
}

}  // namespace ingot
