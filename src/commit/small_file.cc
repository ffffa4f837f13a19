#include "commit/small_file.h"

#include <algorithm>

#include "commit/names.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr char kGone[] = ".gone";

Status write_text(Store& store, const std::string& path, const std::string& text) {
  INGOT_ASSIGN(const auto file, store.create(path, store.capabilities().rename ? 0 : text.size(), false));
  INGOT_TRY(file->write(0, as_bytes(text)));
  INGOT_TRY(file->sync());
  return file->complete();
}

}  // namespace

Status replace_text(Store& store, const std::string& path, const std::string& text, bool make_parent) {
  if (make_parent) INGOT_TRY(store.make_directory(parent_path(path)));
  if (!store.capabilities().rename) return write_text(store, path, text);
  // A name of its own for each text: of two that write at a time neither takes the other's for its own.
  const std::string part = temporary_path(path, to_hex(hash128(as_bytes(text))), ".part");
  Status s = write_text(store, part, text);
  if (s.ok()) s = store.rename(part, path, true);
  if (!s.ok()) {
    (void)store.remove(part);
    return s;
  }
  return store.sync_directory(parent_path(path));
}

Status remove_durably(Store& store, const std::string& path) {
  INGOT_TRY(store.remove(path));
  return store.sync_directory(parent_path(path));
}

Status remove_directory(Store& store, const std::string& path, const std::string& first, const std::string& last) {
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there) return {};
  if (store.capabilities().rename) {
    // Away in one step: what a kill leaves of it then has a name that says that it goes.
    const std::string gone = temporary_path(path, to_hex(hash128(as_bytes(path))), kGone);
    INGOT_TRY(store.remove(gone));
    if (Status s = store.rename(path, gone, false); !s.ok()) {
      INGOT_ASSIGN(const auto still, store.stat(path));
      return still ? s : Status();  // somebody else was quicker
    }
    INGOT_TRY(store.sync_directory(parent_path(path)));
    return remove_durably(store, gone);
  }
  INGOT_TRY(remove_durably(store, join_path(path, first)));
  INGOT_ASSIGN(const auto entries, store.list(path));
  for (const Entry& e : entries)
    if (e.name != last) INGOT_TRY(store.remove(join_path(path, e.name)));
  return remove_durably(store, path);
}

Status remove_gone(Store& store, const std::string& directory) {
  if (!store.capabilities().rename) return {};
  INGOT_ASSIGN(const auto entries, store.list(directory));
  for (const Entry& e : entries)
    if (const auto t = parse_temporary(e.name); t && t->suffix == kGone) INGOT_TRY(store.remove(join_path(directory, e.name)));
  return {};
}

Status remove_parts(Store& store, const std::string& directory, const std::vector<std::string>& prefixes) {
  INGOT_ASSIGN(const auto entries, store.list(directory));
  const auto wanted = [&](const std::string& name) { return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& p) { return name.starts_with(p); }); };
  for (const Entry& e : entries) {
    const std::string hidden = join_path(directory, e.name);
    // Held or not: one that sleeps must not be in the way of who comes after it.
    if (const auto locked = parse_lock(e.name); locked && wanted(*locked)) INGOT_TRY(store.remove(hidden));
    const auto t = parse_temporary(e.name);
    if (!t || !wanted(t->name)) continue;
    const std::string name = join_path(directory, t->name);
    INGOT_ASSIGN(const auto there, store.stat(name));
    // What was on its way out, and nothing has come in its place.
    if (t->suffix == ".old" && !there) INGOT_TRY(store.rename(hidden, name, false));
    else INGOT_TRY(store.remove(hidden));
  }
  return {};
}

}  // namespace ingot
