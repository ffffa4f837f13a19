// The look at passing bytes: every NaN is found once wherever leaves cut the elements, every checksum is that of the whole record, and both as the executor finds them.
#include "transform/scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "formats/file_pieces.h"
#include "formats/file_tensor.h"
#include "formats/formats_testing.h"
#include "kernels/crc32.h"

namespace ingot::transform {
namespace {

template <class T>
std::string bytes_of_values(const std::vector<T>& v) {
  return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(T));
}


std::shared_ptr<SourceFile> source(std::shared_ptr<const ReadFile> file) {
  auto s = std::make_shared<SourceFile>();
  s->path = file->path(), s->file = std::move(file);
  return s;
}

// All of a file, in leaves of `leaf` bytes, the last first.
void pass(Scan& scan, const ReadFile& file, uint64_t leaf) {
  const auto look = scan.look(file);
  if (!look) return;
  for (uint64_t i = (file.size() + leaf - 1) / leaf; i-- > 0;) {
    std::vector<std::byte> bytes(std::min(leaf, file.size() - i * leaf));
    ASSERT_TRUE(file.read(i * leaf, bytes).ok());
    ASSERT_TRUE(look(i * leaf, bytes).ok());
  }
}

TEST(Scan, FindsEachNanOnceWhereverLeavesCut) {
  std::vector<float> f(100);
  std::vector<double> d(60);
  for (const size_t i : {0u, 17u, 18u, 50u, 99u}) f[i] = std::nanf("");
  for (const size_t i : {3u, 98u}) f[i] = -INFINITY;
  for (size_t i = 0; i < d.size(); i += 7) d[i] = std::nan("");
  const std::string bytes = "abc" + bytes_of_values(f) + "x" + bytes_of_values(d) + "end";
  auto store = make_memory_store();
  testing::put_file(*store, "f", bytes);
  const auto source_of = source(std::shared_ptr<const ReadFile>(*store->open("f")));
  const uint64_t at = 3 + 4 * f.size() + 1;
  // The second as it lies in pieces, of which one ends within the first's elements.
  const auto pieces = source(make_pieces_file("pieces", {{source_of->file, at, 16}, {source_of->file, at + 16, 8 * d.size() - 16}}));
  Artifact a;
  a.tensors = {{"f", make_file_tensor(source_of, "f", 3, {DType::kF32, {10, 10}})}, {"d", make_file_tensor(pieces, "d", 0, {DType::kF64, {60}})}};
  a.tensors.push_back({"tied", a.tensors[0].node});
  for (const uint64_t leaf : {8u, 13u, 64u, 100u, 4096u}) {
    const ZipRecords none;
    Scan scan(a, none, leaf);
    EXPECT_EQ(scan.unseen(), std::vector<std::string>{"f"});
    pass(scan, *source_of->file, leaf);
    EXPECT_TRUE(scan.unseen().empty());
    EXPECT_EQ(scan.look(*source_of->file), nullptr) << "a second name of the file";
    ASSERT_EQ(scan.tensors().size(), 2u);
    EXPECT_EQ(scan.tensors()[0].names, (std::vector<std::string>{"f", "tied"}));
    EXPECT_EQ(scan.tensors()[0].nan, 5u) << leaf;
    EXPECT_EQ(scan.tensors()[0].infinite, 2u) << leaf;
    EXPECT_EQ(scan.tensors()[1].nan, 9u) << leaf;
    EXPECT_EQ(scan.tensors()[1].infinite, 0u) << leaf;
  }
  // The executor counts the same.
  const auto all = nonfinite({a.tensors[0], a.tensors[1]}, {});
  ASSERT_TRUE(all.ok()) << all.error().message;
  EXPECT_EQ((*all)[0].nan, 5u);
  EXPECT_EQ((*all)[0].infinite, 2u);
  EXPECT_EQ((*all)[1].nan, 9u);
}

TEST(Scan, EveryDamagedRecordIsToldOfWithItsTensors) {
  const std::string bytes(1000, 'x');
  auto store = make_memory_store();
  testing::put_file(*store, "f", bytes);
  const std::shared_ptr<const ReadFile> file(*store->open("f"));
  ZipRecords zip;
  const auto record = [&](uint64_t begin, uint64_t size, uint32_t wrong) {
    zip.records.push_back({0, std::to_string(begin), crc32(as_bytes(bytes).subspan(begin, size)) ^ wrong, true, FileRange{file.get(), begin, size}});
  };
  record(0, 100, 0), record(100, 1, 1), record(101, 399, 0), record(500, 500, 4);
  Artifact a;
  a.tensors = {{"t", make_file_tensor(source(file), "t", 600, {DType::kU8, {10}})}};
  for (const uint64_t leaf : {7u, 100u, 1024u}) {
    Scan scan(a, zip, leaf);
    pass(scan, *file, leaf);
    const auto damage = scan.damage();
    ASSERT_EQ(damage.size(), 2u) << leaf;
    EXPECT_EQ(damage[0].record, 1u);
    EXPECT_TRUE(damage[0].tensors.empty());
    EXPECT_EQ(damage[1].record, 3u);
    EXPECT_EQ(damage[1].tensors, std::vector<std::string>{"t"});
  }
}

TEST(Nonfinite, IsCountedInEachTypeByItsOwnBits) {
  const auto in = [](DType t, const std::vector<uint8_t>& bytes) { return nonfinite_in(t, {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}); };
  EXPECT_EQ(in(DType::kF16, {0, 0x7C, 1, 0xFC, 0xFF, 0x7B}).infinite, 1u);
  EXPECT_EQ(in(DType::kF16, {0, 0x7C, 1, 0xFC, 0xFF, 0x7B}).nan, 1u);
  EXPECT_EQ(in(DType::kBF16, {0x80, 0xFF, 0x81, 0x7F, 0, 0x7C}).infinite, 1u);
  EXPECT_EQ(in(DType::kBF16, {0x80, 0xFF, 0x81, 0x7F, 0, 0x7C}).nan, 1u);
  EXPECT_EQ(in(DType::kF8E5M2, {0x7C, 0xFC, 0x7D, 0xFF, 0x7B}).infinite, 2u);
  EXPECT_EQ(in(DType::kF8E5M2, {0x7C, 0xFC, 0x7D, 0xFF, 0x7B}).nan, 2u);
  EXPECT_EQ(in(DType::kF8E4M3, {0x7F, 0xFF, 0x7E, 0x80}).nan, 2u);
  EXPECT_EQ(in(DType::kF8E4M3Fnuz, {0x7F, 0xFF, 0x80}).nan, 1u);
  EXPECT_EQ(in(DType::kF8E8M0, {0x7F, 0xFF, 0x80}).nan, 1u);
  EXPECT_EQ(in(DType::kC64, {0, 0, 0x80, 0x7F, 1, 0, 0x80, 0x7F}).total(), 2u);
  EXPECT_EQ(in(DType::kI32, {0, 0, 0x80, 0x7F}).total(), 0u);
  EXPECT_EQ(looked_at(DType::kI32), Looked::kNothing);
  EXPECT_EQ(looked_at(DType::kNVFP4), Looked::kNothing);
  EXPECT_EQ(looked_at(DType::kQ1_0), Looked::kUnknown);
  // The scales of two blocks; what else is in them may have any bits.
  for (const auto& [type, at] : {std::pair{DType::kQ8_0, 0}, {DType::kQ6_K, 208}, {DType::kQ2_K, 80}, {DType::kQ2_K, 82}, {DType::kTQ1_0, 52}}) {
    const auto item = static_cast<size_t>(info(type).bytes);
    std::vector<uint8_t> blocks(2 * item, 0xFF);
    ASSERT_EQ(looked_at(type), Looked::kScales);
    const uint64_t per_block = type == DType::kQ2_K ? 2 : 1;
    EXPECT_EQ(in(type, blocks).nan, 2 * per_block) << info(type).name;
    blocks[item + static_cast<size_t>(at)] = blocks[item + static_cast<size_t>(at) + 1] = 0;
    EXPECT_EQ(in(type, blocks).nan, 2 * per_block - 1) << info(type).name;
  }
  // 0x7C00 in the four highest bits of four numbers, the lowest first.
  std::vector<uint8_t> block(static_cast<size_t>(info(DType::kIQ1_M).bytes), 0);
  block[53] = 0xCF, block[55] = 0x7F;
  EXPECT_EQ(in(DType::kIQ1_M, block).infinite, 1u);
  block[49] = 0x10;
  EXPECT_EQ(in(DType::kIQ1_M, block).nan, 1u);
  block[55] = 0x6F;
  EXPECT_EQ(in(DType::kIQ1_M, block).total(), 0u);
}

}  // namespace
}  // namespace ingot::transform
