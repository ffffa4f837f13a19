#include "checkpoint/staging.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/bytes.h"
#include "base/threads.h"

namespace ingot::checkpoint {

Result<std::shared_ptr<std::byte>> Staging::take(uint64_t bytes) {
  if (block_ && capacity_ >= bytes && block_.use_count() == 1) return block_;
  if (block_.use_count() == 1) block_.reset();  // before the larger one is asked for
  const uint64_t size = std::max<uint64_t>(align_up(bytes, 2 << 20), 2 << 20);
  void* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return failed("staging a checkpoint: the system has no {} bytes of memory to copy the state into", size);
  ::madvise(p, size, MADV_HUGEPAGE);
  ::madvise(p, size, MADV_DONTFORK);  // a child (a DataLoader's worker) has no use for it, and its pages would be copied on write
  auto* block = static_cast<std::byte*>(p);
  const bool locked = lock_.lock && lock_.lock(block, size);
  block_ = std::shared_ptr<std::byte>(block, [size, unlock = locked ? lock_.unlock : nullptr](std::byte* b) {
    if (unlock) unlock(b);
    ::munmap(b, size);
  });
  capacity_ = size;
  return block_;
}

Status copy_all(const std::vector<Copy>& copies, int threads) {
  constexpr uint64_t kPiece = 8 << 20;
  std::vector<Copy> pieces;
  for (const Copy& c : copies)
    for (uint64_t at = 0; at < c.bytes; at += kPiece) pieces.push_back({c.to + at, c.from + at, std::min(kPiece, c.bytes - at)});
  std::atomic<size_t> next{0};
  const int most = static_cast<int>(std::min<size_t>(static_cast<size_t>(thread_count(threads)), std::max<size_t>(pieces.size() / 4, 1)));
  return run_on_threads(most, [&]() -> Status {
    for (size_t i; (i = next++) < pieces.size();) std::memcpy(pieces[i].to, pieces[i].from, pieces[i].bytes);
    return {};
  });
}

}  // namespace ingot::checkpoint
