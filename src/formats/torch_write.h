// torch.save's zip files: one with a state dict, or a Hugging Face directory with pytorch_model.bin. torch.load(weights_only=True) reads them, with mmap=True
// too: every storage lies at a multiple of 64 bytes. What is written is the state that the names stand for (state_tree.h), tensors of one node share a storage (tied weights), and no class of anyone's stands in it.
#pragma once

#include <string>

#include "exec/executor.h"
#include "formats/pickle_write.h"
#include "formats/state_tree.h"
#include "formats/torch_types.h"

namespace ingot {

// How torch calls the type of a tensor; kUsage for one that it has not.
Result<const TorchType*> torch_type_to_write(const NamedSpec& tensor);
// A tensor over the whole of storage number `key`, as Tensor.__reduce_ex__ has it.
void put_torch_tensor(PickleWriter* w, const TensorSpec& spec, const TorchType& type, size_t key);
// The records of an archive before and after those of the storages.
class ZipLayout;
void begin_torch_archive(ZipLayout* zip, const std::string& folder, std::string pickle);
void end_torch_archive(ZipLayout* zip, const std::string& folder, const std::string& id);

// Names of one state: what shares a tensor has its number.
struct TorchWriteState {
  std::vector<std::pair<std::string, size_t>> tensors;      // names in their order; numbers of the tensors that are written
  std::vector<std::pair<std::string, OrderedJson>> values;  // plain ones beside them
  StateKinds kinds = {};                                    // of their state, where it is known (state_tree.h)
};
// One file with the tensors `which` of all, and the values.
Result<FileLayout> place_torch_archive(const std::vector<NamedSpec>& specs, const TorchWriteState& state, const std::string& folder, const std::vector<int>& which, int file,
                                       std::vector<Placement>* placements);

Output torch_output(Artifact artifact, Store& store, const std::string& path);
Output torch_directory_output(Artifact artifact, Store& store, const std::string& path, uint64_t max_shard);

}  // namespace ingot
