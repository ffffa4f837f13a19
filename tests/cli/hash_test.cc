// Hashes of what models hold, manifests, and what verify makes of both.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "ingot/ingot.h"
#include "program.h"

namespace ingot::testing {
namespace {

const std::string kBase = example("tiny-llama-base"), kLora = example("lora-code");

std::string shown(const Finished& f) { return "exit " + std::to_string(f.exit_code) + "\n" + f.out + f.err; }

class Hashes : public CliTest {
 protected:
  SpawnOptions cached() const {
    SpawnOptions o;
    o.set["XDG_CACHE_HOME"] = dir_ / "cache";
    return o;
  }
  nlohmann::json hash(const std::string& path) const {
    const Finished f = ingot({"hash", path, "--json"}, cached());
    EXPECT_EQ(f.exit_code, 0) << shown(f);
    return result_of(f);
  }
  Finished verify(const std::string& path) const { return ingot({"verify", path}, cached()); }
  // A copy as another machine gets it: without the note of its hash.
  std::string copy(const std::string& path, const std::string& name) const {
    std::filesystem::copy(path, dir_ / name, std::filesystem::copy_options::recursive);
    return dir_ / name;
  }
  static void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
    EXPECT_EQ(f.exit_code, exit_code) << shown(f);
    for (const std::string& part : parts) EXPECT_NE((f.out + f.err).find(part), std::string::npos) << part << " in: " << f.out << f.err;
  }
};

void flip(const std::string& path, const std::string& after, size_t by) {
  std::string bytes = read_file(path);
  const size_t at = after.empty() ? by : bytes.find(after) + after.size() + by;
  bytes.at(at) = static_cast<char>(bytes.at(at) ^ 1);
  write_file(path, bytes);
}

TEST_F(Hashes, BaseAndItsGgufFilesHaveOneValueAMergeAnother) {
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "bf16.gguf"}).exit_code, 0);
  ASSERT_EQ(ingot({"convert", kBase, "--type", "F32", "--out", dir_ / "f32.gguf"}).exit_code, 0);
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "shards", "--max-shard-size", "4MB"}).exit_code, 0);
  ASSERT_EQ(ingot({"lora", "merge", kBase, "--adapter", kLora, "--out", dir_ / "merged"}).exit_code, 0);
  ASSERT_EQ(ingot({"ship", kBase, "--adapter", kLora, "--type", "BF16", "--out", dir_ / "merged.gguf"}).exit_code, 0);
  const auto base = hash(kBase), bf16 = hash(dir_ / "bf16.gguf"), f32 = hash(dir_ / "f32.gguf"), merged = hash(dir_ / "merged");
  EXPECT_EQ(bf16["value"], base["value"]);
  EXPECT_EQ(f32["value"], base["value"]);
  EXPECT_EQ(hash(dir_ / "shards")["exact"], base["exact"]);
  EXPECT_NE(bf16["exact"], base["exact"]);
  EXPECT_NE(f32["exact"], bf16["exact"]);
  EXPECT_NE(merged["value"], base["value"]);
  EXPECT_EQ(hash(dir_ / "merged.gguf")["value"], merged["value"]);
  // Each tensor: as it lies, and as the source has it.
  EXPECT_EQ(base["tensors"]["value"], f32["tensors"]["value"]);
  EXPECT_EQ(base["tensors"]["exact"][0]["name"], "lm_head.weight");
  EXPECT_EQ(base["tensors"]["exact"][0]["type"], "BF16");
  EXPECT_EQ(f32["tensors"]["exact"].size(), 57u);
  EXPECT_FALSE(base.contains("note"));
  EXPECT_EQ(hash(kLora)["format"], "peft");
  EXPECT_TRUE(entries(dir_ / "cache/ingot").empty());
}

TEST_F(Hashes, ArePrintedWithALineForEachTensorIfAsked) {
  const Finished f = ingot({"hash", kBase}, cached());
  EXPECT_EQ(f.err, "");
  EXPECT_EQ(std::count(f.out.begin(), f.out.end(), '\n'), 3) << f.out;
  const Finished each = ingot({"hash", kBase, "--tensors"}, cached());
  EXPECT_TRUE(each.out.starts_with(f.out)) << each.out;
  EXPECT_EQ(std::count(each.out.begin(), each.out.end(), '\n'), 3 + 1 + 2 * 57) << each.out;
  expect_said(each, 0, {"exact  model.norm.weight", "value  model.norm.weight", "BF16", "[4096, 256]"});
  expect_said(ingot({"hash", kBase, "--dry-run"}, cached()), 0, {"reads 13.6 MB in", "the least that works"});
  expect_said(ingot({"hash", kBase, "--memory", "1M"}, cached()), 2, {"the least that works here is"});
  expect_said(ingot({"hash", kBase, "--force", "--provenance"}, cached()), 0, {"--force changes nothing", "--provenance changes nothing"});
}

