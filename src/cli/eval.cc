// ingot eval: perplexity of models on a text, and their divergence from a reference, side by side.
#include <algorithm>
#include <cmath>
#include <set>

#include "calibrate/evaluate.h"
#include "cli/command.h"
#include "cli/evaluation.h"
#include "cli/generation.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "commit/small_file.h"

namespace ingot::cli {

namespace {

constexpr int kWidth = 100;  // of tables that no terminal narrows

struct Subject {
  EvaluatedModel told;
  Artifact gguf;
  Tokenizer tokenizer;
  Runnable can;
};

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
  INGOT_ASSIGN(Tokenizer tokenizer, open_tokenizer(c, opened.base));
  INGOT_ASSIGN(Artifact gguf, as_gguf_weights(c, opened.artifact));
  INGOT_TRY(go_on(c));
  INGOT_ASSIGN(Runnable can, runnable(gguf));
  const LazyTensor* embedding = gguf.find("token_embd.weight");
  if (!embedding || embedding->spec().shape.rank != 2) return bad_input("'{}': tensor token_embd.weight is missing or no matrix: is this a model?", opened.path);
  can.config.vocab = embedding->spec().shape[0];
  const std::string path = opened.adapters.empty() ? opened.path : opened.adapters.back();
  return Subject{{path, "", size_of(opened), totals_of(gguf).bits_per_weight()}, std::move(gguf), std::move(tokenizer), std::move(can)};
}

// File names, or paths where two have one name.
void name_them(std::vector<Subject>* all) {
  for (Subject& s : *all) {
    std::string path = s.told.path;
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const auto same = [&](const Subject& o) { return &o != &s && o.told.path != s.told.path && file_name(o.told.path) == file_name(s.told.path); };
    s.told.name = std::none_of(all->begin(), all->end(), same) ? file_name(path) : path;
  }
}

// Rows of the embedding that no token has.
bool is_padding(const std::string& piece) { return piece.empty() || piece.starts_with("[PAD"); }

// What differs between the tokens of two models; "" if nothing.
std::string tokens_differ(const Subject& a, const Subject& b) {
  if (a.can.config.vocab != b.can.config.vocab)
    return fmt::format("{} and {} tokens", format_count(static_cast<uint64_t>(a.can.config.vocab)), format_count(static_cast<uint64_t>(b.can.config.vocab)));
  const size_t n = std::max(a.tokenizer.size(), b.tokenizer.size());
  for (size_t i = 0; i < n; ++i) {
    const std::string x = a.tokenizer.token_piece(static_cast<int32_t>(i)), y = b.tokenizer.token_piece(static_cast<int32_t>(i));
    if (x == y || (is_padding(x) && is_padding(y))) continue;
    const auto text = [](const std::string& piece) { return piece.empty() ? "none" : fmt::format("'{}'", printable(piece)); };
    return fmt::format("token {} is {} in the one and {} in the other", i, text(x), text(y));
  }
  return "";
}

Status check_context(const Context& c, const Subject& s, int64_t length) {
  if (length <= s.can.context) return {};
  return usage("--ctx {}{}: '{}' has {} of {} tokens; give --ctx {} or less", length, c.args.has("--ctx") ? "" : " (the default)", s.told.path,
               s.can.limit.empty() ? "a context" : "a " + s.can.limit, s.can.context, s.can.context);
}

Result<Located> picture_path(const std::string& given, const char* option, const std::string& ending) {
  if (extension(given) != ending) return usage("{} '{}': give a name that ends with .{}", option, given, ending);
  INGOT_ASSIGN(const std::string path, expand_variables(given));
  INGOT_ASSIGN(Located to, locate(path));
  INGOT_TRY(check_parents(to.path));
  return to;
}

std::string plan_text(const calibrate::EvaluatePlan& p, const std::vector<Subject>& all) {
  std::string out = fmt::format("{}; takes up to {} of memory", p.together ? "all models are in memory together" : all.size() > 1 ? "one model after another is in memory" : "the model is in memory",
                                format_bytes(p.bytes));
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& pass = p.passes[i];
    if (!pass.resident) out += fmt::format("; {} is larger than that: its layers are read one after another, for {} together", printable(all[i].told.name), count_of(static_cast<uint64_t>(pass.at_once), "window"));
    if (pass.reads > 1) out += fmt::format("; {} is read {} times", printable(all[i].told.name), pass.reads);
  }
  return out;
}

