#include "calibrate/importance_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "transform/layers.h"

namespace ingot::calibrate {
namespace {

constexpr double kInactive = 1e-5;

using Entry = transform::ImportanceSums::Entry;

// "attn_q" of "blk.3.attn_q.weight", "output" of "output.weight".
std::string kind_of(const std::string& name) {
  const size_t begin = transform::layer_of(name) < 0 ? 0 : name.find('.', 4) + 1;
  std::string kind = name.substr(begin);
  if (kind.ends_with(".weight")) kind.resize(kind.size() - 7);
  return kind;
}

TensorStatistics of_tensor(const std::string& name, const Entry& e) {
  TensorStatistics s;
  s.name = name, s.kind = kind_of(name), s.layer = transform::layer_of(name);
  s.matrices = static_cast<int64_t>(e.counts.size());
  const size_t columns = e.values.size() / e.counts.size();
  std::vector<double> means;
  for (size_t m = 0; m < e.counts.size(); ++m) {
    s.tokens += e.counts[m];
    s.unreached += e.counts[m] <= 0;
    for (size_t i = m * columns; e.counts[m] > 0 && i < (m + 1) * columns; ++i) means.push_back(e.values[i] / e.counts[m]);
  }
  s.elements = static_cast<int64_t>(means.size());
  if (means.empty()) return s;
  const auto n = static_cast<double>(means.size());
  for (const double v : means) s.sum += v;
  s.mean = s.sum / n;
  const auto [least, most] = std::minmax_element(means.begin(), means.end());
  s.min = *least, s.max = *most;
  double variance = 0;
  for (const double v : means) variance += (v - s.mean) * (v - s.mean) / n;
  s.deviation = std::sqrt(variance);
  int64_t active = 0, high = 0;
  for (const double v : means) {
    active += v > kInactive;
    high += s.deviation > 0 && (v - s.mean) / s.deviation > 1;
    if (v > 0) s.entropy -= v / s.sum * std::log2(v / s.sum);
  }
  s.active = static_cast<double>(active) / n;
  s.zd = static_cast<double>(high) / n;
  return s;
}

std::optional<double> cosine(const Entry& a, const Entry& b) {
  if (a.values.size() != b.values.size()) return std::nullopt;
  double product = 0, of_a = 0, of_b = 0;
  for (size_t i = 0; i < a.values.size(); ++i) {
    product += a.values[i] * b.values[i];
    of_a += a.values[i] * a.values[i];
    of_b += b.values[i] * b.values[i];
  }
  if (of_a <= 0 || of_b <= 0) return std::nullopt;
  return product / (std::sqrt(of_a) * std::sqrt(of_b));
}

}  // namespace

double TensorStatistics::entropy_share() const { return elements > 1 ? entropy / std::log2(static_cast<double>(elements)) : 0; }

std::vector<TensorStatistics> statistics(const transform::ImportanceSums& sums) {
  std::vector<TensorStatistics> all;
  for (const auto& [name, e] : sums.entries) {
    if (e.counts.empty()) continue;
    TensorStatistics& s = all.emplace_back(of_tensor(name, e));
    if (s.layer < 1) continue;
    const auto before = sums.entries.find(fmt::format("blk.{}{}", s.layer - 1, name.substr(name.find('.', 4))));
    if (before != sums.entries.end()) s.cosine = cosine(e, before->second);
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return std::tie(a.kind, a.layer, a.name) < std::tie(b.kind, b.layer, b.name); });
  return all;
}

std::vector<LayerStatistics> layer_statistics(const std::vector<TensorStatistics>& tensors) {
  std::map<int64_t, std::pair<LayerStatistics, double>> layers;
  for (const TensorStatistics& t : tensors) {
    if (t.layer < 0) continue;
    auto& [s, elements] = layers[t.layer];
    const auto n = static_cast<double>(t.elements);
    s.layer = t.layer;
    s.sum += n * t.sum, s.zd += n * t.zd, s.cosine += n * t.cosine.value_or(0);
    elements += n;
  }
  std::vector<LayerStatistics> all;
  for (auto& [layer, found] : layers) {
    auto& [s, elements] = found;
    if (elements > 0) s.sum /= elements, s.zd /= elements, s.cosine /= elements;
    all.push_back(s);
  }
  return all;
}

std::vector<Few> few(const transform::ImportanceSums& sums, double least) {
  std::vector<Few> all;
  for (const auto& [name, e] : sums.entries)
    for (size_t m = 0; m < e.counts.size(); ++m)
      if (e.counts[m] < least) all.push_back({name, e.counts.size() > 1 ? static_cast<int64_t>(m) : -1, e.counts[m]});
  return all;
}

}  // namespace ingot::calibrate
