// The real job over the spine: ship of the bundled model and adapter reads each source byte once for two types, survives a
// kill at every journal write, splits over ranks; and a model far larger than the budget converts within it.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include "base/sanitized.h"
#include "exec/executor.h"
#include "formats/formats.h"
#include "formats/outputs.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/quantize.h"

namespace ingot {
namespace {

const std::string kRoot = INGOT_SOURCE_DIR;

// The outputs of `ship --type F16,Q4_K_M --keep merged=DIR`.
std::vector<Output> ship_outputs(Store& source, Store& sink) {
  auto base = open_model(source, kRoot + "/examples/tiny-llama-base");
  auto adapter = open_model(source, kRoot + "/examples/lora-code");
  EXPECT_TRUE(base.ok()) << base.error().message;
  EXPECT_TRUE(adapter.ok()) << adapter.error().message;
  auto merged = transform::lora_merge(*base, {{*adapter, 1.0}});
  EXPECT_TRUE(merged.ok()) << merged.error().message;
  auto gguf = transform::to_gguf(*merged);
  EXPECT_TRUE(gguf.ok()) << gguf.error().message;
  std::vector<Output> outputs;
  for (const char* type : {"F16", "Q4_K_M"})
    outputs.push_back(gguf_output(*transform::quantize_gguf(*gguf, type), sink, std::string("m-") + type));
  outputs.push_back(hf_directory_output(*transform::cast_floats(*merged, DType::kBF16), sink, "merged"));
  return outputs;
}

std::string contents(Store& s) {
  std::string all;
  for (const char* path : {"m-F16", "m-Q4_K_M", "merged/model.safetensors", "merged/config.json"}) {
    auto t = read_text(s, path);
    if (!t.ok()) return "missing " + std::string(path);
    all += *t;
  }
  return all;
}

ExecOptions options(int threads, int64_t tile) {
  ExecOptions o;
  o.threads = threads;
  o.memory = 128 << 20;
  o.tile_elements = tile;
  return o;
}

const std::string& reference() {
  static const std::string want = [] {
    auto sink = make_memory_store();
    auto r = run_job(ship_outputs(local_store(), *sink), options(2, 0));
    EXPECT_TRUE(r.ok()) << r.error().message;
    return contents(*sink);
  }();
  return want;
}

TEST(Spine, ShipReadsEachSourceByteOnceForTwoTypesAndTheMergedModel) {
  std::mutex mutex;
  bool counting = false;
  std::map<std::string, std::vector<uint8_t>> reads;
  FaultHooks hooks;
  hooks.on_read = [&](const std::string& path, uint64_t offset, uint64_t size) {
    std::lock_guard lock(mutex);
    if (!counting) return;
    auto& v = reads[path];
    if (v.size() < offset + size) v.resize(offset + size, 0);
    for (uint64_t i = 0; i < size; ++i) ++v[offset + i];
  };
  auto source = make_fault_store(local_store(), hooks);
  auto sink = make_memory_store();
  const auto outputs = ship_outputs(*source, *sink);  // headers and side files are read here
  counting = true;
  auto r = run_job(outputs, options(2, 100000));
  ASSERT_TRUE(r.ok()) << r.error().message;
  ASSERT_EQ(reads.size(), 2u);  // the two safetensors files
  uint64_t total = 0;
  for (const auto& [path, v] : reads) {
    const uint64_t header = 8 + [&] {
      uint64_t n = 0;
      std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(&n), 8);
      return n;
    }();
    ASSERT_EQ(v.size(), std::filesystem::file_size(path)) << path;
    for (uint64_t i = 0; i < v.size(); ++i) ASSERT_EQ(int{v[i]}, i < header ? 0 : 1) << path << " byte " << i;
    total += v.size() - header;
  }
  EXPECT_EQ(r->source_bytes, total);
  EXPECT_EQ(contents(*sink), reference());
}

TEST(Spine, ShipGivesTheSameBytesForThreadsTilesAndRanks) {
  for (int threads : {1, 2, 7})
    for (int64_t tile : {0, 30000}) {
      auto sink = make_memory_store();
      auto r = run_job(ship_outputs(local_store(), *sink), options(threads, tile));
      ASSERT_TRUE(r.ok()) << r.error().message;
      const std::string got = contents(*sink);
      ASSERT_EQ(got.size(), reference().size());
      const auto at = std::mismatch(got.begin(), got.end(), reference().begin()).first - got.begin();
      ASSERT_EQ(static_cast<size_t>(at), got.size()) << "first differing byte; " << threads << " threads, tile " << tile;
    }
  auto sink = make_memory_store();
  std::string errors[2];
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank)
    ranks.emplace_back([&, rank] {
      ExecOptions o = options(1, 0);
      o.rank = rank;
      o.world = 2;
      auto r = run_job(ship_outputs(local_store(), *sink), o);
      if (!r.ok()) errors[rank] = r.error().message;
    });
  for (auto& t : ranks) t.join();
  EXPECT_EQ(errors[0] + errors[1], "");
  EXPECT_TRUE(contents(*sink) == reference());
}

