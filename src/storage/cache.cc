#include "storage/cache.h"

#include <unistd.h>

#include <cstdlib>

namespace ingot {

std::optional<Located> cache_directory() {
  // A path that is not absolute does not count (XDG Base Directory Specification).
  const auto absolute = [](const char* name) -> const char* {
    const char* value = std::getenv(name);
    return value && *value == '/' ? value : nullptr;
  };
  const char *cache = absolute("XDG_CACHE_HOME"), *home = absolute("HOME");
  if (!cache && !home) return std::nullopt;
  const std::string path = join_path(cache ? cache : join_path(home, ".cache"), "ingot");
  if (!local_store().make_directory(path).ok() || ::access(path.c_str(), W_OK | X_OK) != 0) return std::nullopt;
  return Located{&local_store(), path};
}

}  // namespace ingot
