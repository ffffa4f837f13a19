// The byte budget of a job, and the buffers that live under it. One thread admits work (reserve), others give it
// back (release); buffers are recycled, so that pages are faulted in once.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "base/bytes.h"

namespace ingot {

class BufferPool;

// A block of memory of at least the asked size; returns to its pool on destruction.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& o) noexcept { *this = std::move(o); }
  Buffer& operator=(Buffer&& o) noexcept;
  ~Buffer();
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  MutByteView view() const { return {data_, size_}; }

 private:
  friend class BufferPool;
  BufferPool* pool_ = nullptr;
  std::byte* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;
};

class BufferPool {
 public:
  // Buffers come in multiples of 64 KiB.
  static uint64_t rounded(uint64_t bytes) { return align_up(bytes, 64 << 10); }
  explicit BufferPool(uint64_t limit) : limit_(limit) {}
  ~BufferPool();
  // Waits until `bytes` more fit under the limit, or stop() says to give up. kNever: they do not, while idle() says that nobody is left who
  // would give any back.
  enum class Reserved { kYes, kStopped, kNever };
  template <class Stop, class Idle>
  Reserved reserve(uint64_t bytes, Stop stop, Idle idle) {
    std::unique_lock lock(mutex_);
    for (bool was_idle = false; reserved_ + bytes > limit_;) {
      if (stop()) return Reserved::kStopped;
      if (was_idle) return Reserved::kNever;
      // What the last one gave back it gave before it was counted out: one more look.
      if (!(was_idle = idle())) freed_.wait_for(lock, std::chrono::milliseconds(50));
    }
    if (stop()) return Reserved::kStopped;
    reserved_ += bytes;
    return Reserved::kYes;
  }
  void release(uint64_t bytes);
  // A buffer under what its user has reserved.
  Buffer get(size_t size);
  void wake() { freed_.notify_all(); }

 private:
  friend class Buffer;
  void put(std::byte* data, size_t capacity) noexcept;
  uint64_t limit_;
  std::mutex mutex_;
  std::condition_variable freed_;
  uint64_t reserved_ = 0;
  uint64_t allocated_ = 0;                         // in use and idle
  std::multimap<size_t, std::byte*> idle_;         // by capacity
};

// The bytes of a value: what a pool's pages would round up many times over has memory of its own.
class Kept {
 public:
  // In the budget.
  static uint64_t cost(uint64_t bytes) { return bytes <= kSmall ? bytes + 64 : BufferPool::rounded(bytes); }
  void take(BufferPool& pool, uint64_t bytes) {
    size_ = bytes;
    if (bytes <= kSmall) small_.reset(new (std::align_val_t(64)) std::byte[bytes]);
    else large_ = pool.get(bytes);
  }
  void drop() { *this = Kept(); }
  std::byte* data() const { return small_ ? small_.get() : large_.data(); }
  MutByteView view() const { return {data(), size_}; }

 private:
  static constexpr uint64_t kSmall = 64 << 10;
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  std::unique_ptr<std::byte[], Free> small_;
  Buffer large_;
  uint64_t size_ = 0;
};

// Bump allocator for the intermediates of one sub-tile; reset between sub-tiles.
class Arena {
 public:
  std::byte* allocate(size_t bytes);  // 64-byte aligned
  void reset();

 private:
  struct Block {
    std::unique_ptr<std::byte[]> memory;
    size_t size;
  };
  std::vector<Block> blocks_;
  size_t block_ = 0, used_ = 0;
};

}  // namespace ingot
