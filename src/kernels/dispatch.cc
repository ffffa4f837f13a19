// CPU detection and the forced target.
#include "kernels/dispatch.h"

#include <atomic>
#include <cstdlib>

namespace ingot {
namespace {

constexpr std::string_view kNames[] = {"scalar", "avx2", "avx512"};

bool machine_has(Target t) {
  if (t == Target::kScalar) return true;
#if defined(__x86_64__)
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (t == Target::kAvx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

int best() {
  int b = 0;
  for (int t = 0; t < 3; ++t)
    if (machine_has(static_cast<Target>(t))) b = t;
  return b;
}

int by_name(std::string_view name) {
  for (int t = 0; t < 3; ++t)
    if (name == kNames[t] && machine_has(static_cast<Target>(t))) return t;
  return -1;
}

int initial() {
  const char* env = std::getenv("INGOT_TARGET");
  const int t = env ? by_name(env) : -1;
  return t >= 0 ? t : best();
}

std::atomic<int> g_target{-1};

}  // namespace

Target active_target() {
  int t = g_target.load(std::memory_order_relaxed);
  if (t < 0) {
    t = initial();
    g_target.store(t, std::memory_order_relaxed);
  }
  return static_cast<Target>(t);
}

std::vector<std::string> supported_targets() {
  std::vector<std::string> names;
  for (int t = 0; t < 3; ++t)
    if (machine_has(static_cast<Target>(t))) names.emplace_back(kNames[t]);
  return names;
}

bool force_target(std::string_view name) {
  const int t = name.empty() ? initial() : by_name(name);
  if (t < 0) return false;
  g_target.store(t, std::memory_order_relaxed);
  return true;
}

std::string_view target_name(Target t) { return kNames[static_cast<int>(t)]; }

}  // namespace ingot
