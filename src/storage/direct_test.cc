// What is written past the cache is what was written: any offsets, sizes and addresses, by several threads, on file systems that can and that cannot.
#include "storage/direct.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/bytes.h"
#include "storage/probe.h"

namespace ingot {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSize = (9u << 20) + 1234;

class DirectStore : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!fs::exists(GetParam()) || ::access(GetParam(), W_OK)) GTEST_SKIP() << GetParam() << " is not there";
    std::string pattern = std::string(GetParam()) + "/ingot-direct-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    // The same bytes twice: from a page, and from within one.
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, align_up(kSize + 4096, 4096))));
    for (uint64_t i = 0; i < kSize; ++i) memory_.get()[i] = static_cast<std::byte>(i * 2654435761u >> 11);
    bytes_ = {memory_.get(), kSize};
  }
  void TearDown() override {
    if (!dir_.empty()) fs::remove_all(dir_);
  }
  std::string path() const { return dir_ + "/f"; }
  void expect_whole() {
    const auto text = read_text(local_store(), path());
    ASSERT_TRUE(text.ok()) << text.error().message;
    EXPECT_TRUE(*text == as_text(bytes_));
  }
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::string dir_;
  std::unique_ptr<std::byte, Free> memory_;
  ByteView bytes_;
};

TEST_P(DirectStore, AnyPiecesInAnyOrder) {
  for (const uint64_t piece : {kSize, uint64_t{1} << 20, (uint64_t{1} << 20) + 8, uint64_t{3} << 19, uint64_t{700'001}, uint64_t{4096}}) {
    auto f = direct_store().create(path(), kSize, false);
    ASSERT_TRUE(f.ok()) << f.error().message;
    std::vector<std::thread> threads;
    std::atomic<uint64_t> next{0};
    const uint64_t pieces = (kSize + piece - 1) / piece;
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([&] {
        for (uint64_t i; (i = next++) < pieces;) {
          const uint64_t at = (pieces - 1 - i) * piece, size = std::min(piece, kSize - at);
          EXPECT_TRUE((*f)->write(at, bytes_.subspan(at, size)).ok());
          std::vector<std::byte> back(size);
          EXPECT_TRUE((*f)->read_back(at, back).ok());
          EXPECT_TRUE(std::equal(back.begin(), back.end(), bytes_.begin() + static_cast<ptrdiff_t>(at)));
        }
      });
    for (auto& t : threads) t.join();
    EXPECT_TRUE((*f)->sync().ok() && (*f)->complete().ok());
    EXPECT_EQ(*(*f)->size(), kSize);
    expect_whole();
  }
}

TEST_P(DirectStore, FromWithinPages) {
  std::vector<std::byte> moved(kSize + 1);
  std::copy(bytes_.begin(), bytes_.end(), moved.begin() + 1);
  auto f = direct_store().create_new(path(), kSize);
  ASSERT_TRUE(f.ok()) << f.error().message;
  EXPECT_TRUE((*f)->write(0, ByteView(moved).subspan(1)).ok());
  expect_whole();
}

TEST_P(DirectStore, OverWhatTheCacheHas) {
  { ASSERT_TRUE((*local_store().create(path(), kSize, false))->write(0, std::vector<std::byte>(kSize)).ok()); }
  ASSERT_TRUE(read_text(local_store(), path()).ok());
  auto f = direct_store().create(path(), kSize, true);
  ASSERT_TRUE(f.ok()) << f.error().message;
  EXPECT_TRUE((*f)->write(0, bytes_).ok());
  expect_whole();
}

INSTANTIATE_TEST_SUITE_P(On, DirectStore, ::testing::Values("/tmp", "/var/tmp", "/dev/shm"), [](const auto& info) {
  std::string name = info.param;
  std::erase(name, '/');
  return name;
});

// Where it is used: a disk that takes such writes.
TEST(DirectWrites, AreOfDisks) {
  MountProbe p;
  p.type = "ext4";
  EXPECT_FALSE(p.writes_directly());
  p.direct = true;
  EXPECT_TRUE(p.writes_directly());
  for (const char* type : {"nfs4", "fuse.rclone", "tmpfs", "unknown"}) {
    p.type = type;
    EXPECT_FALSE(p.writes_directly()) << type;
  }
}

}  // namespace
}  // namespace ingot
