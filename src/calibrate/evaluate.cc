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
class Costs {
 public:
  Costs(const std::vector<Candidate>& candidates, bool against, const TokenWindows& windows, const EvaluateOptions& options)
      : candidates_(candidates), against_(against), shape_(shape_of(windows)), batch_(options.batch) {}

  uint64_t together(int64_t at_once, int64_t rows) const {
    uint64_t sum = logits(rows);
    for (const Candidate& c : candidates_) sum += c.weights + pass(c, at_once);
    return sum;
  }
  // Beside the states that are kept.
  uint64_t one_by_one(int64_t at_once, int64_t rows) const {
    uint64_t most = 0;
    for (const Candidate& c : candidates_) {
      const bool reference = against_ && &c == &candidates_[0];
      most = std::max(most, c.weights + pass(c, at_once) + (reference ? 0 : logits(rows) + (against_ ? candidates_[0].head : 0)));
    }
    return most;
  }
  uint64_t kept(int64_t windows) const { return against_ ? static_cast<uint64_t>(windows * shape_.rows * candidates_[0].config.hidden) * sizeof(float) : 0; }

 private:
  uint64_t pass(const Candidate& c, int64_t windows) const { return WindowRunner::bytes_of(c.config, windows, shape_.length, batch_); }
  uint64_t logits(int64_t rows) const {
    int64_t vocab = 0;
    for (const Candidate& c : candidates_) vocab = std::max(vocab, c.config.vocab);
    return static_cast<uint64_t>(rows * vocab) * sizeof(float) * (against_ ? 2 : 1);
  }

  const std::vector<Candidate>& candidates_;
  bool against_;
  WindowShape shape_;
  int64_t batch_;
};

}  // namespace

Result<EvaluatePlan> plan_evaluation(const std::vector<Candidate>& candidates, bool against, const TokenWindows& windows, const EvaluateOptions& options) {
  const Costs costs(candidates, against, windows, options);
  const int64_t all = windows.count();
  EvaluatePlan p;
  p.at_once = std::clamp<int64_t>(options.batch / std::max<int64_t>(windows.length, 1), 1, all);
  p.rows = std::min(kRows, p.at_once * shape_of(windows).rows);
  const int64_t least_rows = std::min(kLeastRows, p.rows);
  p.least = costs.one_by_one(1, least_rows) + costs.kept(1);
  const uint64_t free = 4 * default_memory();
  const uint64_t memory = options.memory ? options.memory : std::max(free / 4 * 3, p.least + free / 8);
  if (memory < p.least)
    return usage("evaluating: --memory {} is too small: the largest model, its states of one window of {} tokens and its logits of {} of them take {} bytes; --memory {}M works, and fewer tokens (--ctx) "
                 "take less", memory, windows.length, least_rows, p.least, (p.least >> 20) + 1);
  p.together = candidates.size() > 1 && costs.together(p.at_once, p.rows) <= memory;
  if (p.together) {
    p.bytes = costs.together(p.at_once, p.rows);
    return p;
  }
  if (costs.one_by_one(p.at_once, p.rows) + costs.kept(1) > memory) p.at_once = 1, p.rows = least_rows;
  const uint64_t beside = costs.one_by_one(p.at_once, p.rows);
  if (against) {
    const auto most = static_cast<int64_t>(std::min<uint64_t>((memory - beside) / costs.kept(1), static_cast<uint64_t>(all)));
    p.reads = (all + most - 1) / most;
    p.kept = (all + p.reads - 1) / p.reads;
  }
  p.bytes = beside + costs.kept(p.kept);
  return p;
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
    INGOT_ASSIGN(o.model, candidates_[number].load());
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
    for (int64_t w = 0; w < windows_.count(); w += plan_.at_once) {
      const int64_t n = std::min(plan_.at_once, windows_.count() - w);
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
    for (int64_t w = 0; w < n; w += plan_.at_once) {
      INGOT_TRY(advance(reference, first + w, std::min(plan_.at_once, n - w)));
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
    for (int64_t w = 0; w < n; w += plan_.at_once) {
      const int64_t count = std::min(plan_.at_once, n - w);
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
