#include "tokenizer/gguf_probes.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace ingot {
namespace {

constexpr size_t kMaxTokens = 200, kMaxOverlaps = 100, kMaxTokenBytes = 256, kMaxCuts = 2000;

// Scripts, signs, digits, case, white space, composed and decomposed letters, control characters.
constexpr const char* kTexts[] = {
    "Hello", "Hello World", " Hello  World ", "a  b   c", "\tx\n\n  y \r\n z  ", "\n", "   ", "x                    y\n\n\n\n", "trailing   ",
    "1234567 1.5 12", "1,234 12345th 1st x86", "\u0663\u0664\u0661 \u0968\u0969", "Don't DON'T we'll WE'LL I'd", "o'clock 'tis 'S",
    "e\u0301", "\u00E9", "nai\u0308ve cafe\u0301", "\u00DCn\u00EF \u00C0\u00C9\u00DF \u00F1", "HelloWorld helloWORLD iPhone",
    "\u00E9\u00C9 \u00C9\u00C9ab \u0416\u0416\u0436\u0416", "\u4E2D\u6587\u5B57\u3002\u65E5\u672C\u8A9E\u304B\u306A\u30AB", "\uD55C\uAD6D\uC5B4 \u1112\u1161\u11AB",
    "\U0001F468\u200D\U0001F469\u200D\U0001F467 \U0001F600\U0001F3FD", "\uFB01 \u2460 \u00BD \u216B \u00B2", "\uFF21\uFF42\uFF11", "\u0928\u092E\u0938\u094D\u0924\u0947",
    "\u0645\u0631\u062D\u0628\u0627", "\u05E9\u05B8\u05DC\u05D5\u05B9\u05DD \u0E2A\u0E27\u0E31\u0E2A\u0E14\u0E35", "\u212B \u2126 \u0130 \u0131 \u1E9E \u01C5 \u02B0",
    "a_b-c+d=e(f)[g]{h}", "!!! ... ?!", "\"quotes\" \u201Ccurly\u201D \u2018x\u2019 \u2014 \u2026", "`x` ^ ~ $ < > |", "http://a.b/c?d=e&f#g",
    "//\n/*x*/\n", "\u00A0x\u2003y\u3000z\u2028", "x\u0007\u001B\u007F\u0085", "\u200B\u200E\uFEFF\u00AD", "\u2581Hello\u2581 World", "A\u030A\u0327 q\u0323\u0307"};

bool marked(const AddedToken& t) { return t.lstrip || t.rstrip || t.single_word || t.normalized; }

std::string in_case(std::string text, bool upper) {
  for (char& c : text)
    if (c >= (upper ? 'a' : 'A') && c <= (upper ? 'z' : 'Z')) c = static_cast<char>(c ^ 0x20);
  return text;
}

Status add_tokens(const TokenizerParts& ours, const TokenizerParts& theirs, std::vector<std::string>& out) {
  std::vector<const AddedToken*> tokens;
  for (const auto* list : {&ours.added, &theirs.added})
    for (const AddedToken& t : *list)
      if (t.content.size() <= kMaxTokenBytes) tokens.push_back(&t);
  std::stable_sort(tokens.begin(), tokens.end(), [](auto* a, auto* b) { return marked(*a) > marked(*b); });
  if (tokens.size() > kMaxTokens) tokens.resize(kMaxTokens);
  for (const AddedToken* t : tokens) {
    const std::string& c = t->content;
    const size_t second = std::find_if(c.begin() + 1, c.end(), [](char x) { return (static_cast<uint8_t>(x) & 0xC0) != 0x80; }) - c.begin();
    if (second < c.size()) out.push_back(c.substr(second));
    for (const std::string& text : {c, "a" + c + "b", "a " + c + " b", " " + c + "\n", "\n\n " + c + c + "  ", c + ". " + c, "\u00A0" + c + "\u3000",
                                    in_case(c, true), in_case(c, false)})
      out.push_back(text);
  }
  for (size_t i = 0; i + 1 < tokens.size() && marked(*tokens[i]); ++i)
    for (const char* between : {"", " "}) {
      out.push_back("x " + tokens[i]->content + between + tokens[i + 1]->content + " y");
      out.push_back("x " + tokens[i + 1]->content + between + tokens[i]->content + " y");
    }

  // A token that is sought in normalized text is found by what it is normalized to, too.
  INGOT_ASSIGN(const Normalizer normalizer, Normalizer::compile(ours.normalizer));
  const auto workspace = Regex::new_workspace();
  for (const AddedToken* t : tokens)
    if (t->normalized && !normalizer.empty()) {
      INGOT_ASSIGN(const std::string text, normalizer.apply(t->content, *workspace));
      if (text != t->content) out.push_back(text), out.push_back("a " + text + " b");
    }

  // One that begins where another has not ended.
  std::vector<std::string_view> sorted;
  for (const AddedToken* t : tokens) sorted.push_back(t->content);
  std::sort(sorted.begin(), sorted.end());
  size_t overlaps = 0;
  for (const std::string_view left : sorted)
    for (size_t at = 1; at < left.size(); ++at) {
      const std::string_view tail = left.substr(at);
      for (auto it = std::lower_bound(sorted.begin(), sorted.end(), tail); it != sorted.end() && it->starts_with(tail); ++it)
        if (it->size() > tail.size() && overlaps++ < kMaxOverlaps) out.push_back(std::string(left.substr(0, at)) + std::string(*it));
    }
  return {};
}

// A character with each byte that has no token.
void add_unknown_bytes(const Vocabulary& vocabulary, std::vector<std::string>& out) {
  for (int b = 0; b < 256; ++b) {
    std::string spelled, text;
    unicode::append_utf8(spelled, unicode::byte_to_char(static_cast<uint8_t>(b)));
    if (vocabulary.find(spelled) >= 0) continue;
    const auto c = static_cast<char32_t>(b);
    if (b < 0xC0) unicode::append_utf8(text, c);  // to 0x7F itself, then what follows 0xC2
    else if (b < 0xE0) unicode::append_utf8(text, (c & 0x1F) << 6);
    else if (b < 0xF0) unicode::append_utf8(text, b == 0xE0 ? 0x0905 : (c & 0x0F) << 12 | 0x123);
    else unicode::append_utf8(text, b == 0xF0 ? 0x1F600 : (c & 0x07) << 18 | 0x123);
    if (!unicode::is_valid_utf8(text)) continue;
    out.push_back(text);
    out.push_back("x" + text + text + "y");
  }
}

// The pieces of a text, one after the other.
class Cuts : public PieceSink {
 public:
  static Result<std::string> of(const PreTokenizer& rules, const std::string& text, Regex::Workspace& workspace) {
    Cuts cuts;
    INGOT_TRY(rules.split(text, workspace, cuts));
    return std::move(cuts.out_);
  }
  void piece(std::string_view text, bool) override { out_.append(text) += '\0'; }

