#include "calibrate/builtin_texts.h"

#include <algorithm>

#include "calibrate/embedded.h"

namespace ingot::calibrate {

std::vector<Text> builtin_texts(BuiltinHalf half) {
  std::vector<Text> texts;
  for (int i = 0; i < kTextFileCount; ++i) {
    const std::string_view all = kTextFiles[i].text;
    const size_t end = std::min(all.find(kHalves), all.size());
    std::string_view part = half == BuiltinHalf::kCalibrate ? all.substr(0, end) : all.substr(std::min(end + kHalves.size(), all.size()));
    if (part.ends_with('\n')) part.remove_suffix(1);
    if (!part.empty()) texts.push_back({"builtin", kTextFiles[i].name, std::string(part)});
  }
  return texts;
}

}  // namespace ingot::calibrate