// What a bar shows of it: the perplexity so far of the model that is being scored.
class Running {
 public:
  explicit Running(const std::vector<Subject>& all) : all_(all), sums_(all.size()), windows_(all.size()) {}
  void see(const calibrate::Scores& s) {
    for (size_t m = 0; m < all_.size(); ++m) {
      if (s.windows[m] == windows_[m]) continue;
      for (auto i = static_cast<size_t>(windows_[m] * s.per_window); i < static_cast<size_t>(s.windows[m] * s.per_window); ++i) sums_[m] += static_cast<double>(s.models[m][i].nll);
      windows_[m] = s.windows[m];
      text_ = fmt::format("{}: {} windows, perplexity {:.4f}", all_[m].told.name, windows_[m], std::exp(sums_[m] / static_cast<double>(windows_[m] * s.per_window)));
    }
  }
  const std::string& text() const { return text_; }

 private:
  const std::vector<Subject>& all_;
  std::vector<double> sums_;
  std::vector<int64_t> windows_;
  std::string text_;
};

struct Request {
  bool against = false;
  Arithmetic arithmetic = Arithmetic::kExact;
};

std::vector<calibrate::Candidate> candidates_of(Context& c, const std::vector<Subject>& all, const Request& r) {
  std::vector<calibrate::Candidate> out;
  for (const Subject& s : all) {
    const LazyTensor* output = s.gguf.find("output.weight");
    const uint64_t embedding = bytes_of(s.gguf.find("token_embd.weight")->spec());
    out.push_back({s.told.path, s.can.config, weight_bytes(s.gguf), weight_bytes(s.gguf, false), embedding + (output ? bytes_of(output->spec()) : 0), [&c, &s, r](bool resident) {
                     c.report.end_progress();
                     LoadOptions o;
                     o.arithmetic = r.arithmetic, o.resident = resident;
                     return load_model(c, s.gguf, o);
                   }});
  }
  return out;
}

// `scores` has what was scored, also where it was stopped.
Status run_evaluation(Context& c, const std::vector<Subject>& all, const Request& r, const std::vector<calibrate::Candidate>& candidates, const calibrate::TokenWindows& windows,
                      const calibrate::EvaluatePlan& plan, calibrate::EvaluateOptions options, calibrate::Scores* scores) {
  Running running(all);
  options.on_scored = [&](const calibrate::Scores& s) { running.see(s); };
  options.on_progress = [&](uint64_t done, uint64_t total) {
    c.report.begin_progress("evaluating", false);
    Progress p;
    p.phase = Phase::kLoad;
    p.done = done, p.total = total;
    p.tensor = running.text();
    c.report.progress(p);
  };
  Status done = calibrate::evaluate(candidates, r.against, windows, plan, options, scores);
  c.report.end_progress();
  return done;
}

}  // namespace

