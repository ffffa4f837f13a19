// The tokenizer's pipeline. Reading and writing its descriptions is elsewhere (json.cc, gguf.cc).
#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <mutex>

#include "tokenizer/end_tokens.h"
#include "tokenizer/gguf_models.h"
#include "tokenizer/parts.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {

struct Tokenizer::Impl {
  std::unique_ptr<TokenizerParts> parts;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Decoder decoder;
  AddedTokenFinder raw_added, normalized_added;  // sought before and after normalization
  std::vector<const AddedToken*> added_by_id;
  std::vector<std::string> added_texts;  // beside added_by_id: what the decoder takes them for

  // What a call needs for itself (the model's cache of pieces) outlives it; each call takes one.
  struct Scratch {
    std::unique_ptr<TokenModel::Scratch> model;
    std::shared_ptr<Regex::Workspace> regex;
  };
  std::mutex mutex;
  std::vector<Scratch> idle;

  const AddedToken* added(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < added_by_id.size() ? added_by_id[static_cast<size_t>(id)]
                                                                   : nullptr;
  }
  Scratch take_scratch() {
    {
      std::lock_guard lock(mutex);
      if (!idle.empty()) {
        auto s = std::move(idle.back());
        idle.pop_back();
        return s;
      }
    }
    return {parts->model->new_scratch(), Regex::new_workspace()};
  }
  void give_scratch(Scratch s) {
    std::lock_guard lock(mutex);
    idle.push_back(std::move(s));
  }
  std::string decoder_text(int32_t id) const {
    return added(id) ? added_texts[static_cast<size_t>(id)] : std::string(parts->vocabulary->text(id));
  }
};

namespace {

class ModelSink : public PieceSink {
 public:
  ModelSink(const TokenModel& model, TokenModel::Scratch& scratch, std::vector<int32_t>& ids)
      : model_(model), scratch_(scratch), ids_(ids) {}
  void piece(std::string_view text, bool) override { model_.encode(text, scratch_, ids_); }

