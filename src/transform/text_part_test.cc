// Models of several parts: where their text's tensors and configuration are found, and that both are read as a plain model's.
#include "transform/text_part.h"

#include "transform/as_loaded.h"
#include "transform/real_directories_testing.h"

namespace ingot::transform {
namespace {

const std::pair<const char*, const char*> kNames[] = {{"language_model.model.", "language_model.lm_head.weight"}, {"model.language_model.", "lm_head.weight"}, {"model.text_model.", "lm_head.weight"}};

struct Made {
  Result<Artifact> gguf = Artifact();
  std::string told;
  bool tells(const std::string& part) const { return told.find(part) != std::string::npos; }
};
Made made(Weights weights, std::map<std::string, std::string> files, const OrderedJson& config) {
  files["config.json"] = config.dump();
  Artifact a = as_artifact(weights, files);
  a.path = "base";
  Made m;
  ToGgufOptions o;
  o.on_notice = [&](const std::string& text) { m.told += text + "\n"; };
  m.gguf = as_loaded(a, o.on_notice);
  if (m.gguf.ok()) m.gguf = to_gguf(*m.gguf, o);
  return m;
}
Made plain(const World& w) { return made(w.base, w.base_files, w.config); }
// The world as the text part of a larger model; what the root says beside it, and what the text does not say.
Made wrapped(World w, const std::pair<const char*, const char*>& names, const OrderedJson& root, const std::vector<std::string>& without = {}) {
  OrderedJson text = w.config, config = {{"architectures", {"LlavaForConditionalGeneration"}}, {"model_type", "llava"}};
  text.erase("architectures");
  for (const auto& key : without) text.erase(key);
  config["text_config"] = text;
  config.update(root);
  w.rename(&w.base, [&](const std::string& n) { return n == kHead ? names.second : names.first + n.substr(6); });
  w.base["vision_tower.x"] = random_matrix(2, 2, 1), w.base["model.connector.y"] = random_matrix(2, 2, 2);
  return made(w.base, w.base_files, config);
}
void expect_same(const Made& mine, const Made& expected) {
  ASSERT_TRUE(mine.gguf.ok() && expected.gguf.ok()) << (mine.gguf.ok() ? expected : mine).gguf.error().message;
  ASSERT_EQ(mine.gguf->tensors.size(), expected.gguf->tensors.size());
  for (const LazyTensor& t : expected.gguf->tensors) {
    const LazyTensor* m = mine.gguf->find(t.name);
    ASSERT_TRUE(m) << t.name;
    EXPECT_EQ(*evaluate(m->node), *evaluate(t.node)) << t.name;
  }
  EXPECT_EQ(mine.gguf->metadata.size(), expected.gguf->metadata.size());
}

TEST(TextPart, IsFoundBehindEachPrefix) {
  for (const bool tied : {false, true})
    for (const auto& names : kNames) {
      const World w(tied);
      const Made m = wrapped(w, names, OrderedJson::object());
      expect_same(m, plain(w));
      EXPECT_TRUE(m.tells("(\"LlavaForConditionalGeneration\"): its text part alone is converted, 2 tensors of the others are left out")) << m.told;
    }
  // Behind another, nothing is said to be converted.
  const Made m = wrapped(World(false), {"thinker.", "thinker_head"}, OrderedJson::object());
  expect_error(m.gguf, {"of the text part of LlavaForConditionalGeneration no tensor is found", "'model.language_model.', 'language_model.', 'model.text_model.'", "LlamaForCausalLM alone"});
  EXPECT_FALSE(m.tells("is converted")) << m.told;
}

// transformers 5 ties where the root says so, whatever text_config says.
TEST(TextPart, IsTiedWhereEitherConfigurationSaysSo) {
  const World tied(true);
  World untied(true);
  untied.config["tie_word_embeddings"] = false;
  for (const auto& names : kNames) {
    expect_same(wrapped(untied, names, {{"tie_word_embeddings", true}}), plain(tied));
    expect_same(wrapped(tied, names, {{"tie_word_embeddings", true}}, {"tie_word_embeddings"}), plain(tied));
    expect_same(wrapped(tied, names, {{"tie_word_embeddings", false}}), plain(tied));
    const Made m = wrapped(untied, names, OrderedJson::object());
    expect_same(m, plain(tied));
    EXPECT_TRUE(m.tells("the text part has no head")) << m.told;
    expect_error(wrapped(untied, names, {{"tie_word_embeddings", false}}).gguf, {"'lm_head.weight' is missing"});
    EXPECT_FALSE(wrapped(tied, names, OrderedJson::object()).tells("no head"));
  }
}

TEST(TextPart, HasATiedHeadThatIsStoredAsAPlainModelHas) {
  for (const auto& names : kNames) {
    const World same(true, true);
    expect_same(wrapped(same, names, OrderedJson::object()), plain(World(true)));
    World other(true, true);
    other.base[kHead].v[3] += 1;
    Made m = wrapped(other, names, OrderedJson::object());
    expect_same(m, plain(other));
    EXPECT_TRUE(m.gguf->find("output.weight"));
    EXPECT_TRUE(m.tells("the two differ")) << m.told;
    World only(true, true);
    only.base.erase(kEmbedding);
    m = wrapped(only, names, OrderedJson::object());
    expect_same(m, plain(World(true)));
    EXPECT_TRUE(m.tells("of the tied pair only 'lm_head.weight' is stored")) << m.told;
  }
}

TEST(TextPart, TakesWhatItsClassTakesForGranted) {
  World w(false);
  const Made m = wrapped(w, kNames[0], OrderedJson::object(), {"rms_norm_eps", "model_type"});
  ASSERT_FALSE(m.gguf.ok());  // of which class it is stands in model_type alone
  const Made known = wrapped(w, kNames[0], OrderedJson::object(), {"rms_norm_eps"});
  ASSERT_TRUE(known.gguf.ok()) << known.gguf.error().message;
  EXPECT_EQ(std::get<float>(known.gguf->meta("llama.attention.layer_norm_rms_epsilon")->v), 1e-6f);
  EXPECT_TRUE(known.tells("'rms_norm_eps' (1e-06)")) << known.told;
}

TEST(TextPart, HasTheRootsSpecialTokens) {
  World w(false);
  for (const char* file : {"generation_config.json", "tokenizer_config.json", "special_tokens_map.json"}) w.base_files.erase(file);
  w.config["eos_token_id"] = 9;
  for (const auto& [root, expected] : {std::pair{OrderedJson{{"eos_token_id", 7}}, 7u}, {OrderedJson{{"eos_token_id", nullptr}}, 9u}, {OrderedJson::object(), 9u}}) {
    const Made m = wrapped(w, kNames[1], root);
    ASSERT_TRUE(m.gguf.ok()) << m.gguf.error().message;
    EXPECT_EQ(std::get<uint32_t>(m.gguf->meta("tokenizer.ggml.eos_token_id")->v), expected);
  }
}

}  // namespace
}  // namespace ingot::transform
