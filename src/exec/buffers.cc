#include "exec/buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace ingot {
namespace {
constexpr size_t kArenaBlock = 1 << 20;
}  // namespace

Buffer& Buffer::operator=(Buffer&& o) noexcept {
  std::swap(pool_, o.pool_);
  std::swap(data_, o.data_);
  std::swap(size_, o.size_);
  std::swap(capacity_, o.capacity_);
  return *this;
}

Buffer::~Buffer() {
  if (pool_) pool_->put(data_, capacity_);
}

BufferPool::~BufferPool() {
  for (auto& [capacity, p] : idle_) ::munmap(p, capacity);
}

void BufferPool::release(uint64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    reserved_ -= bytes;
  }
  freed_.notify_all();
}

Buffer BufferPool::get(size_t size) {
  Buffer b;
  b.size_ = size;
  const size_t want = static_cast<size_t>(rounded(std::max<size_t>(size, 1)));
  std::lock_guard lock(mutex_);
  // An idle buffer up to half as large again serves; a larger one would waste the budget.
  if (auto it = idle_.lower_bound(want); it != idle_.end() && it->first <= want + want / 2) {
    b.pool_ = this;
    b.data_ = it->second;
    b.capacity_ = it->first;
    idle_.erase(it);
    return b;
  }
  while (allocated_ + want > limit_ && !idle_.empty()) {
    auto it = std::prev(idle_.end());
    ::munmap(it->second, it->first);
    allocated_ -= it->first;
    idle_.erase(it);
  }
  void* p = ::mmap(nullptr, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();  // turned into an error at the executor's border
  // Fewer faults for the large ones; small ones would round their RSS up.
  if (want >= (4u << 20)) ::madvise(p, want, MADV_HUGEPAGE);
  b.pool_ = this;
  b.data_ = static_cast<std::byte*>(p);
  b.capacity_ = want;
  allocated_ += want;
  return b;
}

// Of a destructor: even the note that a buffer is idle may find no memory, then it is given back at once.
void BufferPool::put(std::byte* data, size_t capacity) noexcept {
  std::lock_guard lock(mutex_);
  if (allocated_ <= limit_) {
    try {
      idle_.emplace(capacity, data);
      return;
    } catch (const std::bad_alloc&) {
    }
  }
  ::munmap(data, capacity);
  allocated_ -= capacity;
}

std::byte* Arena::allocate(size_t bytes) {
  bytes = align_up(std::max<size_t>(bytes, 1), 64);
  while (block_ < blocks_.size()) {
    if (used_ + bytes <= blocks_[block_].size) {
      std::byte* base = blocks_[block_].memory.get();
      std::byte* aligned = reinterpret_cast<std::byte*>(align_up(reinterpret_cast<uintptr_t>(base), 64));
      std::byte* p = aligned + used_;
      used_ += bytes;
      return p;
    }
    ++block_;
    used_ = 0;
  }
  const size_t size = std::max(bytes, kArenaBlock);
  blocks_.push_back({std::unique_ptr<std::byte[]>(new std::byte[size + 64]), size});
  return allocate(bytes);
}

void Arena::reset() {
  // More than one block means the estimate grew: one block of the whole size serves the next time.
  if (blocks_.size() > 1) {
    size_t total = 0;
    for (const auto& b : blocks_) total += b.size;
    blocks_.clear();
    blocks_.push_back({std::unique_ptr<std::byte[]>(new std::byte[total + 64]), total});
  }
  block_ = used_ = 0;
}

}  // namespace ingot
