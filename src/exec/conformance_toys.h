// Toy nodes, one for each thing that real operations need, and the jobs made of them, for the tests of the spine.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>

#include "exec/evaluate.h"
#include "exec/executor.h"
#include "kernels/crc32.h"

namespace ingot::testing {

// Eager source: a tensor that exists in memory.
inline NodePtr eager(Shape shape, uint32_t seed) {
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
inline NodePtr mean_abs(std::vector<NodePtr> in, int64_t chunk = 64) {
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

// Layout: a header, tensors aligned to 64, each with its checksum behind it, a trailer with all checksums. The first is of the header too.
inline Result<Layout> toy_layout(const std::vector<NamedSpec>& specs) {
  Layout l;
  l.files.emplace_back();
  l.files[0].extents.push_back({0, "TOY1 header"});
  uint64_t at = 64;
  std::vector<Checksum>& sums = l.files[0].checksums;
  for (const auto& [name, spec] : specs) {
    l.tensors.push_back({0, at});
    const uint64_t begin = l.tensors.size() == 1 ? 0 : at;
    at += bytes_of(spec);
    if (at > begin) sums.push_back({at, begin, at});
    at = align_up(at + 4, 64);
  }
  for (size_t n = sums.size(), i = 0; i < n; ++i, at += 4) sums.push_back({at, sums[i].begin, sums[i].end});
  l.files[0].extents.push_back({at, "end"});
  l.files[0].size = at + 3;
  return l;
}

// The same tensors spread over two files of a directory.
inline Result<Layout> toy_directory(const std::vector<NamedSpec>& specs) {
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
    l.files[f].extents.push_back({0, f ? "file b" : "file a"});
  }
  return l;
}

struct Toys {
  NodePtr x = eager({37, 24}, 1), y = eager({37, 24}, 2), row = eager({1, 24}, 3), big = eager({150, 16}, 4);
  Artifact first, second;
  Toys() {
    auto both = std::make_shared<SumDiff>(x, y);
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
                     {"sum", std::make_shared<FoldOutput>(both, 0)},
                     {"row", std::make_shared<AddRow>(y, std::make_shared<Threshold>(row))},
                     {"diff of blocks", std::make_shared<Blocks>(std::make_shared<FoldOutput>(both, 1))},
                     {"empty", eager({0, 5}, 5)},
                     {"scalar", eager({}, 6)}};
    // Another order, other wrappers over the same sources.
    second.tensors = {{"big", big},
                      {"diff", std::make_shared<FoldOutput>(both, 1)},
                      {"y", y},
                      {"row", std::make_shared<AddRow>(x, row)},
                      {"transpose", std::make_shared<Transpose>(y)}};
  }
};

inline Capabilities random_access() { return {}; }
inline Capabilities sequential() { return {WriteMode::kSequential, 0, 0, 0, true}; }
inline Capabilities parts() { return {WriteMode::kParts, 256, 4096, 1000, false}; }

inline ExecOptions small_options(int threads, int64_t tile) {
  ExecOptions o;
  o.threads = threads;
  o.tile_elements = tile;
  o.leaf_bytes = 256;
  o.memory = 64 << 20;
  return o;
}

inline std::vector<Output> jobs(const Toys& toys, Store& store) {
  return {{{&store, "one.toy", false}, toys.first, toy_layout}, {{&store, "two", true}, toys.second, toy_directory}};
}

inline std::string contents(Store& s) {
  std::string all;
  for (const char* path : {"one.toy", "two/a", "two/sub/b"}) {
    auto t = read_text(s, path);
    if (!t.ok()) return "missing: " + t.error().message;
    all += *t;
  }
  return all;
}

// What the bytes must be, from whole evaluation alone.
inline std::string reference(const Toys& toys) {
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
      for (const auto& b : l.files[f].extents) put(files[f], b.offset, b.bytes);
    }
    for (size_t i = 0; i < values.size(); ++i) put(files[l.tensors[i].file], l.tensors[i].offset, values[i]);
    for (size_t f = 0; f < files.size(); ++f)
      for (const auto& c : l.files[f].checksums) {
        const uint32_t sum = crc32(as_bytes(files[f]).subspan(c.begin, c.end - c.begin));
        for (int i = 0; i < 4; ++i) files[f][c.at + static_cast<size_t>(i)] = static_cast<char>(sum >> (8 * i));
      }
    for (const auto& f : files) all += f;
  }
  return all;
}

struct SinkKind {
  const char* name;
  Capabilities caps;
};
inline const SinkKind kSinks[] = {{"random", random_access()}, {"sequential", sequential()}, {"parts", parts()}};

// The stores of a job that is killed at the n-th write of "journal", as it sees them: from then on every call of either fails.
struct KilledAtJournalWrite {
  KilledAtJournalWrite(Store& data, Store& log, uint64_t n) {
    FaultHooks at, after;
    at.hook = [this, n](uint64_t, const char* op, const std::string& path) -> std::string {
      if (path == "journal" && std::string(op) == "write" && writes++ == n) killed = true;
      return killed ? "killed" : "";
    };
    after.hook = [this](uint64_t, const char*, const std::string&) -> std::string { return killed ? "killed" : ""; };
    journal = make_fault_store(log, at);
    store = make_fault_store(data, after);
  }
  std::atomic<bool> killed{false};
  uint64_t writes = 0;
  std::unique_ptr<Store> store, journal;
};

// An output whose header and end hold the hash of each of its tensors, made in the same pass.
inline std::vector<Output> with_digests(const Toys& toys, Store& store, Store& digests, bool at_end) {
  Output hashed;
  hashed.artifact = toys.first;
  hashed.layout = [](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    Layout l;
    for (size_t i = 0; i < specs.size(); ++i) {
      l.files.push_back({specs[i].first, bytes_of(specs[i].second), {}});
      l.tensors.push_back({static_cast<int>(i), 0});
    }
    return l;
  };
  hashed.store = &digests;
  hashed.path = "digests";
  hashed.directory = true;
  Output out{{&store, "out.toy", false}, toys.first, nullptr};
  out.layout = [at_end, n = toys.first.tensors.size()](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    INGOT_ASSIGN(Layout l, toy_layout(specs));
    FileLayout& f = l.files[0];
    const auto late = [n](const Digests& digests) -> Result<std::string> {
      std::string all;
      for (size_t i = 0; i < n; ++i) all += digests(1, i);
      return all;
    };
    const std::string place(32 * n, '?');
    if (at_end) {
      f.extents.push_back({f.size, place, late});
      f.size += place.size();
    } else {
      for (auto& e : f.extents)
        if (e.offset) e.offset += place.size();
      for (auto& t : l.tensors) t.offset += place.size();
      for (auto& c : f.checksums) c.at += place.size(), c.end += place.size(), c.begin = std::max<uint64_t>(c.begin, 64) + place.size();
      f.extents.push_back({64, place, late});
      f.size += place.size();
    }
    return l;
  };
  return {out, hashed};
}

}  // namespace ingot::testing
