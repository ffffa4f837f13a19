// A tokenizer is several files: what transformers makes of 66 directories (tests/data/tokenizer_files.json; made by
// tests/data/make/tokenizer_files.py) is what is made of them here. Then the tokens that end a text.
#include <algorithm>

#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

size_t warnings_of(const Tokenizer& t, const std::string& part) {
  size_t n = 0;
  for (const std::string& w : t.warnings()) n += w.find(part) != std::string::npos;
  return n;
}

class TokenizerFiles : public ::testing::Test {
 protected:
  void for_each(const std::function<void(const json& situation, json tokenizer)>& f) {
    const json all = json::parse(slurp("tests/data/tokenizer_files.json"));
    ASSERT_GE(all["situations"].size(), 66u);
    for (const json& s : all["situations"]) {
      SCOPED_TRACE(s["name"].get<std::string>());
      json tokenizer = all["tokenizer"];
      tokenizer.update(s["tokenizer"]);
      f(s, std::move(tokenizer));
    }
  }
};

TEST_F(TokenizerFiles, MakeTheTokensAndIdsOfTransformers) {
  for_each([](const json& s, json tokenizer) {
    const json& expected = s["expected"];
    const Tokenizer t = from_files(tokenizer, s["files"].get<Files>());
    EXPECT_EQ(t.size(), expected["size"].get<size_t>());
    for (const auto& c : expected["encodings"]) {
      const auto text = c[0].get<std::string>();
      EXPECT_EQ(encode(t, text, true), c[1].get<Ids>()) << text;
      EXPECT_EQ(encode(t, text, false), c[2].get<Ids>()) << text;
    }
    size_t told = 0;
    for (const auto& x : expected["other_ids"]) told += warnings_of(t, "the token \"" + x.get<std::string>() + "\"");
    EXPECT_EQ(warnings_of(t, "the token \""), told);
    EXPECT_EQ(told > 0, !expected["other_ids"].empty());
  });
}

TEST_F(TokenizerFiles, MakeTheGgufThatSaysWhatTransformersSays) {
  for_each([](const json& s, json tokenizer) {
    const json& expected = s["expected"];
    tokenizer["normalizer"] = nullptr;  // no GGUF has this one
    const Tokenizer t = from_files(tokenizer, s["files"].get<Files>());
    const auto v = t.to_gguf_vocab();
    ASSERT_TRUE(v.ok()) << v.error().message;
    const auto special = expected["special"].get<Ids>();
    for (const auto& [id, content] : expected["tokens"].items()) {
      const int at = std::stoi(id);
      EXPECT_EQ(v->tokens[static_cast<size_t>(at)], content.get<std::string>());
      EXPECT_EQ(v->token_types[static_cast<size_t>(at)], std::count(special.begin(), special.end(), at) ? 3 : 4) << content;
    }
    const auto id = [&](const char* role) {
      return expected["ids"].contains(role) ? std::optional<int32_t>(expected["ids"][role].get<int32_t>()) : std::nullopt;
    };
    const Ids with = encode(t, "a", true), without = encode(t, "a", false);
    EXPECT_EQ(v->bos, id("bos") || with == without ? id("bos") : with.front());
    // Where no file names one, llama.cpp is told one that it knows by text: it would take the token 11.
    const Ids ends = t.end_ids();
    EXPECT_EQ(v->eos, id("eos") || ends.empty() ? id("eos") : ends.front());
    EXPECT_EQ(v->unk, id("unk"));
    EXPECT_EQ(v->pad, id("pad"));
    EXPECT_EQ(v->add_bos, with.front() == v->bos);
    EXPECT_EQ(v->add_eos, false);
    EXPECT_EQ(v->add_space_prefix, false);
    auto templates = expected["templates"].get<Files>();
    EXPECT_EQ(v->chat_template, templates.count("default") ? std::optional(templates["default"]) : std::nullopt);
    templates.erase("default");
    EXPECT_EQ(Files(v->chat_templates.begin(), v->chat_templates.end()), templates);
  });
}

