#include "exec/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <thread>
#include <unordered_map>

namespace ingot {
namespace {

constexpr int64_t kMaxTileElements = 4 << 20;
// Intermediates of a sub-tile in f32 stay in a core's cache.
constexpr int64_t kSubtileElements = 32 << 10;
// At this size and below, any room for more than one tile will do.
constexpr int64_t kRoomyTileElements = 64 << 10;
// Tiles are not made smaller where there are more: planning itself would take seconds and memory.
constexpr size_t kManyTasks = 1 << 18;

struct UnionFind {
  std::vector<int> parent;
  explicit UnionFind(int n) : parent(n) { std::iota(parent.begin(), parent.end(), 0); }
  int find(int x) {
    while (parent[x] != x) x = parent[x] = parent[parent[x]];
    return x;
  }
  void join(int a, int b) { parent[std::max(find(a), find(b))] = std::min(find(a), find(b)); }
};

// What a region of a node draws on: leaf regions, shared values, and the arena that its intermediates take.
struct Draw {
  std::vector<LeafRead> reads;
  std::vector<int> shared;
  uint64_t arena = 0;
};

class Planner {
 public:
  Planner(const std::vector<Output>& outputs, const Facts& facts, const ExecOptions& options)
      : outputs_(outputs), facts_(facts), options_(options) {}

  Result<Plan> run() {
    INGOT_TRY(search(options_.memory ? options_.memory : default_memory(), INT64_MAX));
    if (plan_.floor > plan_.memory)  // the search went through all tilings, so this floor is the least
      return usage("planning: the budget of {} bytes is too small; the least that works here is {} bytes (--memory {}M)",
                   plan_.memory, plan_.floor, (plan_.floor >> 20) + 1);
    plan_.most_used = most_used();
    return std::move(plan_);
  }
  Result<uint64_t> least() {
    INGOT_TRY(search(1, kRoomyTileElements));  // small tiles need the least
    return plan_.floor;
  }

 private:
  // Large tiles first; smaller ones until the budget holds enough of them at once, or they gain nothing. Tiles above `most` are
  // left out; every search goes through the same sizes below it.
  Status search(uint64_t memory, int64_t most) {
    plan_ = Plan();
    plan_.memory = memory;
    INGOT_TRY(lay_out());
    align_granularity();
    int64_t largest = 1;
    for (const Shape& s : shapes_) largest = std::max(largest, s.elements());
    int64_t target = options_.tile_elements ? options_.tile_elements : kMaxTileElements;
    while (target > 256 && (target > most || target / 2 >= largest)) target /= 2;
    Plan best;
    bool have = false;
    // Tiles that share a source region but not its bounds may grow into one huge task: then each reads for itself.
    for (bool merge : {true, false}) {
      int in_vain = 0;
      bool merged = false;
      for (int64_t t = target;; t /= 2) {
        INGOT_ASSIGN(const bool some_merged, make_tasks(t, merge));
        merged |= some_merged;
        budget();
        in_vain = have && plan_.floor >= best.floor ? in_vain + 1 : 0;
        if (in_vain == 0) best = plan_, have = true;
        if (fits(t)) return {};
        // A tile below a sub-tile that needs no less has met a row, or what must stay whole.
        if (t <= 256 || in_vain == 2 || (in_vain && t < kSubtileElements) || plan_.tasks.size() >= kManyTasks) break;
      }
      if (!merged || best.floor <= best.memory) break;
    }
    plan_ = std::move(best);
    return {};
  }

  struct Tensor {
    NodePtr node;
    Shape gran;
  };

  Status lay_out() {
    for (const auto& out : outputs_) {
      PlannedOutput p;
      std::vector<NamedSpec> named;
      for (const auto& t : out.artifact.tensors) {
        p.specs.push_back(t.node->spec_with(facts_));
        named.emplace_back(t.name, p.specs.back());
      }
      auto layout = out.layout(named);
      if (!layout.ok()) return std::move(layout.take_error()).during("laying out " + out.path);
      p.layout = std::move(*layout);
      if (p.layout.tensors.size() != p.specs.size())
        return failed("laying out {}: {} places for {} tensors", out.path, p.layout.tensors.size(), p.specs.size());
      plan_.outputs.push_back(std::move(p));
    }
    return {};
  }

