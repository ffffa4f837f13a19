#include "transform/adapter_files.h"

#include <algorithm>
#include <vector>

#include "formats/json.h"
#include "storage/store.h"
#include "tokenizer/tokenizer.h"

namespace ingot::transform {
namespace {

using Files = std::map<std::string, std::string>;

// Those that hold the vocabulary make a directory's tokenizer its own; the others add to it.
constexpr const char* kVocabularies[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json"};
constexpr const char* kTokenizerFiles[] = {"tokenizer.json", "tokenizer.model",         "vocab.json",       "vocab.txt",            "tekken.json",
                                           "merges.txt",     "special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"};
constexpr char kConfig[] = "tokenizer_config.json", kTemplate[] = "chat_template";

bool is_template_file(const std::string& name) {
  return name == "chat_template.jinja" || name == "chat_template.json" || name.starts_with("additional_chat_templates/");
}

Result<OrderedJson> config_of(const Files& files, const std::string& path) {
  const auto it = files.find(kConfig);
  if (it == files.end()) return OrderedJson::object();
  INGOT_ASSIGN(OrderedJson j, parse_json_ordered(it->second, "reading " + join_path(path, kConfig)));
  return j.is_object() ? std::move(j) : OrderedJson::object();
}

// All that a directory says about templates, to be compared.
std::string templates_of(const Files& files, const OrderedJson& config) {
  std::string all = config.contains(kTemplate) && !config[kTemplate].is_null() ? config[kTemplate].dump() : "";
  for (const auto& [name, text] : files)
    if (is_template_file(name)) all += name == "chat_template.jinja" && all.empty() ? OrderedJson(text).dump() : name + text;
  return all;
}

Result<Tokenizer> tokenizer_of(const Files& files) {
  const auto text = [&](const char* name) -> std::string_view {
    const auto it = files.find(name);
    return it == files.end() ? std::string_view() : std::string_view(it->second);
  };
  return Tokenizer::from_hf({text("tokenizer.json"), text(kConfig), text("config.json"), text("chat_template.jinja")});
}

std::string token_text(const Tokenizer& t, int32_t id) { return fmt::format("'{}' ({})", t.token_piece(id), id); }

// What the one reads or writes otherwise than the other, in words.
struct Difference {
  std::vector<std::string> words;
  std::string other_texts;  // ids that stand for something else
};
Difference compare(const Tokenizer& before, const Tokenizer& after) {
  Difference d;
  const auto old_size = static_cast<int32_t>(before.size()), size = static_cast<int32_t>(after.size());
  int32_t others = 0, first = -1;
  for (int32_t id = 0; id < std::min(old_size, size); ++id)
    if (before.token_piece(id) != after.token_piece(id) && ++others == 1) first = id;
  if (others) d.other_texts = fmt::format("{} ids stand for other texts (the first is {}, '{}' before)", others, token_text(after, first), before.token_piece(first));
  if (size > old_size) d.words.push_back(fmt::format("{} tokens more, from {}", size - old_size, token_text(after, old_size)));
  if (size < old_size) d.words.push_back(fmt::format("{} tokens fewer", old_size - size));
  if (const auto was = before.bos(), is = after.bos(); was != is) d.words.push_back(is ? "texts begin with " + token_text(after, *is) : "texts begin with no token");
  if (const auto was = before.end_ids(), is = after.end_ids(); was != is) {
    std::string ids;
    for (int32_t id : is) ids += (ids.empty() ? "" : ", ") + token_text(after, id);
    d.words.push_back("texts end with " + (ids.empty() ? "no token" : ids));
  }
  return d;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& w : words) text += (text.empty() ? "" : "; ") + w;
  return text;
}

}  // namespace

Status take_adapter_files(const Artifact& adapter, int64_t rows, bool resized, Files* files, const std::function<void(const std::string&)>& on_notice) {
  const Files before = *files;
  INGOT_ASSIGN(const OrderedJson base_config, config_of(before, "the base"));
  INGOT_ASSIGN(OrderedJson own_config, config_of(adapter.files, adapter.path));
  if (std::any_of(std::begin(kVocabularies), std::end(kVocabularies), [&](const char* name) { return adapter.files.count(name) > 0; }))
    for (const char* name : kTokenizerFiles) files->erase(name);
  for (const char* name : kTokenizerFiles)
    if (const auto it = adapter.files.find(name); it != adapter.files.end()) (*files)[name] = it->second;
  const std::string old_templates = templates_of(before, base_config), own_templates = templates_of(adapter.files, own_config);
  const bool config_taken = adapter.files.count(kConfig) > 0;
  if (!own_templates.empty()) {
    std::erase_if(*files, [](const auto& f) { return is_template_file(f.first); });
    for (const auto& [name, text] : adapter.files)
      if (is_template_file(name)) (*files)[name] = text;
    if (OrderedJson config = base_config; !config_taken && config.erase(kTemplate)) (*files)[kConfig] = json_text(config);
  } else if (config_taken && base_config.contains(kTemplate)) {
    own_config[kTemplate] = base_config[kTemplate];
    (*files)[kConfig] = json_text(own_config);
  }
  if (*files == before) return {};

  Difference d;
  const auto was = tokenizer_of(before), is = tokenizer_of(*files);
  if (was.ok() && is.ok()) d = compare(*was, *is);
  if (!own_templates.empty() && own_templates != old_templates) d.words.push_back(old_templates.empty() ? "a chat template" : "another chat template");
  if (is.ok() && rows > 0 && static_cast<int64_t>(is->size()) > rows)
    return bad_input("merging {}: its tokenizer has {} tokens and the embedding {} rows: the embedding was resized in training and not saved. Save the adapter with "
                     "save_embedding_layers=True; if the added tokens are not used, take its tokenizer's files away", adapter.path, is->size(), rows);
  if (!d.other_texts.empty() && !resized) d.words.insert(d.words.begin(), d.other_texts + " though the embedding is the base's, which looks like the tokenizer of another model");
  if (!d.words.empty() && on_notice) on_notice(fmt::format("'{}' brings its own tokenizer, which takes the place of the base's: {}", adapter.path, joined(d.words)));
  return {};
}

}  // namespace ingot::transform