TEST(Tokenizer, NamesOfTemplatesAreKeysOfGguf) {
  const Tokenizer t = from_files(byte_bpe(), {{"additional_chat_templates/a b.jinja", "1"}, {"additional_chat_templates/a-b.jinja", "2"},
                                              {"additional_chat_templates/\u00E9.jinja", "3"}, {"additional_chat_templates/x.txt", "4"},
                                              {"chat_template.jinja", "5"}});
  using Named = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(t.to_gguf_vocab()->chat_templates, (Named{{"a_b", "1"}, {"__", "3"}}));
  EXPECT_EQ(t.to_gguf_vocab()->chat_template, "5");
  EXPECT_EQ(warnings_of(t, "'a-b' is left out"), 1u);
}

// transformers' tokenizers do not read it, its processors and the reference converter do.
TEST(Tokenizer, ChatTemplateJsonIsTheLastThatCounts) {
  const Files json_alone = {{"chat_template.json", R"({"chat_template": "X"})"}};
  EXPECT_EQ(from_files(byte_bpe(), json_alone).to_gguf_vocab()->chat_template, "X");
  Files both = json_alone;
  both["tokenizer_config.json"] = R"({"chat_template": "C"})";
  EXPECT_EQ(from_files(byte_bpe(), both).to_gguf_vocab()->chat_template, "C");
}

TEST(Tokenizer, ATemplateThatFilesTakeThePlaceOfIsTold) {
  const Tokenizer t = from_files(byte_bpe(), {{"tokenizer_config.json", R"({"chat_template": "C"})"}, {"additional_chat_templates/rag.jinja", "R"}});
  EXPECT_FALSE(t.to_gguf_vocab()->chat_template);
  EXPECT_EQ(warnings_of(t, "no default chat template"), 1u);
}

TEST(Tokenizer, FilesOfTemplatesAreReadAsPythonReadsText) {
  const Tokenizer t = from_files(byte_bpe(), {{"chat_template.jinja", "a\r\nb\rc\n\r"}, {"additional_chat_templates/x.jinja", "\r\n"},
                                              {"tokenizer_config.json", R"({"chat_template": "1\r\n2"})"}});
  EXPECT_EQ(t.chat_templates(), (Files{{"default", "a\nb\nc\n\n"}, {"x", "\n"}}));
  EXPECT_EQ(from_files(byte_bpe(), {{"tokenizer_config.json", R"({"chat_template": "1\r\n2"})"}}).chat_templates(), (Files{{"default", "1\r\n2"}}));
  for (const char* name : {"chat_template.jinja", "additional_chat_templates/x.jinja"}) {
    const std::string tokenizer = byte_bpe().dump();
    auto bad = Tokenizer::from_hf(HfTokenizerFiles::among({{"tokenizer.json", tokenizer}, {name, "a\xFF"}}));
    ASSERT_FALSE(bad.ok()) << name;
    EXPECT_NE(bad.error().message.find("is not UTF-8"), std::string::npos) << bad.error().message;
  }
}

TEST(Tokenizer, ATemplateFileCalledFileIsTheDefault) {
  const Files jinja = {{"chat_template.jinja", "J"}, {"additional_chat_templates/file.jinja", "F"}};
  EXPECT_EQ(from_files(byte_bpe(), jinja).chat_templates(), (Files{{"default", "F"}}));
  Files both = jinja;
  both["additional_chat_templates/default.jinja"] = "D";
  EXPECT_EQ(from_files(byte_bpe(), both).chat_templates(), (Files{{"default", "D"}}));
}

TEST(Tokenizer, ATemplateOfTheSpecialTokensMapTakesThePlaceOfAllWhereItIsRead) {
  Files files = {{"chat_template.jinja", "J"}, {"additional_chat_templates/x.jinja", "X"}, {"special_tokens_map.json", R"({"chat_template": "M"})"}};
  EXPECT_EQ(from_files(byte_bpe(), files).chat_templates(), (Files{{"default", "M"}}));
  files["tokenizer_config.json"] = R"({"added_tokens_decoder": {}})";
  EXPECT_EQ(from_files(byte_bpe(), files).chat_templates(), (Files{{"default", "J"}, {"x", "X"}}));
}

