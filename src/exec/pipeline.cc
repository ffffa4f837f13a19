#include "exec/pipeline.h"

#include <fmt/format.h>

#include <condition_variable>
#include <deque>
#include <optional>

#include "base/threads.h"
#include "exec/direct.h"

namespace ingot {
namespace {

constexpr int kReaders = 2;

// A closable queue between the stages of the pipeline.
template <class T>
class Queue {
 public:
  void push(T v) {
    {
      std::lock_guard lock(mutex_);
      items_.push_back(std::move(v));
    }
    ready_.notify_one();
  }
  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    T v = std::move(items_.front());
    items_.pop_front();
    return v;
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
  std::deque<T> items_;
  bool closed_ = false;
};

struct Running {
  int index = 0;
  uint64_t reserved = 0;
  std::vector<Buffer> reads;
};
using RunningPtr = std::unique_ptr<Running>;

class Pipeline {
 public:
  explicit Pipeline(const PipelineContext& c)
      : c_(c), pool_(c.plan.memory > c.plan.fixed_reserve ? c.plan.memory - c.plan.fixed_reserve : 0),
        shared_(c.plan.shared.size()) {}

  Status run() {
    std::vector<int> todo;
    for (size_t i = 0; i < c_.plan.tasks.size(); ++i) {
      if (!pending(c_.plan.tasks[i])) continue;
      todo.push_back(static_cast<int>(i));
      for (int s : c_.plan.tasks[i].shared) ++shared_[s].users;
    }
    Threads readers, workers;
    const auto reader = [&] { return stop_on_error([&] { return read_loop(); }); };
    const auto worker = [&] { return stop_on_error([&] { return compute_loop(); }); };
    // One of each is enough, so the first of each come first; others that the system refuses are done without.
    readers.start(reader);
    for (int i = 0; i < c_.plan.threads && workers.start(worker); ++i) {
    }
    for (int i = 1; i < kReaders && readers.start(reader); ++i) {
    }
    if (!workers.size() || !readers.size()) fail(Threads::refused("starting the work"));
    (void)stop_on_error([&] { return admit(todo); });
    to_read_.close();
    (void)readers.join();
    to_compute_.close();
    (void)workers.join();
    std::lock_guard lock(mutex_);
    return error_;
  }

 private:
  struct SharedState {
    std::mutex mutex;
    bool ready = false;
    Buffer value;
    std::atomic<int> users{0};
    bool reserved = false;  // by the admitting thread only
  };

  // The provider of one worker while it runs one task (or, with none, while it loads a shared value).
  class TaskProvider final : public Provider {
   public:
    TaskProvider(Pipeline& p, const Task* task, const std::vector<Buffer>* reads) : p_(p), task_(task), reads_(reads) {}
    Result<View> leaf(const LeafNode& leaf, const Region& region, Arena& arena) override {
      const DType type = leaf.spec().type;
      if (task_)
        for (size_t i = 0; i < task_->reads.size(); ++i)
          if (task_->reads[i].leaf.get() == &leaf && contains(task_->reads[i].region, region))
            return view_of((*reads_)[i].data(), task_->reads[i].region, type, region, arena);
      const uint64_t bytes = bytes_of(type, region.elements());
      std::byte* out = arena.allocate(bytes);
      INGOT_TRY(leaf.read(region, {out, bytes}));
      p_.c_.source_bytes += bytes;
      return View{out, region, type};
    }
    Result<View> broadcast(const Need& need, Arena&) override {
      for (size_t i = 0; i < p_.shared_.size(); ++i) {
        const Shared& s = p_.c_.plan.shared[i];
        if (s.node == need.node && s.region == need.region)
          return View{p_.shared_[i].value.data(), need.region, need.node->spec_with(p_.c_.facts).type};
      }
      return failed("a broadcast need that was not planned");
    }
    Result<View> group(const GroupOutput& output, const Region& region, Arena& arena) override {
      const auto specs = output.group()->outputs();
      const TensorSpec& spec = specs[output.index()];
      uint64_t at = 0;
      for (int i = 0; i < output.index(); ++i) at += bytes_of(specs[i]);
      for (size_t i = 0; i < p_.shared_.size(); ++i) {
        const Shared& s = p_.c_.plan.shared[i];
        if (s.group != output.group()) continue;
        if (!s.spilled) return view_of(p_.shared_[i].value.data() + at, Region::all(spec.shape), spec.type, region, arena);
        std::byte* out = arena.allocate(bytes_of(spec.type, region.elements()));
        Status status;
        for_each_run(Region::all(spec.shape), region, [&](int64_t from, int64_t to, int64_t n) {
          if (status.ok())
            status = p_.c_.scratch->read_back(s.scratch_offset + at + bytes_of(spec.type, from),
                                              {out + bytes_of(spec.type, to), bytes_of(spec.type, n)});
        });
        INGOT_TRY(std::move(status));
        return View{out, region, spec.type};
      }
      return failed("a group that was not planned");
    }

