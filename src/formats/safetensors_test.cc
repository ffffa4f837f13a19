#include "formats/safetensors.h"

#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "formats/formats_testing.h"
#include "formats/json.h"
#include "formats/outputs.h"
#include "storage/forwarding.h"

namespace ingot {
namespace {

using namespace ingot::testing;

std::string st_file(const std::string& header, const std::string& data) {
  ByteWriter w;
  w.write<uint64_t>(header.size());
  w.append(header);
  w.append(data);
  return w.str();
}

TEST(Safetensors, RealFilesAreWrittenBackByteForByte) {
  for (const char* path : {"/examples/lora-code/adapter_model.safetensors", "/examples/tiny-llama-base/model.safetensors"}) {
    const std::string file = INGOT_SOURCE_DIR + std::string(path);
    auto a = open_model(local_store(), file);
    ASSERT_TRUE(a.ok()) << a.error().message;
    EXPECT_EQ(a->format, "safetensors");
    EXPECT_EQ(a->naming, "hf");
    auto memory = make_memory_store();
    const auto files = render(safetensors_output(*a, *memory, "x.safetensors"));
    ASSERT_EQ(files.size(), 1u);
    EXPECT_TRUE(files.begin()->second == get_file(local_store(), file)) << path;
  }
}

// What the safetensors package writes for {"b": i64 [1], "a": f32 [2], "c": bf16 [3], "empty": f32 [0, 4], "s": f16 []}.
TEST(Safetensors, WritesTheReferencesBytes) {
  std::vector<NamedSpec> specs = {{"c", {DType::kBF16, {3}}},
                                  {"s", {DType::kF16, {}}},
                                  {"a", {DType::kF32, {2}}},
                                  {"empty", {DType::kF32, {0, 4}}},
                                  {"b", {DType::kI64, {1}}}};
  auto l = layout_safetensors(specs);
  ASSERT_TRUE(l.ok());
  std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"empty":{"dtype":"F32","shape":[0,4],"data_offsets":[16,16]},)"
      R"("c":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"s":{"dtype":"F16","shape":[],"data_offsets":[22,24]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(l->files[0].extents[0].bytes, st_file(header, ""));
  EXPECT_EQ(l->files[0].size, 8 + header.size() + 24);
  EXPECT_EQ(l->tensors[0].offset, 8 + header.size() + 16);
}

TEST(Safetensors, ReadsRegions) {
  auto store = make_memory_store();
  const auto v = random_floats(7 * 300 * 5, 1);
  Artifact a;
  a.format = "safetensors";
  a.tensors.push_back({"x", f32_tensor({7, 300, 5}, v)});
  a.tensors.push_back({"scalar", f32_tensor({}, {3})});
  a.tensors.push_back({"wide", f32_tensor({200, 3000}, random_floats(600000, 2))});
  write_output(safetensors_output(a, *store, "d/m.safetensors"));
  auto b = open_model(*store, "d/m.safetensors");
  ASSERT_TRUE(b.ok()) << b.error().message;
  ASSERT_EQ(b->tensors.size(), 3u);
  for (const auto& t : a.tensors) {
    const auto* got = b->find(t.name);
    ASSERT_NE(got, nullptr);
    auto x = evaluate(t.node), y = evaluate(got->node);
    ASSERT_TRUE(x.ok() && y.ok());
    EXPECT_TRUE(*x == *y) << t.name;
    expect_regions_match(got->node, 50, 3);
  }
}

// What safetensors reads, too.
TEST(Safetensors, HeadersThatSayMoreThanTheyMust) {
  const std::string w = R"("dtype":"U8","shape":[2],"data_offsets":[0,2])";
  for (const std::string& header : {R"({"__metadata__":null,"w":{)" + w + "}}", R"({"w":{)" + w + R"(,"note":"x","n":-1.5,"none":null,"on":true}})",
                                    R"({"w":{"more":{"dtype":["F32",{"a":null}],"shape":{}},"more":[[],{}],)" + w + R"(},"__metadata__":{"a":"b"}})"}) {
    auto store = make_memory_store();
    put_file(*store, "m.safetensors", st_file(header, "xy"));
    const auto a = open_model(*store, "m.safetensors");
    ASSERT_TRUE(a.ok()) << header << ": " << a.error().message;
    ASSERT_TRUE(a->find("w")) << header;
    EXPECT_TRUE(a->find("w")->spec() == (TensorSpec{DType::kU8, {2}})) << header;
  }
}

// safetensors.torch.save_model of {"lm_head.weight", "a.weight"} over one storage, "b" and "none" (empty: it is shared with nothing).
TEST(Safetensors, NamesOfOneTensorAreOneTensor) {
  const NodePtr tied = f32_tensor({2}, {1, 2}), empty = f32_tensor({0}, {});
  Artifact a;
  a.tensors = {{"lm_head.weight", tied}, {"a.weight", tied}, {"b", f32_tensor({1}, {3})}, {"none", empty}, {"nothing", empty}};
  auto store = make_memory_store();
  const auto files = render(safetensors_output(a, *store, "m.safetensors"));
  std::string header = R"({"__metadata__":{"format":"pt","lm_head.weight":"a.weight"},"a.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"none":{"dtype":"F32","shape":[0],"data_offsets":[12,12]},)"
                       R"("nothing":{"dtype":"F32","shape":[0],"data_offsets":[12,12]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(files.begin()->second.substr(0, 8 + header.size()), st_file(header, ""));
  EXPECT_EQ(files.begin()->second.size(), 8 + header.size() + 12);
  put_file(*store, "m.safetensors", files.begin()->second);
  const auto b = open_model(*store, "m.safetensors");
  ASSERT_TRUE(b.ok()) << b.error().message;
  ASSERT_EQ(b->tensors.size(), 5u);
  EXPECT_EQ(b->find("lm_head.weight")->node, b->find("a.weight")->node);
  ASSERT_EQ(b->metadata.size(), 1u);
  EXPECT_EQ(b->metadata[0].first, "format");
  EXPECT_EQ(render(safetensors_output(*b, *store, "m.safetensors")), files);
}

