// The tensors of a torch pickle: what torch._utils._rebuild_tensor_v2 and its kin would have made, as lazy sources over the storages that the file holds. Shapes,
// strides and offsets are held against the storages' true sizes before anything.
#pragma once

#include <map>
#include <string>
#include <unordered_map>

#include "formats/file_tensor.h"
#include "formats/pickle.h"
#include "formats/state_tree.h"
#include "formats/torch_types.h"
#include "tensor/artifact.h"

namespace ingot {

// Where the bytes of one storage lie.
struct TorchStorage {
  uint64_t offset = 0, bytes = 0;
  std::shared_ptr<const SourceFile> unpacked;  // where it is packed by deflate: what it lies in instead
};
using TorchStorages = std::unordered_map<std::string, TorchStorage>;  // by key

// ('storage', type, key, location, numel) and for old files what part of it: the id of a storage.
struct TorchStorageId {
  std::string key;
  const TorchType* type = nullptr;  // null: untyped, or of quantized numbers
  std::string type_name;            // "FloatStorage"
  uint64_t item = 1;                // bytes of an element
  uint64_t bytes = 0;               // of the whole storage
  uint64_t begin = 0, end = 0;      // bytes, of the part of it that is meant
};
// Nothing for what is no such id, or one that contradicts itself.
std::optional<TorchStorageId> torch_storage_id(const PickleValue& persistent);

// A part of a DTensor, which the rank that saved it holds.
struct TorchShard {
  Shape whole;
  int axis = -1;        // that is cut over the ranks; -1: it is not cut
  bool known = true;    // no other placements than at most one cut, the last
  int64_t place = -1;   // among those that hold a part each; -1: not told
};
using TorchShards = std::map<std::string, TorchShard>;  // by the tensor's path

class TorchTensors {
 public:
  // Of the file that `source` is.
  TorchTensors(std::shared_ptr<const SourceFile> source, TorchStorages storages, bool big_endian = false)
      : source_(std::move(source)), storages_(std::move(storages)), big_endian_(big_endian) {}

  // Whether the value is a tensor, of whatever kind, or a storage by itself.
  static bool is_tensor(const PickleValue& value);
  // The lazy tensor of such a value, which `path` names in errors and notices. Two views that are alike have one node. Null: it holds no data that can be read as
  // a dense tensor (on the meta device, quantized); a notice says so.
  Result<NodePtr> tensor(const std::string& path, const PickleValue& value);
  // The tensor that an array of numpy's is, whose bytes are kept in memory. Null: it is none, has no dimensions or is not of numbers.
  Result<NodePtr> array(const std::string& path, const PickleValue& value);
  // Of each kind the first, and how many more there are.
  std::vector<std::string> notices() const;
  TorchShards take_shards() { return std::move(shards_); }

 private:
  Result<NodePtr> dense(const std::string& path, const PickleValue* storage, const PickleValue& args, std::string_view function);
  Result<NodePtr> sparse(const std::string& path, const PickleValue& args);
  Result<NodePtr> from_numpy(const std::string& path, const PickleValue& args);
  Error bad(const std::string& path, const std::string& what) const;
  NodePtr without(const std::string& path, const std::string& what);
  void note(const std::string& kind, std::string text);

  std::shared_ptr<const SourceFile> source_;
  TorchStorages storages_;
  bool big_endian_;
  std::unordered_map<std::string, NodePtr> made_;  // by storage, type, place, shape, strides
  std::unordered_map<const PickleValue*, NodePtr> arrays_;
  uint64_t array_bytes_ = 0;
  struct Noted {
    std::string kind, first;
    size_t more = 0;
  };
  std::vector<Noted> notices_;
  size_t more_ = 0;  // of kinds beyond the first ones
  TorchShards shards_;
};

// Everything that a torch pickle holds, by the paths of flatten_pickle().
struct TorchState {
  std::vector<LazyTensor> tensors;
  std::map<std::string, std::string> values;  // as JSON
  StateKinds kinds;
  std::vector<std::string> notices;
  TorchShards shards;
  bool flat = false;  // one dict of tensors, as a model's state_dict() is, or one module
};
// `name`: of a tensor or value that stands alone.
Result<TorchState> torch_state(const Pickle& pickle, TorchTensors tensors, const std::string& path, const std::string& name);

}  // namespace ingot
