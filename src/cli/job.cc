// One job of the executor as the command line runs it.
#include "cli/job.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "base/threads.h"
#include "cli/output.h"
#include "cli/text.h"
#include "exec/key.h"
#include "exec/ranks.h"
#include "kernels/dispatch.h"
#include "storage/cache.h"

namespace ingot::cli {
ExecOptions exec_options(Context& c) {
  const CommonOptions& o = c.args.common;
  ExecOptions e;
  e.threads = static_cast<int>(o.threads);
  e.memory = o.memory;
  e.resume = !o.no_resume;
  e.force = o.force;
  e.seed = static_cast<uint64_t>(o.seed);
  e.verify = o.verify;
  e.rank_timeout = o.rank_timeout;
  e.cancel = &c.cancel;
  e.on_progress = [&c](const Progress& p) { c.report.progress(p); };
  e.on_notice = [&c](const std::string& text) { c.report.notice(text); };
  return e;
}

namespace {

// What `n` of `all` bytes come to where `all` stands for `shown`.
uint64_t part_of(uint64_t n, uint64_t shown, uint64_t all) {
  return all ? static_cast<uint64_t>(std::llroundl(static_cast<long double>(n) * shown / all)) : n;
}

std::string plan_text(const PlanReport& plan) {
  uint64_t bytes = 0;
  for (const auto& f : plan.files) bytes += f.bytes;
  return fmt::format("reads {}{} in {} tasks; takes up to {} of memory for buffers (the least that works is {}){}",
                     format_bytes(plan.source_bytes), plan.files.empty() ? "" : ", writes " + format_bytes(bytes), plan.tasks,
                     format_bytes(plan.memory),
                     format_bytes(plan.memory_floor),
                     plan.spilled ? fmt::format("; {} values go to disk", plan.spilled) : "");
}

Status print_plan(Context& c, const PlanReport& plan, const PlanDetails& details = {}) {
  OrderedJson files = OrderedJson::array();
  Table table({"~file", ">size"});
  uint64_t bytes = 0;
  for (const auto& f : plan.files) {
    files.push_back({{"path", f.path}, {"bytes", f.bytes}});
    table.row({printable(f.path), format_bytes(f.bytes)});
    bytes += f.bytes;
  }
  OrderedJson j = {{"dry_run", true},
                   {"files", files},
                   {"source_bytes", plan.source_bytes},
                   {"written_bytes", bytes},
                   {"memory", plan.memory},
                   {"memory_floor", plan.memory_floor},
                   {"tasks", plan.tasks},
                   {"values_spilled", plan.spilled},
                   {"up_to_date", plan.up_to_date}};
  j.update(details.json);
  return c.report.done(std::move(j), details.text + (plan.files.empty() ? "" : table.str(0, stdout_width())) +
                           (plan.up_to_date ? "up to date: nothing would be done (--force makes it anew)" : plan_text(plan)) + "\n");
}

// RLIMIT_FSIZE: said before the first byte, not after hours.
bool has_size_limit(uint64_t* limit) {
  rlimit r{};
  if (::getrlimit(RLIMIT_FSIZE, &r) != 0 || r.rlim_cur == RLIM_INFINITY) return false;
  *limit = r.rlim_cur;
  return true;
}

void tell_plan(Context& c, const PlanReport& plan, const ExecOptions& options) {
  c.report.detail(fmt::format("{} threads, {} kernels{}", thread_count(options.threads), target_name(active_target()),
                              options.memory ? "" : "; memory: a quarter of what is free"));
  c.report.detail(plan_text(plan));
}

}  // namespace

Status check_size_limit(const PlanReport& plan) {
  uint64_t limit = 0;
  if (!has_size_limit(&limit)) return {};
  for (const auto& f : plan.files)
    if (f.bytes > limit)
      return failed("cannot write '{}': it would have {}, but files of this process may have {} at most (ulimit -f); raise the limit", f.path,
                    format_bytes(f.bytes), format_bytes(limit));
  return {};
}

Result<std::optional<ExecReport>> run_reported(Context& c, const std::vector<Output>& given, const transform::Provenance* provenance, const PlanDetails& details) {
  ExecOptions options = exec_options(c);
  INGOT_ASSIGN(const ProcessRank process, process_rank());
  options.rank = process.rank;
  options.world = process.world;
  if (process.world > 1)
    c.report.notice(fmt::format("one of {} processes that share the work (rank {}, by {})", process.world, process.rank, process.from));
  // What passes for hashes alone is nothing that the user hears of.
  const std::vector<Output> outputs = provenance ? provenance->complete(given) : given;
  uint64_t written = 0;
  for (const Output& o : given) written += totals_of(o.artifact).bytes;
  const auto seen = [written, all = written + (provenance ? provenance->hash_bytes() : 0)](uint64_t n) { return part_of(n, written, all); };
  options.on_progress = [&c, seen](Progress p) {
    if (p.phase == Phase::kWrite)
      for (uint64_t* n : {&p.done, &p.total, &p.resumed}) *n = seen(*n);
    c.report.progress(p);
  };
  uint64_t limit = 0;
  if (c.args.common.dry_run || c.report.verbose() || has_size_limit(&limit)) {
    INGOT_ASSIGN(PlanReport plan, plan_job(outputs, options));
    if (provenance) plan.files.resize(plan.files.size() - provenance->hash_files());
    INGOT_TRY(check_size_limit(plan));
    tell_plan(c, plan, options);
    if (c.args.common.dry_run) {
      if (process.rank == 0) INGOT_TRY(print_plan(c, plan, details));
      return std::optional<ExecReport>();
    }
  }
  INGOT_TRY(go_on(c));
  const double before = c.report.seconds();
  c.report.begin_progress();
  auto report = run_job(outputs, options);
  c.report.end_progress();
  if (!report.ok()) return report.take_error();
  const double all = c.report.seconds();
  c.report.detail(fmt::format("job {}: opening and planning {}, writing {}, verifying {}, the rest {}", report->key, format_duration(before),
                              format_duration(report->seconds_write), format_duration(report->seconds_verify),
                              format_duration(std::max(0.0, all - before - report->seconds_write - report->seconds_verify))));
  // The first rank verified, renamed, and speaks for all.
  if (process.rank > 0) return std::optional<ExecReport>();
  if (provenance)
    for (const std::string& text : provenance->contradictions(*report)) c.report.warning(text);
  report->outputs.resize(given.size());
  report->written_bytes = seen(report->written_bytes);
  report->resumed_bytes = seen(report->resumed_bytes);
  return std::optional<ExecReport>(std::move(*report));
}

Result<std::optional<ContentHashes>> hash_reported(Context& c, const transform::ContentHash& what, const char* verb) {
  INGOT_ASSIGN(const ProcessRank process, process_rank());
  if (process.rank > 0) return std::optional<ContentHashes>();
  ExecOptions options = exec_options(c);
  options.seed = 0;
  options.verify = Verify::kNone;
  const std::vector<Output> outputs = {what.output};
  // The bar shows the bytes that are read, not those that pass in either form.
  uint64_t read = 0;
  for (const auto& t : what.exact) read += bytes_of(t.spec);
  options.on_progress = [&c, read, all = what.bytes()](Progress p) {
    for (uint64_t* n : {&p.done, &p.total, &p.resumed}) *n = part_of(*n, read, all);
    c.report.progress(p);
  };
  if (c.args.common.dry_run || c.report.verbose()) {
    INGOT_ASSIGN(PlanReport plan, plan_job(outputs, options));
    plan.files.clear();
    tell_plan(c, plan, options);
    if (c.args.common.dry_run) {
      INGOT_TRY(print_plan(c, plan));
      return std::optional<ContentHashes>();
    }
  }
  INGOT_TRY(go_on(c));
  INGOT_ASSIGN(const std::string key, job_key(outputs, options));
  const auto memory = make_memory_store();
  options.journal_store = memory.get();
  options.journal_path = fmt::format("hash-{}.journal", key.substr(0, 12));
  // Of a run that is to start anew nothing is kept.
  if (const auto cache = cache_directory(); cache && options.resume) {
    options.journal_store = cache->store;
    options.journal_path = join_path(cache->path, options.journal_path);
  }
  c.report.begin_progress(verb);
  auto report = run_job(outputs, options);
  // Another one hashes the same model: this one keeps no journal.
  if (!report.ok() && options.journal_store->locked(options.journal_path + ".lock")) {
    options.journal_store = memory.get();
    options.journal_path = file_name(options.journal_path);
    report = run_job(outputs, options);
  }
  c.report.end_progress();
  if (!report.ok()) {
    Error e = report.take_error();
    if (e.kind == ErrorKind::kInterrupted && options.journal_store == memory.get()) e.message = "interrupted; no hash was made";
    return e;
  }
  c.report.detail(fmt::format("read {} in {}{}", format_bytes(report->source_bytes), format_duration(report->seconds_write),
                              report->resumed_bytes ? "; an earlier run had done a part of it" : ""));
  const transform::ContentHash::Roots roots = [digests = report->digests.at(0)](size_t file) { return digests.at(file); };
  return std::optional<ContentHashes>({hash_of(what.exact, roots), hash_of(what.value, roots), roots});
}

Totals totals_of(const Artifact& artifact) {
  Totals t;
  for (const LazyTensor& tensor : artifact.tensors) {
    const TensorSpec spec = tensor.spec();
    ++t.tensors;
    t.elements += static_cast<uint64_t>(spec.shape.elements());
    t.bytes += bytes_of(spec);
  }
  return t;
}

std::string report_text(const std::vector<Output>& outputs, const ExecReport& r) {
  const bool up_to_date = std::all_of(r.outputs.begin(), r.outputs.end(), [](const OutputReport& o) { return o.up_to_date; });
  uint64_t files = 0;  // as large as the table says, with their headers
  for (const OutputReport& o : r.outputs) files += o.up_to_date ? 0 : o.bytes;
  const uint64_t wrote = files - std::min(files, r.resumed_bytes);
  Table table({"~file", ">size", "?>bits/weight", r.verified == Verify::kNone && !up_to_date ? "hash (not verified)" : "hash"});
  for (size_t i = 0; i < r.outputs.size(); ++i) {
    const OutputReport& o = r.outputs[i];
    table.row(
        {printable(o.path), format_bytes(o.bytes),
         i < outputs.size() ? fmt::format("{:.2f}", totals_of(outputs[i].artifact).bits_per_weight()) : "",
         o.up_to_date && !up_to_date ? o.hash + " (was up to date)" : o.hash});
  }
  const int width = stdout_width();
  if (up_to_date) return table.str(0, width) + "up to date: this same job made it, and nothing was touched since (--force makes it anew)\n";
  std::string line = fmt::format("read {}, wrote {} in {}", format_bytes(r.source_bytes),
                                 format_bytes(wrote), format_duration(r.seconds_write));
  if (r.seconds_write > 0 && wrote) line += fmt::format(" ({})", format_rate(static_cast<double>(wrote) / r.seconds_write));
  if (r.seconds_verify > 0)
    line += fmt::format("; read back from {} and compared in {}", r.verified == Verify::kMedium ? "the medium" : "the system's cache",
                        format_duration(r.seconds_verify));
  if (r.resumed_bytes)
    line += fmt::format("; {} were there from an earlier run", format_bytes(r.resumed_bytes));
  return table.str(0, width) + (width ? wrap(line, width, 0) : line) + "\n";
}

OrderedJson report_json(const std::vector<Output>& outputs, const ExecReport& r) {
  OrderedJson list = OrderedJson::array();
  for (size_t i = 0; i < r.outputs.size(); ++i) {
    const OutputReport& o = r.outputs[i];
    OrderedJson j = {{"path", o.path}, {"bytes", o.bytes}, {"hash", o.hash}, {"verified", verify_name(r.verified)}, {"up_to_date", o.up_to_date}};
    if (i < outputs.size()) {
      const Totals t = totals_of(outputs[i].artifact);
      j["tensors"] = t.tensors;
      j["weights"] = t.elements;
      j["bits_per_weight"] = t.bits_per_weight();
    }
    list.push_back(std::move(j));
  }
  return {{"outputs", list},
          {"source_bytes", r.source_bytes},
          {"written_bytes", r.written_bytes},
          {"resumed_bytes", r.resumed_bytes},
          {"tasks", r.tasks},
          {"seconds_write", r.seconds_write},
          {"seconds_verify", r.seconds_verify}};
}

}  // namespace ingot::cli
