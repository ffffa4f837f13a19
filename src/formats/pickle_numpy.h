// Numpy's arrays and scalars within a pickle.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/pickle.h"

namespace ingot {

struct NumpyArray {
  char kind = 0;          // 'f', 'i', 'u', 'b' (bool), 'c'; others as numpy has them
  int64_t item = 0;       // bytes of an element
  bool big_endian = false, fortran = false, scalar = false;
  std::vector<int64_t> shape;
  int64_t elements = 1;
  std::string bytes;      // as many as shape and item say
};
// Whether numpy would make an array of it, of whatever elements; a scalar is none.
bool is_numpy_array(const PickleValue& value);
// Nothing where the value is none, or contradicts itself. Without `content` all but its bytes, of which there may be fewer: many references to one large array
// cost nothing until it is known that these are wanted.
std::optional<NumpyArray> numpy_array(const PickleValue& value, bool content = true);
// Its bytes in C order, little-endian.
std::string numpy_in_order(const NumpyArray& a);
// Element number `i` as JSON; empty for a kind that is no number.
std::string numpy_element(const NumpyArray& a, int64_t i);

}  // namespace ingot
