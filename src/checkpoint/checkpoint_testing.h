// States for the tests of checkpoints.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <vector>

#include "checkpoint/restore.h"
#include "checkpoint/save.h"

namespace ingot::checkpoint::testing {

// A state with its own bytes: groups of f32 tensors, filled with numbers that tell seed, group and place.
struct TestState {
  std::vector<std::vector<std::vector<float>>> values;  // by group and tensor
  Snapshot snapshot;

  void fill(size_t g, size_t t, float seed) {
    for (size_t i = 0; i < values[g][t].size(); ++i) values[g][t][i] = seed * 1000 + static_cast<float>(g) * 100 + static_cast<float>(t) * 10 + static_cast<float>(i % 977);
  }
};

// Sizes in elements; the first tensor of each group is marked still.
inline TestState make_state(int64_t step, const std::vector<std::pair<std::string, std::vector<int64_t>>>& groups, bool still = false) {
  TestState s;
  s.snapshot.step = step;
  s.snapshot.state = R"({"ingot": "state", "version": 1, "state": {}})";
  for (const auto& [name, sizes] : groups) {
    s.values.emplace_back();
    s.snapshot.groups.push_back({name, {}});
    for (const int64_t n : sizes) s.values.back().emplace_back(static_cast<size_t>(n));
  }
  for (size_t g = 0; g < groups.size(); ++g)
    for (size_t t = 0; t < s.values[g].size(); ++t) {
      s.fill(g, t, static_cast<float>(step));
      s.snapshot.groups[g].tensors.push_back({fmt::format("t{}", t), {DType::kF32, {static_cast<int64_t>(s.values[g][t].size())}},
                                              reinterpret_cast<const std::byte*>(s.values[g][t].data()), still && t == 0});
    }
  return s;
}

// What the checkpoint has, read back into a state of the same groups; the error is a resume's.
inline Result<std::vector<std::vector<std::vector<float>>>> load_state(Store& store, const Found& c, const TestState& like) {
  auto out = like.values;
  for (auto& g : out)
    for (auto& t : g) std::fill(t.begin(), t.end(), -1.0F);
  INGOT_ASSIGN(const auto stored, tensors_of(store, c));
  std::vector<Target> targets;
  for (size_t g = 0; g < out.size(); ++g)
    for (size_t t = 0; t < out[g].size(); ++t)
      for (const Stored& s : stored)
        if (s.group == like.snapshot.groups[g].name && s.name == fmt::format("t{}", t))
          targets.push_back({s, {reinterpret_cast<std::byte*>(out[g][t].data()), out[g][t].size() * sizeof(float)}});
  INGOT_TRY(restore(store, c, targets, 2));
  return out;
}

}  // namespace ingot::checkpoint::testing
