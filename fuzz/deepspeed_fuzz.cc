// Fuzzes DeepSpeed's directories: u32 size and bytes of the model states and of rank 0's optimizer states, the rest is rank 1's. A first byte of 3 names the model
// states as stage 3 does, for each rank.
#include <cstring>

#include "formats/formats.h"
#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 9) return 0;
  uint32_t n[2];
  std::memcpy(n, data + 1, sizeof n);
  const std::string_view bytes = ingot::fuzzing::text(data + 9, size - 9);
  if (n[0] > bytes.size() || n[1] > bytes.size() - n[0]) return 0;
  auto store = ingot::make_memory_store();
  const auto put = [&](const char* name, std::string_view part) { ingot::fuzzing::put(*store, std::string("d/") + name, part); };
  if (data[0] == 3)
    for (const char* name : {"zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_pp_rank_1_mp_rank_00_model_states.pt"}) put(name, bytes.substr(0, n[0]));
  else
    put("mp_rank_00_model_states.pt", bytes.substr(0, n[0]));
  put("zero_pp_rank_0_mp_rank_00_optim_states.pt", bytes.substr(n[0], n[1]));
  if (bytes.size() > n[0] + n[1]) put("zero_pp_rank_1_mp_rank_00_optim_states.pt", bytes.substr(n[0] + n[1]));
  const auto there = ingot::look_at(*store, "d");
  if (!there.ok()) std::abort();
  if (const auto a = ingot::open_deepspeed(*store, *there); a.ok()) ingot::fuzzing::read_all(*a);
  return 0;
}
