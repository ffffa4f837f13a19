// config.json and adapter_config.json are read as Python reads them: what nobody reads blocks nothing and reaches the output
// as it stood; a number that is read and that no machine's type holds is refused with its field and itself.
#include <gtest/gtest.h>

#include "formats/json.h"
#include "transform/cast.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace testing;

constexpr const char* kOdd[] = {"1000000000000000019884624838656", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "\"\\ud800\"",
                                "[{\"a\": NaN}]"};

// The file of an artifact with `more` as its first members, before the others' and behind a byte order mark.
Artifact with_members(Artifact a, const std::string& file, const std::string& more) {
  std::string& text = a.files[file];
  text = "\xEF\xBB\xBF{" + more + "," + text.substr(text.find('{') + 1);
  return a;
}
Artifact with(Artifact a, const std::string& file, const std::string& from, const std::string& to) {
  std::string& text = a.files[file];
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return a;
}

TEST(OddConfig, WhatNobodyReadsCannotBlockAConversion) {
  auto plain_store = make_memory_store();
  auto plain = to_gguf(example_base());
  ASSERT_TRUE(plain.ok()) << plain.error().message;
  run_output(gguf_output(*plain, *plain_store, "m.gguf"));
  for (const char* odd : kOdd) {
    auto store = make_memory_store();
    // A repeated key's first value is one that nobody reads, too.
    const std::string more = fmt::format("\"unread\": {0}, \"\\udc00\": 1, \"vocab_size\": {0}, \"tie_word_embeddings\": {0}", odd);
    auto g = to_gguf(with_members(example_base(), "config.json", more));
    ASSERT_TRUE(g.ok()) << odd << ": " << g.error().message;
    run_output(gguf_output(*g, *store, "m.gguf"));
    EXPECT_TRUE(get_file(*store, "m.gguf") == get_file(*plain_store, "m.gguf")) << odd;
  }
}

TEST(OddConfig, WhatNobodyReadsCannotBlockAMergeAndStaysInTheDirectory) {
  for (const char* odd : kOdd) {
    auto store = make_memory_store();
    const std::string more = fmt::format("\"unread\": {0}, \"\\udc00\": 1, \"again\": {0}, \"again\": {0}", odd);
    const Artifact base = with_members(example_base(), "config.json", more);
    const Artifact adapter = with_members(example_adapter("lora-code"), "adapter_config.json",
                                          fmt::format("\"lora_dropout\": {0}, \"revision\": {0}, \"r\": {0}, \"peft_version\": {0}", odd));
    auto merged = lora_merge(base, {{with(adapter, "adapter_config.json", "\"revision\": null", "\"revision\": 1e999"), 1}});
    ASSERT_TRUE(merged.ok()) << odd << ": " << merged.error().message;
    auto wide = cast_floats(*merged, DType::kF32);  // "dtype" in config.json is written anew
    ASSERT_TRUE(wide.ok()) << wide.error().message;
    run_output(hf_directory_output(*wide, *store, "out", 0));
    const std::string config = get_file(*store, "out/config.json");
    const std::string shown = odd[0] == '[' ? "[\n    {\n      \"a\": NaN\n    }\n  ]" : odd;
    EXPECT_TRUE(config.starts_with(fmt::format("{{\n  \"unread\": {0},\n  \"\\udc00\": 1,\n  \"again\": {0},\n  \"architectures\": [", shown)))
        << config.substr(0, 200);
    EXPECT_NE(config.find("\"dtype\": \"float32\""), std::string::npos);
    auto again = parse_json(config, "again");
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(json_int(*again, "vocab_size"), 4096);
  }
}

TEST(OddConfig, AFileThatIsNotChangedIsCopiedAsItStands) {
  auto store = make_memory_store();
  const Artifact base = with_members(with_members(example_base(), "config.json", "\"unread\": 1e999, \"a\":[ ]"), "tokenizer_config.json",
                                     "\"model_max_length\": NaN");
  run_output(hf_directory_output(base, *store, "out", 0));
  for (const char* name : {"config.json", "tokenizer_config.json"})
    EXPECT_EQ(get_file(*store, std::string("out/") + name), base.files.at(name)) << name;
}

