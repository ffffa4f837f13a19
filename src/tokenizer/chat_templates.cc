#include "tokenizer/chat_templates.h"

#include <algorithm>

#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {
namespace {

constexpr char kDefault[] = "default";
constexpr size_t kMaxTemplates = 1000;

using Templates = std::vector<std::pair<std::string, std::string>>;  // by name

// One that comes again replaces the first.
void set(Templates* out, std::string_view name, std::string_view text) {
  const auto it = std::find_if(out->begin(), out->end(), [&](const auto& t) { return t.first == name; });
  if (it == out->end()) out->emplace_back(name, text);
  else it->second = text;
}

// A key of GGUF has letters, digits and underscores only.
std::string key_name(std::string name) {
  for (char& c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) c = '_';
  return name;
}

// Python reads a file's line ends as \n, however they are written.
std::string with_newlines(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    out += text[i] == '\r' ? '\n' : text[i];
  }
  return out;
}

// A text, a list of {name, template}, or an object of templates by name.
Status read_member(const json::Object& file, Templates* out) {
  const auto e = file.get("chat_template");
  if (!e) return {};
  if (json::odd_text(*e) || e->is_number()) return json::wrong_type(file.where("chat_template"), *e, "a template");
  std::string_view name, text;
  simdjson::dom::array list;
  simdjson::dom::object by_name;
  if (!e->get(text)) set(out, kDefault, text);
  if ((!e->get(list) && list.size() > kMaxTemplates) || (!e->get(by_name) && by_name.size() > kMaxTemplates))
    return bad_input("{}: more than {} templates", file.where("chat_template"), kMaxTemplates);
  if (!e->get(list))
    for (const json::Element x : list)
      if (!x["name"].get(name) && !x["template"].get(text)) set(out, name, text);
  if (!e->get(by_name))
    for (const auto field : by_name)
      if (!field.value.get(text)) set(out, field.key, text);
  return {};
}

}  // namespace

Status read_chat_templates(const json::Object* tokenizer_config, const json::Object* special_tokens_map, const json::Object* chat_template_json,
                           const HfTokenizerFiles& files, TokenizerParts& parts) {
  // Files of templates alone count where there are any.
  Templates templates, in_config;
  if (files.additional_chat_templates.size() > kMaxTemplates)
    return bad_input("additional_chat_templates: {} files; at most {} are accepted", files.additional_chat_templates.size(), kMaxTemplates);
  if (files.chat_template_jinja) {
    set(&templates, kDefault, *files.chat_template_jinja);
    if (files.chat_template_jinja->empty())
      parts.warnings.push_back("chat_template.jinja is empty: so is the chat template, as in transformers, whatever tokenizer_config.json has");
  }
  // transformers takes additional_chat_templates/file.jinja for chat_template.jinja.
  for (const auto& [name, text] : files.additional_chat_templates)
    if (name == "file") set(&templates, kDefault, text);
  for (const auto& [name, text] : files.additional_chat_templates)
    if (name != "file") set(&templates, name, text);
  for (auto& [name, text] : templates) {
    if (!unicode::is_valid_utf8(text))
      return bad_input("the chat template '{}' (chat_template.jinja or additional_chat_templates/) is not UTF-8: save the file as UTF-8", name);
    text = with_newlines(text);
  }
  if (tokenizer_config) INGOT_TRY(read_member(*tokenizer_config, &in_config));
  // What processors read, and the reference converter.
  if (templates.empty() && in_config.empty() && chat_template_json) INGOT_TRY(read_member(*chat_template_json, &in_config));
  if (special_tokens_map && special_tokens_map->get("chat_template")) {
    templates.clear(), in_config.clear();
    INGOT_TRY(read_member(*special_tokens_map, &in_config));
  }
  for (auto& [name, text] : templates.empty() ? in_config : templates) {
    std::string key = key_name(name);
    const auto same = [&](const auto& t) { return t.first == key; };
    const bool taken = std::any_of(parts.chat_templates.begin(), parts.chat_templates.end(), same);
    if (name == kDefault) parts.chat_template = std::move(text);
    else if (!key.empty() && !taken) parts.chat_templates.emplace_back(std::move(key), std::move(text));
    else parts.warnings.push_back(fmt::format("the chat template '{}' is left out: {}", name,
                                              taken ? "another has the name " + key : "it has no name"));
  }
  if (!templates.empty() && !parts.chat_template && !in_config.empty())
    parts.warnings.push_back("there is no default chat template: the files of additional_chat_templates/ take the place of what "
                             "tokenizer_config.json has, as in transformers, and none of them is default.jinja");
  return {};
}

}  // namespace ingot
