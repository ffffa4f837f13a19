// ingot checkpoint watch and ls --svg, and the paths that stand for a directory or one checkpoint of it.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "checkpoint/checkpoint_testing.h"
#include "cli/svg_chart.h"
#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class WatchCommand : public CliTest {
 protected:
  void save(int64_t step, const checkpoint::Metrics& metrics = {}, int64_t epoch = 1, const std::string& directory = "run") const {
    auto s = checkpoint::testing::make_state(step, {{"model", {1000}}});
    s.snapshot.metrics = metrics;
    checkpoint::SaveOptions o;
    o.time = 1790000000 + static_cast<double>(step) + static_cast<double>(epoch);
    o.epoch = epoch;
    const auto saved = checkpoint::save(local_store(), dir_ / directory, s.snapshot, o);
    ASSERT_TRUE(saved.ok()) << saved.error().message;
  }
  std::vector<std::string> watch(std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {INGOT_PROGRAM, "checkpoint", "watch", dir_ / "run", "--interval", "0.05s"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // Until the file has so many lines.
  bool wait_for_lines(const std::string& file, size_t lines) const {
    for (int i = 0; i < 400; ++i) {
      const std::string text = read_file(dir_ / file);
      if (static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) >= lines) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
    }
    return false;
  }
};

TEST_F(WatchCommand, TakesEachWholeOneOnceAndEndsWith0AtSigterm) {
  Child child(watch({"--exec", "echo {step} {path} >> " + (dir_ / "log")}));  // the directory is not there yet
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  save(1);
  ASSERT_TRUE(wait_for_lines("log", 1));
  fs::create_directory(dir_ / "run/checkpoint-2");  // not whole
  save(3);
  ASSERT_TRUE(wait_for_lines("log", 2));
  // The same step of a later process is another checkpoint.
  save(3, {}, 2);
  ASSERT_TRUE(wait_for_lines("log", 3));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  child.send(SIGTERM);
  const Finished f = child.finish();
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(read_file(dir_ / "log"), fmt::format("1 {0}/checkpoint-1\n3 {0}/checkpoint-3\n3 {0}/checkpoint-3\n", dir_ / "run"));
  EXPECT_NE(f.out.find("checkpoint-1\n"), std::string::npos) << f.out;
}

TEST_F(WatchCommand, BeginsWithTheNewestAndWithAllWithTheOldest) {
  for (int64_t step : {1, 2, 3}) save(step);
  const Finished newest = Child(watch({"--timeout", "0.2s", "--exec", "echo {step} >> " + (dir_ / "newest")})).finish();
  EXPECT_EQ(newest.exit_code, 0) << newest.err;
  EXPECT_EQ(read_file(dir_ / "newest"), "3\n");
  const Finished all = Child(watch({"--timeout", "0.2s", "--all", "--exec", "echo {step} >> " + (dir_ / "all")})).finish();
  EXPECT_EQ(all.exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "all"), "1\n2\n3\n");
}

TEST_F(WatchCommand, OnceTimeoutAndExitCodes) {
  const Finished none = Child(watch({"--timeout", "0.2s"})).finish();
  EXPECT_EQ(none.exit_code, 5);
  EXPECT_EQ(none.out, "");
  save(7, {{"loss", 0.5}});
  const Finished once = Child(watch({"--once"})).finish();
  EXPECT_EQ(once.exit_code, 0) << once.err;
  EXPECT_NE(once.out.find("loss 0.5"), std::string::npos) << once.out;
  const Finished failing = Child(watch({"--once", "--exec", "exit 3"})).finish();
  EXPECT_EQ(failing.exit_code, 1);
  EXPECT_NE(failing.err.find("exit code 3"), std::string::npos) << failing.err;
  const Finished goes_on = Child(watch({"--timeout", "0.2s", "--exec", "exit 3"})).finish();
  EXPECT_EQ(goes_on.exit_code, 0);
}

