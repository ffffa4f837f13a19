// Directories whose configuration speaks of quantization: FP8 ones of each producer, and plain floats that are said to be quantized.
#include "transform/dequantize.h"

#include "formats/json.h"
#include "transform/cast.h"
#include "transform/fp8.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/permute.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

constexpr const char* kQ = "model.layers.0.self_attn.q_proj.weight";

void set_config(Artifact* a, const Json& members) {
  auto config = parse_json_ordered(a->files["config.json"], "config.json");
  ASSERT_TRUE(config.ok());
  for (const auto& [key, value] : members.items()) (*config)[key] = value;
  a->files["config.json"] = config->dump(2);
}
Json config_of(const Artifact& a) { return Json::parse(a.files.at("config.json")); }

bool is_projection(const std::string& name) { return name.ends_with("_proj.weight"); }

// How a producer writes scales: the shape for a weight [rows, cols], and the names beside it.
struct Producer {
  const char* name;
  std::string scale;
  Json quantization;
  std::function<Shape(int64_t, int64_t)> shape;
  DType scale_type = DType::kF32;
  std::vector<std::string> others = {};  // scales of activations
};
int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }
std::vector<Producer> producers() {
  const auto blocks_of = [](int64_t r, int64_t c) { return [=](int64_t rows, int64_t cols) { return Shape{blocks(rows, r), blocks(cols, c)}; }; };
  const auto one = [](int64_t, int64_t) { return Shape{}; };
  const auto one_of_one = [](int64_t, int64_t) { return Shape{1}; };
  const auto per_row = [](int64_t rows, int64_t) { return Shape{rows, 1}; };
  const Json group = {{"group_0", {{"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", {100, 64}}}}}}};
  const Json by_group = {{"group_0", {{"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", "group"}, {"group_size", 64}}}}}};
  return {
      {"DeepSeek", "_scale_inv", {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}, blocks_of(128, 128)},
      {"other blocks", "_scale_inv", {{"quant_method", "fp8"}, {"weight_block_size", {96, 200}}}, blocks_of(96, 200)},
      {"no size said", "_scale_inv", {{"quant_method", "fp8"}}, blocks_of(128, 128)},
      {"Ministral", "_scale_inv", {{"quant_method", "fp8"}, {"activation_scheme", "static"}}, one, DType::kBF16, {"activation_scale"}},
      {"compressed-tensors, channels", "_scale", {{"quant_method", "compressed-tensors"}, {"format", "float-quantized"}}, per_row, DType::kBF16, {"input_scale"}},
      {"compressed-tensors, a tensor", "_scale", {{"quant_method", "compressed-tensors"}, {"format", "naive-quantized"}}, one_of_one, DType::kBF16},
      {"compressed-tensors, blocks", "_scale", {{"quant_method", "compressed-tensors"}, {"config_groups", group}}, blocks_of(100, 64), DType::kBF16},
      {"FBGEMM", "_scale", {{"quant_method", "fbgemm_fp8"}}, per_row, DType::kF32, {"input_scale_ub"}},
      {"ModelOpt", "_scale", {{"quant_method", "modelopt"}, {"quant_algo", "FP8"}}, one, DType::kF32, {"input_scale", "k_scale", "v_scale"}},
      {"compressed-tensors, groups", "_scale", {{"quant_method", "compressed-tensors"}, {"config_groups", by_group}}, blocks_of(1, 64)},
      {"scales of the cache, as they were called", "_scale", {{"quant_method", "fp8"}, {"activation_scheme", "static"}}, one, DType::kF32, {"kv_scale"}},
      {"a row of scales", "_scale", {{"quant_method", "fp8"}}, [](int64_t rows, int64_t) { return Shape{rows}; }},
  };
}

