// The f32 product. A task is a panel of rows: one token reads the weights in their own type once, straight
// from memory; many tokens get the panel expanded to f32 in the second-level cache and register tiles over
// it.
//
// Each output is one vector of 16 running sums over k, folded at the end: whatever the tile, the same sum.
#include "infer/matmul.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "infer/packed.h"

#define INGOT_TARGET_FILE "infer/matmul.cc"
#include "kernels/foreach_target.h"
#include "kernels/target_begin.h"

// Accumulators of a tile: as many as the registers hold.
#if INGOT_TARGET_ID == 2
constexpr int kTileRows = 4, kTileTokens = 6;
#elif INGOT_TARGET_ID == 1
constexpr int kTileRows = 2, kTileTokens = 3;
#else
constexpr int kTileRows = 2, kTileTokens = 2;
#endif

struct LoadF32 {
  static constexpr int64_t kBytes = 4;
  static inline F32 get(const std::byte* p) { return load(reinterpret_cast<const float*>(p)); }
};
struct LoadF16 {
  static constexpr int64_t kBytes = 2;
  static inline F32 get(const std::byte* p) { return load_f16(p); }
};
struct LoadBF16 {
  static constexpr int64_t kBytes = 2;
  static inline F32 get(const std::byte* p) { return from_bits(shl<16>(load_u16(p))); }
};

// The last n < 16 values of a row, zeros after them.
template <class L>
inline F32 load_tail(const std::byte* p, int64_t n) {
  std::byte b[16 * 4] = {};
  std::memcpy(b, p, static_cast<size_t>(n * L::kBytes));
  return L::get(b);
}

// Adds k in [0, n) of kR rows times kT tokens to the running sums s[r * kT + t]. Row strides in bytes.
template <class L, int kR, int kT>
inline void accumulate(const std::byte* w, int64_t w_stride, const float* x, int64_t x_stride, int64_t n,
                       F32* s) {
  F32 acc[kR * kT];
  for (int i = 0; i < kR * kT; ++i) acc[i] = s[i];
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) {
    F32 a[kR];
    for (int r = 0; r < kR; ++r) a[r] = L::get(w + r * w_stride + k * L::kBytes);
    for (int t = 0; t < kT; ++t) {
      const F32 b = load(x + t * x_stride + k);
      for (int r = 0; r < kR; ++r) acc[r * kT + t] = fma(a[r], b, acc[r * kT + t]);
    }
  }
  if (k < n)
    for (int t = 0; t < kT; ++t) {
      const F32 b = load_tail<LoadF32>(reinterpret_cast<const std::byte*>(x + t * x_stride + k), n - k);
      for (int r = 0; r < kR; ++r)
        acc[r * kT + t] = fma(load_tail<L>(w + r * w_stride + k * L::kBytes, n - k), b, acc[r * kT + t]);
    }
  for (int i = 0; i < kR * kT; ++i) s[i] = acc[i];
}

#if INGOT_TARGET_ID == 1
// The same of f32, the sixteen lanes in two halves: twelve sums, the rows' values and a token's fill the sixteen registers, and each value is loaded once.
template <int kR, int kT>
inline void accumulate_f32(const float* w, int64_t w_stride, const float* x, int64_t x_stride, int64_t n, F32* s) {
  __m256 low[kR * kT], high[kR * kT];
  for (int i = 0; i < kR * kT; ++i) low[i] = s[i].lo, high[i] = s[i].hi;
  const int64_t whole = n / 16 * 16;
  const auto half = [&](const float* wk, const float* xk, __m256* acc) {
    __m256 a[kR];
    for (int r = 0; r < kR; ++r) a[r] = _mm256_loadu_ps(wk + r * w_stride);
    for (int t = 0; t < kT; ++t) {
      const __m256 b = _mm256_loadu_ps(xk + t * x_stride);
      for (int r = 0; r < kR; ++r) acc[r * kT + t] = _mm256_fmadd_ps(a[r], b, acc[r * kT + t]);
    }
  };
  for (int64_t k = 0; k < whole; k += 16) {
    half(w + k, x + k, low);
    half(w + k + 8, x + k + 8, high);
  }
  for (int i = 0; i < kR * kT; ++i) s[i] = F32{low[i], high[i]};
  if (whole < n) accumulate<LoadF32, kR, kT>(reinterpret_cast<const std::byte*>(w + whole), w_stride * 4, x + whole, x_stride, n - whole, s);
}
#else
template <int kR, int kT>
inline void accumulate_f32(const float* w, int64_t w_stride, const float* x, int64_t x_stride, int64_t n, F32* s) {
  accumulate<LoadF32, kR, kT>(reinterpret_cast<const std::byte*>(w), w_stride * 4, x, x_stride, n, s);
}
#endif

