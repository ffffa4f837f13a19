#include "formats/zip_write.h"

#include "base/bytes.h"
#include "formats/zip_format.h"
#include "kernels/crc32.h"

namespace ingot {
namespace {

constexpr uint16_t kFlags = 0x0808;  // a data descriptor follows; names are UTF-8
constexpr uint16_t kVersion64 = 45, kPadding = 'F' | 'B' << 8;
constexpr uint32_t kLong = UINT32_MAX;   // "see the Zip64 field"
constexpr uint16_t kEpoch = 33;          // 1980-01-01: the first day that a ZIP can say

bool is_long(uint64_t n) { return n >= kLong; }
uint32_t short_of(uint64_t n) { return is_long(n) ? kLong : static_cast<uint32_t>(n); }

}  // namespace

// The local header; where the data begin.
uint64_t ZipLayout::begin(std::string_view name, uint64_t size) {
  ByteWriter w;
  const bool wide = is_long(size);
  const uint64_t fixed = at_ - base_ + 30 + name.size() + (wide ? 20 : 0) + 4, data = align_up(fixed, align_);
  w.write(kLocalMark);
  w.write(wide ? kVersion64 : uint16_t{20});
  w.write(kFlags);
  w.write(uint16_t{0});  // stored
  w.write(uint16_t{0});
  w.write(kEpoch);
  w.write(uint32_t{0});  // in the descriptor
  w.write(wide ? kLong : uint32_t{0});
  w.write(wide ? kLong : uint32_t{0});
  w.write(static_cast<uint16_t>(name.size()));
  w.write(static_cast<uint16_t>((wide ? 20 : 0) + 4 + data - fixed));
  w.append(name);
  if (wide) {
    w.write(kZip64);
    w.write(uint16_t{16});
    w.write(size);
    w.write(size);
  }
  w.write(kPadding);
  w.write(static_cast<uint16_t>(data - fixed));
  w.append(std::string(data - fixed, 'Z'));
  file_->extents.push_back({at_, std::move(w.str())});
  return base_ + data;
}

// The descriptor behind the data.
void ZipLayout::end(std::string_view name, uint64_t header, uint64_t data, uint64_t size, uint32_t crc, bool summed) {
  const uint64_t stop = data + size;
  ByteWriter w;
  w.write(kDescriptorMark);
  if (summed) {
    file_->extents.push_back({stop, std::move(w.str())});
    file_->checksums.push_back({stop + 4, data, stop});
    w = {};
  } else {
    w.write(crc);
  }
  if (is_long(size)) {
    w.write(size);
    w.write(size);
  } else {
    w.write(static_cast<uint32_t>(size));
    w.write(static_cast<uint32_t>(size));
  }
  const uint64_t rest = stop + (summed ? 8 : 0);
  at_ = rest + w.size();
  file_->extents.push_back({rest, std::move(w.str())});
  records_.push_back({std::string(name), header, size, crc, summed ? data : 0, summed ? stop : 0});
}

void ZipLayout::add(std::string_view name, std::string bytes) {
  const uint64_t header = at_, data = begin(name, bytes.size()), size = bytes.size();
  const uint32_t crc = crc32(as_bytes(bytes));
  if (size) file_->extents.push_back({data, std::move(bytes)});
  end(name, header, data, size, crc, false);
}

uint64_t ZipLayout::reserve(std::string_view name, uint64_t size, std::string head) {
  if (!size) {
    add(name, std::move(head));
    return at_;  // nothing lies there
  }
  const uint64_t header = at_, data = begin(name, head.size() + size), at = data + head.size();
  if (!head.empty()) file_->extents.push_back({data, std::move(head)});
  end(name, header, data, at - data + size, 0, true);
  return at;
}

void ZipLayout::finish() {
  const uint64_t start = at_;
  const size_t first = file_->checksums.size();
  ByteWriter w;
  for (const auto& r : records_) {
    const uint64_t offset = r.header - base_;
    ByteWriter wide;
    if (is_long(r.size)) wide.write(r.size), wide.write(r.size);
    if (is_long(offset)) wide.write(offset);
    w.write(kCentralMark);
    w.write(wide.size() ? kVersion64 : uint16_t{20});
    w.write(wide.size() ? kVersion64 : uint16_t{20});
    w.write(kFlags);
    w.write(uint16_t{0});
    w.write(uint16_t{0});
    w.write(kEpoch);
    if (r.end) file_->checksums.push_back({start + w.size(), r.begin, r.end});
    w.write(r.crc);
    w.write(short_of(r.size));
    w.write(short_of(r.size));
    w.write(static_cast<uint16_t>(r.name.size()));
    w.write(static_cast<uint16_t>(wide.size() ? wide.size() + 4 : 0));
    w.write(uint16_t{0});
    w.write(uint16_t{0});
    w.write(uint16_t{0});
    w.write(uint32_t{0});
    w.write(short_of(offset));
    w.append(r.name);
    if (!wide.size()) continue;
    w.write(kZip64);
    w.write(static_cast<uint16_t>(wide.size()));
    w.append(wide.str());
  }
  const uint64_t directory = w.size(), offset = start - base_, count = records_.size();
  if (count >= 0xffff || is_long(directory) || is_long(offset)) {
    w.write(kEnd64Mark);
    w.write(uint64_t{44});
    w.write(kVersion64);
    w.write(kVersion64);
    w.write(uint32_t{0});
    w.write(uint32_t{0});
    w.write(count);
    w.write(count);
    w.write(directory);
    w.write(offset);
    w.write(kLocator64Mark);
    w.write(uint32_t{0});
    w.write(offset + directory);
    w.write(uint32_t{1});
  }
  const auto few = static_cast<uint16_t>(count >= 0xffff ? 0xffff : count);
  w.write(kEndMark);
  w.write(uint16_t{0});
  w.write(uint16_t{0});
  w.write(few);
  w.write(few);
  w.write(short_of(directory));
  w.write(short_of(offset));
  w.write(uint16_t{0});
  // The places of checksums are no fixed bytes.
  uint64_t from = 0;
  const std::string& bytes = w.str();
  for (size_t i = first; i < file_->checksums.size(); ++i) {
    const Checksum& c = file_->checksums[i];
    file_->extents.push_back({start + from, bytes.substr(from, c.at - start - from)});
    from = c.at - start + 4;
  }
  file_->extents.push_back({start + from, bytes.substr(from)});
  file_->size = start + bytes.size();
}

}  // namespace ingot
