// Fuzzes NumPy's files: the bytes as a .npy, and as an array of a .npz.
#include "formats/formats.h"
#include "fuzz_zip.h"

namespace {

void use(const char* name, const std::string& bytes) {
  auto store = ingot::make_memory_store();
  ingot::fuzzing::put(*store, name, bytes);
  const auto there = ingot::look_at(*store, name);
  if (!there.ok()) return;
  if (const auto a = ingot::open_npz(*store, *there); a.ok()) ingot::fuzzing::read_all(*a);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(ingot::fuzzing::text(data, size));
  use("a.npy", bytes);
  use("a.npz", bytes);
  if (bytes.starts_with('\x93')) use("b.npz", ingot::fuzzing::archive({{"a.npy", bytes}}));
  return 0;
}
