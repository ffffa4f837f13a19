// Text from a model.
#include "cli/generation.h"

#include "cli/text.h"
#include "formats/json.h"
#include "model/architecture.h"
#include "storage/store.h"
#include "transform/gguf_vocab.h"

namespace ingot::cli {

namespace {

Result<Tokenizer> from_gguf_metadata(const Artifact& a) {
  INGOT_ASSIGN(const GgufVocab v, transform::gguf_vocab(a));
  auto tokenizer = Tokenizer::from_gguf(v);
  if (!tokenizer.ok()) return tokenizer.take_error().during(fmt::format("the tokenizer of '{}'", a.path));
  return tokenizer;
}

const char* stop_reason(const TextResult& r) {
  if (r.stopped_by_string) return "stop_string";
  switch (r.generation.reason) {
    case StopReason::kLength:
      return "length";
    case StopReason::kStopToken:
      return "end_of_text";
    case StopReason::kCallback:
      return "stopped";
    case StopReason::kContext:
      return "context_full";
    case StopReason::kCancelled:
      return "cancelled";
  }
  return "";
}

}  // namespace

Result<Tokenizer> read_tokenizer(const Artifact& a, const std::function<void(const std::string&)>& on_warning) {
  if (a.naming == "gguf" || a.meta("tokenizer.ggml.model")) return from_gguf_metadata(a);
  return transform::hf_tokenizer(a.files, a.path, on_warning);
}

Result<Tokenizer> open_tokenizer(Context& c, const Artifact& a) {
  return read_tokenizer(a, [&c](const std::string& text) { c.report.warning(text); });
}

Result<Runnable> runnable(const Artifact& gguf) {
  Runnable r;
  auto config = read_model_config(gguf);
  if (!config.ok()) return std::move(config.take_error()).during(fmt::format("'{}' cannot be run", gguf.path));
  r.config = *config;
  r.context = r.config.usable;
  r.limit = r.config.limit;
  return r;
}

Result<std::vector<int32_t>> encode_whole(Context& c, const Tokenizer& tokenizer, const std::string& text) {
  INGOT_ASSIGN(std::vector<int32_t> ids, tokenizer.encode(text, true));
  const auto bos = tokenizer.bos();
  if (!bos || ids.size() < 2 || ids[0] != *bos || ids[1] != *bos) return ids;
  INGOT_ASSIGN(const std::vector<int32_t> around, tokenizer.encode("", true));
  if (!around.empty() && around[0] == *bos) {
    const std::string piece = printable(tokenizer.token_piece(*bos));
    c.report.warning(fmt::format("the text begins with {0}, and the model's tokenizer puts one before it: there are two now; leave {0} out", piece));
  }
  return ids;
}

Result<std::vector<int32_t>> encode_prompt(Context& c, const Tokenizer& tokenizer, const std::string& prompt, const Runnable& model,
                                           const std::string& option, bool add_special) {
  INGOT_ASSIGN(std::vector<int32_t> ids, add_special ? encode_whole(c, tokenizer, prompt) : tokenizer.encode(prompt, false));
  if (ids.empty()) {
    // A model without a BOS token has nothing to begin from.
    if (!tokenizer.bos()) return usage("{}: the prompt is empty, and this model has no token to begin a text with", option);
    ids.push_back(*tokenizer.bos());
  }
  if (static_cast<int64_t>(ids.size()) <= model.context) return ids;
  if (!model.limit.empty())
    return usage("{}: the prompt has {} tokens, but the model's {} is {}, and ingot cannot go beyond that yet; give a shorter one",
                 option, ids.size(), model.limit, model.context);
  return usage("{}: the prompt has {} tokens, the context is {}; give a shorter one", option, ids.size(), model.context);
}

Result<std::unique_ptr<Model>> load_model(Context& c, const Artifact& artifact, LoadOptions options) {
  options.threads = static_cast<int>(c.args.common.threads);
  options.cancel = &c.cancel;
  options.on_progress = [&](uint64_t done, uint64_t total) {
    Progress p;
    p.phase = Phase::kLoad;
    p.done = done;
    p.total = total;
    c.report.progress(p);
  };
  c.report.begin_progress("loading");
  auto model = Model::load(artifact, options);
  c.report.end_progress();
  // There is nothing here that a second run could go on with.
  if (!model.ok() && model.error().kind == ErrorKind::kInterrupted)
    return Error{ErrorKind::kInterrupted, fmt::format("interrupted while loading '{}'", artifact.path)};
  return model;
}

SessionOptions session_options(const Context& c, const TextRequest& request) {
  SessionOptions options;
  options.context = request.context;
  options.cancel = &c.cancel;
  options.cache = request.cache;
  return options;
}

Result<TextResult> generate_text(Context& c, const Model& model, const Tokenizer& tokenizer,
                                 const TextRequest& request,
                                 const std::function<Status(std::string_view)>& show) {
  SessionOptions options = session_options(c, request);
  // Angles that change beyond the original context go by the length that the text may come to.
  const int64_t original = model.config().longrope, most = static_cast<int64_t>(request.ids.size()) + request.max_tokens;
  if (original > 0 && most <= original) options.context = options.context > 0 ? std::min(options.context, original) : original;
  Session session(model, options);
  return generate_text(c, session, tokenizer, request, show);
}

Result<TextResult> generate_text(Context& c, Session& session, const Tokenizer& tokenizer, const TextRequest& request,
                                 const std::function<Status(std::string_view)>& show) {
  // The stream has seen the prompt, so that a leading space of the first new token is kept.
  Tokenizer::Stream stream(tokenizer, true);
  for (const int32_t id : request.ids) (void)stream.next(id);
  StopFilter filter(request.stops);
  TextResult result;
  Status shown;
  const auto emit = [&](const std::string& text) {
    result.text += text;
    if (!text.empty() && show && shown.ok()) shown = show(text);
  };
  GenerateOptions options;
  options.max_tokens = request.max_tokens;
  options.stop_ids = tokenizer.end_ids();
  options.sample = request.sample;
  options.cancel = &c.cancel;
  options.on_token = [&](int32_t id) {
    emit(filter.add(stream.next(id)));
    return shown.ok() && !filter.stopped();
  };
  auto generation = generate(session, request.ids, options);
  if (!generation.ok()) return generation.take_error();
  if (!filter.stopped()) emit(filter.add(stream.finish()));
  emit(filter.finish());
  INGOT_TRY(std::move(shown));
  result.generation = std::move(*generation);
  result.stopped_by_string = filter.stopped();
  return result;
}

nlohmann::ordered_json text_json(const TextRequest& request, const TextResult& r) {
  const Generation& g = r.generation;
  return {{"prompt", request.prompt},
          {"text", r.text},
          {"ids", g.ids},
          {"stop", stop_reason(r)},
          {"prompt_tokens", g.prompt_tokens},
          {"tokens", g.ids.size()},
          {"prompt_tokens_per_second", g.prompt_rate()},
          {"tokens_per_second", g.generate_rate()}};
}

std::string speed_text(const TextResult& r) {
  const Generation& g = r.generation;
  const auto rate = [](double x) {
    return x >= 100 ? format_count(static_cast<uint64_t>(x)) : fmt::format("{:.1f}", x);
  };
  return fmt::format("{} tokens, {} tokens/s (prompt: {} tokens, {} tokens/s)", g.ids.size(),
                     rate(g.generate_rate()), g.prompt_tokens, rate(g.prompt_rate()));
}

}  // namespace ingot::cli
