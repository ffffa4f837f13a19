// The conformance test of the spine: toy nodes, one for each thing that real operations need, written through every kind
// of sink at many thread counts, tile sizes, ranks, and with a kill at every journal write, give the same bytes.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "exec/evaluate.h"
#include "exec/executor.h"
#include "exec/plan.h"

namespace ingot {
namespace {

// Eager source: a tensor that exists in memory.
NodePtr eager(Shape shape, uint32_t seed) {
  std::vector<std::byte> bytes(shape.elements() * 4);
  uint32_t x = seed * 2654435761u + 1;
  for (int64_t i = 0; i < shape.elements(); ++i) {
    x = x * 1664525u + 1013904223u;
    const float f = static_cast<int32_t>(x >> 8) % 2001 / 250.0f - 4.0f;
    std::memcpy(bytes.data() + 4 * i, &f, 4);
  }
  return make_memory_tensor({DType::kF32, shape}, std::move(bytes));
}

class Unary : public Node {
 public:
  explicit Unary(NodePtr in) : in_(std::move(in)) {}
  TensorSpec spec() const override { return in_->spec(); }
  std::vector<NodePtr> inputs() const override { return {in_}; }
  Shape granularity() const override { return in_->granularity(); }
  void needs(const Region& r, std::vector<Need>* n) const override { n->push_back({in_, r, false}); }

 protected:
  NodePtr in_;
};

// A fact: the means of |x| over whole tensors of one shape, in chunks and runs with a state of their own.
class MeanAbs final : public Fold {
 public:
  explicit MeanAbs(std::vector<NodePtr> in, int64_t chunk = 64) : in_(std::move(in)), chunk_(chunk) {}
  std::string describe() const override { return "toy mean-abs 2 " + std::to_string(chunk_); }
  std::vector<NodePtr> inputs() const override { return in_; }
  std::vector<TensorSpec> outputs() const override { return {{DType::kF32, {static_cast<int64_t>(in_.size())}}}; }
  int64_t chunk() const override { return chunk_; }
  uint64_t state_bytes() const override { return 8 * in_.size(); }
  Status add(const std::vector<View>& in, MutByteView state, MutByteView) const override {
    for (size_t k = 0; k < in.size(); ++k)
      for (int64_t i = 0; i < in[k].region.elements(); ++i) sums(state)[k] += std::fabs(in[k].f32()[i]) * 1.1;  // inexact, so that order shows
    return {};
  }
  Status merge(MutByteView state, ByteView later) const override {
    for (size_t k = 0; k < in_.size(); ++k) sums(state)[k] += reinterpret_cast<const double*>(later.data())[k];
    return {};
  }
  Status finish(ByteView state, MutByteView out) const override {
    for (size_t k = 0; k < in_.size(); ++k)
      reinterpret_cast<float*>(out.data())[k] =
          static_cast<float>(reinterpret_cast<const double*>(state.data())[k] / 1.1 / static_cast<double>(in_[k]->spec().shape.elements()));
    return {};
  }

 private:
  static double* sums(MutByteView state) { return reinterpret_cast<double*>(state.data()); }
  std::vector<NodePtr> in_;
  int64_t chunk_;
};
NodePtr mean_abs(std::vector<NodePtr> in, int64_t chunk = 64) {
  return std::make_shared<FoldOutput>(std::make_shared<MeanAbs>(std::move(in), chunk), 0);
}

// How many elements fall into each of the first counters: the state is the output.
class Counters final : public Fold {
 public:
  Counters(NodePtr in, int64_t counters, int64_t chunk) : in_(std::move(in)), n_(counters), chunk_(chunk) {}
  std::string describe() const override { return "toy counters 1"; }
  std::vector<NodePtr> inputs() const override { return {in_}; }
  std::vector<TensorSpec> outputs() const override { return {{DType::kI64, {n_}}}; }
  int64_t chunk() const override { return chunk_; }
  Status add(const std::vector<View>& in, MutByteView state, MutByteView) const override {
    for (int64_t i = 0; i < in[0].region.elements(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, in[0].data + 4 * i, 4);
      ++reinterpret_cast<int64_t*>(state.data())[(bits >> 8) % n_];
    }
    return {};
  }
  Status merge(MutByteView state, ByteView later) const override {
    for (int64_t i = 0; i < n_; ++i) reinterpret_cast<int64_t*>(state.data())[i] += reinterpret_cast<const int64_t*>(later.data())[i];
    return {};
  }

