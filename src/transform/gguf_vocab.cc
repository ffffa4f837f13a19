#include "transform/gguf_vocab.h"

#include "storage/hub.h"
#include "storage/store.h"

namespace ingot::transform {
namespace {

struct IdKey {
  const char* key;
  std::optional<int32_t> GgufVocab::*slot;
};
constexpr IdKey kIds[] = {
    {"tokenizer.ggml.bos_token_id", &GgufVocab::bos},       {"tokenizer.ggml.eos_token_id", &GgufVocab::eos},
    {"tokenizer.ggml.unknown_token_id", &GgufVocab::unk},   {"tokenizer.ggml.seperator_token_id", &GgufVocab::sep},
    {"tokenizer.ggml.padding_token_id", &GgufVocab::pad},   {"tokenizer.ggml.mask_token_id", &GgufVocab::mask},
    {"tokenizer.ggml.eot_token_id", &GgufVocab::eot},       {"tokenizer.ggml.eom_token_id", &GgufVocab::eom},
    {"tokenizer.ggml.fim_pad_token_id", &GgufVocab::fim_pad}, {"tokenizer.ggml.fim_rep_token_id", &GgufVocab::fim_rep},
    {"tokenizer.ggml.fim_sep_token_id", &GgufVocab::fim_sep}};

struct FlagKey {
  const char* key;
  std::optional<bool> GgufVocab::*slot;
};
constexpr FlagKey kFlags[] = {{"tokenizer.ggml.add_bos_token", &GgufVocab::add_bos},
                              {"tokenizer.ggml.add_eos_token", &GgufVocab::add_eos},
                              {"tokenizer.ggml.add_sep_token", &GgufVocab::add_sep},
                              {"tokenizer.ggml.remove_extra_whitespaces", &GgufVocab::remove_extra_whitespaces},
                              {"tokenizer.ggml.normalizer.lowercase", &GgufVocab::lowercase},
                              {"tokenizer.ggml.normalizer.strip_accents", &GgufVocab::strip_accents}};
constexpr char kCharsmap[] = "tokenizer.ggml.precompiled_charsmap", kScores[] = "tokenizer.ggml.scores";

constexpr char kTemplate[] = "tokenizer.chat_template", kTemplates[] = "tokenizer.chat_templates";

template <class T>
const T* get(const Artifact& a, const std::string& key) {
  const MetaValue* m = a.meta(key);
  return m ? std::get_if<T>(&m->v) : nullptr;
}

std::optional<int64_t> integer(const MetaValue& m) {
  return std::visit(
      [](const auto& v) -> std::optional<int64_t> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) return static_cast<int64_t>(v);
        else return std::nullopt;
      },
      m.v);
}

}  // namespace

void append_vocab(const GgufVocab& v, std::vector<std::pair<std::string, MetaValue>>* out) {
  const auto put = [&](const std::string& key, auto value) { out->emplace_back(key, MetaValue{std::move(value)}); };
  if (v.add_space_prefix) put("tokenizer.ggml.add_space_prefix", *v.add_space_prefix);
  put("tokenizer.ggml.model", v.model);
  if (!v.pre.empty()) put("tokenizer.ggml.pre", v.pre);
  put("tokenizer.ggml.tokens", v.tokens);
  if (!v.scores.empty()) put(kScores, v.scores);
  if (!v.token_types.empty()) put("tokenizer.ggml.token_type", v.token_types);
  if (!v.merges.empty() || v.model == "gpt2") put("tokenizer.ggml.merges", v.merges);
  for (const auto& k : kIds)
    if (v.*k.slot) put(k.key, static_cast<uint32_t>(*(v.*k.slot)));
  for (const auto& k : kFlags)
    if (v.*k.slot) put(k.key, *(v.*k.slot));
  if (!v.charsmap.empty()) {
    MetaArray bytes;
    for (const char c : v.charsmap) bytes.push_back({static_cast<uint8_t>(c)});
    put(kCharsmap, std::move(bytes));
  }
  std::vector<std::string> names;
  for (const auto& [name, text] : v.chat_templates) {
    put(fmt::format("{}.{}", kTemplate, name), text);
    names.push_back(name);
  }
  if (!names.empty()) put(kTemplates, std::move(names));
  if (v.chat_template) put(kTemplate, *v.chat_template);
}

