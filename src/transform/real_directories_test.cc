// Directories of models and adapters as people have them: each situation with a tied and an untied base, in one file and in shards, to GGUF and to a Hugging
// Face directory; the values are worked out here. docs/coming-from/real-directories.md is the table of what each is.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/json.h"
#include "formats/outputs.h"
#include "transform/cast.h"
#include "transform/gguf_map.h"
#include "transform/key_names.h"
#include "transform/lora.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

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
Matrix random_matrix(int64_t rows, int64_t cols, uint64_t seed) { return {rows, cols, random_floats(std::max<int64_t>(rows, 1) * cols, seed, 0.5f)}; }
Matrix plus(Matrix m, float x) {
  for (float& f : m.v) f += x;
  return m;
}

Artifact as_artifact(const Weights& weights, std::map<std::string, std::string> files) {
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

std::string replaced(std::string s, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = s.find(from, at)) != std::string::npos; at += to.size()) s.replace(at, from.size(), to);
  return s;
}
// "model.layers.0.x" -> "model.layers.0.WRAPPER.x": what FSDP and checkpointing put around each layer.
std::string in_layers(const std::string& name, const std::string& wrapper) {
  const size_t at = name.find("layers.");
  if (at == std::string::npos) return name;
  const size_t dot = name.find('.', at + 7);
  return name.substr(0, dot + 1) + wrapper + "." + name.substr(dot + 1);
}

