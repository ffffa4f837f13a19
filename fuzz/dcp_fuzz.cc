// Fuzzes directories of torch.distributed.checkpoint: u32 size and bytes of .metadata, the rest is what each of two ranks wrote. What opens is read to its end; a
// chunk that is damaged tells so only then.
#include <cstdlib>
#include <cstring>

#include "exec/evaluate.h"
#include "formats/formats.h"

namespace {

void put(ingot::Store& store, const char* path, const uint8_t* data, size_t size) {
  auto f = store.create(path, size, false);
  if (!f.ok() || !(*f)->write(0, {reinterpret_cast<const std::byte*>(data), size}).ok() || !(*f)->complete().ok()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t n = 0;
  if (size < sizeof n) return 0;
  std::memcpy(&n, data, sizeof n);
  data += sizeof n, size -= sizeof n;
  if (n > size) return 0;
  auto store = ingot::make_memory_store();
  if (!store->make_directory("d").ok()) std::abort();
  put(*store, "d/.metadata", data, n);
  put(*store, "d/__0_0.distcp", data + n, size - n);
  put(*store, "d/__1_0.distcp", data + n, size - n);
  const auto there = ingot::look_at(*store, "d");
  if (!there.ok()) std::abort();
  const auto a = ingot::open_dcp(*store, *there);
  if (!a.ok()) return 0;
  for (const auto& t : a->tensors)
    if (ingot::bytes_of(t.spec()) <= 1 << 20) (void)ingot::evaluate(t.node);
  return 0;
}
