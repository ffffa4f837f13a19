#include "tokenizer/side_tokens.h"

#include <charconv>
#include <unordered_map>
#include <unordered_set>

namespace ingot {
namespace {

constexpr char kConfig[] = "tokenizer_config.json", kAdded[] = "added_tokens.json", kList[] = "added_tokens_decoder";
constexpr std::string_view kStandard[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
constexpr std::string_view kExtra = "extra_special_tokens", kAdditional = "additional_special_tokens", kModelSpecific = "model_specific_special_tokens";

// The name of a token of the model's own: "image_token". Not the flags, which transformers takes away beside tokenizer.json.
bool own_name(std::string_view key) {
  return key.ends_with("_token") && key != "add_bos_token" && key != "add_eos_token" &&
         std::find(std::begin(kStandard), std::end(kStandard), key) == std::end(kStandard);
}

struct Value {
  json::Element e;
  std::string where;
  bool from_map = false;  // of special_tokens_map.json, whose objects are special whatever they say
};

std::vector<Value> items(const Value* v) {
  std::vector<Value> out;
  simdjson::dom::array list;
  if (v && !v->e.get(list))
    for (const json::Element e : list) out.push_back({e, v->where, v->from_map});
  return out;
}

// A dict of Python: a key that is set again keeps its place.
class Dict {
 public:
  void set(std::string_view key, Value value) {
    const auto [it, fresh] = at_.emplace(key, items_.size());
    if (fresh) items_.emplace_back(key, std::move(value));
    else items_[it->second].second = std::move(value);
  }
  const Value* find(std::string_view key) const {
    const auto it = at_.find(std::string(key));
    return it == at_.end() ? nullptr : &*items_[it->second].second;
  }
  std::optional<Value> take(std::string_view key) {
    const auto it = at_.find(std::string(key));
    if (it == at_.end()) return std::nullopt;
    auto value = std::exchange(items_[it->second].second, std::nullopt);
    at_.erase(it);
    return value;
  }
  bool empty() const { return at_.empty(); }
  template <class F>
  Status for_each(F&& f) const {
    for (const auto& [key, value] : items_)
      if (value) INGOT_TRY(f(key, *value));
    return {};
  }

 private:
  std::vector<std::pair<std::string, std::optional<Value>>> items_;
  std::unordered_map<std::string, size_t> at_;
};

// As Python's int(text): white space around it, a sign, underscores between digits.
std::optional<int64_t> python_int(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const size_t from = text.find_first_not_of(kSpace);
  if (from == text.npos) return std::nullopt;
  text = text.substr(from, text.find_last_not_of(kSpace) + 1 - from);
  if (text.starts_with('+') && text.size() > 1 && text[1] != '-') text.remove_prefix(1);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool between = i > 0 && i + 1 < text.size() && text[i - 1] != '_' && text[i - 1] != '-' && text[i + 1] != '_';
    if (text[i] != '_') digits += text[i];
    else if (!between) return std::nullopt;
  }
  int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto r = std::from_chars(digits.data(), end, value);
  return r.ec == std::errc() && r.ptr == end ? std::optional(value) : std::nullopt;
}

// As Python's AddedToken(**object).
Result<ClaimedToken> read_object(json::Element e, const std::string& where, bool special) {
  INGOT_ASSIGN(const json::Object o, json::Object::read(e, where));
  ClaimedToken claimed;
  AddedToken& t = claimed.token;
  INGOT_ASSIGN(const auto content, o.string("content"));
  t.content = content.value_or("");
  INGOT_ASSIGN(t.special, o.boolean("special", false));
  t.special |= special;
  INGOT_ASSIGN(t.single_word, o.boolean("single_word", false));
  INGOT_ASSIGN(t.lstrip, o.boolean("lstrip", false));
  INGOT_ASSIGN(t.rstrip, o.boolean("rstrip", false));
  INGOT_ASSIGN(const auto normalized, o.boolean("normalized"));
  claimed.normalized_unless_special = !normalized;
  t.normalized = normalized.value_or(!t.special);
  return claimed;
}

// A token as a text or an object; nothing where there is null or what is no token.
Result<std::optional<ClaimedToken>> read_token(const Value& v) {
  ClaimedToken t;
  std::string_view text;
  if (json::odd_text(v.e) || v.e.is_number()) return json::wrong_type(v.where, v.e, "a token");
  if (v.e.is_object()) {
    INGOT_ASSIGN(t, read_object(v.e, v.where, v.from_map));
  } else if (!v.e.get(text)) {
    t.token.content = std::string(text);
    t.token.special = true;
  }
  return t.token.content.empty() ? std::optional<ClaimedToken>() : std::optional<ClaimedToken>(std::move(t));
}

// Of what may be true of a thousand tokens the first is told, and how many more there are.
class Told {
 public:
  template <class... A>
  void add(fmt::format_string<A...> format, A&&... a) {
    if (count_++ == 0) first_ = fmt::format(format, std::forward<A>(a)...);
  }
  void tell(TokenizerParts& parts) const {
    if (count_ > 0) parts.warnings.push_back(count_ == 1 ? first_ : fmt::format("{} (and {} more like it)", first_, count_ - 1));
  }

