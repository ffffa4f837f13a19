#include "tokenizer/gguf_roles.h"

#include <fmt/format.h>

#include <algorithm>

#include "tokenizer/end_tokens.h"
#include "tokenizer/llama_texts.h"
#include "tokenizer/text.h"

namespace ingot {
namespace {

// What llama.cpp takes for BOS and EOS where a file names none: GPT-2's.
constexpr size_t kDefaultEnd = 11;

constexpr size_t kNamed = 4;  // of tokens without a row

struct Role {
  const char* name;
  std::optional<int32_t> SpecialIds::*ours;
  std::optional<int32_t> GgufVocab::*theirs;
};
constexpr Role kRoles[] = {{"bos", &SpecialIds::bos, &GgufVocab::bos}, {"eos", &SpecialIds::eos, &GgufVocab::eos},
                           {"unk", &SpecialIds::unk, &GgufVocab::unk}, {"sep", &SpecialIds::sep, &GgufVocab::sep},
                           {"pad", &SpecialIds::pad, &GgufVocab::pad}, {"mask", &SpecialIds::mask, &GgufVocab::mask},
                           {"eot", &SpecialIds::eot, &GgufVocab::eot}, {"eom", &SpecialIds::eom, &GgufVocab::eom}};

const AddedToken* added(const TokenizerParts& parts, int32_t id) {
  const auto it = std::find_if(parts.added.begin(), parts.added.end(), [&](const AddedToken& t) { return t.id == id; });
  return it == parts.added.end() ? nullptr : &*it;
}
std::string shown(const TokenizerParts& parts, int32_t id) {
  const AddedToken* t = added(parts, id);
  return t ? fmt::format("{} ({})", quoted(std::string_view(t->content)), id) : std::to_string(id);
}

// The tokens that may stand for one that has no row, best first: config.json's, for EOS the others that end a text, for BOS and EOS
// what tokenizer.json puts around one.
std::vector<int32_t> next_to(const Role& role, const TokenizerParts& parts) {
  std::vector<int32_t> ids;
  if (const auto id = parts.config_ids.*role.ours) ids.push_back(*id);
  if (role.ours == &SpecialIds::bos && !parts.prefix.empty()) ids.push_back(parts.prefix.front());
  if (role.ours == &SpecialIds::eos) {
    ids.insert(ids.end(), parts.ends.begin(), parts.ends.end());
    if (!parts.suffix.empty()) ids.push_back(parts.suffix.back());
    for (const int32_t id : ends_by_text(parts)) ids.push_back(id);
  }
  return ids;
}

// What stands before (after) a text is said wherever GGUF can say it: one token, as BOS (EOS).
void say_around(const std::vector<int32_t>& around, std::optional<int32_t>& id, std::optional<bool>& add) {
  if (around.size() == 1 && id.value_or(around[0]) == around[0]) id = around[0], add = true;
}

// Of several texts for one FIM token llama.cpp takes the one that its table of tokens happens to list first: the one that is meant
// is named then.
template <class List>
std::optional<int32_t> one_of_several(const std::vector<std::string>& tokens, const List& texts) {
  std::optional<int32_t> found;
  size_t count = 0;
  for (const std::string_view text : texts)
    if (const auto it = std::find(tokens.begin(), tokens.end(), text); it != tokens.end() && count++ == 0)
      found = static_cast<int32_t>(it - tokens.begin());
  return count > 1 ? found : std::nullopt;
}

}  // namespace

void place_roles(const TokenizerParts& parts, GgufVocab* out) {
  GgufVocab& v = *out;
  const auto has_row = [&](int32_t id) { return static_cast<size_t>(id) < v.tokens.size(); };
  v.add_bos = parts.special.add_bos, v.add_eos = parts.special.add_eos, v.add_sep = parts.special.add_sep;
  // Whoever is given one of these fails; texts without them are fine.
  std::vector<std::string> lost;
  for (const AddedToken& t : parts.added)
    if (!has_row(t.id)) lost.push_back(shown(parts, t.id));
  const auto named = lost.begin() + static_cast<std::ptrdiff_t>(std::min(lost.size(), kNamed));
  if (!lost.empty())
    v.warnings.push_back(fmt::format("the embedding of {} rows has none for {}{}: left out; to use such a token, resize the embedding "
                                     "(resize_token_embeddings) and train its row", v.tokens.size(), fmt::join(lost.begin(), named, ", "),
                                     named == lost.end() ? "" : fmt::format(" and {} tokens more", lost.end() - named)));
  for (const Role& role : kRoles) {
    std::optional<int32_t>& id = v.*role.theirs;
    id = parts.special.*role.ours;
    if (!id || has_row(*id)) continue;
    const int32_t was = *id;
    const auto others = next_to(role, parts);
    const auto it = std::find_if(others.begin(), others.end(), has_row);
    id = it == others.end() ? std::nullopt : std::optional(*it);
    if (id) v.warnings.push_back(fmt::format("{}_token is {}, which has no row: {} takes its place", role.name, shown(parts, was), shown(parts, *id)));
    else if (!added(parts, was)) v.warnings.push_back(fmt::format("{}_token is {}, which has no row: it is left out", role.name, was));
    if (role.ours == &SpecialIds::bos && v.add_bos) v.add_bos = id && !parts.prefix.empty() && parts.prefix.front() == *id;
    if (role.ours == &SpecialIds::eos && v.add_eos) v.add_eos = id && !parts.suffix.empty() && parts.suffix.back() == *id;
  }
  say_around(parts.prefix, v.bos, v.add_bos);
  say_around(parts.suffix, v.eos, v.add_eos);
  if (v.model == "gpt2" && !v.eos && v.tokens.size() > kDefaultEnd)
    v.warnings.push_back(fmt::format("no file names the token that ends a text (eos_token, eos_token_id): llama.cpp will stop at the token "
                                     "{}, {}; name it in tokenizer_config.json or config.json", kDefaultEnd, quoted(std::string_view(v.tokens[kDefaultEnd]))));
  v.fim_pad = one_of_several(v.tokens, llama_texts::kFimPad);
  v.fim_rep = one_of_several(v.tokens, llama_texts::kFimRep);
  v.fim_sep = one_of_several(v.tokens, llama_texts::kFimSep);
}

}  // namespace ingot
