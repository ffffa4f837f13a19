#include "tokenizer/jinja_parser.h"

#include <algorithm>
#include <initializer_list>

#include "tokenizer/jinja_expressions.h"
#include "tokenizer/text.h"

namespace ingot::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;
using StatementPtr = std::unique_ptr<Statement>;

std::string tags(Names words) {
  std::string out;
  for (const std::string_view w : words) out += (out.empty() ? "'{% " : " or '{% ") + std::string(w) + " %}'";
  return out;
}

class Parser : ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Result<Block> run() {
    INGOT_ASSIGN(Block block, body({}, false, false, 1));
    if (!unknown_.empty()) return unknown_[0];
    return block;
  }

 private:
  StatementPtr make(Tag tag) const {
    auto s = std::make_unique<Statement>();
    s->tag = tag;
    s->line = now().line;
    return s;
  }

  // Statements up to the name of a tag among `ends`, at which it stops. `soft`: an unknown filter in it fails only once it is reached.
  Result<Block> body(Names ends, bool loop, bool soft, int opened) {
    const bool loop_before = std::exchange(loop_, loop), soft_before = std::exchange(soft_, soft);
    ++depth_;
    auto block = depth_ > kMaxDepth ? Result<Block>(fail(fmt::format("statements are nested deeper than {} levels", kMaxDepth))) : statements(ends, opened);
    --depth_;
    loop_ = loop_before;
    soft_ = soft_before;
    return block;
  }

  Result<Block> statements(Names ends, int opened) {
    Block block;
    for (;;) {
      auto s = make(Tag::kText);
      switch (now().type) {
        case Token::kEnd:
          if (ends.size() > 0) return fail(fmt::format("the template ends without {}, for what line {} began", tags(ends), opened));
          return block;
        case Token::kData:
          s->text = tokens_[at_++].text;
          break;
        case Token::kPrintBegin: {
          ++at_;
          s->tag = Tag::kPrint;
          INGOT_TRY(add_value(s, tuple(true, {})));
          INGOT_TRY(expect_end(Token::kPrintEnd));
          break;
        }
        case Token::kBlockBegin: {
          ++at_;
          if (now().type == Token::kName && std::find(ends.begin(), ends.end(), now().text) != ends.end()) return block;
          INGOT_ASSIGN(s, statement(ends));
          INGOT_TRY(expect_end(Token::kBlockEnd));
          break;
        }
        default:
          return unexpected("a statement");
      }
      block.push_back(std::move(s));
    }
  }

  static Status add_value(const StatementPtr& s, Result<ExpressionPtr> e) {
    if (!e.ok()) return e.take_error();
    s->values.push_back(std::move(*e));
    return {};
  }

  // From the end of a tag to the tag that ends its body, whose name is taken.
  Status add_body(const StatementPtr& s, Names ends, bool loop, bool soft, std::string* end = nullptr) {
    (void)take_op(":");
    INGOT_TRY(expect_end(Token::kBlockEnd));
    INGOT_ASSIGN(Block block, body(ends, loop, soft, s->line));
    s->bodies.push_back(std::move(block));
    if (end) *end = now().text;
    ++at_;
    return {};
  }

  Result<StatementPtr> statement(Names ends) {
    if (now().type != Token::kName) return unexpected("the name of a statement");
    const std::string word = now().text;
    auto s = make(Tag::kPrint);
    ++at_;
    if (word == "if") return if_statement(std::move(s));
    if (word == "for") return for_statement(std::move(s));
    if (word == "set") return set_statement(std::move(s));
    if (word == "macro" || word == "call") return macro_statement(std::move(s), word == "call");
    if (word == "with") return with_statement(std::move(s));
    if (word == "filter") {
      s->tag = Tag::kFilterBlock;
      const bool soft = std::exchange(soft_, false);
      INGOT_TRY(add_value(s, filters(nullptr, true)));
      soft_ = soft;
      INGOT_TRY(add_body(s, {"endfilter"}, loop_, false));
      return s;
    }
    if (word == "generation") {
      s->tag = Tag::kGeneration;
      INGOT_TRY(add_body(s, {"endgeneration"}, false, false));
      return s;
    }
    if (word == "block") return block_statement(std::move(s));
    if (word == "autoescape") {
      s->tag = Tag::kAutoescape;
      INGOT_TRY(add_value(s, expression()));
      INGOT_TRY(add_body(s, {"endautoescape"}, loop_, false));
      return s;
    }
    if (word == "print") {
      while (now().type != Token::kBlockEnd) {
        if (!s->values.empty()) INGOT_TRY(expect_op(","));
        INGOT_TRY(add_value(s, expression()));
      }
      return s;
    }
    if (word == "break" || word == "continue") {
      if (!loop_) return template_error(s->line, fmt::format("'{{% {} %}}' outside of a loop", word));
      s->tag = word == "break" ? Tag::kBreak : Tag::kContinue;
      return s;
    }
    for (const std::string_view other : {"extends", "include", "import", "from"})
      if (word == other) return template_error(s->line, fmt::format("'{{% {} %}}' is not supported: a chat template is one text", word));
    return template_error(s->line, fmt::format("unknown statement {}{}", quoted(std::string_view(word)), ends.size() > 0 ? "; looking for " + tags(ends) : ""));
  }

  Result<StatementPtr> block_statement(StatementPtr s) {
    s->tag = Tag::kBlock;
    INGOT_ASSIGN(s->text, expect_name("the name of the block"));
    if (std::find(blocks_.begin(), blocks_.end(), s->text) != blocks_.end()) return template_error(s->line, fmt::format("the block '{}' is there twice", s->text));
    blocks_.push_back(s->text);
    s->scoped = take_name("scoped");
    s->required = take_name("required");
    INGOT_TRY(add_body(s, {"endblock"}, false, false));
    (void)take_name(s->text);
    return s;
  }

  Result<StatementPtr> if_statement(StatementPtr s) {
    s->tag = Tag::kIf;
    const bool soft = std::exchange(soft_, true);
    for (std::string end = "elif"; end != "endif";) {
      s->has_else = end == "else";
      if (!s->has_else) INGOT_TRY(add_value(s, tuple(false, {})));
      if (s->has_else) INGOT_TRY(add_body(s, {"endif"}, loop_, true, &end));
      else INGOT_TRY(add_body(s, {"elif", "else", "endif"}, loop_, true, &end));
    }
    soft_ = soft;
    return s;
  }

  Result<StatementPtr> for_statement(StatementPtr s) {
    s->tag = Tag::kFor;
    INGOT_ASSIGN(Target target, targets(false, "in"));
    if (names(target, "loop")) return template_error(s->line, "a loop cannot assign to 'loop'");
    s->targets.push_back(std::move(target));
    if (!take_name("in")) return unexpected("'in'");
    INGOT_TRY(add_value(s, tuple(false, "recursive")));
    if (take_name("if")) {
      const bool soft = std::exchange(soft_, false);
      INGOT_TRY(add_value(s, expression()));
      soft_ = soft;
    }
    s->recursive = take_name("recursive");
    std::string end;
    INGOT_TRY(add_body(s, {"endfor", "else"}, true, false, &end));
    if (end == "else") {
      s->has_else = true;
      INGOT_TRY(add_body(s, {"endfor"}, loop_, false));
    }
    return s;
  }

  static bool names(const Target& target, std::string_view name) {
    return target.name == name || std::any_of(target.parts.begin(), target.parts.end(), [&](const Target& t) { return names(t, name); });
  }

  Result<StatementPtr> set_statement(StatementPtr s) {
    INGOT_ASSIGN(Target target, targets(true, {}));
    s->targets.push_back(std::move(target));
    if (take_op("=")) {
      s->tag = Tag::kSet;
      INGOT_TRY(add_value(s, tuple(true, {})));
      return s;
    }
    s->tag = Tag::kSetBlock;
    const bool soft = std::exchange(soft_, false);
    if (is_op("|")) INGOT_TRY(add_value(s, filters(nullptr, false)));
    soft_ = soft;
    INGOT_TRY(add_body(s, {"endset"}, loop_, false));
    return s;
  }

  Result<StatementPtr> with_statement(StatementPtr s) {
    s->tag = Tag::kWith;
    while (now().type != Token::kBlockEnd) {
      if (!s->targets.empty()) INGOT_TRY(expect_op(","));
      INGOT_ASSIGN(Target target, targets(false, {}));
      s->targets.push_back(std::move(target));
      INGOT_TRY(expect_op("="));
      INGOT_TRY(add_value(s, expression()));
    }
    INGOT_TRY(add_body(s, {"endwith"}, loop_, false));
    return s;
  }

  Result<StatementPtr> macro_statement(StatementPtr s, bool call) {
    s->tag = call ? Tag::kCallBlock : Tag::kMacro;
    if (!call) {
      INGOT_ASSIGN(s->text, expect_name("the name of the macro"));
    }
    if (!call || is_op("(")) {
      INGOT_TRY(expect_op("("));
      while (!is_op(")")) {
        if (!s->parameters.empty()) INGOT_TRY(expect_op(","));
        INGOT_ASSIGN(std::string name, expect_name("the name of a parameter"));
        s->parameters.push_back(std::move(name));
        if (take_op("=")) {
          INGOT_ASSIGN(ExpressionPtr e, expression());
          s->defaults.push_back(std::move(e));
        } else if (!s->defaults.empty()) {
          return unexpected("'=': the parameter before has a default");
        }
      }
      ++at_;
    }
    if (call) {
      INGOT_TRY(add_value(s, expression()));
      if (s->values[0]->op != Op::kCall) return template_error(s->line, "'{% call %}' needs a call");
    }
    const size_t before = loads_.size();
    INGOT_TRY(add_body(s, {call ? "endcall" : "endmacro"}, false, false));
    const auto uses = [&](std::string_view name) {
      return std::find(loads_.begin() + static_cast<ptrdiff_t>(before), loads_.end(), name) != loads_.end();
    };
    const auto parameter = [&](std::string_view name) { return std::find(s->parameters.begin(), s->parameters.end(), name) != s->parameters.end(); };
    s->uses_caller = uses("caller") && !parameter("caller");
    s->uses_kwargs = uses("kwargs") && !parameter("kwargs");
    s->uses_varargs = uses("varargs") && !parameter("varargs");
    return s;
  }

  // Names, with their dots where `attributes`, up to what cannot go on one or to the name `end`.
  Result<Target> targets(bool attributes, std::string_view end) {
    Target all;
    all.line = now().line;
    for (;;) {
      if (!all.parts.empty() && !take_op(",")) break;
      all.tuple = all.tuple || !all.parts.empty();
      if (now().type == Token::kBlockEnd || is_op(")") || is_op("=") || (!end.empty() && is_name(end))) break;
      Target one;
      one.line = now().line;
      if (take_op("(")) {
        if (++depth_ > kMaxDepth) return fail("targets are nested too deep");
        INGOT_ASSIGN(one, targets(attributes, {}));
        --depth_;
        one.tuple = true;
        INGOT_TRY(expect_op(")"));
      } else {
        INGOT_ASSIGN(one.name, expect_name("a name to assign to"));
        if (constant_of(one.name).given()) return template_error(one.line, fmt::format("'{}' cannot be assigned to", one.name));
        if (attributes && take_op(".")) {
          INGOT_ASSIGN(one.attribute, expect_name("an attribute"));
        }
      }
      all.parts.push_back(std::move(one));
    }
    if (all.parts.empty()) return unexpected("a name to assign to");
    if (!all.tuple) {
      Target only = std::move(all.parts[0]);
      return only;
    }
    return all;
  }

  bool loop_ = false;  // in the body of a loop
  std::vector<std::string> blocks_;
};

}  // namespace

Result<Block> parse_template(std::string_view source, Budget& budget) {
  INGOT_ASSIGN(std::vector<Token> tokens, cut_template(source));
  return Parser(std::move(tokens), budget).run();
}

}  // namespace ingot::jinja