 private:
  NodePtr in_;
  int64_t n_, chunk_;
};

// Map after a fold: drops what lies below the fact.
class Threshold final : public Unary {
 public:
  Threshold(NodePtr in, NodePtr fact) : Unary(std::move(in)), fact_(std::move(fact)) {}
  explicit Threshold(NodePtr in) : Threshold(in, mean_abs({in})) {}
  std::string describe() const override { return "toy threshold 2"; }
  std::vector<NodePtr> inputs() const override { return {in_, fact_}; }
  void needs(const Region& r, std::vector<Need>* n) const override {
    n->push_back({in_, r, false});
    n->push_back({fact_, Region::all(fact_->spec().shape), true});
  }
  Status compute(const Compute& c) const override {
    const float t = c.inputs[1].f32()[0];
    auto* out = reinterpret_cast<float*>(c.out.data());
    for (int64_t i = 0; i < c.region.elements(); ++i) out[i] = std::fabs(c.inputs[0].f32()[i]) < t ? 0 : c.inputs[0].f32()[i];
    return {};
  }

 private:
  NodePtr fact_;
};

class Transpose final : public Unary {
 public:
  using Unary::Unary;
  std::string describe() const override { return "toy transpose 1"; }
  TensorSpec spec() const override {
    const TensorSpec s = in_->spec();
    return {s.type, {s.shape[1], s.shape[0]}};
  }
  Shape granularity() const override { return {1, 1}; }
  void needs(const Region& r, std::vector<Need>* n) const override {
    n->push_back({in_, {{r.begin[1], r.begin[0]}, {r.extent[1], r.extent[0]}}, false});
  }
  Status compute(const Compute& c) const override {
    auto* out = reinterpret_cast<float*>(c.out.data());
    const int64_t rows = c.region.extent[0], cols = c.region.extent[1];
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < cols; ++k) out[i * cols + k] = c.inputs[0].f32()[k * rows + i];
    return {};
  }
};

class Stack final : public Node {
 public:
  explicit Stack(std::vector<NodePtr> in) : in_(std::move(in)) {}
  TensorSpec spec() const override {
    const Shape s = in_[0]->spec().shape;
    return {DType::kF32, {static_cast<int64_t>(in_.size()), s[0], s[1]}};
  }
  std::string describe() const override { return "toy stack 1"; }
  std::vector<NodePtr> inputs() const override { return in_; }
  void needs(const Region& r, std::vector<Need>* n) const override {
    for (int64_t e = 0; e < r.extent[0]; ++e)
      n->push_back({in_[r.begin[0] + e], {{r.begin[1], r.begin[2]}, {r.extent[1], r.extent[2]}}, false});
  }
  Status compute(const Compute& c) const override {
    size_t at = 0;
    for (const auto& v : c.inputs) {
      const size_t n = v.region.elements() * 4;
      std::memcpy(c.out.data() + at, v.data, n);
      at += n;
    }
    return {};
  }

 private:
  std::vector<NodePtr> in_;
};

// 2-D tiles: blocks of 4 x 8, each less its first element, with a workspace.
class Blocks final : public Unary {
 public:
  using Unary::Unary;
  std::string describe() const override { return "toy blocks 1"; }
  Shape granularity() const override { return {4, 8}; }
  uint64_t workspace(const Region& r) const override { return r.elements() * 4; }
  Status compute(const Compute& c) const override {
    auto* out = reinterpret_cast<float*>(c.out.data());
    auto* copy = reinterpret_cast<float*>(c.workspace.data());
    std::memcpy(copy, c.inputs[0].data, c.out.size());
    const int64_t cols = c.region.extent[1];
    for (int64_t i = 0; i < c.region.extent[0]; ++i)
      for (int64_t k = 0; k < cols; ++k) out[i * cols + k] = copy[i * cols + k] - copy[i / 4 * 4 * cols + k / 8 * 8];
    return {};
  }
};

// Adds a broadcast row that is itself computed.
class AddRow final : public Unary {
 public:
  AddRow(NodePtr in, NodePtr row) : Unary(std::move(in)), row_(std::move(row)) {}
  std::string describe() const override { return "toy add-row 1"; }
  std::vector<NodePtr> inputs() const override { return {in_, row_}; }
  Shape granularity() const override { return {1, 1}; }
  void needs(const Region& r, std::vector<Need>* n) const override {
    n->push_back({in_, r, false});
    n->push_back({row_, Region::all(row_->spec().shape), true});
  }
  Status compute(const Compute& c) const override {
    auto* out = reinterpret_cast<float*>(c.out.data());
    const int64_t cols = c.region.extent[1];
    for (int64_t i = 0; i < c.region.extent[0]; ++i)
      for (int64_t k = 0; k < cols; ++k)
        out[i * cols + k] = c.inputs[0].f32()[i * cols + k] + c.inputs[1].f32()[c.region.begin[1] + k];
    return {};
  }

