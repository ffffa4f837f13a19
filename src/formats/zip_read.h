// A ZIP archive, read with mistrust: torch's and numpy's files. What any two readers could understand in two ways is an error here: an archive has one
// end record at its very end, one central directory right before it, records that neither overlap nor share a name, and local headers that say the same.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/opened_file.h"

namespace ingot {

struct ZipEntry {
  std::string name;
  uint16_t flags = 0, method = 0;  // method: 0 as it is, 8 deflate
  uint32_t crc = 0;
  uint64_t packed = 0, size = 0;  // bytes: in the file, and of the content
  uint64_t header = 0;            // where its local header lies
  uint64_t limit = 0;             // what follows its data in the file begins here
  bool stored() const { return method == 0; }
};

// Why no record may be called that; empty where it may.
std::string_view bad_record_name(std::string_view name);

class ZipFile {
 public:
  ZipFile(ZipFile&&) = default;
  ZipFile& operator=(ZipFile&&) = default;
  // Whether the first bytes of a file are an archive's.
  static bool is_zip(std::string_view head) { return head.starts_with("PK\3\4") || head.starts_with("PK\5\6"); }
  // Reads the end record and the central directory.
  static Result<ZipFile> open(const OpenedFile& file);

  const std::string& path() const { return file_.path; }
  const std::shared_ptr<const ReadFile>& file() const { return file_.file; }
  const std::vector<ZipEntry>& entries() const { return entries_; }  // in the order of their place in the file
  const ZipEntry* find(std::string_view name) const;
  // A hash of the central directory: what the places of all records are known by.
  const std::string& directory_hash() const { return directory_hash_; }

  // Where the data of these begin, from their local headers, which are read in as few calls as make sense.
  Result<std::vector<uint64_t>> data_offsets(const std::vector<const ZipEntry*>& entries) const;
  // All of a record, unpacked and with its CRC-32 compared. More than `limit` bytes are an error before anything is allocated.
  Result<std::string> read(const ZipEntry& entry, uint64_t limit) const;

 private:
  ZipFile() = default;
  Status read_directory(uint64_t begin, uint64_t size, uint64_t count);
  Status check_places(uint64_t directory);
  // The size of the local header whose first bytes these are.
  Result<uint64_t> check_local(const ZipEntry& entry, ByteView bytes) const;
  Status bytes_at(uint64_t offset, MutByteView out) const;

  OpenedFile file_;
  std::vector<ZipEntry> entries_;
  std::unordered_map<std::string_view, size_t> by_name_;  // views of entries_
  std::string directory_hash_;
};

}  // namespace ingot