TEST_F(Hashes, AClassThatIsNamedByModelTypeAloneIsKnown) {
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "m.gguf"}).exit_code, 0);
  const std::string base = copy(kBase, "nameless");
  auto config = nlohmann::json::parse(read_file(base + "/config.json"));
  config.erase("architectures");
  write_file(base + "/config.json", config.dump());
  const auto nameless = hash(base);
  EXPECT_EQ(nameless["value"], hash(dir_ / "m.gguf")["value"]);
  EXPECT_FALSE(nameless.contains("note")) << nameless["note"];
}

TEST_F(Hashes, OfAnUnknownArchitectureTheValueSaysSo) {
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "m.gguf"}).exit_code, 0);
  std::string bytes = read_file(dir_ / "m.gguf");
  const std::string key = "general.architecture";
  bytes.replace(bytes.find("llama", bytes.find(key)), 5, "xlama");
  write_file(dir_ / "x.gguf", bytes);
  const auto known = hash(dir_ / "m.gguf"), unknown = hash(dir_ / "x.gguf");
  EXPECT_EQ(unknown["exact"], known["exact"]);
  EXPECT_NE(unknown["value"], known["value"]);
  EXPECT_NE(unknown["note"].get<std::string>().find("'xlama'"), std::string::npos);
  expect_said(ingot({"hash", dir_ / "x.gguf"}, cached()), 0, {"note: ", "does not know the architecture 'xlama'"});
}

TEST_F(Hashes, ARunThatWasKilledGoesOnAndTheCacheIsNotNeeded) {
  make_model(dir_ / "big", 240);
  const std::vector<std::string> words = {INGOT_PROGRAM, "hash", dir_ / "big", "--threads", "1", "--json"};
  // The journal's bytes; hashing is too fast for the events to tell how far it is.
  const auto recorded = [&] {
    uint64_t bytes = 0;
    std::error_code error;
    for (const auto& e : std::filesystem::directory_iterator(dir_ / "cache/ingot", error)) bytes += e.file_size(error);
    return bytes;
  };
  for (const int signal : {SIGKILL, SIGTERM}) {
    bool stopped = false;
    for (int tries = 0; tries < 20 && !stopped; ++tries) {
      Child child(words, cached());
      const uint64_t before = recorded();
      child.wait_for([&](const std::string&) { return recorded() > before + 2000; });
      child.send(signal);
      const Finished f = child.finish();
      stopped = f.exit_code != 0;
      if (stopped && signal == SIGTERM) {
        EXPECT_EQ(f.exit_code, 4) << shown(f);
      }
    }
    ASSERT_TRUE(stopped) << "it was faster than the signal every time";
    EXPECT_GT(recorded(), 1000u);
  }
  const Finished rest = Child(words, cached()).finish();
  ASSERT_EQ(rest.exit_code, 0) << shown(rest);
  uint64_t resumed = 0;
  for (const auto& e : events_of(rest.err))
    if (e["event"] == "progress") resumed = std::max(resumed, e["resumed"].get<uint64_t>());
  EXPECT_GT(resumed, 10'000'000u) << rest.err;
  EXPECT_TRUE(entries(dir_ / "cache/ingot").empty());
  SpawnOptions nowhere;
  nowhere.set = {{"XDG_CACHE_HOME", "/proc/none"}};
  const Finished fresh = ingot({"hash", dir_ / "big", "--json"}, nowhere);
  EXPECT_EQ(result_of(fresh)["exact"], result_of(rest)["exact"]) << shown(fresh);
  EXPECT_EQ(result_of(fresh)["value"], result_of(rest)["value"]);
}

