// What ingot knows about model architectures: class names, tensor names in both worlds and what lies between them, shapes, the metadata made from
// config.json, and the kinds of the layers. All of it is data (data/architectures/*.json, read by architecture_json.cc); numbers of one model are in
// model_config.h.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "formats/json.h"
#include "tensor/shape.h"

namespace ingot {

// A tensor of the one world and what it is in the other. Of `hf` and `gguf` one may have several templates: dimension `axis` of the one tensor is then
// cut into `parts`, one for each of the several, in order. {i} in a template is the layer; {e} in `hf` is an expert: those tensors are stacked along a
// new first dimension, one for each of the param "experts".
struct TensorRule {
  std::vector<std::string> hf, gguf;
  std::vector<std::string> shape;  // of the Hugging Face tensor, of several together: extents like "heads*head_dim+2*kv_heads*head_dim"
  std::vector<std::string> parts;
  int axis = 0;
  bool transpose = false;    // Hugging Face keeps [in, out]
  std::string permute;       // the param that counts the heads whose rows are permuted for GGUF, or empty
  std::string regroup;       // the param that counts groups of rows, each of which has a row of q, k and v in turn (GPT-NeoX): GGUF has all of q first
  double add = 0;            // to each element, for GGUF (norms that Gemma keeps as a difference from one)
  bool f32 = false;          // GGUF has it in F32 whatever the type of the rest
  std::string role;          // "embedding", "output" or empty
  bool optional = false;
  bool alternative = false;  // another spelling of what other rules give: not missed, and not written
  std::string announced;     // the key of config.json that is true where the model has it ..
  bool assumed = false;      // .. and what the class takes where the key is absent

  bool per_layer() const { return hf[0].find("{i}") != std::string::npos; }
  bool per_expert() const { return hf[0].find("{e}") != std::string::npos; }
  // Extents of tensor `part` of either side.
  std::vector<std::string> hf_shape(size_t part) const;
  std::vector<std::string> gguf_shape(size_t part) const;
};

struct MetadataRule {
  std::string key, type;          // "u32", "f32", "bool", "string"
  std::vector<std::string> from;  // the first number that config.json has (see config_number)
  Json value;                     // instead of `from`; null for none
  std::optional<double> off;      // what does nothing: where config.json says null
  bool optional = false;
  std::string special;            // "rope_scaling", "sliding_window", "file_type", "quantization_version": made by code
};

// Layers whose attention sees the last tokens only.
struct WindowRule {
  std::string key;         // of config.json; null there: no window
  int64_t missing = 0;     // what the class takes where the key is absent; 0: no window
  std::string enabled_by;  // a key that must be true besides, or empty
  std::string below;       // a key that counts the first layers, which see everything, or empty ..
  int64_t below_missing = 0;  // .. and what the class takes where it is absent
  std::string before;      // a key that counts the layers of which alone some have a window, or empty ..
  int64_t before_missing = 0;  // .. and what the class takes where it is absent
  bool unrotated = false;  // the layers that do not rotate their heads have the window, no others
  int64_t period = 0;      // every period-th layer sees everything; 0: none does
  bool read = true;        // by llama.cpp, of this architecture
  bool always = false;     // the key is written with 0 where there is no window
  bool told = false;       // so is the list of layers, whatever it is
  bool absent = false;     // where the key is absent, llama.cpp takes no layer to have a window
};

// What of the tensors llama.cpp's model of that name is strict about: it does not load a file that is otherwise.
struct LlamaCpp {
  std::vector<std::string> unread, needed;  // templates of GGUF names: it has none of these; it cannot be without these
  bool square = false;                      // heads * head_dim is the width
  bool one_base = false;                    // it loads, but rotates layers with a window by the base of the others
  bool ffn_scales = false;                  // it multiplies by the scales (formats/gguf_scales.h) of feed-forward weights, too, not of attention's alone
};

// Kinds of a layer's parts (infer/ computes them). What a layer has beside (norms behind a part, of q and k, biases, experts) the tensors tell.
struct LayerKinds {
  std::string norm = "rms";         // or "layer": less the mean, with or without a bias
  std::string rope = "halves";      // "interleaved", "none"
  std::string rope_layers = "all";  // "sliding": only layers with a window; "period 4": all but every fourth
  std::string rope_key, rope_period_key;  // of config.json: the same, which must agree; a list of 0 and 1, and the period
  std::string sliding_rope = "same";  // "own": layers with a window have plain angles ..
  std::optional<double> sliding_base;  // .. of this base where the metadata has no rope.freq_base_swa; nothing: that of the rest
  std::string activation = "silu";  // "gelu" (erf), "gelu_tanh"
  bool gated = true;
  bool fused_gate = false;          // ffn_up has the gate's rows first, then its own
  bool parallel = false;            // attention and feed-forward of the same input ..
  std::string parallel_by;          // .. or as a key of the metadata says ("use_parallel_residual")
  std::string embedding_scale;      // "sqrt_hidden", or as the metadata says
  std::string logit_scale = "multiply";  // or "divide": what the metadata's logit_scale does
  bool routing_normalized = true;   // weights of the chosen experts sum to one
  // The query is divided by the root of it: head_dim, but of models with so many layers another quotient.
  std::map<int64_t, std::string> attention_scale;
  std::string attention_key;        // of config.json: what it is divided by the root of, where that is said
};

// A key of config.json that must have one of these values.
struct Requirement {
  std::vector<Json> values;
  Json missing;  // what the class takes where it is absent; null: one of the values
};

struct Architecture {
  std::string name;  // general.architecture
  std::vector<std::string> classes, wrappers, model_types;  // wrappers: classes whose text_config is of this architecture
  LayerKinds layer;
  std::map<std::string, Requirement> require;
  std::map<std::string, std::vector<std::string>> params;
  std::map<std::string, std::string> multiples;  // a param -> the one that must divide it
  std::optional<WindowRule> window;
  LlamaCpp llama_cpp;
  std::vector<TensorRule> tensors;
  std::vector<std::string> drop;  // templates; a last "*" is any end
  std::vector<MetadataRule> metadata;
  Json defaults = Json::object();  // what the class takes where config.json does not have a key
  bool tied_by_default = false;  // what the class takes where config.json has no tie_word_embeddings
  bool by_tensors = false;       // a class that is not known is tried as this one by its tensors

