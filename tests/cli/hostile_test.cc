// Hostile files under every command, in 4 GB of address space: cut at each structure, contradicting themselves, claiming
// more than there is. One clear error, or an answer; never a crash, an abort or an exception that nobody expected.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <filesystem>

#include "base/sanitized.h"
#include "base/bytes.h"
#include "program.h"

namespace ingot::testing {
namespace {

using Hostile = CliTest;

const std::string kBase = example("tiny-llama-base");

std::string text(std::string_view s) {
  ByteWriter w;
  w.write<uint64_t>(s.size());
  w.append(s);
  return w.str();
}
template <class T>
std::string key(std::string_view name, uint32_t type, T value) {
  ByteWriter w;
  w.append(text(name));
  w.write(type);
  w.write(value);
  return w.str();
}
std::string number(std::string_view name, uint32_t v) { return key<uint32_t>(name, 4, v); }
std::string list(std::string_view name, uint32_t of, uint64_t n, const std::string& bytes) {
  ByteWriter w;
  w.append(text(name));
  w.write<uint32_t>(9);
  w.write(of);
  w.write(n);
  w.append(bytes);
  return w.str();
}
std::string tensor(std::string_view name, std::vector<uint64_t> ne, uint64_t offset) {
  ByteWriter w;
  w.append(text(name));
  w.write<uint32_t>(static_cast<uint32_t>(ne.size()));
  for (uint64_t d : ne) w.write(d);
  w.write<uint32_t>(0);
  w.write(offset);
  return w.str();
}

// A small Llama; keys and tensors may be replaced or added.
struct Gguf {
  std::vector<std::pair<std::string, uint32_t>> numbers = {{"block_count", 1},          {"context_length", 64},
                                                           {"embedding_length", 32},    {"feed_forward_length", 32},
                                                           {"attention.head_count", 1}, {"attention.head_count_kv", 1}};
  std::string more_keys, more_tensors, data;
  uint64_t keys = 0, tensors = 0;  // more than there are
  Gguf& set(const std::string& name, uint32_t v) {
    for (auto& [k, x] : numbers)
      if (k == name) {
        x = v;
        return *this;
      }
    numbers.emplace_back(name, v);
    return *this;
  }
  std::string bytes(uint64_t n_keys = 0, uint64_t n_tensors = 0) const {
    std::vector<std::pair<std::string, std::vector<uint64_t>>> table = {{"token_embd", {32, 4}}, {"output_norm", {32}}};
    for (const char* n : {"attn_norm", "ffn_norm"}) table.push_back({std::string("blk.0.") + n, {32}});
    for (const char* n : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
      table.push_back({std::string("blk.0.") + n, {32, 32}});
    ByteWriter w;
    w.append("GGUF");
    w.write<uint32_t>(3);
    w.write<uint64_t>(n_tensors ? n_tensors : table.size() + tensors);
    w.write<uint64_t>(n_keys ? n_keys : numbers.size() + 2 + keys);
    w.append(text("general.architecture"));
    w.write<uint32_t>(8);
    w.append(text("llama"));
    for (const auto& [k, v] : numbers) w.append(number("llama." + k, v));
    w.append(key<float>("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f));
    w.append(more_keys);
    uint64_t at = 0;
    for (const auto& [name, ne] : table) {
      w.append(tensor(name + ".weight", ne, at));
      at += 4 * ne[0] * (ne.size() > 1 ? ne[1] : 1);
    }
    w.append(more_tensors);
    w.pad_to(32);
    w.append(std::string(at, '\0'));
    w.append(data);
    return w.str();
  }
};

std::string safetensors(const std::string& header, const std::string& data = "") {
  ByteWriter w;
  w.write<uint64_t>(header.size());
  w.append(header);
  w.append(data);
  return w.str();
}

// The longest time is that of a machine under load, not a measure.
void survives(const std::string& path, const std::string& out, bool refused, const std::string& what) {
  SpawnOptions o;
  o.limits[RLIMIT_AS] = uint64_t{4000000} << 10;
  if (kSanitized) o.limits.clear();  // sanitizers reserve terabytes
  for (const std::vector<std::string>& command : {std::vector<std::string>{"inspect", path},
                                                  {"quantize", path, "--type", "Q8_0", "--out", out, "--force"},
                                                  {"convert", path, "--type", "F32", "--out", out, "--force"},
                                                  {"run", path, "--prompt", "x", "-n", "1"},
                                                  {"tokenize", path, "--text", "x"}}) {
    const Finished f = ingot(command, o);
    const std::string label = what + ", " + command[0] + ": " + f.err.substr(0, 500);
    EXPECT_EQ(f.signal, 0) << label;
    EXPECT_GE(f.exit_code, 0) << label;
    EXPECT_LE(f.exit_code, 3) << label;
    EXPECT_EQ(f.err.find("internal:"), std::string::npos) << label;
    EXPECT_EQ(f.err.find("error: out of memory"), std::string::npos) << label;  // without a word on what
    if (f.exit_code != 0) {
      EXPECT_NE(f.err.find("ingot: error: "), std::string::npos) << label;
      EXPECT_NE(f.err.find(std::filesystem::path(path).filename().string()), std::string::npos) << label;
    }
    if (refused && command[0] != "inspect") {
      EXPECT_EQ(f.exit_code, 3) << label;
    }
  }
}

TEST_F(Hostile, GgufFilesCutAtEachStructure) {
  ASSERT_EQ(ingot({"convert", kBase, "--type", "F16", "--out", dir_ / "good.gguf"}).exit_code, 0);
  const std::string good = read_file(dir_ / "good.gguf");
  const size_t vocabulary = good.find("tokenizer.ggml.tokens"), first = good.find("token_embd.weight");
  for (const size_t n : {size_t{3}, size_t{7}, size_t{20}, size_t{30}, size_t{400}, vocabulary + 100, first + 5, first + 40, good.size() / 2,
                         good.size() - 1}) {
    write_file(dir_ / "cut.gguf", good.substr(0, n));
    survives(dir_ / "cut.gguf", dir_ / "out.gguf", true, std::to_string(n) + " bytes");
  }
}

TEST_F(Hostile, GgufFilesThatContradictThemselvesOrClaimTooMuch) {
  const std::string four = list("tokenizer.ggml.tokens", 8, 4, text("a") + text("b") + text("c") + text("d"));
  struct Case {
    const char* what;
    std::string bytes;
    bool refused = true;
  };
  std::vector<Case> cases;
  const auto add = [&](const char* what, const Gguf& g, bool refused = true) { cases.push_back({what, g.bytes(), refused}); };
  const auto with = [](const std::string& keys, uint64_t n) {
    Gguf g;
    g.more_keys = keys, g.keys = n;
    return g;
  };
  add("a good one", Gguf(), false);
  for (const char* name : {"block_count", "embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv",
                           "rope.dimension_count", "attention.key_length"})
    for (const uint32_t v : {0u, 3u, 0x7fffffffu, 0xffffffffu}) add(name, Gguf().set(name, v));
  add("context", Gguf().set("context_length", 0xffffffff), false);
  add("experts", Gguf().set("expert_count", 0xffffffff), false);
  cases.push_back({"2^60 tensors", Gguf().bytes(0, uint64_t{1} << 60)});
  cases.push_back({"2^60 keys", Gguf().bytes(uint64_t{1} << 60)});
  cases.push_back({"one tensor more", Gguf().bytes(0, 12)});
  add("2^61 tokens", with(list("tokenizer.ggml.tokens", 8, uint64_t{1} << 61, ""), 1));
  add("more tokens than rows", with(list("tokenizer.ggml.tokens", 8, 1000, std::string(8000, '\0')), 1));
  add("2 million empty tokens", with(list("tokenizer.ggml.tokens", 8, 2u << 20, std::string(2u << 23, '\0')), 1));
  add("a million lists", with(list("x", 9, 1u << 20, std::string(12u << 20, '\0')), 1), false);
  add("two lists of 4 million truth values", with(list("x", 7, 4u << 20, std::string(4u << 20, '\0')) +
                                                      list("y", 7, 4u << 20, std::string(4u << 20, '\0')), 2));
  std::string many;
  for (int i = 0; i < 200000; ++i) many += key<uint8_t>(std::to_string(i), 0, 1);
  add("200,000 keys", with(many, 200000));
  add("key lengths as a list", with(list("llama.attention.key_length", 5, 3, std::string(12, '\1')), 1));
  add("tokens twice", with(four + four, 2));
  add("an alignment of 16 MiB", with(number("general.alignment", 1u << 24), 1));
  add("of 65,535 parts", with(key<uint16_t>("split.count", 2, 65535) + key<uint16_t>("split.no", 2, 0), 2));
  Gguf g;
  g.more_tensors = tensor("more", {uint64_t{1} << 29, uint64_t{1} << 29}, 23296), g.tensors = 1;
  add("a tensor of an exabyte", g);
  g.more_tensors = tensor("rows", {0, uint64_t{1} << 40}, 23296);
  add("2^40 rows of nothing", g, false);
  g.more_tensors = tensor("blk.0.attn_q.weight", {4}, 23296), g.data = std::string(32, '\0');
  add("a tensor twice", g);
  g.more_tensors = tensor("blk.99999.attn_q.weight", {4}, 23296);
  add("a tensor of layer 99,999", g);
  g.more_tensors = "", g.tensors = 0, g.data = std::string(1 << 20, 'x');
  add("a megabyte more", g);
  for (const auto& c : cases) {
    write_file(dir_ / "bad.gguf", c.bytes);
    survives(dir_ / "bad.gguf", dir_ / "out.gguf", c.refused, c.what);
  }
}

TEST_F(Hostile, SafetensorsFiles) {
  const std::string good = read_file(kBase + "/model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, good.data(), 8);
  std::vector<std::pair<const char*, std::string>> cases = {
      {"cut in the length", good.substr(0, 5)},
      {"cut in the header", good.substr(0, 8 + header / 2)},
      {"cut after the header", good.substr(0, 8 + header)},
      {"cut in the data", good.substr(0, good.size() / 2)},
      {"one byte more", good + "x"},
      {"a header of 2^63 bytes", std::string(7, '\0') + "\x80{" + std::string(100, ' ')},
      {"a header of 99 MB that is not there", std::string("\xc0\x9e\xe6\x05\0\0\0\0", 8) + "{}"},
      {"2^63 elements", safetensors(R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}})")},
      {"9 dimensions", safetensors(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", "0000")},
      {"a hole", safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "00000000")},
      {"lists in lists", safetensors(std::string(1000000, '['))}};
  std::string rows = "{";
  for (int i = 0; i < 200000; ++i) rows += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  cases.emplace_back("200,000 empty tensors", safetensors(rows + "}"));
  for (const auto& [what, bytes] : cases) {
    write_file(dir_ / "bad.safetensors", bytes);
    survives(dir_ / "bad.safetensors", dir_ / "out.gguf", true, what);
  }
}

}  // namespace
}  // namespace ingot::testing
