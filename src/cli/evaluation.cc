#include "cli/evaluation.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "cli/output.h"
#include "cli/text.h"

namespace ingot::cli {
namespace {

using calibrate::Figure;
using calibrate::TokenScore;

Figures figures(const std::string& category, const std::vector<TokenScore>& scores, bool against, bool reference) {
  Figures f{category, calibrate::perplexity(scores), std::nullopt};
  if (against && !reference) f.divergence = calibrate::divergence(scores);
  return f;
}

// Divergences come from 1e-9 to 10: three digits at least.
std::string small(double x) {
  if (!std::isfinite(x)) return fmt::format("{}", x);
  return x == 0 ? "0" : std::abs(x) < 1e-4 ? fmt::format("{:.2e}", x) : fmt::format("{:.6f}", x);
}
std::string with_sign(const std::string& text, double x) { return x > 0 ? "+" + text : text; }
std::string plus_minus() { return locale_is_utf8() ? " \u00b1 " : " +- "; }
std::string with_error(const std::string& value, const std::string& error, const Figure& f) { return std::isnan(f.error) ? value : value + plus_minus() + error; }

std::string small_figure(const Figure& f, bool sign = false) { return with_error(sign ? with_sign(small(f.value), f.value) : small(f.value), small(f.error), f); }
std::string fixed(const Figure& f, int decimals, double factor = 1, const char* unit = "", bool sign = false) {
  const std::string value = fmt::format("{:.{}f}", f.value * factor, decimals);
  return with_error(sign ? with_sign(value, f.value) : value, fmt::format("{:.{}f}", f.error * factor, decimals), f) + unit;
}
// A perplexity with as many digits whatever its size.
std::string perplexity_text(const Figure& f) { return fixed(f, f.value < 1000 ? 4 : f.value < 1e5 ? 2 : 0); }
std::string share_text(const Figure& f) { return fixed(f, 2, 100, " %"); }

std::vector<std::string> head_cells(const Figures& f, bool against) {
  std::vector<std::string> cells = {perplexity_text(f.perplexity.perplexity)};
  if (against) {
    cells.push_back(f.divergence ? small_figure(f.divergence->mean) : "");
    cells.push_back(f.divergence ? share_text(f.divergence->same_top) : "");
  }
  return cells;
}

void add(std::vector<std::string>* to, std::vector<std::string> more) { to->insert(to->end(), more.begin(), more.end()); }

std::string delta_p() { return locale_is_utf8() ? "\u0394p" : "dp"; }

}  // namespace

Evaluation figures_of(const std::vector<EvaluatedModel>& models, const calibrate::TokenWindows& windows, const calibrate::Scores& scores, bool against) {
  Evaluation e;
  e.texts = windows.names;
  e.length = windows.length, e.windows = windows.count(), e.tokens = windows.tokens, e.per_window = scores.per_window, e.against = against;
  const bool categories = windows.categories.size() > 1 || (windows.categories.size() == 1 && !windows.categories[0].empty());
  const auto of = [&](size_t i, int64_t n) { return std::span(scores.models[i]).first(static_cast<size_t>(n * scores.per_window)); };
  for (size_t i = 0; i < models.size(); ++i) {
    ModelFigures m{models[i], against && i == 0, scores.windows[i], {}, {}};
    const auto all = of(i, m.windows);
    m.all = figures("", {all.begin(), all.end()}, against, m.reference);
    for (size_t k = 0; categories && k < windows.categories.size(); ++k) {
      std::vector<TokenScore> part;
      for (int64_t w = 0; w < m.windows; ++w)
        if (windows.category[static_cast<size_t>(w)] == static_cast<int32_t>(k)) {
          const auto window = all.subspan(static_cast<size_t>(w * scores.per_window), static_cast<size_t>(scores.per_window));
          part.insert(part.end(), window.begin(), window.end());
        }
      if (!part.empty()) m.categories.push_back(figures(windows.categories[k], part, against, m.reference));
    }
    e.models.push_back(std::move(m));
  }
  for (size_t i = against ? 2 : 1; i < models.size(); ++i) {
    const int64_t n = std::min(scores.windows[i - 1], scores.windows[i]);
    if (n > 1)
      e.pairs.push_back({models[i - 1].name, models[i].name, n,
                         calibrate::paired_difference(of(i - 1, n), of(i, n), scores.per_window, against ? &TokenScore::divergence : &TokenScore::nll)});
  }
  return e;
}

std::string summary_of(const Evaluation& e) {
  int64_t least = e.windows;
  for (const ModelFigures& m : e.models) least = std::min(least, m.windows);
  return fmt::format("{} of {} tokens from {} ({} tokens), the second half of each scored: {} tokens{}{}", count_of(static_cast<uint64_t>(e.windows), "window"), e.length, printable(join(e.texts, ", ")),
                     format_count(static_cast<uint64_t>(e.tokens)), format_count(static_cast<uint64_t>(e.windows * e.per_window)),
                     least < e.windows ? fmt::format("; interrupted after {} of the windows", least) : "",
                     e.against ? fmt::format("; divergence from {}", printable(e.models[0].model.name)) : "");
}

std::vector<Sheet> sheets_of(const Evaluation& e) {
  std::vector<Sheet> out;
  Sheet head{"", {"~model", ">size", ">bits", ">perplexity"}, {}};
  if (e.against) add(&head.header, {">mean KL", ">same top"});
  for (const ModelFigures& m : e.models) {
    if (m.windows == 0) continue;
    std::vector<std::string> cells = {printable(m.model.name), format_bytes(m.model.bytes), fmt::format("{:.2f}", m.model.bits_per_weight)};
    add(&cells, head_cells(m.all, e.against));
    head.rows.push_back(std::move(cells));
  }
  out.push_back(std::move(head));
  if (e.against) {
    Sheet spread{"KL divergence (nats), and the correlation of ln p(token) with the reference's", {"~model", ">median", ">99 %", ">99.9 %", ">max", ">min", ">correlation"}, {}};
    Sheet ratio{"perplexity (ppl) and p(token), against the reference's token by token", {"~model", ">ppl / reference", ">ppl - reference", ">mean " + delta_p(), ">RMS " + delta_p()}, {}};
    for (const ModelFigures& m : e.models) {
      if (!m.all.divergence || m.windows == 0) continue;
      const calibrate::Divergence& d = *m.all.divergence;
      const std::string name = printable(m.model.name);
      spread.rows.push_back({name, small(d.median), small(d.percentile_99), small(d.percentile_999), small(d.max), small(d.min), std::isnan(d.correlation) ? "" : fmt::format("{:.4f} %", d.correlation * 100)});
      ratio.rows.push_back({name, fixed(d.ratio, 6), fixed(d.difference, 4, 1, "", true), fixed(d.mean_dp, 3, 100, " %", true), fixed(d.rms_dp, 3, 100, " %")});
    }
    out.push_back(std::move(spread));
    out.push_back(std::move(ratio));
  }
  if (!e.pairs.empty()) {
    const std::string what = e.against ? "mean KL" : "mean -ln p";
    Sheet pairs{fmt::format("{} of a model minus that of the one above it, paired over windows", what), {"~model", "~minus", ">" + what, ">windows"}, {}};
    for (const PairFigures& p : e.pairs) pairs.rows.push_back({printable(p.b), printable(p.a), small_figure(p.mean, true), format_count(static_cast<uint64_t>(p.windows))});
    out.push_back(std::move(pairs));
  }
  Sheet categories{"by category", {"~category", "~model", ">tokens", ">perplexity"}, {}};
  if (e.against) add(&categories.header, {">mean KL", ">same top"});
  std::vector<std::string> names;
  for (const ModelFigures& m : e.models)
    for (const Figures& f : m.categories)
      if (std::find(names.begin(), names.end(), f.category) == names.end()) names.push_back(f.category);
  for (const std::string& name : names)
    for (const ModelFigures& m : e.models)
      for (const Figures& f : m.categories) {
        if (f.category != name) continue;
        std::vector<std::string> cells = {printable(name), printable(m.model.name), format_count(static_cast<uint64_t>(f.perplexity.tokens))};
        add(&cells, head_cells(f, e.against));
        categories.rows.push_back(std::move(cells));
      }
  if (!categories.rows.empty()) out.push_back(std::move(categories));
  return out;
}

std::string evaluation_text(const Evaluation& e, int width) {
  std::string out = wrap(summary_of(e), width, 2) + "\n";
  for (const Sheet& s : sheets_of(e)) {
    Table table(s.header);
    for (const auto& row : s.rows) table.row(row);
    out += fmt::format("\n{}{}{}", s.title, s.title.empty() ? "" : "\n", table.str(0, width));
  }
  return out;
}

namespace {

OrderedJson number(double x) { return std::isfinite(x) ? OrderedJson(x) : OrderedJson(nullptr); }
OrderedJson json_of(const Figure& f) { return {{"value", number(f.value)}, {"error", number(f.error)}}; }

void add_figures(const Figures& f, OrderedJson* j) {
  (*j)["tokens"] = f.perplexity.tokens;
  (*j)["perplexity"] = json_of(f.perplexity.perplexity);
  (*j)["nll"] = json_of(f.perplexity.nll);
  if (!f.divergence) return;
  const calibrate::Divergence& d = *f.divergence;
  (*j)["kl"] = {{"mean", json_of(d.mean)}, {"median", number(d.median)}, {"percentile_99", number(d.percentile_99)}, {"percentile_99_9", number(d.percentile_999)},
                {"max", number(d.max)}, {"min", number(d.min)}};
  (*j)["same_top"] = json_of(d.same_top);
  (*j)["mean_dp"] = json_of(d.mean_dp);
  (*j)["rms_dp"] = json_of(d.rms_dp);
  (*j)["log_ratio"] = json_of(d.log_ratio);
  (*j)["ratio"] = json_of(d.ratio);
  (*j)["difference"] = json_of(d.difference);
  (*j)["correlation"] = number(d.correlation);
}

OrderedJson json_of(const ModelFigures& m, int64_t windows) {
  OrderedJson j = {{"path", m.model.path}, {"bytes", m.model.bytes}, {"bits_per_weight", m.model.bits_per_weight}};
  if (m.windows < windows) j["windows"] = m.windows;
  if (m.windows == 0) return j;
  add_figures(m.all, &j);
  for (const Figures& f : m.categories) {
    OrderedJson c = {{"category", f.category}};
    add_figures(f, &c);
    j["categories"].push_back(std::move(c));
  }
  return j;
}

}  // namespace

OrderedJson evaluation_json(const Evaluation& e) {
  OrderedJson j = {{"texts", e.texts}, {"ctx", e.length}, {"windows", e.windows}, {"tokens", e.tokens}, {"scored", e.windows * e.per_window}};
  if (e.against) j["reference"] = json_of(e.models[0], e.windows);
  j["models"] = OrderedJson::array();
  for (size_t i = e.against ? 1 : 0; i < e.models.size(); ++i) j["models"].push_back(json_of(e.models[i], e.windows));
  if (!e.pairs.empty()) {
    OrderedJson pairs = OrderedJson::array();
    for (size_t i = 0; i < e.pairs.size(); ++i) {
      const size_t b = i + (e.against ? 2 : 1);
      pairs.push_back({{"a", e.models[b - 1].model.path}, {"b", e.models[b].model.path}, {"windows", e.pairs[i].windows}, {e.against ? "kl" : "nll", json_of(e.pairs[i].mean)}});
    }
    j["paired"] = std::move(pairs);
  }
  return j;
}

}  // namespace ingot::cli