 private:
  std::string out_;
};

// Where --pre-tokenizer names other rules: pieces of the vocabulary, alone and beside others, that the two cut differently.
Status add_cuts(const TokenizerParts& ours, const TokenizerParts& theirs, std::vector<std::string>& out) {
  INGOT_ASSIGN(const PreTokenizer a, PreTokenizer::compile(ours.pre_tokenizer));
  INGOT_ASSIGN(const PreTokenizer b, PreTokenizer::compile(theirs.pre_tokenizer));
  const auto workspace = Regex::new_workspace();
  const size_t end = out.size() + kMaxCuts;
  std::string bytes;
  for (int32_t id = 0; id < ours.vocabulary->end_id() && out.size() < end; ++id) {
    if (!unicode::byte_chars_to_bytes(ours.vocabulary->text(id), bytes) || !unicode::is_valid_utf8(bytes)) continue;
    for (const std::string& text : {bytes, bytes + "0", bytes + "a", "0" + bytes, "a" + bytes}) {
      INGOT_ASSIGN(const std::string x, Cuts::of(a, text, *workspace));
      INGOT_ASSIGN(const std::string y, Cuts::of(b, text, *workspace));
      if (x != y) out.push_back(text);
    }
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> gguf_probes(const TokenizerParts& ours, const TokenizerParts& theirs) {
  std::vector<std::string> out(std::begin(kTexts), std::end(kTexts));
  out.push_back(std::string(120, 'a') + " b");
  INGOT_TRY(add_tokens(ours, theirs, out));
  for (const NormalizerRule& r : ours.normalizer)
    for (const std::string& part : {r.pattern, r.content})
      if (!part.empty()) out.push_back(part), out.push_back("a" + part + part + "b " + part);
  if (!ours.bpe || !ours.bpe->options().byte_level) return out;
  if (ours.bpe->options().ignore_merges != theirs.bpe->options().ignore_merges) {
    const Bpe& bpe = *ours.bpe;
    std::vector<bool> skip(static_cast<size_t>(ours.vocabulary->end_id()), false);
    for (const AddedToken& t : ours.added)
      if (static_cast<size_t>(t.id) < skip.size()) skip[static_cast<size_t>(t.id)] = true;
    std::string bytes;
    for (const int32_t id : bpe.beyond_merges(skip, kMaxTokens))
      if (unicode::byte_chars_to_bytes(ours.vocabulary->text(id), bytes)) out.push_back(bytes);
  }
  if (!ours.pre_name.empty()) INGOT_TRY(add_cuts(ours, theirs, out));
  add_unknown_bytes(*ours.vocabulary, out);
  return out;
}

}  // namespace ingot
