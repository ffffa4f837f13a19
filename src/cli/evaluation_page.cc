// An evaluation as a drawing and as a page.
#include <algorithm>
#include <cmath>

#include "cli/evaluation.h"
#include "cli/svg_chart.h"
#include "cli/text.h"

namespace ingot::cli {
namespace {

constexpr char kPage[] = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{0}</title>
<style>
:root {{ color-scheme: light dark; --text: #1f2328; --page: #ffffff; --faint: #59636e; --line: #d1d9e0 }}
@media (prefers-color-scheme: dark) {{ :root {{ --text: #e6edf3; --page: #0d1117; --faint: #9198a1; --line: #3d444d }} }}
body {{ font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--text); background: var(--page); max-width: 64rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1rem; margin-top: 2rem }} p {{ color: var(--faint) }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }}
th, td {{ padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left }} .n {{ text-align: right }} svg {{ max-width: 100%; height: auto }}
</style></head><body>
<h1>{0}</h1>
<p>{1}</p>
)";

std::string title_of(const Evaluation& e) { return e.against ? "Divergence from " + printable(e.models[0].model.name) : "Perplexity"; }

std::string table_of(const Sheet& s) {
  std::string out = s.title.empty() ? "" : fmt::format("<h2>{}</h2>\n", escape_markup(s.title));
  out += "<div class=\"wide\"><table>\n<tr>";
  std::vector<const char*> style;
  for (const std::string& h : s.header) {
    style.push_back(h.starts_with('>') ? " class=\"n\"" : "");
    out += fmt::format("<th{}>{}</th>", style.back(), escape_markup(h.substr(std::min(h.find_first_not_of(">~?="), h.size()))));
  }
  out += "</tr>\n";
  for (const auto& row : s.rows) {
    out += "<tr>";
    for (size_t i = 0; i < s.header.size(); ++i) out += fmt::format("<td{}>{}</td>", style[i], i < row.size() ? escape_markup(row[i]) : "");
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string evaluation_svg(const Evaluation& e) {
  uint64_t most = 0;
  for (const ModelFigures& m : e.models) most = std::max(most, m.model.bytes);
  const struct {
    const char* name;
    double bytes;
  } units[] = {{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"bytes", 1}};
  size_t unit = 0;
  while (unit + 1 < std::size(units) && static_cast<double>(most) < 20 * units[unit].bytes) ++unit;
  ChartPanel panel;
  panel.title = e.against ? "mean KL divergence, nats" : "perplexity";
  panel.height = 380;
  ChartSeries series;
  series.line = false;
  double low = 0, high = 0;
  for (const ModelFigures& m : e.models) {
    if (m.windows == 0 || (e.against && !m.all.divergence)) continue;
    const calibrate::Figure f = e.against ? m.all.divergence->mean : m.all.perplexity.perplexity;
    series.points.push_back({static_cast<double>(m.model.bytes) / units[unit].bytes, f.value, false, f.error, m.model.name});
    if (f.value > 0) low = low > 0 ? std::min(low, f.value) : f.value;
    high = std::max(high, f.value);
  }
  std::stable_sort(series.points.begin(), series.points.end(), [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
  panel.powers = low > 0 && high > 20 * low;
  panel.series.push_back(std::move(series));
  return svg_chart(title_of(e), fmt::format("{} of {} tokens from {}", count_of(static_cast<uint64_t>(e.windows), "window"), e.length, join(e.texts, ", ")), fmt::format("size, {}", units[unit].name), {panel});
}

std::string evaluation_html(const Evaluation& e) {
  std::string out = fmt::format(kPage, escape_markup(title_of(e)), escape_markup(summary_of(e)));
  const std::vector<Sheet> sheets = sheets_of(e);
  for (size_t i = 0; i < sheets.size(); ++i) {
    out += table_of(sheets[i]);
    if (i == 0) out += evaluation_svg(e);
  }
  return out + "</body></html>\n";
}

}  // namespace ingot::cli
