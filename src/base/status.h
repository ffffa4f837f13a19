// Helpers around the public Status and Result: makers of errors and the early-return macros.
#pragma once

#include <fmt/format.h>

#include "ingot/status.h"

namespace ingot {

template <class... A>
Error failed(fmt::format_string<A...> f, A&&... a) {
  return Error{ErrorKind::kFailed, fmt::format(f, std::forward<A>(a)...)};
}
template <class... A>
Error bad_input(fmt::format_string<A...> f, A&&... a) {
  return Error{ErrorKind::kBadInput, fmt::format(f, std::forward<A>(a)...)};
}
template <class... A>
Error usage(fmt::format_string<A...> f, A&&... a) {
  return Error{ErrorKind::kUsage, fmt::format(f, std::forward<A>(a)...)};
}
inline Error interrupted() {
  return Error{ErrorKind::kInterrupted, "interrupted; the same command goes on where it stopped"};
}

#define INGOT_CAT2(a, b) a##b
#define INGOT_CAT(a, b) INGOT_CAT2(a, b)
// Returns the error of a Status expression from the enclosing function.
#define INGOT_TRY(expr)                                   \
  do {                                                    \
    if (auto s_ = (expr); !s_.ok()) return s_.take_error(); \
  } while (0)
// INGOT_ASSIGN(auto x, f()): x is the value of a Result, or the enclosing function returns its error.
#define INGOT_ASSIGN(decl, expr) INGOT_ASSIGN_IMPL(INGOT_CAT(r_, __LINE__), decl, expr)
#define INGOT_ASSIGN_IMPL(tmp, decl, expr)      \
  auto tmp = (expr);                            \
  if (!tmp.ok()) return tmp.take_error();       \
  decl = std::move(tmp).value()

}  // namespace ingot
