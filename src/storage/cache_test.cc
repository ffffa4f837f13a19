#include "storage/cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace ingot {
namespace {

// The environment as it was comes back.
class Cache : public ::testing::Test {
 protected:
  Cache() {
    char name[] = "/tmp/ingot-cache-XXXXXX";
    dir_ = ::mkdtemp(name);
    for (const char* variable : {"XDG_CACHE_HOME", "HOME"}) {
      const char* value = std::getenv(variable);
      before_[variable] = value ? std::optional<std::string>(value) : std::nullopt;
    }
  }
  ~Cache() override {
    for (const auto& [variable, value] : before_) set(variable.c_str(), value);
    std::filesystem::remove_all(dir_);
  }
  static void set(const char* variable, const std::optional<std::string>& value) {
    if (value) ::setenv(variable, value->c_str(), 1);
    else ::unsetenv(variable);
  }
  std::string dir_;
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(Cache, IsWhereTheUserHasIt) {
  set("XDG_CACHE_HOME", dir_ + "/a");
  set("HOME", dir_ + "/own");
  ASSERT_TRUE(cache_directory());
  EXPECT_EQ(cache_directory()->path, dir_ + "/a/ingot");
  for (const auto& none : {std::optional<std::string>(), std::optional<std::string>("not/absolute")}) {
    set("XDG_CACHE_HOME", none);
    ASSERT_TRUE(cache_directory());
    EXPECT_EQ(cache_directory()->path, dir_ + "/own/.cache/ingot");
    EXPECT_TRUE(std::filesystem::is_directory(cache_directory()->path));
  }
}

TEST_F(Cache, IsNowhereWhereItCannotBeMade) {
  set("XDG_CACHE_HOME", "/proc/none");
  EXPECT_FALSE(cache_directory());
  set("XDG_CACHE_HOME", std::nullopt);
  set("HOME", std::nullopt);
  EXPECT_FALSE(cache_directory());
}

}  // namespace
}  // namespace ingot