  // Tensors that draw on the same leaves are cut alike where their trailing dimensions agree, so that their tiles meet.
  void align_granularity() {
    std::unordered_map<const LeafNode*, int> by_leaf;
    int n = 0;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      first_tensor_.push_back(n);
      for (size_t i = 0; i < outputs_[o].artifact.tensors.size(); ++i, ++n) {
        Tensor t;
        t.node = outputs_[o].artifact.tensors[i].node;
        t.gran = t.node->granularity();
        t.gran.rank = plan_.outputs[o].specs[i].shape.rank;
        shapes_.push_back(plan_.outputs[o].specs[i].shape);
        tensors_.push_back(std::move(t));
      }
    }
    UnionFind family(n);
    for (int i = 0; i < n; ++i) {
      Draw d;
      draw(tensors_[i].node, Region::all(shapes_[i]), d);
      for (const auto& read : d.reads) {
        auto [it, fresh] = by_leaf.emplace(read.leaf.get(), i);
        if (!fresh) family.join(i, it->second);
      }
    }
    std::map<int, std::vector<int>> members;
    for (int i = 0; i < n; ++i) members[family.find(i)].push_back(i);
    for (auto& [root, ids] : members) {
      for (int a : ids)
        for (int b : ids) {
          const Shape &sa = shapes_[a], &sb = shapes_[b];
          for (int k = 1; k <= std::min(sa.rank, sb.rank); ++k) {
            const int ia = sa.rank - k, ib = sb.rank - k;
            if (sa[ia] != sb[ib]) break;
            tensors_[a].gran[ia] = std::lcm(tensors_[a].gran[ia], std::min(tensors_[b].gran[ib], sb[ib] ? sb[ib] : 1));
          }
        }
    }
  }

  int shared_index(const Need& need) {
    const std::string key = fmt::format("{}{}", static_cast<const void*>(need.node.get()), to_string(need.region));
    auto [it, fresh] = shared_ids_.emplace(key, static_cast<int>(plan_.shared.size()));
    if (!fresh) return it->second;
    Shared s;
    s.node = need.node;
    s.region = need.region;
    s.bytes = bytes_of(need.node->spec_with(facts_).type, need.region.elements());
    plan_.shared.push_back(s);
    Draw d;
    draw(need.node, need.region, d);
    add_shared(it->second, d);
    return it->second;
  }

  int shared_index(const GroupOutput& g) {
    const std::string key = fmt::format("{}", static_cast<const void*>(g.group().get()));
    auto [it, fresh] = shared_ids_.emplace(key, static_cast<int>(plan_.shared.size()));
    if (!fresh) return it->second;
    Shared s;
    s.group = g.group();
    for (const auto& o : g.group()->outputs()) s.bytes += bytes_of(o);
    plan_.shared.push_back(s);
    Draw d;
    d.arena = g.group()->workspace();
    for (const auto& in : g.group()->inputs()) draw(in, Region::all(in->spec_with(facts_).shape), d);
    add_shared(it->second, d);
    return it->second;
  }

  void add_shared(int id, const Draw& d) {
    uint64_t reads = 0;
    for (const auto& r : d.reads) reads += r.bytes;
    plan_.shared[id].loading = d.arena + reads;
    shared_needs_[id] = d.shared;
    shared_reads_ += reads;
  }

