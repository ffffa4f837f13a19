#include "formats/gguf.h"

#include "formats/formats_testing.h"
#include "formats/gguf_endian.h"
#include "formats/outputs.h"

namespace ingot {
namespace {

using namespace ingot::testing;

void put_text(ByteWriter* w, std::string_view s) {
  w->write<uint64_t>(s.size());
  w->append(s);
}

// The pieces of a file, to be put together wrongly.
struct Raw {
  uint32_t version = 3;
  uint64_t tensors = 1, kvs = 1;
  std::string kv, info, data = std::string(64, 'd');
  std::string bytes(uint64_t alignment = 32) const {
    ByteWriter w;
    w.append("GGUF");
    w.write(version);
    w.write(tensors);
    w.write(kvs);
    w.append(kv);
    w.append(info);
    w.pad_to(alignment);
    w.append(data);
    return w.str();
  }
};

template <class T>
std::string scalar(std::string_view key, uint32_t type, T v) {
  ByteWriter w;
  put_text(&w, key);
  w.write(type);
  w.write(v);
  return w.str();
}

std::string tensor(std::string_view name, std::vector<uint64_t> ne, uint32_t type, uint64_t offset) {
  ByteWriter w;
  put_text(&w, name);
  w.write<uint32_t>(static_cast<uint32_t>(ne.size()));
  for (uint64_t d : ne) w.write(d);
  w.write(type);
  w.write(offset);
  return w.str();
}

Raw good() {
  Raw r;
  r.kv = scalar<uint32_t>("k", 4, 7);
  r.info = tensor("w", {4, 2}, 0, 0);
  r.data = std::string(32, 'd');
  return r;
}

TEST(Gguf, EveryKindOfValueRoundTrips) {
  Artifact a;
  a.format = "gguf";
  const auto put = [&](const char* k, auto v) { a.metadata.emplace_back(k, MetaValue{v}); };
  put("b", true);
  put("u8", uint8_t{200});
  put("i8", int8_t{-5});
  put("u16", uint16_t{60000});
  put("i16", int16_t{-3});
  put("u32", uint32_t{4000000000u});
  put("i32", int32_t{-7});
  put("u64", uint64_t{1} << 60);
  put("i64", int64_t{-1} << 60);
  put("f32", 1.5f);
  put("f64", 2.5);
  put("s", std::string("text \xff with any bytes"));
  put("empty", std::string());
  put("as", std::vector<std::string>{"x", "", "yz"});
  put("ai", std::vector<int32_t>{1, -2});
  put("au", std::vector<uint32_t>{1, 2});
  put("af", std::vector<float>{0.5f});
  put("none", std::vector<int32_t>{});
  put("ab", MetaArray{MetaValue{true}, MetaValue{false}});
  put("a64", MetaArray{MetaValue{uint64_t{9}}});
  // Without elements a list still has their type.
  for (const GgufType t : {GgufType::kBool, GgufType::kU8, GgufType::kI16, GgufType::kU64, GgufType::kF64, GgufType::kArray}) {
    MetaArray none;
    none.empty_of = static_cast<uint32_t>(t);
    put(("none" + std::to_string(none.empty_of)).c_str(), none);
  }
  put("nested", MetaArray{MetaValue{std::vector<int32_t>{1}}, MetaValue{std::vector<int32_t>{2, 3}}});
  a.tensors.push_back({"t", f32_tensor({3, 5}, random_floats(15, 1))});
  a.tensors.push_back({"u", f32_tensor({2, 3, 4}, random_floats(24, 2))});
  auto store = make_memory_store();
  write_output(gguf_output(a, *store, "a.gguf"));
  auto b = open_model(*store, "a.gguf");
  ASSERT_TRUE(b.ok()) << b.error().message;
  ASSERT_EQ(b->metadata.size(), a.metadata.size());
  for (size_t i = 0; i < a.metadata.size(); ++i) EXPECT_EQ(b->metadata[i].first, a.metadata[i].first);
  EXPECT_EQ(std::get<std::string>(b->meta("s")->v), "text \xff with any bytes");
  EXPECT_EQ(std::get<int64_t>(b->meta("i64")->v), int64_t{-1} << 60);
  EXPECT_EQ(std::get<MetaArray>(b->meta("nested")->v).size(), 2u);
  for (const uint32_t t : {7u, 0u, 3u, 10u, 12u, 9u}) EXPECT_EQ(std::get<MetaArray>(b->meta("none" + std::to_string(t))->v).empty_of, t);
  EXPECT_TRUE(b->tensors[0].spec().shape == (Shape{3, 5}));
  EXPECT_TRUE(*evaluate(a.tensors[1].node) == *evaluate(b->tensors[1].node));
  expect_regions_match(b->tensors[1].node, 20, 1);
  // Written again it is the same file.
  write_output(gguf_output(*b, *store, "b.gguf"));
  EXPECT_TRUE(get_file(*store, "a.gguf") == get_file(*store, "b.gguf"));
}

// Made by gguf-py (tests/data/make/gguf_endian.py): each kind of value, each type that its converter turns round.
TEST(Gguf, BigEndianFilesAreTheSameModel) {
  const auto little = open_model(local_store(), INGOT_SOURCE_DIR "/tests/data/gguf/little-endian.gguf");
  const auto big = open_model(local_store(), INGOT_SOURCE_DIR "/tests/data/gguf/big-endian.gguf");
  ASSERT_TRUE(little.ok()) << little.error().message;
  ASSERT_TRUE(big.ok()) << big.error().message;
  ASSERT_GE(big->tensors.size(), 14u);
  auto out = make_memory_store();
  write_output(gguf_output(*little, *out, "little.gguf"));
  write_output(gguf_output(*big, *out, "big.gguf"));
  EXPECT_TRUE(get_file(*out, "little.gguf") == get_file(*out, "big.gguf")) << "keys, shapes and values";
  EXPECT_EQ(std::get<std::vector<int32_t>>(big->meta("a.numbers")->v), (std::vector<int32_t>{1, -2, 3}));
  for (const auto& t : big->tensors) expect_regions_match(t.node, 5, 1);
}

// Blocks of every type, turned round twice.
TEST(Gguf, EveryBlockTypeTurnsRoundAndBack) {
  for (int i = 0; i <= static_cast<int>(DType::kQ2_0); ++i) {
    const TypeInfo& t = info(static_cast<DType>(i));
    if (t.ggml_id < 0) continue;
    std::vector<std::byte> bytes(static_cast<size_t>(t.bytes) * 6);
    for (size_t k = 0; k < bytes.size(); ++k) bytes[k] = static_cast<std::byte>(k * 37 + 1);
    const NodePtr own = make_memory_tensor({t.type, {2, 3 * t.block}}, bytes), turned = little_endian(own);
    EXPECT_TRUE(*evaluate(little_endian(turned)) == bytes) << t.name;
    const bool of_bytes = t.type == DType::kI8 || t.type == DType::kMXFP4 || t.type == DType::kNVFP4;
    EXPECT_EQ(*evaluate(turned) == bytes, of_bytes) << t.name;
  }
}

TEST(Gguf, AlignmentIsKept) {
  Artifact a;
  a.format = "gguf";
  a.metadata.emplace_back("general.alignment", MetaValue{uint32_t{256}});
  a.tensors.push_back({"t", f32_tensor({3}, {1, 2, 3})});
  a.tensors.push_back({"u", f32_tensor({1}, {4})});
  auto store = make_memory_store();
  write_output(gguf_output(a, *store, "a.gguf"));
  EXPECT_EQ(get_file(*store, "a.gguf").size() % 256, 0u);
  auto b = open_model(*store, "a.gguf");
  ASSERT_TRUE(b.ok()) << b.error().message;
  EXPECT_EQ(to_floats(*evaluate(b->tensors[1].node)), std::vector<float>{4});
}

TEST(Gguf, HostileFilesGiveOneClearError) {
  struct Case {
    const char* name;
    std::string bytes;
    const char* message;
  };
  std::vector<Case> cases;
  const auto add = [&](const char* name, Raw r, const char* message) { cases.push_back({name, r.bytes(), message}); };
  Raw r = good();
  r.version = 1, add("version 1", r, "version 1");
  r.version = 0x03000000, add("big-endian lie", r, "claims 72057594037927936 tensors");
  r.version = 9, add("version 9", r, "version 9");
  r = good(), r.tensors = UINT64_MAX, add("tensors", r, "claims 18446744073709551615 tensors");
  r = good(), r.kvs = uint64_t{1} << 60, add("kvs", r, "key-values, more than");
  r = good(), r.tensors = 3, add("tensors 3", r, "tensor");
  r = good(), r.kv += r.kv, r.kvs = 2, add("key twice", r, "'k' stands twice");
  r = good(), r.info += tensor("w", {1}, 0, 32), r.tensors = 2, r.data.resize(64), add("tensor twice", r, "'w' stands twice");
  r = good(), r.kv = scalar<uint32_t>("k", 13, 7), add("kv type", r, "'k' has the unknown type 13");
  r = good(), r.kv = scalar<uint8_t>("k", 7, 2), add("bool", r, "truth value is 2");
  r = good(), r.kv = scalar<uint64_t>("k", 8, uint64_t{1} << 40), add("string", r, "a text is 1099511627776 bytes");
  r = good(), r.kv = scalar<uint64_t>("k", 8, 5000), add("string past the end", r, "truncated");
  const auto array = [](uint32_t of, uint64_t n, std::string_view key = "k") {
    ByteWriter w;
    put_text(&w, key);
    w.write<uint32_t>(9);
    w.write(of);
    w.write(n);
    return w.str();
  };
  r = good(), r.kv = array(4, uint64_t{1} << 40), add("array", r, "claims 1099511627776 elements");
  r = good(), r.kv = array(8, uint64_t{1} << 61), add("array overflow", r, "elements, but only");
  r = good(), r.kv = array(77, 1), add("array of", r, "unknown type 77");
  r = good(), r.kv = array(9, 1);
  for (int i = 0; i < 10; ++i) {
    ByteWriter w;
    w.write<uint32_t>(9);
    w.write<uint64_t>(1);
    r.kv += w.str();
  }
  add("nested arrays", r, "nested too deep");
  r = good(), r.info = tensor("w", {1, 1, 1, 1, 1}, 0, 0), add("5 dims", r, "5 dimensions");
  r = good(), r.info = tensor("w", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0), add("shape", r, "overflows");
  // Found by the fuzzer: the product was 0 in one order and overflowed in the other.
  r = good(), r.info = tensor("w", {0, uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0), add("zero hides overflow", r, "overflows");
  r = good(), r.info = tensor("w", {UINT64_MAX}, 0, 0), add("negative", r, "overflows");
  r = good(), r.info = tensor("w", {4}, 4, 0), add("type", r, "unknown type 4");
  r = good(), r.info = tensor("w", {33}, 2, 0), add("block", r, "expected a multiple of 32");
  r = good(), r.info = tensor("w", {4}, 0, 8), add("misaligned", r, "expected a multiple of 32");
  r = good(), r.info = tensor("w", {4}, 0, 64), add("offset", r, "the file holds only 32");
  r = good(), r.info = tensor("w", {400}, 0, 0), add("truncated data", r, "truncated");
  r = good(), r.info = tensor("w", {4}, 0, ~uint64_t{31}), add("offset overflow", r, "beyond what a file can hold");
  r = good(), r.info = tensor("w", {16}, 0, 0) + tensor("x", {4}, 0, 32), r.tensors = 2, r.data.resize(64), add("overlap", r, "overlap");
  r = good(), r.info = tensor("", {4}, 0, 0), add("no name", r, "name that is empty");
  r = good(), r.kv = scalar<uint32_t>("general.alignment", 4, 3), add("alignment 3", r, "power of two");
  r = good(), r.kv = scalar<uint32_t>("general.alignment", 4, 0), add("alignment 0", r, "power of two");
  r = good(), r.data = "", add("no data", r, "truncated");
  r = good(), r.info = tensor("w", {4}, 0, 64), r.data.resize(96), add("hole before the first", r, "bytes 0 to 64 of the data, before tensor 'w'");
  r = good(), r.info = tensor("w", {4}, 0, 0) + tensor("x", {4}, 0, 64), r.tensors = 2, r.data.resize(96);
  add("hole", r, "bytes 16 to 64 of the data, before tensor 'x', belong to no tensor; expected it to start at 32");
  r = good(), r.data.resize(33), add("one byte more", r, "it has 129 bytes, but what its header tells of ends at byte 128");
  r = good(), r.data.resize(4096), add("many bytes more", r, "bytes were added");
  r = good(), r.tensors = 0, r.info = "", add("data of no tensor", r, "bytes were added");
  r = good(), r.kv = scalar<uint32_t>("split.count", 4, 4000000000u), add("splits", r, "split.count is 4000000000");
  // What takes many times its bytes in memory is bounded, however large the file.
  r = good(), r.kv = "", r.kvs = 70000;
  for (int i = 0; i < 70000; ++i) r.kv += scalar<uint8_t>(fmt::format("{}", i), 0, 1);
  add("many keys", r, "70000 key-values, at most");
  const std::string bytes(3u << 20, 'x');
  r = good(), r.kv = array(0, 3u << 20) + bytes + array(0, 3u << 20, "j") + bytes, r.kvs = 2;
  add("many bytes one by one", r, "hold 6291456 elements, at most");
  r = good(), r.kv = array(8, 17u << 20) + std::string(17u << 23, '\0'), add("many texts", r, "17825792 texts, at most");
  for (const auto& c : cases) {
    auto store = make_memory_store();
    put_file(*store, "dir/bad.gguf", c.bytes);
    auto a = open_model(*store, "dir/bad.gguf");
    ASSERT_FALSE(a.ok()) << c.name;
    EXPECT_EQ(a.error().kind, ErrorKind::kBadInput) << c.name;
    EXPECT_NE(a.error().message.find(c.message), std::string::npos) << c.name << ": " << a.error().message;
    EXPECT_NE(a.error().message.find("dir/bad.gguf"), std::string::npos) << c.name << ": " << a.error().message;
  }
  auto store = make_memory_store();
  put_file(*store, "good.gguf", good().bytes());
  EXPECT_TRUE(open_model(*store, "good.gguf").ok());
}

// What real writers do: the last tensor padded or not, to the alignment or to 32; tensors in another order than their data;
// empty ones; no tensor at all.
TEST(Gguf, LayoutsOfOtherWritersAreFine) {
  std::vector<std::pair<const char*, std::string>> cases;
  Raw r = good();
  r.info = tensor("w", {4}, 0, 0), r.data.resize(16), cases.emplace_back("not padded", r.bytes());
  r.data.resize(32), cases.emplace_back("padded", r.bytes());
  r.kv = scalar<uint32_t>("general.alignment", 4, 8), r.data.resize(16), cases.emplace_back("alignment 8", r.bytes(8));
  r.data.resize(32), cases.emplace_back("alignment 8, padded to 32", r.bytes(8));
  r.kv = scalar<uint32_t>("general.alignment", 4, 4096), r.data.resize(4096), cases.emplace_back("alignment 4096", r.bytes(4096));
  r = good(), r.info = tensor("w", {8}, 0, 32) + tensor("x", {8}, 0, 0), r.tensors = 2, r.data.resize(64);
  cases.emplace_back("another order", r.bytes());
  r.info = tensor("w", {8}, 0, 0) + tensor("x", {0, 4}, 0, 32) + tensor("y", {8}, 0, 32), r.tensors = 3, cases.emplace_back("empty", r.bytes());
  r = good(), r.info = r.data = "", r.tensors = 0, cases.emplace_back("no tensor", r.bytes());
  cases.emplace_back("no tensor, not padded", r.bytes(1));
  for (const auto& [name, bytes] : cases) {
    auto store = make_memory_store();
    put_file(*store, "a.gguf", bytes);
    auto a = open_model(*store, "a.gguf");
    EXPECT_TRUE(a.ok()) << name << ": " << a.error().message;
  }
}

// Who only looks gets what can be read, and is told.
TEST(Gguf, ABrokenFileCanBeLookedAt) {
  Raw r = good();
  r.info = tensor("w", {4}, 0, 0) + tensor("x", {4}, 0, 64) + tensor("y", {4}, 0, 64) + tensor("z", {4}, 0, 128), r.tensors = 4;
  r.data.resize(100);
  auto store = make_memory_store();
  put_file(*store, "bad.gguf", r.bytes());
  EXPECT_FALSE(open_model(*store, "bad.gguf").ok());
  Faults faults;
  auto a = open_model(*store, "bad.gguf", &faults);
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->tensors.size(), 4u);
  std::string all;
  for (const auto& f : faults) all += f + "\n";
  for (const char* part : {"'z' needs bytes 128 to 144", "before tensor 'x'", "'x' and 'y' overlap"})
    EXPECT_NE(all.find(part), std::string::npos) << all;
  EXPECT_TRUE(evaluate(a->tensors[0].node).ok());
  EXPECT_FALSE(evaluate(a->tensors[3].node).ok());
  // A set of which a part is missing.
  r = good(), r.kv = scalar<uint16_t>("split.count", 2, 3), put_file(*store, "m-00001-of-00003.gguf", r.bytes());
  EXPECT_FALSE(open_model(*store, "m-00001-of-00003.gguf").ok());
  faults.clear();
  ASSERT_TRUE(open_model(*store, "m-00001-of-00003.gguf", &faults).ok());
  EXPECT_EQ(faults.size(), 2u);
}

TEST(Gguf, EveryTruncationIsAnError) {
  const std::string bytes = good().bytes();
  for (size_t n = 4; n < bytes.size(); ++n) {
    auto store = make_memory_store();
    put_file(*store, "a.gguf", bytes.substr(0, n));
    EXPECT_FALSE(open_model(*store, "a.gguf").ok()) << n;
  }
}

// Any single flipped bit gives an error or another valid file, never a crash (sanitizers watch).
TEST(Gguf, FlippedBitsAreSurvived) {
  const std::string bytes = good().bytes();
  int errors = 0;
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    std::string b = bytes;
    b[i / 8] = static_cast<char>(b[i / 8] ^ (1 << i % 8));
    auto store = make_memory_store();
    put_file(*store, "a.gguf", b);
    auto a = open_model(*store, "a.gguf");
    if (!a.ok()) ++errors;
    else
      for (const auto& t : a->tensors) EXPECT_TRUE(evaluate(t.node).ok());
  }
  EXPECT_GT(errors, 100);
}

TEST(Gguf, SplitsAreOneModel) {
  auto store = make_memory_store();
  const auto part = [&](int no, int count, const char* name, float v, int tensors = 2) {
    Artifact a;
    a.format = "gguf";
    if (no == 0) a.metadata.emplace_back("general.architecture", MetaValue{std::string("llama")});
    a.metadata.emplace_back("split.no", MetaValue{static_cast<uint16_t>(no)});
    a.metadata.emplace_back("split.count", MetaValue{static_cast<uint16_t>(count)});
    a.metadata.emplace_back("split.tensors.count", MetaValue{int32_t{tensors}});
    a.tensors.push_back({name, f32_tensor({1}, {v})});
    return a;
  };
  write_output(gguf_output(part(0, 2, "a", 1), *store, "m-00001-of-00002.gguf"));
  auto missing = open_model(*store, "m-00001-of-00002.gguf");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("m-00002-of-00002.gguf is not there"), std::string::npos);
  write_output(gguf_output(part(1, 2, "b", 2), *store, "m-00002-of-00002.gguf"));
  auto a = open_model(*store, "m-00001-of-00002.gguf");
  ASSERT_TRUE(a.ok()) << a.error().message;
  ASSERT_EQ(a->tensors.size(), 2u);
  EXPECT_EQ(a->metadata.size(), 1u);
  EXPECT_FALSE(open_model(*store, "m-00002-of-00002.gguf").ok());
  write_output(gguf_output(part(1, 2, "a", 2), *store, "m-00002-of-00002.gguf"));
  EXPECT_FALSE(open_model(*store, "m-00001-of-00002.gguf").ok());
  write_output(gguf_output(part(0, 2, "b", 2), *store, "m-00002-of-00002.gguf"));
  EXPECT_FALSE(open_model(*store, "m-00001-of-00002.gguf").ok());
}

