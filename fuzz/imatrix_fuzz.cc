// Fuzzes the reader of importance matrices that are no GGUF.
#include "formats/formats.h"
#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto store = ingot::make_memory_store();
  ingot::fuzzing::put(*store, "m.dat", ingot::fuzzing::text(data, size));
  const auto there = ingot::look_at(*store, "m.dat");
  if (!there.ok()) return 0;
  (void)ingot::probe_imatrix(*there);
  const auto a = ingot::open_imatrix(*store, *there);
  if (!a.ok()) return 0;
  for (const auto& t : a->tensors)
    if (!ingot::evaluate(t.node).ok()) std::abort();
  return 0;
}
