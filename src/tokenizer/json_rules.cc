// The normalizer, pre_tokenizer and decoder objects of tokenizer.json.
#include "tokenizer/json_rules.h"

namespace ingot {
namespace {

constexpr int kMaxDepth = 16;

// The "pattern" of Split and Replace: {"String": s}, {"Regex": s}, or a bare string.
struct PatternText {
  std::string text;
  bool regex = false;
};
Result<PatternText> read_pattern(const json::Object& o) {
  const auto e = o.get("pattern");
  if (!e) return bad_input("{}: missing", o.where("pattern"));
  std::string_view bare;
  if (!e->get(bare)) return PatternText{std::string(bare), false};
  INGOT_ASSIGN(const json::Object p, json::Object::read(*e, o.where("pattern")));
  INGOT_ASSIGN(const auto string, p.string("String"));
  INGOT_ASSIGN(const auto regex, p.string("Regex"));
  if (string.has_value() == regex.has_value())
    return bad_input("{}: expected one of String and Regex", p.where());
  return PatternText{std::string(string ? *string : *regex), regex.has_value()};
}

Result<SplitBehavior> read_behavior(const json::Object& o, bool needed) {
  INGOT_ASSIGN(const auto name, o.string("behavior"));
  if (!name && !needed) return SplitBehavior::kIsolated;
  if (!name) return bad_input("{}: missing", o.where("behavior"));
  if (*name == "Isolated") return SplitBehavior::kIsolated;
  if (*name == "Removed") return SplitBehavior::kRemoved;
  if (*name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (*name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (*name == "Contiguous") return SplitBehavior::kContiguous;
  return bad_input(
      "{}: {} found, expected Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous",
      o.where("behavior"), quoted(*name));
}

Error unsupported(const json::Object& o, std::string_view type, const char* known) {
  return bad_input("{}: the type {} is not supported; supported are {}", o.where(), quoted(type), known);
}

// Reads the list of a Sequence.
template <class F>
Status read_sequence(const json::Object& o, std::string_view key, TokenizerParts& parts, int depth, F read) {
  if (depth >= kMaxDepth) return bad_input("{}: sequences nest deeper than {}", o.where(), kMaxDepth);
  if (!o.get(key)) return bad_input("{}: missing", o.where(key));
  INGOT_ASSIGN(const auto list, o.array(key));
  for (const auto& e : list) INGOT_TRY(read(e, parts, depth + 1));
  return {};
}

}  // namespace

Status read_normalizer(json::Element e, TokenizerParts& parts, int depth) {
  if (e.is_null()) return {};
  using Kind = NormalizerRule::Kind;
  INGOT_ASSIGN(const json::Object o, json::Object::read(e, "normalizer"));
  INGOT_ASSIGN(const std::string_view type, o.needed_string("type"));
  if (type == "Sequence") return read_sequence(o, "normalizers", parts, depth, read_normalizer);
  NormalizerRule rule;
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    rule.form = type == "NFC"    ? unicode::Form::kNFC
                : type == "NFD"  ? unicode::Form::kNFD
                : type == "NFKC" ? unicode::Form::kNFKC
                                 : unicode::Form::kNFKD;
  } else if (type == "Lowercase") {
    rule.kind = Kind::kLowercase;
  } else if (type == "StripAccents") {
    rule.kind = Kind::kStripAccents;
  } else if (type == "Strip") {
    rule.kind = Kind::kStrip;
    INGOT_ASSIGN(rule.left, o.boolean("strip_left", true));
    INGOT_ASSIGN(rule.right, o.boolean("strip_right", true));
  } else if (type == "Prepend") {
    rule.kind = Kind::kPrepend;
    INGOT_ASSIGN(rule.content, o.needed_string("prepend"));
  } else if (type == "Replace") {
    INGOT_ASSIGN(PatternText pattern, read_pattern(o));
    rule.kind = pattern.regex ? Kind::kReplaceRegex : Kind::kReplaceString;
    rule.pattern = std::move(pattern.text);
    INGOT_ASSIGN(rule.content, o.needed_string("content"));
  } else {
    return unsupported(o, type,
                       "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, Sequence");
  }
  parts.normalizer.push_back(std::move(rule));
  return {};
}

Status read_pre_tokenizer(json::Element e, TokenizerParts& parts, int depth) {
  if (e.is_null()) return {};
  using Kind = PreTokenizerRule::Kind;
  INGOT_ASSIGN(const json::Object o, json::Object::read(e, "pre_tokenizer"));
  INGOT_ASSIGN(const std::string_view type, o.needed_string("type"));
  if (type == "Sequence") return read_sequence(o, "pretokenizers", parts, depth, read_pre_tokenizer);
  PreTokenizerRule rule;
  if (type == "Split") {
    INGOT_ASSIGN(PatternText pattern, read_pattern(o));
    rule.kind = pattern.regex ? Kind::kSplitRegex : Kind::kSplitString;
    rule.pattern = std::move(pattern.text);
    INGOT_ASSIGN(rule.behavior, read_behavior(o, true));
    INGOT_ASSIGN(rule.invert, o.boolean("invert", false));
  } else if (type == "ByteLevel") {
    rule.kind = Kind::kByteLevel;
    INGOT_ASSIGN(rule.add_prefix_space, o.boolean("add_prefix_space", true));
    INGOT_ASSIGN(rule.use_regex, o.boolean("use_regex", true));
  } else if (type == "Digits") {
    rule.kind = Kind::kDigits;
    INGOT_ASSIGN(rule.individual, o.boolean("individual_digits", false));
  } else if (type == "Punctuation") {
    rule.kind = Kind::kPunctuation;
    INGOT_ASSIGN(rule.behavior, read_behavior(o, false));
  } else if (type == "Whitespace") {
    rule.kind = Kind::kWhitespace;
  } else if (type == "WhitespaceSplit") {
    rule.kind = Kind::kWhitespaceSplit;
  } else {
    return unsupported(o, type,
                       "Split, ByteLevel, Digits, Punctuation, Whitespace, WhitespaceSplit, Sequence");
  }
  parts.pre_tokenizer.push_back(std::move(rule));
  return {};
}

Status read_decoder(json::Element e, TokenizerParts& parts, int depth) {
  if (e.is_null()) return {};
  using Kind = DecoderRule::Kind;
  INGOT_ASSIGN(const json::Object o, json::Object::read(e, "decoder"));
  INGOT_ASSIGN(const std::string_view type, o.needed_string("type"));
  if (type == "Sequence") return read_sequence(o, "decoders", parts, depth, read_decoder);
  DecoderRule rule;
  if (type == "ByteLevel") {
    rule.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    rule.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    rule.kind = Kind::kFuse;
  } else if (type == "Replace") {
    INGOT_ASSIGN(PatternText pattern, read_pattern(o));
    if (pattern.regex) return bad_input("{}: a Replace by a regular expression is not supported", o.where());
    rule.kind = Kind::kReplace;
    rule.pattern = std::move(pattern.text);
    INGOT_ASSIGN(rule.content, o.needed_string("content"));
  } else if (type == "Strip") {
    rule.kind = Kind::kStrip;
    INGOT_ASSIGN(rule.content, o.needed_string("content"));
    for (const char* key : {"start", "stop"}) {
      uint64_t n = 0;
      const auto v = o.get(key);
      if (!v) continue;
      if (v->get(n) || n > 1024) return bad_input("{}: expected a whole number up to 1024", o.where(key));
      (key[2] == 'a' ? rule.start : rule.stop) = static_cast<size_t>(n);
    }
  } else {
    return unsupported(o, type, "ByteLevel, ByteFallback, Fuse, Replace, Strip, Sequence");
  }
  parts.decoder.push_back(std::move(rule));
  return {};
}

}  // namespace ingot
