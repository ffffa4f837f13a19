// pread and pwrite, no mmap (a truncated file would be SIGBUS, and mapped pages count as RSS).
#include "storage/local_file.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/magic.h>

#include <algorithm>
#include <cerrno>

#include "storage/descriptors.h"

namespace ingot {
namespace {

std::string stamp_of(const struct stat& st) {
  return fmt::format("{}:{}.{:09}", local_identity(st), st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
}

// The cache answers for none of the probed pages. RWF_NOWAIT reads what is in memory and never waits for a disk.
bool none_cached(int fd, uint64_t size) {
  constexpr uint64_t kProbes = 64;
  for (uint64_t i = 0; i < kProbes; ++i) {
    char byte;
    const struct iovec v = {&byte, 1};
    if (::preadv2(fd, &v, 1, static_cast<off_t>(size / kProbes * i), RWF_NOWAIT) >= 0 || errno != EAGAIN) return false;
  }
  return size > 0;
}

bool lives_in_memory(int fd) {
  struct statfs fs;
  return ::fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC);
}

class LocalRead final : public ReadFile {
 public:
  LocalRead(const std::string& path, int fd, const struct stat& st)
      : file_(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, fd, st), identity_(local_identity(st)), stamp_(stamp_of(st)) {}
  uint64_t size() const override { return file_.opened_as().st_size; }
  const std::string& path() const override { return file_.path(); }
  std::string identity() const override { return identity_; }
  std::string stamp() const override { return stamp_; }

  Status check_unchanged() const override {
    struct stat st;
    if (::stat(path().c_str(), &st)) {
      if (errno != ENOENT && errno != ENOTDIR) return io_error("looking again at", path(), errno);
      return bad_input("{} is no longer there; it was being read, and what was made from it is not kept", path());
    }
    if (stamp_of(st) == stamp_ && st.st_dev == file_.opened_as().st_dev) return {};
    const struct stat& was = file_.opened_as();
    const char* what = st.st_ino != was.st_ino || st.st_dev != was.st_dev ? "another file took its name"
                       : st.st_size != was.st_size                        ? "its size changed"
                       : local_identity(st) != identity_                  ? "it was written to"
                                                                          : "its mode, owner, name or number of links changed";
    return bad_input("{} changed while it was being read ({}); what was made from it is not kept. Run the command again once nothing "
                     "touches it", path(), what);
  }

  Status read(uint64_t offset, MutByteView out) const override {
    INGOT_ASSIGN(const DescriptorPtr fd, file_.descriptor());
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::pread(*fd, out.data() + done, out.size() - done, offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error("reading", path(), errno);
      if (n == 0)
        return bad_input("reading {}: it ends at byte {}, but bytes {} to {} are needed; the file was cut short", path(),
                         offset + done, offset, offset + out.size());
      done += n;
    }
    return {};
  }

  bool from_medium() override {
    const auto fd = file_.descriptor();
    if (!fd.ok() || lives_in_memory(**fd)) return false;
    return ::posix_fadvise(**fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && none_cached(**fd, size());
  }

 private:
  mutable OpenFile file_;
  std::string identity_, stamp_;
};

// Linux sizes the pages of its cache by the write: a megabyte at once asks for huge ones, and where memory is fragmented (after
// any cp of a large file) looking for them made this 2.3 times slower than pieces of the size that cp writes.
constexpr size_t kWriteBytes = 128 << 10;

// A call that a signal may interrupt (on mounts nearly all are), until it was not.
template <class F>
int whole_call(F f) {
  int rc;
  while ((rc = f()) < 0 && errno == EINTR) {
  }
  return rc;
}

class LocalWrite final : public WriteFile {
 public:
  LocalWrite(const std::string& path, int fd, const struct stat& st) : file_(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, fd, st) {}