TEST(OddConfig, AnOddNumberIsRefusedWhereItIsReadWithItsFieldAndItself) {
  const std::tuple<const char*, const char*, std::vector<std::string>> cases[] = {
      {"\"hidden_size\": 256", "\"hidden_size\": NaN", {"config.json", "'hidden_size' is NaN", "expected a finite number"}},
      {"\"vocab_size\": 4096", "\"vocab_size\": 1e999", {"'vocab_size' is 1e999"}},
      {"\"vocab_size\": 4096", "\"vocab_size\": 1000000000000000019884624838656", {"'vocab_size' is 1e+30", "whole number"}},
      {"\"num_hidden_layers\": 6", "\"num_hidden_layers\": -Infinity", {"'num_hidden_layers' is -Infinity"}},
      {"\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": NaN", {"'rms_norm_eps' is NaN"}},
      {"\"max_position_embeddings\": 2048", "\"max_position_embeddings\": Infinity", {"'max_position_embeddings' is Infinity"}},
      {"\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 99999999999999999999", {"'max_position_embeddings' is 1e+20"}},
      {"\"rope_theta\": 10000.0", "\"rope_theta\": 1e999", {"rope_theta", "1e999"}},
      {"\"tie_word_embeddings\": false", "\"tie_word_embeddings\": NaN", {"'tie_word_embeddings' is NaN"}},
      {"\"LlamaForCausalLM\"", "NaN", {"architectures"}},
      {"\"pad_token_id\": 5", "\"pad_token_id\": 1e999", {"config.json", "pad_token_id", "1e999"}},
  };
  for (const auto& [from, to, parts] : cases) {
    auto r = to_gguf(with(example_base(), "config.json", from, to));
    expect_error(r, parts, to);
    if (!r.ok()) {
      EXPECT_EQ(r.error().kind, ErrorKind::kBadInput) << to;
    }
  }
  expect_error(lora_merge(with(example_base(), "config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": NaN"),
                          {{example_adapter("lora-code"), 1}}),
               {"config.json", "'tie_word_embeddings' is NaN"});
}

TEST(OddConfig, AnOddNumberOfAnAdapterIsRefusedWhereItIsRead) {
  const std::tuple<const char*, const char*, std::vector<std::string>> cases[] = {
      {"\"r\": 16", "\"r\": 1e999", {"'r' is 1e999"}},
      {"\"r\": 16", "\"r\": 99999999999999999999", {"'r' is 99999999999999999999"}},
      {"\"lora_alpha\": 32", "\"lora_alpha\": NaN", {"'lora_alpha' is NaN", "finite"}},
      {"\"lora_alpha\": 32", "\"lora_alpha\": -1e999", {"'lora_alpha' is -1e999"}},
      {"\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": Infinity}", {"'rank_pattern' of 'q_proj' is Infinity"}},
      {"\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": NaN}", {"'alpha_pattern' of 'q_proj' is NaN"}},
      {"\"layers_to_transform\": null", "\"layers_to_transform\": [1, 1e999]", {"'layers_to_transform' is [1,1e999]"}},
      {"\"layers_to_transform\": null", "\"layers_to_transform\": 18446744073709551615", {"'layers_to_transform' is 18446744073709551615"}},
      {"\"use_rslora\": false", "\"use_rslora\": NaN", {"'use_rslora' is NaN"}},
      {"\"bias\": \"none\"", "\"bias\": Infinity", {"'bias' is Infinity"}},
      {"\"peft_type\": \"LORA\"", "\"peft_type\": NaN", {"peft_type"}},
      {"\"use_dora\": false", "\"use_dora\": NaN", {"'use_dora' is set (NaN)"}},
      {"\"q_proj\",", "\"q_proj\\ud800\",", {"'target_modules' is [\"q_proj\\ud800\""}},
  };
  const Artifact base = example_base();
  for (const auto& [from, to, parts] : cases) {
    auto r = lora_merge(base, {{with(example_adapter("lora-code"), "adapter_config.json", from, to), 1}});
    expect_error(r, parts, to);
    if (!r.ok()) {
      EXPECT_EQ(r.error().kind, ErrorKind::kBadInput) << to;
    }
  }
  // What Python holds and a double, too, is a number.
  auto large = lora_merge(base, {{with(example_adapter("lora-code"), "adapter_config.json", "\"lora_alpha\": 32", "\"lora_alpha\": 99999999999999999999"), 1}});
  EXPECT_TRUE(large.ok()) << large.error().message;
}

}  // namespace
}  // namespace ingot::transform
