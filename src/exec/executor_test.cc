// What the executor promises beside the same bytes: memory, reads, resumes, plans; and the cutting of tiles.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <mutex>

#include "base/sanitized.h"
#include "exec/conformance_toys.h"
#include "exec/exec_testing.h"
#include "exec/tiles.h"

namespace ingot {
namespace {

using namespace testing;

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
    const std::vector<Output> outputs = {{{&store, "one.toy", false}, a, toy_layout}};
    if (auto plan = plan_job(outputs, o); plan.ok()) *spilled = plan->spilled;
    return run_job(outputs, o);
  };
  auto roomy = make_memory_store();
  ExecOptions o;
  o.threads = 2;
  o.leaf_bytes = 4096;
  o.memory = 64 << 20;
  const uint64_t floor = plan_job({{{roomy.get(), "one.toy", false}, a, toy_layout}}, o)->memory_floor;
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
    auto r = run_job({{{store.get(), "a", false}, a, toy_layout},
                      {{store.get(), "b", false}, b, toy_layout},
                      {{store.get(), "c", false}, c, toy_layout}},
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

constexpr int64_t kManyRows = kSanitized ? 1 << 10 : 1 << 16;

TEST(Executor, CountersOverGigabytesFitASmallBudgetAndAPlanReadsNothing) {
  std::atomic<uint64_t> read{0};
  const auto source = std::make_shared<Endless>(Shape{kManyRows, 1 << 14}, &read);  // 4.3 GB
  Artifact a;
  a.tensors = {{"counters", std::make_shared<FoldOutput>(std::make_shared<Counters>(source, 1 << 16, 1 << 16), 0)}};
  auto store = make_memory_store();
  ExecOptions o;
  o.threads = 2;
  o.memory = 16 << 20;
  const std::vector<Output> outputs = {{{store.get(), "counters", false}, a, toy_layout}};
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
  if (!kSanitized) {
    EXPECT_LT(peak_rss() - before, 24u << 20);
  }
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
    a.tensors.push_back({fmt::format("t{}", i), i % 3 ? NodePtr(t) : std::make_shared<Threshold>(t, mean_abs({t}, 1 << 16))});
  }
  auto store = make_memory_store();
  ExecOptions o;
  o.threads = 2;
  for (uint64_t memory : {12ull << 20, 4ull << 30}) {
    o.memory = memory;
    const uint64_t before = peak_rss();
    const auto plan = plan_job({{{store.get(), "large", false}, a, toy_layout}}, o);
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    EXPECT_EQ(read, 0u);
    EXPECT_LE(plan->memory, memory);
    if (!kSanitized) {
      EXPECT_LT(peak_rss() - before, 12u << 20);
    }
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
        KilledAtJournalWrite faulty(*fresh, *journal, n);
        o.journal_store = faulty.journal.get();
        (void)run_job(jobs(toys, *faulty.store), o);
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
  for (int i = 0; i < 300; ++i) in_order.tensors.push_back({fmt::format("t{}", i), eager({40, 50}, i)});
  for (int i = 0; i < 300; ++i) interleaved.tensors.push_back(in_order.tensors[i % 10 * 30 + i / 10]);
  for (const auto& kind : kSinks) {
    auto roomy = make_memory_store(kind.caps), tight = make_memory_store(kind.caps), journal = make_memory_store();
    const auto outputs = [&](Store& s) { return std::vector<Output>{{{&s, "a", false}, in_order, toy_layout}, {{&s, "b", false}, interleaved, toy_layout}}; };
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

TEST(Executor, ASlowStoreIsReadInAsManyRequestsAsItServes) {
  auto beneath = make_memory_store();
  ASSERT_TRUE((*beneath->create("source", 64 << 10, false))->write(0, as_bytes(pattern(64 << 10, 1))).ok());
  SlowCounts counts;
  SlowOptions slow;
  slow.requests = 16;
  auto store = make_slow_store(*beneath, slow, &counts);
  const auto source = std::make_shared<FileBytes>(std::shared_ptr<ReadFile>(*store->open("source")));
  const uint64_t opened = counts.rounds;
  auto out = make_memory_store();
  ExecOptions o = small_job();
  o.tile_elements = 1 << 10;
  const auto r = run_job({file_output(*out, "out", {source})}, o);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(r->tasks, 64u);
  EXPECT_EQ(read_text(*out, "out")->substr(4), pattern(64 << 10, 1));
  EXPECT_GE(counts.calls, 64u);
  EXPECT_LE(counts.rounds - opened, 16u) << "64 reads, 16 at a time, and a look at the end";
}

TEST(Executor, PartsGoUpInAnyOrderAsManyAtATimeAsTheStoreServes) {
  const Toys toys;
  for (int64_t tile : {50, 1 << 20}) {
    Capabilities caps = parts();
    auto beneath = make_memory_store(caps), journal = make_memory_store();
    SlowCounts counts;
    SlowOptions slow;
    slow.requests = 8;
    auto store = make_slow_store(*beneath, slow, &counts);
    Artifact a;
    a.tensors = {{"big", eager({64, 256}, 1)}};  // 64 KiB: 256 parts of 256 bytes
    ExecOptions o = small_options(2, tile);
    o.verify = Verify::kNone;
    o.journal_store = journal.get();
    o.journal_path = "journal";
    const auto r = run_job({{{store.get(), "one.toy", false}, a, toy_layout}}, o);
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_GE(counts.calls, 256u);
    EXPECT_LE(counts.rounds, 80u) << "257 parts, 8 at a time";
    const auto bytes = *evaluate(a.tensors[0].node);
    EXPECT_EQ(read_text(*beneath, "one.toy")->substr(64, bytes.size()), std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
}

}  // namespace
}  // namespace ingot