 private:
  NodePtr row_;
};

// Several outputs from whole inputs: the sum and the difference of two tensors, each scaled by the largest element of both.
class SumDiff final : public Fold {
 public:
  SumDiff(NodePtr a, NodePtr b) : a_(std::move(a)), b_(std::move(b)) {}
  std::string describe() const override { return "toy sum-diff 2"; }
  std::vector<NodePtr> inputs() const override { return {a_, b_}; }
  std::vector<TensorSpec> outputs() const override { return {a_->spec(), a_->spec()}; }
  uint64_t workspace() const override { return 4; }
  Status add(const std::vector<View>& in, MutByteView state, MutByteView ws) const override {
    const int64_t n = in[0].region.elements();
    auto* largest = reinterpret_cast<float*>(ws.data());
    *largest = 0;
    for (int k = 0; k < 2; ++k)
      for (int64_t i = 0; i < n; ++i) *largest = std::max(*largest, in[k].f32()[i]);
    auto* sum = reinterpret_cast<float*>(state.data());
    auto* diff = reinterpret_cast<float*>(state.data() + fold_offset(*this, 1));
    for (int64_t i = 0; i < n; ++i) {
      sum[i] = (in[0].f32()[i] + in[1].f32()[i]) / *largest;
      diff[i] = (in[0].f32()[i] - in[1].f32()[i]) / *largest;
    }
    return {};
  }

 private:
  NodePtr a_, b_;
};

// Layout: a header, tensors aligned to 64, a trailer.
Result<Layout> toy_layout(const std::vector<NamedSpec>& specs) {
  Layout l;
  l.files.emplace_back();
  l.files[0].fixed.push_back({0, "TOY1 header"});
  uint64_t at = 64;
  for (const auto& [name, spec] : specs) {
    l.tensors.push_back({0, at});
    at = align_up(at + bytes_of(spec), 64);
  }
  l.files[0].fixed.push_back({at, "end"});
  l.files[0].size = at + 3;
  return l;
}

// The same tensors spread over two files of a directory.
Result<Layout> toy_directory(const std::vector<NamedSpec>& specs) {
  Layout l;
  l.files.resize(2);
  uint64_t at[2] = {16, 16};
  for (size_t i = 0; i < specs.size(); ++i) {
    l.tensors.push_back({static_cast<int>(i % 2), at[i % 2]});
    at[i % 2] += bytes_of(specs[i].second);
  }
  for (int f = 0; f < 2; ++f) {
    l.files[f].name = f ? "sub/b" : "a";
    l.files[f].size = at[f];
    l.files[f].fixed.push_back({0, f ? "file b" : "file a"});
  }
  return l;
}

struct Toys {
  NodePtr x = eager({37, 24}, 1), y = eager({37, 24}, 2), row = eager({1, 24}, 3), big = eager({150, 16}, 4);
  Artifact first, second;
  Toys() {
    auto group = std::make_shared<SumDiff>(x, y);
    auto t = std::make_shared<Threshold>(x);
    const NodePtr three = mean_abs({x, y, t});
    first.tensors = {{"plain", x},
                     {"threshold", t},
                     {"transpose", std::make_shared<Transpose>(x)},
                     {"stack", std::make_shared<Stack>(std::vector<NodePtr>{x, y, t})},
                     {"blocks", std::make_shared<Blocks>(y)},
                     {"three means", three},
                     {"counters", std::make_shared<FoldOutput>(std::make_shared<Counters>(big, 10, 100), 0)},
                     {"fact of a fact", std::make_shared<Threshold>(big, mean_abs({mean_abs({three})}))},
                     {"sum", std::make_shared<FoldOutput>(group, 0)},
                     {"row", std::make_shared<AddRow>(y, std::make_shared<Threshold>(row))},
                     {"diff of blocks", std::make_shared<Blocks>(std::make_shared<FoldOutput>(group, 1))},
                     {"empty", eager({0, 5}, 5)},
                     {"scalar", eager({}, 6)}};
    // Another order, other wrappers over the same sources.
    second.tensors = {{"big", big},
                      {"diff", std::make_shared<FoldOutput>(group, 1)},
                      {"y", y},
                      {"row", std::make_shared<AddRow>(x, row)},
                      {"transpose", std::make_shared<Transpose>(y)}};
  }
};

Capabilities random_access() { return {}; }
Capabilities sequential() { return {WriteMode::kSequential, 0, 0, 0, true}; }
Capabilities parts() { return {WriteMode::kParts, 256, 4096, 1000, false}; }

ExecOptions small_options(int threads, int64_t tile) {
  ExecOptions o;
  o.threads = threads;
  o.tile_elements = tile;
  o.leaf_bytes = 256;
  o.memory = 64 << 20;
  return o;
}

std::vector<Output> jobs(const Toys& toys, Store& store) {
  return {{toys.first, toy_layout, &store, "one.toy", false}, {toys.second, toy_directory, &store, "two", true}};
}

std::string contents(Store& s) {
  std::string all;
  for (const char* path : {"one.toy", "two/a", "two/sub/b"}) {
    auto t = read_text(s, path);
    if (!t.ok()) return "missing: " + t.error().message;
    all += *t;
  }
  return all;
}

// What the bytes must be, from whole evaluation alone.
std::string reference(const Toys& toys) {
  std::string all;
  auto put = [&](std::string& file, uint64_t at, const std::string& b) {
    if (file.size() < at + b.size()) file.resize(at + b.size(), '\0');
    file.replace(at, b.size(), b);
  };
  for (auto* a : {&toys.first, &toys.second}) {
    std::vector<std::string> values;
    std::vector<NamedSpec> specs;
    for (const auto& t : a->tensors) {
      const TensorSpec s = t.spec();
      const auto v = evaluate(t.node);
      EXPECT_TRUE(v.ok());
      specs.emplace_back(t.name, s);
      values.emplace_back(reinterpret_cast<const char*>(v->data()), v->size());
    }
    const Layout l = *(a == &toys.first ? toy_layout(specs) : toy_directory(specs));
    std::vector<std::string> files(l.files.size());
    for (size_t f = 0; f < files.size(); ++f) {
      files[f].assign(l.files[f].size, '\0');
      for (const auto& b : l.files[f].fixed) put(files[f], b.offset, b.bytes);
    }
    for (size_t i = 0; i < values.size(); ++i) put(files[l.tensors[i].file], l.tensors[i].offset, values[i]);
    for (const auto& f : files) all += f;
  }
  return all;
}

struct SinkKind {
  const char* name;
  Capabilities caps;
};
const SinkKind kSinks[] = {{"random", random_access()}, {"sequential", sequential()}, {"parts", parts()}};

TEST(Conformance, SameBytesForEverySinkThreadCountAndTile) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks)
    for (int threads : {1, 2, 7})
      for (int64_t tile : {1, 24, 100, 1 << 20}) {
        auto store = make_memory_store(kind.caps);
        auto journal = make_memory_store();
        ExecOptions o = small_options(threads, tile);
        o.journal_store = journal.get();
        o.journal_path = "journal";
        auto r = run_job(jobs(toys, *store), o);
        ASSERT_TRUE(r.ok()) << kind.name << " threads " << threads << " tile " << tile << ": " << r.error().message;
        ASSERT_EQ(contents(*store), want) << kind.name << " threads " << threads << " tile " << tile;
        EXPECT_FALSE(is_there(*journal, "journal"));
      }
}

