// What is written as ZIP archives: torch files and .npz, with their checksums, on every kind of store. That torch and NumPy read them is a check beside the
// peers (bench/); here each archive is gone through byte by byte.
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "exec/evaluate.h"
#include "exec/executor.h"
#include "formats/formats.h"
#include "formats/npz_write.h"
#include "formats/outputs.h"
#include "formats/torch_write.h"
#include "kernels/crc32.h"

namespace ingot {
namespace {

struct Record {
  std::string name, bytes;
  uint64_t data = 0;  // where they begin
};

// The records by the central directory, each compared with its local header and its descriptor.
std::vector<Record> records_of(const std::string& zip) {
  const auto at = [&]<class T>(uint64_t offset, T) {
    T v{};
    EXPECT_LE(offset + sizeof v, zip.size());
    std::memcpy(&v, zip.data() + offset, sizeof v);
    return v;
  };
  const uint64_t end = zip.size() - 22;
  EXPECT_EQ(at(end, uint32_t()), 0x06054b50u);
  std::vector<Record> all;
  uint64_t p = at(end + 16, uint32_t());
  for (int n = at(end + 10, uint16_t()); n > 0; --n) {
    EXPECT_EQ(at(p, uint32_t()), 0x02014b50u);
    const uint32_t crc = at(p + 16, uint32_t()), size = at(p + 20, uint32_t()), header = at(p + 42, uint32_t());
    const size_t name = at(p + 28, uint16_t());
    Record r{zip.substr(p + 46, name), "", 0};
    EXPECT_EQ(at(header, uint32_t()), 0x04034b50u) << r.name;
    EXPECT_EQ(zip.substr(header + 30, name), r.name);
    r.data = header + 30 + name + at(header + 28, uint16_t());
    EXPECT_EQ(r.data % 64, 0u) << r.name;
    r.bytes = zip.substr(r.data, size);
    EXPECT_EQ(crc32(as_bytes(r.bytes)), crc) << r.name;
    EXPECT_EQ(at(r.data + size, uint32_t()), 0x08074b50u) << r.name;
    EXPECT_EQ(at(r.data + size + 4, uint32_t()), crc) << r.name;
    EXPECT_EQ(at(r.data + size + 8, uint32_t()), size) << r.name;
    all.push_back(std::move(r));
    p += 46 + name + at(p + 30, uint16_t());
  }
  EXPECT_EQ(p, end);
  return all;
}

std::vector<std::byte> counted(uint64_t n) {
  std::vector<std::byte> v(n);
  for (uint64_t i = 0; i < n; ++i) v[i] = static_cast<std::byte>(i * 7 + 1);
  return v;
}
NodePtr tensor(DType type, Shape shape) {
  const TensorSpec spec{type, shape};
  return make_memory_tensor(spec, counted(bytes_of(spec)));
}

Artifact model() {
  Artifact a;
  a.path = "m";
  const NodePtr tied = tensor(DType::kF32, {40, 32});
  a.tensors = {{"embed.weight", tied}, {"norm", tensor(DType::kBF16, {32})}, {"steps", tensor(DType::kI64, {})},
               {"empty", tensor(DType::kF32, {0, 5})}, {"scale", tensor(DType::kF8E4M3, {3, 7})}, {"head.weight", tied}};
  return a;
}

Capabilities kinds(int which) {
  if (which == 1) return {WriteMode::kSequential, 0, 0, 0, true};
  if (which == 2) return {WriteMode::kParts, 256, 4096, 1000, false};
  return {};
}

std::string written(Store& store, Output output) {
  ExecOptions options;
  options.threads = 2;
  options.leaf_bytes = 256;
  auto journal = make_memory_store();
  options.journal_store = journal.get();
  options.journal_path = "journal";
  const auto r = run_job({output}, options);
  EXPECT_TRUE(r.ok()) << r.error().message;
  const auto text = read_text(store, output.directory ? output.path + "/pytorch_model.bin" : output.path);
  return text.ok() ? *text : "";
}

TEST(ZipOutputs, ATorchFileOnEveryKindOfStore) {
  std::string first;
  for (int kind = 0; kind < 3; ++kind) {
    auto store = make_memory_store(kinds(kind));
    const std::string zip = written(*store, torch_output(model(), *store, "state.pt"));
    const auto records = records_of(zip);
    ASSERT_EQ(records.size(), 11u) << kind;
    EXPECT_EQ(records[0].name, "state/data.pkl");
    EXPECT_EQ(records[3].bytes, "little");
    EXPECT_EQ(records[4].name, "state/data/0");
    for (const auto& [i, size] : {std::pair{4, 40 * 32 * 4}, {5, 64}, {6, 8}, {7, 0}, {8, 21}}) {
      const auto want = counted(static_cast<uint64_t>(size));
      EXPECT_EQ(records[static_cast<size_t>(i)].bytes, std::string(as_text(want))) << i;
    }
    // The head shares the embedding's storage: one record, two names.
    const std::string& pickle = records[0].bytes;
    EXPECT_NE(pickle.find("head.weight"), std::string::npos);
    EXPECT_EQ(pickle.find("data/5"), std::string::npos);
    if (kind == 0) first = zip;
    EXPECT_EQ(zip, first) << kind;
  }
}

TEST(ZipOutputs, ATrainingStateIsNested) {
  Artifact a;
  a.tensors = {{"model/w", tensor(DType::kF32, {2})}, {"optimizer/state/0/exp_avg", tensor(DType::kF32, {2})}};
  a.values = {{"step", "3"}, {"optimizer/param_groups/0/lr", "0.125"}};
  for (int i = 0; i < 12; ++i) a.values[fmt::format("optimizer/param_groups/0/params/{}", i)] = fmt::format("{}", i);
  auto store = make_memory_store();
  const std::string pickle = records_of(written(*store, torch_output(a, *store, "s.pt")))[0].bytes;
  // {'optimizer': {'state': {0: {..
  EXPECT_NE(pickle.find(std::string("state") + pickle.substr(pickle.find("state") + 5, 2) + "}(K\0}(X"), std::string::npos) << "an int is the key";
  EXPECT_NE(pickle.find("](}("), std::string::npos) << "param_groups is a list of dicts";
  std::string params = "](";
  for (char i = 0; i < 12; ++i) params += 'K', params += i;
  EXPECT_NE(pickle.find(params + 'e'), std::string::npos) << "a list is in the order of its positions, though '10' comes before '2'";
  a.values["model/w/x"] = "1";
  const auto r = run_job({torch_output(a, *store, "t.pt")}, {});
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("'model/w/x' lies below another value"), std::string::npos) << r.error().message;
}

// The bytes of every tensor, and what is tied.
std::map<std::string, std::string> contents(const Artifact& a) {
  std::map<std::string, std::string> all;
  std::map<const Node*, std::string> first;
  for (const auto& t : a.tensors) {
    const auto bytes = evaluate(t.node);
    EXPECT_TRUE(bytes.ok()) << t.name;
    all[t.name] = fmt::format("{} {} tied to {}: {}", info(t.spec().type).name, to_string(t.spec().shape), first.emplace(t.node.get(), t.name).first->second, as_text(*bytes));
  }
  return all;
}

TEST(ZipOutputs, WhatIsWrittenIsWhatIsRead) {
  auto store = make_memory_store();
  Artifact flat = model();
  for (const DType t : {DType::kF16, DType::kF64, DType::kI8, DType::kI16, DType::kI32, DType::kU8, DType::kBool, DType::kC64, DType::kU16, DType::kU32, DType::kU64,
                        DType::kF8E5M2, DType::kF8E8M0, DType::kF8E4M3Fnuz, DType::kF8E5M2Fnuz})
    flat.tensors.push_back({std::string(info(t).name), tensor(t, {3, 2})});
  written(*store, torch_output(flat, *store, "flat.bin"));
  const auto back = open_model(*store, "flat.bin");
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->naming, "hf");
  EXPECT_EQ(contents(*back), contents(flat));

