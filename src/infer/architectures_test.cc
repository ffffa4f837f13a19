// Every architecture of data/architectures, on a small model of each class: the GGUF is llama.cpp's converter's, the logits are transformers', each feature
// matters, and what GGUF says leads back to the same tensors.
#include "infer/architecture_logits.h"
#include "transform/as_loaded.h"
#include "transform/source_form.h"

namespace ingot {
namespace {

using namespace testing_models;

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
    const LogitsError l = compare(c, g, batch);
    EXPECT_LE(l.worst, kTolerance) << c.name;
    EXPECT_EQ(l.wrong_top, 0) << c.name;
    worst = std::max(worst, l.worst);
  }
  RecordProperty("worst", fmt::format("{:.2e}", worst));  // for docs/architectures.md
}

// With the config.json that transformers saves of it: as transformers reads it, and nothing is taken for missing.
TEST_P(Architectures, IsTheSameAsTransformersSavesIt) {
  static const Json saved = Json::parse(read_file(INGOT_SOURCE_DIR "/tests/data/architectures_saved.json"));
  Case c = load_case(GetParam());
  const Artifact plain = gguf_of(c);
  c.hf.files["config.json"] = saved.at(c.name).dump();
  std::string told;
  const auto loaded = transform::as_loaded(c.hf, [&](const std::string& text) { told += text; });
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(told, "");
  EXPECT_EQ(loaded->files.at("config.json"), c.hf.files.at("config.json"));
  c.hf = *loaded;
  const Artifact g = gguf_of(c);
  expect_same_tensors(g, plain);
  const LogitsError l = compare(c, g);
  EXPECT_LE(l.worst, kTolerance);
  EXPECT_EQ(l.wrong_top, 0);
}

void set_ending(Artifact* a, const std::string& end, MetaValue v) {
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
    if (key(k)) ++features, changed(k, [&](Artifact* g) { set_ending(g, k, {k == std::string_view("attention.scale") ? 0.3f : k == std::string_view("rope.scaling.factor") ? 1.0f : has(k, {"cap"}) ? 1000.0f : 1.0f}); });
  if (key("attention.sliding_window") && std::get<uint32_t>(whole.meta(std::string(std::get<std::string>(whole.meta("general.architecture")->v)) + ".attention.sliding_window")->v))
    ++features, changed("window", [&](Artifact* g) { set_ending(g, "attention.sliding_window", {uint32_t{0}}); });
  if (key("sliding_window_pattern")) ++features, changed("pattern", [&](Artifact* g) { erase(g, "sliding_window_pattern"); set_ending(g, "attention.sliding_window", {uint32_t{0}}); });
  if (key("rope.freq_base")) ++features, changed("base", [&](Artifact* g) { set_ending(g, "rope.freq_base", {777.0f}); });
  if (key("rope.freq_base_swa")) ++features, changed("local base", [&](Artifact* g) { set_ending(g, "rope.freq_base_swa", {777.0f}); });
  if (key("use_parallel_residual"))
    ++features, changed("parallel", [&](Artifact* g) { set_ending(g, "use_parallel_residual", {!std::get<bool>(whole.meta("gptneox.use_parallel_residual")->v)}); });
  if (key("expert_used_count")) ++features, changed("routing", [&](Artifact* g) { set_ending(g, "expert_used_count", {uint32_t{1}}); });
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
  const LogitsError l = compare(c, g);
  EXPECT_LE(l.worst, kTolerance) << c.name;
  EXPECT_EQ(l.wrong_top, 0) << c.name;
  const auto back = transform::source_form(g);
  ASSERT_TRUE(back.ok()) << back.error().message;
  for (const auto& t : c.hf.tensors) EXPECT_TRUE(back->find(t.name)) << t.name;
}

INSTANTIATE_TEST_SUITE_P(All, Architectures, ::testing::ValuesIn(case_names()), name_of);
INSTANTIATE_TEST_SUITE_P(All, ArchitectureVariants, ::testing::ValuesIn(case_names("variants/")), name_of);

}  // namespace
}  // namespace ingot