struct Situation {
  const char* name;
  void (*make)(World&);
};
const Situation kSituations[] = {
    {"factors alone", [](World&) {}},
    // --- modules_to_save, and what is saved unasked ---
    {"a name end without a dot names three norms", [](World& w) {
       w.adapter_config["modules_to_save"] = {"norm"};
       int i = 0;
       for (const auto& [name, m] : Weights(w.expected))
         if (name.ends_with("norm.weight")) w.save_whole(name, random_matrix(0, kHidden, 300 + i++));
     }},
    {"a module with others below it", [](World& w) {
       w.adapter_config["modules_to_save"] = {"layers.1.mlp"};
       w.adapter_config["target_modules"] = {"q_proj"};
       for (int64_t i = 0; i < kLayers; ++i) {
         const std::string down = fmt::format("model.layers.{}.mlp.down_proj", i);
         w.adapter.erase("base_model.model." + down + ".lora_A.weight"), w.adapter.erase("base_model.model." + down + ".lora_B.weight");
         w.expected[down + ".weight"] = w.base[down + ".weight"];
       }
       for (const char* m : {"gate_proj", "up_proj", "down_proj"}) {
         const std::string name = fmt::format("model.layers.1.mlp.{}.weight", m);
         w.save_whole(name, plus(w.base.at(name), 1));
       }
     }},
    {"save_embedding_layers without a change of the vocabulary", [](World& w) {
       const Matrix e = plus(w.base.at(kEmbedding), 1);
       w.save_whole(kEmbedding, e);
       if (w.tied) w.save(kHead, e);
       else w.save_whole(kHead, plus(w.base.at(kHead), -1));
       w.told.push_back("'model.embed_tokens.weight' as a whole");
     }},
    {"embeddings resized and saved unasked", [](World& w) {
       const Matrix e = w.resized(kEmbedding, 400);
       w.save_whole(kEmbedding, e);
       if (w.tied) w.save(kHead, e);
       else w.save_whole(kHead, w.resized(kHead, 401));
       w.add_two_tokens();
     }},
    {"embeddings resized, both in modules_to_save", [](World& w) {
       w.adapter_config["modules_to_save"] = {"embed_tokens", "lm_head"};
       w.save_whole(kEmbedding, w.resized(kEmbedding, 402));
       w.save_whole(kHead, w.resized(kHead, 403));
       w.expect_tied = false;
       w.add_two_tokens();
     }},
    {"the embedding in modules_to_save, tied by ensure_weight_tying", [](World& w) {
       w.adapter_config["modules_to_save"] = {"embed_tokens"};
       w.adapter_config["ensure_weight_tying"] = true;
       const Matrix e = plus(w.base.at(kEmbedding), 1);
       w.save_whole(kEmbedding, e);
       if (w.tied) w.save(kHead, e);
     }},
    {"the embedding in modules_to_save, not tied any more", [](World& w) {
       w.adapter_config["modules_to_save"] = {"embed_tokens"};
       w.expected[kHead] = w.base.at(w.tied ? kEmbedding : kHead);
       w.save_whole(kEmbedding, plus(w.base.at(kEmbedding), 1));
       w.expect_tied = false;
     }},
    {"copies under modules_to_save. and original_module.", [](World& w) {
       w.adapter_config["modules_to_save"] = {"lm_head"};
       const Matrix before = w.base.at(w.tied ? kEmbedding : kHead), h = plus(before, 2);
       w.save("lm_head.original_module.weight", before);
       w.save("lm_head.modules_to_save.default.weight", h);
       w.expected[kHead] = h;
       w.expect_tied = false;
     }},
    {"a task's names in modules_to_save that the model has not", [](World& w) { w.adapter_config["modules_to_save"] = {"classifier", "score"}; }},
    {"embeddings in modules_to_save, resized: plain, saved and original copies side by side", [](World& w) {
       w.adapter_config["modules_to_save"] = {"embed_tokens", "lm_head"};
       for (const auto& [tensor, seed] : {std::pair{kEmbedding, 410}, {kHead, 411}}) {
         const std::string module = replaced(tensor, ".weight", "");
         const Matrix before = w.resized(tensor, static_cast<uint64_t>(w.tied ? 410 : seed)), m = plus(before, 1 + static_cast<float>(seed % 2));
         w.save_whole(tensor, m);
         w.save(module + ".modules_to_save.weight", m);
         w.save(module + ".original_module.weight", before);
       }
       w.expect_tied = false;
       w.add_two_tokens();
     }},
    {"the embedding in modules_to_save, the head as it was saved along", [](World& w) {
       w.adapter_config["modules_to_save"] = {"embed_tokens"};
       const Matrix before = w.resized(kEmbedding, 412);
       w.save_whole(kEmbedding, plus(before, 1));
       w.save("model.embed_tokens.original_module.weight", before);
       w.save_whole(kHead, w.tied ? before : w.resized(kHead, 413));
       w.expect_tied = false;
       w.add_two_tokens();
     }},
    {"tensors that PEFT does not load", [](World& w) {
       w.save("model.embed_tokens.original_module.weight", plus(w.base.at(kEmbedding), 9));
       w.save("model.layers.0.self_attn.k_proj.base_layer.weight", plus(w.base.at("model.layers.0.self_attn.k_proj.weight"), 9));
       w.save(std::string(kQ) + ".weight", plus(w.base.at(std::string(kQ) + ".weight"), 9));
       w.adapter["base_model.model.model.rotary_emb.inv_freq"] = random_matrix(0, kDim / 2, 1);
       w.told.push_back("3 of its tensors are none that PEFT would load");
     }},
    // --- trained rows ---
    {"trainable_token_indices as a list", [](World& w) {
       w.adapter_config["trainable_token_indices"] = {2, 7, 4095};
       const Matrix rows = random_matrix(3, kHidden, 500);
       w.save("model.embed_tokens.token_adapter.trainable_tokens_delta", rows);
       for (int i = 0; i < 3; ++i) std::copy_n(&rows.v[i * kHidden], kHidden, &w.expected[kEmbedding].v[std::array{2, 7, 4095}[i] * kHidden]);
     }},
    {"trainable_token_indices by module", [](World& w) {
       w.adapter_config["trainable_token_indices"] = {{"embed_tokens", {5}}, {"lm_head", {6}}};
       w.expected[kHead] = w.base.at(w.tied ? kEmbedding : kHead);
       w.expect_tied = false;
       for (const auto& [module, row, seed] : {std::tuple{"model.embed_tokens", 5, 501}, {"lm_head", 6, 502}}) {
         const Matrix m = random_matrix(1, kHidden, static_cast<uint64_t>(seed));
         w.save(std::string(module) + ".token_adapter.trainable_tokens_delta", m);
         std::copy_n(m.v.begin(), kHidden, &w.expected[std::string(module) + ".weight"].v[row * kHidden]);
       }
     }},
    {"trained rows with the tied head's and the resized base beside them", [](World& w) {
       w.adapter_config["trainable_token_indices"] = {3, 4097};
       Matrix e = w.resized(kEmbedding, 510);
       const Matrix rows = random_matrix(2, kHidden, 511);
       w.save("model.embed_tokens.token_adapter.base_layer.weight", e);
       w.save("model.embed_tokens.token_adapter.trainable_tokens_delta", rows);
       if (w.tied) {
         w.save("lm_head.token_adapter.base_layer.weight", e);
         w.save("lm_head.token_adapter.trainable_tokens_delta", rows);
       } else {
         w.save_whole(kHead, w.resized(kHead, 512));
       }
       for (int i = 0; i < 2; ++i) std::copy_n(&rows.v[i * kHidden], kHidden, &e.v[std::array{3, 4097}[i] * kHidden]);
       w.expected[kEmbedding] = e;
       w.add_two_tokens();
     }},
    // --- factors on the embeddings ---
    {"factors on the embedding, whose base was changed in training", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens"};
       const Matrix e = plus(w.base.at(kEmbedding), 0.25f);
       w.save("model.embed_tokens.base_layer.weight", e);
       if (w.tied) w.expected[kHead] = e;
       w.expected[kEmbedding] = e;
       w.add_factors("model.embed_tokens", true);
       w.expect_tied = false;
     }},
    {"factors on the embedding, turned ones on the tied head", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens"};
       w.adapter_config["ensure_weight_tying"] = true;
       w.add_factors("model.embed_tokens", true);
       if (!w.tied) return;
       const std::string e = "base_model.model.model.embed_tokens.lora_embedding_", h = "base_model.model.lm_head.lora_";
       const Matrix a = w.adapter.at(e + "A"), b = w.adapter.at(e + "B");
       Matrix ha{kRank, kHidden, {}}, hb{kVocab, kRank, {}};
       for (int64_t k = 0; k < kRank; ++k)
         for (int64_t j = 0; j < kHidden; ++j) ha.v.push_back(b.v[j * kRank + k]);
       for (int64_t i = 0; i < kVocab; ++i)
         for (int64_t k = 0; k < kRank; ++k) hb.v.push_back(a.v[k * kVocab + i]);
       w.adapter[h + "A.weight"] = ha, w.adapter[h + "B.weight"] = hb;
       w.save("lm_head.base_layer.weight", w.base.at(kEmbedding));
     }},
    {"factors on the head alone", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "lm_head"};
       const Matrix before = w.base.at(w.tied ? kEmbedding : kHead);
       w.expected[kHead] = before;
       w.save("lm_head.base_layer.weight", before);
       w.add_factors("lm_head");
       w.expect_tied = false;
     }},
    {"a resized base under factors on the embedding", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens"};
       const Matrix e = w.resized(kEmbedding, 403), h = w.tied ? e : w.resized(kHead, 404);
       w.save("model.embed_tokens.base_layer.weight", e);
       w.expected[kEmbedding] = e;
       w.add_factors("model.embed_tokens", true);
       // PEFT saves the head too; that of a tied model is the embedding's base.
       w.save(kHead, h);
       w.expected[kHead] = h;
       w.expect_tied = false;
       w.add_two_tokens();
     }},
    // --- names ---
    {"the adapter's name in the keys", [](World& w) {
       w.rename(&w.adapter, [](const std::string& n) { return replaced(replaced(n, "lora_A.", "lora_A.default."), "lora_B.", "lora_B.default."); });
     }},
    {"another name in the keys", [](World& w) {
       w.rename(&w.adapter, [](const std::string& n) { return replaced(replaced(n, "lora_A.", "lora_A.my-run."), "lora_B.", "lora_B.my-run."); });
     }},
    {"torch.compile's prefix", [](World& w) {
       w.rename(&w.adapter, [](const std::string& n) { return "_orig_mod." + n; });
       w.told.push_back("'_orig_mod.' taken off (torch.compile)");
     }},
    {"torch.compile's part within", [](World& w) { w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "base_model.model.", "base_model.model._orig_mod."); }); }},
    {"FSDP's parts, under DataParallel", [](World& w) {
       w.rename(&w.adapter, [](const std::string& n) { return "module." + in_layers(n, "_fsdp_wrapped_module"); });
       w.told.push_back("'_fsdp_wrapped_module.' taken off (FSDP)");
     }},
    {"base_model.model. twice", [](World& w) { w.rename(&w.adapter, [](const std::string& n) { return "base_model.model." + n; }); }},
    {"base_model.model. missing", [](World& w) { w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "base_model.model.", ""); }); }},
    {"trained on the bare model", [](World& w) { w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "base_model.model.model.", "base_model.model."); }); }},
    {"patterns that speak of the bare model's names", [](World& w) {
       w.adapter_config["alpha_pattern"] = {{"^layers.1.self_attn.q_proj", 24}};
       w.adapter_config["target_modules"] = "layers\\..*(q_proj|down_proj)";
       Matrix& q = w.expected[std::string(kQ) + ".weight"];
       const Matrix& before = w.base.at(std::string(kQ) + ".weight");
       for (size_t i = 0; i < q.v.size(); ++i) q.v[i] = before.v[i] + 3 * (q.v[i] - before.v[i]);
       w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "base_model.model.model.", "base_model.model."); });
     }},
    {"a model within a model", [](World& w) { w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "base_model.model.", "base_model.model.model."); }); }},
    {"trained within a vision model", [](World& w) { w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "base_model.model.", "base_model.model.language_model."); }); }},
    {"trained within a vision model of transformers 5", [](World& w) {
       w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "base_model.model.model.", "base_model.model.model.language_model."); });
     }},
    {"fields that nobody knows", [](World& w) {
       w.adapter_config["unsloth_version"] = "2026.1", w.adapter_config["my_notes"] = {1, 2};
       w.told.push_back("'my_notes'");
     }},
    // --- the base ---
    {"a compiled base", [](World& w) {
       w.rename(&w.base, [](const std::string& n) { return "_orig_mod." + n; });
       w.told.push_back("'_orig_mod.' taken off (torch.compile)");
     }},
    {"a base saved under DataParallel", [](World& w) {
       w.base_alone();
       w.rename(&w.base, [](const std::string& n) { return "module." + n; });
     }},
    {"a base saved under FSDP with checkpointing", [](World& w) {
       w.rename(&w.base, [](const std::string& n) { return "_fsdp_wrapped_module." + in_layers(n, "_fsdp_wrapped_module._checkpoint_wrapped_module"); });
     }},
    {"a PEFT model saved whole, without its factors", [](World& w) {
       w.base_alone();
       w.rename(&w.base, [](const std::string& n) { return "base_model.model." + replaced(n, "q_proj.weight", "q_proj.base_layer.weight"); });
       w.told.push_back("'base_layer.' taken off (a PEFT model saved whole)");
     }},
    {"a model within a model as the base", [](World& w) { w.rename(&w.base, [](const std::string& n) { return "model." + n; }); }},
    {"the text part of a vision model as the base", [](World& w) { w.rename(&w.base, [](const std::string& n) { return "language_model." + n; }); }},
    {"a base under a prefix that nobody listed", [](World& w) { w.rename(&w.base, [](const std::string& n) { return "thinker." + n; }), w.told.push_back("'thinker.' taken off"); }},
    {"the bare model as the base", [](World& w) {
       w.base_alone();
       w.rename(&w.base, [](const std::string& n) { return n.starts_with("model.") ? n.substr(6) : n; });
     }},
    {"the bare model's class", [](World& w) {
       w.base_alone();
       if (!w.tied) return;  // its head would be lost: refused, below
       w.config["architectures"] = {"LlamaModel"};
       w.rename(&w.base, [](const std::string& n) { return n.substr(6); });
     }},
};

