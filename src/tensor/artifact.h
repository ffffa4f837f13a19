// Artifact: a lazy list of named tensors plus its metadata. What every opener returns, every transform maps and
// every sink is laid out from.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tensor/node.h"

namespace ingot {

struct LazyTensor {
  std::string name;
  NodePtr node;
  TensorSpec spec() const { return node->spec(); }
};

// A typed metadata value, as GGUF has them (arrays hold one scalar type).
struct MetaValue;
using MetaArray = std::vector<MetaValue>;
struct MetaValue {
  std::variant<bool, uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t, float, double,
               std::string, std::vector<std::string>, std::vector<int32_t>, std::vector<uint32_t>,
               std::vector<float>, MetaArray>
      v;
};

struct Artifact {
  std::string path;    // where it was opened, for messages
  std::string format;  // "safetensors", "gguf", "peft"
  std::vector<LazyTensor> tensors;
  // GGUF key-values, in order.
  std::vector<std::pair<std::string, MetaValue>> metadata;
  // Small files that travel with a Hugging Face directory, by name: config.json, tokenizer.json, ...
  std::map<std::string, std::string> files;

  const LazyTensor* find(std::string_view name) const;
  const MetaValue* meta(std::string_view key) const;
};

// A tensor held in memory as a source, for tests, eager sources and generated tensors. `identity` stands for its
// content in the job's key; empty means a hash of the bytes.
NodePtr make_memory_tensor(TensorSpec spec, std::vector<std::byte> bytes, std::string identity = "");

}  // namespace ingot
