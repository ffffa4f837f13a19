// Loaded before libc (LD_PRELOAD), it numbers every call by which a process and its children change what lies below a directory, over all threads, and at one number
// kills or stops the process, cuts a write short, or fails the call. What to do and what was called stand in a file that all of them map, so nothing is lost by a kill;
// faults.py makes it and reads it. INGOT_FAULTS names it; without, all calls pass.
// Not seen: fwrite and fclose (libc calls itself), writes through mmap, raw system calls. survival_test.py looks that what is tested here has none of them.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum Action : uint32_t { kNone, kKillBefore, kKillAfter, kKillTorn, kStop, kFail, kShort };
enum Refuse : uint32_t { kRename = 1, kLink = 2 };  // what this file system has not

// The layout is faults.py's, too.
struct Control {
  uint64_t count;  // of calls so far
  uint64_t at;     // the number, from 1, of the call that something happens to; 0: none
  uint32_t action, error;
  uint32_t lasting;  // kFail: every later call fails, too
  uint32_t refuse;
  uint64_t capacity, records;
  char under[4000];
};
struct Record {
  uint64_t number;  // 0: a note, not a call
  int32_t pid, tid;
  int64_t offset, size, result;
  int32_t error;
  uint32_t done;  // it has come back
  char op[24];
  char path[220], to[220];
};
constexpr size_t kHeader = 4096;
static_assert(sizeof(Control) <= kHeader && sizeof(Record) == 512);

Control* g_control = nullptr;
Record* g_records = nullptr;

void arm(const char* file) {
  g_control = nullptr;
  const int fd = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0));
  if (fd < 0) ::_exit(99);
  const off_t size = ::lseek(fd, 0, SEEK_END);
  void* p = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::syscall(SYS_close, fd);
  if (p == MAP_FAILED || size < static_cast<off_t>(kHeader)) ::_exit(99);
  g_records = reinterpret_cast<Record*>(static_cast<char*>(p) + kHeader);
  g_control = static_cast<Control*>(p);
}

__attribute__((constructor)) void start() {
  if (const char* file = ::getenv("INGOT_FAULTS"); file && *file) arm(file);
}

// An absolute name as far as it is known; "" where it is not.
struct Name {
  char text[PATH_MAX] = "";
  void of_fd(int fd) {
    char link[64];
    ::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    follow(link);
  }
  void at(int directory, const char* path) {
    if (!path) return;
    if (*path != '/') {
      if (directory == AT_FDCWD) follow("/proc/self/cwd");
      else of_fd(directory);
    }
    const size_t n = std::strlen(text);
    ::snprintf(text + n, sizeof text - n, "%s%s", n ? "/" : "", path);
  }
  bool below() const {
    const size_t n = std::strlen(g_control->under);
    return std::strncmp(text, g_control->under, n) == 0 && (text[n] == '/' || text[n] == 0);
  }

