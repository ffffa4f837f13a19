#include "tokenizer/json_special.h"

#include <map>

#include "tokenizer/text.h"

namespace ingot {
namespace {

// A yes or no of tokenizer_config.json; what is neither is passed over, as the reference does, unless it is a number.
Result<std::optional<bool>> read_flag(const json::Object& o, const char* key) {
  const auto e = o.get(key);
  bool v = false;
  if (e && json::is_any_number(*e)) return json::wrong_type(o.where(key), *e, "true or false");
  return e && !e->get(v) ? std::optional<bool>(v) : std::optional<bool>();
}

class SpecialTokens {
 public:
  explicit SpecialTokens(TokenizerParts& parts) : parts_(parts) {}

  Status read(const std::vector<json::Object>& processors, const NamedTokens& named, const json::Object* tokenizer_config,
              const json::Object* config) {
    has_config_ = tokenizer_config || !named.empty();
    for (const char* role : kRoles)
      if (const auto it = named.find(std::string(role) + "_token"); it != named.end()) text_[role] = it->second;
    if (!text_.count("bos") && text_.count("cls")) text_["bos"] = text_["cls"];
    if (!text_.count("eos") && text_.count("sep")) text_["eos"] = text_["sep"];
    for (const auto& p : processors)
      if (Status s = read_processor(p); !s.ok()) return s.take_error().during("tokenizer.json");
    if (has_config_)
      for (const char* role : kRoles)
        if (const auto it = text_.find(role); it != text_.end()) set(role, added_id(it->second), parts_.special);
    if (config) INGOT_TRY(ids_of(*config));
    SpecialIds& s = parts_.special;
    if (!s.bos && !parts_.prefix.empty()) s.bos = parts_.prefix.front();
    if (!s.eos && !parts_.suffix.empty()) s.eos = parts_.suffix.back();
    s.add_bos = s.bos && !parts_.prefix.empty() && parts_.prefix.front() == *s.bos;
    s.add_eos = s.eos && !parts_.suffix.empty() && parts_.suffix.back() == *s.eos;
    parts_.add_space_prefix = false;
    return tokenizer_config ? read_flags(*tokenizer_config) : Status();
  }

 private:
  static constexpr const char* kRoles[] = {"bos", "eos", "unk", "sep", "pad", "cls", "mask", "eot", "eom"};

  int32_t added_id(std::string_view text) const {
    for (const auto& t : parts_.added) {
      if (t.content == text) return t.id;
    }
    return -1;
  }
  static void set(std::string_view role, int32_t id, SpecialIds& s) {
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

  // Files for newer versions of transformers, by name: it reads the last of those that are not for a version after its own.
  void tell_versions(const json::Object& config) {
    constexpr std::string_view kHead = "tokenizer.", kTail = ".json";
    simdjson::dom::array files;
    std::string_view name, best, best_version;
    const auto e = config.get("fast_tokenizer_files");
    if (!e || e->get(files)) return;
    for (const json::Element file : files) {
      const size_t from = file.get(name) ? name.npos : name.find(kHead), to = name.rfind(kTail);
      if (from == name.npos || to == name.npos || to < from + kHead.size()) continue;
      const std::string_view version = name.substr(from + kHead.size(), to - from - kHead.size());
      const bool read = !version.empty() && version[0] >= '0' && version[0] <= '5' && (version.size() == 1 || version[1] == '.');
      if (read && version >= best_version) best = name, best_version = version;
    }
    if (!best.empty())
      parts_.warnings.push_back(fmt::format("tokenizer_config.json names {} (fast_tokenizer_files), which transformers 5 reads in place of "
                                            "tokenizer.json, as ingot does not: where the two differ, copy it over tokenizer.json", quoted(best)));
  }

  // What tokenizer_config.json says of what encode adds: in transformers 5 tokenizer.json alone decides that.
  Status read_flags(const json::Object& config) {
    tell_versions(config);
    INGOT_ASSIGN(const auto space, read_flag(config, "add_prefix_space"));
    parts_.add_space_prefix = space.value_or(false);
    INGOT_ASSIGN(const auto sep, read_flag(config, "add_sep_token"));
    if (sep && !parts_.special.add_sep) parts_.special.add_sep = sep;
    const SpecialIds& s = parts_.special;
    for (const auto& [key, added] : {std::pair("add_bos_token", s.add_bos), std::pair("add_eos_token", s.add_eos)}) {
      const auto e = config.get(key);
      bool said = false;  // transformers drops what is neither true nor false with the rest
      if (e && !e->get(said) && said != *added)
        parts_.warnings.push_back(fmt::format("tokenizer_config.json says {} {}, but the post-processor of tokenizer.json {}: that "
                                              "counts, as in transformers 5", key, said, *added ? "adds the token" : "adds no such token"));
    }
    return {};
  }

  // What one processor tells about BOS, EOS and SEP.
  Status read_processor(const json::Object& p) {
    INGOT_ASSIGN(const std::string_view type, p.needed_string("type"));
    if (type == "RobertaProcessing") {
      parts_.special.add_sep = true;
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
        }
        if (!last.empty()) {
          // Another last token than EOS takes its place; the old one becomes the end of a turn.
          if (has_config_ && text_.count("eos") && last != text_["eos"]) text_.emplace("eot", text_["eos"]);
          text_["eos"] = last;
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
        parts_.special.add_sep = add_sep;
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
      set(role, static_cast<int32_t>(id), parts_.special);
      set(role, static_cast<int32_t>(id), parts_.config_ids);
    }
    return {};
  }

  TokenizerParts& parts_;
  bool has_config_ = false;  // a file names the special tokens
  std::map<std::string, std::string, std::less<>> text_;  // role to token
};

}  // namespace

Status read_special_tokens(const std::vector<json::Object>& processors, const NamedTokens& named, const json::Object* tokenizer_config,
                           const json::Object* config, TokenizerParts& parts) {
  return SpecialTokens(parts).read(processors, named, tokenizer_config, config);
}

}  // namespace ingot
