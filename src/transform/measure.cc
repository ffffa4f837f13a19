#include "transform/measure.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "exec/evaluate.h"
#include "exec/load.h"
#include "quant/codec.h"
#include "quant/decode.h"

namespace ingot::transform {
namespace {

constexpr int64_t kChunk = 1 << 16;  // elements: what fits a core's cache as doubles

template <class T>
void widen(const std::byte* in, int64_t n, double* out) {
  for (int64_t i = 0; i < n; ++i) {
    T v;
    std::memcpy(&v, in + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    out[i] = static_cast<double>(v);
  }
}

// What does not fit an f32.
constexpr std::pair<DType, void (*)(const std::byte*, int64_t, double*)> kWide[] = {
    {DType::kF64, widen<double>},  {DType::kI8, widen<int8_t>},   {DType::kI16, widen<int16_t>},  {DType::kI32, widen<int32_t>},  {DType::kI64, widen<int64_t>},
    {DType::kBool, widen<uint8_t>}, {DType::kU8, widen<uint8_t>}, {DType::kU16, widen<uint16_t>}, {DType::kU32, widen<uint32_t>}, {DType::kU64, widen<uint64_t>}};

// The values of n elements; `floats` has room for as many.
void read_values(const View& v, int64_t n, float* floats, double* out) {
  for (const auto& [type, read] : kWide)
    if (type == v.type) return read(v.data, n, out);
  find_decode(v.type)(v.data, n, floats);
  std::copy(floats, floats + n, out);
}

int64_t at_of(const Region& region, const Shape& whole, int64_t i) {
  const Shape index = index_in(region, i);
  int64_t at = 0;
  for (int d = 0; d < whole.rank; ++d) at += index[d] * whole.stride(d);
  return at;
}

constexpr int64_t kPiece = 4096;
constexpr uint64_t kPieceBytes = kPiece * (sizeof(float) + 2 * sizeof(double));

// A fold with one output, a row of doubles; chunks may be larger than asked for, and come as they are.
class Measure : public Fold {
 public:
  Measure(std::vector<NodePtr> in, int64_t slots) : in_(std::move(in)), slots_(slots) {}
  std::vector<NodePtr> inputs() const override { return in_; }
  std::vector<TensorSpec> outputs() const override { return {{DType::kF64, {slots_}}}; }
  int64_t chunk() const override { return kChunk; }
  const Shape& shape() const { return shape_; }
  uint64_t workspace() const override { return kPieceBytes; }
  Status merge(MutByteView state, ByteView later) const override {
    join(reinterpret_cast<double*>(state.data()), reinterpret_cast<const double*>(later.data()));
    return {};
  }

 protected:
  // Takes what was measured of other elements, later ones, into `s`.
  virtual void join(double* s, const double* other) const = 0;
  std::vector<NodePtr> in_;
  Shape shape_ = in_[0]->spec().shape;

 private:
  int64_t slots_;
};

// Pieces of a chunk as doubles, whatever its size: f(first element within the chunk, values of each input).
template <class F>
void for_each_piece(const std::vector<View>& in, MutByteView workspace, F f) {
  auto* a = reinterpret_cast<double*>(workspace.data());
  double* b = a + kPiece;
  auto* floats = reinterpret_cast<float*>(b + kPiece);
  const int64_t n = in[0].region.elements();
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t size = std::min(kPiece, n - i);
    for (size_t k = 0; k < in.size(); ++k) {
      View v = in[k];
      v.data += bytes_of(v.type, i);
      read_values(v, size, floats, k ? b : a);
    }
    f(i, size, a, b);
  }
}

class Values final : public Measure {
 public:
  enum { kCount, kNan, kInfinite, kZero, kFinite, kMin, kMax, kSum, kSquares, kFirst, kSlots };  // kFirst: counted from 1
  explicit Values(NodePtr in) : Measure({std::move(in)}, kSlots) {}
  std::string describe() const override { return "measure 1"; }
  Status add(const std::vector<View>& in, MutByteView state, MutByteView workspace) const override {
    auto* s = reinterpret_cast<double*>(state.data());
    for_each_piece(in, workspace, [&](int64_t from, int64_t n, const double* v, const double*) {
      double one[kSlots] = {};
      one[kCount] = static_cast<double>(n);
      one[kMin] = INFINITY, one[kMax] = -INFINITY;
      for (int64_t i = 0; i < n; ++i) {
        const bool finite = std::isfinite(v[i]);
        const double x = finite ? v[i] : 0;
        one[kFinite] += finite;
        one[kZero] += v[i] == 0;
        one[kSum] += x;
        one[kSquares] += x * x;
        one[kMin] = finite && x < one[kMin] ? x : one[kMin];
        one[kMax] = finite && x > one[kMax] ? x : one[kMax];
      }
      for (int64_t i = 0; one[kFinite] < one[kCount] && i < n; ++i) {
        one[kNan] += std::isnan(v[i]);
        one[kInfinite] += std::isinf(v[i]);
        if (!std::isfinite(v[i]) && one[kFirst] == 0) one[kFirst] = static_cast<double>(at_of(in[0].region, shape(), from + i) + 1);
      }
      join(s, one);
    });
    return {};
  }

