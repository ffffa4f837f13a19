#include "transform/quantize.h"

#include <sstream>

#include "transform/gguf_map.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

Artifact example_gguf() {
  auto g = to_gguf(example_base());
  EXPECT_TRUE(g.ok()) << g.error().message;
  return g.ok() ? *g : Artifact();
}

std::shared_ptr<Importance> ones(const Artifact& g) {
  auto all = std::make_shared<Importance>();
  all->files = {"somewhere/ones.gguf"}, all->dataset = "text", all->chunks = 7;
  for (const auto& t : g.tensors)
    if (const Shape s = t.spec().shape; s.rank > 1 && t.name.starts_with("blk."))
      all->weights[t.name] = std::make_shared<const std::vector<float>>(static_cast<size_t>(s.back() * (s.rank > 2 ? s[0] : 1)), 1.0F);
  return all;
}

// llama-quantize's own choice for each tensor of the model, for every file type, with an importance matrix and without.
TEST(Quantize, TypesAreTheReferences) {
  const Artifact g = example_gguf();
  for (const bool imatrix : {false, true}) {
    std::istringstream in(get_file(local_store(), fmt::format("{}/tests/data/gguf/tensor_types{}.tsv", INGOT_SOURCE_DIR, imatrix ? "_imatrix" : "")));
    std::string line;
    std::getline(in, line);
    std::map<std::string, std::map<std::string, std::string>> want;
    while (std::getline(in, line)) {
      std::istringstream row(line);
      std::string file, tensor, type;
      row >> file >> tensor >> type;
      want[file][tensor] = type;
    }
    EXPECT_EQ(want.size(), imatrix ? 31u : 22u);
    QuantizeOptions o;
    if (imatrix) o.imatrix = ones(g);
    for (const auto& [file, tensors] : want) {
      auto q = quantize_gguf(g, file, o);
      ASSERT_TRUE(q.ok()) << q.error().message;
      EXPECT_EQ(tensors.size(), 44u);
      for (const auto& [name, type] : tensors) {
        const LazyTensor* t = q->find(name);
        ASSERT_NE(t, nullptr) << name;
        EXPECT_EQ(info(t->spec().type).name, type) << file << " " << name;
      }
      // The rest are vectors.
      for (const auto& t : q->tensors)
        if (!tensors.count(t.name)) {
          EXPECT_EQ(t.spec().type, DType::kF32) << t.name;
        }
      EXPECT_EQ(std::get<uint32_t>(q->meta("general.file_type")->v), file_type_by_name(file)->id);
      EXPECT_EQ(q->meta("quantize.imatrix.file") != nullptr, imatrix && file != "F16" && file != "BF16");
    }
  }
}

TEST(Quantize, AnImportanceMatrixOfAnotherModelIsRefused) {
  const Artifact g = example_gguf();
  const auto error = [&](const std::shared_ptr<Importance>& imatrix, std::string_view type, std::vector<std::string>* notices = nullptr) {
    QuantizeOptions o;
    o.imatrix = imatrix, o.to_give_it = "--imatrix FILE", o.advise = true;
    if (notices) o.on_notice = [notices](const std::string& n) { notices->push_back(n); };
    const auto q = quantize_gguf(g, type, o);
    return q.ok() ? std::string() : q.error().message;
  };
  // None at all.
  EXPECT_NE(error(nullptr, "IQ2_XXS").find("such few bits need an importance matrix; give one with --imatrix FILE"), std::string::npos) << error(nullptr, "IQ2_XXS");
  std::vector<std::string> notices;
  EXPECT_EQ(error(nullptr, "Q4_K_M", &notices), "");
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_NE(notices[0].find("Q4_K_M without an importance matrix loses more"), std::string::npos);
  EXPECT_EQ(error(nullptr, "Q5_K_M", &notices), "");
  EXPECT_EQ(notices.size(), 1u);
  // Other sizes.
  auto bad = ones(g);
  bad->weights["blk.1.ffn_down.weight"] = std::make_shared<const std::vector<float>>(7, 1.0F);
  EXPECT_NE(error(bad, "Q4_K_M").find("has 7 values for 'blk.1.ffn_down.weight'"), std::string::npos);
  // Other names.
  auto strange = std::make_shared<Importance>();
  strange->weights["blk.0.attn_qkv.weight"] = std::make_shared<const std::vector<float>>(7, 1.0F);
  EXPECT_NE(error(strange, "Q4_K_M").find("of which none is a tensor of this model: 'blk.0.attn_qkv.weight'"), std::string::npos);
  // Some more, and one less.
  auto other = ones(g);
  other->weights.merge(strange->weights);
  other->weights.erase("blk.2.attn_q.weight");
  notices.clear();
  EXPECT_EQ(error(other, "Q4_K_M", &notices), "");
  ASSERT_EQ(notices.size(), 2u);
  EXPECT_NE(notices[0].find("entries of no tensor"), std::string::npos) << notices[0];
  EXPECT_NE(notices[1].find("no entry of 'blk.2.attn_q.weight'"), std::string::npos) << notices[1];
  EXPECT_NE(error(other, "IQ1_S").find("blk.2.attn_q.weight (IQ1_S)"), std::string::npos) << error(other, "IQ1_S");
}

