// Normalizers of tokenizer.json.
#include "tokenizer/normalizer.h"

#include "tokenizer/text.h"

namespace ingot {
namespace {

using Kind = NormalizerRule::Kind;

// A chain of replacements can grow text without bound: "a" -> "aa", many times.
constexpr size_t kMaxGrowth = 64;
constexpr size_t kMaxRules = 64;

size_t limit_for(size_t size) { return kMaxGrowth * size + (1 << 16); }

std::string strip(std::string_view text, bool left, bool right) {
  if (!left && !right) return std::string(text);
  const char *p = text.data(), *end = p + text.size();
  const char *first = nullptr, *last = p;  // bounds of what is not white space
  while (p < end) {
    const char* at = p;
    if (unicode::is_whitespace(unicode::next_char(p))) continue;
    if (!first) first = at;
    last = p;
  }
  if (!first) return {};
  return std::string(left ? first : text.data(), right ? last : end);
}

}  // namespace

std::string NormalizerRule::describe() const {
  switch (kind) {
    case Kind::kForm: {
      static constexpr const char* kNames[] = {"NFC", "NFD", "NFKC", "NFKD"};
      return kNames[static_cast<int>(form)];
    }
    case Kind::kLowercase:
      return "Lowercase";
    case Kind::kStripAccents:
      return "StripAccents";
    case Kind::kPrepend:
      return "Prepend(" + quoted(content) + ")";
    case Kind::kReplaceString:
    case Kind::kReplaceRegex:
      return "Replace(" + quoted(pattern) + ", " + quoted(content) + ")";
    case Kind::kStrip:
      return "Strip";
  }
  return "?";
}

Result<Normalizer> Normalizer::compile(std::vector<NormalizerRule> rules) {
  if (rules.size() > kMaxRules) {
    return bad_input("normalizer: {} steps found; at most {} are accepted", rules.size(), kMaxRules);
  }
  Normalizer n;
  for (const auto& rule : rules) {
    Regex regex;
    if (rule.kind == Kind::kReplaceRegex) {
      INGOT_ASSIGN(regex, Regex::compile(rule.pattern, false));
    } else if (rule.kind == Kind::kReplaceString && rule.pattern.empty()) {
      return bad_input("normalizer: a Replace with an empty pattern is not supported");
    }
    n.regexes_.push_back(std::move(regex));
  }
  n.rules_ = std::move(rules);
  return n;
}

Result<std::string> Normalizer::apply(std::string_view text, Regex::Workspace& workspace) const {
  std::string now(text);
  const size_t limit = limit_for(text.size());
  for (size_t i = 0; i < rules_.size(); ++i) {
    const NormalizerRule& rule = rules_[i];
    std::string out;
    switch (rule.kind) {
      case Kind::kForm:
        out = unicode::normalize(now, rule.form);
        break;
      case Kind::kLowercase:
        out = unicode::lowercase(now);
        break;
      case Kind::kStripAccents:
        out = unicode::strip_accents(now);
        break;
      case Kind::kStrip:
        out = strip(now, rule.left, rule.right);
        break;
      case Kind::kPrepend:
        out = now.empty() ? now : rule.content + now;
        break;
      case Kind::kReplaceString: {
        size_t from = 0;
        for (size_t at; (at = now.find(rule.pattern, from)) != std::string::npos;
             from = at + rule.pattern.size()) {
          out.append(now, from, at - from);
          out += rule.content;
          if (out.size() > limit) break;
        }
        out.append(now, from);
        break;
      }
      case Kind::kReplaceRegex: {
        Regex::Iterator matches(regexes_[i], now, workspace);
        size_t from = 0, begin = 0, end = 0;
        while (out.size() <= limit && matches.next(&begin, &end)) {
          out.append(now, from, begin - from);
          out += rule.content;
          from = end;
        }
        if (!matches.status().ok()) return std::move(matches.status());
        out.append(now, from);
        break;
      }
    }
    if (out.size() > limit) {
      return bad_input("normalizer: {} makes a text of {} bytes grow past {} bytes", rule.describe(),
                       text.size(), limit);
    }
    now = std::move(out);
  }
  return now;
}

}  // namespace ingot
