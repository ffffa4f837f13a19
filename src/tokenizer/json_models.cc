#include "tokenizer/json_models.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "tokenizer/unigram.h"
#include "tokenizer/word_level.h"
#include "tokenizer/word_piece.h"

namespace ingot {

Result<int32_t> read_id(json::Element e, const std::string& where) {
  int64_t v = 0;
  if (e.get(v)) return json::wrong_type(where, e, "a token id");
  if (v < 0 || v > INT32_MAX) return bad_input("{}: the id {} is out of range", where, v);
  return static_cast<int32_t>(v);
}

namespace {

constexpr size_t kMaxToken = 1 << 20;

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

// {token: id}.
Status read_vocab(json::Element e, TokenizerParts& parts, const char* where = "model.vocab", const std::unordered_set<size_t>& skipped = {}) {
  Vocabulary& vocabulary = *parts.vocabulary;
  simdjson::dom::object o;
  if (e.get(o) || json::odd_text(e)) return json::wrong_type(where, e, "an object");
  size_t count = 0, bytes = 0;
  for (const auto field : o) {
    ++count;
    bytes += field.key.size();
  }
  if (count == 0) return bad_input("{}: no tokens found", where);
  vocabulary.reserve(count, bytes);
  const int64_t bound = id_bound(count);
  size_t at = 0;
  for (const auto field : o) {
    if (!skipped.empty() && skipped.count(at++)) continue;
    if (field.key.starts_with(kOddMark))
      return bad_input("{}: the token {} holds half of a surrogate pair, which is no text", where, quoted(field.key.substr(kOddMark.size())));
    int64_t id = 0;
    if (field.value.get(id) || id < 0 || id >= bound) {
      INGOT_ASSIGN(id, read_id(field.value, fmt::format("{}[{}]", where, quoted(field.key))));
      return bad_input("{}[{}]: the id {} is far beyond the {} tokens of the vocabulary", where, quoted(field.key), id, count);
    }
    if (field.key.size() > kMaxToken)
      return bad_input("{}[{}]: a token of {} bytes; at most {} are accepted", where, quoted(field.key), field.key.size(), kMaxToken);
    if (vocabulary.add(field.key, static_cast<int32_t>(id)) == Vocabulary::Added::kYes) continue;
    if (skipped.empty())
      if (const auto repeated = superseded(o); !repeated.empty()) {
        parts.vocabulary = std::make_unique<Vocabulary>();
        return read_vocab(e, parts, where, repeated);
      }
    return bad_input("{}: the tokens {} and {} have the same id {}", where, quoted(vocabulary.text(static_cast<int32_t>(id))), quoted(field.key), id);
  }
  return {};
}

Status read_merges(json::Element e, TokenizerParts& parts) {
  simdjson::dom::array list;
  if (e.get(list)) return json::wrong_type("model.merges", e, "an array");
  parts.merges.reserve(std::min<size_t>(list.size(), 1 << 24));
  MergeReader merges(parts, [](size_t place) { return fmt::format("model.merges[{}]", place); });
  size_t at = 0;
  for (const json::Element entry : list) {
    std::string_view left, right, text;
    simdjson::dom::array pair;
    if (!entry.get(text)) {
      INGOT_TRY(merges.add(text, at));
    } else {
      if (entry.get(pair) || pair.size() != 2 || pair.at(0).get(left) || pair.at(1).get(right))
        return bad_input("model.merges[{}]: expected \"left right\" or [\"left\", \"right\"]", at);
      INGOT_TRY(merges.add(left, right, at));
    }
    ++at;
  }
  return merges.finish();
}

// The unknown token's id; kNoUnknown of one that the vocabulary lacks.
int32_t unknown_id(std::string_view text, const TokenizerParts& parts) {
  const int32_t id = parts.vocabulary->find(text);
  return id < 0 ? kNoUnknown : id;
}

Status read_bpe(const json::Object& model, bool byte_level, TokenizerParts& parts) {
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
  INGOT_TRY(read_merges(*merges, parts));
  BpeOptions options;
  options.byte_level = byte_level;
  INGOT_ASSIGN(options.ignore_merges, model.boolean("ignore_merges", false));
  INGOT_ASSIGN(options.byte_fallback, model.boolean("byte_fallback", false));
  INGOT_ASSIGN(options.fuse_unk, model.boolean("fuse_unk", false));
  INGOT_ASSIGN(const auto unk, model.string("unk_token"));
  if (unk) options.unk_id = unknown_id(*unk, parts);
  INGOT_ASSIGN(const auto going_on, model.string("continuing_subword_prefix"));
  INGOT_ASSIGN(const auto word_end, model.string("end_of_word_suffix"));
  options.going_on = going_on.value_or("");
  options.word_end = word_end.value_or("");
  INGOT_ASSIGN(auto bpe, Bpe::make(*parts.vocabulary, parts.merges, options));
  parts.bpe = bpe.get();
  parts.model = std::move(bpe);
  return {};
}

Status read_word_piece(const json::Object& model, TokenizerParts& parts) {
  const auto vocab = model.get("vocab");
  if (!vocab) return bad_input("model.vocab: missing");
  INGOT_TRY(read_vocab(*vocab, parts));
  WordPieceOptions options;
  INGOT_ASSIGN(const std::string_view unk, model.needed_string("unk_token"));
  options.unk_id = unknown_id(unk, parts);
  INGOT_ASSIGN(options.going_on, model.needed_string("continuing_subword_prefix"));
  const auto most = model.get("max_input_chars_per_word");
  if (!most) return bad_input("model.max_input_chars_per_word: missing");
  if (most->get(options.most_characters)) return json::wrong_type(model.where("max_input_chars_per_word"), *most, "a whole number");
  auto made = std::make_unique<WordPiece>(*parts.vocabulary, std::move(options));
  parts.word_piece = made.get();
  parts.model = std::move(made);
  return {};
}

Status read_word_level(const json::Object& model, TokenizerParts& parts) {
  const auto vocab = model.get("vocab");
  if (!vocab) return bad_input("model.vocab: missing");
  INGOT_TRY(read_vocab(*vocab, parts));
  INGOT_ASSIGN(const std::string_view unk, model.needed_string("unk_token"));
  parts.model = std::make_unique<WordLevel>(*parts.vocabulary, unknown_id(unk, parts));
  return {};
}

// [[token, score], ...]: the place is the id. Of a token that comes twice the last place counts.
Status read_scored_vocab(json::Element e, TokenizerParts& parts, std::vector<double>& scores) {
  simdjson::dom::array list;
  if (e.get(list)) return json::wrong_type("model.vocab", e, "an array of [token, score]");
  std::vector<std::string_view> texts;
  size_t bytes = 0;
  for (const json::Element entry : list) {
    simdjson::dom::array pair;
    std::string_view text;
    double score = 0;
    if (entry.get(pair) || pair.size() != 2 || pair.at(0).get(text) || pair.at(1).get(score))
      return bad_input("model.vocab[{}]: {} found, expected [token, score]", texts.size(), json::type_name(entry));
    if (text.size() > kMaxToken)
      return bad_input("model.vocab[{}]: a token of {} bytes; at most {} are accepted", texts.size(), text.size(), kMaxToken);
    texts.push_back(text);
    scores.push_back(score);
    bytes += text.size();
  }
  if (texts.empty()) return bad_input("model.vocab: no tokens found");
  if (texts.size() > (1u << 28)) return bad_input("model.vocab: {} tokens are too many", texts.size());
  parts.vocabulary->reserve(texts.size(), bytes);
  std::unordered_map<std::string_view, size_t> last;
  last.reserve(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) last[texts[i]] = i;
  for (size_t i = 0; i < texts.size(); ++i)
    if (last[texts[i]] == i) parts.vocabulary->add(texts[i], static_cast<int32_t>(i));
  return {};
}

Status read_unigram(const json::Object& model, TokenizerParts& parts) {
  const auto vocab = model.get("vocab");
  if (!vocab) return bad_input("model.vocab: missing");
  std::vector<double> scores;
  INGOT_TRY(read_scored_vocab(*vocab, parts, scores));
  UnigramOptions options;
  INGOT_ASSIGN(options.byte_fallback, model.boolean("byte_fallback", false));
  const auto unk = model.get("unk_id");
  if (!unk) return bad_input("model.unk_id: missing; a Unigram model needs a token for what it does not know");
  INGOT_ASSIGN(options.unk_id, read_id(*unk, "model.unk_id"));
  INGOT_ASSIGN(auto made, Unigram::make(*parts.vocabulary, scores, options));
  parts.unigram = made.get();
  parts.model = std::move(made);
  return {};
}

// Files of the library's first years name no type: what is there tells it.
std::string_view untold_type(const json::Object& model) {
  const auto vocab = model.get("vocab");
  if (vocab && vocab->is_array() && !model.get("merges")) return "Unigram";
  if (model.get("merges") || !model.get("unk_token")) return "BPE";
  return model.get("max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

}  // namespace

Status read_vocab_json(std::string_view text, const char* file, TokenizerParts& parts) {
  simdjson::dom::parser parser;
  INGOT_ASSIGN(const json::Element root, json::parse(parser, text, file));
  return read_vocab(root, parts, file);
}

Status MergeReader::add(std::string_view left, std::string_view right, size_t place) {
  sides_.push_back(left);
  sides_.push_back(right);
  places_.push_back(place);
  return places_.size() == kTogether ? finish() : Status();
}

Status MergeReader::add(std::string_view text, size_t place) {
  if (text.starts_with("#version")) return {};
  const size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos)
    return bad_input("{}: {} found, expected two tokens with one space between", where_(place), quoted(text));
  return add(text.substr(0, space), text.substr(space + 1), place);
}

Status MergeReader::finish() {
  int32_t ids[2 * kTogether];
  parts_.vocabulary->find_all(sides_, ids);
  for (size_t i = 0; i < sides_.size(); ++i)
    if (ids[i] < 0) return bad_input("{}: {} is not in the vocabulary", where_(places_[i / 2]), quoted(sides_[i]));
  for (size_t i = 0; i < places_.size(); ++i) parts_.merges.push_back({ids[2 * i], ids[2 * i + 1]});
  sides_.clear();
  places_.clear();
  return {};
}

Status read_model(json::Element e, TokenizerParts& parts) {
  INGOT_ASSIGN(const json::Object model, json::Object::read(e, "model"));
  const bool byte_level =
      std::any_of(parts.pre_tokenizer.begin(), parts.pre_tokenizer.end(),
                  [](const auto& r) { return r.kind == PreTokenizerRule::Kind::kByteLevel; });
  INGOT_ASSIGN(const auto named, model.string("type"));
  const std::string_view type = named ? *named : untold_type(model);
  if (type == "BPE") return read_bpe(model, byte_level, parts);
  if (byte_level) return bad_input("model.type: {} behind a ByteLevel pre-tokenizer is not supported", quoted(type));
  if (type == "Unigram") return read_unigram(model, parts);
  if (type == "WordPiece") return read_word_piece(model, parts);
  if (type == "WordLevel") return read_word_level(model, parts);
  return bad_input("model.type: {} is not supported; supported are BPE, Unigram, WordPiece, WordLevel", quoted(type));
}

}  // namespace ingot
