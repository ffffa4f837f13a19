#include "exec/pipeline.h"

#include <fmt/format.h>

#include <condition_variable>
#include <cstring>
#include <set>

#include "base/threads.h"
#include "exec/evaluator.h"

namespace ingot {
namespace {

constexpr auto kLook = std::chrono::milliseconds(50);  // for a cancellation, which wakes nobody

// A coarse task whose fine ones are in flight.
struct Batch {
  int task = 0;
  std::atomic<int> left{1};  // fine tasks, and the admitting thread while it makes more
};

// A task in flight.
struct Running {
  uint64_t number = 0;  // in the order of admission
  uint64_t writer = 0;  // among those that are no makers
  Task task;
  std::shared_ptr<Batch> batch;
  uint64_t reserved = 0;
  struct Bytes {
    Buffer own;
    std::byte* data = nullptr;
  };
  std::vector<Bytes> reads;
};
using RunningPtr = std::unique_ptr<Running>;

// A closable queue that gives tasks out in the order of their numbers.
class Queue {
 public:
  void push(RunningPtr p) {
    {
      std::lock_guard lock(mutex_);
      const uint64_t n = p->number;
      items_.emplace(n, std::move(p));
    }
    ready_.notify_all();
  }
  RunningPtr pop() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return closed_ || (!items_.empty() && items_.begin()->first == next_); });
    if (items_.empty() || items_.begin()->first != next_) return nullptr;
    RunningPtr p = std::move(items_.begin()->second);
    items_.erase(items_.begin());
    ++next_;
    if (!items_.empty()) ready_.notify_one();
    return p;
  }
  void close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::map<uint64_t, RunningPtr> items_;
  uint64_t next_ = 0;
  bool closed_ = false;
};

struct ValueState {
  std::mutex mutex;
  std::condition_variable made;
  bool ready = false;
  Kept bytes, state;
  uint64_t filled = 0;                 // bytes of a broadcast value
  int64_t next_run = 0;                // of a fold, to be merged
  std::map<int64_t, Buffer> waiting;   // states of later runs
  std::atomic<int> users{0};           // planned tasks that make or need it
  bool reserved = false;               // by the admitting thread only
};

class Pipeline {
 public:
  explicit Pipeline(const PipelineContext& c)
      : c_(c), pool_(c.plan.memory > c.plan.fixed_reserve ? c.plan.memory - c.plan.fixed_reserve : 0), values_(c.plan.values().size()) {}

  Status run() {
    const std::vector<int> todo = wanted();
    Threads readers, workers;
    const auto reader = [&] { return stop_on_error([&] { return read_loop(); }); };
    const auto worker = [&] { return stop_on_error([&] { return compute_loop(); }); };
    // One of each is enough, so the first of each come first; others that the system refuses are done without, if need be all.
    readers.start(reader);
    for (int i = 0; i < c_.plan.threads && workers.start(worker); ++i) {
    }
    for (int i = 1; i < c_.plan.readers && readers.start(reader); ++i) {
    }
    alone_ = !workers.size() || !readers.size();
    if (!alone_) (void)stop_on_error([&] { return admit(todo); });
    to_read_.close();
    (void)readers.join();
    to_compute_.close();
    (void)workers.join();
    if (alone_) (void)stop_on_error([&] { return admit(todo); });
    std::lock_guard lock(mutex_);
    return error_.ok() && c_.cancel && c_.cancel->cancelled() ? Status(interrupted()) : error_;
  }

 private:
  const Value& plan_of(int v) const { return c_.plan.values()[v]; }
  const Node* node_of(const Tile& t) const {
    return t.output == Tile::kValue ? plan_of(t.tensor).node.get() : c_.outputs[t.output].artifact.tensors[t.tensor].node.get();
  }

