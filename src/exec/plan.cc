#include "exec/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/threads.h"
#include "exec/buffers.h"
#include "exec/sink.h"

namespace ingot {
namespace {

constexpr int64_t kMaxTileElements = 4 << 20;
// At this size and below, any room for more than one tile will do.
constexpr int64_t kRoomyTileElements = 64 << 10;
// A tile below this that needs no less than a larger one has met a row, or what must stay whole.
constexpr int64_t kSmallTileElements = 32 << 10;
// Tiles are not made smaller where there are more: splitting would take seconds.
constexpr uint64_t kManyTasks = 1 << 18;
constexpr int kMostReaders = 64;

class Planner {
 public:
  Planner(const std::vector<Output>& outputs, const ExecOptions& options) : outputs_(outputs), options_(options) {}

  Result<std::unique_ptr<Plan>> run() {
    INGOT_TRY(search(options_.memory ? options_.memory : default_memory()));
    if (plan_->floor > plan_->memory)  // the search went through all tilings, so this floor is the least
      return usage("planning: the budget of {} bytes is too small; the least that works here is {} bytes (--memory {}M)",
                   plan_->memory, plan_->floor, (plan_->floor >> 20) + 1);
    plan_->most_used = most_used();
    return std::move(plan_);
  }
  Result<uint64_t> least() {
    INGOT_TRY(search(1));
    return plan_->floor;
  }

 private:
  // Large tiles first; smaller ones until the budget holds enough of them at once, or they gain nothing. For any budget in the same order, so that what
  // one search finds to be the least is found by another that has just as much.
  Status search(uint64_t memory) {
    plan_ = std::make_unique<Plan>();
    plan_->memory = memory;
    for (const auto& out : outputs_) {
      INGOT_ASSIGN(Layout layout, layout_of(out));
      plan_->layouts.push_back(std::move(layout));
    }
    plan_->tiling = std::make_shared<Tiling>(outputs_, plan_->layouts);
    const int64_t largest = plan_->tiling->largest();
    int64_t target = options_.tile_elements ? options_.tile_elements : kMaxTileElements;
    while (target > 256 && target / 2 >= largest) target /= 2;
    std::pair<int64_t, bool> best;
    uint64_t least = UINT64_MAX;
    // Tiles that share a source region but not its bounds may grow into one huge task: then each reads for itself.
    for (bool merge : {true, false}) {
      int in_vain = 0;
      bool merged = false;
      for (int64_t t = target;; t /= 2) {
        make_tasks(t, merge);
        merged |= plan_->tiling->merged();
        budget();
        in_vain = plan_->floor >= least ? in_vain + 1 : 0;
        if (in_vain == 0) best = {t, merge}, least = plan_->floor;
        if (fits(t)) return {};
        if (t <= 256 || in_vain == 2 || (in_vain && t < kSmallTileElements) || plan_->fine_tasks >= kManyTasks) break;
      }
      if (!merged || least <= memory) break;
    }
    make_tasks(best.first, best.second);
    budget();
    return {};
  }

  void make_tasks(int64_t target, bool merge) {
    Plan& p = *plan_;
    p.tasks.clear();
    p.source_bytes = p.fine_tasks = p.scratch_bytes = 0;
    p.readers = 1;
    plan_bytes_ = most_split_bytes_ = workspace_ = largest_tile_ = 0;
    held_.clear();
    held_.resize(outputs_.size());
    for (size_t o = 0; o < outputs_.size(); ++o) {
      const Layout& l = p.layouts[o];
      for (const auto& f : l.files) held_[o].files.emplace_back(f, caps_of(o), options_.leaf_bytes);
      for (size_t i = 0; i < l.tensors.size(); ++i)
        if (const uint64_t bytes = bytes_of(outputs_[o].artifact.tensors[i].spec())) held_[o].files[l.tensors[i].file].add(l.tensors[i].offset, bytes);
      for (size_t f = 0; f < l.files.size(); ++f) {
        for (const auto& e : l.files[f].extents)
          if (e.late) held_[o].files[f].add(e.offset, e.bytes.size());
        held_[o].files[f].begin();
      }
    }
    p.tiling->begin(target, merge);
    for (Task& t : p.tiling->coarse()) place(std::move(t));
    plan_bytes_ += p.values().size() * (sizeof(Value) + 128);
  }

