// A checkpoint back into memory that the caller has, verified while its bytes pass.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/directory.h"
#include "checkpoint/snapshot.h"
#include "tensor/shape.h"

namespace ingot::checkpoint {

// "model-00001-of-00002.safetensors", and the index of such, "model-rank-00003.safetensors": "model". Empty for a file of no tensors.
std::string group_of(std::string_view file);

// A tensor as a group's file has it.
struct Stored {
  std::string group, name;
  TensorSpec spec;
  std::string file;     // within the directory
  uint64_t offset = 0;  // of its bytes there
  std::optional<PartOf> part = std::nullopt;
};
// Of all groups, from the headers alone.
Result<std::vector<Stored>> tensors_of(Store& store, const Found& checkpoint);

struct Target {
  Stored from;
  MutByteView into;  // as many bytes as from.spec has
};
// Every file of the checkpoint is read once and compared; what the targets want goes into place on the way. kBadInput: a file is not what the manifest says, and what
// the targets hold is of no use.
Status restore(Store& store, const Found& checkpoint, const std::vector<Target>& targets, int threads);

// The same by several ranks, each byte read by one of them that wants it: look() on one; read() on each; told() goes to all others, which hear() it; read_rest() reads what nobody wanted, in shares; told() and hear() again;
// then check() says whether all of it is what the manifest says. Before that nothing of what was read counts.
class Reading {
 public:
  static Result<std::unique_ptr<Reading>> open(Store& store, const Found& checkpoint, int threads);
  ~Reading();
  // Whether every file is there, with the size that the manifest says; nothing is read.
  Status look();
  // A target may be any range of a file: `from.spec` has its bytes, `from.offset` is where they begin.
  Status read(const std::vector<Target>& targets);
  Status read_rest(int rank = 0, int world = 1);
  std::string told();  // the hashes of what was read, and not told before; any bytes
  Status hear(std::string_view told);
  Status check() const;
  // Of these files alone: all of them that was not read yet; whether they are what the manifest says.
  Status read_files(const std::vector<std::string>& names);
  Status check_files(const std::vector<std::string>& names) const;
  uint64_t bytes() const { return bytes_; }  // that it has read

 private:
  struct File;
  Reading(Store& store, const Found& c, int threads);
  Status open(File& f);
  Status check(const File& f) const;
  Result<std::vector<File*>> named(const std::vector<std::string>& names) const;
  Status read_leaf(File& f, uint64_t leaf, std::vector<std::byte>& buffer);
  Status read_leaves(const std::vector<std::pair<File*, uint64_t>>& leaves);
  const std::unique_ptr<Store> view_;
  const Found found_;
  const int threads_;
  std::vector<std::unique_ptr<File>> files_;
  std::map<std::string, File*> by_name_;
  std::atomic<uint64_t> bytes_{0};
};

}  // namespace ingot::checkpoint
