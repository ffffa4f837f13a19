// The tokenizer files and templates of an adapter's directory in place of the base's.
#include "transform/adapter_files.h"

#include <gtest/gtest.h>

#include "formats/json.h"
#include "tokenizer/tokenizer.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;
using Files = std::map<std::string, std::string>;
using Templates = std::map<std::string, std::string>;

constexpr char kJson[] = "tokenizer.json", kConfig[] = "tokenizer_config.json", kMap[] = "special_tokens_map.json", kAdded[] = "added_tokens.json";
constexpr int64_t kRows = 4096;  // as many as the example has tokens

Files edited(Files files, const char* name, const std::function<void(OrderedJson&)>& edit) {
  OrderedJson j = files.count(name) ? *parse_json_ordered(files[name], name) : OrderedJson::object();
  edit(j);
  files[name] = j.dump();
  return files;
}
OrderedJson token(int64_t id, const std::string& text) {
  return {{"id", id}, {"content", text}, {"single_word", false}, {"lstrip", false}, {"rstrip", false}, {"normalized", false}, {"special", true}};
}
// The base's tokenizer.json with other tokens added.
Files with_tokens(const Files& base, const std::vector<std::string>& texts) {
  return edited({{kJson, base.at(kJson)}}, kJson, [&](OrderedJson& j) {
    for (const auto& t : texts) j["added_tokens"].push_back(token(kRows + static_cast<int64_t>(&t - texts.data()), t));
  });
}
// Another text for an id: no more tokens, but another vocabulary.
Files other_vocabulary(const Files& base) {
  constexpr std::string_view kOld = "<|start_header_id|>";
  std::string json = base.at(kJson);
  for (size_t at = 0; (at = json.find(kOld, at)) != std::string::npos;) json.replace(at, kOld.size(), "<|another|>");
  return {{kJson, json}};
}

Files base_files() {
  Files files = example_base().files;
  files.erase("chat_template.jinja");
  return files;
}

struct Taken {
  Files files;
  std::string told;
  Status status;
  Tokenizer tokenizer() const {
    auto t = Tokenizer::from_hf(HfTokenizerFiles::among(files));
    EXPECT_TRUE(t.ok()) << t.error().message;
    return std::move(*t);
  }
};
Taken take(Files base, const Files& own, int64_t rows = kRows, bool resized = false) {
  Artifact adapter;
  adapter.path = "the/adapter";
  adapter.files = own;
  Taken out{std::move(base), {}, {}};
  out.status = take_adapter_files(adapter, rows, resized, &out.files, [&](const std::string& text) { out.told += text + "\n"; });
  return out;
}
void expect_refused(const Taken& t, const std::vector<std::string>& parts) {
  ASSERT_FALSE(t.status.ok());
  for (const auto& p : parts) EXPECT_NE(t.status.error().message.find(p), std::string::npos) << p << " not in " << t.status.error().message;
}

// The base with a template in each of the places where one may be.
std::vector<Files> bases_with_template() {
  const Files base = base_files();
  std::vector<Files> out = {edited(base, kConfig, [](OrderedJson& j) { j["chat_template"] = "base's"; }),
                            edited(base, "chat_template.json", [](OrderedJson& j) { j["chat_template"] = "base's"; }), base, base};
  out[2]["chat_template.jinja"] = "base's";
  out[3]["additional_chat_templates/default.jinja"] = "base's";
  return out;
}

TEST(AdapterFiles, ATemplateThatOnlyTheBaseHasStaysWhereverItWas) {
  for (const Files& base : bases_with_template()) {
    const Files config = {{kConfig, base_files()[kConfig]}};
    Files both = other_vocabulary(base);
    both[kConfig] = config.at(kConfig);
    Files empty = both;
    empty["chat_template.json"] = R"({"processor": 1})";
    empty["chat_template.jinja"] = "";
    for (const Files& own : {other_vocabulary(base), config, both, empty}) {
      const Taken t = take(base, own);
      ASSERT_TRUE(t.status.ok()) << t.status.error().message;
      EXPECT_EQ(t.tokenizer().chat_templates(), (Templates{{"default", "base's"}}));
      EXPECT_EQ(t.told.find("template"), std::string::npos) << t.told;
    }
  }
}

TEST(AdapterFiles, TheAdaptersTemplateComesInPlaceOfTheBasesWhereverTheTwoAre) {
  for (const Files& base : bases_with_template())
    for (const Files& like : bases_with_template())
      for (const bool vocabulary : {false, true})
        for (const std::string text : {"own", "base's"}) {
          Files own = vocabulary ? other_vocabulary(base) : Files();
          for (const auto& [name, content] : like)
            if (const size_t at = content.find("base's"); at != std::string::npos && name != kJson) own[name] = std::string(content).replace(at, 6, text);
          const Taken t = take(base, own);
          ASSERT_TRUE(t.status.ok()) << t.status.error().message;
          EXPECT_EQ(t.tokenizer().chat_templates(), (Templates{{"default", text}}));
          EXPECT_EQ(t.told.find("another chat template") != std::string::npos, text == "own") << t.told;
          // The fate of tokenizer_config.json is not that of the template.
          EXPECT_EQ(parse_json(t.files.at(kConfig), kConfig)->value("pad_token", ""), "<|finetune_right_pad_id|>");
        }
}