  // Appends a coarse task, after the makers of the values that it is the first to need; with what its fine ones take.
  void place(Task task) {
    Plan& p = *plan_;
    uint64_t split_bytes = 0;
    for (const Task& fine : p.tiling->split(task)) {
      ++p.fine_tasks;
      task.buffers = std::max(task.buffers, fine.buffers);
      task.values.insert(task.values.end(), fine.values.begin(), fine.values.end());
      workspace_ = std::max(workspace_, fine.workspace);
      for (const auto& r : fine.reads) {
        p.source_bytes += r.bytes;
        if (const ReadFile* f = r.source->file()) p.readers = std::clamp(f->capabilities().requests, p.readers, kMostReaders);
      }
      split_bytes += bytes_in(fine);
      for (const Tile& t : fine.tiles) {
        if (t.output == Tile::kValue) continue;
        if (caps_of(t.output).mode == WriteMode::kSequential) largest_tile_ = std::max(largest_tile_, t.bytes);
        held_[t.output].come(t);
      }
    }
    most_split_bytes_ = std::max(most_split_bytes_, split_bytes);
    std::sort(task.values.begin(), task.values.end());
    task.values.erase(std::unique(task.values.begin(), task.values.end()), task.values.end());
    for (int v : task.values)
      if (value(v).first_task < 0)
        for (Task& maker : p.tiling->makers(v)) {
          place(std::move(maker));
          value(v).last_maker = static_cast<int>(p.tasks.size()) - 1;
          if (value(v).first_task < 0) value(v).first_task = value(v).last_maker;
        }
    for (int v : task.values) value(v).last_task = static_cast<int>(p.tasks.size());
    plan_bytes_ += bytes_in(task);
    p.tasks.push_back(std::move(task));
  }

  Capabilities caps_of(size_t o) const { return outputs_[o].store ? outputs_[o].store->capabilities() : Capabilities{}; }
  static uint64_t bytes_in(const Task& t) {
    return sizeof(Task) + t.tiles.size() * sizeof(Tile) + t.reads.size() * sizeof(Read) + t.locksteps.size() * (sizeof(Lockstep) + 16) +
           t.values.size() * sizeof(int);
  }
  Value& value(int v) { return plan_->tiling->values()[v]; }

  // Fixed reserves and the floor, spilling values where that helps.
  void budget() {
    // What sinks hold back: in the order of the tasks, and more where threads finish theirs in another; and parts on their way.
    uint64_t held = 0, part = 0;
    int requests = 0;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      const Capabilities caps = caps_of(o);
      held += held_[o].peak;
      if (caps.mode != WriteMode::kParts) continue;
      requests = std::max(requests, caps.requests);
      for (const auto& f : plan_->layouts[o].files) part = std::max(part, part_bytes(f.size, caps, options_.leaf_bytes));
    }
    const auto reserve = [&](int threads, int uploads = 0) {
      const uint64_t late = threads > 1 ? (threads + plan_->readers - 1) * largest_tile_ + (threads - 1) * 2 * part : 0;
      return threads * (workspace_ + (1 << 16) + options_.leaf_bytes) + held + late + (uploads ? uploads + 1 : 0) * part + plan_bytes_ + most_split_bytes_;
    };
    for (plan_->uploads = requests; plan_->uploads > 0; plan_->uploads /= 2)
      if (reserve(thread_count(options_.threads), plan_->uploads) + peak_need() <= plan_->memory) break;
    for (plan_->threads = thread_count(options_.threads); plan_->threads > 1; plan_->threads = (plan_->threads + 1) / 2)
      if (reserve(plan_->threads, plan_->uploads) + peak_need() <= plan_->memory) break;
    plan_->fixed_reserve = reserve(plan_->threads, plan_->uploads);
    plan_->window = plan_->threads + plan_->readers;
    if (plan_->fixed_reserve + peak_need() > plan_->memory) spill(reserve(1));
    plan_->floor = reserve(1) + peak_need();
  }

