#include "formats/lookup.h"

#include <algorithm>

namespace ingot {

// A store answers exists() with a plain no, whatever the reason. The directory above tells whether that is true; where it
// holds the name all the same, opening it gives the reason.
Result<std::optional<Entry>> look_up(Store& store, const std::string& path) {
  if (store.exists(path)) return std::optional<Entry>({file_name(path), store.is_directory(path)});
  const std::string up = parent_path(path);
  if (up == path || up == "." || up == "/") return std::optional<Entry>();
  INGOT_ASSIGN(const auto above, look_up(store, up));
  if (!above) return std::optional<Entry>();
  if (above->directory) {
    INGOT_ASSIGN(const auto entries, store.list(up));
    const std::string name = file_name(path);
    if (std::none_of(entries.begin(), entries.end(), [&](const Entry& e) { return e.name == name; })) return std::optional<Entry>();
  }
  if (auto file = store.open(path); !file.ok()) return file.take_error();
  return std::optional<Entry>({file_name(path), false});
}

}  // namespace ingot
