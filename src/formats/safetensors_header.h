// The JSON header of a safetensors file as plain rows, checked for syntax and kind but not yet against the file's data.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ingot {

struct SafetensorsRow {
  std::string name, dtype;
  std::vector<uint64_t> shape;
  std::vector<uint64_t> offsets;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

struct SafetensorsHeader {
  std::vector<SafetensorsRow> rows;
  std::map<std::string, std::string> metadata;
};

// `path` for messages. Streams: memory is in proportion to the rows, not to the JSON's text.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, const std::string& path);

}  // namespace ingot
