#include "tokenizer/sentencepiece_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

#include "tokenizer/spm.h"
#include "tokenizer/text.h"

namespace ingot {
namespace {

constexpr std::string_view kMark = "\u2581";

// Models whose tokenizer transformers takes for one without a class of its own, whatever tokenizer_config.json says.
constexpr std::string_view kNoClass[] = {
    "mistral", "mixtral", "ministral", "ministral3", "mistral3", "pixtral", "voxtral", "phi3", "phi3_v", "phimoe", "internlm2", "internlm3",
    "minicpm3", "minicpmv", "nemotron", "arctic", "jamba", "stablelm", "persimmon", "fuyu", "llava", "llava_next", "vipllava", "molmo",
    "olmo2", "olmo3", "flex_olmo", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared", "glm", "glm4", "glm4_moe", "ernie4_5",
    "ernie4_5_moe", "hyperclovax", "h2ovl_chat", "openvla", "umt5"};
// Classes whose ids are those of fairseq: none of a piece is its place in the file.
constexpr std::string_view kFairseq[] = {"XLMRobertaTokenizer", "CamembertTokenizer", "MBartTokenizer", "MBart50Tokenizer", "NllbTokenizer",
                                         "BarthezTokenizer", "XGLMTokenizer", "SeamlessM4TTokenizer"};
// And such that put tokens of their own around a text, or behind the file's.
constexpr std::string_view kMore[] = {"T5Tokenizer", "AlbertTokenizer", "BigBirdTokenizer", "PegasusTokenizer", "RemBertTokenizer", "XLNetTokenizer",
                                      "ReformerTokenizer", "CodeLlamaTokenizer", "DebertaV2Tokenizer"};
constexpr char kMakeJson[] = "with D for this directory, AutoTokenizer.from_pretrained(D).save_pretrained(D) makes a tokenizer.json";
constexpr std::string_view kGemma[] = {"gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "recurrent_gemma", "shieldgemma2",
                                       "t5gemma"};

template <size_t n>
bool among(std::string_view text, const std::string_view (&list)[n]) {
  return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

NormalizerRule replace(std::string pattern, std::string content, bool regex = false) {
  NormalizerRule r;
  r.kind = regex ? NormalizerRule::Kind::kReplaceRegex : NormalizerRule::Kind::kReplaceString;
  r.pattern = std::move(pattern);
  r.content = std::move(content);
  return r;
}

PreTokenizerRule metaspace(PrependScheme prepend) {
  PreTokenizerRule r;
  r.kind = PreTokenizerRule::Kind::kMetaspace;
  r.pattern = kMark;
  r.prepend = prepend;
  r.split = false;
  return r;
}

// A pattern that matches one of the texts, the longest first.
std::string any_of(std::vector<std::string> texts) {
  std::stable_sort(texts.begin(), texts.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::string out;
  for (const std::string& t : texts) {
    if (!out.empty()) out += '|';
    for (const char c : t) {
      if (std::string_view("\\.+*?()[]{}|^$").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
  return out;
}

}  // namespace

Result<SentencePieceDirectory::Class> SentencePieceDirectory::find_class(std::vector<std::string>* warnings) const {
  std::optional<std::string_view> name, type;
  if (config_) {
    INGOT_ASSIGN(name, config_->string("tokenizer_class"));
    INGOT_ASSIGN(type, config_->string("model_type"));
  }
  if (tokenizer_config_) {
    INGOT_ASSIGN(const auto said, tokenizer_config_->string("tokenizer_class"));
    if (said) name = said;
  }
  if (type && among(*type, kNoClass)) return Class::kFile;
  if (!name) return type && among(*type, kGemma) ? Class::kGemma : Class::kFile;
  if (name->ends_with("Fast")) name->remove_suffix(4);
  if (among(*name, kFairseq))
    return bad_input("tokenizer.model: the class {} gives its pieces other ids than the file, which is not supported from it alone; {} that says them",
                     quoted(*name), kMakeJson);
  if (among(*name, kMore))
    warnings->push_back(fmt::format("tokenizer.model is read without what the class {} adds to it, tokens and rules of its own; {} with them", quoted(*name),
                                    kMakeJson));
  const bool llama = *name == "LlamaTokenizer", gemma = *name == "GemmaTokenizer";
  if (!llama && !gemma) return Class::kFile;
  if (!model_.unigram) return llama ? Class::kLlama : Class::kGemma;
  // Both make a BPE of any file; of a unigram one that is none that the model was trained with.
  warnings->push_back(fmt::format("tokenizer.model is a Unigram model, of which transformers 5 makes a BPE, with other tokens, because tokenizer_config.json names "
                                  "the class {}: here the file counts, as in transformers 4", quoted(*name)));
  return Class::kFile;
}

// The pieces, but those that tokenizer_config.json has another text for (placeholders).
Status SentencePieceDirectory::read_vocabulary(TokenizerParts& parts) {
  std::map<size_t, std::string_view> renamed;
  if (class_ == Class::kFile && tokenizer_config_)
    if (const auto e = tokenizer_config_->get("added_tokens_decoder")) {
      INGOT_ASSIGN(const json::Object list, json::Object::read(*e, tokenizer_config_->where("added_tokens_decoder")));
      for (const auto field : list.members()) {
        size_t id = 0;
        std::string_view text;
        const auto r = std::from_chars(field.key.data(), field.key.data() + field.key.size(), id);
        if (r.ec == std::errc() && id < model_.pieces.size() && !field.value["content"].get(text) && !text.empty()) renamed[id] = text;
      }
      std::map<std::string_view, size_t> kept;  // texts that some other piece keeps
      for (size_t i = 0; i < model_.pieces.size() && !renamed.empty(); ++i)
        if (!renamed.count(i)) kept[model_.pieces[i].text] = i;
      for (auto it = renamed.begin(); it != renamed.end();) it = kept.count(it->second) ? renamed.erase(it) : std::next(it);
    }
  size_t bytes = 0;
  for (const auto& p : model_.pieces) bytes += p.text.size();
  parts.vocabulary->reserve(model_.pieces.size(), bytes);
  for (size_t i = 0; i < model_.pieces.size(); ++i) {
    const auto it = renamed.find(i);
    const std::string_view text = it == renamed.end() ? model_.pieces[i].text : it->second;
    if (parts.vocabulary->add(text, static_cast<int32_t>(i)) != Vocabulary::Added::kYes)
      return bad_input("tokenizer_config.json: added_tokens_decoder gives the token {} the text {}, which another one has", i, quoted(text));
  }
  return {};
}

// Every two tokens that make a third, in the order of its id: what transformers makes of a file for a class of its own.
std::vector<BpeMerge> SentencePieceDirectory::merges_by_id(const Vocabulary& vocabulary) const {
  std::vector<BpeMerge> out;
  for (int32_t id = 0; id < vocabulary.end_id(); ++id)
    for_each_split(vocabulary.text(id), [&](std::string_view left, std::string_view right) {
      const int32_t l = vocabulary.find(left), r = l < 0 ? -1 : vocabulary.find(right);
      if (r >= 0) out.push_back({l, r});
    });
  return out;
}

// Of normal pieces alone, and by score.
std::vector<BpeMerge> SentencePieceDirectory::merges_by_score(const Vocabulary& vocabulary) const {
  const auto is_normal = [&](int32_t id) { return id >= 0 && model_.pieces[static_cast<size_t>(id)].type == TokenType::kNormal; };
  std::vector<int32_t> order;
  for (int32_t id = 0; id < vocabulary.end_id(); ++id)
    if (is_normal(id)) order.push_back(id);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return model_.pieces[static_cast<size_t>(a)].score > model_.pieces[static_cast<size_t>(b)].score;
  });
  std::vector<BpeMerge> out;
  for (const int32_t id : order)
    for_each_split(vocabulary.text(id), [&](std::string_view left, std::string_view right) {  // left in the order of texts, too
      const int32_t l = vocabulary.find(left), r = is_normal(l) ? vocabulary.find(right) : -1;
      if (is_normal(r)) out.push_back({l, r});
    });
  return out;
}

std::vector<std::string> SentencePieceDirectory::user_defined(const TokenizerParts& parts) const {
  std::vector<std::string> out;
  for (size_t i = 0; i < model_.pieces.size(); ++i)
    if (model_.pieces[i].type == TokenType::kUserDefined) out.emplace_back(parts.vocabulary->text(static_cast<int32_t>(i)));
  return out;
}

Status SentencePieceDirectory::make_model(TokenizerParts& parts) const {
  if (model_.unigram) {
    UnigramOptions options;
    options.unk_id = model_.unk_id;
    options.byte_fallback = model_.byte_fallback;
    std::vector<double> scores;
    for (const auto& p : model_.pieces) scores.push_back(p.score);
    INGOT_ASSIGN(auto made, Unigram::make(*parts.vocabulary, scores, options));
    parts.unigram = made.get();
    parts.model = std::move(made);
    return {};
  }
  BpeOptions options;
  options.fuse_unk = true;
  options.byte_fallback = class_ != Class::kFile || model_.byte_fallback;
  if (class_ == Class::kFile) options.ignore_merges = !user_defined(parts).empty();
  if (class_ != Class::kLlama) options.unk_id = parts.vocabulary->find(class_ == Class::kGemma ? "<unk>" : model_.unk_piece);
  parts.merges = class_ == Class::kFile ? merges_by_score(*parts.vocabulary) : merges_by_id(*parts.vocabulary);
  INGOT_ASSIGN(auto made, Bpe::make(*parts.vocabulary, parts.merges, options));
  parts.bpe = made.get();
  parts.model = std::move(made);
  return {};
}

Status SentencePieceDirectory::make_rules(TokenizerParts& parts) const {
  bool prefix = class_ == Class::kFile ? model_.add_dummy_prefix : class_ == Class::kLlama;
  bool legacy = class_ == Class::kFile;
  if (tokenizer_config_) {
    INGOT_ASSIGN(legacy, tokenizer_config_->boolean("legacy", legacy));
    INGOT_ASSIGN(const auto space, tokenizer_config_->boolean("add_prefix_space"));
    if (class_ == Class::kLlama) prefix = space.value_or(prefix);
  }
  const PrependScheme scheme = !prefix ? PrependScheme::kNever : legacy ? PrependScheme::kAlways : PrependScheme::kFirst;
  auto& normalizer = parts.normalizer;
  if (class_ == Class::kLlama) {
    parts.pre_tokenizer.push_back(metaspace(scheme));
  } else if (class_ == Class::kGemma) {
    normalizer.push_back(replace(" ", std::string(kMark)));
  } else {
    if (!model_.charsmap.empty()) {
      NormalizerRule r;
      r.kind = NormalizerRule::Kind::kPrecompiled;
      INGOT_ASSIGN(Charsmap map, Charsmap::parse(model_.charsmap));
      r.charsmap = std::make_shared<Charsmap>(std::move(map));
      normalizer.push_back(std::move(r));
    }
    if (model_.remove_extra_whitespaces) {
      normalizer.push_back(replace("\\A +| +\\z", "", true));
      normalizer.push_back(replace(" {2,}", " ", true));
    }
    if (model_.escape_whitespaces) normalizer.push_back(replace(" ", std::string(kMark)));
    // A dummy prefix is put before a mark, too, but Metaspace puts none there.
    if (prefix && legacy) normalizer.push_back(replace("\\A\u2581", "\u2581\u2581", true));
    if (prefix) parts.pre_tokenizer.push_back(metaspace(scheme));
    if (const auto whole = user_defined(parts); !whole.empty()) {
      PreTokenizerRule r;
      r.pattern = any_of(whole);
      r.whole_tokens = true;
      parts.pre_tokenizer.push_back(std::move(r));
    }
  }
  const auto add = [&](DecoderRule::Kind kind, std::string pattern = {}, std::string content = {}) -> DecoderRule& {
    DecoderRule r;
    r.kind = kind;
    r.pattern = std::move(pattern);
    r.content = std::move(content);
    return parts.decoder.emplace_back(std::move(r));
  };
  const bool fallback = class_ != Class::kFile || model_.byte_fallback;
  add(DecoderRule::Kind::kReplace, std::string(kMark), " ");
  if (fallback) add(DecoderRule::Kind::kByteFallback);
  if (prefix || fallback) add(DecoderRule::Kind::kFuse);
  if (prefix) add(DecoderRule::Kind::kStrip, {}, " ").start = 1;
  return {};
}

Status SentencePieceDirectory::read(TokenizerParts& parts, std::vector<ClaimedToken>* own) {
  INGOT_ASSIGN(class_, find_class(&parts.warnings));
  INGOT_TRY(read_vocabulary(parts));
  INGOT_TRY(make_rules(parts));
  INGOT_TRY(make_model(parts));
  for (size_t i = 0; i < model_.pieces.size(); ++i) {
    const TokenType type = model_.pieces[i].type;
    if (type != TokenType::kControl && (type != TokenType::kUserDefined || class_ == Class::kFile)) continue;
    ClaimedToken t;
    t.token.id = static_cast<int32_t>(i);
    t.token.content = std::string(parts.vocabulary->text(t.token.id));
    t.token.special = type == TokenType::kControl;
    own->push_back(std::move(t));
  }
  return {};
}

Status SentencePieceDirectory::name_defaults(NamedTokens* named, TokenizerParts& parts) const {
  std::vector<std::tuple<const char*, std::string_view>> defaults;
  if (class_ == Class::kLlama) {
    defaults = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}};
  } else if (class_ == Class::kGemma) {
    defaults = {{"bos_token", "<bos>"}, {"eos_token", "<eos>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}, {"mask_token", "<mask>"}};
  } else {
    if (model_.bos_id >= 0) defaults.emplace_back("bos_token", model_.bos_piece);
    if (model_.eos_id >= 0) defaults.emplace_back("eos_token", model_.eos_piece);
    if (model_.unk_id >= 0) defaults.emplace_back("unk_token", model_.unk_piece);
  }
  std::vector<ClaimedToken> tokens;
  for (const auto& [name, text] : defaults) {
    if (text.empty() || !named->emplace(name, text).second) continue;
    const auto there = std::any_of(parts.added.begin(), parts.added.end(), [&, t = text](const AddedToken& a) { return a.content == t; });
    ClaimedToken t;
    t.token.content = std::string(text);
    t.token.special = true;
    if (!there) tokens.push_back(std::move(t));
  }
  INGOT_TRY(add_tokens(tokens, parts));
  // Each text between added tokens gets its own prefix: they are sought before.
  if (class_ == Class::kFile && model_.add_dummy_prefix)
    for (AddedToken& t : parts.added) t.normalized = false;
  return {};
}

Status SentencePieceDirectory::add_around(const NamedTokens& named, TokenizerParts& parts) {
  for (const auto& [key, name, around, is_said] : {std::tuple{"add_bos_token", "bos_token", &parts.prefix, &bos_said_},
                                                   std::tuple{"add_eos_token", "eos_token", &parts.suffix, &eos_said_}}) {
    std::optional<bool> said;
    if (tokenizer_config_) {
      INGOT_ASSIGN(said, tokenizer_config_->boolean(key));
    }
    *is_said = said.has_value();
    const auto it = named.find(name);
    if (!said.value_or(false) || it == named.end()) continue;
    for (const AddedToken& t : parts.added)
      if (t.content == it->second) around->push_back(t.id);
  }
  return {};
}

void SentencePieceDirectory::leave_unsaid(SpecialIds* ids) const {
  if (!bos_said_) ids->add_bos.reset();
  if (!eos_said_) ids->add_eos.reset();
}

}  // namespace ingot
