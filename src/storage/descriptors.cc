#include "storage/descriptors.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

namespace ingot {

std::string io_reason(int e) {
  switch (e) {
    case ENOSPC:
    case EDQUOT: return "no space left on the device; free some and run the same command again, it goes on";
    case EFBIG: return "the file would be larger than this process may write (ulimit -f) or the file system can hold; raise the limit or give "
                       "--max-shard-size";
    case EACCES:
    case EPERM: return "permission denied";
    case EROFS: return "the file system is read-only";
    case ENOENT: return "no such file or directory";
    case ENAMETOOLONG: return "the name is longer than the file system takes (most take 255 bytes); give a shorter one";
    case ELOOP: return "a symbolic link where none is expected, or symbolic links that lead in a circle";
    case EMFILE: return "too many open files; raise the limit (ulimit -n)";
    case EIO: return "input/output error: the medium or its connection is at fault (the kernel's log says more)";
    default: return std::strerror(e);
  }
}

Error io_error(const char* doing, const std::string& path, int e) {
  const bool input = e == ENOENT || e == ENOTDIR || e == EISDIR;
  return Error{input ? ErrorKind::kBadInput : ErrorKind::kFailed, fmt::format("{} {}: {}", doing, path, io_reason(e))};
}

Descriptor::~Descriptor() { ::close(fd_); }

size_t descriptor_capacity() {
  struct rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit)) return 64;
  // The rest is for locks, journals, directories being listed, the standard streams, and what the caller's program has open.
  const size_t soft = limit.rlim_cur == RLIM_INFINITY ? 4096 : static_cast<size_t>(limit.rlim_cur);
  return std::clamp<size_t>(soft > 192 ? soft - 96 : soft / 2, 4, 2048);
}

// All OpenFiles of the process, the most recently used in front.
class OpenFiles {
 public:
  static OpenFiles& instance() {
    static OpenFiles* const all = new OpenFiles;  // never destroyed: files may outlive main
    // Another thread may be in it when one forks: the child finds it whole and free.
    static const int registered = ::pthread_atfork([] { all->mutex_.lock(); }, [] { all->mutex_.unlock(); }, [] { all->mutex_.unlock(); });
    (void)registered;
    return *all;
  }

  void add(OpenFile* file, int fd) {
    std::lock_guard lock(mutex_);
    opened_.push_front(file);
    file->place_ = opened_.begin();
    file->fd_ = std::make_shared<Descriptor>(fd);
    close_beyond(descriptor_capacity(), file);
  }

  void remove(OpenFile* file) {
    std::lock_guard lock(mutex_);
    if (file->fd_) opened_.erase(file->place_);
    file->fd_.reset();
  }

  Result<DescriptorPtr> get(OpenFile* file) {
    std::lock_guard lock(mutex_);
    if (file->fd_) {
      opened_.splice(opened_.begin(), opened_, file->place_);
      return file->fd_;
    }
    const int fd = open_locked(file->path_, file->flags_, 0);
    if (fd < 0) return io_error("opening again", file->path_, errno);
    auto opened = std::make_shared<Descriptor>(fd);
    struct stat st;
    if (::fstat(fd, &st)) return io_error("looking at", file->path_, errno);
    if (st.st_dev != file->st_.st_dev || st.st_ino != file->st_.st_ino)
      return failed("opening {} again: another file has its name now; something replaced it while it was in use. Run the command again once "
                    "nothing else writes there", file->path_);
    file->fd_ = std::move(opened);
    opened_.push_front(file);
    file->place_ = opened_.begin();
    DescriptorPtr held = file->fd_;
    close_beyond(descriptor_capacity(), file);
    return held;
  }

  int open(const std::string& path, int flags, unsigned mode) {
    std::lock_guard lock(mutex_);
    return open_locked(path, flags, mode);
  }

  void wrote(OpenFile* file) {
    std::lock_guard lock(mutex_);
    file->dirty_ = true;
  }

  int take_sync_error(OpenFile* file) {
    std::lock_guard lock(mutex_);
    file->dirty_ = false;
    return std::exchange(file->sync_error_, 0);
  }

 private:
  int open_locked(const std::string& path, int flags, unsigned mode) {
    int fd = ::open(path.c_str(), flags, mode);
    // What else the process has open took more than was left to it: ours give way until it fits.
    while (fd < 0 && (errno == EMFILE || errno == ENFILE) && !opened_.empty()) {
      close_beyond(opened_.size() - 1, nullptr);
      fd = ::open(path.c_str(), flags, mode);
    }
    return fd;
  }

  void close_beyond(size_t most, const OpenFile* keep) {
    while (opened_.size() > most) {
      OpenFile* last = opened_.back();
      if (last == keep) return;
      // An error of writing back may be told to the descriptor that wrote, and to no later one.
      if (last->dirty_ && ::fdatasync(*last->fd_)) last->sync_error_ = errno;
      last->dirty_ = false;
      last->fd_.reset();
      opened_.pop_back();
    }
  }

  std::mutex mutex_;
  std::list<OpenFile*> opened_;
};

int open_descriptor(const std::string& path, int flags, unsigned mode) { return OpenFiles::instance().open(path, flags, mode); }

OpenFile::OpenFile(std::string path, int flags, int fd, const struct stat& st) : path_(std::move(path)), flags_(flags), st_(st) {
  OpenFiles::instance().add(this, fd);
}
OpenFile::~OpenFile() { OpenFiles::instance().remove(this); }
Result<DescriptorPtr> OpenFile::descriptor() { return OpenFiles::instance().get(this); }
void OpenFile::wrote() { OpenFiles::instance().wrote(this); }
int OpenFile::take_sync_error() { return OpenFiles::instance().take_sync_error(this); }

}  // namespace ingot