  // Where a tile goes that goes to memory; a file's has no place of its own.
  MutByteView place_of(const Tile& t) {
    if (t.output == Tile::kValue) return values_[t.tensor].bytes.view().subspan(t.offset, t.bytes);
    return c_.sinks.empty() ? c_.memory[t.tensor].subspan(t.offset, t.bytes) : MutByteView();
  }

  // The provider of one worker while it runs one task.
  class TaskProvider final : public Provider {
   public:
    TaskProvider(Pipeline& p, const Running& running) : p_(p), running_task_(running) {}
    Result<View> source(const Source& source, const Region& region, Arena& arena) override {
      const auto& reads = running_task_.task.reads;
      for (size_t i = 0; i < reads.size(); ++i)
        if (reads[i].source.get() == &source && contains(reads[i].region, region))
          return view_of(running_task_.reads[i].data, reads[i].region, source.spec().type, region, arena);
      return failed("{}: a read that was not planned; this is a defect of ingot", source.describe());
    }
    Result<View> value(const Node& node, const Region& region, Arena& arena) override {
      const auto* output = dynamic_cast<const FoldOutput*>(&node);
      const TensorSpec spec = node.spec();
      for (int v : running_task_.task.values) {
        const Value& plan = p_.plan_of(v);
        if (output ? plan.fold != output->fold() : plan.node.get() != &node || !(plan.region == region)) continue;
        if (!output) return View{p_.values_[v].bytes.data(), region, spec.type};
        const uint64_t at = fold_offset(*output->fold(), output->index());
        const Region all = Region::all(spec.shape);
        if (!plan.spilled) return view_of(p_.values_[v].bytes.data() + at, all, spec.type, region, arena);
        std::byte* out = arena.allocate(bytes_of(spec.type, region.elements()));
        Status status;
        for_each_run(all, region, [&](int64_t from, int64_t to, int64_t n) {
          if (status.ok())
            status = p_.c_.scratch->read_back(plan.scratch_offset + at + bytes_of(spec.type, from), {out + bytes_of(spec.type, to), bytes_of(spec.type, n)});
        });
        INGOT_TRY(std::move(status));
        return View{out, region, spec.type};
      }
      return failed("{}: a need that was not planned; this is a defect of ingot", node.describe());
    }

   private:
    Pipeline& p_;
    const Running& running_task_;
  };

  bool pending(const Task& t) const {
    for (const auto& tile : t.tiles)
      if (tile.output == Tile::kValue || c_.sinks.empty() || c_.sinks[tile.output][tile.file]->pending(tile.offset, tile.bytes)) return true;
    return t.tiles.empty();
  }

  // The tasks with something to do; of makers those whose value one of them needs, unless an earlier run has recorded it.
  std::vector<int> wanted() {
    std::vector<int> todo;
    for (int i = static_cast<int>(c_.plan.tasks.size()); i-- > 0;) {
      const Task& t = c_.plan.tasks[i];
      if (t.makes >= 0 ? !values_[t.makes].users || fact(t.makes) : !pending(t)) continue;
      todo.push_back(i);
      if (t.makes >= 0) ++values_[t.makes].users;
      for (int v : t.values) ++values_[v].users;
    }
    return {todo.rbegin(), todo.rend()};
  }
  const std::string* fact(int v) const {
    const auto it = plan_of(v).key.empty() ? c_.facts.end() : c_.facts.find(plan_of(v).key);
    return it == c_.facts.end() || it->second.size() != plan_of(v).bytes ? nullptr : &it->second;
  }

  bool stopped() const { return stop_ || (c_.cancel && c_.cancel->cancelled()); }

  // The error is kept here; nothing on the way needs memory.
  template <class F>
  Status stop_on_error(F f) {
    if (Status s = guarded(f); !s.ok()) fail(std::move(s));
    return {};
  }
  void fail(Status s) {
    {
      std::lock_guard lock(mutex_);
      if (error_.ok()) error_ = std::move(s);
      stop_ = true;
    }
    pool_.wake();
    window_.notify_all();
  }

