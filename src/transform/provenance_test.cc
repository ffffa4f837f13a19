#include "transform/provenance.h"

#include "formats/manifest.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/quantize.h"
#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

// Base and adapter to a quantized GGUF file in `store`, as `ingot ship --provenance` makes it.
struct Shipped {
  Provenance provenance{"1.2.3", 7};
  Artifact base = example_base(), adapter = example_adapter("lora-code"), made;
  Operations done;

  Shipped() {
    EXPECT_TRUE(provenance.add_input(base, "").ok());
    EXPECT_TRUE(provenance.add_input(adapter, "").ok());
    const Artifact merged = *lora_merge(base, {{adapter, 0.5}});
    done.add("lora merge", {{"weights", {0.5}}}, merged);
    const Artifact gguf = *to_gguf(merged);
    done.add("to gguf", OrderedJson::object(), gguf);
    made = *quantize_gguf(gguf, "Q8_0");
    done.add("quantize", {{"type", "Q8_0"}}, made);
    auto told = provenance.tell(std::move(made), done, false);
    EXPECT_TRUE(told.ok()) << told.error().message;
    made = *std::move(told);
  }
  Result<ExecReport> run(Store& store, int threads, int64_t tile) {
    ExecOptions o;
    o.threads = threads;
    o.tile_elements = tile;
    o.memory = 64 << 20;
    return run_job(provenance.complete({gguf_output(made, store, "m.gguf")}), o);
  }
};

// The manifest that lies in a file, its hashes compared with those of what the file holds.
Json manifest_of(Store& store, const std::string& path) {
  Artifact a = open_or_die(store, path);
  const std::string text = take_manifest(&a);
  const Json j = *parse_json(text, path);
  const ContentHash what = *content_hash(a);
  ExecOptions o;
  auto journal = make_memory_store();
  o.journal_store = journal.get();
  o.journal_path = "journal";
  const auto report = run_job({what.output}, o);
  EXPECT_TRUE(report.ok()) << report.error().message;
  const ContentHash::Roots roots = [&](size_t f) { return report->digests[0][f]; };
  EXPECT_EQ(j["content"]["exact"], hash_of(what.exact, roots));
  EXPECT_EQ(j["content"]["value"], hash_of(what.value, roots));
  return j;
}

TEST(Provenance, TellsInputsOperationsAndContentInOnePass) {
  Shipped s;
  auto store = make_memory_store();
  const auto report = s.run(*store, 2, 0);
  ASSERT_TRUE(report.ok()) << report.error().message;
  const Json j = manifest_of(*store, "m.gguf");
  EXPECT_EQ(j["format"], "ingot manifest 1");
  EXPECT_EQ(j["ingot"], "1.2.3");
  EXPECT_EQ(j["seed"], 7);
  ASSERT_EQ(j["inputs"].size(), 2u);
  EXPECT_EQ(j["inputs"][0]["format"], "safetensors");
  EXPECT_EQ(j["inputs"][0]["value"], "4c4378fcedeef692b29607dea9959a78");  // as 'ingot hash' gives for the example
  EXPECT_EQ(j["inputs"][1]["format"], "peft");
  ASSERT_EQ(j["operations"].size(), 3u);
  EXPECT_EQ(j["operations"][0]["weights"], Json({0.5}));
  EXPECT_EQ(j["operations"][2]["type"], "Q8_0");
  // Each step where it was added, with its version.
  EXPECT_NE(j["operations"][0]["steps"].dump().find("lora v1"), std::string::npos);
  EXPECT_NE(j["operations"][1]["steps"].dump().find("permute_rope v1"), std::string::npos);
  EXPECT_EQ(j["operations"][1]["steps"].dump().find("lora"), std::string::npos);
  EXPECT_NE(j["operations"][2]["steps"].dump().find("Q8_0v2"), std::string::npos);
  EXPECT_EQ(get_file(*store, "m.gguf").find("placeholder"), std::string::npos);
  // Factors of the adapter that many tiles need are read for these apart; all else once.
  uint64_t base = 0, adapter = 0;
  for (const auto& t : s.base.tensors) base += bytes_of(t.spec());
  for (const auto& t : s.adapter.tensors) adapter += bytes_of(t.spec());
  EXPECT_LE(report->source_bytes, base + 2 * adapter);
  EXPECT_TRUE(s.provenance.contradictions(*report).empty());
}

