#include "tokenizer/json_special.h"

#include <map>

namespace ingot {
namespace {

class SpecialTokens {
 public:
  explicit SpecialTokens(TokenizerParts& parts) : parts_(parts) {}

  Status read(const std::vector<json::Object>& processors, const json::Object* tokenizer_config,
              const json::Object* config) {
    has_config_ = tokenizer_config != nullptr;
    if (has_config_) {
      for (const char* role : kRoles) {
        INGOT_ASSIGN(const auto text, token_text(*tokenizer_config, std::string(role) + "_token"));
        if (text) text_[role] = *text;
      }
      if (!text_.count("bos") && text_.count("cls")) text_["bos"] = text_["cls"];
      if (!text_.count("eos") && text_.count("sep")) text_["eos"] = text_["sep"];
    }
    for (const auto& p : processors)
      if (Status s = add_flags(p); !s.ok()) return s.take_error().during("tokenizer.json");
    if (has_config_) {
      for (const char* role : kRoles) {
        const std::string key = "add_" + std::string(role) + "_token";
        INGOT_ASSIGN(const auto v, read_flag(*tokenizer_config, key));
        if (v) add_.emplace(role, *v);  // the post-processor's word comes first
        if (const auto it = text_.find(role); it != text_.end()) set(role, added_id(it->second));
      }
    }
    if (config) INGOT_TRY(ids_of(*config));
    if (const auto it = add_.find("bos"); it != add_.end()) parts_.special.add_bos = it->second;
    if (const auto it = add_.find("eos"); it != add_.end()) parts_.special.add_eos = it->second;
    if (const auto it = add_.find("sep"); it != add_.end()) parts_.special.add_sep = it->second;
    return {};
  }

 private:
  static constexpr const char* kRoles[] = {"bos", "eos", "unk", "sep", "pad", "cls", "mask", "eot", "eom"};

  static Result<std::optional<std::string>> token_text(const json::Object& o, const std::string& key) {
    std::optional<std::string> none;
    const auto e = o.get(key);
    std::string_view text;
    if (!e) return none;
    if (json::odd_text(*e) || e->is_number()) return json::wrong_type(o.where(key), *e, "a token");
    if (!e->get(text)) return text.empty() ? none : std::optional<std::string>(text);
    json::Element content;
    if (!(*e)["content"].get(content) && json::odd_text(content))
      return json::wrong_type(o.where(key) + ".content", content, "a text");
    if (!(*e)["content"].get(text) && !text.empty()) return std::optional<std::string>(text);
    return none;
  }
  int32_t added_id(std::string_view text) const {
    for (const auto& t : parts_.added) {
      if (t.content == text) return t.id;
    }
    return -1;
  }
  void set(std::string_view role, int32_t id) {
    SpecialIds& s = parts_.special;
    std::optional<int32_t>* slot = role == "bos"    ? &s.bos
                                   : role == "eos"  ? &s.eos
                                   : role == "unk"  ? &s.unk
                                   : role == "sep"  ? &s.sep
                                   : role == "pad"  ? &s.pad
                                   : role == "mask" ? &s.mask
                                   : role == "eot"  ? &s.eot
                                   : role == "eom"  ? &s.eom
                                                    : nullptr;
    if (slot && id >= 0 && !slot->has_value()) *slot = id;
  }

  static std::string special_id(const std::vector<json::Element>& list, size_t i) {
    std::string_view id;
    if (i < list.size() && !list[i]["SpecialToken"]["id"].get(id)) return std::string(id);
    return {};
  }

