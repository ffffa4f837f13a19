// A text that a user names.
#include "storage/text_input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstring>
#include <filesystem>

#include "storage/given_path.h"

namespace ingot {

namespace fs = std::filesystem;

namespace {

constexpr size_t kBlock = 1 << 20;

using Block = std::function<Status(std::string_view)>;

Error cut_short(const std::string& name) { return Error{ErrorKind::kInterrupted, fmt::format("interrupted while reading {}; nothing was done", name)}; }

Status read_stream(int fd, const std::string& name, uint64_t most, const CancelToken& cancel, const Block& block) {
  uint64_t total = 0;
  char buffer[65536];
  for (;;) {
    // A wait that a signal just missed must not last for ever.
    pollfd input{fd, POLLIN, 0};
    while (!cancel.cancelled() && ::poll(&input, 1, 100) <= 0) {
    }
    if (cancel.cancelled()) return cut_short(name);
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n == 0) return {};
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return failed("reading {}: {}", name, std::strerror(errno));
    total += static_cast<uint64_t>(n);
    if (total > most) return bad_input("{} holds more than {:.2f} MB of text", name, static_cast<double>(most) / 1e6);
    INGOT_TRY(block({buffer, static_cast<size_t>(n)}));
  }
}

bool is_stream(const Located& at) {
  std::error_code error;
  const auto status = fs::status(at.path, error);
  return fs::is_fifo(status) || fs::is_character_file(status);
}

Status read_stream_at(const Located& at, uint64_t most, const CancelToken& cancel, const Block& block) {
  const std::string name = fmt::format("'{}'", at.path);
  // What is open already is not opened again: of a pipe whose writer has been and gone one would wait for another.
  int64_t open = -1;
  if (at.path == "/dev/stdin") open = STDIN_FILENO;
  if (at.path.starts_with("/dev/fd/")) std::from_chars(at.path.data() + 8, at.path.data() + at.path.size(), open);
  if (open >= 0 && open <= INT_MAX) return read_stream(static_cast<int>(open), name, most, cancel, block);
  // Not for a writer either where nobody could interrupt it.
  const int fd = ::open(at.path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return failed("opening '{}': {}", at.path, std::strerror(errno));
  Status status = read_stream(fd, name, most, cancel, block);
  ::close(fd);
  return status;
}

Block append_to(std::string* text) {
  return [text](std::string_view block) -> Status {
    text->append(block);
    return {};
  };
}

}  // namespace

Result<Located> text_path(const std::string& given) {
  INGOT_ASSIGN(const std::string name, expand_path(given));
  INGOT_ASSIGN(Located at, locate(name));
  INGOT_TRY(check_there(at.path, ""));
  return at;
}

Result<std::string> read_text_at(const Located& at, uint64_t most, const CancelToken& cancel) {
  if (!is_stream(at)) return read_text(*at.store, at.path, most);
  std::string text;
  INGOT_TRY(read_stream_at(at, most, cancel, append_to(&text)));
  return text;
}

Status read_text_blocks(const Located& at, uint64_t most, const CancelToken& cancel, const Block& block) {
  if (is_stream(at)) return read_stream_at(at, most, cancel, block);
  INGOT_ASSIGN(const auto file, at.store->open(at.path));
  const uint64_t size = file->size();
  if (size > most) return bad_input("reading {}: it is {} bytes, more than the {} such a file may have", at.path, size, most);
  std::string buffer(std::min<uint64_t>(size, kBlock), '\0');
  for (uint64_t begin = 0; begin < size; begin += buffer.size()) {
    if (cancel.cancelled()) return cut_short(fmt::format("'{}'", at.path));
    buffer.resize(std::min<uint64_t>(size - begin, kBlock));
    INGOT_TRY(file->read(begin, {reinterpret_cast<std::byte*>(buffer.data()), buffer.size()}));
    INGOT_TRY(block(buffer));
  }
  return {};
}

Result<std::string> read_text_input(const std::string& given, const CancelToken& cancel) {
  if (given == "-") {
    std::string text;
    INGOT_TRY(read_stream(STDIN_FILENO, "standard input", kMaxTextInput, cancel, append_to(&text)));
    return text;
  }
  INGOT_ASSIGN(const Located at, text_path(given));
  return read_text_at(at, kMaxTextInput, cancel);
}

}  // namespace ingot