  Status admit(const std::vector<int>& todo) {
    uint64_t number = 0, writers = 0;
    for (int index : todo) {
      const Task& planned = c_.plan.tasks[index];
      auto batch = std::make_shared<Batch>();
      batch->task = index;
      for (Task& task : c_.plan.tiling->split(planned)) {
        if (!pending(task)) continue;
        {
          // From the oldest that is not finished: what an ordered sink holds back behind it is bounded. Makers write to no sink.
          std::unique_lock lock(mutex_);
          while (task.makes < 0 && !running_.empty() && writers - *running_.begin() >= static_cast<uint64_t>(c_.plan.window) && !stopped())
            window_.wait_for(lock, kLook);
        }
        std::vector<int> fresh;
        uint64_t bytes = task.buffers;
        const auto take = [&](int v) {
          if (values_[v].reserved) return;
          fresh.push_back(v);
          bytes += Kept::cost(plan_of(v).bytes) + (task.makes == v && plan_of(v).state ? Kept::cost(plan_of(v).state) : 0);
        };
        for (int v : task.values) take(v);
        if (task.makes >= 0) take(task.makes);
        const auto reserved = stopped() ? BufferPool::Reserved::kStopped
                                        : pool_.reserve(bytes, [&] { return stopped(); }, [&] { return in_flight_ == 0; });
        if (reserved == BufferPool::Reserved::kNever)
          return failed("the work needs {} bytes more than the plan had found; this is a defect of ingot, a larger --memory helps", bytes);
        if (reserved == BufferPool::Reserved::kStopped) return {};
        for (int v : fresh) INGOT_TRY(begin_value(v, task.makes == v));
        {
          std::lock_guard lock(mutex_);
          if (task.makes < 0) running_.insert(writers);
          ++in_flight_;
        }
        ++batch->left;
        auto running = std::make_unique<Running>();
        running->number = number++;
        running->writer = task.makes < 0 ? writers++ : UINT64_MAX;
        running->task = std::move(task);
        running->batch = batch;
        running->reserved = running->task.buffers;
        if (!alone_) {
          to_read_.push(std::move(running));
          continue;
        }
        INGOT_TRY(read(*running));
        INGOT_TRY(work(std::move(running), own_arena_));
      }
      leave(*batch);
    }
    return {};
  }

  // Memory for a value; what an earlier run recorded of it needs no maker.
  Status begin_value(int v, bool made) {
    ValueState& state = values_[v];
    state.reserved = true;
    state.bytes.take(pool_, plan_of(v).bytes);
    if (!made) {
      const std::string* known = fact(v);
      if (!known) return failed("a value that no task makes; this is a defect of ingot");
      std::memcpy(state.bytes.data(), known->data(), known->size());
      std::lock_guard lock(state.mutex);
      state.ready = true;
      return {};
    }
    if (!plan_of(v).fold) return {};
    if (plan_of(v).state) state.state.take(pool_, plan_of(v).state);
    const MutByteView first = (plan_of(v).state ? state.state : state.bytes).view();  // of the first run
    std::memset(first.data(), 0, first.size());
    return {};
  }

  // One task of a planned one is done; with the last, what the task used is given up.
  void leave(Batch& batch) {
    if (--batch.left > 0) return;
    const Task& planned = c_.plan.tasks[batch.task];
    for (int v : planned.values) give_up(v);
    if (planned.makes >= 0) give_up(planned.makes);
  }
  void give_up(int v) {
    if (--values_[v].users > 0 || !values_[v].reserved || plan_of(v).spilled) return;
    values_[v].bytes.drop();
    pool_.release(Kept::cost(plan_of(v).bytes));
  }

  Status read_loop() {
    while (RunningPtr running = to_read_.pop()) {
      if (stopped()) continue;
      INGOT_TRY(read(*running));
      to_compute_.push(std::move(running));
    }
    return {};
  }

