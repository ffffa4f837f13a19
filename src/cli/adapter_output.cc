#include "cli/adapter_output.h"

#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "formats/formats.h"
#include "formats/outputs.h"
#include "formats/safetensors.h"
#include "transform/cast.h"
#include "transform/gguf_lora.h"

namespace ingot::cli {
namespace {

constexpr char kConfig[] = "adapter_config.json";

// A file of an adapter's weights beside its configuration stands for the directory of both.
Result<Artifact> open_adapter(Context& c, const std::string& given, Located* at) {
  INGOT_ASSIGN(*at, input_path(given));
  const std::string folder = parent_path(at->path);
  const bool file_of_one = file_name(at->path).starts_with("adapter_model.") && is_there(*at->store, join_path(folder, kConfig));
  if (file_of_one) at->path = folder;
  return open_told(c, *at);
}

}  // namespace

Status convert_adapter(Context& c, const std::string& path, const std::string& out, const std::string& dtype, const std::string& base) {
  Located at;
  INGOT_ASSIGN(Artifact adapter, open_adapter(c, path, &at));
  if (transform::is_gguf_adapter(adapter)) {
    Json config;
    if (!base.empty()) {
      INGOT_ASSIGN(const Located from, input_path(base));
      INGOT_ASSIGN(const auto files, read_side_files(*from.store, from.path));
      INGOT_ASSIGN(config, parse_json(files.at("config.json"), join_path(from.path, "config.json")));
    }
    INGOT_ASSIGN(adapter, transform::gguf_lora_to_peft(adapter, config, base));
  } else if (adapter.naming != "peft") {
    return bad_input("'{}' is no adapter that PEFT could load but {}{}; --to peft takes a directory with {}, or a LoRA adapter in GGUF", at.path, adapter.format,
                     adapter.naming.empty() ? "" : fmt::format(" with {} tensors of a model", adapter.tensors.size()), kConfig);
  } else if (!base.empty()) {
    c.report.warning(fmt::format("--config-from changes nothing: '{}' has a configuration of its own", at.path));
  }
  const auto counts = std::make_shared<transform::CastCounts>();
  if (!dtype.empty()) {
    INGOT_ASSIGN(const DType t, read_float_type(dtype));
    INGOT_ASSIGN(adapter, transform::cast_floats(adapter, t, counts));
  }
  if (c.args.common.provenance) return usage("--provenance: an adapter's directory has no place for a manifest");
  OpenedModel opened;
  opened.path = at.path, opened.base = adapter;
  INGOT_ASSIGN(const Located to, output_path(out, directory_of("peft"), input_paths(opened)));
  INGOT_ASSIGN(Output output, make_output(std::move(adapter), *to.store, to.path, "peft"));
  std::vector<Output> outputs;
  outputs.push_back(std::move(output));
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, nullptr));
  if (!report) return {};
  OrderedJson result = report_json(outputs, *report);
  warn_nonfinite(c, *counts, &result);
  return c.report.done(std::move(result), report_text(outputs, *report));
}

}  // namespace ingot::cli
