// Fuzzes the reader of importance matrices that are no GGUF.
#include <cstdlib>

#include "exec/evaluate.h"
#include "formats/formats.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto store = ingot::make_memory_store();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto f = store->create("m.dat", size, false);
  if (!f.ok() || !(*f)->write(0, ingot::as_bytes(bytes)).ok() || !(*f)->complete().ok()) std::abort();
  const auto there = ingot::look_at(*store, "m.dat");
  if (!there.ok()) return 0;
  (void)ingot::probe_imatrix(*there);
  const auto a = ingot::open_imatrix(*store, *there);
  if (!a.ok()) return 0;
  for (const auto& t : a->tensors)
    if (!ingot::evaluate(t.node).ok()) std::abort();
  return 0;
}