TEST(Quantize, WhatHasItsTypePassesUnchanged) {
  const Artifact g = example_gguf();
  auto q = quantize_gguf(g, "bf16");
  ASSERT_TRUE(q.ok());
  for (size_t i = 0; i < g.tensors.size(); ++i) EXPECT_EQ(q->tensors[i].node, g.tensors[i].node);
  EXPECT_EQ(q->metadata.size(), g.metadata.size());
}

TEST(Quantize, AQuantizedSourceIsRefused) {
  auto q8 = quantize_gguf(example_gguf(), "Q8_0");
  ASSERT_TRUE(q8.ok());
  EXPECT_TRUE(quantize_gguf(*q8, "Q8_0").ok());
  QuantizeOptions o;
  o.to_allow_it = "or allow it with --allow-requantize";
  auto r = quantize_gguf(*q8, "Q4_K_M", o);
  expect_error(r, {"output.weight", "Q8_0", "F32, F16 or BF16, or allow it with --allow-requantize"});
  expect_error(quantize_gguf(*q8, "Q4_K_M"), {"start from F32, F16 or BF16"});
  o.allow_requantize = true;
  EXPECT_TRUE(quantize_gguf(*q8, "Q4_K_M", o).ok());
}

TEST(Quantize, AQuantizedSourceBecomesFloats) {
  auto q = quantize_gguf(example_gguf(), "Q4_K_M");
  ASSERT_TRUE(q.ok());
  // A block type where quantize itself would not put one.
  set_node(&*q, "blk.0.attn_norm.weight", typed_tensor(DType::kQ8_0, {256}, std::vector<float>(256, 0.5f)));
  for (const auto& [name, type] : {std::pair{"F32", DType::kF32}, {"F16", DType::kF16}, {"BF16", DType::kBF16}}) {
    std::vector<std::string> notices;
    QuantizeOptions o;
    o.on_notice = [&](const std::string& text) { notices.push_back(text); };
    auto f = quantize_gguf(*q, name, o);
    ASSERT_TRUE(f.ok()) << f.error().message;
    for (size_t i = 0; i < f->tensors.size(); ++i) {
      const LazyTensor& t = f->tensors[i];
      const bool was_blocks = is_block_type(q->tensors[i].spec().type);
      EXPECT_EQ(t.spec().type, was_blocks ? type : q->tensors[i].spec().type) << t.name;
      if (!was_blocks || type != DType::kF32) continue;
      EXPECT_EQ(values(t.node), values(q->tensors[i].node)) << t.name;
    }
    EXPECT_EQ(std::get<uint32_t>(f->meta("general.file_type")->v), file_type_by_name(name)->id);
    ASSERT_EQ(notices.size(), 1u);
    EXPECT_NE(notices[0].find("45 tensors"), std::string::npos) << notices[0];
  }
}

