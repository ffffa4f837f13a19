// A medium with errors, for tests: beside make_fault_store() of storage/store.h, after whose fault nothing works any more, a store that goes on.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "storage/store.h"

namespace ingot {

struct MediumErrors {
  // Asked before each call, those that change nothing among them, with its number (from 0), name and path. Where it answers, this call alone fails with that text.
  std::function<std::string(uint64_t number, const char* op, const std::string& path)> error;
  bool half = false;  // a write that fails has written its first half
};
std::unique_ptr<Store> make_unsound_store(Store& beneath, MediumErrors errors);

}  // namespace ingot
