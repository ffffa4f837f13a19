// Memory that a state is copied into while its training waits: asked for once, faulted in once, reused from save to save.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace ingot::checkpoint {

// What an accelerator's runtime does to memory of the host so that copies into it go by DMA, beside the processor. Who has such a runtime gives it.
struct PageLock {
  std::function<bool(std::byte* block, uint64_t bytes)> lock;  // false: refused, and the copies are slower
  std::function<void(std::byte* block)> unlock;
};

class Staging {
 public:
  explicit Staging(PageLock lock = {}) : lock_(std::move(lock)) {}
  // One block of at least that many bytes, 4096-aligned; the last one again once nobody holds it. kFailed where the system has no memory for it.
  Result<std::shared_ptr<std::byte>> take(uint64_t bytes);
  uint64_t bytes() const { return capacity_; }

 private:
  PageLock lock_;
  std::shared_ptr<std::byte> block_;
  uint64_t capacity_ = 0;
};

// What a tensor of that size takes in the block. Large ones begin on a page (they lie before the others), so that they are written from there without another copy (storage/direct.h).
inline constexpr uint64_t kLargeTensor = 64 << 10;
constexpr uint64_t staged_bytes(uint64_t bytes) { return align_up(bytes, bytes >= kLargeTensor ? 4096 : 64); }

struct Copy {
  std::byte* to;
  const std::byte* from;
  uint64_t bytes;
};
// All of them, by that many threads; on return the sources may change.
Status copy_all(const std::vector<Copy>& copies, int threads);

}  // namespace ingot::checkpoint
