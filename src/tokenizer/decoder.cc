// Decoders of tokenizer.json.
#include "tokenizer/decoder.h"

#include <algorithm>
#include <utility>

#include "tokenizer/byte_tokens.h"
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

void replace(std::string& s, std::string_view pattern, std::string_view content) {
  size_t at = s.find(pattern), from = 0;
  if (at == std::string::npos) return;
  std::string out;
  for (; at != std::string::npos; at = s.find(pattern, from)) {
    out.append(s, from, at - from);
    out += content;
    from = at + pattern.size();
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

// Where the pattern fails (Regex) the text stays as it is.
void replace_matches(std::string& s, const Regex& regex, const std::string& content) {
  const auto workspace = Regex::new_workspace();
  Regex::Iterator matches(regex, s, *workspace);
  std::string out;
  size_t from = 0, begin = 0, end = 0;
  while (matches.next(&begin, &end)) {
    out.append(s, from, begin - from) += content;
    from = end;
  }
  if (matches.status().ok()) s = out.append(s, from);
}

void clean_up(std::string& s) {
  for (const auto& [from, to] : {std::pair(" .", "."), {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"},
                                 {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}})
    replace(s, from, to);
}

void word_piece(std::string& s, const DecoderRule& rule, bool first) {
  if (!first) {
    if (s.starts_with(rule.content)) s.erase(0, rule.content.size());
    else s.insert(s.begin(), ' ');
  }
  if (rule.cleanup) clean_up(s);
}

void ctc(std::string& s, const DecoderRule& rule) {
  replace(s, rule.pattern, "");
  if (!rule.cleanup) return;
  clean_up(s);
  replace(s, rule.content, " ");
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
    if (const int b = token_byte(t); b >= 0) {
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
    if (r.kind == Kind::kStrip && r.content.empty())
      return bad_input("decoder: a Strip of nothing is not supported");
    if ((r.kind == Kind::kBpe && r.content.empty()) || (r.kind == Kind::kCtc && (r.pattern.empty() || r.content.empty())))
      return bad_input("decoder: a BPEDecoder or CTC without the texts that it replaces is not supported");
    Regex regex;
    if (r.kind == Kind::kReplaceRegex) {
      INGOT_ASSIGN(regex, Regex::compile(r.pattern, false));
    }
    d.regexes_.push_back(std::move(regex));
  }
  d.rules_ = std::move(rules);
  return d;
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  for (size_t r = 0; r < rules_.size(); ++r) {
    const DecoderRule& rule = rules_[r];
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
        for (auto& t : tokens) replace(t, rule.pattern, rule.content);
        break;
      case Kind::kReplaceRegex:
        for (auto& t : tokens) replace_matches(t, regexes_[r], rule.content);
        break;
      case Kind::kStrip:
        for (auto& t : tokens) strip(t, rule);
        break;
      case Kind::kWordPiece:
        for (size_t i = 0; i < tokens.size(); ++i) word_piece(tokens[i], rule, i == 0);
        break;
      case Kind::kMetaspace:
        for (size_t i = 0; i < tokens.size(); ++i) replace(tokens[i], rule.content, i == 0 && rule.prepended ? "" : " ");
        break;
      case Kind::kBpe:
        for (size_t i = 0; i < tokens.size(); ++i) replace(tokens[i], rule.content, i + 1 == tokens.size() ? "" : " ");
        break;
      case Kind::kCtc:
        tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
        for (auto& t : tokens) ctc(t, rule);
        std::erase(tokens, "");
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
  for (size_t i = 0; i < rules_.size(); ++i) {
    const DecoderRule& rule = rules_[i];
    switch (rule.kind) {
      case Kind::kByteLevel:
        s = bytes_of(s), fused = true;
        break;
      case Kind::kByteFallback:
        if (const int b = token_byte(s); b >= 0) s.assign(1, static_cast<char>(b));
        break;
      case Kind::kFuse:
        fused = true;
        break;
      case Kind::kReplace:
        replace(s, rule.pattern, rule.content);
        break;
      case Kind::kReplaceRegex:
        replace_matches(s, regexes_[i], rule.content);
        break;
      case Kind::kWordPiece:
        word_piece(s, rule, first);
        break;
      case Kind::kMetaspace:
        replace(s, rule.content, first && rule.prepended ? "" : " ");
        break;
      case Kind::kBpe:  // a stream does not know its end, nor (the next) what stood before
        replace(s, rule.content, " ");
        break;
      case Kind::kCtc:
        ctc(s, rule);
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
