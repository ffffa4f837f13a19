#include "commit/names.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr char kMark[] = ".ingot-";
constexpr size_t kMostName = 180;  // of the 255 bytes that a file system takes, less marks, key and the longest suffix

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

Status walk(Store& store, const std::string& directory, const std::string& prefix, const std::function<bool(const std::string&)>& enter,
            std::vector<std::string>& out) {
  INGOT_ASSIGN(const auto entries, store.list(directory));
  if (entries.empty() && !prefix.empty()) out.push_back(prefix);
  for (const auto& e : entries) {
    const std::string name = prefix + e.name, path = join_path(directory, e.name);
    bool real = e.directory;
    if (real) {
      INGOT_ASSIGN(const auto s, store.stat(path));
      real = s && !s->link;
    }
    if (!real) out.push_back(name);
    else if (enter && !enter(name + "/")) out.push_back(name + "/");
    else INGOT_TRY(walk(store, path, name + "/", enter, out));
  }
  return {};
}

}  // namespace

std::string short_name(const std::string& name) {
  if (name.size() <= kMostName) return name;
  size_t cut = kMostName - 20;
  while (cut && (static_cast<unsigned char>(name[cut]) & 0xc0) == 0x80) --cut;  // not within a character
  return name.substr(0, cut) + "~" + to_hex(hash128(as_bytes(name))).substr(0, 16);
}

std::string temporary_path(const std::string& path, const std::string& key, const std::string& suffix) {
  return join_path(parent_path(path), fmt::format(".{}{}{}{}", short_name(file_name(path)), kMark, key.substr(0, kKeyDigits), suffix));
}

std::string lock_path(const std::string& path) {
  return join_path(parent_path(path), fmt::format(".{}{}lock", short_name(file_name(path)), kMark));
}

std::optional<Temporary> parse_temporary(const std::string& file) {
  if (file.size() < 2 || file[0] != '.') return std::nullopt;
  const size_t at = file.rfind(kMark);
  if (at == std::string::npos || at < 2) return std::nullopt;
  Temporary t;
  t.name = file.substr(1, at - 1);
  const std::string rest = file.substr(at + sizeof kMark - 1);
  if (rest.size() <= kKeyDigits || rest[kKeyDigits] != '.' || !std::all_of(rest.begin(), rest.begin() + kKeyDigits, is_hex)) return std::nullopt;
  t.key = rest.substr(0, kKeyDigits);
  t.suffix = rest.substr(kKeyDigits);
  return t;
}

std::optional<std::string> parse_lock(const std::string& file) {
  const std::string end = std::string(kMark) + "lock";
  if (file.size() < end.size() + 2 || file[0] != '.' || !file.ends_with(end)) return std::nullopt;
  return file.substr(1, file.size() - end.size() - 1);
}

bool journal_name_of(const std::string& file, const std::string& base) {
  if (file == base) return true;
  if (file.compare(0, base.size() + 1, base + ".")) return false;
  return file.size() < 5 || file.compare(file.size() - 5, 5, ".lock") != 0;
}

Result<std::vector<std::string>> list_tree(Store& store, const std::string& directory, const std::function<bool(const std::string&)>& enter) {
  std::vector<std::string> out;
  INGOT_TRY(walk(store, directory, "", enter, out));
  std::sort(out.begin(), out.end());
  return out;
}

std::string quoted_list(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < names.size() && i < 5; ++i) out += fmt::format("{}'{}'", i ? ", " : "", names[i]);
  if (names.size() > 5) out += fmt::format(" and {} more", names.size() - 5);
  return out;
}

uint64_t tree_bytes(Store& store, const std::string& path) {
  const auto there = store.stat(path);
  if (!there.ok() || !*there) return 0;
  if (!(*there)->directory()) return (*there)->size;
  uint64_t bytes = 0;
  const auto names = list_tree(store, path, nullptr);
  if (!names.ok()) return 0;
  for (const auto& n : *names)
    if (const auto s = store.stat(join_path(path, n)); s.ok() && *s) bytes += (*s)->size;
  return bytes;
}

}  // namespace ingot
