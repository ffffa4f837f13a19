#include "transform/content_hash.h"

#include <set>

#include "commit/verify.h"
#include "transform/cast.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/quantize.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

struct Hashed {
  std::string exact, value;
  std::vector<std::string> tensors;  // exact, by name
  uint64_t source_bytes = 0;
  friend bool operator==(const Hashed& a, const Hashed& b) { return a.exact == b.exact && a.value == b.value; }
};

Hashed hashed(const Artifact& a, int threads = 2, int64_t tile = 0) {
  const auto what = content_hash(a);
  EXPECT_TRUE(what.ok()) << what.error().message;
  const auto journal = make_memory_store();
  ExecOptions o;
  o.threads = threads;
  o.tile_elements = tile;
  o.memory = 64 << 20;
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const auto report = run_job({what->output}, o);
  EXPECT_TRUE(report.ok()) << report.error().message;
  if (!report.ok()) return {};
  EXPECT_FALSE(is_there(*journal, "journal"));
  const ContentHash::Roots roots = [&](size_t f) { return report->digests[0][f]; };
  Hashed h{hash_of(what->exact, roots), hash_of(what->value, roots), {}, report->source_bytes};
  for (const auto& t : what->exact) h.tensors.push_back(t.hash(roots));
  return h;
}

std::string hash_text(const std::string& text) { return to_hex(hash128(as_bytes(text))); }

// The definition in docs/formats/hashes.md, step by step, and the numbers that stand there.
TEST(ContentHash, IsWhatTheDocumentDefines) {
  const std::string doc = *read_text(local_store(), INGOT_SOURCE_DIR "/docs/formats/hashes.md");
  const auto expect_told = [&](const std::string& text) { EXPECT_NE(doc.find(text), std::string::npos) << text; };
  Artifact a;
  a.naming = "hf";
  a.tensors.push_back({"b", make_memory_tensor({DType::kU8, {1048577}}, std::vector<std::byte>(1048577))});
  a.tensors.push_back({"a.weight", typed_tensor(DType::kBF16, {2, 2}, {1, 2, 3, 4})});
  const auto leaf = [](const std::string& bytes) {
    const Hash128 h = hash128(as_bytes(bytes));
    std::string out(16, '\0');
    for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(h.lo >> 8 * i), out[8 + i] = static_cast<char>(h.hi >> 8 * i);
    return out;
  };
  const auto tensor = [&](const std::string& type_and_shape, const std::string& leaves) {
    expect_told(type_and_shape + " " + hash_text(leaves));
    const std::string hash = hash_text(type_and_shape + " " + hash_text(leaves));
    expect_told(hash);
    return hash;
  };
  const std::string narrow("\x80\x3f\x00\x40\x40\x40\x80\x40", 8), wide("\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40", 16);
  expect_told("its 8 bytes | `" + hash_text(narrow));
  const std::string bf16 = tensor("BF16 [2, 2]", leaf(narrow)), f32 = tensor("F32 [2, 2]", leaf(wide));
  const std::string zeros = tensor("U8 [1048577]", leaf(std::string(1048576, '\0')) + leaf(std::string(1, '\0')));
  const Hashed h = hashed(a);
  EXPECT_EQ(h.tensors, (std::vector<std::string>{bf16, zeros}));
  EXPECT_EQ(h.exact, hash_text("a.weight " + bf16 + "\nb " + zeros + "\n"));
  EXPECT_EQ(h.value, hash_text("a.weight " + f32 + "\nb " + zeros + "\n"));
  expect_told(h.exact);
  expect_told(h.value);
}

TEST(ContentHash, BaseItsBf16GgufAndItsF32GgufHaveOneValue) {
  const Artifact base = example_base(), gguf = *to_gguf(base), wide = *quantize_gguf(gguf, "F32");
  const Hashed h = hashed(base);
  std::set<std::string> exact = {h.exact};
  for (const Artifact& same : {gguf, wide, *cast_floats(base, DType::kF32)}) {
    EXPECT_EQ(hashed(same).value, h.value);
    exact.insert(hashed(same).exact);
  }
  EXPECT_EQ(exact.size(), 4u);
  // What is another model has another value.
  std::set<std::string> values = {h.value};
  const Artifact merged = *lora_merge(base, {{example_adapter("lora-code"), 1}});
  for (const Artifact& other : {*quantize_gguf(gguf, "Q8_0"), *quantize_gguf(gguf, "F16"), merged, *cast_like(merged, base)})
    values.insert(hashed(other).value);
  EXPECT_EQ(values.size(), 5u);
}

TEST(ContentHash, OneBitOneNameOrOneRowChangesIt) {
  const auto tensor = [](uint8_t bit, Shape shape) {
    std::vector<std::byte> bytes(3 << 20);
    bytes[2500000] = static_cast<std::byte>(bit);
    return make_memory_tensor({DType::kU8, shape}, std::move(bytes));
  };
  const Shape shape = {3, 1 << 20};
  const auto hash = [&](const std::string& name, uint8_t bit, Shape s) {
    Artifact a;
    a.tensors = {{"other", f32_tensor({2}, {1, 2})}, {name, tensor(bit, s)}};
    return hashed(a).exact;
  };
  const std::string h = hash("t", 0, shape);
  EXPECT_EQ(hash("t", 0, shape), h);
  EXPECT_NE(hash("t", 1, shape), h);
  EXPECT_NE(hash("u", 0, shape), h);
  EXPECT_NE(hash("t", 0, {1 << 20, 3}), h);
}

TEST(ContentHash, DependsOnNeitherOrderThreadsNorTilesAndReadsEachByteOnce) {
  const Artifact base = example_base();
  Artifact turned = base;
  turned.tensors.edit([](auto& all) { std::reverse(all.begin(), all.end()); });
  const Hashed h = hashed(base);
  uint64_t bytes = 0;
  for (const auto& t : base.tensors) bytes += bytes_of(t.spec());
  EXPECT_EQ(h.source_bytes, bytes);
  EXPECT_EQ(hashed(turned), h);
  EXPECT_EQ(hashed(base, 1), h);
  EXPECT_EQ(hashed(base, 7, 1000), h);
}

TEST(ContentHash, OddShapes) {
  Artifact a, b;
  a.tensors = {{"empty", make_memory_tensor({DType::kF16, {0, 4}}, {})}, {"one", f32_tensor({}, {5})}};
  b.tensors = {{"empty", make_memory_tensor({DType::kF16, {0, 4}}, {})}, {"one", f32_tensor({1}, {5})}};
  EXPECT_EQ(hashed(a), hashed(b)) << "GGUF has no tensors without a dimension";
  EXPECT_EQ(hashed(Artifact()).exact, hash_text(""));
}

}  // namespace
}  // namespace ingot::transform