TEST(Quantize, Options) {
  const Artifact g = example_gguf();
  QuantizeOptions o;
  o.pure = true;
  auto q = quantize_gguf(g, "Q4_K_M", o);
  EXPECT_EQ(q->find("output.weight")->spec().type, DType::kQ4_K);
  EXPECT_EQ(q->find("blk.5.attn_v.weight")->spec().type, DType::kQ4_K);
  o = {};
  o.leave_output = true;
  EXPECT_EQ(quantize_gguf(g, "Q4_K_M", o)->find("output.weight")->spec().type, DType::kBF16);
  o = {};
  o.output_type = DType::kQ8_0;
  o.token_embedding_type = DType::kF16;
  o.tensor_types = {{"attn_q", DType::kQ6_K}, {"attn_.\\.weight", DType::kQ8_0}};
  q = quantize_gguf(g, "Q4_K_M", o);
  EXPECT_EQ(q->find("output.weight")->spec().type, DType::kQ8_0);
  EXPECT_EQ(q->find("token_embd.weight")->spec().type, DType::kF16);
  EXPECT_EQ(q->find("blk.0.attn_q.weight")->spec().type, DType::kQ6_K);
  EXPECT_EQ(q->find("blk.0.attn_k.weight")->spec().type, DType::kQ8_0);
  EXPECT_EQ(q->find("blk.0.attn_norm.weight")->spec().type, DType::kF32);
  EXPECT_EQ(q->find("blk.0.ffn_up.weight")->spec().type, DType::kQ4_K);
  o.tensor_types = {{"(", DType::kQ6_K}};
  EXPECT_FALSE(quantize_gguf(g, "Q4_K_M", o).ok());
  auto r = quantize_gguf(g, "Q9_X");
  expect_error(r, {"Q9_X", "Q4_K_M", "F16"});
}

TEST(Quantize, ImportanceReachesTheEncoder) {
  const Artifact g = example_gguf();
  QuantizeOptions o;
  auto imp = std::make_shared<std::vector<float>>();
  for (int i = 0; i < 256; ++i) imp->push_back(i < 16 ? 1000.f : 0.001f);
  auto one = std::make_shared<Importance>(), wrong = std::make_shared<Importance>();
  one->weights["blk.0.attn_q.weight"] = imp;
  o.imatrix = one;
  auto plain = quantize_gguf(g, "Q4_K_S"), weighted = quantize_gguf(g, "Q4_K_S", o);
  ASSERT_TRUE(plain.ok() && weighted.ok());
  EXPECT_FALSE(*evaluate(plain->find("blk.0.attn_q.weight")->node) == *evaluate(weighted->find("blk.0.attn_q.weight")->node));
  EXPECT_TRUE(*evaluate(plain->find("blk.0.attn_k.weight")->node) == *evaluate(weighted->find("blk.0.attn_k.weight")->node));
  wrong->weights["blk.0.attn_q.weight"] = std::make_shared<std::vector<float>>(255, 1.f);
  o.imatrix = wrong;
  expect_error(quantize_gguf(g, "Q4_K_S", o), {"blk.0.attn_q.weight", "255", "256"});
}

Artifact rows_of(int64_t cols) {
  Artifact a;
  a.naming = "gguf";
  for (const char* n : {"output.weight", "token_embd.weight", "blk.0.attn_v.weight", "blk.0.ffn_up.weight"})
    a.tensors.push_back({n, f32_tensor({2, cols}, random_floats(2 * cols, 1))});
  a.tensors.push_back({"blk.0.attn_norm.weight", f32_tensor({cols}, random_floats(cols, 2))});
  a.tensors.push_back({"blk.0.ffn_gate_inp.weight", f32_tensor({2, cols}, random_floats(2 * cols, 2))});
  a.tensors.push_back({"one.weight", f32_tensor({1, cols}, random_floats(cols, 2))});
  return a;
}