  const TensorRule* by_role(std::string_view role) const;
};

// A tensor's name matched to a rule.
struct MappedName {
  const TensorRule* rule = nullptr;
  int layer = -1, expert = -1;  // -1: not in one
  size_t part = 0;              // which of the templates of its own side
  // On the other side; of a rule with several there the first.
  std::string name;
};

Result<Architecture> parse_architecture(std::string_view json, const std::string& what);
// All that are built in, by name. A file of ours that does not parse is an error here and a failing test.
Result<const std::vector<Architecture>*> architectures();
// By config.json's "architectures", else as inferred_architecture(); the error lists what is known. `what` names the file.
Result<const Architecture*> find_architecture(const Json& config, const std::string& what);
// That error, with what was tried besides.
Error unknown_architecture(const Json& config, const std::string& what, const std::string& tried);
// By the class alone, or by config.json's model_type; null if it is not known.
const Architecture* architecture_of_class(std::string_view name);
const Architecture* architecture_of_type(std::string_view model_type);
// As transformers takes a configuration that names no class, or an unknown one for the next token: by model_type. Of a class for another task, or with code of its
// own, nothing is inferred (null).
const Architecture* inferred_architecture(const Json& config);
// By general.architecture; `mixture`: of experts, which may share its name with one that is none.
const Architecture* find_architecture_by_name(std::string_view name, bool mixture = false);

std::optional<MappedName> map_to_gguf(const Architecture& a, std::string_view hf_name);
// The other way.
std::optional<MappedName> map_from_gguf(const Architecture& a, std::string_view gguf_name);
bool is_dropped(const Architecture& a, std::string_view hf_name);
std::string expand(std::string_view tmpl, int layer, int expert = -1);
// What the holes of a template, {i} and {e}, hold in a name that it matches.
struct Holes {
  int layer = -1, expert = -1;
};
std::optional<Holes> match_template(std::string_view tmpl, std::string_view name);

}  // namespace ingot