   private:
    Pipeline& p_;
    const Task* task_;
    const std::vector<Buffer>* reads_;
  };

  bool pending(const Task& t) const {
    for (const auto& p : t.pieces)
      if (c_.sinks[p.output][p.file]->pending(p.offset, p.bytes)) return true;
    return false;
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
    for (int index : todo) {
      const Task& task = c_.plan.tasks[index];
      {
        std::unique_lock lock(mutex_);
        while (in_flight_ >= c_.plan.window && !stopped()) window_.wait_for(lock, std::chrono::milliseconds(50));
      }
      uint64_t bytes = task.buffers, kept = 0;
      for (int s : task.shared) {
        if (shared_[s].reserved) continue;
        shared_[s].reserved = true;
        const Shared& plan = c_.plan.shared[s];
        bytes += plan.loading + (plan.spilled ? plan.bytes : 0);
        kept += plan.spilled ? 0 : plan.bytes;
      }
      if (stopped() || !pool_.reserve(bytes + kept, [&] { return stopped(); })) {
        if (c_.cancel && c_.cancel->cancelled()) return interrupted();
        return {};
      }
      {
        std::lock_guard lock(mutex_);
        ++in_flight_;
      }
      auto r = std::make_unique<Running>();
      r->index = index;
      r->reserved = bytes;
      to_read_.push(std::move(r));
    }
    return {};
  }

  Status read_loop() {
    while (auto item = to_read_.pop()) {
      RunningPtr r = std::move(*item);
      if (stopped()) continue;
      const Task& task = c_.plan.tasks[r->index];
      for (const auto& read : task.reads) {
        r->reads.push_back(pool_.get(read.bytes));
        INGOT_TRY(read.leaf->read(read.region, {r->reads.back().data(), read.bytes}));
        c_.source_bytes += read.bytes;
      }
      to_compute_.push(std::move(r));
    }
    return {};
  }

  Status compute_loop() {
    Arena arena;
    while (auto item = to_compute_.pop()) {
      RunningPtr r = std::move(*item);
      if (stopped()) continue;
      const Task& task = c_.plan.tasks[r->index];
      for (int s : task.shared) INGOT_TRY(load(s));
      INGOT_TRY(compute(task, *r, arena));
      ++c_.tasks_run;
      uint64_t back = r->reserved;
      r.reset();
      for (int s : task.shared)
        if (--shared_[s].users == 0 && !c_.plan.shared[s].spilled) {
          shared_[s].value = Buffer();
          back += c_.plan.shared[s].bytes;
        }
      {
        std::lock_guard lock(mutex_);
        --in_flight_;
      }
      pool_.release(back);
      window_.notify_all();
    }
    return c_.cancel && c_.cancel->cancelled() ? Status(interrupted()) : Status();
  }

