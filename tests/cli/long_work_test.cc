// Long work: the bar on a pseudo-terminal, Ctrl-C, kill -9 and going on, disks that are full.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "cli/text.h"
#include "program.h"

namespace ingot::testing {
namespace {

// One model for all tests here: big enough that a job on one thread takes seconds.
class LongWork : public CliTest {
 protected:
  static void SetUpTestSuite() {
    models_ = new TemporaryDirectory;
    make_model(*models_ / "big", 240);
    make_model(*models_ / "small", 60);
  }
  static void TearDownTestSuite() {
    delete models_;
    models_ = nullptr;
  }
  static std::string big() { return *models_ / "big"; }
  static std::string small() { return *models_ / "small"; }
  static TemporaryDirectory* models_;

  static bool any_exists(const std::vector<std::string>& paths) {
    return std::any_of(paths.begin(), paths.end(), exists);
  }
  // The interrupted job's files are those of a run that nobody disturbed, and nothing else is left.
  void expect_like_fresh(const std::string& name) {
    ASSERT_EQ(Child(slow_job(big(), dir_ / "fresh")).finish().exit_code, 0);
    std::vector<std::string> names;
    for (size_t i = 0; i < 3; ++i) {
      const std::string a = slow_outputs(dir_ / name)[i], b = slow_outputs(dir_ / "fresh")[i];
      EXPECT_TRUE(same_bytes(a, b)) << a;
      names.push_back(std::filesystem::path(a).filename());
      names.push_back(std::filesystem::path(b).filename());
    }
    EXPECT_TRUE(empty_but_for(dir_.path(), names));
  }

