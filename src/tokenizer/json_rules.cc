// The normalizer, pre_tokenizer and decoder objects of tokenizer.json.
#include "tokenizer/json_rules.h"

#include "tokenizer/base64.h"
#include "tokenizer/unicode.h"

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
  // Nothing is sought as the library seeks it, as a pattern: between all characters.
  std::string_view bare;
  if (!e->get(bare)) return PatternText{std::string(bare), bare.empty()};
  INGOT_ASSIGN(const json::Object p, json::Object::read(*e, o.where("pattern")));
  INGOT_ASSIGN(const auto string, p.string("String"));
  INGOT_ASSIGN(const auto regex, p.string("Regex"));
  if (string.has_value() == regex.has_value())
    return bad_input("{}: expected one of String and Regex", p.where());
  return PatternText{std::string(string ? *string : *regex), regex.has_value() || string->empty()};
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

// The text under `key`, which is one character.
Result<std::string> read_character(const json::Object& o, std::string_view key) {
  INGOT_ASSIGN(const std::string_view text, o.needed_string(key));
  const char* p = text.data();
  if (!text.empty()) unicode::next_char(p);
  if (text.empty() || p != text.data() + text.size()) return bad_input("{}: {} found, expected one character", o.where(key), quoted(text));
  return std::string(text);
}

// The mark of Metaspace and whether it is put before texts; old files say that by add_prefix_space alone.
struct Marks {
  std::string mark;
  PrependScheme prepend = PrependScheme::kAlways;
};
Result<Marks> read_marks(const json::Object& o) {
  Marks m;
  INGOT_ASSIGN(m.mark, read_character(o, "replacement"));
  INGOT_ASSIGN(const auto scheme, o.string("prepend_scheme"));
  if (scheme == "first") m.prepend = PrependScheme::kFirst;
  else if (scheme == "never") m.prepend = PrependScheme::kNever;
  else if (scheme && scheme != "always")
    return bad_input("{}: {} found, expected always, first or never", o.where("prepend_scheme"), quoted(*scheme));
  INGOT_ASSIGN(const bool prefix, o.boolean("add_prefix_space", true));
  if (!prefix && m.prepend != PrependScheme::kNever) {
    if (scheme) return bad_input("{}: false found, but prepend_scheme is {}", o.where("add_prefix_space"), quoted(*scheme));
    m.prepend = PrependScheme::kNever;
  }
  return m;
}

Result<std::string> read_base64(const json::Object& o, std::string_view key) {
  INGOT_ASSIGN(const std::string_view text, o.needed_string(key));
  auto bytes = from_base64(text);
  if (!bytes) return bad_input("{}: it is not base64", o.where(key));
  return std::move(*bytes);
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
  } else if (type == "BertNormalizer") {
    rule.kind = Kind::kBert;
    INGOT_ASSIGN(rule.clean, o.boolean("clean_text", true));
    INGOT_ASSIGN(rule.chinese, o.boolean("handle_chinese_chars", true));
    INGOT_ASSIGN(rule.lowercase, o.boolean("lowercase", true));
    INGOT_ASSIGN(rule.strip_accents, o.boolean("strip_accents", rule.lowercase));
  } else if (type == "Nmt") {
    rule.kind = Kind::kNmt;
  } else if (type == "ByteLevel") {
    rule.kind = Kind::kByteLevel;
  } else if (type == "Precompiled") {
    rule.kind = Kind::kPrecompiled;
    INGOT_ASSIGN(const std::string bytes, read_base64(o, "precompiled_charsmap"));
    INGOT_ASSIGN(Charsmap map, Charsmap::parse(bytes));
    rule.charsmap = std::make_shared<Charsmap>(std::move(map));
  } else {
    return unsupported(o, type,
                       "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, BertNormalizer, Nmt, ByteLevel, "
                       "Precompiled, Sequence");
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
  } else if (type == "Metaspace") {
    rule.kind = Kind::kMetaspace;
    INGOT_ASSIGN(Marks marks, read_marks(o));
    rule.pattern = std::move(marks.mark);
    rule.prepend = marks.prepend;
    INGOT_ASSIGN(rule.split, o.boolean("split", true));
  } else if (type == "BertPreTokenizer") {
    rule.kind = Kind::kBert;
  } else if (type == "CharDelimiterSplit") {
    rule.kind = Kind::kSplitString;
    rule.behavior = SplitBehavior::kRemoved;
    INGOT_ASSIGN(rule.pattern, read_character(o, "delimiter"));
  } else if (type == "FixedLength") {
    rule.kind = Kind::kFixedLength;
    uint64_t length = 5;
    const auto e = o.get("length");
    if (e && e->get(length)) return json::wrong_type(o.where("length"), *e, "a whole number");
    rule.length = static_cast<size_t>(length);
  } else {
    return unsupported(o, type,
                       "Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer, "
                       "CharDelimiterSplit, FixedLength, Sequence");
  }
  parts.pre_tokenizer.push_back(std::move(rule));
  return {};
}

Status read_decoder(json::Element e, TokenizerParts& parts, int depth) {
  if (e.is_null()) return {};
  using Kind = DecoderRule::Kind;
  INGOT_ASSIGN(const json::Object o, json::Object::read(e, "decoder"));
  INGOT_ASSIGN(const std::string_view type, o.needed_string("type"));
  if (type == "Sequence") {
    INGOT_TRY(read_sequence(o, "decoders", parts, depth, read_decoder));
    // Without steps, too, it is a decoder: no spaces come between tokens.
    if (depth == 0 && parts.decoder.empty()) parts.decoder.emplace_back().kind = Kind::kFuse;
    return {};
  }
  DecoderRule rule;
  if (type == "ByteLevel") {
    rule.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    rule.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    rule.kind = Kind::kFuse;
  } else if (type == "Replace") {
    INGOT_ASSIGN(PatternText pattern, read_pattern(o));
    rule.kind = pattern.regex ? Kind::kReplaceRegex : Kind::kReplace;
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
  } else if (type == "WordPiece") {
    rule.kind = Kind::kWordPiece;
    INGOT_ASSIGN(rule.content, o.needed_string("prefix"));
    INGOT_ASSIGN(rule.cleanup, o.boolean("cleanup", true));
  } else if (type == "Metaspace") {
    rule.kind = Kind::kMetaspace;
    INGOT_ASSIGN(Marks marks, read_marks(o));
    rule.content = std::move(marks.mark);
    rule.prepended = marks.prepend != PrependScheme::kNever;
  } else if (type == "BPEDecoder") {
    rule.kind = Kind::kBpe;
    INGOT_ASSIGN(rule.content, o.needed_string("suffix"));
  } else if (type == "CTC") {
    rule.kind = Kind::kCtc;
    INGOT_ASSIGN(rule.pattern, o.needed_string("pad_token"));
    INGOT_ASSIGN(rule.content, o.needed_string("word_delimiter_token"));
    INGOT_ASSIGN(rule.cleanup, o.boolean("cleanup", true));
  } else {
    return unsupported(o, type, "ByteLevel, ByteFallback, Fuse, Replace, Strip, WordPiece, Metaspace, BPEDecoder, CTC, Sequence");
  }
  parts.decoder.push_back(std::move(rule));
  return {};
}

}  // namespace ingot
