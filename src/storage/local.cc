// The local file system: pread and pwrite, no mmap (a truncated file would be SIGBUS, and mapped pages count as RSS).
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "storage/store.h"

// Linux's rename with exchange, and its range flush; glibc has both since 2.28.
#include <linux/fs.h>

namespace ingot {
namespace {

std::string why(int e) {
  switch (e) {
    case ENOSPC:
    case EDQUOT: return "no space left on the device; free some and run the same command again, it goes on";
    case EACCES:
    case EPERM: return "permission denied";
    case EROFS: return "the file system is read-only";
    case ENOENT: return "no such file or directory";
    default: return std::strerror(e);
  }
}

Error io_error(const char* doing, const std::string& path, int e) {
  const bool input = e == ENOENT || e == ENOTDIR || e == EISDIR;
  return Error{input ? ErrorKind::kBadInput : ErrorKind::kFailed, fmt::format("{} {}: {}", doing, path, why(e))};
}

class LocalRead final : public ReadFile {
 public:
  LocalRead(std::string path, int fd, const struct stat& st)
      : path_(std::move(path)), fd_(fd), size_(st.st_size),
        identity_(fmt::format("{}:{}.{:09}", st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec)) {}
  ~LocalRead() override { ::close(fd_); }
  uint64_t size() const override { return size_; }
  std::string identity() const override { return identity_; }
  Status read(uint64_t offset, MutByteView out) const override {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::pread(fd_, out.data() + done, out.size() - done, offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error("reading", path_, errno);
      if (n == 0)
        return bad_input("reading {}: it ends at byte {}, but bytes {} to {} are needed; the file was cut short", path_,
                         offset + done, offset, offset + out.size());
      done += n;
    }
    return {};
  }

 private:
  std::string path_;
  int fd_;
  uint64_t size_;
  std::string identity_;
};

// Linux sizes the pages of its cache by the write: a megabyte at once asks for huge ones, and where memory is fragmented (after
// any cp of a large file) looking for them made this 2.3 times slower than pieces of the size that cp writes.
constexpr size_t kWriteBytes = 128 << 10;

class LocalWrite final : public WriteFile {
 public:
  LocalWrite(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~LocalWrite() override {
    if (fd_ >= 0) ::close(fd_);
  }
  Status write(uint64_t offset, ByteView bytes) override {
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t n = ::pwrite(fd_, bytes.data() + done, std::min(kWriteBytes, bytes.size() - done), offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error("writing", path_, errno);
      done += n;
    }
    return {};
  }
  Status read_back(uint64_t offset, MutByteView out) override {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::pread(fd_, out.data() + done, out.size() - done, offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error("reading back", path_, errno);
      if (n == 0) return failed("reading back {}: it ends at byte {}", path_, offset + done);
      done += n;
    }
    return {};
  }
  Status truncate(uint64_t size) override {
    return ::ftruncate(fd_, size) ? Status(io_error("truncating", path_, errno)) : Status();
  }
  void start_flush(uint64_t offset, uint64_t size) override {
    ::sync_file_range(fd_, offset, size, SYNC_FILE_RANGE_WRITE);
  }
  Status sync() override { return ::fsync(fd_) ? Status(io_error("syncing", path_, errno)) : Status(); }
  Status complete() override { return {}; }

 private:
  std::string path_;
  int fd_;
};

class LocalLock final : public StoreLock {
 public:
  explicit LocalLock(int fd) : fd_(fd) {}
  ~LocalLock() override { ::close(fd_); }

 private:
  int fd_;
};

class LocalStore final : public Store {
 public:
  std::string name() const override { return "local"; }
  Capabilities capabilities() const override { return {}; }

  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override {
    // A pipe would wait for its writer.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return io_error("opening", path, errno);
    struct stat st;
    if (::fstat(fd, &st) || !S_ISREG(st.st_mode)) {
      ::close(fd);
      return bad_input("opening {}: it is not a regular file", path);
    }
    return std::unique_ptr<ReadFile>(new LocalRead(path, fd, st));
  }

  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (resume ? 0 : O_TRUNC), 0666);
    if (fd < 0) return io_error("creating", path, errno);
    auto file = std::make_unique<LocalWrite>(path, fd);
    struct stat st;
    if (size && !::fstat(fd, &st) && static_cast<uint64_t>(st.st_size) < size) {
      // Blocks are taken now, so that a full disk is found before the work; not every file system can.
      if (::fallocate(fd, 0, 0, size)) {
        if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
          const int e = errno;
          file.reset();
          if (!resume) ::unlink(path.c_str());
          return Error{ErrorKind::kFailed, fmt::format("reserving {} bytes for {}: {}", size, path, why(e))};
        }
        if (::ftruncate(fd, size)) return io_error("sizing", path, errno);
      }
    }
    return std::unique_ptr<WriteFile>(std::move(file));
  }

