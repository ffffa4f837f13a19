// ingot run --chat: a conversation by the model's chat template.
#pragma once

#include <string>

#include "cli/command.h"
#include "cli/generation.h"
#include "tokenizer/jinja.h"

namespace ingot::cli {

class ChatArgs {
 public:
  void declare(Args& args);
  Status check(const Args& args) const;  // that none is given without --chat
  bool chat = false;
  std::string system, chat_template, variables;
};

// The messages so far, and what the model reads of them.
class Chat {
 public:
  // `path` names the model in messages. Fails for a model without a template, and for a template that is not there.
  static Result<Chat> make(const ChatArgs& args, const Tokenizer& tokenizer, const std::string& path, const CancelToken& cancel);
  void add(const char* role, std::string text) { request_.messages.push_back({{"role", role}, {"content", std::move(text)}}); }
  void drop_last() { request_.messages.erase(request_.messages.size() - 1); }
  Result<std::string> text() const { return render_chat(template_, request_); }
  const OrderedJson& messages() const { return request_.messages; }

 private:
  std::string template_;
  ChatRequest request_;
};

// Messages of the user from standard input, one a line, and the model's answers until it ends.
Status converse(Context& context, const Model& model, const Tokenizer& tokenizer, const Runnable& can, Chat chat, TextRequest request,
                const std::string& path);

}  // namespace ingot::cli
