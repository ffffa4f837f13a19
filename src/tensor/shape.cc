#include "tensor/shape.h"

#include <fmt/format.h>

#include <algorithm>

namespace ingot {

std::string to_string(const Shape& s) {
  std::string out = "[";
  for (int i = 0; i < s.rank; ++i) out += fmt::format("{}{}", i ? ", " : "", s[i]);
  return out + "]";
}

std::string to_string(const Region& r) {
  std::string out = "[";
  for (int i = 0; i < r.extent.rank; ++i)
    out += fmt::format("{}{}:{}", i ? ", " : "", r.begin[i], r.begin[i] + r.extent[i]);
  return out + "]";
}

Shape index_in(const Region& r, int64_t at) {
  Shape s = r.begin;
  for (int i = r.extent.rank; i-- > 0;) {
    s[i] += at % r.extent[i];
    at /= r.extent[i];
  }
  return s;
}

bool intersects(const Region& a, const Region& b) {
  for (int i = 0; i < a.extent.rank; ++i)
    if (a.begin[i] >= b.begin[i] + b.extent[i] || b.begin[i] >= a.begin[i] + a.extent[i]) return false;
  return true;
}

bool contains(const Region& outer, const Region& inner) {
  for (int i = 0; i < outer.extent.rank; ++i)
    if (inner.begin[i] < outer.begin[i] || inner.begin[i] + inner.extent[i] > outer.begin[i] + outer.extent[i])
      return false;
  return true;
}

Region bounding(const Region& a, const Region& b) {
  Region r = a;
  for (int i = 0; i < a.extent.rank; ++i) {
    int64_t end = std::max(a.begin[i] + a.extent[i], b.begin[i] + b.extent[i]);
    r.begin[i] = std::min(a.begin[i], b.begin[i]);
    r.extent[i] = end - r.begin[i];
  }
  return r;
}

bool contiguous_in(const Region& within, const Region& r, int64_t* first) {
  int64_t at = 0;
  bool partial = false;  // after the first dimension that spans more than one index, all must be whole
  for (int i = 0; i < r.extent.rank; ++i) {
    if (partial && r.extent[i] != within.extent[i]) return false;
    if (r.extent[i] != 1) partial = true;
    at = at * within.extent[i] + (r.begin[i] - within.begin[i]);
  }
  *first = at;
  return true;
}

}  // namespace ingot
