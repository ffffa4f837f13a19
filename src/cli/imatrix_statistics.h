// The figures of an importance matrix for people, as JSON and as a picture.
#pragma once

#include <string>
#include <vector>

#include "calibrate/importance_statistics.h"
#include "formats/json.h"

namespace ingot::cli {

std::string statistics_text(const std::vector<calibrate::TensorStatistics>& all, int width);
OrderedJson statistics_json(const std::vector<calibrate::TensorStatistics>& all);
// SVG: mean importance over the layers, a panel for each kind of tensor; kinds that are multiplied with one input (attn_q, attn_k, attn_v) share one.
std::string statistics_chart(const std::string& title, const std::string& subtitle, const std::vector<calibrate::TensorStatistics>& all);

}  // namespace ingot::cli
