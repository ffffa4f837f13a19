// Fuzzes DeepSpeed's directories: u32 size and bytes of the model states and of rank 0's optimizer states, the rest is rank 1's. A first byte of 3 names the model
// states as stage 3 does, for each rank. What opens is read to its end.
#include <cstdlib>
#include <cstring>
#include <string>

#include "exec/evaluate.h"
#include "formats/formats.h"

namespace {

void put(ingot::Store& store, const std::string& name, const uint8_t* data, size_t size) {
  auto f = store.create("d/" + name, size, false);
  if (!f.ok() || !(*f)->write(0, {reinterpret_cast<const std::byte*>(data), size}).ok() || !(*f)->complete().ok()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 9) return 0;
  const bool parts = data[0] == 3;
  uint32_t n[2];
  std::memcpy(n, data + 1, sizeof n);
  data += 9, size -= 9;
  if (n[0] > size || n[1] > size - n[0]) return 0;
  auto store = ingot::make_memory_store();
  if (!store->make_directory("d").ok()) std::abort();
  if (parts) put(*store, "zero_pp_rank_0_mp_rank_00_model_states.pt", data, n[0]), put(*store, "zero_pp_rank_1_mp_rank_00_model_states.pt", data, n[0]);
  else put(*store, "mp_rank_00_model_states.pt", data, n[0]);
  put(*store, "zero_pp_rank_0_mp_rank_00_optim_states.pt", data + n[0], n[1]);
  if (size > n[0] + n[1]) put(*store, "zero_pp_rank_1_mp_rank_00_optim_states.pt", data + n[0] + n[1], size - n[0] - n[1]);
  const auto there = ingot::look_at(*store, "d");
  if (!there.ok()) std::abort();
  const auto a = ingot::open_deepspeed(*store, *there);
  if (!a.ok()) return 0;
  for (const auto& t : a->tensors)
    if (ingot::bytes_of(t.spec()) <= 1 << 20) (void)ingot::evaluate(t.node);
  return 0;
}