TEST(Safetensors, ATieOfNamesThatEndOtherwiseIsToldOf) {
  const std::string tensor = R"("b.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  auto store = make_memory_store();
  for (const auto& [key, tensors, notices] : {std::tuple{"base", 2u, 1u}, {"c.weight", 2u, 0u}, {"a.weight", 2u, 0u}, {"format", 1u, 0u}}) {
    put_file(*store, "m.safetensors", st_file(fmt::format(R"({{"__metadata__":{{"{}":"b.weight"}},)", key) + tensor, "abcd"));
    const auto a = open_model(*store, "m.safetensors");
    ASSERT_TRUE(a.ok()) << a.error().message;
    EXPECT_EQ(a->tensors.size(), tensors) << key;
    EXPECT_EQ(a->notices.size(), notices) << key;
  }
}

struct Hostile {
  const char* name;
  std::string bytes;
  const char* message;  // a part of it
};

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets, size_t data) {
  return st_file(fmt::format(R"({{"w":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype, shape, offsets),
                 std::string(data, 'x'));
}

TEST(Safetensors, HostileFilesGiveOneClearError) {
  const std::string two = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":)";
  ByteWriter huge;
  huge.write<uint64_t>(UINT64_MAX);
  huge.append("{}");
  ByteWriter past;
  past.write<uint64_t>(1000);
  past.append("{}");
  std::string deep = "{\"w\":";
  deep += std::string(100000, '[');
  const Hostile cases[] = {
      {"short", "abc", "3 bytes"},
      {"huge header", huge.str(), "limit of 100000000"},
      {"header past the end", past.str(), "claims 1000 bytes, but only 2"},
      {"no json", st_file("{nope}", ""), "not valid JSON"},
      {"trailing", st_file("{} {}", ""), "not valid JSON"},
      {"bad utf8", st_file("{\"\xff\":1}", ""), "not valid JSON"},
      {"array", st_file("[1]", ""), "may not be a list"},
      {"number for tensor", st_file("{\"w\":3}", ""), "the entry 'w' may not be 3"},
      {"deep", st_file(deep, ""), "may not be a list"},
      {"duplicate tensor", st_file(two + "[4,8]},\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}}", "12345678"), "'a' stands twice"},
      {"duplicate key", st_file(R"({"w":{"dtype":"U8","dtype":"U8"}})", ""), "'dtype' of 'w' stands twice"},
      {"misspelt key", st_file(R"({"w":{"dtyp":"U8","shape":[1],"data_offsets":[0,1]}})", "x"), "'w' has no dtype"},
      {"zeros after the header", st_file(std::string("{}\0\0\0\0\0\0", 8), ""), "not valid JSON (byte 3 of it)"},
      {"zero and more", st_file(std::string("{}\0{\"evil\":1}", 13), ""), "not valid JSON (byte 3 of it)"},
      {"null for a tensor", st_file(R"({"w":null})", ""), "may not be null"},
      {"null for a text", st_file(R"({"__metadata__":{"a":null}})", ""), "may not be null"},
      {"65 dims", one("U8", "[" + [] { std::string s = "1"; for (int i = 1; i < 65; ++i) s += ",1"; return s; }() + "]", "[0,1]", 1), "at most 8 dimensions are supported"},
      {"missing", st_file(R"({"w":{"dtype":"U8","shape":[1]}})", "x"), "no data_offsets"},
      {"dtype", one("Q9", "[1]", "[0,1]", 1), "dtype 'Q9'"},
      {"negative", one("U8", "[-1]", "[0,1]", 1), "may not be -1"},
      {"float", one("U8", "[1.5]", "[0,1]", 1), "may not be 1.5"},
      {"overflow", one("F32", "[4294967296,4294967296,4294967296]", "[0,4]", 4), "overflows"},
      {"overflow 2", one("F64", "[9223372036854775807]", "[0,4]", 4), "overflows"},
      {"zero hides overflow", one("F64", "[0,18446744073709551615]", "[0,0]", 0), "overflows"},
      {"zero first hides overflow", one("U8", "[0,4294967296,4294967296]", "[0,0]", 0), "overflows"},
      {"9 dims", one("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]", 1), "9 dimensions"},
      {"size", one("F32", "[2]", "[0,4]", 4), "has 4 bytes in the file, but F32 [2] needs 8"},
      {"truncated", one("U8", "[8]", "[0,8]", 5), "ends at byte 8 of the data, but the file holds only 5"},
      {"backwards", one("U8", "[1]", "[1,0]", 1), "not [begin, end]"},
      {"one offset", one("U8", "[1]", "[0]", 1), "not [begin, end]"},
      {"odd nibbles", one("F4", "[3]", "[0,1]", 1), "whole bytes"},
      {"overlap", st_file(two + "[2,6]}}", "123456"), "'a' and 'b' overlap"},
      {"hole", st_file(two + "[5,9]}}", "123456789"), "belong to no tensor"},
      {"tail", st_file(two + "[4,8]}}", "123456789"), "bytes were added"},
      {"metadata", st_file(R"({"__metadata__":{"a":1}})", ""), "may not be 1: of all of it the format has texts alone"},
  };
  for (const auto& c : cases) {
    auto store = make_memory_store();
    put_file(*store, "dir/bad.safetensors", c.bytes);
    auto a = open_model(*store, "dir/bad.safetensors");
    ASSERT_FALSE(a.ok()) << c.name;
    EXPECT_EQ(a.error().kind, ErrorKind::kBadInput) << c.name;
    EXPECT_NE(a.error().message.find(c.message), std::string::npos) << c.name << ": " << a.error().message;
    EXPECT_NE(a.error().message.find("dir/bad.safetensors"), std::string::npos) << c.name << ": " << a.error().message;
  }
}

TEST(Safetensors, EveryTruncationOfARealHeaderIsAnError) {
  const std::string good = one("F32", "[2,3]", "[0,24]", 24);
  for (size_t n = 1; n < good.size(); ++n) {
    auto store = make_memory_store();
    put_file(*store, "a.safetensors", good.substr(0, n));
    EXPECT_FALSE(open_model(*store, "a.safetensors").ok()) << n;
  }
}

Artifact four_tensors() {
  Artifact a;
  a.format = "safetensors";
  for (const char* n : {"a", "b", "c", "d"}) a.tensors.push_back({n, f32_tensor({10}, random_floats(10, static_cast<uint64_t>(n[0])))});
  a.files["config.json"] = "{\"zeta\": 1, \"torch_dtype\": \"bfloat16\"}";
  a.files["tokenizer.json"] = "{}";
  return a;
}

TEST(HfDirectory, ShardsAndIndexRoundTrip) {
  auto store = make_memory_store();
  const Artifact a = four_tensors();
  write_output(hf_directory_output(a, *store, "m", 85));
  EXPECT_EQ(get_file(*store, "m/model.safetensors.index.json"),
            "{\n  \"metadata\": {\n    \"total_parameters\": 40,\n    \"total_size\": 160\n  },\n  \"weight_map\": {\n"
            "    \"a\": \"model-00001-of-00002.safetensors\",\n    \"b\": \"model-00001-of-00002.safetensors\",\n"
            "    \"c\": \"model-00002-of-00002.safetensors\",\n    \"d\": \"model-00002-of-00002.safetensors\"\n  }\n}\n");
  // The order of the keys stays, the type is that of the weights.
  EXPECT_EQ(get_file(*store, "m/config.json"), "{\n  \"zeta\": 1,\n  \"torch_dtype\": \"float32\"\n}\n");
  auto b = open_model(*store, "m/");
  ASSERT_TRUE(b.ok()) << b.error().message;
  EXPECT_EQ(b->tensors.size(), 4u);
  EXPECT_EQ(b->files.size(), 2u);
  for (const auto& t : a.tensors) EXPECT_TRUE(*evaluate(t.node) == *evaluate(b->find(t.name)->node));
  // A tensor larger than the limit has a shard of its own; one shard needs no index.
  write_output(hf_directory_output(a, *store, "n", 1));
  EXPECT_TRUE(is_there(*store, "n/model-00004-of-00004.safetensors"));
  write_output(hf_directory_output(a, *store, "o"));
  EXPECT_TRUE(is_there(*store, "o/model.safetensors"));
  EXPECT_FALSE(is_there(*store, "o/model.safetensors.index.json"));
}

// All of a directory as one looks from far away: what it lists, then every file of it at once.
TEST(HfDirectory, OpensInFewRoundTrips) {
  auto store = make_memory_store();
  Artifact a = four_tensors();
  for (const char* name : {"generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"}) a.files[name] = "{}";
  write_output(hf_directory_output(a, *store, "m", 1));
  write_output(hf_directory_output(a, *store, "one"));
  put_file(*store, "m/README.md", "not asked for");
  ASSERT_TRUE(is_there(*store, "m/model-00004-of-00004.safetensors"));
  SlowCounts counts;
  auto far = make_slow_store(*store, SlowOptions(), &counts);
  auto b = open_model(*far, "m");
  ASSERT_TRUE(b.ok()) << b.error().message;
  EXPECT_EQ(b->tensors.size(), 4u);
  EXPECT_EQ(b->files.size(), 6u);
  EXPECT_EQ(counts.calls, 1u + 2 * (1 + 4 + 6));  // a list; an open and a read of index, shards and side files
  EXPECT_LE(counts.rounds, 5u);                   // 3 where every thread starts in time
  SlowCounts single;
  far = make_slow_store(*store, SlowOptions(), &single);
  ASSERT_TRUE(open_model(*far, "one").ok());
  EXPECT_EQ(single.calls, 1u + 2 * (1 + 6));
  EXPECT_LE(single.rounds, 5u);
}

TEST(HfDirectory, TheFolderOfChatTemplatesTravels) {
  auto store = make_memory_store();
  Artifact a = four_tensors();
  a.files = {{"additional_chat_templates/rag.jinja", "R"}, {"additional_chat_templates/tool_use.jinja", "T"}};
  write_output(hf_directory_output(a, *store, "m"));
  put_file(*store, "m/additional_chat_templates/notes.txt", "no template");
  put_file(*store, "m/additional_chat_templates/deeper.jinja/x", "a folder");
  auto b = open_model(*store, "m");
  ASSERT_TRUE(b.ok()) << b.error().message;
  EXPECT_EQ(b->files, a.files);
}

TEST(HfDirectory, OneAtATimeIsFineToo) {
  auto store = make_memory_store();
  write_output(hf_directory_output(four_tensors(), *store, "m", 1));
  SlowCounts counts;
  auto far = make_slow_store(*store, {std::chrono::milliseconds(0), 1, 1}, &counts);
  auto a = open_model(*far, "m");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->tensors.size(), 4u);
  EXPECT_EQ(counts.rounds, counts.calls);
}

