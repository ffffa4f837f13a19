#include "cli/checkpoint_curve.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "cli/svg_chart.h"
#include "cli/text.h"

namespace ingot::cli {
namespace {

using checkpoint::Found;
using checkpoint::State;

// Of a metric that nobody told the direction of: a loss unless its name says otherwise.
bool greatest_is_best(const std::string& metric) {
  const std::string name = lower(metric);
  if (name.find("loss") != std::string::npos || name.find("err") != std::string::npos) return false;
  for (const char* word : {"acc", "bleu", "rouge", "f1", "score", "reward", "auc", "precision", "recall", "mcc", "win", "match", "iou", "throughput", "per_sec"})
    if (name.find(word) != std::string::npos) return true;
  return false;
}

}  // namespace

std::string checkpoint_curve(const std::string& directory, const std::vector<Found>& found) {
  std::vector<const Found*> all;
  for (const Found& f : found)
    if (!f.manifest.objects.empty()) all.push_back(&f);
  std::sort(all.begin(), all.end(), [](const Found* a, const Found* b) { return a->step < b->step; });
  std::set<std::string> metrics;
  for (const Found* f : all)
    for (const auto& [name, value] : f->metrics) metrics.insert(name);
  std::vector<ChartPanel> panels;
  for (const std::string& m : metrics) {
    ChartPanel& p = panels.emplace_back();
    p.title = m;
    ChartSeries& s = p.series.emplace_back();
    const bool greatest = greatest_is_best(m);
    for (const Found* f : all) {
      const auto it = f->metrics.find(m);
      if (it == f->metrics.end()) continue;
      s.points.push_back({static_cast<double>(f->step), it->second, f->state != State::kWhole});
      const ChartPoint& q = s.points.back();
      if (std::isfinite(q.y) && !q.hollow && (!p.best || (greatest ? q.y > p.best->y : q.y < p.best->y))) p.best = q;
    }
    if (p.best) p.best_text = fmt::format("{} {:.6g} at step {}", greatest ? "greatest" : "least", p.best->y, format_count(static_cast<uint64_t>(p.best->x)));
  }
  ChartPanel& sizes = panels.emplace_back();
  sizes.title = "size", sizes.bytes = true;
  sizes.series = {{"all files", {}}, {"of no other checkpoint", {}}};
  for (const Found* f : all) {
    const double x = static_cast<double>(f->step);
    sizes.series[0].points.push_back({x, static_cast<double>(f->bytes), f->state != State::kWhole});
    sizes.series[1].points.push_back({x, static_cast<double>(f->unique), f->state != State::kWhole});
  }
  const std::string about = all.empty() ? "no checkpoint with a manifest"
                                        : fmt::format("{}, step{} {}{}", count_of(all.size(), "checkpoint"), all.size() > 1 ? "s" : "", all.front()->step,
                                                      all.size() > 1 ? fmt::format(" to {}", all.back()->step) : "");
  return svg_chart(directory, about, "step", panels);
}

}  // namespace ingot::cli
