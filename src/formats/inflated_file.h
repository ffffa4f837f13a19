// A record that is packed by deflate (of an archive that somebody packed again), as the file that it unpacks to. No more of it is in memory than what deflate
// looks back on.
#pragma once

#include "formats/zip_read.h"

namespace ingot {

// Its data begin at `offset` of the archive. Reading is quick where each read goes on where one of the last few ended. kBadInput on reading where it does not
// unpack to exactly entry.size bytes, or, once its end was read, to others than its CRC-32 says.
Result<std::shared_ptr<const ReadFile>> make_inflated_file(std::shared_ptr<const ReadFile> archive, const std::string& path, const ZipEntry& entry, uint64_t offset);

}  // namespace ingot