  // A link that leads nowhere is there too: a rename would meet it.
  bool exists(const std::string& path) override {
    struct stat st;
    return ::lstat(path.c_str(), &st) == 0;
  }
  bool is_directory(const std::string& path) override {
    struct stat st;
    return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
  }

  bool is_special(const std::string& path) override {
    struct stat st;
    return ::stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
  }

  Result<std::vector<Entry>> list(const std::string& directory) override {
    DIR* d = ::opendir(directory.c_str());
    if (!d) return io_error("listing", directory, errno);
    std::vector<Entry> out;
    while (const dirent* e = ::readdir(d)) {
      const std::string n = e->d_name;
      if (n == "." || n == "..") continue;
      out.push_back({n, is_directory(join_path(directory, n))});
    }
    ::closedir(d);
    return out;
  }

  Status make_directory(const std::string& path) override {
    if (is_directory(path)) return {};
    const std::string up = parent_path(path);
    if (up != "." && up != "/" && !exists(up)) INGOT_TRY(make_directory(up));
    if (::mkdir(path.c_str(), 0777) && errno != EEXIST) return io_error("creating directory", path, errno);
    return {};
  }

  Status rename(const std::string& from, const std::string& to, bool replace) override {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno == EINVAL || errno == ENOSYS) {  // a file system without the flags
      if (!replace && exists(to)) return failed("renaming {} to {}: the target exists", from, to);
      return ::rename(from.c_str(), to.c_str()) ? Status(io_error("renaming to", to, errno)) : Status();
    }
    if (errno != EEXIST) return io_error("renaming to", to, errno);
    if (!replace) return failed("renaming {} to {}: the target exists", from, to);
    if (!is_directory(from) && !is_directory(to))
      return ::rename(from.c_str(), to.c_str()) ? Status(io_error("renaming to", to, errno)) : Status();
    // A directory is exchanged in one step, then the old one removed.
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE))
      return io_error("exchanging with", to, errno);
    return remove(from);
  }

  Status remove(const std::string& path) override {
    struct stat st;
    if (::lstat(path.c_str(), &st)) return errno == ENOENT ? Status() : Status(io_error("removing", path, errno));
    if (S_ISDIR(st.st_mode)) {
      INGOT_ASSIGN(auto entries, list(path));
      for (const auto& e : entries) INGOT_TRY(remove(join_path(path, e.name)));
      if (::rmdir(path.c_str()) && errno != ENOENT) return io_error("removing", path, errno);
      return {};
    }
    if (::unlink(path.c_str()) && errno != ENOENT) return io_error("removing", path, errno);
    return {};
  }

  Status sync_directory(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_error("opening directory", path, errno);
    const int rc = ::fsync(fd);
    const int e = errno;
    ::close(fd);
    // Some network mounts refuse to sync a directory; they have nothing to offer in its place.
    if (rc && e != EINVAL && e != ENOTSUP) return io_error("syncing directory", path, e);
    return {};
  }

  Result<uint64_t> free_space(const std::string& directory) override {
    struct statvfs st;
    if (::statvfs(directory.c_str(), &st)) return io_error("asking the free space of", directory, errno);
    return static_cast<uint64_t>(st.f_bavail) * st.f_frsize;
  }

  Result<std::unique_ptr<StoreLock>> lock(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return io_error("creating", path, errno);
    if (::flock(fd, LOCK_EX | LOCK_NB)) {
      ::close(fd);
      return failed("locking {}: another ingot is writing this output; wait for it or stop it", path);
    }
    return std::unique_ptr<StoreLock>(new LocalLock(fd));
  }
};

}  // namespace

Store& local_store() {
  static LocalStore store;
  return store;
}

}  // namespace ingot