 private:
  const TokenModel& model_;
  TokenModel::Scratch& scratch_;
  std::vector<int32_t>& ids_;
};

// The steps of a pre-tokenizer, for people.
std::string describe(const PreTokenizerRules& rules) {
  std::string out;
  for (const auto& rule : rules) out += (out.empty() ? "" : ", ") + rule.describe();
  return out.empty() ? "none" : out;
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

const TokenizerParts& Tokenizer::parts() const { return *impl_->parts; }

HfTokenizerFiles HfTokenizerFiles::among(const std::map<std::string, std::string>& files) {
  const auto text = [&](const char* name) {
    const auto it = files.find(name);
    return it == files.end() ? HfTokenizerFiles::File() : HfTokenizerFiles::File(it->second);
  };
  const auto json = text("tokenizer.json");
  HfTokenizerFiles out = {json ? *json : text("tekken.json").value_or(""), text("tokenizer_config.json"),   text("config.json"),
                          text("chat_template.jinja"),         text("special_tokens_map.json"), text("added_tokens.json"),
                          text("generation_config.json"),      text("chat_template.json"),      {},
                          text("tokenizer.model").value_or(""), text("vocab.json"),               text("merges.txt")};
  if (const auto it = files.find("tokenizer.json"); it != files.end()) out.behind_json = it->second.capacity() - it->second.size();
  constexpr std::string_view kFolder = "additional_chat_templates/", kEnd = ".jinja";
  for (const auto& [path, content] : files)
    if (const std::string_view p = path; p.starts_with(kFolder) && p.ends_with(kEnd))
      out.additional_chat_templates.emplace_back(p.substr(kFolder.size(), p.size() - kFolder.size() - kEnd.size()), content);
  return out;
}

Result<Tokenizer> Tokenizer::from_hf(const HfTokenizerFiles& files) {
  INGOT_ASSIGN(auto parts, read_hf_tokenizer(files));
  return build(std::move(parts));
}

Result<Tokenizer> Tokenizer::from_gguf(const GgufVocab& vocab) {
  INGOT_ASSIGN(auto parts, read_gguf_vocab(vocab));
  return build(std::move(parts));
}

Result<Tokenizer> Tokenizer::build(std::unique_ptr<TokenizerParts> parts) {
  auto impl = std::make_unique<Impl>();
  INGOT_ASSIGN(impl->normalizer, Normalizer::compile(parts->normalizer));
  INGOT_ASSIGN(impl->pre_tokenizer, PreTokenizer::compile(parts->pre_tokenizer));
  INGOT_ASSIGN(impl->decoder, Decoder::make(parts->decoder));
  const auto workspace = Regex::new_workspace();
  for (const AddedToken& t : parts->added) {
    const auto id = static_cast<size_t>(t.id);
    if (id >= impl->added_by_id.size()) impl->added_by_id.resize(id + 1), impl->added_texts.resize(id + 1);
    impl->added_by_id[id] = &t;
    // The library decodes an added token like any other, what it is normalized to; in llama.cpp it is its text, which the alphabet of
    // bytes has to leave as it is.
    std::string& decoded = impl->added_texts[id];
    if (parts->longest_first && impl->decoder.byte_level()) unicode::append_byte_chars(decoded, t.content);
    else decoded = t.content;
    if (!t.normalized) {
      impl->raw_added.add(t.content, &t);
    } else if (impl->normalizer.empty()) {
      impl->normalized_added.add(t.content, &t);
    } else {
      INGOT_ASSIGN(const std::string text, impl->normalizer.apply(t.content, *workspace));
      // The library finds it between any two characters.
      if (text.empty())
        return bad_input("tokenizer.json: the normalizer leaves nothing of the added token {}, which is sought in normalized text: that is "
                         "not supported; set its \"normalized\" to false", quoted(std::string_view(t.content)));
      impl->normalized_added.add(text, &t);
      decoded = text;
    }
  }
  impl->parts = std::move(parts);
  return Tokenizer(std::move(impl));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, bool add_special,
                                               bool parse_special) const {
  if (impl_->parts->split_special) parse_special = false;
  std::string repaired;
  if (!unicode::is_valid_utf8(text)) {
    repaired = unicode::replace_invalid_utf8(text);
    text = repaired;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  if (add_special) ids = impl_->parts->prefix;
  auto scratch = impl_->take_scratch();
  ModelSink sink(*impl_->parts->model, *scratch.model, ids);
  Status status;
  const auto segment = [&](const AddedTokenFinder::Segment& outer) {
    if (!status.ok()) return;
    if (outer.token) {
      ids.push_back(outer.token->id);
      return;
    }
    std::string_view part = text.substr(outer.begin, outer.end - outer.begin);
    std::string normalized;
    bool first = outer.begin == 0;
    if (!impl_->normalizer.empty()) {
      auto result = impl_->normalizer.apply(part, *scratch.regex, &first);
      if (!result.ok()) {
        status = Status(result.take_error());
        return;
      }
      normalized = std::move(*result);
      part = normalized;
    }
    impl_->normalized_added.split(part, parse_special, [&](const AddedTokenFinder::Segment& inner) {
      if (!status.ok()) return;
      if (inner.token) {
        ids.push_back(inner.token->id);
      } else {
        status = impl_->pre_tokenizer.split(part.substr(inner.begin, inner.end - inner.begin), *scratch.regex, sink,
                                            first && inner.begin == 0);
      }
    });
  };
  if (impl_->parts->longest_first) {
    for (const auto& s : impl_->raw_added.split_longest_first(text, parse_special)) segment(s);
  } else {
    impl_->raw_added.split(text, parse_special, segment);
  }
  impl_->give_scratch(std::move(scratch));
  if (!status.ok()) return status.take_error();
  if (std::find(ids.begin(), ids.end(), kNoUnknown) != ids.end())
    return bad_input("the text has characters that no token is for, and the unknown token that tokenizer.json names (unk_token) is not in the "
                     "vocabulary: add it there");
  if (add_special) ids.insert(ids.end(), impl_->parts->suffix.begin(), impl_->parts->suffix.end());
  return ids;
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    const AddedToken* a = impl_->added(id);
    if (!a && !impl_->parts->vocabulary->has(id)) continue;
    if (a && a->special && skip_special) continue;
    tokens.push_back(impl_->decoder_text(id));
  }
  std::string out = impl_->decoder.decode(std::move(tokens));
  return unicode::is_valid_utf8(out) ? out : unicode::replace_invalid_utf8(out);
}

std::optional<std::string> Tokenizer::stream_piece(int32_t id, bool skip_special, bool first) const {
  const AddedToken* a = impl_->added(id);
  if (!a && !impl_->parts->vocabulary->has(id)) return std::nullopt;
  if (a && a->special && skip_special) return std::nullopt;
  return impl_->decoder.piece(impl_->decoder_text(id), first);
}

std::string Tokenizer::Stream::next(int32_t id) {
  if (const auto piece = tokenizer_->stream_piece(id, skip_special_, first_)) {
    first_ = false;
    pending_ += *piece;
  }
  const size_t n = unicode::complete_prefix(pending_);
  std::string out = unicode::replace_invalid_utf8(std::string_view(pending_).substr(0, n));
  pending_.erase(0, n);
  return out;
}

std::string Tokenizer::Stream::finish() {
  std::string out = unicode::replace_invalid_utf8(pending_);
  pending_.clear();
  first_ = true;
  return out;
}

std::string Tokenizer::token_piece(int32_t id) const { return stream_piece(id, false, false).value_or(""); }

size_t Tokenizer::size() const {
  return std::max(impl_->added_by_id.size(), static_cast<size_t>(impl_->parts->vocabulary->end_id()));
}

size_t Tokenizer::own_size() const { return std::min(size(), impl_->parts->own_end); }

std::optional<int32_t> Tokenizer::bos() const { return impl_->parts->special.bos; }

std::map<std::string, std::string> Tokenizer::special_tokens() const {
  const SpecialIds& s = impl_->parts->special;
  std::map<std::string, std::string> out;
  for (const auto& [name, id] : {std::pair{"bos_token", s.bos}, {"eos_token", s.eos}, {"unk_token", s.unk}, {"sep_token", s.sep}, {"pad_token", s.pad}, {"mask_token", s.mask}}) {
    if (!id) continue;
    const AddedToken* added = impl_->added(*id);
    if (added || impl_->parts->vocabulary->has(*id)) out[name] = added ? added->content : std::string(impl_->parts->vocabulary->text(*id));
  }
  return out;
}

std::vector<int32_t> Tokenizer::end_ids() const {
  const SpecialIds& s = impl_->parts->special;
  std::vector<int32_t> ids;
  const auto add = [&](int32_t id) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  };
  for (const auto& id : {s.eos, s.eot, s.eom})
    if (id) add(*id);
  for (const int32_t id : impl_->parts->ends) add(id);
  for (const int32_t id : ends_by_text(*impl_->parts)) add(id);
  return ids;
}

std::map<std::string, std::string> Tokenizer::chat_templates() const {
  std::map<std::string, std::string> out(impl_->parts->chat_templates.begin(), impl_->parts->chat_templates.end());
  if (impl_->parts->chat_template) out["default"] = *impl_->parts->chat_template;
  return out;
}

const std::vector<std::string>& Tokenizer::warnings() const { return impl_->parts->warnings; }

Status Tokenizer::override_pre_tokenizer(std::string_view name) {
  if (name.empty() || !find_pre_tokenizer(name)) {
    std::string known;
    for (const auto& n : pre_tokenizer_names()) known += (known.empty() ? "" : ", ") + n;
    return usage("--pre-tokenizer {}: not a known pre-tokenizer; known are {}", quoted(name), known);
  }
  impl_->parts->pre_name = std::string(name);
  return {};
}

Result<std::string> Tokenizer::pre_tokenizer_name() const {
  const TokenizerParts& parts = *impl_->parts;
  if (!parts.pre_name.empty()) return parts.pre_name;
  const std::string_view model = gguf_model_of(parts);
  if (!model.empty() && model != "gpt2") return "default";  // only byte-level BPE has others
  PreTokenizerRules rules = parts.pre_tokenizer;
  for (auto& rule : rules) rule.add_prefix_space = false;  // under no name is there one: a gap (gguf_gaps.h)
  const auto matches = match_pre_tokenizers(rules);
  if (matches.empty()) {
    return bad_input(
        "tokenizer.json: the pre-tokenizer is none that llama.cpp knows; its rules are: {}. To use one that "
        "cuts "
        "text in nearly the same way, name it with --pre-tokenizer NAME (for example llama-bpe, qwen2, "
        "gpt-2)",
        describe(parts.pre_tokenizer));
  }
  if (!parts.bpe) return matches[0]->name;
  const bool ignore_merges = parts.bpe->options().ignore_merges;
  for (const auto* m : matches) {
    if (m->ignore_merges == ignore_merges) return m->name;
  }
  // The name implies the other ignore_merges: harmless when each token is what its own merges give.
  std::vector<bool> skip(size(), false);
  for (const auto& t : parts.added) skip[static_cast<size_t>(t.id)] = true;
  if (parts.bpe->beyond_merges(skip, 1).empty()) return matches[0]->name;
  return bad_input(
      "tokenizer.json: the pre-tokenizer's rules are those of {}, but llama.cpp reads that name with "
      "ignore_merges={} and "
      "the model has {}, which changes how some words are cut. To accept that, use --pre-tokenizer {}",
      matches[0]->name, matches[0]->ignore_merges, ignore_merges, matches[0]->name);
}

Result<GgufVocab> Tokenizer::to_gguf_vocab(size_t n_vocab) const {
  const Bpe* bpe = impl_->parts->bpe;
  if (bpe && bpe->options().affixes())
    return bad_input("tokenizer.json: GGUF has no place for what tokens within a word begin with ({}) or at its end end with ({}): "
                     "continuing_subword_prefix and end_of_word_suffix of the model", quoted(std::string_view(bpe->options().going_on)),
                     quoted(std::string_view(bpe->options().word_end)));
  if (!bpe && !impl_->parts->unigram && !impl_->parts->word_piece)
    return bad_input("tokenizer.json: GGUF has no kind of model for WordLevel, which knows whole words alone");
  if (gguf_model_of(*impl_->parts).empty()) {
    return bad_input(
        "tokenizer.json: GGUF has no place for the rules by which this {} cuts text: {}. To have it cut at spaces alone, as a model of "
        "SentencePiece is, use --pre-tokenizer default",
        impl_->parts->bpe ? "BPE over characters" : "Unigram model", describe(impl_->parts->pre_tokenizer));
  }
  if (n_vocab == 0) n_vocab = size();
  const TokenizerParts& parts = *impl_->parts;
  if (n_vocab < static_cast<size_t>(parts.vocabulary->end_id()))
    return bad_input("the embedding has {} rows but the vocabulary of tokenizer.json ids up to {}: it is another model's tokenizer, or rows "
                     "are missing; take the tokenizer's files from where the weights come from", n_vocab, parts.vocabulary->end_id() - 1);
  for (const auto* around : {&parts.prefix, &parts.suffix})
    for (const int32_t id : *around)
      if (static_cast<size_t>(id) >= n_vocab)
        return bad_input("the post-processor of tokenizer.json puts the token {} ({}) around every text, but the embedding has {} rows: "
                         "resize it (resize_token_embeddings) or take the tokenizer's files from where the weights come from",
                         quoted(std::string_view(token_piece(id))), id, n_vocab);
  INGOT_ASSIGN(const std::string pre, pre_tokenizer_name());
  return write_gguf_vocab(parts, pre, n_vocab);
}

}  // namespace ingot