  void draw(const NodePtr& node, const Region& region, Draw& d) {
    if (auto leaf = std::dynamic_pointer_cast<const LeafNode>(node)) {
      const uint64_t bytes = bytes_of(leaf->spec().type, region.elements());
      for (auto& r : d.reads)
        if (r.leaf == leaf) {
          if (!contains(r.region, region)) {
            r.region = bounding(r.region, region);
            r.bytes = bytes_of(leaf->spec().type, r.region.elements());
          }
          return;
        }
      d.reads.push_back({leaf, region, bytes});
      return;
    }
    if (auto group = std::dynamic_pointer_cast<const GroupOutput>(node)) {
      d.shared.push_back(shared_index(*group));
      d.arena += bytes_of(group->spec().type, region.elements());
      return;
    }
    std::vector<Need> needs;
    node->needs(region, &needs);
    for (const auto& need : needs) {
      if (need.broadcast)
        d.shared.push_back(shared_index(need));
      else
        draw(need.node, need.region, d);
    }
    d.arena += align_up(bytes_of(node->spec_with(facts_).type, region.elements()), 64) + align_up(node->workspace(region), 64);
  }

  // Appends `id` and, before it, what it needs.
  void close_over(int id, std::vector<int>& out) {
    if (std::find(out.begin(), out.end(), id) != out.end()) return;
    for (int need : shared_needs_[id]) close_over(need, out);
    out.push_back(id);
  }

  // Whether any two tiles share a task.
  Result<bool> make_tasks(int64_t target, bool merge) {
    plan_.tasks.clear();
    plan_.shared.clear();
    shared_ids_.clear();
    shared_needs_.clear();
    shared_reads_ = 0;
    struct Tile {
      Piece piece;
      Draw draw;
      int tensor_id;
    };
    std::vector<Tile> tiles;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      const auto& po = plan_.outputs[o];
      for (size_t i = 0; i < po.specs.size(); ++i) {
        const int id = first_tensor_[o] + static_cast<int>(i);
        const TensorSpec& spec = po.specs[i];
        if (spec.shape.elements() == 0) continue;
        uint64_t at = po.layout.tensors[i].offset;
        for (const Region& r : cut_tiles(Region::all(spec.shape), tensors_[id].gran, target)) {
          Tile t;
          t.tensor_id = id;
          t.piece = {static_cast<int>(o), static_cast<int>(i), r, po.layout.tensors[i].file, at,
                     bytes_of(spec.type, r.elements())};
          at += t.piece.bytes;
          draw(tensors_[id].node, r, t.draw);
          tiles.push_back(std::move(t));
        }
      }
    }
    UnionFind task_of(static_cast<int>(tiles.size()));
    if (merge) {
      struct Reader {
        const Region* region;
        int tile;
      };
      std::unordered_map<const LeafNode*, std::vector<Reader>> readers;
      for (size_t i = 0; i < tiles.size(); ++i)
        for (const auto& r : tiles[i].draw.reads) readers[r.leaf.get()].push_back({&r.region, static_cast<int>(i)});
      auto tensor = [&](const Reader& r) { return tiles[r.tile].tensor_id; };
      for (auto& [leaf, list] : readers) {
        std::sort(list.begin(), list.end(), [&](const Reader& a, const Reader& b) {
          return std::tuple(a.region->begin.d, a.region->extent.d, tensor(a), a.tile) <
                 std::tuple(b.region->begin.d, b.region->extent.d, tensor(b), b.tile);
        });
        // Readers of one region share a task; each tensor is then asked once about it.
        size_t n = 0;
        for (size_t i = 0; i < list.size(); ++i) {
          const bool same = i && *list[i].region == *list[n - 1].region;
          if (same) task_of.join(list[i].tile, list[n - 1].tile);
          if (!same || tensor(list[i]) != tensor(list[n - 1])) list[n++] = list[i];
        }
        list.resize(n);
        // In this order a region can only meet those whose first row comes before its end.
        for (size_t a = 0; a < n; ++a) {
          const Region& at = *list[a].region;
          const int64_t end = at.extent.rank ? at.begin[0] + at.extent[0] : 1;
          for (size_t b = a + 1; b < n && list[b].region->begin[0] < end; ++b)
            if (tensor(list[a]) != tensor(list[b]) && intersects(at, *list[b].region))
              task_of.join(list[a].tile, list[b].tile);
        }
      }
    }
    std::vector<int> ids(tiles.size(), -1);
    for (size_t i = 0; i < tiles.size(); ++i) {
      int& id = ids[task_of.find(static_cast<int>(i))];
      if (id < 0) {
        id = static_cast<int>(plan_.tasks.size());
        plan_.tasks.emplace_back();
      }
      Task& task = plan_.tasks[id];
      Tile& t = tiles[i];
      for (auto& r : t.draw.reads) {
        auto known = std::find_if(task.reads.begin(), task.reads.end(), [&](auto& k) { return k.leaf == r.leaf; });
        if (known == task.reads.end()) {
          task.reads.push_back(r);
        } else if (!contains(known->region, r.region)) {
          known->region = bounding(known->region, r.region);
          known->bytes = bytes_of(r.leaf->spec().type, known->region.elements());
        }
      }
      for (int s : t.draw.shared) close_over(s, task.shared);
      task.pieces.push_back(t.piece);
    }
    // In the order of what they write first; the index settles ties, so that every run has the same order.
    using Place = std::tuple<int, int, uint64_t, size_t>;
    std::vector<Place> order;
    order.reserve(plan_.tasks.size());
    for (size_t i = 0; i < plan_.tasks.size(); ++i) {
      const auto& pieces = plan_.tasks[i].pieces;
      auto place = [&](const Piece& p) { return Place(p.output, p.file, p.offset, i); };
      Place first = place(pieces[0]);
      for (const auto& p : pieces) first = std::min(first, place(p));
      order.push_back(first);
    }
    std::sort(order.begin(), order.end());
    std::vector<Task> sorted;
    sorted.reserve(order.size());
    for (const auto& place : order) sorted.push_back(std::move(plan_.tasks[std::get<3>(place)]));
    plan_.tasks = std::move(sorted);
    plan_.source_bytes = shared_reads_;
    for (size_t i = 0; i < plan_.tasks.size(); ++i) finish_task(static_cast<int>(i));
    return plan_.tasks.size() < tiles.size();
  }

