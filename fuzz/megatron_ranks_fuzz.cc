// Fuzzes Megatron's directories of ranks: a first byte of flags, u32 size and bytes of rank 0's file, the rest is rank 1's. Flags: 1 the second rank is a stage of a pipeline
// and no part of tensors, 2 there is one rank alone.
#include <cstring>

#include "formats/megatron_ranks.h"
#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t n = 0;
  if (size < 1 + sizeof n) return 0;
  std::memcpy(&n, data + 1, sizeof n);
  const std::string_view bytes = ingot::fuzzing::text(data + 1 + sizeof n, size - 1 - sizeof n);
  if (n > bytes.size()) return 0;
  auto store = ingot::make_memory_store();
  const bool stages = data[0] & 1;
  const auto put = [&](const char* rank, std::string_view part) {
    if (!store->make_directory("d").ok()) std::abort();
    ingot::fuzzing::put(*store, std::string("d/mp_rank_") + rank + "/model_optim_rng.pt", part);
  };
  put(stages ? "00_000" : "00", bytes.substr(0, n));
  if (!(data[0] & 2)) put(stages ? "00_001" : "01", bytes.substr(n));
  const auto there = ingot::look_at(*store, "d");
  if (!there.ok() || !ingot::is_megatron_ranks(*there)) std::abort();
  if (const auto a = ingot::read_megatron_ranks(*store, *there); a.ok()) ingot::fuzzing::read_all(*a);
  return 0;
}