// An evaluation that annotates what it found is not repeated by the job that comes after it.
TEST_F(WatchCommand, AnEvaluationThatWasRestartedDoesNothingTwice) {
  save(1);
  save(2);
  const std::vector<std::string> evaluate = watch({"--all", "--without", "acc", "--timeout", "0.3s", "--exec",
                                                   fmt::format("echo {{step}} >> {} && {} checkpoint annotate {{path}} acc=0.{{step}} >&2", dir_ / "log", INGOT_PROGRAM)});
  EXPECT_EQ(Child(evaluate).finish().exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "log"), "1\n2\n");
  save(3);
  EXPECT_EQ(Child(evaluate).finish().exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "log"), "1\n2\n3\n");
  const json j = result_of(ingot({"checkpoint", "show", dir_ / "run/checkpoint-2", "--json"}));
  EXPECT_EQ(j["metrics"]["acc"], 0.2);
}

TEST_F(WatchCommand, JsonIsALineForEachAndTheResult) {
  save(1, {{"loss", std::nan("")}});
  const Finished f = Child(watch({"--once", "--json", "--exec", "echo noise"})).finish();
  EXPECT_EQ(f.exit_code, 0) << f.err;
  std::istringstream lines(f.out);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  const json j = json::parse(line);
  EXPECT_EQ(j["event"], "checkpoint");
  EXPECT_EQ(j["step"], 1);
  EXPECT_EQ(j["exit_code"], 0);
  EXPECT_EQ(j["metrics"]["loss"], "nan");
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(json::parse(line)["taken"], 1);
  EXPECT_FALSE(std::getline(lines, line)) << line;
}

TEST_F(WatchCommand, SigtermEndsTheCommandToo) {
  save(1);
  Child child(watch({"--exec", fmt::format("trap 'echo ended >> {0}; exit 0' TERM; echo begun >> {0}; while :; do sleep 0.05; done", dir_ / "log")}));
  ASSERT_TRUE(wait_for_lines("log", 1));
  child.send(SIGTERM);
  const Finished f = child.finish();
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(read_file(dir_ / "log"), "begun\nended\n");
}

TEST_F(WatchCommand, NamesThatAShellWouldRead) {
  save(1, {}, 1, "a 'b' $(touch gone);");
  std::vector<std::string> words = watch({"--once", "--exec", "ls {path} > " + (dir_ / "log")});
  words[3] = dir_ / "a 'b' $(touch gone);";
  const Finished f = Child(words, {.directory = dir_.path()}).finish();
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(read_file(dir_ / "log").find("manifest.json"), std::string::npos);
  EXPECT_FALSE(exists(dir_ / "gone"));
}

// On a mount that uploads later each read puts the upload off: a manifest that has not changed is read once, tensors never.
TEST_F(WatchCommand, FilesThatHaveNotChangedAreNotReadAgain) {
  save(1);
  const std::string manifest = dir_ / "run/checkpoint-1/manifest.json", model = dir_ / "run/checkpoint-1/model.safetensors";
  Child child(watch({"--exec", "touch " + (dir_ / "begun")}));
  for (int i = 0; i < 400 && !exists(dir_ / "begun"); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(25));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  // An access time before the modification's is renewed by the next read, where the file system keeps them (relatime).
  const auto set = [&](const std::string& path) {
    const timespec times[2] = {{1000, 0}, {0, UTIME_OMIT}};
    return ::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0;
  };
  const auto accessed = [](const std::string& path) {
    struct stat st;
    return ::stat(path.c_str(), &st) == 0 ? st.st_atim.tv_sec : -1;
  };
  const std::string probe = dir_ / "run/checkpoint-1/state.json";
  ASSERT_TRUE(set(manifest) && set(model) && set(probe));
  read_file(probe);
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  child.send(SIGTERM);
  EXPECT_EQ(child.finish().exit_code, 0);
  if (accessed(probe) == 1000) GTEST_SKIP() << "the file system keeps no access times";
  EXPECT_EQ(accessed(manifest), 1000) << "the manifest was read again";
  EXPECT_EQ(accessed(model), 1000) << "the tensors were read";
}

