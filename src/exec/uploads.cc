#include "exec/uploads.h"

namespace ingot {

Status Uploads::put(std::function<Status()> upload) {
  {
    std::unique_lock lock(mutex_);
    moved_.wait(lock, [&] { return !error_.ok() || !most_ || in_flight_ < most_; });
    if (!error_.ok()) return error_;
    // A thread for each that is in flight at the same time, as far as the system gives them.
    if (!closed_ && static_cast<int>(threads_.size()) <= in_flight_ && in_flight_ < most_) threads_.start([this] { return work(); });
    if (threads_.size() > 0 && !closed_) {
      waiting_.push_back(std::move(upload));
      ++in_flight_;
      moved_.notify_all();
      return {};
    }
  }
  return upload();
}

Status Uploads::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    moved_.wait(lock, [&] { return closed_ || !waiting_.empty(); });
    if (waiting_.empty()) return {};
    const auto upload = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    Status s = guarded(upload);
    lock.lock();
    --in_flight_;
    if (error_.ok() && !s.ok()) error_ = std::move(s);
    moved_.notify_all();
  }
}

Status Uploads::finish() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  moved_.notify_all();
  (void)threads_.join();
  std::lock_guard lock(mutex_);
  return error_;
}

}  // namespace ingot