  Artifact state;
  state.tensors = {{"model/w", tensor(DType::kF32, {2})}, {"optimizer/state/0/exp_avg", tensor(DType::kF32, {2})}, {"optimizer/state/11/exp_avg", tensor(DType::kF32, {2})}};
  state.values = {{"step", "3"}, {"optimizer/param_groups/0/lr", "1e-08"}, {"optimizer/param_groups/0/betas/0", "0.9"}, {"none", "null"}, {"on", "true"}, {"nan", "NaN"},
                  {"low", "-Infinity"}, {"long", "1180591620717411303424"}, {"least", "-9223372036854775808"}, {"below", "-9223372036854775809"}, {"byte", "255"}, {"minus", "-129"},
                  {"max", "18446744073709551615"}, {"empty", "{}"}, {"list", "[]"}, {"name", "\"\u00fcber\""}, {"text", "\"\""}};
  written(*store, torch_output(state, *store, "state.pt"));
  const auto again = open_model(*store, "state.pt");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(contents(*again), contents(state));
  std::map<std::string, std::string> values = state.values;
  values["name"] = "\"\xc3\xbc" "ber\"";
  EXPECT_EQ(again->values, values);
  // And through safetensors, which has them as metadata.
  ASSERT_TRUE(run_job({safetensors_output(*again, *store, "s.safetensors")}, {}).ok());
  const auto third = open_model(*store, "s.safetensors");
  ASSERT_TRUE(third.ok()) << third.error().message;
  EXPECT_EQ(third->values, values);
  EXPECT_EQ(third->naming, "");
  EXPECT_EQ(contents(*third), contents(state));
}