  // What one processor tells about BOS, EOS and SEP.
  Status add_flags(const json::Object& p) {
    INGOT_ASSIGN(const std::string_view type, p.needed_string("type"));
    if (type == "ByteLevel") {
      add_.emplace("bos", false);
      add_.emplace("eos", false);
    } else if (type == "RobertaProcessing") {
      add_["bos"] = add_["eos"] = add_["sep"] = true;
      for (const char* role : {"cls", "sep"}) {
        INGOT_ASSIGN(const auto pair, p.array(role));
        std::string_view text;
        if (has_config_ && !text_.count(role) && !pair.empty() && !pair[0].get(text))
          text_[role] = std::string(text);
      }
    } else if (type == "TemplateProcessing") {
      INGOT_ASSIGN(const auto single, p.array("single"));
      INGOT_ASSIGN(auto pair, p.array("pair"));
      std::string first, last;
      if (single.size() > 1) {
        first = special_id(single, 0);
        last = special_id(single, single.size() - 1);
        if (!first.empty()) {
          if (!text_.count("bos")) text_["bos"] = first;
          if (!text_.count("cls") && first != text_["bos"]) text_["cls"] = first;
          add_["bos"] = first == text_["bos"] || first == text_["cls"];
        }
        if (!last.empty()) {
          // Another last token than EOS takes its place; the old one becomes the end of a turn.
          if (has_config_ && text_.count("eos") && last != text_["eos"]) text_.emplace("eot", text_["eos"]);
          text_["eos"] = last;
          add_["eos"] = true;
        }
      }
      // Between A and B of a pair: a separator?
      if (!first.empty() && special_id(pair, 0) == first) pair.erase(pair.begin());
      if (!last.empty() && !pair.empty() && special_id(pair, pair.size() - 1) == last) pair.pop_back();
      std::string_view a, b;
      if (pair.size() > 2 && !pair.front()["Sequence"]["id"].get(a) && a == "A" &&
          !pair.back()["Sequence"]["id"].get(b) && b == "B") {
        const auto separates = [&](const std::string& t) {
          return !t.empty() && (t == text_["sep"] || t == text_["eos"]);
        };
        bool add_sep = separates(special_id(pair, 1)) && last.empty();
        if (pair.size() == 4 && separates(special_id(pair, 2))) add_sep = true;
        add_["sep"] = add_sep;
        if (add_sep && text_["sep"].empty()) text_["sep"] = text_["eos"];
      }
    }
    return {};
  }

  // config.json names ids, at its root or in text_config.
  Status ids_of(const json::Object& config) {
    std::optional<json::Object> text_config;
    if (const auto e = config.get("text_config")) {
      INGOT_ASSIGN(text_config, json::Object::read(*e, config.where("text_config")));
    }
    for (const char* role : kRoles) {
      const std::string key = std::string(role) + "_token_id";
      auto e = config.get(key);
      if (!e && text_config) e = text_config->get(key);
      int64_t id = 0;
      if (e && e->get(id) && json::is_any_number(*e)) return json::wrong_type(config.where(key), *e, "a token id");
      if (!e || e->get(id)) continue;          // a list of ids names no single token
      if (id < 0 || id > INT32_MAX) continue;  // -1 stands for none
      set(role, static_cast<int32_t>(id));
    }
    return {};
  }

  TokenizerParts& parts_;
  bool has_config_ = false;
  std::map<std::string, std::string, std::less<>> text_;  // role to token
  std::map<std::string, bool, std::less<>> add_;          // role to "is added by encode"
};

}  // namespace

Result<std::optional<bool>> read_flag(const json::Object& o, const std::string& key) {
  const auto e = o.get(key);
  bool v = false;
  if (e && json::is_any_number(*e)) return json::wrong_type(o.where(key), *e, "true or false");
  return e && !e->get(v) ? std::optional<bool>(v) : std::optional<bool>();
}

Status read_special_tokens(const std::vector<json::Object>& processors, const json::Object* tokenizer_config,
                           const json::Object* config, TokenizerParts& parts) {
  return SpecialTokens(parts).read(processors, tokenizer_config, config);
}

Status read_chat_template(const json::Object* tokenizer_config, std::string_view jinja,
                          TokenizerParts& parts) {
  if (const auto e = tokenizer_config ? tokenizer_config->get("chat_template") : std::nullopt) {
    std::string_view text;
    simdjson::dom::array list;
    if (json::odd_text(*e) || e->is_number())
      return json::wrong_type(tokenizer_config->where("chat_template"), *e, "a template");
    if (!e->get(text)) {
      parts.chat_template = std::string(text);
    } else if (!e->get(list)) {  // several by name: the default one
      for (const json::Element x : list) {
        std::string_view name;
        if (!x["name"].get(name) && name == "default" && !x["template"].get(text))
          parts.chat_template = std::string(text);
      }
    }
  } else if (!jinja.empty()) {
    parts.chat_template = std::string(jinja);
  }
  return {};
}

}  // namespace ingot
