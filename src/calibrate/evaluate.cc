#include "calibrate/evaluate.h"

#include <algorithm>
#include <span>

#include "base/memory.h"
#include "exec/plan.h"
#include "infer/windows.h"

namespace ingot::calibrate {
namespace {

constexpr int64_t kRows = 256, kLeastRows = 16;

struct WindowShape {
  int64_t length = 0, first = 0, rows = 0;  // of a window: tokens, the first position that is scored, positions from it on
};
WindowShape shape_of(const TokenWindows& w) { return {w.length, w.length / 2, w.length - w.length / 2}; }

// What an evaluation takes, by what it holds at once.
class Planner {
 public:
  Planner(const std::vector<Candidate>& candidates, bool against, const TokenWindows& windows, const EvaluateOptions& options)
      : candidates_(candidates), against_(against), shape_(shape_of(windows)), all_(windows.count()), options_(options) {
    for (const Candidate& c : candidates_) vocab_ = std::max(vocab_, c.config.vocab);
  }

  Result<EvaluatePlan> plan() const {
    EvaluatePlan p;
    const int64_t usual = std::clamp<int64_t>(options_.batch / std::max<int64_t>(shape_.length, 1), 1, all_), rows = std::min(kRows, usual * shape_.rows), least_rows = std::min(kLeastRows, rows);
    p.passes.resize(candidates_.size());
    for (size_t i = 0; i < candidates_.size(); ++i) p.least = std::max(p.least, of(i, false, 1, least_rows) + kept(1));
    const uint64_t free = 4 * default_memory(), memory = options_.memory ? options_.memory : std::max(free / 4 * 3, p.least + free / 8);
    if (memory < p.least)
      return usage("evaluating: --memory {} is too small: one layer after another, the states of one window of {} tokens and the logits of {} of them take {} bytes; --memory {}M works, and fewer "
                   "tokens (--ctx) take less", memory, shape_.length, least_rows, p.least, (p.least >> 20) + 1);
    p.rows = rows;
    for (EvaluatePlan::Pass& pass : p.passes) pass.at_once = usual;
    p.bytes = together(p);
    p.together = candidates_.size() > 1 && p.bytes <= memory;
    if (p.together) return p;
    one_by_one(memory, usual, rows, &p);
    if (most(p) + kept(p.kept) > memory) one_by_one(memory, 1, least_rows, &p);
    p.bytes = most(p) + kept(p.kept);
    return p;
  }

 private:
  // A model with what it needs while it is the one that is read, beside the states that are kept.
  uint64_t of(size_t i, bool resident, int64_t at_once, int64_t rows) const {
    const Candidate& c = candidates_[i];
    const uint64_t alone = (resident ? c.weights : c.not_resident) + WindowRunner::bytes_of(c.config, at_once, shape_.length, options_.batch);
    return against_ && i == 0 ? alone : alone + logits(rows) + (against_ ? candidates_[0].head : 0);
  }
  uint64_t logits(int64_t rows) const { return static_cast<uint64_t>(rows * vocab_) * sizeof(float) * (against_ ? 2 : 1); }
  uint64_t kept(int64_t windows) const { return against_ ? static_cast<uint64_t>(windows * shape_.rows * candidates_[0].config.hidden) * sizeof(float) : 0; }
  uint64_t together(const EvaluatePlan& p) const {
    uint64_t sum = logits(p.rows);
    for (size_t i = 0; i < candidates_.size(); ++i) sum += candidates_[i].weights + WindowRunner::bytes_of(candidates_[i].config, p.passes[i].at_once, shape_.length, options_.batch);
    return sum;
  }
  uint64_t most(const EvaluatePlan& p) const {
    uint64_t out = 0;
    for (size_t i = 0; i < p.passes.size(); ++i) out = std::max(out, of(i, p.passes[i].resident, p.passes[i].at_once, p.rows));
    return out;
  }

  // A model that is resident is read once for all windows whose reference states are kept; one that is not once for all windows that pass together, so where one is, as many of these as of
  // those.
  void one_by_one(uint64_t memory, int64_t usual, int64_t rows, EvaluatePlan* p) const {
    p->rows = rows;
    bool all_resident = true;
    for (size_t i = 0; i < p->passes.size(); ++i) {
      p->passes[i] = {of(i, true, usual, rows) + kept(1) <= memory, usual, 1};
      all_resident = all_resident && p->passes[i].resident;
    }
    // The most windows for which it fits.
    const auto with = [&](int64_t n) {
      for (EvaluatePlan::Pass& pass : p->passes) pass.at_once = pass.resident ? std::min(usual, n) : n;
      p->kept = against_ ? n : 0;
      return most(*p) + kept(p->kept);
    };
    int64_t n = all_;
    if (against_ || !all_resident) {
      int64_t low = 1, high = all_ + 1;  // low fits, or nothing does
      while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        (with(middle) <= memory ? low : high) = middle;
      }
      const int64_t groups = (all_ + low - 1) / low;
      n = (all_ + groups - 1) / groups;
    }
    with(n);
    for (EvaluatePlan::Pass& pass : p->passes) pass.reads = against_ || !pass.resident ? (all_ + n - 1) / n : 1;
  }

