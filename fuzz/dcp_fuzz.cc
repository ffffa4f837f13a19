// Fuzzes directories of torch.distributed.checkpoint: u32 size and bytes of .metadata, the rest is what each of two ranks wrote.
#include <cstring>

#include "formats/formats.h"
#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t n = 0;
  if (size < sizeof n) return 0;
  std::memcpy(&n, data, sizeof n);
  std::string_view bytes = ingot::fuzzing::text(data + sizeof n, size - sizeof n);
  if (n > bytes.size()) return 0;
  auto store = ingot::make_memory_store();
  ingot::fuzzing::put(*store, "d/.metadata", bytes.substr(0, n));
  for (const char* rank : {"d/__0_0.distcp", "d/__1_0.distcp"}) ingot::fuzzing::put(*store, rank, bytes.substr(n));
  const auto there = ingot::look_at(*store, "d");
  if (!there.ok()) std::abort();
  if (const auto a = ingot::open_dcp(*store, *there); a.ok()) ingot::fuzzing::read_all(*a);
  return 0;
}
