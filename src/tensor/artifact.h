// Artifact: a lazy list of named tensors plus its metadata. What every opener returns, every transform maps and
// every sink is laid out from.
#pragma once

#include <initializer_list>
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
struct MetaArray : std::vector<MetaValue> {
  using vector::vector;
  uint32_t empty_of = 5;  // GGUF's number of the elements' type where there are none to tell (5: i32)
};
struct MetaValue {
  std::variant<bool, uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t, float, double,
               std::string, std::vector<std::string>, std::vector<int32_t>, std::vector<uint32_t>,
               std::vector<float>, MetaArray>
      v;
};

// Tensors in their order, as a vector has them, and each found by its name at once. The names can be changed by edit() alone, so that
// the index is never of other names than the list; it is there before anyone asks, so that many threads may.
// Two names of one tensor (tied weights) have one node, and a transform keeps it so.
class TensorList {
 public:
  TensorList() = default;
  TensorList(std::vector<LazyTensor> all) : all_(std::move(all)) { index(); }  // NOLINT: implicit by intent
  TensorList(std::initializer_list<LazyTensor> all) : TensorList(std::vector<LazyTensor>(all)) {}

  size_t size() const { return all_.size(); }
  bool empty() const { return all_.empty(); }
  auto begin() const { return all_.begin(); }
  auto end() const { return all_.end(); }
  const LazyTensor& operator[](size_t i) const { return all_[i]; }
  const LazyTensor& back() const { return all_.back(); }
  // The first of that name, or null.
  const LazyTensor* find(std::string_view name) const;

  void push_back(LazyTensor t);
  NodePtr& node(size_t i) { return all_[i].node; }
  // Any other change: `change` gets the vector itself.
  template <class F>
  void edit(F change) {
    change(all_);
    index();
  }

 private:
  void index();
  void add(size_t i);
  size_t slot(std::string_view name) const;

  std::vector<LazyTensor> all_;
  std::vector<uint32_t> slots_;  // positions + 1 by the hash of their names, 0: free; a power of two, at most half of them taken
};

struct Artifact {
  std::string path;    // where it was opened, for messages
  std::string format;  // what it lies in: a row of formats.def
  // Whose names the tensors and the metadata have, whatever they lie in: "hf" (transformers), "gguf" (llama.cpp), "peft" (an adapter's).
  std::string naming;
  TensorList tensors;
  // GGUF key-values, in order.
  std::vector<std::pair<std::string, MetaValue>> metadata;
  // Small files that travel with a Hugging Face directory, by name: config.json, tokenizer.json, ...
  std::map<std::string, std::string> files;
  // Plain values that a checkpoint keeps beside its tensors (a step, a learning rate, a nested configuration), as JSON text by name.
  std::map<std::string, std::string> values;
  // What whoever opened it should be told: which of several weights were taken, what was passed over.
  std::vector<std::string> notices;

  const LazyTensor* find(std::string_view name) const { return tensors.find(name); }
  const MetaValue* meta(std::string_view key) const;
};

// A tensor held in memory as a source, for tests and generated tensors. `identity` stands for its
// content in the job's key; empty means a hash of the bytes.
NodePtr make_memory_tensor(TensorSpec spec, std::vector<std::byte> bytes, std::string identity = "");
// The same of bytes that lie somewhere already (a staged tensor of a training run), row-major and packed; `owner` keeps them there.
NodePtr make_resident_tensor(TensorSpec spec, const std::byte* bytes, std::shared_ptr<const void> owner, std::string identity = "");

}  // namespace ingot
