// A few bytes of a file that is there, changed in place: docs/formats/gguf-edit.md.
#pragma once

#include <string>

#include "base/bytes.h"
#include "base/status.h"
#include "commit/destination.h"
#include "storage/store.h"

namespace ingot {

// What is written by one call within one page is there as a whole or not at all, whenever the process is killed.
inline constexpr uint64_t kPatchPage = 4096;

// Whether bytes that become others at `offset` of a file can be changed so.
bool fits_patch(uint64_t offset, uint64_t size);
// Changes them, durable and read back on return; the note of the hash that the file was published with goes first. Only where fits_patch(), or for no bytes: then
// only what an unfinished run left beside the file goes, as it does before any change. A file with several names (hard links) is refused,
// and one whose stamp (ReadFile::stamp()) is no longer `stamp`, where that is given.
Status patch_file(Store& store, const std::string& path, uint64_t offset, ByteView bytes, const std::string& stamp, const CommitOptions& options);

}  // namespace ingot
