// Compiles the including file once for each target. No include guard: it is meant to be entered again.
//
//   #define INGOT_TARGET_FILE "quant/k_affine.cc"   // the including file itself
//   #include "kernels/foreach_target.h"
//   #include "kernels/target_begin.h"   // namespace ingot::INGOT_TARGET, with its instruction set and simd
//   type
//     void my_kernel(...) { F32 a = load(p); ... }
//   #include "kernels/target_end.h"
//   #if INGOT_LAST_TARGET
//     namespace ingot { void f(...) { INGOT_DISPATCH(my_kernel)(...); } }
//   #endif
//
// The file must include every other header before this one: inside a target only its own code may be
// compiled. The last pass is the including file itself, as the scalar target.
#include "kernels/dispatch.h"

#ifndef INGOT_TARGET_FILE
#error "define INGOT_TARGET_FILE first"
#endif

#ifndef INGOT_FOREACH_ACTIVE
#define INGOT_FOREACH_ACTIVE

// For the few functions that hold the loops: inlined into every caller they only cost time to compile (under
// sanitizers, minutes).
#define INGOT_NOINLINE __attribute__((noinline))

#if defined(__x86_64__)
// GCC 12 takes its own intrinsics' deliberately undefined registers for uninitialized variables.
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#define INGOT_TARGET avx512
#define INGOT_TARGET_ID 2
#include INGOT_TARGET_FILE
#undef INGOT_TARGET
#undef INGOT_TARGET_ID
#define INGOT_TARGET avx2
#define INGOT_TARGET_ID 1
#include INGOT_TARGET_FILE
#undef INGOT_TARGET
#undef INGOT_TARGET_ID
#endif

#define INGOT_TARGET scalar
#define INGOT_TARGET_ID 0
#define INGOT_LAST_TARGET 1

#endif
