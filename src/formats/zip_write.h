// A ZIP archive within a file of an output: stored records (no compression), some of fixed bytes, some of a tensor's. What is not known before the data, the
// records' CRC-32, stands behind them (data descriptors) and in the central directory, and the executor fills it in (FileLayout::checksums). PKWARE APPNOTE
// 6.3: 4.3.6 to 4.3.16, 4.5.3 (Zip64).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "exec/layout.h"

namespace ingot {

class ZipLayout {
 public:
  // The archive begins at byte `base` of the file, and the file ends with it. Data begin at multiples of `align` counted from there; the room before them is in
  // an extra field, as torch makes it.
  ZipLayout(FileLayout* file, uint64_t base, uint64_t align) : file_(file), base_(base), at_(base), align_(align) {}

  void add(std::string_view name, std::string bytes);
  // A record of `head` and then `size` bytes of a tensor: where in the file these begin.
  uint64_t reserve(std::string_view name, uint64_t size, std::string head = "");
  // The central directory. The file ends with it, and its size is set.
  void finish();

 private:
  struct Record {
    std::string name;
    uint64_t header, size;
    uint32_t crc = 0;  // of fixed bytes
    uint64_t begin = 0, end = 0;  // of bytes to be summed
  };
  uint64_t begin(std::string_view name, uint64_t size);
  void end(std::string_view name, uint64_t header, uint64_t data, uint64_t size, uint32_t crc, bool summed);

  FileLayout* file_;
  uint64_t base_, at_, align_;
  std::vector<Record> records_;
};

}  // namespace ingot