 private:
  void join(double* s, const double* other) const override {
    if (other[kFinite] > 0) {
      s[kMin] = s[kFinite] > 0 ? std::min(s[kMin], other[kMin]) : other[kMin];
      s[kMax] = s[kFinite] > 0 ? std::max(s[kMax], other[kMax]) : other[kMax];
    }
    for (int i : {kCount, kNan, kInfinite, kZero, kFinite, kSum, kSquares}) s[i] += other[i];
    if (s[kFirst] == 0) s[kFirst] = other[kFirst];
  }
};

class Bins final : public Measure {
 public:
  Bins(NodePtr in, double min, double max, int bins) : Measure({std::move(in)}, bins), min_(min), max_(max), bins_(bins) {}
  std::string describe() const override { return fmt::format("histogram 1|{}|{}|{}", min_, max_, bins_); }
  Status add(const std::vector<View>& in, MutByteView state, MutByteView workspace) const override {
    auto* s = reinterpret_cast<double*>(state.data());
    const double scale = max_ > min_ ? bins_ / (max_ - min_) : 0;
    for_each_piece(in, workspace, [&](int64_t, int64_t n, const double* v, const double*) {
      for (int64_t i = 0; i < n; ++i)
        if (v[i] >= min_ && v[i] <= max_) s[std::min(bins_ - 1, static_cast<int>((v[i] - min_) * scale))] += 1;
    });
    return {};
  }

 private:
  void join(double* s, const double* other) const override {
    for (int i = 0; i < bins_; ++i) s[i] += other[i];
  }
  double min_, max_;
  int bins_;
};

class Pair final : public Measure {
 public:
  enum { kCount, kUnequalBytes, kDifferent, kNonfinite, kMax, kSum, kSquaredError, kAA, kBB, kAB, kWorst, kSlots };  // kWorst: counted from 1
  Pair(NodePtr a, NodePtr b) : Measure({a, b}, kSlots), one_type_(a->spec().type == b->spec().type), values_(has_values(a->spec().type) && has_values(b->spec().type)) {}
  std::string describe() const override { return "difference 1"; }
  Status add(const std::vector<View>& in, MutByteView state, MutByteView workspace) const override {
    auto* s = reinterpret_cast<double*>(state.data());
    const bool same = one_type_ && std::memcmp(in[0].data, in[1].data, bytes_of(in[0].type, in[0].region.elements())) == 0;
    if (!same) s[kUnequalBytes] = 1;
    if (!values_) {
      s[kCount] += static_cast<double>(in[0].region.elements());
      return {};
    }
    for_each_piece(in, workspace, [&](int64_t from, int64_t n, const double* a, const double* b) {
      double one[kSlots] = {};
      one[kCount] = static_cast<double>(n);
      int64_t worst = -1;
      for (int64_t i = 0; i < n; ++i) {
        const double d = std::fabs(a[i] - b[i]);
        if (std::isfinite(d)) {
          one[kSum] += d;
          one[kSquaredError] += d * d;
          one[kAA] += a[i] * a[i];
          one[kBB] += b[i] * b[i];
          one[kAB] += a[i] * b[i];
          one[kDifferent] += d != 0;
          if (d > one[kMax]) one[kMax] = d, worst = i;
        } else if (!(a[i] == b[i]) && !(std::isnan(a[i]) && std::isnan(b[i]))) {
          one[kDifferent] += 1;
          one[kNonfinite] += 1;
        }
      }
      if (worst >= 0) one[kWorst] = static_cast<double>(at_of(in[0].region, shape(), from + worst) + 1);
      join(s, one);
    });
    return {};
  }

