#include "storage/framed.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/threads.h"

namespace ingot {
namespace {

// Numbers as training leaves them: exponents alike, mantissas not; and a part that does not compress at all.
std::string some_bytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::string s(size, '\0');
  for (size_t i = 0; i + 4 <= size; i += 4) {
    const float f = normal(random);
    const uint32_t noise = random();
    std::memcpy(s.data() + i, i < size / 3 ? static_cast<const void*>(&noise) : &f, 4);
  }
  for (size_t i = size / 4 * 4; i < size; ++i) s[i] = 'x';
  return s;
}

void write_in_pieces(WriteFile& file, const std::string& bytes, size_t piece, int threads, uint32_t seed) {
  std::vector<size_t> starts;
  for (size_t at = 0; at < bytes.size(); at += piece) starts.push_back(at);
  if (seed) std::shuffle(starts.begin(), starts.end(), std::mt19937(seed));
  std::atomic<size_t> next{0};
  ASSERT_TRUE(run_on_threads(threads, [&]() -> Status {
    for (size_t i; (i = next++) < starts.size();)
      if (Status s = file.write(starts[i], as_bytes(std::string_view(bytes).substr(starts[i], piece))); !s.ok()) return s;
    return {};
  }).ok());
}

TEST(FramedStore, BytesComeBackWhateverTheirOrder) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{5}, kFrameBytes - 1, kFrameBytes, kFrameBytes + 3, 5 * kFrameBytes + 12345})
    for (const size_t piece : {size_t{70'001}, kFrameBytes, 2 * kFrameBytes + 17})
      for (const auto mode : {WriteMode::kRandom, WriteMode::kSequential}) {
        Capabilities caps;
        caps.mode = mode;
        const auto beneath = make_memory_store(caps);
        const auto framed = make_framed_store(*beneath, {"a.bin"});
        const std::string bytes = some_bytes(size, static_cast<uint32_t>(size + piece));
        {
          auto file = framed->create("a.bin", size, false);
          ASSERT_TRUE(file.ok());
          write_in_pieces(**file, bytes, piece, mode == WriteMode::kRandom ? 3 : 1, mode == WriteMode::kRandom ? 7 : 0);
          EXPECT_EQ(*(*file)->size(), size);
          if (mode == WriteMode::kRandom) {
            std::string back(size, '\1');
            ASSERT_TRUE((*file)->read_back(0, std::as_writable_bytes(std::span(back))).ok());
            EXPECT_EQ(back, bytes);
          }
          ASSERT_TRUE((*file)->sync().ok() && (*file)->complete().ok());
        }
        EXPECT_FALSE(is_there(*beneath, "a.bin"));
        EXPECT_EQ((*beneath->stat("a.bin.frames"))->size, framed->stored("a.bin"));
        EXPECT_TRUE(size < 2 * kFrameBytes || framed->stored("a.bin") < size * 95 / 100) << size;
        // Whoever reads needs no list of names.
        const auto again = make_framed_store(*beneath);
        EXPECT_EQ((*again->stat("a.bin"))->size, size);
        EXPECT_EQ(again->list(".")->at(0).name, "a.bin");
        EXPECT_EQ(*read_text(*again, "a.bin"), bytes);
        const auto file = again->open("a.bin");
        for (const auto& [at, n] : {std::pair<size_t, size_t>{0, std::min<size_t>(size, 1)}, {size / 2, size / 3}, {size ? size - 1 : 0, size ? 1 : 0}}) {
          std::string part(n, '\0');
          ASSERT_TRUE((*file)->read(at, std::as_writable_bytes(std::span(part))).ok());
          EXPECT_EQ(part, bytes.substr(at, n));
        }
        std::string beyond(2, '\0');
        EXPECT_FALSE((*file)->read(size ? size - 1 : 0, std::as_writable_bytes(std::span(beyond))).ok());
      }
}

TEST(FramedStore, OtherFilesAreAsTheyWere) {
  const auto beneath = make_memory_store();
  const auto framed = make_framed_store(*beneath, {"a.bin"});
  auto file = framed->create("b.bin", 3, false);
  ASSERT_TRUE(file.ok() && (*file)->write(0, as_bytes("abc")).ok() && (*file)->complete().ok());
  EXPECT_EQ(*read_text(*beneath, "b.bin"), "abc");
  EXPECT_EQ(*read_text(*framed, "b.bin"), "abc");
  EXPECT_FALSE(*framed->stat("c.bin"));
  EXPECT_FALSE(framed->open("c.bin").ok());
}

TEST(FramedStore, AnUnfinishedFileIsNotCompleted) {
  const auto beneath = make_memory_store();
  const auto framed = make_framed_store(*beneath, {"a.bin"});
  auto file = framed->create("a.bin", 2 * kFrameBytes, false);
  ASSERT_TRUE((*file)->write(0, as_bytes(std::string(kFrameBytes + 5, 'a'))).ok());
  std::string back(10, '\0');
  EXPECT_TRUE((*file)->read_back(kFrameBytes - 5, std::as_writable_bytes(std::span(back))).ok());
  EXPECT_EQ(back, "aaaaaaaaaa");
  EXPECT_FALSE((*file)->complete().ok());
  EXPECT_FALSE((*file)->write(2 * kFrameBytes - 1, as_bytes("ab")).ok());
  EXPECT_EQ(framed->stored("a.bin"), 0U);
  EXPECT_FALSE(make_framed_store(*beneath)->open("a.bin").ok());
}

TEST(FramedStore, EveryTruncationAndEveryFlippedByteIsFound) {
  const auto beneath = make_memory_store();
  const std::string bytes = some_bytes(3000, 5);
  {
    const auto framed = make_framed_store(*beneath, {"a"});
    auto file = framed->create("a", bytes.size(), false);
    ASSERT_TRUE((*file)->write(0, as_bytes(bytes)).ok() && (*file)->complete().ok());
  }
  const std::string whole = *read_text(*beneath, "a.frames");
  const auto read = [&](const std::string& stored) -> std::optional<std::string> {
    const auto other = make_memory_store();
    auto file = other->create("a.frames", stored.size(), false);
    EXPECT_TRUE((*file)->write(0, as_bytes(stored)).ok() && (*file)->complete().ok());
    auto text = read_text(*make_framed_store(*other), "a");
    return text.ok() ? std::optional(*text) : std::nullopt;
  };
  ASSERT_EQ(read(whole), bytes);
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_FALSE(read(whole.substr(0, n)).has_value()) << n;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string bad = whole;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    EXPECT_FALSE(read(bad).has_value()) << i;
  }
}

}  // namespace
}  // namespace ingot
