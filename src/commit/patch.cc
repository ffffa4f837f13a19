#include "commit/patch.h"

namespace ingot {

bool fits_patch(uint64_t offset, uint64_t size) { return size > 0 && offset / kPatchPage == (offset + size - 1) / kPatchPage; }

Status patch_file(Store& store, const std::string& path, uint64_t offset, ByteView bytes) {
  if (!fits_patch(offset, bytes.size())) return failed("changing {}: bytes {} to {} are not within one page", path, offset, offset + bytes.size());
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there || there->kind != Stat::Kind::kFile || offset + bytes.size() > there->size)
    return bad_input("changing {}: it is no file of at least {} bytes", path, offset + bytes.size());
  if (!store.note(path).empty() && !store.set_note(path, ""))
    return failed("changing {}: the note of its hash (an extended attribute), which would tell of other bytes, cannot be taken off", path);
  INGOT_ASSIGN(const auto file, store.create(path, there->size, true));
  INGOT_TRY(file->write(offset, bytes));
  return file->sync();
}

Status take_place(Store& store, const std::string& from, const std::string& to) {
  INGOT_TRY(store.rename(from, to, true));
  return store.sync_directory(parent_path(to));
}

}  // namespace ingot
