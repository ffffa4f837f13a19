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

std::string strip(std::string_view text, bool left, bool right, bool* starts) {
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
  if (left && first != text.data()) *starts = false;
  return std::string(left ? first : text.data(), right ? last : end);
}

bool is_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

constexpr char32_t kDropped = ~char32_t{0};

// The characters of `text` as f makes them.
template <class F>
std::string mapped(std::string_view text, bool* starts, F f) {
  std::string out;
  out.reserve(text.size());
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char* from = p;
    const char32_t c = unicode::next_char(p), to = f(c);
    if (to == c) out.append(from, p);
    else if (to != kDropped) unicode::append_utf8(out, to);
    else if (from == text.data()) *starts = false;
  }
  return out;
}

std::string bert(std::string_view text, const NormalizerRule& rule, bool* starts) {
  std::string now(text);
  if (rule.clean)
    now = mapped(now, starts, [](char32_t c) -> char32_t {
      if (c >= 0x20 && c < 0x7F) return c;
      if (c == '\t' || c == '\n' || c == '\r') return ' ';
      if (c == 0 || c == 0xFFFD || unicode::is_other(c)) return kDropped;
      return unicode::is_whitespace(c) ? ' ' : c;
    });
  if (rule.chinese) {
    std::string out;
    out.reserve(now.size() + now.size() / 4);
    for (const char *p = now.data(), *end = p + now.size(); p < end;) {
      const char* from = p;
      const bool apart = is_chinese(unicode::next_char(p));
      if (apart) out += ' ';
      out.append(from, p);
      if (apart) out += ' ';
    }
    now = std::move(out);
  }
  if (rule.strip_accents)
    now = mapped(unicode::normalize(now, unicode::Form::kNFD), starts,
                 [](char32_t c) { return unicode::is_nonspacing_mark(c) ? kDropped : c; });
  return rule.lowercase ? unicode::lowercase(now) : now;
}

std::string nmt(std::string_view text, bool* starts) {
  return mapped(text, starts, [](char32_t c) -> char32_t {
    if ((c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return kDropped;
    if (c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
        c == 0x2581 || c == 0xFEFF || c == 0xFFFD)
      return ' ';
    return c;
  });
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
    case Kind::kBert:
      return "BertNormalizer";
    case Kind::kNmt:
      return "Nmt";
    case Kind::kByteLevel:
      return "ByteLevel";
    case Kind::kPrecompiled:
      return "Precompiled";
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
    }
    n.regexes_.push_back(std::move(regex));
  }
  n.rules_ = std::move(rules);
  return n;
}

Result<std::string> Normalizer::apply(std::string_view text, Regex::Workspace& workspace, bool* starts) const {
  std::string now(text);
  bool unused = true;
  if (!starts) starts = &unused;
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
        if (const char* next = now.data(); !now.empty()) {
          unicode::next_char(next);
          if (unicode::strip_accents({now.data(), static_cast<size_t>(next - now.data())}).empty()) *starts = false;
        }
        break;
      case Kind::kStrip:
        out = strip(now, rule.left, rule.right, starts);
        break;
      case Kind::kBert:
        out = bert(now, rule, starts);
        break;
      case Kind::kNmt:
        out = nmt(now, starts);
        break;
      case Kind::kByteLevel:
        unicode::append_byte_chars(out, now);
        break;
      case Kind::kPrecompiled:
        if (rule.longest) rule.charsmap->apply_longest(now, limit, out);
        else rule.charsmap->apply(now, limit, out);
        break;
      case Kind::kPrepend:
        out = now.empty() || (rule.unless_blank && now.find_first_not_of(' ') == now.npos) ? now : rule.content + now;
        break;
      case Kind::kReplaceString: {
        size_t from = 0;
        for (size_t at; (at = now.find(rule.pattern, from)) != std::string::npos;
             from = at + rule.pattern.size()) {
          out.append(now, from, at - from);
          out += rule.content;
          if (at == 0 && rule.content.empty()) *starts = false;
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
          if (begin == 0 && end > 0 && rule.content.empty()) *starts = false;
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