// GGUF's name of a tensor, and its rows in that order.
std::pair<std::string, Matrix> as_llama_cpp(const std::string& name, Matrix m) {
  if (name == kEmbedding) return {"token_embd.weight", m};
  if (name == kHead) return {"output.weight", m};
  if (name == "model.norm.weight") return {"output_norm.weight", m};
  const std::string layer = name.substr(13, 1);
  static const std::map<std::string, std::string> kNames = {
      {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"}, {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"}};
  const std::string module = name.substr(15, name.size() - 15 - 7);
  if (module == "self_attn.q_proj" || module == "self_attn.k_proj") {
    const Matrix in = m;
    for (int64_t row = 0; row < m.rows; ++row) {
      const int64_t head = row / kDim, at = row % kDim, to = head * kDim + (at % (kDim / 2)) * 2 + at / (kDim / 2);
      std::copy_n(&in.v[row * m.cols], m.cols, &m.v[to * m.cols]);
    }
  }
  return {fmt::format("blk.{}.{}.weight", layer, kNames.at(module)), m};
}

void expect_weights(const Artifact& got, const Weights& want, const std::string& what) {
  ASSERT_EQ(got.tensors.size(), want.size()) << what;
  for (const auto& [name, m] : want) {
    const LazyTensor* t = got.find(name);
    ASSERT_NE(t, nullptr) << what << ": " << name;
    ASSERT_TRUE(t->spec().shape == m.shape()) << what << ": " << name << " " << to_string(t->spec().shape);
    const auto v = values(t->node);
    for (size_t i = 0; i < v.size(); ++i) ASSERT_NEAR(v[i], m.v[i], 3e-6) << what << ": " << name << " " << i;
  }
}

