// What an error or a notice says of a value: the file, the tensor as that file calls it and the element in its order,
// whatever renaming, permuting and merging lie between it and the output.
#include <cmath>
#include <filesystem>

#include "formats/json.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/quantize.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

constexpr char kBase[] = INGOT_SOURCE_DIR "/examples/tiny-llama-base";

// A value put into a bf16 tensor of a safetensors file.
void put_value(std::string* file, const std::string& tensor, int64_t element, float value) {
  uint64_t header = 0;
  std::memcpy(&header, file->data(), 8);
  const Json j = *parse_json(file->substr(8, header), "header");
  ASSERT_TRUE(j.contains(tensor)) << tensor;
  ASSERT_EQ(j[tensor]["dtype"], "BF16");
  uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  const auto half = static_cast<uint16_t>(bits >> 16);
  std::memcpy(file->data() + 8 + header + j[tensor]["data_offsets"][0].get<uint64_t>() + static_cast<uint64_t>(element) * 2, &half, 2);
}

struct Damage {
  std::string tensor;
  int64_t row, col, cols;
  float value;
};

// The example model in a memory store, under m/, with these values in it.
Artifact damaged(Store& store, const std::vector<Damage>& damage) {
  for (const auto& e : *local_store().list(kBase)) {
    std::string bytes = get_file(local_store(), join_path(kBase, e.name));
    if (e.name == "model.safetensors")
      for (const auto& d : damage) put_value(&bytes, d.tensor, d.row * d.cols + d.col, d.value);
    put_file(store, "m/" + e.name, bytes);
  }
  return open_or_die(store, "m");
}

// The error of a whole job, so that tiles and threads have their say.
std::string error_of_job(const Artifact& gguf, Store& store) {
  ExecOptions e;
  e.threads = 3;
  e.memory = 64 << 20;
  auto r = run_job({gguf_output(gguf, store, "out.gguf")}, e);
  EXPECT_FALSE(r.ok());
  return r.ok() ? "" : r.error().message;
}

TEST(Origin, ANanIsNamedAsTheInputHasItWhateverWasPermutedAndRenamed) {
  const float nan = std::nanf("");
  for (const Damage& d : {Damage{"model.layers.0.self_attn.k_proj.weight", 3, 5, 256, nan},
                          Damage{"model.layers.2.self_attn.k_proj.weight", 127, 255, 256, INFINITY},
                          Damage{"model.layers.5.self_attn.q_proj.weight", 17, 0, 256, nan},
                          Damage{"model.layers.1.self_attn.q_proj.weight", 239, 31, 256, -INFINITY},
                          Damage{"model.layers.4.mlp.down_proj.weight", 200, 767, 768, nan},
                          Damage{"model.embed_tokens.weight", 4095, 1, 256, nan}}) {
    auto store = make_memory_store();
    auto gguf = to_gguf(damaged(*store, {d}));
    ASSERT_TRUE(gguf.ok()) << gguf.error().message;
    for (const char* type : {"Q8_0", "Q4_K_M"}) {
      auto q = quantize_gguf(*gguf, type);
      ASSERT_TRUE(q.ok()) << q.error().message;
      const std::string error = error_of_job(*q, *store);
      EXPECT_NE(error.find(fmt::format("element [{}, {}] of '{}' of m/model.safetensors is", d.row, d.col, d.tensor)), std::string::npos)
          << type << ": " << error;
    }
  }
}

TEST(Origin, AValueBeyondTheTypeIsNamedAsTheInputHasIt) {
  auto store = make_memory_store();
  auto gguf = to_gguf(damaged(*store, {{"model.layers.0.self_attn.q_proj.weight", 30, 9, 256, 1e30f}}));
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  for (const char* type : {"F16", "Q8_0"}) {
    const std::string error = error_of_job(*quantize_gguf(*gguf, type), *store);
    EXPECT_NE(error.find("element [30, 9] of 'model.layers.0.self_attn.q_proj.weight' of m/model.safetensors is 9.9"), std::string::npos)
        << error;
    EXPECT_NE(error.find("beyond"), std::string::npos) << error;
  }
}