// One token: y[r] for n_rows rows, as they lie in memory.
template <class L>
inline void rows_by_one(const std::byte* w, int64_t w_stride, const float* x, int64_t cols, int64_t n_rows,
                        float* y) {
  int64_t r = 0;
  for (; r + 4 <= n_rows; r += 4) {
    F32 s[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    accumulate<L, 4, 1>(w + r * w_stride, w_stride, x, 0, cols, s);
    for (int i = 0; i < 4; ++i) y[r + i] = sum_lanes(s[i]);
  }
  for (; r < n_rows; ++r) {
    F32 s[1] = {splat(0.0f)};
    accumulate<L, 1, 1>(w + r * w_stride, w_stride, x, 0, cols, s);
    y[r] = sum_lanes(s[0]);
  }
}

void rows_f32(const std::byte* w, int64_t stride, const float* x, int64_t cols, int64_t n, float* y) {
  rows_by_one<LoadF32>(w, stride, x, cols, n, y);
}
void rows_f16(const std::byte* w, int64_t stride, const float* x, int64_t cols, int64_t n, float* y) {
  rows_by_one<LoadF16>(w, stride, x, cols, n, y);
}
void rows_bf16(const std::byte* w, int64_t stride, const float* x, int64_t cols, int64_t n, float* y) {
  rows_by_one<LoadBF16>(w, stride, x, cols, n, y);
}

// Where the outputs of a panel go, and their running sums [rows, ld] while columns are left.
struct Outputs {
  float* y;
  int64_t y_stride;
  F32* sums;
  int64_t ld;
  bool first, last;  // chunk of columns
};

// Part of a panel in f32 [rows, cols] times `tokens` tokens, from row r and token t on; k in chunks that stay in the caches.
template <int kR, int kT>
inline void tile(const float* w, int64_t cols, const float* x, int64_t n, const Outputs& out, int64_t row, int64_t token) {
  F32 s[kR * kT];
  F32* kept = out.sums + row * out.ld + token;
  for (int r = 0; r < kR; ++r)
    for (int t = 0; t < kT; ++t) s[r * kT + t] = out.first ? splat(0.0f) : kept[r * out.ld + t];
  accumulate_f32<kR, kT>(w, cols, x, cols, n, s);
  for (int r = 0; r < kR; ++r)
    for (int t = 0; t < kT; ++t) {
      if (out.last) out.y[(token + t) * out.y_stride + row + r] = sum_lanes(s[r * kT + t]);
      else kept[r * out.ld + t] = s[r * kT + t];
    }
}

template <int kT>
inline void tile_rows(const float* w, int64_t rows, int64_t cols, const float* x, int64_t n, const Outputs& out, int64_t token) {
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) tile<kTileRows, kT>(w + r * cols, cols, x, n, out, r, token);
  for (; r < rows; ++r) tile<1, kT>(w + r * cols, cols, x, n, out, r, token);
}

// y + t * y_stride + r. `sums_memory`: rows * tokens * 16 floats.
void panel(const float* w, int64_t rows, int64_t cols, const float* x, int64_t tokens, float* y, int64_t y_stride, float* sums_memory) {
  constexpr int64_t kChunk = 1024;
  Outputs out{y, y_stride, reinterpret_cast<F32*>(sums_memory), tokens, true, false};
  for (int64_t k = 0; k < cols; k += kChunk) {
    const int64_t n = std::min(kChunk, cols - k);
    out.first = k == 0, out.last = k + n == cols;
    int64_t t = 0;
    for (; t + kTileTokens <= tokens; t += kTileTokens) tile_rows<kTileTokens>(w + k, rows, cols, x + t * cols + k, n, out, t);
    for (; t < tokens; ++t) tile_rows<1>(w + k, rows, cols, x + t * cols + k, n, out, t);
  }
}

#include "kernels/target_end.h"

