#include "cli/target_args.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "cli/text.h"
#include "cli/type_names.h"
#include "storage/hub.h"

namespace ingot::cli {

void TargetArgs::declare(Args& a, const char* type_names, const char* type_help, const char* out_help) {
  a.rest("[OUT] [TYPE]", &words_, "the same as --out and --type; a word that names a type is the type (a file of that name is ./NAME)");
  a.section("Options");
  a.text("--type|--outtype", type_names, &types, type_help);
  a.text("-o,--out|--outfile", "OUT", &out, out_help);
}

namespace {

std::optional<Stat> there(const std::string& path) {
  const auto at = locate(path);
  const auto stat = at.ok() ? at->store->stat(at->path) : Result<std::optional<Stat>>(at.error());
  return stat.ok() ? *stat : std::nullopt;
}

}  // namespace

Status TargetArgs::read(Context& c, const std::string& model, bool files) {
  const auto is_adapter = [](const std::string& word) { return there(join_path(word, "adapter_config.json")).has_value(); };
  // A name of a file says so, or it is there.
  const auto bare = [](const std::string& word) { return word != "-" && word.find_first_of("./{") == std::string::npos && !there(word); };
  const auto two = [](const char* what, const std::string& a, const std::string& b) {
    return usage("two {}: '{}' and '{}'{}", what, a, b, names_types(b) ? fmt::format("; a file of that name is ./{}", b) : "");
  };
  std::vector<std::string> outputs;
  for (const std::string& word : words_) {
    int64_t threads = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), threads);
    if (!types.empty() && error == std::errc() && end == word.data() + word.size() && threads > 0 && threads <= 4096 && !c.args.has("--threads")) {
      c.args.common.threads = threads;  // the last word of llama-quantize
    } else if (names_types(word)) {
      if (!types.empty()) return two("types", types, word);
      types = word;
      if (there(word)) c.report.notice(fmt::format("'{0}' is taken for the type; the file of that name here would be ./{0}", word));
    } else if (is_adapter(word)) {
      return usage("'{}' is an adapter; to fold it in: ingot ship {} --adapter {}", word, shell_word(model), shell_word(word));
    } else if (is_adapter(model) && there(join_path(word, "config.json"))) {
      return usage("'{}' is an adapter and '{}' a model; to fold it in: ingot ship {} --adapter {}", model, word, shell_word(word), shell_word(model));
    } else {
      if (bare(word) && like_a_type(word)) return no_type(word);
      outputs.push_back(word);
    }
  }
  // Without a type the last word stands where one is expected.
  if (types.empty() && !outputs.empty() && (files || outputs.size() + !out.empty() > 1) && bare(outputs.back())) return no_type(outputs.back());
  if (!out.empty()) outputs.push_back(out);
  if (outputs.size() > 1) return two("outputs", outputs[0], outputs[1]);
  if (!outputs.empty()) out = outputs[0];
  return {};
}

void TargetArgs::assume_type(const char* type) {
  if (!types.empty()) return;
  types = type;
  assumed_ = fmt::format("--type {}", type);
}

namespace {

// The type that a file is named after: "Q8_0" of "dir/m-Q8_0.gguf". Empty where it is none.
std::string type_in_name(const std::string& path) {
  const std::string name = fmt::format("-{}", file_name(path)), stem = name.substr(0, name.rfind('.'));
  for (size_t at = stem.size(); at > 0 && (at = stem.find_last_of("-._", at - 1)) != std::string::npos;)
    if (const std::string word = stem.substr(at + 1); names_type(word) && word.find_first_of("0123456789") != std::string::npos) return word;
  return "";
}

}  // namespace

bool TargetArgs::out_is_directory() const {
  const auto stat = there(out);
  return stat && stat->directory();
}

Result<std::vector<std::string>> TargetArgs::paths(Context& c, const OpenedModel& model, const std::vector<std::string>& types) {
  if (const std::string named = type_in_name(out); !assumed_.empty() && !named.empty() && upper(named) != types[0])
    return usage("no type is given, so that '{}' would be {}; if {} is meant, give it: --type {}", out, types[0], named, named);
  // As convert_hf_to_gguf.py has it, a directory takes the file; what is read is not meant by its own name.
  const std::vector<std::string> inputs = input_paths(model);
  std::error_code error;
  const bool input = std::any_of(inputs.begin(), inputs.end(), [&](const std::string& i) { return std::filesystem::equivalent(i, out, error); });
  if (out.empty() || (out_is_directory() && !input)) {
    out = join_path(out, fmt::format("{}-{}.gguf", output_name(c, model), types.size() > 1 ? "{type}" : types[0]));
    assumed_ += fmt::format("{}--out {}", assumed_.empty() ? "" : " ", shell_word(out));
  }
  std::string told = model.assumed;
  if (!assumed_.empty()) told += fmt::format("{}{}", told.empty() ? "" : ", ", assumed_);
  INGOT_ASSIGN(std::vector<std::string> paths, output_paths(out, types));
  std::string left;  // of what was to be filled in
  for (const std::string& path : paths) {
    INGOT_ASSIGN(const Located to, output_path(path, file_of("gguf"), inputs));
    const size_t open = to.path.find('{'), close = to.path.find('}', open);
    if (close != std::string::npos) left = to.path.substr(open, close + 1 - open);
  }
  if (!left.empty()) c.report.warning(fmt::format("'{}' in the output's name stays as it is: only {{type}} is filled in", left));
  if (!told.empty()) c.report.notice("assumed: " + told);
  return paths;
}

std::string output_name(const Context& c, const OpenedModel& model) {
  std::string name = c.args.common.name;
  if (name.empty()) {
    name = model_name(model.base.path);
    if (const size_t dot = name.rfind('.'); dot != std::string::npos && (name.ends_with(".gguf") || name.ends_with(".safetensors"))) name.resize(dot);
    // "m-F16-00001-of-00003": what is made is of another type.
    if (const size_t of = name.rfind("-of-"); model.is_gguf() && of != std::string::npos && of > 6 && name.size() == of + 9) name.resize(of - 6);
    for (size_t at = name.size(); model.is_gguf() && (at = name.find_last_of("-._", at - 1)) != std::string::npos && at > 0;)
      if (names_type(name.substr(at + 1))) name.resize(at);
    for (const std::string& adapter : model.adapters) name += fmt::format("-{}", model_name(adapter));
  }
  std::replace(name.begin(), name.end(), '/', '-');
  return fmt::format("{}{}", name.empty() || name[0] == '.' ? "model" : "", name);
}

}  // namespace ingot::cli
