#include "transform/cast.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "formats/hf_weights.h"
#include "kernels/cast.h"
#include "kernels/hash.h"
#include "quant/codec.h"
#include "quant/decode.h"

namespace ingot::transform {
namespace {

// Rows are cast in pieces of about this many elements: 64 KiB of f32, which stays in the first-level caches.
constexpr int64_t kPiece = 16 << 10;

struct Geometry {
  int64_t rows, cols;
};
// In row-major order.
bool before(const Shape& a, const Shape& b) {
  return std::lexicographical_compare(a.d.begin(), a.d.begin() + a.rank, b.d.begin(), b.d.begin() + b.rank);
}
Geometry geometry(const Region& r) {
  const int64_t cols = r.extent.back();
  return {cols ? r.elements() / cols : 0, cols};
}

class Cast final : public Node {
 public:
  Cast(std::string tensor, NodePtr input, const Codec& to, CastOptions options)
      : tensor_(std::move(tensor)), input_(std::move(input)), to_(to), options_(std::move(options)) {
    spec_ = input_->spec();
    from_ = spec_.type;
    decode_ = find_decode(from_);
    spec_.type = to.type;
    if (options_.counts) number_ = options_.counts->begin();
    describe_ = fmt::format("cast {} {}v{}", read_tag(from_), info(to.type).name, to.version);
    if (options_.effort != Effort::kNormal && !to_.holds_nonfinite) describe_ += options_.effort == Effort::kFast ? " fast" : " best";
    if (options_.importance)
      describe_ += " imatrix " + (options_.importance_key.empty() ? to_hex(hash128(std::as_bytes(std::span(*options_.importance)))) : options_.importance_key);
  }

  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return describe_; }
  std::vector<NodePtr> inputs() const override { return {input_}; }
  Shape granularity() const override {
    return joined_granularity(Node::granularity(), *input_);
  }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({input_, r, false}); }
  void trace(Origin* o) const override { input_->trace(o); }
  NodePtr unrounded() const override { return options_.provisional ? input_ : nullptr; }
  uint64_t workspace(const Region& r) const override {
    if (from_ == DType::kF32 || to_.type == DType::kF32) return 0;
    const auto g = geometry(r);
    return static_cast<uint64_t>(piece_rows(g) * g.cols) * sizeof(float);
  }

  Status compute(const Compute& c) const override {
    const auto g = geometry(c.region);
    const int64_t step = piece_rows(g);
    const std::byte* in = c.inputs[0].data;
    for (int64_t row = 0; row < g.rows; row += step) {
      const int64_t n = std::min(step, g.rows - row) * g.cols, done = row * g.cols;
      std::byte* out = c.out.data() + bytes_of(to_.type, done);
      const std::byte* from = in + bytes_of(from_, done);
      const float* x = reinterpret_cast<const float*>(from);
      if (from_ != DType::kF32) {
        float* f = reinterpret_cast<float*>(to_.type == DType::kF32 ? out : c.workspace.data());
        decode_(from, n, f);
        if (from_ == DType::kF64) INGOT_TRY(check_f64(c.region, done, from, f, n));
        x = f;
      }
      if (to_.type == DType::kF32) {
        if (count_nonfinite(x, n)) count(c.region, done, x, n);
        continue;
      }
      if (!to_.holds_nonfinite) {
        if (const int64_t bad = first_beyond(x, n, to_.max_abs); bad >= 0) return refuse(c.region, done + bad, x[bad]);
      }
      encode(c.region, row, n / g.cols, g.cols, x, out);
      if (to_.holds_nonfinite) INGOT_TRY(check_overflow(c.region, done, x, n, out));
    }
    return {};
  }

 private:
  static int64_t piece_rows(Geometry g) {
    return g.cols ? std::clamp<int64_t>(kPiece / g.cols, 1, std::max<int64_t>(g.rows, 1)) : 1;
  }
  // The values x, elements from `first` on of the region, hold NaN or infinity. Rows may come in another order than the
  // input's; within a row the order is the input's.
  void count(const Region& region, int64_t first, const float* x, int64_t n) const {
    if (!options_.counts) return;
    const int64_t cols = region.extent.rank > 1 ? region.extent.back() : 1;
    CastCounts::Tensor t;
    for (int64_t row = 0; row < n; row += cols) {
      bool any = false;
      for (int64_t i = row; i < row + cols; ++i) {
        if (std::isfinite(x[i])) continue;
        ++(std::isnan(x[i]) ? t.nan : t.infinite);
        if (std::exchange(any, true)) continue;
        Origin o = origin_of(*this, index_in(region, first + i));
        if (t.count() == 1 || before(o.index, t.first.index)) t.first = std::move(o);
      }
    }
    if (t.first.tensor.empty()) t.first.tensor = tensor_;
    options_.counts->add(number_, t);
  }

