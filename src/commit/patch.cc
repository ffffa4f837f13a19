#include "commit/patch.h"

#include <fmt/format.h>

#include "commit/commit.h"
#include "commit/names.h"

namespace ingot {

bool fits_patch(uint64_t offset, uint64_t size) { return size > 0 && offset / kPatchPage == (offset + size - 1) / kPatchPage; }

Status patch_file(Store& store, const std::string& path, uint64_t offset, ByteView bytes, const std::string& stamp, const CommitOptions& options) {
  if (!bytes.empty() && !fits_patch(offset, bytes.size())) return failed("changing {}: bytes {} to {} are not within one page", path, offset, offset + bytes.size());
  // As if it were written anew: no other ingot does, and what such a run left unfinished goes. A directory that takes no lock leaves nothing either.
  const std::vector<Destination> destinations = {{&store, path}};
  Commit commit(destinations, options);
  INGOT_TRY(commit.check_names({}));
  if (Status locked = commit.lock(); locked.ok()) INGOT_TRY(commit.clear_leftovers());
  else if (store.locked(lock_path(path))) return locked;
  if (bytes.empty()) return {};
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there || there->kind != Stat::Kind::kFile || offset + bytes.size() > there->size)
    return bad_input("changing {}: it is no file of at least {} bytes", path, offset + bytes.size());
  if (there->links > 1) return failed("changing {}: {} names lead to its bytes, and those of the others are not to change", path, there->links);
  INGOT_ASSIGN(const auto now, store.open(path));
  if (!stamp.empty() && now->stamp() != stamp) return bad_input("changing {}: it changed while it was being looked at; run the command again", path);
  INGOT_ASSIGN(const auto file, store.change(path));
  if (!store.note(path).empty() && !store.set_note(path, ""))
    return failed("changing {}: the note of its hash (an extended attribute), which would tell of other bytes, cannot be taken off", path);
  INGOT_TRY(file->write(offset, bytes));
  INGOT_TRY(file->sync());
  std::vector<std::byte> back(bytes.size());
  INGOT_TRY(file->read_back(offset, back));
  if (!std::equal(back.begin(), back.end(), bytes.begin())) return failed("changing {}: bytes {} to {} read back are not those that were written", path, offset, offset + bytes.size());
  return {};
}

}  // namespace ingot
