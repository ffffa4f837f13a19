#include "exec/checksums.h"

#include <algorithm>

#include "kernels/crc32.h"

namespace ingot {

Checksums::Checksums(const std::vector<Checksum>& places) {
  std::map<std::pair<uint64_t, uint64_t>, std::vector<uint64_t>> by_range;
  for (const auto& p : places) by_range[{p.begin, p.end}].push_back(p.at);
  for (auto& [range, at] : by_range) ranges_.push_back({range.first, range.second, std::move(at), {}});
}

std::vector<Checksums::Piece> Checksums::pieces(uint64_t offset, ByteView bytes) const {
  std::vector<Piece> all;
  const uint64_t end = offset + bytes.size();
  auto r = std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& range) { return range.end <= offset; });
  for (; r != ranges_.end() && r->begin < end; ++r) {
    const uint64_t from = std::max(offset, r->begin), to = std::min(end, r->end);
    all.push_back({static_cast<size_t>(r - ranges_.begin()), from, to, crc32(bytes.subspan(from - offset, to - from))});
  }
  return all;
}

void Checksums::add(const std::vector<Piece>& pieces) {
  std::lock_guard lock(mutex_);
  for (Piece p : pieces) {
    Range& range = ranges_[p.range];
    auto next = range.pieces.lower_bound(p.begin);
    if (next != range.pieces.begin()) {
      if (const auto before = std::prev(next); before->second.first == p.begin) {
        p.crc = crc32_joined(before->second.second, p.crc, p.end - p.begin);
        p.begin = before->first;
        range.pieces.erase(before);
      }
    }
    if (next != range.pieces.end() && next->first == p.end) {
      p.crc = crc32_joined(p.crc, next->second.second, next->second.first - p.end);
      p.end = next->second.first;
      range.pieces.erase(next);
    }
    range.pieces[p.begin] = {p.end, p.crc};
    if (p.begin != range.begin || p.end != range.end) continue;
    std::string bytes;
    for (int i = 0; i < 4; ++i) bytes += static_cast<char>(p.crc >> (8 * i));
    for (const uint64_t at : range.places) known_.emplace_back(at, bytes);
  }
}

std::vector<std::pair<uint64_t, std::string>> Checksums::take() {
  std::lock_guard lock(mutex_);
  return std::exchange(known_, {});
}

std::vector<std::pair<uint64_t, uint64_t>> Checksums::missing() const {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<uint64_t, uint64_t>> gaps;
  for (const auto& r : ranges_) {
    uint64_t at = r.begin;
    for (const auto& [begin, piece] : r.pieces) {
      if (begin > at) gaps.emplace_back(at, begin);
      at = piece.first;
    }
    if (at < r.end) gaps.emplace_back(at, r.end);
  }
  return gaps;
}

}  // namespace ingot