TEST(Quantize, RowsThatDoNotFitFallBackWithANotice) {
  std::string notices;
  QuantizeOptions o;
  o.on_notice = [&](const std::string& s) { notices += s + "\n"; };
  auto q = quantize_gguf(rows_of(96), "Q6_K", o);  // 96 = 3 * 32
  ASSERT_TRUE(q.ok()) << q.error().message;
  EXPECT_EQ(q->find("blk.0.ffn_up.weight")->spec().type, DType::kQ8_0);
  EXPECT_EQ(q->find("output.weight")->spec().type, DType::kQ8_0);
  EXPECT_NE(notices.find("tensor 'token_embd.weight' (and 2 more) has rows of 96 elements, which Q6_K"), std::string::npos) << notices;
  for (const char* kept : {"blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "one.weight"})
    EXPECT_EQ(q->find(kept)->spec().type, DType::kF32) << kept;
  q = quantize_gguf(rows_of(33), "Q4_K_M", o);
  ASSERT_TRUE(q.ok());
  EXPECT_EQ(q->find("blk.0.ffn_up.weight")->spec().type, DType::kF16);
  EXPECT_EQ(q->find("output.weight")->spec().type, DType::kF16);
  q = quantize_gguf(rows_of(96), "Q4_K_M", o);
  ASSERT_TRUE(q.ok());
  const DType t = q->find("blk.0.ffn_up.weight")->spec().type;
  EXPECT_EQ(t, find_codec(DType::kQ5_0) ? DType::kQ5_0 : DType::kQ8_0);
}

TEST(Quantize, ATensorTypeThatMatchesNothingIsAnError) {
  QuantizeOptions o;
  o.tensor_types = {{"attn_v", DType::kQ8_0}};
  auto q = quantize_gguf(rows_of(256), "Q4_K_M", o);
  ASSERT_TRUE(q.ok());
  EXPECT_EQ(q->find("blk.0.attn_v.weight")->spec().type, DType::kQ8_0);
  for (const char* nothing : {"atn_v", "norm"}) {
    o.tensor_types = {{"attn_v", DType::kQ8_0}, {nothing, DType::kQ8_0}};
    expect_error(quantize_gguf(rows_of(256), "Q4_K_M", o), {fmt::format("'{}' changes nothing", nothing)});
  }
}

// 80 layers with grouped heads are a 70B: attn_v gets more bits. Layers count by number, not by place in the file.
TEST(Quantize, LayerPositionsFollowTheNumbers) {
  Artifact a;
  a.naming = "gguf";
  a.metadata = {{"general.architecture", MetaValue{std::string("llama")}},
                {"llama.block_count", MetaValue{uint32_t{80}}},
                {"llama.attention.head_count", MetaValue{uint32_t{64}}},
                {"llama.attention.head_count_kv", MetaValue{uint32_t{8}}}};
  for (int i = 79; i >= 0; --i)
    for (const char* part : {"attn_v", "ffn_down"})
      a.tensors.push_back({fmt::format("blk.{}.{}.weight", i, part), f32_tensor({2, 256}, random_floats(512, 1))});
  auto m = quantize_gguf(a, "Q4_K_M"), s = quantize_gguf(a, "Q4_K_S");
  ASSERT_TRUE(m.ok() && s.ok());
  for (int i = 0; i < 80; ++i) {
    const bool more = i < 10 || i >= 70 || (i - 10) % 3 == 2;
    EXPECT_EQ(m->find(fmt::format("blk.{}.attn_v.weight", i))->spec().type, more ? DType::kQ6_K : DType::kQ5_K) << i;
    EXPECT_EQ(m->find(fmt::format("blk.{}.ffn_down.weight", i))->spec().type, more ? DType::kQ6_K : DType::kQ4_K) << i;
    EXPECT_EQ(s->find(fmt::format("blk.{}.ffn_down.weight", i))->spec().type, i < 10 ? DType::kQ5_K : DType::kQ4_K) << i;
  }
}

}  // namespace
}  // namespace ingot::transform
