// ingot run: generates text, greedy by default, streamed.
#include "cli/chat.h"
#include "cli/command.h"
#include "cli/generation.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "cli/type_names.h"

namespace ingot::cli {

namespace {

Result<CacheType> cache_type(const char* option, const std::string& given) {
  if (given.empty()) return CacheType::kF32;
  INGOT_ASSIGN(const DType type, read_element_type(option, given));
  if (type == DType::kF32) return CacheType::kF32;
  if (type == DType::kF16) return CacheType::kF16;
  if (type == DType::kQ8_0) return CacheType::kQ8_0;
  return usage("{} {}: the cache is of f32, f16 or q8_0", option, given);
}

}  // namespace

Status command_run(Context& c) {
  std::string path, pre_tokenizer, file;
  AdapterArgs adapter_args;
  ChatArgs chat_args;
  TextRequest request;
  std::string key_type, value_type;
  int64_t top_k = 0;
  double temperature = 0, top_p = 1, min_p = 0, repeat_penalty = 1;
  c.args.usage("run MODEL [--adapter DIR [--weight W]]... --prompt TEXT [-n N]");
  c.args.usage("run MODEL --chat [--system TEXT] [--prompt TEXT]");
  c.args.detail(
      "The text streams to standard output as it is made; on a terminal the prompt is shown before it. The "
      "most "
      "likely token is always taken unless --temperature is given.");
  c.args.positional("MODEL|-m,--model,--base", &path, "a GGUF file, a Hugging Face directory, an adapter's (its base is the one that it names), or a name like org/model");
  c.args.section("Options");
  c.args.text("-p,--prompt", "TEXT", &request.prompt, "the text to go on from, as it stands (no escapes)", true);
  c.args.text("-f,--file", "FILE", &file, "read the prompt from a file, without the newline at its end; - is standard input");
  c.args.integer("-n,--n-predict|--predict", "N", &request.max_tokens, -2, INT32_MAX,
                 "at most so many tokens (default 128; -1, and the default with --chat: until the text ends or the context is full)");
  adapter_args.declare(c.args);
  c.args.list("--stop|--reverse-prompt,-r", "TEXT", &request.stops, "end before this text; may be repeated");
  chat_args.declare(c.args);
  c.args.text("--cache-type-k|-ctk", "T", &key_type, "keys of the tokens so far in f32 (default), f16 or q8_0: half of the memory, or a quarter");
  c.args.text("--cache-type-v|-ctv", "T", &value_type, "values alike");
  c.args.section("Sampling");
  c.args.real("--temperature|--temp", "T", &temperature, 0, 100,
              "0 (default): always the most likely token; higher: more variety");
  c.args.integer("--top-k", "K", &top_k, 0, INT32_MAX, "of the K most likely tokens (0, default: of all)");
  c.args.real("--top-p", "P", &top_p, 0, 1,
              "of the fewest tokens that reach probability P (1, default: all)");
  c.args.real("--min-p", "P", &min_p, 0, 1,
              "of tokens at least P times as likely as the best (0, default: all)");
  c.args.real("--repeat-penalty", "X", &repeat_penalty, 1e-3, 1e3,
              "make the last 64 tokens less likely (1, default: not)");
  c.args.example("ingot run model.gguf --prompt 'def main(' -n 24");
  c.args.example("ingot run base/ --adapter lora/ -p 'Once upon' --temperature 0.8 --top-p 0.95 --seed 7");
  c.args.example("ingot run model.gguf --chat --system 'You are terse.'");
  c.args.unused({"--dry-run", "--memory", "--force", "--no-resume",
                 "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"});
  c.args.too_many("a text is --prompt TEXT, an adapter --adapter DIR");
  for (const char* name : {"--jinja", "--mlock", "--no-mmap", "--no-warmup", "--no-display-prompt", "--log-disable", "--no-perf", "--simple-io", "--color"})
    c.args.ignored(name);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_TRY(chat_args.check(c.args));
  INGOT_ASSIGN(const std::vector<AdapterArgument> adapters, adapter_args.read(c.args));
  if (c.args.has("--prompt") && c.args.has("--file")) return usage("'ingot run' takes --prompt or --file, not both");
  const bool prompted = c.args.has("--prompt") || c.args.has("--file");
  if (!prompted && !chat_args.chat)
    return usage("'ingot run' needs a text to go on from: --prompt TEXT or --file FILE (- is standard input), or --chat for a conversation");
  if (c.args.has("--file")) {
    INGOT_ASSIGN(request.prompt, read_text_input(file, c.cancel));
    if (request.prompt.ends_with('\n')) request.prompt.pop_back();  // editors put it there, as llama.cpp's tools know
  }
  INGOT_ASSIGN(request.cache.keys, cache_type("--cache-type-k", key_type));
  INGOT_ASSIGN(request.cache.values, cache_type("--cache-type-v", value_type));
  for (const std::string& stop : request.stops)
    if (stop.empty()) return usage("--stop: an empty text would stop at once");
  request.sample = {static_cast<float>(temperature),
                    top_k,
                    static_cast<float>(top_p),
                    static_cast<float>(min_p),
                    static_cast<float>(repeat_penalty),
                    64,
                    static_cast<uint64_t>(c.args.common.seed)};
  INGOT_TRY(check_sample_options(request.sample));
  if (temperature == 0) {
    for (const char* name : {"--top-k", "--top-p", "--min-p"})
      if (c.args.has(name)) c.report.warning(fmt::format("{} changes nothing without --temperature", name));
  }

  INGOT_ASSIGN(const OpenedModel opened, open_with_adapters(c, path, adapters, Given::kBaseOfAdapter));
  if (!opened.assumed.empty()) c.report.notice("assumed: " + opened.assumed);
  INGOT_ASSIGN(const Tokenizer tokenizer, open_tokenizer(c, opened.base));
  INGOT_ASSIGN(const Artifact gguf, as_gguf_weights(c, opened.artifact));
  INGOT_TRY(go_on(c));
  INGOT_ASSIGN(const Runnable can, runnable(gguf));
  request.context = can.context;
  if (request.max_tokens < 0 || (chat_args.chat && !c.args.has("--n-predict"))) request.max_tokens = can.context;
  if (chat_args.chat) {
    INGOT_ASSIGN(Chat chat, Chat::make(chat_args, tokenizer, opened.path, c.cancel));
    if (!prompted) {
      INGOT_ASSIGN(const std::unique_ptr<Model> model, load_model(c, gguf));
      return converse(c, *model, tokenizer, can, std::move(chat), request, opened.path);
    }
    chat.add("user", request.prompt);
    INGOT_ASSIGN(request.prompt, chat.text());
  }
  INGOT_ASSIGN(request.ids, encode_prompt(c, tokenizer, request.prompt, can, c.args.has("--file") ? "--file " + file : "--prompt", !chat_args.chat));
  INGOT_ASSIGN(const std::unique_ptr<Model> model, load_model(c, gguf));

  const bool terminal = stdout_is_terminal();
  const auto safe = [&](std::string_view s) { return terminal ? printable(s, true) : std::string(s); };
  if (terminal && !chat_args.chat && !c.report.json() && !c.report.quiet()) {
    const bool colour = want_colour();
    INGOT_TRY(print((colour ? "\x1b[1m" : "") + safe(request.prompt) + (colour ? "\x1b[0m" : "")));
  }
  const auto result = generate_text(c, *model, tokenizer, request, [&](std::string_view text) -> Status {
    if (c.report.json()) {
      c.report.event("text", {{"text", text}});
      return {};
    }
    return print(safe(text));
  });
  if (!result.ok()) return Status(result.error());
  if (!c.report.json()) INGOT_TRY(print("\n"));
  if (result->generation.reason == StopReason::kCancelled)
    return Error{ErrorKind::kInterrupted, "interrupted after " + speed_text(*result)};
  if (result->generation.reason == StopReason::kContext)
    c.report.warning(fmt::format("the text ended because the model's {} of {} tokens is full",
                                 can.limit.empty() ? "context" : can.limit, can.context));
  if (!c.report.json()) {
    if (!c.report.quiet() && (c.report.verbose() || (terminal && stderr_is_terminal())))
      c.report.notice(speed_text(*result));
    return {};
  }
  OrderedJson j = {{"model", opened.path}};
  j.update(text_json(request, *result));
  return c.report.result(j, "");
}

}  // namespace ingot::cli
