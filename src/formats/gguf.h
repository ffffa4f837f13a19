// GGUF versions 2 and 3, written little-endian (facts: ggml's gguf.md): metadata and tensors of one file or of a set of splits.
// Reading, and the layout for writing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "exec/layout.h"
#include "formats/file_tensor.h"
#include "storage/store.h"
#include "tensor/artifact.h"

namespace ingot {

// Ids of the value types of the format.
enum class GgufType : uint32_t {
  kU8 = 0, kI8 = 1, kU16 = 2, kI16 = 3, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9,
  kU64 = 10, kI64 = 11, kF64 = 12,
};

// The longest tensor name that llama.cpp can load.
inline constexpr size_t kMaxGgufTensorName = 63;

inline constexpr size_t kMaxGgufSplits = 65535;  // split.count is a u16

// The text that a key of the metadata has; null where it is missing, or has another type.
inline const std::string* meta_string(const Artifact& a, std::string_view key) {
  const MetaValue* m = a.meta(key);
  return m ? std::get_if<std::string>(&m->v) : nullptr;
}

// One file as it is, whatever set it is a part of.
Result<Artifact> open_gguf_file(Store& store, const std::string& path);

// Header, key-values in the artifact's order, tensor infos in the order of `specs`, then the data at
// general.alignment (32 unless the metadata says otherwise).
Result<Layout> layout_gguf(const Artifact& meta, const std::vector<NamedSpec>& specs);

}  // namespace ingot
