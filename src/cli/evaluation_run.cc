#include "cli/evaluation_run.h"

#include <algorithm>
#include <cmath>

#include "cli/job.h"
#include "cli/output.h"
#include "cli/text.h"
#include "formats/formats.h"

namespace ingot::cli {
namespace {

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

std::vector<calibrate::Candidate> candidates_of(Context& c, const std::vector<Subject>& all, const EvaluationRequest& r) {
  std::vector<calibrate::Candidate> out;
  for (const Subject& s : all) {
    const LazyTensor* output = s.gguf.find("output.weight");
    const uint64_t embedding = bytes_of(s.gguf.find("token_embd.weight")->spec());
    out.push_back({s.told.path, s.can.config, weight_bytes(s.gguf, true, r.arithmetic), weight_bytes(s.gguf, false, r.arithmetic), embedding + (output ? bytes_of(output->spec()) : 0), [&c, &s, r](bool resident) {
                     c.report.end_progress();
                     LoadOptions o;
                     o.arithmetic = r.arithmetic, o.resident = resident;
                     return load_model(c, s.gguf, o);
                   }});
  }
  return out;
}

calibrate::EvaluateOptions options_of(Context& c) {
  calibrate::EvaluateOptions o;
  o.memory = c.args.common.memory;
  o.cancel = &c.cancel;
  return o;
}

}  // namespace

Result<Subject> make_subject(Context& c, const std::string& path, uint64_t bytes, const Artifact& tokens, Artifact gguf) {
  INGOT_ASSIGN(Tokenizer tokenizer, open_tokenizer(c, tokens));
  INGOT_TRY(go_on(c));
  INGOT_ASSIGN(Runnable can, runnable(gguf));
  const LazyTensor* embedding = gguf.find("token_embd.weight");
  if (!embedding || embedding->spec().shape.rank != 2) return bad_input("'{}': tensor token_embd.weight is missing or no matrix: is this a model?", path);
  can.config.vocab = embedding->spec().shape[0];
  return Subject{{path, path, bytes, totals_of(gguf).bits_per_weight()}, std::move(gguf), std::move(tokenizer), std::move(can)};
}

void name_subjects(std::vector<Subject>* all) {
  for (Subject& s : *all) {
    std::string path = s.told.path;
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const auto same = [&](const Subject& o) { return &o != &s && o.told.path != s.told.path && file_name(o.told.path) == file_name(s.told.path); };
    s.told.name = std::none_of(all->begin(), all->end(), same) ? file_name(path) : path;
  }
}

Result<calibrate::TokenWindows> evaluation_windows(Context& c, const std::vector<Subject>& all, const EvaluationRequest& r) {
  for (const Subject& s : all) {
    INGOT_TRY(check_context(c, s, r.window.length));
    if (const std::string differs = tokens_differ(all[0], s); !differs.empty())
      return bad_input("'{}' and {}'{}' have other tokens ({}): {}", s.told.path, r.against ? "the reference " : "", all[0].told.path, differs,
                       r.against ? "a divergence is between distributions over the same ones" : "perplexities compare only over the same ones; evaluate them one by one");
  }
  INGOT_ASSIGN(const std::vector<calibrate::Text> read, calibrate::read_texts(r.texts, calibrate::BuiltinHalf::kEvaluate, &c.cancel));
  INGOT_TRY(go_on(c));
  INGOT_ASSIGN(calibrate::TokenWindows windows, calibrate::cut(all[0].tokenizer, read, r.window));
  for (const std::string& category : windows.too_short) c.report.notice(fmt::format("the text of '{}' has not one window of {} tokens; it is left out", category, r.window.length));
  for (const Subject& s : all) {
    if (&s == &all[0] || s.told.path == all[0].told.path) continue;
    INGOT_ASSIGN(const calibrate::TokenWindows own, calibrate::cut(s.tokenizer, read, r.window));
    if (own.ids != windows.ids)
      c.report.warning(fmt::format("'{}' cuts the text into other tokens than '{}' does, with the same vocabulary; it is measured on those of the latter", s.told.path, all[0].told.path));
  }
  INGOT_TRY(go_on(c));
  return windows;
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

Result<calibrate::EvaluatePlan> evaluation_plan(Context& c, const std::vector<Subject>& all, const EvaluationRequest& r, const calibrate::TokenWindows& windows) {
  return calibrate::plan_evaluation(candidates_of(c, all, r), r.against, windows, options_of(c));
}

Status run_evaluation(Context& c, const std::vector<Subject>& all, const EvaluationRequest& r, const calibrate::TokenWindows& windows, const calibrate::EvaluatePlan& plan, Evaluation* out) {
  const bool odd = std::any_of(plan.passes.begin(), plan.passes.end(), [](const auto& p) { return !p.resident || p.reads > 1; });
  if (odd) c.report.notice(plan_text(plan, all));
  else c.report.detail(plan_text(plan, all));
  if (windows.count() < 2 && all.size() > 1) c.report.warning("the text gives one window: its figures say little");
  Running running(all);
  calibrate::EvaluateOptions options = options_of(c);
  options.on_scored = [&](const calibrate::Scores& s) { running.see(s); };
  options.on_progress = [&](uint64_t done, uint64_t total) {
    c.report.begin_progress("evaluating", false);
    Progress p;
    p.phase = Phase::kLoad;
    p.done = done, p.total = total;
    p.tensor = running.text();
    c.report.progress(p);
  };
  calibrate::Scores scores;
  Status done = calibrate::evaluate(candidates_of(c, all, r), r.against, windows, plan, options, &scores);
  c.report.end_progress();
  const bool stopped = !done.ok() && done.error().kind == ErrorKind::kInterrupted;
  if (!done.ok() && !stopped) return done;
  if (stopped && std::none_of(scores.windows.begin(), scores.windows.end(), [](int64_t n) { return n > 0; })) return Error{ErrorKind::kInterrupted, "interrupted before a window was scored"};
  std::vector<EvaluatedModel> told;
  for (const Subject& s : all) told.push_back(s.told);
  *out = figures_of(told, windows, scores, r.against);
  if (!stopped) return {};
  const auto [least, most] = std::minmax_element(scores.windows.begin(), scores.windows.end());
  return Error{ErrorKind::kInterrupted, fmt::format("interrupted after {} of {} windows; the figures are of those", *least == *most ? fmt::format("{}", *least) : fmt::format("{} to {}", *least, *most), windows.count())};
}

}  // namespace ingot::cli
