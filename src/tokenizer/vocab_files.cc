#include "tokenizer/vocab_files.h"

#include <fmt/format.h>

#include <algorithm>

#include "tokenizer/class_rules.h"
#include "tokenizer/json_models.h"

namespace ingot {
namespace {

constexpr char kVocab[] = "vocab.json", kMerges[] = "merges.txt", kEnd[] = "<|endoftext|>";
// The model types that transformers has one of the two classes for, where the files name none.
constexpr std::string_view kGpt2Types[] = {"gpt2", "gpt_neo", "gptj", "opt", "phi", "codegen", "dbrx", "starcoder2"};
constexpr std::string_view kQwenTypes[] = {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_moe"};

template <size_t n>
bool among(std::string_view text, const std::string_view (&list)[n]) {
  return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

}  // namespace

Result<VocabFiles> VocabFiles::open(const json::Object* tokenizer_config, const json::Object* config) {
  VocabFiles files;
  files.tokenizer_config_ = tokenizer_config;
  std::string_view name = text_of(tokenizer_config, "tokenizer_class");
  const std::string_view type = text_of(config, "model_type");
  if (name.empty()) name = text_of(config, "tokenizer_class");
  if (name.empty() || type == "qwen2") name = among(type, kQwenTypes) ? "Qwen2Tokenizer" : among(type, kGpt2Types) ? "GPT2Tokenizer" : name;
  if (name.ends_with("Fast")) name.remove_suffix(4);
  files.qwen_ = name == "Qwen2Tokenizer";
  if (files.qwen_ || name == "GPT2Tokenizer") return files;
  return bad_input("there is no tokenizer.json; found {} and {}, whose rules are those of the class {}, which is not known here (GPT2Tokenizer and "
                   "Qwen2Tokenizer are). With D for this directory, AutoTokenizer.from_pretrained(D).save_pretrained(D) makes tokenizer.json",
                   kVocab, kMerges, name.empty() ? "(tokenizer_class) that no file names" : quoted(name));
}

Status VocabFiles::read(std::string_view vocab_json, std::string_view merges_txt, TokenizerParts& parts) const {
  INGOT_ASSIGN(const bool space, tokenizer_config_ ? tokenizer_config_->boolean("add_prefix_space", false) : Result<bool>(false));
  if (qwen_) parts.normalizer.emplace_back().form = unicode::Form::kNFC;
  parts.pre_tokenizer = rules_of_class(qwen_ ? "Qwen2Tokenizer" : "GPT2Tokenizer", space);
  parts.decoder.emplace_back().kind = DecoderRule::Kind::kByteLevel;
  INGOT_TRY(read_vocab_json(vocab_json, kVocab, parts));
  MergeReader merges(parts, [](size_t line) { return fmt::format("{}: line {}", kMerges, line); });
  size_t line = 1;
  for (std::string_view rest = merges_txt; !rest.empty(); ++line) {
    std::string_view text = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
    if (text.ends_with('\r')) text.remove_suffix(1);
    INGOT_TRY(merges.add(text, line));
  }
  INGOT_TRY(merges.finish());
  BpeOptions options;
  options.byte_level = true;
  INGOT_ASSIGN(auto bpe, Bpe::make(*parts.vocabulary, parts.merges, options));
  parts.bpe = bpe.get();
  parts.model = std::move(bpe);
  return {};
}

Status VocabFiles::name_defaults(NamedTokens* named, TokenizerParts& parts) const {
  std::vector<ClaimedToken> tokens;
  for (const char* role : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    if (qwen_ ? role == std::string_view("bos_token") : role == std::string_view("pad_token")) continue;
    if (tokenizer_config_ && tokenizer_config_->is_null(role)) continue;
    if (!named->emplace(role, kEnd).second) continue;
    ClaimedToken t;
    t.token.content = kEnd;
    t.token.special = true;
    if (std::none_of(parts.added.begin(), parts.added.end(), [](const AddedToken& a) { return a.content == kEnd; })) tokens.push_back(std::move(t));
  }
  return add_tokens(tokens, parts);
}

Result<std::string> VocabFiles::post_processor(const NamedTokens& named, const TokenizerParts& parts) const {
  std::string before, after, first, specials;  // `first` is what stands before the second text of a pair
  for (const auto& [flag, role] : {std::pair("add_bos_token", "bos_token"), std::pair("add_eos_token", "eos_token")}) {
    INGOT_ASSIGN(const bool wanted, tokenizer_config_ ? tokenizer_config_->boolean(flag, false) : Result<bool>(false));
    const auto token = named.find(role);
    if (!wanted || token == named.end()) continue;
    const std::string text = json_quote(token->second);
    const auto added = std::find_if(parts.added.begin(), parts.added.end(), [&](const AddedToken& t) { return t.content == token->second; });
    if (added == parts.added.end()) continue;
    const std::string piece = fmt::format(R"({{"SpecialToken":{{"id":{},"type_id":0}}}})", text);
    if (flag == std::string_view("add_bos_token")) before = piece + ",", first = "," + piece;
    else after = "," + piece;
    if (specials.find(text + ":") == specials.npos)
      specials += fmt::format(R"({}{}:{{"id":{},"ids":[{}],"tokens":[{}]}})", specials.empty() ? "" : ",", text, text, added->id, text);
  }
  constexpr char kA[] = R"({"Sequence":{"id":"A","type_id":0}})", kB[] = R"({"Sequence":{"id":"B","type_id":1}})";
  return fmt::format(R"({{"type":"TemplateProcessing","single":[{0}{1}{2}],"pair":[{0}{1}{2}{3},{4}{2}],"special_tokens":{{{5}}}}})", before, kA, after, first,
                     kB, specials);
}

}  // namespace ingot
