// Reporter: progress bar, JSON events, notices and errors.
#include "cli/reporter.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <system_error>

#include "cli/output.h"
#include "cli/text.h"

namespace ingot::cli {

namespace {

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr double kEventSeconds = 0.2;
constexpr char kRed[] = "\x1b[1;31m", kYellow[] = "\x1b[1;33m", kPlain[] = "\x1b[0m";

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

const char* kind_name(ErrorKind k) {
  switch (k) {
    case ErrorKind::kFailed:
      return "failed";
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kBadInput:
      return "bad_input";
    case ErrorKind::kInterrupted:
      return "interrupted";
    case ErrorKind::kNotFound:
      return "not_found";
  }
  return "failed";
}

// Text from files may be broken UTF-8: replaced, never an exception.
std::string dump(const nlohmann::ordered_json& j, int indent = -1) {
  return j.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Reporter::~Reporter() { end_progress(); }

void Reporter::configure(ReportMode mode, const CancelToken* cancel) {
  mode_ = mode;
  cancel_ = cancel;
  if (start_ == 0) start_ = seconds_now();
  redraw_ = !mode.json && !mode.quiet && stderr_can_redraw();
}

double Reporter::seconds() const { return seconds_now() - start_; }

void Reporter::say(const char* kind, const char* colour, const std::string& message) {
  std::lock_guard lock(mutex_);
  if (json()) {
    print_error(dump({{"event", kind}, {"message", message}}) + "\n");
    return;
  }
  clear();
  const bool plain = std::string_view(kind) == "detail" || std::string_view(kind) == "notice";
  const std::string head = plain ? "ingot: " : fmt::format("ingot: {}: ", kind);
  std::string text = head + printable(message);
  // A terminal gets lines broken between words; a log gets one line.
  if (stderr_is_terminal()) text = wrap(text, std::max(40, stderr_width() - 1), 2);
  if (*colour && want_colour())
    text = colour + text.substr(0, head.size() - 1) + kPlain + text.substr(head.size() - 1);
  print_error(text + "\n");
  if (active_) draw();
}

void Reporter::notice(const std::string& message) {
  if (said_) said_->push_back({"notice", message});
  else if (!quiet()) say("notice", "", message);
}
void Reporter::warning(const std::string& message) {
  if (said_) said_->push_back({"warning", message});
  else if (!quiet()) say("warning", kYellow, message);
}
void Reporter::detail(const std::string& message) {
  if (verbose()) say("detail", "", message);
}

void Reporter::error(const Error& e) {
  end_progress();
  if (!json()) {
    // An interruption was asked for: no error, whatever the exit code says.
    say(e.kind == ErrorKind::kInterrupted ? "notice" : "error", e.kind == ErrorKind::kInterrupted ? "" : kRed,
        e.message);
    return;
  }
  const nlohmann::ordered_json error = {
      {"kind", kind_name(e.kind)}, {"exit_code", static_cast<int>(e.kind)}, {"message", e.message}};
  nlohmann::ordered_json event = {{"event", "error"}};
  event.update(error);
  std::lock_guard lock(mutex_);
  print_error(dump(event) + "\n");
  nlohmann::ordered_json result = {{"command", command_}, {"ok", false}, {"error", error}};
  if (kept_) result.update(*kept_);
  (void)print(dump(result) + "\n");
}

void Reporter::keep_in_result(nlohmann::ordered_json members) {
  kept_ = std::make_shared<const nlohmann::ordered_json>(std::move(members));
}

void Reporter::event(const char* name, const nlohmann::ordered_json& fields) {
  if (!json() || quiet()) return;
  nlohmann::ordered_json e = {{"event", name}};
  e.update(fields);
  std::lock_guard lock(mutex_);
  print_error(dump(e) + "\n");
}

void Reporter::begin_progress(const char* verb, bool bytes) {
  std::lock_guard lock(mutex_);
  if (active_ || quiet() || (!redraw_ && !json())) return;
  active_ = true, any_ = false;
  verb_ = verb;
  bytes_ = bytes;
  metered_ = emitted_phase_ = Phase::kDone;
  try {
    thread_ = std::thread([this] { tick(); });
  } catch (const std::exception&) {
    active_ = false;  // no thread to draw with: the work goes on unseen
  }
}

void Reporter::progress(const Progress& p) {
  std::lock_guard lock(mutex_);
  if (!active_) return;
  now_ = p;
  any_ = true;
}

void Reporter::end_progress() {
  {
    std::lock_guard lock(mutex_);
    if (!active_) return;
    if (json() && any_) emit_progress();
    active_ = false;
    clear();
  }
  wake_.notify_all();
  thread_.join();
}

void Reporter::tick() {
  std::unique_lock lock(mutex_);
  while (active_) {
    if (any_) {
      const double now = seconds_now();
      if (metered_ != now_.phase) {
        meter_.start(now, now_.done);
        metered_ = now_.phase;
      } else {
        meter_.update(now, now_.done);
      }
      if (json()) {
        if (emitted_phase_ != now_.phase || (now - last_emit_ >= kEventSeconds && emitted_done_ != now_.done))
          emit_progress();
      } else {
        draw();
      }
    }
    wake_.wait_for(lock, kTick);
  }
}

void Reporter::draw() {
  if (!redraw_ || !any_) return;
  const BarStyle style{stderr_width(), locale_is_utf8(), want_colour(), bytes_};
  std::string line;
  if (cancel_ && cancel_->cancelled()) {
    line = shorten_middle("stopping...", std::max(0, style.width - 1));
  } else {
    const double rate = meter_.rate();
    const double left =
        rate > 0 && now_.total >= now_.done ? static_cast<double>(now_.total - now_.done) / rate : -1;
    line = bar_line(now_, rate, left, style, verb_);
  }
  // One write: to the start of the line, the text, the rest erased. Nothing is cleared before it is
  // overwritten.
  print_error("\r" + line + "\x1b[K");
  drawn_ = true;
}

void Reporter::clear() {
  if (!drawn_) return;
  print_error("\r\x1b[K");
  drawn_ = false;
}

void Reporter::emit_progress() {
  nlohmann::ordered_json e = {{"event", "progress"},     {"phase", verb_ ? verb_ : phase_name(now_.phase)},
                              {"done", now_.done},       {"total", now_.total},
                              {"resumed", now_.resumed}, {"tensor", now_.tensor}};
  if (meter_.rate() > 0) {
    if (bytes_) e["bytes_per_second"] = std::llround(meter_.rate());
    if (now_.total >= now_.done)
      e["seconds_left"] = static_cast<double>(now_.total - now_.done) / meter_.rate();
  }
  print_error(dump(e) + "\n");
  emitted_done_ = now_.done;
  emitted_phase_ = now_.phase;
  last_emit_ = seconds_now();
}

Status Reporter::result(const nlohmann::ordered_json& object, const std::string& text) {
  end_progress();
  if (json()) {
    nlohmann::ordered_json o = {{"command", command_}, {"ok", true}};
    for (const auto& [k, v] : object.items()) o[k] = v;
    return print(dump(o) + "\n");
  }
  return text.empty() ? Status() : print(text);
}

Status Reporter::done(const nlohmann::ordered_json& object, const std::string& text) {
  return result(object, quiet() ? "" : text);
}

}  // namespace ingot::cli
