// Node: how a lazy tensor produces a region of itself. Opening a file makes sources; a transform wraps nodes in
// nodes; nothing is computed before the executor (src/exec) asks. Nodes are immutable and shared between threads.
//
// The contract that the executor relies on:
//  - compute() is a pure function of the bytes of its needs and its parameters: the same for any tiling, thread or
//    machine. Whatever changes its bytes is in describe().
//  - a node asks for regions by needs(region) before compute(region) gets them, in the same order.
//  - granularity(): regions are given in multiples of it (or reach the end of a dimension).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "tensor/shape.h"

namespace ingot {

class Node;
class ReadFile;  // storage/store.h
using NodePtr = std::shared_ptr<const Node>;

// A region of an input that a region of the output is made from.
struct Need {
  NodePtr node;
  Region region;
  // Needed by many regions of the output (a small matrix, a whole vocabulary table): read once, kept until the last
  // user is done, and no reason to compute those regions together.
  bool broadcast = false;
};

// Where an element comes from, for messages: the tensor and the file as the input calls them, the index in the input's own
// order. No tensor: it stands in no file.
struct Origin {
  std::string tensor, file;
  Shape index;
  bool changed = false;  // other values went into it on the way (an adapter)
};

// Contiguous row-major bytes of one region.
struct View {
  const std::byte* data = nullptr;
  Region region;
  DType type = DType::kF32;
  const float* f32() const { return reinterpret_cast<const float*>(data); }
};

// What compute() works on. `out` is the packed row-major bytes of `region`.
struct Compute {
  const Region& region;
  const std::vector<View>& inputs;  // one for each need, in order
  MutByteView out;
  MutByteView workspace;  // as many bytes as workspace(region) said, 64-byte aligned
};

class Node {
 public:
  virtual ~Node() = default;
  // Type and shape. What data decide (a rank, a type within a size) is decided between two jobs: load() the facts, then make the nodes.
  virtual TensorSpec spec() const = 0;
  // Operation, version and parameters, not the inputs: part of the job's key. A source names its file's identity.
  virtual std::string describe() const = 0;
  virtual std::vector<NodePtr> inputs() const { return {}; }
  // Multiples in which regions may be asked for, one for each dimension of the output, what its inputs ask for
  // included. A node that needs a dimension whole says the dimension's size.
  virtual Shape granularity() const {
    Shape g = spec().shape;
    for (int i = 0; i < g.rank; ++i) g[i] = 1;
    if (g.rank) g[g.rank - 1] = info(spec().type).block;
    return g;
  }
  virtual void needs(const Region&, std::vector<Need>*) const {}
  virtual uint64_t workspace(const Region&) const { return 0; }
  virtual Status compute(const Compute&) const = 0;
  // The same values before they were rounded to spec().type, where that is the type they have only as long as nobody asks for another:
  // what computes with them, or casts them, takes these and rounds once. Null: the node's own values are all there is.
  virtual NodePtr unrounded() const { return nullptr; }
  // o->index is an element of this node's output: moves it to the input that the element stands for and asks that one. A
  // source fills in the names; a node whose elements stand for none of an input's leaves them empty.
  virtual void trace(Origin* /*o*/) const {}
};

Origin origin_of(const Node& node, const Shape& index);
Origin origin_of(const Node& node);  // of its first element
// "'model.norm.weight' of /m/model.safetensors", or "'NAME'" where no file holds the tensor.
std::string tensor_text(const Node& node, const std::string& name);
// "element [3, 5] of 'model.norm.weight' of /m/model.safetensors".
std::string element_text(const Node& node, const Shape& index, const std::string& name);
std::string element_text(const Origin& origin, const std::string& name);

// The granularity of a node that needs the same region of `input` as it is asked for: its own multiples and the input's.
Shape joined_granularity(const Shape& own, const Node& input);
// kFailed for a region that is not of the node's shape: a node above asked for what is not there, which is a defect.
Status check_region(const Node& node, const Region& region);
// Whether a region of `whole` keeps to the multiples.
bool keeps_granularity(const Region& region, const Shape& whole, const Shape& granularity);

// Bytes that exist already (a file's tensor, a live tensor). read() is thread-safe.
class Source : public Node {
 public:
  // The bytes truly read for it: gaps that are cheaper read than skipped count. workspace() is what that takes beside `out`.
  virtual Result<uint64_t> read(const Region& region, MutByteView out) const = 0;
  // Where its packed row-major bytes lie in memory, if they do, for as long as it lives: then nothing is read.
  virtual const std::byte* resident() const { return nullptr; }
  // The file that it reads from, if there is one: looked at again before a job's outputs are published.
  virtual const ReadFile* file() const { return nullptr; }
  // Where in file() its packed bytes lie just as read() gives them, if they do.
  virtual std::optional<uint64_t> offset() const { return std::nullopt; }
  Status compute(const Compute&) const final { return failed("a source is read, not computed"); }
};

// A region of it as it lies in memory: null unless it does, in one piece.
const std::byte* resident_bytes(const Source& source, const Region& region);

// What consumes its inputs whole (a threshold, norms, a Hessian, an SVD over models, a layer's GPTQ); its outputs are nodes like any others
// (FoldOutput). A small output is used through a broadcast need, a large one by region.
//
// With chunk() the inputs come in canonical chunks of inputs()[0], in order: add() takes one into a state, which begins as zeros; runs of kChunksPerRun
// chunks have a state each, and merge() takes them together in order; so the outputs depend on neither tiles, threads nor ranks. Without, all inputs come
// whole, in one call.
class Fold {
 public:
  static constexpr int64_t kChunksPerRun = 8;
  virtual ~Fold() = default;
  // Operation, version and parameters, not the inputs.
  virtual std::string describe() const = 0;
  virtual std::vector<NodePtr> inputs() const = 0;
  virtual std::vector<TensorSpec> outputs() const = 0;
  // Elements of a chunk, about (whole rows where one fits, in multiples of the inputs' granularity); 0: inputs whole.
  virtual int64_t chunk() const { return 0; }
  // What a chunk, or a run of them, is made from; one View each. Unless said otherwise the same region of each input.
  virtual void needs(const Region& chunk, std::vector<Need>* out) const {
    for (const auto& in : inputs()) out->push_back({in, this->chunk() ? chunk : Region::all(in->spec().shape)});
  }
  // 0: the state is the outputs, one after another, each at a multiple of 64 bytes.
  virtual uint64_t state_bytes() const { return 0; }
  virtual uint64_t workspace() const { return 0; }  // bytes beside the state, for one call of add(), 64-byte aligned
  virtual Status add(const std::vector<View>& inputs, MutByteView state, MutByteView workspace) const = 0;
  // `later` is the state of the run that follows. Only for folds with chunk().
  virtual Status merge(MutByteView /*state*/, ByteView /*later*/) const { return failed("{}: cannot be merged", describe()); }
  // Only where there is a state of its own. `outputs` as described above.
  virtual Status finish(ByteView /*state*/, MutByteView /*outputs*/) const { return failed("{}: has no state to finish", describe()); }
};
using FoldPtr = std::shared_ptr<const Fold>;

// Of all outputs, and of those before `index`.
uint64_t fold_bytes(const Fold& fold);
uint64_t fold_offset(const Fold& fold, int index);
// The multiples in which chunks may be cut.
Shape fold_granularity(const Fold& fold);

// Output `index` of a fold. Any region may be asked for: it is there as a whole.
class FoldOutput final : public Node {
 public:
  FoldOutput(FoldPtr fold, int index) : fold_(std::move(fold)), index_(index) {}
  const FoldPtr& fold() const { return fold_; }
  int index() const { return index_; }
  TensorSpec spec() const override { return fold_->outputs()[index_]; }
  std::string describe() const override { return fold_->describe() + "#" + std::to_string(index_); }
  std::vector<NodePtr> inputs() const override { return fold_->inputs(); }
  Status compute(const Compute&) const override { return failed("a fold's output is kept, not computed"); }

 private:
  FoldPtr fold_;
  int index_;
};

// A hash of the whole graph beneath: two nodes with the same text make the same bytes.
std::string graph_identity(const Node& node);

}  // namespace ingot
