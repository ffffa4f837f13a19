// Directories that are refused, with their reason, and what a merge tells.
#include "transform/real_directories_testing.h"

namespace ingot::transform {
namespace {

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
    gemma.config["model_type"] = "gemma";
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

// Of a vision model, whose text part has a configuration of its own, and names that transformers gives anew when it loads them.
TEST(RealDirectories, ATextPartKeepsItsConfiguration) {
  World w(true);
  const Matrix grown = w.resized(kEmbedding, 1);
  w.config["architectures"] = {"Gemma3ForConditionalGeneration"};
  w.config["text_config"] = {{"vocab_size", kVocab}, {"tie_word_embeddings", true}};
  w.config.erase("vocab_size");
  w.rename(&w.base, [](const std::string& n) { return "language_model." + n; });
  w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "base_model.model.model.", "base_model.model.model.language_model."); });
  const auto plain = merged(w);
  ASSERT_TRUE(plain.ok()) << plain.error().message;
  const std::string q = std::string(kQ) + ".weight";
  const auto got = values(plain->find("language_model." + q)->node);
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], w.expected.at(q).v[i], 3e-6);
  w.save("model.language_model.embed_tokens.weight", grown);
  const auto r = merged(w);
  ASSERT_TRUE(r.ok()) << r.error().message;
  const Json config = *parse_json(r->files.at("config.json"), "c");
  EXPECT_EQ(config["text_config"]["vocab_size"], kVocab + 2);
  EXPECT_FALSE(config.contains("vocab_size"));
}

// A configuration that ties what is not equal: PEFT still puts trained rows into both.
TEST(RealDirectories, TrainedRowsGoIntoAHeadThatIsTiedByNameOnly) {
  World w(true);
  w.base[kHead] = plus(w.base.at(kEmbedding), 1);
  w.adapter_config["trainable_token_indices"] = {7};
  const Matrix rows = random_matrix(1, kHidden, 1);
  w.save("model.embed_tokens.token_adapter.trainable_tokens_delta", rows);
  const auto r = merged(w);
  ASSERT_TRUE(r.ok()) << r.error().message;
  for (const char* name : {kEmbedding, kHead}) {
    const auto v = values(r->find(name)->node);
    for (int64_t i = 0; i < kHidden; ++i) EXPECT_EQ(v[7 * kHidden + i], rows.v[i]) << name;
  }
}

std::string evaluation_error(const Result<Artifact>& r, const char* tensor) {
  EXPECT_TRUE(r.ok()) << r.error().message;
  const auto e = r.ok() ? evaluate(r->find(tensor)->node) : Result<std::vector<std::byte>>(r.error());
  return e.ok() ? "" : e.error().message;
}

TEST(RealDirectoriesRefused, TiedFactorsThatAreNotTurnedOnes) {
  World w(true);
  w.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens"};
  w.adapter_config["ensure_weight_tying"] = true;
  w.add_factors("model.embed_tokens", true);
  const std::string at = "base_model.model.model.embed_tokens.lora_embedding_";
  w.save("lm_head.lora_A.weight", transposed(w.adapter.at(at + "B"))), w.save("lm_head.lora_B.weight", transposed(w.adapter.at(at + "A")));
  EXPECT_EQ(evaluation_error(merged(w), kEmbedding), "");
  w.adapter["base_model.model.lm_head.lora_B.weight"].v.back() += 1;
  const std::string other = evaluation_error(merged(w), kEmbedding);
  EXPECT_NE(other.find("element [4095, 3] of 'base_model.model.lm_head.lora_B.weight'"), std::string::npos) << other;
  EXPECT_NE(other.find("ensure_weight_tying"), std::string::npos) << other;
  w.save("lm_head.lora_A.weight", random_matrix(kRank + 1, kHidden, 1));
  expect_error(merged(w), {"lm_head.lora_A.weight", "[5, 16]", "ensure_weight_tying"});
  w.adapter.erase(at + "A"), w.adapter.erase(at + "B");
  expect_error(merged(w), {"factors for 'lm_head' and none for 'model.embed_tokens'", "ensure_weight_tying"});
}

TEST(RealDirectoriesRefused, FactorsUnderNamesThatPeftDoesNotRead) {
  World w(false);
  w.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens", "lm_head"};
  w.save("model.embed_tokens.lora_A.weight", random_matrix(kRank, kHidden, 1)), w.save("model.embed_tokens.lora_B.weight", random_matrix(kVocab, kRank, 2));
  expect_error(merged(w), {"'model.embed_tokens' is an embedding", "lora_embedding_A"});
  w.rename(&w.adapter, [](const std::string& n) { return replaced(n, "model.embed_tokens.lora_A.weight", "model.embed_tokens.lora_embedding_A"); });
  expect_error(merged(w), {"'base_model.model.model.embed_tokens.lora_B.weight'", "in two ways"});
  World head(false);
  head.adapter_config["target_modules"] = {"q_proj", "down_proj", "lm_head"};
  head.add_factors("lm_head", true);
  expect_error(merged(head), {"'lm_head' is a linear module", "lora_A and lora_B"});
}