Result<GgufVocab> gguf_vocab(const Artifact& a) {
  GgufVocab v;
  const auto* model = get<std::string>(a, "tokenizer.ggml.model");
  if (!model) return bad_input("reading {}: there is no tokenizer (tokenizer.ggml.model)", a.path);
  v.model = *model;
  if (const auto* name = get<std::string>(a, "general.name")) v.name = *name;
  if (const auto* pre = get<std::string>(a, "tokenizer.ggml.pre")) v.pre = *pre;
  const auto* tokens = get<std::vector<std::string>>(a, "tokenizer.ggml.tokens");
  if (!tokens) return bad_input("reading {}: there is no list of tokens (tokenizer.ggml.tokens)", a.path);
  v.tokens = *tokens;
  if (const auto* types = get<std::vector<int32_t>>(a, "tokenizer.ggml.token_type")) {
    if (types->size() != tokens->size())
      return bad_input("reading {}: {} tokens but {} token types", a.path, tokens->size(), types->size());
    v.token_types = *types;
  }
  if (const auto* scores = get<std::vector<float>>(a, kScores)) v.scores = *scores;
  if (const auto* scores = get<std::vector<int32_t>>(a, kScores)) v.scores.assign(scores->begin(), scores->end());
  if (!v.scores.empty() && v.scores.size() != tokens->size())
    return bad_input("reading {}: {} tokens but {} scores", a.path, tokens->size(), v.scores.size());
  if (const auto* bytes = get<MetaArray>(a, kCharsmap))
    for (const MetaValue& b : *bytes) {
      const auto byte = integer(b);
      if (!byte) return bad_input("reading {}: {} is no list of bytes", a.path, kCharsmap);
      v.charsmap += static_cast<char>(*byte);
    }
  if (const auto* merges = get<std::vector<std::string>>(a, "tokenizer.ggml.merges")) v.merges = *merges;
  for (const auto& k : kIds)
    if (const MetaValue* m = a.meta(k.key)) {
      const auto id = integer(*m);
      // 0xFFFFFFFF and -1 stand for "none" in older files.
      if (!id || *id < 0 || *id >= static_cast<int64_t>(tokens->size())) {
        if (id && (*id == -1 || *id == 0xFFFFFFFF)) continue;
        return bad_input("reading {}: {} is no id of the {} tokens", a.path, k.key, tokens->size());
      }
      v.*k.slot = static_cast<int32_t>(*id);
    }
  for (const auto& k : kFlags)
    if (const auto* b = get<bool>(a, k.key)) v.*k.slot = *b;
  if (const auto* b = get<bool>(a, "tokenizer.ggml.add_space_prefix")) v.add_space_prefix = *b;
  if (const auto* t = get<std::string>(a, kTemplate)) v.chat_template = *t;
  if (const auto* names = get<std::vector<std::string>>(a, kTemplates))
    for (const std::string& name : *names)
      if (const auto* t = get<std::string>(a, fmt::format("{}.{}", kTemplate, name))) v.chat_templates.emplace_back(name, *t);
  return v;
}

Result<Tokenizer> hf_tokenizer(const std::map<std::string, std::string>& files, const std::string& path,
                               const std::function<void(const std::string&)>& on_warning) {
  const auto empty = [&](const char* name) {
    const auto it = files.find(name);
    return it == files.end() || it->second.empty();
  };
  const bool vocab = files.count("vocab.json") && files.count("merges.txt");
  if (empty("tokenizer.json") && (files.count("tokenizer.json") || (empty("tokenizer.model") && empty("tekken.json") && !vocab))) {
    if (path.ends_with(".safetensors"))
      return bad_input("reading {}: it is a single file of weights without a tokenizer; give the model's directory, '{}'", path, parent_path(path));
    for (const char* name : {"tokenizer.json", "tekken.json", "tokenizer.model"})
      if (files.count(name)) return bad_input("reading the tokenizer of {}: there is no {} but an empty one; copy it from the model's repository", path, name);
    const auto at = locate(path);
    return bad_input("reading the tokenizer of {}: there is no tokenizer.json, tokenizer.model, tekken.json, or vocab.json with merges.txt; copy what "
                     "there is of them from the model's repository{}", path, at.ok() ? hub_download(*at->store, path) : "");
  }
  auto t = Tokenizer::from_hf(HfTokenizerFiles::among(files));
  if (!t.ok()) return t.take_error().during("reading the tokenizer of " + path);
  if (on_warning)
    for (const std::string& w : t->warnings()) on_warning(fmt::format("the tokenizer of {}: {}", path, w));
  return t;
}

}  // namespace ingot::transform
