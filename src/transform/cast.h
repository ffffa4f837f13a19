// Cast: a tensor in another element type, through f32, rounded once to nearest even.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "quant/codec.h"
#include "tensor/artifact.h"

namespace ingot::transform {

// NaN and infinity that passed through casts between float types, kept as they were: for a warning at the end of a job. A finite value that the cast would make
// infinite is none of them: it is refused.
class CastCounts {
 public:
  struct Tensor {
    uint64_t nan = 0, infinite = 0;
    Origin first;  // of the tensor's elements in the input's order
    uint64_t count() const { return nan + infinite; }
  };
  int begin() { return casts_++; }  // the number of one cast
  void add(int cast, const Tensor& found);
  // By the tensor as the input calls it; what was cast for several outputs counts once.
  std::vector<Tensor> tensors() const;
  uint64_t total() const;

 private:
  std::atomic<int> casts_{0};
  mutable std::mutex mutex_;
  std::map<int, Tensor> by_cast_;
};

struct CastOptions {
  // The imatrix of the tensor: one weight for each input column (times the matrices of a 3-D tensor), or null.
  std::shared_ptr<const std::vector<float>> importance;
  std::shared_ptr<CastCounts> counts;  // may be null
  bool provisional = false;            // Node::unrounded() of the result is the input
  Effort effort = Effort::kNormal;     // of block types
  std::string importance_key = {};     // what the imatrix is made of, where its values come later (Importance::key)
};

// F32, F16, BF16, F64: what a model's weights are stored in.
bool is_float_type(DType t);

// `tensor` names it in messages. The node itself when it has that type already. Fails when either type has no codec or
// the rows do not fill whole blocks. Computing fails, naming the element, when NaN or infinity meets a block type and
// when a finite value does not fit into the float type.
Result<NodePtr> cast(const std::string& tensor, NodePtr node, DType to, const CastOptions& options = {});

// cast() over the tensors of an artifact: what is one node stays one, however many names it has, where they get one type.
class TiedCast {
 public:
  Result<NodePtr> operator()(const LazyTensor& t, DType to, const CastOptions& options = {});

 private:
  std::map<std::tuple<NodePtr, DType, const void*>, NodePtr> made_;  // by input, type and imatrix
};

// Every tensor of floats in the type `to`, of 8-bit ones and of F64, too; others as they are. Of packed ones, which are not read yet, a notice tells.
Result<Artifact> cast_floats(const Artifact& a, DType to, std::shared_ptr<CastCounts> counts = nullptr);
// Every float tensor in the type that the tensor of that name has in `like` (new ones: the type that most of `like` has).
Result<Artifact> cast_like(const Artifact& a, const Artifact& like, std::shared_ptr<CastCounts> counts = nullptr);
// The float type that most elements have; F32 when there is none.
DType main_float_type(const Artifact& a);

}  // namespace ingot::transform