TEST(Origin, AGgufTensorIsNamedAsTheInputFileHasIt) {
  auto store = make_memory_store();
  auto gguf = to_gguf(damaged(*store, {{"model.layers.0.self_attn.k_proj.weight", 3, 5, 256, std::nanf("")}}));
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  ASSERT_NO_FATAL_FAILURE(run_output(gguf_output(*gguf, *store, "in.gguf")));
  auto q = quantize_gguf(open_or_die(*store, "in.gguf"), "Q8_0");
  ASSERT_TRUE(q.ok()) << q.error().message;
  // Row 3 of the Hugging Face tensor is row 6 of the GGUF's: the input's own order counts.
  const std::string error = error_of_job(*q, *store);
  EXPECT_NE(error.find("element [6, 5] of 'blk.0.attn_k.weight' of in.gguf is NaN"), std::string::npos) << error;
}

TEST(Origin, WhatIsKeptIsCountedByTheInputsNames) {
  const float nan = std::nanf("");
  auto store = make_memory_store();
  const Artifact hf = damaged(*store, {{"model.layers.0.self_attn.k_proj.weight", 20, 5, 256, nan},
                                       {"model.layers.0.self_attn.k_proj.weight", 3, 5, 256, nan},
                                       {"model.layers.0.self_attn.k_proj.weight", 3, 99, 256, nan},
                                       {"model.norm.weight", 0, 7, 256, INFINITY}});
  auto counts = std::make_shared<CastCounts>();
  auto gguf = to_gguf(hf, {.pre_tokenizer = "", .name = "", .counts = counts, .on_notice = {}, .on_warning = {}});
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  QuantizeOptions o;
  o.counts = counts;
  // Two outputs read the same values: they are counted once.
  ExecOptions e;
  e.threads = 3;
  ASSERT_TRUE(run_job({gguf_output(*quantize_gguf(*gguf, "F16", o), *store, "a.gguf"),
                       gguf_output(*quantize_gguf(*gguf, "F32", o), *store, "b.gguf")},
                      e)
                  .ok());
  const auto tensors = counts->tensors();
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(counts->total(), 4u);
  EXPECT_EQ(tensors[0].nan, 3u);
  EXPECT_EQ(tensors[0].infinite, 0u);
  EXPECT_EQ(tensors[1].nan, 0u);
  EXPECT_EQ(tensors[1].infinite, 1u);
  EXPECT_EQ(element_text(tensors[0].first, ""), "element [3, 5] of 'model.layers.0.self_attn.k_proj.weight' of m/model.safetensors");
  EXPECT_EQ(element_text(tensors[1].first, ""), "element [7] of 'model.norm.weight' of m/model.safetensors");
}

TEST(Origin, AMergedValueIsTracedToTheBase) {
  auto store = make_memory_store();
  const Artifact base = damaged(*store, {{"model.layers.0.self_attn.q_proj.weight", 3, 5, 256, std::nanf("")}});
  auto merged = lora_merge(base, {{example_adapter("lora-code"), 1}});
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  auto gguf = to_gguf(*merged);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  const std::string error = error_of_job(*quantize_gguf(*gguf, "Q8_0"), *store);
  EXPECT_NE(error.find("element [3, 5] of 'model.layers.0.self_attn.q_proj.weight' of m/model.safetensors, after the merge, is NaN"),
            std::string::npos)
      << error;
}

TEST(Origin, AReadThatFailsNamesTheTensorAndItsFile) {
  const std::string dir = ::testing::TempDir() + "/ingot-origin";
  std::filesystem::remove_all(dir);
  std::filesystem::copy(kBase, dir);
  auto gguf = to_gguf(open_or_die(local_store(), dir));
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  // The file loses its end after it was opened.
  std::filesystem::resize_file(dir + "/model.safetensors", 1 << 20);
  const auto r = evaluate(gguf->find("blk.5.attn_k.weight")->node);
  std::filesystem::remove_all(dir);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("tensor 'model.layers.5.self_attn.k_proj.weight' of " + dir + "/model.safetensors"), std::string::npos)
      << r.error().message;
}

}  // namespace
}  // namespace ingot::transform
