// ingot eval: perplexity of models on a text, and their divergence from a reference, side by side.
#include <algorithm>
#include <cmath>
#include <set>

#include "calibrate/evaluate.h"
#include "cli/command.h"
#include "cli/evaluation_run.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "commit/small_file.h"

namespace ingot::cli {

namespace {

// Of the files that the weights come from; of a model that adapters are folded into, of what it would be.
uint64_t size_of(const OpenedModel& m) {
  std::set<std::string> files;
  for (const LazyTensor& t : m.base.tensors)
    if (Origin o = origin_of(*t.node); !o.file.empty()) files.insert(std::move(o.file));
  uint64_t bytes = 0;
  for (const std::string& file : files) {
    const auto at = locate(file);
    const auto there = at.ok() ? at->store->stat(at->path) : Result<std::optional<Stat>>(std::optional<Stat>());
    if (there.ok() && *there) bytes += (*there)->size;
  }
  return m.adapters.empty() && bytes ? bytes : totals_of(m.artifact).bytes;
}

Result<Subject> open_subject(Context& c, const std::string& given, const std::vector<AdapterArgument>& adapters) {
  INGOT_ASSIGN(const OpenedModel opened, open_with_adapters(c, given, adapters, Given::kBaseOfAdapter));
  if (!opened.assumed.empty()) c.report.notice("assumed: " + opened.assumed);
  INGOT_ASSIGN(Artifact gguf, as_gguf_weights(c, opened.artifact));
  return make_subject(c, opened.adapters.empty() ? opened.path : opened.adapters.back(), size_of(opened), opened.base, std::move(gguf));
}

Result<Located> picture_path(const std::string& given, const char* option, const std::string& ending) {
  if (extension(given) != ending) return usage("{} '{}': give a name that ends with .{}", option, given, ending);
  INGOT_ASSIGN(const std::string path, expand_variables(given));
  INGOT_ASSIGN(Located to, locate(path));
  INGOT_TRY(check_parents(to.path));
  return to;
}

}  // namespace

Status command_eval(Context& c) {
  std::vector<std::string> models;
  std::string reference, svg, html, arithmetic;
  AdapterArgs adapter_args;
  EvaluationRequest request;
  calibrate::WindowOptions& window = request.window;
  c.args.usage("eval MODEL... --text FILE... [--against REFERENCE]");
  c.args.detail("The text is cut into windows of --ctx tokens; of each the tokens of the second half are scored, as llama-perplexity does. With --against, every model's distributions are compared "
                "with the reference's on the way, with no file of logits. docs/eval.md has the definitions.");
  c.args.rest("MODEL...|-m,--model", &models, "GGUF files, Hugging Face directories, adapters' (on the bases that they name), or names like org/model");
  c.args.section("Options");
  c.args.list("-f,--text|--file", "FILE", &request.texts, "a text, or CATEGORY=FILE; .jsonl files have an object a line; 'builtin' is the mix that comes with ingot; may be repeated");
  c.args.text("--against|--reference,--base", "MODEL", &reference, "the model to compare with");
  c.args.integer("-c,--ctx|--ctx-size", "N", &window.length, 4, INT32_MAX, "tokens of a window (default 512)");
  c.args.integer("--chunks", "N", &window.most, -1, INT32_MAX, "at most so many windows (default: all)");
  c.args.integer("--chunk|--from-chunk", "N", &window.skip, 0, INT32_MAX, "leave out the first N windows");
  c.args.flag("--parse-special", &window.parse_special, "special tokens that the text names (<|im_start|>) become those tokens");
  adapter_args.declare(c.args);
  c.args.text("--arithmetic", "HOW", &arithmetic, "exact (default): only the file counts, the same on every machine; fast: as 'ingot run' multiplies, where the machine has the instructions: activations rounded to int8 with quantized weights, to sixteen bits with floats");
  c.args.text("--svg", "FILE", &svg, "also draws divergence (or perplexity) over size; a FILE.svg that is there is replaced");
  c.args.text("--html", "FILE", &html, "also writes tables and drawing as one page; a FILE.html that is there is replaced");
  c.args.example("ingot eval model-Q4_K_M.gguf --text heldout.txt");
  c.args.example("ingot eval model-*.gguf --against base/ --text heldout.txt --html quality.html");
  c.args.unused({"--force", "--no-resume", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"});
  c.args.ignored("--kl-divergence");
  for (const char* name : {"--no-mmap", "--mlock", "--no-warmup", "--log-disable", "--no-perf"}) c.args.ignored(name);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (models.empty()) return usage("'ingot eval' needs a model: ingot eval MODEL... --text FILE");
  if (request.texts.empty()) return usage("'ingot eval' needs a text that the models were not made of: --text FILE (- is standard input; --text builtin is the mix that comes with ingot)");
  if (arithmetic == "fast") request.arithmetic = Arithmetic::kFast;
  else if (!arithmetic.empty() && arithmetic != "exact") return usage("--arithmetic takes exact or fast, not '{}'", arithmetic);
  if (window.most < 0) window.most = 0;
  INGOT_ASSIGN(const std::vector<AdapterArgument> adapters, adapter_args.read(c.args));
  if (!adapters.empty() && models.size() > 1) return usage("--adapter is for one MODEL, and {} are given; an adapter's own directory may be one of them", models.size());
  std::optional<Located> svg_to, html_to;
  if (!svg.empty()) {
    INGOT_ASSIGN(svg_to, picture_path(svg, "--svg", "svg"));
  }
  if (!html.empty()) {
    INGOT_ASSIGN(html_to, picture_path(html, "--html", "html"));
  }
  request.against = !reference.empty();

  std::vector<Subject> all;
  if (request.against) {
    INGOT_ASSIGN(Subject s, open_subject(c, reference, {}));
    all.push_back(std::move(s));
  }
  for (const std::string& model : models) {
    INGOT_ASSIGN(Subject s, open_subject(c, model, adapters));
    all.push_back(std::move(s));
  }
  name_subjects(&all);
  INGOT_ASSIGN(const calibrate::TokenWindows windows, evaluation_windows(c, all, request));
  INGOT_ASSIGN(const calibrate::EvaluatePlan plan, evaluation_plan(c, all, request, windows));
  if (c.args.common.dry_run) {
    const std::string text = fmt::format("{} of {} tokens; {}\n", count_of(static_cast<uint64_t>(windows.count()), "window"), windows.length, plan_text(plan, all));
    return c.report.result({{"dry_run", true}, {"windows", windows.count()}, {"ctx", windows.length}, {"together", plan.together}, {"memory", plan.bytes}, {"memory_floor", plan.least}}, text);
  }
  Evaluation e;
  const Status done = run_evaluation(c, all, request, windows, plan, &e);
  if (!done.ok() && e.models.empty()) return done;
  OrderedJson j = evaluation_json(e);
  j["arithmetic"] = request.arithmetic == Arithmetic::kExact ? "exact" : "fast";
  const std::string text = evaluation_text(e, stdout_width() ? stdout_width() : kTableWidth);
  if (!done.ok()) {
    if (c.report.json()) c.report.keep_in_result(j);
    else INGOT_TRY(print(text));
    return done;
  }
  if (svg_to) {
    INGOT_TRY(replace_text(*svg_to->store, svg_to->path, evaluation_svg(e)));
    j["svg"] = svg_to->path;
  }
  if (html_to) {
    INGOT_TRY(replace_text(*html_to->store, html_to->path, evaluation_html(e)));
    j["html"] = html_to->path;
  }
  return c.report.result(j, text);
}

}  // namespace ingot::cli
