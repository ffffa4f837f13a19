// Fuzzes the reader of what an unfinished 'ingot imatrix' has kept: what it takes it writes again to the byte, and what it refuses changes nothing.
#include <cstdlib>

#include "calibrate/importance_matrix.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ingot::ByteView bytes(reinterpret_cast<const std::byte*>(data), size);
  ingot::calibrate::ImportanceMatrix m({{"a.weight", 2, 1}, {"b.weight", 1, 2}});
  const std::string before = m.bytes();
  const bool taken = m.restore(bytes).ok();
  if (m.bytes() != (taken ? ingot::as_text(bytes) : std::string_view(before))) std::abort();
  return 0;
}