TEST_F(Hashes, ManifestsTellFromWhatEachOutputWasMade) {
  const Finished f = ingot({"ship", kBase, "--adapter", kLora, "--weight", "0.5", "--type", "Q4_K_M,BF16", "--out", dir_ / "m-{type}.gguf", "--keep",
                            "merged=" + (dir_ / "merged"), "--provenance", "--json"});
  ASSERT_EQ(f.exit_code, 0) << shown(f);
  const auto result = result_of(f);
  EXPECT_EQ(result["outputs"].size(), 3u) << "what is hashed alone is no output";
  const Finished bare = ingot({"ship", kBase, "--adapter", kLora, "--weight", "0.5", "--type", "Q4_K_M,BF16", "--out", dir_ / "n-{type}.gguf", "--keep",
                               "merged=" + (dir_ / "bare"), "--json"});
  EXPECT_EQ(result["written_bytes"], result_of(bare)["written_bytes"]) << "nor written";
  EXPECT_EQ((f.out + f.err).find("hashes of"), std::string::npos) << shown(f);
  const auto base = hash(kBase), lora = hash(kLora);
  const auto merged = nlohmann::json::parse(read_file(dir_ / "merged/ingot_manifest.json"));
  ASSERT_EQ(merged["inputs"].size(), 2u);
  EXPECT_EQ(merged["inputs"][0]["exact"], base["exact"]);
  EXPECT_EQ(merged["inputs"][0]["value"], base["value"]);
  EXPECT_EQ(merged["inputs"][1]["exact"], lora["exact"]);
  EXPECT_EQ(merged["content"]["exact"], hash(dir_ / "merged")["exact"]);
  EXPECT_EQ(merged["operations"][0]["weights"], nlohmann::json({0.5}));
  const auto inspected = [&](const std::string& path) {
    return nlohmann::json::parse(result_of(ingot({"inspect", path, "--json"}))["metadata"]["ingot.manifest"].get<std::string>());
  };
  const auto q4 = inspected(dir_ / "m-Q4_K_M.gguf"), bf16 = inspected(dir_ / "m-BF16.gguf");
  EXPECT_EQ(q4["inputs"], merged["inputs"]);
  EXPECT_EQ(q4["content"]["exact"], hash(dir_ / "m-Q4_K_M.gguf")["exact"]);
  EXPECT_EQ(q4["operations"][2]["type"], "Q4_K_M");
  EXPECT_EQ(bf16["content"]["value"], merged["content"]["value"]) << "the same model";
  for (const std::string& text : {q4.dump(), merged.dump()}) EXPECT_EQ(text.find('/'), std::string::npos) << "no path: " << text;
  // A plan names the same files.
  const Finished plan = ingot({"convert", kBase, "--out", dir_ / "p.gguf", "--provenance", "--dry-run", "--json"});
  EXPECT_EQ(result_of(plan)["files"].size(), 1u) << shown(plan);
  // Of an input with a manifest, its inputs too; a manifest is passed on to nothing that was made without one.
  ASSERT_EQ(ingot({"quantize", dir_ / "m-BF16.gguf", "--type", "Q8_0", "--provenance", "--out", dir_ / "chain.gguf"}).exit_code, 0);
  const auto chain = inspected(dir_ / "chain.gguf");
  EXPECT_EQ(chain["inputs"][0]["exact"], bf16["content"]["exact"]);
  EXPECT_EQ(chain["inputs"][0]["inputs"], merged["inputs"]);
  ASSERT_EQ(ingot({"convert", dir_ / "m-BF16.gguf", "--type", "F16", "--out", dir_ / "plain.gguf"}).exit_code, 0);
  ASSERT_EQ(ingot({"convert", dir_ / "merged", "--out", dir_ / "plain", "--force-copy"}).exit_code, 0);
  ASSERT_TRUE(::ingot::write(*::ingot::open(dir_ / "m-BF16.gguf"), dir_ / "api.gguf").ok());
  for (const char* name : {"plain.gguf", "api.gguf"}) EXPECT_EQ(read_file(dir_ / name).find("ingot manifest"), std::string::npos) << name;
  EXPECT_FALSE(exists(dir_ / "plain/ingot_manifest.json"));
  // An older directory with one is replaced as a whole.
  EXPECT_EQ(ingot({"convert", dir_ / "plain", "--out", dir_ / "merged", "--force", "--force-copy"}).exit_code, 0);
}

TEST_F(Hashes, ManifestsAndBytesAreTheSameForAnyThreadsMemoryAndRanks) {
  const auto words = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> w = {"ship", kBase, "--adapter", kLora, "--type", "Q4_K_M", "--out", dir_ / (name + ".gguf"), "--keep",
                                  "merged=" + (dir_ / name), "--provenance"};
    w.insert(w.end(), more.begin(), more.end());
    return w;
  };
  ASSERT_EQ(ingot(words("a", {"--threads", "1"})).exit_code, 0);
  const Finished f = ingot(words("b", {"--threads", "7", "--memory", "16M", "--verify", "none"}));
  ASSERT_EQ(f.exit_code, 0) << shown(f);
  std::vector<std::unique_ptr<Child>> ranks;
  for (const char* rank : {"0", "1"}) {
    std::vector<std::string> w = words("c", {});
    w.insert(w.begin(), INGOT_PROGRAM);
    SpawnOptions o;
    o.set = {{"OMPI_COMM_WORLD_RANK", rank}, {"OMPI_COMM_WORLD_SIZE", "2"}};
    ranks.push_back(std::make_unique<Child>(w, o));
  }
  for (auto& rank : ranks) ASSERT_EQ(rank->finish().exit_code, 0);
  for (const char* name : {"b", "c"}) {
    EXPECT_TRUE(same_bytes(dir_ / "a.gguf", dir_ / (std::string(name) + ".gguf"))) << name;
    ASSERT_EQ(entries(dir_ / "a"), entries(dir_ / name));
    for (const std::string& file : entries(dir_ / "a"))
      EXPECT_TRUE(same_bytes(dir_ / ("a/" + file), dir_ / (std::string(name) + "/" + file))) << file;
  }
}

