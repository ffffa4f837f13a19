#include "tokenizer/overlay.h"

#include <charconv>

namespace ingot {
namespace {

// Of Phi-3 and its kin: tokens are taken as they are, and those of tokenizer.json, too.
bool is_phi3(const json::Object* config) {
  const auto names = config ? config->get("architectures") : std::nullopt;
  simdjson::dom::array list;
  if (!names || names->get(list)) return false;
  for (const json::Element e : list)
    if (std::string_view name; !e.get(name) && (name == "Phi3ForCausalLM" || name == "PhiMoEForCausalLM" || name == "Phi4ForCausalLMV")) return true;
  return false;
}

// One with its content and whether it is special; the checks of its fields are side_tokens.cc's.
void overlay(int64_t id, json::Element token, bool as_is, std::vector<OverlaidToken>* out) {
  std::string_view text;
  bool special = false;
  if (token["content"].get(text)) return;
  if (token["special"].get(special)) special = false;
  const bool control = special || (!as_is && looks_special(text));
  out->push_back({id, control || as_is ? std::string(text) : with_spaces(text), control ? TokenType::kControl : TokenType::kUserDefined});
}

}  // namespace

Result<std::vector<OverlaidToken>> read_overlay(const json::Object* added_tokens, const json::Object* tokenizer_config,
                                                const json::Object* tokenizer, const json::Object* config) {
  std::vector<OverlaidToken> out;
  const bool phi3 = is_phi3(config);
  if (added_tokens)
    for (const auto field : added_tokens->members()) {
      int64_t id = 0;
      if (!field.value.get(id)) out.push_back({id, std::string(field.key), TokenType::kUserDefined});
    }
  if (const auto e = tokenizer_config ? tokenizer_config->get("added_tokens_decoder") : std::nullopt) {
    INGOT_ASSIGN(const json::Object list, json::Object::read(*e, tokenizer_config->where("added_tokens_decoder")));
    for (const auto field : list.members()) {
      int64_t id = -1;
      std::from_chars(field.key.data(), field.key.data() + field.key.size(), id);
      overlay(id, field.value, phi3, &out);
    }
  }
  if (phi3 && tokenizer) {
    INGOT_ASSIGN(const auto list, tokenizer->array("added_tokens"));
    for (const json::Element e : list) {
      int64_t id = -1;
      if (!e["id"].get(id)) overlay(id, e, true, &out);
    }
  }
  return out;
}

bool looks_special(std::string_view t) {
  const auto between = [&](std::string_view head, std::string_view tail) {
    return t.size() >= head.size() && t.substr(0, head.size()) == head && t.size() >= tail.size() &&
           t.substr(t.size() - tail.size()) == tail;
  };
  return t == "<pad>" || t == "<mask>" || t == "<2mass>" || t == "[@BOS@]" || between("<|", "|>") ||
         between("<｜", "｜>") || between("<unused", ">");
}

std::string with_spaces(std::string_view text) {
  constexpr std::string_view kMark = "\u2581";
  std::string out;
  for (size_t at; (at = text.find(kMark)) != text.npos; text.remove_prefix(at + kMark.size())) out.append(text.substr(0, at)) += ' ';
  return out.append(text);
}

}  // namespace ingot