TEST(AdapterFiles, OfTheBasesConfigurationStaysWhatHoldsForAnotherVocabulary) {
  Files base = edited(base_files(), kConfig, [](OrderedJson& j) { j["added_tokens_decoder"]["7"] = token(7, "<|of the base|>"); });
  base[kMap] = R"({"eos_token": "<|eot_id|>"})";
  base[kAdded] = R"({"<|of the base, too|>": 9})";
  base["merges.txt"] = base["tokenizer.model"] = "base's";
  const Taken t = take(base, other_vocabulary(base));
  ASSERT_TRUE(t.status.ok()) << t.status.error().message;
  for (const char* name : {kMap, kAdded, "merges.txt", "tokenizer.model"}) EXPECT_EQ(t.files.count(name), 0u) << name;
  OrderedJson want = *parse_json_ordered(base_files()[kConfig], kConfig);
  EXPECT_EQ(*parse_json_ordered(t.files.at(kConfig), kConfig), want);
  EXPECT_EQ(t.tokenizer().size(), static_cast<size_t>(kRows));
  // Word for word the base's: what it says of ids holds.
  EXPECT_EQ(take(base, {{kJson, base[kJson]}}).files, base);
}

TEST(AdapterFiles, TheBasesMapOfSpecialTokensDoesNotComeBeforeTheAdaptersConfiguration) {
  Files base = base_files();
  base[kMap] = R"({"eos_token": "<|end_of_text|>"})";
  base.erase("generation_config.json");
  base = edited(base, "config.json", [](OrderedJson& j) { j.erase("eos_token_id"); });
  Files own = edited({{kConfig, base[kConfig]}, {kJson, base[kJson]}}, kConfig, [](OrderedJson& j) { j["eos_token"] = "<|end_header_id|>"; });
  const Taken t = take(base, own);
  ASSERT_TRUE(t.status.ok()) << t.status.error().message;
  EXPECT_EQ(t.tokenizer().end_ids().front(), 3);
  EXPECT_NE(t.told.find("texts end with \"<|end_header_id|>\" (3)"), std::string::npos) << t.told;
}

TEST(AdapterFiles, ASentencePieceModelIsReadOnlyWhereItIsTheBases) {
  Files base = base_files();
  const Files own = {{"tokenizer.model", "pieces"}};
  expect_refused(take(base, own), {"the/adapter", "only tokenizer.model (SentencePiece)", "take these files away"});
  base["tokenizer.model"] = "other pieces";
  expect_refused(take(base, own), {"the/adapter", "only tokenizer.model (SentencePiece)"});
  base["tokenizer.model"] = "pieces";
  const Taken t = take(base, own);
  EXPECT_TRUE(t.status.ok());
  EXPECT_EQ(t.files, base);
}

TEST(AdapterFiles, FilesThatMakeATokenizerUnreadableAreRefused) {
  const struct {
    const char *name, *text, *cause;
  } kBroken[] = {{kJson, "{}", "tokenizer.json: model: missing"},  {kJson, "", "an empty one"},
                 {kJson, "[1", "tokenizer.json"},                  {kConfig, "[]", "tokenizer_config.json"},
                 {kConfig, "{", "tokenizer_config.json"},          {kMap, "3", "special_tokens_map.json"},
                 {kMap, "", "the file is empty"},                  {kAdded, "", "the file is empty"},
                 {kAdded, "[]", "added_tokens.json"},              {"chat_template.json", R"({"chat_template": 1})", "chat_template.json"}};
  for (const Files& base : bases_with_template())
    for (const auto& b : kBroken) {
      if (std::string(b.name) == "chat_template.json" && base.count("chat_template.jinja") + base.count("additional_chat_templates/default.jinja") > 0) continue;
      expect_refused(take(base, {{b.name, b.text}}), {"merging the/adapter", b.cause, "Save the tokenizer there once more"});
    }
  // One that is no JSON is not carried on either, whosever it is and whatever else cannot be read.
  for (const char* name : {kConfig, kMap, kAdded}) {
    Files bad = base_files();
    bad[name] = "";
    expect_refused(take(bad, {}), {"merging the/adapter: the base's ", name, "the file is empty"});
    bad = base_files();
    bad[kJson] = "{}";
    expect_refused(take(bad, {{name, ""}}), {"merging the/adapter: ", name, "the file is empty"});
  }
  // Of a base that is no better nothing can be said but that.
  Files unreadable = base_files();
  unreadable[kJson] = "{}";
  const Taken t = take(unreadable, {{kConfig, "[]"}});
  EXPECT_TRUE(t.status.ok());
  EXPECT_NE(t.told.find("what differs is not known: reading the tokenizer of the base: tokenizer.json: model: missing"), std::string::npos) << t.told;
}

