#include "cli/target_args.h"

#include <algorithm>
#include <charconv>

#include "cli/text.h"
#include "cli/type_names.h"
#include "storage/hub.h"

namespace ingot::cli {

void TargetArgs::declare(Args& a, const char* type_names, const char* type_help, const char* out_help) {
  a.rest("[OUT] [TYPE]", &words_, "the same as --out and --type; a word that names a type is the type (a file of that name is ./NAME)");
  a.section("Options");
  a.text("--type|--outtype", type_names, &types, type_help);
  a.text("--out|--outfile,-o", "OUT", &out, out_help);
}

Status TargetArgs::read(Context& c) {
  for (const std::string& word : words_) {
    const auto twice = [&](const char* what, const std::string& before) {
      return usage("two {}: '{}' and '{}'{}", what, before, word, names_types(word) ? fmt::format("; a file of that name is ./{}", word) : "");
    };
    int64_t threads = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), threads);
    if (!types.empty() && error == std::errc() && end == word.data() + word.size() && threads > 0 && threads <= 4096 && !c.args.has("--threads")) {
      c.args.common.threads = threads;  // the last word of llama-quantize
    } else if (names_types(word)) {
      if (!types.empty()) return twice("types", types);
      types = word;
      if (const auto at = locate(word); at.ok())
        if (const auto there = at->store->stat(at->path); there.ok() && *there)
          c.report.notice(fmt::format("'{0}' is taken for the type; the file of that name here would be ./{0}", word));
    } else {
      if (const std::string near = word.find_first_of("./{") == std::string::npos ? nearest_type(word) : ""; !near.empty())
        return usage("'{0}' is no type; did you mean {1}? (A file of that name is ./{0})", word, near);
      if (!out.empty()) return twice("outputs", out);
      out = word;
    }
  }
  return {};
}

void TargetArgs::assume_type(const char* type) {
  if (!types.empty()) return;
  types = type;
  assumed_ = fmt::format("--type {}", type);
}

Result<std::vector<std::string>> TargetArgs::paths(Context& c, const OpenedModel& model, const std::vector<std::string>& types) {
  if (out.empty()) {
    out = fmt::format("{}-{}.gguf", output_name(c, model), types.size() > 1 ? "{type}" : types[0]);
    assumed_ += fmt::format("{}--out {}", assumed_.empty() ? "" : " ", shell_word(out));
  }
  std::string told = model.assumed;
  if (!assumed_.empty()) told += fmt::format("{}{}", told.empty() ? "" : ", ", assumed_);
  if (!told.empty()) c.report.notice("assumed: " + told);
  return output_paths(out, types);
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