TEST(Conformance, SameBytesWithTwoRanks) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks)
    for (int64_t tile : {24, 300}) {
      auto store = make_memory_store(kind.caps);
      auto journal = make_memory_store();
      std::vector<std::string> errors(2);
      std::vector<std::thread> ranks;
      uint64_t tasks[2] = {0, 0};
      for (int rank = 0; rank < 2; ++rank)
        ranks.emplace_back([&, rank] {
          ExecOptions o = small_options(2, tile);
          o.journal_store = journal.get();
          o.journal_path = "journal";
          o.rank = rank;
          o.world = 2;
          auto r = run_job(jobs(toys, *store), o);
          if (!r.ok()) errors[rank] = r.error().message;
          else tasks[rank] = r->tasks;
        });
      for (auto& t : ranks) t.join();
      ASSERT_EQ(errors[0] + errors[1], "") << kind.name;
      ASSERT_EQ(contents(*store), want) << kind.name << " tile " << tile;
      EXPECT_GT(tasks[0], 0u);
      EXPECT_GT(tasks[1], 0u) << kind.name;
    }
}

// Kills the job at its n-th write of the journal, for every n, and runs it again.
TEST(Conformance, KillAtEveryJournalWriteThenResume) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks) {
    uint64_t kills = 0;
    bool some_resumed = false;
    for (uint64_t n = 0;; ++n) {
      auto store = make_memory_store(kind.caps);
      auto journal = make_memory_store();
      std::atomic<bool> killed{false};
      uint64_t writes = 0;
      FaultHooks hooks;
      hooks.hook = [&](uint64_t, const char* op, const std::string& path) -> std::string {
        if (path == "journal" && std::string(op) == "write" && writes++ == n) killed = true;
        return killed ? "killed" : "";
      };
      auto faulty_journal = make_fault_store(*journal, hooks);
      // The kill takes the data's store with it.
      FaultHooks follow;
      follow.hook = [&](uint64_t, const char*, const std::string&) -> std::string { return killed ? "killed" : ""; };
      auto faulty = make_fault_store(*store, follow);
      ExecOptions o = small_options(n % 2 ? 2 : 1, n % 3 ? 50 : 200);
      o.journal_store = faulty_journal.get();
      o.journal_path = "journal";
      auto r = run_job(jobs(toys, *faulty), o);
      if (!killed) {
        ASSERT_TRUE(r.ok()) << r.error().message;
        break;
      }
      ++kills;
      ASSERT_FALSE(r.ok());
      o.journal_store = journal.get();
      auto again = run_job(jobs(toys, *store), o);
      ASSERT_TRUE(again.ok()) << kind.name << " kill " << n << ": " << again.error().message;
      ASSERT_EQ(contents(*store), want) << kind.name << " kill " << n;
      some_resumed |= again->resumed_bytes * 2 > want.size();
    }
    EXPECT_GT(kills, 50u) << kind.name;
    EXPECT_TRUE(some_resumed) << kind.name << ": late kills must leave most of the work done";
  }
}