  // Makes a shared value unless another worker has; waits while one does.
  Status load(int id) {
    SharedState& state = shared_[id];
    std::lock_guard lock(state.mutex);
    if (state.ready) return {};
    const Shared& s = c_.plan.shared[id];
    Buffer value = pool_.get(s.bytes);
    TaskProvider provider(*this, nullptr, nullptr);
    Arena arena;
    if (s.group) {
      std::vector<MutByteView> outs;
      uint64_t at = 0;
      for (const auto& o : s.group->outputs()) {
        outs.push_back(value.view().subspan(at, bytes_of(o)));
        at += bytes_of(o);
      }
      INGOT_TRY(compute_group(*s.group, provider, c_.facts, arena, outs));
      if (s.spilled) {
        INGOT_TRY(c_.scratch->write(s.scratch_offset, value.view()));
        value = Buffer();
      }
    } else if (auto* leaf = dynamic_cast<const LeafNode*>(s.node.get())) {
      INGOT_TRY(leaf->read(s.region, value.view()));
      c_.source_bytes += s.bytes;
    } else {
      Evaluator e(provider, c_.facts, arena);
      INGOT_ASSIGN([[maybe_unused]] const View v, e.eval(*s.node, s.region, value.data()));
    }
    state.value = std::move(value);
    state.ready = true;
    return {};
  }

  Status compute(const Task& task, Running& r, Arena& arena) {
    TaskProvider provider(*this, &task, &r.reads);
    Evaluator e(provider, c_.facts, arena);
    for (const auto& g : task.groups) {
      std::vector<Buffer> buffers(g.pieces.size());
      std::vector<ByteView> bytes(g.pieces.size());
      std::vector<uint64_t> filled(g.pieces.size(), 0);
      for (size_t i = 0; i < g.pieces.size(); ++i) {
        const Piece& p = task.pieces[g.pieces[i]];
        // A tensor that passes through unchanged is written from the buffer it was read into.
        const Node* node = c_.outputs[p.output].artifact.tensors[p.tensor].node.get();
        for (size_t k = 0; k < task.reads.size(); ++k)
          if (task.reads[k].leaf.get() == node && task.reads[k].region == p.region) bytes[i] = r.reads[k].view();
        if (bytes[i].data()) continue;
        buffers[i] = pool_.get(p.bytes);
        bytes[i] = buffers[i].view();
      }
      for (const Region& sub : g.subtiles) {
        if (stopped()) return {};
        for (size_t i = 0; i < g.pieces.size(); ++i) {
          if (!buffers[i].data()) continue;
          const Piece& p = task.pieces[g.pieces[i]];
          const auto& tensor = c_.outputs[p.output].artifact.tensors[p.tensor];
          auto v = e.eval(*tensor.node, sub, buffers[i].data() + filled[i]);
          if (!v.ok()) return std::move(v.take_error()).during(fmt::format("making {} of {}", tensor.name, c_.outputs[p.output].path));
          filled[i] += bytes_of(v->type, sub.elements());
        }
        e.next();
      }
      for (size_t i = 0; i < g.pieces.size(); ++i) {
        const Piece& p = task.pieces[g.pieces[i]];
        INGOT_TRY(c_.sinks[p.output][p.file]->write(p.offset, bytes[i]));
        c_.written_bytes += p.bytes;
        if (c_.progress) c_.progress(p.bytes, c_.outputs[p.output].artifact.tensors[p.tensor].name);
      }
    }
    return {};
  }

  const PipelineContext& c_;
  BufferPool pool_;
  std::vector<SharedState> shared_;
  Queue<RunningPtr> to_read_, to_compute_;
  std::mutex mutex_;
  std::condition_variable window_;
  int in_flight_ = 0;
  Status error_;
  std::atomic<bool> stop_{false};
};

}  // namespace

Status run_pipeline(const PipelineContext& context) { return Pipeline(context).run(); }

}  // namespace ingot