// The example with FP8 projections; the exact weights by name.
Artifact fp8_model(const Producer& p, std::map<std::string, std::vector<float>>* exact, DType type = DType::kF8E4M3) {
  Artifact a = example_base(), out = a;
  set_config(&out, {{"quantization_config", p.quantization}});
  std::vector<LazyTensor> tensors;
  std::mt19937_64 rng(7);
  for (const LazyTensor& t : a.tensors) {
    if (!is_projection(t.name)) {
      tensors.push_back(t);
      continue;
    }
    const Shape w = t.spec().shape, s = p.shape(w[0], w[1]);
    std::vector<std::byte> codes(static_cast<size_t>(w.elements()));
    for (auto& b : codes)
      do b = static_cast<std::byte>(rng()); while (!std::isfinite(fp8_value(type, static_cast<uint8_t>(b))));
    std::vector<float> scales = random_floats(s.elements(), rng(), 1e-3f);
    const NodePtr scale = typed_tensor(p.scale_type, s, scales);
    scales = values(scale);
    std::vector<float>& x = (*exact)[t.name];
    // The size of a block by the shape: what the producer meant.
    const Json& q = p.quantization;
    const Json size = q.contains("weight_block_size") ? q["weight_block_size"]
                      : q.contains("config_groups")   ? q["config_groups"]["group_0"]["weights"].value("block_structure", Json{1, 64})
                                                      : Json{128, 128};
    const int64_t rows = s.elements() == w[0] ? 1 : size[0].get<int64_t>(), cols = s.elements() == w[0] ? w[1] : size[1].get<int64_t>();
    for (int64_t i = 0; i < w[0]; ++i)
      for (int64_t j = 0; j < w[1]; ++j)
        x.push_back(fp8_value(type, static_cast<uint8_t>(codes[x.size()])) *
                    scales[scales.size() == 1 ? 0 : static_cast<size_t>(i / rows * blocks(w[1], cols) + j / cols)]);
    tensors.push_back({t.name, make_memory_tensor({type, w}, std::move(codes))});
    tensors.push_back({t.name + p.scale, scale});
    for (const auto& other : p.others) tensors.push_back({t.name.substr(0, t.name.size() - 6) + other, f32_tensor({}, {0.5f})});
  }
  out.tensors = TensorList(std::move(tensors));
  return out;
}

// "a" rounded to BF16 as any cast does it.
std::vector<float> rounded(const std::vector<float>& v) { return values(typed_tensor(DType::kBF16, {static_cast<int64_t>(v.size())}, v)); }

TEST(Dequantized, EachProducersScalesGiveTheWeights) {
  for (const Producer& p : producers())
    for (const DType type : {DType::kF8E4M3, DType::kF8E5M2}) {
      std::map<std::string, std::vector<float>> exact;
      const Artifact model = fp8_model(p, &exact, type);
      std::string notice;
      auto a = dequantized(model, [&](const std::string& s) { notice += s; });
      ASSERT_TRUE(a.ok()) << p.name << a.error().message;
      EXPECT_NE(notice.find("42 weights are FP8"), std::string::npos) << notice;
      EXPECT_NE(notice.find("BF16"), std::string::npos) << notice;
      EXPECT_FALSE(config_of(*a).contains("quantization_config"));
      ASSERT_EQ(a->tensors.size(), example_base().tensors.size()) << p.name;
      auto wide = cast_floats(*a, DType::kF32);
      ASSERT_TRUE(wide.ok());
      for (const auto& [name, want] : exact) {
        if (name.find("layers.0.") == std::string::npos && name.find("layers.5.") == std::string::npos) continue;
        EXPECT_EQ(a->find(name)->spec().type, DType::kBF16);
        ASSERT_TRUE(values(a->find(name)->node) == rounded(want)) << p.name << name;
        ASSERT_TRUE(values(wide->find(name)->node) == want) << p.name << name;
      }
      auto g = to_gguf(*a);
      ASSERT_TRUE(g.ok()) << p.name << g.error().message;
      const NodePtr q = *permute_rope(f32_tensor({256, 256}, exact[kQ]), 8, RopeOrder::kToInterleaved);
      EXPECT_TRUE(values(*cast("q", g->find("blk.0.attn_q.weight")->node, DType::kF32)) == values(q)) << p.name;
    }
}

// Scales of any shape through the executor.
TEST(Dequantized, AJobWritesWhatTheNodesSay) {
  for (const size_t i : {0, 7, 8}) {
    std::map<std::string, std::vector<float>> exact;
    auto a = dequantized(fp8_model(producers()[i], &exact));
    ASSERT_TRUE(a.ok());
    auto store = make_memory_store();
    const Output o = hf_directory_output(*a, *store, "out", 4 << 20);
    run_output(o);
    for (const auto& [name, bytes] : render(o)) EXPECT_TRUE(get_file(*store, "out/" + name) == bytes) << producers()[i].name << name;
  }
}

TEST(Dequantized, TheTypeIsTheConfigurations) {
  for (const auto& [members, type] : {std::pair{Json{{"dtype", "float16"}}, DType::kF16}, {Json{{"dtype", "float32"}}, DType::kF32},
                                      {Json{{"dtype", nullptr}, {"torch_dtype", "float16"}}, DType::kF16}, {Json{{"dtype", "float8_e4m3fn"}}, DType::kBF16},
                                      {Json{{"dtype", nullptr}}, DType::kBF16}}) {
    std::map<std::string, std::vector<float>> exact;
    Artifact model = fp8_model(producers()[0], &exact);
    set_config(&model, members);
    auto a = dequantized(model);
    ASSERT_TRUE(a.ok()) << a.error().message;
    EXPECT_EQ(a->find(kQ)->spec().type, type) << members.dump();
    if (members["dtype"] == "float8_e4m3fn") {
      EXPECT_EQ(config_of(*a)["dtype"], "bfloat16");
    }
  }
}