 private:
  void follow(const char* link) {
    const int was = errno;
    const long n = ::syscall(SYS_readlink, link, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    errno = was;
  }
};

[[noreturn]] void die() {
  for (;;) ::syscall(SYS_kill, ::getpid(), SIGKILL);
}

Record* next_record(const char* op, const char* path, const char* to) {
  const uint64_t i = __atomic_fetch_add(&g_control->records, 1, __ATOMIC_SEQ_CST);
  if (i >= g_control->capacity) return nullptr;
  Record* r = &g_records[i];
  r->pid = ::getpid(), r->tid = static_cast<int32_t>(::syscall(SYS_gettid));
  ::snprintf(r->op, sizeof r->op, "%s", op);
  // The end of a long name tells more than its begin.
  const auto put = [](char* into, const char* name) { ::snprintf(into, 220, "%s", name + (std::strlen(name) > 219 ? std::strlen(name) - 219 : 0)); };
  put(r->path, path), put(r->to, to);
  return r;
}

struct Fd {
  int number;
};

// One call, from its begin to its end.
class Call {
 public:
  // Of a descriptor. Standard streams are nobody's business here.
  Call(const char* op, Fd of, int64_t offset, int64_t size, bool written = false) {
    const int fd = of.number;
    if (!g_control || fd <= 2) return;
    if (written && (::syscall(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) == O_RDONLY) return;
    name_.of_fd(fd);
    begin(op, offset, size);
  }
  Call(const char* op, int directory, const char* path, int64_t size = 0, int to_directory = AT_FDCWD, const char* to = nullptr) {
    if (!g_control) return;
    name_.at(directory, path);
    to_.at(to_directory, to);
    begin(op, 0, size);
  }

  // Before the call is made. True: it is not, and errno is set.
  bool refused(uint32_t kinds = 0) {
    if (!mine_) return false;
    if (kinds & g_control->refuse) return end(-1, EPERM), errno = EPERM, true;
    if (hit_ && g_control->action == kKillBefore) die();
    if (hit_ && g_control->action == kStop) ::syscall(SYS_kill, ::getpid(), SIGSTOP);
    if (g_control->action == kFail && (hit_ || (g_control->lasting && g_control->at && number_ > g_control->at))) {
      const int e = static_cast<int>(g_control->error);
      return end(-1, e), errno = e, true;
    }
    return false;
  }
  size_t cut(size_t n) const { return hit_ && (g_control->action == kShort || g_control->action == kKillTorn) && n > 1 ? n / 2 : n; }
  bool cuts() const { return hit_ && (g_control->action == kShort || g_control->action == kKillTorn); }
  template <class R>
  R done(R result) {
    if (!mine_) return result;
    const int e = errno;
    end(static_cast<int64_t>(result), result < 0 ? e : 0);
    if (hit_ && (g_control->action == kKillAfter || g_control->action == kKillTorn)) die();
    errno = e;
    return result;
  }

 private:
  void begin(const char* op, int64_t offset, int64_t size) {
    mine_ = name_.below() || (to_.text[0] && to_.below());
    if (!mine_) return;
    number_ = __atomic_add_fetch(&g_control->count, 1, __ATOMIC_SEQ_CST);
    hit_ = g_control->at == number_;
    record_ = next_record(op, name_.text, to_.text);
    if (record_) record_->offset = offset, record_->size = size, record_->number = number_;
  }
  void end(int64_t result, int error) {
    if (record_) record_->result = result, record_->error = error, record_->done = 1;
  }

  Name name_, to_;
  Record* record_ = nullptr;
  uint64_t number_ = 0;
  bool mine_ = false, hit_ = false;
};

template <class F>
F next(const char* name) {
  void* p = ::dlsym(RTLD_NEXT, name);
  if (!p) ::_exit(98);
  return reinterpret_cast<F>(p);
}

bool changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }
bool changes(const char* mode) { return std::strpbrk(mode, "wa+") != nullptr; }

size_t total(const struct iovec* v, int n) {
  size_t sum = 0;
  for (int i = 0; i < n; ++i) sum += v[i].iov_len;
  return sum;
}

}  // namespace

// Under labels of their own: the headers' declarations (noexcept, fortified, variadic) differ from one libc to the next. A variadic argument of an integer's size is
// passed as a named one on the machines that Linux runs on.
#define SHIM(type, name, ...)                                                                     \
  extern "C" __attribute__((visibility("default"))) type shim_##name(__VA_ARGS__) __asm__(#name); \
  type shim_##name(__VA_ARGS__)

// For who knows more than the calls: a store's operation, which the calls after it (of this thread) belong to.
extern "C" __attribute__((visibility("default"))) void ingot_faults_note(const char* op, const char* path) {
  if (!g_control) return;
  if (Record* r = next_record(op, path, "")) r->done = 1;
}
// Another file, or none: for a child that was forked and is a process of its own from here on.
extern "C" __attribute__((visibility("default"))) void ingot_faults_arm(const char* file) {
  g_control = nullptr;
  if (file && *file) arm(file);
}