  // What the values alive take, at each task.
  std::vector<uint64_t> alive() const {
    std::vector<int64_t> change(plan_->tasks.size() + 1, 0);
    const auto held = [&](int first, int last, uint64_t bytes) {
      change[first] += static_cast<int64_t>(bytes);
      change[last + 1] -= static_cast<int64_t>(bytes);
    };
    for (const auto& v : plan_->values()) {
      if (v.first_task < 0) continue;
      if (v.state) held(v.first_task, v.last_maker, Kept::cost(v.state));
      held(v.first_task, v.spilled ? v.last_maker : v.last_task, Kept::cost(v.bytes));
    }
    std::vector<uint64_t> all;
    int64_t now = 0;
    for (size_t i = 0; i < plan_->tasks.size(); ++i) all.push_back(now += change[i]);
    return all;
  }
  // The most that one task and the values alive at its time need together.
  uint64_t peak_need() const {
    uint64_t peak = 0;
    const auto values = alive();
    for (size_t i = 0; i < values.size(); ++i) peak = std::max(peak, values[i] + plan_->tasks[i].buffers);
    return peak;
  }
  uint64_t largest_task() const {
    uint64_t largest = 0;
    for (const auto& t : plan_->tasks) largest = std::max(largest, t.buffers);
    return largest;
  }
  // What a run reserves when as many tasks are in flight as may be.
  uint64_t most_used() const {
    uint64_t values = 0;
    for (const uint64_t v : alive()) values = std::max(values, v);
    return std::min(plan_->memory, plan_->fixed_reserve + values + std::min<uint64_t>(plan_->window, plan_->fine_tasks) * largest_task());
  }

  void spill(uint64_t reserve) {
    std::vector<int> folds;
    for (size_t i = 0; i < plan_->values().size(); ++i) {
      const Value& v = plan_->values()[i];
      if (v.fold && v.key.empty() && !v.needed_whole && v.last_task > v.first_task && outputs_[0].store) folds.push_back(static_cast<int>(i));
    }
    std::sort(folds.begin(), folds.end(), [&](int a, int b) { return std::pair(value(b).bytes, a) < std::pair(value(a).bytes, b); });
    // The fewest of them, the largest first.
    const auto enough = [&](size_t n) {
      plan_->scratch_bytes = 0;
      for (size_t i = 0; i < folds.size(); ++i) {
        Value& v = value(folds[i]);
        v.spilled = i < n;
        if (i >= n) continue;
        v.scratch_offset = plan_->scratch_bytes;
        plan_->scratch_bytes += v.bytes;
      }
      return reserve + peak_need() <= plan_->memory;
    };
    size_t low = 0, high = folds.size();
    while (low < high) {
      const size_t middle = low + (high - low) / 2;
      if (enough(middle)) high = middle;
      else low = middle + 1;
    }
    (void)enough(low);
  }

  // Enough room for every thread to have a task while the next is read? Below some size of tile any room will do.
  bool fits(int64_t tile) const {
    const uint64_t need = plan_->fixed_reserve + peak_need();
    if (need > plan_->memory) return false;
    return plan_->threads == thread_count(options_.threads) && (need + plan_->threads * largest_task() <= plan_->memory || tile <= kRoomyTileElements);
  }

  struct Held {
    std::vector<Holdback> files;
    int64_t now = 0, peak = 0;
    void come(const Tile& t) {
      int64_t most = 0;
      const int64_t change = files[t.file].come(t.offset, t.bytes, &most);
      peak = std::max(peak, now + most);
      now += change;
    }
  };
  const std::vector<Output>& outputs_;
  const ExecOptions& options_;
  std::unique_ptr<Plan> plan_;
  std::vector<Held> held_;  // of each output
  uint64_t plan_bytes_ = 0, most_split_bytes_ = 0, workspace_ = 0, largest_tile_ = 0;
};

}  // namespace

Result<Layout> layout_of(const Output& out) {
  std::vector<NamedSpec> named;
  for (const auto& t : out.artifact.tensors) named.emplace_back(t.name, t.spec());
  auto layout = out.layout(named);
  if (!layout.ok()) return std::move(layout.take_error()).during("laying out " + out.path);
  if (layout->tensors.size() != named.size())
    return failed("laying out {}: {} places for {} tensors", out.path, layout->tensors.size(), named.size());
  for (size_t i = 0; i < named.size() && out.store; ++i) {
    const Placement& p = layout->tensors[i];
    const uint64_t bytes = bytes_of(named[i].second);
    if (p.file < 0 || static_cast<size_t>(p.file) >= layout->files.size() || bytes > layout->files[p.file].size || p.offset > layout->files[p.file].size - bytes)
      return failed("laying out {}: {} bytes of {} at {} pass the end of file {}", out.path, bytes, named[i].first, p.offset, p.file);
  }
  return layout;
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

Result<std::unique_ptr<Plan>> make_plan(const std::vector<Output>& outputs, const ExecOptions& options) {
  return Planner(outputs, options).run();
}

Result<uint64_t> least_memory(const std::vector<Output>& outputs, const ExecOptions& options) { return Planner(outputs, options).least(); }

}  // namespace ingot