TEST_F(WatchCommand, LatestAndACheckpointsOwnPathStandForTheDirectory) {
  for (int64_t step : {1, 2, 3}) save(step);
  const auto steps = [&](const std::string& path) {
    std::vector<int64_t> out;
    const json listed = result_of(ingot({"checkpoint", "ls", path, "--json"}));
    for (const json& x : listed["checkpoints"]) out.push_back(x["step"]);
    return out;
  };
  const std::string run = dir_ / "run";
  EXPECT_EQ(steps(run + "/"), (std::vector<int64_t>{3, 2, 1}));
  EXPECT_EQ(steps(run + "/latest"), (std::vector<int64_t>{3}));  // no hint is there
  EXPECT_EQ(steps(run + "/checkpoint-2"), (std::vector<int64_t>{2}));
  EXPECT_EQ(steps(run + "/checkpoint-2/"), (std::vector<int64_t>{2}));
  const Finished here = ingot({"checkpoint", "ls", "."}, {.directory = run + "/checkpoint-1"});
  EXPECT_NE(here.out.find("\n   1  "), std::string::npos) << here.out << here.err;
  EXPECT_EQ(ingot({"checkpoint", "latest", run + "/latest"}).out, run + "/checkpoint-3\n");
  EXPECT_EQ(ingot({"checkpoint", "latest", run + "/checkpoint-1"}).out, run + "/checkpoint-1\n");
  EXPECT_EQ(ingot({"checkpoint", "pin", run + "/checkpoint-1"}).exit_code, 0);
  EXPECT_EQ(ingot({"checkpoint", "annotate", run + "/checkpoint-1", "bleu=3"}).exit_code, 0);
  EXPECT_EQ(ingot({"checkpoint", "annotate", run + "/latest", "bleu=4"}).exit_code, 0);
  EXPECT_EQ(ingot({"checkpoint", "best", run, "--metric", "bleu", "--max"}).out, run + "/checkpoint-3\n");
  EXPECT_EQ(ingot({"checkpoint", "verify", run + "/checkpoint-2"}).out, "2: whole, " + ingot({"checkpoint", "verify", run, "2"}).out.substr(10));
  EXPECT_NE(ingot({"checkpoint", "show", run + "/checkpoint-2"}).out.find("step 2"), std::string::npos);
  EXPECT_EQ(ingot({"checkpoint", "pin", run}).exit_code, 2);
  const Finished prune = ingot({"checkpoint", "prune", run + "/checkpoint-2", "--last", "1"});
  EXPECT_EQ(prune.exit_code, 2);
  EXPECT_EQ(steps(run).size(), 3U);
  // A checkpoint that was copied out of its directory.
  fs::copy(run + "/checkpoint-2", dir_ / "kept", fs::copy_options::recursive);
  EXPECT_EQ(ingot({"checkpoint", "verify", dir_ / "kept"}).exit_code, 0);
}

TEST_F(WatchCommand, TheTableFitsATerminalWithLongMetricNames) {
  save(1, {{"validation/perplexity_on_held_out_documents", 12.5}, {"validation/exact_match_of_the_longest_suite", 0.25}});
  SpawnOptions terminal;
  terminal.terminal = true;
  const Finished f = ingot({"checkpoint", "ls", dir_ / "run"}, terminal);
  EXPECT_FALSE(render(f.err, 80).wrapped) << f.err;
  EXPECT_NE(f.err.find(".."), std::string::npos) << f.err;
}

