// What the fuzzers have in common: files in memory, and tensors read to their end.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "exec/evaluate.h"
#include "storage/store.h"
#include "tensor/artifact.h"

namespace ingot::fuzzing {

inline std::string_view text(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

inline void put(Store& store, const std::string& path, std::string_view bytes) {
  if (parent_path(path) != "." && !store.make_directory(parent_path(path)).ok()) std::abort();
  auto f = store.create(path, bytes.size(), false);
  if (!f.ok() || !(*f)->write(0, as_bytes(bytes)).ok() || !(*f)->complete().ok()) std::abort();
}

// What opens may turn out to be damaged only when it is read; that is an error and nothing worse. A header may claim more than a fuzzer has time for.
inline constexpr uint64_t kMostOfOne = 64 << 10, kMostOfAll = 1 << 20;

inline void read_all(const Artifact& a, uint64_t most = kMostOfAll) {
  for (const auto& t : a.tensors)
    if (const uint64_t bytes = bytes_of(t.spec()); bytes <= std::min(kMostOfOne, most)) {
      most -= bytes;
      (void)evaluate(t.node);
    }
}

}  // namespace ingot::fuzzing
