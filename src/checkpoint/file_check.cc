#include "checkpoint/file_check.h"

#include <algorithm>

#include "formats/json.h"
#include "formats/safetensors.h"
#include "formats/torch_file.h"
#include "storage/framed.h"
#include "transform/scan.h"

namespace ingot::checkpoint {
namespace {

constexpr uint64_t kMostJson = 256u << 20;

// What is no archive, by its header.
Status check_header(Store& store, const OpenedFile& file) {
  if (file.path.ends_with(".safetensors")) {
    const auto read = read_safetensors(file);
    return read.ok() ? Status() : Status(read.error());
  }
  if (file.path.ends_with(".json")) {
    INGOT_ASSIGN(const std::string text, read_text(store, file.path, kMostJson));
    INGOT_ASSIGN([[maybe_unused]] const Json j, parse_json(text, "reading " + file.path));
    return {};
  }
  if (is_torch_legacy(file.head)) {
    const auto read = read_torch(file);
    return read.ok() ? Status() : Status(read.error());
  }
  // A file that a crash left with its size alone.
  for (const char* end : {".pt", ".pth", ".ckpt", ".bin"})
    if (file.path.ends_with(end) && std::all_of(file.head.begin(), file.head.end(), [](char c) { return c == 0; }))
      return bad_input("reading {}: its first {} bytes are zeros: it got its size, but its bytes never reached the disk", file.path, file.head.size());
  return {};
}

}  // namespace

Result<std::vector<RecordFault>> check_records(Store& store, const std::vector<std::string>& paths, const ZipRecords& zip, const VerifyRun& given) {
  const Artifact none;
  transform::Scan scan(none, zip, given.leaf_bytes);
  VerifyRun run = given;
  run.look = [&](const ReadFile& file) { return scan.look(file); };
  for (const std::string& path : paths) {
    INGOT_ASSIGN([[maybe_unused]] const TreeHash tree, hash_tree(store, path, run));
  }
  std::vector<RecordFault> faults;
  for (const auto& d : scan.damage()) {
    const ZipRecord& r = zip.records[d.record];
    faults.push_back({d.record, fmt::format("reading {}: the CRC-32 of its record '{}' ({} bytes at byte {}) is {:08x}, by the archive {:08x}: its bytes have changed", zip.archives[r.archive].path(),
                                            r.name.substr(0, 200), r.stored->size, r.stored->offset, d.found, r.crc)});
  }
  return faults;
}

Result<FileCheck> check_file(Store& store, const std::string& path, bool every_byte, const VerifyRun& run) {
  FileCheck c;
  const auto note = [&](Error e) -> Status {
    if (e.kind == ErrorKind::kInterrupted) return e;
    c.faults.push_back(std::move(e.message));
    return {};
  };
  if (path.ends_with(kFramesSuffix)) {
    // What is compressed is checked as what it holds; each frame has a sum of its own.
    const auto view = make_framed_store(store);
    return check_file(*view, path.substr(0, path.size() - std::string_view(kFramesSuffix).size()), every_byte, run);
  }
  const auto opened = open_head(store, path);
  if (!opened.ok()) {
    INGOT_TRY(note(opened.error()));
    return c;
  }
  if (opened->file->size() == 0) {
    c.faults.push_back(fmt::format("reading {}: it is empty", path));
    return c;
  }
  if (ZipFile::is_zip(opened->head) && !path.ends_with(".distcp")) {
    const auto zip = zip_records(store, path, {});
    if (!zip.ok()) {
      INGOT_TRY(note(zip.error()));
      return c;
    }
    c.faults = zip->faults;
    if (!every_byte || !c.faults.empty()) return c;
    auto faults = check_records(store, {path}, *zip, run);
    if (!faults.ok()) INGOT_TRY(note(faults.error()));
    else
      for (auto& f : *faults) c.faults.push_back(std::move(f.what));
    c.records = static_cast<uint64_t>(std::count_if(zip->records.begin(), zip->records.end(), [](const ZipRecord& r) { return r.stored && r.summed; }));
    return c;
  }
  if (Status s = check_header(store, *opened); !s.ok()) {
    INGOT_TRY(note(s.error()));
    return c;
  }
  if (!every_byte || path.ends_with(".json")) return c;
  if (const auto tree = hash_tree(store, path, run); !tree.ok()) INGOT_TRY(note(tree.error()));
  return c;
}

}  // namespace ingot::checkpoint
