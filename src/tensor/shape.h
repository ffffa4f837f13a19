// Shapes and regions: N-D boxes of elements, row-major, the last dimension contiguous. Up to 8 dimensions; a 0-d
// tensor has one element.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "tensor/types.h"

namespace ingot {

inline constexpr int kMaxDims = 8;

struct Shape {
  int rank = 0;
  std::array<int64_t, kMaxDims> d{};

  Shape() = default;
  Shape(std::initializer_list<int64_t> v) : rank(static_cast<int>(v.size())) {
    int i = 0;
    for (int64_t x : v) d[i++] = x;
  }
  int64_t operator[](int i) const { return d[i]; }
  int64_t& operator[](int i) { return d[i]; }
  void push_back(int64_t x) { d[rank++] = x; }
  int64_t back() const { return rank ? d[rank - 1] : 1; }
  // Product of all dimensions; file readers have checked that it fits.
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= d[i];
    return n;
  }
  // Elements of one index of dimension i: the product of the dimensions after it.
  int64_t stride(int i) const {
    int64_t n = 1;
    for (int k = i + 1; k < rank; ++k) n *= d[k];
    return n;
  }
  bool operator==(const Shape& o) const {
    if (rank != o.rank) return false;
    for (int i = 0; i < rank; ++i)
      if (d[i] != o.d[i]) return false;
    return true;
  }
};

std::string to_string(const Shape& s);  // "[4096, 256]"

// A box: begin[i] <= index[i] < begin[i] + extent[i].
struct Region {
  Shape begin, extent;
  static Region all(const Shape& s) {
    Region r{s, s};
    for (int i = 0; i < s.rank; ++i) r.begin[i] = 0;
    return r;
  }
  // Rows [first, first + count) of dimension 0, all of the others.
  static Region rows(const Shape& s, int64_t first, int64_t count) {
    Region r = all(s);
    if (s.rank) r.begin[0] = first, r.extent[0] = count;
    return r;
  }
  int64_t elements() const { return extent.elements(); }
  bool operator==(const Region& o) const { return begin == o.begin && extent == o.extent; }
};

bool intersects(const Region& a, const Region& b);
bool contains(const Region& outer, const Region& inner);
Region bounding(const Region& a, const Region& b);
// Whether `r` is one contiguous run of the row-major tensor `within`; *first is then its first element, counted
// from the start of `within`.
bool contiguous_in(const Region& within, const Region& r, int64_t* first);
std::string to_string(const Region& r);  // "[0:128, 0:256]"
// The index of element number `at` of a packed region, in the tensor that the region is of.
Shape index_in(const Region& r, int64_t at);

struct TensorSpec {
  DType type = DType::kF32;
  Shape shape;
  bool operator==(const TensorSpec& o) const { return type == o.type && shape == o.shape; }
};

// Bytes of n elements in rows whose length is a multiple of the block (readers check it).
inline uint64_t bytes_of(DType t, int64_t elements) {
  return static_cast<uint64_t>(elements / info(t).block * info(t).bytes);
}
inline uint64_t bytes_of(const TensorSpec& s) { return bytes_of(s.type, s.shape.elements()); }

// Calls f(first element in `within`, first element in `r`, count) for each contiguous run of region r.
template <class F>
void for_each_run(const Region& within, const Region& r, F f);

}  // namespace ingot

#include "tensor/shape-inl.h"