 private:
  std::string first_;
  size_t count_ = 0;
};

class SideTokens {
 public:
  Status read(const json::Object& tokenizer, const std::vector<ClaimedToken>& own, const json::Object* config, const json::Object* map,
              const json::Object* added) {
    if (config) take_config(*config);
    if (has_token_list(config)) {
      INGOT_TRY(read_decoder(*given_.find(kList)));
    } else {
      if (map) take_map(*map);
      if (added) INGOT_TRY(read_added(*added));
      for (const ClaimedToken& t : own) claim(t.token.id, t, "");  // what is odd about these is told
    }
    return read_special(tokenizer);
  }

  // The list by its ids, then the special tokens that neither it nor the tokenizer has, each with every set of flags that it is
  // given: the last counts.
  std::vector<ClaimedToken> to_add(const std::vector<AddedToken>& there) const {
    std::unordered_set<std::string_view> special, known;
    for (const auto& [name, t] : named_) special.insert(t.token.content);
    for (const AddedToken& t : there) known.insert(t.content);
    for (const auto& [id, t] : list_) known.insert(t.token.content);
    std::vector<ClaimedToken> out;
    for (const auto& [id, t] : list_) out.push_back(t);
    std::unordered_set<std::string> given;
    const auto add_new = [&](const ClaimedToken& t) {
      const AddedToken& a = t.token;
      if (known.count(a.content)) return;
      if (given.insert(fmt::format("{:d}{:d}{:d}{:d}{:d}{}", a.special, a.single_word, a.lstrip, a.rstrip, a.normalized, a.content)).second)
        out.push_back(t);
    };
    for (const auto& [name, t] : named_) add_new(t);
    for (const ClaimedToken& t : extra_) add_new(t);
    for (ClaimedToken& t : out) {
      t.token.special |= special.count(t.token.content) > 0;
      if (t.normalized_unless_special) t.token.normalized = !t.token.special;
    }
    return out;
  }
  void tell(TokenizerParts& parts) const {
    left_out_.tell(parts);
    no_tokens_.tell(parts);
  }
  NamedTokens named() const {
    NamedTokens out;
    for (const auto& [name, t] : named_) out[name] = t.token.content;
    return out;
  }

