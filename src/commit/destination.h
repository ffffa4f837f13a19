// Where an output goes and how it gets there: what whoever writes one and whoever gives it its name must know.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/cancel.h"
#include "storage/store.h"

namespace ingot {

// Of the hash tree of a file.
inline constexpr uint64_t kLeafBytes = 1 << 20;

// A name that a finished output takes: a file, or a directory of files.
struct Destination {
  Store* store = nullptr;  // null only within load(): the caller's memory
  std::string path;        // final name; nothing is there until it is whole and verified
  bool directory = false;
  // Names within the directory that an older output of this kind may have ("model-00001-of-00007.safetensors", "sub/"): what --force may
  // remove beside the files of the new one.
  std::function<bool(const std::string& name)> older_name = nullptr;
  // A file that takes the place of one that it is made from, with that one's mode and owner.
  bool in_place_of_input = false;
};

// A file of an output, by its name within the directory; of no meaning where the output is one file.
struct FileSize {
  std::string name;
  uint64_t size = 0;
};
using FileSizes = std::vector<FileSize>;

// How the outputs are read back and compared with what was computed.
enum class Verify {
  kMedium,  // around the cache in memory, where the file system allows that
  kCache,   // from wherever the system has the bytes
  kNone,
};
const char* verify_name(Verify v);

struct CommitOptions {
  int threads = 0;     // 0 = the machine's
  bool force = false;  // replace existing outputs
  Verify verify = Verify::kMedium;
  int rank = 0, world = 1;
  double rank_timeout = 600;  // seconds without progress after which a rank no longer waits for another
  uint64_t leaf_bytes = kLeafBytes;  // of the hash tree; others only in tests
  CancelToken* cancel = nullptr;
  // Notices for the user ("starting over: ...").
  std::function<void(const std::string&)> on_notice;
  // Where the journal lives; null: beside the first output, in its store.
  Store* journal_store = nullptr;
  std::string journal_path;  // empty: derived from the first output
};

}  // namespace ingot
