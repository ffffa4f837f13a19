#include "model/model_config.h"

#include <gtest/gtest.h>

#include <set>

#include "storage/store.h"

namespace ingot {
namespace {

const char* kConfig = R"({"architectures":["LlamaForCausalLM"],"hidden_size":256,"intermediate_size":768,
  "num_hidden_layers":6,"num_attention_heads":8,"num_key_value_heads":4,"vocab_size":4096,"hidden_act":"silu"})";

const Architecture& llama() {
  const Architecture* a = find_architecture_by_name("llama");
  EXPECT_NE(a, nullptr);
  return *a;
}

void expect_sound(const Architecture& a) {
  EXPECT_FALSE(a.classes.empty()) << a.name;
  EXPECT_NE(a.by_role("embedding"), nullptr) << a.name;
  std::set<std::string> hf, gguf;
  for (const auto& t : a.tensors) {
    for (const auto& n : t.hf) EXPECT_TRUE(hf.insert(n).second) << n;
    for (const auto& n : t.gguf) EXPECT_NE(gguf.insert(n).second, t.alternative) << n;
    const int expert = t.per_expert() ? 7 : -1;
    for (int layer : {0, 9, 123})
      for (size_t k = 0; k < t.hf.size(); ++k) {
        const auto there = map_to_gguf(a, expand(t.hf[k], layer, expert));
        ASSERT_TRUE(there.has_value()) << t.hf[k];
        EXPECT_EQ(there->rule, &t);
        EXPECT_EQ(there->name, expand(t.gguf[0], layer));
        EXPECT_EQ(there->layer, t.per_layer() ? layer : -1);
        EXPECT_EQ(there->expert, expert);
        EXPECT_EQ(there->part, k);
        const auto back = map_from_gguf(a, there->name);
        ASSERT_TRUE(back.has_value()) << there->name;
        EXPECT_EQ(back->layer, there->layer);
        if (t.alternative) EXPECT_NE(back->rule, &t) << there->name;
        else EXPECT_EQ(back->name, expand(t.hf[0], layer, 0));
      }
  }
}

TEST(Architecture, AllFilesParse) {
  auto all = architectures();
  ASSERT_TRUE(all.ok()) << all.error().message;
  ASSERT_FALSE((*all)->empty());
  for (const auto& a : **all) expect_sound(a);
}

TEST(Architecture, TheExampleOfTheHowToIsOne) {
  const auto page = read_text(local_store(), INGOT_SOURCE_DIR "/docs/howto/architecture.md");
  ASSERT_TRUE(page.ok()) << page.error().message;
  const size_t fence = page->find("```json file="), begin = page->find('\n', fence) + 1, end = page->find("\n```", begin);
  ASSERT_LT(end, page->size());
  const auto a = parse_architecture(page->substr(begin, end - begin), "the example");
  ASSERT_TRUE(a.ok()) << a.error().message;
  expect_sound(*a);
}

TEST(Architecture, NamesThatAreNoneOfIts) {
  for (const char* n : {"model.layers.x.mlp.up_proj.weight", "model.layers..mlp.up_proj.weight", "model.layers.1.mlp.up_proj",
                        "model.layers.01.mlp.up_proj.weight", "model.layers.-1.mlp.up_proj.weight",
                        "model.layers.99999999999.mlp.up_proj.weight", "", "model.embed_tokens.weightx"})
    EXPECT_FALSE(map_to_gguf(llama(), n).has_value()) << n;
  EXPECT_TRUE(is_dropped(llama(), "model.layers.3.self_attn.rotary_emb.inv_freq"));
  EXPECT_FALSE(is_dropped(llama(), "model.layers.3.self_attn.q_proj.weight"));
}