 private:
  void take_config(const json::Object& config) {
    for (const auto field : config.members()) given_.set(field.key, {field.value, config.where(field.key)});
    const Value* extra = given_.find(kExtra);
    simdjson::dom::object named;
    const bool none = !extra || (items(extra).empty() && (extra->e.get(named) || named.size() == 0));
    if (none)
      if (auto v = given_.take(kAdditional)) given_.set(kExtra, std::move(*v));
    for (const auto field : config.members())
      if (const Value* v = given_.find(field.key); v && own_name(field.key) && v->e.is_string()) own_.set(field.key, *given_.take(field.key));
    take_named_extra();
    // Used where nothing else names tokens of the model's own.
    simdjson::dom::object saved;
    const Value* v = given_.find(kModelSpecific);
    if (!own_.empty() || !v || v->e.get(saved) || json::odd_text(v->e)) return;
    for (const auto field : saved) own_.set(field.key, {field.value, v->where + "." + std::string(field.key), v->from_map});
  }
  // extra_special_tokens as an object: tokens with names of their own.
  void take_named_extra() {
    const Value* v = given_.find(kExtra);
    simdjson::dom::object named;
    if (!v || v->e.get(named) || json::odd_text(v->e)) return;
    for (const auto field : named) own_.set(field.key, {field.value, v->where + "." + std::string(field.key), v->from_map});
    given_.take(kExtra);
  }
  // What special_tokens_map.json says comes before tokenizer_config.json; a list of extra tokens is added to the one there.
  void take_map(const json::Object& map) {
    for (const auto field : map.members()) {
      Value v{field.value, map.where(field.key), true};
      if (field.key == kExtra && given_.find(kExtra) && v.e.is_array()) more_extra_ = items(&v);
      else given_.set(field.key, std::move(v));
    }
    take_named_extra();
  }

  Status read_decoder(const Value& v) {
    INGOT_ASSIGN(const json::Object list, json::Object::read(v.e, v.where));
    for (const auto field : list.members()) {
      const auto id = python_int(field.key);
      if (!id) return bad_input("{}: the key {} is no token id", list.where(), quoted(field.key));
      INGOT_ASSIGN(ClaimedToken t, read_object(list.get(field.key).value_or(field.value), list.where(field.key), false));
      claim(*id, std::move(t), kConfig);
    }
    return {};
  }
  Status read_added(const json::Object& added) {
    std::unordered_set<std::string_view> special;
    const auto insert = [&](const Value& v) {
      std::string_view text;
      if (!v.e.get(text) || (v.from_map && !v.e["content"].get(text))) special.insert(text);
    };
    for (const std::string_view key : kStandard)
      if (const Value* v = given_.find(key)) insert(*v);
    for (const Value& v : items(given_.find(kExtra))) insert(v);
    for (const Value& v : more_extra_) insert(v);
    for (const auto field : added.members()) {
      int64_t id = 0;
      const json::Element value = added.get(field.key).value_or(field.value);  // the last of a repeated key
      if (field.key.starts_with(kOddMark) || value.get(id)) return json::wrong_type(added.where(field.key), value, "a token id");
      ClaimedToken t;
      t.token.content = std::string(field.key);
      t.token.special = special.count(field.key) > 0;
      t.token.normalized = !t.token.special;
      claim(id, std::move(t), kAdded);
    }
    return {};
  }
  void claim(int64_t id, ClaimedToken t, std::string_view file) {
    t.token.id = id >= 0 && id <= INT32_MAX ? static_cast<int32_t>(id) : -1;
    t.file = file;
    ClaimedToken& place = list_[id];
    if (!place.file.empty() && place.token.content != t.token.content)
      left_out_.add("{} gives the token {} the id {}, which is that of {}: it is left out, as in transformers", place.file,
                    quoted(std::string_view(place.token.content)), id, quoted(std::string_view(t.token.content)));
    by_text_[t.token.content] = t;
    place = std::move(t);
  }

  Result<std::optional<ClaimedToken>> read_or_tell(const Value& v) {
    if (v.e.is_bool() || v.e.is_array())
      no_tokens_.add("{}; it is passed over, where transformers fails to load", json::wrong_type(v.where, v.e, "a token").message);
    return read_token(v);
  }