// A header longer than what the first read brings.
TEST(Safetensors, ALongHeaderTakesASecondRead) {
  auto store = make_memory_store();
  Artifact a;
  for (int i = 0; i < 2000; ++i) a.tensors.push_back({fmt::format("a.rather.long.name.of.a.tensor.{}", i), f32_tensor({1}, {static_cast<float>(i)})});
  write_output(safetensors_output(a, *store, "m.safetensors"));
  SlowCounts counts;
  auto far = make_slow_store(*store, {std::chrono::milliseconds(0), 1, 1}, &counts);
  auto b = open_model(*far, "m.safetensors");
  ASSERT_TRUE(b.ok()) << b.error().message;
  EXPECT_EQ(counts.calls, 4u);  // it is no directory; open, read, read
  ASSERT_EQ(b->tensors.size(), 2000u);
  for (int i : {0, 1, 777, 1999}) EXPECT_EQ(to_floats(*evaluate(b->find(a.tensors[i].name)->node)), std::vector<float>{static_cast<float>(i)});
}

// A few columns of a wide matrix lie far apart: on a local disk what lies between is not read, or each tile of a transposed matrix would read all of it. Where a
// request is dear it is.
TEST(Safetensors, ColumnsAreReadAlone) {
  auto store = make_memory_store();
  Artifact a;
  const int64_t rows = 64, columns = 4096;  // 16 KiB a row
  std::vector<float> values(static_cast<size_t>(rows * columns));
  std::iota(values.begin(), values.end(), 0.f);
  a.tensors.push_back({"w", f32_tensor({rows, columns}, values)});
  write_output(safetensors_output(a, *store, "m.safetensors"));
  SlowCounts counts;
  auto far = make_slow_store(*store, {std::chrono::milliseconds(0), 1, 1 << 20}, &counts);
  for (Store* from : {store.get(), far.get()}) {
    const auto b = open_model(*from, "m.safetensors");
    ASSERT_TRUE(b.ok()) << b.error().message;
    const auto source = std::dynamic_pointer_cast<const Source>(b->find("w")->node);
    ASSERT_TRUE(source);
    for (const auto& [first, n] : {std::pair<int64_t, int64_t>{0, 1}, {100, 32}, {0, 2040}, {4000, 96}}) {
      const Region region{{0, first}, {rows, n}};
      std::vector<float> out(static_cast<size_t>(rows * n));
      const auto read = source->read(region, std::as_writable_bytes(std::span(out)));
      ASSERT_TRUE(read.ok());
      const auto wanted = static_cast<uint64_t>(rows * n * 4);
      if (from == store.get()) EXPECT_LE(*read, 2 * wanted) << first << " " << n;
      else EXPECT_GT(*read, static_cast<uint64_t>((rows - 1) * columns * 4));
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < n; ++c) ASSERT_EQ(out[static_cast<size_t>(r * n + c)], static_cast<float>(r * columns + first + c));
    }
  }
}

