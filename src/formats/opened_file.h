// Files as openers want them: with their first bytes, and many at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/store.h"

namespace ingot {

// A file and its first bytes, as many as the store gives for the price of one call: mostly the whole header.
struct OpenedFile {
  std::string path;
  std::shared_ptr<const ReadFile> file;
  std::string head;
  uint64_t chunk = 0;  // bytes worth reading at once where more is needed
};
Result<OpenedFile> open_head(Store& store, const std::string& path);
// All of a small one, whose error says where it is a link to nothing.
Result<std::string> read_side_file(Store& store, const std::string& path, uint64_t limit);
bool is_dangling(Store& store, const std::string& path);

// Makes the calls, as many at a time as the store serves well. Each keeps its own result, and who then takes these in order tells the same
// error whichever came first. An error here is of the memory for them, while `doing`.
using Calls = std::vector<std::function<void()>>;
Status call_together(const Store& store, const std::string& doing, const Calls& calls);

}  // namespace ingot
