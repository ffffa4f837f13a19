#include "cli/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/text.h"

namespace ingot::cli {
namespace {

constexpr double kWidth = 760, kLeft = 84, kRight = 28, kTop = 64, kAbove = 34, kBelow = 30;
constexpr size_t kLarge = 40, kSmall = 200;  // points up to which each has a mark, of two sizes
constexpr int kTitle = 44;                   // columns, beside the text on the right

constexpr char kStyle[] = R"(<style>
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2328 }
.page { fill: #ffffff } .head { font-size: 15px; font-weight: 600 } .name { font-size: 13px; font-weight: 600 }
.tick, .sub { fill: #59636e } .grid { stroke: #e4e7eb } .axis { stroke: #8c959f; fill: none }
.a { stroke: #0969da; fill: none; stroke-width: 1.6; stroke-linejoin: round } .b { stroke: #bc4c00; fill: none; stroke-width: 1.6; stroke-dasharray: 5 3 }
.da { fill: #0969da; stroke: #0969da } .db { fill: #bc4c00; stroke: #bc4c00 } .ta { fill: #0969da } .tb { fill: #bc4c00 }
.hollow { fill: #ffffff } .best { stroke: #1a7f37; fill: none; stroke-width: 2 } .tbest { fill: #1a7f37 } .odd { stroke: #cf222e; stroke-width: 1.4 } .todd { fill: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .page { fill: #0d1117 } .tick, .sub { fill: #9198a1 } .grid { stroke: #2a313c } .axis { stroke: #656c76 }
.a { stroke: #4493f8 } .b { stroke: #f0883e } .da { fill: #4493f8; stroke: #4493f8 } .db { fill: #f0883e; stroke: #f0883e } .ta { fill: #4493f8 } .tb { fill: #f0883e }
.hollow { fill: #0d1117 } .best { stroke: #3fb950 } .tbest { fill: #3fb950 } .odd { stroke: #f85149 } .todd { fill: #f85149 }
}
</style>
)";

std::string text_at(double x, double y, const char* style, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, style, anchor, escape_markup(text));
}

// A label's place: right of its mark, else left of it, above or below, where it covers no other.
struct Labels {
  struct Box {
    double left, right, top, bottom;
  };
  std::vector<Box> taken;
  void add(double x, double y, const std::string& label, double width, std::string* out) {
    constexpr double kHigh = 13, kLetter = 6.6;
    const double wide = kLetter * display_width(printable(label));
    const struct {
      double dx, dy;
      const char* anchor;
    } places[] = {{8, 4, "start"}, {-8, 4, "end"}, {0, -9, "middle"}, {0, 19, "middle"}, {8, -9, "start"}, {-8, 19, "end"}};
    for (const auto& p : places) {
      const double left = x + p.dx - (*p.anchor == 'e' ? wide : *p.anchor == 'm' ? wide / 2 : 0);
      const Box b{left, left + wide, y + p.dy - kHigh, y + p.dy};
      if (b.left < 2 || b.right > width - 2) continue;
      if (std::any_of(taken.begin(), taken.end(), [&](const Box& t) { return b.left < t.right && t.left < b.right && b.top < t.bottom && t.top < b.bottom; })) continue;
      taken.push_back(b);
      *out += text_at(x + p.dx, y + p.dy, "tick", p.anchor, label);
      return;
    }
  }
};

struct Range {
  double low = 0, high = 1;
  bool powers = false;  // of ten: low and high are exponents
  double at(double v, double from, double to) const { return from + ((powers ? std::log10(v) : v) - low) / (high - low) * (to - from); }
};

// Where one spike would press all else to the axis (a gradient's norm) an axis of powers of ten shows both.
bool wants_powers(std::vector<double> values) {
  if (values.size() < 3) return false;
  std::sort(values.begin(), values.end());
  return values.front() > 0 && values.back() > 50 * values[values.size() / 2];
}

// Of finite values, with some room; one value alone is in the middle.
Range range_of(const std::vector<double>& values, double room) {
  Range r;
  if (values.empty()) return r;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double scale = std::max(std::abs(*low), std::abs(*high));
  double extent = *high - *low;
  // Beyond what a double tells apart there is nothing to draw.
  if (!(extent > scale * 1e-12) || !std::isfinite(extent)) extent = 0;
  const double more = extent > 0 ? extent * room : scale > 0 ? scale * 0.05 : 1;
  return {*low - more, *high + more, false};
}

// As many decimals as tell the ticks apart.
std::string tick_text(double v, double step) {
  if (v == 0) return "0";
  if (std::abs(v) >= 1e6 || std::abs(v) < 1e-4) return fmt::format("{:g}", v);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return decimals > 8 ? fmt::format("{:.6g}", v) : decimals ? fmt::format("{:.{}f}", v, decimals) : fmt::format("{}{}", v < 0 ? "-" : "", format_count(static_cast<uint64_t>(std::abs(v))));
}

struct Tick {
  double at;
  std::string text;
};
// Round in the unit that they are told in.
std::vector<Tick> byte_ticks(double high) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  double unit = 1;
  size_t name = 0;
  while (high / unit >= 1000 && name + 1 < std::size(kUnits)) unit *= 1000, ++name;
  std::vector<Tick> ticks;
  for (const double t : round_ticks(0, high / unit, 4, name == 0)) ticks.push_back({t * unit, t == 0 ? "0" : fmt::format("{:g} {}", t, kUnits[name])});
  return ticks;
}

void draw_series(const ChartSeries& s, const char* which, const Range& x, const Range& y, double top, double bottom, std::string* out) {
  const double right = kWidth - kRight;
  std::string line, marks, labels;
  Labels places;
  for (const ChartPoint& p : s.points)
    if (std::isfinite(p.y)) {
      const double px = x.at(p.x, kLeft, right), py = y.at(p.y, bottom, top);
      places.taken.push_back({px - 5, px + 5, py - 5, py + 5});
    }
  bool begun = false;
  const double radius = s.points.size() <= kLarge ? 3.2 : s.points.size() <= kSmall ? 1.8 : 0;
  for (const ChartPoint& p : s.points) {
    const double px = x.at(p.x, kLeft, right);
    if (!std::isfinite(p.y)) {
      begun = false;
      marks += fmt::format("<path class=\"odd\" d=\"M{0:.1f} {2:.1f}L{1:.1f} {3:.1f}M{0:.1f} {3:.1f}L{1:.1f} {2:.1f}\"><title>{4}: {5}</title></path>\n", px - 3, px + 3, bottom - 7, bottom - 1,
                           tick_text(p.x, 1), p.y);
      continue;
    }
    const double py = y.at(p.y, bottom, top);
    line += fmt::format("{}{:.1f} {:.1f}", begun ? "L" : "M", px, py);
    begun = true;
    if (p.error > 0 && std::isfinite(p.error)) {
      const double from = y.powers && p.error >= p.y ? bottom : std::min(bottom, y.at(p.y - p.error, bottom, top)), to = std::max(top, y.at(p.y + p.error, bottom, top));
      marks += fmt::format("<path class=\"{}\" d=\"M{:.1f} {:.1f}V{:.1f}\"/>\n", which, px, from, to);
    }
    if (!p.label.empty()) places.add(px, py, p.label, kWidth, &labels);
    if (radius > 0)
      marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" class=\"d{}{}\"><title>{}: {:.6g}</title></circle>\n", px, py, radius, which, p.hollow ? " hollow" : "", tick_text(p.x, 1), p.y);
  }
  if (s.line && !line.empty()) *out += fmt::format("<path class=\"{}\" d=\"{}\"/>\n", which, line);
  *out += marks + labels;
}

std::string draw_panel(const ChartPanel& p, const Range& x, const std::vector<double>& x_ticks, double top) {
  const double right = kWidth - kRight, bottom = top + p.height;
  std::vector<double> values;
  size_t odd = 0;
  for (const ChartSeries& s : p.series)
    for (const ChartPoint& q : s.points) std::isfinite(q.y) ? values.push_back(q.y) : void(++odd);
  Range y = range_of(values, 0.08);
  if (p.bytes) y = {0, std::max(y.high, 1.0), false};
  const bool powers = !p.bytes && (p.powers ? std::all_of(values.begin(), values.end(), [](double v) { return v > 0; }) : wants_powers(values));
  if (powers) {
    for (double& v : values) v = std::log10(v);
    y = range_of(values, 0.08), y.powers = true;
  }
  std::vector<Tick> y_ticks;
  if (p.bytes) {
    y_ticks = byte_ticks(y.high);
  } else if (powers) {
    for (const double t : round_ticks(y.low, y.high, 4, true)) y_ticks.push_back({std::pow(10, t), fmt::format("{:g}", std::pow(10, t))});
  } else if (!values.empty()) {
    const auto ticks = round_ticks(y.low, y.high, 4);
    for (const double t : ticks) y_ticks.push_back({t, tick_text(t, ticks.size() > 1 ? ticks[1] - ticks[0] : std::max(std::abs(t), 1e-9))});
  }
  std::string out;
  const std::string title = shorten_middle(printable(p.title), kTitle);
  out += fmt::format("<g><title>{}</title>\n", escape_markup(p.title)) + text_at(kLeft, top - 12, "name", "start", title + (powers ? " (log scale)" : ""));
  for (const auto& [t, label] : y_ticks) {
    const double py = y.at(t, bottom, top);
    out += fmt::format("<path class=\"grid\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>\n", kLeft, py, right) + text_at(kLeft - 8, py + 4, "tick", "end", label);
  }
  out += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}V{:.1f}H{:.1f}\"/>\n", kLeft, top, bottom, right);
  for (const double t : x_ticks) {
    const double px = x.at(t, kLeft, right);
    out += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}v4\"/>\n", px, bottom) + text_at(px, bottom + 17, "tick", "middle", tick_text(t, 1));
  }
  if (values.empty()) out += text_at((kLeft + right) / 2, (top + bottom) / 2, "sub", "middle", "no finite value");
  constexpr const char* kWhich[] = {"a", "b"};
  for (size_t i = 0; i < std::min<size_t>(p.series.size(), 2); ++i) draw_series(p.series[i], kWhich[i], x, y, top, bottom, &out);
  if (p.best) out += fmt::format("<circle class=\"best\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"6\"/>\n", x.at(p.best->x, kLeft, right), y.at(p.best->y, bottom, top));
  std::string beside;
  if (odd) beside = fmt::format("<tspan class=\"todd\">\u00d7 not finite{}</tspan>", p.best || p.series.size() > 1 ? "\u2003" : "");
  if (p.best) beside += fmt::format("<tspan class=\"tbest\">\u25cb {}</tspan>", escape_markup(p.best_text));
  for (size_t i = 0; p.series.size() > 1 && i < 2; ++i) beside += fmt::format("{}<tspan class=\"t{}\">{} {}</tspan>", i ? "\u2003" : "", kWhich[i], i ? "\u2504" : "\u2500", escape_markup(p.series[i].name));
  if (!beside.empty()) out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", right, top - 12, beside);
  return out + "</g>\n";
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

