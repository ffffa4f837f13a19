// torch.save's zip files: one with a state dict, or a Hugging Face directory with pytorch_model.bin. torch.load(weights_only=True) reads them, with mmap=True
// too: every storage lies at a multiple of 64 bytes. What is written is a dict, nested where names have slashes and there are plain values beside the tensors (a
// training state as ingot opens it), tensors of one node share a storage (tied weights), and no class of anyone's stands in it.
#pragma once

#include <string>

#include "exec/executor.h"

namespace ingot {

Output torch_output(Artifact artifact, Store& store, const std::string& path);
Output torch_directory_output(Artifact artifact, Store& store, const std::string& path, uint64_t max_shard);

}  // namespace ingot
