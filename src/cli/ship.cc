// ingot ship: base + adapters -> GGUF names -> quantized, in one pass over the weights; each file verified,
// opened again and tried.
#include <algorithm>
#include <optional>

#include "cli/command.h"
#include "cli/diagnosis.h"
#include "cli/evaluation_run.h"
#include "cli/generation.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/quantize_args.h"
#include "cli/target_args.h"
#include "cli/text.h"
#include "cli/type_names.h"
#include "formats/formats.h"
#include "formats/outputs.h"

namespace ingot::cli {

namespace {

struct ShipOptions {
  std::string given, pre_tokenizer, dtype, config_from;
  TargetArgs target;
  AdapterArgs adapter_args;
  QuantizeArgs quantize_args;
  std::vector<std::string> tests, keep, eval;
  int64_t test_tokens = 128;
};

void declare(Args& a, ShipOptions& o) {
  a.usage("ship ADAPTER [OUT] [TYPE] [--test PROMPT]");
  a.usage("ship BASE [--adapter DIR]... [--type T,...] [--out FILE] [--test PROMPT]");
  a.detail(
      "Reads the base and its adapters once and writes every file in the same pass, with no model in between on disk; what was written is "
      "read back and compared, and with --test a text is generated from it. An adapter's base is the one that it names itself: a path, or a "
      "model in the Hugging Face Hub's local cache.");
  a.positional("BASE|-m,--model,--base", &o.given, "a model's Hugging Face directory, an adapter's, or a name like org/model");
  o.target.declare(a, "T[,T...]", "GGUF file types ('ingot list types'; default Q4_K_M)",
                   "the GGUF file; {type} in it stands for each type (default BASE-ADAPTER-TYPE.gguf, here)");
  o.adapter_args.declare(a);
  a.list("--test", "PROMPT", &o.tests, "go on from this text with each written file; may be repeated");
  a.integer("-n,--n-predict", "N", &o.test_tokens, 1, INT32_MAX,
            "tokens to generate for --test (default 128)");
  a.list("--keep", "WHAT=PATH", &o.keep,
         "also write merged=DIR (a Hugging Face directory), f16=FILE (GGUF) or imatrix=FILE (what --calibrate computes), in the same pass");
  a.text("--dtype", "T", &o.dtype, "float type of --keep merged: f32, f16 or bf16 (default: as the base)");
  a.text("--pre-tokenizer", "NAME", &o.pre_tokenizer,
         "name of the tokenizer's rules where they match none that is known");
  a.text("--config-from", "DIR", &o.config_from, "config.json, tokenizer and the like for weights that came without (a checkpoint)");
  o.quantize_args.declare(a);
  a.list("--eval", "TEXT", &o.eval,
         "measure each written type on this text: perplexity, and divergence from the model that it was made of, as 'ingot eval --against' does, with windows of --ctx tokens, --chunks of them; may be repeated");
  a.later("--ollama", true, "writing for Ollama");
  a.later("--bpw", true, "choosing types by bits per weight");
  a.later("--size", true, "choosing types by size");
  a.later("--to", true, "writing formats for GPU serving");
  a.later("--report", true, "a report page");
  a.example("ingot ship lora/     # on the base that it names, to Q4_K_M, here");
  a.example("ingot ship base/ --adapter lora/ --type Q8_0 --out model.gguf --test 'Hello'");
  a.example("ingot ship lora/ --type Q4_K_M --calibrate chat.jsonl --eval heldout.txt");
  a.example("ingot ship org/model --type F16,Q4_K_M --out 'model-{type}.gguf'");
}

// --keep WHAT=PATH.
struct Kept {
  std::string what, path;
};
Result<std::vector<Kept>> read_keep(const std::vector<std::string>& given) {
  std::vector<Kept> out;
  for (const std::string& text : given) {
    const size_t at = text.find('=');
    Kept k{text.substr(0, at), at == std::string::npos ? "" : text.substr(at + 1)};
    if (k.what == "adapter-gguf") return usage("--keep {}=FILE is not there yet in this version of ingot", k.what);
    if ((k.what != "merged" && k.what != "f16" && k.what != "imatrix") || k.path.empty())
      return usage("--keep '{}': write it as merged=DIR, f16=FILE or imatrix=FILE", text);
    for (const Kept& other : out)
      if (other.what == k.what) return usage("--keep {} is given twice", k.what);
    out.push_back(std::move(k));
  }
  return out;
}

std::string kept_path(const std::vector<Kept>& keep, std::string_view what) {
  for (const Kept& k : keep)
    if (k.what == what) return k.path;
  return "";
}

// What is measured on is not what was calibrated with.
Status check_texts(Context& c, const ShipOptions& o) {
  for (const std::string& e : o.eval)
    for (const std::string& t : o.quantize_args.texts()) {
      const std::string path = calibrate::path_of_text(e);
      if (path == "builtin" || path != calibrate::path_of_text(t)) continue;
      if (path == "-") return usage("--calibrate - and --eval -: standard input is read once; give one of them as a file");
      c.report.warning(fmt::format("--eval measures on the text that --calibrate fits the file to ('{}'): the figures will be too good; give a text that is held out", path));
    }
  return {};
}

// A model among the outputs: one, or the splits that --max-shard-size made of it.
struct Written {
  std::string label, name;  // "type": "Q4_K_M", or "kept": "merged"
  Store* store;
  std::string path;  // of the first
  Artifact artifact;
  size_t outputs = 1;
};

// The file is what llama.cpp and ingot will see: opened anew, its table compared with what was to be written.
Result<Artifact> open_written(const Written& w) {
  INGOT_ASSIGN(Artifact written, open_model(*w.store, w.path));
  if (written.tensors.size() != w.artifact.tensors.size())
    return failed("'{}' was written with {} tensors but opens with {}", w.path, w.artifact.tensors.size(), written.tensors.size());
  for (const LazyTensor& t : written.tensors) {
    const LazyTensor* o = w.artifact.find(t.name);
    if (!o || !(o->spec() == t.spec()))
      return failed("'{}': the tensor '{}' is not what was to be written", w.path, t.name);
  }
  return written;
}

// One --test: its ids, made before the first byte is written, so that what would stop it is said then.
Result<std::vector<TextRequest>> prepare_tests(Context& c, const ShipOptions& o, const Artifact& gguf) {
  std::vector<TextRequest> requests;
  if (o.tests.empty()) return requests;
  const auto can = runnable(gguf);
  if (!can.ok()) return Error(can.error()).during("--test: ingot cannot try this model (leave --test out to write it all the same)");
  INGOT_ASSIGN(const Tokenizer tokenizer, open_tokenizer(c, gguf));
  for (const std::string& prompt : o.tests) {
    TextRequest r;
    r.prompt = prompt;
    r.max_tokens = o.test_tokens;
    r.context = can->context;
    INGOT_ASSIGN(r.ids, encode_prompt(c, tokenizer, prompt, *can, fmt::format("--test '{}'", shorten_middle(printable(prompt), 60))));
    requests.push_back(std::move(r));
  }
  return requests;
}

// --eval: the model that the files are made of, and the text in its tokens; before the first byte is written.
struct Measure {
  EvaluationRequest request;
  std::vector<Subject> subjects;  // the reference, then what was written
  calibrate::TokenWindows windows;
  calibrate::EvaluatePlan plan;
};
Result<Measure> prepare_eval(Context& c, const ShipOptions& o, const OpenedModel& opened, const Artifact& source, const std::vector<Written>& planned, std::string* plan) {
  Measure m;
  m.request.texts = o.eval;
  m.request.against = true;
  m.request.window.length = o.quantize_args.window(), m.request.window.most = o.quantize_args.windows();
  INGOT_ASSIGN(Subject reference, make_subject(c, opened.adapters.empty() ? opened.path : opened.adapters.back(), totals_of(source).bytes, source, source));
  m.subjects.push_back(std::move(reference));
  for (const Written& w : planned) {
    INGOT_ASSIGN(Subject s, make_subject(c, w.path, totals_of(w.artifact).bytes, w.artifact, w.artifact));
    m.subjects.push_back(std::move(s));
  }
  name_subjects(&m.subjects);
  INGOT_ASSIGN(m.windows, evaluation_windows(c, m.subjects, m.request));
  INGOT_ASSIGN(m.plan, evaluation_plan(c, m.subjects, m.request, m.windows));
  *plan = fmt::format("then evaluates {} of {} tokens; {}\n", count_of(static_cast<uint64_t>(m.windows.count()), "window"), m.windows.length, plan_text(m.plan, m.subjects));
  return m;
}

Status measure(Context& c, Measure* m, OrderedJson* j) {
  Evaluation e;
  const Status done = run_evaluation(c, m->subjects, m->request, m->windows, m->plan, &e);
  if (e.models.empty()) return done;
  (*j)["evaluation"] = evaluation_json(e);
  (*j)["evaluation"]["arithmetic"] = "exact";
  if (!c.report.json()) INGOT_TRY(print("\n" + evaluation_text(e, stdout_width() ? stdout_width() : kTableWidth)));
  return done;
}

Result<OrderedJson> try_file(Context& c, const std::vector<TextRequest>& tests, const Artifact& written) {
  OrderedJson results = OrderedJson::array();
  INGOT_ASSIGN(const Tokenizer tokenizer, open_tokenizer(c, written));
  INGOT_ASSIGN(const std::unique_ptr<Model> model, load_model(c, written));
  for (const TextRequest& request : tests) {
    const bool terminal = stdout_is_terminal();
    const auto safe = [&](std::string_view s) { return terminal ? printable(s, true) : std::string(s); };
    const bool human = !c.report.json();
    if (human && !c.report.quiet())
      INGOT_TRY(print(fmt::format("\n{}, the most likely {} tokens after the prompt:\n{}", printable(written.path), request.max_tokens,
                                  safe(request.prompt))));
    INGOT_ASSIGN(const TextResult text,
                 generate_text(c, *model, tokenizer, request, [&](std::string_view piece) -> Status {
                   return human ? print(safe(piece)) : Status();
                 }));
    if (human) INGOT_TRY(print("\n"));
    if (text.generation.reason == StopReason::kCancelled) return interrupted();
    c.report.detail(speed_text(text));
    results.push_back(text_json(request, text));
  }
  return results;
}

}  // namespace

Status command_ship(Context& c) {
  ShipOptions o;
  declare(c.args, o);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (const std::string e = extension(o.given); e == "yaml" || e == "yml")
    return usage("'ingot ship {}': recipes are not there yet in this version of ingot", o.given);
  INGOT_ASSIGN(const std::vector<AdapterArgument> adapters, o.adapter_args.read(c.args));
  INGOT_TRY(o.target.read(c, o.given));
  o.target.assume_type(kUsualType);
  if (c.args.has("--n-predict") && o.tests.empty()) c.report.warning("-n changes nothing without --test");
  for (const char* name : {"--ctx", "--chunks"})
    if (c.args.has(name) && !o.quantize_args.calibrates() && o.eval.empty()) c.report.warning(fmt::format("{} changes nothing without --calibrate or --eval", name));
  INGOT_ASSIGN(const std::vector<std::string> types, read_types(c.report, o.target.types));
  INGOT_ASSIGN(const std::vector<Kept> keep, read_keep(o.keep));
  INGOT_ASSIGN(transform::QuantizeOptions quantize, o.quantize_args.read(c));
  if (o.quantize_args.changes_model() && std::any_of(keep.begin(), keep.end(), [](const Kept& k) { return k.what == "merged"; }))
    return usage("--keep merged=DIR keeps the model that adapters were merged into, which --prune-layers and --override-kv do not change; leave one of them out");
  if (!o.quantize_args.calibrates() && std::any_of(keep.begin(), keep.end(), [](const Kept& k) { return k.what == "imatrix"; }))
    return usage("--keep imatrix=FILE keeps what --calibrate TEXT computes; give a text, or 'builtin'");
  if (!o.dtype.empty() && std::none_of(keep.begin(), keep.end(), [](const Kept& k) { return k.what == "merged"; }))
    c.report.warning("--dtype changes nothing without --keep merged=DIR");
  if (!o.dtype.empty())
    INGOT_TRY(read_float_type(o.dtype).ok() ? Status() : Status(read_float_type(o.dtype).take_error()));

  INGOT_TRY(check_texts(c, o));
  INGOT_ASSIGN(OpenedModel opened, open_with_adapters(c, o.given, adapters, Given::kBaseOfAdapter, o.config_from));
  for (const std::string& text : o.quantize_args.texts()) opened.texts.push_back(calibrate::path_of_text(text));
  for (const std::string& text : o.eval) opened.texts.push_back(calibrate::path_of_text(text));
  INGOT_ASSIGN(const std::vector<std::string> names, o.target.paths(c, opened, types));
  transform::Operations done = opened.operations;
  INGOT_ASSIGN(Artifact gguf, as_gguf(c, opened.artifact, o.pre_tokenizer, &done));
  const Artifact source = gguf;
  INGOT_ASSIGN(gguf, o.quantize_args.prepared(c, std::move(gguf), &quantize, &done));
  INGOT_ASSIGN(const std::unique_ptr<Calibration> calibration, o.quantize_args.calibration(c, opened, gguf, &quantize, kept_path(keep, "imatrix")));
  INGOT_ASSIGN(const std::vector<TextRequest> tests, prepare_tests(c, o, gguf));
  std::vector<Output> outputs;
  std::vector<Written> models;
  const auto add = [&](const char* label, const std::string& name, const Artifact& artifact, std::vector<Output> files) {
    models.push_back({label, name, files[0].store, files[0].path, artifact, files.size()});
    for (Output& f : files) outputs.push_back(std::move(f));
  };
  for (size_t i = 0; i < types.size(); ++i) {
    transform::Operations all = done;
    INGOT_ASSIGN(const Artifact made, quantized(c, gguf, types[i], quantize, &all));
    INGOT_ASSIGN(std::vector<Output> files, gguf_files(c, opened, made, all, names[i], o.quantize_args.keep_split()));
    add("type", types[i], made, std::move(files));
  }
  for (const Kept& k : keep) {
    if (k.what == "imatrix") {
      INGOT_ASSIGN(Output matrix, calibration->keep(c, outputs.size()));
      const Artifact artifact = matrix.artifact;
      add("kept", k.what, artifact, {std::move(matrix)});
      continue;
    }
    if (k.what == "f16") {
      transform::QuantizeOptions plain;
      plain.counts = quantize.counts;
      plain.metadata = quantize.metadata;
      transform::Operations all = done;
      INGOT_ASSIGN(const Artifact f16, quantized(c, gguf, "F16", plain, &all));
      INGOT_ASSIGN(std::vector<Output> files, gguf_files(c, opened, f16, all, k.path, o.quantize_args.keep_split()));
      add("kept", k.what, f16, std::move(files));
      continue;
    }
    INGOT_ASSIGN(const Located to, output_path(k.path, directory_of("safetensors"), input_paths(opened)));
    if (opened.is_gguf())
      return usage("--keep merged=DIR needs a Hugging Face directory as the base; '{}' is GGUF", opened.path);
    Artifact merged;
    DType type = DType::kF32;
    if (o.dtype.empty()) {
      INGOT_ASSIGN(merged, transform::cast_like(opened.artifact, opened.base, quantize.counts));
    } else {
      INGOT_ASSIGN(type, read_float_type(o.dtype));
      INGOT_ASSIGN(merged, transform::cast_floats(opened.artifact, type, quantize.counts));
    }
    transform::Operations all = opened.operations;
    all.add("cast", {{"dtype", o.dtype.empty() ? "as the base" : info(type).name}}, merged);
    INGOT_ASSIGN(merged, with_manifest(c, opened, std::move(merged), std::move(all), directory_of("safetensors")));
    const uint64_t shard = c.args.common.max_shard_size;
    add("kept", k.what, merged, {hf_directory_output(merged, *to.store, to.path, shard ? shard : kDefaultShardBytes)});
  }

  PlanDetails details;
  std::optional<Measure> eval;
  if (!o.eval.empty()) {
    auto prepared = prepare_eval(c, o, opened, source, {models.begin(), models.begin() + static_cast<std::ptrdiff_t>(types.size())}, &details.text);
    if (!prepared.ok()) return prepared.take_error().during("--eval");
    eval = *std::move(prepared);
  }
  warn_useless_calibration(c, o.quantize_args.calibrates(), outputs);
  if (calibration) INGOT_TRY(calibration->run(c, &outputs, opened.provenance.get(), &details));
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, opened.provenance.get(), details));
  if (!report) return {};
  OrderedJson j = report_json(outputs, *report);
  std::string text = report_text(outputs, *report);
  if (calibration) calibration->finish(&j, &text);
  else remove_left(outputs);
  warn_nonfinite(c, *quantize.counts, &j);
  size_t first = 0;
  std::vector<size_t> begins;
  for (const Written& m : models) {
    begins.push_back(first);
    for (size_t i = 0; i < m.outputs; ++i) j["outputs"][first++][m.label] = m.name;
  }
  c.report.keep_in_result(j);
  if (!c.report.json() && !c.report.quiet()) INGOT_TRY(print(text));
  for (size_t i = 0; i < types.size(); ++i) {
    INGOT_ASSIGN(const Artifact written, open_written(models[i]));
    if (eval) {
      uint64_t bytes = 0;
      for (size_t k = 0; k < models[i].outputs; ++k) bytes += report->outputs[begins[i] + k].bytes;
      Subject& s = eval->subjects[i + 1];
      s.gguf = written, s.told.bytes = bytes;
    }
    if (tests.empty()) continue;
    auto tried = try_file(c, tests, written);
    if (!tried.ok()) {
      Error e = tried.take_error();
      if (e.kind == ErrorKind::kInterrupted)
        return Error{e.kind, fmt::format("interrupted while trying '{}'; all files are written and verified", models[i].path)};
      return std::move(e).during(
          fmt::format("all files are written and verified, but '{}' could not be tried", models[i].path));
    }
    j["outputs"][begins[i]]["tests"] = std::move(*tried);
  }
  if (eval)
    if (Status measured = measure(c, &*eval, &j); !measured.ok()) {
      c.report.keep_in_result(j);
      Error e = measured.take_error();
      return Error{e.kind, fmt::format("all files are written and verified, but not measured whole: {}", e.message)};
    }
  return c.report.result(j, "");
}

}  // namespace ingot::cli
