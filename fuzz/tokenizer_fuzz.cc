// Fuzzes a tokenizer's files: whatever loads must encode, decode and describe itself without a crash or a hang. Files are parted by
// zero bytes: tokenizer.json (nothing: a small one that is sound, unless there is a tokenizer.model), then the others in the order below.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "tokenizer/gguf_gaps.h"

namespace {

constexpr std::array kNames = {"tokenizer.json",         "tokenizer_config.json", "special_tokens_map.json",
                               "added_tokens.json",      "config.json",           "generation_config.json",
                               "chat_template.json",     "chat_template.jinja",   "additional_chat_templates/a b.jinja",
                               "tokenizer.model"};
constexpr std::string_view kSound =
    R"({"model":{"vocab":{"a":0,"b":1,"<":2,"/":3,"s":4,">":5,"ab":6},"merges":["a b"]},)"
    R"("added_tokens":[{"id":7,"content":"<s>","special":true}]})";

std::map<std::string, std::string> parted(std::string_view text) {
  std::map<std::string, std::string> files;
  for (const char* name : kNames) {
    const size_t end = name == kNames.back() ? text.size() : std::min(text.find('\0'), text.size());  // the last has zeros of its own
    if (end > 0) files[name] = std::string(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (!files.count(kNames.back())) files.emplace(kNames[0], kSound);
  return files;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto files = parted(text);
  auto tokenizer = ingot::Tokenizer::from_hf(ingot::HfTokenizerFiles::among(files));
  if (!tokenizer.ok()) return 0;
  constexpr std::string_view kSample =
      "Hello, World's 12345  x\u00E9 a\u0301\u4E2D\u6587\n\n  if (a == b) {\t\u0645\u0631 \U0001F600} "
      "<s>aaaaaaaaaaaaaaaaaaaa \xFF";
  for (const std::string_view sample : {kSample, text.substr(0, 256)}) {
    const auto ids = tokenizer->encode(sample, true);
    if (!ids.ok()) continue;
    (void)tokenizer->decode(*ids, true);
    ingot::Tokenizer::Stream stream(*tokenizer, false);
    for (const int32_t id : *ids) (void)stream.next(id);
    (void)stream.finish();
  }
  (void)tokenizer->end_ids();
  if (auto vocab = tokenizer->to_gguf_vocab(); vocab.ok()) (void)ingot::find_gguf_gaps(*tokenizer, *vocab);
  return 0;
}
