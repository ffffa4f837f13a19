#include "cli/calibration.h"

#include <algorithm>

#include "cli/imatrix_output.h"
#include "cli/job.h"
#include "cli/paths.h"
#include "exec/ranks.h"
#include "formats/formats.h"
#include "formats/outputs.h"

namespace ingot::cli {

Result<std::unique_ptr<Calibration>> Calibration::prepare(Context& c, const ImatrixArgs& args, const OpenedModel& model, const Artifact& gguf, transform::QuantizeOptions* options) {
  INGOT_ASSIGN(const ProcessRank process, process_rank());
  if (process.world > 1)
    return usage("--calibrate is the work of one process, which takes all threads: make the importance matrix by 'ingot imatrix', started without {}, and give it to each of them with --imatrix", process.from);
  auto made = std::make_unique<Calibration>();
  made->args_ = args;
  if (const Status fits = calibrate_model(model, gguf, args, &made->sources_); !fits.ok()) return Error(fits.error()).during("--calibrate");
  std::string assumed;
  if (Status read = read_imatrix_text(c, &made->args_, &assumed, &made->sources_); !read.ok()) return read.take_error().during("--calibrate");
  if (Status room = check_run_memory(c, args, made->sources_); !room.ok()) return room.take_error().during("--calibrate");
  auto matrix = std::make_shared<transform::Importance>();
  INGOT_ASSIGN(matrix->key, imatrix_key(made->args_, made->sources_));
  const calibrate::TokenWindows& w = made->sources_.windows;
  matrix->files = {args.out.empty() ? "of --calibrate" : args.out};
  if (!w.names.empty()) matrix->dataset = file_name(w.names[0]);
  matrix->chunks = static_cast<uint32_t>(w.count());
  for (const calibrate::WeightShape& s : made->sources_.weights)
    matrix->weights[s.name] = made->weights_[s.name] = std::make_shared<std::vector<float>>(static_cast<size_t>(s.cols * s.matrices), 1.0F);
  options->imatrix = std::move(matrix);
  return made;
}

void warn_useless_calibration(Context& c, bool asked, const std::vector<Output>& outputs) {
  const auto blocks = [](const Output& o) { return std::any_of(o.artifact.tensors.begin(), o.artifact.tensors.end(), [](const LazyTensor& t) { return is_block_type(t.spec().type); }); };
  if (asked && std::none_of(outputs.begin(), outputs.end(), blocks)) c.report.warning("--calibrate changes nothing in files of floats");
}

Result<Output> Calibration::keep(const Context& c, size_t index) {
  INGOT_ASSIGN(const Located to, output_path(args_.out, file_of("gguf"), input_paths(sources_)));
  INGOT_ASSIGN(calibrate::ImportanceFile file, imatrix_file(c, args_, sources_));
  Output out = file.output(*to.store, to.path);
  file_.emplace(Kept{std::move(file), index});
  return out;
}

Status Calibration::run(Context& c, std::vector<Output>* outputs, const transform::Provenance* provenance, PlanDetails* details) {
  const std::vector<Output> all = provenance ? provenance->complete(*outputs) : *outputs;
  INGOT_ASSIGN(PlanReport plan, plan_job(all, exec_options(c)));
  if (provenance) plan.files.resize(plan.files.size() - provenance->hash_files());
  INGOT_TRY(check_size_limit(plan));
  details->json["calibration"] = imatrix_json(sources_);
  if (!plan.up_to_date) details->text = "first " + imatrix_plan(sources_) + details->text;
  if (c.args.common.dry_run) return {};
  if (plan.up_to_date) {
    remove_left(all);
    return {};
  }
  told_ = imatrix_json(sources_);
  INGOT_ASSIGN(ran_, run_windows(c, args_, all, &sources_, &kept_, &told_));
  // As a file of them holds them, so that quantizing by that file gives the same bytes.
  for (auto& [name, e] : sources_.sums.entries)
    for (double& sum : e.values) sum = static_cast<double>(static_cast<float>(sum));
  const transform::Importance found = transform::importance_of(sources_.sums);
  for (const std::string& n : found.notices) c.report.notice(n);
  for (auto& [name, values] : weights_)
    if (const auto it = found.weights.find(name); it != found.weights.end()) *values = *it->second;
  if (file_) {
    INGOT_TRY(file_->file.fill(sources_.sums));
    Output& o = outputs->at(file_->index);
    o = file_->file.output(*o.store, o.path);
  }
  kept_->release();
  return {};
}

void Calibration::finish(OrderedJson* j, std::string* text) {
  if (!kept_) return;
  (void)kept_->remove();
  kept_.reset();
  told_["resumed_chunks"] = ran_.resumed, told_["seconds_run"] = ran_.seconds;
  (*j)["calibration"] = told_;
  *text += ran_.seconds > 0 ? "calibrated with " + imatrix_run_text(sources_, ran_.resumed, ran_.seconds) : "calibrated by an earlier run\n";
}

}  // namespace ingot::cli
