// Store: where bytes live. Local files, memory, one that keeps only hashes, and wrappers that fail or are slow today; object stores later, one file and one row of
// stores.def each. A store says what it can do (Capabilities) and the executor adapts; nothing above src/exec writes.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace ingot {

// How the bytes of one file may arrive.
enum class WriteMode {
  kRandom,      // any offset, any order
  kSequential,  // append only: offset == bytes written so far
  kParts,       // multipart upload: pieces of part_min..part_max bytes (the last may be smaller), any order, several at once
};

struct Capabilities {
  WriteMode mode = WriteMode::kRandom;
  uint64_t part_min = 0, part_max = 0;  // bytes, for kParts
  uint32_t part_count_max = 0;
  bool rename = true;    // atomic rename of a file or directory; without it a file appears at complete()
  bool exchange = true;  // two names change places in one step (where there is rename)
  bool keeps = true;     // what is written is there afterwards; a store that only takes digests keeps nothing, and nothing is read back
  // How many calls it serves well at a time: who has many to make keeps so many under way. 0: nothing is gained from a thread of their own.
  int requests = 2;
  // What one call costs, as the bytes that could have been moved in the time of it: a gap of less is read along rather than asked
  // around. On a local file system that is a system call; of an object store some 4 MiB.
  uint64_t request_bytes = 16 << 10;
};

// What lies under a name. Links are followed; one that leads nowhere is kDangling.
struct Stat {
  enum class Kind { kFile, kDirectory, kSpecial /* a device, a pipe, a socket */, kDangling } kind = Kind::kFile;
  bool link = false;         // the name itself is a symbolic link
  bool mount_point = false;  // of a directory: another file system begins here, and it cannot be renamed
  uint64_t size = 0;     // of a file
  uint64_t links = 1;    // names that lead to the same bytes (hard links)
  std::string identity;  // as ReadFile::identity()
  bool directory() const { return kind == Kind::kDirectory; }
};

// A file opened for reading. read() is thread-safe.
class ReadFile {
 public:
  virtual ~ReadFile() = default;
  virtual uint64_t size() const = 0;
  virtual const std::string& path() const = 0;
  // What changes when the content does: size, mtime and inode, or an ETag.
  virtual std::string identity() const = 0;
  // What changes when anything was done to the file: ctime too. Empty where a store knows no more.
  virtual std::string stamp() const { return ""; }
  // kBadInput when the name no longer leads to the file that was opened, as it was then.
  virtual Status check_unchanged() const { return {}; }
  // Of the store that it lies in: `requests` and `request_bytes` say how it is best read.
  virtual Capabilities capabilities() const { return {}; }
  // Lets later reads come from the medium, not from a cache in memory; false where that cannot be had.
  virtual bool from_medium() { return false; }
  // Fills `out` from `offset`; kBadInput if the file ends before.
  virtual Status read(uint64_t offset, MutByteView out) const = 0;
};

// A file being written. write() is thread-safe except for kSequential, where the caller serialises.
class WriteFile {
 public:
  virtual ~WriteFile() = default;
  // Bytes already there when an unfinished file was reopened (kSequential; kParts: up to the end of the last part), else 0.
  virtual uint64_t resumed() const { return 0; }
  virtual Status write(uint64_t offset, ByteView bytes) = 0;
  // Becomes the whole of another file by sharing its blocks (reflink), nothing moved; false, and nothing done, where that cannot be.
  virtual bool share(const ReadFile& /*from*/) { return false; }
  // Reads back what was written, where the store can; kFailed where it cannot (an unfinished upload).
  virtual Status read_back(uint64_t offset, MutByteView out) = 0;
  // Discards what lies beyond `size` (not kParts).
  virtual Status truncate(uint64_t size) = 0;
  // Starts writing these bytes to the medium, without waiting. A hint.
  virtual void start_flush(uint64_t /*offset*/, uint64_t /*size*/) {}
  // Durable on return. After an error nothing that was written is known to be on the medium, whatever read_back() says.
  virtual Status sync() = 0;
  // Bytes that it has now.
  virtual Result<uint64_t> size() = 0;
  // Ends the file; on a store without rename it appears under its name only now.
  virtual Status complete() = 0;
};

