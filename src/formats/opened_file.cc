#include "formats/opened_file.h"

#include <algorithm>

#include "base/memory.h"
#include "base/threads.h"

namespace ingot {

constexpr uint64_t kLeastHead = 64 << 10;

Result<OpenedFile> open_head(Store& store, const std::string& path) {
  OpenedFile o;
  o.path = path;
  INGOT_ASSIGN(o.file, store.open(path));
  o.chunk = std::max(kLeastHead, store.capabilities().request_bytes);
  o.head.resize(std::min(o.chunk, o.file->size()));
  if (!o.head.empty()) INGOT_TRY(o.file->read(0, {reinterpret_cast<std::byte*>(o.head.data()), o.head.size()}));
  return o;
}

Status call_together(const Store& store, const std::string& doing, const Calls& calls) {
  return run_each(store.capabilities().requests, calls.size(), [&](size_t i) {
    return within_memory(doing, [&]() -> Status {
      calls[i]();
      return {};
    });
  });
}

}  // namespace ingot