  Status read(Running& running) {
    for (const auto& read : running.task.reads) {
      Running::Bytes bytes;
      // What goes to memory as it is is read into its place.
      for (const Tile& t : running.task.tiles)
        if (node_of(t) == read.source.get() && t.region == read.region) bytes.data = place_of(t).data();
      INGOT_TRY(check_region(*read.source, read.region));
      if (const std::byte* there = bytes.data ? nullptr : resident_bytes(*read.source, read.region)) {
        bytes.data = const_cast<std::byte*>(there);  // of a read: nobody writes to it
        running.reads.push_back(std::move(bytes));
        continue;
      }
      if (!bytes.data) {
        bytes.own = pool_.get(read.bytes);
        bytes.data = bytes.own.data();
      }
      INGOT_ASSIGN(const uint64_t n, read.source->read(read.region, {bytes.data, read.bytes}));
      c_.source_bytes += n;
      running.reads.push_back(std::move(bytes));
    }
    return {};
  }

  Status compute_loop() {
    Arena arena;
    while (RunningPtr running = to_compute_.pop()) {
      if (!stopped()) INGOT_TRY(work(std::move(running), arena));
    }
    return {};
  }

  Status work(RunningPtr running, Arena& arena) {
    for (int v : running->task.values) wait_for(v);
    if (stopped()) return {};
    const bool fold = running->task.makes >= 0 && plan_of(running->task.makes).fold;
    INGOT_TRY(fold ? add(*running, arena) : compute(*running, arena));
    ++c_.tasks_run;
    const uint64_t back = running->reserved, writer = running->writer;
    const auto batch = running->batch;
    running.reset();
    leave(*batch);
    pool_.release(back);
    {
      std::lock_guard lock(mutex_);
      running_.erase(writer);
      --in_flight_;
    }
    window_.notify_all();
    return {};
  }

  void wait_for(int v) {
    std::unique_lock lock(values_[v].mutex);
    while (!values_[v].ready && !stopped()) values_[v].made.wait_for(lock, kLook);
  }

  // A run of a fold: into its own state, and with those before it into the value.
  Status add(Running& running, Arena& arena) {
    const int v = running.task.makes;
    const Fold& fold = *plan_of(v).fold;
    ValueState& value = values_[v];
    const auto view = [&] { return plan_of(v).state ? value.state.view() : value.bytes.view(); };
    Buffer own;
    if (running.task.run) {
      own = pool_.get(view().size());
      std::memset(own.data(), 0, own.size());
    }
    TaskProvider provider(*this, running);
    Arena whole;  // what is needed whole is this task's alone
    Status s = Evaluator(provider, fold.chunk() ? arena : whole).add(fold, fold_runs(fold)[running.task.run], running.task.run ? own.view() : view());
    if (!s.ok()) return std::move(s.take_error()).during("computing " + fold.describe());
    std::lock_guard lock(value.mutex);
    const uint64_t state_bytes = running.task.run ? BufferPool::rounded(view().size()) : 0;
    running.reserved -= state_bytes;  // goes with the state
    value.waiting.emplace(running.task.run, std::move(own));
    for (auto it = value.waiting.begin(); it != value.waiting.end() && it->first == value.next_run; it = value.waiting.erase(it), ++value.next_run) {
      if (!it->first) continue;
      INGOT_TRY(fold.merge(view(), it->second.view()));
      it->second = Buffer();
      pool_.release(BufferPool::rounded(view().size()));
    }
    if (value.next_run < plan_of(v).runs) return {};
    if (plan_of(v).state) {
      INGOT_TRY(fold.finish(value.state.view(), value.bytes.view()));
      value.state.drop();
      pool_.release(Kept::cost(plan_of(v).state));
    }
    if (!plan_of(v).key.empty() && c_.fact) INGOT_TRY(c_.fact(plan_of(v).key, std::string(as_text(value.bytes.view()))));
    return made(v);
  }