// The update is added to the exact weights, and what follows rounds once.
TEST(Dequantized, AnAdapterIsFoldedIntoTheExactWeights) {
  std::map<std::string, std::vector<float>> exact;
  auto a = dequantized(fp8_model(producers()[4], &exact));
  ASSERT_TRUE(a.ok());
  Artifact plain = *a;
  for (const auto& [name, v] : exact) set_node(&plain, name, f32_tensor(plain.find(name)->spec().shape, v));
  auto merged = lora_merge(*a, {{example_adapter("lora-code"), 1}}), want = lora_merge(plain, {{example_adapter("lora-code"), 1}});
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  ASSERT_TRUE(want.ok());
  EXPECT_TRUE(values(merged->find(kQ)->node) == values(want->find(kQ)->node));
  auto like = cast_like(*merged, *a);
  ASSERT_TRUE(like.ok());
  EXPECT_EQ(like->find(kQ)->spec().type, DType::kBF16);
}

TEST(Dequantized, ScalesThatFitNothingAreNamedWithBothShapes) {
  const auto scale_of = [](const NodePtr& scale) {
    std::map<std::string, std::vector<float>> exact;
    Artifact model = fp8_model(producers()[0], &exact);
    if (scale) set_node(&model, std::string(kQ) + "_scale_inv", scale);
    else drop_if(&model, [](const auto& t) { return t.name == std::string(kQ) + "_scale_inv"; });
    return dequantized(model);
  };
  for (const Shape& s : {Shape{3, 2}, Shape{2, 3}, Shape{1, 256}, Shape{2}, Shape{2, 2, 1}, Shape{255, 1}}) {
    const std::string shape = to_string(s);
    expect_error(scale_of(f32_tensor(s, random_floats(s.elements(), 1))), {kQ, "_scale_inv", shape, "[256, 256]", "128 x 128 ([2, 2])"}, shape);
  }
  expect_error(scale_of(make_memory_tensor({DType::kI32, {2, 2}}, std::vector<std::byte>(16))), {"_scale_inv", "I32"});
  expect_error(scale_of(nullptr), {kQ, "has no scale", "_scale_inv"});
  std::map<std::string, std::vector<float>> exact;
  Artifact model = fp8_model(producers()[0], &exact);
  for (const Json& size : {Json{0, 128}, Json{128}, Json(128), Json("128"), Json{-1, 1}, Json{1.5, 1}}) {
    set_config(&model, {{"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", size}}}});
    expect_error(dequantized(model), {"size of the blocks", size.dump()});
  }
}

// Plain FP8 weights, as a cast makes them, without any scale.
TEST(Dequantized, WeightsThatWereOnlyCastAreWidened) {
  Artifact model = example_base();
  const std::vector<std::byte> codes(256 * 256, std::byte{0x31});
  set_node(&model, kQ, make_memory_tensor({DType::kF8E4M3, {256, 256}}, codes));
  auto a = dequantized(model);
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(values(a->find(kQ)->node)[9], fp8_value(DType::kF8E4M3, 0x31));
  EXPECT_TRUE(to_gguf(*a).ok());
}

