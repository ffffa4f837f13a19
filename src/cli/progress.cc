// A smoothed rate, time left, and the line of the progress bar.
#include "cli/progress.h"

#include <algorithm>
#include <cmath>

#include "cli/text.h"

namespace ingot::cli {

void RateMeter::start(double now, uint64_t done) {
  last_ = start_ = now;
  done_ = start_done_ = done;
  rate_ = 0;
}

void RateMeter::update(double now, uint64_t done) {
  const double dt = now - last_;
  if (dt < 0.05 || done < done_) return;
  // In the first seconds the mean since the start is the best there is; later an average that forgets over 3
  // s.
  const double since = now - start_;
  const double mean = since > 0 ? static_cast<double>(done - start_done_) / since : 0;
  const double momentary = static_cast<double>(done - done_) / dt;
  const double keep = std::exp(-dt / 3.0);
  rate_ = since < 3 ? mean : keep * rate_ + (1 - keep) * momentary;
  last_ = now;
  done_ = done;
}

const char* phase_verb(Phase p) {
  switch (p) {
    case Phase::kPlan:
      return "planning";
    case Phase::kLoad:
      return "loading";
    case Phase::kWrite:
      return "writing";
    case Phase::kVerify:
      return "verifying";
    case Phase::kCommit:
      return "finishing";
    case Phase::kDone:
      return "done";
  }
  return "";
}

namespace {

std::string draw_bar(double share, int width, bool utf8) {
  if (!utf8) {
    const int full = static_cast<int>(share * width);
    return fmt::format("[{:.<{}}]", std::string(static_cast<size_t>(full), '#'), width);
  }
  static const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(share * width * 8);
  std::string s = "▕";
  int used = 0;
  for (; used < eighths / 8; ++used) s += "█";
  if (eighths % 8) s += kEighths[eighths % 8], ++used;
  s.append(static_cast<size_t>(width - used), ' ');
  return s + "▏";
}

}  // namespace

std::string bar_line(const Progress& p, double rate, double seconds_left, const BarStyle& style,
                     const char* named) {
  const int width = style.width - 1;  // the last column would make some terminals wrap
  const double share =
      p.total ? std::clamp(static_cast<double>(p.done) / static_cast<double>(p.total), 0.0, 1.0) : 0;
  // Percent is rounded down: 100 % means all.
  const std::string percent = p.total ? fmt::format("{:3.0f}%", std::floor(share * 100)) : "";
  const std::string verb = fmt::format("{:<9}", named ? named : phase_verb(p.phase));
  // Widths are fixed where they can be, so that nothing jumps about.
  const std::string bytes = !style.bytes ? ""
                            : p.total
                                ? fmt::format("{:>15}", format_bytes(p.done) + "/" + format_bytes(p.total))
                                : format_bytes(p.done);
  const std::string speed = style.bytes && rate > 0 ? fmt::format("{:>9}", format_rate(rate)) : "";
  const std::string left = seconds_left >= 0 ? format_duration(seconds_left) + " left" : "";

  std::string line = verb + " " + percent;
  if (display_width(line) > width)
    return std::string(shorten_middle(percent.empty() ? "" : percent, std::max(0, width)));
  int room = width - display_width(line);
  const auto fits = [&](const std::string& s) { return !s.empty() && display_width(s) + 2 <= room; };
  std::string tail;
  const auto add = [&](const std::string& s) {
    if (!fits(s)) return;
    tail += "  " + s;
    room -= display_width(s) + 2;
  };
  // Most wanted first: what does not fit is left out.
  const int bar_width = width >= 110 ? 24 : width >= 70 ? 14 : 0;
  const bool with_bar = p.total && bar_width && room >= bar_width + 3;
  if (with_bar) room -= bar_width + 3;
  add(bytes);
  add(speed);
  add(left);
  std::string name = printable(p.tensor);
  if (!style.utf8) {
    for (char& c : name)
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  if (room >= 10 && !name.empty()) tail += "  " + shorten_middle(name, room - 2);
  if (with_bar) {
    const std::string bar = draw_bar(share, bar_width, style.utf8);
    line += " " + (style.colour ? "\x1b[36m" + bar + "\x1b[0m" : bar);
  }
  return line + tail;
}

}  // namespace ingot::cli