  void finish_task(int index) {
    Task& task = plan_.tasks[index];
    task.buffers = 0;
    for (const auto& r : task.reads) {
      task.buffers += align_up(r.bytes, 64 << 10);
      plan_.source_bytes += r.bytes;
    }
    for (const auto& p : task.pieces) task.buffers += align_up(p.bytes, 64 << 10);
    for (int s : task.shared) {
      if (plan_.shared[s].first_task < 0) plan_.shared[s].first_task = index;
      plan_.shared[s].last_task = index;
    }
    // Pieces over the same region, cut by the same granularity, go in step.
    for (size_t i = 0; i < task.pieces.size(); ++i) {
      const Piece& p = task.pieces[i];
      const int id = first_tensor_[p.output] + p.tensor;
      Lockstep* found = nullptr;
      for (auto& g : task.groups) {
        const Piece& q = task.pieces[g.pieces[0]];
        const int qid = first_tensor_[q.output] + q.tensor;
        if (q.region == p.region && shapes_[qid] == shapes_[id] && tensors_[qid].gran == tensors_[id].gran) found = &g;
      }
      if (found) {
        found->pieces.push_back(static_cast<int>(i));
      } else {
        task.groups.push_back({{static_cast<int>(i)}, cut_tiles(p.region, tensors_[id].gran, kSubtileElements)});
      }
    }
    task.workspace = 0;
    for (const auto& g : task.groups) {
      uint64_t arena = 0;
      for (int p : g.pieces) {
        Draw d;
        const int id = first_tensor_[task.pieces[p].output] + task.pieces[p].tensor;
        draw(tensors_[id].node, g.subtiles[0], d);
        arena += d.arena;
        // A sub-tile that is no contiguous part of its read is gathered.
        for (const auto& r : d.reads) arena += r.bytes;
      }
      task.workspace = std::max(task.workspace, arena);
    }
  }