// With a list of its own in tokenizer_config.json transformers opens neither.
TEST(Tokenizer, FilesThatNobodyOpensMayBeDamaged) {
  for (const char* damaged : {"{", "[]", "null", "\xFF"}) {
    const Files files = {{"special_tokens_map.json", damaged}, {"added_tokens.json", damaged},
                         {"tokenizer_config.json", R"({"added_tokens_decoder": {"256": {"content": "<x>"}}, "add_eos_token": 1, "add_bos_token": 1e999})"}};
    const Tokenizer t = from_files(byte_bpe(), files);
    EXPECT_EQ(encode(t, "<x>"), (Ids{256})) << damaged;
    EXPECT_TRUE(t.warnings().empty()) << damaged;
  }
}

TEST(Tokenizer, AFlagIsNoTokenWhateverItIs) {
  const Tokenizer t = from_files(byte_bpe(), {{"tokenizer_config.json", R"({"add_bos_token": "true", "add_eos_token": "no"})"}});
  EXPECT_EQ(t.size(), 256u);
}

TEST(Tokenizer, IdsOfTheListAreReadAsPythonReadsThem) {
  const Tokenizer t = from_files(byte_bpe(), {{"tokenizer_config.json", R"({"added_tokens_decoder": {"2_57": {"content": "<b>"}, " 256 ": {"content": "<a>"},
                                               "+0258": {"content": "<c>"}, "-1": {"content": ""}, "259": {"special": true}}})"}});
  EXPECT_EQ(encode(t, "<a><b><c>"), (Ids{256, 257, 258}));
  EXPECT_TRUE(t.warnings().empty());
  for (const char* key : {"", " ", "x", "1_", "_1", "1__2", "1 2", "+-1", "0x1", "1.0"}) {
    const std::string tokenizer = byte_bpe().dump(), config = json({{"added_tokens_decoder", {{key, {{"content", "<a>"}}}}}}).dump();
    EXPECT_FALSE(Tokenizer::from_hf(HfTokenizerFiles::among({{"tokenizer.json", tokenizer}, {"tokenizer_config.json", config}})).ok()) << key;
  }
}

TEST(Tokenizer, AnotherTokenizerFileThatTransformersWouldReadIsTold) {
  const auto told = [](const char* list) {
    return warnings_of(from_files(byte_bpe(), {{"tokenizer_config.json", std::string("{\"fast_tokenizer_files\": ") + list + "}"}}),
                       "names \"tokenizer.4.10.0.json\"");
  };
  EXPECT_EQ(told(R"(["tokenizer.4.0.0.json", "tokenizer.4.10.0.json", "tokenizer.json", "tokenizer.6.0.0.json", 3])"), 1u);
  EXPECT_EQ(told(R"(["tokenizer.json"])"), 0u);
  EXPECT_EQ(told(R"(["tokenizer.6.0.json", "other.json"])"), 0u);
  EXPECT_EQ(told("3"), 0u);
}

TEST(Tokenizer, FlagsThatThePostProcessorContradictsAreTold) {
  const Tokenizer t = from_files(byte_bpe(), {{"tokenizer_config.json",
                                               R"({"add_bos_token": true, "add_eos_token": false, "add_prefix_space": true})"}});
  EXPECT_EQ(t.to_gguf_vocab()->add_bos, false);
  EXPECT_EQ(t.to_gguf_vocab()->add_space_prefix, true);
  EXPECT_EQ(t.warnings().size(), 1u);
  EXPECT_EQ(warnings_of(t, "add_bos_token true"), 1u);
}

// --- The end of a text ---

json with_tokens(const std::vector<std::string>& tokens) {
  json j = byte_bpe();
  for (size_t i = 0; i < tokens.size(); ++i) j["added_tokens"].push_back(added(static_cast<int>(256 + i), tokens[i]));
  return j;
}

