// Fuzzes tokenizer.json: whatever loads must encode, decode and describe itself without a crash or a hang.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tokenizer/gguf_gaps.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ingot::HfTokenizerFiles files;
  files.tokenizer_json = text;
  auto tokenizer = ingot::Tokenizer::from_hf(files);
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
  if (auto vocab = tokenizer->to_gguf_vocab(); vocab.ok()) (void)ingot::find_gguf_gaps(*tokenizer, *vocab);
  return 0;
}