TEST_F(Hashes, VerifyKnowsACopyByItsManifest) {
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "m.gguf", "--provenance"}).exit_code, 0);
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "m", "--provenance"}).exit_code, 0);
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "m.safetensors", "--provenance"}).exit_code, 0);
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "split.gguf", "--max-shard-size", "5MB", "--provenance"}).exit_code, 0);
  for (const char* name : {"m.gguf", "m", "m.safetensors"}) {
    if (keeps_notes(dir_.path())) expect_said(verify(dir_ / name), 0, {"as it was written"});
    const std::string there = copy(dir_ / name, std::string("copy-") + name);
    expect_said(verify(there), 0, {"every tensor is as it was written", "exact hash", "metadata and other files"});
  }
  EXPECT_EQ(result_of(ingot({"verify", dir_ / "copy-m.gguf", "--json"}, cached()))["manifest"]["value"], hash(kBase)["value"]);
  // The parts of a set are told of by the first.
  const std::string first = dir_ / "split-00001-of-00003.gguf";
  expect_said(verify(first), 0, {"every tensor is as it was written"});
  flip(dir_ / "split-00003-of-00003.gguf", "", std::filesystem::file_size(dir_ / "split-00003-of-00003.gguf") - 1000);
  expect_said(verify(first), 3, {"are not those that were written"});
  // A bit of a weight, of the metadata that says what rows are, of other metadata.
  flip(dir_ / "copy-m.gguf", "", 10'000'000);
  expect_said(verify(dir_ / "copy-m.gguf"), 3, {"copy-m.gguf' is not what ingot wrote", "exact hash", "value hash", "--tensors"});
  flip(dir_ / "copy-m/model.safetensors", "", 10'000'000);
  expect_said(verify(dir_ / "copy-m"), 3, {"copy-m' is not what ingot wrote"});
  const std::string heads = copy(dir_ / "m.gguf", "heads.gguf");
  flip(heads, "llama.attention.head_count_kv", 4);
  expect_said(verify(heads), 3, {"its tensors are those that were written, but its metadata makes another model", "value hash"});
  // Where the note differs, the manifest tells what of it.
  if (keeps_notes(dir_.path())) {
    flip(dir_ / "m.gguf", "Tiny Llama", -1);
    expect_said(verify(dir_ / "m.gguf"), 3, {"was noted when it was published", "metadata or other files; every tensor is as it was written"});
    flip(dir_ / "m.gguf", "", 10'000'000);
    expect_said(verify(dir_ / "m.gguf"), 3, {"are not those that were written"});
  }
}

TEST_F(Hashes, AManifestThatIsDamagedOrNewerOrOfAnotherFileIsToldOf) {
  ASSERT_EQ(ingot({"convert", kBase, "--out", dir_ / "m.gguf", "--provenance"}).exit_code, 0);
  const auto edited = [&](const std::string& name, const std::string& from, const std::string& to) {
    std::string bytes = read_file(dir_ / "m.gguf");
    write_file(dir_ / name, bytes.replace(bytes.find(from), from.size(), to));
    return dir_ / name;
  };
  const std::string newer = edited("newer.gguf", "ingot manifest 1", "ingot manifest 2");
  const std::string damaged = edited("damaged.gguf", "\"content\":{", "\"content\":[");
  expect_said(verify(newer), 3, {"the manifest of", "newer.gguf", "'ingot manifest 2'", "later"});
  expect_said(verify(damaged), 3, {"the manifest of", "damaged.gguf"});
  const auto convert = [&](const std::string& in, std::vector<std::string> more) {
    std::vector<std::string> w = {"convert", in, "--type", "F16", "--out", in + ".f16.gguf"};
    w.insert(w.end(), more.begin(), more.end());
    return ingot(w);
  };
  expect_said(convert(newer, {"--provenance"}), 3, {"'ingot manifest 2'"});
  expect_said(convert(damaged, {"--provenance"}), 3, {"convert it without --provenance"});
  expect_said(convert(damaged, {}), 0, {});
  expect_said(verify(copy(damaged + ".f16.gguf", "plain.gguf")), 0, {"no hash was noted"});
  // Another tool that quantizes passes the metadata on as it is.
  const std::string stale = copy(dir_ / "m.gguf", "stale.gguf");
  flip(stale, "", 10'000'000);
  expect_said(convert(stale, {"--provenance"}), 0, {"warning", "stale.gguf are not those that its manifest tells of"});
}

}  // namespace
}  // namespace ingot::testing
