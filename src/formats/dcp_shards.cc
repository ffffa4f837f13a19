#include "formats/dcp_shards.h"

#include <algorithm>

#include "formats/chunked_tensor.h"
#include "formats/file_pieces.h"
#include "formats/json.h"

namespace ingot {
namespace {

constexpr char kOffsets[] = "DCP_SHARDING_INFO";

bool is_shard(const Entry& e) {
  return !e.directory && e.name.starts_with("shard-") && e.name.ends_with(".safetensors") && e.name.size() > 12 && e.name[11] == '-' &&
         e.name.find_first_not_of("0123456789", 6) == 11;
}

}  // namespace

Result<std::vector<Shape>> dcp_saved_offsets(const SafetensorsFile& file, const std::string& path) {
  const auto text = file.metadata.find(kOffsets);
  if (text == file.metadata.end())
    return bad_input("reading {}: its metadata have no {}: where in the whole tensors its parts begin is not known; give the files that torch wrote, "
                     "or its consolidated ones",
                     path, kOffsets);
  INGOT_ASSIGN(const Json info, parse_json(text->second, fmt::format("reading {} of {}", kOffsets, path)));
  std::vector<Shape> all;
  for (const LazyTensor& t : file.tensors) {
    const Json* row = json_member(info, t.name);
    const Json* offsets = row ? json_member(*row, "saved_offsets") : nullptr;
    const Shape shape = t.spec().shape;
    Shape at;
    if (offsets && offsets->is_array() && offsets->size() == static_cast<size_t>(shape.rank))
      for (const Json& o : *offsets) {
        const int64_t n = o.is_number_integer() ? o.get<int64_t>() : -1;
        if (n < 0 || n > INT64_MAX / 32 - shape[at.rank]) break;
        at.push_back(n);
      }
    if (!offsets || at.rank != shape.rank)
      return bad_input("reading {}: the saved_offsets of tensor '{}' {} are {}; the file is damaged", path, t.name, to_string(shape),
                                                            offsets ? json_brief(*offsets) : "not there");
    all.push_back(at);
  }
  return all;
}

bool is_dcp_shards(const Probe& p) { return p.directory && std::any_of(p.entries.begin(), p.entries.end(), is_shard); }

Result<Artifact> read_dcp_shards(Store& store, const Probe& p) {
  std::vector<std::string> names;
  for (const Entry& e : p.entries)
    if (is_shard(e)) names.push_back(e.name);
  std::vector<Result<SafetensorsFile>> files(names.size(), Result<SafetensorsFile>(SafetensorsFile()));
  Calls calls;
  for (size_t i = 0; i < names.size(); ++i) calls.push_back([&, i] { files[i] = read_safetensors(store, join_path(p.path, names[i])); });
  INGOT_TRY(call_together(store, "opening " + p.path, calls));

  // There is no list of ranks: a tensor is as large as its parts reach.
  struct Whole {
    TensorSpec spec;
    std::vector<TensorChunk> chunks;
    std::vector<FilePiece> files;
    std::string first;
  };
  std::map<std::string, Whole> wholes;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!files[i].ok()) return files[i].take_error();
    const std::string path = join_path(p.path, names[i]);
    INGOT_ASSIGN(const auto offsets, dcp_saved_offsets(*files[i], path));
    for (size_t k = 0; k < offsets.size(); ++k) {
      const LazyTensor& t = files[i]->tensors[k];
      const TensorSpec spec = t.spec();
      const auto [it, fresh] = wholes.try_emplace(t.name);
      Whole& w = it->second;
      if (fresh) w.spec = spec, w.first = names[i];
      if (w.spec.type != spec.type || w.spec.shape.rank != spec.shape.rank)
        return bad_input("opening {}: tensor '{}' is {} of {} dimensions in {}, but {} of {} in {}; the files are of different saves", p.path,
                         t.name, info(spec.type).name,
                         spec.shape.rank, names[i], info(w.spec.type).name, w.spec.shape.rank, w.first);
      if (is_block_type(spec.type) && spec.shape.rank && offsets[k].back() % info(spec.type).block)
        return bad_input("opening {}: tensor '{}' is cut within a byte of its {} in {}", p.path, t.name, info(spec.type).name, names[i]);
      for (int d = 0; d < spec.shape.rank; ++d) w.spec.shape[d] = std::max(w.spec.shape[d], offsets[k][d] + spec.shape[d]);
      auto source = std::dynamic_pointer_cast<const Source>(t.node);
      const Region region{offsets[k], spec.shape};
      if (region.elements() == 0 || std::any_of(w.chunks.begin(), w.chunks.end(), [&](const TensorChunk& c) { return c.region == region; })) continue;
      w.files.push_back({std::shared_ptr<const ReadFile>(source, source->file()), 0, source->file()->size()});
      w.chunks.push_back({region, std::move(source)});
    }
  }
  Artifact a;
  a.path = p.path, a.format = "dcp", a.naming = "hf";
  for (auto& [name, w] : wholes) {
    std::vector<Region> regions;
    uint64_t n = 1;
    for (int d = 0; d < w.spec.shape.rank; ++d)
      if (!checked_mul(n, static_cast<uint64_t>(std::max<int64_t>(w.spec.shape[d], 1)), &n) || n > static_cast<uint64_t>(INT64_MAX) / 32)
        return bad_input("opening {}: the shape of tensor '{}' overflows", p.path, name);
    for (const TensorChunk& c : w.chunks) regions.push_back(c.region);
    if (const std::string why = why_not_filled(w.spec.shape, regions); !why.empty())
      return bad_input("opening {}: the parts of tensor '{}' in {} files reach to {}, but {}; files of ranks are missing, or of another save",
                       p.path, name, names.size(),
                       to_string(w.spec.shape), why);
    const auto all = make_pieces_file(p.path, std::move(w.files));
    a.tensors.push_back({name, make_chunked_tensor(name, w.spec, std::move(w.chunks), all)});
  }
  return a;
}

}  // namespace ingot
