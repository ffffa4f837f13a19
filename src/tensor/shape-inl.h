// The run walker of shape.h.
#pragma once

namespace ingot {

template <class F>
void for_each_run(const Region& within, const Region& r, F f) {
  const int n = r.extent.rank;
  if (r.elements() == 0) return;
  // The run covers every trailing dimension that is whole, and the first one that is not.
  int d = n;
  int64_t run = 1;
  while (d > 0) {
    --d;
    run *= r.extent[d];
    if (r.extent[d] != within.extent[d]) break;
  }
  std::array<int64_t, kMaxDims> idx{};
  int64_t done = 0;
  for (;;) {
    int64_t at = 0;
    for (int i = 0; i < n; ++i) at = at * within.extent[i] + (r.begin[i] - within.begin[i] + idx[i]);
    f(at, done, run);
    done += run;
    int i = d - 1;
    for (; i >= 0; --i) {
      if (++idx[i] < r.extent[i]) break;
      idx[i] = 0;
    }
    if (i < 0) return;
  }
}

}  // namespace ingot
