// Memory within the budget, looks that fail, odd shapes: what a second reader of the spine found, and what he found sound.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/sanitized.h"
#include "exec/conformance_toys.h"
#include "exec/exec_testing.h"
#include "exec/load.h"
#include "commit/names.h"
#include "exec/plan.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

using namespace testing;

uint64_t rss_now() {
  long pages = 0, resident = 0;
  FILE* f = std::fopen("/proc/self/statm", "r");
  if (std::fscanf(f, "%ld %ld", &pages, &resident) != 2) resident = 0;
  std::fclose(f);
  return static_cast<uint64_t>(resident) * 4096;
}

// The largest resident size while f runs.
template <class F>
uint64_t peak_of(F f) {
  std::atomic<bool> stop{false};
  const uint64_t before = rss_now();
  uint64_t most = 0;
  std::thread watch([&] {
    while (!stop) {
      most = std::max(most, rss_now());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  f();
  stop = true;
  watch.join();
  return !kSanitized && most > before ? most - before : 0;
}

// A source without memory of its own.
class Zeros final : public Source {
 public:
  explicit Zeros(Shape s, int id = 0) : s_(s), id_(id) {}
  TensorSpec spec() const override { return {DType::kF32, s_}; }
  std::string describe() const override { return "zeros " + std::to_string(id_); }
  Result<uint64_t> read(const Region&, MutByteView out) const override {
    std::memset(out.data(), 0, out.size());
    return out.size();
  }

 private:
  Shape s_;
  int id_;
};

// A slow tile in front of fast ones, into a store that takes bytes in order.
class SlowNode final : public Unary {
 public:
  using Unary::Unary;
  std::string describe() const override { return "slow"; }
  Status compute(const Compute& c) const override {
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    std::memcpy(c.out.data(), c.inputs[0].data, c.out.size());
    return {};
  }
};
TEST(Pressure, WhatWaitsInASequentialFileIsWithinTheBudget) {
  Artifact a;
  a.tensors = {{"slow", std::make_shared<SlowNode>(std::make_shared<Zeros>(Shape{64, 64}))}};
  for (int i = 0; i < 300; ++i) a.tensors.push_back({fmt::format("t{}", i), std::make_shared<Zeros>(Shape{512, 512}, i + 1)});  // 1 MiB each
  auto store = make_digest_store(), journal = make_memory_store();
  // Keeps nothing, takes bytes in order.
  class Pipe final : public ForwardingStore {
   public:
    using ForwardingStore::ForwardingStore;
    Capabilities capabilities() const override {
      Capabilities c = ForwardingStore::capabilities();
      c.mode = WriteMode::kSequential;
      return c;
    }
  } pipe(*store);
  ExecOptions o;
  o.threads = 2;
  o.memory = 32 << 20;
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const uint64_t most = peak_of([&] {
    const auto r = run_job({{{&pipe, "out", false}, a, toy_layout}}, o);
    ASSERT_TRUE(r.ok()) << r.error().message;
  });
  EXPECT_LT(most, 48u << 20);
}

// A large fold output that is needed whole by every tile, spilled.
class Grow final : public Fold {
 public:
  Grow(NodePtr in, int64_t n) : in_(std::move(in)), n_(n) {}
  std::string describe() const override { return "grow"; }
  std::vector<NodePtr> inputs() const override { return {in_}; }
  std::vector<TensorSpec> outputs() const override { return {{DType::kF32, {n_}}}; }
  Status add(const std::vector<View>&, MutByteView state, MutByteView) const override {
    std::memset(state.data(), 1, state.size());
    return {};
  }

 private:
  NodePtr in_;
  int64_t n_;
};
class UsesAll final : public Unary {
 public:
  UsesAll(NodePtr in, std::vector<NodePtr> all) : Unary(std::move(in)), all_(std::move(all)) {}
  std::string describe() const override { return "uses all"; }
  std::vector<NodePtr> inputs() const override {
    auto in = all_;
    in.push_back(in_);
    return in;
  }
  void needs(const Region& r, std::vector<Need>* n) const override {
    n->push_back({in_, r, false});
    for (const auto& a : all_) n->push_back({a, Region::all(a->spec().shape), true});
  }
  Status compute(const Compute& c) const override {
    std::memcpy(c.out.data(), c.inputs[0].data, c.out.size());
    return {};
  }

 private:
  std::vector<NodePtr> all_;
};
TEST(Pressure, SpilledValuesThatAreNeededWholeStayWithinTheBudget) {
  std::vector<NodePtr> all;
  for (int i = 0; i < 4; ++i)  // 16 MiB each
    all.push_back(std::make_shared<FoldOutput>(std::make_shared<Grow>(std::make_shared<Zeros>(Shape{16}, i), 4 << 20), 0));
  Artifact a;
  a.tensors = {{"x", std::make_shared<UsesAll>(std::make_shared<Zeros>(Shape{512, 512}, 9), all)}};
  auto store = make_digest_store();
  char dir[] = "/tmp/ingot-review-XXXXXX";
  ASSERT_NE(::mkdtemp(dir), nullptr);
  ExecOptions o;
  o.threads = 4;
  o.journal_store = &local_store();
  o.journal_path = std::string(dir) + "/journal";
  const std::vector<Output> outs = {{{store.get(), "out", false}, a, toy_layout}};
  o.memory = 4ull << 30;
  const auto plan = plan_job(outs, o);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  o.memory = plan->memory_floor;
  const uint64_t most = peak_of([&] {
    const auto r = run_job(outs, o);
    ASSERT_TRUE(r.ok()) << r.error().message;
  });
  EXPECT_LT(most, plan->memory_floor + (8u << 20)) << "floor " << plan->memory_floor;
  std::filesystem::remove_all(dir);
}

// Many small facts that live at once.
TEST(Pressure, ManyFactsStayWithinTheBudget) {
  std::vector<NodePtr> facts;
  for (int i = 0; i < 20000; ++i) facts.push_back(mean_abs({std::make_shared<Zeros>(Shape{16}, i)}));
  std::vector<NodePtr> both;
  Artifact a;
  a.tensors = {{"x", std::make_shared<UsesAll>(std::make_shared<Zeros>(Shape{64}, -1), facts)}};
  auto store = make_digest_store(), journal = make_memory_store();
  ExecOptions o;
  o.threads = 2;
  o.journal_store = journal.get();
  o.journal_path = "journal";
  o.memory = 4ull << 30;
  const std::vector<Output> outs = {{{store.get(), "out", false}, a, toy_layout}};
  const auto plan = plan_job(outs, o);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  o.memory = plan->memory_floor;
  const uint64_t most = peak_of([&] {
    const auto r = run_job(outs, o);
    ASSERT_TRUE(r.ok()) << r.error().message;
  });
  EXPECT_LT(most, plan->memory_floor + (24u << 20)) << "floor " << plan->memory_floor;
}

// A look at a store fails, once, at any call.
class Looks final : public ForwardingStore {
 public:
  Looks(Store& s, uint64_t n, bool once) : ForwardingStore(s), n_(n), once_(once) {}
  bool fails() { return once_ ? calls_++ == n_ : calls_++ >= n_; }
  uint64_t calls() const { return calls_; }
  static Error no() { return failed("a look that failed"); }
  Result<std::unique_ptr<ReadFile>> open(const std::string& p) override { if (fails()) return no(); return ForwardingStore::open(p); }
  Result<std::optional<Stat>> stat(const std::string& p) override { if (fails()) return no(); return ForwardingStore::stat(p); }
  Result<std::string> resolve(const std::string& p) override { if (fails()) return no(); return ForwardingStore::resolve(p); }
  Result<std::vector<Entry>> list(const std::string& p) override { if (fails()) return no(); return ForwardingStore::list(p); }
  Result<std::unique_ptr<StoreLock>> lock(const std::string& p) override { if (fails()) return no(); return ForwardingStore::lock(p); }
  std::string note(const std::string& p) override { if (fails()) return ""; return ForwardingStore::note(p); }

 private:
  std::atomic<uint64_t> calls_{0};
  uint64_t n_;
  bool once_;
};
TEST(Pressure, AFailedLookAnywhereLosesNothing) {
  for (bool once : {true, false})
    for (int state : {0, 1, 2})  // nothing there; an older output and --force; a run that was publishing
      for (uint64_t n = 0;; ++n) {
        auto store = make_memory_store();
        std::vector<Output> outs = {file_output(*store, "f", {bytes_tensor(pattern(3000, 1))}), directory_output(*store, "d", {bytes_tensor(pattern(2000, 2)), bytes_tensor(pattern(1000, 3))})};
        ExecOptions o = small_job();
        if (state) {
          std::vector<Output> old = {file_output(*store, "f", {bytes_tensor(pattern(100, 5))}), directory_output(*store, "d", {bytes_tensor(pattern(200, 6))})};
          ASSERT_TRUE(run_job(old, o).ok());
          o.force = true;
        }
        if (state == 2) {
          FaultHooks hooks;
          hooks.hook = [&, dead = false](uint64_t, const char* op, const std::string& p) mutable -> std::string {
            dead |= std::string(op) == "exchange" || (std::string(op) == "rename" && p.find("d") != std::string::npos && p.find(".old") != std::string::npos);
            return dead ? "killed" : "";
          };
          auto faulty = make_fault_store(*store, hooks);
          auto dying = outs;
          for (auto& d : dying) d.store = faulty.get();
          EXPECT_FALSE(run_job(dying, o).ok());
        }
        Looks looks(*store, n, once);
        auto failing = outs;
        for (auto& d : failing) d.store = &looks;
        const auto first = run_job(failing, o);
        const auto whole = [&] {
          return read_text(*store, "f").ok() && *read_text(*store, "f") == "head" + pattern(3000, 1) && read_text(*store, "d/t0").ok() &&
                 *read_text(*store, "d/t0") == pattern(2000, 2) && read_text(*store, "d/sub/t1").ok() && *read_text(*store, "d/sub/t1") == pattern(1000, 3);
        };
        EXPECT_TRUE(!first.ok() || whole()) << "state " << state << " call " << n;
        if (state) {
          EXPECT_TRUE(is_there(*store, "f")) << "state " << state << " call " << n;
          EXPECT_TRUE(is_there(*store, "d/t0") || is_there(*store, "d/sub/t0")) << "state " << state << " call " << n << " " << (first.ok() ? "" : first.error().message);
        }
        const auto again = run_job(outs, o);
        EXPECT_TRUE(again.ok()) << "state " << state << " once " << once << " call " << n << ": " << again.error().message;
        EXPECT_TRUE(whole()) << "state " << state << " call " << n;
        for (const auto& e : *store->list(".")) EXPECT_NE(e.name[0], '.') << "state " << state << " call " << n << " leaves " << e.name;
        if (looks.calls() <= n) break;
      }
}

// A fold of inputs of different shapes, with needs() left as it is.
TEST(Pressure, ARegionBeyondItsInputIsAnError) {
  const NodePtr odd = mean_abs({eager({40, 20}, 1), eager({20, 20}, 2)});
  std::vector<float> out(2);
  EXPECT_FALSE(load({{"odd", odd}}, {{reinterpret_cast<std::byte*>(out.data()), 8}}, small_options(1, 0)).ok());
}

// Folds over odd shapes: the same at any tile, thread count and budget.
TEST(Pressure, FoldsOverOddShapesAreTheSameAtAnyTile) {
  uint32_t x = 12345;
  const auto next = [&](int n) { return static_cast<int>((x = x * 1664525u + 1013904223u) >> 16) % n; };
  for (int round = 0; round < 150; ++round) {
    Shape s;
    switch (next(6)) {
      case 0: s = {1, 1 + next(3000)}; break;
      case 1: s = {1 + next(200), 1 + next(40)}; break;
      case 2: s = {}; break;
      case 3: s = {0, 1 + next(9)}; break;
      case 4: s = {1 + next(5), 1 + next(9), 1 + next(60)}; break;
      default: s = {1 + next(2000)}; break;
    }
    const auto in = [&]() -> NodePtr {
      NodePtr n = eager(s, next(1000));
      if (s.rank == 2 && next(2)) n = std::make_shared<Blocks>(n);
      return n;
    };
    const int64_t chunk = next(5) ? 1 + next(300) : 0;
    std::vector<NodePtr> ins = {in(), in()};
    if (next(3) == 0) ins.pop_back();
    NodePtr m = chunk ? mean_abs(ins, chunk) : mean_abs({eager({7, 7}, 3)}, 5);
    Artifact a;
    NodePtr t = std::make_shared<Threshold>(ins[0], m);
    a.tensors = {{"mean", m}, {"t", t}, {"again", mean_abs({t}, 1 + next(100))}, {"counters", std::make_shared<FoldOutput>(std::make_shared<Counters>(ins[0], 20000, 1 + next(300)), 0)}};
    if (s.elements() && next(2)) {
      auto g = std::make_shared<SumDiff>(t, ins[0]);
      a.tensors.push_back({"sum", std::make_shared<FoldOutput>(g, 0)});
      a.tensors.push_back({"diff", std::make_shared<Threshold>(std::make_shared<FoldOutput>(g, 1), m)});
    }
    std::string want;
    for (int k = 0; k < 4; ++k) {
      const auto& kind = kSinks[next(3)];
      auto store = make_memory_store(kind.caps), journal = make_memory_store();
      ExecOptions o = small_options(1 + next(4), k ? 1 + next(400) : 0);
      o.journal_store = journal.get();
      o.journal_path = "journal";
      o.leaf_bytes = 4096;
      if (kind.caps.mode == WriteMode::kParts) o.leaf_bytes = 256;
      const std::vector<Output> outs = {{{store.get(), "f", false}, a, toy_layout}};
      if (k) {
        const auto floor = least_memory(outs, o);
        ASSERT_TRUE(floor.ok());
        o.memory = *floor + next(2) * (1 << 16);
      }
      const auto r = run_job(outs, o);
      ASSERT_TRUE(r.ok()) << round << " " << to_string(s) << " chunk " << chunk << ": " << r.error().message;
      const std::string got = *read_text(*store, "f");
      if (!k) want = got;
      ASSERT_TRUE(got == want) << round << " " << to_string(s) << " chunk " << chunk << " " << kind.name;
    }
    for (const auto& tt : a.tensors) {
      const auto v = evaluate(tt.node);
      ASSERT_TRUE(v.ok());
      ASSERT_NE(want.find(std::string(reinterpret_cast<const char*>(v->data()), v->size())), std::string::npos) << round << " " << tt.name;
    }
  }
}

// load() with the journal's path of the job that follows.
TEST(Pressure, LoadLeavesAJobsJournalAlone) {
  const Toys toys;
  auto store = make_memory_store(), journal = make_memory_store();
  ExecOptions o = small_options(2, 100);
  o.journal_store = journal.get();
  o.journal_path = "journal";
  CancelToken cancel;
  o.cancel = &cancel;
  o.on_progress = [&](const Progress& p) {
    if (p.phase == Phase::kVerify) cancel.cancel();
  };
  std::vector<float> mean(1);
  const auto decide = [&](ExecOptions l) {
    l.cancel = nullptr;
    l.on_progress = nullptr;
    return load({{"mean", mean_abs({toys.x})}}, {{reinterpret_cast<std::byte*>(mean.data()), 4}}, l);
  };
  ASSERT_TRUE(decide(o).ok());
  ASSERT_FALSE(run_job(jobs(toys, *store), o).ok());
  o.cancel = nullptr;
  o.on_progress = nullptr;
  ASSERT_TRUE(decide(o).ok());
  const auto r = run_job(jobs(toys, *store), o);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_GT(r->resumed_bytes, 0u);
}
TEST(Pressure, LoadDoesNotOverwriteAFileThatIsNoJournal) {
  const Toys toys;
  auto journal = make_memory_store();
  ASSERT_TRUE((*journal->create("notes.facts", 4, false))->write(0, as_bytes(std::string_view("mine"))).ok());
  ExecOptions o = small_options(2, 100);
  o.journal_store = journal.get();
  o.journal_path = "notes";
  std::vector<float> mean(1);
  const Status s = load({{"mean", mean_abs({toys.x})}}, {{reinterpret_cast<std::byte*>(mean.data()), 4}}, o);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("holds something else than facts"), std::string::npos) << s.error().message;
  EXPECT_EQ(*read_text(*journal, "notes.facts"), "mine");
}

// Two callers of load() with one journal.
TEST(Pressure, TwoLoadsShareAJournal) {
  auto journal = make_memory_store();
  ExecOptions o = small_options(2, 100);
  o.journal_store = journal.get();
  o.journal_path = "facts";
  const auto facts = [&](int first) {
    std::vector<LazyTensor> t;
    for (int i = 0; i < 40; ++i) t.push_back({fmt::format("m{}", i), mean_abs({eager({50, 20}, first + i)})});
    return t;
  };
  const auto run = [&](int first) {
    std::vector<float> out(40);
    std::vector<MutByteView> into;
    for (auto& f : out) into.push_back({reinterpret_cast<std::byte*>(&f), 4});
    EXPECT_TRUE(load(facts(first), into, o).ok());
  };
  std::thread other([&] { run(0); });
  run(1000);
  other.join();
  // One of them may have recorded nothing; what was recorded is whole.
  const uint64_t size = read_text(*journal, "facts.facts")->size();
  EXPECT_GE(size, 40 * 100u);
  run(0);
  run(1000);
  const uint64_t both = read_text(*journal, "facts.facts")->size();
  run(0);
  run(1000);
  EXPECT_EQ(read_text(*journal, "facts.facts")->size(), both) << "facts were lost and made again";
}

// load() under a small budget.
TEST(Pressure, LoadKeepsToItsBudget) {
  std::vector<LazyTensor> tensors;
  std::vector<std::vector<std::byte>> places;
  std::vector<MutByteView> into;
  for (int i = 0; i < 8; ++i) {
    auto z = std::make_shared<Zeros>(Shape{1024, 2048}, i);
    tensors.push_back({fmt::format("t{}", i), std::make_shared<Threshold>(z, mean_abs({z}, 1 << 14))});
    places.emplace_back(8 << 20);
    std::memset(places.back().data(), 1, places.back().size());
  }
  for (auto& p : places) into.emplace_back(p);
  ExecOptions o;
  o.threads = 2;
  o.memory = 8 << 20;
  const uint64_t most = peak_of([&] {
    const Status s = load(tensors, into, o);
    ASSERT_TRUE(s.ok()) << s.error().message;
  });
  EXPECT_LT(most, 12u << 20);
}

}  // namespace
}  // namespace ingot
