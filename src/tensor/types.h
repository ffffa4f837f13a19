// Element types: names, block geometry, ids in the file formats. How values are encoded lives in src/quant.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace ingot {

enum class DType : uint8_t {
#define TYPE(e, name, block, bytes, ggml, st) e,
#include "tensor/types.def"
#undef TYPE
};

struct TypeInfo {
  DType type;
  std::string_view name;       // as users write it: "Q4_K", "BF16"
  int64_t block;               // elements per block along the last dimension
  int64_t bytes;               // bytes per block
  int ggml_id;                 // GGUF tensor type, or -1
  std::string_view st_name;    // safetensors dtype, or empty
};

const TypeInfo& info(DType t);
std::optional<DType> dtype_by_name(std::string_view name);       // case-insensitive
std::optional<DType> dtype_by_ggml_id(int id);
std::optional<DType> dtype_by_st_name(std::string_view name);
inline bool is_block_type(DType t) { return info(t).block > 1; }

}  // namespace ingot