class RealDirectories : public ::testing::TestWithParam<int> {};

TEST_P(RealDirectories, TheModelIsWhatTransformersAndPeftMakeOfIt) {
  const Situation& s = kSituations[GetParam()];
  for (const auto& [tied, stored_head] : {std::pair{false, false}, {true, false}, {true, true}})
    for (const bool shards : {false, true}) {
      World w(tied, stored_head);
      s.make(w);
      if (!w.merges && stored_head) continue;  // such a base goes to a directory as it is
      const std::string what = fmt::format("{}{}{}{}", s.name, tied ? ", tied" : "", stored_head ? " with an equal head" : "", shards ? ", in shards" : "");
      auto store = make_memory_store();
      w.base_files["config.json"] = w.config.dump();
      write_output(hf_directory_output(as_artifact(w.base, w.base_files), *store, "base", shards ? 100'000 : 1 << 30));
      ASSERT_EQ(store->stat("base/model.safetensors")->has_value(), !shards) << what;
      std::string told;
      const auto notice = [&](const std::string& text) { told += text + "\n"; };
      auto base = with_plain_names(open_or_die(*store, "base"), notice);
      ASSERT_TRUE(base.ok()) << what << ": " << base.error().message;
      Artifact model = *base;
      if (w.merges) {
        write_output(safetensors_output(as_artifact(w.adapter, {}), *store, "adapter/adapter_model.safetensors"));
        w.adapter_files["adapter_config.json"] = w.adapter_config.dump();
        for (const auto& [name, text] : w.adapter_files) put_file(*store, "adapter/" + name, text);
        auto merged = lora_merge(*base, {{open_or_die(*store, "adapter"), 1}}, {notice});
        ASSERT_TRUE(merged.ok()) << what << ": " << merged.error().message;
        model = *merged;
      }
      for (const auto& part : w.told) EXPECT_NE(told.find(part), std::string::npos) << what << ": " << part << " not in\n" << told;
      if (w.expect_tied) w.expected.erase(kHead);

      write_output(hf_directory_output(model, *store, "merged", shards ? 100'000 : 1 << 30));
      const Artifact directory = open_or_die(*store, "merged");
      expect_weights(directory, w.expected, what + ", as a directory");
      const Json config = *parse_json(directory.files.at("config.json"), "c");
      EXPECT_EQ(config["tie_word_embeddings"], w.expect_tied) << what;
      EXPECT_EQ(config["vocab_size"], w.expected.at(kEmbedding).rows) << what;

      auto gguf = to_gguf(model);
      ASSERT_TRUE(gguf.ok()) << what << ": " << gguf.error().message;
      write_output(gguf_output(*gguf, *store, "m.gguf"));
      const Artifact file = open_or_die(*store, "m.gguf");
      Weights want;
      for (const auto& [name, m] : w.expected) want.insert(as_llama_cpp(name, m));
      expect_weights(file, want, what + ", as GGUF");
      const auto* tokens = std::get_if<std::vector<std::string>>(&file.meta("tokenizer.ggml.tokens")->v);
      ASSERT_EQ(static_cast<int64_t>(tokens->size()), w.expected.at(kEmbedding).rows) << what;
      if (tokens->size() > kVocab) {
        EXPECT_EQ((*tokens)[kVocab + 1], "<x1>") << what;
      }
    }
}
INSTANTIATE_TEST_SUITE_P(All, RealDirectories, ::testing::Range(0, static_cast<int>(std::size(kSituations))),
                         [](const auto& p) { return fmt::format("{:02}", p.param); });

// --- What is refused, with its reason ---

Result<Artifact> merged(World& w) {
  w.base_files["config.json"] = w.config.dump();
  Artifact base = as_artifact(w.base, w.base_files), adapter = as_artifact(w.adapter, w.adapter_files);
  base.path = "base", adapter.path = "adapter", adapter.naming = "peft";
  adapter.files["adapter_config.json"] = w.adapter_config.dump();
  INGOT_ASSIGN(base, with_plain_names(std::move(base), {}));
  return lora_merge(base, {{adapter, 1}});
}

TEST(RealDirectoriesRefused, APeftModelSavedWholeWithItsFactors) {
  World w(false);
  for (const auto& [name, m] : w.adapter) w.base[name] = m;
  expect_error(merged(w), {"a PEFT model that was saved whole", "merge_and_unload"});
}

TEST(RealDirectoriesRefused, TwoAdaptersInOneFile) {
  World w(false);
  w.rename(&w.adapter, [](const std::string& n) { return replaced(replaced(n, "q_proj.lora_A.", "q_proj.lora_A.one."), "down_proj.lora_A.", "down_proj.lora_A.two."); });
  expect_error(merged(w), {"2 adapters", "'one'", "'two'"});
}

TEST(RealDirectoriesRefused, OneSideResized) {
  World w(false);
  w.save(kEmbedding, w.resized(kEmbedding, 1));
  expect_error(merged(w), {"4098 rows", "4096", "save_embedding_layers"});
}

TEST(RealDirectoriesRefused, TokensWithoutRows) {
  World w(false);
  w.add_two_tokens();
  expect_error(merged(w), {"4098 tokens", "4096 rows", "save_embedding_layers"});
}

TEST(RealDirectoriesRefused, TrainedRowsThatTheBaseHasNot) {
  World w(false);
  w.adapter_config["trainable_token_indices"] = {4096};
  w.save("model.embed_tokens.token_adapter.trainable_tokens_delta", random_matrix(1, kHidden, 1));
  expect_error(merged(w), {"row 4096", "has 4096", "save_embedding_layers"});
  w.adapter_config["trainable_token_indices"] = {1, 2};
  expect_error(merged(w), {"[1, 16]", "2 rows"});
  w.adapter_config.erase("trainable_token_indices");
  expect_error(merged(w), {"trainable_token_indices", "do not belong together"});
  World none(false);
  none.adapter_config["trainable_token_indices"] = {1};
  expect_error(merged(none), {"trainable_token_indices", "has none"});
}

TEST(RealDirectoriesRefused, DifferentCopiesOfATiedTensor) {
  World w(true);
  w.save(kEmbedding, plus(w.base.at(kEmbedding), 1));
  w.save(kHead, plus(w.base.at(kEmbedding), 2));
  const auto r = merged(w);
  ASSERT_TRUE(r.ok()) << r.error().message;
  const auto e = evaluate(r->find(kEmbedding)->node);
  ASSERT_FALSE(e.ok());
  EXPECT_NE(e.error().message.find("the model ties the two"), std::string::npos) << e.error().message;
}

TEST(RealDirectoriesRefused, TheBareModelsClassWithoutAHead) {
  World w(false);
  w.config["architectures"] = {"LlamaModel"};
  w.base.erase(kHead);
  w.base_files["config.json"] = w.config.dump();
  expect_error(to_gguf(as_artifact(w.base, w.base_files)), {"lm_head.weight", "missing"});
}

TEST(RealDirectoriesRefused, FactorsForAHeadThatNobodyHas) {
  World w(false);
  w.adapter_config["target_modules"] = {"q_proj", "down_proj", "score"};
  w.save("score.lora_A.weight", random_matrix(kRank, kHidden, 1)), w.save("score.lora_B.weight", random_matrix(2, kRank, 2));
  expect_error(merged(w), {"factors for 'score'", "neither the base base nor the adapter"});
  World none(true);
  none.base.erase(kEmbedding);
  none.adapter_config["target_modules"] = {"q_proj", "down_proj", "lm_head"};
  none.save("lm_head.lora_A.weight", random_matrix(kRank, kHidden, 1)), none.save("lm_head.lora_B.weight", random_matrix(kVocab, kRank, 2));
  expect_error(merged(none), {"factors for 'lm_head'"});
}

TEST(RealDirectoriesRefused, RowsOfATiedHeadThatTheFileLacks) {
  World w(true);
  w.adapter_config["trainable_token_indices"] = {{"lm_head", {1, 2}}};
  expect_error(merged(w), {"trainable_token_indices", "'lm_head'", "has none"});
  w.adapter_config["trainable_token_indices"] = {{"embed_tokens", {1, 2}}, {"lm_head", {3, 4}}};
  w.save("model.embed_tokens.token_adapter.trainable_tokens_delta", random_matrix(2, kHidden, 1));
  expect_error(merged(w), {"trainable_token_indices", "'lm_head'", "has none"});
  w.adapter_config["trainable_token_indices"] = {{"embed_tokens", {1, 2}}, {"lm_head", {1, 2}}};
  const auto r = merged(w);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(r->find(kHead), nullptr);
}

TEST(RealDirectoriesRefused, HeadsThatFitNothing) {
  for (const Matrix& head : {Matrix{2, kHidden - 1, random_floats(2 * (kHidden - 1), 1)}, random_matrix(0, kHidden, 1)}) {
    World w(false);
    w.adapter_config["task_type"] = "SEQ_CLS";
    w.save("score.weight", head);
    expect_error(merged(w), {"score.weight", "no head"});
  }
  World bias(false);
  bias.save("score.bias", random_matrix(0, 2, 1));
  expect_error(merged(bias), {"score.bias", "no head"});
  World other(false);
  other.save("score.foo", random_matrix(2, kHidden, 1));
  expect_error(merged(other), {"score.foo"});
}

TEST(RealDirectories, ALaterAdapterThatBringsTheWholeTensorIsTold) {
  World w(false);
  w.base_files["config.json"] = w.config.dump();
  Artifact base = as_artifact(w.base, w.base_files);
  std::vector<AdapterSpec> specs;
  for (const char* path : {"one", "two"}) {
    World a(false);
    a.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens"};
    a.add_factors("model.embed_tokens", true);
    a.save("model.embed_tokens.base_layer.weight", a.base.at(kEmbedding));
    Artifact adapter = as_artifact(a.adapter, {{"adapter_config.json", a.adapter_config.dump()}});
    adapter.path = path, adapter.naming = "peft";
    specs.push_back({adapter, 1});
  }
  std::string told;
  const LoraMergeOptions options = {[&](const std::string& text) { told += text + "\n"; }};
  ASSERT_TRUE(lora_merge(base, specs, options).ok());
  EXPECT_NE(told.find("what 'one' changed in 'model.embed_tokens.weight' is lost: 'two'"), std::string::npos) << told;
}

// transformers ties what is equal; a configuration without the key means what its class takes for granted.
TEST(RealDirectories, WhetherABaseIsTied) {
  World two(true);
  two.base[kHead] = plus(two.base.at(kEmbedding), 1);
  auto r = merged(two);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_NE(r->find(kHead), nullptr);
  EXPECT_NE(r->files.at("config.json").find("\"tie_word_embeddings\": false"), std::string::npos);
  // Equal at first, and not to the end.
  World late(true);
  late.base[kHead] = late.base.at(kEmbedding);
  late.base[kHead].v.back() += 1;
  r = merged(late);
  ASSERT_TRUE(r.ok()) << r.error().message;
  const auto e = evaluate(r->find(kEmbedding)->node);
  ASSERT_FALSE(e.ok());
  EXPECT_NE(e.error().message.find("tie_word_embeddings"), std::string::npos) << e.error().message;
  for (const bool head : {false, true}) {
    World gemma(!head);
    gemma.config["architectures"] = {"GemmaForCausalLM"};
    gemma.config.erase("tie_word_embeddings");
    gemma.adapter_config["modules_to_save"] = {"embed_tokens"};
    gemma.save(kEmbedding, plus(gemma.base.at(kEmbedding), 1));
    r = merged(gemma);
    ASSERT_TRUE(r.ok()) << r.error().message;
    ASSERT_NE(r->find(kHead), nullptr);
    EXPECT_EQ(values(r->find(kHead)->node), gemma.base.at(head ? kHead : kEmbedding).v);
    EXPECT_EQ(r->files.at("config.json").find("\"tie_word_embeddings\": false") != std::string::npos, !head);
  }
}

// A head for a task makes another model of it.
TEST(RealDirectoriesRefused, AClassifierIsADirectoryAndNoGguf) {
  for (const bool tied : {false, true}) {
    World w(tied);
    w.adapter_config["task_type"] = "SEQ_CLS";
    w.adapter_config["modules_to_save"] = {"classifier", "score"};
    const Matrix head = random_matrix(3, kHidden, 9);
    w.save("score.weight", head);
    const auto r = merged(w);
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(values(r->find("score.weight")->node), head.v);
    EXPECT_EQ(r->find(kHead), nullptr);
    const Json config = *parse_json(r->files.at("config.json"), "c");
    EXPECT_EQ(config["architectures"], Json({"LlamaForSequenceClassification"}));
    EXPECT_EQ(config["id2label"].size(), 3u);
    expect_error(to_gguf(*r), {"LlamaForSequenceClassification"});
    w.adapter_config["task_type"] = "QUESTION_ANS";
    expect_error(merged(w), {"score.weight", "QUESTION_ANS"});
  }
}

}  // namespace
}  // namespace ingot::transform
