#include "calibrate/collect.h"

#include <algorithm>
#include <span>

#include "base/clock.h"
#include "base/memory.h"
#include "infer/windows.h"

namespace ingot::calibrate {
namespace {

// Windows that are multiplied together. Groups are whole numbers of these: so the same rows come together whatever the groups are, and sums have the same bits.
int64_t together(int64_t length, int64_t batch) { return std::max<int64_t>(1, batch / length); }

// Most windows, a multiple of `per`, whose states fit; one such multiple at least.
int64_t most_windows(const Model& model, int64_t length, int64_t per, int64_t total, const CollectOptions& o) {
  int64_t fits = 1, more = (total + per - 1) / per;
  while (fits < more) {
    const int64_t middle = fits + (more - fits + 1) / 2;
    if (WindowRunner::bytes_of(model, middle * per, length, o.batch) <= o.memory) fits = middle;
    else more = middle - 1;
  }
  return fits * per;
}

}  // namespace

uint64_t least_states(const ModelConfig& config, int64_t length, int64_t batch) { return WindowRunner::bytes_of(config, together(length, batch), length, batch); }

Status collect(const Model& model, const TokenWindows& w, const CollectOptions& o, Collected* c) {
  const int64_t length = w.length, total = w.count(), per = together(length, o.batch), most = most_windows(model, length, per, total, o);
  return within_memory("collecting the sums", [&]() -> Status {
    ImportanceMatrix now = c->sums;
    int64_t group = per;
    double seconds = o.group_seconds;
    WindowsOptions options;
    options.batch = o.batch;
    options.cancel = o.cancel;
    options.on_product = [&](const WeightMatrix& m, const float* x, int64_t rows) {
      if (m.name != kOutputName) now.add(model.pool(), m.name, m.part, x, rows, m.cols);
    };
    int64_t n = 0;
    options.on_progress = [&](int64_t done, int64_t all) {
      if (o.on_progress && all > 0) o.on_progress(c->windows * length + static_cast<int64_t>(static_cast<double>(done) / static_cast<double>(all) * static_cast<double>(n * length)), total * length);
    };
    WindowRunner runner(model, options);
    while (c->windows < total) {
      if (o.cancel && o.cancel->cancelled()) return interrupted();
      const auto start = Clock::now();
      n = std::min(group, total - c->windows);
      INGOT_ASSIGN(const auto states, runner.states(std::span(w.ids).subspan(static_cast<size_t>(c->windows * length), static_cast<size_t>(n * length)), length));
      for (int64_t i = 0; !o.output.empty() && i < n; i += per) {
        const int64_t rows = std::min(per, n - i) * length, hidden = model.config().hidden;
        now.add(model.pool(), o.output, 0, states.data() + i * length * hidden, rows, hidden);
      }
      INGOT_TRY(now.check_finite());
      c->sums.copy(now);
      c->windows += n;
      if (o.on_group) o.on_group();
      // Longer groups save nothing where the weights are in memory: they are as long as one may lose.
      const double took = seconds_since(start), each = took / static_cast<double>(n);
      if (!o.resident && n == per) seconds = std::max(o.group_seconds, 2.5 * took);
      group = std::clamp<int64_t>(each > 0 ? static_cast<int64_t>(seconds / each) / per * per : most, per, std::min(most, 2 * group));
    }
    return {};
  });
}

}  // namespace ingot::calibrate
