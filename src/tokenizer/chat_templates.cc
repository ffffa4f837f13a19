#include "tokenizer/chat_templates.h"

#include <algorithm>

namespace ingot {
namespace {

constexpr char kDefault[] = "default";

// Templates by name; one that comes again replaces the first.
class Templates {
 public:
  void set(std::string_view name, std::string_view text) {
    const auto it = std::find_if(list_.begin(), list_.end(), [&](const auto& t) { return t.first == name; });
    if (it == list_.end()) list_.emplace_back(name, text);
    else it->second = text;
  }
  bool empty() const { return list_.empty(); }
  void move_to(TokenizerParts& parts) &&;

 private:
  std::vector<std::pair<std::string, std::string>> list_;
};

// A key of GGUF has letters, digits and underscores only.
std::string key_name(std::string name) {
  for (char& c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) c = '_';
  return name;
}

void Templates::move_to(TokenizerParts& parts) && {
  for (auto& [name, text] : list_) {
    if (name == kDefault) {
      parts.chat_template = std::move(text);
      continue;
    }
    std::string key = key_name(name);
    const bool taken = std::any_of(parts.chat_templates.begin(), parts.chat_templates.end(), [&](const auto& t) { return t.first == key; });
    if (key.empty() || taken) parts.warnings.push_back(fmt::format("the chat template '{}' is left out: {}", name,
                                                                   key.empty() ? "it has no name" : "another has the name " + key));
    else parts.chat_templates.emplace_back(std::move(key), std::move(text));
  }
}

// A text, a list of {name, template}, or an object of templates by name.
Status read_member(const json::Object& file, Templates* out) {
  const auto e = file.get("chat_template");
  if (!e) return {};
  if (json::odd_text(*e) || e->is_number()) return json::wrong_type(file.where("chat_template"), *e, "a template");
  std::string_view name, text;
  simdjson::dom::array list;
  simdjson::dom::object by_name;
  if (!e->get(text)) out->set(kDefault, text);
  if (!e->get(list))
    for (const json::Element x : list)
      if (!x["name"].get(name) && !x["template"].get(text)) out->set(name, text);
  if (!e->get(by_name))
    for (const auto field : by_name)
      if (!field.value.get(text)) out->set(field.key, text);
  return {};
}

}  // namespace

Status read_chat_templates(const json::Object* tokenizer_config, const json::Object* chat_template_json, const HfTokenizerFiles& files,
                           TokenizerParts& parts) {
  // Files of templates alone count where there are any.
  Templates templates, in_config;
  if (!files.chat_template_jinja.empty()) templates.set(kDefault, files.chat_template_jinja);
  for (const auto& [name, text] : files.additional_chat_templates) templates.set(name, text);
  if (tokenizer_config) INGOT_TRY(read_member(*tokenizer_config, &in_config));
  // What processors read, and the reference converter.
  if (templates.empty() && in_config.empty() && chat_template_json) INGOT_TRY(read_member(*chat_template_json, &in_config));
  const bool from_files = !templates.empty();
  std::move(from_files ? templates : in_config).move_to(parts);
  if (from_files && !parts.chat_template && !in_config.empty())
    parts.warnings.push_back("there is no default chat template: the files of additional_chat_templates/ take the place of the one in "
                             "tokenizer_config.json, as in transformers, and none of them is default.jinja");
  return {};
}

}  // namespace ingot
