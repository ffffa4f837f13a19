// Open files of the process under the system's limit: a descriptor is opened when it is needed and closed, least recently used
// first, when too many are open. A model of 1,500 shards is read under `ulimit -n 256`.
#pragma once

#include <sys/stat.h>

#include <list>
#include <memory>
#include <string>

#include "base/status.h"

namespace ingot {

// What failed, on which file, in words that say what to do. `e` is an errno.
Error io_error(const char* doing, const std::string& path, int e);
std::string io_reason(int e);

// open(2) that makes room among the files of the process where too many are open. -1 with errno.
int open_descriptor(const std::string& path, int flags, unsigned mode = 0);

// One descriptor of the system; closed with its last holder, so that nobody reads from one that was given to another file.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }  // NOLINT: implicit by intent

 private:
  int fd_;
};
using DescriptorPtr = std::shared_ptr<const Descriptor>;

// A file that is open as far as its user can tell. Thread-safe.
class OpenFile {
 public:
  // Takes over `fd`, opened with `flags` (without O_CREAT or O_TRUNC: they hold for a reopening too); `st` is its fstat.
  OpenFile(std::string path, int flags, int fd, const struct stat& st);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const std::string& path() const { return path_; }
  const struct stat& opened_as() const { return st_; }
  // The descriptor, opened again where it was closed meanwhile. An error when the name leads to another file now.
  Result<DescriptorPtr> descriptor();
  // What was written through it has to be on the medium before it may be closed: an error of that is kept for sync().
  void wrote();
  int take_sync_error();

 private:
  friend class OpenFiles;
  std::string path_;
  int flags_;
  struct stat st_;
  // Below: guarded by the mutex of OpenFiles.
  DescriptorPtr fd_;
  bool dirty_ = false;
  int sync_error_ = 0;
  std::list<OpenFile*>::iterator place_;
};

// How many may be open at once, by the soft limit of this process.
size_t descriptor_capacity();

}  // namespace ingot
