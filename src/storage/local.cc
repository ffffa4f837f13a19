// The local file system: names, directories, locks. Its files are in local_file.cc.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "storage/descriptors.h"
#include "storage/local_file.h"

// Linux's rename with exchange; glibc has it since 2.28.
#include <linux/fs.h>

namespace ingot {
namespace {

constexpr char kNote[] = "user.ingot.key";

class LocalLock final : public StoreLock {
 public:
  LocalLock(std::string path, int fd, bool excludes) : path_(std::move(path)), fd_(fd), excludes_(excludes) {}
  ~LocalLock() override {
    // While it is held: whoever opened the file before finds out that it is no longer the one of that name.
    if (excludes_) ::unlink(path_.c_str());
    ::close(fd_);
  }
  bool excludes() const override { return excludes_; }

 private:
  std::string path_;
  int fd_;
  bool excludes_;
};

// What users and access lists have noted with a file; what this file system or user may not is left.
void copy_attributes(int from, int to) {
  std::string names(64 << 10, '\0'), value(64 << 10, '\0');
  const ssize_t n = ::flistxattr(from, names.data(), names.size());
  for (const char* name = names.data(); n > 0 && name < names.data() + n; name += std::strlen(name) + 1) {
    const std::string_view s = name;
    if (s == kNote || (!s.starts_with("user.") && s != "system.posix_acl_access")) continue;
    if (const ssize_t size = ::fgetxattr(from, name, value.data(), value.size()); size >= 0)
      (void)::fsetxattr(to, name, value.data(), static_cast<size_t>(size), 0);
  }
}

class LocalStore final : public Store {
 public:
  std::string name() const override { return "local"; }
  Capabilities capabilities() const override { return {}; }
  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override { return open_local(path); }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    return create_local(path, size, resume ? Creation::kResume : Creation::kReplace);
  }
  Result<std::unique_ptr<WriteFile>> create_new(const std::string& path, uint64_t size) override { return create_local(path, size, Creation::kNew); }
  Result<std::unique_ptr<WriteFile>> change(const std::string& path) override { return change_local(path); }
  // By descriptors: a name can come to lead elsewhere at any time.
  Status copy_access(const std::string& from, const std::string& to) override {
    const Descriptor source(open_descriptor(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat st;
    if (source < 0 || ::fstat(source, &st)) return io_error("looking at", from, errno);
    const Descriptor made(open_descriptor(to, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct stat own;
    if (made < 0 ? errno == ELOOP : ::fstat(made, &own) == 0 && (!S_ISREG(own.st_mode) || own.st_nlink != 1))
      return failed("giving a mode to {}: something else took its name while it was written", to);
    if (made < 0) return io_error("giving a mode to", to, errno);
    // The owner first: a change of it takes bits of the mode away.
    if (::fchown(made, st.st_uid, st.st_gid) && ::fchown(made, static_cast<uid_t>(-1), st.st_gid) && errno != EPERM) return io_error("giving an owner to", to, errno);
    if (::fchmod(made, st.st_mode & 0777)) return io_error("giving a mode to", to, errno);
    copy_attributes(source, made);
    return {};
  }

  Result<std::optional<Stat>> stat(const std::string& path) override {
    struct stat st;
    if (::lstat(path.c_str(), &st)) {
      if (errno == ENOENT || errno == ENOTDIR) return std::optional<Stat>();
      return io_error("looking at", path, errno);
    }
    Stat s;
    s.link = S_ISLNK(st.st_mode);
    if (s.link && ::stat(path.c_str(), &st)) {
      if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) return io_error("looking at", path, errno);
      s.kind = Stat::Kind::kDangling;
      return std::optional<Stat>(s);
    }
    s.kind = S_ISREG(st.st_mode) ? Stat::Kind::kFile : S_ISDIR(st.st_mode) ? Stat::Kind::kDirectory : Stat::Kind::kSpecial;
    s.size = S_ISREG(st.st_mode) ? st.st_size : 0;
    s.links = S_ISREG(st.st_mode) ? st.st_nlink : 1;
    s.identity = local_identity(st);
    struct stat above;
    s.mount_point = s.directory() && ::stat((path + "/..").c_str(), &above) == 0 && above.st_dev != st.st_dev;
    return std::optional<Stat>(s);
  }

  Result<std::string> resolve(const std::string& path) override {
    char buffer[PATH_MAX];
    if (::realpath(path.c_str(), buffer)) return std::string(buffer);
    if (errno != ENOENT && errno != ENOTDIR) return io_error("resolving", path, errno);
    // Not there (yet): the part that is, and the rest as it is spelled.
    const std::string last = file_name(path), up = parent_path(path);
    if (up == path) return path;
    INGOT_ASSIGN(std::string above, resolve(up));
    if (last.empty() || last == ".") return above;
    if (last == "..") return parent_path(above);
    return join_path(above, last);
  }

  Result<std::vector<Entry>> list(const std::string& directory) override { return list(directory, 0); }
  Result<std::vector<Entry>> list(const std::string& directory, int flags) {
    const int fd = open_descriptor(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
    DIR* d = fd < 0 ? nullptr : ::fdopendir(fd);
    if (!d) {
      const int e = errno;
      if (fd >= 0) ::close(fd);
      return io_error("listing", directory, e);
    }
    std::vector<Entry> out;
    errno = 0;
    while (const dirent* e = ::readdir(d)) {
      const std::string n = e->d_name;
      if (n == "." || n == "..") continue;
      struct stat st;
      const bool told = e->d_type != DT_LNK && e->d_type != DT_UNKNOWN;
      const bool there = told || ::fstatat(fd, n.c_str(), &st, 0) == 0;
      // A link that leads nowhere, or where no one may look, is no directory; what else fails might have been one.
      if (!there && errno != ENOENT && errno != ENOTDIR && errno != ELOOP && errno != EACCES) {
        const int failure = errno;
        ::closedir(d);
        return io_error("looking at", join_path(directory, n), failure);
      }
      out.push_back({n, there && (told ? e->d_type == DT_DIR : S_ISDIR(st.st_mode))});
      errno = 0;
    }
    const int e = errno;
    ::closedir(d);
    if (e) return io_error("listing", directory, e);
    return out;
  }

  Status make_directory(const std::string& path) override {
    if (::mkdir(path.c_str(), 0777) == 0) return {};
    if (errno == EEXIST) {
      struct stat st;
      if (::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
      return failed("creating directory {}: something that is no directory has this name", path);
    }
    const std::string up = parent_path(path);
    if (errno != ENOENT || up == path) return io_error("creating directory", path, errno);
    INGOT_TRY(make_directory(up));
    if (::mkdir(path.c_str(), 0777) && errno != EEXIST) return io_error("creating directory", path, errno);
    return {};
  }

  Status rename(const std::string& from, const std::string& to, bool replace) override {
    if (replace) return ::rename(from.c_str(), to.c_str()) ? Status(io_error("renaming to", to, errno)) : Status();
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno == EEXIST) return failed("renaming {} to {}: the target exists", from, to);
    if (errno != EINVAL && errno != ENOSYS) return io_error("renaming to", to, errno);
    // A file system without the flag: a second link refuses a target that exists; where there are no links (and for directories)
    // only a look before is left.
    if (::link(from.c_str(), to.c_str()) == 0) return ::unlink(from.c_str()) ? Status(io_error("removing", from, errno)) : Status();
    if (errno == EEXIST) return failed("renaming {} to {}: the target exists", from, to);
    INGOT_ASSIGN(const auto there, stat(to));
    if (there) return failed("renaming {} to {}: the target exists", from, to);
    return ::rename(from.c_str(), to.c_str()) ? Status(io_error("renaming to", to, errno)) : Status();
  }

  Result<bool> exchange(const std::string& a, const std::string& b) override {
    if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
    if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return false;
    return io_error("exchanging with", b, errno);
  }

  Result<bool> link(const std::string& from, const std::string& to) override {
    if (::link(from.c_str(), to.c_str()) == 0) return true;
    // No links here, too many of this file, another file system, or not for this user: the bytes can be written instead.
    if (errno == EPERM || errno == EMLINK || errno == EXDEV || errno == ENOTSUP || errno == ENOSYS || errno == EACCES || errno == ENOENT) return false;
    return io_error("linking", to, errno);
  }

  Status remove(const std::string& path) override {
    struct stat st;
    if (::lstat(path.c_str(), &st))
      return errno == ENOENT || errno == ENOTDIR ? Status() : Status(io_error("removing", path, errno));
    if (S_ISDIR(st.st_mode)) {
      // A link that took the directory's place meanwhile is not followed.
      INGOT_ASSIGN(auto entries, list(path, O_NOFOLLOW));
      for (const auto& e : entries) INGOT_TRY(remove(join_path(path, e.name)));
      if (::rmdir(path.c_str()) && errno != ENOENT) return io_error("removing", path, errno);
      return {};
    }
    if (::unlink(path.c_str()) && errno != ENOENT) return io_error("removing", path, errno);
    return {};
  }

  Status sync_directory(const std::string& path) override {
    const int fd = open_descriptor(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
    for (;;) {
      const int fd = open_descriptor(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
      if (fd < 0 && errno == ELOOP) return failed("locking {}: a symbolic link has this name; remove it", path);
      if (fd < 0) return io_error("creating the lock file", path, errno);
      int rc;
      while ((rc = ::flock(fd, LOCK_EX | LOCK_NB)) && errno == EINTR) {
      }
      if (rc) {
        const int e = errno;
        if (e == ENOSYS || e == ENOTSUP || e == ENOLCK || e == EINVAL) {
          ::unlink(path.c_str());
          return std::unique_ptr<StoreLock>(new LocalLock(path, fd, false));
        }
        ::close(fd);
        if (e == EWOULDBLOCK) return std::unique_ptr<StoreLock>();
        ::unlink(path.c_str());
        return io_error("locking", path, e);
      }
      // Its last holder may have removed it between open and flock: then this lock is of no name.
      struct stat held, named;
      if (::fstat(fd, &held) == 0 && ::lstat(path.c_str(), &named) == 0 && held.st_ino == named.st_ino && held.st_dev == named.st_dev)
        return std::unique_ptr<StoreLock>(new LocalLock(path, fd, true));
      ::close(fd);
    }
  }

  bool locked(const std::string& path) override {
    const int fd = open_descriptor(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return false;
    const bool held = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(fd);
    return held;
  }

  bool set_note(const std::string& path, const std::string& text) override {
    return ::setxattr(path.c_str(), kNote, text.data(), text.size(), 0) == 0;
  }
  std::string note(const std::string& path) override {
    char buffer[512];
    const ssize_t n = ::getxattr(path.c_str(), kNote, buffer, sizeof buffer);
    return n < 0 ? "" : std::string(buffer, n);
  }
};

}  // namespace

Store& local_store() {
  static LocalStore store;
  return store;
}

Result<Located> locate_file(const std::string& url) {
  std::string_view rest = std::string_view(url).substr(sizeof "file://" - 1);
  if (rest.starts_with("localhost/")) rest.remove_prefix(sizeof "localhost" - 1);
  if (!rest.starts_with('/')) return usage("'{}': expected file:///PATH with the whole path, or the path itself, without file://", url);
  std::string path;
  for (size_t i = 0; i < rest.size(); ++i) {
    unsigned char byte = 0;  // of "%20"
    const char* begin = rest.data() + i + 1;
    const bool coded = rest[i] == '%' && i + 2 < rest.size() && std::from_chars(begin, begin + 2, byte, 16).ptr == begin + 2 && byte;
    path += coded ? static_cast<char>(byte) : rest[i];
    if (coded) i += 2;
  }
  return Located{&local_store(), path};
}

}  // namespace ingot
