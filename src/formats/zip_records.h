// The records of the ZIP archives among a model's files (torch, npz, and what a DCP directory has one after another in a file), each with the CRC-32 that the
// archive has of it: for whoever reads all bytes and compares.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/file_ranges.h"
#include "formats/zip_read.h"

namespace ingot {

struct ZipRecord {
  size_t archive = 0;  // of ZipRecords::archives
  std::string name;
  uint32_t crc = 0;
  bool summed = false;              // false: its writer was told not to compute a checksum
  std::optional<FileRange> stored;  // where it lies as it is, not empty; else it is packed, or holds nothing
};
struct ZipRecords {
  std::vector<ZipFile> archives;
  std::vector<ZipRecord> records;
  std::vector<std::string> faults;  // archives that cannot be read
};
// Of these files, relative to the directory, or of that one file where there are none. What is no archive is passed over.
Result<ZipRecords> zip_records(Store& store, const std::string& path, const std::vector<std::string>& files);

}  // namespace ingot
