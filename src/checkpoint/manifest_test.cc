#include "checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ingot::checkpoint {
namespace {

Manifest some() {
  Manifest m;
  m.step = 1200, m.epoch = 3, m.time = 1790000000.25, m.world = 2, m.run = "a \"run\"", m.parent = 1000;
  m.metrics = {{"loss", 0.1}, {"odd", std::nan("")}, {"far", -HUGE_VAL}};
  m.objects = {{"model.safetensors", 123, std::string(32, 'a'), 600, 77}, {"state.json", 0, std::string(32, '0'), std::nullopt, std::nullopt}};
  return m;
}

TEST(CheckpointManifest, IsReadAsItWasWritten) {
  const std::string text = manifest_text(some());
  auto m = parse_manifest(text, "m");
  ASSERT_TRUE(m.ok()) << m.error().message;
  EXPECT_EQ(manifest_text(*m), text);
  EXPECT_EQ(m->find("model.safetensors")->same_as, 600);
  EXPECT_EQ(m->parent, 1000);
  EXPECT_TRUE(std::isnan(m->metrics["odd"]));
  Manifest other = some();
  other.objects[0].hash = std::string(32, '5');
  EXPECT_EQ(manifest_text(other).size(), text.size());
}

TEST(CheckpointManifest, EveryFlippedBitAndEveryTruncationIsFound) {
  const std::string text = manifest_text(some());
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_FALSE(parse_manifest(text.substr(0, i), "m").ok()) << i;
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = text;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      EXPECT_FALSE(parse_manifest(bad, "m").ok()) << i << " bit " << bit;
    }
  }
}

TEST(CheckpointManifest, AFlippedBitOfLateMetricsIsFound) {
  const Metrics some = {{"val_loss", 1.25}, {"odd", std::nan("")}};
  const std::string text = late_metrics_text(some);
  const auto back = parse_late_metrics(text, "m");
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->at("val_loss"), 1.25);
  EXPECT_EQ(back->size(), 2U);
  for (size_t i = 0; i < text.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = text;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      EXPECT_FALSE(parse_late_metrics(bad, "m").ok()) << i << " bit " << bit << ": " << bad;
    }
  // Made by hand, or before it had a hash; and one whose name is in the way.
  EXPECT_EQ(parse_late_metrics("{\"val_loss\": 2}", "m")->at("val_loss"), 2);
  EXPECT_EQ(parse_late_metrics(late_metrics_text({{"hash", 3}}), "m")->at("hash"), 3);
  EXPECT_TRUE(parse_late_metrics(late_metrics_text({}), "m")->empty());
}

TEST(CheckpointManifest, WhatCannotBeIsRefused) {
  const auto error = [](Manifest m) {
    auto r = parse_manifest(manifest_text(m), "m.json");
    return r.ok() ? std::string() : r.error().message;
  };
  for (const std::string name : {"", "..", "a/b", "manifest.json", "metrics.json"}) {
    Manifest m = some();
    m.objects[0].name = name;
    EXPECT_NE(error(m).find("no name within the directory"), std::string::npos) << name;
  }
  Manifest twice = some();
  twice.objects.push_back(twice.objects[0]);
  EXPECT_NE(error(twice).find("twice"), std::string::npos);
  Manifest step = some();
  step.step = -1;
  EXPECT_NE(error(step).find("\"step\" is -1"), std::string::npos) << error(step);
}

}  // namespace
}  // namespace ingot::checkpoint
