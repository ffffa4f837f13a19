// What transformers 5.24 makes of fix_mistral_regex, of split_special_tokens and of classes with rules of their own.
#include "tokenizer/gguf_gaps.h"
#include "tokenizer/tokenizer_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;
Files side(const json& tokenizer_config, const json& config) {
  return {{"tokenizer_config.json", tokenizer_config.dump()}, {"config.json", config.dump()}};
}
size_t warnings_of(const Tokenizer& t, const std::string& part) {
  size_t n = 0;
  for (const std::string& w : t.warnings()) n += w.find(part) != std::string::npos;
  return n;
}

// "12" is one token, which Mistral's rules, one digit a piece, cut in two.
TEST(ClassRules, FixMistralRegexMendsTheRulesOfLargeOldMistrals) {
  json large = byte_bpe({{"1", "2"}});
  for (int i = 257; i <= 100000; ++i) large["model"]["vocab"]["zzq" + std::to_string(i)] = i;
  const Ids whole = {256}, cut = encode(from_json(byte_bpe()), "12");
  ASSERT_EQ(cut.size(), 2u);
  const auto ids = [&](const json& tokenizer, const json& flag, const json& config) { return encode(from_files(tokenizer, side(flag, config)), "12"); };
  const json on = {{"fix_mistral_regex", true}}, old = {{"model_type", "mistral"}, {"transformers_version", "4.57.3"}};
  EXPECT_EQ(ids(large, on, old), cut);
  EXPECT_EQ(ids(large, json::object(), old), whole);
  EXPECT_EQ(ids(large, {{"fix_mistral_regex", false}}, old), whole);
  EXPECT_EQ(encode(from_files(large, {{"tokenizer_config.json", on.dump()}}), "12"), whole);
  for (const auto& [model_type, version, expected] : std::vector<std::tuple<json, json, Ids>>{
           {"llama", "4.57.3", whole}, {nullptr, "4.57.3", cut}, {"pixtral", nullptr, cut}, {"mistral", "5.0.0", whole}, {"mistral", "5.1.0", whole}, {"mistral", "5.0.0.dev0", cut},
           {"mistral", "5.0.0rc1", cut}, {"mistral", "5.1.0.dev0", whole}, {"mistral", "5.0.0.post1", whole}, {"mistral", "10.0", whole}})
    EXPECT_EQ(ids(large, on, {{"model_type", model_type}, {"transformers_version", version}}), expected) << model_type << version;
  // The first part of a sequence makes way; the rest stays.
  json sequence = large;
  sequence["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Split"}, {"pattern", {{"String", "1"}}}, {"behavior", "Removed"}, {"invert", false}},
                                                                        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  EXPECT_EQ(ids(sequence, json::object(), old).size(), 1u);
  EXPECT_EQ(ids(sequence, on, old), cut);
  large["model"]["vocab"].erase("zzq100000");  // 100000 tokens are not enough
  EXPECT_EQ(ids(large, on, old), whole);
  large["added_tokens"].push_back(added(100000, "<s>"));
  EXPECT_EQ(ids(large, on, old), cut);
}

TEST(ClassRules, AClassWithRulesOfItsOwnIsTold) {
  const auto told = [](const char* name, const char* type, json tokenizer) {
    return warnings_of(from_files(tokenizer, side({{"tokenizer_class", name}}, {{"model_type", type}})), "rules of its own");
  };
  json other = byte_bpe();
  other["pre_tokenizer"]["use_regex"] = false;
  EXPECT_EQ(told("GPT2Tokenizer", "llama", byte_bpe()), 0u);
  EXPECT_EQ(told("GPT2Tokenizer", "llama", other), 1u);
  EXPECT_EQ(told("GPT2TokenizerFast", "llama", other), 1u);
  EXPECT_EQ(told("Qwen2Tokenizer", "llama", byte_bpe()), 1u);
  EXPECT_EQ(told("PreTrainedTokenizerFast", "llama", other), 0u);
  EXPECT_EQ(told("GPT2Tokenizer", "mistral", other), 0u);
}

TEST(GgufGaps, SpecialTokensThatAreText) {
  json j = byte_bpe();
  j["added_tokens"] = {added(256, "<s>"), added(257, "<t>", {{"special", false}})};
  const Tokenizer t = from_files(j, {{"tokenizer_config.json", R"({"split_special_tokens": true})"}});
  EXPECT_EQ(encode(t, "<s><t>"), (Ids{'<', 's', '>', 257}));
  const auto found = find_gguf_gaps(t, *t.to_gguf_vocab());
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ((*found)[0].gap, GgufGap::kSplitSpecial);
  EXPECT_EQ((*found)[0].theirs, (Ids{256}));
  EXPECT_NE((*found)[0].describe().find("split_special_tokens"), std::string::npos);
}

}  // namespace
}  // namespace ingot
