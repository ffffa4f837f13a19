// What ingot knows about model architectures: class names, tensor names in both worlds, row permutations, shapes and
// the metadata made from config.json. All of it is data (data/architectures/*.json); this file reads it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/json.h"
#include "tensor/artifact.h"

namespace ingot {

struct TensorRule {
  std::string hf, gguf;            // templates; {i} is the layer
  std::vector<std::string> shape;  // products of params: "heads*head_dim"
  std::string permute;             // the param that counts the heads whose rows are permuted for GGUF, or empty
  std::string role;                // "embedding", "output" or empty
  bool optional = false;
  std::string announced;  // of an optional one: the key of config.json that is true where the model has it
  bool per_layer() const { return hf.find("{i}") != std::string::npos; }
};

struct MetadataRule {
  std::string key, type;          // "u32", "f32"
  std::vector<std::string> from;  // first that config.json has: "a.b", or "a/b" for an exact quotient
  bool optional = false;
  std::string special;            // "rope_scaling", "file_type", "quantization_version": made by code
};

// Classes whose attention sees the last tokens only.
struct WindowRule {
  std::string key;      // of config.json; null there: no window
  int64_t missing = 0;  // what the class takes where the key is not there
};

struct Architecture {
  std::string name;  // general.architecture
  std::vector<std::string> classes;
  std::map<std::string, std::string> block;                  // the kinds of a layer's parts
  std::map<std::string, std::vector<std::string>> require;   // config key -> values that the layer kinds cover
  std::map<std::string, std::vector<std::string>> params;
  std::map<std::string, std::string> multiples;  // a param -> the one that must divide it
  std::map<std::string, WindowRule> windows;     // by class
  std::vector<TensorRule> tensors;
  std::vector<std::string> drop;
  std::vector<MetadataRule> metadata;
  bool tied_by_default = false;  // what the class takes where config.json has no tie_word_embeddings

  const TensorRule* by_role(std::string_view role) const;
};

// A tensor's name matched to a rule.
struct MappedName {
  const TensorRule* rule = nullptr;
  int layer = -1;  // -1: not in a layer
  std::string name;  // on the other side
};

Result<Architecture> parse_architecture(std::string_view json, const std::string& what);
// All that are built in, by name. A file of ours that does not parse is an error here and a failing test.
Result<const std::vector<Architecture>*> architectures();
// By config.json's "architectures"; the error lists what is known. `what` names the file.
Result<const Architecture*> find_architecture(const Json& config, const std::string& what);
// By general.architecture.
const Architecture* find_architecture_by_name(std::string_view name);

std::optional<MappedName> map_to_gguf(const Architecture& a, std::string_view hf_name);
// The other way.
std::optional<MappedName> map_from_gguf(const Architecture& a, std::string_view gguf_name);
bool is_dropped(const Architecture& a, std::string_view hf_name);
std::string expand(std::string_view tmpl, int layer);

// A number of config.json by a path as in MetadataRule::from.
std::optional<double> config_number(const Json& config, std::string_view path);
// The same, but a value that is there and is no number is kBadInput that shows it (null counts as absent).
Result<std::optional<double>> read_config_number(const Json& config, std::string_view path, const std::string& what);
// The params of an architecture for one config; an error names the keys that are missing or make no sense.
Result<std::map<std::string, int64_t>> config_params(const Architecture& a, const Json& config,
                                                     const std::string& what);
// The tokens that a token's attention sees where a window limits them to fewer than the model's context.
Result<std::optional<int64_t>> attention_window(const Architecture& a, const Json& config, const std::string& what);
// The shape that a rule's tensor must have.
Result<Shape> expected_shape(const TensorRule& rule, const std::map<std::string, int64_t>& params);

}  // namespace ingot
