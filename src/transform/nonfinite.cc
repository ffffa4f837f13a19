#include "transform/nonfinite.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "exec/load.h"

namespace ingot::transform {
namespace {

// How the bits of a number say what it is: all of `exponent` set is infinity, or NaN with any of `mantissa`; of the 8-bit types without infinities the NaN are
// listed by two patterns of the bits that count.
struct Ieee {
  uint32_t exponent, mantissa;
};
constexpr Ieee kF32{0x7F800000, 0x007FFFFF}, kF16{0x7C00, 0x03FF}, kBF16{0x7F80, 0x007F}, kE5M2{0x7C, 0x03};

template <class U>
U load_bits(const std::byte* p) {
  U u;
  std::memcpy(&u, p, sizeof u);
  return u;
}

// Mostly there are none, so that pieces are only asked whether they have any; that loop the compiler makes of vectors.
template <class U, Ieee F>
Nonfinite dense(const std::byte* p, size_t n) {
  constexpr size_t kPiece = 4096;
  constexpr U exponent = static_cast<U>(F.exponent), mantissa = static_cast<U>(F.mantissa);
  Nonfinite all;
  for (size_t i = 0; i < n; i += kPiece) {
    const std::byte* piece = p + i * sizeof(U);
    const size_t size = std::min(kPiece, n - i);
    U any = 0;
    for (size_t k = 0; k < size; ++k) any |= static_cast<U>((load_bits<U>(piece + k * sizeof(U)) & exponent) == exponent ? ~U{0} : U{0});
    for (size_t k = 0; any && k < size; ++k) {
      const U u = load_bits<U>(piece + k * sizeof(U));
      if ((u & exponent) != exponent) continue;
      ++(u & mantissa ? all.nan : all.infinite);
    }
  }
  return all;
}

Nonfinite dense64(const std::byte* p, size_t n) {
  constexpr uint64_t kExponent = 0x7FF0000000000000, kMantissa = ~uint64_t{0} >> 12;
  Nonfinite all;
  for (size_t i = 0; i < n; ++i) {
    const auto u = load_bits<uint64_t>(p + i * 8);
    if ((u & kExponent) == kExponent) ++(u & kMantissa ? all.nan : all.infinite);
  }
  return all;
}

// One byte, whose bits under `mask` are `nan` of a NaN.
template <uint8_t mask, uint8_t nan>
Nonfinite bytes(const std::byte* p, size_t n) {
  Nonfinite all;
  for (size_t i = 0; i < n; ++i) all.nan += (std::to_integer<uint8_t>(p[i]) & mask) == nan;
  return all;
}

// IQ1_M keeps its scale, an f16, in the highest four bits of four numbers of 16, the lowest first.
Nonfinite in_nibbles(const std::byte* p, size_t n) {
  Nonfinite all;
  for (size_t i = 0; i < n; ++i, p += 8) {
    uint16_t scale = 0;
    for (int k = 0; k < 4; ++k) scale = static_cast<uint16_t>(scale | (load_bits<uint16_t>(p + 2 * k) >> 12) << 4 * k);
    const Nonfinite one = dense<uint16_t, kF16>(reinterpret_cast<const std::byte*>(&scale), 1);
    all.nan += one.nan, all.infinite += one.infinite;
  }
  return all;
}

using Count = Nonfinite (*)(const std::byte* p, size_t n);
constexpr Count kCountF32 = dense<uint32_t, kF32>, kCountF16 = dense<uint16_t, kF16>, kCountE8M0 = bytes<0xFF, 0xFF>;
// Where numbers lie in an element of a type. Of the block types: ggml-common.h of llama.cpp.
struct Row {
  DType type;
  Looked looked;
  Count count;
  int numbers;       // one after another from `at` on
  int at, size;      // bytes: of the first within an element, and of each
};
constexpr Row kRows[] = {
    {DType::kF32, Looked::kValues, kCountF32, 1, 0, 4},
    {DType::kF16, Looked::kValues, kCountF16, 1, 0, 2},
    {DType::kBF16, Looked::kValues, dense<uint16_t, kBF16>, 1, 0, 2},
    {DType::kF64, Looked::kValues, dense64, 1, 0, 8},
    {DType::kC64, Looked::kValues, kCountF32, 2, 0, 4},
    {DType::kF8E5M2, Looked::kValues, dense<uint8_t, kE5M2>, 1, 0, 1},
    {DType::kF8E4M3, Looked::kValues, bytes<0x7F, 0x7F>, 1, 0, 1},
    {DType::kF8E8M0, Looked::kValues, kCountE8M0, 1, 0, 1},
    {DType::kF8E4M3Fnuz, Looked::kValues, bytes<0xFF, 0x80>, 1, 0, 1},
    {DType::kF8E5M2Fnuz, Looked::kValues, bytes<0xFF, 0x80>, 1, 0, 1},
    {DType::kQ4_0, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kQ4_1, Looked::kScales, kCountF16, 2, 0, 2},
    {DType::kQ5_0, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kQ5_1, Looked::kScales, kCountF16, 2, 0, 2},
    {DType::kQ8_0, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kQ8_1, Looked::kScales, kCountF16, 2, 0, 2},
    {DType::kQ2_K, Looked::kScales, kCountF16, 2, 80, 2},
    {DType::kQ3_K, Looked::kScales, kCountF16, 1, 108, 2},
    {DType::kQ4_K, Looked::kScales, kCountF16, 2, 0, 2},
    {DType::kQ5_K, Looked::kScales, kCountF16, 2, 0, 2},
    {DType::kQ6_K, Looked::kScales, kCountF16, 1, 208, 2},
    {DType::kQ8_K, Looked::kScales, kCountF32, 1, 0, 4},
    {DType::kIQ2_XXS, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kIQ2_XS, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kIQ3_XXS, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kIQ1_S, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kIQ4_NL, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kIQ3_S, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kIQ2_S, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kIQ4_XS, Looked::kScales, kCountF16, 1, 0, 2},
    {DType::kTQ1_0, Looked::kScales, kCountF16, 1, 52, 2},
    {DType::kTQ2_0, Looked::kScales, kCountF16, 1, 64, 2},
    {DType::kIQ1_M, Looked::kScales, in_nibbles, 1, 48, 8},
    {DType::kMXFP4, Looked::kScales, kCountE8M0, 1, 0, 1},
    // Its scales are E4M3 without a sign, of which every code is read as a number.
    {DType::kNVFP4, Looked::kNothing, nullptr, 0, 0, 0}};

const Row* row_of(DType t) {
  const auto* it = std::find_if(std::begin(kRows), std::end(kRows), [t](const Row& r) { return r.type == t; });
  return it == std::end(kRows) ? nullptr : it;
}

// Two counts as doubles, which merge by adding.
class Count2 final : public Fold {
 public:
  explicit Count2(NodePtr in) : in_(std::move(in)) {}
  std::string describe() const override { return "nonfinite 1"; }
  std::vector<NodePtr> inputs() const override { return {in_}; }
  std::vector<TensorSpec> outputs() const override { return {{DType::kF64, {2}}}; }
  int64_t chunk() const override { return 1 << 16; }
  Status add(const std::vector<View>& in, MutByteView state, MutByteView) const override {
    const Nonfinite n = nonfinite_in(in[0].type, {in[0].data, bytes_of(in[0].type, in[0].region.elements())});
    auto* s = reinterpret_cast<double*>(state.data());
    s[0] += static_cast<double>(n.nan), s[1] += static_cast<double>(n.infinite);
    return {};
  }
  Status merge(MutByteView state, ByteView later) const override {
    for (int i = 0; i < 2; ++i) reinterpret_cast<double*>(state.data())[i] += reinterpret_cast<const double*>(later.data())[i];
    return {};
  }