TEST(ZipOutputs, ADirectoryOfShards) {
  auto store = make_memory_store();
  Artifact a = model();
  a.files["config.json"] = R"({"dtype": "float16"})";
  ASSERT_TRUE(run_job({torch_directory_output(a, *store, "d", 5200)}, {}).ok());
  const std::string index = *read_text(*store, "d/pytorch_model.bin.index.json");
  EXPECT_NE(index.find(R"("embed.weight": "pytorch_model-00001-of-00002.bin")"), std::string::npos) << index;
  EXPECT_NE(index.find(R"("head.weight": "pytorch_model-00001-of-00002.bin")"), std::string::npos) << index;
  EXPECT_NE(index.find(R"("scale": "pytorch_model-00002-of-00002.bin")"), std::string::npos) << index;
  EXPECT_EQ(records_of(*read_text(*store, "d/pytorch_model-00002-of-00002.bin"))[0].name, "archive/data.pkl");
  EXPECT_NE(read_text(*store, "d/config.json")->find("float32"), std::string::npos);
}

TEST(ZipOutputs, BlocksAreNoTypeOfTorch) {
  Artifact a;
  a.tensors = {{"w", tensor(DType::kQ8_0, {2, 32})}};
  auto store = make_memory_store();
  for (const Output& o : {torch_output(a, *store, "x.pt"), npz_output(a, *store, "x.npz")}) {
    const auto r = run_job({o}, {});
    ASSERT_FALSE(r.ok());
    EXPECT_NE(r.error().message.find("tensor 'w' has the type Q8_0"), std::string::npos) << r.error().message;
  }
}

TEST(ZipOutputs, Npz) {
  Artifact a;
  a.tensors = {{"layer.0/w", tensor(DType::kF32, {3, 5})}, {"v", tensor(DType::kF16, {7})}, {"s", tensor(DType::kI64, {})}, {"none", tensor(DType::kBool, {0})}};
  auto store = make_memory_store();
  const auto records = records_of(written(*store, npz_output(a, *store, "x.npz")));
  ASSERT_EQ(records.size(), 4u);
  const char* shapes[] = {"(3, 5)", "(7,)", "()", "(0,)"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(records[i].bytes.substr(0, 8), std::string("\x93NUMPY\x01\0", 8));
    EXPECT_NE(records[i].bytes.find(fmt::format("'fortran_order': False, 'shape': {}, }}", shapes[i])), std::string::npos) << records[i].bytes;
    const uint64_t size = bytes_of(a.tensors[i].spec()), head = records[i].bytes.size() - size;
    EXPECT_EQ(head % 64, 0u);
    EXPECT_EQ(records[i].bytes[head - 1], '\n');
    const auto want = counted(size);
    EXPECT_EQ(records[i].bytes.substr(head), std::string(as_text(want)));
  }
  EXPECT_EQ(records[0].name, "layer.0/w.npy");
}

// An .npy with this dict and data.
std::string npy(const std::string& dict, const std::string& data, int version = 1) {
  std::string s = "\x93NUMPY";
  s += static_cast<char>(version);
  s += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) s += static_cast<char>(dict.size() >> (8 * i));
  return s + dict + data;
}