TEST(Gguf, SplitsUnderOtherNamesOrJoinedByTheirBytesSaySo) {
  auto store = make_memory_store();
  std::string joined;
  for (int no : {0, 1}) {
    Artifact a;
    a.metadata = {{"general.architecture", MetaValue{std::string("llama")}}, {"split.no", MetaValue{static_cast<uint16_t>(no)}}, {"split.count", MetaValue{uint16_t{2}}}};
    a.tensors.push_back({no ? "b" : "a", f32_tensor({1}, {1})});
    const auto files = render(gguf_output(a, *store, "m"));
    if (no == 0) put_file(*store, "model.gguf", files.begin()->second);
    joined += files.begin()->second;
  }
  put_file(*store, "joined.gguf", joined);
  for (const auto& [path, part] : {std::pair{"model.gguf", "it is the first of a set of 2 files, but has not the name of one"}, {"joined.gguf", "another GGUF file begins: files were joined"}}) {
    const auto a = open_model(*store, path);
    ASSERT_FALSE(a.ok());
    EXPECT_NE(a.error().message.find(part), std::string::npos) << a.error().message;
  }
}

TEST(Gguf, SplitsOpenInFewRoundTrips) {
  auto store = make_memory_store();
  Artifact a;
  a.format = a.naming = "gguf";
  a.metadata.emplace_back("general.architecture", MetaValue{std::string("llama")});
  for (int i = 0; i < 100; ++i) a.tensors.push_back({fmt::format("t{}", i), f32_tensor({8}, random_floats(8, 1))});
  const auto opened = [&](uint64_t limit, std::chrono::milliseconds latency, SlowCounts* counts) {
    auto parts = gguf_outputs(a, *store, "m.gguf", limit);
    for (const Output& o : *parts) write_output(o);
    auto far = make_slow_store(*store, {latency, 16, 1 << 20}, counts);
    auto b = open_model(*far, fmt::format("m-00001-of-{:05}.gguf", parts->size()));
    ASSERT_TRUE(b.ok()) << b.error().message;
    EXPECT_EQ(b->naming, "gguf");
    ASSERT_EQ(b->tensors.size(), 100u);
    for (size_t i = 0; i < 100; ++i) EXPECT_EQ(b->tensors[i].name, a.tensors[i].name);
    EXPECT_EQ(counts->calls, 1 + 2 * parts->size());
  };
  SlowCounts eight, hundred;
  opened(13 * 32, std::chrono::milliseconds(30), &eight);
  EXPECT_EQ(eight.calls, 1u + 2 * 8);
  EXPECT_LE(eight.rounds, 7u);  // 5 where every thread starts in time: it is no directory; open and read of the first; of the rest
  opened(1, std::chrono::milliseconds(0), &hundred);
}