  Status write(uint64_t offset, ByteView bytes) override {
    INGOT_ASSIGN(const DescriptorPtr fd, file_.descriptor());
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t n = ::pwrite(*fd, bytes.data() + done, std::min(kWriteBytes, bytes.size() - done), offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error("writing", file_.path(), errno);
      done += n;
    }
    file_.wrote();
    return {};
  }
  bool share(const ReadFile& from) override {
    const auto fd = file_.descriptor();
    const int source = open_descriptor(from.path(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (source < 0) return false;
    struct stat st;
    const bool done = fd.ok() && ::fstat(source, &st) == 0 && local_identity(st) == from.identity() && ::ioctl(**fd, FICLONE, source) == 0;
    ::close(source);
    if (done) file_.wrote();
    return done;
  }
  Status read_back(uint64_t offset, MutByteView out) override {
    INGOT_ASSIGN(const DescriptorPtr fd, file_.descriptor());
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::pread(*fd, out.data() + done, out.size() - done, offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error("reading back", file_.path(), errno);
      if (n == 0) return failed("reading back {}: it ends at byte {}", file_.path(), offset + done);
      done += n;
    }
    return {};
  }
  // Blocks are taken now, so that a full disk is found before the work; not every file system can.
  Status reserve(uint64_t size) {
    INGOT_ASSIGN(const DescriptorPtr fd, file_.descriptor());
    if (whole_call([&] { return ::fallocate(*fd, 0, 0, size); }) == 0) return {};
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
      return failed("reserving {} bytes for {}: {}", size, file_.path(), io_reason(errno));
    return truncate(size);
  }
  Status truncate(uint64_t size) override {
    INGOT_ASSIGN(const DescriptorPtr fd, file_.descriptor());
    return whole_call([&] { return ::ftruncate(*fd, size); }) ? Status(io_error("truncating", file_.path(), errno)) : Status();
  }
  void start_flush(uint64_t offset, uint64_t size) override {
    if (const auto fd = file_.descriptor(); fd.ok()) ::sync_file_range(**fd, offset, size, SYNC_FILE_RANGE_WRITE);
  }
  Status sync() override {
    INGOT_ASSIGN(const DescriptorPtr fd, file_.descriptor());
    const int rc = whole_call([&] { return ::fsync(*fd); }) ? errno : 0;
    const int earlier = file_.take_sync_error();
    return rc || earlier ? Status(io_error("syncing", file_.path(), rc ? rc : earlier)) : Status();
  }
  Result<uint64_t> size() override {
    INGOT_ASSIGN(const DescriptorPtr fd, file_.descriptor());
    struct stat st;
    if (::fstat(*fd, &st)) return io_error("looking at", file_.path(), errno);
    return static_cast<uint64_t>(st.st_size);
  }
  // Mounts of buckets upload when a file is closed, and tell only there that it failed. A close of a second descriptor asks the same of them, and can be waited for.
  Status complete() override {
    INGOT_ASSIGN(const DescriptorPtr fd, file_.descriptor());
    const auto close_copy = [&] {
      const int copy = ::fcntl(*fd, F_DUPFD_CLOEXEC, 0);
      return copy < 0 ? 0 : ::close(copy);  // no descriptor left: the last close tells nobody, as it always did
    };
    return whole_call(close_copy) ? Status(io_error("closing", file_.path(), errno)) : Status();
  }

 private:
  OpenFile file_;
};

}  // namespace

std::string local_identity(const struct stat& st) {
  return fmt::format("{}:{}.{:09}:{}", st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_ino);
}

Result<std::unique_ptr<ReadFile>> open_local(const std::string& path) {
  // A pipe would wait for its writer.
  const int fd = open_descriptor(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return io_error("opening", path, errno);
  struct stat st;
  const int e = ::fstat(fd, &st) ? errno : 0;
  if (e || !S_ISREG(st.st_mode)) {
    ::close(fd);
    if (e) return io_error("opening", path, e);
    return bad_input("opening {}: it is not a regular file", path);
  }
  return std::unique_ptr<ReadFile>(new LocalRead(path, fd, st));
}

Result<std::unique_ptr<WriteFile>> create_local(const std::string& path, uint64_t size, Creation how) {
  const int fd = open_descriptor(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (how == Creation::kReplace ? O_TRUNC : how == Creation::kNew ? O_EXCL : 0), 0666);
  if (fd < 0 && how == Creation::kNew && errno == EEXIST) return name_taken(path);
  if (fd < 0 && (errno == ELOOP || errno == EISDIR || errno == ENXIO))
    return failed("creating {}: something that is no file has this name; remove it", path);
  if (fd < 0) return io_error("creating", path, errno);
  struct stat st;
  if (::fstat(fd, &st) || !S_ISREG(st.st_mode)) {
    ::close(fd);
    return failed("creating {}: something that is no file has this name; remove it", path);
  }
  if (st.st_nlink > 1) {
    // Another name leads to the same bytes (a backup by hard links): they are not ours to write.
    ::close(fd);
    if (::unlink(path.c_str())) return io_error("removing", path, errno);
    return create_local(path, size, Creation::kReplace);
  }
  auto file = std::make_unique<LocalWrite>(path, fd, st);
  if (size && static_cast<uint64_t>(st.st_size) > size) INGOT_TRY(file->truncate(size));
  if (size && static_cast<uint64_t>(st.st_size) < size)
    if (auto s = file->reserve(size); !s.ok()) {
      file.reset();
      if (how != Creation::kResume) ::unlink(path.c_str());
      return s;
    }
  return std::unique_ptr<WriteFile>(std::move(file));
}

Result<std::unique_ptr<WriteFile>> change_local(const std::string& path) {
  const int fd = open_descriptor(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  const int e = fd < 0 ? errno : 0;
  struct stat st = {};
  const bool file = fd >= 0 && ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  if (e == EACCES || e == EPERM || e == EROFS || (file && !(st.st_mode & 0222))) {
    if (fd >= 0) ::close(fd);
    return failed("changing {}: it is read-only; let it be written to (chmod u+w), or write a copy with --out", path);
  }
  if (e && e != ELOOP && e != EISDIR && e != ENXIO) return io_error("changing", path, e);
  if (!file) {
    if (fd >= 0) ::close(fd);
    return bad_input("changing {}: it is no regular file", path);
  }
  return std::unique_ptr<WriteFile>(new LocalWrite(path, fd, st));
}

}  // namespace ingot