// Whichever thread is first: the error is of the first shard that has one, and of weights before side files.
TEST(HfDirectory, TheErrorIsTheSameWhoeverMeetsOneFirst) {
  class Turned final : public ForwardingStore {  // the earlier in the alphabet the later it answers
   public:
    using ForwardingStore::ForwardingStore;
    Result<std::unique_ptr<ReadFile>> open(const std::string& path) override {
      const size_t digit = path.find("-of-");
      if (digit != std::string::npos) std::this_thread::sleep_for(std::chrono::milliseconds(('9' - path[digit - 1]) * 4));
      return ForwardingStore::open(path);
    }
    Capabilities capabilities() const override {
      Capabilities c = ForwardingStore::capabilities();
      c.requests = 8, c.request_bytes = 1 << 20;
      return c;
    }
  };
  auto store = make_memory_store();
  write_output(hf_directory_output(four_tensors(), *store, "m", 1));
  put_file(*store, "m/stray.safetensors", "broken, and of no interest");
  ASSERT_TRUE(open_model(*store, "m").ok());
  for (const char* shard : {"4", "2", "3"}) put_file(*store, fmt::format("m/model-0000{}-of-00004.safetensors", shard), "no");
  Turned turned(*store);
  for (int i = 0; i < 3; ++i) {
    auto a = open_model(turned, "m");
    ASSERT_FALSE(a.ok());
    EXPECT_NE(a.error().message.find("model-00002-of-00004.safetensors"), std::string::npos) << a.error().message;
  }
}

