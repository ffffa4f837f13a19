#include "infer/amx.h"

#include "kernels/dispatch.h"

#if defined(__x86_64__) && defined(__linux__)
extern "C" int arch_prctl(int code, unsigned long address) noexcept;  // of the C library, which declares it nowhere
#endif

namespace ingot {
namespace {

struct Tiles {
  bool bf16 = false, int8 = false;
};

Tiles of_machine() {
#if defined(__x86_64__) && defined(__linux__)
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512vnni")) return {};
  uint32_t a = 7, b = 0, c = 0, d = 0;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  constexpr uint32_t kBf16 = 1U << 22, kTile = 1U << 24, kInt8 = 1U << 25;
  if (!(d & kTile)) return {};
  // ARCH_REQ_XCOMP_PERM: the system keeps the tiles' state for threads of a process that has asked.
  constexpr int kRequest = 0x1023;
  constexpr unsigned long kTileData = 18;
  if (::arch_prctl(kRequest, kTileData) != 0) return {};
  return {(d & kBf16) != 0, (d & kInt8) != 0};
#else
  return {};
#endif
}

const Tiles& tiles() {
  static const Tiles t = of_machine();
  return t;
}

}  // namespace

bool machine_has_bf16_tiles() { return active_target() == Target::kAvx512 && tiles().bf16; }
bool machine_has_int8_tiles() { return active_target() == Target::kAvx512 && tiles().int8; }

}  // namespace ingot
