// Reporter: everything that a command says while it works. A progress bar (a terminal), JSON lines (--json),
// or nothing (--quiet, no terminal); notices, warnings and the one error. --quiet leaves errors, and the
// result object that --json asked for. Thread-safe.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/cancel.h"
#include "base/status.h"
#include "cli/progress.h"
#include "exec/executor.h"

namespace ingot::cli {

struct ReportMode {
  bool json = false, quiet = false, verbose = false;
};

class Reporter {
 public:
  Reporter() = default;
  ~Reporter();
  // Said once the options are known. The token: "stopping" is shown when it is raised.
  void configure(ReportMode mode, const CancelToken* cancel);
  void set_command(std::string command) { command_ = std::move(command); }
  const std::string& command() const { return command_; }
  bool json() const { return mode_.json; }
  bool quiet() const { return mode_.quiet; }
  double seconds() const;  // since the command line was read
  bool verbose() const { return mode_.verbose && !mode_.quiet; }

  void notice(const std::string& message);   // worth knowing
  void warning(const std::string& message);  // likely not what was meant
  void detail(const std::string& message);   // with -v
  // From now on notices and warnings are not said but added to `said`; null: said again.
  struct Said {
    std::string kind, message;  // "notice" or "warning"
  };
  void collect(std::vector<Said>* said) { said_ = said; }
  // What failed, on stderr; with --json also the result object on stdout.
  void error(const Error& error);
  // Members that the result object has even if the command fails after this.
  void keep_in_result(nlohmann::ordered_json members);
  // An event of this name for --json; `fields` are added to it. Nothing in the other modes.
  void event(const char* name, const nlohmann::ordered_json& fields);

  // Long work: progress() may be called often, from any thread; end_progress() leaves a clean line.
  // `verb` ("loading") stands for the phase's own where given. `bytes`: that is what is counted.
  void begin_progress(const char* verb = nullptr, bool bytes = true);
  void progress(const Progress& p);
  void end_progress();

  // The result: `text` for people, `object` with --json (exactly one a run). For what was asked for itself:
  // a list, ids, a text.
  Status result(const nlohmann::ordered_json& object, const std::string& text);
  // The same for a report on work that is done: with --quiet no text.
  Status done(const nlohmann::ordered_json& object, const std::string& text);

 private:
  void say(const char* kind, const char* colour, const std::string& message);
  void tick();           // the drawing thread
  void draw();           // with the lock held
  void clear();          // with the lock held
  void emit_progress();  // with the lock held

  std::string command_;
  std::vector<Said>* said_ = nullptr;
  std::shared_ptr<const nlohmann::ordered_json> kept_;
  ReportMode mode_;
  double start_ = 0;
  const CancelToken* cancel_ = nullptr;
  bool redraw_ = false;  // a bar can be drawn

  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
  bool active_ = false, drawn_ = false, any_ = false;
  const char* verb_ = nullptr;
  bool bytes_ = true;
  Progress now_;
  RateMeter meter_;
  Phase metered_ = Phase::kDone;
  uint64_t emitted_done_ = 0;
  Phase emitted_phase_ = Phase::kDone;
  double last_emit_ = 0;
};

}  // namespace ingot::cli
