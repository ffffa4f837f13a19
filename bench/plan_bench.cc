// What the coordinator of a save does alone: rank 0 of many, through save_together() itself, with the others' parts told as they would tell them, and no data but rank 0's own (four elements a tensor).
// Their files lie where they would have written them, of their sizes, without bytes. Prints one line of JSON: seconds, CPU seconds and megabytes that the save took more than there was before.
// Usage: plan_bench DIRECTORY [ranks, 1000] [tensors of each, 10000] [bytes of each, 800000000]
#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/clock.h"
#include "checkpoint/together.h"
#include "commit/names.h"
#include "kernels/hash.h"
#include "storage/store.h"

using namespace ingot;
using namespace ingot::checkpoint;

namespace {

constexpr int64_t kStep = 7;

double cpu_seconds() {
  struct rusage u = {};
  ::getrusage(RUSAGE_SELF, &u);
  return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}
// VmRSS, VmHWM.
double status_megabytes(const char* name) {
  std::ifstream f("/proc/self/status");
  for (std::string line; std::getline(f, line);)
    if (line.starts_with(name)) return std::strtod(line.c_str() + std::string(name).size() + 1, nullptr) / 1024;
  return 0;
}

Snapshot snapshot_of(int ranks, int tensors) {
  static const std::vector<float> bytes(4, 1.0F);
  Snapshot s;
  s.step = kStep;
  s.state = R"({"ingot":"state","version":1,"state":{)";
  for (const std::string group : {"model", "optimizer"}) {
    Group g{group, {}, group + "-rank-00000"};
    s.state += fmt::format("{}\"{}\":{{", group == "model" ? "" : ",", group);
    for (int i = 0; i < tensors / 2; ++i) {
      const std::string name = fmt::format("layers.{}.mlp.gate_proj.{}weight", i, group == "model" ? "" : "exp_avg.");
      g.tensors.push_back({name, {DType::kF32, {1, 4}}, reinterpret_cast<const std::byte*>(bytes.data()), false, PartOf{name, {ranks, 4}, {0, 0}}});
      s.state += fmt::format("{}\"{}\":{{\"$tensor\":[\"{}\",\"{}\"]}}", i ? "," : "", name, group, name);
      s.signature += fmt::format("{}/{} F32 [{}, 4]\n", group, name, ranks);
    }
    s.state += "}";
    s.groups.push_back(std::move(g));
  }
  s.state += "}}";
  return s;
}

class Told final : public Meeting {
 public:
  Told(const std::string& directory, const SaveOptions& o, int ranks, uint64_t bytes) : directory_(directory), o_(o), ranks_(ranks), bytes_(bytes) {}
  int rank() const override { return 0; }
  int world() const override { return ranks_; }
  Status put(const std::string&, const std::string&) override { return {}; }
  // As it would come from the network: it is made when it is asked for, which is not counted.
  Result<std::string> get(const std::string& key, double) override {
    const auto start = Clock::now();
    const double cpu = cpu_seconds();
    const int rank = std::atoi(key.c_str() + key.rfind('/') + 1);
    const std::string root = temporary_path(join_path(directory_, directory_name(kStep)), key_, ".part");
    Manifest m;
    m.step = kStep, m.epoch = o_.epoch;
    const std::pair<std::string, uint64_t> files[] = {{"model-rank-{:05}.safetensors", bytes_ / 3}, {"optimizer-rank-{:05}.safetensors", bytes_ - bytes_ / 3}, {"rank-{:05}.json", 400}, {"rank-{:05}.safetensors", 5056}};
    for (const auto& [pattern, size] : files) {
      const std::string name = fmt::format(fmt::runtime(pattern), rank);
      Object o;
      o.name = name, o.bytes = size, o.hash = to_hex(hash128(as_bytes(name)));
      m.objects.push_back(std::move(o));
      std::ofstream(join_path(root, name)).close();
      std::filesystem::resize_file(join_path(root, name), size);
    }
    std::string text = fmt::format("+{}", part_text(m, key_));
    told_bytes += text.size();
    not_counted += seconds_since(start), cpu_not_counted += cpu_seconds() - cpu;
    return text;
  }
  uint64_t told_bytes = 0;
  double not_counted = 0, cpu_not_counted = 0;

 private:
  const std::string directory_;
  const SaveOptions& o_;
  const std::string key_ = to_hex(hash128(as_bytes("job " + o_.attempt)));
  const int ranks_;
  const uint64_t bytes_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "plan_bench DIRECTORY [ranks] [tensors] [bytes]\n"), 2;
  const int ranks = argc > 2 ? std::atoi(argv[2]) : 1000, tensors = argc > 3 ? std::atoi(argv[3]) : 10000;
  const uint64_t bytes = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 800'000'000;
  const std::string directory = join_path(argv[1], "plan");
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  SaveOptions o;
  o.attempt = "bench 1", o.epoch = 1;
  const Snapshot snapshot = snapshot_of(ranks, tensors);
  Told meeting(directory, o, ranks, bytes);
  const double before = status_megabytes("VmRSS"), cpu = cpu_seconds();
  const auto start = Clock::now();
  const auto saved = save_together(local_store(), directory, snapshot, o, meeting, 60);
  const double seconds = seconds_since(start) - meeting.not_counted, used = cpu_seconds() - cpu - meeting.cpu_not_counted;
  if (!saved.ok()) return std::fprintf(stderr, "%s\n", saved.error().message.c_str()), 1;
  std::printf("%s\n", fmt::format(R"({{"ranks":{},"tensors":{},"bytes":{},"files":{},"told":{},"seconds":{:.3f},"cpu":{:.3f},"megabytes":{:.1f}}})", ranks, tensors, bytes * static_cast<uint64_t>(ranks),
                                  saved->manifest.objects.size(), meeting.told_bytes, seconds, used, status_megabytes("VmHWM") - before)
                          .c_str());
  std::filesystem::remove_all(directory);
  return 0;
}
