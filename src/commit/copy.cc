#include "commit/copy.h"

#include <algorithm>
#include <vector>

#include "commit/names.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

Status copy_to(Store& store, const ReadFile& source, const std::string& part, const CancelToken& cancel) {
  INGOT_ASSIGN(auto file, store.create(part, 0, false));
  const bool shared = file->share(source);
  if (!shared) {
    file.reset();
    INGOT_ASSIGN(file, store.create(part, source.size(), false));  // now with room of its own
  }
  std::vector<std::byte> buffer(shared ? 0 : std::min<uint64_t>(source.size(), 4 << 20));
  for (uint64_t at = 0; at < source.size() && !buffer.empty(); at += buffer.size()) {
    if (cancel.cancelled()) return Error{ErrorKind::kInterrupted, "interrupted; nothing was kept of the copy"};
    buffer.resize(std::min<uint64_t>(buffer.size(), source.size() - at));
    INGOT_TRY(source.read(at, buffer));
    INGOT_TRY(file->write(at, buffer));
    file->start_flush(at, buffer.size());
  }
  INGOT_TRY(file->sync());
  return source.check_unchanged();
}

}  // namespace

Result<uint64_t> copy_file(Store& store, const std::string& from, const std::string& to, bool replace, const CancelToken& cancel) {
  INGOT_ASSIGN(const auto source, store.open(from));
  INGOT_TRY(store.make_directory(parent_path(to)));
  INGOT_ASSIGN(const auto lock, store.lock(lock_path(to)));
  if (!lock) return failed("writing {}: another process writes it now", to);
  INGOT_ASSIGN(const auto there, store.stat(to));
  if (there && (!replace || there->directory())) return usage("writing {}: it exists already{}", to, there->directory() ? " and is a directory" : "; --force replaces it");
  const std::string part = temporary_path(to, to_hex(hash128(as_bytes("copy " + source->identity()))), ".part");
  Status s = copy_to(store, *source, part, cancel);
  if (s.ok()) s = store.rename(part, to, replace);
  if (!s.ok()) {
    (void)store.remove(part);
    return s;
  }
  INGOT_TRY(store.sync_directory(parent_path(to)));
  return source->size();
}

}  // namespace ingot