#define SHIM_OPEN(name)                                              \
  SHIM(int, name, const char* path, int flags, unsigned mode) {      \
    static const auto real = next<int (*)(const char*, int, unsigned)>(#name); \
    if (!changes(flags)) return real(path, flags, mode);             \
    Call c("open", AT_FDCWD, path, flags);                           \
    return c.refused() ? -1 : c.done(real(path, flags, mode));       \
  }
SHIM_OPEN(open)
SHIM_OPEN(open64)
SHIM_OPEN(__open_2)
SHIM_OPEN(__open64_2)
#define SHIM_OPENAT(name)                                                      \
  SHIM(int, name, int directory, const char* path, int flags, unsigned mode) { \
    static const auto real = next<int (*)(int, const char*, int, unsigned)>(#name); \
    if (!changes(flags)) return real(directory, path, flags, mode);            \
    Call c("open", directory, path, flags);                                    \
    return c.refused() ? -1 : c.done(real(directory, path, flags, mode));      \
  }
SHIM_OPENAT(openat)
SHIM_OPENAT(openat64)
SHIM_OPENAT(__openat_2)
SHIM_OPENAT(__openat64_2)
#define SHIM_CREAT(name)                                           \
  SHIM(int, name, const char* path, unsigned mode) {               \
    static const auto real = next<int (*)(const char*, unsigned)>(#name); \
    Call c("open", AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC);  \
    return c.refused() ? -1 : c.done(real(path, mode));            \
  }
SHIM_CREAT(creat)
SHIM_CREAT(creat64)
#define SHIM_FOPEN(name)                                              \
  SHIM(FILE*, name, const char* path, const char* mode) {             \
    static const auto real = next<FILE* (*)(const char*, const char*)>(#name); \
    if (!changes(mode)) return real(path, mode);                      \
    Call c("open", AT_FDCWD, path, O_CREAT | O_WRONLY);               \
    if (c.refused()) return nullptr;                                  \
    FILE* f = real(path, mode);                                       \
    c.done(f ? 0 : -1);                                               \
    return f;                                                         \
  }
SHIM_FOPEN(fopen)
SHIM_FOPEN(fopen64)

// A descriptor is gone whatever close() says.
SHIM(int, close, int fd) {
  static const auto real = next<int (*)(int)>("close");
  Call c("close", Fd{fd}, 0, 0, true);
  const bool refused = c.refused();
  const int e = errno, result = real(fd);
  if (refused) return errno = e, -1;
  return c.done(result);
}

SHIM(ssize_t, write, int fd, const void* bytes, size_t n) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  Call c("write", Fd{fd}, -1, static_cast<int64_t>(n));
  return c.refused() ? -1 : c.done(real(fd, bytes, c.cut(n)));
}
#define SHIM_PWRITE(name)                                                            \
  SHIM(ssize_t, name, int fd, const void* bytes, size_t n, off_t offset) {           \
    static const auto real = next<ssize_t (*)(int, const void*, size_t, off_t)>(#name); \
    Call c("pwrite", Fd{fd}, offset, static_cast<int64_t>(n));                           \
    return c.refused() ? -1 : c.done(real(fd, bytes, c.cut(n), offset));             \
  }
SHIM_PWRITE(pwrite)
SHIM_PWRITE(pwrite64)
// A cut one writes its first piece, or half of that.
SHIM(ssize_t, writev, int fd, const struct iovec* v, int n) {
  static const auto real = next<ssize_t (*)(int, const struct iovec*, int)>("writev");
  Call c("write", Fd{fd}, -1, static_cast<int64_t>(total(v, n)));
  if (c.refused()) return -1;
  struct iovec first = n > 0 ? v[0] : iovec{};
  first.iov_len = c.cut(first.iov_len);
  return c.done(c.cuts() && n > 0 ? real(fd, &first, 1) : real(fd, v, n));
}
#define SHIM_PWRITEV(name)                                                                \
  SHIM(ssize_t, name, int fd, const struct iovec* v, int n, off_t offset) {               \
    static const auto real = next<ssize_t (*)(int, const struct iovec*, int, off_t)>(#name); \
    Call c("pwrite", Fd{fd}, offset, static_cast<int64_t>(total(v, n)));                      \
    if (c.refused()) return -1;                                                           \
    struct iovec first = n > 0 ? v[0] : iovec{};                                          \
    first.iov_len = c.cut(first.iov_len);                                                 \
    return c.done(c.cuts() && n > 0 ? real(fd, &first, 1, offset) : real(fd, v, n, offset)); \
  }
SHIM_PWRITEV(pwritev)
SHIM_PWRITEV(pwritev64)
#define SHIM_PWRITEV2(name)                                                                    \
  SHIM(ssize_t, name, int fd, const struct iovec* v, int n, off_t offset, int flags) {         \
    static const auto real = next<ssize_t (*)(int, const struct iovec*, int, off_t, int)>(#name); \
    Call c("pwrite", Fd{fd}, offset, static_cast<int64_t>(total(v, n)));                           \
    return c.refused() ? -1 : c.done(real(fd, v, n, offset, flags));                           \
  }
SHIM_PWRITEV2(pwritev2)
SHIM_PWRITEV2(pwritev64v2)

#define SHIM_FTRUNCATE(name)                                \
  SHIM(int, name, int fd, off_t size) {                     \
    static const auto real = next<int (*)(int, off_t)>(#name); \
    Call c("ftruncate", Fd{fd}, 0, size);                       \
    return c.refused() ? -1 : c.done(real(fd, size));       \
  }
SHIM_FTRUNCATE(ftruncate)
SHIM_FTRUNCATE(ftruncate64)
#define SHIM_TRUNCATE(name)                                         \
  SHIM(int, name, const char* path, off_t size) {                   \
    static const auto real = next<int (*)(const char*, off_t)>(#name); \
    Call c("truncate", AT_FDCWD, path, size);                       \
    return c.refused() ? -1 : c.done(real(path, size));             \
  }
SHIM_TRUNCATE(truncate)
SHIM_TRUNCATE(truncate64)
#define SHIM_FALLOCATE(name)                                            \
  SHIM(int, name, int fd, int mode, off_t offset, off_t size) {         \
    static const auto real = next<int (*)(int, int, off_t, off_t)>(#name); \
    Call c("fallocate", Fd{fd}, offset, size);                              \
    return c.refused() ? -1 : c.done(real(fd, mode, offset, size));     \
  }
SHIM_FALLOCATE(fallocate)
SHIM_FALLOCATE(fallocate64)
// Tells its error as its result.
#define SHIM_POSIX_FALLOCATE(name)                                  \
  SHIM(int, name, int fd, off_t offset, off_t size) {               \
    static const auto real = next<int (*)(int, off_t, off_t)>(#name); \
    Call c("fallocate", Fd{fd}, offset, size);                          \
    return c.refused() ? errno : c.done(real(fd, offset, size));    \
  }
SHIM_POSIX_FALLOCATE(posix_fallocate)
SHIM_POSIX_FALLOCATE(posix_fallocate64)

#define SHIM_SYNC(name)                                \
  SHIM(int, name, int fd) {                            \
    static const auto real = next<int (*)(int)>(#name); \
    Call c(#name, Fd{fd}, 0, 0);                           \
    return c.refused() ? -1 : c.done(real(fd));        \
  }
SHIM_SYNC(fsync)
SHIM_SYNC(fdatasync)
SHIM_SYNC(syncfs)
SHIM(int, sync_file_range, int fd, off_t offset, off_t size, unsigned flags) {
  static const auto real = next<int (*)(int, off_t, off_t, unsigned)>("sync_file_range");
  Call c("sync_file_range", Fd{fd}, offset, size);
  return c.refused() ? -1 : c.done(real(fd, offset, size, flags));
}

SHIM(int, link, const char* from, const char* to) {
  static const auto real = next<int (*)(const char*, const char*)>("link");
  Call c("link", AT_FDCWD, from, 0, AT_FDCWD, to);
  return c.refused(kLink) ? -1 : c.done(real(from, to));
}
SHIM(int, linkat, int a, const char* from, int b, const char* to, int flags) {
  static const auto real = next<int (*)(int, const char*, int, const char*, int)>("linkat");
  Call c("link", a, from, 0, b, to);
  return c.refused(kLink) ? -1 : c.done(real(a, from, b, to, flags));
}
SHIM(int, symlink, const char* from, const char* to) {
  static const auto real = next<int (*)(const char*, const char*)>("symlink");
  Call c("symlink", AT_FDCWD, to);
  return c.refused(kLink) ? -1 : c.done(real(from, to));
}
SHIM(int, symlinkat, const char* from, int b, const char* to) {
  static const auto real = next<int (*)(const char*, int, const char*)>("symlinkat");
  Call c("symlink", b, to);
  return c.refused(kLink) ? -1 : c.done(real(from, b, to));
}
SHIM(int, rename, const char* from, const char* to) {
  static const auto real = next<int (*)(const char*, const char*)>("rename");
  Call c("rename", AT_FDCWD, from, 0, AT_FDCWD, to);
  return c.refused(kRename) ? -1 : c.done(real(from, to));
}
SHIM(int, renameat, int a, const char* from, int b, const char* to) {
  static const auto real = next<int (*)(int, const char*, int, const char*)>("renameat");
  Call c("rename", a, from, 0, b, to);
  return c.refused(kRename) ? -1 : c.done(real(a, from, b, to));
}
SHIM(int, renameat2, int a, const char* from, int b, const char* to, unsigned flags) {
  static const auto real = next<int (*)(int, const char*, int, const char*, unsigned)>("renameat2");
  Call c("rename", a, from, flags, b, to);
  return c.refused(kRename) ? -1 : c.done(real(a, from, b, to, flags));
}

#define SHIM_ONE_NAME(name, op)                                \
  SHIM(int, name, const char* path) {                          \
    static const auto real = next<int (*)(const char*)>(#name); \
    Call c(op, AT_FDCWD, path);                                \
    return c.refused() ? -1 : c.done(real(path));              \
  }
SHIM_ONE_NAME(unlink, "unlink")
SHIM_ONE_NAME(rmdir, "rmdir")
SHIM_ONE_NAME(remove, "unlink")
SHIM(int, unlinkat, int directory, const char* path, int flags) {
  static const auto real = next<int (*)(int, const char*, int)>("unlinkat");
  Call c(flags & AT_REMOVEDIR ? "rmdir" : "unlink", directory, path);
  return c.refused() ? -1 : c.done(real(directory, path, flags));
}
SHIM(int, mkdir, const char* path, unsigned mode) {
  static const auto real = next<int (*)(const char*, unsigned)>("mkdir");
  Call c("mkdir", AT_FDCWD, path);
  return c.refused() ? -1 : c.done(real(path, mode));
}
SHIM(int, mkdirat, int directory, const char* path, unsigned mode) {
  static const auto real = next<int (*)(int, const char*, unsigned)>("mkdirat");
  Call c("mkdir", directory, path);
  return c.refused() ? -1 : c.done(real(directory, path, mode));
}

SHIM(ssize_t, copy_file_range, int in, off_t* in_offset, int out, off_t* out_offset, size_t n, unsigned flags) {
  static const auto real = next<ssize_t (*)(int, off_t*, int, off_t*, size_t, unsigned)>("copy_file_range");
  Call c("copy_file_range", Fd{out}, out_offset ? *out_offset : -1, static_cast<int64_t>(n));
  return c.refused() ? -1 : c.done(real(in, in_offset, out, out_offset, c.cut(n), flags));
}
#define SHIM_SENDFILE(name)                                                      \
  SHIM(ssize_t, name, int out, int in, off_t* offset, size_t n) {                \
    static const auto real = next<ssize_t (*)(int, int, off_t*, size_t)>(#name); \
    Call c("sendfile", Fd{out}, -1, static_cast<int64_t>(n));                        \
    return c.refused() ? -1 : c.done(real(out, in, offset, c.cut(n)));           \
  }
SHIM_SENDFILE(sendfile)
SHIM_SENDFILE(sendfile64)
SHIM(int, ioctl, int fd, unsigned long request, void* argument) {
  static const auto real = next<int (*)(int, unsigned long, void*)>("ioctl");
  if (request != FICLONE && request != FICLONERANGE) return real(fd, request, argument);
  Call c("clone", Fd{fd}, 0, 0);
  return c.refused() ? -1 : c.done(real(fd, request, argument));
}

#define SHIM_SETXATTR(name)                                                                            \
  SHIM(int, name, const char* path, const char* key, const void* value, size_t size, int flags) {      \
    static const auto real = next<int (*)(const char*, const char*, const void*, size_t, int)>(#name); \
    Call c("setxattr", AT_FDCWD, path, static_cast<int64_t>(size));                                    \
    return c.refused() ? -1 : c.done(real(path, key, value, size, flags));                             \
  }
SHIM_SETXATTR(setxattr)
SHIM_SETXATTR(lsetxattr)
SHIM(int, fsetxattr, int fd, const char* key, const void* value, size_t size, int flags) {
  static const auto real = next<int (*)(int, const char*, const void*, size_t, int)>("fsetxattr");
  Call c("setxattr", Fd{fd}, 0, static_cast<int64_t>(size));
  return c.refused() ? -1 : c.done(real(fd, key, value, size, flags));
}
SHIM(int, fchmod, int fd, unsigned mode) {
  static const auto real = next<int (*)(int, unsigned)>("fchmod");
  Call c("chmod", Fd{fd}, 0, mode);
  return c.refused() ? -1 : c.done(real(fd, mode));
}
SHIM(int, chmod, const char* path, unsigned mode) {
  static const auto real = next<int (*)(const char*, unsigned)>("chmod");
  Call c("chmod", AT_FDCWD, path, mode);
  return c.refused() ? -1 : c.done(real(path, mode));
}
SHIM(int, fchown, int fd, unsigned user, unsigned group) {
  static const auto real = next<int (*)(int, unsigned, unsigned)>("fchown");
  Call c("chown", Fd{fd}, 0, 0);
  return c.refused() ? -1 : c.done(real(fd, user, group));
}
