// Reads tokenizer.json (added tokens, post-processor). Its model is read in json_models.cc, the rules of normalizer, pre-tokenizer and
// decoder in json_rules.cc; what the other files say is read in side_tokens.cc, json_special.cc, end_tokens.cc and chat_templates.cc.
#include <algorithm>
#include <map>

#include "formats/json.h"
#include "tokenizer/chat_templates.h"
#include "tokenizer/class_rules.h"
#include "tokenizer/end_tokens.h"
#include "tokenizer/json_models.h"
#include "tokenizer/json_rules.h"
#include "tokenizer/json_special.h"
#include "tokenizer/overlay.h"
#include "tokenizer/sentencepiece_parts.h"
#include "tokenizer/tekken.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocab_files.h"

namespace ingot {
namespace {

// A file and what its values point into.
struct JsonFile {
  simdjson::dom::parser parser;
  std::optional<json::Object> object;

  Status read(std::string_view text, const char* name, size_t behind = 0) {
    INGOT_ASSIGN(const json::Element root, json::parse(parser, text, name, behind));
    INGOT_ASSIGN(object, json::Object::read(root, name));
    return {};
  }
  // A file that need not be there.
  Status read_some(HfTokenizerFiles::File text, const char* name) { return text ? read(*text, name) : Status(); }
  const json::Object* get() const { return object ? &*object : nullptr; }
};

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

// What a text has become: parts, each of token ids, with kText where the text itself stands.
using Around = std::vector<std::vector<int32_t>>;
constexpr int32_t kText = -1;

// A template has a place for each part there is.
Status read_template(const json::Object& o, const TokenizerParts& parts, Around* around) {
  if (around->size() > 2)
    return bad_input("{}: a TemplateProcessing behind others that leave {} parts is not supported; it has templates for one and two", o.where(), around->size());
  const char* key = around->size() == 1 ? "single" : "pair";
  INGOT_ASSIGN(const auto pieces, o.array(key));
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
  Around out;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const std::string where = o.where(key) + "[" + std::to_string(i) + "]";
    INGOT_ASSIGN(const json::Object part, json::Object::read(pieces[i], where));
    if (const auto sequence = part.get("Sequence")) {
      INGOT_ASSIGN(const json::Object s, json::Object::read(*sequence, where + ".Sequence"));
      INGOT_ASSIGN(const std::string_view id, s.needed_string("id"));
      const size_t of = id == "A" ? 0 : 1;
      if ((id != "A" && id != "B") || of >= around->size() || (of == 0 && seen)) return bad_input("{}: expected the sequence A once", where);
      seen = seen || of == 0;
      out.push_back((*around)[of]);
    } else if (const auto special = part.get("SpecialToken")) {
      INGOT_ASSIGN(const json::Object s, json::Object::read(*special, where + ".SpecialToken"));
      INGOT_ASSIGN(const std::string_view id, s.needed_string("id"));
      const auto it = specials.find(std::string(id));
      if (it == specials.end()) return bad_input("{}: {} is not in special_tokens", where, quoted(id));
      out.push_back(it->second);
    } else {
      return bad_input("{}: expected Sequence or SpecialToken", where);
    }
  }
  if (!seen) return bad_input("{}: the sequence A is missing", o.where(key));
  *around = std::move(out);
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
  Around around = {{kText}};
  for (const json::Object& o : processors) {
    INGOT_ASSIGN(const std::string_view type, o.needed_string("type"));
    if (type == "ByteLevel") continue;  // changes offsets only
    if (type == "TemplateProcessing") {
      INGOT_TRY(read_template(o, parts, &around));
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      INGOT_ASSIGN(const int32_t cls, read_token_and_id(o, "cls", parts));
      INGOT_ASSIGN(const int32_t sep, read_token_and_id(o, "sep", parts));
      // Of several parts (a template left them) each is closed, as for pairs of texts.
      for (size_t i = 0; i < around.size(); ++i) {
        if (i == 0 || type == "RobertaProcessing") around[i].insert(around[i].begin(), i == 0 ? cls : sep);
        around[i].push_back(sep);
      }
    } else {
      return bad_input(
          "{}: the type {} is not supported; supported are TemplateProcessing, ByteLevel, BertProcessing, "
          "RobertaProcessing, Sequence",
          o.where(), quoted(type));
    }
  }
  size_t texts = 0;
  for (const auto& part : around)
    for (const int32_t id : part)
      if (id == kText) ++texts;
      else (texts ? parts.suffix : parts.prefix).push_back(id);
  if (texts != 1) return bad_input("post_processor: its steps put the text in {} places, expected one", texts);
  return {};
}

// The tokenizer of tokenizer.json; its added tokens go to `own`.
Status read_tokenizer_json(const json::Object& root, std::vector<ClaimedToken>* own, std::vector<json::Object>* processors, TokenizerParts& parts) {
  if (const auto e = root.get("normalizer")) INGOT_TRY(read_normalizer(*e, parts));
  if (const auto e = root.get("pre_tokenizer")) INGOT_TRY(read_pre_tokenizer(*e, parts));
  if (const auto e = root.get("decoder")) INGOT_TRY(read_decoder(*e, parts));
  const auto model = root.get("model");
  if (!model) return bad_input("model: missing");
  INGOT_TRY(read_model(*model, parts));
  INGOT_ASSIGN(*own, read_added_tokens(root));
  INGOT_TRY(add_tokens(*own, parts));
  if (const auto e = root.get("post_processor")) INGOT_TRY(for_each_processor(*e, 0, *processors));
  return read_post_processor(*processors, parts);
}

// What tokenizer.model says of the tokens, if they are tokenizer.json's.
void take_scores(const SentencePieceModel& model, TokenizerParts& parts) {
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (parts.vocabulary->text(static_cast<int32_t>(i)) != model.pieces[i].text &&
        std::none_of(parts.added.begin(), parts.added.end(), [&](const AddedToken& t) { return t.id == static_cast<int32_t>(i); }))
      return parts.warnings.push_back(fmt::format("the token {} is {} in tokenizer.json and {} in tokenizer.model, which is left out", i,
                                                  quoted(parts.vocabulary->text(static_cast<int32_t>(i))), quoted(model.pieces[i].text)));
  }
  for (const auto& p : model.pieces) {
    parts.scores.push_back(p.score);
    parts.types.push_back(p.type);
  }
}

}  // namespace

