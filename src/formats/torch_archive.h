// The pickle of a torch file and what it takes to make lazy tensors of its values: for formats that know what they look for in it.
#pragma once

#include "formats/opened_file.h"
#include "formats/torch_tensors.h"

namespace ingot {

struct TorchArchive {
  Pickle pickle;
  TorchTensors tensors;
  bool script = false;  // of TorchScript
  std::string digest;  // of the checksums of all records: equal where all that it holds is. Empty where checksums were not computed
};
// Of a ZIP archive of torch.save.
Result<TorchArchive> open_torch_archive(const OpenedFile& file);

}  // namespace ingot
