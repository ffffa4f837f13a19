// generate: the loop from a prompt's ids to new ids. Knows nothing of text: the caller tokenizes and streams.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "infer/sample.h"
#include "infer/session.h"

namespace ingot {

struct GenerateOptions {
  int64_t max_tokens = 128;
  std::vector<int32_t>
      stop_ids;  // end of text, end of turn; such a token ends the text and is not part of it
  SampleOptions sample;
  const CancelToken* cancel = nullptr;
  // Each new token at once; false ends the text after it (a stop string, a closed pipe).
  std::function<bool(int32_t id)> on_token;
};

enum class StopReason { kLength, kStopToken, kCallback, kContext, kCancelled };

struct Generation {
  std::vector<int32_t> ids;
  StopReason reason = StopReason::kLength;
  int64_t prompt_tokens = 0, known_tokens = 0;  // of the prompt, and of those that the session held already
  double prompt_seconds = 0, generate_seconds = 0;  // the latter for all passes after the prompt's
  int64_t generate_passes = 0;
  double prompt_rate() const {
    return prompt_seconds > 0 ? static_cast<double>(prompt_tokens - known_tokens) / prompt_seconds : 0;
  }
  double generate_rate() const {
    return generate_seconds > 0 ? static_cast<double>(generate_passes) / generate_seconds : 0;
  }
};

// Appends the prompt to the session, then new tokens. What the session holds is the beginning of the prompt, but for its last token at
// least. A cancelled run returns what it has, with reason kCancelled.
Result<Generation> generate(Session& session, std::span<const int32_t> prompt,
                            const GenerateOptions& options);

}  // namespace ingot
