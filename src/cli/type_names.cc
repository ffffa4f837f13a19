// Names of GGUF types as users write them.
#include "cli/type_names.h"

#include <algorithm>
#include <iterator>

#include "cli/text.h"
#include "quant/codec.h"
#include "transform/quantize.h"

namespace ingot::cli {

namespace {

// Every file type of the format, as llama.h numbers them, whether ingot writes it or not (mixes.def has those that it does).
struct FormatType {
  std::string_view name;
  uint32_t id;
};
constexpr FormatType kFormat[] = {
    {"F32", 0},      {"F16", 1},      {"Q4_0", 2},     {"Q4_1", 3},     {"Q8_0", 7},     {"Q5_0", 8},       {"Q5_1", 9},
    {"Q2_K", 10},    {"Q3_K_S", 11},  {"Q3_K_M", 12},  {"Q3_K_L", 13},  {"Q4_K_S", 14},  {"Q4_K_M", 15},    {"Q5_K_S", 16},
    {"Q5_K_M", 17},  {"Q6_K", 18},    {"IQ2_XXS", 19}, {"IQ2_XS", 20},  {"Q2_K_S", 21},  {"IQ3_XS", 22},    {"IQ3_XXS", 23},
    {"IQ1_S", 24},   {"IQ4_NL", 25},  {"IQ3_S", 26},   {"IQ3_M", 27},   {"IQ2_S", 28},   {"IQ2_M", 29},     {"IQ4_XS", 30},
    {"IQ1_M", 31},   {"BF16", 32},    {"TQ1_0", 36},   {"TQ2_0", 37},   {"MXFP4_MOE", 38}, {"NVFP4", 39},   {"Q1_0", 40},
    {"Q2_0", 41}};

// llama-quantize's other names.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

bool is_written(std::string_view file_type) {
  const auto& all = transform::file_types();
  return std::any_of(all.begin(), all.end(), [&](const transform::FileType& t) { return t.name == file_type; });
}

bool is_file_type(std::string_view name) {
  return std::any_of(std::begin(kFormat), std::end(kFormat), [&](const FormatType& t) { return t.name == name; });
}

std::string written_types() {
  std::vector<std::string> names;
  for (const transform::FileType& t : transform::file_types()) names.emplace_back(t.name);
  return join(names, ", ");
}

constexpr const char* kUsual[] = {"F16", "BF16", "F32", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K"};

// Of two that are as near to a word the usual one comes first, then one that is written.
std::vector<std::string> known_types() {
  std::vector<std::string> known(std::begin(kUsual), std::end(kUsual));
  for (const transform::FileType& t : transform::file_types()) known.emplace_back(t.name);
  for (const FormatType& t : kFormat) known.emplace_back(t.name);
  return known;
}

// "q4km" for Q4_K_M.
std::string letters(std::string_view name) {
  std::string out = upper(name);
  std::erase_if(out, [](char c) { return c == '_' || c == '-' || c == ' ' || c == '.'; });
  return out;
}

// "q8", "int8", "8bit", "float16", "UD-Q4_K_XL": letters that types begin with, then digits and letters that they end with. The digits; empty
// where it is none.
std::string bits_in(const std::string& word) {
  std::string name = lower(word);
  std::erase(name, '-');
  if (name == "half") return "16";
  const size_t begin = name.find_first_of("0123456789"), end = std::min(name.find_first_not_of("0123456789", begin), name.size());
  if (begin == std::string::npos) return "";
  const std::string before = name.substr(0, begin), after = name.substr(end);
  static const char* const kBefore[] = {"q", "iq", "tq", "udq", "udiq", "f", "fp", "bf", "float", "bfloat", "int", "mxfp", "nvfp", "nf"};
  const bool begins = std::find(std::begin(kBefore), std::end(kBefore), before) != std::end(kBefore);
  const bool ends = after.find_first_not_of("0123456789_kmslxnoe") == std::string::npos, bit = before.empty() && (after == "bit" || after == "bits");
  return (begins && ends) || bit ? name.substr(begin, end - begin) : "";
}

std::string suggestion(const std::string& name, const std::vector<std::string>& known, bool (*written)(std::string_view)) {
  const auto same = std::find_if(known.begin(), known.end(), [&](const std::string& k) { return letters(k) == letters(name); });
  std::string near = same != known.end() ? *same : nearest(name, known);
  // Else the usual one of as many bits.
  const auto meant = [&, bits = bits_in(name)](const std::string& k) { return bits_in(k) == bits && (k[0] == 'B') == (lower(name)[0] == 'b'); };
  for (const char* usual : kUsual)
    if (near.empty() && meant(usual) && std::find(known.begin(), known.end(), usual) != known.end()) near = usual;
  if (near.empty()) return "";
  return fmt::format(" (did you mean {}?{})", near, written(near) ? "" : " That one is not written yet");
}

// A type that lies in GGUF files as a tensor's.
bool is_element_type(std::string_view name) {
  const auto t = dtype_by_name(name);
  return t && info(*t).ggml_id >= 0;
}
bool is_written_element(std::string_view name) {
  const auto t = dtype_by_name(name);
  return t && info(*t).ggml_id >= 0 && find_codec(*t);
}

std::string alias_of(std::string_view name) {
  for (const auto& [alias, mix] : kAliases)
    if (alias == name) return std::string(mix);
  const bool number = !name.empty() && name.size() < 4 && name.find_first_not_of("0123456789") == std::string_view::npos;
  for (const FormatType& t : kFormat)
    if (number && name == std::to_string(t.id)) return std::string(t.name);
  return "";
}

}  // namespace

Result<std::string> read_type(Reporter& report, const std::string& given) {
  const std::string name = upper(given), alias = alias_of(name), type = alias.empty() ? name : alias;
  if (is_written(type)) {
    if (!alias.empty()) report.notice(fmt::format("--type {} means {}, as in llama-quantize; {{type}} in --out is {}", given, type, type));
    return type;
  }
  if (name == "COPY")
    return usage("--type COPY: to copy tensors as they are, use 'ingot convert IN --out OUT' without a type");
  if (is_written_element(type) && is_block_type(*dtype_by_name(type)))
    return usage("--type {0}: it is the type of a tensor; a whole file of it this version of ingot does not write yet. --tensor-type PATTERN={0} gives it to some tensors; of files there are {1}", given, written_types());
  if (is_file_type(type) || (is_element_type(type) && is_block_type(*dtype_by_name(type))))
    return usage("--type {}{}: a GGUF type that this version of ingot does not write yet; there are {}", given,
                 alias.empty() ? "" : fmt::format(" ({})", alias), written_types());
  return usage("there is no file type '{}'{}; there are {}", given, suggestion(given, known_types(), is_written), written_types());
}

bool names_type(const std::string& word) {
  const std::string name = upper(word);
  const bool number = name.find_first_not_of("0123456789") == std::string::npos;
  const bool block = is_element_type(name) && is_block_type(*dtype_by_name(name));
  return !number && (is_file_type(name) || block || !alias_of(name).empty() || name == "COPY" || name == "AUTO");
}

bool names_types(const std::string& text) {
  const auto words = split(text, ',');
  return std::all_of(words.begin(), words.end(), [](const std::string& w) { return names_type(w) || !alias_of(upper(w)).empty(); });
}

bool like_a_type(const std::string& word) {
  return !bits_in(word).empty() || std::any_of(std::begin(kFormat), std::end(kFormat), [&](const FormatType& t) { return letters(t.name) == letters(word); });
}

Status no_type(const std::string& word) {
  return usage("'{0}' is no type{1}; there are {2}. (A file of that name is ./{0})", word, suggestion(word, known_types(), is_written), written_types());
}

Result<std::vector<std::string>> read_types(Reporter& report, const std::string& text) {
  std::vector<std::string> out;
  for (const std::string& name : split(text, ',')) {
    if (name.empty()) return usage("--type '{}': a name is missing between the commas", text);
    INGOT_ASSIGN(std::string type, read_type(report, name));
    out.push_back(std::move(type));
  }
  return out;
}

Result<DType> read_element_type(const std::string& option, const std::string& given) {
  const std::string name = upper(given);
  if (is_written_element(name)) return *dtype_by_name(name);
  std::vector<std::string> written, known;
  for (int id = 0; id < 64; ++id)
    if (const auto x = dtype_by_ggml_id(id); x && find_codec(*x)) written.emplace_back(info(*x).name);
  if (is_element_type(name))
    return usage("{}: {} is a GGUF type that this version of ingot does not write yet; there are {}", option, name, join(written, ", "));
  for (const transform::FileType& t : transform::file_types())
    if (t.name == name)
      return usage("{}: {} is a mix of types for a whole file; most of its tensors are {}, which can stand here", option, name,
                   info(t.base).name);
  if (is_file_type(name)) return usage("{}: {} is a mix of types for a whole file, not the type of a tensor; there are {}", option, name, join(written, ", "));
  known = written;
  for (int id = 0; id < 64; ++id)
    if (const auto x = dtype_by_ggml_id(id)) known.emplace_back(info(*x).name);
  return usage("{}: there is no type '{}' of a tensor{}; there are {}", option, given, suggestion(given, known, is_written_element),
               join(written, ", "));
}

}  // namespace ingot::cli
