// Files of torch.save: ZIP archives since torch 1.6, before a sequence of pickles and bytes. Known by their content, whatever they are called.
#pragma once

#include <string_view>

#include "formats/opened_file.h"
#include "formats/torch_tensors.h"

namespace ingot {

// A score as probes give it, from the first bytes of a file and its name: 100 for what only torch writes.
int torch_score(std::string_view head, std::string_view name);
// What the file holds. Reads its pickle and where its storages lie, no data.
Result<TorchState> read_torch(const OpenedFile& file);
// Of several files (ranks), as many at a time as their store serves.
Result<std::vector<Result<TorchState>>> read_torch_together(Store& store, const std::string& doing, const std::vector<std::string>& paths);
// Of the old form, which begins with a pickle of this.
bool is_torch_legacy(std::string_view head);
Result<TorchState> read_torch_legacy(const OpenedFile& file);
Result<TorchState> read_torch_zip(const OpenedFile& file);

// Of a file that stands for a model's weights, or an adapter's: the tensors by the names that the model has for them, which lie below 'state_dict', 'model',
// 'module' or 'model_state_dict' where a trainer saved more.
struct TorchWeights {
  std::vector<LazyTensor> tensors;
  std::vector<std::string> notices;
};
Result<TorchWeights> read_torch_weights(const OpenedFile& file);

// "model" of "/m/model.pt": what a tensor is called that is all of a file.
std::string torch_stem(const std::string& path);

}  // namespace ingot
