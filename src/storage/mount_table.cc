#include "storage/mount_table.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>
#include <fstream>
#include <sstream>

namespace ingot {
namespace {

bool octal(char c) { return c >= '0' && c <= '7'; }

// "\040" is how the table writes a space.
std::string unescaped(const std::string& s) {
  std::string out;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\\' && i + 3 < s.size() && octal(s[i + 1]) && octal(s[i + 2]) && octal(s[i + 3])) {
      out += static_cast<char>((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + (s[i + 3] - '0'));
      i += 3;
    } else {
      out += s[i];
    }
  }
  return out;
}

}  // namespace

std::vector<Mounted> parse_mounts(std::string_view mountinfo) {
  std::vector<Mounted> all;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, word;
    Mounted m;
    if (!(words >> id >> parent >> m.device >> m.root >> m.point)) continue;
    if (std::from_chars(id.data(), id.data() + id.size(), m.id).ec != std::errc()) continue;
    while (words >> word && word != "-") {
    }
    if (word != "-" || !(words >> m.type)) continue;
    words >> m.source;  // some have none
    for (std::string* s : {&m.root, &m.point, &m.type, &m.source}) *s = unescaped(*s);
    all.push_back(std::move(m));
  }
  return all;
}

std::vector<Mounted> mounts() {
  std::ifstream table("/proc/self/mountinfo");
  std::ostringstream text;
  text << table.rdbuf();
  return parse_mounts(text.str());
}

const Mounted* mount_above(const std::vector<Mounted>& all, const std::string& path) {
  const Mounted* found = nullptr;
  for (const Mounted& m : all) {
    const bool above = m.point == "/" || path == m.point || path.starts_with(m.point + "/");
    if (above && (!found || m.point.size() >= found->point.size())) found = &m;
  }
  return found;
}

const Mounted* mount_of(const std::vector<Mounted>& all, const std::string& path) {
#ifdef STATX_MNT_ID
  // Without asking the file system itself, which may be far away, or gone.
  struct statx s;
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, STATX_MNT_ID, &s) == 0 && (s.stx_mask & STATX_MNT_ID))
    for (const Mounted& m : all)
      if (m.id == static_cast<int64_t>(s.stx_mnt_id)) return &m;
#endif
  return mount_above(all, path);
}

}  // namespace ingot