  // Fixed reserves and the floor, spilling groups where that helps.
  void budget() {
    uint64_t workspace = 0, largest_piece = 0;
    for (const auto& t : plan_.tasks) {
      workspace = std::max(workspace, t.workspace);
      for (const auto& p : t.pieces) largest_piece = std::max(largest_piece, p.bytes);
    }
    uint64_t ordered = 0, files_open = 0;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      const Capabilities caps = outputs_[o].store->capabilities();
      if (caps.mode != WriteMode::kRandom) ordered += reorder_peak(static_cast<int>(o));
      if (caps.mode == WriteMode::kParts) ordered += std::max(caps.part_min, options_.leaf_bytes);
      files_open += std::min<size_t>(2, plan_.outputs[o].layout.files.size());
    }
    auto reserve = [&](int threads) {
      const uint64_t window = threads + 2;
      bool any_ordered = false;
      for (const auto& o : outputs_) any_ordered |= o.store->capabilities().mode != WriteMode::kRandom;
      return threads * (workspace + (1 << 16)) + files_open * (window + 1) * options_.leaf_bytes + ordered +
             (any_ordered ? window * largest_piece : 0);
    };
    const int want = options_.threads > 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
    for (plan_.threads = want; plan_.threads > 1; plan_.threads = (plan_.threads + 1) / 2) {
      plan_.fixed_reserve = reserve(plan_.threads);
      if (plan_.fixed_reserve + peak_need() <= plan_.memory) break;
    }
    plan_.fixed_reserve = reserve(plan_.threads);
    plan_.window = plan_.threads + 2;
    if (plan_.fixed_reserve + peak_need() > plan_.memory) spill(reserve(1));
    plan_.floor = reserve(1) + peak_need();
  }

  // The most that one task and the shared values alive at its time need together.
  uint64_t peak_need() const {
    std::vector<int64_t> alive(plan_.tasks.size() + 1, 0);
    std::vector<uint64_t> once(plan_.tasks.size(), 0);
    for (const auto& s : plan_.shared) {
      if (s.first_task < 0) continue;
      if (s.spilled) {
        once[s.first_task] += s.bytes + s.loading;
      } else {
        alive[s.first_task] += s.bytes;
        alive[s.last_task + 1] -= s.bytes;
        once[s.first_task] += s.loading;
      }
    }
    uint64_t peak = 0;
    int64_t now = 0;
    for (size_t i = 0; i < plan_.tasks.size(); ++i) {
      now += alive[i];
      peak = std::max<uint64_t>(peak, now + once[i] + plan_.tasks[i].buffers);
    }
    return peak;
  }

  // What a run reserves when as many tasks are in flight as may be, each with the shared values that it uses.
  uint64_t most_used() const {
    const size_t window = plan_.window;
    std::vector<int64_t> change(plan_.tasks.size() + window + 2, 0);
    auto held = [&](size_t first, size_t last, uint64_t bytes) {
      change[first] += bytes;
      change[last + window] -= bytes;
    };
    for (size_t i = 0; i < plan_.tasks.size(); ++i) held(i, i, plan_.tasks[i].buffers);
    for (const auto& s : plan_.shared) {
      if (s.first_task < 0) continue;
      held(s.first_task, s.first_task, s.loading + (s.spilled ? s.bytes : 0));
      if (!s.spilled) held(s.first_task, s.last_task, s.bytes);
    }
    int64_t now = 0, most = 0;
    for (const int64_t c : change) most = std::max(most, now += c);
    return std::min(plan_.memory, plan_.fixed_reserve + most);
  }

  void spill(uint64_t reserve) {
    plan_.scratch_bytes = 0;
    std::vector<int> groups;
    for (size_t i = 0; i < plan_.shared.size(); ++i)
      if (plan_.shared[i].group && plan_.shared[i].last_task > plan_.shared[i].first_task) groups.push_back(i);
    std::sort(groups.begin(), groups.end(), [&](int a, int b) {
      return std::pair(plan_.shared[b].bytes, a) < std::pair(plan_.shared[a].bytes, b);
    });
    for (int g : groups) {
      if (reserve + peak_need() <= plan_.memory) break;
      plan_.shared[g].spilled = true;
      plan_.shared[g].scratch_offset = plan_.scratch_bytes;
      plan_.scratch_bytes += plan_.shared[g].bytes;
    }
  }

  // Bytes that wait in an ordered file because tasks come in another order than its layout.
  uint64_t reorder_peak(int output) const {
    std::map<int, std::map<uint64_t, uint64_t>> waiting;
    std::map<int, std::vector<std::pair<uint64_t, uint64_t>>> order;
    for (const auto& t : plan_.tasks)
      for (const auto& p : t.pieces)
        if (p.output == output) order[p.file].emplace_back(p.offset, p.bytes);
    uint64_t peak = 0, now = 0;
    std::map<int, size_t> next;
    std::map<int, std::vector<std::pair<uint64_t, uint64_t>>> sorted = order;
    for (auto& [f, v] : sorted) std::sort(v.begin(), v.end());
    for (const auto& t : plan_.tasks)
      for (const auto& p : t.pieces) {
        if (p.output != output) continue;
        waiting[p.file][p.offset] = p.bytes;
        now += p.bytes;
        peak = std::max(peak, now);
        auto& n = next[p.file];
        auto& w = waiting[p.file];
        while (n < sorted[p.file].size() && w.count(sorted[p.file][n].first)) {
          now -= sorted[p.file][n].second;
          w.erase(sorted[p.file][n].first);
          ++n;
        }
      }
    return peak;
  }

  // Enough room for every thread to have a task while the next is read? Below some size of tile any room will do.
  bool fits(int64_t tile) const {
    const uint64_t need = plan_.fixed_reserve + peak_need();
    if (need > plan_.memory) return false;
    uint64_t largest = 0;
    for (const auto& t : plan_.tasks) largest = std::max(largest, t.buffers);
    const int want = options_.threads > 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
    return plan_.threads == want && (need + plan_.threads * largest <= plan_.memory || tile <= kRoomyTileElements);
  }

  const std::vector<Output>& outputs_;
  const Facts& facts_;
  const ExecOptions& options_;
  Plan plan_;
  std::vector<Tensor> tensors_;  // of all outputs, one after another
  std::vector<Shape> shapes_;
  std::vector<int> first_tensor_;
  std::map<std::string, int> shared_ids_;
  std::map<int, std::vector<int>> shared_needs_;
  uint64_t shared_reads_ = 0;
};

}  // namespace