Result<std::unique_ptr<TokenizerParts>> read_hf_tokenizer(const HfTokenizerFiles& files) {
  auto parts = std::make_unique<TokenizerParts>();
  JsonFile tokenizer, tokenizer_config, special_tokens_map, added_tokens, config, generation_config, chat_template, processor;
  std::vector<ClaimedToken> own;
  std::vector<json::Object> processors;
  const bool from_vocab = files.tokenizer_json.empty() && files.tokenizer_model.empty() && files.vocab_json && files.merges_txt;
  const bool from_json = !from_vocab && (!files.tokenizer_json.empty() || files.tokenizer_model.empty());
  std::optional<json::Object> root;
  bool tekken = false;
  if (from_json) {
    INGOT_TRY(tokenizer.read(files.tokenizer_json, "tokenizer.json", files.behind_json));
    root = std::move(*tokenizer.object).as_root();
    tekken = is_tekken(*root);
    Status s = tekken ? read_tekken(*root, *parts, &own) : read_tokenizer_json(*root, &own, &processors, *parts);
    if (s.ok() && tekken) s = add_tokens(own, *parts);
    if (!s.ok()) return s.take_error().during(tekken ? "tekken.json" : "tokenizer.json");
  }
  INGOT_TRY(tokenizer_config.read_some(files.tokenizer_config_json, "tokenizer_config.json"));
  if (!has_token_list(tokenizer_config.get())) {
    INGOT_TRY(special_tokens_map.read_some(files.special_tokens_map_json, "special_tokens_map.json"));
    INGOT_TRY(added_tokens.read_some(files.added_tokens_json, "added_tokens.json"));
  }
  INGOT_TRY(config.read_some(files.config_json, "config.json"));
  std::optional<SentencePieceModel> pieces;
  if (!files.tokenizer_model.empty() && (!from_json || (parts->bpe && !parts->bpe->options().byte_level))) {
    auto read = SentencePieceModel::read(files.tokenizer_model);
    if (read.ok()) pieces = std::move(*read);
    else if (!from_json) return read.take_error();
    else parts->warnings.push_back(read.error().message + "; tokenizer.json is enough, but what a GGUF needs beside it is made up");
  }
  std::optional<SentencePieceDirectory> directory;
  if (pieces && !from_json) {
    INGOT_TRY(directory.emplace(*pieces, tokenizer_config.get(), config.get()).read(*parts, &own));
    INGOT_TRY(add_tokens(own, *parts));
  }
  std::optional<VocabFiles> vocab_files;
  if (from_vocab) {
    INGOT_ASSIGN(vocab_files, VocabFiles::open(tokenizer_config.get(), config.get()));
    INGOT_TRY(vocab_files->read(*files.vocab_json, *files.merges_txt, *parts));
  }
  parts->own_end = static_cast<size_t>(parts->vocabulary->end_id());
  for (const AddedToken& t : parts->added) parts->own_end = std::max(parts->own_end, static_cast<size_t>(t.id) + 1);
  INGOT_ASSIGN(NamedTokens named, add_side_tokens(root ? &*root : nullptr, own, tokenizer_config.get(), special_tokens_map.get(),
                                                  added_tokens.get(), *parts));
  if (directory) {
    INGOT_TRY(directory->name_defaults(&named, *parts));
    INGOT_TRY(directory->add_around(named, *parts));
  }
  if (vocab_files) {
    INGOT_TRY(vocab_files->name_defaults(&named, *parts));
    INGOT_ASSIGN(const std::string text, vocab_files->post_processor(named, *parts));
    INGOT_TRY(processor.read(text, "add_bos_token, add_eos_token"));
    processors.push_back(*processor.get());
    INGOT_TRY(read_post_processor(processors, *parts));
  }
  if (tekken) INGOT_TRY(name_tekken(tokenizer_config.get(), &named, *parts));
  if (pieces) take_scores(*pieces, *parts);
  if (!parts->scores.empty()) {
    INGOT_ASSIGN(parts->overlay, read_overlay(added_tokens.get(), tokenizer_config.get(), root ? &*root : nullptr, config.get()));
  }
  if (root && !tekken) INGOT_TRY(read_class_rules(*root, tokenizer_config.get(), config.get(), *parts));
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
  if (directory) directory->leave_unsaid(&parts->special);
  place_ends(*parts);
  if (config.get() && !generation_config.get()) take_class_defaults(*config.get(), *parts);
  INGOT_TRY(read_chat_templates(tokenizer_config.get(), special_tokens_map.get(), chat_template.get(), files, *parts));
  return parts;
}

}  // namespace ingot