// Not only the journal: a crash at every call that changes anything, the rename and the removals too.
TEST(Conformance, CrashAtEveryStoreCallThenResume) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks) {
    for (uint64_t n = 0;; ++n) {
      auto store = make_memory_store(kind.caps);
      auto journal = make_memory_store();
      std::mutex mutex;
      uint64_t calls = 0;
      std::atomic<bool> killed{false};
      FaultHooks hooks;
      hooks.hook = [&](uint64_t, const char*, const std::string&) -> std::string {
        std::lock_guard lock(mutex);
        if (calls++ == n) killed = true;
        return killed ? "killed" : "";
      };
      auto faulty_journal = make_fault_store(*journal, hooks);
      auto faulty = make_fault_store(*store, hooks);
      ExecOptions o = small_options(2, 200);
      o.journal_store = faulty_journal.get();
      o.journal_path = "journal";
      auto r = run_job(jobs(toys, *faulty), o);
      if (!killed) {
        ASSERT_TRUE(r.ok()) << r.error().message;
        break;
      }
      o.journal_store = journal.get();
      auto again = run_job(jobs(toys, *store), o);
      // Once everything is renamed and only the journal's removal was left, the outputs are there.
      ASSERT_TRUE(again.ok() || contents(*store) == want) << kind.name << " crash " << n << ": " << again.error().message;
      ASSERT_EQ(contents(*store), want) << kind.name << " crash " << n;
    }
  }
}

TEST(Conformance, KilledRankIsResumedWhileTheOtherWaits) {
  const Toys toys;
  const std::string want = reference(toys);
  for (uint64_t n : {0, 1, 5, 12, 20}) {
    auto store = make_memory_store();
    auto journal = make_memory_store();
    auto options = [&](int rank, Store* j) {
      ExecOptions o = small_options(2, 100);
      o.journal_store = j;
      o.journal_path = "journal";
      o.rank = rank;
      o.world = 2;
      return o;
    };
    std::string error0;
    std::thread rank0([&] {
      auto r = run_job(jobs(toys, *store), options(0, journal.get()));
      if (!r.ok()) error0 = r.error().message;
    });
    uint64_t writes = 0;
    FaultHooks hooks;
    hooks.hook = [&](uint64_t, const char* op, const std::string&) -> std::string {
      return std::string(op) == "write" && writes++ >= n ? "killed" : "";
    };
    auto faulty = make_fault_store(*journal, hooks);
    auto r = run_job(jobs(toys, *store), options(1, faulty.get()));
    if (!r.ok()) r = run_job(jobs(toys, *store), options(1, journal.get()));
    rank0.join();
    ASSERT_TRUE(r.ok()) << r.error().message;
    ASSERT_EQ(error0, "");
    ASSERT_EQ(contents(*store), want);
  }
}

