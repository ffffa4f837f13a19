// Metadata values and the tokenizer's summary.
#include "cli/metadata.h"

#include <simdjson.h>

#include <cmath>

#include "cli/generation.h"
#include "cli/text.h"
#include "formats/json.h"
#include "tokenizer/sentencepiece.h"

namespace ingot::cli {

namespace {

template <class T>
OrderedJson scalar(const T& v) {
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(v)) return fmt::format("{}", v);  // JSON has no NaN
  }
  return OrderedJson(v);
}

template <class T>
OrderedJson array(const T& values, size_t limit) {
  OrderedJson a = OrderedJson::array();
  for (const auto& v : values) {
    if (values.size() > limit && a.size() >= 3) return {{"count", values.size()}, {"first", a}};
    if constexpr (std::is_same_v<T, MetaArray>) {
      a.push_back(meta_json(v, limit));
    } else {
      a.push_back(scalar(v));
    }
  }
  return a;
}

}  // namespace

OrderedJson meta_json(const MetaValue& value, size_t limit) {
  return std::visit(
      [&](const auto& v) -> OrderedJson {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string> || std::is_arithmetic_v<T>) {
          return scalar(v);
        } else {
          return array(v, limit);
        }
      },
      value.v);
}

nlohmann::ordered_json shape_json(const Shape& shape) {
  auto list = nlohmann::ordered_json::array();
  for (int i = 0; i < shape.rank; ++i) list.push_back(shape[i]);
  return list;
}

std::string meta_text(const MetaValue& value, int width) {
  const OrderedJson j = meta_json(value, 6);
  const auto dump = [](const OrderedJson& x) { return x.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); };
  std::string s;
  if (j.is_string()) {
    s = printable(j.get<std::string>());
  } else if (j.is_object()) {
    s = fmt::format("{} values: ", format_count(j["count"].get<uint64_t>()));
    for (const OrderedJson& v : j["first"]) s += printable(dump(v)) + ", ";
    s += "..";
  } else {
    s = printable(dump(j));
  }
  // The head says more than the middle here.
  if (display_width(s) <= width) return s;
  size_t n = 0;
  while (n < s.size() && display_width(std::string_view(s).substr(0, n + 1)) <= width - 2) ++n;
  return s.substr(0, complete_utf8(std::string_view(s).substr(0, n))) + "..";
}

