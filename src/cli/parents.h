// The directories above the outputs of a job, made when it runs and not before.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace ingot::cli {

// Directories hold no data: they alone are made here, all files by the executor. What was made and is still empty
// (the job was refused) is removed again, unless keep() was called.
class Parents {
 public:
  Parents() = default;
  ~Parents();
  Parents(const Parents&) = delete;
  Parents& operator=(const Parents&) = delete;
  Status make(const std::string& output);
  void keep() { made_.clear(); }

 private:
  std::vector<std::string> made_;  // in the order of making
};

}  // namespace ingot::cli
