#include "formats/fsdp_ranks.h"

#include <algorithm>
#include <charconv>

#include "formats/chunked_tensor.h"
#include "formats/file_pieces.h"
#include "formats/safetensors.h"
#include "formats/torch_file.h"

namespace ingot {
namespace {

constexpr std::string_view kBegin = "model_world_size_", kRank = "_rank_", kEnd = ".pt";
constexpr int64_t kMostRanks = 1 << 14;
constexpr char kMerge[] = "merge the ranks with the trainer's own script (verl: python -m verl.model_merger merge --backend fsdp)";

struct RankName {
  int64_t world = 0, rank = 0;
};
std::optional<RankName> rank_name(std::string_view name) {
  const size_t at = name.find(kRank);
  if (!name.starts_with(kBegin) || !name.ends_with(kEnd) || at == name.npos) return std::nullopt;
  const auto number = [](std::string_view digits, int64_t* n) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *n);
    return error == std::errc() && end == digits.data() + digits.size() && *n >= 0 && *n <= kMostRanks;
  };
  RankName r;
  const size_t from = at + kRank.size();
  if (!number(name.substr(kBegin.size(), at - kBegin.size()), &r.world) || !number(name.substr(from, name.size() - kEnd.size() - from), &r.rank)) return std::nullopt;
  return r.rank < r.world ? std::optional(r) : std::nullopt;
}

struct Rank {
  std::string path;
  TorchState state;
  std::map<std::string_view, const LazyTensor*> tensors;
};

Result<NodePtr> joined(const std::string& directory, const LazyTensor& first, const std::vector<Rank>& ranks) {
  const TorchShard& shard = ranks[0].state.shards.at(first.name);
  const int axis = shard.axis;
  const std::string about = fmt::format("opening {}: tensor '{}'", directory, first.name);
  if (!shard.known || axis >= shard.whole.rank)
    return bad_input("{} {} lies over the ranks in more ways than one cut, which ingot does not join; {}", about, to_string(shard.whole), kMerge);
  TensorSpec spec = first.spec();
  spec.shape = shard.whole;
  if (axis < 0 && first.spec() == spec) return first.node;
  std::vector<TensorChunk> chunks;
  std::vector<FilePiece> files;
  int64_t at = 0;
  // Where the whole is there several times, the first ranks have one of them.
  for (size_t i = 0; i < ranks.size() && axis >= 0 && at < spec.shape[axis]; ++i) {
    const auto it = ranks[i].tensors.find(first.name);
    const auto of = ranks[i].state.shards.find(first.name);
    if (it == ranks[i].tensors.end() || of == ranks[i].state.shards.end()) return bad_input("{} is not there in {}; the files are of different saves", about, ranks[i].path);
    const TensorSpec part = it->second->spec();
    TensorSpec want = spec;
    if (part.shape.rank == want.shape.rank) want.shape[axis] = part.shape[axis];
    if (of->second.axis != axis || !(of->second.whole == spec.shape) || !(part == want) || part.shape[axis] > spec.shape[axis] - at ||
        (of->second.place >= 0 && of->second.place != static_cast<int64_t>(i)))
      return bad_input("{} {}: the part of {}, {} {}, does not follow those of the ranks before; the files are of different saves, or on another mesh: {}", about,
                       to_string(spec.shape), ranks[i].path, info(part.type).name, to_string(part.shape), kMerge);
    if (part.shape.elements() == 0) continue;
    const auto source = std::dynamic_pointer_cast<const Source>(it->second->node);
    if (!source || !source->file()) return bad_input("{} is not plain data in {}; {}", about, ranks[i].path, kMerge);
    Region region = Region::all(part.shape);
    region.begin[axis] = at;
    at += part.shape[axis];
    files.push_back({std::shared_ptr<const ReadFile>(source, source->file()), 0, source->file()->size()});
    chunks.push_back({region, source});
  }
  if (axis < 0 || at != spec.shape[axis] || chunks.empty())
    return bad_input("{} {}: the parts of its {} ranks do not fill it; copy the files of all ranks of one save, or {}", about, to_string(spec.shape), ranks.size(), kMerge);
  return make_chunked_tensor(first.name, spec, std::move(chunks), make_pieces_file(directory, std::move(files)));
}

}  // namespace

bool is_fsdp_ranks(const Probe& p) {
  return std::any_of(p.entries.begin(), p.entries.end(), [](const Entry& e) { return !e.directory && rank_name(e.name); });
}

Result<Artifact> read_fsdp_ranks(Store& store, const Probe& p) {
  int64_t world = 0;
  for (const Entry& e : p.entries)
    if (const auto r = rank_name(e.name)) {
      if (world && r->world != world) return bad_input("opening {}: it has ranks of {} and of {}; some are left from another save: remove these", p.path, world, r->world);
      world = r->world;
    }
  std::vector<Rank> ranks(static_cast<size_t>(world));
  for (size_t i = 0; i < ranks.size(); ++i) {
    const std::string name = fmt::format("{}{}{}{}{}", kBegin, world, kRank, i, kEnd);
    if (!p.find(name)) return bad_input("opening {}: of its {} ranks {} is missing; copy the files of all ranks", p.path, world, name);
    ranks[i].path = join_path(p.path, name);
  }
  std::vector<std::string> paths;
  for (const Rank& r : ranks) paths.push_back(r.path);
  INGOT_ASSIGN(auto states, read_torch_together(store, "opening " + p.path, paths));
  for (size_t i = 0; i < ranks.size(); ++i) {
    INGOT_ASSIGN(ranks[i].state, std::move(states[i]));
    for (const LazyTensor& t : ranks[i].state.tensors) ranks[i].tensors.emplace(t.name, &t);
  }
  Artifact a;
  a.path = p.path, a.format = "torch";
  if (ranks[0].state.flat) a.naming = "hf";
  a.values = std::move(ranks[0].state.values);
  std::vector<LazyTensor> all;
  for (const LazyTensor& t : ranks[0].state.tensors) {
    NodePtr node = t.node;
    if (ranks[0].state.shards.contains(t.name)) {
      INGOT_ASSIGN(node, joined(p.path, t, ranks));
    }
    all.push_back({t.name, std::move(node)});
  }
  a.tensors = std::move(all);
  a.notices.push_back(fmt::format("{}: the model is joined of the {} ranks of FSDP; optimizers are left out", p.path, world));
  for (const std::string& from : {p.path, join_path(p.path, "huggingface")})
    if (a.files.empty() && is_there(store, join_path(from, "config.json"))) {
      INGOT_ASSIGN(a.files, read_side_files(store, from));
    }
  return a;
}

}  // namespace ingot
