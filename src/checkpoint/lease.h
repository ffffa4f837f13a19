// Who writes into a directory now: an epoch for each process that took it. One that was replaced finds out before it commits or removes anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "storage/store.h"

namespace ingot::checkpoint {

struct Lease {
  int64_t epoch = 1;
  std::string owner;  // of no meaning but to be the same
  std::string host;
  int64_t pid = 0;
  double time = 0;
};

// The next epoch after that of the lease file and `newest` (of the manifests there), written. `family` begins the owner's name.
Result<Lease> take_lease(Store& store, const std::string& directory, int64_t newest, double now, const std::string& family = "");
// Of the file; epoch 0 where it says nothing.
Lease read_lease(Store& store, const std::string& directory);
// As the file has it, and back. kBadInput: it is none.
std::string lease_text(const Lease& lease);
Result<Lease> parse_lease(std::string_view text);
// Writes it as it is: it went away with its directory.
Status put_lease(Store& store, const std::string& directory, const Lease& lease);
// kFailed where another process has taken the directory since that epoch was seen.
Status not_taken_since(Store& store, const std::string& directory, std::optional<int64_t> seen);
// kFailed where another process has taken it since. What cannot be read, or is not there any more, replaces nobody.
Status still_mine(Store& store, const std::string& directory, const Lease& mine);

}  // namespace ingot::checkpoint