  const std::vector<Candidate>& candidates_;
  bool against_;
  WindowShape shape_;
  int64_t all_, vocab_ = 0;
  const EvaluateOptions& options_;
};

}  // namespace

Result<EvaluatePlan> plan_evaluation(const std::vector<Candidate>& candidates, bool against, const TokenWindows& windows, const EvaluateOptions& options) {
  return Planner(candidates, against, windows, options).plan();
}

namespace {

class Evaluation {
 public:
  Evaluation(const std::vector<Candidate>& candidates, bool against, const TokenWindows& windows, const EvaluatePlan& plan, const EvaluateOptions& options, Scores* out)
      : candidates_(candidates), against_(against), windows_(windows), shape_(shape_of(windows)), plan_(plan), options_(options), out_(*out) {}

  Status run() {
    out_.per_window = shape_.rows - 1;  // what follows the last position is not there
    out_.windows.assign(candidates_.size(), 0);
    out_.models.assign(candidates_.size(), std::vector<TokenScore>(static_cast<size_t>(windows_.count() * out_.per_window)));
    for (const Candidate& c : candidates_) total_ += c.weights * static_cast<uint64_t>(windows_.count());
    return plan_.together ? together() : one_by_one();
  }

 private:
  struct Open {
    size_t number;
    std::unique_ptr<Model> model;
    std::unique_ptr<WindowRunner> runner;
    std::span<const float> states;  // of the windows that are being scored
  };

  Result<Open> open(size_t number) {
    Open o{number, nullptr, nullptr, {}};
    INGOT_ASSIGN(o.model, candidates_[number].load(plan_.passes[number].resident));
    start(&o);
    return o;
  }
  void start(Open* o) {
    WindowsOptions w;
    w.batch = options_.batch, w.cancel = options_.cancel;
    const Candidate& c = candidates_[o->number];
    w.on_progress = [this, &c](int64_t done, int64_t of) {
      const auto share = static_cast<double>(done) / static_cast<double>(std::max<int64_t>(of, 1));
      progress(static_cast<uint64_t>(share * static_cast<double>((c.weights - c.head) * static_cast<uint64_t>(now_))));
    };
    o->runner.reset();
    o->runner = std::make_unique<WindowRunner>(*o->model, std::move(w));
  }
  Error named(const Open& o, Error e) const {
    if (e.kind == ErrorKind::kInterrupted) return e;
    return std::move(e).during(fmt::format("evaluating '{}'", candidates_[o.number].name));
  }
  void progress(uint64_t more) const {
    if (options_.on_progress) options_.on_progress(done_ + more, total_);
  }

  // The states of `n` windows from `first` on.
  Status advance(Open* o, int64_t first, int64_t n) {
    now_ = n;
    auto states = o->runner->states(std::span(windows_.ids).subspan(static_cast<size_t>(first * shape_.length), static_cast<size_t>(n * shape_.length)), shape_.length, shape_.first);
    if (!states.ok()) return named(*o, states.take_error());
    o->states = *states;
    const Candidate& c = candidates_[o->number];
    done_ += (c.weights - c.head) * static_cast<uint64_t>(n);
    return {};
  }

  // Logits of `n` of its states, from `at` on, [n, vocab].
  Status logits(Open* o, int64_t at, int64_t n, std::vector<float>* out) {
    const ModelConfig& c = o->model->config();
    out->resize(static_cast<size_t>(n * c.vocab));
    Status made = o->runner->logits(o->states.data() + at * c.hidden, n, out->data());
    return made.ok() ? Status() : Status(named(*o, made.take_error()));
  }

