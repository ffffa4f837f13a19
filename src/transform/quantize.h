// Choosing the type of every tensor of a GGUF model for a file type ("Q4_K_M"), as llama-quantize does, and casting.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/artifact.h"
#include "transform/cast.h"
#include "transform/importance.h"

namespace ingot::transform {

inline constexpr uint32_t kQuantizationVersion = 2;  // general.quantization_version of today's block layouts

struct QuantizeOptions {
  bool allow_requantize = false;  // to a block type from one that has lost precision already
  std::string to_allow_it;        // how the user says so, for the error: "or allow it with --allow-requantize"
  bool pure = false;              // no mix: every tensor that is quantized gets the file type's own type
  bool leave_output = false;      // output.weight stays as it is
  std::optional<DType> output_type, token_embedding_type;
  // Expression searched in a tensor's name -> its type; the first that matches holds.
  std::vector<std::pair<std::string, DType>> tensor_types;
  std::shared_ptr<const Importance> imatrix;  // or null
  std::string to_give_it;                      // how the user gives one, for errors: "--imatrix FILE"
  bool advise = false;                         // a notice where a type of few bits is made without one
  Effort effort = Effort::kNormal;
  std::vector<std::pair<std::string, MetaValue>> metadata;  // set last, over what quantizing sets
  std::shared_ptr<CastCounts> counts;
  std::function<void(const std::string&)> on_notice;
};

struct FileType {
  std::string_view name;
  uint32_t id;   // general.file_type
  DType base;
};
const std::vector<FileType>& file_types();
void set_meta(Artifact* a, const std::string& key, MetaValue value);
// Of an element type, its scales included.
double bits_per_weight(DType t);
// Case-insensitive; a usage error that lists the known ones.
Result<FileType> file_type_by_name(std::string_view name);
// The general.file_type of an artifact whose weights are floats: that of the type most of them have.
uint32_t float_file_type(const Artifact& a);

// The type that each tensor would get, in their order; nothing is held against an importance matrix. needs_imatrix: quantize_gguf refuses it without one.
struct TypePlan {
  std::vector<DType> types;
  bool needs_imatrix = false;
};
Result<TypePlan> plan_types(const Artifact& gguf, std::string_view file_type, const QuantizeOptions& options = {});

// Tensors that have their type already pass unchanged. Before anything is read: an importance matrix of another model is bad input that names what differs, and so is a
// type that needs one (IQ1, IQ2, IQ3_XXS, Q2_K in a Q2_K_S file; embeddings and output excepted) where it has no entry.
Result<Artifact> quantize_gguf(const Artifact& gguf, std::string_view file_type, const QuantizeOptions& options = {});

}  // namespace ingot::transform
