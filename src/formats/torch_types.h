// torch's element types, by the names that its files have for them.
#pragma once

#include <string_view>

#include "tensor/types.h"

namespace ingot {

struct TorchType {
  std::string_view dtype;    // "float32", of torch.float32
  std::string_view storage;  // "FloatStorage"; empty where only untyped storages hold it
  DType type;
  int64_t item;              // bytes of an element
  // Complex numbers for which there is no type here: kept as real and imaginary part along a last dimension of 2.
  bool pair;
};

const TorchType* torch_type_by_dtype(std::string_view name);      // also "float", "half", ..; null: not known
const TorchType* torch_type_by_storage(std::string_view name);
const TorchType* torch_type_of(DType type);

}  // namespace ingot
