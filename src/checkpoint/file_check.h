// One file of a checkpoint that nobody hashed: whether it is what its kind says it is, from its first byte to its last.
#pragma once

#include <string>
#include <vector>

#include "commit/verify.h"
#include "formats/zip_records.h"

namespace ingot::checkpoint {

struct FileCheck {
  std::vector<std::string> faults;
  uint64_t records = 0;  // of archives, whose CRC-32 was compared
};
// `every_byte`: the file is read to its end, and an archive's checksums are compared. kInterrupted; whatever else goes wrong is a fault of the file.
Result<FileCheck> check_file(Store& store, const std::string& path, bool every_byte, const VerifyRun& run);
// The same of archives that lie one after another in these files (a DCP directory's): the faults of each record, by its place in `zip`.
struct RecordFault {
  size_t record;
  std::string what;
};
Result<std::vector<RecordFault>> check_records(Store& store, const std::vector<std::string>& paths, const ZipRecords& zip, const VerifyRun& run);

}  // namespace ingot::checkpoint
