// ingot convert: a model to another format, or to another float type.
#include <algorithm>

#include "cli/adapter_output.h"
#include "cli/command.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/paths.h"
#include "cli/target_args.h"
#include "cli/text.h"
#include "cli/type_names.h"
#include "commit/copy.h"
#include "exec/copies.h"
#include "formats/gguf_blocks.h"
#include "formats/output_formats.h"
#include "formats/outputs.h"
#include "transform/class_check.h"
#include "transform/dequantize.h"
#include "transform/gguf_to_hf.h"

namespace ingot::cli {

namespace {

constexpr const char* kTypes[] = {"F32", "F16", "BF16", "Q8_0"};

// As llama.cpp's converter has it: by the first matrix that is BF16 or F16; F16 where none is. config.json is not asked,
// some lie.
std::string auto_type(const Artifact& a) {
  for (const LazyTensor& t : a.tensors) {
    const TensorSpec s = t.spec();
    if (s.shape.rank >= 2 && (s.type == DType::kBF16 || s.type == DType::kF16)) return std::string(info(s.type).name);
  }
  return "F16";
}

std::string formats_text() {
  std::vector<std::string> names;
  for (const OutputFormat* f : output_formats()) names.emplace_back(f->name);
  return join(names, ", ");
}

// From --to, or from the name.
Result<const OutputFormat*> target_format(const std::string& to, const std::string& out) {
  if (!to.empty()) {
    const std::string format = lower(to);
    if (const OutputFormat* f = output_format(format)) return f;
    for (const char* later : {"onnx", "awq", "gptq", "compressed-tensors", "fp8", "nf4", "mxfp4", "nvfp4"})
      if (format == later) return usage("--to {} is not there yet in this version of ingot; there are {}", to, formats_text());
    return usage("--to '{}' is no format; there are {}", to, formats_text());
  }
  const std::string e = extension(out);
  if (const OutputFormat* f = output_format_of_extension(e)) return f;
  if (e == "onnx") return usage("--out '{}': writing .{} files is not there yet; there are {}", out, e, formats_text());
  return output_format("safetensors");
}

Result<Artifact> to_gguf_type(Context& c, const Artifact& in, const std::string& type, const std::string& pre_tokenizer,
                              const std::shared_ptr<transform::CastCounts>& counts, transform::Operations* done) {
  INGOT_ASSIGN(Artifact gguf, as_gguf(c, in, pre_tokenizer, done));
  if (type.empty()) return gguf;
  transform::QuantizeOptions options;
  options.counts = counts;
  options.to_allow_it = fmt::format("or allow it: ingot quantize {} --type {} --allow-requantize", in.path, type);
  options.on_notice = [&c](const std::string& text) { c.report.notice(text); };
  return quantized(c, gguf, type, options, done);
}

Result<Artifact> from_gguf(Context& c, const Artifact& in, const std::string& dtype, bool one_file, const std::shared_ptr<transform::CastCounts>& counts,
                           transform::Operations* done) {
  transform::ToHfOptions options;
  options.strict = c.args.common.strict;
  options.counts = counts;
  options.on_notice = [&c](const std::string& text) { c.report.notice(text); };
  if (!dtype.empty()) {
    INGOT_ASSIGN(options.dtype, read_float_type(dtype));
  }
  const bool blocks = std::any_of(in.tensors.begin(), in.tensors.end(), [](const LazyTensor& t) { return is_block_type(t.spec().type); });
  if (blocks && dtype.empty()) c.report.notice("no --dtype: what is quantized becomes F16; --dtype bf16 or f32 chooses another");
  INGOT_ASSIGN(Artifact hf, transform::to_hf(in, options));
  if (one_file) c.report.notice("one file has no place for config.json and the tokenizer; for a model that transformers loads give a directory");
  OrderedJson how = OrderedJson::object();
  if (options.dtype) how["dtype"] = info(*options.dtype).name;
  done->add("from gguf", std::move(how), hf);
  return hf;
}

// The files that the outputs would equal; empty unless all would.
Result<std::vector<std::string>> copied_files_of(const OpenedModel& opened, const std::vector<Output>& outputs) {
  INGOT_ASSIGN(const Located from, locate(opened.path));
  std::vector<std::string> all;
  for (const Output& o : outputs) {
    INGOT_ASSIGN(const auto files, copied_files(o, *from.store, from.path));
    if (files.empty()) return files;
    all.insert(all.end(), files.begin(), files.end());
  }
  return all;
}

// What --no-hash asks for.
Status copy_plainly(Context& c, const std::vector<Output>& outputs, const std::vector<std::string>& from) {
  OrderedJson files = OrderedJson::array();
  std::string text;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Output& o = outputs[i];
    if (o.directory) return usage("--no-hash copies files; '{}' is a directory: leave it out", o.path);
    INGOT_ASSIGN(const uint64_t bytes, copy_file(*o.store, from[i], o.path, c.args.common.force, c.cancel));
    files.push_back({{"path", o.path}, {"bytes", bytes}});
    text += fmt::format("{}: {} copied, not hashed\n", printable(o.path), format_bytes(bytes));
  }
  return c.report.done({{"outputs", files}}, text);
}

}  // namespace

