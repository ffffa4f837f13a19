// Directories of models and adapters as people have them: each situation with a tied and an untied base, in one file and in shards, to GGUF and to a Hugging
// Face directory; the values are worked out here. docs/coming-from/real-directories.md is the table of what each is.
#include "transform/real_directories_testing.h"

namespace ingot::transform {
namespace {

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
    {"trained rows of the embedding, factors on the head", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "lm_head"};
       w.adapter_config["trainable_token_indices"] = {5, 6};
       const Matrix rows = random_matrix(2, kHidden, 520);
       w.save("model.embed_tokens.token_adapter.trainable_tokens_delta", rows);
       std::copy_n(rows.v.begin(), 2 * kHidden, &w.expected[kEmbedding].v[5 * kHidden]);
       if (w.tied) w.expected[kHead] = w.expected[kEmbedding];
       w.add_factors("lm_head");
       w.expect_tied = false;
     }},
    {"a resized embedding in modules_to_save, factors on the tied head", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "lm_head"};
       w.adapter_config["modules_to_save"] = {"embed_tokens"};
       const Matrix before = w.resized(kEmbedding, 521), head = w.tied ? before : w.resized(kHead, 522);
       w.save_whole(kEmbedding, plus(before, 1));
       w.save("lm_head.base_layer.weight", head);
       w.expected[kHead] = head;
       w.add_factors("lm_head");
       w.expect_tied = false;
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
    {"factors that head and embedding share, in scales of their own", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens"};
       w.adapter_config["ensure_weight_tying"] = true;
       w.adapter_config["rank_pattern"] = {{"lm_head", 8}};
       w.adapter_config["alpha_pattern"] = {{"embed_tokens", 12}};
       const std::string at = "base_model.model.model.embed_tokens.lora_embedding_";
       w.add_factors_scaled("model.embed_tokens", true, 3);
       if (!w.tied) return;
       // The head's factors are the embedding's, turned.
       const Matrix &a = w.adapter.at(at + "A"), &b = w.adapter.at(at + "B");
       w.save("lm_head.lora_A.weight", transposed(b)), w.save("lm_head.lora_B.weight", transposed(a));
       const Matrix &e = w.expected.at(kEmbedding), &before = w.base.at(kEmbedding);
       w.expected[kHead] = before;
       for (size_t i = 0; i < e.v.size(); ++i) w.expected[kHead].v[i] += (e.v[i] - before.v[i]) / 3;
       w.expect_tied = false;
       w.told.push_back("the same factors in other scales");
     }},
    {"ensure_weight_tying with an expression that PEFT does not take for one of embeddings", [](World& w) {
       w.adapter_config["target_modules"] = "model\\.embed_tokens|.*(q_proj|down_proj)";
       w.adapter_config["ensure_weight_tying"] = true;
       if (w.tied) w.expected[kHead] = w.base.at(kEmbedding);
       w.add_factors("model.embed_tokens", true);
       w.expect_tied = false;
     }},
    // --- the configuration and the file ---
    {"a module that is named in full, whatever layers_to_transform says", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "lm_head"};
       w.adapter_config["layers_to_transform"] = {0, 1};
       if (w.tied) w.expected[kHead] = w.base.at(kEmbedding);
       w.add_factors("lm_head");
       w.expect_tied = false;
     }},
    {"no target_modules: PEFT's choice for the model", [](World& w) {
       w.adapter_config["target_modules"] = nullptr;
       for (int64_t i = 0; i < kLayers; ++i) w.change_nothing(fmt::format("model.layers.{}.mlp.down_proj", i));
       w.told.insert(w.told.end(), {"'model.layers.0.mlp.down_proj', 'model.layers.1.mlp.down_proj', which target_modules in adapter_config.json does not name: they are passed over",
                                    "names 'model.layers.0.self_attn.v_proj', 'model.layers.1.self_attn.v_proj', but the file has no factors for them: they stay as in the base"});
     }},
    {"a value head among the factors", [](World& w) {
       w.adapter["v_head.summary.weight"] = random_matrix(1, kHidden, 1), w.adapter["v_head.summary.bias"] = random_matrix(0, 1, 1);
       w.told.push_back("2 of its tensors are none that PEFT would load");
     }},
    {"an adapter called weight, whose base copy PEFT does not find", [](World& w) {
       w.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens"};
       if (w.tied) w.expected[kHead] = w.base.at(kEmbedding);
       w.add_factors("model.embed_tokens", true);
       w.adapter["base_model.model.model.embed_tokens.base_layer"] = plus(w.base.at(kEmbedding), 9);
       w.expect_tied = false;
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
       w.told.push_back("does not know 'my_notes', 'unsloth_version' and passes over them");
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

}  // namespace
}  // namespace ingot::transform
