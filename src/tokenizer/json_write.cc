#include "tokenizer/json_write.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>

#include "formats/json.h"
#include "tokenizer/base64.h"
#include "tokenizer/byte_tokens.h"
#include "tokenizer/parts.h"
#include "tokenizer/spm.h"
#include "tokenizer/text.h"

namespace ingot {
namespace {

constexpr char kMark[] = "\u2581";
constexpr std::string_view kGoingOn = "##";

OrderedJson byte_level(bool trim, bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", trim}, {"use_regex", use_regex}};
}
OrderedJson replaced(const char* kind, const char* pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", content}};
}
// One step alone, or several in a row; null for none.
OrderedJson in_sequence(const char* list, std::vector<OrderedJson> steps) {
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return steps[0];
  return {{"type", "Sequence"}, {list, steps}};
}

// Of the kinds that pretokenizers.def has.
OrderedJson pre_tokenizer(const PreTokenizerRules& rules) {
  using Kind = PreTokenizerRule::Kind;
  constexpr const char* kBehaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  std::vector<OrderedJson> steps;
  for (const PreTokenizerRule& r : rules) {
    const char* behavior = kBehaviors[static_cast<int>(r.behavior)];
    if (r.kind == Kind::kByteLevel) steps.push_back(byte_level(true, r.use_regex));
    else if (r.kind == Kind::kDigits) steps.push_back({{"type", "Digits"}, {"individual_digits", r.individual}});
    else if (r.kind == Kind::kPunctuation) steps.push_back({{"type", "Punctuation"}, {"behavior", behavior}});
    else steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", r.pattern}}}, {"behavior", behavior}, {"invert", r.invert}});
  }
  return in_sequence("pretokenizers", std::move(steps));
}

// An object as json_text() would write it, whose last members are made apart: they are too many to be values of a Json.
class Text {
 public:
  explicit Text(std::string begin) : out_(std::move(begin)) {}
  void member(const char* name, const OrderedJson& value) { key(name), out_ += value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }
  void list(const char* name, char open, const std::vector<std::string>& entries) {
    key(name), out_ += open;
    for (const std::string& e : entries) out_ += "\n      ", out_ += e, out_ += ',';
    if (!entries.empty()) out_.back() = '\n', out_ += "    ";
    out_ += open == '[' ? ']' : '}';
  }
  std::string end(const char* close) { return std::move(out_) + close; }

 private:
  void key(const char* name) {
    out_ += fmt::format("{}\n    \"{}\": ", first_ ? "" : ",", name);
    first_ = false;
  }
  std::string out_;
  bool first_ = true;
};

class Writer {
 public:
  Writer(const GgufVocab& v, const TokenizerParts& parts) : v_(v), parts_(parts) {}

  HfTokenizer run(int64_t context) {
    if (v_.model == "gpt2") make_bpe();
    else if (v_.model == "llama") make_spm();
    else if (v_.model == "bert") make_word_piece();
    else make_unigram();
    HfTokenizer out;
    out.files["tokenizer.json"] = tokenizer_json();
    out.files["tokenizer_config.json"] = json_text(tokenizer_config(context));
    out.notices = std::move(notices_);
    return out;
  }

 private:
  TokenType type(size_t id) const { return v_.token_types.empty() ? TokenType::kNormal : static_cast<TokenType>(v_.token_types[id]); }
  // Rows of the embedding that no token has: "[PAD7]", as the converter calls them.
  bool is_padding(size_t id) const { return type(id) == TokenType::kUnused && v_.tokens[id] == fmt::format("[PAD{}]", id); }
  bool is_added(size_t id) const { return type(id) == TokenType::kControl || type(id) == TokenType::kUserDefined || type(id) == TokenType::kUnknown; }
  const std::string& text(int32_t id) const { return v_.tokens[static_cast<size_t>(id)]; }