TEST(Executor, SpillsFoldsUnderASmallBudgetAndRefusesBelowTheFloor) {
  auto x = eager({512, 256}, 1), y = eager({512, 256}, 2);
  auto group = std::make_shared<SumDiff>(x, y);
  Artifact a;
  a.tensors.push_back({"sum", std::make_shared<FoldOutput>(group, 0)});
  for (int i = 0; i < 6; ++i) {
    // Other folds in between keep the first one alive for long.
    auto g = std::make_shared<SumDiff>(eager({512, 256}, 10 + i), y);
    a.tensors.push_back({"s" + std::to_string(i), std::make_shared<FoldOutput>(g, 0)});
  }
  a.tensors.push_back({"diff", std::make_shared<FoldOutput>(group, 1)});
  std::string first;
  auto run = [&](uint64_t memory, Store& store, int* spilled) {
    ExecOptions o;
    o.threads = 2;
    o.memory = memory;
    o.leaf_bytes = 4096;
    const std::vector<Output> outputs = {{a, toy_layout, &store, "one.toy", false}};
    if (auto plan = plan_job(outputs, o); plan.ok()) *spilled = plan->spilled;
    return run_job(outputs, o);
  };
  auto roomy = make_memory_store();
  ExecOptions o;
  o.threads = 2;
  o.leaf_bytes = 4096;
  o.memory = 64 << 20;
  const uint64_t floor = plan_job({{a, toy_layout, roomy.get(), "one.toy", false}}, o)->memory_floor;
  int spilled = 0;
  ASSERT_TRUE(run(64 << 20, *roomy, &spilled).ok());
  EXPECT_EQ(spilled, 0);
  auto tight = make_memory_store();
  auto r = run(floor, *tight, &spilled);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_GT(spilled, 0);
  EXPECT_TRUE(*read_text(*tight, "one.toy") == *read_text(*roomy, "one.toy"));
  for (const auto& e : *tight->list(".")) EXPECT_EQ(e.name, "one.toy");
  auto below = make_memory_store();
  r = run(floor - 4096, *below, &spilled);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, ErrorKind::kUsage);
  EXPECT_NE(r.error().message.find(std::to_string(floor)), std::string::npos) << r.error().message;
  for (const auto& e : *below->list(".")) EXPECT_EQ(e.name, "") << "left behind";
}

// Counts each source byte that is read.
class CountingSource final : public Source {
 public:
  CountingSource(NodePtr in, std::vector<int>* reads) : in_(std::dynamic_pointer_cast<const Source>(in)), reads_(reads) {
    reads_->assign(in->spec().shape.elements(), 0);
  }
  TensorSpec spec() const override { return in_->spec(); }
  std::string describe() const override { return in_->describe(); }
  Result<uint64_t> read(const Region& r, MutByteView out) const override {
    static std::mutex mutex;
    std::lock_guard lock(mutex);
    for_each_run(Region::all(spec().shape), r, [&](int64_t at, int64_t, int64_t n) {
      for (int64_t i = 0; i < n; ++i) ++(*reads_)[at + i];
    });
    return in_->read(r, out);
  }

 private:
  std::shared_ptr<const Source> in_;
  std::vector<int>* reads_;
};

TEST(Executor, ReadsEachSourceByteOnceForSeveralSinks) {
  std::vector<int> x_reads, row_reads;
  auto x = std::make_shared<CountingSource>(eager({64, 24}, 1), &x_reads);
  auto row = std::make_shared<CountingSource>(eager({1, 24}, 3), &row_reads);
  Artifact a, b, c;
  a.tensors = {{"x", x}};
  b.tensors = {{"blocks", std::make_shared<Blocks>(std::make_shared<AddRow>(x, row))}};
  c.tensors = {{"stack", std::make_shared<Stack>(std::vector<NodePtr>{x})}};
  for (int64_t tile : {30, 200, 1 << 20}) {
    x_reads.assign(x_reads.size(), 0);
    row_reads.assign(row_reads.size(), 0);
    auto store = make_memory_store();
    auto r = run_job({{a, toy_layout, store.get(), "a", false},
                      {b, toy_layout, store.get(), "b", false},
                      {c, toy_layout, store.get(), "c", false}},
                     small_options(3, tile));
    ASSERT_TRUE(r.ok()) << r.error().message;
    for (int n : x_reads) ASSERT_EQ(n, 1) << "tile " << tile;
    for (int n : row_reads) ASSERT_EQ(n, 1) << "tile " << tile;
    EXPECT_EQ(r->source_bytes, (64 + 1) * 24 * 4u);
  }
}

// A source that makes its bytes as they are asked for, and counts them.
class Endless final : public Source {
 public:
  Endless(Shape shape, std::atomic<uint64_t>* bytes) : shape_(shape), bytes_(bytes) {}
  TensorSpec spec() const override { return {DType::kF32, shape_}; }
  std::string describe() const override { return "toy endless 1"; }
  Result<uint64_t> read(const Region& r, MutByteView out) const override {
    int64_t first = 0;
    if (!contiguous_in(Region::all(shape_), r, &first)) return failed("a region in pieces");
    for (uint64_t at = 0; at < out.size(); at += kPage.size() * 4)
      std::memcpy(out.data() + at, kPage.data(), std::min<uint64_t>(kPage.size() * 4, out.size() - at));
    *bytes_ += out.size();
    return out.size();
  }
  static const std::vector<uint32_t> kPage;

 private:
  Shape shape_;
  std::atomic<uint64_t>* bytes_;
};
const std::vector<uint32_t> Endless::kPage = [] {
  std::vector<uint32_t> page(1 << 12);
  for (uint32_t i = 0; i < page.size(); ++i) page[i] = i * 0x9e3779b9u;
  return page;
}();

