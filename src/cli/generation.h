// Text from a model: the prompt tokenized, new tokens generated, shown as whole characters, stop strings held
// back.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "infer/config.h"
#include "infer/generate.h"
#include "tensor/artifact.h"
#include "tokenizer/tokenizer.h"

namespace ingot::cli {

// The tokenizer of a GGUF artifact (its metadata) or of a Hugging Face directory (its files); warns of what is odd about it.
Result<Tokenizer> open_tokenizer(Context& context, const Artifact& artifact);
// The same, its warnings to whom they are given.
Result<Tokenizer> read_tokenizer(const Artifact& artifact, const std::function<void(const std::string&)>& on_warning);

// What running the model needs to know of it, checked before its weights are read.
struct Runnable {
  ModelConfig config;
  int64_t context = 0;  // tokens that a text may have
  std::string limit;    // what limits them to less than the model's context: beyond it the engine would not do what the model does
};
Result<Runnable> runnable(const Artifact& gguf);

// The ids of a text with what the model adds to it (BOS); warns where the text has that already.
Result<std::vector<int32_t>> encode_whole(Context& context, const Tokenizer& tokenizer, const std::string& text);

// The ids of a prompt that fits; kUsage, naming both numbers, for one that does not. `option` is where it came from. `add_special`: with
// what the model adds to a text; a chat template writes that itself.
Result<std::vector<int32_t>> encode_prompt(Context& context, const Tokenizer& tokenizer, const std::string& prompt, const Runnable& model,
                                           const std::string& option, bool add_special = true);

// The weights of a GGUF-shaped artifact in memory, with progress shown; threads and cancellation are the context's.
Result<std::unique_ptr<Model>> load_model(Context& context, const Artifact& artifact, LoadOptions options = {});

struct TextRequest {
  std::string prompt;
  std::vector<int32_t> ids;  // of the prompt
  int64_t context = 0;       // Runnable's
  int64_t max_tokens = 128;
  CacheTypes cache;
  SampleOptions sample;
  std::vector<std::string> stops;
};
struct TextResult {
  std::string text;  // what follows the prompt, up to a stop string
  Generation generation;
  bool stopped_by_string = false;
};
// `show` gets the text in pieces of whole characters as it is made; an error from it ends the generation.
Result<TextResult> generate_text(Context& context, const Model& model, const Tokenizer& tokenizer,
                                 const TextRequest& request,
                                 const std::function<Status(std::string_view)>& show = {});
// The same in a session that goes on (infer/generate.h says what it may hold).
Result<TextResult> generate_text(Context& context, Session& session, const Tokenizer& tokenizer, const TextRequest& request,
                                 const std::function<Status(std::string_view)>& show = {});
SessionOptions session_options(const Context& context, const TextRequest& request);

nlohmann::ordered_json text_json(const TextRequest& request, const TextResult& result);
// "24 tokens, 812 tokens/s (prompt: 5 tokens, 1,900 tokens/s)".
std::string speed_text(const TextResult& r);

// Holds back what may be the beginning of a stop string.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  // What may be shown now.
  std::string add(std::string_view text);
  std::string finish();  // what was held back at the end
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace ingot::cli
