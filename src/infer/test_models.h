// Models for the tests of this folder: the bundled one mapped to GGUF's shape by hand, and random ones of any
// size.
#pragma once

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "infer/sample.h"
#include "infer/weights.h"
#include "quant/codec.h"
#include "quant/decode.h"
#include "tensor/artifact.h"

namespace ingot::testing_models {

struct Raw {
  DType type;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

inline std::map<std::string, Raw> read_safetensors(const std::string& path) {
  std::ifstream f(path, std::ios::binary);
  std::string all((std::istreambuf_iterator<char>(f)), {});
  uint64_t n = 0;
  std::memcpy(&n, all.data(), 8);
  const auto header = nlohmann::json::parse(all.substr(8, n));
  std::map<std::string, Raw> out;
  for (const auto& [name, t] : header.items()) {
    if (name == "__metadata__") continue;
    const uint64_t begin = t["data_offsets"][0], end = t["data_offsets"][1];
    const auto* p = reinterpret_cast<const std::byte*>(all.data()) + 8 + n;
    out[name] = Raw{*dtype_by_st_name(t["dtype"].get<std::string>()), t["shape"].get<std::vector<int64_t>>(),
                    std::vector<std::byte>(p + begin, p + end)};
  }
  return out;
}

inline Shape shape_of(const std::vector<int64_t>& v) {
  Shape s;
  for (int64_t x : v) s.push_back(x);
  return s;
}

inline void put(Artifact* a, const std::string& name, DType type, const Shape& shape,
                std::vector<std::byte> bytes) {
  a->tensors.push_back({name, make_memory_tensor(TensorSpec{type, shape}, std::move(bytes))});
}
inline void set(Artifact* a, const std::string& key, MetaValue v) {
  for (auto& [k, old] : a->metadata)
    if (k == key) {
      old = std::move(v);
      return;
    }
  a->metadata.emplace_back(key, std::move(v));
}
inline void erase_tensor(Artifact* a, const std::string& name) {
  a->tensors.edit([&](auto& all) { std::erase_if(all, [&](const LazyTensor& t) { return t.name == name; }); });
}
inline void erase_meta(Artifact* a, const std::string& key) {
  std::erase_if(a->metadata, [&](const auto& kv) { return kv.first == key; });
}

// Rows [h, 2, rows / h / 2] -> [h, rows / h / 2, 2]: GGUF's order of q and k rows.
inline std::vector<std::byte> permute(const std::vector<std::byte>& in, int64_t rows, int64_t heads) {
  const size_t row = in.size() / static_cast<size_t>(rows);
  const int64_t half = rows / heads / 2;
  std::vector<std::byte> out(in.size());
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t part = 0; part < 2; ++part)
      for (int64_t i = 0; i < half; ++i)
        std::memcpy(out.data() + static_cast<size_t>((h * half + i) * 2 + part) * row,
                    in.data() + static_cast<size_t>((h * 2 + part) * half + i) * row, row);
  return out;
}

inline Artifact bundled_model() {
  Artifact a;
  a.path = "examples/tiny-llama-base";
  set(&a, "general.architecture", {std::string("llama")});
  const std::pair<const char*, uint32_t> numbers[] = {
      {"block_count", 6},           {"embedding_length", 256},      {"feed_forward_length", 768},
      {"attention.head_count", 8},  {"attention.head_count_kv", 4}, {"context_length", 2048},
      {"attention.key_length", 32}, {"attention.value_length", 32}, {"rope.dimension_count", 32}};
  for (const auto& [k, v] : numbers) set(&a, std::string("llama.") + k, {v});
  set(&a, "llama.rope.freq_base", {10000.0f});
  set(&a, "llama.attention.layer_norm_rms_epsilon", {1e-5f});
  const std::pair<std::string, std::string> parts[] = {
      {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"},
      {"self_attn.q_proj", "attn_q"},   {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"},
      {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  for (auto& [name, t] :
       read_safetensors(std::string(INGOT_SOURCE_DIR) + "/examples/tiny-llama-base/model.safetensors")) {
    std::string to = name;
    if (name == "model.embed_tokens.weight") to = "token_embd.weight";
    if (name == "model.norm.weight") to = "output_norm.weight";
    if (name == "lm_head.weight") to = "output.weight";
    for (const auto& [from, gguf] : parts)
      if (const size_t at = name.find("." + from + "."); at != std::string::npos)
        to = "blk." + name.substr(13, at - 13) + "." + gguf + ".weight";
    if (to.find("attn_q.") != std::string::npos) t.bytes = permute(t.bytes, t.shape[0], 8);
    if (to.find("attn_k.") != std::string::npos) t.bytes = permute(t.bytes, t.shape[0], 4);
    put(&a, to, t.type, shape_of(t.shape), std::move(t.bytes));
  }
  return a;
}

// Gaussian-like numbers, a pure function of the seed.
inline std::vector<float> random_values(int64_t n, uint64_t seed, float deviation) {
  std::vector<float> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) {
    double s = 0;
    for (uint64_t k = 0; k < 4; ++k) s += random_unit(seed, i * 4 + k) - 0.5;
    v[i] = static_cast<float>(s * 1.7320508) * deviation;
  }
  return v;
}

inline std::vector<std::byte> encode(const std::vector<float>& x, DType type, int64_t row) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> out(bytes_of(type, n));
  if (type == DType::kF32)
    std::memcpy(out.data(), x.data(), out.size());
  else
    find_codec(type)->encode(x.data(), n / row, row, {}, out.data());
  return out;
}

// Rows of a type as the engine has them, without a packed form.
inline WeightMatrix weight_matrix(DType type, int64_t rows, int64_t cols, const std::vector<std::byte>& bytes) {
  WeightMatrix w;
  w.type = type, w.rows = rows, w.cols = cols, w.row_bytes = bytes_of(type, cols), w.decode = find_decode(type);
  AlignedBytes b = allocate_aligned(bytes.size());
  std::memcpy(b.get(), bytes.data(), bytes.size());
  w.data = std::shared_ptr<const std::byte[]>(std::move(b));
  return w;
}

struct Size {
  int64_t layers = 2, hidden = 48, heads = 4, kv_heads = 4, head_dim = 12, ffn = 80, vocab = 101,
          context = 256;
  bool tied = false, bias = false;
  int64_t rope_dim = 0;  // 0 = head_dim
};

inline Artifact random_model(const Size& s, DType type = DType::kF32, uint64_t seed = 1) {
  Artifact a;
  a.path = "random";
  set(&a, "general.architecture", {std::string("llama")});
  set(&a, "llama.block_count", {static_cast<uint32_t>(s.layers)});
  set(&a, "llama.embedding_length", {static_cast<uint32_t>(s.hidden)});
  set(&a, "llama.feed_forward_length", {static_cast<uint32_t>(s.ffn)});
  set(&a, "llama.attention.head_count", {static_cast<uint32_t>(s.heads)});
  set(&a, "llama.attention.head_count_kv", {static_cast<uint32_t>(s.kv_heads)});
  set(&a, "llama.attention.key_length", {static_cast<uint32_t>(s.head_dim)});
  set(&a, "llama.context_length", {static_cast<uint32_t>(s.context)});
  set(&a, "llama.rope.dimension_count", {static_cast<uint32_t>(s.rope_dim ? s.rope_dim : s.head_dim)});
  set(&a, "llama.attention.layer_norm_rms_epsilon", {1e-5f});
  auto matrix = [&](const std::string& name, int64_t rows, int64_t cols, DType t) {
    const auto x = random_values(rows * cols, ++seed, 1.0f / std::sqrt(static_cast<float>(cols)));
    put(&a, name, t, Shape{rows, cols}, encode(x, t, cols));
  };
  auto vector = [&](const std::string& name, int64_t n, float base, float deviation) {
    auto x = random_values(n, ++seed, deviation);
    for (auto& v : x) v += base;
    put(&a, name, DType::kF32, Shape{n}, encode(x, DType::kF32, n));
  };
  matrix("token_embd.weight", s.vocab, s.hidden, type);
  if (!s.tied) matrix("output.weight", s.vocab, s.hidden, type);
  vector("output_norm.weight", s.hidden, 1, 0.1f);
  for (int64_t l = 0; l < s.layers; ++l) {
    const std::string p = "blk." + std::to_string(l) + ".";
    vector(p + "attn_norm.weight", s.hidden, 1, 0.1f);
    vector(p + "ffn_norm.weight", s.hidden, 1, 0.1f);
    matrix(p + "attn_q.weight", s.heads * s.head_dim, s.hidden, type);
    matrix(p + "attn_k.weight", s.kv_heads * s.head_dim, s.hidden, type);
    matrix(p + "attn_v.weight", s.kv_heads * s.head_dim, s.hidden, type);
    matrix(p + "attn_output.weight", s.hidden, s.heads * s.head_dim, type);
    matrix(p + "ffn_gate.weight", s.ffn, s.hidden, type);
    matrix(p + "ffn_up.weight", s.ffn, s.hidden, type);
    matrix(p + "ffn_down.weight", s.hidden, s.ffn, type);
    if (s.bias) {
      vector(p + "attn_q.bias", s.heads * s.head_dim, 0, 0.2f);
      vector(p + "attn_k.bias", s.kv_heads * s.head_dim, 0, 0.2f);
      vector(p + "attn_v.bias", s.kv_heads * s.head_dim, 0, 0.2f);
    }
  }
  return a;
}

}  // namespace ingot::testing_models
