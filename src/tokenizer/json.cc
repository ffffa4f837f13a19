// Reads tokenizer.json (model, added tokens, post-processor). The rules of normalizer, pre-tokenizer and decoder are in
// json_rules.cc; what the other files say is read in side_tokens.cc, json_special.cc, end_tokens.cc and chat_templates.cc.
#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "formats/json.h"
#include "tokenizer/chat_templates.h"
#include "tokenizer/class_rules.h"
#include "tokenizer/end_tokens.h"
#include "tokenizer/json_rules.h"
#include "tokenizer/json_special.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

constexpr size_t kMaxJson = size_t{2} << 30;
constexpr size_t kMaxToken = 1 << 20;

Result<json::Object> parse_object(simdjson::dom::parser& parser, std::string_view text, const char* name) {
  if (text.size() > kMaxJson)
    return bad_input("{}: {} bytes found; at most {} are accepted", name, text.size(), kMaxJson);
  json::Element root;
  if (parser.parse(text.data(), text.size()).get(root)) {
    // Not strict JSON: what Python reads all the same (model_max_length of 10^30, NaN) is read, else this says where and why.
    INGOT_ASSIGN(const std::string strict, strict_json(text, name));
    if (const auto error = parser.parse(strict).get(root))
      return bad_input("{}: not valid JSON: {}", name, simdjson::error_message(error));
  }
  return json::Object::read(root, name);
}

// A file and what its values point into.
struct JsonFile {
  simdjson::dom::parser parser;
  std::optional<json::Object> object;

  Status read(std::string_view text, const char* name) {
    INGOT_ASSIGN(object, parse_object(parser, text, name));
    return {};
  }
  // A file that need not be there.
  Status read_some(HfTokenizerFiles::File text, const char* name) { return text ? read(*text, name) : Status(); }
  const json::Object* get() const { return object ? &*object : nullptr; }
};

Result<int32_t> read_id(json::Element e, const std::string& where) {
  int64_t v = 0;
  if (e.get(v)) return json::wrong_type(where, e, "a token id");
  if (v < 0 || v > INT32_MAX) return bad_input("{}: the id {} is out of range", where, v);
  return static_cast<int32_t>(v);
}

// Of a repeated token the last id counts: the fields that do not.
std::unordered_set<size_t> superseded(simdjson::dom::object o) {
  std::unordered_map<std::string_view, size_t> last;
  std::unordered_set<size_t> out;
  size_t at = 0;
  for (const auto field : o) {
    const auto [it, fresh] = last.emplace(field.key, at);
    if (!fresh) out.insert(std::exchange(it->second, at));
    ++at;
  }
  return out;
}

Status read_vocab(json::Element e, TokenizerParts& parts, const std::unordered_set<size_t>& skipped = {}) {
  Vocabulary& vocabulary = *parts.vocabulary;
  simdjson::dom::object o;
  if (e.get(o) || json::odd_text(e)) return json::wrong_type("model.vocab", e, "an object");
  size_t count = 0, bytes = 0;
  for (const auto field : o) {
    ++count;
    bytes += field.key.size();
  }
  if (count == 0) return bad_input("model.vocab: no tokens found");
  vocabulary.reserve(count, bytes);
  const int64_t bound = id_bound(count);
  size_t at = 0;
  for (const auto field : o) {
    if (!skipped.empty() && skipped.count(at++)) continue;
    if (field.key.starts_with(kOddMark))
      return bad_input("model.vocab: the token {} holds half of a surrogate pair, which is no text",
                       quoted(field.key.substr(kOddMark.size())));
    int64_t id = 0;
    if (field.value.get(id) || id < 0 || id >= bound) {
      INGOT_ASSIGN(id, read_id(field.value, "model.vocab[" + quoted(field.key) + "]"));
      return bad_input("model.vocab[{}]: the id {} is far beyond the {} tokens of the vocabulary",
                       quoted(field.key), id, count);
    }
    if (field.key.size() > kMaxToken) {
      return bad_input("model.vocab[{}]: a token of {} bytes; at most {} are accepted", quoted(field.key),
                       field.key.size(), kMaxToken);
    }
    if (vocabulary.add(field.key, static_cast<int32_t>(id)) == Vocabulary::Added::kYes) continue;
    if (skipped.empty())
      if (const auto repeated = superseded(o); !repeated.empty()) {
        parts.vocabulary = std::make_unique<Vocabulary>();
        return read_vocab(e, parts, repeated);
      }
    return bad_input("model.vocab: the tokens {} and {} have the same id {}",
                     quoted(vocabulary.text(static_cast<int32_t>(id))), quoted(field.key), id);
  }
  return {};
}

