// The files of an importance matrix: what stands where in them is what llama-imatrix writes, both kinds say the same, and what they will be is known before the sums are.
#include "calibrate/importance_file.h"

#include <filesystem>

#include "formats/formats_testing.h"
#include "transform/imatrix_entries.h"

namespace ingot::calibrate {
namespace {

using namespace ingot::testing;

const std::vector<WeightShape> kShapes = {{"blk.1.ffn_up_exps.weight", 2, 3}, {"blk.0.attn_q.weight", 4, 1}};

transform::ImportanceSums sums() {
  transform::ImportanceSums s;
  s.entries["blk.0.attn_q.weight"] = {{1, 2, 3, 4e-3}, {700}, "this run"};
  s.entries["blk.1.ffn_up_exps.weight"] = {{10, 20, 0, 0, 7, 5}, {600, 0, 3}, "this run"};
  return s;
}

ImportanceFileOptions options(bool older, std::string key = "k") {
  ImportanceFileOptions o;
  o.older = older, o.key = std::move(key);
  o.datasets = {"a.txt", "b.txt"}, o.chunks = 2, o.chunk_size = 512;
  return o;
}

void run(const Output& o) {
  const auto r = run_job({o}, {});
  ASSERT_TRUE(r.ok()) << r.error().message;
}

TEST(ImportanceFile, IsWhatWasPutIn) {
  const auto store = make_memory_store();
  ImportanceFile file(kShapes, options(false));
  ASSERT_TRUE(file.fill(sums()).ok());
  run(file.output(*store, "m.gguf"));
  const auto a = open_model(*store, "m.gguf");
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->naming, "imatrix");
  const std::vector<std::string> keys = {"general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"};
  ASSERT_EQ(a->metadata.size(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(a->metadata[i].first, keys[i]);
  // By name, each weight's sums before its counts, a matrix in one dimension.
  std::vector<std::string> tensors;
  for (const auto& t : a->tensors) tensors.push_back(t.name + " " + to_string(t.spec().shape));
  EXPECT_EQ(tensors, (std::vector<std::string>{"blk.0.attn_q.weight.in_sum2 [4]", "blk.0.attn_q.weight.counts [1]", "blk.1.ffn_up_exps.weight.in_sum2 [3, 2]", "blk.1.ffn_up_exps.weight.counts [3, 1]"}));
  EXPECT_EQ(to_floats(*evaluate(a->tensors[0].node)), (std::vector<float>{1, 2, 3, 4e-3F}));
  EXPECT_EQ(to_floats(*evaluate(a->tensors[3].node)), (std::vector<float>{600, 0, 3}));
  const auto read = transform::read_importance_sums({*a});
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->datasets, (std::vector<std::string>{"a.txt", "b.txt"}));
  EXPECT_EQ(read->chunks, 2u);
  EXPECT_EQ(read->chunk_size, 512u);
  EXPECT_EQ(read->entries.at("blk.1.ffn_up_exps.weight").values, (std::vector<double>{10, 20, 0, 0, 7, 5}));
  EXPECT_EQ(shapes_of(*read).size(), 2u);
}

// The keys, types and shapes of llama-imatrix's own file of the bundled model.
TEST(ImportanceFile, HasTheFormOfTheReferences) {
  const auto store = make_memory_store();
  const std::string path = std::string(INGOT_SOURCE_DIR) + "/tests/data/quant/imatrix.gguf";
  const auto at = locate(path);
  ASSERT_TRUE(at.ok());
  const auto reference = open_model(*at->store, at->path);
  ASSERT_TRUE(reference.ok()) << reference.error().message;
  const auto read = transform::read_importance_sums({*reference});
  ASSERT_TRUE(read.ok()) << read.error().message;
  for (const bool older : {false, true}) {
    ImportanceFileOptions o;
    o.older = older, o.datasets = read->datasets, o.chunks = read->chunks, o.chunk_size = read->chunk_size;
    ImportanceFile file(shapes_of(*read), o);
    ASSERT_TRUE(file.fill(*read).ok());
    run(file.output(*store, older ? "m.dat" : "m.gguf"));
  }
  // Byte for byte: sums in f32 become f64 and f32 again.
  EXPECT_EQ(get_file(*store, "m.gguf") == get_file(*at->store, path), true);
  const std::string dat = std::string(INGOT_SOURCE_DIR) + "/tests/data/quant/imatrix.dat";
  EXPECT_EQ(get_file(*store, "m.dat") == get_file(*at->store, dat), true);
}

TEST(ImportanceFile, TheOlderKindSaysTheSameAsLlamaImatrixWouldMakeOfTheNewer) {
  const auto store = make_memory_store();
  auto s = sums();
  s.entries["blk.2.attn_q.weight"] = {{0, 0, 0, 0}, {0}, "this run"};
  auto shapes = kShapes;
  shapes.push_back({"blk.2.attn_q.weight", 4, 1});
  for (const bool older : {false, true}) {
    ImportanceFile file(shapes, options(older));
    ASSERT_TRUE(file.fill(s).ok());
    run(file.output(*store, older ? "m.dat" : "m.gguf"));
  }
  const auto older = open_model(*store, "m.dat");
  ASSERT_TRUE(older.ok()) << older.error().message;
  const auto newer = transform::imatrix_entries(*open_model(*store, "m.gguf"));
  ASSERT_TRUE(newer.ok()) << newer.error().message;
  // What no token reached is left out there, and an expert that none reached has ones.
  ASSERT_EQ(older->tensors.size(), 2u);
  ASSERT_EQ(newer->tensors.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(older->tensors[i].name, newer->tensors[i].name);
    EXPECT_EQ(to_floats(*evaluate(older->tensors[i].node)), to_floats(*evaluate(newer->tensors[i].node)));
  }
  EXPECT_EQ(to_floats(*evaluate(older->tensors[1].node))[2], 2);
  EXPECT_EQ(older->values.at("calls"), "[2,2]");
  EXPECT_EQ(older->values.at("calls"), newer->values.at("calls"));
  EXPECT_EQ(older->values.at("chunks"), "2");
  EXPECT_EQ(older->values.at("dataset"), "\"b.txt\"");
}

TEST(ImportanceFile, IsPlannedBeforeItsSumsAreThere) {
  const std::string path = std::filesystem::temp_directory_path() / fmt::format("ingot_importance_file_{}.gguf", getpid());
  const auto at = locate(path);
  ASSERT_TRUE(at.ok());
  (void)at->store->remove(path);
  const ImportanceFile early(kShapes, options(false));
  const auto plan = plan_job({early.output(*at->store, path)}, {});
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_FALSE(plan->up_to_date);
  EXPECT_FALSE(evaluate(early.output(*at->store, path).artifact.tensors[0].node).ok());
  ImportanceFile file(kShapes, options(false));
  ASSERT_TRUE(file.fill(sums()).ok());
  run(file.output(*at->store, path));
  // Found done by what it is made of, which another key is not.
  const bool notes = !at->store->note(path).empty();
  const auto again = plan_job({early.output(*at->store, path)}, {});
  EXPECT_EQ(again.ok() && again->up_to_date, notes);
  EXPECT_FALSE(plan_job({ImportanceFile(kShapes, options(false, "other")).output(*at->store, path)}, {}).ok());
  (void)at->store->remove(path);
}

TEST(ImportanceFile, WhatDoesNotFitIsNamed) {
  const auto refused = [](transform::ImportanceSums s) {
    ImportanceFile file(kShapes, options(false));
    const Status done = file.fill(s);
    return done.ok() ? "" : done.error().message;
  };
  auto s = sums();
  s.entries.erase("blk.0.attn_q.weight");
  EXPECT_NE(refused(s).find("no sums of 'blk.0.attn_q.weight'"), std::string::npos);
  s = sums();
  s.entries["blk.0.attn_q.weight"].values.pop_back();
  EXPECT_NE(refused(s).find("3 sums of 1 matrices"), std::string::npos);
  s = sums();
  s.entries["blk.0.attn_q.weight"].values[2] = 1e39;
  EXPECT_NE(refused(s).find("column 2"), std::string::npos);
}

}  // namespace
}  // namespace ingot::calibrate
