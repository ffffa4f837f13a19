// ingot lora: adapters. merge today; the other subcommands are refused by name.
#include "cli/command.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/subcommands.h"
#include "cli/text.h"
#include "formats/formats.h"
#include "formats/outputs.h"
#include "storage/hub.h"
#include "transform/class_check.h"
#include "transform/lora_base.h"

namespace ingot::cli {

namespace {

// Of "lora merge ADAPTER OUT" the line that is meant; of other words the form.
std::string meant_line(const std::string& word, const std::string& out) {
  const auto at = input_path(word);
  const auto adapter = at.ok() ? open_model(*at->store, at->path) : Result<Artifact>(at.error());
  if (!adapter.ok() || adapter->naming != "peft") return "as in: ingot lora merge BASE ADAPTER OUT";
  const auto base = transform::find_base(*adapter);
  const auto snapshot = hub_snapshot(base.ok() ? base->path : "");
  return fmt::format("'{}' is an adapter: ingot lora merge {} {} {}", word, !base.ok() ? "BASE" : shell_word(snapshot ? snapshot->repo : base->path),
                     shell_word(word), out.empty() ? "OUT" : shell_word(out));
}

Status lora_merge_command(Context& c) {
  std::string path, out, dtype;
  std::vector<std::string> words;
  AdapterArgs adapter_args;
  c.args.summary("folds PEFT LoRA adapters into their base model");
  c.args.usage("lora merge BASE ADAPTER... OUT");
  c.args.usage("lora merge BASE --adapter DIR [--weight W] [--adapter DIR ...] --out DIR [--dtype T]");
  c.args.detail(
      "Writes a Hugging Face directory that transformers loads: weights, config, tokenizer. Computed in f32, "
      "rounded once.");
  c.args.positional("BASE|-m,--model,--base", &path, "the model that the adapters were trained on: a Hugging Face directory, or a name like org/model");
  c.args.rest("ADAPTER... OUT", &words, "the same as --adapter and --out: the last word is OUT, if there is no --out");
  c.args.section("Options");
  adapter_args.declare(c.args);
  c.args.text("-o,--out|--outfile", "DIR", &out, "the merged model");
  c.args.text("--dtype", "T", &dtype, "f32, f16 or bf16 (default: as the base)");
  c.args.example("ingot lora merge base/ lora/ merged/");
  c.args.example("ingot lora merge base/ --adapter a/ --weight 0.7 --adapter b/ --out merged/ --dtype f16");
  c.args.later("--base-as", true, "merging into a quantized base as it is");
  c.args.unused({"--strict"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(std::vector<AdapterArgument> adapters, adapter_args.read(c.args));
  if (out.empty() && words.size() + adapters.size() > 1) {
    out = words.back();
    words.pop_back();
  }
  for (const std::string& word : words) adapters.push_back({word});
  if (adapters.empty()) return usage("'ingot lora merge' needs at least one --adapter DIR; {}", meant_line(path, out));
  if (out.empty()) return usage("'ingot lora merge' needs --out DIR; {}", meant_line(path, adapters[0].path));
  if (extension(out) == "gguf")
    return usage(
        "'ingot lora merge' writes a Hugging Face directory; for a GGUF file in one pass use: ingot ship {} "
        "--adapter {} --type F16 --out {}",
        path, adapters[0].path, out);
  DType type = DType::kF32;
  if (!dtype.empty()) {
    INGOT_ASSIGN(type, read_float_type(dtype));
  }

  INGOT_ASSIGN(const OpenedModel opened, open_with_adapters(c, path, adapters));
  INGOT_ASSIGN(const Located target, output_path(out, directory_of("safetensors"), input_paths(opened)));
  INGOT_TRY(transform::check_class(opened.artifact, false, [&c](const std::string& text) { c.report.notice(text); }));
  const auto counts = std::make_shared<transform::CastCounts>();
  transform::Operations done = opened.operations;
  Artifact merged;
  if (dtype.empty()) {
    INGOT_ASSIGN(merged, transform::cast_like(opened.artifact, opened.base, counts));
  } else {
    INGOT_ASSIGN(merged, transform::cast_floats(opened.artifact, type, counts));
    if (const DType from = transform::main_float_type(opened.base); from != type)
      c.report.notice(fmt::format("the base is {}, the merged model will be {} (--dtype)", info(from).name,
                                  info(type).name));
  }
  done.add("cast", {{"dtype", dtype.empty() ? "as the base" : info(type).name}}, merged);
  INGOT_ASSIGN(merged, with_manifest(c, opened, std::move(merged), done, directory_of("safetensors")));
  const uint64_t shard = c.args.common.max_shard_size;
  const std::vector<Output> outputs = {
      hf_directory_output(std::move(merged), *target.store, target.path, shard ? shard : kDefaultShardBytes)};
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, opened.provenance.get()));
  if (!report) return {};
  OrderedJson j = report_json(outputs, *report);
  warn_nonfinite(c, *counts, &j);
  return c.report.done(j, report_text(outputs, *report));
}

}  // namespace

Status command_lora(Context& c) {
  return run_subcommand(c, {{"merge", lora_merge_command}, {"stack", nullptr}, {"combine", nullptr}, {"extract", nullptr}, {"inspect", nullptr}, {"convert", nullptr}}, [](Args& args) {
    args.usage("lora merge BASE ADAPTER... OUT");
    args.detail("'ingot lora merge --help' tells its options. Later: stack, combine, extract, inspect, convert.");
    args.example("ingot lora merge base/ lora/ merged/");
  });
}

}  // namespace ingot::cli
