#include "formats/opened_file.h"

#include <algorithm>

#include "base/memory.h"
#include "base/threads.h"
#include "formats/placeholder.h"
#include "storage/hub.h"

namespace ingot {

constexpr uint64_t kLeastHead = 64 << 10;
// What could be moved while a thread starts and is waited for: calls that cost less together (Capabilities::request_bytes), as dozens of
// a local disk do, are not worth one.
constexpr uint64_t kThreadBytes = 1 << 20;

bool is_dangling(Store& store, const std::string& path) {
  const auto there = store.stat(path);
  return there.ok() && *there && (*there)->kind == Stat::Kind::kDangling;
}

namespace {

Error unopened(Store& store, const std::string& path, Error e) {
  if (e.kind != ErrorKind::kBadInput || !is_dangling(store, path)) return e;
  return bad_input("opening {}: it is a link to a file that is not there (in the Hugging Face cache: a download that did not finish, or that was cleaned "
                   "away); download it again{}", path, hub_download(store, path));
}

}  // namespace

Result<std::string> read_side_file(Store& store, const std::string& path, uint64_t limit) {
  auto text = read_text(store, path, limit);
  if (!text.ok()) return unopened(store, path, text.take_error());
  return text;
}

Result<OpenedFile> open_head(Store& store, const std::string& path) {
  OpenedFile o;
  o.path = path;
  auto file = store.open(path);
  if (!file.ok()) return unopened(store, path, file.take_error());
  o.file = *std::move(file);
  o.chunk = std::max(kLeastHead, store.capabilities().request_bytes);
  o.head.resize(std::min(o.chunk, o.file->size()));
  if (!o.head.empty()) INGOT_TRY(o.file->read(0, {reinterpret_cast<std::byte*>(o.head.data()), o.head.size()}));
  if (const auto what = placeholder(o.head); !what.empty()) return bad_input("opening {}: it {}", path, what);
  return o;
}

Status call_together(const Store& store, const std::string& doing, const Calls& calls) {
  const Capabilities c = store.capabilities();
  const auto worth = static_cast<int>(std::min<uint64_t>(calls.size() * c.request_bytes / kThreadBytes, 1 << 10));
  return run_each(std::min(c.requests, worth), calls.size(), [&](size_t i) {
    return within_memory(doing, [&]() -> Status {
      calls[i]();
      return {};
    });
  });
}

}  // namespace ingot
