// What a long computation has so far that is no output's bytes yet (sums over a text), kept beside the output that will come of it as .NAME.ingot-KEY.progress: killed at
// any time, the same command goes on from what was saved last.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "storage/store.h"

namespace ingot {

class ProgressFile {
 public:
  // Takes the output's lock, kFailed where another process has it: nobody else writes the output until release(). Progress beside this output that is of another key, or
  // of this one where not `resume`, goes; `on_notice` hears of that, and of a file that is damaged.
  static Result<std::unique_ptr<ProgressFile>> open(Store& store, const std::string& output, const std::string& key, bool resume,
                                                    const std::function<void(const std::string&)>& on_notice);
  // What a run of this key saved last; empty: nothing.
  const std::string& found() const { return found_; }
  void forget_found() { std::string().swap(found_); }
  // Takes the place of what was saved before, durable on return.
  Status save(const std::string& state);
  // The output's lock is free, for the job that writes it.
  void release() { lock_.reset(); }
  Status remove();

 private:
  ProgressFile(Store& store, std::string path, std::string key) : store_(store), path_(std::move(path)), key_(std::move(key)) {}
  Store& store_;
  std::string path_, key_, found_;
  std::unique_ptr<StoreLock> lock_;
};

}  // namespace ingot
