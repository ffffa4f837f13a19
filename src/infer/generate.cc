// The generation loop.
#include "infer/generate.h"

#include <algorithm>
#include <chrono>

namespace ingot {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<Generation> generate(Session& session, std::span<const int32_t> prompt,
                            const GenerateOptions& options) {
  INGOT_TRY(check_sample_options(options.sample));
  if (options.max_tokens < 0) return usage("the number of tokens to generate is {}", options.max_tokens);
  Generation g;
  g.prompt_tokens = static_cast<int64_t>(prompt.size());
  std::vector<int32_t> history(prompt.begin(), prompt.end());
  Sampler sampler(options.sample);

  double start = now();
  g.known_tokens = session.position();
  auto logits = session.forward(prompt.subspan(static_cast<size_t>(g.known_tokens)));
  g.prompt_seconds = now() - start;
  start = now();
  for (;;) {
    if (!logits.ok()) {
      if (logits.error().kind != ErrorKind::kInterrupted) return logits.take_error();
      g.reason = StopReason::kCancelled;
      break;
    }
    if (static_cast<int64_t>(g.ids.size()) >= options.max_tokens) break;
    if (options.cancel && options.cancel->cancelled()) {
      g.reason = StopReason::kCancelled;
      break;
    }
    const int32_t id = sampler.next(*logits, history);
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end()) {
      g.reason = StopReason::kStopToken;
      break;
    }
    g.ids.push_back(id);
    history.push_back(id);
    if (options.on_token && !options.on_token(id)) {
      g.reason = StopReason::kCallback;
      break;
    }
    if (static_cast<int64_t>(g.ids.size()) >= options.max_tokens)
      break;  // the last token needs no pass of its own
    if (session.position() >= session.context()) {
      g.reason = StopReason::kContext;
      break;
    }
    logits = session.forward(std::span<const int32_t>(&id, 1));
    ++g.generate_passes;
  }
  g.generate_seconds = now() - start;
  return g;
}

}  // namespace ingot
