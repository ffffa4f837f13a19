// Files that are compressed beneath their logical offsets: whoever writes and reads sees a file of its own size, at any offset and in any order; what lies in the store is
// NAME.frames, independent zstd frames of 1 MiB with an index at the end (docs/formats/frames.md). No plan meets a length that is not known yet, and a range is read without
// what lies before it.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "storage/forwarding.h"

namespace ingot {

inline constexpr char kFramesSuffix[] = ".frames";
inline constexpr uint64_t kFrameBytes = 1 << 20;

class FramedStore : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  // Bytes that the file `name` takes in the store beneath, once it has been written by this store; 0: it was not.
  virtual uint64_t stored(const std::string& name) const = 0;
};

// Over `beneath`, which must outlive it. Files of these names (the last component of their paths) are compressed when they are made, by the threads that write them. Any file that is
// not there but as NAME.frames is read through its frames. kBadInput for one that is torn or damaged.
std::unique_ptr<FramedStore> make_framed_store(Store& beneath, std::set<std::string> compressed = {});

}  // namespace ingot
