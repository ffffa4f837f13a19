// Curves as one SVG file that needs nothing else: panels one below the other over a common axis, readable on light and on dark pages. No I/O here.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ingot::cli {

struct ChartPoint {
  double x = 0, y = 0;  // a y that is not finite leaves a gap and a mark on the axis
  bool hollow = false;
  double error = 0;       // a bar of so much up and down
  std::string label = {};  // beside its mark
};
struct ChartSeries {
  std::string name;  // in the legend, where a panel has several
  std::vector<ChartPoint> points;  // by x
  bool line = true;                // between them
};
struct ChartPanel {
  std::string title;
  std::vector<ChartSeries> series;  // at most two
  std::optional<ChartPoint> best;   // marked, and told as `best_text`
  std::string best_text;
  bool bytes = false;  // y is bytes, and begins at 0
  bool powers = false;  // y by powers of ten, where all are positive; else where one spike would hide the others
  double height = 132;
};

std::string svg_chart(const std::string& title, const std::string& subtitle, const std::string& x_name, const std::vector<ChartPanel>& panels);

// Text as it may stand in SVG and HTML.
std::string escape_markup(std::string_view text);

// Round numbers from `low` to `high` (both finite, low < high), about `wanted` of them; with `whole` no fractions.
std::vector<double> round_ticks(double low, double high, int wanted, bool whole = false);

}  // namespace ingot::cli
