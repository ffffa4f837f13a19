// Names of temporaries beside an output, and listings of directories.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "storage/store.h"

namespace ingot {

inline constexpr size_t kKeyDigits = 12;  // of a job's key in a temporary's name

// The output's name in those of its temporaries: as it is, or shortened so that a temporary's name fits into 255 bytes.
std::string short_name(const std::string& name);
// ".NAME.ingot-KEY.SUFFIX" beside `path`.
std::string temporary_path(const std::string& path, const std::string& key, const std::string& suffix);
std::string lock_path(const std::string& path);

struct Temporary {
  std::string name;    // short_name of the output
  std::string key;     // kKeyDigits digits
  std::string suffix;  // ".part", ".journal.r3", ...
};
std::optional<Temporary> parse_temporary(const std::string& file);
// The short_name of the output whose lock this file is.
std::optional<std::string> parse_lock(const std::string& file);

// Whether `file` is the journal `base` or that of a rank ("base.r3"), or a scratch file beside it; no lock.
bool journal_name_of(const std::string& file, const std::string& base);

// All files beneath a directory, as names relative to it, sorted; an empty directory as "name/". Where `enter` is given, a directory for
// whose name ("sub/") it is false is not entered and listed itself. Links are listed, not followed.
Result<std::vector<std::string>> list_tree(Store& store, const std::string& directory, const std::function<bool(const std::string&)>& enter);
// Bytes of a file, or of all files beneath a directory; what cannot be looked at counts as nothing.
uint64_t tree_bytes(Store& store, const std::string& path);

// "'a', 'b' and 3 more".
std::string quoted_list(const std::vector<std::string>& names);

}  // namespace ingot