// "./model-00001-of-00002.safetensors" and the like, as os.path.join takes them.
TEST(HfDirectory, FilesOfAnIndexMayHaveDots) {
  auto store = make_memory_store();
  write_output(hf_directory_output(four_tensors(), *store, "m", 85));
  std::string index = get_file(*store, "m/model.safetensors.index.json");
  size_t n = 0;
  for (size_t at = 0; (at = index.find(": \"model-", at)) != std::string::npos; at += 10, ++n) index.insert(at + 3, n % 2 ? "./" : "sub/..//./");
  EXPECT_EQ(n, 4u);
  put_file(*store, "m/model.safetensors.index.json", index);
  const auto a = open_model(*store, "m");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->tensors.size(), 4u);
  EXPECT_TRUE(a->notices.empty()) << a->notices[0];
}

// The shards of huggingface_hub's split_torch_state_dict_into_shards of tensors of 40, 100, 60, 50, 100 and 10 bytes with max_shard_size=100 and 99.
TEST(HfDirectory, ATensorLargerThanAShardIsOneAtOnce) {
  Artifact a;
  for (int64_t n : {40, 100, 60, 50, 100, 10}) a.tensors.push_back({fmt::format("t{}", a.tensors.size()), make_memory_tensor({DType::kU8, {n}}, std::vector<std::byte>(static_cast<size_t>(n)))});
  for (const auto& [max, expected] : {std::pair<uint64_t, std::vector<int>>{100, {1, 2, 3, 4, 5, 6}}, {99, {2, 1, 3, 5, 4, 5}}}) {
    auto store = make_memory_store();
    write_output(hf_directory_output(a, *store, "m", max));
    const Json j = *parse_json(get_file(*store, "m/model.safetensors.index.json"), "index");
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_EQ(j["weight_map"][fmt::format("t{}", i)].get<std::string>().substr(0, 11), fmt::format("model-{:05}", expected[i])) << max << " t" << i;
    EXPECT_EQ(j["metadata"].dump(), R"({"total_parameters":360,"total_size":360})");
  }
}