TEST(Tokenizer, EveryEosOfTheFilesEndsAText) {
  const json j = with_tokens({"<e0>", "<e1>", "<e2>", "<e3>", "<e4>"});
  const Files files = {{"tokenizer_config.json", R"({"eos_token": "<e0>"})"},
                       {"generation_config.json", R"({"eos_token_id": [257, 256, -1, 1.5e3, "x", null]})"},
                       {"config.json", R"({"text_config": {"eos_token_id": [258]}})"}};
  EXPECT_EQ(from_files(j, {{"config.json", R"({"eos_token_id": 257})"}}).end_ids(), (Ids{257}));
  EXPECT_EQ(from_files(j, {{"generation_config.json", R"({"eos_token_id": [258, 257]})"}}).end_ids(), (Ids{258, 257}));
  Files bad = files;
  EXPECT_FALSE(Tokenizer::from_hf(HfTokenizerFiles::among(bad)).ok());
  bad["generation_config.json"] = R"({"eos_token_id": [257, 256, -1, "x", null, 999]})";
  const Tokenizer t = from_files(j, bad);
  EXPECT_EQ(t.end_ids(), (Ids{256, 257, 258, 999}));  // a row may be without a token
  // A GGUF has no list: eot and eom take the others.
  const auto v = t.to_gguf_vocab();
  EXPECT_EQ(v->eos, 256);
  EXPECT_EQ(v->eot, 257);
  EXPECT_EQ(v->eom, 258);
  EXPECT_EQ(must(Tokenizer::from_gguf(*v)).end_ids(), (Ids{256, 257, 258}));
  bad["config.json"] = R"({"eos_token_id": [258, 259]})";
  EXPECT_EQ(warnings_of(from_files(j, bad), "ends at the token 259"), 1u);
}

TEST(Tokenizer, TheFirstEosOfAListIsTheGgufsWhereNoFileNamesOne) {
  const auto v = from_files(with_tokens({"<|im_end|>", "<e1>"}), {{"generation_config.json", R"({"eos_token_id": [256, 257]})"}}).to_gguf_vocab();
  EXPECT_EQ(v->eos, 256);
  EXPECT_EQ(v->eot, 257);
}

TEST(Tokenizer, ABrokenGenerationConfigIsToldAndPassedOver) {
  const Tokenizer t = from_files(with_tokens({"<e0>"}), {{"generation_config.json", "{"}, {"config.json", R"({"eos_token_id": 256})"}});
  EXPECT_EQ(t.end_ids(), (Ids{256}));
  EXPECT_EQ(warnings_of(t, "generation_config.json"), 1u);
}

