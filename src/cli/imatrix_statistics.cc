#include "cli/imatrix_statistics.h"

#include <algorithm>

#include "cli/svg_chart.h"
#include "cli/text.h"

namespace ingot::cli {
namespace {

using calibrate::TensorStatistics;

std::string number(double x) { return x == 0 ? "0" : x >= 1e6 || x < 1e-3 ? fmt::format("{:.3g}", x) : fmt::format("{:.4f}", x); }
std::string percent(double share) { return fmt::format("{:.2f}%", share * 100); }

}  // namespace

std::string statistics_text(const std::vector<TensorStatistics>& all, int width) {
  Table table({"~tensor", ">layer", ">sum", "?>min", ">max", ">mean", ">sd", "?>% active", "?>N", "?>entropy", ">E (norm)", ">ZD", ">CosSim"});
  for (const TensorStatistics& s : all) {
    const std::string layer = s.layer < 0 ? "-" : std::to_string(s.layer);
    if (s.elements == 0) {
      table.row({printable(s.kind), layer, "no data", "", "", "", "", "", "", "", "", "", ""});
      continue;
    }
    table.row({printable(s.kind), layer, number(s.sum), number(s.min), number(s.max), number(s.mean), number(s.deviation), percent(s.active), format_count(static_cast<uint64_t>(s.elements)),
               fmt::format("{:.4f}", s.entropy), percent(s.entropy_share()), percent(s.zd), s.cosine ? fmt::format("{:.4f}", *s.cosine) : "-"});
  }
  Table layers({">layer", ">mean of sums", ">mean ZD", ">mean CosSim"});
  for (const auto& l : calibrate::layer_statistics(all)) layers.row({std::to_string(l.layer), number(l.sum), percent(l.zd), fmt::format("{:.4f}", l.cosine)});
  return table.str(0, width) + "\n" + layers.str(0, width);
}

OrderedJson statistics_json(const std::vector<TensorStatistics>& all) {
  OrderedJson tensors = OrderedJson::array(), layers = OrderedJson::array();
  for (const TensorStatistics& s : all) {
    OrderedJson j = {{"tensor", s.name}, {"kind", s.kind}};
    if (s.layer >= 0) j["layer"] = s.layer;
    j.update({{"matrices", s.matrices}, {"unreached", s.unreached}, {"tokens", s.tokens}, {"elements", s.elements}, {"sum", s.sum}, {"min", s.min}, {"max", s.max}, {"mean", s.mean},
              {"deviation", s.deviation}, {"active", s.active}, {"entropy", s.entropy}, {"entropy_share", s.entropy_share()}, {"zd", s.zd}});
    if (s.cosine) j["cosine"] = *s.cosine;
    tensors.push_back(std::move(j));
  }
  for (const auto& l : calibrate::layer_statistics(all)) layers.push_back({{"layer", l.layer}, {"sum", l.sum}, {"zd", l.zd}, {"cosine", l.cosine}});
  return {{"tensors", tensors}, {"layers", layers}};
}

std::string statistics_chart(const std::string& title, const std::string& subtitle, const std::vector<TensorStatistics>& all) {
  std::vector<ChartPanel> panels;
  for (size_t i = 0; i < all.size();) {
    ChartPanel p;
    p.title = all[i].kind;
    ChartSeries& s = p.series.emplace_back();
    for (; i < all.size() && all[i].kind == p.title; ++i)
      if (all[i].layer >= 0 && all[i].elements > 0) s.points.push_back({static_cast<double>(all[i].layer), all[i].mean, all[i].unreached > 0});
    if (s.points.empty()) continue;
    const auto same = [&](const ChartPanel& q) {
      return std::equal(q.series[0].points.begin(), q.series[0].points.end(), s.points.begin(), s.points.end(), [](const ChartPoint& a, const ChartPoint& b) { return a.x == b.x && a.y == b.y; });
    };
    const auto one = std::find_if(panels.begin(), panels.end(), same);
    if (one != panels.end()) one->title += ", " + p.title;
    else panels.push_back(std::move(p));
  }
  return svg_chart(title, subtitle, "layer", panels);
}

}  // namespace ingot::cli
