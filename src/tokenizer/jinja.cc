#include "tokenizer/jinja.h"

#include "tokenizer/jinja_eval.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

using namespace jinja;

constexpr size_t kMaxTemplate = size_t{4} << 20;

std::string valid(std::string_view text) { return unicode::is_valid_utf8(text) ? std::string(text) : unicode::replace_invalid_utf8(text); }

Result<Value> value_of(Budget& b, const OrderedJson& j, int depth = 0) {
  if (depth > kMaxNesting) return bad_input("the conversation is nested deeper than {} levels", kMaxNesting);
  INGOT_TRY(b.spend());
  if (const auto odd = json_odd(j)) return bad_input("{} is no number or text that a template can be given", odd->substr(0, 60));
  switch (j.type()) {
    case OrderedJson::value_t::boolean:
      return Value(j.get<bool>());
    case OrderedJson::value_t::number_integer:
      return Value(j.get<int64_t>());
    case OrderedJson::value_t::number_unsigned:
      if (j.get<uint64_t>() > INT64_MAX) return bad_input("the number {} needs more than 64 bits", j.get<uint64_t>());
      return Value(static_cast<int64_t>(j.get<uint64_t>()));
    case OrderedJson::value_t::number_float:
      return Value(j.get<double>());
    case OrderedJson::value_t::string:
      return make_text(b, valid(j.get_ref<const std::string&>()));
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      for (const OrderedJson& item : j) {
        INGOT_ASSIGN(Value v, value_of(b, item, depth + 1));
        items.push_back(std::move(v));
      }
      return make_sequence(b, Flavor::kList, std::move(items));
    }
    case OrderedJson::value_t::object: {
      auto dict = std::make_shared<Dict>(b);
      for (const auto& [key, item] : j.items()) {
        INGOT_ASSIGN(Value v, value_of(b, item, depth + 1));
        INGOT_TRY(dict->set(make_text(b, valid(key)), std::move(v)));
      }
      return Value(Kind::kDict, std::move(dict));
    }
    default:
      return Value::none();
  }
}

// The first is the name of today; templates read the others, too.
constexpr const char* kReasoning[] = {"reasoning_content", "thinking", "reasoning"};

OrderedJson normalized(const OrderedJson& message) {
  OrderedJson plain = OrderedJson::object(), reasoning;
  for (const auto& [key, value] : message.items())
    if (!value.is_null()) plain[key] = value;
  for (const char* name : kReasoning)
    if (reasoning.is_null() && plain.contains(name)) reasoning = plain[name];
  if (reasoning.is_null()) return plain;
  OrderedJson out = {{"thinking", reasoning}};
  out.update(plain);
  out["reasoning_content"] = reasoning;
  return out;
}

}  // namespace

Result<std::string> render_jinja(std::string_view text, const OrderedJson& variables, const std::optional<std::tm>& now, const JinjaLimits& limits) {
  if (text.size() > kMaxTemplate) return bad_input("it has {} bytes; at most {} are accepted", text.size(), kMaxTemplate);
  Budget budget;
  budget.max_bytes = limits.bytes;
  budget.max_steps = limits.steps;
  INGOT_ASSIGN(const Block block, parse_template(valid(text), budget));
  INGOT_ASSIGN(Value given, value_of(budget, variables));
  Evaluator evaluator(budget, std::move(given), now);
  auto out = evaluator.run(block);
  if (!out.ok()) return out.take_error().during(fmt::format("line {}", evaluator.line()));
  return out;
}

Result<std::string> render_chat(const std::string& chat_template, const ChatRequest& request) {
  if (!request.messages.is_array() || request.messages.empty()) return bad_input("a conversation needs at least one message");
  OrderedJson variables = OrderedJson::object();
  for (const auto& [name, text] : request.special_tokens) variables[name] = text;
  variables.update(request.variables);
  OrderedJson& messages = variables["messages"] = OrderedJson::array();
  for (const OrderedJson& message : request.messages) {
    if (!message.is_object()) return bad_input("message {} of the conversation is no object", messages.size());
    messages.push_back(normalized(message));
  }
  // As in transformers they are always there, as None where nobody gives any.
  if (!request.tools.is_null() || !variables.contains("tools")) variables["tools"] = request.tools;
  if (!request.documents.is_null() || !variables.contains("documents")) variables["documents"] = request.documents;
  variables["add_generation_prompt"] = request.add_generation_prompt;
  auto out = render_jinja(chat_template, variables, request.now, request.limits);
  if (!out.ok()) return out.take_error().during("the chat template");
  return out;
}

}  // namespace ingot