// llama.cpp's rules: any token of that text; of the FIM tokens three; some texts not beside others.
TEST(Tokenizer, TheTokensThatLlamaCppKnowsByTextEndAText) {
  const auto ends = [](const std::vector<std::string>& tokens) {
    const Tokenizer hf = from_files(with_tokens(tokens));
    const Tokenizer gguf = must(Tokenizer::from_gguf(*hf.to_gguf_vocab()));
    EXPECT_EQ(hf.end_ids(), gguf.end_ids());
    std::vector<std::string> out;
    for (const int32_t id : hf.end_ids()) out.push_back(hf.token_piece(id));
    std::sort(out.begin(), out.end());
    return out;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(ends({"<|eot_id|>", "<x>", "<|im_end|>", "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "<|im_start|>"}),
            (Texts{"<|eot_id|>", "<|im_end|>", "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"}));
  EXPECT_EQ(ends({"<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|fim_prefix|>"}), (Texts{"<|file_sep|>", "<|fim_pad|>", "<|repo_name|>"}));
  EXPECT_EQ(ends({"<|end|>"}), (Texts{"<|end|>"}));
  EXPECT_EQ(ends({"<|end|>", "<|call|>", "<|return|>"}), (Texts{"<|call|>", "<|return|>"}));
  EXPECT_EQ(ends({"<|end|>", "<|calls|>", "<|flush|>"}), (Texts{"<|calls|>", "<|flush|>"}));
  EXPECT_EQ(ends({"</s>", "<|tool_response>"}), (Texts{"<|tool_response>"}));
  EXPECT_EQ(ends({"</s>", "<|plamo:eos|>"}), (Texts{"</s>"}));  // which is plain text only where that is the eos
  EXPECT_EQ(from_files(with_tokens({"</s>", "<|plamo:eos|>"}), {{"tokenizer_config.json", R"({"eos_token": "<|plamo:eos|>"})"}}).end_ids(), (Ids{257}));
  json plain = byte_bpe({{"<", "/"}, {"</", "s"}, {"</s", ">"}});  // a token like any other
  EXPECT_EQ(from_files(plain).end_ids(), (Ids{258}));
}

TEST(Tokenizer, ATokenThatTheFilesNameEndsATextWhateverItsTextIs) {
  const json j = with_tokens({"<|end|>", "<|call|>", "<|return|>"});
  EXPECT_EQ(from_files(j, {{"generation_config.json", R"({"eos_token_id": [258, 256]})"}}).end_ids(), (Ids{258, 256, 257}));
}

TEST(Tokenizer, DamagedSideFilesAreNamed) {
  const auto error = [](const Files& more) {
    Files files = more;
    files["tokenizer.json"] = byte_bpe().dump();
    auto t = Tokenizer::from_hf(HfTokenizerFiles::among(files));
    return t.ok() ? "" : t.error().message;
  };
  const auto has = [](const std::string& message, const char* part) { EXPECT_NE(message.find(part), std::string::npos) << message; };
  has(error({{"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "a"}}})"}}), "\"x\" is no token id");
  has(error({{"tokenizer_config.json", R"({"added_tokens_decoder": {"5": "a"}})"}}), "tokenizer_config.json.added_tokens_decoder.5");
  has(error({{"tokenizer_config.json", R"({"added_tokens_decoder": [1]})"}}), "expected an object");
  has(error({{"tokenizer_config.json", R"({"eos_token": {"content": "a", "lstrip": 3}})"}}), "lstrip");
  has(error({{"special_tokens_map.json", R"({"eos_token": 5})"}}), "special_tokens_map.json.eos_token");
  has(error({{"special_tokens_map.json", "["}}), "special_tokens_map.json: not valid JSON");
  has(error({{"added_tokens.json", R"({"a": "b"})"}}), "added_tokens.json.a");
  has(error({{"added_tokens.json", "[]"}}), "added_tokens.json");
  std::string ids = "1";
  for (int i = 0; i < 2000; ++i) ids += ",1";
  has(error({{"config.json", "{\"eos_token_id\": [" + ids + "]}"}}), "2001 ids");
  has(error({{"chat_template.json", R"({"chat_template": 5})"}}), "chat_template.json.chat_template");
  has(error({{"tokenizer_config.json", R"({"eos_token": ")" + std::string(5000, 'x') + "\"}"}}), "too long");
}

TEST(Tokenizer, AnEmptyFileIsNotAMissingOne) {
  const json j = with_tokens({"<e0>", "<e1>"});
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"}) {
    const auto t = Tokenizer::from_hf(HfTokenizerFiles::among({{"tokenizer.json", j.dump()}, {name, ""}}));
    ASSERT_FALSE(t.ok()) << name;
    for (const std::string part : {name, "the file is empty"}) EXPECT_NE(t.error().message.find(part), std::string::npos) << t.error().message;
  }
  // transformers loads without these.
  const auto warned = [&](const char* name, const Files& more, const char* part) {
    Files files = more;
    files[name] = "";
    Tokenizer t = from_files(j, files);
    EXPECT_EQ(t.warnings().size(), 1u) << name;
    for (const std::string& p : {std::string(name), std::string(part)}) EXPECT_NE(t.warnings().at(0).find(p), std::string::npos) << t.warnings()[0];
    return t;
  };
  EXPECT_EQ(warned("generation_config.json", {{"config.json", R"({"eos_token_id": 257})"}}, "the file is empty").end_ids(), (Ids{257}));
  const Files with_template = {{"tokenizer_config.json", R"({"chat_template": "of the config"})"}};
  EXPECT_EQ(warned("chat_template.json", with_template, "the file is empty").chat_templates(), (Files{{"default", "of the config"}}));
  EXPECT_TRUE(warned("chat_template.json", {}, "the file is empty").chat_templates().empty());
  // As a template it is one.
  EXPECT_EQ(warned("chat_template.jinja", with_template, "so is the chat template").chat_templates(), (Files{{"default", ""}}));
}

TEST(Tokenizer, WhatIsNoTokenIsTold) {
  const json j = with_tokens({"<e0>"});
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const Tokenizer t = from_files(j, {{name, R"({"bos_token": null, "eos_token": true, "pad_token": [], "unk_token": "<e0>"})"}});
    ASSERT_EQ(t.warnings().size(), 1u) << name;
    EXPECT_EQ(t.warnings()[0], std::string(name) + ".eos_token: a boolean found, expected a token; it is passed over, where transformers fails to load (and 1 more like it)");
    EXPECT_EQ(t.to_gguf_vocab()->unk, 256);
  }
  EXPECT_EQ(from_files(j, {{"tokenizer_config.json", R"({"additional_special_tokens": ["<e0>", false]})"}}).warnings().size(), 1u);
}

}  // namespace
}  // namespace ingot
