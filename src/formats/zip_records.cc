#include "formats/zip_records.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "formats/dcp_metadata.h"
#include "formats/file_pieces.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxMetadata = 256u << 20;

Status add_archive(const OpenedFile& file, ZipRecords* all) {
  INGOT_ASSIGN(ZipFile zip, ZipFile::open(file));
  std::vector<const ZipEntry*> entries;
  for (const ZipEntry& e : zip.entries()) entries.push_back(&e);
  INGOT_ASSIGN(const auto offsets, zip.data_offsets(entries));
  for (size_t i = 0; i < entries.size(); ++i) {
    const ZipEntry& e = *entries[i];
    ZipRecord r;
    r.archive = all->archives.size(), r.name = e.name, r.crc = e.crc;
    // torch writes the size, or 0, in its place where it was told not to compute one.
    r.summed = e.size == 0 || (e.crc != 0 && e.crc != static_cast<uint32_t>(e.size));
    std::vector<FileRange> where;
    if (e.stored() && e.size && true_ranges(*file.file, offsets[i], e.size, &where) && where.size() == 1) r.stored = where[0];
    all->records.push_back(std::move(r));
  }
  all->archives.push_back(std::move(zip));
  return {};
}

// The archives that a `.metadata` tells the places of; the files that they lie in are added to `parts`.
Status add_dcp(Store& store, const std::string& path, ZipRecords* all, std::set<std::string>* parts) {
  INGOT_ASSIGN(std::string bytes, read_text(store, path, kMaxMetadata));
  INGOT_ASSIGN(const DcpMetadata m, parse_dcp_metadata(std::move(bytes), path));
  std::vector<std::shared_ptr<const ReadFile>> files;
  for (const std::string& name : m.files) {
    const std::string own = join_path(parent_path(path), name);
    INGOT_ASSIGN(auto file, store.open(own));
    files.push_back(std::move(file));
    parts->insert(own);
  }
  std::vector<std::pair<DcpPlace, const DcpEntry*>> places;
  for (const DcpEntry& e : m.entries)
    if (e.tensor) for (const DcpChunk& c : e.chunks) places.emplace_back(c.place, &e);
    else places.emplace_back(e.place, &e);
  std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return std::tie(a.first.file, a.first.offset, a.second->key) < std::tie(b.first.file, b.first.offset, b.second->key); });
  // An archive is read once, however many entries name its place; none lies within another.
  DcpPlace last;
  size_t shared = 0;
  for (const auto& [at, e] : places) {
    OpenedFile part;
    part.path = fmt::format("{} ('{}', {} bytes at byte {})", files[at.file]->path(), e->key.substr(0, 200), at.length, at.offset);
    if (at.length > files[at.file]->size() || at.offset > files[at.file]->size() - at.length) continue;  // which its opener tells
    part.file = make_pieces_file(part.path, {{files[at.file], at.offset, at.length}});
    part.chunk = 64 << 10;
    char head[4] = {};
    if (at.length < sizeof head || !part.file->read(0, {reinterpret_cast<std::byte*>(head), sizeof head}).ok() || !ZipFile::is_zip({head, sizeof head})) continue;
    if (at.file == last.file && at.offset < last.offset + last.length) {
      if (at.offset + at.length != last.offset + last.length && !shared++)
        all->faults.push_back(fmt::format("reading {}: it lies in the bytes of another entry; the file is damaged", part.path));
      continue;
    }
    last = at;
    if (auto s = add_archive(part, all); !s.ok()) all->faults.push_back(s.take_error().message);
  }
  return {};
}

}  // namespace

Result<ZipRecords> zip_records(Store& store, const std::string& path, const std::vector<std::string>& files) {
  ZipRecords all;
  std::set<std::string> parts;
  std::vector<std::string> paths;
  for (const auto& f : files) paths.push_back(join_path(path, f));
  if (files.empty()) paths.push_back(path);
  for (const auto& p : paths)
    if (file_name(p) == kDcpMetadata)
      if (auto s = add_dcp(store, p, &all, &parts); !s.ok()) all.faults.push_back(s.take_error().message);
  for (const auto& p : paths) {
    if (parts.count(p)) continue;
    INGOT_ASSIGN(const OpenedFile file, open_head(store, p));
    if (!ZipFile::is_zip(file.head)) continue;
    if (auto s = add_archive(file, &all); !s.ok()) all.faults.push_back(s.take_error().message);
  }
  return all;
}

}  // namespace ingot
