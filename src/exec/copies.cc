#include "exec/copies.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "exec/plan.h"
#include "storage/store.h"

namespace ingot {
namespace {

// Whether the file has these bytes there, or zeros where `bytes` is null.
bool holds(const ReadFile& file, uint64_t offset, uint64_t size, const char* bytes) {
  std::string there;
  for (uint64_t at = 0; at < size; at += there.size()) {
    there.resize(std::min<uint64_t>(size - at, 1 << 20));
    if (!file.read(offset + at, MutByteView(reinterpret_cast<std::byte*>(there.data()), there.size())).ok()) return false;
    if (bytes ? std::memcmp(there.data(), bytes + at, there.size()) != 0 : there.find_first_not_of('\0') != std::string::npos) return false;
  }
  return true;
}

using Placed = std::pair<uint64_t, const Source*>;  // by the place

// `tensors`: all that lie in the file.
const ReadFile* copied_file(const FileLayout& file, const std::vector<Placed>& tensors) {
  const ReadFile* whole = nullptr;
  std::vector<std::pair<uint64_t, uint64_t>> taken;
  for (const auto& [place, source] : tensors) {
    if (!source || source->offset() != place || (whole && source->file() != whole)) return nullptr;
    whole = source->file();
    taken.emplace_back(place, bytes_of(source->spec()));
  }
  if (!whole || whole->size() != file.size || !file.checksums.empty()) return nullptr;
  for (const Extent& e : file.extents) {
    if (e.late || !holds(*whole, e.offset, e.bytes.size(), e.bytes.data())) return nullptr;
    taken.emplace_back(e.offset, e.bytes.size());
  }
  std::sort(taken.begin(), taken.end());
  uint64_t at = 0;
  for (const auto& [offset, size] : taken) {
    if (offset > at && !holds(*whole, at, offset - at, nullptr)) return nullptr;
    at = std::max(at, offset + size);
  }
  return holds(*whole, at, file.size - at, nullptr) ? whole : nullptr;
}

// Those of each file.
std::vector<std::vector<Placed>> placed(const Artifact& artifact, const Layout& layout) {
  std::vector<std::vector<Placed>> all(layout.files.size());
  for (size_t i = 0; i < layout.tensors.size(); ++i)
    all[static_cast<size_t>(layout.tensors[i].file)].emplace_back(layout.tensors[i].offset, dynamic_cast<const Source*>(artifact.tensors[i].node.get()));
  return all;
}

}  // namespace

std::vector<const ReadFile*> copied_files(const Artifact& artifact, const Layout& layout) {
  const auto tensors = placed(artifact, layout);
  std::vector<const ReadFile*> files;
  for (size_t f = 0; f < layout.files.size(); ++f) files.push_back(copied_file(layout.files[f], tensors[f]));
  return files;
}

Result<std::vector<std::string>> copied_files(const Output& output, Store& store, const std::string& directory) {
  INGOT_ASSIGN(const Layout layout, layout_of(output));
  const auto tensors = placed(output.artifact, layout);
  std::vector<std::string> files;
  for (size_t f = 0; f < layout.files.size(); ++f) {
    const FileLayout& file = layout.files[f];
    if (!tensors[f].empty()) {
      const ReadFile* whole = copied_file(file, tensors[f]);
      if (!whole) return std::vector<std::string>();
      files.push_back(whole->path());
      continue;
    }
    const auto there = store.open(join_path(directory, file.name));
    if (!there.ok() || (*there)->size() != file.size) return std::vector<std::string>();
    for (const Extent& e : file.extents)
      if (e.late || !holds(**there, e.offset, e.bytes.size(), e.bytes.data())) return std::vector<std::string>();
    files.push_back((*there)->path());
  }
  return files;
}

}  // namespace ingot
