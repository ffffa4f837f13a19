// Retention: which checkpoints of a directory are kept, and why.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/directory.h"

namespace ingot::checkpoint {

// What any of the rules wants is kept; with no rule, everything. The limits then take the oldest of what no rule but `last` wants.
struct Keep {
  std::optional<int> last;            // the newest N
  std::optional<int> best;            // the best N by `metric`
  std::string metric;
  bool greatest = false;              // mode="max"
  std::optional<int64_t> every_steps; // each whose step is a multiple
  bool exponential = false;           // one in each doubling of the distance to the newest
  std::set<int64_t> pinned;           // by step
  std::optional<double> max_age;      // seconds
  std::optional<uint64_t> max_bytes;  // of all that is kept; a file that several share counts once
};

inline constexpr double kSettle = 300;  // seconds that a mount with a cache gets for an upload that nobody can tell of

// What no rule may take away.
struct Needed {
  std::optional<int64_t> resumed_from;  // a step; the resume has verified it
  // On a mount that uploads behind one's back: seconds after which what was closed is taken to be in the bucket. Until then nothing goes that was there before.
  double settle = 0;
  // Of the process that asks: what earlier ones left torn, under its own name, is nobody's any more once a newer checkpoint is whole. 0: such are kept.
  int64_t epoch = 0;
};

struct Decision {
  int64_t step = 0;
  bool keep = true;
  std::string why;  // "the newest; best val_loss (1.25)"
};

// Removes what is decided against, the oldest first, each durably before the next.
Status prune(Store& store, const std::vector<Found>& found, const std::vector<Decision>& decisions);
// kUsage for rules that contradict themselves: best without a metric, numbers below 0.
Status check(const Keep& keep);
// One for each of `found`, in its order. What is not whole is kept (rescue and people look at it) but for Needed::epoch, and does not count.
std::vector<Decision> decide(const std::vector<Found>& found, const Keep& keep, const Needed& needed, double now);

}  // namespace ingot::checkpoint