Result<Artifact> opened(const std::string& bytes, const std::string& name) {
  static std::vector<std::unique_ptr<Store>> stores;
  stores.push_back(make_memory_store());
  auto file = stores.back()->create(name, bytes.size(), false);
  EXPECT_TRUE(file.ok() && (*file)->write(0, as_bytes(bytes)).ok() && (*file)->sync().ok() && (*file)->complete().ok());
  return open_model(*stores.back(), name);
}

TEST(Npz, WhatIsWrittenIsWhatIsRead) {
  Artifact a;
  a.tensors = {{"layer.0/w", tensor(DType::kF32, {3, 5})}, {"v", tensor(DType::kF16, {7})}, {"s", tensor(DType::kI64, {})}, {"none", tensor(DType::kBool, {0})}};
  auto store = make_memory_store();
  written(*store, npz_output(a, *store, "x.npz"));
  const auto back = open_model(*store, "x.npz");
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->format, "npz");
  EXPECT_EQ(contents(*back), contents(a));
}

TEST(Npz, WhatNobodyReadsIsNotWritten) {
  Artifact a;
  auto store = make_memory_store();
  for (const std::string name : {"/w", "a/../w", "a\\w"}) {
    a.tensors = {{name, tensor(DType::kF32, {3})}};
    const auto report = run_job({npz_output(a, *store, "x.npz")}, {});
    ASSERT_FALSE(report.ok()) << name;
    EXPECT_NE(report.error().message.find("the name of tensor '" + name), std::string::npos) << report.error().message;
  }
}

TEST(Npz, AComplexArrayAloneIsToldOf) {
  const auto a = opened(npy("{'descr': '<c16', 'fortran_order': False, 'shape': (1,), }", std::string(16, 'x')), "w.npy");
  ASSERT_TRUE(a.ok()) << a.error().message;
  ASSERT_EQ(a->notices.size(), 1u);
  EXPECT_NE(a->notices[0].find("'w' is complex128"), std::string::npos);
}

TEST(Npz, OrdersOfBytesAndOfDimensions) {
  const std::string data("\0\1\0\2\0\3\0\4\0\5\0\6", 12);
  for (const int version : {1, 2, 3}) {
    const auto big = opened(npy("{'descr': '>i2', 'fortran_order': False, 'shape': (2, 3), }\n", data, version), "w.npy");
    ASSERT_TRUE(big.ok()) << big.error().message;
    EXPECT_EQ(std::string(as_text(*evaluate(big->find("w")->node))), std::string("\1\0\2\0\3\0\4\0\5\0\6\0", 12));
  }
  const auto columns = opened(npy("{'shape': (2, 3), 'fortran_order': True, 'descr': '|u1'}", std::string("abcdef")), "w.npy");
  ASSERT_TRUE(columns.ok()) << columns.error().message;
  EXPECT_EQ(std::string(as_text(*evaluate(columns->find("w")->node))), "acebdf");
}

TEST(Npz, WhatIsRefused) {
  const std::string head = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", data(8, 'x');
  for (const auto& [bytes, part] : std::vector<std::pair<std::string, std::string>>{
           {npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", data), "an array of Python objects"},
           {npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", data), "an array of records"},
           {npy("{'descr': '<V2', 'fortran_order': False, 'shape': (4,), }", data), "type '<V2'"},
           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", data), "8 bytes of data, but F32 [3] needs 12"},
           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 0), }", ""), "overflows"},
           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", data), "no dict of one descr"},
           {npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", data), "no dict of one descr"},
           {npy("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", data), "no dict of one descr"},
           {npy("__import__('os').system('true')", data), "no dict of one descr"},
           {npy(head, data, 9), "version 9"},
           {std::string("\x93NUMPY\2\0\xff\xff\xff\x7f", 12) + head, "claims a header of 2147483647 bytes"},
           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,), }", "abcd"), "10 dimensions"}}) {
    const auto a = opened(bytes, "w.npy");
    ASSERT_FALSE(a.ok()) << part;
    EXPECT_NE(a.error().message.find(part), std::string::npos) << a.error().message;
  }
  const std::string whole = npy(head, data);
  for (size_t n = 1; n < whole.size(); ++n) EXPECT_FALSE(opened(whole.substr(0, n), "w.npy").ok()) << n;
}

}  // namespace
}  // namespace ingot