TEST(RealDirectoriesRefused, WholeTensorsAndRowsThatAreNotFinite) {
  for (const float bad : {NAN, INFINITY}) {
    World w(false);
    w.adapter_config["modules_to_save"] = {"lm_head"};
    w.save_whole(kHead, plus(w.base.at(kHead), 1));
    w.adapter.at(std::string("base_model.model.") + kHead).v[kHidden + 2] = bad;
    w.adapter_config["trainable_token_indices"] = {7};
    w.save("model.embed_tokens.token_adapter.trainable_tokens_delta", random_matrix(1, kHidden, 1));
    w.adapter.at("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta").v[3] = bad;
    const auto r = merged(w);
    for (const auto& [tensor, part] : {std::pair{kHead, "element [1, 2] of 'base_model.model.lm_head.weight'"},
                                       {kEmbedding, "element [0, 3] of 'base_model.model.model.embed_tokens.token"}}) {
      const std::string text = evaluation_error(r, tensor);
      EXPECT_NE(text.find(part), std::string::npos) << text;
      EXPECT_NE(text.find(std::isnan(bad) ? "is NaN; the adapter is damaged" : "is infinity; the adapter is damaged"), std::string::npos) << text;
    }
  }
}

TEST(RealDirectoriesRefused, FactorsForAVocabularyThatWasNotSaved) {
  for (const auto& [tied, module] : {std::pair{false, "model.embed_tokens"}, {true, "model.embed_tokens"}, {false, "lm_head"}, {true, "lm_head"}}) {
    World w(tied);
    w.adapter_config["target_modules"] = {"q_proj", "down_proj", "lm_head", "embed_tokens"};
    const bool embedding = module != std::string("lm_head");
    w.save(std::string(module) + (embedding ? ".lora_embedding_A" : ".lora_A.weight"), random_matrix(kRank, embedding ? kVocab + 2 : kHidden, 1));
    w.save(std::string(module) + (embedding ? ".lora_embedding_B" : ".lora_B.weight"), random_matrix(embedding ? kHidden : kVocab + 2, kRank, 2));
    expect_error(merged(w), {"4098 tokens", "4096 rows", "resized in training and not saved", "save_embedding_layers"});
  }
}

TEST(RealDirectoriesRefused, AConfigurationThatNamesNothingOfTheFile) {
  World w(false);
  w.adapter_config["target_modules"] = {"o_proj"};
  expect_error(merged(w), {"'model.layers.0.mlp.down_proj'", "and 1 more", "names none", "do not belong together"});
  World random(false);
  random.adapter_config["target_modules"] = {"q_proj", "down_proj", "o_proj"};
  random.adapter_config["init_lora_weights"] = false;
  expect_error(merged(random), {"'model.layers.0.self_attn.o_proj'", "init_lora_weights false", "random"});
  World unknown(false);
  unknown.adapter_config["target_modules"] = nullptr;
  unknown.config["model_type"] = "of_my_own";
  expect_error(merged(unknown), {"target_modules", "'of_my_own'", "no default"});
  World null(false);
  null.adapter_config["rank_pattern"] = nullptr;  // PEFT: 'NoneType' object has no attribute 'keys'
  expect_error(merged(null), {"rank_pattern", "no object"});
}

TEST(RealDirectoriesRefused, AdaptersOfOtherPrograms) {
  World tinker(false);
  tinker.adapter_config["target_modules"] = "all-linear";
  tinker.save("model.unembed_tokens.lora_A.weight", random_matrix(kRank, kHidden, 1)), tinker.save("model.unembed_tokens.lora_B.weight", random_matrix(kVocab, kRank, 2));
  expect_error(merged(tinker), {"model.unembed_tokens", "Tinker's name for 'lm_head'"});
  World mlx(false);
  mlx.adapter_config = {{"fine_tune_type", "lora"}, {"num_layers", 2}, {"lora_parameters", {{"rank", 4}}}};
  expect_error(merged(mlx), {"MLX", "mlx_lm.fuse"});
  World answers(false);
  answers.adapter_config["task_type"] = "QUESTION_ANS";
  answers.save("qa_outputs.weight", random_matrix(2, kHidden, 1));
  expect_error(merged(answers), {"QUESTION_ANS", "qa_outputs.weight"});
}

TEST(RealDirectoriesRefused, AModelOfPeftSavedWholeByOtherMethods) {
  for (const char* name : {"lm_head.modules_to_save.default.weight", "model.embed_tokens.token_adapter.trainable_tokens_delta.default",
                           "model.layers.0.self_attn.q_proj.ia3_l.default", "model.layers.0.self_attn.q_proj.hada_w1_a.default",
                           "model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight"}) {
    World w(false);
    w.base[name] = random_matrix(1, kHidden, 1);
    expect_error(merged(w), {name, "a PEFT model that was saved whole"});
  }
}

// A copy of the base that says nothing new is not told.
TEST(RealDirectories, ACopyOfTheBaseIsToldWhereItDiffers) {
  for (const float by : {0.f, 1.f}) {
    World w(false);
    w.adapter_config["target_modules"] = {"q_proj", "down_proj", "embed_tokens"};
    w.add_factors("model.embed_tokens", true);
    w.save("model.embed_tokens.base_layer.weight", plus(w.base.at(kEmbedding), by));
    Artifact adapter = as_artifact(w.adapter, {{"adapter_config.json", w.adapter_config.dump()}});
    adapter.naming = "peft";
    w.base_files["config.json"] = w.config.dump();
    std::string told;
    ASSERT_TRUE(lora_merge(as_artifact(w.base, w.base_files), {{adapter, 1}}, {[&](const std::string& text) { told += text; }}).ok());
    EXPECT_EQ(told.find("keeps the 'model.embed_tokens.weight'") != std::string::npos, by != 0) << told;
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