uint64_t peak_rss() {
  rusage u;
  getrusage(RUSAGE_SELF, &u);
  return static_cast<uint64_t>(u.ru_maxrss) << 10;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kManyRows = 1 << 10;
#else
constexpr int64_t kManyRows = 1 << 16;
#endif

TEST(Executor, CountersOverGigabytesFitASmallBudgetAndAPlanReadsNothing) {
  std::atomic<uint64_t> read{0};
  const auto source = std::make_shared<Endless>(Shape{kManyRows, 1 << 14}, &read);  // 4.3 GB
  Artifact a;
  a.tensors = {{"counters", std::make_shared<FoldOutput>(std::make_shared<Counters>(source, 1 << 16, 1 << 16), 0)}};
  auto store = make_memory_store();
  ExecOptions o;
  o.threads = 2;
  o.memory = 16 << 20;
  const std::vector<Output> outputs = {{a, toy_layout, store.get(), "counters", false}};
  const uint64_t before = peak_rss();
  const auto plan = plan_job(outputs, o);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_EQ(read, 0u);
  EXPECT_LE(plan->memory_floor, 12u << 20);
  EXPECT_EQ(plan->source_bytes, static_cast<uint64_t>(kManyRows) << 16);
  const auto r = run_job(outputs, o);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(read, static_cast<uint64_t>(kManyRows) << 16);
  EXPECT_EQ(r->source_bytes, read);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(peak_rss() - before, 24u << 20);
#endif
  const std::string bytes = *read_text(*store, "counters");
  std::vector<int64_t> counters(1 << 16), want(1 << 16);
  std::memcpy(counters.data(), bytes.data() + 64, counters.size() * 8);
  for (const uint32_t bits : Endless::kPage) want[(bits >> 8) % (1 << 16)] += kManyRows * 4;
  EXPECT_EQ(counters, want);
}

TEST(Executor, APlanOfALargeModelStaysSmall) {
  std::atomic<uint64_t> read{0};
  Artifact a;
  for (int i = 0; i < 300; ++i) {
    const auto t = std::make_shared<Endless>(Shape{1 << 10, 1 << 14}, &read);  // 64 MB each, 20 GB
    a.tensors.push_back({"t" + std::to_string(i), i % 3 ? NodePtr(t) : std::make_shared<Threshold>(t, mean_abs({t}, 1 << 16))});
  }
  auto store = make_memory_store();
  ExecOptions o;
  o.threads = 2;
  for (uint64_t memory : {12ull << 20, 4ull << 30}) {
    o.memory = memory;
    const uint64_t before = peak_rss();
    const auto plan = plan_job({{a, toy_layout, store.get(), "large", false}}, o);
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    EXPECT_EQ(read, 0u);
    EXPECT_LE(plan->memory, memory);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LT(peak_rss() - before, 12u << 20);
#endif
  }
}

// Killed at every tenth journal write and run again with the least memory that works: values that were made and freed are made again, within it.
TEST(Executor, ARunResumedAtItsFloorEnds) {
  const Toys toys;
  const std::string want = reference(toys);
  for (const auto& kind : kSinks)
    for (int64_t tile : {0, 50}) {
      ExecOptions o = small_options(2, tile);
      auto store = make_memory_store(kind.caps);
      o.memory = 64 << 20;
      auto planning = make_memory_store();
      o.journal_store = planning.get();
      o.journal_path = "journal";
      const auto plan = plan_job(jobs(toys, *store), o);
      ASSERT_TRUE(plan.ok()) << plan.error().message;
      o.memory = plan->memory_floor;
      for (uint64_t n = 0; n < 60; n += 10) {
        auto fresh = make_memory_store(kind.caps), journal = make_memory_store();
        std::atomic<bool> killed{false};
        std::atomic<uint64_t> writes{0};
        FaultHooks hooks;
        hooks.hook = [&](uint64_t, const char* op, const std::string& path) -> std::string {
          if (path == "journal" && std::string(op) == "write" && writes++ == n) killed = true;
          return killed ? "killed" : "";
        };
        auto faulty_journal = make_fault_store(*journal, hooks);
        o.journal_store = faulty_journal.get();
        (void)run_job(jobs(toys, *fresh), o);
        o.journal_store = journal.get();
        const auto again = run_job(jobs(toys, *fresh), o);
        ASSERT_TRUE(again.ok()) << kind.name << " tile " << tile << " kill " << n << ": " << again.error().message;
        ASSERT_EQ(contents(*fresh), want) << kind.name << " tile " << tile << " kill " << n;
      }
    }
}

// Tensors that come in another order than one of the outputs has them: with random writes nothing is held back, in parts what is open is planned for.
TEST(Executor, InterleavedTensorsStayWithinTheBudget) {
  Artifact in_order, interleaved;
  for (int i = 0; i < 300; ++i) in_order.tensors.push_back({"t" + std::to_string(i), eager({40, 50}, i)});
  for (int i = 0; i < 300; ++i) interleaved.tensors.push_back(in_order.tensors[i % 10 * 30 + i / 10]);
  for (const auto& kind : kSinks) {
    auto roomy = make_memory_store(kind.caps), tight = make_memory_store(kind.caps), journal = make_memory_store();
    const auto outputs = [&](Store& s) { return std::vector<Output>{{in_order, toy_layout, &s, "a", false}, {interleaved, toy_layout, &s, "b", false}}; };
    ExecOptions o = small_options(1, 0);
    o.leaf_bytes = 1024;
    o.journal_store = journal.get();
    o.journal_path = "journal";
    const auto plan = plan_job(outputs(*roomy), o);
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    if (kind.caps.mode == WriteMode::kRandom) {
      EXPECT_LT(plan->memory_floor, 3u << 19);
    }
    ASSERT_TRUE(run_job(outputs(*roomy), o).ok());
    o.memory = plan->memory_floor;
    const auto r = run_job(outputs(*tight), o);
    ASSERT_TRUE(r.ok()) << kind.name << r.error().message;
    for (const char* name : {"a", "b"}) EXPECT_TRUE(*read_text(*tight, name) == *read_text(*roomy, name)) << kind.name;
  }
}

TEST(Executor, AFlippedBitBetweenWriteAndVerifyIsCaughtAndWrittenAgain) {
  const Toys toys;
  auto store = make_memory_store();
  ExecOptions o = small_options(2, 100);
  o.on_progress = [&](const Progress& p) {
    if (p.phase != Phase::kVerify || p.done) return;
    // The temporary is beside the final name.
    const auto entries = *store->list(".");
    for (const auto& e : entries)
      if (e.name.find(".part") != std::string::npos && !e.directory) {
        auto f = *store->create(e.name, 0, true);
        std::byte b;
        ASSERT_TRUE(f->read_back(700, {&b, 1}).ok());
        b ^= std::byte{4};
        ASSERT_TRUE(f->write(700, {&b, 1}).ok());
      }
  };
  auto r = run_job(jobs(toys, *store), o);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("bytes 512 to 768"), std::string::npos) << r.error().message;
  EXPECT_FALSE(is_there(*store, "one.toy"));
  EXPECT_FALSE(is_there(*store, "two"));
  o.on_progress = nullptr;
  auto again = run_job(jobs(toys, *store), o);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(contents(*store), reference(toys));
  EXPECT_LT(again->written_bytes, again->resumed_bytes);
}