TEST(Spine, ShipKilledAtAJournalWriteGoesOnWithLessThanHalfTheWorkLeft) {
  uint64_t writes_in_all = 0;
  for (uint64_t kill = UINT64_MAX;;) {
    auto sink = make_memory_store();
    std::atomic<uint64_t> writes{0};
    std::atomic<bool> dead{false};
    FaultHooks hooks;
    hooks.hook = [&](uint64_t, const char* op, const std::string& path) -> std::string {
      if (path.find(".journal") != std::string::npos && std::string(op) == "write" && writes++ == kill) dead = true;
      return dead ? "killed" : "";
    };
    auto faulty = make_fault_store(*sink, hooks);
    auto r = run_job(ship_outputs(local_store(), *faulty), options(2, 100000));
    if (kill == UINT64_MAX) {  // the first round only counts
      ASSERT_TRUE(r.ok()) << r.error().message;
      writes_in_all = writes;
      kill = 0;
      continue;
    }
    ASSERT_TRUE(dead);
    auto again = run_job(ship_outputs(local_store(), *sink), options(2, 0));
    ASSERT_TRUE(again.ok()) << again.error().message;
    ASSERT_TRUE(contents(*sink) == reference()) << "killed at journal write " << kill;
    if (kill * 4 > writes_in_all * 3) {
      EXPECT_LT(again->source_bytes * 2, 15500000u) << "killed at " << kill << " of " << writes_in_all;
    }
    kill += kSanitized ? 3 : 1;
    if (kill >= writes_in_all) break;
  }
  EXPECT_GT(writes_in_all, 20u);
}

// A 512 MB model in F32, a few big tensors, written by hand.
std::string big_model(const std::string& dir) {
  const std::string path = dir + "/model.safetensors";
  const int64_t rows = 8192, cols = 2048;
  const int tensors = 8;
  std::string header = "{";
  const uint64_t bytes = rows * cols * 4;
  for (int i = 0; i < tensors; ++i)
    header += fmt::format("{}\"t{}\":{{\"dtype\":\"F32\",\"shape\":[{},{}],\"data_offsets\":[{},{}]}}", i ? "," : "", i, rows, cols,
                          i * bytes, (i + 1) * bytes);
  header += "}";
  while (header.size() % 8) header += ' ';
  std::ofstream f(path, std::ios::binary);
  const uint64_t n = header.size();
  f.write(reinterpret_cast<const char*>(&n), 8);
  f << header;
  std::vector<float> row(cols * 64);
  uint32_t x = 1;
  for (auto& v : row) v = static_cast<int32_t>((x = x * 1664525u + 1013904223u)) / 2147483648.0f;
  for (int64_t i = 0; i < tensors * rows / 64; ++i) f.write(reinterpret_cast<const char*>(row.data()), row.size() * 4);
  return path;
}

TEST(Spine, AModelOf512MBConvertsUnder64MBOfMemory) {
  char pattern[] = "/tmp/ingot-spine-XXXXXX";
  const std::string dir = mkdtemp(pattern);
  const std::string in = big_model(dir), out = dir + "/out.safetensors";
  ASSERT_EQ(std::filesystem::file_size(in) >> 20, 512u);
  const pid_t pid = fork();
  if (pid == 0) {
    execl(INGOT_PROGRAM, INGOT_PROGRAM, "convert", in.c_str(), "--dtype", "f16", "--out", out.c_str(), "--memory", "64M",
          "--threads", "2", "--quiet", nullptr);
    _exit(127);
  }
  // ru_maxrss would count this test's own pages, which the child had until its exec: the high-water mark of its own is read.
  int status = 0;
  long peak_kib = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    std::ifstream f(fmt::format("/proc/{}/status", pid));
    std::string line, program;
    long kib = 0;
    while (std::getline(f, line)) {
      if (line.compare(0, 5, "Name:") == 0) program = line.substr(6);
      if (line.compare(0, 6, "VmHWM:") == 0) kib = std::atol(line.c_str() + 6);
    }
    if (program == "ingot") peak_kib = std::max(peak_kib, kib);
    usleep(2000);
  }
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(std::filesystem::file_size(out) >> 20, 256u);
  if (!kSanitized) {
    EXPECT_GT(peak_kib >> 10, 20);
    EXPECT_LT(peak_kib >> 10, 64 + 40) << "MiB resident at the peak";
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace ingot