 private:
  NodePtr in_;
};

}  // namespace

Looked looked_at(DType t) {
  if (const Row* r = row_of(t)) return r->looked;
  return is_block_type(t) && info(t).st_name.empty() ? Looked::kUnknown : Looked::kNothing;
}

Nonfinite nonfinite_in(DType t, ByteView elements) {
  const Row* r = row_of(t);
  if (!r || !r->count) return {};
  const auto item = static_cast<size_t>(info(t).bytes), numbers = static_cast<size_t>(r->numbers);
  const size_t n = elements.size() / item;
  if (item == numbers * static_cast<size_t>(r->size)) return r->count(elements.data(), n * numbers);
  Nonfinite all;
  for (size_t i = 0; i < n; ++i) {
    const Nonfinite one = r->count(elements.data() + i * item + r->at, numbers);
    all.nan += one.nan, all.infinite += one.infinite;
  }
  return all;
}

Result<std::vector<Nonfinite>> nonfinite(const std::vector<LazyTensor>& tensors, const ExecOptions& options) {
  std::vector<std::array<double, 2>> rows(tensors.size());
  std::vector<LazyTensor> folds;
  std::vector<MutByteView> into;
  for (size_t i = 0; i < tensors.size(); ++i) {
    folds.push_back({std::to_string(i), std::make_shared<FoldOutput>(std::make_shared<Count2>(tensors[i].node), 0)});
    into.push_back({reinterpret_cast<std::byte*>(rows[i].data()), sizeof rows[i]});
  }
  INGOT_TRY(load(TensorList(std::move(folds)), into, options));
  std::vector<Nonfinite> all;
  for (const auto& r : rows) all.push_back({static_cast<uint64_t>(r[0]), static_cast<uint64_t>(r[1])});
  return all;
}

}  // namespace ingot::transform