namespace {

// "a", "a b" of a list, 3.
std::string plain_text(const OrderedJson& j) {
  if (j.is_string()) return printable(j.get<std::string>());
  if (!j.is_array()) return printable(j.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
  std::string s;
  for (const OrderedJson& e : j) s += fmt::format("{}{}", s.empty() ? "" : " ", plain_text(e));
  return s;
}

OrderedJson from_metadata(const Artifact& a) {
  OrderedJson j = {{"model", meta_json(*a.meta("tokenizer.ggml.model"), 16)}};
  if (const MetaValue* tokens = a.meta("tokenizer.ggml.tokens"))
    if (const auto* list = std::get_if<std::vector<std::string>>(&tokens->v)) j["tokens"] = list->size();
  for (const auto& [key, name] : {std::pair{"tokenizer.ggml.pre", "pre_tokenizer"},
                                  {"tokenizer.ggml.bos_token_id", "bos"},
                                  {"tokenizer.ggml.eos_token_id", "eos"},
                                  {"tokenizer.ggml.add_bos_token", "add_bos"}})
    if (const MetaValue* v = a.meta(key)) j[name] = meta_json(*v, 16);
  OrderedJson templates = OrderedJson::array();
  const std::string_view plain = "tokenizer.chat_template", named = "tokenizer.chat_template.";
  for (const auto& [key, value] : a.metadata)
    if (key == plain || key.starts_with(named)) templates.push_back(key == plain ? "default" : key.substr(named.size()));
  j["chat_template"] = !templates.empty();
  if (!templates.empty()) j["chat_templates"] = templates;
  return j;
}

std::string no_object(const std::string& text) {
  const auto strict = strict_json(text, "tokenizer.json");
  return strict.ok() ? "tokenizer.json holds no JSON object" : strict.error().message;
}

bool has_template(const Artifact& a) {
  const auto config = a.files.find("tokenizer_config.json");
  const auto parsed = config == a.files.end() ? Result<Json>(Json()) : parse_json(config->second, "");
  return a.files.count("chat_template.jinja") > 0 || (parsed.ok() && json_member(*parsed, "chat_template"));
}

OrderedJson from_files(const Artifact& a) {
  OrderedJson j;
  const auto it = a.files.find("tokenizer.json");
  if (const auto model = a.files.find("tokenizer.model"); it == a.files.end() && model != a.files.end()) {
    const auto pieces = SentencePieceModel::read(model->second);
    if (!pieces.ok()) return {{"error", pieces.error().message}};
    j["model"] = pieces->unigram ? "SentencePiece (Unigram)" : "SentencePiece (BPE)";
    j["tokens"] = pieces->pieces.size();
    j["chat_template"] = has_template(a);
    return j;
  }
  if (it == a.files.end()) return j;
  // Only counts are wanted, from a file that may have 20 MB; the tokenizer itself checks the rest.
  namespace od = simdjson::ondemand;
  od::parser parser;
  const std::string_view bom = "\xEF\xBB\xBF";
  const simdjson::padded_string text(std::string_view(it->second).substr(it->second.starts_with(bom) ? bom.size() : 0));
  od::document document;
  od::object root, model;
  if (parser.iterate(text).get(document) || document.get_object().get(root))
    return {{"error", no_object(it->second)}};
  od::array added;
  size_t count = 0;
  if (!root.find_field_unordered("added_tokens").get_array().get(added) && !added.count_elements().get(count))
    j["added_tokens"] = count;
  std::string_view type;
  if (!root.find_field_unordered("model").get_object().get(model)) {
    if (!model.find_field_unordered("type").get_string().get(type)) j["model"] = std::string(type);
    od::object vocabulary;
    if (!model.find_field_unordered("vocab").get_object().get(vocabulary) &&
        !vocabulary.count_fields().get(count))
      j["tokens"] = count;
  }
  j["chat_template"] = has_template(a);
  return j;
}

}  // namespace

OrderedJson tokenizer_json(const Artifact& a, const Artifact* gguf) {
  const Artifact& told = gguf ? *gguf : a;
  OrderedJson j = told.meta("tokenizer.ggml.model") ? from_metadata(told) : from_files(a);
  if (j.is_null()) return j;
  if (const auto tokenizer = read_tokenizer(a, {}); tokenizer.ok()) {
    OrderedJson end = OrderedJson::array();
    const MetaValue* tokens = told.meta("tokenizer.ggml.tokens");
    const auto* rows = tokens ? std::get_if<std::vector<std::string>>(&tokens->v) : nullptr;
    for (const int32_t id : tokenizer->end_ids())
      if (!rows || static_cast<size_t>(id) < rows->size()) end.push_back(OrderedJson{{"id", id}, {"text", tokenizer->token_piece(id)}});
    j["end"] = end;
  }
  return j;
}

std::string end_text(const OrderedJson& j) {
  std::string s;
  if (const auto end = j.find("end"); end != j.end())
    for (const OrderedJson& e : *end)
      s += fmt::format("{}{} '{}'", s.empty() ? "" : ", ", e["id"].get<int32_t>(), printable(e["text"].get<std::string>()));
  return s;
}

std::string tokenizer_text(const OrderedJson& j) {
  std::string s;
  for (const auto& [k, v] : j.items()) {
    if (k == "end" || (k == "chat_template" && j.contains("chat_templates"))) continue;
    std::string key = k;
    for (char& c : key)
      if (c == '_') c = ' ';
    s += fmt::format("{}{} {}", s.empty() ? "" : ", ", key, v.is_boolean() ? (v.get<bool>() ? "yes" : "no") : plain_text(v));
  }
  return s;
}

}  // namespace ingot::cli