std::vector<Region> cut_tiles(const Region& whole, const Shape& gran, int64_t target) {
  const Shape& s = whole.extent;
  if (s.rank == 0 || s.elements() <= target) return {whole};
  // The outermost dimension whose smallest slice fits the target; never inside one that must stay whole.
  int d = 0;
  while (d < s.rank - 1 && std::min(gran[d], s[d]) * s.stride(d) > target && gran[d] == 1) ++d;
  const int64_t unit = s.stride(d) * gran[d];
  const int64_t step = std::max<int64_t>(1, target / unit) * gran[d];
  std::vector<Region> out;
  int64_t prefixes = 1;
  for (int i = 0; i < d; ++i) prefixes *= s[i];
  for (int64_t p = 0; p < prefixes; ++p) {
    Region r = whole;
    int64_t rest = p;
    for (int i = d - 1; i >= 0; --i) {
      r.begin[i] = whole.begin[i] + rest % s[i];
      r.extent[i] = 1;
      rest /= s[i];
    }
    for (int64_t at = 0; at < s[d]; at += step) {
      r.begin[d] = whole.begin[d] + at;
      r.extent[d] = std::min(step, s[d] - at);
      out.push_back(r);
    }
  }
  return out;
}

uint64_t default_memory() {
  uint64_t kib = 0;
  if (FILE* f = std::fopen("/proc/meminfo", "r")) {
    char line[128];
    while (std::fgets(line, sizeof line, f))
      if (std::sscanf(line, "MemAvailable: %lu kB", &kib) == 1) break;
    std::fclose(f);
  }
  return kib ? kib * 1024 / 4 : 1ull << 30;
}

Result<Plan> make_plan(const std::vector<Output>& outputs, const Facts& facts, const ExecOptions& options) {
  return Planner(outputs, facts, options).run();
}

Result<uint64_t> least_memory(const std::vector<Output>& outputs, const Facts& facts, const ExecOptions& options) {
  return Planner(outputs, facts, options).least();
}

}  // namespace ingot
