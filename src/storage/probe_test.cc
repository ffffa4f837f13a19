#include "storage/probe.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace ingot {
namespace {

TEST(MountProbe, ADiskDoesItAllAndNothingIsLeft) {
  const std::string dir = ::testing::TempDir() + "ingot_probe_" + std::to_string(::getpid());
  auto p = probe_directory(dir);
  ASSERT_TRUE(p.ok()) << p.error().message;
  EXPECT_TRUE(p->append && p->random_write && p->rename_file && p->rename_directory && p->exclusive && p->sync && p->read_after_write);
  EXPECT_FALSE(p->type.empty());
  EXPECT_TRUE(p->renames());
  EXPECT_GT(p->free.value_or(0), 0U);
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  std::filesystem::remove_all(dir);
}

TEST(MountProbe, WhatAKilledOneLeftIsRemovedAndNotThatOfOneAtWork) {
  const std::filesystem::path dir = ::testing::TempDir() + "ingot_probe_left_" + std::to_string(::getpid());
  for (const char* name : {".ingot-probe-1-a", ".ingot-probe-2-b", "checkpoint-1"}) std::filesystem::create_directories(dir / name / "sub");
  for (const char* name : {".ingot-probe-1-a", "checkpoint-1"})
    std::filesystem::last_write_time(dir / name, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  ASSERT_TRUE(probe_directory(dir).ok());
  EXPECT_FALSE(std::filesystem::exists(dir / ".ingot-probe-1-a"));
  EXPECT_TRUE(std::filesystem::exists(dir / ".ingot-probe-2-b/sub"));
  EXPECT_TRUE(std::filesystem::exists(dir / "checkpoint-1/sub"));
  std::filesystem::remove_all(dir);
}

TEST(MountProbe, WhereNothingCanBeWrittenItSaysSo) {
  auto p = probe_directory("/proc/nothing/here");
  ASSERT_FALSE(p.ok());
  EXPECT_NE(p.error().message.find("/proc/nothing"), std::string::npos) << p.error().message;
}

}  // namespace
}  // namespace ingot
