// Decoders of tokenizer.json.
#include "tokenizer/decoder.h"

#include <cctype>

#include "tokenizer/unicode.h"

namespace ingot {
namespace {

using Kind = DecoderRule::Kind;

std::string bytes_of(std::string_view token) {
  std::string bytes;
  // A token with a character outside the alphabet stands for itself.
  if (!unicode::byte_chars_to_bytes(token, bytes)) bytes.assign(token);
  return bytes;
}

// The byte of a token <0xXX>, or -1.
int fallback_byte(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  int v = 0;
  for (const char c : token.substr(3, 2)) {
    if (!std::isxdigit(static_cast<uint8_t>(c))) return -1;
    v = v * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  return v;
}

void replace(std::string& s, const DecoderRule& rule) {
  size_t at = s.find(rule.pattern), from = 0;
  if (at == std::string::npos) return;
  std::string out;
  for (; at != std::string::npos; at = s.find(rule.pattern, from)) {
    out.append(s, from, at - from);
    out += rule.content;
    from = at + rule.pattern.size();
  }
  out.append(s, from);
  s = std::move(out);
}

void strip(std::string& s, const DecoderRule& rule) {
  const std::string& c = rule.content;
  size_t begin = 0, end = s.size();
  for (size_t i = 0; i < rule.start && s.compare(begin, c.size(), c) == 0 && begin < end; ++i)
    begin += c.size();
  for (size_t i = 0; i < rule.stop && end >= begin + c.size() && s.compare(end - c.size(), c.size(), c) == 0;
       ++i) {
    end -= c.size();
  }
  s = s.substr(begin, end - begin);
}

void byte_fallback(std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (unicode::is_valid_utf8(bytes)) {
      out.push_back(bytes);
    } else {
      for (size_t i = 0; i < bytes.size(); ++i) out.push_back("\xEF\xBF\xBD");
    }
    bytes.clear();
  };
  for (auto& t : tokens) {
    if (const int b = fallback_byte(t); b >= 0) {
      bytes += static_cast<char>(b);
    } else {
      flush();
      out.push_back(std::move(t));
    }
  }
  flush();
  tokens = std::move(out);
}

}  // namespace

Result<Decoder> Decoder::make(std::vector<DecoderRule> rules) {
  constexpr size_t kMaxRules = 64;
  if (rules.size() > kMaxRules)
    return bad_input("decoder: {} steps found; at most {} are accepted", rules.size(), kMaxRules);
  Decoder d;
  for (const auto& r : rules) {
    if (r.kind == Kind::kByteLevel) d.byte_level_ = true;
    if (r.kind == Kind::kReplace && r.pattern.empty())
      return bad_input("decoder: a Replace with an empty pattern is not supported");
    if (r.kind == Kind::kStrip && r.content.empty())
      return bad_input("decoder: a Strip of nothing is not supported");
  }
  d.rules_ = std::move(rules);
  return d;
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  for (const auto& rule : rules_) {
    switch (rule.kind) {
      case Kind::kByteLevel: {
        std::string all;
        for (const auto& t : tokens) all += bytes_of(t);
        tokens = {std::move(all)};
        break;
      }
      case Kind::kByteFallback:
        byte_fallback(tokens);
        break;
      case Kind::kFuse: {
        std::string all;
        for (const auto& t : tokens) all += t;
        tokens = {std::move(all)};
        break;
      }
      case Kind::kReplace:
        for (auto& t : tokens) replace(t, rule);
        break;
      case Kind::kStrip:
        for (auto& t : tokens) strip(t, rule);
        break;
    }
  }
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (rules_.empty() && i > 0) out += ' ';
    out += tokens[i];
  }
  return out;
}

std::string Decoder::piece(std::string_view token, bool first) const {
  std::string s;
  if (rules_.empty() && !first) s += ' ';
  s += token;
  bool fused = false;
  for (const auto& rule : rules_) {
    switch (rule.kind) {
      case Kind::kByteLevel:
        s = bytes_of(s), fused = true;
        break;
      case Kind::kByteFallback:
        if (const int b = fallback_byte(s); b >= 0) s.assign(1, static_cast<char>(b));
        break;
      case Kind::kFuse:
        fused = true;
        break;
      case Kind::kReplace:
        replace(s, rule);
        break;
      case Kind::kStrip: {
        DecoderRule r = rule;
        // Once all is one text only its ends are stripped, and a stream does not know its end.
        if (fused && !first) r.start = 0;
        if (fused) r.stop = 0;
        strip(s, r);
        break;
      }
    }
  }
  return s;
}

}  // namespace ingot
