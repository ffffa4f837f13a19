// Memory that a file's content asks for may not be there: an error like others, never the end of the process.
#pragma once

#include <new>
#include <string_view>

#include "base/status.h"

namespace ingot {

// The Status or Result of f(), or an error that says during what memory ran out.
template <class F>
auto within_memory(std::string_view doing, F f) -> decltype(f()) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return failed("{}: there is not enough memory for it", doing);
  }
}

}  // namespace ingot
