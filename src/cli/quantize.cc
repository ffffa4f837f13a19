// ingot quantize: a GGUF file or a Hugging Face directory to smaller GGUF files.
#include "cli/command.h"
#include "cli/diagnosis.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/quantize_args.h"
#include "cli/target_args.h"
#include "cli/text.h"
#include "cli/type_names.h"
#include "formats/outputs.h"

namespace ingot::cli {

Status command_quantize(Context& c) {
  std::string path, pre_tokenizer;
  TargetArgs target;
  QuantizeArgs quantize_args;
  c.args.usage("quantize IN [OUT] [TYPE]");
  c.args.usage("quantize IN [--type T[,T...]] [--out FILE]");
  c.args.positional("IN|-m,--model", &path, "a GGUF file, a Hugging Face directory, or a name like org/model");
  target.declare(c.args, "T[,T...]", "file types ('ingot list types'; default Q4_K_M); several are made from one read",
                 "the GGUF file; {type} in it stands for each type (default MODEL-TYPE.gguf, here)");
  c.args.text("--pre-tokenizer", "NAME", &pre_tokenizer,
              "name of the tokenizer's rules where they match none that is known");
  quantize_args.declare(c.args);
  for (const auto& [name, what] : {std::pair{"--bpw", "choosing types by bits per weight"},
                                   {"--size", "choosing types by size"},
                                   {"--fit-ram", "choosing types by memory"},
                                   {"--to", "writing formats for GPU serving"},
                                   {"--bits", "formats for GPU serving"},
                                   {"--group", "formats for GPU serving"}})
    c.args.later(name, true, what);
  c.args.example("ingot quantize model-F16.gguf model-Q4_K_M.gguf Q4_K_M");
  c.args.example("ingot quantize base/ --type Q4_K_M,Q8_0 --out 'model-{type}.gguf'");
  c.args.example("ingot quantize org/model Q4_K_M --tensor-type attn_v=Q6_K");
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_TRY(target.read(c, path));
  target.assume_type(kUsualType);
  INGOT_ASSIGN(const std::vector<std::string> types, read_types(c.report, target.types));
  INGOT_ASSIGN(transform::QuantizeOptions options, quantize_args.read(c));
  options.advise = true;

  INGOT_ASSIGN(const OpenedModel opened, open_with_adapters(c, path, {}));
  INGOT_ASSIGN(const std::vector<std::string> names, target.paths(c, opened, types));
  transform::Operations done = opened.operations;
  INGOT_ASSIGN(Artifact gguf, as_gguf(c, opened.artifact, pre_tokenizer, &done));
  INGOT_ASSIGN(gguf, quantize_args.prepared(c, std::move(gguf), &options, &done));
  std::vector<Output> outputs;
  std::vector<std::string> type_of;  // each output's
  for (size_t i = 0; i < types.size(); ++i) {
    transform::Operations all = done;
    INGOT_ASSIGN(Artifact made, quantized(c, gguf, types[i], options, &all));
    INGOT_ASSIGN(std::vector<Output> files, gguf_files(c, opened, std::move(made), all, names[i], quantize_args.keep_split()));
    for (Output& file : files) outputs.push_back(std::move(file)), type_of.push_back(types[i]);
  }
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, opened.provenance.get()));
  if (!report) return {};
  OrderedJson j = report_json(outputs, *report);
  warn_nonfinite(c, *options.counts, &j);
  for (size_t i = 0; i < type_of.size(); ++i) j["outputs"][i]["type"] = type_of[i];
  return c.report.done(j, report_text(outputs, *report));
}

}  // namespace ingot::cli