Status command_eval(Context& c) {
  std::vector<std::string> models, texts;
  std::string reference, svg, html, arithmetic;
  AdapterArgs adapter_args;
  Request request;
  calibrate::WindowOptions window;
  c.args.usage("eval MODEL... --text FILE... [--against REFERENCE]");
  c.args.detail("The text is cut into windows of --ctx tokens; of each the tokens of the second half are scored, as llama-perplexity does. With --against, every model's distributions are compared "
                "with the reference's on the way, with no file of logits. docs/eval.md has the definitions.");
  c.args.rest("MODEL...|-m,--model", &models, "GGUF files, Hugging Face directories, adapters' (on the bases that they name), or names like org/model");
  c.args.section("Options");
  c.args.list("-f,--text|--file", "FILE", &texts, "a text, or CATEGORY=FILE; .jsonl files have an object a line; 'builtin' is the mix that comes with ingot; may be repeated");
  c.args.text("--against|--reference,--base", "MODEL", &reference, "the model to compare with");
  c.args.integer("-c,--ctx|--ctx-size", "N", &window.length, 4, INT32_MAX, "tokens of a window (default 512)");
  c.args.integer("--chunks", "N", &window.most, -1, INT32_MAX, "at most so many windows (default: all)");
  c.args.integer("--chunk|--from-chunk", "N", &window.skip, 0, INT32_MAX, "leave out the first N windows");
  c.args.flag("--parse-special", &window.parse_special, "special tokens that the text names (<|im_start|>) become those tokens");
  adapter_args.declare(c.args);
  c.args.text("--arithmetic", "HOW", &arithmetic, "exact (default): only the file counts, the same on every machine; fast: as 'ingot run' multiplies, activations rounded to int8 where the machine has the instructions");
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
  if (texts.empty()) return usage("'ingot eval' needs a text that the models were not made of: --text FILE (- is standard input; --text builtin is the mix that comes with ingot)");
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
  name_them(&all);
  for (const Subject& s : all) {
    INGOT_TRY(check_context(c, s, window.length));
    if (const std::string differs = tokens_differ(all[0], s); !differs.empty())
      return bad_input("'{}' and {}'{}' have other tokens ({}): {}", s.told.path, request.against ? "the reference " : "", all[0].told.path, differs,
                       request.against ? "a divergence is between distributions over the same ones" : "perplexities compare only over the same ones; evaluate them one by one");
  }
  INGOT_ASSIGN(const std::vector<calibrate::Text> read, calibrate::read_texts(texts, calibrate::BuiltinHalf::kEvaluate, &c.cancel));
  INGOT_TRY(go_on(c));
  INGOT_ASSIGN(const calibrate::TokenWindows windows, calibrate::cut(all[0].tokenizer, read, window));
  for (const Subject& s : all) {
    if (&s == &all[0] || s.told.path == all[0].told.path) continue;
    INGOT_ASSIGN(const calibrate::TokenWindows own, calibrate::cut(s.tokenizer, read, window));
    if (own.ids != windows.ids)
      c.report.warning(fmt::format("'{}' cuts the text into other tokens than '{}' does, with the same vocabulary; it is measured on those of the latter", s.told.path, all[0].told.path));
  }
  INGOT_TRY(go_on(c));

  calibrate::EvaluateOptions options;
  options.memory = c.args.common.memory;
  options.cancel = &c.cancel;
  const std::vector<calibrate::Candidate> candidates = candidates_of(c, all, request);
  INGOT_ASSIGN(const calibrate::EvaluatePlan plan, calibrate::plan_evaluation(candidates, request.against, windows, options));
  if (c.args.common.dry_run) {
    const std::string text = fmt::format("{} of {} tokens; {}\n", count_of(static_cast<uint64_t>(windows.count()), "window"), windows.length, plan_text(plan, all));
    return c.report.result({{"dry_run", true}, {"windows", windows.count()}, {"ctx", windows.length}, {"together", plan.together}, {"memory", plan.bytes}, {"memory_floor", plan.least}}, text);
  }
  const bool odd = std::any_of(plan.passes.begin(), plan.passes.end(), [](const auto& p) { return !p.resident || p.reads > 1; });
  if (odd) c.report.notice(plan_text(plan, all));
  else c.report.detail(plan_text(plan, all));
  if (windows.count() < 2 && all.size() > 1) c.report.warning("the text gives one window: its figures say little");

  calibrate::Scores scores;
  Status done = run_evaluation(c, all, request, candidates, windows, plan, options, &scores);
  const bool some = std::any_of(scores.windows.begin(), scores.windows.end(), [](int64_t n) { return n > 0; });
  if (!done.ok() && (done.error().kind != ErrorKind::kInterrupted || !some)) {
    if (done.error().kind == ErrorKind::kInterrupted) return Error{ErrorKind::kInterrupted, "interrupted before a window was scored"};
    return done;
  }
  std::vector<EvaluatedModel> told;
  for (const Subject& s : all) told.push_back(s.told);
  const Evaluation e = figures_of(told, windows, scores, request.against);
  OrderedJson j = evaluation_json(e);
  j["arithmetic"] = request.arithmetic == Arithmetic::kExact ? "exact" : "fast";
  const std::string text = evaluation_text(e, stdout_width() ? stdout_width() : kWidth);
  if (!done.ok()) {
    if (c.report.json()) c.report.keep_in_result(j);
    else INGOT_TRY(print(text));
    const auto [least, most] = std::minmax_element(scores.windows.begin(), scores.windows.end());
    return Error{ErrorKind::kInterrupted, fmt::format("interrupted after {} of {} windows; the figures are of those", *least == *most ? fmt::format("{}", *least) : fmt::format("{} to {}", *least, *most), windows.count())};
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
