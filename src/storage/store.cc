// Path helpers and small reads shared by every store, and the table of their schemes.
#include "storage/store.h"

#include <algorithm>

namespace ingot {
namespace {

constexpr struct {
  std::string_view scheme;
  Result<Located> (*locate)(const std::string& url);
} kStores[] = {
#define STORE(scheme) {#scheme, locate_##scheme},
#include "storage/stores.def"
#undef STORE
};

// "s3" of "s3://bucket/key".
std::string_view url_scheme(std::string_view path) {
  const std::string_view scheme = path.substr(0, path.find("://"));
  const auto alphanumeric = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return scheme.size() < path.size() && std::all_of(scheme.begin(), scheme.end(), alphanumeric) ? scheme : "";
}

}  // namespace

Result<Located> locate(const std::string& path, const char* instead) {
  const std::string_view scheme = url_scheme(path);
  if (scheme.empty()) return Located{&local_store(), path};
  for (const auto& s : kStores)
    if (s.scheme == scheme) return s.locate(path);
  return bad_input("'{}': {}:// is not there yet in this version of ingot; {}", path, scheme, instead);
}

Error name_taken(const std::string& path) { return failed("creating {}: something has this name already; another process may be writing here", path); }

Result<std::unique_ptr<WriteFile>> Store::create_new(const std::string& path, uint64_t size) {
  INGOT_ASSIGN(const auto there, stat(path));
  if (there) return name_taken(path);
  return create(path, size, false);
}

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
  std::string text;
  text.reserve(file->size() + 64);  // a parser may read a little further
  text.resize(file->size());
  INGOT_TRY(file->read(0, {reinterpret_cast<std::byte*>(text.data()), text.size()}));
  return text;
}

std::vector<std::string> directories_in(Store& store, const std::string& path, std::string_view prefix) {
  std::vector<std::string> out;
  const auto entries = store.list(path);
  if (!entries.ok()) return out;
  for (const Entry& e : *entries)
    if (e.directory && e.name.starts_with(prefix)) out.push_back(e.name);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace ingot
