#include "transform/scan.h"

#include <algorithm>
#include <unordered_map>

#include "kernels/crc32.h"

namespace ingot::transform {

void Scan::Spans::sort() {
  std::sort(all.begin(), all.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  for (const Span& s : all) reach.push_back(std::max(s.end, reach.empty() ? 0 : reach.back()));
}

template <class F>
void Scan::Spans::each(uint64_t begin, uint64_t end, F f) const {
  for (auto i = static_cast<size_t>(std::upper_bound(reach.begin(), reach.end(), begin) - reach.begin()); i < all.size() && all[i].begin < end; ++i)
    if (all[i].end > begin) f(all[i]);
}

Scan::Scan(const Artifact& a, const ZipRecords& zip, uint64_t leaf_bytes) : zip_(zip), leaf_bytes_(leaf_bytes) {
  const auto file_of = [&](const ReadFile& f) -> File& {
    File& file = files_[f.identity()];
    file.path = f.path();
    return file;
  };
  std::unordered_map<const Node*, size_t> seen;
  for (const LazyTensor& t : a.tensors) {
    const auto [it, fresh] = seen.emplace(t.node.get(), tensors_.size());
    if (!fresh) {
      tensors_[it->second].names.push_back(t.name);
      continue;
    }
    Tensor& own = tensors_.emplace_back();
    own.names = {t.name}, own.node = t.node, own.looked = looked_at(t.spec().type);
    std::vector<FileRange> ranges;
    const auto item = static_cast<uint64_t>(info(t.spec().type).bytes);
    own.in_files = file_ranges(*t.node, &ranges) && std::all_of(ranges.begin(), ranges.end(), [&](const FileRange& r) { return r.size % item == 0; });
    for (const FileRange& r : ranges) {
      uint64_t end = 0;  // what lies beyond the file is its opener's to tell
      if (own.in_files && checked_add(r.offset, r.size, &end) && r.offset < std::min(end, r.file->size()))
        file_of(*r.file).tensors.all.push_back({r.offset, std::min(end, r.file->size()), it->second});
    }
  }
  for (size_t i = 0; i < zip.records.size(); ++i) {
    const ZipRecord& r = zip.records[i];
    if (!r.stored || !r.summed) continue;
    const uint64_t begin = r.stored->offset, end = begin + r.stored->size;
    File& file = file_of(*r.stored->file);
    file.sums.all.push_back({begin, end, sums_.size()});
    sums_.push_back({i, begin, end, std::vector<uint32_t>((end - 1) / leaf_bytes - begin / leaf_bytes + 1), &file});
  }
  for (auto& [identity, f] : files_) f.tensors.sort(), f.sums.sort();
}

void Scan::count(Tensor& t, const Span& s, uint64_t offset, ByteView bytes, const ReadFile& file, Status* status) {
  const DType type = t.node->spec().type;
  const auto item = static_cast<uint64_t>(info(type).bytes);
  const uint64_t end = offset + bytes.size();
  // Elements that are whole in these bytes; one that only begins in them is read again, one that began before them was.
  const uint64_t first = s.begin >= offset ? 0 : (offset - s.begin + item - 1) / item, last = (std::min(end, s.end) - s.begin) / item;
  const auto add = [&](ByteView elements) {
    const Nonfinite n = nonfinite_in(type, elements);
    if (n.nan) t.nan += n.nan;
    if (n.infinite) t.infinite += n.infinite;
  };
  if (last > first) add(bytes.subspan(s.begin + first * item - offset, (last - first) * item));
  if (const uint64_t at = s.begin + last * item; at < end && at >= offset && at + item <= s.end) {
    std::vector<std::byte> one(item);
    if (*status = file.read(at, one); status->ok()) add(one);
  }
}

VerifyRun::Look Scan::look(const ReadFile& file) {
  const auto it = files_.find(file.identity());
  if (it == files_.end() || it->second.seen) return nullptr;
  File& f = it->second;
  f.seen = true;
  return [this, &f, &file](uint64_t offset, ByteView bytes) {
    Status status;
    const uint64_t end = offset + bytes.size();
    f.sums.each(offset, end, [&](const Span& s) {
      const uint64_t from = std::max(offset, s.begin), to = std::min(end, s.end);
      sums_[s.of].parts[offset / leaf_bytes_ - s.begin / leaf_bytes_] = crc32(bytes.subspan(from - offset, to - from));
    });
    f.tensors.each(offset, end, [&](const Span& s) {
      Tensor& t = tensors_[s.of];
      if (status.ok() && (t.looked == Looked::kValues || t.looked == Looked::kScales)) count(t, s, offset, bytes, file, &status);
    });
    return status;
  };
}

std::vector<std::string> Scan::unseen() const {
  std::vector<std::string> paths;
  for (const auto& [identity, f] : files_)
    if (!f.seen) paths.push_back(f.path);
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<Scan::Damage> Scan::damage() const {
  std::vector<Damage> all;
  for (const Sum& s : sums_) {
    if (!s.file->seen) continue;
    uint32_t crc = 0;
    uint64_t at = s.begin;
    for (const uint32_t part : s.parts) {
      const uint64_t next = std::min(s.end, (at / leaf_bytes_ + 1) * leaf_bytes_);
      crc = crc32_joined(crc, part, next - at);
      at = next;
    }
    if (crc == zip_.records[s.record].crc) continue;
    Damage d{s.record, crc, {}};
    s.file->tensors.each(s.begin, s.end, [&](const Span& t) { d.tensors.push_back(tensors_[t.of].names[0]); });
    all.push_back(std::move(d));
  }
  return all;
}

}  // namespace ingot::transform
