// How the ranks of one run hear from each other: a shared table of small texts, as torch.distributed's store is one. Who knows the ranks gives it.
#pragma once

#include <string>

#include "base/status.h"

namespace ingot::checkpoint {

class Meeting {
 public:
  virtual ~Meeting() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;  // at least 2
  // Each key is put once.
  virtual Status put(const std::string& key, const std::string& text) = 0;
  // Waits until it has been put. kNotFound where that takes longer than `seconds`; kFailed where nobody can be asked any more.
  virtual Result<std::string> get(const std::string& key, double seconds) = 0;
  // Nobody asks for it any more.
  virtual void drop(const std::string& /*key*/) {}
};

}  // namespace ingot::checkpoint