TEST(Executor, CancelStopsAndTheSameJobGoesOn) {
  const Toys toys;
  auto store = make_memory_store();
  CancelToken cancel;
  ExecOptions o = small_options(1, 50);
  o.cancel = &cancel;
  o.on_progress = [&](const Progress& p) {
    if (p.phase == Phase::kWrite && p.done > p.total / 2) cancel.cancel();
  };
  auto r = run_job(jobs(toys, *store), o);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, ErrorKind::kInterrupted);
  EXPECT_FALSE(is_there(*store, "one.toy"));
  CancelToken fresh;
  o.cancel = &fresh;
  o.on_progress = nullptr;
  auto again = run_job(jobs(toys, *store), o);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_GT(again->resumed_bytes, 0u);
  EXPECT_EQ(contents(*store), reference(toys));
}

TEST(Cuts, CoversInOrderAndRespectsGranularity) {
  for (Shape shape : {Shape{37, 24}, Shape{3, 10, 8}, Shape{1000}, Shape{1, 4096}, Shape{5, 1, 7}})
    for (int64_t target : {1, 10, 64, 500, 100000}) {
      Shape gran = shape;
      for (int i = 0; i < gran.rank; ++i) gran[i] = 1;
      int64_t next = 0;
      const Cuts cuts(Region::all(shape), gran, target);
      for (int64_t c = 0; c < cuts.size(); ++c) {
        const Region r = cuts[c];
        int64_t first = -1;
        ASSERT_TRUE(contiguous_in(Region::all(shape), r, &first));
        ASSERT_EQ(first, next);
        ASSERT_LE(r.elements(), std::max<int64_t>(target, 1));
        next += r.elements();
      }
      ASSERT_EQ(next, shape.elements());
    }
  const Cuts blocks(Region::all({37, 24}), {4, 8}, 10);
  for (int64_t c = 0; c < blocks.size(); ++c) {
    const Region r = blocks[c];
    EXPECT_EQ(r.begin[0] % 4, 0);
    EXPECT_EQ(r.extent[1], 24);
  }
}

}  // namespace
}  // namespace ingot