// A set that claims thousands of parts and has none: a few are looked for, and the first is told.
TEST(Gguf, ManyMissingPartsAreSoonFound) {
  auto store = make_memory_store();
  Raw r = good();
  r.kv = scalar<uint16_t>("split.count", 2, 60000), put_file(*store, "m-00001-of-60000.gguf", r.bytes());
  SlowCounts counts;
  auto far = make_slow_store(*store, {std::chrono::milliseconds(0), 4, 1}, &counts);
  auto a = open_model(*far, "m-00001-of-60000.gguf");
  ASSERT_FALSE(a.ok());
  EXPECT_NE(a.error().message.find("m-00002-of-60000.gguf is not there"), std::string::npos) << a.error().message;
  EXPECT_LT(counts.calls, 200u);
}

// As llama-gguf-split lays a set out: its names, its keys in its order and types, the metadata in the first file alone, a new
// file when the next tensor (padded to 32 bytes) would not fit.
TEST(Gguf, SplitsAreLaidOutAsLlamaGgufSplitDoes) {
  auto store = make_memory_store();
  Artifact a;
  a.format = "gguf";
  a.metadata.emplace_back("general.architecture", MetaValue{std::string("llama")});
  a.metadata.emplace_back("split.count", MetaValue{uint16_t{1}});  // of a set of one
  a.metadata.emplace_back("k", MetaValue{uint32_t{1}});
  const int64_t sizes[] = {8, 9, 100, 1, 8, 8};  // in floats: 32, 64, 416, 32, 32, 32 bytes
  for (int i = 0; i < 6; ++i) a.tensors.push_back({fmt::format("t{}", i), f32_tensor({sizes[i]}, random_floats(sizes[i], 1))});
  auto parts = gguf_outputs(a, *store, "d/m.gguf", 96);
  ASSERT_TRUE(parts.ok()) << parts.error().message;
  ASSERT_EQ(parts->size(), 3u);
  const std::vector<std::vector<std::string>> want = {{"t0", "t1"}, {"t2"}, {"t3", "t4", "t5"}};
  for (size_t i = 0; i < 3; ++i) {
    const Output& o = (*parts)[i];
    EXPECT_EQ(o.path, fmt::format("d/m-{:05}-of-00003.gguf", i + 1));
    ASSERT_EQ(o.artifact.tensors.size(), want[i].size()) << i;
    for (size_t k = 0; k < want[i].size(); ++k) EXPECT_EQ(o.artifact.tensors[k].name, want[i][k]);
    const auto& kv = o.artifact.metadata;
    const size_t own = i == 0 ? 2 : 0;
    ASSERT_EQ(kv.size(), own + 3);
    EXPECT_EQ(kv[own].first, "split.no");
    EXPECT_EQ(std::get<uint16_t>(kv[own].second.v), i);
    EXPECT_EQ(kv[own + 1].first, "split.tensors.count");
    EXPECT_EQ(std::get<int32_t>(kv[own + 1].second.v), 6);
    EXPECT_EQ(kv[own + 2].first, "split.count");
    EXPECT_EQ(std::get<uint16_t>(kv[own + 2].second.v), 3);
    write_output(o);
  }
  auto b = open_model(*store, "d/m-00001-of-00003.gguf");
  ASSERT_TRUE(b.ok()) << b.error().message;
  ASSERT_EQ(b->tensors.size(), 6u);
  EXPECT_EQ(b->metadata.size(), 2u);
  for (size_t i = 0; i < 6; ++i) EXPECT_TRUE(*evaluate(a.tensors[i].node) == *evaluate(b->tensors[i].node));
  // What fits stays one file under its own name, as without a limit.
  for (const uint64_t limit : {uint64_t{0}, uint64_t{608}}) {
    auto one = gguf_outputs(a, *store, "d/m.gguf", limit);
    ASSERT_TRUE(one.ok());
    ASSERT_EQ(one->size(), 1u) << limit;
    EXPECT_EQ((*one)[0].path, "d/m.gguf");
    EXPECT_EQ((*one)[0].artifact.metadata.size(), 3u);
  }
  EXPECT_EQ(gguf_outputs(a, *store, "d/m.gguf", 607)->size(), 2u);
  a.tensors = std::vector<LazyTensor>(70000, a.tensors[0]);
  EXPECT_FALSE(gguf_outputs(a, *store, "m.gguf", 1).ok());
}

TEST(Gguf, WhatCannotBeWrittenIsRefused) {
  Artifact a;
  EXPECT_FALSE(layout_gguf(a, {{"t", {DType::kU8, {1}}}}).ok());
  EXPECT_FALSE(layout_gguf(a, {{std::string(64, 'n'), {DType::kF32, {1}}}}).ok());
  EXPECT_TRUE(layout_gguf(a, {{std::string(63, 'n'), {DType::kF32, {1}}}}).ok());
  EXPECT_FALSE(layout_gguf(a, {{"t", {DType::kF32, {1, 1, 1, 1, 1}}}}).ok());
  EXPECT_FALSE(layout_gguf(a, {{"t", {DType::kF32, {1}}}, {"t", {DType::kF32, {1}}}}).ok());
  a.metadata.emplace_back("mixed", MetaValue{MetaArray{MetaValue{true}, MetaValue{1.0}}});
  EXPECT_FALSE(layout_gguf(a, {}).ok());
}

}  // namespace
}  // namespace ingot
