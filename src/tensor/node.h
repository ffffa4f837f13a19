// Node: how a lazy tensor produces a region of itself. Opening a file makes leaves; a transform wraps nodes in
// nodes; nothing is computed before the executor (src/exec) asks. Nodes are immutable and shared between threads.
//
// The contract that the executor relies on:
//  - compute() is a pure function of the bytes of its needs, its parameters and its facts: the same for any tiling,
//    thread or machine. Whatever changes its bytes is in describe().
//  - a node asks for regions by needs(region) before compute(region) gets them, in the same order.
//  - granularity(): regions are given in multiples of it (or reach the end of a dimension).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "tensor/shape.h"

namespace ingot {

class Node;
class ReadFile;  // storage/store.h
class Stage;
using NodePtr = std::shared_ptr<const Node>;
using StagePtr = std::shared_ptr<const Stage>;

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

// Small results of stages (a threshold, norms, a rank), by the stage's key. Journaled, so a resumed job has them.
class Facts {
 public:
  const std::string* find(const std::string& key) const {
    auto it = facts_.find(key);
    return it == facts_.end() ? nullptr : &it->second;
  }
  void set(const std::string& key, std::string bytes) { facts_[key] = std::move(bytes); }

 private:
  std::map<std::string, std::string> facts_;
};

// What compute() works on. `out` is the packed row-major bytes of `region`.
struct Compute {
  const Region& region;
  const std::vector<View>& inputs;  // one for each need, in order
  MutByteView out;
  MutByteView workspace;  // as many bytes as workspace(region) said, 64-byte aligned
  const Facts& facts;
};

class Node {
 public:
  virtual ~Node() = default;
  // Type and shape. For a node whose size is known late: valid once its stages have run (see spec_with).
  virtual TensorSpec spec() const = 0;
  virtual TensorSpec spec_with(const Facts&) const { return spec(); }
  // Stages whose facts this node needs before its size or its values are known.
  virtual std::vector<StagePtr> stages() const { return {}; }
  // Operation, version and parameters, not the inputs: part of the job's key. A leaf names its file's identity.
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
  // o->index is an element of this node's output: moves it to the input that the element stands for and asks that one. A
  // leaf fills in the names; a node whose elements stand for none of an input's leaves them empty.
  virtual void trace(Origin* /*o*/) const {}
};

Origin origin_of(const Node& node, const Shape& index);
// "'model.norm.weight' of /m/model.safetensors", or "'NAME'" where no file holds the tensor.
std::string tensor_text(const Node& node, const std::string& name);
// "element [3, 5] of 'model.norm.weight' of /m/model.safetensors".
std::string element_text(const Node& node, const Shape& index, const std::string& name);
std::string element_text(const Origin& origin, const std::string& name);

// The granularity of a node that needs the same region of `input` as it is asked for: its own multiples and the input's.
Shape joined_granularity(const Shape& own, const Node& input);
// Whether a region of `whole` keeps to the multiples.
bool keeps_granularity(const Region& region, const Shape& whole, const Shape& granularity);

// A leaf: bytes that exist already (a file's tensor, a live tensor). read() is thread-safe.
class LeafNode : public Node {
 public:
  virtual Status read(const Region& region, MutByteView out) const = 0;
  // The file that it reads from, if there is one: looked at again before a job's outputs are published.
  virtual const ReadFile* file() const { return nullptr; }
  Status compute(const Compute&) const final { return failed("a leaf is read, not computed"); }
};

// A reduction over whole tensors that yields one fact. Partials are made for canonical chunks (whole rows of
// dimension 0, about chunk_elements() of them) and combined in chunk order, so the fact does not depend on
// tiles, threads or ranks.
class Stage {
 public:
  virtual ~Stage() = default;
  // Operation, version and parameters; unique together with its inputs.
  virtual std::string describe() const = 0;
  virtual NodePtr input() const = 0;
  virtual int64_t chunk_elements() const { return 1 << 16; }
  virtual uint64_t partial_bytes() const = 0;
  virtual Status map(const View& chunk, const Facts& facts, MutByteView partial) const = 0;
  virtual Result<std::string> reduce(const std::vector<std::string>& partials) const = 0;
};
// The name under which a stage's fact is stored: a hash of its description and its input's graph.
std::string fact_key(const Stage& stage);

// Several tensors made together from whole inputs (an SVD over models, the folding of scales, a layer's GPTQ):
// computed once, kept in memory or spilled, then read by region through GroupOutput nodes.
class Group {
 public:
  virtual ~Group() = default;
  virtual std::string describe() const = 0;
  virtual std::vector<NodePtr> inputs() const = 0;
  virtual std::vector<TensorSpec> outputs() const = 0;
  virtual uint64_t workspace() const { return 0; }
  virtual Status compute(const std::vector<View>& inputs, const std::vector<MutByteView>& outs,
                         MutByteView workspace, const Facts& facts) const = 0;
};
using GroupPtr = std::shared_ptr<const Group>;

// Output `index` of a group. Granularity 1: the group's result is there as a whole.
class GroupOutput final : public Node {
 public:
  GroupOutput(GroupPtr group, int index) : group_(std::move(group)), index_(index) {}
  const GroupPtr& group() const { return group_; }
  int index() const { return index_; }
  TensorSpec spec() const override { return group_->outputs()[index_]; }
  std::string describe() const override { return group_->describe() + "#" + std::to_string(index_); }
  std::vector<NodePtr> inputs() const override { return group_->inputs(); }
  Status compute(const Compute&) const override { return failed("a group's output is read, not computed"); }

 private:
  GroupPtr group_;
  int index_;
};

// A hash of the whole graph beneath: two nodes with the same text make the same bytes.
std::string graph_identity(const Node& node);

}  // namespace ingot