  Status read_special(const json::Object& tokenizer) {
    // The padding of tokenizer.json names a token, too.
    json::Element pad;
    if (const auto padding = tokenizer.get("padding"); padding && !given_.find("pad_token") && !(*padding)["pad_token"].get(pad))
      given_.set("pad_token", {pad, tokenizer.where("padding.pad_token")});
    const auto add = [&](const std::string& name, const Value& v, bool listed) -> Status {
      INGOT_ASSIGN(auto t, read_or_tell(v));
      if (!t) return {};
      if (const auto it = by_text_.find(t->token.content); listed && it != by_text_.end()) t = it->second;
      named_.emplace_back(name, std::move(*t));
      return {};
    };
    for (const std::string_view key : kStandard)
      if (const Value* v = given_.find(key)) INGOT_TRY(add(std::string(key), *v, true));
    // Own names: those of special_tokens_map.json and those given as objects stand before the texts of tokenizer_config.json.
    Dict own;
    INGOT_TRY(given_.for_each([&](const std::string& key, const Value& v) -> Status {
      if (own_name(key) && (v.e.is_string() || v.e.is_object())) own.set(key, v);
      return {};
    }));
    INGOT_TRY(own_.for_each([&](const std::string& key, const Value& v) -> Status {
      own.set(key, v);
      return {};
    }));
    INGOT_TRY(own.for_each([&](const std::string& key, const Value& v) { return add(key, v, false); }));
    const Value* extra = given_.find(kExtra);
    std::vector<Value> list = items(extra ? extra : given_.find(kAdditional));
    list.insert(list.end(), more_extra_.begin(), more_extra_.end());
    for (const Value& v : list) {
      INGOT_ASSIGN(auto t, read_or_tell(v));
      if (t) extra_.push_back(std::move(*t));
    }
    return {};
  }

  Told left_out_, no_tokens_;
  Dict given_, own_;  // transformers' init_kwargs, and its model_specific_special_tokens
  std::vector<Value> more_extra_;
  std::map<int64_t, ClaimedToken> list_;  // its added_tokens_decoder
  std::unordered_map<std::string, ClaimedToken> by_text_;
  std::vector<std::pair<std::string, ClaimedToken>> named_;
  std::vector<ClaimedToken> extra_;
};

}  // namespace

bool has_token_list(const json::Object* tokenizer_config) { return tokenizer_config && tokenizer_config->get(kList); }

Status add_tokens(const std::vector<ClaimedToken>& tokens, TokenizerParts& parts) {
  Told other;
  std::unordered_map<std::string, size_t> at;
  auto next = static_cast<int32_t>(parts.vocabulary->count());
  for (size_t i = 0; i < parts.added.size(); ++i) {
    at.emplace(parts.added[i].content, i);
    next = std::max(next, parts.added[i].id + 1);
  }
  for (const ClaimedToken& claim : tokens) {
    AddedToken token = claim.token;
    if (token.content.empty()) continue;  // the library passes over these
    if (token.content.size() > AddedTokenFinder::kMaxLength)
      return bad_input("an added token of {} bytes is too long; at most {} are accepted: {}", token.content.size(),
                       AddedTokenFinder::kMaxLength, quoted(std::string_view(token.content)));
    if (const auto it = at.find(token.content); it != at.end()) {
      token.id = parts.added[it->second].id;
      parts.added[it->second] = token;
    } else {
      token.id = parts.vocabulary->find(token.content);
      if (token.id < 0) token.id = next++;
      if (parts.vocabulary->has(token.id) && parts.vocabulary->text(token.id) != token.content)
        return bad_input("the added token {} would get the next free id, {}, as the tokenizers library counts, but that is {} in "
                         "model.vocab, whose ids have holes: number them from 0 on",
                         quoted(std::string_view(token.content)), token.id, quoted(parts.vocabulary->text(token.id)));
      at.emplace(token.content, parts.added.size());
      parts.added.push_back(token);
    }
    if (claim.token.id >= 0 && claim.token.id != token.id && !claim.file.empty())
      other.add("{} gives the token {} the id {}, but it is {}, as in transformers: a token that is there keeps its id, a new one gets "
                "the next free one", claim.file, quoted(std::string_view(token.content)), claim.token.id, token.id);
  }
  other.tell(parts);
  return {};
}

Result<NamedTokens> add_side_tokens(const json::Object& tokenizer, const std::vector<ClaimedToken>& own,
                                    const json::Object* tokenizer_config, const json::Object* special_tokens_map,
                                    const json::Object* added_tokens, TokenizerParts& parts) {
  SideTokens side;
  INGOT_TRY(side.read(tokenizer, own, tokenizer_config, special_tokens_map, added_tokens));
  side.tell(parts);
  INGOT_TRY(add_tokens(side.to_add(parts.added), parts));
  return side.named();
}

}  // namespace ingot
