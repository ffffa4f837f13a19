// The small models' logits, held against those of transformers.
#pragma once

#include "infer/architecture_cases.h"
#include "infer/session.h"

namespace ingot::testing_models {

inline constexpr double kTolerance = 1e-4;  // of the logits' standard deviation

struct LogitsError {
  double worst = 0;      // of those that are stored, from transformers', in standard deviations
  int wrong_top = 0;     // positions with another likeliest token
};

inline LogitsError compare(const Case& c, const Artifact& g, int64_t batch = 512) {
  LogitsError out;
  LoadOptions exact;
  exact.arithmetic = Arithmetic::kExact;
  auto model = Model::load(g, exact);
  EXPECT_TRUE(model.ok()) << c.name << ": " << (model.ok() ? "" : model.error().message);
  if (!model.ok()) return out;
  SessionOptions o;
  o.batch = batch;
  const auto tokens = c.data["tokens"].get<std::vector<int32_t>>();
  o.context = static_cast<int64_t>(tokens.size());
  Session s(**model, o);
  const auto logits = s.forward(tokens, ingot::Logits::kAll);
  EXPECT_TRUE(logits.ok()) << c.name << ": " << (logits.ok() ? "" : logits.error().message);
  if (!logits.ok()) return out;
  const int64_t vocab = (*model)->config().vocab;
  for (const auto& [position, stored] : c.data["logits"].items())
    for (size_t i = 0; i < stored.size(); ++i) {
      const int64_t step = vocab / static_cast<int64_t>(stored.size());
      const float mine = (*logits)[static_cast<size_t>(std::stoll(position) * vocab + static_cast<int64_t>(i) * step)];
      out.worst = std::max(out.worst, std::abs(static_cast<double>(mine) - stored[i].get<double>()) / c.data["deviation"].get<double>());
    }
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto row = logits->subspan(t * static_cast<size_t>(vocab), static_cast<size_t>(vocab));
    out.wrong_top += std::max_element(row.begin(), row.end()) - row.begin() != c.data["top"][t].get<int64_t>();
  }
  return out;
}

inline std::string name_of(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param.substr(info.param.find('/') + 1);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace ingot::testing_models