  void encode(const Region& region, int64_t row, int64_t n_rows, int64_t cols, const float* x, std::byte* out) const {
    const int last = region.extent.rank - 1;
    if (!options_.importance || last < 0) return to_.encode(x, n_rows, cols, {nullptr, options_.effort}, out);
    const auto& imp = *options_.importance;
    const int64_t width = spec_.shape.back(), matrices = static_cast<int64_t>(imp.size()) / width;
    // The matrix of a row is its index in dimension 0 of a 3-D tensor (the expert).
    const int64_t per_matrix = matrices > 1 && region.extent.rank > 2 ? region.extent.stride(0) / cols : INT64_MAX;
    for (int64_t i = 0, n = 0; i < n_rows; i += n) {
      n = std::min(n_rows - i, per_matrix - (row + i) % per_matrix);
      const int64_t m = matrices > 1 ? region.begin[0] + (row + i) / per_matrix : 0;
      to_.encode(x + i * cols, n, cols, {imp.data() + m * width + region.begin[last], options_.effort}, out + bytes_of(to_.type, i * cols));
    }
  }

  // 16-bit floats: an exponent of all ones is NaN or infinity. Finite values must not have become one.
  Status check_overflow(const Region& region, int64_t first, const float* x, int64_t n, const std::byte* out) const {
    const uint16_t mask = to_.type == DType::kF16 ? 0x7C00 : to_.type == DType::kBF16 ? 0x7F80 : 0;
    if (!mask) return {};
    const auto* h = reinterpret_cast<const uint16_t*>(out);
    uint32_t any = 0;
    for (int64_t i = 0; i < n; ++i) any |= (h[i] & mask) == mask;
    if (!any) return {};
    for (int64_t i = 0; i < n; ++i)
      if ((h[i] & mask) == mask && std::isfinite(x[i])) return refuse(region, first + i, x[i]);
    count(region, first, x, n);
    return {};
  }

  // Of what f32 cannot hold: only what was infinite may be.
  Status check_f64(const Region& region, int64_t first, const std::byte* in, const float* x, int64_t n) const {
    if (first_nonfinite(x, n) < 0) return {};
    for (int64_t i = 0; i < n; ++i) {
      double v;
      std::memcpy(&v, in + i * 8, 8);
      if (std::isinf(x[i]) && std::isfinite(v)) return refuse(region, first + i, v);
    }
    return {};
  }

  // Element `at` of the region, as an error.
  Error refuse(const Region& region, int64_t at, double value) const {
    const std::string element = element_text(*this, index_in(region, at), tensor_);
    if (std::isfinite(value))
      return bad_input("writing tensor '{}' as {}: {} is {}, beyond the type's range; {}", tensor_, info(to_.type).name, element, value,
                       std::fabs(value) <= std::numeric_limits<float>::max()
                           ? "use BF16 or F32"
                           : "F32 and BF16 end at 3.4e38, too: the weights are damaged, or the tensor stays F64 (safetensors, torch and npz without --dtype)");
    return bad_input("writing tensor '{}' as {}: {} is {}, which the type cannot hold; the weights are damaged, or keep the "
                     "tensor in a float type",
                     tensor_, info(to_.type).name, element, std::isnan(value) ? "NaN" : value > 0 ? "inf" : "-inf");
  }

  std::string tensor_;
  NodePtr input_;
  const Codec& to_;
  DType from_;
  Decode decode_;
  CastOptions options_;
  int number_ = 0;  // of this cast among those that options_.counts counts
  TensorSpec spec_;
  std::string describe_;
};

// Of a state of training (no naming) cast_floats() takes the weights, not what an optimizer keeps of them, nor what has no dimensions, a count of steps. What the
// names of an optimizer's tensors begin with: its state lies beside its param_groups, DeepSpeed's and Megatron's have parts of their own.
std::vector<std::string> optimizers_of(const Artifact& a) {
  std::vector<std::string> all;
  if (a.format == "deepspeed" || a.format == "megatron") all = {"master/", "exp_avg/", "exp_avg_sq/", "step/"};
  constexpr std::string_view kGroups = "param_groups/";
  for (const auto& [name, value] : a.values) {
    const size_t at = name.starts_with(kGroups) ? 0 : name.find(fmt::format("/{}", kGroups));
    if (at == std::string::npos) continue;
    std::string before = at ? name.substr(0, at + 1) + "state/" : "state/";
    if (all.empty() || all.back() != before) all.push_back(std::move(before));
  }
  return all;
}

}  // namespace

void CastCounts::add(int cast, const Tensor& found) {
  std::lock_guard lock(mutex_);
  auto [it, fresh] = by_cast_.try_emplace(cast, found);
  if (fresh) return;
  it->second.nan += found.nan, it->second.infinite += found.infinite;
  if (before(found.first.index, it->second.first.index)) it->second.first = found.first;
}

