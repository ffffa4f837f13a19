// ingot quantize: a GGUF file or a Hugging Face directory to smaller GGUF files.
#include <map>
#include <tuple>

#include "base/threads.h"
#include "cli/command.h"
#include "cli/diagnosis.h"
#include "cli/encode_time.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/quantize_args.h"
#include "cli/target_args.h"
#include "cli/text.h"
#include "cli/type_names.h"
#include "formats/outputs.h"
#include "transform/layers.h"

namespace ingot::cli {

namespace {

// "blk.*.attn_q.weight" of "blk.7.attn_q.weight".
std::string of_all_layers(const std::string& name) {
  if (transform::layer_of(name) < 0) return name;
  return "blk.*" + name.substr(name.find('.', 4));
}

// Which type each tensor gets in each file, those of a name in all layers together; --json has every tensor. And how long it takes to compute that.
void add_types(Context& c, const Artifact& gguf, const std::string& type, const Artifact& made, const transform::QuantizeOptions& options, PlanDetails* details) {
  struct Kind {
    uint64_t count = 0, bytes = 0;
  };
  std::map<std::tuple<std::string, std::string, std::string>, Kind> kinds;
  std::vector<std::tuple<std::string, std::string, std::string>> order;
  OrderedJson list = OrderedJson::array();
  EncodedValues encoded;
  for (const LazyTensor& t : made.tensors) {
    const LazyTensor* source = gguf.find(t.name);  // none of the scale that stands beside a weight
    const TensorSpec to = t.spec();
    const std::string from(source ? info(source->spec().type).name : std::string_view("-"));
    const std::tuple key(of_all_layers(t.name), from, std::string(info(to.type).name));
    auto [it, fresh] = kinds.try_emplace(key);
    if (fresh) order.push_back(key);
    ++it->second.count, it->second.bytes += bytes_of(to);
    OrderedJson row = {{"name", t.name}, {"from", from}, {"type", info(to.type).name}, {"bytes", bytes_of(to)}};
    if (!source) row.erase("from");
    list.push_back(std::move(row));
    if (source && source->spec().type != to.type && is_block_type(to.type)) encoded[{to.type, options.imatrix && options.imatrix->weights.contains(t.name)}] += to.shape.elements();
  }
  Table table({"~tensor", ">of them", "from", type, ">size"});
  for (const auto& key : order) {
    const Kind& k = kinds[key];
    table.row({printable(std::get<0>(key)), format_count(k.count), std::get<1>(key), std::get<2>(key), format_bytes(k.bytes)});
  }
  const int threads = thread_count(c.args.common.threads);
  const double seconds = encode_seconds(encoded, options.effort) / threads, bits = totals_of(made).bits_per_weight();
  details->text += table.str(0, stdout_width()) + fmt::format("{:.2f} bits/weight; about {} of computing with {} thread{}, while it is read and written\n\n", bits, format_duration(seconds), threads,
                                                               threads == 1 ? "" : "s");
  details->json["types"].push_back({{"type", type}, {"bits_per_weight", bits}, {"compute_seconds", seconds}, {"tensors", std::move(list)}});
}

}  // namespace

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
  c.args.example("ingot quantize base/ --type IQ2_XS --calibrate chat.jsonl");
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_TRY(target.read(c, path));
  for (const char* name : {"--ctx", "--chunks"})
    if (c.args.has(name) && !quantize_args.calibrates()) c.report.warning(fmt::format("{} changes nothing without --calibrate", name));
  target.assume_type(kUsualType);
  INGOT_ASSIGN(const std::vector<std::string> types, read_types(c.report, target.types));
  INGOT_ASSIGN(transform::QuantizeOptions options, quantize_args.read(c));
  options.advise = true;

  INGOT_ASSIGN(OpenedModel opened, open_with_adapters(c, path, {}));
  for (const std::string& text : quantize_args.texts()) opened.texts.push_back(calibrate::path_of_text(text));
  INGOT_ASSIGN(const std::vector<std::string> names, target.paths(c, opened, types));
  transform::Operations done = opened.operations;
  INGOT_ASSIGN(Artifact gguf, as_gguf(c, opened.artifact, pre_tokenizer, &done));
  INGOT_ASSIGN(gguf, quantize_args.prepared(c, std::move(gguf), &options, &done));
  INGOT_ASSIGN(const std::unique_ptr<Calibration> calibration, quantize_args.calibration(c, opened, gguf, &options));
  std::vector<Output> outputs;
  PlanDetails details;
  std::vector<std::string> type_of;  // each output's
  for (size_t i = 0; i < types.size(); ++i) {
    transform::Operations all = done;
    INGOT_ASSIGN(Artifact made, quantized(c, gguf, types[i], options, &all));
    if (c.args.common.dry_run) add_types(c, gguf, types[i], made, options, &details);
    INGOT_ASSIGN(std::vector<Output> files, gguf_files(c, opened, std::move(made), all, names[i], quantize_args.keep_split()));
    for (Output& file : files) outputs.push_back(std::move(file)), type_of.push_back(types[i]);
  }
  warn_useless_calibration(c, quantize_args.calibrates(), outputs);
  if (calibration) INGOT_TRY(calibration->run(c, &outputs, opened.provenance.get(), &details));
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, opened.provenance.get(), details));
  if (!report) return {};
  OrderedJson j = report_json(outputs, *report);
  std::string text = report_text(outputs, *report);
  if (calibration) calibration->finish(&j, &text);
  else remove_left(outputs);
  warn_nonfinite(c, *options.counts, &j);
  for (size_t i = 0; i < type_of.size(); ++i) j["outputs"][i]["type"] = type_of[i];
  return c.report.done(j, text);
}

}  // namespace ingot::cli