TEST(Dequantized, AConfigurationLeftOverFloatsIsTakenOutWithANotice) {
  const Json left[] = {{{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}, {{"quant_method", "gptq"}, {"bits", 4}}, {{"bits", 8}}, Json::object()};
  for (const Json& q : left)
    for (const char* key : {"quantization_config", "compression_config"}) {
      Artifact model = example_base();
      set_config(&model, {{key, q}});
      std::string notice;
      auto a = dequantized(model, [&](const std::string& s) { notice += s; });
      ASSERT_TRUE(a.ok()) << a.error().message;
      EXPECT_NE(notice.find(key), std::string::npos) << notice;
      EXPECT_EQ(config_of(*a), config_of(example_base()));
      EXPECT_TRUE(check_plain(*a, "x").ok());
      EXPECT_TRUE(to_gguf(*a).ok());
      EXPECT_TRUE(to_gguf(model).ok());  // who has not asked is not stopped
    }
  // Floats with scales of an 8-bit cache, which change no weight.
  Artifact cache = example_base();
  set_config(&cache, {{"quantization_config", {{"quant_method", "compressed-tensors"}, {"kv_cache_scheme", {{"num_bits", 8}}}}}});
  cache.tensors.push_back({"model.layers.0.self_attn.k_scale", f32_tensor({1}, {0.5f})});
  auto without = dequantized(cache);
  ASSERT_TRUE(without.ok()) << without.error().message;
  EXPECT_EQ(without->tensors.size(), example_base().tensors.size());
  // Nothing to tell: nothing is touched, and null is nothing.
  for (const Json& members : {Json::object(), Json{{"quantization_config", nullptr}}}) {
    Artifact model = example_base();
    set_config(&model, members);
    std::string notice;
    auto a = dequantized(model, [&](const std::string& s) { notice += s; });
    ASSERT_TRUE(a.ok());
    EXPECT_EQ(notice, "");
    EXPECT_EQ(a->files, model.files);
  }
}

TEST(Dequantized, QuantizedWeightsStayAndAreRefusedBySchemeAndTensor) {
  struct Case {
    Json quantization;
    std::string name;
    DType type;
  };
  const std::string module = "model.layers.0.self_attn.q_proj.";
  const Case cases[] = {
      {{{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}, module + "weight.absmax", DType::kF32},
      {{{"quant_method", "bitsandbytes"}}, module + "weight.quant_state.bitsandbytes__nf4", DType::kU8},
      {{{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}}, module + "SCB", DType::kF32},
      {{{"quant_method", "gptq"}, {"bits", 4}}, module + "qweight", DType::kI32},
      {{{"quant_method", "gptq"}, {"bits", 4}}, module + "scales", DType::kF16},
      {{{"quant_method", "awq"}, {"bits", 4}}, module + "qzeros", DType::kI32},
      {{{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}}, module + "weight_packed", DType::kI32},
      {{{"quant_method", "compressed-tensors"}, {"format", "int-quantized"}}, module + "weight_scale", DType::kBF16},
      {{{"quant_method", "fp8"}}, module + "bits", DType::kF8E4M3Fnuz},
  };
  for (const Case& c : cases) {
    Artifact model = example_base();
    set_config(&model, {{"quantization_config", c.quantization}});
    model.tensors.push_back({c.name, make_memory_tensor({c.type, {4}}, std::vector<std::byte>(bytes_of(c.type, 4)))});
    auto a = dequantized(model);
    ASSERT_TRUE(a.ok()) << a.error().message;
    EXPECT_EQ(a->files, model.files);  // a copy keeps what belongs to it
    EXPECT_EQ(a->tensors.size(), model.tensors.size());
    expect_error(to_gguf(*a), {"quantization_config", c.quantization["quant_method"], c.name, std::string(info(c.type).name)}, c.name);
  }
  // Scales that are FP8 themselves, and FP8 weights beside another scheme: nothing is multiplied, and all is told by the scheme.
  for (const char* beside : {"", ".qweight"}) {
    Artifact model = example_base();
    set_config(&model, {{"quantization_config", {{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}}}});
    const auto add = [&](const std::string& name, DType type, int64_t n = 4) {
      model.tensors.push_back({name, make_memory_tensor({type, {n}}, std::vector<std::byte>(bytes_of(type, n)))});
    };
    if (*beside) add("a.weight", DType::kF8E4M3), add("a.weight_scale", DType::kF32, 1), add(std::string("b") + beside, DType::kI32);
    else add(module + "weight_scale", DType::kF8E4M3), add(module + "weight_scale_2", DType::kF32);
    std::string told;
    auto a = dequantized(model, [&](const std::string& text) { told += text; });
    ASSERT_TRUE(a.ok()) << a.error().message;
    EXPECT_EQ(told, "");
    EXPECT_EQ(a->tensors.size(), model.tensors.size());
    for (const LazyTensor& t : model.tensors) EXPECT_EQ(a->find(t.name)->node, t.node) << t.name;
    EXPECT_EQ(a->files, model.files);
    expect_error(to_gguf(*a), {"quantization_config", "NVFP4"});
  }
  // Packed weights that no configuration speaks of.
  Artifact silent = example_base();
  silent.tensors.push_back({module + "qweight", make_memory_tensor({DType::kI32, {4}}, std::vector<std::byte>(16))});
  expect_error(to_gguf(silent), {"quantized", "config.json does not say so", module + "qweight"});
  // Floats that their code rounds as it runs.
  Artifact bitnet = example_base();
  set_config(&bitnet, {{"quantization_config", {{"quant_method", "bitnet"}, {"linear_class", "autobitlinear"}}}});
  auto a = dequantized(bitnet);
  ASSERT_TRUE(a.ok());
  expect_error(to_gguf(*a), {"quantization_config", "bitnet"});
}

}  // namespace
}  // namespace ingot::transform
