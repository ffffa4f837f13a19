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

TEST(MountProbe, WhereNothingCanBeWrittenItSaysSo) {
  auto p = probe_directory("/proc/nothing/here");
  ASSERT_FALSE(p.ok());
  EXPECT_NE(p.error().message.find("/proc/nothing"), std::string::npos) << p.error().message;
}

}  // namespace
}  // namespace ingot
