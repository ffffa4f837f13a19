// Opens namespace ingot::INGOT_TARGET under that target's instruction set; target_end.h closes it.
// Sixteen-lane values F32, I32, Mask and their operations come from simd_*.h (simd_scalar.h documents them).
#if INGOT_TARGET_ID == 2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#include "kernels/simd_avx512.h"
#elif INGOT_TARGET_ID == 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#include "kernels/simd_avx2.h"
#else
#include "kernels/simd_scalar.h"
#endif

namespace ingot {
namespace INGOT_TARGET {
namespace {  // kernels are reached by INGOT_DISPATCH in their own file only; names may repeat between files