  // With the value's lock held.
  Status made(int v) {
    ValueState& value = values_[v];
    if (plan_of(v).spilled) {
      INGOT_TRY(c_.scratch->write(plan_of(v).scratch_offset, value.bytes.view()));
      value.bytes.drop();
      pool_.release(Kept::cost(plan_of(v).bytes));
    }
    value.ready = true;
    value.made.notify_all();
    return {};
  }

  Status compute(Running& running, Arena& arena) {
    TaskProvider provider(*this, running);
    Evaluator e(provider, arena);
    const auto& tiles = running.task.tiles;
    for (const auto& l : running.task.locksteps) {
      std::vector<Buffer> buffers(l.tiles.size());
      std::vector<MutByteView> bytes(l.tiles.size());
      std::vector<uint64_t> filled(l.tiles.size(), 0);
      for (size_t i = 0; i < l.tiles.size(); ++i) {
        const Tile& t = tiles[l.tiles[i]];
        bytes[i] = place_of(t);
        // A tensor that passes through unchanged is written from the buffer it was read into, if it was not read into its place.
        for (size_t k = 0; k < running.reads.size() && !filled[i]; ++k)
          if (running.task.reads[k].source.get() == node_of(t) && running.task.reads[k].region == t.region && (!bytes[i].data() || bytes[i].data() == running.reads[k].data)) {
            bytes[i] = {running.reads[k].data, t.bytes};
            filled[i] = t.bytes;
          }
        if (bytes[i].data()) continue;
        buffers[i] = pool_.get(t.bytes);
        bytes[i] = buffers[i].view();
      }
      for (int64_t sub = 0; sub < l.subtiles.size(); ++sub) {
        if (stopped()) return {};
        const Region region = l.subtiles[sub];
        for (size_t i = 0; i < l.tiles.size(); ++i) {
          const Tile& t = tiles[l.tiles[i]];
          if (filled[i] == t.bytes) continue;
          auto v = e.eval(*node_of(t), region, bytes[i].data() + filled[i]);
          if (!v.ok() && t.output == Tile::kValue) return v.take_error();
          if (!v.ok()) return std::move(v.take_error()).during(c_.sinks.empty() ? "computing tensor " + name_of(t) : fmt::format("making {} of {}", name_of(t), c_.outputs[t.output].path));
          filled[i] += bytes_of(v->type, region.elements());
        }
        e.next();
      }
      for (size_t i = 0; i < l.tiles.size(); ++i) INGOT_TRY(deliver(tiles[l.tiles[i]], bytes[i]));
    }
    return {};
  }
  const std::string& name_of(const Tile& t) const { return c_.outputs[t.output].artifact.tensors[t.tensor].name; }

  Status deliver(const Tile& t, ByteView bytes) {
    if (t.output == Tile::kValue) {
      std::lock_guard lock(values_[t.tensor].mutex);
      return (values_[t.tensor].filled += t.bytes) == plan_of(t.tensor).bytes ? made(t.tensor) : Status();
    }
    if (!c_.sinks.empty()) INGOT_TRY(c_.sinks[t.output][t.file]->write(t.offset, bytes));
    c_.written_bytes += t.bytes;
    if (c_.progress) c_.progress(t.bytes, name_of(t));
    return {};
  }

  const PipelineContext& c_;
  BufferPool pool_;
  std::vector<ValueState> values_;
  Queue to_read_, to_compute_;
  bool alone_ = false;  // the system refuses threads: the admitting one does all the work
  Arena own_arena_;
  std::mutex mutex_;
  std::condition_variable window_;
  std::set<uint64_t> running_;  // numbers of the writers in flight
  std::atomic<int> in_flight_{0};
  Status error_;
  std::atomic<bool> stop_{false};
};

}  // namespace

Status run_pipeline(const PipelineContext& context) { return Pipeline(context).run(); }

}  // namespace ingot
