// ingot checkpoint watch: follows a directory that another job saves to, and tells each new whole checkpoint, once.
#include <algorithm>
#include <chrono>
#include <set>
#include <thread>
#include <tuple>

#include "base/clock.h"
#include "cli/checkpoint_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/run_command.h"
#include "cli/text.h"

namespace ingot::cli {
namespace {

using checkpoint::Found;
using checkpoint::State;

// A step that is saved anew, by a process that had gone back, is another checkpoint.
using Identity = std::tuple<int64_t, int64_t, double>;
Identity identity(const Found& f) { return {f.manifest.epoch, f.step, f.manifest.time}; }

struct Asked {
  std::string dir, command, without;
  bool once = false, all = false;
  double interval = 10, timeout = 0;
};

// False when the token was raised meanwhile.
bool sleep(const CancelToken& cancel, double seconds) {
  const auto start = Clock::now();
  while (!cancel.cancelled() && seconds_since(start) < seconds) std::this_thread::sleep_for(std::chrono::duration<double>(std::min(0.05, seconds)));
  return !cancel.cancelled();
}

class Watcher {
 public:
  Watcher(Context& c, const Asked& asked, Located at) : c_(c), a_(asked), at_(std::move(at)) {}

  Status run() {
    auto last = Clock::now();
    for (bool first = true;; first = false) {
      const auto taken = taken_;
      INGOT_TRY(look(first));
      if (c_.cancel.cancelled() || (a_.once && taken_ > 0)) break;
      if (taken_ != taken) last = Clock::now();
      // A timeout that is shorter than the interval ends in time all the same.
      const double left = a_.timeout > 0 ? a_.timeout - seconds_since(last) : a_.interval;
      if (left <= 0 || !sleep(c_.cancel, std::min(a_.interval, left))) break;
    }
    const OrderedJson j = {{"path", at_.path}, {"taken", taken_}, {"failed", failed_}};
    if ((taken_ > 0 || c_.cancel.cancelled()) && !(a_.once && failed_)) return c_.report.result(j, "");
    c_.report.keep_in_result(j);
    if (failed_) return failed("the command for {} ended with exit code {}", last_path_, last_code_);
    return Error{ErrorKind::kNotFound, fmt::format("no new whole checkpoint came to {} in {}", printable(at_.path), format_duration(a_.timeout))};
  }

 private:
  Status look(bool first) {
    // One that cannot be listed now (a mount that comes and goes) may be there the next time.
    auto found = checkpoint::scan(*at_.store, at_.path, before_);
    if (!found.ok()) {
      if (told_ != found.error().message) c_.report.warning(told_ = found.error().message);
      return {};
    }
    told_.clear();
    before_ = std::move(*found);
    std::vector<Found> fresh;
    for (const Found& f : before_)
      if (f.state == State::kWhole && !seen_.contains(identity(f))) fresh.push_back(f);
    // Those that were there before are history, but for the newest.
    if (first && !a_.all && fresh.size() > 1) {
      for (size_t i = 1; i < fresh.size(); ++i) seen_.insert(identity(fresh[i]));
      fresh.resize(1);
    }
    for (size_t i = fresh.size(); i-- > 0 && !c_.cancel.cancelled();) {
      seen_.insert(identity(fresh[i]));
      if (!a_.without.empty() && fresh[i].metrics.contains(a_.without)) continue;
      INGOT_TRY(take(fresh[i]));
      if (a_.once) break;
    }
    return {};
  }

  Status take(const Found& f) {
    // While the command for the one before ran, retention may have removed it.
    if (!a_.command.empty() && !is_there(*at_.store, join_path(f.path, checkpoint::kManifestFile))) {
      c_.report.notice(fmt::format("{} went away before its turn came", f.path));
      return {};
    }
    ++taken_;
    OrderedJson j = found_json(f);
    j["age"] = f.manifest.time > 0 ? OrderedJson(std::max(0.0, unix_time() - f.manifest.time)) : OrderedJson();
    if (!c_.report.json()) {
      std::string line = fmt::format("{}  {} old  {}", f.step, age_of(f), format_bytes(f.bytes));
      if (!f.metrics.empty()) line += "  " + metrics_shown(f.metrics);
      INGOT_TRY(print(fmt::format("{}  {}\n", line, printable(f.path))));
    }
    if (!a_.command.empty()) {
      const std::string command = with_word(with_word(a_.command, "path", f.path), "step", std::to_string(f.step));
      INGOT_ASSIGN(const int code, run_shell(command, c_.cancel, c_.report.json()));
      j["exit_code"] = last_code_ = code, last_path_ = f.path;
      if (code != 0 && !c_.cancel.cancelled()) {
        ++failed_;
        c_.report.warning(fmt::format("step {}: the command ended with exit code {}: {}", f.step, code, command));
      }
    }
    if (!c_.report.json()) return {};
    OrderedJson line = {{"event", "checkpoint"}};
    line.update(j);
    return print(line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  }

  Context& c_;
  const Asked& a_;
  Located at_;
  std::vector<Found> before_;
  std::set<Identity> seen_;
  size_t taken_ = 0, failed_ = 0;
  int last_code_ = 0;
  std::string last_path_, told_;
};

}  // namespace

Status checkpoint_watch_command(Context& c) {
  Asked a;
  c.args.summary("tells each new whole checkpoint of a directory as it comes, and runs a command on it");
  c.args.usage("checkpoint watch DIR [--exec CMD] [--once] [--timeout TIME]");
  c.args.detail(
      "For a job that evaluates what another one trains, over a shared or mounted directory. DIR need not be there yet. The newest one that is there at the start is taken first, then each that "
      "comes, once, in their order; while a command runs the others wait. In CMD, which /bin/sh runs, {path} and {step} stand for the checkpoint's, quoted. Only names, sizes and each manifest, once, "
      "are read. Ctrl-C and SIGTERM end it, and the command, with exit code 0; a --timeout without any checkpoint is exit code 5.");
  c.args.positional("DIR", &a.dir, "where a training run saves");
  c.args.section("Options");
  c.args.text("--exec", "CMD", &a.command, "run for each checkpoint; one that fails is told, and the next one is waited for");
  c.args.flag("--once", &a.once, "end after one; exit code 1 where its command failed");
  c.args.flag("--all", &a.all, "begin with the oldest that is there, not with the newest");
  c.args.text("--without", "METRIC", &a.without, "pass over what has this metric already ('ingot checkpoint annotate' adds it): a job that was restarted does nothing twice");
  c.args.duration("--timeout", "TIME", &a.timeout, "end when none has come for so long");
  c.args.duration("--interval", "TIME", &a.interval, "how often DIR is looked at (default 10s)");
  c.args.example("ingot checkpoint watch run/");
  c.args.example("ingot checkpoint watch /data/run --without acc --exec 'python eval.py {path}'");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (a.interval <= 0) return usage("--interval {} is no time to wait; give 1s or more", a.interval);
  if (c.args.has("--timeout") && a.timeout <= 0) return usage("--timeout takes a time like 30s, 10m or 1h");
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(a.dir));
  if (!d.named.empty() && d.named != "latest") return usage("'ingot checkpoint watch' follows a directory; {} is one checkpoint: give {}", shell_word(a.dir), shell_word(d.at.path));
  return Watcher(c, a, d.at).run();
}

}  // namespace ingot::cli
