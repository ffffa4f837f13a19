// Small files that change as a whole (a pointer, a note, late metrics), and directories that go as a whole.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "storage/store.h"

namespace ingot {

// The file has this text, durable, or what it had before; directories above it are made, unless it is of no use without the one that it lies in. Where the store cannot rename it is written under its own name.
Status replace_text(Store& store, const std::string& path, const std::string& text, bool make_parent = true);
// A file, or a directory and all in it; success where it is not there.
Status remove_durably(Store& store, const std::string& path);
// Removes a directory and all in it (success where it is not there), durably. Where the store renames, it leaves its name in one step (.NAME.ingot-KEY.gone). Elsewhere the file
// `first` goes before everything else, durably: without it the rest means nothing, whenever this is stopped; and `last` when all else has gone: it tells what the rest was.
Status remove_directory(Store& store, const std::string& path, const std::string& first, const std::string& last);
// What is left in this directory of directories whose removal was stopped. Anybody may, at any time.
Status remove_gone(Store& store, const std::string& directory);
// Removes what is hidden in a directory (.NAME.ingot-KEY.part, locks) and whose NAME begins with one of these: of a writer that is gone, or gave up.
Status remove_parts(Store& store, const std::string& directory, const std::vector<std::string>& prefixes);

}  // namespace ingot
