// Records packed by deflate as files: any part in any order, by several threads; what does not unpack to what is claimed is an error.
#include "formats/inflated_file.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstring>
#include <random>
#include <thread>

#include "formats/formats_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

std::string deflated(const std::string& bytes) {
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&z, bytes.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data())), z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data()), z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

class InflatedFiles : public ::testing::Test {
 protected:
  InflatedFiles() : whole_(1 << 20, '\0') {
    std::mt19937_64 rng(1);
    for (char& c : whole_) c = static_cast<char>(rng() % 7);
    const std::string packed = deflated(whole_);
    entry_.name = "a/data/0", entry_.method = 8;
    entry_.packed = packed.size(), entry_.size = whole_.size();
    entry_.crc = static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(whole_.data()), static_cast<uInt>(whole_.size())));
    put_file(*store_, "m.pt", std::string(100, 'x') + packed + "more");
    archive_ = *store_->open("m.pt");
  }
  std::shared_ptr<const ReadFile> file(const ZipEntry& e) {
    auto f = make_inflated_file(archive_, "m.pt", e, 100);
    EXPECT_TRUE(f.ok()) << f.error().message;
    return *f;
  }
  std::string error_of(const ZipEntry& e) {
    std::string out(e.size, '\0');
    const Status s = file(e)->read(0, {reinterpret_cast<std::byte*>(out.data()), out.size()});
    return s.ok() ? "" : s.error().message;
  }

  std::unique_ptr<Store> store_ = make_memory_store();
  std::string whole_;
  ZipEntry entry_;
  std::shared_ptr<const ReadFile> archive_;
};

TEST_F(InflatedFiles, AnyPartInAnyOrder) {
  const auto f = file(entry_);
  EXPECT_EQ(f->size(), whole_.size());
  EXPECT_NE(f->identity(), archive_->identity());
  const auto parts = [&](uint64_t seed) {
    std::mt19937_64 rng(seed);
    for (int i = 0; i < 50; ++i) {
      const size_t at = rng() % whole_.size(), n = std::min<size_t>(rng() % 200'000, whole_.size() - at);
      std::string out(n, '\1');
      const Status s = f->read(at, {reinterpret_cast<std::byte*>(out.data()), n});
      EXPECT_TRUE(s.ok() && out == whole_.substr(at, n)) << at << " " << n;
    }
  };
  std::thread other(parts, 1);
  parts(2);
  other.join();
  EXPECT_EQ(error_of(entry_), "");
  std::byte beyond;
  EXPECT_FALSE(f->read(whole_.size(), {&beyond, 1}).ok());
}

TEST_F(InflatedFiles, WhatIsClaimedMustBeSo) {
  const auto with = [&](auto change) {
    ZipEntry e = entry_;
    change(&e);
    return error_of(e);
  };
  const std::string exactly = "its record 'a/data/0' does not unpack to exactly";
  for (const int64_t by : {-1, 1}) {
    EXPECT_NE(with([&](ZipEntry* e) { e->size += static_cast<uint64_t>(by); }).find(exactly), std::string::npos) << by;
    EXPECT_NE(with([&](ZipEntry* e) { e->packed += static_cast<uint64_t>(by); }).find(exactly), std::string::npos) << by;
  }
  EXPECT_NE(with([](ZipEntry* e) { ++e->crc; }).find("the CRC-32 of its record 'a/data/0' is"), std::string::npos);
  EXPECT_EQ(with([](ZipEntry* e) { e->crc = 0; }), "") << "none was computed";
  ZipEntry bomb = entry_;
  bomb.size = bomb.packed * 2000;
  const auto f = make_inflated_file(archive_, "m.pt", bomb, 100);
  ASSERT_FALSE(f.ok());
  EXPECT_NE(f.error().message.find("which deflate cannot; refused"), std::string::npos) << f.error().message;
}

}  // namespace
}  // namespace ingot