TEST(HfDirectory, ContradictoryIndexesAreErrors) {
  struct Case {
    const char* index;
    const char* message;
  };
  const std::string shard = "model-00001-of-00002.safetensors";
  const Case cases[] = {
      {R"({"weight_map":{"a":"../secret.safetensors"}})", "lies outside the directory"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", "lies outside the directory"},
      {R"({"weight_map":{"a":".."}})", "lies outside the directory"},
      {R"({"weight_map":{"a":"sub/../../x"}})", "lies outside the directory"},
      {R"({"weight_map":{"a":""}})", "is no name of a file"},
      {R"({"weight_map":{"a":"."}})", "is no name of a file"},
      {R"({"weight_map":{"a":"gone.safetensors"}})", "names is not there: gone.safetensors"},
      {R"({"weight_map":{"a":3}})", "expected a text"},
      {R"({"weight_map":{}})", "no 'weight_map'"},
      {R"({"weight_map":{"a":"x","a":"../y"}})", "the file '../y'"},
      {R"({"weight_map":{"a":NaN}})", "'a' is NaN, expected a text"},
      {R"({"weight_map":1e999})", "no 'weight_map'"},
      {R"([])", "no 'weight_map'"},
      {R"({)", "not valid JSON"},
  };
  for (const auto& c : cases) {
    auto store = make_memory_store();
    write_output(hf_directory_output(four_tensors(), *store, "m", 85));
    put_file(*store, "m/copy.safetensors", get_file(*store, "m/" + shard));
    put_file(*store, "m/model.safetensors.index.json", c.index);
    auto a = open_model(*store, "m");
    ASSERT_FALSE(a.ok()) << c.index;
    EXPECT_NE(a.error().message.find(c.message), std::string::npos) << a.error().message;
    EXPECT_NE(a.error().message.find("m/model.safetensors.index.json"), std::string::npos) << a.error().message;
  }
}

TEST(Open, SaysWhatIsWrongWithThePath) {
  auto store = make_memory_store();
  put_file(*store, "empty/notes.txt", "hello");
  put_file(*store, "zero.gguf", "");
  put_file(*store, "text.txt", "hello");
  put_file(*store, "torch/pytorch_model.bin", "x");
  put_file(*store, "torch/config.json", "{}");
  put_file(*store, "lora/adapter_model.safetensors", one("F32", "[1]", "[0,4]", 4));
  const std::pair<const char*, const char*> cases[] = {
      {"nowhere", "no such file"},        {"meta-llama/Llama-3", "no such file"},
      {"empty", "no model that ingot knows"}, {"zero.gguf", "empty"},
      {"text.txt", "no format that ingot knows"}, {"torch", "neither as a ZIP archive nor as an older file of torch.save"},
      {"lora", "no adapter_config.json"}};
  for (const auto& [path, message] : cases) {
    auto a = open_model(*store, path);
    ASSERT_FALSE(a.ok()) << path;
    EXPECT_EQ(a.error().kind, ErrorKind::kBadInput);
    EXPECT_NE(a.error().message.find(message), std::string::npos) << a.error().message;
    EXPECT_NE(a.error().message.find(path), std::string::npos) << a.error().message;
  }
}

// A path through links that go round cannot be looked at: that is said, not "no such file".
TEST(Open, WhatCannotBeLookedAtIsNotCalledMissing) {
  namespace fs = std::filesystem;
  const std::string dir = ::testing::TempDir() + "/ingot-lookup";
  fs::remove_all(dir);
  fs::create_directories(dir + "/model");
  fs::create_symlink("b", dir + "/a");
  fs::create_symlink("a", dir + "/b");
  std::ofstream(dir + "/model/config.json") << "{}";
  std::ofstream(dir + "/model/model.safetensors") << one("F32", "[1]", "[0,4]", 4);
  ASSERT_TRUE(open_model(local_store(), dir + "/model").ok());
  // A side file that is there and cannot be read.
  fs::create_symlink("tokenizer.json", dir + "/model/tokenizer.json");
  const std::string cases[] = {dir + "/a/model", dir + "/a/model.gguf", dir + "/model"};
  for (const auto& path : cases) {
    auto a = open_model(local_store(), path);
    ASSERT_FALSE(a.ok()) << path;
    EXPECT_NE(a.error().message.find("symbolic links"), std::string::npos) << a.error().message;
    EXPECT_EQ(a.error().message.find("no such file"), std::string::npos) << a.error().message;
  }
  fs::remove_all(dir);
}

TEST(Open, FindsAnAdapter) {
  auto a = open_model(local_store(), INGOT_SOURCE_DIR "/examples/lora-code");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->format, "peft");
  EXPECT_EQ(a->naming, "peft");
  SlowCounts counts;
  auto far = make_slow_store(local_store(), SlowOptions(), &counts);
  ASSERT_TRUE(open_model(*far, INGOT_SOURCE_DIR "/examples/lora-code").ok());
  EXPECT_LE(counts.rounds, 5u);
  EXPECT_EQ(a->tensors.size(), 84u);
  EXPECT_EQ(a->files.count("adapter_config.json"), 1u);
}

// A name says nothing against the content.
TEST(Open, GoesByContent) {
  auto store = make_memory_store();
  put_file(*store, "m.gguf", one("F32", "[1]", "[0,4]", 4));
  auto a = open_model(*store, "m.gguf");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->format, "safetensors");
}

}  // namespace
}  // namespace ingot
