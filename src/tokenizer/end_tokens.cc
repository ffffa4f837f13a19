#include "tokenizer/end_tokens.h"

#include <algorithm>
#include <unordered_map>

#include "tokenizer/llama_texts.h"

namespace ingot {
namespace {

constexpr size_t kMaxEnds = 1000;

void push_new(std::vector<int32_t>* ids, int32_t id) {
  if (std::find(ids->begin(), ids->end(), id) == ids->end()) ids->push_back(id);
}

bool is_token(const TokenizerParts& parts, int32_t id) {
  return parts.vocabulary->has(id) || std::any_of(parts.added.begin(), parts.added.end(), [&](const AddedToken& t) { return t.id == id; });
}

// Texts to ids of the tokens of both kinds.
class Texts {
 public:
  explicit Texts(const TokenizerParts& parts) : parts_(parts) {
    for (const AddedToken& t : parts.added) added_.emplace(t.content, t.id);
  }
  int32_t find(std::string_view text) const {
    const auto it = added_.find(text);
    return it != added_.end() ? it->second : parts_.vocabulary->find(text);
  }
  bool has(std::string_view text) const { return find(text) >= 0; }
  std::string_view text(std::optional<int32_t> id) const {
    for (const auto& [text, other] : added_)
      if (id == other) return text;
    return id && parts_.vocabulary->has(*id) ? parts_.vocabulary->text(*id) : "";
  }

 private:
  const TokenizerParts& parts_;
  std::unordered_map<std::string_view, int32_t> added_;
};

}  // namespace

std::vector<int32_t> ends_by_text(const TokenizerParts& parts) {
  const Texts texts(parts);
  const auto has = [&](std::string_view text) { return texts.has(text); };
  const std::string_view eos = texts.text(parts.special.eos);
  std::vector<int32_t> ids;
  for (const std::string_view text : llama_texts::kEnds)
    if (const int32_t id = texts.find(text); id >= 0 && !llama_texts::ends_nothing(text, has, eos)) push_new(&ids, id);
  const auto first = [&](std::optional<int32_t> named, const auto& list) {
    for (const std::string_view text : list)
      if (!named && texts.has(text)) named = texts.find(text);
    if (named) push_new(&ids, *named);
  };
  first(parts.special.fim_pad, llama_texts::kFimPad);
  first(parts.special.fim_rep, llama_texts::kFimRep);
  first(parts.special.fim_sep, llama_texts::kFimSep);
  return ids;
}

Status read_ends(const json::Object& file, TokenizerParts& parts) {
  const auto take = [&](json::Element e) {
    int64_t id = 0;
    if (!e.get(id) && id >= 0 && id <= INT32_MAX) push_new(&parts.ends, static_cast<int32_t>(id));
  };
  auto e = file.get("eos_token_id");
  json::Element inner;
  if (const auto text = file.get("text_config"); !e && text && !(*text)["eos_token_id"].get(inner)) e = inner;
  if (!e) return {};
  simdjson::dom::array list;
  if (e->get(list)) {
    take(*e);
    return {};
  }
  if (list.size() > kMaxEnds) return bad_input("{}: {} ids; at most {} are accepted", file.where("eos_token_id"), list.size(), kMaxEnds);
  for (const json::Element id : list) {
    if (json::is_any_number(id) && !id.is_int64()) return json::wrong_type(file.where("eos_token_id"), id, "a token id");
    take(id);
  }
  return {};
}

void place_ends(TokenizerParts& parts) {
  SpecialIds& s = parts.special;
  std::vector<int32_t> told = ends_by_text(parts);
  for (const auto& id : {s.eos, s.eot, s.eom})
    if (id) push_new(&told, *id);
  for (const int32_t id : parts.ends) {
    if (!is_token(parts, id)) continue;
    if (!s.eos) s.eos = id;
    else if (std::find(told.begin(), told.end(), id) != told.end()) continue;
    else if (!s.eot) s.eot = id;
    else if (!s.eom) s.eom = id;
    else parts.warnings.push_back(fmt::format("generation ends at the token {}, too (eos_token_id), for which a GGUF has no place: "
                                              "who reads one goes on after it", id));
  }
  if (!s.eos && !told.empty()) s.eos = told.front();
}

void take_class_defaults(const json::Object& config, TokenizerParts& parts) {
  struct Defaults {
    std::string_view model_type;
    int32_t bos, eos;
  };
  constexpr Defaults kDefaults[] = {{"llama", 1, 2}, {"mistral", 1, 2}, {"mixtral", 1, 2},     {"granite", 1, 2},
                                    {"gemma", 2, 1}, {"gemma2", 2, 1},  {"gemma3_text", 2, 1}, {"phi3", 1, 32000},
                                    {"cohere", 5, 255001}, {"starcoder2", 50256, 50256}, {"smollm3", 128000, 128001}};
  std::string_view type;
  const auto name = config.get("model_type");
  if (!name || name->get(type)) return;
  const auto defaults = std::find_if(std::begin(kDefaults), std::end(kDefaults), [&](const Defaults& d) { return d.model_type == type; });
  if (defaults == std::end(kDefaults)) return;
  bool says_bos = false, says_eos = false;  // null says that there is none
  for (const auto field : config.members()) says_bos |= field.key == "bos_token_id", says_eos |= field.key == "eos_token_id";
  SpecialIds& s = parts.special;
  if (!s.bos && !says_bos && is_token(parts, defaults->bos)) s.bos = defaults->bos;
  if (s.eos || says_eos || !is_token(parts, defaults->eos)) return;
  s.eos = defaults->eos;
  parts.warnings.push_back(fmt::format("no file names the token that ends a text (eos_token, eos_token_id): it is {}, which transformers takes "
                                       "for models of the type {} then", defaults->eos, type));
}

}  // namespace ingot
