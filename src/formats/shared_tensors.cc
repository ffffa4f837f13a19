#include "formats/shared_tensors.h"

#include <algorithm>

#include "formats/chunked_tensor.h"
#include "formats/file_pieces.h"
#include "formats/json.h"

namespace ingot {
namespace {

constexpr std::string_view kBegin = "model-rank-", kEnd = ".safetensors";
constexpr size_t kDigits = 5;

bool lies_within(const Shape& part, const PartOf& of) {
  const auto rank = static_cast<size_t>(part.rank);
  if (of.shape.size() != rank || of.offset.size() != rank) return false;
  for (size_t d = 0; d < rank; ++d)
    if (of.offset[d] > of.shape[d] || part[static_cast<int>(d)] > of.shape[d] - of.offset[d]) return false;
  return true;
}

bool is_rank_file(std::string_view name) { return name.starts_with(kBegin) && name.ends_with(kEnd); }

struct Whole {
  std::string name;
  TensorSpec spec;
  std::vector<TensorChunk> chunks;
  std::vector<FilePiece> files;
};

}  // namespace

std::string rank_stem(std::string_view group, int rank) { return fmt::format("{}{}{:0{}}", group, kRankMark, rank, kDigits); }

std::string_view without_rank(std::string_view stem) {
  constexpr size_t kLength = kRankMark.size() + kDigits;
  return stem.size() > kLength && stem.substr(stem.size() - kLength, kRankMark.size()) == kRankMark ? stem.substr(0, stem.size() - kLength) : stem;
}

Result<std::map<std::string, PartOf>> parts_of(const SafetensorsFile& file, const std::string& path) {
  std::map<std::string, PartOf> parts;
  const auto text = file.metadata.find(kPartsKey);
  if (text == file.metadata.end()) return parts;
  INGOT_ASSIGN(const Json j, parse_json(text->second, path));
  const auto bad = [&](const std::string& name, const char* why) { return bad_input("reading {}: what its __metadata__ says of '{}', a part of a tensor that ranks share, {}; copy the file again", path, name, why); };
  if (!j.is_object()) return bad("", "is no object");
  for (const auto& [name, p] : j.items()) {
    const auto numbers = [&](const char* key) -> std::optional<std::vector<int64_t>> {
      if (!p.is_object() || !p.contains(key) || !p[key].is_array() || p[key].size() > kMaxDims) return std::nullopt;
      std::vector<int64_t> all;
      for (const Json& n : p[key]) {
        if (!n.is_number_integer() || n.get<int64_t>() < 0 || n.get<int64_t>() > int64_t{1} << 62) return std::nullopt;
        all.push_back(n.get<int64_t>());
      }
      return all;
    };
    auto shape = numbers("shape"), offset = numbers("offset");
    const auto of = p.is_object() ? json_string(p, "of") : std::nullopt;
    if (!shape || !offset || !of) return bad(name, "has no 'of', 'shape' and 'offset'");
    const auto t = std::find_if(file.tensors.begin(), file.tensors.end(), [&](const LazyTensor& x) { return x.name == name; });
    PartOf part{*of, std::move(*shape), std::move(*offset)};
    if (t == file.tensors.end()) return bad(name, "is of no tensor in it");
    if (!lies_within(t->spec().shape, part)) return bad(name, "lets it reach beyond the whole");
    parts[name] = std::move(part);
  }
  return parts;
}

bool is_rank_files(const Probe& p) {
  return std::any_of(p.entries.begin(), p.entries.end(), [](const Entry& e) { return !e.directory && is_rank_file(e.name); });
}

Status read_rank_files(Store& store, const Probe& p, Artifact* a) {
  std::map<std::string, size_t> numbers;
  std::vector<Whole> all;
  size_t files = 0;
  for (const Entry& e : p.entries) {
    if (e.directory || !is_rank_file(e.name)) continue;
    ++files;
    const std::string path = join_path(p.path, e.name);
    INGOT_ASSIGN(SafetensorsFile file, read_safetensors(store, path));
    INGOT_ASSIGN(const auto parts, parts_of(file, path));
    for (const LazyTensor& t : file.tensors) {
      const auto part = parts.find(t.name);
      Whole w{part == parts.end() ? t.name : part->second.name, t.spec(), {}, {}};
      Region region = Region::all(t.spec().shape);
      if (part != parts.end()) {
        if (part->second.shape.size() > kMaxDims) return bad_input("reading {}: '{}' has {} dimensions", path, w.name, part->second.shape.size());
        w.spec.shape = {};
        for (size_t d = 0; d < part->second.shape.size(); ++d) w.spec.shape.push_back(part->second.shape[d]), region.begin[d] = part->second.offset[d];
      }
      const auto [known, fresh] = numbers.try_emplace(w.name, all.size());
      if (fresh) all.push_back(w);
      Whole& whole = all[known->second];
      if (!(whole.spec == w.spec))
        return bad_input("opening {}: '{}' is {} {} by one file, and {} {} by {}; the files are of different saves", p.path, w.name, info(whole.spec.type).name, to_string(whole.spec.shape), info(w.spec.type).name,
                         to_string(w.spec.shape), e.name);
      if (t.spec().shape.elements() == 0) continue;
      const auto source = std::dynamic_pointer_cast<const Source>(t.node);
      if (!source || !source->file()) return bad_input("opening {}: '{}' does not lie in {} as it is", p.path, t.name, e.name);
      whole.files.push_back({std::shared_ptr<const ReadFile>(source, source->file()), 0, source->file()->size()});
      whole.chunks.push_back({region, source});
    }
  }
  for (Whole& w : all) {
    std::vector<Region> boxes;
    for (const TensorChunk& c : w.chunks) boxes.push_back(c.region);
    if (const std::string why = why_not_filled(w.spec.shape, boxes); !why.empty())
      return bad_input("opening {}: of the tensor '{}' {}, which its ranks share, {} ({} files of ranks are there); copy all files of one checkpoint", p.path, w.name, to_string(w.spec.shape), why, files);
    if (w.chunks.empty()) {
      a->tensors.push_back({w.name, make_memory_tensor(w.spec, {})});
      continue;
    }
    a->tensors.push_back({w.name, make_chunked_tensor(w.name, w.spec, std::move(w.chunks), make_pieces_file(p.path, std::move(w.files)))});
  }
  a->notices.push_back(fmt::format("{}: the model is put together of {} files of ranks", p.path, files));
  return {};
}

}  // namespace ingot