  // Of `n` windows from `first` on, whose states all have: those of the reference, which may be null, and those of `models`. `own`: the reference is scored itself.
  Status score_windows(int64_t first, int64_t n, Open* reference, bool own, std::span<Open* const> models) {
    const int64_t all = n * shape_.rows;
    for (int64_t at = 0; at < all; at += plan_.rows) {
      if (options_.cancel && options_.cancel->cancelled()) return interrupted();
      const int64_t rows = std::min(plan_.rows, all - at);
      const auto each = [&](Open* o, auto f) {
        o->model->pool().parallel_for(rows, [&](int64_t r) {
          const int64_t window = first + (at + r) / shape_.rows, row = (at + r) % shape_.rows;
          if (row == out_.per_window) return;
          const int64_t token = windows_.ids[static_cast<size_t>(window * shape_.length + shape_.first + row + 1)];
          out_.models[o->number][static_cast<size_t>(window * out_.per_window + row)] = f(r, token);
        });
      };
      if (reference) {
        const int64_t vocab = reference->model->config().vocab;
        INGOT_TRY(logits(reference, at, rows, &reference_logits_));
        softmax_.resize(static_cast<size_t>(rows));
        reference->model->pool().parallel_for(rows, [&](int64_t r) { softmax_[static_cast<size_t>(r)] = softmax_of(reference_logits_.data() + r * vocab, vocab); });
        if (own) each(reference, [&](int64_t r, int64_t token) { return score(reference_logits_.data() + r * vocab, softmax_[static_cast<size_t>(r)], token); });
      }
      for (Open* o : models) {
        const int64_t vocab = o->model->config().vocab;
        INGOT_TRY(logits(o, at, rows, &logits_));
        each(o, [&](int64_t r, int64_t token) {
          const float* x = logits_.data() + r * vocab;
          const Softmax s = softmax_of(x, vocab);
          return reference ? score(reference_logits_.data() + r * vocab, softmax_[static_cast<size_t>(r)], x, s, vocab, token) : score(x, s, token);
        });
      }
    }
    const auto finish = [&](const Open& o) {
      out_.windows[o.number] = first + n;
      done_ += candidates_[o.number].head * static_cast<uint64_t>(n);
    };
    if (reference && own) finish(*reference);
    for (const Open* o : models) finish(*o);
    progress(0);
    if (options_.on_scored) options_.on_scored(out_);
    return {};
  }

  Status together() {
    std::vector<Open> all;
    for (size_t i = 0; i < candidates_.size(); ++i) {
      INGOT_ASSIGN(Open o, open(i));
      all.push_back(std::move(o));
    }
    std::vector<Open*> models;
    for (size_t i = against_ ? 1 : 0; i < all.size(); ++i) models.push_back(&all[i]);
    const int64_t at_once = plan_.passes[0].at_once;
    for (int64_t w = 0; w < windows_.count(); w += at_once) {
      const int64_t n = std::min(at_once, windows_.count() - w);
      for (Open& o : all) INGOT_TRY(advance(&o, w, n));
      INGOT_TRY(score_windows(w, n, against_ ? &all[0] : nullptr, true, models));
    }
    return {};
  }

  Status one_by_one() {
    if (!against_) {
      for (size_t i = 0; i < candidates_.size(); ++i) INGOT_TRY(go_through(i, 0, windows_.count(), nullptr));
      return {};
    }
    for (int64_t w = 0; w < windows_.count(); w += plan_.kept) {
      const int64_t n = std::min(plan_.kept, windows_.count() - w);
      INGOT_ASSIGN(Open reference, open(0));
      INGOT_TRY(keep_states(&reference, w, n));
      for (size_t i = 1; i < candidates_.size(); ++i) INGOT_TRY(go_through(i, w, n, &reference));
    }
    return {};
  }

  Status keep_states(Open* reference, int64_t first, int64_t n) {
    const size_t window = static_cast<size_t>(shape_.rows * reference->model->config().hidden);
    kept_.resize(static_cast<size_t>(n) * window);
    const int64_t at_once = plan_.passes[0].at_once;
    for (int64_t w = 0; w < n; w += at_once) {
      INGOT_TRY(advance(reference, first + w, std::min(at_once, n - w)));
      std::copy(reference->states.begin(), reference->states.end(), kept_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(w) * window));
    }
    reference->runner.reset();
    reference->model->keep_head();
    start(reference);
    return {};
  }

  // One model over `n` windows from `first` on.
  Status go_through(size_t number, int64_t first, int64_t n, Open* reference) {
    INGOT_ASSIGN(Open o, open(number));
    Open* const one = &o;
    const int64_t at_once = plan_.passes[number].at_once;
    for (int64_t w = 0; w < n; w += at_once) {
      const int64_t count = std::min(at_once, n - w);
      INGOT_TRY(advance(&o, first + w, count));
      if (reference) reference->states = std::span<const float>(kept_).subspan(static_cast<size_t>(w * shape_.rows * reference->model->config().hidden));
      INGOT_TRY(score_windows(first + w, count, reference, number == 1, {&one, 1}));
    }
    return {};
  }

  const std::vector<Candidate>& candidates_;
  bool against_;
  const TokenWindows& windows_;
  WindowShape shape_;
  const EvaluatePlan& plan_;
  const EvaluateOptions& options_;
  Scores& out_;
  uint64_t done_ = 0, total_ = 0;
  int64_t now_ = 0;  // windows that are passing the layers
  std::vector<float> kept_, reference_logits_, logits_;
  std::vector<Softmax> softmax_;
};

}  // namespace

Status evaluate(const std::vector<Candidate>& candidates, bool against, const TokenWindows& windows, const EvaluatePlan& plan, const EvaluateOptions& options, Scores* out) {
  return within_memory("evaluating", [&] { return Evaluation(candidates, against, windows, plan, options, out).run(); });
}

}  // namespace ingot::calibrate
