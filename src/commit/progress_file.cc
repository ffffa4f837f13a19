#include "commit/progress_file.h"

#include <cstring>

#include "commit/names.h"
#include "commit/small_file.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr char kSuffix[] = ".progress";
constexpr uint64_t kMost = uint64_t{1} << 36;

// "ingot progress 1\n", the key and a newline, the state, and the low half of the XXH3-128 of all that, little-endian.
std::string head(const std::string& key) { return "ingot progress 1\n" + key + "\n"; }
uint64_t check_of(std::string_view text) { return hash128(as_bytes(text)).lo; }

}  // namespace

Result<std::unique_ptr<ProgressFile>> ProgressFile::open(Store& store, const std::string& output, const std::string& key, bool resume,
                                                         const std::function<void(const std::string&)>& on_notice) {
  std::unique_ptr<ProgressFile> p(new ProgressFile(store, temporary_path(output, key, kSuffix), key));
  const std::string directory = parent_path(output), own = file_name(p->path_);
  INGOT_TRY(store.make_directory(directory));
  INGOT_ASSIGN(p->lock_, store.lock(lock_path(output)));
  if (!p->lock_) return failed("writing {}: another ingot is writing it; wait for it or stop it", output);
  INGOT_ASSIGN(const auto entries, store.list(directory));
  // What a kill while it was saved has left.
  INGOT_TRY(remove_parts(store, directory, {own.substr(0, own.size() - kKeyDigits - std::strlen(kSuffix))}));
  bool there = false, others = false;
  for (const Entry& e : entries) {
    const auto t = parse_temporary(e.name);
    if (!t || t->name != short_name(file_name(output)) || t->suffix != kSuffix) continue;
    const bool mine = e.name == own;
    there |= mine;
    if (mine && resume) continue;
    others |= !mine;
    INGOT_TRY(remove_durably(store, join_path(directory, e.name)));
  }
  if (others) on_notice(fmt::format("'{}': what an unfinished run with other inputs or settings had computed is discarded", file_name(output)));
  if (!there || !resume) return p;
  auto text = read_text(store, p->path_, kMost);
  if (!text.ok() && text.error().kind != ErrorKind::kBadInput) return text.take_error();
  const std::string begin = head(key);
  bool whole = text.ok() && text->size() >= begin.size() + sizeof(uint64_t) && text->starts_with(begin);
  if (whole) {
    uint64_t check = 0;
    std::memcpy(&check, text->data() + text->size() - sizeof check, sizeof check);
    text->resize(text->size() - sizeof check);
    whole = check == check_of(*text);
  }
  if (whole) {
    text->erase(0, begin.size());
    p->found_ = *std::move(text);
  } else {
    on_notice(fmt::format("'{}': what an unfinished run had computed is damaged and discarded; it is begun anew", file_name(output)));
    INGOT_TRY(remove_durably(store, p->path_));
  }
  return p;
}

Status ProgressFile::save(const std::string& state) {
  std::string text = head(key_) + state;
  const uint64_t check = check_of(text);
  text.append(reinterpret_cast<const char*>(&check), sizeof check);
  return replace_text(store_, path_, text, false);
}

Status ProgressFile::remove() { return remove_durably(store_, path_); }

}  // namespace ingot
