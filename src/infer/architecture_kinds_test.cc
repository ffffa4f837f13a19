// Kinds of directories of one architecture: what llama.cpp does not load, parts of larger models, classes that are not known.
#include "infer/architecture_cases.h"
#include "infer/model.h"
#include "transform/key_names.h"

namespace ingot {
namespace {

using namespace testing_models;

struct Told {
  const char* variant;
  const char* message;
};
TEST(ArchitectureKinds, WhatLlamaCppDoesNotLoadIsTold) {
  for (const Told& t : {Told{"cohere2-head", "has 4 heads of 32 at a width of 64"}, {"cohere2-full", "llama.cpp runs no cohere2 model without one"},
                        {"qwen3-bias", "has 'blk.0.attn_output.bias', which its qwen3 models have not, so that llama.cpp does not load the file"},
                        {"olmo2-head", "heads of 32"}, {"gemma2-full", ""}, {"gemma2-caps-off", ""}, {"granite-head", ""}}) {
    std::vector<std::string> notices;
    gguf_of(load_case(std::string("variants/") + t.variant), &notices);
    const std::string all = fmt::format("{}", fmt::join(notices, "\n"));
    EXPECT_EQ(all.find("llama.cpp") != std::string::npos, *t.message != '\0') << t.variant << ": " << all;
    EXPECT_NE(all.find(t.message), std::string::npos) << t.variant << ": " << all;
  }
  for (const char* name : {"gemma2", "cohere2"}) {
    Case c = load_case(name);
    c.data["config"]["tie_word_embeddings"] = false;
    c.hf.files["config.json"] = c.data["config"].dump();
    const Shape shape = c.hf.find("model.embed_tokens.weight")->spec().shape;
    c.hf.tensors.push_back({"lm_head.weight", make_memory_tensor({DType::kF32, shape}, weights("lm_head.weight", shape, false))});
    std::vector<std::string> notices;
    gguf_of(c, &notices);
    EXPECT_TRUE(std::any_of(notices.begin(), notices.end(), [](const std::string& n) { return n.find("has 'output.weight', which its") != std::string::npos; })) << name;
  }
}

// Whoever reads the file would take every second layer, or five of six, to have one.
TEST(ArchitectureKinds, NoLayerHasAWindowWhereTheConfigurationSaysSo) {
  for (const char* name : {"gemma2", "gemma3", "cohere2", "olmo3"})
    for (const bool by_layers : {true, false}) {
      Case c = load_case(name);
      Json& config = c.data["config"];
      if (by_layers) config["layer_types"] = std::vector<std::string>(config["num_hidden_layers"].get<size_t>(), "full_attention");
      else config["sliding_window"] = nullptr;
      c.hf.files["config.json"] = config.dump();
      const Artifact g = gguf_of(c);
      const std::string prefix = std::get<std::string>(g.meta("general.architecture")->v) + ".";
      const MetaValue *window = g.meta(prefix + "attention.sliding_window"), *pattern = g.meta(prefix + "attention.sliding_window_pattern");
      EXPECT_EQ(window != nullptr, std::string(name) != "olmo3");
      EXPECT_EQ(pattern != nullptr, name == std::string("gemma3") || name == std::string("cohere2"));
      if (name == std::string("gemma2")) {
        EXPECT_EQ(std::get<uint32_t>(window->v), std::get<uint32_t>(g.meta(prefix + "context_length")->v));
      }
      for (const auto& b : pattern ? std::get<MetaArray>(pattern->v) : MetaArray()) EXPECT_FALSE(std::get<bool>(b.v)) << name;
      const auto read = read_model_config(g);
      ASSERT_TRUE(read.ok()) << read.error().message;
      for (const LayerPlan& plan : read->plan) EXPECT_EQ(plan.window, 0) << name;
    }
}

// As transformers 5 saves a mixture: the experts of a layer in two tensors, gate and up behind each other.
TEST(ArchitectureKinds, ExpertsOfALayerInOneTensorAreTheSame) {
  for (const char* name : {"mixtral", "qwen2moe", "qwen3moe"}) {
    Case c = load_case(name);
    const Artifact apart = gguf_of(c);
    const bool mixtral = name == std::string("mixtral");
    std::map<std::string, std::map<int, std::vector<std::byte>>> parts;  // by the tensor that they go into, in order
    std::map<std::string, Shape> shapes;
    c.hf.tensors.edit([&](auto& all) {
      for (auto& t : all) {
        const size_t at = t.name.find(".experts.");
        if (mixtral && t.name.ends_with("block_sparse_moe.gate.weight")) t.name.replace(t.name.find("block_sparse_moe"), 16, "mlp");
        if (at == std::string::npos) continue;
        const int expert = std::atoi(t.name.c_str() + at + 9);
        const bool down = has(t.name, {"down_proj", ".w2."}), up = has(t.name, {"up_proj", ".w3."});
        const std::string prefix = t.name.substr(0, t.name.find(mixtral ? "block_sparse_moe" : "mlp.")) + "mlp.experts.";
        const std::string to = prefix + (down ? "down_proj" : "gate_up_proj");
        parts[to][expert * 2 + (up ? 1 : 0)] = *evaluate(t.node, Region::all(t.spec().shape));
        Shape& s = shapes[to] = t.spec().shape;
        if (!down) s[0] *= 2;
        t.name.clear();
      }
      std::erase_if(all, [](const auto& t) { return t.name.empty(); });
      for (auto& [to, pieces] : parts) {
        std::vector<std::byte> bytes;
        for (auto& [order, piece] : pieces) bytes.insert(bytes.end(), piece.begin(), piece.end());
        const Shape one = shapes[to], s{static_cast<int64_t>(pieces.size()) / (to.ends_with("down_proj") ? 1 : 2), one[0], one[1]};
        all.push_back({to, make_memory_tensor({DType::kF32, s}, std::move(bytes))});
      }
    });
    ASSERT_FALSE(parts.empty());
    expect_same_tensors(gguf_of(c), apart);
  }
}

// A model of several parts, by the names of transformers 4 and 5.
TEST(ArchitectureKinds, TheTextPartOfAVisionModelIsTheSame) {
  const Case plain = load_case("gemma3");
  const Artifact alone = gguf_of(plain);
  for (const auto& [instead, vision] : {std::pair{"language_model.model.", "vision_tower.vision_model.x"}, {"model.language_model.", "model.vision_tower.vision_model.x"}}) {
    Case c = plain;
    Json text = c.data["config"];
    text.erase("architectures");
    c.hf.files["config.json"] = Json{{"architectures", {"Gemma3ForConditionalGeneration"}}, {"model_type", "gemma3"}, {"text_config", text}, {"vision_config", {{"hidden_size", 8}}}}.dump();
    c.hf.tensors.edit([&, to = std::string(instead), other = std::string(vision)](auto& all) {
      for (auto& t : all)
        if (t.name.starts_with("model.")) t.name.replace(0, 6, to);
      all.push_back({other, make_memory_tensor({DType::kF32, {2}}, std::vector<std::byte>(8))});
    });
    std::vector<std::string> notices;
    const Artifact part = gguf_of(c, &notices);
    expect_same_tensors(part, alone);
    ASSERT_EQ(part.metadata.size(), alone.metadata.size());
    EXPECT_TRUE(std::any_of(notices.begin(), notices.end(), [](const std::string& n) { return n.find("text part alone is converted, 1 tensor of the others is left out") != std::string::npos; }))
        << fmt::format("{}", fmt::join(notices, "\n"));
  }
}

struct OfUnknownClass {
  Result<Artifact> gguf;
  std::string told;
};
OfUnknownClass of_unknown_class(const char* like, const Json& added) {
  Case c = load_case(like);
  Json& config = c.data["config"];
  config["architectures"] = {"HomemadeForCausalLM"}, config["model_type"] = "homemade";
  config.merge_patch(added);  // null takes a key out
  c.hf.files["config.json"] = config.dump();
  std::string told;
  transform::ToGgufOptions o;
  o.on_notice = [&](const std::string& text) { told += text + "\n"; };
  auto g = transform::to_gguf(c.hf, o);
  return {std::move(g), told};
}

TEST(ArchitectureKinds, AnUnknownClassIsTriedByItsTensors) {
  for (const auto& [name, like] : {std::pair{"llama", "LlamaForCausalLM"}, {"llama3", "LlamaForCausalLM"}, {"mistral", "MistralForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"},
                                   {"qwen3", "Qwen3ForCausalLM"}, {"mixtral", "MixtralForCausalLM"}}) {
    const Artifact known = gguf_of(load_case(name));
    const OfUnknownClass u = of_unknown_class(name, {{"initializer_range", 0.02}, {"attention_dropout", 0.1}, {"logit_scale", 1.0}, {"auto_map", {{"AutoModel", "m.M"}}}});
    ASSERT_TRUE(u.gguf.ok()) << name << ": " << u.gguf.error().message;
    EXPECT_NE(u.told.find(fmt::format("HomemadeForCausalLM is unknown; names and shapes of its tensors are those of {}", like)), std::string::npos) << u.told;
    ASSERT_EQ(u.gguf->metadata.size(), known.metadata.size()) << name;
    for (const auto& [key, value] : known.metadata) {
      ASSERT_NE(u.gguf->meta(key), nullptr) << key;
      EXPECT_EQ(as_json(*u.gguf->meta(key)), as_json(value)) << key;
    }
    EXPECT_EQ(u.gguf->tensors.size(), known.tensors.size()) << name;
  }
}

TEST(ArchitectureKinds, WhatAnUnknownClassTakesForGrantedIsTold) {
  const OfUnknownClass u = of_unknown_class("llama", {{"rms_norm_eps", nullptr}, {"max_position_embeddings", nullptr}});
  ASSERT_TRUE(u.gguf.ok()) << u.gguf.error().message;
  EXPECT_NE(u.told.find("missing, and taken as the class has it: 'max_position_embeddings' (2048), 'rms_norm_eps' (1e-06)"), std::string::npos) << u.told;
}

TEST(ArchitectureKinds, FlagsOfWhatAKnownClassDoesDoNotKeepAnUnknownOneFromIt) {
  for (const auto& [like, added] : {std::pair{"llama", Json{{"use_rope", true}, {"pre_norm", true}, {"use_causal_mask", nullptr}}}, {"mixtral", {{"norm_topk_prob", true}}},
                                    {"qwen3", {{"is_causal", true}}}, {"qwen2", {{"attention_bias", true}}}}) {
    const OfUnknownClass u = of_unknown_class(like, added);
    EXPECT_TRUE(u.gguf.ok()) << like << added << ": " << u.gguf.error().message;
  }
}

// A window that is switched off is none, also where the class does not read the switch.
TEST(ArchitectureKinds, AnUnknownClassHasAWindowWhereItsConfigurationSaysSo) {
  const auto window = [](const OfUnknownClass& u) { return u.told.find("last 24 tokens") != std::string::npos; };
  EXPECT_TRUE(window(of_unknown_class("mistral", Json::object())));
  const OfUnknownClass off = of_unknown_class("mistral", {{"use_sliding_window", false}}), wide = of_unknown_class("mistral", {{"sliding_window", 4096}});
  ASSERT_TRUE(off.gguf.ok() && wide.gguf.ok());
  EXPECT_FALSE(window(off)) << off.told;
  EXPECT_NE(off.told.find("LlamaForCausalLM"), std::string::npos) << off.told;
  const auto types = [](const char* first) { return Json{first, "full_attention", first, "full_attention"}; };
  for (const auto& [like, added] : {std::pair{"mixtral", Json{{"sliding_window", 24}, {"use_sliding_window", false}}},
                                    {"qwen2", {{"max_window_layers", nullptr}}}, {"qwen2", {{"sliding_window", nullptr}, {"max_position_embeddings", 8192}}}, {"qwen3", {{"sliding_window", 24}}},
                                    {"qwen3", {{"sliding_window", 24}, {"layer_types", types("sliding_attention")}}},
                                    {"qwen3", {{"use_sliding_window", false}, {"layer_types", types("sliding_attention")}}}}) {
    const OfUnknownClass u = of_unknown_class(like, added);
    ASSERT_FALSE(u.gguf.ok()) << like << added << ": " << u.told;
    EXPECT_NE(u.gguf.error().message.find("config.json ('sliding_window', 'use_sliding_window', 'layer_types') and that class do not agree"), std::string::npos) << u.gguf.error().message;
  }
  EXPECT_TRUE(of_unknown_class("qwen3", {{"sliding_window", 24}, {"use_sliding_window", false}, {"layer_types", types("full_attention")}}).gguf.ok());
}

TEST(ArchitectureKinds, AnUnknownClassThatIsLikeNoneIsRefused) {
  struct Odd {
    const char* like;
    Json added;
    const char* message;
  };
  const Odd cases[] = {
      {"llama", {{"scale_emb", 12}, {"norm_type", "layer"}}, "config.json has 'norm_type' (\"layer\"), 'scale_emb' (12), which that class does not read"},
      {"llama", {{"sliding_window", 24}, {"attention_bias", true}}, "'sliding_window' (24)"},
      {"llama", {{"use_rope", false}}, "'use_rope' (false)"},
      {"llama", {{"pre_norm", false}}, "'pre_norm' (false)"},
      {"qwen3", {{"is_causal", false}}, "'is_causal' (false)"},
      {"qwen3", {{"use_causal_mask", false}}, "'use_causal_mask' (false)"},
      {"mixtral", {{"norm_topk_prob", false}}, "'norm_topk_prob' (false)"},
      {"mistral", {{"attention_bias", true}}, "'attention_bias' (true)"},
      {"mistral", {{"sliding_window", nullptr}, {"layer_types", {"sliding_attention", "full_attention"}}}, "'layer_types' "},
      {"llama", {{"intermediate_size", 97}}, "tried by its tensors as LlamaForCausalLM, 'model.layers.0.mlp"},
      {"llama", {{"attention_bias", false}}, "is there, which config.json does not say"},
      {"llama", {{"hidden_act", "relu2"}}, "hidden_act"},
      {"llama", {{"hidden_size", "wide"}}, "'hidden_size'"},
      {"gemma2", Json::object(), "is no tensor of it"},
      {"phi3", Json::object(), "is no tensor of it"},
      {"gptneox", Json::object(), "the architecture HomemadeForCausalLM is unknown"},
  };
  for (const Odd& odd : cases) {
    const OfUnknownClass u = of_unknown_class(odd.like, odd.added);
    ASSERT_FALSE(u.gguf.ok()) << odd.like << odd.added;
    EXPECT_NE(u.gguf.error().message.find(odd.message), std::string::npos) << u.gguf.error().message;
    EXPECT_NE(u.gguf.error().message.find("docs/howto/architecture.md"), std::string::npos) << u.gguf.error().message;
  }
}

// What no tensor shows.
TEST(ArchitectureKinds, AClassThatComputesOtherwiseIsNotTriedByItsTensors) {
  for (const auto& [name, how] : {std::pair{"GemmaForCausalLM", "its norms multiply by one more"}, {"Ernie4_5ForCausalLM", "it rotates neighbouring elements"},
                                  {"HeliumForCausalLM", "it rotates neighbouring elements"}, {"Ministral3ForCausalLM", "it scales queries"}}) {
    const OfUnknownClass u = of_unknown_class("llama", {{"architectures", {name}}});
    ASSERT_FALSE(u.gguf.ok()) << name;
    EXPECT_NE(u.gguf.error().message.find(how), std::string::npos) << u.gguf.error().message;
  }
}

// As OpenAI's GPT-2 lies on the Hub.
TEST(ArchitectureKinds, ABareModelIsFoundByItsNames) {
  for (const auto& [name, prefix] : {std::pair{"gpt2", "transformer."}, {"gptneox", "gpt_neox."}, {"qwen3", "model."}}) {
    Case c = load_case(name);
    const Artifact whole = gguf_of(c);
    c.hf.tensors.edit([&, p = std::string(prefix)](auto& all) {
      for (auto& t : all)
        if (t.name.starts_with(p)) t.name.erase(0, p.size());
    });
    std::string told;
    auto plain = transform::with_plain_names(c.hf, [&](const std::string& text) { told += text; });
    ASSERT_TRUE(plain.ok()) << plain.error().message;
    EXPECT_NE(told.find(fmt::format("'{}' put before", prefix)), std::string::npos) << told;
    c.hf = *plain;
    expect_same_tensors(gguf_of(c), whole);
  }
}

}  // namespace
}  // namespace ingot
