#include "cli/chat.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"

namespace ingot::cli {

namespace {

constexpr const char* kNeedChat[] = {"--system", "--chat-template", "--chat-template-kwargs"};

// Lines of standard input, without their ends.
class Lines {
 public:
  // None at its end.
  Result<std::optional<std::string>> next(const CancelToken& cancel) {
    constexpr size_t kMaxLine = 64u << 20;
    for (;;) {
      if (const size_t end = rest_.find('\n'); end != std::string::npos) {
        std::string line = rest_.substr(0, end);
        rest_.erase(0, end + 1);
        if (line.ends_with('\r')) line.pop_back();
        return std::optional(std::move(line));
      }
      if (ended_) return rest_.empty() ? std::nullopt : std::optional(std::exchange(rest_, {}));
      // A wait that a signal just missed must not last for ever.
      pollfd input{STDIN_FILENO, POLLIN, 0};
      while (!cancel.cancelled() && ::poll(&input, 1, 100) <= 0) {
      }
      if (cancel.cancelled()) return Error{ErrorKind::kInterrupted, "interrupted; the conversation is over"};
      char buffer[65536];
      const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failed("reading standard input: {}", std::strerror(errno));
      ended_ = n == 0;
      rest_.append(buffer, static_cast<size_t>(n));
      if (rest_.size() > kMaxLine) return bad_input("a line of standard input has more than {}", format_bytes(kMaxLine));
    }
  }

 private:
  std::string rest_;
  bool ended_ = false;
};

std::string names(const std::map<std::string, std::string>& templates) {
  std::vector<std::string> quoted;
  for (const auto& [name, text] : templates) quoted.push_back(fmt::format("'{}'", printable(name)));
  return join(quoted, ", ");
}

// A template of the model by its name, or a file.
Result<std::string> find_template(const std::string& given, const std::map<std::string, std::string>& templates, const std::string& path,
                                  const CancelToken& cancel) {
  const std::string name = given.empty() ? "default" : given;
  if (const auto it = templates.find(name); it != templates.end()) return it->second;
  if (given.empty() && templates.empty())
    return bad_input("'{}' has no chat template: give one with --chat-template FILE, or leave --chat out to have the model go on from a text", path);
  if (given.empty()) return bad_input("'{}' has no chat template named 'default': choose one with --chat-template, there are {}", path, names(templates));
  auto at = text_path(given);
  if (at.ok()) return read_text_at(*at, size_t{4} << 20, cancel);
  return std::move(at.take_error()).during(fmt::format("--chat-template '{}' is neither a template of the model, which has {}, nor a file of one (llama.cpp's built-in names are not there)", printable(given),
                                                       templates.empty() ? "none" : names(templates)));
}

}  // namespace

void ChatArgs::declare(Args& args) {
  args.section("Chat");
  args.flag("--chat", &chat, "the prompt is a message, in the form that the model's chat template gives it; without --prompt each line of "
                             "standard input is one, and the conversation goes on");
  args.text("--system|--system-prompt", "TEXT", &system, "a system message before the first", true);
  args.text("--chat-template", "NAME|FILE", &chat_template, "another template of the model (tool_use), or a file of Jinja");
  args.text("--chat-template-kwargs", "JSON", &variables, "variables for the template, such as {\"enable_thinking\": false}");
}

Status ChatArgs::check(const Args& args) const {
  for (const char* name : kNeedChat)
    if (!chat && args.has(name)) return usage("{} needs --chat", name);
  return {};
}

Result<Chat> Chat::make(const ChatArgs& args, const Tokenizer& tokenizer, const std::string& path, const CancelToken& cancel) {
  Chat chat;
  INGOT_ASSIGN(chat.template_, find_template(args.chat_template, tokenizer.chat_templates(), path, cancel));
  chat.request_.special_tokens = tokenizer.special_tokens();
  if (!args.variables.empty()) {
    auto variables = parse_json_ordered(args.variables, "");
    if (!variables.ok() || !variables->is_object())
      return usage("--chat-template-kwargs needs an object of JSON, such as {{\"enable_thinking\": false}}, not '{}'", shown(args.variables, 60));
    for (const auto& [name, instead] : {std::pair("messages", "--system, --prompt and standard input say them"),
                                        std::pair("add_generation_prompt", "it is always true here: the model answers")})
      if (variables->contains(name)) return usage("--chat-template-kwargs cannot set '{}': {}", name, instead);
    chat.request_.variables = *std::move(variables);
  }
  if (!args.system.empty()) chat.add("system", args.system);
  return chat;
}

Status converse(Context& c, const Model& model, const Tokenizer& tokenizer, const Runnable& can, Chat chat, TextRequest request,
                const std::string& path) {
  const bool terminal = stdout_is_terminal(), human = !c.report.json();
  const bool invite = terminal && human && ::isatty(STDIN_FILENO);
  const auto safe = [&](std::string_view s) { return terminal ? printable(s, true) : std::string(s); };
  if (invite && !c.report.quiet()) c.report.notice("each line is a message; the end of input (Ctrl-D) ends the conversation");
  Session session(model, session_options(c, request));
  std::vector<int32_t> seen;  // what the session holds
  Lines lines;
  for (;;) {
    if (invite) INGOT_TRY(print("> "));
    INGOT_ASSIGN(std::optional<std::string> line, lines.next(c.cancel));
    if (!line) break;
    if (line->find_first_not_of(" \t") == std::string::npos) continue;
    chat.add("user", std::move(*line));
    INGOT_ASSIGN(request.prompt, chat.text());
    auto ids = encode_prompt(c, tokenizer, request.prompt, can, "--chat", false);
    if (!ids.ok() && ids.error().kind == ErrorKind::kUsage) {
      chat.drop_last();
      c.report.warning("the message is left out: " + ids.error().message);
      continue;
    }
    if (!ids.ok()) return ids.take_error();
    request.ids = std::move(*ids);
    // What both have in common needs no second pass; the last token gives the logits.
    const auto common = std::mismatch(seen.begin(), seen.end(), request.ids.begin(), request.ids.end() - 1).first - seen.begin();
    session.truncate(common);
    INGOT_ASSIGN(const TextResult result, generate_text(c, session, tokenizer, request, [&](std::string_view text) -> Status {
                   if (human) return print(safe(text));
                   c.report.event("text", {{"text", text}});
                   return {};
                 }));
    if (human) INGOT_TRY(print("\n"));
    if (result.generation.reason == StopReason::kCancelled) return Error{ErrorKind::kInterrupted, "interrupted after " + speed_text(result)};
    if (result.generation.reason == StopReason::kContext)
      c.report.warning(fmt::format("the answer ended because the model's {} of {} tokens is full: begin a new conversation",
                                   can.limit.empty() ? "context" : can.limit, can.context));
    if (human && c.report.verbose()) c.report.notice(speed_text(result));
    seen = request.ids;
    seen.insert(seen.end(), result.generation.ids.begin(), result.generation.ids.end());
    seen.resize(static_cast<size_t>(session.position()));
    chat.add("assistant", result.text);
  }
  if (invite) INGOT_TRY(print("\n"));
  if (human) return {};
  return c.report.result({{"model", path}, {"messages", chat.messages()}}, "");
}

}  // namespace ingot::cli
