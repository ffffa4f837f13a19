#include "storage/direct.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/bytes.h"
#include "storage/descriptors.h"
#include "storage/forwarding.h"

namespace ingot {
namespace {

constexpr uint64_t kPage = 4096;             // no medium asks for more; and no page is then written both ways
constexpr uint64_t kLeastFile = 4u << 20;    // smaller ones are not worth a descriptor
constexpr uint64_t kLeastWrite = 256u << 10;
constexpr uint64_t kMost = 4u << 20;         // one call
constexpr uint64_t kBounce = 1u << 20;       // of bytes that begin on no page

bool on_page(const void* p) { return reinterpret_cast<uintptr_t>(p) % kPage == 0; }

// Memory on a page, of the thread that writes.
std::byte* bounce() {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  static thread_local const std::unique_ptr<std::byte, Free> memory(static_cast<std::byte*>(std::aligned_alloc(kPage, kBounce)));
  return memory.get();
}

class DirectWrite final : public ForwardingWrite {
 public:
  DirectWrite(const std::string& path, std::unique_ptr<WriteFile> beneath, uint64_t size) : ForwardingWrite(std::move(beneath)) {
    if (size < kLeastFile) return;
    const int flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_DIRECT;
    const int fd = open_descriptor(path, flags);
    struct stat st;
    if (fd >= 0 && ::fstat(fd, &st) == 0) file_.emplace(path, flags, fd, st);
    else if (fd >= 0) ::close(fd);
    direct_ = file_.has_value();
  }

  Status write(uint64_t offset, ByteView bytes) override {
    const uint64_t begin = align_up(offset, kPage), end = (offset + bytes.size()) / kPage * kPage;
    if (!direct_ || bytes.size() < kLeastWrite) return ForwardingWrite::write(offset, bytes);
    if (begin > offset) INGOT_TRY(ForwardingWrite::write(offset, bytes.first(begin - offset)));
    INGOT_TRY(write_pages(begin, bytes.subspan(begin - offset, end - begin)));
    const ByteView rest = bytes.subspan(end - offset);
    return rest.empty() ? Status() : ForwardingWrite::write(end, rest);
  }

 private:
  Status write_pages(uint64_t offset, ByteView bytes) {
    INGOT_ASSIGN(const DescriptorPtr fd, file_->descriptor());
    while (!bytes.empty()) {
      ByteView piece = bytes.first(std::min(bytes.size(), on_page(bytes.data()) ? kMost : kBounce));
      std::byte* const copy = on_page(piece.data()) ? nullptr : bounce();
      if (copy) std::memcpy(copy, piece.data(), piece.size());
      if (!copy && !on_page(piece.data())) return ForwardingWrite::write(offset, bytes);  // no memory for a copy
      const ssize_t n = ::pwrite(*fd, copy ? copy : piece.data(), piece.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      // A file system may find out only now that it cannot, and a disk may end in the middle of a page: the usual way has the last word, and tells what is wrong.
      if (n < 0 || static_cast<uint64_t>(n) % kPage) {
        if (n >= 0 || errno == EINVAL || errno == EOPNOTSUPP) direct_ = false;
        return ForwardingWrite::write(offset, bytes);
      }
      offset += static_cast<uint64_t>(n);
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return {};
  }

  std::optional<OpenFile> file_;
  std::atomic<bool> direct_{false};
};

class DirectStore final : public ForwardingStore {
 public:
  DirectStore() : ForwardingStore(local_store()) {}
  std::string name() const override { return "local, direct"; }
  Capabilities capabilities() const override {
    Capabilities c = ForwardingStore::capabilities();
    c.requests = 4;
    return c;
  }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    INGOT_ASSIGN(auto file, ForwardingStore::create(path, size, resume));
    return std::unique_ptr<WriteFile>(new DirectWrite(path, std::move(file), size));
  }
  Result<std::unique_ptr<WriteFile>> create_new(const std::string& path, uint64_t size) override {
    INGOT_ASSIGN(auto file, beneath().create_new(path, size));
    return std::unique_ptr<WriteFile>(new DirectWrite(path, std::move(file), size));
  }
};

}  // namespace

Store& direct_store() {
  static DirectStore store;
  return store;
}

}  // namespace ingot