Status read_merges(json::Element e, const Vocabulary& vocabulary, std::vector<BpeMerge>& merges) {
  simdjson::dom::array list;
  if (e.get(list)) return json::wrong_type("model.merges", e, "an array");
  merges.reserve(std::min<size_t>(list.size(), 1 << 24));
  size_t at = 0;
  for (const json::Element entry : list) {
    const size_t i = at++;
    std::string_view sides[2], text;
    if (!entry.get(text)) {  // "left right"
      if (text.substr(0, 8) == "#version") continue;
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        return bad_input("model.merges[{}]: {} found, expected two tokens with one space between", i,
                         quoted(text));
      }
      sides[0] = text.substr(0, space);
      sides[1] = text.substr(space + 1);
    } else {
      simdjson::dom::array pair;
      if (entry.get(pair) || pair.size() != 2 || pair.at(0).get(sides[0]) || pair.at(1).get(sides[1])) {
        return bad_input("model.merges[{}]: expected \"left right\" or [\"left\", \"right\"]", i);
      }
    }
    int32_t ids[2];
    for (int k = 0; k < 2; ++k) {
      ids[k] = vocabulary.find(sides[k]);
      if (ids[k] < 0) {
        return bad_input("model.merges[{}]: {} is not in the vocabulary", i, quoted(sides[k]));
      }
    }
    merges.push_back({ids[0], ids[1]});
  }
  return {};
}

Status read_bpe(const json::Object& model, bool byte_level, TokenizerParts& parts) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    INGOT_ASSIGN(const auto affix, model.string(key));
    if (affix && !affix->empty())
      return bad_input("{}: {} found; it is not supported", model.where(key), quoted(*affix));
  }
  if (const auto dropout = model.get("dropout")) {
    double p = 0;
    if (dropout->get(p)) return json::wrong_type(model.where("dropout"), *dropout, "a number");
    if (p != 0)
      return bad_input("{}: {} found; a dropout other than 0 makes encoding random and is not supported",
                       model.where("dropout"), p);
  }
  const auto vocab = model.get("vocab");
  if (!vocab) return bad_input("model.vocab: missing");
  const auto merges = model.get("merges");
  if (!merges) return bad_input("model.merges: missing");
  INGOT_TRY(read_vocab(*vocab, parts));
  INGOT_TRY(read_merges(*merges, *parts.vocabulary, parts.merges));
  BpeOptions options;
  options.byte_level = byte_level;
  INGOT_ASSIGN(options.ignore_merges, model.boolean("ignore_merges", false));
  INGOT_ASSIGN(options.byte_fallback, model.boolean("byte_fallback", false));
  INGOT_ASSIGN(options.fuse_unk, model.boolean("fuse_unk", false));
  INGOT_ASSIGN(const auto unk, model.string("unk_token"));
  if (unk) {
    options.unk_id = parts.vocabulary->find(*unk);
    // Of no effect where every byte has a token (GPT-2 names one it may not hold).
    if (options.unk_id < 0 && !byte_level)
      return bad_input("model.unk_token: {} is not in the vocabulary", quoted(*unk));
  }
  INGOT_ASSIGN(auto bpe, Bpe::make(*parts.vocabulary, parts.merges, options));
  parts.bpe = bpe.get();
  parts.model = std::move(bpe);
  return {};
}

// The model of tokenizer.json by its type; old files have none and are BPE. A new kind of model is one more
// row here.
Status read_model(json::Element e, TokenizerParts& parts) {
  INGOT_ASSIGN(const json::Object model, json::Object::read(e, "model"));
  const bool byte_level =
      std::any_of(parts.pre_tokenizer.begin(), parts.pre_tokenizer.end(),
                  [](const auto& r) { return r.kind == PreTokenizerRule::Kind::kByteLevel; });
  INGOT_ASSIGN(const auto type, model.string("type"));
  if (!type || *type == "BPE") return read_bpe(model, byte_level, parts);
  return bad_input("model.type: {} is not supported; supported is BPE", quoted(*type));
}

