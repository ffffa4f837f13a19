// What one rank has written: durable, read back and invisible. Passed to whoever publishes, as text if need be.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/hash.h"

namespace ingot {

struct Written {
  struct File {
    int output = 0;
    std::string name;  // within the directory; empty for an output that is one file
    uint64_t size = 0;
    std::map<uint64_t, Hash128> leaves;  // by number, of those that this rank wrote
  };
  std::string key;
  uint64_t leaf_bytes = 0;
  std::vector<File> files;  // each output has one at least, of no bytes if need be
  bool published = false;   // found finished already; nothing was written
  std::string serialize() const;
  // kBadInput where it is not whole.
  static Result<Written> parse(std::string_view bytes);
};

}  // namespace ingot
