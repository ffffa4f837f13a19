// Store: where bytes live. Local files, memory and a fault-injecting wrapper today; object stores later, one file
// each. A store says what it can do (Capabilities) and the executor adapts; nothing above src/exec writes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace ingot {

// How the bytes of one file may arrive.
enum class WriteMode {
  kRandom,      // any offset, any order
  kSequential,  // append only: offset == bytes written so far
  kParts,       // multipart upload: append only, in pieces of part_min..part_max bytes (the last may be smaller)
};

struct Capabilities {
  WriteMode mode = WriteMode::kRandom;
  uint64_t part_min = 0, part_max = 0;  // bytes, for kParts
  uint32_t part_count_max = 0;
  bool rename = true;  // atomic rename of a file or directory; without it a file appears at complete()
};

// A file opened for reading. read() is thread-safe.
class ReadFile {
 public:
  virtual ~ReadFile() = default;
  virtual uint64_t size() const = 0;
  // What changes when the content does: size and mtime, or an ETag.
  virtual std::string identity() const = 0;
  // Fills `out` from `offset`; kBadInput if the file ends before.
  virtual Status read(uint64_t offset, MutByteView out) const = 0;
};

// A file being written. write() is thread-safe for kRandom, else the caller serialises.
class WriteFile {
 public:
  virtual ~WriteFile() = default;
  // Bytes already there when an unfinished file was reopened (kSequential, kParts), else 0.
  virtual uint64_t resumed() const { return 0; }
  virtual Status write(uint64_t offset, ByteView bytes) = 0;
  // Reads back what was written, where the store can; kFailed where it cannot (an unfinished upload).
  virtual Status read_back(uint64_t offset, MutByteView out) = 0;
  // Discards what lies beyond `size` (kSequential, kParts, before going on).
  virtual Status truncate(uint64_t size) = 0;
  // Starts writing these bytes to the medium, without waiting. A hint.
  virtual void start_flush(uint64_t /*offset*/, uint64_t /*size*/) {}
  // Durable on return.
  virtual Status sync() = 0;
  // Ends the file; on a store without rename it appears under its name only now.
  virtual Status complete() = 0;
};

// Held while a job owns its temporary; released on destruction and when the process dies.
class StoreLock {
 public:
  virtual ~StoreLock() = default;
};

struct Entry {
  std::string name;  // the last component
  bool directory = false;
};

class Store {
 public:
  virtual ~Store() = default;
  virtual std::string name() const = 0;
  virtual Capabilities capabilities() const = 0;
  virtual Result<std::unique_ptr<ReadFile>> open(const std::string& path) = 0;
  // Creates the file, or reopens the unfinished one when `resume`. `size` is its final size if known, else 0.
  virtual Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) = 0;
  virtual bool exists(const std::string& path) = 0;
  virtual bool is_directory(const std::string& path) = 0;
  // Something that is neither file nor directory: a device, a pipe, a socket.
  virtual bool is_special(const std::string& /*path*/) { return false; }
  virtual Result<std::vector<Entry>> list(const std::string& directory) = 0;
  virtual Status make_directory(const std::string& path) = 0;
  // Atomic; with `replace` an existing target is exchanged and removed, else it is an error.
  virtual Status rename(const std::string& from, const std::string& to, bool replace) = 0;
  // Removes a file, or a directory and all in it; success if it is not there.
  virtual Status remove(const std::string& path) = 0;
  virtual Status sync_directory(const std::string& path) = 0;
  // Bytes that a new file in this directory may take, or UINT64_MAX if the store sets no limit.
  virtual Result<uint64_t> free_space(const std::string& directory) = 0;
  // The lock of that name, or kFailed when another process (or another job of this one) holds it.
  virtual Result<std::unique_ptr<StoreLock>> lock(const std::string& path) = 0;
};

// The whole of a small file, at most `limit` bytes (kBadInput beyond).
Result<std::string> read_text(Store& store, const std::string& path, uint64_t limit = 256u << 20);

// Path helpers, '/'-separated on every store.
std::string parent_path(const std::string& path);  // "." when there is none
std::string file_name(const std::string& path);
std::string join_path(const std::string& a, const std::string& b);

// The local file system. One instance serves the process.
Store& local_store();

// Files in memory with chosen capabilities, for tests and small intermediates. Survives "kills": keep the store,
// run the job again. Thread-safe.
std::unique_ptr<Store> make_memory_store(Capabilities capabilities = {});

// Counts and fails: before each mutating call (create, write, sync, rename, remove, complete, ...) `hook` gets its
// number (from 0), name and path. A non-empty answer makes this call and every later one fail with that text: a
// crash as the job sees it. Reads are counted by `on_read` (may be empty).
struct FaultHooks {
  std::function<std::string(uint64_t number, const char* op, const std::string& path)> hook;
  std::function<void(const std::string& path, uint64_t offset, uint64_t size)> on_read;
};
std::unique_ptr<Store> make_fault_store(Store& beneath, FaultHooks hooks);

}  // namespace ingot
