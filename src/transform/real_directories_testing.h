// For tests of directories as people have them: a small Llama, an adapter for it, and what they are to become, worked out here.
#pragma once

#include <functional>

#include "formats/json.h"
#include "formats/outputs.h"
#include "transform/gguf_map.h"
#include "transform/key_names.h"
#include "transform/lora.h"
#include "transform/transform_testing.h"

namespace ingot::transform {

using namespace testing;

constexpr int64_t kHidden = 16, kHeads = 2, kKvHeads = 1, kDim = 8, kFfn = 24, kLayers = 2, kVocab = 4096, kRank = 4;
constexpr double kScale = 2;  // lora_alpha 8 over 4
constexpr const char kEmbedding[] = "model.embed_tokens.weight", kHead[] = "lm_head.weight", kQ[] = "model.layers.1.self_attn.q_proj",
                     kDown[] = "model.layers.0.mlp.down_proj";

struct Matrix {
  int64_t rows, cols;  // rows 0: a vector
  std::vector<float> v;
  Shape shape() const { return rows ? Shape{rows, cols} : Shape{cols}; }
};
using Weights = std::map<std::string, Matrix>;
inline Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed) { return {rows, cols, random_floats(std::max<int64_t>(rows, 1) * cols, seed, 0.5f)}; }
inline Matrix plus(Matrix m, float x) {
  for (float& f : m.v) f += x;
  return m;
}

inline Matrix transposed(const Matrix& m) {
  Matrix t{m.cols, m.rows, std::vector<float>(m.v.size())};
  for (int64_t i = 0; i < m.rows; ++i)
    for (int64_t j = 0; j < m.cols; ++j) t.v[j * m.rows + i] = m.v[i * m.cols + j];
  return t;
}

inline Artifact as_artifact(const Weights& weights, std::map<std::string, std::string> files) {
  Artifact a;
  a.format = "safetensors", a.naming = "hf";
  for (const auto& [name, m] : weights) a.tensors.push_back({name, f32_tensor(m.shape(), m.v)});
  a.files = std::move(files);
  return a;
}

// One situation: what lies in the two directories, and what the model is to be.
struct World {
  bool tied;
  Weights base, adapter, expected;
  OrderedJson config, adapter_config = {{"peft_type", "LORA"}, {"r", kRank}, {"lora_alpha", 8}, {"target_modules", {"q_proj", "down_proj"}}};
  std::map<std::string, std::string> base_files, adapter_files;
  bool expect_tied;
  bool merges = true;              // false: the base alone
  std::vector<std::string> told;   // parts of the notices

  explicit World(bool tied_, bool stored_head = false) : tied(tied_), expect_tied(tied_) {
    const Artifact example = example_base();
    base_files = example.files;
    config = *parse_json_ordered(base_files["config.json"], "c");
    for (const auto& [key, n] : std::initializer_list<std::pair<const char*, int64_t>>{{"hidden_size", kHidden}, {"num_attention_heads", kHeads},
             {"num_key_value_heads", kKvHeads}, {"head_dim", kDim}, {"intermediate_size", kFfn}, {"num_hidden_layers", kLayers}, {"vocab_size", kVocab}})
      config[key] = n;
    config["tie_word_embeddings"] = tied;
    uint64_t seed = 1;
    const auto put = [&](const std::string& name, int64_t rows, int64_t cols) { base[name + ".weight"] = random_matrix(rows, cols, seed++); };
    put("model.embed_tokens", kVocab, kHidden);
    if (!tied) put("lm_head", kVocab, kHidden);
    put("model.norm", 0, kHidden);
    for (int64_t i = 0; i < kLayers; ++i) {
      const std::string p = fmt::format("model.layers.{}.", i);
      put(p + "self_attn.q_proj", kHeads * kDim, kHidden), put(p + "self_attn.k_proj", kKvHeads * kDim, kHidden);
      put(p + "self_attn.v_proj", kKvHeads * kDim, kHidden), put(p + "self_attn.o_proj", kHidden, kHeads * kDim);
      put(p + "mlp.gate_proj", kFfn, kHidden), put(p + "mlp.up_proj", kFfn, kHidden), put(p + "mlp.down_proj", kHidden, kFfn);
      put(p + "input_layernorm", 0, kHidden), put(p + "post_attention_layernorm", 0, kHidden);
    }
    expected = base;
    if (stored_head) base[kHead] = base[kEmbedding];
    for (int64_t i = 0; i < kLayers; ++i) {
      add_factors(fmt::format("model.layers.{}.self_attn.q_proj", i));
      add_factors(fmt::format("model.layers.{}.mlp.down_proj", i));
    }
  }

