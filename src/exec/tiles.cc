#include "exec/tiles.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "exec/evaluator.h"

namespace ingot {
namespace {

constexpr int64_t kCoarseElements = 4 << 20;
constexpr int64_t kFinePerCoarse = 64;
// Intermediates of a sub-tile in f32 stay in a core's cache.
constexpr int64_t kSubtileElements = 32 << 10;
// What the journal keeps of a fold.
constexpr uint64_t kFactBytes = 64 << 10;

struct UnionFind {
  std::vector<int> parent;
  explicit UnionFind(int n) : parent(n) { std::iota(parent.begin(), parent.end(), 0); }
  int find(int x) {
    while (parent[x] != x) x = parent[x] = parent[parent[x]];
    return x;
  }
  void join(int a, int b) { parent[std::max(find(a), find(b))] = std::min(find(a), find(b)); }
};

// One read for each source, the box around all that is needed of it, unless most of the box would be read in vain: rows that are moved about lie far apart.
void add_read(std::vector<Read>& reads, const std::shared_ptr<const Source>& source, const Region& region) {
  const auto wasteful = [&](const Read& r) { return bounding(r.region, region).elements() / 2 > r.region.elements() + region.elements(); };
  auto known = std::find_if(reads.begin(), reads.end(), [&](const Read& r) { return r.source == source && (contains(r.region, region) || !wasteful(r)); });
  if (known == reads.end()) known = reads.insert(reads.end(), {source, region, 0});
  else if (contains(known->region, region)) return;
  known->region = bounding(known->region, region);
  known->bytes = bytes_of(source->spec().type, known->region.elements());
}

}  // namespace

Cuts::Cuts(const Region& whole, const Shape& gran, int64_t target) : whole_(whole) {
  const Shape& s = whole.extent;
  if (s.rank == 0 || s.elements() <= target) {
    step_ = s.rank ? s[0] : 0;
    return;
  }
  // The outermost dimension whose smallest slice fits the target; never inside one that must stay whole.
  while (dim_ < s.rank - 1 && std::min(gran[dim_], s[dim_]) * s.stride(dim_) > target && gran[dim_] == 1) prefixes_ *= s[dim_++];
  step_ = std::max<int64_t>(1, target / (s.stride(dim_) * gran[dim_])) * gran[dim_];
  steps_ = (s[dim_] + step_ - 1) / step_;
}

Region Cuts::operator[](int64_t i) const {
  Region r = whole_;
  if (size() == 1) return r;
  int64_t prefix = i / steps_;
  for (int d = dim_ - 1; d >= 0; --d) {
    r.begin[d] += prefix % whole_.extent[d];
    r.extent[d] = 1;
    prefix /= whole_.extent[d];
  }
  const int64_t at = i % steps_ * step_;
  r.begin[dim_] += at;
  r.extent[dim_] = std::min(step_, whole_.extent[dim_] - at);
  return r;
}

Tiling::Tiling(const std::vector<Output>& outputs, const std::vector<Layout>& layouts) : outputs_(outputs), layouts_(layouts) {
  for (const auto& o : outputs_) {
    first_.push_back(static_cast<int>(tensors_.size()));
    for (const auto& t : o.artifact.tensors) tensors_.push_back({t.node, t.node->spec().shape, t.node->granularity()});
  }
  align_granularity();
}

int64_t Tiling::largest() const {
  int64_t n = 1;
  for (const auto& t : tensors_) n = std::max(n, t.shape.elements());
  return n;
}

// Tensors that read the same sources are cut alike where their trailing dimensions agree, so that their tiles meet.
void Tiling::align_granularity() {
  const int n = static_cast<int>(tensors_.size());
  UnionFind family(n);
  std::unordered_map<const Source*, int> by_source;
  for (int i = 0; i < n; ++i) {
    Footprint f;
    footprint(tensors_[i].node, Region::all(tensors_[i].shape), f);
    for (const auto& read : f.reads)
      if (auto [it, fresh] = by_source.emplace(read.source.get(), i); !fresh) family.join(i, it->second);
  }
  std::map<int, std::vector<int>> members;
  for (int i = 0; i < n; ++i) members[family.find(i)].push_back(i);
  for (const auto& [root, ids] : members)
    for (int a : ids)
      for (int b : ids) {
        const Shape &sa = tensors_[a].shape, &sb = tensors_[b].shape;
        for (int k = 1; k <= std::min(sa.rank, sb.rank); ++k) {
          const int ia = sa.rank - k, ib = sb.rank - k;
          if (sa[ia] != sb[ib]) break;
          tensors_[a].gran[ia] = std::lcm(tensors_[a].gran[ia], std::min(tensors_[b].gran[ib], sb[ib] ? sb[ib] : 1));
        }
      }
}

void Tiling::begin(int64_t target, bool merge) {
  target_ = target;
  // Where fine tasks are small, coarse ones are too: all that one is split into is there at the same time.
  coarse_target_ = std::max(target, std::min(kCoarseElements, target * kFinePerCoarse));
  merge_ = merge;
  merged_ = false;
  values_.clear();
  ids_.clear();
}

int Tiling::value_of(const Need& need) {
  const auto* output = dynamic_cast<const FoldOutput*>(need.node.get());
  const std::string key = output ? fmt::format("{}", static_cast<const void*>(output->fold().get()))
                                 : fmt::format("{}{}", static_cast<const void*>(need.node.get()), to_string(need.region));
  const auto [it, fresh] = ids_.emplace(key, static_cast<int>(values_.size()));
  if (!fresh) {
    values_[it->second].needed_whole |= need.broadcast;
    return it->second;
  }
  Value v;
  v.needed_whole = need.broadcast;
  if (output) {
    v.fold = output->fold();
    v.bytes = fold_bytes(*v.fold);
    v.state = v.fold->state_bytes();
    v.runs = fold_runs(*v.fold).size();
    if (v.bytes <= kFactBytes) v.key = graph_identity(FoldOutput(v.fold, 0));
  } else {
    v.node = need.node;
    v.region = need.region;
    v.bytes = bytes_of(need.node->spec().type, need.region.elements());
  }
  values_.push_back(std::move(v));
  return it->second;
}

void Tiling::add_need(const Need& need, Footprint& f) {
  if (!need.broadcast) return footprint(need.node, need.region, f);
  if (f.values) f.values->push_back(value_of(need));
}

void Tiling::footprint(const NodePtr& node, const Region& region, Footprint& f) {
  if (auto source = std::dynamic_pointer_cast<const Source>(node)) return add_read(f.reads, source, region);
  if (dynamic_cast<const FoldOutput*>(node.get())) {
    if (f.values) f.values->push_back(value_of({node, region, false}));
    f.arena += align_up(bytes_of(node->spec().type, region.elements()), 64);
    return;
  }
  std::vector<Need> needs;
  node->needs(region, &needs);
  for (const auto& need : needs) add_need(need, f);
  f.arena += align_up(bytes_of(node->spec().type, region.elements()), 64) + align_up(node->workspace(region), 64);
}

// The tiles that a tile is cut into, one after another in its bytes.
std::vector<Tile> Tiling::cut(const Tile& whole, DType type, const Shape& gran, int64_t target) {
  const Cuts cuts(whole.region, gran, target);
  std::vector<Tile> tiles(cuts.size(), whole);
  uint64_t at = whole.offset;
  for (int64_t c = 0; c < cuts.size(); ++c) {
    tiles[c].region = cuts[c];
    tiles[c].offset = at;
    at += tiles[c].bytes = bytes_of(type, tiles[c].region.elements());
  }
  return tiles;
}

std::vector<Task> Tiling::coarse() {
  std::vector<Tile> tiles;
  for (size_t o = 0; o < outputs_.size(); ++o)
    for (size_t i = 0; i < layouts_[o].tensors.size(); ++i) {
      const Tensor& t = tensors_[first_[o] + i];
      if (t.shape.elements() == 0) continue;
      const Placement& place = layouts_[o].tensors[i];
      const Tile whole{static_cast<int>(o), static_cast<int>(i), Region::all(t.shape), place.file, place.offset, 0};
      const auto cuts = cut(whole, t.node->spec().type, t.gran, coarse_target_);
      tiles.insert(tiles.end(), cuts.begin(), cuts.end());
    }
  return group(std::move(tiles), false);
}

std::vector<Task> Tiling::makers(int value) {
  std::vector<Task> tasks;
  const Value& v = values_[value];
  Task t;
  t.makes = value;
  if (v.fold) {
    const int64_t elements = v.fold->chunk() * Fold::kChunksPerRun;
    const int64_t batch = elements ? std::max<int64_t>(1, coarse_target_ / elements) : 1;
    for (t.run = 0; t.run < v.runs; t.run += batch) {
      t.runs = std::min(batch, v.runs - t.run);
      tasks.push_back(t);
    }
    return tasks;
  }
  for (const Tile& tile : cut({Tile::kValue, value, v.region, 0, 0, 0}, v.node->spec().type, v.node->granularity(), coarse_target_)) {
    t.tiles = {tile};
    tasks.push_back(t);
  }
  return tasks;
}

std::vector<Task> Tiling::split(const Task& coarse) {
  if (coarse.makes >= 0) return split_maker(coarse);
  std::vector<Tile> tiles;
  for (const Tile& whole : coarse.tiles) {
    const auto cuts = cut(whole, tensor(whole).node->spec().type, tensor(whole).gran, target_);
    tiles.insert(tiles.end(), cuts.begin(), cuts.end());
  }
  return group(std::move(tiles), true);
}

// Tasks of tiles: those that read the same region of a source together, in the order of what they write first.
std::vector<Task> Tiling::group(std::vector<Tile> tiles, bool fine) {
  const auto id = [&](size_t tile) { return first_[tiles[tile].output] + tiles[tile].tensor; };
  std::vector<std::vector<int>> values(tiles.size());
  std::vector<Footprint> footprints(tiles.size());
  for (size_t i = 0; i < tiles.size(); ++i) {
    if (fine) footprints[i].values = &values[i];
    footprint(tensors_[id(i)].node, tiles[i].region, footprints[i]);
  }
  UnionFind task_of(static_cast<int>(tiles.size()));
  if (merge_) {
    struct Reader {
      const Region* region;
      int tile, tensor;
    };
    std::unordered_map<const Source*, std::vector<Reader>> readers;
    for (size_t i = 0; i < tiles.size(); ++i)
      for (const auto& r : footprints[i].reads) readers[r.source.get()].push_back({&r.region, static_cast<int>(i), id(i)});
    for (auto& [source, list] : readers) {
      if (list.size() == 1) continue;
      std::sort(list.begin(), list.end(), [&](const Reader& a, const Reader& b) {
        return std::tie(a.region->begin.d, a.region->extent.d, a.tensor, a.tile) < std::tie(b.region->begin.d, b.region->extent.d, b.tensor, b.tile);
      });
      // Readers of one region share a task; each tensor is then asked once about it.
      size_t n = 0;
      for (size_t i = 0; i < list.size(); ++i) {
        const bool same = i && *list[i].region == *list[n - 1].region;
        if (same) task_of.join(list[i].tile, list[n - 1].tile);
        if (!same || list[i].tensor != list[n - 1].tensor) list[n++] = list[i];
      }
      list.resize(n);
      // In this order a region can only meet those whose first row comes before its end.
      for (size_t a = 0; a < n; ++a) {
        const Region& at = *list[a].region;
        const int64_t end = at.extent.rank ? at.begin[0] + at.extent[0] : 1;
        for (size_t b = a + 1; b < n && list[b].region->begin[0] < end; ++b)
          if (list[a].tensor != list[b].tensor && intersects(at, *list[b].region)) task_of.join(list[a].tile, list[b].tile);
      }
    }
  }
  using Place = std::tuple<int, int, uint64_t, int>;
  std::map<int, Place> first;  // of each task, by its first tile
  for (size_t i = 0; i < tiles.size(); ++i) {
    const Place place(tiles[i].output, tiles[i].file, tiles[i].offset, static_cast<int>(i));
    const auto [it, fresh] = first.emplace(task_of.find(static_cast<int>(i)), place);
    if (!fresh) it->second = std::min(it->second, place);
  }
  merged_ |= first.size() < tiles.size();
  std::vector<std::pair<Place, int>> order;
  for (const auto& [root, place] : first) order.emplace_back(place, root);
  std::sort(order.begin(), order.end());
  std::unordered_map<int, size_t> index;
  for (size_t i = 0; i < order.size(); ++i) index[order[i].second] = i;
  std::vector<Task> tasks(order.size());
  for (size_t i = 0; i < tiles.size(); ++i) {
    Task& task = tasks[index[task_of.find(static_cast<int>(i))]];
    task.tiles.push_back(tiles[i]);
    if (!fine) continue;
    for (const auto& r : footprints[i].reads) add_read(task.reads, r.source, r.region);
    task.values.insert(task.values.end(), values[i].begin(), values[i].end());
  }
  if (fine)
    for (Task& t : tasks) measure(t);
  return tasks;
}

std::vector<Task> Tiling::split_maker(const Task& coarse) {
  std::vector<Task> tasks;
  const auto add = [&](Task t, const std::vector<Need>& needs) {
    t.makes = coarse.makes;
    Footprint f;
    f.values = &t.values;
    for (const auto& need : needs) add_need(need, f);
    t.reads = std::move(f.reads);
    measure(t);
    tasks.push_back(std::move(t));
  };
  Task t;
  if (const FoldPtr fold = values_[coarse.makes].fold) {
    const Cuts runs = fold_runs(*fold);
    t.runs = 1;
    for (t.run = coarse.run; t.run < coarse.run + coarse.runs; ++t.run) {
      std::vector<Need> needs;
      fold->needs(runs[t.run], &needs);
      add(t, needs);
    }
    return tasks;
  }
  const NodePtr node = values_[coarse.makes].node;
  for (const Tile& tile : cut(coarse.tiles[0], node->spec().type, node->granularity(), target_)) {
    t.tiles = {tile};
    add(t, {{node, tile.region, false}});
  }
  return tasks;
}

// What a fine task takes, and which of its tiles go in step.
void Tiling::measure(Task& task) {
  std::sort(task.values.begin(), task.values.end());
  task.values.erase(std::unique(task.values.begin(), task.values.end()), task.values.end());
  for (const auto& r : task.reads)
    if (!resident_bytes(*r.source, r.region)) task.buffers += BufferPool::rounded(r.bytes) + r.source->workspace(r.region);
  const auto arena = [&](const std::vector<Need>& needs) {
    Footprint f;
    for (const auto& need : needs) add_need(need, f);
    // A sub-tile that is no contiguous part of its read is gathered.
    for (const auto& r : f.reads) f.arena += align_up(r.bytes, 64);
    return f.arena;
  };
  if (task.makes >= 0 && values_[task.makes].fold) {
    const Fold& fold = *values_[task.makes].fold;
    if (task.run) task.buffers += BufferPool::rounded(fold.state_bytes() ? fold.state_bytes() : fold_bytes(fold));
    std::vector<Need> needs;
    fold.needs(fold_chunks(fold, fold_runs(fold)[task.run])[0], &needs);
    const uint64_t bytes = arena(needs) + align_up(fold.workspace(), 64);
    // What is needed whole may be far more than any tile's: only the one task has it.
    (fold.chunk() ? task.workspace : task.buffers) += bytes;
    return;
  }
  for (size_t i = 0; i < task.tiles.size(); ++i) {
    const Tile& t = task.tiles[i];
    if (t.output == Tile::kValue) {
      task.locksteps.push_back({{0}, Cuts(t.region, values_[t.tensor].node->granularity(), kSubtileElements)});
      break;
    }
    if (outputs_[t.output].store) task.buffers += BufferPool::rounded(t.bytes);
    const auto alike = [&](const Lockstep& l) {
      const Tile& other = task.tiles[l.tiles[0]];
      return other.region == t.region && tensor(other).shape == tensor(t).shape && tensor(other).gran == tensor(t).gran;
    };
    const auto known = std::find_if(task.locksteps.begin(), task.locksteps.end(), alike);
    if (known != task.locksteps.end()) known->tiles.push_back(static_cast<int>(i));
    else task.locksteps.push_back({{static_cast<int>(i)}, Cuts(t.region, tensor(t).gran, kSubtileElements)});
  }
  for (const auto& l : task.locksteps) {
    std::vector<Need> needs;
    for (int i : l.tiles) {
      const Tile& t = task.tiles[i];
      needs.push_back({t.output == Tile::kValue ? values_[t.tensor].node : tensor(t).node, l.subtiles[0], false});
    }
    task.workspace = std::max(task.workspace, arena(needs));
  }
}

}  // namespace ingot
