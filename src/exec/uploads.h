// Uploads: parts on their way to a store that takes several at a time, by threads of their own. What is on its way is in the budget.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "base/status.h"
#include "base/threads.h"

namespace ingot {

class Uploads {
 public:
  // At most `most` at a time; with 0 the caller of put() does the work.
  explicit Uploads(int most) : most_(most) {}
  ~Uploads() { (void)finish(); }
  int most() const { return most_; }
  // Waits until there is room. The first error of any upload is the answer from then on.
  Status put(std::function<Status()> upload);
  // All are done.
  Status finish();

 private:
  Status work();
  int most_;
  std::mutex mutex_;
  std::condition_variable moved_;
  std::deque<std::function<Status()>> waiting_;
  int in_flight_ = 0;  // waiting and being worked on
  bool closed_ = false;
  Status error_;
  Threads threads_;
};

}  // namespace ingot