  // W + s B A into what is expected, the factors into the adapter.
  void add_factors(const std::string& module, bool embedding = false) {
    Matrix& w = expected.at(module + ".weight");
    const Matrix a = random_matrix(kRank, embedding ? w.rows : w.cols, module.size() + 100), b = random_matrix(embedding ? w.cols : w.rows, kRank, module.size() + 200);
    adapter["base_model.model." + module + (embedding ? ".lora_embedding_A" : ".lora_A.weight")] = a;
    adapter["base_model.model." + module + (embedding ? ".lora_embedding_B" : ".lora_B.weight")] = b;
    for (int64_t i = 0; i < w.rows; ++i)
      for (int64_t j = 0; j < w.cols; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < kRank; ++k)
          sum += embedding ? static_cast<double>(a.v[k * w.rows + i]) * b.v[j * kRank + k] : static_cast<double>(b.v[i * kRank + k]) * a.v[k * w.cols + j];
        w.v[i * w.cols + j] = static_cast<float>(w.v[i * w.cols + j] + kScale * sum);
      }
  }
  // As add_factors, where the configuration makes the scale another.
  void add_factors_scaled(const std::string& module, bool embedding, double scale) {
    Matrix& w = expected.at(module + ".weight");
    const Matrix before = w;
    add_factors(module, embedding);
    for (size_t i = 0; i < w.v.size(); ++i) w.v[i] = static_cast<float>(before.v[i] + scale / kScale * (w.v[i] - before.v[i]));
  }
  // The factors that the file has for a module are none that count.
  void change_nothing(const std::string& module) { expected[module + ".weight"] = base.at(module + ".weight"); }
  void save(const std::string& tensor, const Matrix& m) { adapter["base_model.model." + tensor] = m; }
  // A whole tensor that takes the place of the base's.
  void save_whole(const std::string& tensor, const Matrix& m) { save(tensor, m), expected[tensor] = m; }
  void rename(Weights* weights, const std::function<std::string(const std::string&)>& f) {
    Weights out;
    for (auto& [name, m] : *weights) out[f(name)] = std::move(m);
    *weights = std::move(out);
  }
  // The embedding with two rows more, and the tokenizer for them.
  Matrix resized(const std::string& tensor, uint64_t seed) {
    Matrix m = base.at(tied && tensor == kHead ? kEmbedding : tensor);
    const auto more = random_floats(2 * kHidden, seed, 0.5f);
    m.v.insert(m.v.end(), more.begin(), more.end());
    m.rows += 2;
    return m;
  }
  void add_two_tokens() {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) adapter_files[name] = base_files[name];
    OrderedJson j = *parse_json_ordered(adapter_files["tokenizer.json"], "t");
    for (int i = 0; i < 2; ++i)
      j["added_tokens"].push_back({{"id", kVocab + i}, {"content", fmt::format("<x{}>", i)}, {"single_word", false}, {"lstrip", false}, {"rstrip", false}, {"normalized", false}, {"special", true}});
    adapter_files["tokenizer.json"] = j.dump();
    told.insert(told.end(), {"2 tokens more, from \"<x0>\" (4096)", "4098 rows instead of the base's 4096"});
  }
  void base_alone() { merges = false, expected = base; }
};

inline std::string replaced(std::string s, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = s.find(from, at)) != std::string::npos; at += to.size()) s.replace(at, from.size(), to);
  return s;
}
// "model.layers.0.x" -> "model.layers.0.WRAPPER.x": what FSDP and checkpointing put around each layer.
inline std::string in_layers(const std::string& name, const std::string& wrapper) {
  const size_t at = name.find("layers.");
  if (at == std::string::npos) return name;
  const size_t dot = name.find('.', at + 7);
  return name.substr(0, dot + 1) + wrapper + "." + name.substr(dot + 1);
}

}  // namespace ingot::transform
