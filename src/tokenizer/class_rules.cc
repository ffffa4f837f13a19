#include "tokenizer/class_rules.h"

#include <algorithm>
#include <charconv>

#include "tokenizer/json_rules.h"

namespace ingot {
namespace {

constexpr char kMistralPattern[] =
    R"~([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)~";
constexpr char kQwenPattern[] =
    R"~((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)~";
constexpr std::string_view kMistral[] = {"mistral", "mistral3", "voxtral", "ministral", "pixtral"};
// Model types for which transformers takes tokenizer.json whatever class is named.
constexpr std::string_view kFileRules[] = {"mistral", "mistral3", "ministral", "ministral3", "mistral_large4", "mixtral", "pixtral", "voxtral", "voxtral_realtime"};

// As version.parse(text) < version.parse("5.0.0"): what was released towards it comes before it.
bool before_version_5(std::string_view text) {
  int major = 0;
  std::from_chars(text.data(), text.data() + text.size(), major);
  if (major != 5) return major < 5;
  const size_t end = text.find_first_not_of("0123456789.");
  const std::string_view numbers = text.substr(1, end == text.npos ? text.npos : end - 1), rest = end == text.npos ? "" : text.substr(end);
  return numbers.find_first_not_of("0.") == numbers.npos && !rest.empty() && !rest.starts_with("post") && rest[0] != '+' && rest[0] != '-';
}

Status mend_mistral(const json::Object& tokenizer, const json::Object& tokenizer_config, const json::Object* config, TokenizerParts& parts) {
  INGOT_ASSIGN(const bool mend, tokenizer_config.boolean("fix_mistral_regex", false));
  const auto rules = tokenizer.get("pre_tokenizer");
  if (!mend || !config || !rules || !before_version_5(text_of(config, "transformers_version"))) return {};
  const bool mistral = std::find(std::begin(kMistral), std::end(kMistral), text_of(config, "model_type")) != std::end(kMistral);
  if (config->get("model_type") && !mistral) return {};
  constexpr size_t kLarge = 100000;
  size_t tokens = parts.vocabulary->count();
  for (const AddedToken& t : parts.added) tokens += parts.vocabulary->find(t.content) < 0;
  if (tokens <= kLarge) return {};
  // The first part of a sequence makes way; of anything else it comes first.
  TokenizerParts first;
  simdjson::dom::array parts_of_it;
  if (!(*rules)["pretokenizers"].get(parts_of_it) && parts_of_it.size() > 0) INGOT_TRY(read_pre_tokenizer(parts_of_it.at(0).value_unsafe(), first));
  auto& now = parts.pre_tokenizer;
  now.erase(now.begin(), now.begin() + static_cast<std::ptrdiff_t>(first.pre_tokenizer.size()));
  PreTokenizerRule mended;
  mended.pattern = kMistralPattern;
  now.insert(now.begin(), mended);
  return {};
}

Status tell_class_rules(const json::Object& tokenizer_config, const json::Object* config, TokenizerParts& parts) {
  std::string_view name = text_of(&tokenizer_config, "tokenizer_class");
  const std::string_view type = text_of(config, "model_type");
  if (name.ends_with("Fast")) name.remove_suffix(4);
  if (std::find(std::begin(kFileRules), std::end(kFileRules), type) != std::end(kFileRules)) return {};
  INGOT_ASSIGN(const bool space, tokenizer_config.boolean("add_prefix_space", false));
  const PreTokenizerRules own = rules_of_class(name, space);
  if (own.empty() || own == parts.pre_tokenizer) return {};
  std::string cuts;
  for (const PreTokenizerRule& r : own) cuts += (cuts.empty() ? "" : ", ") + r.describe();
  parts.warnings.push_back(fmt::format("tokenizer_config.json names the class {}, with which transformers 5 cuts text by rules of its own ({}) in place of those of "
                                       "tokenizer.json: here tokenizer.json counts, as in transformers 4", quoted(name), cuts));
  return {};
}

}  // namespace

std::string_view text_of(const json::Object* file, const char* key) {
  std::string_view text;
  if (const auto e = file ? file->get(key) : std::nullopt; e && e->get(text)) return {};
  return text;
}

PreTokenizerRules rules_of_class(std::string_view name, bool add_prefix_space) {
  PreTokenizerRule split, bytes;
  split.pattern = kQwenPattern;
  bytes.kind = PreTokenizerRule::Kind::kByteLevel;
  bytes.add_prefix_space = add_prefix_space;
  if (name == "Qwen2Tokenizer") return {split, bytes};
  bytes.use_regex = true;
  return name == "GPT2Tokenizer" ? PreTokenizerRules{bytes} : PreTokenizerRules();
}

Status read_class_rules(const json::Object& tokenizer, const json::Object* tokenizer_config, const json::Object* config, TokenizerParts& parts) {
  if (!tokenizer_config) return {};
  INGOT_TRY(tell_class_rules(*tokenizer_config, config, parts));
  return mend_mistral(tokenizer, *tokenizer_config, config, parts);
}

}  // namespace ingot
