// A value of a GGUF's metadata as users write it.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "tensor/artifact.h"

namespace ingot::cli {

// `text` in the type of the value that is there (null: none), or in one of its own ("u8:5"), or in the one that it looks like: bool, u32, i32, u64, i64, f32, f64, str, and lists
// of them as JSON. A usage error says it with `option` ("--set").
Result<MetaValue> metadata_value(std::string_view option, const std::string& key, std::string text, const MetaValue* old);

// "u8", "str", ... of a value that is no list.
std::string_view metadata_type(const MetaValue& value);

}  // namespace ingot::cli
