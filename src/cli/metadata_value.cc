#include "cli/metadata_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "formats/gguf.h"
#include "formats/json.h"

namespace ingot::cli {
namespace {

using Value = decltype(MetaValue::v);

// In the order of the variant's alternatives, each with the number that it has in a file.
constexpr std::pair<std::string_view, GgufType> kTypes[] = {{"bool", GgufType::kBool}, {"u8", GgufType::kU8},   {"i8", GgufType::kI8},   {"u16", GgufType::kU16},
                                                            {"i16", GgufType::kI16},   {"u32", GgufType::kU32}, {"i32", GgufType::kI32}, {"u64", GgufType::kU64},
                                                            {"i64", GgufType::kI64},   {"f32", GgufType::kF32}, {"f64", GgufType::kF64}, {"str", GgufType::kString}};

// One value of the variant's alternative `type`; nothing where the text is none.
std::optional<Value> scalar_of(const Json& j, size_t type) {
  const auto integer = [&]<class T>(T) -> std::optional<Value> {
    const bool above = j.is_number_unsigned() || (j.is_number_integer() && j.get<int64_t>() >= 0);
    if (above ? j.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<T>::max())
              : j.is_number_integer() && std::is_signed_v<T> && j.get<int64_t>() >= static_cast<int64_t>(std::numeric_limits<T>::min()))
      return Value(static_cast<T>(above ? j.get<uint64_t>() : static_cast<uint64_t>(j.get<int64_t>())));
    return std::nullopt;
  };
  const auto number = finite_number(j);
  if (type == 0) return j.is_boolean() ? std::optional<Value>(j.get<bool>()) : std::nullopt;
  if (type == 1) return integer(uint8_t{});
  if (type == 2) return integer(int8_t{});
  if (type == 3) return integer(uint16_t{});
  if (type == 4) return integer(int16_t{});
  if (type == 5) return integer(uint32_t{});
  if (type == 6) return integer(int32_t{});
  if (type == 7) return integer(uint64_t{});
  if (type == 8) return integer(int64_t{});
  if (type == 9) return number && std::isfinite(static_cast<float>(*number)) ? std::optional<Value>(static_cast<float>(*number)) : std::nullopt;
  if (type == 10) return number ? std::optional<Value>(*number) : std::nullopt;
  return j.is_string() ? std::optional<Value>(j.get<std::string>()) : std::nullopt;
}

// The type of the elements of a list, as scalar_of() numbers them.
size_t element_type(const Value& v) {
  if (std::holds_alternative<std::vector<std::string>>(v)) return 11;
  if (std::holds_alternative<std::vector<int32_t>>(v)) return 6;
  if (std::holds_alternative<std::vector<uint32_t>>(v)) return 5;
  if (std::holds_alternative<std::vector<float>>(v)) return 9;
  const auto* list = std::get_if<MetaArray>(&v);
  for (size_t i = 0; list && i < std::size(kTypes); ++i)
    if (list->empty() ? static_cast<uint32_t>(kTypes[i].second) == list->empty_of : (*list)[0].v.index() == i) return i;
  return 6;
}

// The narrowest of the usual types that all of these values have: two kinds of integers, then numbers, then texts.
size_t guessed_type(const Json& values) {
  for (const size_t type : {0, 5, 6, 7, 8, 9, 10})
    if (std::all_of(values.begin(), values.end(), [&](const Json& j) { return scalar_of(j, type).has_value(); })) return type;
  return 11;
}

std::optional<Value> list_of(const Json& j, size_t type) {
  MetaArray all;
  all.empty_of = static_cast<uint32_t>(kTypes[type].second);
  for (const Json& e : j) {
    auto v = scalar_of(e, type);
    if (!v) return std::nullopt;
    all.push_back({*std::move(v)});
  }
  const auto plain = [&]<class T>(T) {
    std::vector<T> out;
    for (MetaValue& e : all) out.push_back(std::get<T>(std::move(e.v)));
    return Value(std::move(out));
  };
  if (type == 11) return plain(std::string());
  if (type == 6) return plain(int32_t{});
  if (type == 5) return plain(uint32_t{});
  if (type == 9) return plain(float{});
  return Value(std::move(all));
}

// What stands there is a number, but of no type that the format has ("1e400", thirty digits): nobody means a text by it.
bool is_beyond_numbers(const std::string& text) {
  double v = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  const bool digits = text.find_first_not_of("0123456789", text[0] == '-') == std::string::npos;
  return end == text.data() + text.size() && (error == std::errc::result_out_of_range || (digits && !(v >= -0x1p63 && v < 0x1p64)));
}

}  // namespace

Result<MetaValue> metadata_value(std::string_view option, const std::string& key, std::string text, const MetaValue* old) {
  const std::string given = text;
  std::optional<size_t> type;
  for (size_t i = 0; i < std::size(kTypes) && !type; ++i)
    if (const auto name = kTypes[i].first; text.starts_with(name) && text.substr(name.size()).starts_with(':')) type = i, text.erase(0, name.size() + 1);
  const bool said = type.has_value();
  auto parsed = parse_json(text, std::string(option));
  const bool list = parsed.ok() && parsed->is_array() && (!old || old->v.index() > 11) && type != size_t{11};
  if (!type && old) type = old->v.index() <= 11 ? old->v.index() : element_type(old->v);
  Json j = list || (parsed.ok() && type != size_t{11} && !parsed->is_structured() && !parsed->is_null()) ? *parsed : Json(text);
  // As Python writes them, and the tools that are written in it.
  if (!list && (text == "True" || (type == size_t{0} && text == "1"))) j = true;
  if (!list && (text == "False" || (type == size_t{0} && text == "0"))) j = false;
  if (type == size_t{11} && !list) j = text;
  if (!type && !list && is_beyond_numbers(text)) return usage("{} {}={}: the number is beyond what f64 and 64-bit integers hold; a text of it is {} {}=str:{}", option, key, given, option, key, text);
  if (!type) type = list && j.empty() ? 6 : guessed_type(list ? j : Json::array({j}));
  if (old && old->v.index() > 11 && !list) return usage("{} {}={}: the key has a list; give one, like [1, 2]", option, key, given);
  if (auto v = list ? list_of(j, *type) : scalar_of(j, *type)) return MetaValue{*std::move(v)};
  std::string other;
  if (old && !said && !list)
    for (size_t i = 0; i < std::size(kTypes) && other.empty(); ++i)
      if (scalar_of(j, i)) other = fmt::format(", which the key is; another type is said so: {} {}={}:{}", option, key, kTypes[i].first, text);
  return usage("{} {}={}: expected {}{}{}", option, key, given, list ? "a list of " : "", kTypes[*type].first, other);
}

std::string_view metadata_type(const MetaValue& value) { return value.v.index() < std::size(kTypes) ? kTypes[value.v.index()].first : "list"; }

}  // namespace ingot::cli
