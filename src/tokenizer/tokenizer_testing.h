// For tests of the tokenizer: the bundled model's files, small tokenizer.json files made here, and calls that must succeed.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace ingot::testing {

using Ids = std::vector<int32_t>;
using nlohmann::json;

inline std::string slurp(const std::string& path) {
  std::ifstream f(std::string(INGOT_SOURCE_DIR "/") + path, std::ios::binary);
  EXPECT_TRUE(f) << path;
  std::stringstream s;
  s << f.rdbuf();
  return s.str();
}

// The texts of the bundled model; the views of files() point into this.
struct TinyLlama {
  std::string tokenizer = slurp("examples/tiny-llama-base/tokenizer.json");
  std::string tokenizer_config = slurp("examples/tiny-llama-base/tokenizer_config.json");
  std::string config = slurp("examples/tiny-llama-base/config.json");
  std::string chat_template = slurp("examples/tiny-llama-base/chat_template.jinja");
  HfTokenizerFiles files() const { return {tokenizer, tokenizer_config, config, chat_template}; }
};

inline Tokenizer must(Result<Tokenizer> r) {
  EXPECT_TRUE(r.ok()) << (r.ok() ? "" : r.error().message);
  if (!r.ok()) std::exit(1);
  return std::move(r).value();
}

using Files = std::map<std::string, std::string>;
// Of a directory with these files beside tokenizer.json.
inline Tokenizer from_files(const json& tokenizer, Files files = {}) {
  files["tokenizer.json"] = tokenizer.dump();
  return must(Tokenizer::from_hf(HfTokenizerFiles::among(files)));
}

inline Tokenizer from_json(const json& j) { return must(Tokenizer::from_hf({j.dump(), {}, {}, {}})); }
inline std::string load_error(const std::string& text) {
  auto r = Tokenizer::from_hf({text, {}, {}, {}});
  return r.ok() ? "" : r.error().message;
}
inline std::string load_error(const json& j) { return load_error(j.dump()); }

inline Ids encode(const Tokenizer& t, std::string_view text, bool add_special = false, bool parse_special = true) {
  auto ids = t.encode(text, add_special, parse_special);
  EXPECT_TRUE(ids.ok()) << (ids.ok() ? "" : ids.error().message);
  return ids.ok() ? *ids : Ids{};
}

// A byte-level BPE over all bytes (ids 0 to 255) and what `merges` make.
inline json byte_bpe(const std::vector<std::pair<std::string, std::string>>& merges = {}) {
  json vocab = json::object(), list = json::array();
  int id = 0;
  for (int b = 0; b < 256; ++b) {
    std::string s;
    unicode::append_utf8(s, unicode::byte_to_char(static_cast<uint8_t>(b)));
    vocab[s] = id++;
  }
  for (const auto& [a, b] : merges) {
    list.push_back({a, b});
    if (!vocab.contains(a + b)) vocab[a + b] = id++;
  }
  return {{"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}}};
}
inline json added(int id, const std::string& content, json flags = json::object()) {
  json t = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
            {"rstrip", false}, {"normalized", false}, {"special", true}};
  t.update(flags);
  return t;
}
inline json char_bpe(const std::vector<std::string>& tokens) {
  json j = byte_bpe();
  json vocab = json::object();
  int id = 0;
  for (const auto& t : tokens) vocab[t] = id++;
  j["model"]["vocab"] = vocab;
  j["pre_tokenizer"] = nullptr;
  j["decoder"] = nullptr;
  return j;
}

}  // namespace ingot::testing