// Held while a job owns a name; released on destruction and when the process dies.
class StoreLock {
 public:
  virtual ~StoreLock() = default;
  // False on a file system that keeps no locks: nothing stops another process then.
  virtual bool excludes() const { return true; }
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
  // Creates the file, or reopens the unfinished one when `resume`; a symbolic link is not followed. `size` is its final size if
  // known, else 0: a longer one is cut to it.
  virtual Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) = 0;
  // Creates a file whose name nothing has: kFailed, and what is there untouched, where something has it. In one step on a file system; else a look, and create().
  virtual Result<std::unique_ptr<WriteFile>> create_new(const std::string& path, uint64_t size);
  // Opens a file that is there, to change bytes within it: nothing is made, cut, followed or taken from its other names. kFailed where it is read-only by its mode
  // (whoever asks), or for this user.
  virtual Result<std::unique_ptr<WriteFile>> change(const std::string& path) { return failed("changing {}: this store cannot change what lies in it", path); }
  // Mode, owner and attributes of a file, given to another as far as this user may; ingot's own note is not among them.
  virtual Status copy_access(const std::string& /*from*/, const std::string& /*to*/) { return {}; }
  // Nothing when there is nothing of that name; an error when that could not be found out.
  virtual Result<std::optional<Stat>> stat(const std::string& path) = 0;
  // The one spelling of a name that is or may come to be: two spellings that lead to the same place resolve to the same text.
  virtual Result<std::string> resolve(const std::string& path) = 0;
  // An error where there is no such directory.
  virtual Result<std::vector<Entry>> list(const std::string& directory) = 0;
  // With its parents; success if it is there.
  virtual Status make_directory(const std::string& path) = 0;
  // Atomic. With `replace` a file takes the place of a file, a directory that of an empty one; else a target that exists is an error.
  virtual Status rename(const std::string& from, const std::string& to, bool replace) = 0;
  // Both names change places in one step; false, and nothing done, where the store cannot.
  virtual Result<bool> exchange(const std::string& a, const std::string& b) = 0;
  // A second name for the bytes of a file (a hard link); false, and nothing done, where that cannot be.
  virtual Result<bool> link(const std::string& /*from*/, const std::string& /*to*/) { return false; }
  // Removes a file, or a directory and all in it (links are removed, not followed); success if it is not there.
  virtual Status remove(const std::string& path) = 0;
  // Discards what create() began under that name and complete() did not end (a store without rename).
  virtual Status abandon(const std::string& /*path*/) { return {}; }
  virtual Status sync_directory(const std::string& path) = 0;
  // Bytes that a new file in this directory may take, or UINT64_MAX if the store sets no limit.
  virtual Result<uint64_t> free_space(const std::string& directory) = 0;
  // Takes the lock file of that name, which goes again with the lock. Null when another process (or another job of this one) holds it.
  virtual Result<std::unique_ptr<StoreLock>> lock(const std::string& path) = 0;
  // Whether someone holds that lock now. Only a look: nothing is made, and what cannot be told is "no".
  virtual bool locked(const std::string& path) = 0;
  // A small text kept with a file or directory, outside its bytes (an extended attribute). set_note is false, and note empty, where
  // the store keeps none.
  virtual bool set_note(const std::string& /*path*/, const std::string& /*text*/) { return false; }
  virtual std::string note(const std::string& /*path*/) { return ""; }
};

// Names of the directories in a directory that begin so, sorted. None where it cannot be listed: opening it tells why.
std::vector<std::string> directories_in(Store& store, const std::string& path, std::string_view prefix = "");
// For tests and other callers to whom a failed look is "no".
inline bool is_there(Store& store, const std::string& path) {
  const auto s = store.stat(path);
  return s.ok() && s->has_value();
}

// The whole of a small file, at most `limit` bytes (kBadInput beyond).
Result<std::string> read_text(Store& store, const std::string& path, uint64_t limit = 256u << 20);

// What create_new() says of a name that something has.
Error name_taken(const std::string& path);

// Path helpers, '/'-separated on every store.
std::string parent_path(const std::string& path);  // "." when there is none
std::string file_name(const std::string& path);
std::string join_path(const std::string& a, const std::string& b);

// The local file system. One instance serves the process; above src/storage it is reached by locate().
Store& local_store();

struct Located {
  Store* store = nullptr;
  std::string path;  // in the store; located again it leads to the same place
};
// Where a path or URL leads: its scheme is a row of stores.def, without one it is a local path. kBadInput for a scheme that is no row;
// `instead` ends that text with what to do.
Result<Located> locate(const std::string& path_or_url, const char* instead = "copy it here first and give the path");
#define STORE(scheme) Result<Located> locate_##scheme(const std::string& url);
#include "storage/stores.def"
#undef STORE

// Files in memory with chosen capabilities, for tests and small intermediates. Survives "kills": keep the store,
// run the job again. Thread-safe.
std::unique_ptr<Store> make_memory_store(Capabilities capabilities = {});

// Takes everything and keeps nothing: for outputs of which only the hashes are wanted.
std::unique_ptr<Store> make_digest_store();

// Counts and fails: before each mutating call (create, write, sync, rename, remove, complete, ...) `hook` gets its
// number (from 0), name and path. A non-empty answer makes this call and every later one fail with that text: a
// crash as the job sees it. Reads are counted by `on_read` (may be empty).
struct FaultHooks {
  std::function<std::string(uint64_t number, const char* op, const std::string& path)> hook;
  std::function<void(const std::string& path, uint64_t offset, uint64_t size)> on_read;
};
std::unique_ptr<Store> make_fault_store(Store& beneath, FaultHooks hooks);

// A store far away, for tests: each call takes `latency`, at most `requests` are under way at once. Nobody needs to look at the clock: a
// call's round is one more than the greatest round of any call that had come back when it began, and the greatest of all is how
// many round trips were made one after another.
struct SlowOptions {
  std::chrono::milliseconds latency{30};
  int requests = 16;
  uint64_t request_bytes = 4 << 20;
};
struct SlowCounts {
  std::atomic<uint64_t> calls{0}, rounds{0};
};
std::unique_ptr<Store> make_slow_store(Store& beneath, const SlowOptions& options, SlowCounts* counts);

}  // namespace ingot