std::vector<CastCounts::Tensor> CastCounts::tensors() const {
  std::map<std::pair<std::string, std::string>, Tensor> by_name;
  std::lock_guard lock(mutex_);
  for (const auto& [cast, t] : by_cast_) {
    auto [it, fresh] = by_name.try_emplace({t.first.file, t.first.tensor}, t);
    if (!fresh && t.count() > it->second.count()) it->second = t;
  }
  std::vector<Tensor> out;
  for (auto& [name, t] : by_name) out.push_back(std::move(t));
  return out;
}

uint64_t CastCounts::total() const {
  uint64_t n = 0;
  for (const auto& t : tensors()) n += t.count();
  return n;
}

bool is_float_type(DType t) {
  return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || t == DType::kF64;
}

Result<NodePtr> cast(const std::string& tensor, NodePtr node, DType to, const CastOptions& options) {
  const TensorSpec s = node->spec();
  if (s.type == to) return node;
  if (NodePtr exact = node->unrounded()) return cast(tensor, std::move(exact), to, options);
  const Codec* to_codec = find_codec(to);
  if (!find_decode(s.type))
    return bad_input("tensor {} is {}, whose values ingot cannot read yet; give the model in F32, F16 or BF16", tensor_text(*node, tensor),
                     info(s.type).name);
  if (!to_codec) return usage("tensor {}: ingot cannot write the type {} yet", tensor_text(*node, tensor), info(to).name);
  if (s.shape.back() % info(to).block != 0)
    return usage("tensor {} has rows of {} elements, which {} with its blocks of {} cannot hold", tensor_text(*node, tensor),
                 s.shape.back(), info(to).name, info(to).block);
  if (options.importance) {
    const auto n = static_cast<int64_t>(options.importance->size());
    const int64_t matrices = s.shape.rank > 2 ? s.shape[0] : 1, cols = s.shape.back();
    if (n != cols && n != cols * matrices)
      return bad_input("the importance matrix has {} values for tensor '{}' {}, expected {}; it is of another model", n,
                       tensor, to_string(s.shape), cols * matrices);
    for (float v : *options.importance)
      if (!(v >= 0) || std::isinf(v))
        return bad_input("the importance matrix of tensor '{}' holds {}, expected finite numbers from 0", tensor, v);
  }
  return NodePtr(std::make_shared<Cast>(tensor, std::move(node), *to_codec, options));
}

Result<NodePtr> TiedCast::operator()(const LazyTensor& t, DType to, const CastOptions& options) {
  NodePtr& made = made_[{t.node, to, options.importance.get()}];
  if (!made) {
    INGOT_ASSIGN(made, cast(t.name, t.node, to, options));
  }
  return made;
}

Result<Artifact> cast_floats(const Artifact& a, DType to, std::shared_ptr<CastCounts> counts) {
  Artifact out = a;
  TiedCast cast;
  const std::vector<std::string> optimizers = optimizers_of(a);
  size_t kept = 0;
  std::string first;
  std::map<DType, std::vector<std::string>> packed;
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const LazyTensor& t = a.tensors[i];
    const DType type = t.spec().type;
    const bool keep = a.naming.empty() && (t.spec().shape.rank == 0 || std::any_of(optimizers.begin(), optimizers.end(), [&](const std::string& o) { return t.name.starts_with(o); }));
    if (is_block_type(type)) {
      packed[type].push_back(t.name);
    } else if (!find_decode(type)) {
      continue;
    } else if (!keep) {
      INGOT_ASSIGN(out.tensors.node(i), cast(t, to, {nullptr, counts}));
    } else if (type != to && !kept++) {
      first = t.name;
    }
  }
  for (const auto& [type, names] : packed)
    out.notices.push_back(fmt::format("{}: {} cannot be cast yet; kept as it is: {}", a.path, info(type).name, some_of(names)));
  if (kept)
    out.notices.push_back(fmt::format("{}: a state of training, of which only the weights are cast: '{}'{} what an optimizer keeps, or a count, and {} as they are",
                                      a.path, first, kept > 1 ? fmt::format(" and {} others are", kept - 1) : " is", kept > 1 ? "stay" : "stays"));
  return out;
}

DType main_float_type(const Artifact& a) {
  std::map<DType, int64_t> count;
  for (const auto& t : a.tensors)
    if (const auto s = t.spec(); is_float_type(s.type)) count[s.type] += s.shape.elements();
  DType best = DType::kF32;
  int64_t most = 0;
  for (const auto& [type, n] : count)
    if (n > most) best = type, most = n;
  return best;
}

Result<Artifact> cast_like(const Artifact& a, const Artifact& like, std::shared_ptr<CastCounts> counts) {
  const DType other = main_float_type(like);
  Artifact out = a;
  TiedCast cast;
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const LazyTensor& t = a.tensors[i];
    if (!is_float_type(t.spec().type)) continue;
    const LazyTensor* same = like.find(t.name);
    const DType to = same && is_float_type(same->spec().type) ? same->spec().type : other;
    INGOT_ASSIGN(out.tensors.node(i), cast(t, to, {nullptr, counts}));
  }
  return out;
}

}  // namespace ingot::transform
