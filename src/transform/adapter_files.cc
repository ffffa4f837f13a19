#include "transform/adapter_files.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "formats/json.h"
#include "tokenizer/text.h"
#include "transform/gguf_vocab.h"

namespace ingot::transform {
namespace {

using Files = std::map<std::string, std::string>;

constexpr const char* kVocabularies[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "tekken.json"};
constexpr char kAdded[] = "added_tokens.json", kMap[] = "special_tokens_map.json", kConfig[] = "tokenizer_config.json";
constexpr char kTemplate[] = "chat_template", kTemplateFile[] = "chat_template.jinja", kTemplateJson[] = "chat_template.json";

bool is_vocabulary(const std::string& name) { return std::find(std::begin(kVocabularies), std::end(kVocabularies), name) != std::end(kVocabularies); }
bool is_tokenizer_file(const std::string& name) { return is_vocabulary(name) || name == kAdded || name == kMap || name == kConfig; }
bool is_template_file(const std::string& name) { return name == kTemplateFile || name == kTemplateJson || name.starts_with("additional_chat_templates/"); }

// Null where there is no such file or no object in it: the tokenizer's reader tells that.
OrderedJson object_in(const Files& files, const char* name) {
  const auto it = files.find(name);
  if (it == files.end()) return {};
  auto j = parse_json_ordered(it->second, name);
  return j.ok() && j->is_object() ? std::move(*j) : OrderedJson();
}

bool has_template(const OrderedJson& j) { return j.contains(kTemplate) && !j[kTemplate].empty(); }

bool has_templates(const Files& files) {
  return has_template(object_in(files, kConfig)) || has_template(object_in(files, kTemplateJson)) ||
         std::any_of(files.begin(), files.end(), [](const auto& f) { return is_template_file(f.first) && f.first != kTemplateJson && !f.second.empty(); });
}

Files with_adapter(const Files& base, const Files& own) {
  const bool own_config = own.count(kConfig) > 0, own_templates = has_templates(own);
  // The base's word for word is no other vocabulary: its tokenizer.json may stay beside the adapter's tokenizer.model.
  const bool own_vocabulary = std::any_of(own.begin(), own.end(), [&](const auto& f) {
    const auto it = base.find(f.first);
    return is_vocabulary(f.first) && (it == base.end() || it->second != f.second);
  });
  Files out = base;
  std::erase_if(out, [&](const auto& f) {
    if (is_template_file(f.first)) return own_templates;
    if (f.first == kMap) return own_vocabulary || own_config;  // it would come before the adapter's tokenizer_config.json
    return own_vocabulary && (is_vocabulary(f.first) || f.first == kAdded);
  });
  for (const auto& [name, text] : own)
    if (is_tokenizer_file(name) || (own_templates && is_template_file(name))) out[name] = text;

  OrderedJson config = object_in(out, kConfig);
  if (!config.is_object()) return out;
  bool changed = false;
  if (!own_config) {
    changed = own_vocabulary && config.erase("added_tokens_decoder") > 0;
    changed |= own_templates && config.erase(kTemplate) > 0;
  } else if (const OrderedJson base_config = object_in(base, kConfig); !own_templates && has_template(base_config)) {
    config[kTemplate] = base_config[kTemplate];
    changed = true;
  }
  if (changed) out[kConfig] = json_text(config);
  return out;
}

// For messages: the text may be anything.
std::string shown(const Tokenizer& t, int32_t id) { return quoted(t.token_piece(id), 40); }
std::string shown_with_id(const Tokenizer& t, int32_t id) { return fmt::format("{} ({})", shown(t, id), id); }

// What the one reads or writes otherwise than the other, in words.
std::vector<std::string> differences(const Tokenizer& before, const Tokenizer& after, int64_t rows, bool resized) {
  std::vector<std::string> words;
  const auto old_size = static_cast<int32_t>(before.size()), size = static_cast<int32_t>(after.size());
  int32_t others = 0, first = -1;
  for (int32_t id = 0; id < std::min(old_size, size); ++id)
    if (before.token_piece(id) != after.token_piece(id) && ++others == 1) first = id;
  if (others && !resized)
    words.push_back(fmt::format("{} ids stand for other texts (the first is {}, {} before) though the embedding is the base's, which looks like the "
                                "tokenizer of another model", others, shown_with_id(after, first), shown(before, first)));
  if (size > old_size) {
    words.push_back(fmt::format("{} tokens more, from {}", size - old_size, shown_with_id(after, old_size)));
    if (rows > 0 && size > rows) words.push_back(fmt::format("those beyond the embedding's {} rows are left out of GGUF files", rows));
  }
  if (size < old_size) words.push_back(fmt::format("{} tokens fewer", old_size - size));
  if (const auto is = after.bos(); before.bos() != is)
    words.push_back(is ? "texts begin with " + shown_with_id(after, *is) : "texts begin with no token");
  if (const auto is = after.end_ids(); before.end_ids() != is) {
    constexpr size_t kShown = 8;
    std::string ids;
    for (size_t i = 0; i < std::min(is.size(), kShown); ++i) ids += (i ? ", " : "") + shown_with_id(after, is[i]);
    if (is.size() > kShown) ids += fmt::format(" and {} others", is.size() - kShown);
    words.push_back("texts end with " + (is.empty() ? "no token" : ids));
  }
  if (const auto was = before.chat_templates(); was != after.chat_templates()) words.push_back(was.empty() ? "a chat template" : "another chat template");
  return words;
}

// No tokenizer is loaded beside one that is damaged: it is not carried on, whether this tokenizer can be read here or not.
Status check_damage(const Artifact& adapter, const Files& files) {
  for (const char* name : {kConfig, kMap, kAdded})
    if (const auto it = files.find(name); it != files.end())
      if (const auto j = parse_json(it->second, name); !j.ok())
        return bad_input("merging {}: {}{}", adapter.path, adapter.files.count(name) ? "" : "the base's ", j.error().message);
  return {};
}

}  // namespace

Status take_adapter_files(const Artifact& adapter, int64_t rows, bool resized, Files* files, const std::function<void(const std::string&)>& on_notice) {
  const Files before = std::exchange(*files, with_adapter(*files, adapter.files));
  if (*files == before) return check_damage(adapter, *files);
  const auto was = hf_tokenizer(before, "the base", {}), is = hf_tokenizer(*files, adapter.path, {});
  if (was.ok() && !is.ok())
    return bad_input("merging {}: with its tokenizer files in place of the base's there is no tokenizer: {}. Save the tokenizer there once more with "
                     "transformers, or take these files away from there: then the base's stay", adapter.path, is.error().message);
  INGOT_TRY(check_damage(adapter, *files));
  const bool more = is.ok() && (!was.ok() || is->size() > was->size());
  if (more && rows > 0 && static_cast<int64_t>(is->own_size()) > rows)
    return bad_input("merging {}: its tokenizer has {} tokens and the embedding {} rows: the embedding was resized in training and not saved. Save the adapter "
                     "with save_embedding_layers=True; if the added tokens are not used, take its tokenizer's files away", adapter.path, is->own_size(), rows);
  std::string words;
  if (was.ok() && is.ok()) {
    for (const auto& w : differences(*was, *is, rows, resized)) words += (words.empty() ? "" : "; ") + w;
  } else {
    words = "what differs is not known: " + (was.ok() ? is : was).error().message;
  }
  if (!words.empty() && on_notice) on_notice(fmt::format("'{}' brings tokenizer files, which take the place of the base's: {}", adapter.path, words));
  return {};
}

}  // namespace ingot::transform