std::vector<double> round_ticks(double low, double high, int wanted, bool whole) {
  const double rough = (high - low) / std::max(wanted, 1), power = std::pow(10, std::floor(std::log10(rough)));
  double step = power * 10;
  for (const double m : {1.0, 2.0, 5.0})
    if (power * m >= rough * 0.75) {
      step = power * m;
      break;
    }
  if (whole) step = std::max(1.0, std::round(step));
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9), last = std::floor(high / step + 1e-9);
  for (double k = first; k <= last && ticks.size() < 50; ++k) ticks.push_back(k * step);
  return ticks;
}

std::string svg_chart(const std::string& title, const std::string& subtitle, const std::string& x_name, const std::vector<ChartPanel>& panels) {
  std::vector<double> xs;
  for (const ChartPanel& p : panels)
    for (const ChartSeries& s : p.series)
      for (const ChartPoint& q : s.points) xs.push_back(q.x);
  const Range x = range_of(xs, 0.02);
  std::vector<double> x_ticks;
  if (const auto [low, high] = std::minmax_element(xs.begin(), xs.end()); low != xs.end())
    x_ticks = *low == *high ? std::vector<double>{*low} : round_ticks(std::max(x.low, std::min(0.0, *low)), x.high, 6, true);
  double height = kTop + 18;
  for (const ChartPanel& p : panels) height += kAbove + p.height + kBelow;
  std::string out = fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" aria-label=\"{2}\">\n", kWidth, height, escape_markup(title));
  out += kStyle;
  out += fmt::format("<rect class=\"page\" width=\"{:.0f}\" height=\"{:.0f}\"/>\n", kWidth, height);
  out += text_at(24, 28, "head", "start", shorten_middle(printable(title), 80)) + text_at(24, 48, "sub", "start", subtitle);
  double top = kTop;
  for (const ChartPanel& p : panels) {
    out += draw_panel(p, x, x_ticks, top + kAbove);
    top += kAbove + p.height + kBelow;
  }
  out += text_at((kLeft + kWidth - kRight) / 2, height - 10, "sub", "middle", x_name);
  return out + "</svg>\n";
}

}  // namespace ingot::cli
