// The public C++ API (include/ingot/ingot.h) alone: nothing of src/ is included here.
#include <gtest/gtest.h>
#include <ingot/ingot.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <thread>

#include "program.h"

namespace {

using namespace ingot::testing;  // NOLINT: test helpers

using Api = CliTest;

TEST_F(Api, OpenTransformWriteGivesTheProgramsBytes) {
  auto base = ingot::open(example("tiny-llama-base"));
  ASSERT_TRUE(base.ok()) << base.error().message;
  EXPECT_EQ(base->format(), "safetensors");
  EXPECT_EQ(base->tensors().size(), 57u);
  EXPECT_NE(base->file("config.json").find("LlamaForCausalLM"), std::string::npos);
  auto merged = ingot::lora_merge(*base, {{example("lora-code")}});
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  auto gguf = ingot::to_gguf(*merged);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  auto q4 = ingot::quantize(*gguf, "Q4_K_M");
  auto q8 = ingot::quantize(*gguf, "q8_0");
  ASSERT_TRUE(q4.ok()) << q4.error().message;
  ASSERT_TRUE(q8.ok()) << q8.error().message;
  auto report = ingot::write({{*q4, dir_ / "q4.gguf"}, {*q8, dir_ / "q8.gguf"}});
  ASSERT_TRUE(report.ok()) << report.error().message;
  ASSERT_EQ(report->outputs.size(), 2u);
  EXPECT_EQ(report->outputs[0].hash.size(), 32u);
  ASSERT_EQ(ingot::testing::ingot({"ship", example("tiny-llama-base"), "--adapter", example("lora-code"), "--type",
                                   "Q4_K_M,Q8_0", "--out", dir_ / "p-{type}.gguf"})
                .exit_code,
            0);
  EXPECT_TRUE(same_bytes(dir_ / "q4.gguf", dir_ / "p-Q4_K_M.gguf"));
  EXPECT_TRUE(same_bytes(dir_ / "q8.gguf", dir_ / "p-Q8_0.gguf"));
}

TEST_F(Api, NoticesOfWhatWasOpenedAreKept) {
  const auto base = ingot::open(example("tiny-llama-base"));
  ASSERT_TRUE(base.ok());
  EXPECT_TRUE(base->notices().empty());
  ingot::WriteOptions options;
  options.max_shard_bytes = 4'000'000;
  ASSERT_TRUE(ingot::write(*base, dir_ / "m", options).ok());
  std::filesystem::remove(dir_ / "m/model.safetensors.index.json");
  const auto sharded = ingot::open(dir_ / "m");
  ASSERT_TRUE(sharded.ok()) << sharded.error().message;
  ASSERT_EQ(sharded->notices().size(), 1u);
  const auto merged = ingot::lora_merge(*sharded, {{example("lora-code")}});
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  const auto gguf = ingot::to_gguf(*merged);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  EXPECT_EQ(gguf->notices(), sharded->notices());
}

TEST_F(Api, ReadGivesValuesAndTransformsAreLazy) {
  auto base = ingot::open(example("tiny-llama-base"));
  ASSERT_TRUE(base.ok());
  auto norm = base->read("model.norm.weight");
  ASSERT_TRUE(norm.ok()) << norm.error().message;
  ASSERT_EQ(norm->size(), 256u);
  auto f16 = ingot::cast(*base, "f16");
  ASSERT_TRUE(f16.ok());
  EXPECT_EQ(f16->tensors()[0].type, "F16");
  auto same = f16->read("model.norm.weight");
  ASSERT_TRUE(same.ok());
  for (size_t i = 0; i < norm->size(); ++i) EXPECT_NEAR((*same)[i], (*norm)[i], std::abs((*norm)[i]) / 1024);
  const auto merged = ingot::lora_merge(*base, {{example("lora-code"), 0.5}});
  ASSERT_TRUE(merged.ok());
  auto changed = merged->read("model.layers.0.self_attn.q_proj.weight");
  ASSERT_TRUE(changed.ok()) << changed.error().message;
  EXPECT_NE(*changed, *base->read("model.layers.0.self_attn.q_proj.weight"));
}

TEST_F(Api, ErrorsAreOfTheirKindAndNothingThrows) {
  EXPECT_EQ(ingot::open("nowhere").error().kind, ingot::ErrorKind::kBadInput);
  auto base = ingot::open(example("tiny-llama-base"));
  ASSERT_TRUE(base.ok());
  EXPECT_EQ(base->read("no.such.tensor").error().kind, ingot::ErrorKind::kBadInput);
  EXPECT_EQ(ingot::cast(*base, "Q4_K").error().kind, ingot::ErrorKind::kUsage);
  EXPECT_EQ(ingot::quantize(*base, "Q4_K_M").error().kind, ingot::ErrorKind::kUsage);  // not GGUF-shaped
  auto gguf = ingot::to_gguf(*base);
  ASSERT_TRUE(gguf.ok());
  EXPECT_EQ(ingot::quantize(*gguf, "Q9_Z").error().kind, ingot::ErrorKind::kUsage);
  EXPECT_EQ(ingot::lora_merge(*base, {{example("tiny-llama-base")}}).error().kind, ingot::ErrorKind::kBadInput);
  EXPECT_EQ(ingot::write(std::vector<ingot::WriteTarget>{}).error().kind, ingot::ErrorKind::kUsage);
  EXPECT_EQ(ingot::write(*base, dir_ / "x.gguf").error().kind, ingot::ErrorKind::kUsage);  // not GGUF-shaped
  EXPECT_EQ(ingot::write(*gguf, dir_ / "directory").error().kind, ingot::ErrorKind::kUsage);
  EXPECT_FALSE(ingot::to_gguf(ingot::LazyModel()).ok());
  EXPECT_TRUE(ingot::LazyModel().tensors().empty());
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

TEST_F(Api, AMovedFromModelIsStillAModel) {
  auto base = ingot::open(example("tiny-llama-base"));
  ASSERT_TRUE(base.ok());
  ingot::LazyModel a = *base;
  ingot::LazyModel b = std::move(a);
  EXPECT_FALSE(b.tensors().empty());
  EXPECT_NO_FATAL_FAILURE((void)a.tensors());  // NOLINT: that is the point
}

TEST_F(Api, ProgressIsReportedAndCancelStopsAndTheSameCallGoesOn) {
  make_model(dir_ / "model", 150);
  auto model = ingot::open(dir_ / "model");
  ASSERT_TRUE(model.ok()) << model.error().message;
  auto gguf = ingot::to_gguf(*model);
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  auto small = ingot::quantize(*gguf, "Q4_K_M");
  ASSERT_TRUE(small.ok()) << small.error().message;
  std::atomic<uint64_t> done{0};
  std::atomic<bool> overlapped{false}, inside{false};
  ingot::WriteOptions options;
  options.threads = 2;
  options.memory = 128 << 20;
  options.progress = [&](const ingot::WriteProgress& p) {
    if (inside.exchange(true)) overlapped = true;
    if (p.phase == "write" && p.done > p.total / 4) done = p.done;
    inside = false;
  };
  options.cancel = [&] { return done > 0; };
  const auto stopped = ingot::write(*small, dir_ / "out.gguf", options);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().kind, ingot::ErrorKind::kInterrupted) << stopped.error().message;
  EXPECT_FALSE(exists(dir_ / "out.gguf"));
  EXPECT_FALSE(overlapped);
  std::string left;
  for (const std::string& name : entries(dir_.path()))
    if (name != "model") left += name + " of " + std::to_string(std::filesystem::file_size(dir_ / name)) + " bytes; ";
  options.cancel = nullptr;
  const auto report = ingot::write(*small, dir_ / "out.gguf", options);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_GT(report->resumed_bytes, 0u) << "stopped after " << done << " bytes, which left " << left;
  // The same call again finds its work done; another one's output is kept.
  if (keeps_notes(dir_.path())) {
    const auto again = ingot::write(*small, dir_ / "out.gguf", options);
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_TRUE(again->outputs[0].up_to_date);
    EXPECT_EQ(again->outputs[0].hash, report->outputs[0].hash);
  }
  const auto other = ingot::quantize(*gguf, "Q8_0");
  ASSERT_TRUE(other.ok());
  EXPECT_FALSE(ingot::write(*other, dir_ / "out.gguf", options).ok());
}

TEST_F(Api, OneModelServesManyThreads) {
  auto base = ingot::open(example("tiny-llama-base"));
  ASSERT_TRUE(base.ok());
  const auto expected = base->read("lm_head.weight");
  ASSERT_TRUE(expected.ok());
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 5; ++k) {
        const auto v = base->read("lm_head.weight");
        if (!v.ok() || *v != *expected) ++wrong;
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