TEST_F(WatchCommand, PruneTellsOfEachWhyItStaysOrGoes) {
  for (int64_t step : {1, 2, 4, 8, 16, 32, 64, 100}) save(step);
  const auto why = [&](std::vector<std::string> rules) {
    std::vector<std::string> words = {"checkpoint", "prune", dir_ / "run", "--dry-run", "--json"};
    words.insert(words.end(), rules.begin(), rules.end());
    std::map<int64_t, std::pair<bool, std::string>> out;
    const json planned = result_of(ingot(words));
    for (const json& x : planned["checkpoints"]) out[x["step"]] = {x["keep"], x["why"]};
    return out;
  };
  auto x = why({"--exponential"});
  EXPECT_TRUE(x[1].first);
  EXPECT_NE(x[1].second.find("exponential"), std::string::npos);
  EXPECT_FALSE(x[2].first);
  EXPECT_EQ(x[2].second, "no rule keeps it");
  x = why({"--max-age", "1s"});
  EXPECT_TRUE(x[100].first) << "the newest stays, however old";
  EXPECT_FALSE(x[64].first);
  EXPECT_NE(x[64].second.find("s old, more than 1"), std::string::npos) << x[64].second;
  x = why({"--max-bytes", "20k"});
  size_t kept = 0;
  for (const auto& [step, d] : x) {
    kept += d.first;
    EXPECT_FALSE(d.second.empty()) << step;
  }
  EXPECT_GE(kept, 2U);
  EXPECT_LT(kept, 8U);
}

TEST_F(WatchCommand, TheCurveIsDrawnWithOnePointWithNanAndWithMany) {
  const auto svg = [&](const std::string& name) {
    const Finished f = ingot({"checkpoint", "ls", dir_ / "run", "--svg", dir_ / name});
    EXPECT_EQ(f.exit_code, 0) << f.err;
    return read_file(dir_ / name);
  };
  save(10, {{"loss<&\"'\n", 0.5}});
  std::string one = svg("one.svg");
  EXPECT_TRUE(one.starts_with("<svg ")) << one;
  EXPECT_TRUE(one.ends_with("</svg>\n"));
  EXPECT_NE(one.find("loss&lt;&amp;&quot;"), std::string::npos);
  EXPECT_EQ(one.find("nan"), std::string::npos) << one;
  EXPECT_NE(one.find("least 0.5 at step 10"), std::string::npos);
  for (int64_t step = 20; step <= 60; step += 10) save(step, {{"acc", step == 40 ? std::nan("") : static_cast<double>(step) / 100}, {"loss<&\"'\n", HUGE_VAL}});
  const std::string odd = svg("one.svg");
  EXPECT_NE(odd.find("not finite"), std::string::npos);
  EXPECT_NE(odd.find("greatest 0.6 at step 60"), std::string::npos);
  for (const char* bad : {"\"nan", "nan\"", " nan ", "inf\"", "Lnan", "Mnan", "Linf"}) EXPECT_EQ(odd.find(bad), std::string::npos) << bad;
  EXPECT_EQ(ingot({"checkpoint", "ls", dir_ / "run", "--svg", dir_ / "model.safetensors"}).exit_code, 2);
}

// One spike of a gradient's norm must not press all else to the axis.
TEST(SvgChart, ASpikeMakesAnAxisOfPowersOfTen) {
  cli::ChartPanel p;
  p.series.emplace_back();
  for (int i = 0; i < 10; ++i) p.series[0].points.push_back({static_cast<double>(i), i == 5 ? 5000.0 : 1.0 + i, false});
  EXPECT_NE(cli::svg_chart("t", "", "step", {p}).find("(log scale)"), std::string::npos);
  p.series[0].points[0].y = -1;
  EXPECT_EQ(cli::svg_chart("t", "", "step", {p}).find("(log scale)"), std::string::npos) << "there are no powers below 0";
}

TEST(SvgChart, TicksAreRoundAndWithinTheRange) {
  EXPECT_EQ(cli::round_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(cli::round_ticks(3, 7, 6, true), (std::vector<double>{3, 4, 5, 6, 7}));
  for (const auto& [low, high] : {std::pair{0.1234, 0.1235}, {-5.0, 1e9}, {1e-12, 2e-12}, {1e15, 1e15 + 4}}) {
    const auto ticks = cli::round_ticks(low, high, 4);
    EXPECT_GE(ticks.size(), 2U) << low;
    EXPECT_LE(ticks.size(), 12U) << low;
    for (const double t : ticks) EXPECT_TRUE(t >= low - (high - low) * 1e-6 && t <= high + (high - low) * 1e-6) << t;
  }
}

}  // namespace
}  // namespace ingot::testing
