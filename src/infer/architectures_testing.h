// The small models of each class in tests/data/architectures: their weights, the GGUF made of them, and how far logits are from transformers'.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "exec/evaluate.h"
#include "infer/session.h"
#include "transform/gguf_map.h"

namespace ingot::testing {

constexpr double kTolerance = 1e-4;  // of the logits' standard deviation
constexpr const char kData[] = INGOT_SOURCE_DIR "/tests/data/architectures";
constexpr const char kTokenizer[] = INGOT_SOURCE_DIR "/examples/tiny-llama-base/";

inline std::string read_file(const std::string& path) {
  std::ifstream f(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(f), {}};
}

inline uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

inline uint64_t hash_bytes(const std::vector<std::byte>& data) {
  uint64_t sum = 0;
  for (size_t i = 0; i * 4 < data.size(); ++i) {
    uint32_t word = 0;
    std::memcpy(&word, data.data() + i * 4, std::min<size_t>(4, data.size() - i * 4));
    sum += mix(word ^ mix(i));
  }
  return sum;
}

inline bool has(const std::string& text, std::initializer_list<const char*> parts) {
  return std::any_of(parts.begin(), parts.end(), [&](const char* p) { return text.find(p) != std::string::npos; });
}

// value() of the script.
inline std::vector<std::byte> weights(const std::string& name, const Shape& shape, bool shifted) {
  uint64_t seed = 0;
  for (const char c : name) seed = mix(seed ^ static_cast<uint8_t>(c));
  const bool norm = has(name, {"norm", "ln_"}), conv1d = name.starts_with("transformer.") && has(name, {".c_attn.weight", ".c_proj.weight", ".c_fc.weight"});
  float factor = 0.5f, offset = 0;
  if (norm) {
    factor = 0.3f;
    if (name.ends_with("weight") && !shifted) offset = 1;
  } else if (shape.rank != 1 && !has(name, {"embed", "wte", "wpe", "lm_head"})) {
    const double gain = has(name, {"mlp.gate.weight", "block_sparse_moe.gate"}) ? 6.0 : 3.0;
    factor = static_cast<float>(gain / std::sqrt(static_cast<double>(conv1d ? shape[0] : shape.back())));
  }
  std::vector<std::byte> out(static_cast<size_t>(shape.elements()) * 4);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const auto u = static_cast<int64_t>(mix(static_cast<uint64_t>(i) + seed) >> 40) - (1 << 23);
    const float x = static_cast<float>(u) * 0x1p-23f * factor + offset;
    std::memcpy(out.data() + i * 4, &x, 4);
  }
  return out;
}

struct Case {
  std::string name;
  Json data;
  Artifact hf;
};

inline std::vector<std::string> case_names(const std::string& folder = "") {
  std::vector<std::string> out;
  for (const auto& e : std::filesystem::directory_iterator(std::string(kData) + "/" + folder))
    if (e.path().extension() == ".json") out.push_back(folder + e.path().stem().string());
  std::sort(out.begin(), out.end());
  return out;
}

inline Case load_case(const std::string& name) {
  Case c{name, Json::parse(read_file(std::string(kData) + "/" + name + ".json")), {}};
  const Json& config = c.data["config"];
  c.hf.path = name;
  c.hf.format = "safetensors", c.hf.naming = "hf";
  c.hf.files["config.json"] = config.dump();
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) c.hf.files[file] = read_file(std::string(kTokenizer) + file);
  const auto number = [&](std::initializer_list<const char*> keys) {
    for (const char* k : keys)
      if (config.contains(k)) return config[k].get<int>();
    return 0;
  };
  const int layers = number({"num_hidden_layers", "n_layer"}), experts = number({"num_local_experts", "num_experts"});
  for (const auto& [tmpl, dims] : c.data["tensors"].items()) {
    Shape shape;
    for (const auto& d : dims) shape.push_back(d.get<int64_t>());
    const bool layer = has(tmpl, {"{i}"}), expert = has(tmpl, {"{e}"});
    for (int i = 0; i < (layer ? layers : 1); ++i)
      for (int e = 0; e < (expert ? experts : 1); ++e) {
        const std::string tensor = expand(tmpl, i, e);
        c.hf.tensors.push_back({tensor, make_memory_tensor({DType::kF32, shape}, weights(tensor, shape, c.data["shifted"].get<bool>()))});
      }
  }
  return c;
}

inline Artifact gguf_of(const Case& c, std::vector<std::string>* notices = nullptr) {
  transform::ToGgufOptions o;
  if (notices) o.on_notice = [notices](const std::string& text) { notices->push_back(text); };
  auto g = transform::to_gguf(c.hf, o);
  EXPECT_TRUE(g.ok()) << c.name << ": " << (g.ok() ? "" : g.error().message);
  return g.ok() ? *g : Artifact{};
}

inline Json as_json(const MetaValue& m) {
  return std::visit(
      [](const auto& v) -> Json {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, MetaArray>) {
          Json list = Json::array();
          for (const auto& e : v) list.push_back(as_json(e));
          return list;
        } else if constexpr (std::is_same_v<T, float>) {
          return static_cast<double>(v);
        } else {
          return v;
        }
      },
      m.v);
}

struct Difference {
  double worst = 0;      // of those that are stored, from transformers', in standard deviations
  int wrong_top = 0;     // positions with another likeliest token
};

inline Difference compare(const Case& c, const Artifact& g, int64_t batch = 512) {
  Difference out;
  auto model = Model::load(g);
  EXPECT_TRUE(model.ok()) << c.name << ": " << (model.ok() ? "" : model.error().message);
  if (!model.ok()) return out;
  SessionOptions o;
  o.batch = batch;
  const auto tokens = c.data["tokens"].get<std::vector<int32_t>>();
  o.context = static_cast<int64_t>(tokens.size());
  Session s(**model, o);
  const auto logits = s.forward(tokens, Logits::kAll);
  EXPECT_TRUE(logits.ok()) << c.name << ": " << (logits.ok() ? "" : logits.error().message);
  if (!logits.ok()) return out;
  const int64_t vocab = (*model)->config().vocab;
  for (const auto& [position, stored] : c.data["logits"].items())
    for (size_t i = 0; i < stored.size(); ++i) {
      const int64_t step = vocab / static_cast<int64_t>(stored.size());
      const float mine = (*logits)[static_cast<size_t>(std::stoll(position) * vocab + static_cast<int64_t>(i) * step)];
      out.worst = std::max(out.worst, std::abs(static_cast<double>(mine) - stored[i].get<double>()) / c.data["deviation"].get<double>());
    }
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto row = logits->subspan(t * static_cast<size_t>(vocab), static_cast<size_t>(vocab));
    out.wrong_top += std::max_element(row.begin(), row.end()) - row.begin() != c.data["top"][t].get<int64_t>();
  }
  return out;
}

inline std::string name_of(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param.substr(info.param.find('/') + 1);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
}  // namespace ingot::testing
