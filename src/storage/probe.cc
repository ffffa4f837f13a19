#include "storage/probe.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>

#include "storage/descriptors.h"
#include "storage/mount_table.h"
#include "storage/store.h"

namespace ingot {
namespace {

constexpr char kScratch[] = ".ingot-probe-";
constexpr time_t kAbandoned = 600;  // seconds, of the file system's clock: no probe takes that long

// What probes that were killed have left.
void remove_abandoned(Store& store, const std::string& where, const std::string& mine) {
  struct stat now, then;
  const auto entries = store.list(where);
  if (!entries.ok() || ::stat(mine.c_str(), &now)) return;
  for (const Entry& e : *entries)
    if (const std::string path = join_path(where, e.name); e.directory && e.name.starts_with(kScratch) && ::stat(path.c_str(), &then) == 0 && now.st_mtime - then.st_mtime > kAbandoned)
      (void)store.remove(path);
}

// One system call after another on a descriptor of its own; false at the first that fails.
bool put(const std::string& path, int flags, const char* text, off_t at = -1) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666);
  if (fd < 0) return false;
  const auto n = static_cast<ssize_t>(std::strlen(text));
  const bool written = (at < 0 ? ::write(fd, text, static_cast<size_t>(n)) : ::pwrite(fd, text, static_cast<size_t>(n), at)) == n;
  return (::close(fd) == 0) && written;
}

std::string get(const std::string& path) {
  std::ifstream f(path, std::ios::binary);
  std::ostringstream s;
  s << f.rdbuf();
  return s.str();
}

// A page past the cache.
bool put_page(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> page(static_cast<char*>(std::aligned_alloc(4096, 4096)), &std::free);
  const int fd = page ? ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_DIRECT, 0666) : -1;
  if (fd < 0) return false;
  std::memset(page.get(), 'g', 4096);
  const bool written = ::pwrite(fd, page.get(), 4096, 0) == 4096;
  return ::close(fd) == 0 && written && get(path) == std::string(page.get(), 4096);
}

}  // namespace

bool MountProbe::writes_directly() const {
  static constexpr std::string_view kDisks[] = {"ext2", "ext3", "ext4", "xfs", "f2fs", "overlay"};
  return direct && std::find(std::begin(kDisks), std::end(kDisks), type) != std::end(kDisks);
}

Result<MountProbe> probe_directory(const std::string& directory) {
  INGOT_ASSIGN(const Located at, locate(directory));
  INGOT_ASSIGN(const std::string where, at.store->resolve(at.path));
  MountProbe p;
  p.type = p.source = "unknown";  // in a chroot the table may have no row for it
  const std::string scratch = join_path(where, fmt::format("{}{}-{:x}", kScratch, ::getpid(), std::random_device()()));
  INGOT_TRY(at.store->remove(scratch));
  INGOT_TRY(at.store->make_directory(scratch));
  const auto table = mounts();
  if (const Mounted* m = mount_of(table, scratch)) p.type = m->type, p.source = m->source;
  struct statvfs fs;
  if (!p.bucket() && ::statvfs(where.c_str(), &fs) == 0) p.free = static_cast<uint64_t>(fs.f_bavail) * fs.f_frsize;
  const auto name = [&](const char* n) { return join_path(scratch, n); };
  if (!put(name("a"), O_CREAT, "0123456789")) {
    const int e = errno;
    (void)at.store->remove(scratch);
    return failed("writing into {}: {}", directory, std::strerror(e));
  }
  p.read_after_write = get(name("a")) == "0123456789";
  p.exclusive = !put(name("a"), O_CREAT | O_EXCL, "x") && errno == EEXIST;
  p.append = put(name("a"), O_APPEND, "ab") && get(name("a")) == "0123456789ab";
  put(name("b"), O_CREAT, "0123456789");
  p.random_write = put(name("b"), 0, "xy", 3) && get(name("b")) == "012xy56789";
  put(name("c"), O_CREAT | O_TRUNC, "c");
  put(name("d"), O_CREAT | O_TRUNC, "d");
  p.rename_file = ::rename(name("c").c_str(), name("d").c_str()) == 0 && get(name("d")) == "c";
  p.link = ::link(name("d").c_str(), name("e").c_str()) == 0 && get(name("e")) == "c";
  // rclone goes on to upload what was in it after all is removed: of a bucket it would not count anyway.
  p.rename_directory = !p.bucket() && ::mkdir(name("dir").c_str(), 0777) == 0 && put(name("dir/f"), O_CREAT, "f") && ::rename(name("dir").c_str(), name("moved").c_str()) == 0 && get(name("moved/f")) == "f";
  p.direct = put_page(name("g"));
  if (const int fd = ::open(name("d").c_str(), O_RDWR | O_CLOEXEC); fd >= 0) {
    p.sync = ::fsync(fd) == 0;
    p.lock = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
    ::close(fd);
  }
  remove_abandoned(*at.store, where, scratch);
  (void)at.store->remove(scratch);  // a mount may refuse what it has just taken
  return p;
}

}  // namespace ingot
