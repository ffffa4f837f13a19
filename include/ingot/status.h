// Status and Result: how every ingot function reports failure. No exceptions cross the public API.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace ingot {

// The kinds of failure; the value is the exit code of the command line for it.
enum class ErrorKind {
  kFailed = 1,       // the machine or the store refused: disk full, I/O error, lock held
  kUsage = 2,        // the caller asked for something contradictory
  kBadInput = 3,     // an input is missing, damaged, of the wrong kind, or unsupported
  kInterrupted = 4,  // cancelled; the same call resumes
  kNotFound = 5,     // nothing found where "nothing" is a legal answer
};

// One failure. `message` says what was being done, to which file and tensor, what was found, what was
// expected and what to do next.
struct Error {
  ErrorKind kind = ErrorKind::kFailed;
  std::string message;
  // Prefixes what was being done: Error{..., "x"}.during("reading a.gguf") -> "reading a.gguf: x".
  Error during(const std::string& what) && { return Error{kind, what + ": " + message}; }
};

// Success or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error e) : ok_(false), error_(std::move(e)) {}  // NOLINT: implicit by intent
  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const { return error_; }
  Error&& take_error() { return std::move(error_); }

 private:
  bool ok_ = true;
  Error error_;  // meaningless while ok_
};

// A T or an Error. value() and * must only be called when ok().
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T v) : v_(std::in_place_index<0>, std::move(v)) {}      // NOLINT
  Result(Error e) : v_(std::in_place_index<1>, std::move(e)) {}  // NOLINT
  Result(Status s) : v_(std::in_place_index<1>, s.take_error()) {}  // NOLINT: only from a failed status
  template <class U, std::enable_if_t<std::is_convertible_v<U&&, T> && !std::is_same_v<std::decay_t<U>, T> &&
                                          !std::is_same_v<std::decay_t<U>, Error> &&
                                          !std::is_same_v<std::decay_t<U>, Status>,
                                      int> = 0>
  Result(U&& v) : v_(std::in_place_index<0>, std::forward<U>(v)) {}  // NOLINT
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return *std::get_if<0>(&v_); }
  const T& value() const& { return *std::get_if<0>(&v_); }
  T&& value() && { return std::move(*std::get_if<0>(&v_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }  // by value: no dangling in a range-for
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return *std::get_if<1>(&v_); }
  Error&& take_error() { return std::move(*std::get_if<1>(&v_)); }

 private:
  std::variant<T, Error> v_;
};

}  // namespace ingot