#if INGOT_LAST_TARGET
namespace ingot {
namespace {

constexpr int64_t kTokenBlock = 96;  // tokens whose running sums are kept at once

// Rows of a task: enough to amortize it, few enough that an expanded panel stays in the second-level cache.
int64_t panel_rows(const WeightMatrix& w, int64_t tokens) {
  if (tokens == 1) return std::clamp<int64_t>(65536 / w.cols / 4 * 4, 4, 256);
  return std::clamp<int64_t>(49152 / w.cols / 4 * 4, 4, 16);
}

// False when memory is short.
bool multiply_panel(WorkMemory& memory, int thread, const WeightMatrix& w, int64_t first, int64_t n, const float* x, int64_t tokens,
                    float* y) {
  if (tokens == 1) {
    const auto stride = static_cast<int64_t>(w.row_bytes);
    if (w.type == DType::kF32) return INGOT_DISPATCH(rows_f32)(w.row(first), stride, x, w.cols, n, y + first), true;
    if (w.type == DType::kF16) return INGOT_DISPATCH(rows_f16)(w.row(first), stride, x, w.cols, n, y + first), true;
    if (w.type == DType::kBF16) return INGOT_DISPATCH(rows_bf16)(w.row(first), stride, x, w.cols, n, y + first), true;
  }
  float* f32 = memory.floats(thread, 0, n * w.cols);
  if (!f32) return false;
  for (int64_t r = 0; r < n; ++r) decode_row(w, first + r, f32 + r * w.cols);
  if (tokens == 1) {
    INGOT_DISPATCH(rows_f32)(reinterpret_cast<const std::byte*>(f32), w.cols * 4, x, w.cols, n, y + first);
    return true;
  }
  float* sums = memory.floats(thread, 1, n * kTokenBlock * 16);
  if (!sums) return false;
  for (int64_t t = 0; t < tokens; t += kTokenBlock) INGOT_DISPATCH(panel)
  (f32, n, w.cols, x + t * w.cols, std::min(kTokenBlock, tokens - t), y + t * w.rows + first, w.rows, sums);
  return true;
}

}  // namespace

void WorkMemory::prepare(int threads) {
  if (threads_.size() < static_cast<size_t>(threads)) threads_ = std::vector<Thread>(static_cast<size_t>(threads));
}

float* WorkMemory::floats(int thread, int which, int64_t n) {
  Thread& t = threads_[static_cast<size_t>(thread)];
  if (t.sizes[which] < n) {
    t.buffers[which] = allocate_aligned(static_cast<uint64_t>(n) * sizeof(float));
    t.sizes[which] = t.buffers[which] ? n : 0;
  }
  return reinterpret_cast<float*>(t.buffers[which].get());
}

Status multiply(ThreadPool& pool, WorkMemory& memory, const float* x, int64_t tokens, std::span<const Product> products) {
  auto& list = memory.shares;
  Int8Activations& int8 = memory.rounded;
  list.clear();
  int64_t work = 0;
  bool any_packed = false, any_tiles = false;
  const bool by_tiles = tokens > 1 || memory.one_by_tiles;
  for (const Product& p : products) {
    int64_t step = panel_rows(*p.w, tokens), n = p.w->rows;
    if (p.w->packed) {
      any_packed = true;
      step = tokens == 1 ? std::max<int64_t>(1, step / 16) : 1;
      n = (p.w->rows + 15) / 16;
    }
    if (p.w->by_tiles && by_tiles) {
      any_tiles = true;
      step = std::clamp<int64_t>(n / (4 * pool.threads()) / 32 * 32, 32, kTileShare);
    }
    for (int64_t r = 0; r < n; r += step) list.push_back({&p, r, std::min(step, n - r)});
    work += p.w->rows * p.w->cols * tokens;
  }
  if (any_tiles) memory.parts.split(pool, x, tokens, products[0].w->cols);
  if (any_packed) int8.quantize(pool, x, tokens, products[0].w->cols);
  std::atomic<bool> no_memory{false};
  auto one = [&](int64_t i, int thread) {
    const WorkMemory::Share& t = list[static_cast<size_t>(i)];
    const WeightMatrix& w = *t.product->w;
    bool done = true;
    if (w.packed) {
      multiply_strips(*w.packed, t.first, t.first + t.n, int8, t.product->y);
    } else if (w.by_tiles && by_tiles) {
      auto* room = reinterpret_cast<std::byte*>(memory.floats(thread, 0, tile_work_bytes(w, tokens) / 4));
      if (room) multiply_by_tiles(w, t.first, t.n, memory.parts, room, t.product->y);
      done = room != nullptr;
    } else {
      done = multiply_panel(memory, thread, w, t.first, t.n, x, tokens, t.product->y);
    }
    if (!done) no_memory = true;
  };
  const int64_t n = static_cast<int64_t>(list.size());
  if (work < 32768)
    for (int64_t i = 0; i < n; ++i) one(i, 0);
  else
    pool.parallel_for(n, one);
  return no_memory ? Status(failed("no memory to multiply {} tokens with {}", tokens, products[0].w->name)) : Status();
}

}  // namespace ingot
#endif