TEST(AdapterFiles, TokensOfTokenizerJsonNeedRows) {
  const Files base = base_files();
  const Files in_json = with_tokens(base, {"<x0>", "<x1>"});
  const Files in_config = edited(base, kConfig, [](OrderedJson& j) { j["added_tokens_decoder"]["4096"] = token(4096, "<x0>"); });
  for (const int64_t rows : {kRows, kRows + 1, kRows + 2})
    for (const Files& own : {in_json, Files{{kConfig, in_config.at(kConfig)}}}) {
      const Taken t = take(base, own, rows);
      const bool fits = own.count(kJson) == 0 || rows == kRows + 2;
      EXPECT_EQ(t.status.ok(), fits) << rows;
      if (!fits) expect_refused(t, {"4098 tokens", fmt::format("{} rows", rows), "save_embedding_layers"});
      EXPECT_EQ(t.told.find("more, from \"<x0>\" (4096)") != std::string::npos, fits) << t.told;
      EXPECT_EQ(t.told.find("left out of GGUF") != std::string::npos, fits && rows == kRows) << t.told;
    }
  // The base's own fault is not the adapter's.
  Files wide = base;
  wide[kJson] = in_json.at(kJson);
  EXPECT_TRUE(take(wide, {{"chat_template.jinja", "own"}}).status.ok());
}

TEST(AdapterFiles, TokensAreShownShortAndPrintable) {
  const Files base = base_files();
  const Taken t = take(base, with_tokens(base, {"\x1b[2J\n" + std::string(500, 'x'), "<x1>"}), kRows + 2);
  ASSERT_TRUE(t.status.ok()) << t.status.error().message;
  EXPECT_NE(t.told.find("2 tokens more, from \"\\x1B[2J\\nxxx"), std::string::npos) << t.told;
  EXPECT_LT(t.told.size(), 300u) << t.told;

  std::vector<int> ids;
  for (int i = 100; i < 1100; ++i) ids.push_back(i);
  Files many = edited(base, "generation_config.json", [&](OrderedJson& j) { j["eos_token_id"] = ids; });
  const Taken ends = take(many, edited(Files{{kConfig, base.at(kConfig)}}, kConfig, [](OrderedJson& j) { j["eos_token"] = "<|eot_id|>"; }));
  EXPECT_NE(ends.told.find("texts end with \"<|eot_id|>\" (4), "), std::string::npos) << ends.told;
  EXPECT_NE(ends.told.find(" others"), std::string::npos) << ends.told;
  EXPECT_LT(ends.told.size(), 500u);
}

TEST(AdapterFiles, AnotherModelsTokensAreToldUnlessTheEmbeddingIsTheAdapters) {
  const Files base = base_files();
  const std::string told = take(base, other_vocabulary(base)).told;
  EXPECT_NE(told.find("1 ids stand for other texts (the first is \"<|another|>\" (2), \"<|start_header_id|>\" before)"), std::string::npos) << told;
  EXPECT_EQ(take(base, other_vocabulary(base), kRows, true).told, "");
}

TEST(AdapterFiles, ADirectoryWithoutThemChangesNothing) {
  const Files base = base_files();
  const Taken t = take(base, {{"adapter_config.json", "{}"}, {"generation_config.json", "{}"}});
  EXPECT_TRUE(t.status.ok());
  EXPECT_EQ(t.files, base);
  EXPECT_EQ(t.told, "");
}

TEST(AdapterFiles, EveryFileOfATokenizerIsReadFromAnAdaptersDirectory) {
  auto store = make_memory_store();
  Artifact weights;
  weights.tensors = std::vector<LazyTensor>{{"x", typed_tensor(DType::kF32, {2, 2}, {1, 2, 3, 4})}};
  write_output(safetensors_output(weights, *store, "a/adapter_model.safetensors"));
  Files want;
  for (const char* name : {"adapter_config.json", kJson, kConfig, kMap, kAdded, "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt",
                           "tekken.json", "generation_config.json", "chat_template.jinja", "chat_template.json", "additional_chat_templates/rag.jinja"}) {
    want[name] = std::string("of ") + name;
    put_file(*store, std::string("a/") + name, want[name]);
  }
  put_file(*store, "a/config.json", "{}");  // the base's counts
  EXPECT_EQ(open_or_die(*store, "a").files, want);
}

}  // namespace
}  // namespace ingot::transform