TEST(Architecture, IsFoundByClass) {
  auto config = parse_json(kConfig, "c");
  ASSERT_TRUE(config.ok());
  auto a = find_architecture(*config, "c");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ((*a)->name, "llama");
  auto unknown = find_architecture(*parse_json(R"({"architectures":["MambaForCausalLM"]})", "c"), "reading c");
  ASSERT_FALSE(unknown.ok());
  for (const char* part : {"reading c", "MambaForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"})
    EXPECT_NE(unknown.error().message.find(part), std::string::npos) << unknown.error().message;
  for (const auto& [name, near] : {std::pair{"LlamaForCasualLM", "LlamaForCausalLM"}, {"Qwen3NextForCausalLM", "Qwen3ForCausalLM"}, {"Qwen3MoeModelX", "Qwen3MoeForCausalLM"},
                                   {"Olmo4ForCausalLM", "Olmo2ForCausalLM"}, {"LLaMAForCausalLM", "LlamaForCausalLM"}, {"MambaForCausalLM", ""}}) {
    const auto e = find_architecture(Json{{"architectures", {name}}}, "c").error().message;
    EXPECT_EQ(e.find("nearest") != std::string::npos, *near != '\0') << e;
    EXPECT_NE(e.find(*near ? fmt::format("{} is unknown, the nearest that is known is {};", name, near) : fmt::format("{} is unknown;", name)), std::string::npos) << e;
  }
  EXPECT_FALSE(find_architecture(*parse_json("{}", "c"), "c").ok());
  EXPECT_FALSE(find_architecture(*parse_json(R"({"architectures":"LlamaForCausalLM"})", "c"), "c").ok());
  EXPECT_FALSE(find_architecture(*parse_json(R"([1])", "c"), "c").ok());
}

TEST(Architecture, ParamsOfAConfig) {
  auto config = parse_json(kConfig, "c");
  auto p = config_params(llama(), *config, "c");
  ASSERT_TRUE(p.ok()) << p.error().message;
  EXPECT_EQ(p->at("head_dim"), 32);  // not in the file: hidden / heads
  EXPECT_EQ(p->at("kv_heads"), 4);
  auto q = map_to_gguf(llama(), "model.layers.0.self_attn.k_proj.weight");
  auto shape = shape_of(q->rule->hf_shape(0), *p, q->name);
  ASSERT_TRUE(shape.ok());
  EXPECT_TRUE(*shape == (Shape{128, 256}));
  const std::pair<const char*, const char*> bad[] = {{"\"hidden_size\":256", "\"hidden_size\":-1"},
                                                     {"\"hidden_size\":256", "\"hidden_size\":1e300"},
                                                     {"\"hidden_size\":256", "\"hidden_size\":257"},
                                                     {"\"num_hidden_layers\":6", "\"num_hidden_layers\":\"six\""},
                                                     {"\"num_attention_heads\":8", "\"num_attention_heads\":0"},
                                                     {"\"hidden_act\":\"silu\"", "\"hidden_act\":\"gelu\""}};
  for (const auto& [from, to] : bad) {
    std::string text = kConfig;
    text.replace(text.find(from), std::string_view(from).size(), to);
    EXPECT_FALSE(config_params(llama(), *parse_json(text, "c"), "c").ok()) << to;
  }
}

TEST(Architecture, NumbersThatDoNotDivideAreBothNamed) {
  const auto message = [](const std::string& from, const std::string& to) {
    std::string text = kConfig;
    text.replace(text.find(from), from.size(), to);
    auto p = config_params(llama(), *parse_json(text, "c"), "reading c");
    return p.ok() ? std::string("ok") : p.error().message;
  };
  EXPECT_EQ(message("\"hidden_size\":256", "\"hidden_size\":257"),
            "reading c: 'hidden_size' is 257 and 'num_attention_heads' is 8, which does not divide it, and there is no 'head_dim'; one of "
            "the three is wrong or missing");
  EXPECT_EQ(message("\"num_key_value_heads\":4", "\"num_key_value_heads\":3"),
            "reading c: 'num_attention_heads' is 8 and 'num_key_value_heads' is 3, which does not divide it; one of them is not this model's");
}