Result<std::vector<ClaimedToken>> read_added_tokens(const json::Object& root) {
  INGOT_ASSIGN(const auto list, root.array("added_tokens"));
  std::vector<ClaimedToken> tokens;
  for (size_t i = 0; i < list.size(); ++i) {
    INGOT_ASSIGN(const json::Object o, json::Object::read(list[i], "added_tokens[" + std::to_string(i) + "]"));
    AddedToken t;
    const auto id = o.get("id");
    if (!id) return bad_input("{}: missing", o.where("id"));
    INGOT_ASSIGN(t.id, read_id(*id, o.where("id")));
    INGOT_ASSIGN(const std::string_view content, o.needed_string("content"));
    t.content = std::string(content);
    INGOT_ASSIGN(t.special, o.boolean("special", false));
    INGOT_ASSIGN(t.single_word, o.boolean("single_word", false));
    INGOT_ASSIGN(t.lstrip, o.boolean("lstrip", false));
    INGOT_ASSIGN(t.rstrip, o.boolean("rstrip", false));
    INGOT_ASSIGN(t.normalized, o.boolean("normalized", true));
    tokens.push_back({std::move(t), "tokenizer.json", false});
  }
  return tokens;
}

// --- The post-processor: what stands around one sequence ---

Status check_id(const TokenizerParts& parts, int32_t id, const std::string& where) {
  if (parts.vocabulary->has(id)) return {};
  for (const auto& t : parts.added) {
    if (t.id == id) return {};
  }
  return bad_input("{}: the id {} is no token", where, id);
}

Status read_template(const json::Object& o, TokenizerParts& parts) {
  INGOT_ASSIGN(const auto single, o.array("single"));
  std::map<std::string, std::vector<int32_t>> specials;
  if (const auto e = o.get("special_tokens")) {
    simdjson::dom::object table;
    if (e->get(table)) return json::wrong_type(o.where("special_tokens"), *e, "an object");
    for (const auto field : table) {
      const std::string where = o.where("special_tokens") + "[" + quoted(field.key) + "]";
      INGOT_ASSIGN(const json::Object entry, json::Object::read(field.value, where));
      INGOT_ASSIGN(const auto list, entry.array("ids"));
      std::vector<int32_t> ids;
      for (const auto& x : list) {
        INGOT_ASSIGN(const int32_t id, read_id(x, where + ".ids"));
        INGOT_TRY(check_id(parts, id, where + ".ids"));
        ids.push_back(id);
      }
      specials[std::string(field.key)] = std::move(ids);
    }
  }
  bool seen = false;
  std::vector<int32_t> before, after;
  for (size_t i = 0; i < single.size(); ++i) {
    const std::string where = o.where("single") + "[" + std::to_string(i) + "]";
    INGOT_ASSIGN(const json::Object part, json::Object::read(single[i], where));
    if (const auto sequence = part.get("Sequence")) {
      INGOT_ASSIGN(const json::Object s, json::Object::read(*sequence, where + ".Sequence"));
      INGOT_ASSIGN(const std::string_view id, s.needed_string("id"));
      if (id != "A" || seen) return bad_input("{}: expected the sequence A once", where);
      seen = true;
    } else if (const auto special = part.get("SpecialToken")) {
      INGOT_ASSIGN(const json::Object s, json::Object::read(*special, where + ".SpecialToken"));
      INGOT_ASSIGN(const std::string_view id, s.needed_string("id"));
      const auto it = specials.find(std::string(id));
      if (it == specials.end()) return bad_input("{}: {} is not in special_tokens", where, quoted(id));
      auto& side = seen ? after : before;
      side.insert(side.end(), it->second.begin(), it->second.end());
    } else {
      return bad_input("{}: expected Sequence or SpecialToken", where);
    }
  }
  if (!seen) return bad_input("{}: the sequence A is missing", o.where("single"));
  // A later processor wraps what the earlier ones made.
  parts.prefix.insert(parts.prefix.begin(), before.begin(), before.end());
  parts.suffix.insert(parts.suffix.end(), after.begin(), after.end());
  return {};
}

// The [token, id] of BertProcessing and RobertaProcessing.
Result<int32_t> read_token_and_id(const json::Object& o, std::string_view key, const TokenizerParts& parts) {
  INGOT_ASSIGN(const auto list, o.array(key));
  if (list.size() != 2) return bad_input("{}: expected [token, id]", o.where(key));
  INGOT_ASSIGN(const int32_t id, read_id(list[1], o.where(key)));
  INGOT_TRY(check_id(parts, id, o.where(key)));
  return id;
}

// Calls f on each processor, sequences opened.
Status for_each_processor(json::Element e, int depth, std::vector<json::Object>& out) {
  if (e.is_null()) return {};
  if (depth > 16) return bad_input("post_processor: sequences nest deeper than 16");
  INGOT_ASSIGN(json::Object o, json::Object::read(e, "post_processor"));
  INGOT_ASSIGN(const std::string_view type, o.needed_string("type"));
  if (type == "Sequence") {
    INGOT_ASSIGN(const auto list, o.array("processors"));
    for (const auto& p : list) INGOT_TRY(for_each_processor(p, depth + 1, out));
    return {};
  }
  out.push_back(std::move(o));
  return {};
}

