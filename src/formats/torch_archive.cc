// torch's ZIP archives: NAME/data.pkl, a record NAME/data/KEY for each storage, NAME/byteorder.
#include "formats/torch_archive.h"

#include <algorithm>

#include "formats/inflated_file.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr std::string_view kPickle = "data.pkl";

}  // namespace

Result<TorchArchive> open_torch_archive(const OpenedFile& file) {
  const std::string& path = file.path;
  INGOT_ASSIGN(const ZipFile zip, ZipFile::open(file));
  const ZipEntry* pickle = nullptr;
  for (const ZipEntry& e : zip.entries()) {
    if (!e.name.ends_with(kPickle) || e.name.find('/') == std::string::npos || e.name.find('/') + 1 != e.name.size() - kPickle.size()) continue;
    if (pickle) return bad_input("reading {}: it has two pickles, {} and {}; torch writes one", path, pickle->name, e.name);
    pickle = &e;
  }
  if (!pickle && zip.find(kPickle))
    return bad_input("reading {}: it was packed without the folder around its {}, which torch needs; pack the folder itself, as in: zip -0 -r model.pt FOLDER", path, kPickle);
  if (!pickle)
    return bad_input("reading {}: it is a ZIP archive without a record NAME/{}, so none of torch.save ({} records, the first '{}')", path, kPickle,
                     zip.entries().size(),
                                zip.entries().empty() ? "" : zip.entries()[0].name.substr(0, 100));
  const std::string root = pickle->name.substr(0, pickle->name.size() - kPickle.size());
  bool big_endian = false;
  if (const ZipEntry* order = zip.find(root + "byteorder")) {
    INGOT_ASSIGN(const std::string text, zip.read(*order, 16));
    if (text != "little" && text != "big") return bad_input("reading {}: its byteorder is '{}', expected little or big", path, text);
    big_endian = text == "big";
  }
  INGOT_ASSIGN(std::string bytes, zip.read(*pickle, Pickle::kMaxBytes));
  auto source = std::make_shared<SourceFile>();
  source->file = file.file, source->path = path;
  source->header_hash = to_hex(hash128(as_bytes(zip.directory_hash() + to_hex(hash128(as_bytes(bytes))))));
  INGOT_ASSIGN(Pickle state, Pickle::run(std::move(bytes), "reading " + path));

  std::vector<const ZipEntry*> records;
  const std::string data = root + "data/";
  for (const ZipEntry& e : zip.entries())
    if (e.name.starts_with(data)) records.push_back(&e);
  INGOT_ASSIGN(const auto offsets, zip.data_offsets(records));
  TorchStorages storages;
  for (size_t i = 0; i < records.size(); ++i) {
    const ZipEntry& e = *records[i];
    TorchStorage& storage = storages[e.name.substr(data.size())] = {offsets[i], e.size, nullptr};
    if (e.stored()) continue;
    // torch never packs them, but reads those that somebody's zip did.
    INGOT_ASSIGN(auto unpacked, make_inflated_file(file.file, path, e, offsets[i]));
    storage.unpacked = std::make_shared<SourceFile>(SourceFile{std::move(unpacked), path, source->header_hash});
    storage.offset = 0;
  }
  const bool summed = std::none_of(records.begin(), records.end(), [](const ZipEntry* e) {
    return e->size && (e->crc == 0 || e->crc == static_cast<uint32_t>(e->size));
  });
  return TorchArchive{std::move(state), TorchTensors(std::move(source), std::move(storages), big_endian),
      zip.find(root + "constants.pkl") != nullptr, summed ? zip.directory_hash() : ""};
}

}  // namespace ingot