 private:
  void join(double* s, const double* other) const override {
    if (other[kMax] > s[kMax]) s[kMax] = other[kMax], s[kWorst] = other[kWorst];
    s[kUnequalBytes] = std::max(s[kUnequalBytes], other[kUnequalBytes]);
    for (int i : {kCount, kDifferent, kNonfinite, kSum, kSquaredError, kAA, kBB, kAB}) s[i] += other[i];
  }
  bool one_type_, values_;
};

// The rows of doubles that the folds make.
Result<std::vector<std::vector<double>>> run(const std::vector<FoldPtr>& folds, const ExecOptions& options) {
  std::vector<std::vector<double>> rows;
  std::vector<LazyTensor> tensors;
  std::vector<MutByteView> into;
  for (const auto& f : folds) {
    tensors.push_back({std::to_string(tensors.size()), std::make_shared<FoldOutput>(f, 0)});
    rows.emplace_back(static_cast<size_t>(tensors.back().spec().shape[0]));
  }
  for (auto& r : rows) into.push_back({reinterpret_cast<std::byte*>(r.data()), r.size() * sizeof(double)});
  INGOT_TRY(load(TensorList(std::move(tensors)), into, options));
  return rows;
}

uint64_t whole(double v) { return static_cast<uint64_t>(v); }

}  // namespace

bool has_values(DType t) {
  return find_decode(t) || std::any_of(std::begin(kWide), std::end(kWide), [t](const auto& row) { return row.first == t; });
}

double TensorDifference::relative() const { return squared_error == 0 ? 0 : std::sqrt(squared_error / squares_b); }
double TensorDifference::cosine() const {
  if (squared_error == 0) return 1;
  return squares_a == 0 || squares_b == 0 ? 0 : product / std::sqrt(squares_a) / std::sqrt(squares_b);
}

Result<std::vector<TensorMeasure>> measure(const std::vector<LazyTensor>& tensors, const ExecOptions& options) {
  std::vector<FoldPtr> folds;
  for (const auto& t : tensors) {
    if (!has_values(t.spec().type)) return bad_input("tensor {}: values of type {} cannot be read yet", tensor_text(*t.node, t.name), info(t.spec().type).name);
    folds.push_back(std::make_shared<Values>(t.node));
  }
  INGOT_ASSIGN(const auto rows, run(folds, options));
  std::vector<TensorMeasure> all;
  for (const auto& r : rows)
    all.push_back({whole(r[Values::kCount]), whole(r[Values::kNan]), whole(r[Values::kInfinite]), whole(r[Values::kZero]), r[Values::kMin], r[Values::kMax],
                   r[Values::kSum], r[Values::kSquares], static_cast<int64_t>(r[Values::kFirst]) - 1});
  return all;
}

Result<std::vector<double>> first_values(const LazyTensor& t, size_t count) {
  const TensorSpec spec = t.spec();
  if (!has_values(spec.type) || spec.shape.elements() == 0) return std::vector<double>();
  const Shape unit = t.node->granularity();
  Region r = Region::all(spec.shape);
  for (int i = 0; i < spec.shape.rank; ++i) {
    const uint64_t wanted = i + 1 == spec.shape.rank ? count : 1;
    r.extent[i] = std::min(spec.shape[i], static_cast<int64_t>(align_up(wanted, static_cast<uint64_t>(std::max<int64_t>(unit[i], 1)))));
  }
  INGOT_ASSIGN(const std::vector<std::byte> bytes, evaluate(t.node, r));
  const int64_t n = r.elements();
  std::vector<float> floats(static_cast<size_t>(n));
  std::vector<double> values(static_cast<size_t>(n));
  read_values({bytes.data(), r, spec.type}, n, floats.data(), values.data());
  values.resize(std::min(values.size(), count));
  return values;
}

Result<std::vector<uint64_t>> histogram(const LazyTensor& tensor, double min, double max, int bins, const ExecOptions& options) {
  INGOT_ASSIGN(const auto rows, run({std::make_shared<Bins>(tensor.node, min, max, bins)}, options));
  std::vector<uint64_t> counts;
  for (const double v : rows[0]) counts.push_back(whole(v));
  return counts;
}

Result<std::vector<TensorDifference>> differences(const std::vector<TensorPair>& pairs, const ExecOptions& options) {
  std::vector<FoldPtr> folds;
  for (const auto& p : pairs) folds.push_back(std::make_shared<Pair>(p.a, p.b));
  INGOT_ASSIGN(const auto rows, run(folds, options));
  std::vector<TensorDifference> all;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& r = rows[i];
    TensorDifference d;
    d.same_bytes = pairs[i].a->spec().type == pairs[i].b->spec().type && r[Pair::kUnequalBytes] == 0;
    d.count = whole(r[Pair::kCount]), d.different = whole(r[Pair::kDifferent]), d.nonfinite = whole(r[Pair::kNonfinite]);
    d.max_error = r[Pair::kMax], d.sum_error = r[Pair::kSum], d.squared_error = r[Pair::kSquaredError];
    d.squares_a = r[Pair::kAA], d.squares_b = r[Pair::kBB], d.product = r[Pair::kAB], d.worst = static_cast<int64_t>(r[Pair::kWorst]) - 1;
    all.push_back(d);
  }
  return all;
}

}  // namespace ingot::transform
