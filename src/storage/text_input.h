// A text that a user names: a file, a pipe or a device that gives one, or standard input. No model's name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/cancel.h"
#include "storage/store.h"

namespace ingot {

// Expanded, located and there (given_path.h).
Result<Located> text_path(const std::string& given);
// Its text, of at most `most` bytes. A raised token ends the wait for a pipe.
Result<std::string> read_text_at(const Located& at, uint64_t most, const CancelToken& cancel);
// The same in blocks, in order, of which only one is in memory; an error of `block` ends it.
Status read_text_blocks(const Located& at, uint64_t most, const CancelToken& cancel, const std::function<Status(std::string_view)>& block);

// The text of a path, or standard input for "-"; at most this much.
inline constexpr uint64_t kMaxTextInput = 1u << 30;
Result<std::string> read_text_input(const std::string& given, const CancelToken& cancel);

}  // namespace ingot
