// What verify finds in files of every format: nothing in what the frameworks wrote, each damaged record and each NaN by name; and hashes that no format changes.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "program.h"

namespace ingot::testing {
namespace {

const std::string kBase = example("tiny-llama-base");

std::string shown(const Finished& f) { return "exit " + std::to_string(f.exit_code) + "\n" + f.out + f.err; }

class VerifyFormats : public CliTest {
 protected:
  SpawnOptions cached() const {
    SpawnOptions o;
    o.set["XDG_CACHE_HOME"] = dir_ / "cache";
    return o;
  }
  nlohmann::json verify(const std::string& path, int exit_code, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"verify", path, "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished f = ingot(words, cached());
    EXPECT_EQ(f.exit_code, exit_code) << path << ": " << shown(f);
    return nlohmann::json::parse(f.out, nullptr, false);
  }
  nlohmann::json hash(const std::string& path) const { return result_of(ingot({"hash", path, "--json"}, cached())); }
  std::string converted(const std::string& from, const std::string& name, std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {"convert", from, "--out", dir_ / name, "--force-copy"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished f = ingot(words, cached());
    EXPECT_EQ(f.exit_code, 0) << name << ": " << shown(f);
    return dir_ / name;
  }
};

// A safetensors file of these: name, dtype, shape, bytes.
struct Row {
  std::string name, dtype, shape, bytes;
};
std::string safetensors(const std::vector<Row>& rows) {
  std::string header = "{", data;
  for (const Row& r : rows) {
    const size_t begin = data.size();
    data += r.bytes;
    header += fmt::format("{}\"{}\":{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}", header.size() > 1 ? "," : "", r.name, r.dtype, r.shape, begin, data.size());
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t n = header.size();
  return std::string(reinterpret_cast<const char*>(&n), 8) + header + data;
}
std::string floats(size_t n, const std::vector<std::pair<size_t, float>>& values) {
  std::vector<float> v(n, 0.5f);
  for (const auto& [i, x] : values) v.at(i) = x;
  return std::string(reinterpret_cast<const char*>(v.data()), n * 4);
}

TEST_F(VerifyFormats, WhatTheFrameworksWroteIsSound) {
  const std::string root = data_file("checkpoints");
  std::set<std::string> formats;
  size_t compared = 0;
  for (const char* path : {"accelerate/ckpt/checkpoints/checkpoint_1", "accelerate-bin/ckpt", "dcp-4rank/ckpt", "dcp-hf/ckpt", "deepspeed-zero1-bf16/ckpt",
                           "deepspeed-zero3-bf16-frozen/ckpt", "hf-trainer-bf16/ckpt/checkpoint-3/model.safetensors", "torch-legacy/ckpt/legacy.pt", "torch-sharded/ckpt",
                           "torch-zip/ckpt/default.pt", "torch-zip/ckpt/nocrc.pt"}) {
    const auto j = verify(root + "/" + path, 0);
    EXPECT_TRUE(j["sound"].get<bool>()) << path;
    // One state has a tensor of all that is special.
    const bool special = std::string(path).starts_with("torch-zip") || std::string(path).starts_with("torch-legacy");
    ASSERT_EQ(j["findings"].size(), special) << path << ": " << j["findings"].dump(1);
    if (special) {
      EXPECT_EQ(j["findings"][0]["message"], "1 NaN, 2 infinite in 'dtypes/special' (F32 [7])") << path;
    }
    EXPECT_GE(j["read_bytes"], j["bytes"]) << path;
    EXPECT_GT(j["tensors"]["values"], 0) << path;
    formats.insert(j["format"].get<std::string>());
    compared += j["records"]["compared"].get<size_t>();
  }
  EXPECT_EQ(formats, (std::set<std::string>{"dcp", "deepspeed", "safetensors", "torch"}));
  EXPECT_GT(compared, 300u);
  EXPECT_GT(verify(root + "/torch-zip/ckpt/nocrc.pt", 0)["records"]["without_checksum"], 50);
  EXPECT_GT(verify(root + "/dcp-4rank/ckpt", 0)["records"]["compared"], 50) << "the archives within a file";
  for (const std::string& path : {example("lora-code"), data_file("gguf/big-endian.gguf"), data_file("gguf/little-endian.gguf")}) EXPECT_TRUE(verify(path, 0)["sound"]) << path;
}

TEST_F(VerifyFormats, AnArchiveThatSomebodyPackedAgainIsSound) {
  const std::string path = data_file("checkpoints/containers/packed.pt");
  const auto j = verify(path, 0);
  EXPECT_TRUE(j["sound"].get<bool>()) << j.dump(1);
  ASSERT_EQ(j["findings"].size(), 1u) << j.dump(1);
  EXPECT_EQ(j["findings"][0]["message"], "1 NaN in 'w' (F32 [4])");
  EXPECT_EQ(j["tensors"]["values"], 2);
  // A packed record that does not unpack to what its checksum says is told as that.
  std::string bytes = read_file(path);
  const size_t record = bytes.find("/data/1");
  ASSERT_NE(record, std::string::npos);
  bytes[record + 12] ^= 0x20;
  write_file(dir_ / "bad.pt", bytes);
  const auto bad = verify(dir_ / "bad.pt", 3);
  EXPECT_FALSE(bad["sound"].get<bool>());
  for (const auto& f : bad["findings"]) EXPECT_EQ(f["message"].get<std::string>().find("changed while"), std::string::npos) << f.dump();
}

TEST_F(VerifyFormats, EachDamagedRecordIsNamed) {
  for (const char* name : {"m.pt", "m.npz"}) {
    const std::string path = converted(kBase, name, {"--dtype", "f32"});
    EXPECT_TRUE(verify(path, 0)["sound"]);
    std::string bytes = read_file(path);
    for (const size_t quarter : {1u, 2u, 3u}) bytes[bytes.size() * quarter / 4] ^= 1;
    write_file(dir_ / ("bad-") + name, bytes);
    const auto j = verify(dir_ / ("bad-") + name, 3);
    EXPECT_FALSE(j["sound"].get<bool>());
    ASSERT_EQ(j["findings"].size(), 3u) << j.dump(1);
    std::set<std::string> tensors;
    for (const auto& f : j["findings"]) {
      EXPECT_EQ(f["kind"], "checksum");
      EXPECT_NE(f["message"].get<std::string>().find("CRC-32"), std::string::npos);
      for (const auto& t : f["tensors"]) tensors.insert(t.get<std::string>());
    }
    EXPECT_GE(tensors.size(), 3u);
    const Finished f = ingot({"verify", dir_ / ("bad-") + name}, cached());
    EXPECT_EQ(f.exit_code, 3);
    EXPECT_NE(f.out.find("3 damaged"), std::string::npos) << f.out;
    EXPECT_NE(f.err.find("3 errors"), std::string::npos) << f.err;
  }
}

TEST_F(VerifyFormats, NanIsCountedByNameInEveryFormat) {
  const float nan = std::nanf("");
  std::string half(64, '\0');  // F16: one of each
  half[1] = 0x7C, half[3] = 0x7E;
  std::vector<Row> rows = {{"a.weight", "F32", "[512,1024]", floats(512 * 1024, {{0, nan}, {262'143, nan}, {500'000, -INFINITY}})},
                           {"b.weight", "F32", "[64]", floats(64, {})}, {"c.weight", "F16", "[32]", half}, {"d", "I32", "[4]", std::string(16, '\xFF')}};
  for (int i = 0; i < 12; ++i) rows.push_back({"many." + std::to_string(10 + i), "F32", "[2]", floats(2, {{1, nan}})});
  write_file(dir_ / "s.safetensors", safetensors(rows));
  for (const std::string& path : {dir_ / "s.safetensors", converted(dir_ / "s.safetensors", "s.pt"), converted(dir_ / "s.safetensors", "s.npz"),
                                  converted(dir_ / "s.safetensors", "s.dcp", {"--to", "dcp"})}) {
    const auto j = verify(path, 0);
    EXPECT_TRUE(j["sound"]) << path;
    ASSERT_EQ(j["nonfinite"].size(), 14u) << path << j.dump(1);
    std::map<std::string, nlohmann::json> by_name;
    for (const auto& t : j["nonfinite"]) by_name[t["tensor"]] = t;
    EXPECT_EQ(by_name["a.weight"]["nan"], 2) << path;
    EXPECT_EQ(by_name["a.weight"]["infinite"], 1) << path;
    EXPECT_EQ(by_name["c.weight"]["nan"], 1) << path;
    EXPECT_EQ(by_name["c.weight"]["infinite"], 1) << path;
    EXPECT_EQ(j["tensors"]["integers"], 1) << path;
    EXPECT_EQ(verify(path, 3, {"--strict"})["findings"][0]["severity"], "error") << path;
  }
  const Finished f = ingot({"verify", dir_ / "s.safetensors"}, cached());
  EXPECT_NE(f.err.find("2 NaN, 1 infinite in 'a.weight'"), std::string::npos) << f.err;
  EXPECT_NE(f.err.find("and 4 more tensors"), std::string::npos) << f.err;
  EXPECT_NE(f.out.find("in 14 of them"), std::string::npos) << f.out;
  // A cast keeps and names them; what it would make infinite it refuses, by name.
  const Finished cast = ingot({"convert", dir_ / "s.safetensors", "--dtype", "bf16", "--out", dir_ / "b.safetensors", "--json"}, cached());
  EXPECT_EQ(result_of(cast)["nonfinite"].size(), 14u) << shown(cast);
  EXPECT_NE(cast.err.find("2 NaN, 1 infinite in 'a.weight'"), std::string::npos) << cast.err;
  EXPECT_NE(cast.err.find("and 11 more tensors"), std::string::npos) << cast.err;
  write_file(dir_ / "large.safetensors", safetensors({{"x.weight", "F32", "[2]", floats(2, {{1, 70000.0f}})}}));
  const Finished large = ingot({"convert", dir_ / "large.safetensors", "--dtype", "f16", "--out", dir_ / "h.safetensors"}, cached());
  EXPECT_EQ(large.exit_code, 3) << shown(large);
  EXPECT_NE(large.err.find("'x.weight'"), std::string::npos) << large.err;
}

TEST_F(VerifyFormats, AnIndexIsHeldAgainstItsShards) {
  const std::string shards = converted(kBase, "shards", {"--max-shard-size", "4MB"}), index = shards + "/model.safetensors.index.json";
  EXPECT_TRUE(verify(shards, 0)["findings"].empty());
  const std::string copy = dir_ / "copy";
  std::filesystem::copy(shards, copy, std::filesystem::copy_options::recursive);
  auto j = nlohmann::json::parse(read_file(index));
  const auto with = [&](const nlohmann::json& changed) {
    write_file(copy + "/model.safetensors.index.json", changed.dump());
    return copy;
  };
  auto changed = j;
  changed["metadata"]["total_size"] = 5;
  auto found = verify(with(changed), 0)["findings"];
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["kind"], "index");
  EXPECT_NE(found[0]["message"].get<std::string>().find("its total_size is 5"), std::string::npos);
  changed = j;
  changed["weight_map"].erase("model.norm.weight");
  found = verify(with(changed), 0)["findings"];
  ASSERT_EQ(found.size(), 1u) << found.dump(1);
  EXPECT_NE(found[0]["message"].get<std::string>().find("model.norm.weight"), std::string::npos);
  // One of weights that are not here is not what was opened.
  write_file(copy + "/pytorch_model.bin.index.json", R"({"weight_map": {"w": "pytorch_model-00001-of-00002.bin"}})");
  found = verify(with(j), 0)["findings"];
  ASSERT_EQ(found.size(), 1u) << found.dump(1);
  EXPECT_NE(found[0]["message"].get<std::string>().find("none of the files that it names is there"), std::string::npos);
  std::filesystem::remove(copy + "/pytorch_model.bin.index.json");
  changed = j;
  changed["weight_map"]["not.there"] = j["weight_map"]["model.norm.weight"];
  const Finished f = ingot({"verify", with(changed)}, cached());
  EXPECT_EQ(f.exit_code, 3) << shown(f);
  EXPECT_NE(f.err.find("not.there"), std::string::npos) << f.err;
}

TEST_F(VerifyFormats, OneStateHasOneHashInEveryFormat) {
  const std::string f32 = converted(kBase, "f32", {"--dtype", "f32"});  // a type that NumPy has, too
  const auto base = hash(f32);
  for (const std::string& path : {converted(f32, "one.safetensors"), converted(f32, "shards", {"--max-shard-size", "8MB"}), converted(f32, "m.pt"), converted(f32, "m.npz"),
                                  converted(f32, "m.dcp", {"--to", "dcp"}), converted(dir_ / "m.dcp", "again.safetensors")}) {
    const auto other = hash(path);
    EXPECT_EQ(other["exact"], base["exact"]) << path;
    EXPECT_EQ(other["tensors"]["exact"], base["tensors"]["exact"]) << path;
  }
  EXPECT_EQ(hash(converted(f32, "m.gguf"))["value"], base["value"]);
}

TEST_F(VerifyFormats, TheSamplesOfOneStateHaveOneHash) {
  const std::string root = data_file("checkpoints");
  const auto want = hash(root + "/torch-zip/ckpt/default.pt");
  EXPECT_EQ(hash(root + "/torch-zip/ckpt/nocrc.pt")["exact"], want["exact"]);
  // The old form has no words for two of its types.
  std::set<nlohmann::json> tensors;
  for (const auto& t : want["tensors"]["exact"]) tensors.insert(t);
  const auto legacy = hash(root + "/torch-legacy/ckpt/legacy.pt")["tensors"]["exact"];
  EXPECT_EQ(legacy.size() + 2, tensors.size());
  for (const auto& t : legacy) EXPECT_TRUE(tensors.count(t)) << t;
  EXPECT_EQ(hash(root + "/torch-zip/expected.safetensors")["exact"], want["exact"]) << "tied tensors and views lie there as often as they have names";
  EXPECT_EQ(hash(root + "/dcp-hf/ckpt")["exact"], hash(root + "/dcp-hf/expected.safetensors")["exact"]);
  EXPECT_EQ(hash(root + "/torch-sharded/ckpt")["exact"], hash(root + "/torch-sharded/expected.safetensors")["exact"]);
}

}  // namespace
}  // namespace ingot::testing