Status read_post_processor(const std::vector<json::Object>& processors, TokenizerParts& parts) {
  for (const json::Object& o : processors) {
    INGOT_ASSIGN(const std::string_view type, o.needed_string("type"));
    if (type == "ByteLevel") continue;  // changes offsets only
    if (type == "TemplateProcessing") {
      INGOT_TRY(read_template(o, parts));
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      INGOT_ASSIGN(const int32_t cls, read_token_and_id(o, "cls", parts));
      INGOT_ASSIGN(const int32_t sep, read_token_and_id(o, "sep", parts));
      parts.prefix.insert(parts.prefix.begin(), cls);
      parts.suffix.push_back(sep);
    } else {
      return bad_input(
          "{}: the type {} is not supported; supported are TemplateProcessing, ByteLevel, BertProcessing, "
          "RobertaProcessing, Sequence",
          o.where(), quoted(type));
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<TokenizerParts>> read_hf_tokenizer(const HfTokenizerFiles& files) {
  auto parts = std::make_unique<TokenizerParts>();
  JsonFile tokenizer, tokenizer_config, special_tokens_map, added_tokens, config, generation_config, chat_template;
  INGOT_TRY(tokenizer.read(files.tokenizer_json, "tokenizer.json"));
  const json::Object root = std::move(*tokenizer.object).as_root();
  const auto within = [](Status s) {
    return s.ok() ? Status() : Status(s.take_error().during("tokenizer.json"));
  };
  if (const auto e = root.get("normalizer")) INGOT_TRY(within(read_normalizer(*e, *parts)));
  if (const auto e = root.get("pre_tokenizer")) INGOT_TRY(within(read_pre_tokenizer(*e, *parts)));
  if (const auto e = root.get("decoder")) INGOT_TRY(within(read_decoder(*e, *parts)));
  const auto model = root.get("model");
  if (!model) return bad_input("tokenizer.json: model: missing");
  INGOT_TRY(within(read_model(*model, *parts)));
  auto own = read_added_tokens(root);
  if (!own.ok()) return own.take_error().during("tokenizer.json");
  INGOT_TRY(within(add_tokens(*own, *parts)));
  parts->own_end = static_cast<size_t>(parts->vocabulary->end_id());
  for (const AddedToken& t : parts->added) parts->own_end = std::max(parts->own_end, static_cast<size_t>(t.id) + 1);
  std::vector<json::Object> processors;
  if (const auto e = root.get("post_processor")) INGOT_TRY(within(for_each_processor(*e, 0, processors)));
  INGOT_TRY(within(read_post_processor(processors, *parts)));

  INGOT_TRY(tokenizer_config.read_some(files.tokenizer_config_json, "tokenizer_config.json"));
  if (!has_token_list(tokenizer_config.get())) {
    INGOT_TRY(special_tokens_map.read_some(files.special_tokens_map_json, "special_tokens_map.json"));
    INGOT_TRY(added_tokens.read_some(files.added_tokens_json, "added_tokens.json"));
  }
  INGOT_TRY(config.read_some(files.config_json, "config.json"));
  INGOT_ASSIGN(const NamedTokens named,
               add_side_tokens(root, *own, tokenizer_config.get(), special_tokens_map.get(), added_tokens.get(), *parts));
  INGOT_TRY(read_class_rules(root, tokenizer_config.get(), config.get(), *parts));
  if (const json::Object* c = tokenizer_config.get()) {
    INGOT_ASSIGN(parts->split_special, c->boolean("split_special_tokens", false));
  }
  // transformers loads model and tokenizer without these, too, where they cannot be read.
  if (auto s = generation_config.read_some(files.generation_config_json, "generation_config.json"); !s.ok())
    parts->warnings.push_back(s.error().message + "; the tokens that end a text are those of the other files");
  if (auto s = chat_template.read_some(files.chat_template_json, "chat_template.json"); !s.ok())
    parts->warnings.push_back(s.error().message + "; the chat template is that of the other files, if they have one");
  for (const JsonFile* file : {&generation_config, &config})
    if (file->get()) INGOT_TRY(read_ends(*file->get(), *parts));
  INGOT_TRY(read_special_tokens(processors, named, tokenizer_config.get(), config.get(), *parts));
  place_ends(*parts);
  if (config.get() && !generation_config.get()) take_class_defaults(*config.get(), *parts);
  INGOT_TRY(read_chat_templates(tokenizer_config.get(), special_tokens_map.get(), chat_template.get(), files, *parts));
  return parts;
}

}  // namespace ingot