  static SpawnOptions terminal(int columns) {
    SpawnOptions o;
    o.terminal = true;
    o.columns = columns;
    o.set = {{"TERM", "xterm-256color"}, {"LC_ALL", "C.UTF-8"}};
    o.unset = {"NO_COLOR"};
    return o;
  }
};
TemporaryDirectory* LongWork::models_ = nullptr;

bool has_written(const std::string& err) {
  for (const auto& e : events_of(err))
    if (e["event"] == "progress" && e["phase"] == "write" && e["done"].get<uint64_t>() > 0) return true;
  return false;
}

// "writing    14%" somewhere.
bool bar_shows_ten_percent(const std::string& terminal) {
  for (size_t at = 0; (at = terminal.find("writing ", at)) != std::string::npos; ++at) {
    const size_t percent = terminal.find('%', at);
    if (percent != std::string::npos && std::atoi(terminal.c_str() + at + 8) >= 10) return true;
  }
  return false;
}

TEST_F(LongWork, TheBarShowsProgressFitsTheTerminalAndLeavesNoTrace) {
  for (const int columns : {40, 80, 132}) {
    Child child(slow_job(columns == 80 ? big() : small(), dir_ / "out" + std::to_string(columns)),
                terminal(columns));
    const Finished f = child.finish();
    ASSERT_EQ(f.exit_code, 0) << f.err;
    const Screen screen = render(f.err, columns);
    EXPECT_GT(screen.redraws, 1);
    EXPECT_NE(f.err.find("writing"), std::string::npos);
    EXPECT_NE(f.err.find("%"), std::string::npos);
    if (columns != 132) {
      EXPECT_EQ(f.err.find(" left") != std::string::npos, columns == 80);
    }
    if (columns >= 132) {
      EXPECT_NE(f.err.find("blk."), std::string::npos);
    }
    // Every state of the line that was drawn fits; the result's lines are not ours to judge by width.
    for (const std::string& piece : cli::split(f.err, '\r')) {
      if (piece.find("\x1b[K") == std::string::npos) continue;
      EXPECT_FALSE(render(piece.substr(0, piece.find("\x1b[K")), columns).wrapped) << piece;
    }
    for (const std::string& line : screen.lines) {
      EXPECT_EQ(line.find("writing"), std::string::npos) << "left behind: " << line;
      EXPECT_EQ(line.find("%"), std::string::npos) << "left behind: " << line;
    }
  }
}

TEST_F(LongWork, NoBarWithoutATerminalOrWithQuiet) {
  const Finished f = ingot({"quantize", small(), "--type", "Q8_0", "--out", dir_ / "a.gguf"});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(f.err.find('\r'), std::string::npos);
  EXPECT_EQ(f.err.find('\x1b'), std::string::npos);
  const Finished q =
      Child({INGOT_PROGRAM, "quantize", small(), "--type", "Q8_0", "--out", dir_ / "b.gguf", "--quiet"},
            terminal(80))
          .finish();
  ASSERT_EQ(q.exit_code, 0) << q.err;
  EXPECT_EQ(q.err.find("writing"), std::string::npos) << q.err;
  SpawnOptions dumb = terminal(80);
  dumb.set["TERM"] = "dumb";
  const Finished d =
      Child({INGOT_PROGRAM, "quantize", small(), "--type", "Q8_0", "--out", dir_ / "c.gguf"}, dumb).finish();
  ASSERT_EQ(d.exit_code, 0) << d.err;
  EXPECT_EQ(d.err.find("\x1b"), std::string::npos) << d.err;
}

TEST_F(LongWork, NoColorMeansNoColour) {
  SpawnOptions o = terminal(100);
  o.set["NO_COLOR"] = "1";
  const Finished f = Child(slow_job(small(), dir_ / "a"), o).finish();
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.err.find("writing"), std::string::npos);
  EXPECT_EQ(f.err.find("\x1b[3"), std::string::npos);
  EXPECT_EQ(f.err.find("\x1b[1"), std::string::npos);
}

TEST_F(LongWork, JsonEventsTellPhaseBytesAndTensor) {
  const Finished f = Child(slow_job(small(), dir_ / "a", {"--json"})).finish();
  ASSERT_EQ(f.exit_code, 0) << f.err;
  uint64_t last = 0, writes = 0;
  for (const auto& e : events_of(f.err)) {
    if (e["event"] != "progress" || e["phase"] != "write") continue;
    ++writes;
    EXPECT_GE(e["done"].get<uint64_t>(), last);
    last = e["done"];
    EXPECT_LE(last, e["total"].get<uint64_t>());
  }
  EXPECT_GT(writes, 0u);
  const auto j = result_of(f);
  ASSERT_EQ(j["outputs"].size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const std::string path = slow_outputs(dir_ / "a")[i];
    EXPECT_EQ(j["outputs"][i]["path"], path);
    EXPECT_EQ(j["outputs"][i]["bytes"].get<uint64_t>(), std::filesystem::file_size(path));
  }
}

TEST_F(LongWork, CtrlCStopsWithinASecondExits4AndTheSameCommandGoesOn) {
  const std::string out = dir_ / "a";
  Child child(slow_job(big(), out), terminal(80));
  ASSERT_TRUE(child.wait_for(bar_shows_ten_percent));
  const double before = now();
  child.type("\x03");
  const Finished f = child.finish(20);
  EXPECT_LT(now() - before, 1.0);
  EXPECT_EQ(f.exit_code, 4) << f.err;
  EXPECT_FALSE(any_exists(slow_outputs(out)));
  EXPECT_NE(f.err.find("interrupted"), std::string::npos);
  for (const std::string& line : render(f.err, 80).lines)
    EXPECT_EQ(line.find('%'), std::string::npos) << "left behind: " << line;

  const Finished g = Child(slow_job(big(), out, {"--json"})).finish();
  ASSERT_EQ(g.exit_code, 0) << g.err;
  EXPECT_GT(result_of(g)["resumed_bytes"].get<uint64_t>(), 0u);
  expect_like_fresh("a");
}

TEST_F(LongWork, SigtermToo) {
  Child child(slow_job(big(), dir_ / "a", {"--json"}));
  ASSERT_TRUE(child.wait_for(has_written));
  const double before = now();
  child.send(SIGTERM);
  const Finished f = child.finish(20);
  EXPECT_LT(now() - before, 1.0);
  EXPECT_EQ(f.exit_code, 4) << f.err;
  EXPECT_EQ(result_of(f)["error"]["kind"], "interrupted");
}

TEST_F(LongWork, ASecondCtrlCExitsAtOnce) {
  Child child(slow_job(big(), dir_ / "a", {"--json"}));
  ASSERT_TRUE(child.wait_for(has_written));
  child.send(SIGINT);
  child.send(SIGINT);
  const double before = now();
  const Finished f = child.finish(20);
  EXPECT_LT(now() - before, 1.0);
  EXPECT_EQ(f.exit_code, 4);
  EXPECT_FALSE(any_exists(slow_outputs(dir_ / "a")));
}

TEST_F(LongWork, AfterKill9TheSameCommandGoesOnAndGivesTheSameBytes) {
  const std::string out = dir_ / "a";
  uint64_t total = 0;
  for (uint64_t kill = 1; kill <= 2; ++kill) {
    Child child(slow_job(big(), out, {"--json"}));
    const bool seen = child.wait_for([&](const std::string& err) {
      for (const auto& e : events_of(err)) {
        if (e["event"] != "progress" || e["phase"] != "write") continue;
        total = e["total"];
        if (e["done"].get<uint64_t>() > total * kill / 5) return true;
      }
      return false;
    });
    ASSERT_TRUE(seen);
    child.send(SIGKILL);
    EXPECT_EQ(child.finish().signal, SIGKILL);
    EXPECT_FALSE(any_exists(slow_outputs(out)));
  }
  const Finished f = Child(slow_job(big(), out, {"--json"})).finish();
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const auto j = result_of(f);
  EXPECT_GT(j["resumed_bytes"].get<uint64_t>(), total / 5);
  EXPECT_LT(j["written_bytes"].get<uint64_t>(), total * 4 / 5);
  expect_like_fresh("a");
}

TEST_F(LongWork, AnExistingOutputIsKeptUnlessForced) {
  write_file(dir_ / "a.gguf", "precious");
  const std::vector<std::string> job = {"quantize", small(), "--type", "Q8_0", "--out", dir_ / "a.gguf"};
  const Finished f = ingot(job);
  EXPECT_EQ(f.exit_code, 2) << f.err;
  EXPECT_NE(f.err.find("a.gguf"), std::string::npos);
  EXPECT_NE(f.err.find("--force"), std::string::npos) << f.err;
  EXPECT_EQ(read_file(dir_ / "a.gguf"), "precious");
  auto forced = job;
  forced.push_back("--force");
  EXPECT_EQ(ingot(forced).exit_code, 0);
  EXPECT_EQ(read_file(dir_ / "a.gguf").substr(0, 4), "GGUF");
  EXPECT_TRUE(empty_but_for(dir_.path(), {"a.gguf"}));
}

// --force once renamed a file over /dev/null.
TEST_F(LongWork, ForceReplacesOnlyAnOlderOutput) {
  const std::string base = example("tiny-llama-base");
  auto refused = [&](const std::vector<std::string>& job, const std::string& named) {
    const auto before = entries(dir_.path());
    auto forced = job;
    forced.push_back("--force");
    const Finished f = ingot(forced);
    EXPECT_EQ(f.exit_code, 2) << f.err;
    EXPECT_NE(f.err.find(named), std::string::npos) << f.err;
    EXPECT_EQ(entries(dir_.path()), before);
  };
  const auto file_job = [&](const std::string& out) {
    return std::vector<std::string>{"quantize", base, "--type", "Q8_0", "--out", dir_ / out};
  };
  const auto directory_job = [&](const std::string& out) {
    return std::vector<std::string>{"lora", "merge", base, "--adapter", example("lora-code"), "--out", dir_ / out};
  };
  ASSERT_EQ(::mkfifo((dir_ / "pipe").c_str(), 0666), 0);
  refused(file_job("pipe"), "pipe");
  refused(directory_job("pipe"), "pipe");
  EXPECT_EQ(ingot({"inspect", dir_ / "pipe"}).exit_code, 3);  // and no input either: it does not wait for a writer
  ASSERT_EQ(::symlink("nowhere", (dir_ / "link").c_str()), 0);
  EXPECT_EQ(ingot(file_job("link")).exit_code, 2);
  refused(directory_job("."), "give that name");
  std::filesystem::create_directories(dir_ / "mine/photos");
  refused(directory_job("mine"), "photos");
  EXPECT_TRUE(exists(dir_ / "mine/photos"));
  std::filesystem::create_directory(dir_ / "letters");
  write_file(dir_ / "letters/letter.txt", "precious");
  refused(directory_job("letters"), "letter.txt");
  EXPECT_EQ(read_file(dir_ / "letters/letter.txt"), "precious");
  write_file(dir_ / "note", "precious");
  refused(directory_job("note"), "is a file");

  // An empty directory needs no --force, an older output does.
  std::filesystem::create_directory(dir_ / "new");
  EXPECT_EQ(ingot(directory_job("new")).exit_code, 0);
  if (keeps_notes(dir_.path())) {
    const Finished done = ingot(directory_job("new"));
    EXPECT_EQ(done.exit_code, 0) << done.err;
    EXPECT_NE(done.out.find("up to date"), std::string::npos) << done.out;
  }
  std::filesystem::remove(dir_ / "new/config.json");
  EXPECT_EQ(ingot(directory_job("new")).exit_code, 2);
  auto again = directory_job("new");
  again.push_back("--force");
  EXPECT_EQ(ingot(again).exit_code, 0);
  EXPECT_TRUE(exists(dir_ / "new/config.json"));
}

TEST_F(LongWork, AnOutputThatIsTheInputIsRefusedEvenWithForce) {
  const std::string file = dir_ / "a.gguf";
  ASSERT_EQ(ingot({"quantize", small(), "--type", "F16", "--out", file}).exit_code, 0);
  ASSERT_EQ(::symlink(file.c_str(), (dir_ / "link.gguf").c_str()), 0);
  const std::string before = read_file(file).substr(0, 100000);
  for (const std::string& out :
       {file, dir_ / "link.gguf",
        dir_ / "../" + std::filesystem::path(dir_.path()).filename().string() + "/a.gguf"}) {
    const Finished f = ingot({"quantize", file, "--type", "Q8_0", "--out", out, "--force"});
    EXPECT_EQ(f.exit_code, 2) << f.err;
    EXPECT_NE(f.err.find("input itself"), std::string::npos) << f.err;
  }
  EXPECT_EQ(read_file(file).substr(0, 100000), before);
}

// What is read besides weights is an input too.
TEST_F(LongWork, ForceOntoAConfigATokenizerOrAnAdaptersConfigIsRefused) {
  std::filesystem::copy(example("tiny-llama-base"), dir_ / "base");
  std::filesystem::copy(example("lora-code"), dir_ / "lora");
  for (const char* out : {"base/config.json", "base/tokenizer.json", "base/generation_config.json", "lora/adapter_config.json", "lora/adapter_model.safetensors",
                          "base", "lora", "base/../lora/adapter_config.json"}) {
    for (const char* dry : {"--dry-run", "--no-resume"}) {
      const Finished f = ingot({"ship", dir_ / "base", "--adapter", dir_ / "lora", "--type", "Q8_0", "--out", dir_ / out, "--force", dry});
      EXPECT_EQ(f.exit_code, 2) << out << f.err;
    }
    const Finished m = ingot({"lora", "merge", dir_ / "base", "--adapter", dir_ / "lora", "--out", dir_ / out, "--force"});
    EXPECT_EQ(m.exit_code, 2) << out << m.err;
  }
  for (const char* d : {"tiny-llama-base", "lora-code"})
    for (const std::string& name : entries(example(d)))
      EXPECT_TRUE(same_bytes(example(d) + "/" + name, dir_ / (std::string(d) == "lora-code" ? "lora/" : "base/") + name)) << name;
  // An older output beside the inputs is none of them.
  const std::vector<std::string> job = {"ship", dir_ / "base", "--type", "Q8_0", "--out", dir_ / "base/model.gguf", "--force"};
  EXPECT_EQ(ingot(job).exit_code, 0);
  EXPECT_EQ(ingot(job).exit_code, 0);
}

TEST_F(LongWork, AReadOnlyDirectoryIsNamed) {
  SpawnOptions o;
  if (::geteuid() == 0) o.user = 65534;  // root may write anywhere
  std::filesystem::create_directory(dir_ / "locked");
  ASSERT_EQ(::chmod((dir_ / "locked").c_str(), 0555), 0);
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  const Finished f =
      ingot({"quantize", example("tiny-llama-base"), "--type", "F16", "--out", dir_ / "locked/a.gguf"}, o);
  if (f.exit_code == 126 || f.exit_code == 127 || f.exit_code == 3)
    GTEST_SKIP() << "the other user cannot read the program";
  EXPECT_EQ(f.exit_code, 1) << f.err;
  EXPECT_NE(f.err.find("locked"), std::string::npos) << f.err;
}

TEST_F(LongWork, ADiskThatIsTooSmallIsSaidBeforeTheFirstByte) {
  const std::string disk = dir_ / "disk";
  std::filesystem::create_directory(disk);
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=8m") != 0)
    GTEST_SKIP() << "may not mount a small disk here";
  const Finished f = ingot({"quantize", small(), "--type", "F16", "--out", disk + "/a.gguf"});
  const auto left = entries(disk);
  ::umount2(disk.c_str(), MNT_DETACH);
  EXPECT_EQ(f.exit_code, 1) << f.err;
  EXPECT_NE(f.err.find(disk), std::string::npos) << f.err;
  EXPECT_NE(f.err.find("free"), std::string::npos) << f.err;
  for (const std::string& name : left) EXPECT_TRUE(name.ends_with(".journal")) << name;
}

TEST_F(LongWork, DryRunWritesNothingAndTellsTheSizeExactly) {
  const auto j = result_of(ingot({"quantize", example("tiny-llama-base"), "--type", "Q4_K_M", "--out",
                                  dir_ / "a.gguf", "--dry-run", "--json"}));
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
  ASSERT_EQ(
      ingot({"quantize", example("tiny-llama-base"), "--type", "Q4_K_M", "--out", dir_ / "a.gguf"}).exit_code,
      0);
  EXPECT_EQ(j["files"][0]["bytes"].get<uint64_t>(), std::filesystem::file_size(dir_ / "a.gguf"));
}

TEST_F(LongWork, MemoryBelowTheLeastPossibleIsRefusedWithTheLeastNamed) {
  const Finished f = ingot({"quantize", example("tiny-llama-base"), "--type", "Q4_K_M", "--out",
                            dir_ / "a.gguf", "--memory", "1k"});
  EXPECT_NE(f.exit_code, 0);
  EXPECT_NE(f.err.find("--memory"), std::string::npos) << f.err;
  EXPECT_TRUE(empty_but_for(dir_.path(), {}));
}

TEST_F(LongWork, ProcessesOfOneLaunchShareTheWorkAndARestartedRankGoesOn) {
  make_model(dir_ / "model", 60);
  const std::vector<std::string> types = {"F16", "Q4_K_M"};
  auto ship = [&](const std::string& out) {
    return std::vector<std::string>{"ship",      dir_ / "model", "--type", "F16,Q4_K_M",
                                    "--threads", "1",            "--out",  dir_ / (out + "-{type}.gguf")};
  };
  ASSERT_EQ(ingot(ship("one")).exit_code, 0);

  auto rank = [&](int r) {
    SpawnOptions o;
    o.set = {{"OMPI_COMM_WORLD_RANK", std::to_string(r)}, {"OMPI_COMM_WORLD_SIZE", "3"}};
    return o;
  };
  auto command = ship("three");
  command.insert(command.begin(), INGOT_PROGRAM);
  Child first(command, rank(0)), second(command, rank(1)), third(command, rank(2));
  // The second one dies somewhere in its work, or before it.
  second.wait_for([&](const std::string&) { return !entries(dir_.path()).empty(); }, 0.05);
  second.send(SIGKILL);
  second.finish();
  const Finished last = third.finish();
  EXPECT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(last.out + last.err, "");
  EXPECT_FALSE(exists(dir_ / "three-F16.gguf"));
  const Finished again = ingot(ship("three"), rank(1));
  EXPECT_EQ(again.exit_code, 0) << again.err;
  const Finished lead = first.finish();
  EXPECT_EQ(lead.exit_code, 0) << lead.err;
  EXPECT_NE(lead.err.find("one of 3 processes"), std::string::npos) << lead.err;
  EXPECT_NE(lead.out.find("three-Q4_K_M.gguf"), std::string::npos) << lead.out;
  for (const std::string& t : types) EXPECT_TRUE(same_bytes(dir_ / ("one-" + t + ".gguf"), dir_ / ("three-" + t + ".gguf")));
  EXPECT_TRUE(empty_but_for(dir_.path(), {"model", "one-F16.gguf", "one-Q4_K_M.gguf", "three-F16.gguf", "three-Q4_K_M.gguf"}));
}

}  // namespace
}  // namespace ingot::testing