  void make_bpe() {
    const NamedPreTokenizer& pre = *original_pre_tokenizer(v_.pre);
    model_ = {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}, {"continuing_subword_prefix", nullptr}, {"end_of_word_suffix", nullptr},
              {"fuse_unk", false}, {"byte_fallback", false}, {"ignore_merges", pre.ignore_merges}};
    pre_tokenizer_ = pre_tokenizer(pre.rules);
    decoder_ = byte_level(true, true);
    after_.push_back(byte_level(false, true));
    if (v_.pre.empty() || v_.pre == "default")
      notices_.push_back("it names no rules for cutting texts (tokenizer.ggml.pre): those that llama.cpp takes then were taken, which may not be the model's");
    if (pre.name == "qwen2" && v_.pre != "deepseek-r1-qwen") {
      normalizer_ = {{"type", "NFC"}};
      notices_.push_back("GGUF has no normalizers: NFC was taken, as Qwen's tokenizers have it");
    }
    for (size_t i = 0; i < v_.tokens.size(); ++i)
      if (!is_padding(i)) vocab_.push_back(fmt::format("{}: {}", json_quote(v_.tokens[i]), i));
    for (const std::string& m : v_.merges) merges_.push_back(json_quote(m));
  }

  // As transformers makes a fast tokenizer of a SentencePiece file: every two pieces that are one together merge, in the order of its score.
  void make_spm() {
    const bool bytes = has_bytes();
    std::unordered_map<std::string_view, int32_t> ids;
    for (size_t i = 0; i < v_.tokens.size(); ++i) {
      if (is_padding(i)) continue;
      vocab_.push_back(fmt::format("{}: {}", json_quote(v_.tokens[i]), i));
      if (type(i) != TokenType::kControl && type(i) != TokenType::kUnknown && type(i) != TokenType::kByte) ids.emplace(v_.tokens[i], static_cast<int32_t>(i));
    }
    struct Merge {
      float score;
      size_t left_size, right_size;  // in characters
      std::string_view left, right;
    };
    std::vector<Merge> merges;
    const auto characters = [](std::string_view s) { return static_cast<size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; })); };
    for (size_t i = 0; i < v_.tokens.size(); ++i) {
      if (!ids.count(v_.tokens[i])) continue;
      const size_t before = merges.size();
      for_each_split(v_.tokens[i], [&](std::string_view left, std::string_view right) {
        if (ids.count(left) && ids.count(right)) merges.push_back({v_.scores.empty() ? 0 : v_.scores[i], characters(left), characters(right), left, right});
      });
      // Of characters that are no tokens: merges make none of it, and llama.cpp's do.
      if (merges.size() == before && characters(v_.tokens[i]) > 1 && has_loose_character(v_.tokens[i], ids)) unmerged_.push_back(i);
    }
    std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
      return std::tie(a.score, a.left_size, a.right_size) > std::tie(b.score, b.left_size, b.right_size);
    });
    for (const Merge& m : merges) merges_.push_back(fmt::format("[{}, {}]", json_quote(m.left), json_quote(m.right)));
    model_ = {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", parts_.special.unk ? OrderedJson(text(*parts_.special.unk)) : OrderedJson()},
              {"continuing_subword_prefix", nullptr}, {"end_of_word_suffix", nullptr}, {"fuse_unk", true}, {"byte_fallback", bytes}, {"ignore_merges", false}};
    const bool prefix = v_.add_space_prefix.value_or(true);
    std::vector<OrderedJson> before = mapped(), behind;
    if (prefix) before.push_back({{"type", "Prepend"}, {"prepend", kMark}});
    before.push_back(replaced("String", " ", kMark));
    normalizer_ = in_sequence("normalizers", std::move(before));
    behind = {replaced("String", kMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
    if (prefix) behind.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    decoder_ = in_sequence("decoders", std::move(behind));
  }

  static bool has_loose_character(std::string_view text, const std::unordered_map<std::string_view, int32_t>& ids) {
    for (size_t i = 0, n = 1; i < text.size(); i += n) {
      for (n = 1; i + n < text.size() && (text[i + n] & 0xC0) == 0x80;) ++n;
      if (!ids.count(text.substr(i, n))) return true;
    }
    return false;
  }

  void make_word_piece() {
    for (size_t i = 0; i < v_.tokens.size(); ++i) {
      if (is_padding(i)) continue;
      std::string t = v_.tokens[i];
      if (t.starts_with(kMark)) t.erase(0, std::string_view(kMark).size());
      else if (!is_added(i) && !parts_special(i)) t.insert(0, kGoingOn);
      vocab_.push_back(fmt::format("{}: {}", json_quote(t), i));
    }
    model_ = {{"type", "WordPiece"}, {"unk_token", text(*parts_.special.unk)}, {"continuing_subword_prefix", kGoingOn}, {"max_input_chars_per_word", 100}};
    const bool lowercase = v_.lowercase.value_or(true);
    normalizer_ = {{"type", "BertNormalizer"}, {"clean_text", true}, {"handle_chinese_chars", true}, {"strip_accents", v_.strip_accents.value_or(lowercase)}, {"lowercase", lowercase}};
    pre_tokenizer_ = {{"type", "BertPreTokenizer"}};
    decoder_ = {{"type", "WordPiece"}, {"prefix", kGoingOn}, {"cleanup", true}};
  }
  // Files of older converters give the roles of BERT no type of their own.
  bool parts_special(size_t id) const {
    const SpecialIds& s = parts_.special;
    for (const auto& role : {s.bos, s.unk, s.sep, s.pad, s.mask})
      if (role && static_cast<size_t>(*role) == id) return true;
    return false;
  }

  void make_unigram() {
    const bool bytes = has_bytes();
    for (size_t i = 0; i < v_.tokens.size(); ++i)
      vocab_.push_back(fmt::format("[{}, {}]", json_quote(v_.tokens[i]), OrderedJson(v_.scores.empty() ? 0.0 : static_cast<double>(v_.scores[i])).dump()));
    model_ = {{"type", "Unigram"}, {"unk_id", parts_.special.unk ? OrderedJson(*parts_.special.unk) : OrderedJson()}, {"byte_fallback", bytes}};
    const bool merge = v_.remove_extra_whitespaces.value_or(false), prefix = merge || v_.add_space_prefix.value_or(false);
    std::vector<OrderedJson> before = mapped();
    if (prefix) {  // llama.cpp puts one before the first character that is no space, where Metaspace puts none if the text begins with one
      before.push_back(replaced("String", " ", kMark));
      before.push_back(replaced("Regex", "\\A\u2581(?=\u2581*[^\u2581])", "\u2581\u2581"));
    }
    normalizer_ = in_sequence("normalizers", std::move(before));
    // Pieces may have marks within: the text is not cut.
    pre_tokenizer_ = {{"type", "Metaspace"}, {"replacement", kMark}, {"prepend_scheme", prefix ? "always" : "never"}, {"split", false}};
    std::vector<OrderedJson> behind;
    if (bytes) behind.push_back({{"type", "ByteFallback"}});
    behind.push_back(pre_tokenizer_);
    decoder_ = in_sequence("decoders", std::move(behind));
  }

  bool has_bytes() const {
    return std::count_if(v_.tokens.begin(), v_.tokens.end(), [](const std::string& t) { return token_byte(t) >= 0; }) >= 256;
  }

  // What of a text becomes other characters before anything else; llama.cpp does so of Unigram models alone.
  std::vector<OrderedJson> mapped() const {
    std::vector<OrderedJson> out;
    if (!v_.charsmap.empty()) out.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(v_.charsmap)}});
    if (v_.remove_extra_whitespaces.value_or(false)) {
      out.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
      out.push_back(replaced("Regex", " {2,}", " "));
    }
    return out;
  }

  // What stands around a text, and around two.
  OrderedJson post_processor() {
    if (!parts_.prefix.empty() || !parts_.suffix.empty()) {
      OrderedJson single = OrderedJson::array(), pair = OrderedJson::array(), tokens = OrderedJson::object();
      const auto put = [&](OrderedJson* to, const std::vector<int32_t>& ids, int sequence) {
        for (const int32_t id : ids) {
          to->push_back({{"SpecialToken", {{"id", text(id)}, {"type_id", sequence}}}});
          tokens[text(id)] = {{"id", text(id)}, {"ids", {id}}, {"tokens", {text(id)}}};
        }
      };
      const auto sequence = [&](OrderedJson* to, const char* name, int n) { to->push_back({{"Sequence", {{"id", name}, {"type_id", n}}}}); };
      put(&single, parts_.prefix, 0), sequence(&single, "A", 0), put(&single, parts_.suffix, 0);
      pair = single;
      if (v_.model != "bert") put(&pair, parts_.prefix, 1);
      sequence(&pair, "B", 1), put(&pair, parts_.suffix, 1);
      after_.push_back({{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}});
    }
    return in_sequence("processors", after_);
  }

  std::string tokenizer_json() {
    const bool unigram = v_.model == "t5";
    std::vector<std::string> added;
    for (size_t i = 0; i < v_.tokens.size(); ++i) {
      const bool unmerged = std::binary_search(unmerged_.begin(), unmerged_.end(), i);
      if ((!is_added(i) && !unmerged) || v_.tokens[i].empty()) continue;
      const auto it = std::lower_bound(parts_.added.begin(), parts_.added.end(), i, [](const AddedToken& t, size_t id) { return static_cast<size_t>(t.id) < id; });
      const bool known = it != parts_.added.end() && static_cast<size_t>(it->id) == i;
      added.push_back(fmt::format("{{\"id\": {}, \"content\": {}, \"single_word\": false, \"lstrip\": {}, \"rstrip\": {}, \"normalized\": false, \"special\": {}}}", i,
                                  json_quote(v_.tokens[i]), known && it->lstrip, known && it->rstrip, type(i) != TokenType::kUserDefined && !unmerged));
    }
    Text model("{");
    for (const auto& [name, value] : model_.items()) model.member(name.c_str(), value);
    model.list("vocab", unigram ? '[' : '{', vocab_);
    if (v_.model == "gpt2" || v_.model == "llama") model.list("merges", '[', merges_);
    Text all("{");
    all.member("version", "1.0"), all.member("truncation", nullptr), all.member("padding", nullptr);
    all.list("added_tokens", '[', added);
    all.member("normalizer", normalizer_), all.member("pre_tokenizer", pre_tokenizer_), all.member("post_processor", post_processor());
    all.member("decoder", decoder_);
    return all.end(",\n    \"model\": ") + model.end("\n    }\n}\n");
  }

  OrderedJson tokenizer_config(int64_t context) const {
    OrderedJson j = OrderedJson::object();
    const bool spm = v_.model == "llama";
    if (v_.add_bos || v_.model == "gpt2" || spm) j["add_bos_token"] = v_.add_bos.value_or(!parts_.prefix.empty());
    if (v_.add_eos || spm) j["add_eos_token"] = v_.add_eos.value_or(false);
    if (v_.add_space_prefix) j["add_prefix_space"] = *v_.add_space_prefix;
    const SpecialIds& s = parts_.special;
    for (const auto& [name, id] : {std::pair("bos_token", s.bos), {"cls_token", v_.model == "bert" ? s.bos : std::nullopt}, {"eos_token", s.eos}, {"mask_token", s.mask},
                                   {"pad_token", s.pad}, {"sep_token", s.sep}, {"unk_token", s.unk}})
      if (id) j[name] = text(*id);
    if (!v_.chat_templates.empty()) {
      OrderedJson& list = j["chat_template"] = OrderedJson::array();
      if (v_.chat_template) list.push_back({{"name", "default"}, {"template", *v_.chat_template}});
      for (const auto& [name, text] : v_.chat_templates)
        if (name != "default" || !v_.chat_template) list.push_back({{"name", name}, {"template", text}});
    } else if (v_.chat_template) {
      j["chat_template"] = *v_.chat_template;
    }
    j["clean_up_tokenization_spaces"] = false;
    if (context > 0) j["model_max_length"] = context;
    j["tokenizer_class"] = "PreTrainedTokenizerFast";  // which does as tokenizer.json says, in every version of transformers
    return j;
  }

  const GgufVocab& v_;
  const TokenizerParts& parts_;
  OrderedJson model_ = OrderedJson::object(), normalizer_, pre_tokenizer_, decoder_;
  std::vector<OrderedJson> after_;
  std::vector<std::string> vocab_, merges_, notices_;
  std::vector<size_t> unmerged_;  // tokens that are sought in the text as they stand
};

}  // namespace

Result<HfTokenizer> hf_tokenizer_of(const GgufVocab& vocab, int64_t context) {
  INGOT_ASSIGN(const auto parts, read_gguf_vocab(vocab));
  return Writer(vocab, *parts).run(context);
}

}  // namespace ingot
