#include "cli/imatrix_run.h"

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "calibrate/collect.h"
#include "calibrate/importance_statistics.h"
#include "cli/generation.h"
#include "cli/imatrix_output.h"
#include "cli/job.h"
#include "cli/text.h"
#include "commit/names.h"
#include "exec/key.h"
#include "exec/plan.h"
#include "kernels/hash.h"

namespace ingot::cli {
namespace {

using calibrate::TokenWindows;
using calibrate::WeightShape;

constexpr double kFewTokens = 100;  // by so many the mean square of a column is known to about a seventh
constexpr int64_t kBatch = 512;
constexpr double kSaveSeconds = 30;

// Where the weights are while it runs, and what windows may take beside them.
struct RunMemory {
  bool resident = true;
  uint64_t taken = 0, states = 0;  // by weights and sums, and what is left
};
RunMemory run_memory(const Context& c, const ImatrixSources& s, Arithmetic arithmetic) {
  uint64_t sums = 0;
  for (const WeightShape& w : s.weights) sums += 2 * sizeof(double) * static_cast<uint64_t>(w.cols * w.matrices);
  const uint64_t free = 4 * default_memory(), budget = c.args.common.memory ? c.args.common.memory : free - free / 4, whole = weight_bytes(s.gguf, true, arithmetic);
  RunMemory m;
  m.resident = whole + sums + whole / 16 <= budget;
  m.taken = (m.resident ? whole : weight_bytes(s.gguf, false, arithmetic)) + sums;
  m.states = budget > m.taken ? budget - m.taken : 0;
  return m;
}

// Windows that are through, and their sums, as they are kept beside the output.
std::string state_of(const calibrate::Collected& got) {
  ByteWriter w;
  w.write(got.windows);
  w.append(got.sums.bytes());
  return std::move(w.str());
}

Status restore(const std::string& state, int64_t windows, calibrate::Collected* got) {
  ByteReader r(as_bytes(state));
  int64_t done = 0;
  if (!r.read(&done) || done < 1 || done > windows) return bad_input("{} windows of {}", done, windows);
  INGOT_TRY(got->sums.restore(as_bytes(state).subspan(r.pos())));
  got->windows = done;
  return {};
}

Result<ImatrixRun> run_model(Context& c, const ImatrixArgs& a, const ImatrixSources& s, ProgressFile* kept, calibrate::Collected* collected) {
  ImatrixRun run;
  calibrate::Collected& got = *collected;
  const TokenWindows& w = s.windows;
  if (!kept->found().empty()) {
    if (const Status taken = restore(kept->found(), w.count(), &got); taken.ok())
      c.report.notice(fmt::format("going on after {} of {}, from an unfinished run", got.windows, count_of(static_cast<uint64_t>(w.count()), "window")));
    else
      c.report.notice(fmt::format("what an unfinished run had computed does not fit ({}); it is begun anew", taken.error().message));
    kept->forget_found();
  }
  run.resumed = got.windows;
  if (got.windows == w.count()) return run;
  const RunMemory memory = run_memory(c, s, a.arithmetic);
  if (!memory.resident)
    c.report.notice(fmt::format("the model's {} do not fit into the memory; its layers are read from the file for each group of windows", format_bytes(weight_bytes(s.gguf))));
  LoadOptions load;
  load.resident = memory.resident;
  load.arithmetic = a.arithmetic;
  INGOT_ASSIGN(const std::unique_ptr<Model> model, load_model(c, s.gguf, load));
  calibrate::CollectOptions o;
  o.batch = kBatch;
  o.memory = memory.states;
  o.resident = memory.resident;
  if (a.process_output) o.output = s.weights.back().name;
  o.cancel = &c.cancel;
  o.on_progress = [&c, resumed = static_cast<uint64_t>(got.windows * w.length)](int64_t done, int64_t total) {
    Progress p;
    p.phase = Phase::kWrite;
    p.done = static_cast<uint64_t>(done), p.total = static_cast<uint64_t>(total), p.resumed = resumed;
    c.report.progress(p);
  };
  const auto start = Clock::now();
  auto saved = start;
  double wait = 1;
  bool told = false;
  const auto save = [&] {
    const Status done = kept->save(state_of(got));
    if (!done.ok() && !told) c.report.warning(fmt::format("what is computed cannot be kept beside the output, so that an interruption would lose it: {}", done.error().message));
    told |= !done.ok();
    saved = Clock::now();
    wait = kSaveSeconds;
  };
  o.on_group = [&] {
    if (seconds_since(saved) >= wait) save();
  };
  c.report.begin_progress("calibrating", false);
  Status done = calibrate::collect(*model, w, o, &got);
  c.report.end_progress();
  run.seconds = seconds_since(start);
  if (done.ok()) {
    save();  // what is written of it may take longer than it did
    return run;
  }
  const bool stopped = done.error().kind == ErrorKind::kInterrupted;
  if (got.windows > run.resumed && done.error().kind != ErrorKind::kBadInput) save();
  if (!stopped) return done.take_error().during(fmt::format("running '{}'", s.model->path));
  if (got.windows == 0) return Error{ErrorKind::kInterrupted, "interrupted before the first windows were through; nothing is kept"};
  return Error{ErrorKind::kInterrupted, fmt::format("interrupted after {} of {} windows; the same command goes on there, or begins anew with --no-resume", got.windows, w.count())};
}

OrderedJson warn_few(Context& c, const transform::ImportanceSums& sums) {
  constexpr size_t kShown = 4;
  OrderedJson list = OrderedJson::array();
  std::map<std::pair<std::string, int64_t>, double> places;  // of the matrices of one expert one
  for (const calibrate::Few& f : calibrate::few(sums, kFewTokens)) {
    OrderedJson j = {{"tensor", f.name}, {"tokens", f.tokens}};
    if (f.matrix >= 0) j["matrix"] = f.matrix;
    list.push_back(std::move(j));
    const size_t end = f.name.find('.', 4);
    const std::string place = f.matrix < 0 ? fmt::format("'{}'", f.name) : fmt::format("expert {} of {}", f.matrix, f.name.starts_with("blk.") ? "layer " + f.name.substr(4, end - 4) : "'" + f.name + "'");
    places.emplace(std::pair(place, f.matrix), f.tokens);
  }
  if (places.empty()) return list;
  std::string text;
  size_t shown = 0;
  for (const auto& [place, tokens] : places)
    if (shown++ < kShown) text += fmt::format("{}{} ({})", shown > 1 ? ", " : "", place.first, format_count(static_cast<uint64_t>(tokens)));
  c.report.warning(fmt::format("fewer than {} tokens came to {}{}: their importance is a guess, and where none came all columns count alike; a longer or more varied text reaches them", kFewTokens, text,
                               places.size() > kShown ? fmt::format(" and {} more", places.size() - kShown) : ""));
  return list;
}

}  // namespace

Result<ImatrixRun> run_windows(Context& c, const ImatrixArgs& a, const std::vector<Output>& outputs, ImatrixSources* s, std::unique_ptr<ProgressFile>* kept, OrderedJson* told) {
  const ExecOptions options = exec_options(c);
  const TokenWindows& w = s->windows;
  // Whatever is made of the sums besides: by what they depend on alone.
  ImatrixArgs sums_alone = a;
  sums_alone.out.clear(), sums_alone.format = "gguf";
  INGOT_ASSIGN(const calibrate::ImportanceFile sums_file, imatrix_file(c, sums_alone, *s));
  const std::vector<Output> of_sums = {sums_file.output(*outputs[0].store, outputs[0].path)};
  ExecOptions plain = options;
  plain.seed = 0;
  INGOT_ASSIGN(const std::string key, job_key(of_sums, plain));
  const std::string stamped = to_hex(hash128(as_bytes(key + sources_stamp(sources_of(of_sums)))));
  INGOT_ASSIGN(*kept, ProgressFile::open(*outputs[0].store, outputs[0].path, stamped, options.resume, options.on_notice));
  calibrate::Collected got{calibrate::ImportanceMatrix(s->weights), 0};
  INGOT_ASSIGN(const ImatrixRun run, run_model(c, a, *s, kept->get(), &got));
  transform::ImportanceSums sums = got.sums.sums();
  (*told)["few"] = warn_few(c, sums);
  sums.datasets = w.names;
  sums.chunks = static_cast<uint32_t>(w.count()), sums.chunk_size = static_cast<uint32_t>(w.length);
  INGOT_TRY(transform::add_sums(sums, &s->sums));
  return run;
}

Status check_run_memory(const Context& c, const ImatrixArgs& a, const ImatrixSources& s) {
  const RunMemory memory = run_memory(c, s, a.arithmetic);
  const uint64_t least = calibrate::least_states(s.config, s.windows.length, kBatch);
  if (!c.args.common.memory || memory.states >= least) return {};
  return usage("--memory {} is too little: two layers at a time, the sums and one batch of windows of {} tokens take {}; give --memory {}M{}", format_bytes(c.args.common.memory), s.windows.length,
               format_bytes(memory.taken + least), ((memory.taken + least) >> 20) + 1, s.windows.length > kBatch ? ", or smaller windows (--ctx)" : "");
}

void remove_left(const std::vector<Output>& outputs) { (void)ProgressFile::open(*outputs[0].store, outputs[0].path, std::string(kKeyDigits, '0'), false, [](const std::string&) {}); }

}  // namespace ingot::cli
