#include "formats/output_formats.h"

#include <algorithm>

#include "quant/decode.h"

namespace ingot {

#define OUTPUT(name) extern const OutputFormat kOutput_##name;
#include "formats/outputs.def"
#undef OUTPUT

bool OutputFormat::has_extension(std::string_view extension) const {
  for (std::string_view rest = extensions; !rest.empty() && !extension.empty();) {
    const size_t end = std::min(rest.find(' '), rest.size());
    if (rest.substr(0, end) == extension) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

const std::vector<const OutputFormat*>& output_formats() {
  static const std::vector<const OutputFormat*> all = {
#define OUTPUT(name) &kOutput_##name,
#include "formats/outputs.def"
#undef OUTPUT
  };
  return all;
}

const OutputFormat* output_format(std::string_view name) {
  const auto it = std::find_if(output_formats().begin(), output_formats().end(), [&](const auto* f) { return f->name == name || (!name.empty() && f->alias == name); });
  return it == output_formats().end() ? nullptr : *it;
}

const OutputFormat* output_format_of_extension(std::string_view extension) {
  const auto it = std::find_if(output_formats().begin(), output_formats().end(), [&](const auto* f) { return f->has_extension(extension); });
  return it == output_formats().end() ? nullptr : *it;
}

std::string another_type(DType type, std::string_view floats) {
  const char* has_it = info(type).st_name.empty() ? "GGUF" : "safetensors";
  return find_decode(type) ? fmt::format("choose {} with --dtype, or write {}", floats, has_it) : fmt::format("write {}, which has it", has_it);
}

}  // namespace ingot
