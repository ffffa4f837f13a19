#include "tokenizer/tekken.h"

#include <algorithm>

#include "tokenizer/base64.h"
#include "tokenizer/spm.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

// Of files that list none.
constexpr const char* kOldSpecial[] = {"<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
                                       "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
                                       "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"};
constexpr uint64_t kMostTokens = 1 << 24;

Result<std::optional<uint64_t>> read_count(const json::Object& o, const char* key) {
  const auto e = o.get(key);
  uint64_t n = 0;
  if (!e) return std::optional<uint64_t>();
  if (e->get(n) || n > kMostTokens) return json::wrong_type(o.where(key), *e, "a number of tokens");
  return std::optional<uint64_t>(n);
}

// By rank, filled up to the number that the file says.
Result<std::vector<std::string>> special_texts(const json::Object& root, const json::Object& config) {
  std::vector<std::string> texts;
  if (root.get("special_tokens")) {
    INGOT_ASSIGN(const auto list, root.array("special_tokens"));
    texts.resize(list.size());
    for (const json::Element e : list) {
      INGOT_ASSIGN(const json::Object o, json::Object::read(e, "special_tokens[]"));
      INGOT_ASSIGN(const std::string_view text, o.needed_string("token_str"));
      INGOT_ASSIGN(const auto rank, read_count(o, "rank"));
      if (text.empty() || !rank || *rank >= texts.size() || !texts[*rank].empty())
        return bad_input("special_tokens: {} has no place of its own among the {} ranks from 0 on", quoted(text), texts.size());
      texts[*rank] = std::string(text);
    }
  } else {
    texts.assign(std::begin(kOldSpecial), std::end(kOldSpecial));
  }
  INGOT_ASSIGN(const auto count, read_count(config, "default_num_special_tokens"));
  if (count && *count < texts.size()) return bad_input("{}: {} found, but there are {} special tokens", config.where("default_num_special_tokens"), *count, texts.size());
  while (count && texts.size() < *count) texts.push_back(fmt::format("<SPECIAL_{}>", texts.size()));
  return texts;
}

}  // namespace

bool is_tekken(const json::Object& root) { return root.get("config") && root.get("vocab") && !root.get("model"); }

Status read_tekken(const json::Object& root, TokenizerParts& parts, std::vector<ClaimedToken>* own) {
  INGOT_ASSIGN(const json::Object config, json::Object::read(*root.get("config"), "config"));
  INGOT_ASSIGN(const std::string_view pattern, config.needed_string("pattern"));
  INGOT_ASSIGN(const auto special, special_texts(root, config));
  INGOT_ASSIGN(const auto size, read_count(config, "default_vocab_size"));
  INGOT_ASSIGN(auto list, root.array("vocab"));
  if (size && *size < special.size()) return bad_input("{}: {} found, but there are {} special tokens", config.where("default_vocab_size"), *size, special.size());
  if (size && list.size() > *size - special.size()) list.resize(*size - special.size());
  if (list.empty() || list.size() > kMostTokens) return bad_input("vocab: {} tokens found, expected 1 to {}", list.size(), kMostTokens);
  Vocabulary& vocabulary = *parts.vocabulary;
  vocabulary.reserve(list.size() + special.size(), 0);
  const auto add = [&](std::string_view text, const std::string& where) -> Status {
    if (vocabulary.add(text, vocabulary.end_id()) == Vocabulary::Added::kYes) return {};
    return bad_input("{}: {} is there already", where, quoted(text));
  };
  for (const std::string& text : special) {
    ClaimedToken t;
    t.token.id = vocabulary.end_id();
    t.token.content = text;
    t.token.special = true;
    own->push_back(std::move(t));
    INGOT_TRY(add(text, "special_tokens"));
  }
  std::string spelled;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = fmt::format("vocab[{}]", i);
    INGOT_ASSIGN(const json::Object o, json::Object::read(list[i], where));
    INGOT_ASSIGN(const std::string_view text, o.needed_string("token_bytes"));
    const auto bytes = from_base64(text);
    if (!bytes || bytes->empty() || bytes->size() > kMaxSpmToken / 2)
      return bad_input("{}: {} found, expected base64 of 1 to {} bytes", o.where("token_bytes"), quoted(text), kMaxSpmToken / 2);
    spelled.clear();
    unicode::append_byte_chars(spelled, *bytes);
    INGOT_TRY(add(spelled, where));
  }
  // A token is made of any two that are it together, those of the lowest ranks first.
  const auto first = static_cast<int32_t>(special.size());
  for (int32_t id = first; id < vocabulary.end_id(); ++id) {
    const auto begin = static_cast<std::ptrdiff_t>(parts.merges.size());
    for_each_split(vocabulary.text(id), [&](std::string_view left, std::string_view right) {
      const int32_t l = vocabulary.find(left), r = l < first ? -1 : vocabulary.find(right);
      if (r >= first) parts.merges.push_back({l, r});
    });
    std::sort(parts.merges.begin() + begin, parts.merges.end(),
              [](const BpeMerge& a, const BpeMerge& b) { return a.left != b.left ? a.left < b.left : a.right < b.right; });
  }
  PreTokenizerRule split, bytes;
  split.pattern = std::string(pattern);
  bytes.kind = PreTokenizerRule::Kind::kByteLevel;
  parts.pre_tokenizer = {split, bytes};
  parts.decoder.emplace_back();
  BpeOptions options;
  options.byte_level = options.ignore_merges = true;
  INGOT_ASSIGN(auto made, Bpe::make(vocabulary, parts.merges, options));
  parts.bpe = made.get();
  parts.model = std::move(made);
  return {};
}

Status name_tekken(const json::Object* tokenizer_config, NamedTokens* named, TokenizerParts& parts) {
  for (const auto& [name, text] : {std::pair("bos_token", "<s>"), {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}})
    if (parts.vocabulary->find(text) >= 0) named->emplace(name, text);
  bool wanted = true;
  if (tokenizer_config) {
    INGOT_ASSIGN(wanted, tokenizer_config->boolean("add_bos_token", true));
  }
  const auto bos = named->find("bos_token");
  for (const AddedToken& t : parts.added)
    if (wanted && bos != named->end() && t.content == bos->second) parts.prefix.push_back(t.id);
  return {};
}

}  // namespace ingot