TEST(Provenance, SameBytesForAnyThreadsAndTiles) {
  std::string want;
  for (const auto& [threads, tile] : {std::pair{1, int64_t{0}}, {7, int64_t{5000}}}) {
    Shipped s;
    auto store = make_memory_store();
    const auto report = s.run(*store, threads, tile);
    ASSERT_TRUE(report.ok()) << report.error().message;
    const std::string file = get_file(*store, "m.gguf");
    if (want.empty()) want = file;
    EXPECT_TRUE(file == want) << threads;
  }
}

TEST(Provenance, OfSplitsTheFirstTellsOfAll) {
  Shipped s;
  auto store = make_memory_store();
  std::vector<Output> files = *gguf_outputs(s.made, *store, "m.gguf", 2 << 20);
  ASSERT_GT(files.size(), 2u);
  const std::string first = files[0].path;
  ExecOptions o;
  o.memory = 64 << 20;
  const auto report = run_job(s.provenance.complete(std::move(files)), o);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(manifest_of(*store, first)["operations"].size(), 3u);
}

TEST(Provenance, OfADirectoryAndOfAFileOfWeightsAlone) {
  Artifact base = example_base();
  // Dropped only where the configuration is.
  base.tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", f32_tensor({2}, {1, 2})});
  for (bool directory : {true, false}) {
    auto store = make_memory_store();
    Provenance p("1", 0);
    ASSERT_TRUE(p.add_input(base, "").ok());
    Operations done;
    done.add("write", {{"format", "safetensors"}}, base);
    const auto made = p.tell(base, done, directory);
    ASSERT_TRUE(made.ok()) << made.error().message;
    const Output output = directory ? hf_directory_output(*made, *store, "m") : safetensors_output(*made, *store, "m.safetensors");
    const auto report = run_job(p.complete({output}), {});
    ASSERT_TRUE(report.ok()) << report.error().message;
    const Json j = manifest_of(*store, directory ? "m" : "m.safetensors");
    EXPECT_EQ(j["content"]["exact"], j["inputs"][0]["exact"]);
    EXPECT_EQ(j["content"]["value"] == j["inputs"][0]["value"], directory);
  }
}

TEST(Provenance, NamesTheInputsOfAnInputAndTellsWhereItsManifestIsNotOfIt) {
  Shipped s;
  auto store = make_memory_store();
  ASSERT_TRUE(s.run(*store, 2, 0).ok());
  Artifact opened = open_or_die(*store, "m.gguf");
  std::string text = take_manifest(&opened);
  const Json first = *parse_json(text, "m");
  for (bool wrong : {false, true}) {
    Provenance p("1", 0);
    if (wrong) text.replace(text.find(first["content"]["exact"].get<std::string>()), 4, "0123");
    ASSERT_TRUE(p.add_input(opened, text).ok());
    const auto made = p.tell(opened, Operations(), false);
    ASSERT_TRUE(made.ok());
    const std::string path = wrong ? "b.gguf" : "a.gguf";
    const auto report = run_job(p.complete({gguf_output(*made, *store, path)}), {});
    ASSERT_TRUE(report.ok()) << report.error().message;
    const Json j = manifest_of(*store, path);
    EXPECT_EQ(j["inputs"][0]["exact"], first["content"]["exact"]);
    EXPECT_EQ(j["inputs"][0]["inputs"], first["inputs"]);
    EXPECT_EQ(p.contradictions(*report).size(), wrong ? 1u : 0u);
  }
  EXPECT_FALSE(Provenance("1", 0).add_input(opened, "{").ok());
}

TEST(Provenance, AModelThatHasTheTextOfAPlaceIsRefused) {
  Artifact base = example_base();
  base.files["tokenizer_config.json"] = R"({"name": "ingot-manifest-placeholder-00000"})";
  auto store = make_memory_store();
  Provenance p("1", 0);
  ASSERT_TRUE(p.add_input(base, "").ok());
  const auto made = p.tell(base, Operations(), true);
  const auto report = run_job(p.complete({hf_directory_output(*made, *store, "m")}), {});
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("leave --provenance out"), std::string::npos) << report.error().message;
  EXPECT_FALSE(is_there(*store, "m"));
}

}  // namespace
}  // namespace ingot::transform