TEST(Architecture, AMistakeInAFileIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"name":"x","tensor":[]})", "unknown key 'tensor'"},
      {R"({"name":"x","params":{"layers":["n"]},"tensors":[{"hf":"a"}]})", "'hf' and 'gguf'"},
      {R"({"name":"x","params":{"layers":["n"]},"tensors":[{"hf":"a","gguf":"b","shape":["2*z+layers"]}]})", "'z' is no param"},
      {R"({"name":"x","params":{"layers":["n"]},"tensors":[{"hf":"a","gguf":["b","c"],"shape":["layers"]}]})", "'parts'"},
      {R"({"name":"x","params":{"layers":["n"]},"tensors":[{"hf":"a","gguf":["b","c"],"shape":["layers"],"parts":["1","2"],"transpose":true}]})", "not moved otherwise"},
      {R"({"name":"x","params":{"layers":["n"]},"tensors":[{"hf":"a{i}","gguf":"b"}]})", "of a layer"},
      {R"({"name":"x","params":{"layers":["n"]},"tensors":[{"hf":"a{e}","gguf":"b"}]})", "no param 'experts'"},
      {R"({"name":"x","layer":{"rope":"sideways"},"params":{"layers":["n"]},"tensors":[{"hf":"a","gguf":"b"}]})", "no such kind"},
      {R"({"name":"x","like":"nothing"})", "no such file"},
      {R"({"name":"x","like":"llama","without":["c"]})", "'without' has 'c'"},
      {R"({"name":"x","like":"llama","require":{"a":"b"}})", "a list of values"},
      {R"({"name":"x","params":{"layers":["n"]},"tensors":[{"hf":"a","gguf":"b"}],"metadata":[{"key":"k","type":"u9","from":["a"]}]})", "metadata rule"},
      {R"({"name":"x","params":{"layers":[1]}})", "expected a text"},
      {R"({"name":"x","params":{"layers":["n"]},"multiples":{"layers":"heads"}})", "both must be params"},
      {R"({"name":"x","params":{"layers":["n"]},"window":{"keys":"w"}})", "unknown key 'keys'"},
      {R"({"name":"x"})", "no 'tensors'"},
      {R"({})", "no 'name'"}};
  for (const auto& [json, message] : cases) {
    auto a = parse_architecture(json, "f.json");
    ASSERT_FALSE(a.ok()) << json;
    EXPECT_NE(a.error().message.find(message), std::string::npos) << a.error().message;
  }
}

TEST(Architecture, AFileLikeAnotherAddsAndTakesAway) {
  const auto a = parse_architecture(R"({"name":"x","like":"llama","classes":["XForCausalLM"],"layer":{"rope":"halves"},"params":{"head_dim":["d","64"]},
    "without":["blk.{i}.ffn_gate.bias","{arch}.vocab_size"],"tensors":[{"hf":"q","gguf":"blk.{i}.attn_q.weight","shape":["hidden"]}]})", "x");
  EXPECT_FALSE(a.ok());  // 'q' is of no layer
  const auto b = parse_architecture(R"({"name":"x","like":"llama","classes":["XForCausalLM"],"layer":{"rope":"halves"},"params":{"head_dim":["d","64"]},
    "without":["blk.{i}.ffn_gate.bias","{arch}.vocab_size"],"tensors":[{"hf":"l.{i}.q","gguf":"blk.{i}.attn_q.weight","shape":["hidden"]}]})", "x");
  ASSERT_TRUE(b.ok()) << b.error().message;
  EXPECT_EQ(b->classes, std::vector<std::string>{"XForCausalLM"});
  EXPECT_EQ(b->layer.rope, "halves");
  EXPECT_EQ(b->tensors.size(), llama().tensors.size() - 1);
  EXPECT_EQ(map_from_gguf(*b, "blk.3.attn_q.weight")->name, "l.3.q");
  EXPECT_FALSE(b->window.has_value());
  for (const auto& m : b->metadata) EXPECT_TRUE(m.key.empty() || m.key.starts_with("x.")) << m.key;
  const auto p = config_params(*b, *parse_json(kConfig, "c"), "c");
  ASSERT_TRUE(p.ok());
  EXPECT_EQ(p->at("head_dim"), 64);
}

TEST(Architecture, PathsAreQuotientsAndProducts) {
  const Json c = *parse_json(R"({"a":12,"b":{"c":5},"d":null,"f":0.25})", "c");
  EXPECT_EQ(config_number(c, "a"), 12);
  EXPECT_EQ(config_number(c, "b.c"), 5);
  EXPECT_EQ(config_number(c, "4*a"), 48);
  EXPECT_EQ(config_number(c, "a/4"), 3);
  EXPECT_EQ(config_number(c, "a/b.c"), std::nullopt);
  EXPECT_EQ(config_number(c, "a//b.c"), 2);
  EXPECT_EQ(config_number(c, "f*a//2"), 1);
  EXPECT_EQ(config_number(c, "d"), std::nullopt);
  EXPECT_EQ(config_number(c, "a*x"), std::nullopt);
  EXPECT_EQ(config_number(c, "a/0"), std::nullopt);
  EXPECT_EQ(config_number(c, "1e-5"), 1e-5);
  const auto param = [](const std::string& name) { return name == "n" ? std::optional<int64_t>(7) : std::nullopt; };
  EXPECT_EQ(extent("n", param), 7);
  EXPECT_EQ(extent("2*n+3", param), 17);
  EXPECT_EQ(extent("m+n", param), std::nullopt);
  EXPECT_EQ(extent("9000000000000000000*n", param), std::nullopt);
}

}  // namespace
}  // namespace ingot
