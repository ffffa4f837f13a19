// Path helpers and small reads shared by every store.
#include "storage/store.h"

namespace ingot {

std::string parent_path(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string file_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string join_path(const std::string& a, const std::string& b) {
  if (a.empty() || a == ".") return b;
  return a.back() == '/' ? a + b : a + "/" + b;
}

Result<std::string> read_text(Store& store, const std::string& path, uint64_t limit) {
  INGOT_ASSIGN(auto file, store.open(path));
  if (file->size() > limit)
    return bad_input("reading {}: it is {} bytes, more than the {} such a file may have", path, file->size(), limit);
  std::string text(file->size(), '\0');
  INGOT_TRY(file->read(0, {reinterpret_cast<std::byte*>(text.data()), text.size()}));
  return text;
}

}  // namespace ingot
