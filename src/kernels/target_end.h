// Closes what target_begin.h opened.
}  // namespace
}  // namespace INGOT_TARGET
}  // namespace ingot

#if INGOT_TARGET_ID != 0
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

// INGOT_DISPATCH(f): the function f of the active target. For use in namespace ingot after the last pass.
#ifndef INGOT_DISPATCH
#if defined(__x86_64__)
#define INGOT_DISPATCH(f)                                            \
  (::ingot::active_target() == ::ingot::Target::kAvx512 ? &avx512::f \
   : ::ingot::active_target() == ::ingot::Target::kAvx2 ? &avx2::f   \
                                                        : &scalar::f)
#else
#define INGOT_DISPATCH(f) (&scalar::f)
#endif
#endif
