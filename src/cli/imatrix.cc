// ingot imatrix: how much each input column of a model's weights matters, by the inputs that a text gives them.
#include <algorithm>

#include "calibrate/importance_file.h"
#include "calibrate/importance_statistics.h"
#include "cli/command.h"
#include "cli/imatrix_run.h"
#include "cli/imatrix_sources.h"
#include "cli/imatrix_statistics.h"
#include "cli/job.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/target_args.h"
#include "cli/text.h"
#include "commit/names.h"
#include "commit/small_file.h"
#include "exec/key.h"
#include "exec/ranks.h"
#include "formats/formats.h"
#include "formats/gguf.h"
#include "infer/packed.h"
#include "kernels/hash.h"

namespace ingot::cli {
namespace {

using calibrate::ImportanceFile;
using calibrate::TokenWindows;
using calibrate::WeightShape;
using transform::ImportanceSums;

// The names of the texts, without the folders of this machine.
std::vector<std::string> datasets_of(const ImatrixSources& s) {
  std::vector<std::string> all = s.sums.datasets;
  for (const std::string& name : s.windows.names) all.push_back(file_name(name));
  return all;
}

uint32_t chunk_size_of(const Context& c, const ImatrixArgs& a, const ImatrixSources& s) {
  return s.runs() || c.args.has("--ctx") || !s.sums.chunk_size ? static_cast<uint32_t>(a.length) : s.sums.chunk_size;
}

// What changes the sums beside the sources' own bytes.
Result<std::string> key_of(const ImatrixArgs& a, const ImatrixSources& s) {
  std::string text = fmt::format("imatrix 1|{}|{}", a.length, a.process_output);
  for (const Artifact& f : s.files) text += "|" + f.format;
  if (s.runs()) {
    // Tensors are told apart by their names, and run by what the metadata says.
    Artifact meta;
    meta.metadata = s.gguf.metadata;
    INGOT_ASSIGN(const Layout header, layout_gguf(meta, {}));
    text += "|" + to_hex(hash128(as_bytes(header.files[0].extents[0].bytes)));
    for (const LazyTensor& t : s.gguf.tensors) text += "|" + t.name;
    text += "|" + to_hex(hash128(std::as_bytes(std::span(s.windows.ids))));
    const auto packed = [](const LazyTensor& t) { return can_pack(t.spec().type); };
    if (a.arithmetic == Arithmetic::kFast && std::any_of(s.gguf.tensors.begin(), s.gguf.tensors.end(), packed)) text += "|int8";
  }
  return to_hex(hash128(as_bytes(text)));
}

Result<ImportanceFile> make_file(const Context& c, const ImatrixArgs& a, const ImatrixSources& s) {
  calibrate::ImportanceFileOptions o;
  o.older = a.older();
  INGOT_ASSIGN(o.key, key_of(a, s));
  for (const Artifact& f : s.files)
    for (const LazyTensor& t : f.tensors) o.sources.push_back(t.node);
  std::vector<WeightShape> weights = calibrate::shapes_of(s.sums);
  double most = 0;
  for (const auto& [name, e] : s.sums.entries) most = std::max(most, *std::max_element(e.counts.begin(), e.counts.end()));
  if (s.runs()) {
    for (const LazyTensor& t : s.gguf.tensors) o.sources.push_back(t.node);
    for (const WeightShape& w : s.weights)
      if (!s.sums.entries.contains(w.name)) weights.push_back(w);
    most += static_cast<double>(s.windows.ids.size());
  }
  o.datasets = datasets_of(s);
  o.chunk_size = chunk_size_of(c, a, s);
  o.chunks = static_cast<uint32_t>(std::min<double>(most / o.chunk_size, UINT32_MAX));
  return ImportanceFile(std::move(weights), std::move(o));
}

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

std::string plan_details(const ImatrixSources& s) {
  const TokenWindows& w = s.windows;
  if (!s.runs()) return fmt::format("merges {} importance {}\n", s.files.size(), s.files.size() == 1 ? "matrix" : "matrices");
  return fmt::format("runs {} of {} tokens ({} of the text's {}) through {} of '{}' and collects {}\n", count_of(static_cast<uint64_t>(w.count()), "window"), w.length,
                     format_count(w.ids.size()), format_count(static_cast<uint64_t>(w.tokens)), count_of(static_cast<uint64_t>(s.config.layers), "layer"), printable(s.model->path),
                     count_of(s.weights.size(), "tensor"));
}

Status write_matrix(Context& c, const ImatrixArgs& a, ImatrixSources* s) {
  INGOT_ASSIGN(const Located to, output_path(a.out, file_of("gguf"), input_paths(*s)));
  INGOT_ASSIGN(ImportanceFile file, make_file(c, a, *s));
  std::vector<Output> outputs = {file.output(*to.store, to.path)};
  const ExecOptions options = exec_options(c);
  // All that can be refused is refused before the work, and what is done already is not done again.
  INGOT_ASSIGN(const PlanReport plan, plan_job(outputs, options));
  const TokenWindows& w = s->windows;
  OrderedJson j = OrderedJson::object();
  if (s->runs())
    j = {{"chunks", w.count()}, {"chunk_size", w.length}, {"tokens", w.ids.size()}, {"text_tokens", w.tokens}, {"texts", w.names}};
  std::unique_ptr<ProgressFile> kept;
  ImatrixRun ran;
  if (!plan.up_to_date && !c.args.common.dry_run) {
    if (s->runs()) {
      INGOT_ASSIGN(const std::string key, job_key(outputs, options));
      const std::string stamped = to_hex(hash128(as_bytes(key + sources_stamp(sources_of(outputs)))));
      INGOT_ASSIGN(kept, ProgressFile::open(*to.store, to.path, stamped, options.resume, options.on_notice));
      INGOT_ASSIGN(ran, run_windows(c, a, *s, kept.get()));
      ImportanceSums run = ran.got.sums.sums();
      j["few"] = warn_few(c, run);
      run.datasets = w.names;
      run.chunks = static_cast<uint32_t>(w.count()), run.chunk_size = static_cast<uint32_t>(w.length);
      INGOT_TRY(transform::add_sums(run, &s->sums));
    }
    INGOT_TRY(file.fill(s->sums));
    outputs = {file.output(*to.store, to.path)};
  }
  // Killed between the output's publishing and the end, a run leaves what it kept.
  if (plan.up_to_date && s->runs() && !c.args.common.dry_run) (void)ProgressFile::open(*to.store, to.path, std::string(kKeyDigits, '0'), false, [](const std::string&) {});
  if (kept) kept->release();
  PlanDetails details;
  details.text = plan_details(*s);
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
    text += fmt::format("{} of {} tokens ({} of the text's {}) in {} ({} tokens/s){}\n", count_of(static_cast<uint64_t>(w.count()), "window"), w.length, format_count(w.ids.size()),
                        format_count(static_cast<uint64_t>(w.tokens)), format_duration(ran.seconds), format_count(static_cast<uint64_t>(rate)),
                        ran.resumed ? fmt::format("; {} of them by an earlier run", ran.resumed) : "");
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
