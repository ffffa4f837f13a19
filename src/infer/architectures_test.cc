// Every architecture of data/architectures, on a small model of each class (tests/data/architectures, made by tests/data/make/architectures.py): the GGUF
// is llama.cpp's converter's, the logits are transformers', each feature matters, and what GGUF says leads back to the same tensors.
#include "infer/architectures_testing.h"
#include "transform/content_hash.h"
#include "transform/key_names.h"
#include "transform/source_form.h"

namespace ingot {
namespace {

using namespace testing;

class Architectures : public ::testing::TestWithParam<std::string> {};

// Keys that differ; why stands in the list, which bench/architectures_check.py compares whole files by.
bool may_differ(const std::string& name, const std::string& key) {
  static const Json list = Json::parse(read_file(INGOT_SOURCE_DIR "/tests/data/architectures_differences.json"));
  if (key == "general.name") return true;  // of a temporary directory
  const auto holds = [](const Json& words, const std::string& word) { return std::find(words.begin(), words.end(), word) != words.end(); };
  return std::any_of(list.begin(), list.end(), [&](const Json& d) { return holds(d["keys"], key) && (!d.contains("cases") || holds(d["cases"], name)); });
}

TEST_P(Architectures, IsWrittenAsTheReferenceDoes) {
  const Case c = load_case(GetParam());
  const Artifact g = gguf_of(c);
  const Json& metadata = c.data["gguf"]["metadata"];
  ASSERT_TRUE(metadata.is_object());
  for (const auto& [key, value] : metadata.items()) {
    if (may_differ(c.name, key)) continue;
    const MetaValue* m = g.meta(key);
    ASSERT_NE(m, nullptr) << key << " is missing, expected " << value;
    EXPECT_EQ(as_json(*m), value) << key;
  }
  for (const auto& [key, value] : g.metadata) {
    if (key.starts_with("tokenizer.") || may_differ(c.name, key)) continue;
    EXPECT_TRUE(metadata.contains(key)) << key << " is one more: " << as_json(value);
  }
  EXPECT_EQ(g.tensors.size(), c.data["gguf"]["tensors"].size());
  for (const Json& t : c.data["gguf"]["tensors"]) {
    const LazyTensor* mine = g.find(t[0].get<std::string>());
    ASSERT_NE(mine, nullptr) << t[0];
    Shape shape;
    for (const auto& d : t[1]) shape.push_back(d.get<int64_t>());
    EXPECT_EQ(mine->spec().shape, shape) << t[0];
    EXPECT_EQ(info(mine->spec().type).name, t[2].get<std::string>()) << t[0];
    const auto bytes = evaluate(mine->node, Region::all(shape));
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    EXPECT_EQ(fmt::format("{:016x}", hash_bytes(*bytes)), t[3].get<std::string>()) << t[0];
  }
}

TEST_P(Architectures, HasTransformersLogits) {
  const Case c = load_case(GetParam());
  EXPECT_GE(c.data["deviation"].get<double>(), 1.0);
  const Artifact g = gguf_of(c);
  double worst = 0;
  for (const int64_t batch : {512, 7}) {
    const Difference l = compare(c, g, batch);
    EXPECT_LE(l.worst, kTolerance) << c.name;
    EXPECT_EQ(l.wrong_top, 0) << c.name;
    worst = std::max(worst, l.worst);
  }
  RecordProperty("worst", fmt::format("{:.2e}", worst));  // for docs/architectures.md
}

void set(Artifact* a, const std::string& end, MetaValue v) {
  bool found = false;
  for (auto& [key, value] : a->metadata)
    if (key.ends_with(end)) value = v, found = true;
  EXPECT_TRUE(found) << end;
}
void erase(Artifact* a, const std::string& end) {
  EXPECT_GT(std::erase_if(a->metadata, [&](const auto& kv) { return kv.first.ends_with(end); }), 0u) << end;
}
// All tensors of that end become that number.
void fill(Artifact* a, const std::string& end, float x) {
  bool found = false;
  for (size_t i = 0; i < a->tensors.size(); ++i) {
    if (!a->tensors[i].name.ends_with(end)) continue;
    const Shape shape = a->tensors[i].spec().shape;
    std::vector<std::byte> bytes(static_cast<size_t>(shape.elements()) * 4);
    for (int64_t k = 0; k < shape.elements(); ++k) std::memcpy(bytes.data() + k * 4, &x, 4);
    a->tensors.node(i) = make_memory_tensor({DType::kF32, shape}, std::move(bytes));
    found = true;
  }
  EXPECT_TRUE(found) << end;
}

// What one feature makes of the logits cannot be a rounding.
TEST_P(Architectures, EachFeatureMatters) {
  const Case c = load_case(GetParam());
  const Artifact whole = gguf_of(c);
  const auto changed = [&](const char* what, auto change) {
    Artifact g = whole;
    change(&g);
    EXPECT_GT(compare(c, g).worst, 20 * kTolerance) << c.name << " without " << what;
  };
  const auto key = [&](const char* end) { return std::any_of(whole.metadata.begin(), whole.metadata.end(), [&](const auto& kv) { return kv.first.ends_with(end); }); };
  const auto tensor = [&](const char* end) { return std::any_of(whole.tensors.begin(), whole.tensors.end(), [&](const auto& t) { return t.name.ends_with(end); }); };
  int features = 0;
  for (const char* k : {"rope.scaling.factor", "attention.scale", "embedding_scale", "residual_scale", "logit_scale", "attn_logit_softcapping", "final_logit_softcapping"})
    if (key(k)) ++features, changed(k, [&](Artifact* g) { set(g, k, {k == std::string_view("attention.scale") ? 0.3f : k == std::string_view("rope.scaling.factor") ? 1.0f : has(k, {"cap"}) ? 1000.0f : 1.0f}); });
  if (key("attention.sliding_window") && std::get<uint32_t>(whole.meta(std::string(std::get<std::string>(whole.meta("general.architecture")->v)) + ".attention.sliding_window")->v))
    ++features, changed("window", [&](Artifact* g) { set(g, "attention.sliding_window", {uint32_t{0}}); });
  if (key("sliding_window_pattern")) ++features, changed("pattern", [&](Artifact* g) { erase(g, "sliding_window_pattern"); set(g, "attention.sliding_window", {uint32_t{0}}); });
  if (key("rope.freq_base")) ++features, changed("base", [&](Artifact* g) { set(g, "rope.freq_base", {777.0f}); });
  if (key("rope.freq_base_swa")) ++features, changed("local base", [&](Artifact* g) { set(g, "rope.freq_base_swa", {777.0f}); });
  if (key("use_parallel_residual"))
    ++features, changed("parallel", [&](Artifact* g) { set(g, "use_parallel_residual", {!std::get<bool>(whole.meta("gptneox.use_parallel_residual")->v)}); });
  if (key("expert_used_count")) ++features, changed("routing", [&](Artifact* g) { set(g, "expert_used_count", {uint32_t{1}}); });
  for (const char* t : {"attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias", "attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias", "attn_norm.bias", "ffn_norm.bias",
                        "output_norm.bias", "position_embd.weight"})
    if (tensor(t)) ++features, changed(t, [&](Artifact* g) { fill(g, t, 0); });
  for (const char* t : {"attn_q_norm.weight", "attn_k_norm.weight", "attn_norm.weight", "post_attention_norm.weight", "ffn_norm.weight", "post_ffw_norm.weight", "rope_freqs.weight",
                        "rope_factors_long.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight"})
    if (tensor(t)) ++features, changed(t, [&](Artifact* g) { fill(g, t, 1); });
  EXPECT_GE(features, 3) << c.name;
}

TEST_P(Architectures, LeadsBackToTheSameTensors) {
  const Case c = load_case(GetParam());
  std::string as_it_is;
  auto back = transform::source_form(gguf_of(c), &as_it_is), there = transform::source_form(c.hf);
  ASSERT_TRUE(back.ok() && there.ok());
  EXPECT_EQ(as_it_is, "");
  EXPECT_EQ(back->tensors.size(), there->tensors.size());
  for (const auto& t : there->tensors) {
    const LazyTensor* mine = back->find(t.name);
    ASSERT_NE(mine, nullptr) << t.name;
    ASSERT_EQ(mine->spec(), t.spec()) << t.name;
    const auto a = evaluate(mine->node, Region::all(t.spec().shape)), b = evaluate(t.node, Region::all(t.spec().shape));
    ASSERT_TRUE(a.ok() && b.ok()) << t.name;
    EXPECT_TRUE(*a == *b) << t.name;
  }
}

// What fine-tunes have otherwise than the rest of their class.
class ArchitectureVariants : public ::testing::TestWithParam<std::string> {};

TEST_P(ArchitectureVariants, HasTransformersLogits) {
  const Case c = load_case(GetParam());
  const Artifact g = gguf_of(c);
  const Difference l = compare(c, g);
  EXPECT_LE(l.worst, kTolerance) << c.name;
  EXPECT_EQ(l.wrong_top, 0) << c.name;
  const auto back = transform::source_form(g);
  ASSERT_TRUE(back.ok()) << back.error().message;
  for (const auto& t : c.hf.tensors) EXPECT_TRUE(back->find(t.name)) << t.name;
}

INSTANTIATE_TEST_SUITE_P(All, Architectures, ::testing::ValuesIn(case_names()), name_of);
INSTANTIATE_TEST_SUITE_P(All, ArchitectureVariants, ::testing::ValuesIn(case_names("variants/")), name_of);

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

void expect_same_tensors(const Artifact& mine, const Artifact& expected) {
  ASSERT_EQ(mine.tensors.size(), expected.tensors.size());
  for (const auto& t : expected.tensors) {
    const LazyTensor* m = mine.find(t.name);
    ASSERT_NE(m, nullptr) << t.name;
    ASSERT_EQ(m->spec(), t.spec()) << t.name;
    EXPECT_TRUE(*evaluate(m->node, Region::all(t.spec().shape)) == *evaluate(t.node, Region::all(t.spec().shape))) << t.name;
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
  config.update(added);
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

TEST(ArchitectureKinds, AnUnknownClassThatIsLikeNoneIsRefused) {
  struct Odd {
    const char* like;
    Json added;
    const char* message;
  };
  const Odd cases[] = {
      {"llama", {{"scale_emb", 12}, {"norm_type", "layer"}}, "config.json has 'norm_type' (\"layer\"), 'scale_emb' (12), which that class does not read"},
      {"llama", {{"sliding_window", 24}, {"attention_bias", true}}, "'sliding_window' (24)"},
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
  for (const char* name : {"GemmaForCausalLM", "Ernie4_5ForCausalLM"}) {
    const OfUnknownClass u = of_unknown_class("llama", {{"architectures", {name}}});
    ASSERT_FALSE(u.gguf.ok()) << name;
    EXPECT_NE(u.gguf.error().message.find("computes otherwise"), std::string::npos) << u.gguf.error().message;
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