Status command_convert(Context& c) {
  std::string path, dtype, to, pre_tokenizer, config_from;
  bool keep_blocks = false, force_copy = false, no_hash = false;
  TargetArgs target;
  c.args.usage("convert IN [OUT] [TYPE]");
  c.args.usage("convert IN [--out OUT] [--type T | --dtype T]");
  c.args.detail(
      "The format of OUT follows its name: .gguf, .safetensors, .bin or .pt (torch), .npz, else a Hugging Face directory. Without a type the weights keep the one they "
      "have; of a GGUF file what is quantized becomes F16 then, as precise as the scales of its blocks are: BF16 would round an 8-bit weight by as much as "
      "the quantization did.");
  c.args.positional("IN|-m,--model", &path, "a Hugging Face directory, a file of safetensors, torch or GGUF, a checkpoint, or a name like org/model");
  target.declare(c.args, "T",
                 "of a GGUF file: F32, F16, BF16 or Q8_0 ('ingot quantize' makes smaller ones), or auto: BF16 where the weights are, else F16",
                 "what is written (default MODEL-TYPE.gguf, here)");
  c.args.text("--dtype", "T", &dtype, "of other formats: f32, f16 or bf16 (default: what it is; of quantized weights f16)");
  c.args.flag("--keep-blocks", &keep_blocks, "of GGUF to safetensors: quantized tensors as their bytes, with all metadata; back to GGUF it is the same file");
  c.args.text("--to", "FORMAT", &to, "gguf, safetensors, torch, npz, dcp, deepspeed-universal or peft (of an adapter), where the name does not say it");
  c.args.text("--pre-tokenizer", "NAME", &pre_tokenizer,
              "name of the tokenizer's rules where they match none that is known");
  c.args.text("--config-from", "DIR", &config_from, "config.json, tokenizer and the like for weights that came without (a checkpoint); the base of a GGUF adapter");
  c.args.later("--bits", true, "formats for GPU serving");
  c.args.flag("--force-copy", &force_copy, "copy what is already what is asked, sharing its blocks where the file system can (XFS, Btrfs)");
  c.args.flag("--no-hash", &no_hash, "of --force-copy of one file: neither hash the bytes nor read them back");
  for (const char* name : {"--no-lazy", "--use-temp-file"}) c.args.ignored(name);
  c.args.example("ingot convert base/ model-F16.gguf F16");
  c.args.example("ingot convert org/model --outtype f16 --outfile model-{ftype}.gguf");
  c.args.example("ingot convert base/ --out base-f16/ --dtype f16 --max-shard-size 2GB");
  c.args.example("ingot convert model-Q4_K_M.gguf --out model/ --dtype bf16");
  c.args.example("ingot convert last.ckpt --out model/ --config-from base/");
  c.args.example("ingot convert adapter.gguf --to peft --out lora/ --config-from base/");
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_TRY(target.read(c, path, false));
  std::string &out = target.out, &type = target.types;
  if (out.empty() && !dtype.empty()) return usage("'ingot convert' needs --out OUT for --dtype {}, as in: ingot convert {} OUT --dtype {}", dtype, path, dtype);
  INGOT_ASSIGN(const OutputFormat* format, target_format(to, out.empty() || (!type.empty() && target.out_is_directory()) ? "x.gguf" : out));
  const bool to_gguf = format->name == "gguf";
  const bool one_file = !format->directory || format->has_extension(extension(out));
  const bool automatic = lower(type) == "auto";
  if (automatic && !to_gguf)
    return usage("--type auto is for GGUF files; '{}' is written as {}, whose type is chosen by --dtype", out, format->name);
  if (!type.empty() && !automatic) {
    INGOT_ASSIGN(type, read_type(c.report, type));
    bool known = false;
    for (const char* t : kTypes) known = known || type == t;
    if (!known)
      return usage(
          "'ingot convert' writes F32, F16, BF16 and Q8_0; for {} use: ingot quantize {} --type {} --out {}",
          type, path, type, out);
    if (!to_gguf)
      return usage(
          "--type {} is for GGUF files; '{}' is written as {}, whose type is chosen by --dtype",
          type, out, format->name);
  }
  if (!dtype.empty() && to_gguf)
    return usage("--dtype {} is for other formats; the type of a GGUF file is chosen by --type", dtype);

  if (no_hash && !force_copy) return usage("--no-hash is for copies (--force-copy): what is converted is hashed on the way, at no cost; '--verify none' leaves out reading it back");
  if (keep_blocks && (format->name != "safetensors" || !dtype.empty()))
    return usage("--keep-blocks is for safetensors without --dtype: blocks are kept as they are{}", to_gguf ? fmt::format("; '{}' is GGUF, which keeps them without", out) : "");

  if (out.empty() && !to_gguf) return usage("'ingot convert' needs --out OUT for --to {}", format->name);
  if (format->name == "peft") return convert_adapter(c, path, out, dtype, config_from);
  const bool for_model = to_gguf || (!one_file && format->model_directory);
  INGOT_ASSIGN(const OpenedModel opened, open_with_adapters(c, path, {}, for_model ? Given::kModel : Given::kState, config_from));
  if (automatic) {
    type = auto_type(opened.base);
    c.report.notice(fmt::format("--type auto: {}", type));
  }
  if (to_gguf) {
    const std::string stays(info(transform::main_float_type(opened.base)).name);
    if (type.empty()) c.report.detail(fmt::format("no --type: the weights stay {}", stays));
    if (out.empty() && opened.is_gguf())
      return usage("'ingot convert' needs --out OUT: '{}' is GGUF already", opened.path);
    INGOT_ASSIGN(const auto names, target.paths(c, opened, {type.empty() ? stays : type}));
    out = names[0];
  }
  const OutputKind kind{format, !one_file};
  INGOT_ASSIGN(const Located to_path, output_path(out, kind, input_paths(opened)));
  const uint64_t shard = c.args.common.max_shard_size;
  const auto counts = std::make_shared<transform::CastCounts>();
  transform::Operations done = opened.operations;
  std::vector<Output> outputs;
  if (to_gguf) {
    INGOT_ASSIGN(Artifact gguf, to_gguf_type(c, opened.artifact, type, pre_tokenizer, counts, &done));
    INGOT_ASSIGN(outputs, gguf_files(c, opened, std::move(gguf), done, out));
  } else {
    for (const char* name : {"--strict", "--name"})
      if (c.args.has(name) && (name == std::string_view("--name") || !(opened.is_gguf() || for_model)))
        c.report.warning(fmt::format("{} changes nothing for '{}', which is no GGUF file", name, to_path.path));
    Artifact result = opened.artifact;
    if (for_model && !opened.is_gguf()) INGOT_TRY(transform::check_class(result, c.args.common.strict, [&c](const std::string& text) { c.report.notice(text); }));
    if (keep_blocks && !opened.is_gguf()) return usage("--keep-blocks is for GGUF files; '{}' has no blocks", opened.path);
    if (keep_blocks) {
      INGOT_ASSIGN(result, gguf_as_bytes(opened.artifact));
      done.add("keep blocks", OrderedJson::object(), result);
    } else if (opened.is_gguf()) {
      INGOT_ASSIGN(result, from_gguf(c, opened.artifact, dtype, one_file, counts, &done));
    } else if (!dtype.empty()) {
      INGOT_ASSIGN(const DType t, read_float_type(dtype));
      INGOT_TRY(transform::check_plain(opened.artifact, "converting " + opened.path));
      INGOT_ASSIGN(result, transform::cast_floats(opened.artifact, t, counts));
      for (size_t i = opened.artifact.notices.size(); i < result.notices.size(); ++i) c.report.notice(result.notices[i]);
      done.add("cast", {{"dtype", info(t).name}}, result);
    }
    if (result.tensors.empty()) c.report.notice(fmt::format("{}: there is no tensor in it, so the output has none", opened.path));
    if (format->name == "npz" && !result.values.empty())
      c.report.notice(fmt::format("{}: its plain values ({}: '{}'..) are left out: npz has no place for them", opened.path, result.values.size(), result.values.begin()->first));
    if (format->name == "npz" && !result.files.empty())
      c.report.notice(fmt::format("{}: its {} small files ({}..) are left out: npz has no place for them", opened.path, result.files.size(),
                                  result.files.contains("config.json") ? "config.json" : result.files.begin()->first));
    if (for_model && !keep_blocks && !result.files.contains("config.json"))
      return usage("'{}' has no config.json, without which nothing loads the directory '{}'; give the model's own by --config-from DIR, or name one file: {}.{}",
                   opened.path, out, to_path.path, format->extensions.substr(0, format->extensions.find(' ')));
    if (one_file && format->name != "safetensors") {
      if (c.args.common.provenance) return usage("--provenance: a {} file has no place for a manifest; write safetensors, or a directory", format->name);
    } else {
      INGOT_ASSIGN(result, with_manifest(c, opened, std::move(result), done, kind));
    }
    INGOT_ASSIGN(Output output, make_output(std::move(result), *to_path.store, to_path.path, std::string(format->name), shard ? shard : kDefaultShardBytes));
    if (shard && !output.directory) c.report.warning("--max-shard-size changes nothing for one file; a directory has shards");
    outputs.push_back(std::move(output));
  }
  INGOT_ASSIGN(const auto copied, copied_files_of(opened, outputs));
  if (!copied.empty() && !force_copy)
    return usage("'{}' is already what is asked: '{}' would have the same bytes; use it as it is, or copy it: --force-copy", opened.path, out);
  if (!copied.empty() && no_hash && !c.args.common.dry_run) return copy_plainly(c, outputs, copied);
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, opened.provenance.get()));
  if (!report) return {};
  OrderedJson j = report_json(outputs, *report);
  warn_nonfinite(c, *counts, &j);
  return c.report.done(j, report_text(outputs, *report));
}

}  // namespace ingot::cli
