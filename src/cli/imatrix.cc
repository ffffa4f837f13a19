// ingot imatrix: how much each input column of a model's weights matters, by the inputs that a text gives them.
#include <algorithm>

#include "calibrate/importance_statistics.h"
#include "cli/command.h"
#include "cli/imatrix_output.h"
#include "cli/imatrix_run.h"
#include "cli/imatrix_sources.h"
#include "cli/imatrix_statistics.h"
#include "cli/job.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/target_args.h"
#include "cli/text.h"
#include "commit/small_file.h"
#include "exec/ranks.h"
#include "formats/formats.h"

namespace ingot::cli {
namespace {

using calibrate::TokenWindows;
using transform::ImportanceSums;

Status check_drawing(const std::string& svg) {
  if (svg.empty()) return {};
  INGOT_ASSIGN(const std::string path, expand_variables(svg));
  INGOT_ASSIGN(const Located to, locate(path));
  return check_parents(to.path);
}

// --stats and --svg.
Status look(const ImatrixArgs& a, const std::string& name, const ImportanceSums& sums, OrderedJson* j, std::string* text) {
  const auto all = calibrate::statistics(sums);
  if (a.statistics) {
    (*j)["statistics"] = statistics_json(all);
    *text += (text->empty() ? "" : "\n") + statistics_text(all, stdout_width());
  }
  if (a.svg.empty()) return {};
  INGOT_ASSIGN(const std::string path, expand_variables(a.svg));
  INGOT_ASSIGN(const Located to, locate(path));
  const std::string about = fmt::format("mean square of the inputs, {}{}", count_of(sums.chunks, "window"), sums.chunk_size ? fmt::format(" of {} tokens", sums.chunk_size) : "");
  INGOT_TRY(replace_text(*to.store, to.path, statistics_chart(name, about, all)));
  (*j)["svg"] = to.path;
  *text += fmt::format("{}: drawn\n", printable(to.path));
  return {};
}

Result<ImportanceSums> sums_of_file(const Located& at) {
  INGOT_ASSIGN(const Artifact a, open_model(*at.store, at.path));
  return transform::read_importance_sums({a});
}

Status write_matrix(Context& c, const ImatrixArgs& a, ImatrixSources* s) {
  INGOT_ASSIGN(const Located to, output_path(a.out, file_of("gguf"), input_paths(*s)));
  INGOT_ASSIGN(calibrate::ImportanceFile file, imatrix_file(c, a, *s));
  std::vector<Output> outputs = {file.output(*to.store, to.path)};
  const ExecOptions options = exec_options(c);
  // All that can be refused is refused before the work, and what is done already is not done again.
  INGOT_ASSIGN(const PlanReport plan, plan_job(outputs, options));
  const TokenWindows& w = s->windows;
  OrderedJson j = OrderedJson::object();
  if (s->runs()) {
    INGOT_TRY(check_run_memory(c, a, *s));
    j = imatrix_json(*s);
  }
  std::unique_ptr<ProgressFile> kept;
  ImatrixRun ran;
  if (!plan.up_to_date && !c.args.common.dry_run) {
    if (s->runs()) {
      INGOT_ASSIGN(ran, run_windows(c, a, outputs, s, &kept, &j));
    }
    INGOT_TRY(file.fill(s->sums));
    outputs = {file.output(*to.store, to.path)};
  }
  if (plan.up_to_date && s->runs() && !c.args.common.dry_run) remove_left(outputs);
  if (kept) kept->release();
  PlanDetails details;
  details.text = imatrix_plan(*s);
  details.json = j;
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, nullptr, details));
  if (!report) return {};
  if (kept) (void)kept->remove();
  OrderedJson all = report_json(outputs, *report);
  all.update(j);
  std::string text = report_text(outputs, *report);
  if (ran.seconds > 0) {
    const double rate = static_cast<double>((w.count() - ran.resumed) * w.length) / ran.seconds;
    all["resumed_chunks"] = ran.resumed, all["seconds_run"] = ran.seconds, all["tokens_per_second"] = rate;
    text += imatrix_run_text(*s, ran.resumed, ran.seconds);
  }
  if (a.looks()) {
    if (plan.up_to_date) {
      INGOT_ASSIGN(s->sums, sums_of_file(to));
    }
    INGOT_TRY(look(a, to.path, s->sums, &all, &text));
  }
  return c.report.done(all, text);
}

}  // namespace

Status command_imatrix(Context& c) {
  ImatrixArgs a;
  a.declare(c.args);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_TRY(a.check(c.args));
  INGOT_TRY(check_drawing(a.svg));
  INGOT_ASSIGN(const ProcessRank process, process_rank());
  if (process.world > 1) return usage("'ingot imatrix' is the work of one process, which takes all threads; start it without {}", process.from);
  INGOT_ASSIGN(ImatrixSources s, open_imatrix_sources(c, &a));
  const bool runs = s.model && (!a.texts.empty() || a.in_files.empty());
  if (!runs && a.out.empty()) {
    if (!a.looks()) return usage("'ingot imatrix' has nothing to do with {}: --out FILE writes what is merged, --stats prints figures, --calibrate FILE adds a text's", shell_word(a.in_files[0]));
    OrderedJson j = {{"files", OrderedJson::array()}, {"chunks", s.sums.chunks}, {"chunk_size", s.sums.chunk_size}, {"datasets", s.sums.datasets}};
    for (const Artifact& f : s.files) j["files"].push_back(f.path);
    std::string text;
    INGOT_TRY(look(a, s.files[0].path, s.sums, &j, &text));
    return c.report.result(j, text);
  }
  std::string assumed = s.model ? s.model->assumed : "";
  if (runs) INGOT_TRY(read_imatrix_text(c, &a, &assumed, &s));
  if (a.out.empty()) {
    a.out = fmt::format("{}-imatrix.{}", output_name(c, *s.model), a.format == "dat" ? "dat" : "gguf");
    assumed += fmt::format("{}--out {}", assumed.empty() ? "" : ", ", shell_word(a.out));
  }
  if (!assumed.empty()) c.report.notice("assumed: " + assumed);
  return write_matrix(c, a, &s);
}

}  // namespace ingot::cli
