#include "transform/lora_nodes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include "kernels/cast.h"
#include "kernels/matmul.h"
#include "quant/decode.h"

namespace ingot::transform {
namespace {

constexpr int64_t kPiece = 16 << 10;

float* floats(std::byte* p) { return reinterpret_cast<float*>(p); }

void decode(const View& v, int64_t first, int64_t n, float* out) {
  const std::byte* p = v.data + bytes_of(v.type, first);
  if (v.type == DType::kF32) std::memcpy(out, p, static_cast<size_t>(n) * sizeof(float));
  else find_decode(v.type)(p, n, out);
}

// in [rows, cols] -> out [cols, rows]
void transpose(const float* in, int64_t rows, int64_t cols, float* out) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) out[j * rows + i] = in[i * cols + j];
}

// What changes a tensor does so before it is rounded.
NodePtr exact(NodePtr base) {
  NodePtr unrounded = base->unrounded();
  return unrounded ? unrounded : base;
}

class LoraDelta final : public Node {
 public:
  LoraDelta(std::string tensor, NodePtr base, LoraFactors f)
      : tensor_(std::move(tensor)), base_(std::move(base)), f_(std::move(f)) {
    spec_ = base_->spec();
    spec_.type = DType::kF32;
    rank_ = f_.a->spec().shape[0];
  }

  TensorSpec spec() const override { return spec_; }
  std::string describe() const override {
    return fmt::format("lora v1 scale {:a} transposed {} base {} a {} b {}", static_cast<float>(f_.scale),
                       f_.transposed, read_tag(base_->spec().type), read_tag(f_.a->spec().type),
                       read_tag(f_.b->spec().type));
  }
  std::vector<NodePtr> inputs() const override { return {base_, f_.a, f_.b}; }
  void trace(Origin* o) const override { o->changed = true, base_->trace(o); }
  Shape granularity() const override {
    return joined_granularity(Node::granularity(), *base_);
  }

  // The product's left factor has the region's rows, its right factor the region's columns: the right one is the same
  // for every tile of whole rows.
  void needs(const Region& r, std::vector<Need>* out) const override {
    out->push_back({base_, r, false});
    const int64_t row = r.begin[0], rows = r.extent[0], col = r.begin[1], cols = r.extent[1];
    Region a = Region::all(f_.a->spec().shape), b = Region::all(f_.b->spec().shape);
    Region& left = f_.transposed ? a : b;
    Region& right = f_.transposed ? b : a;
    const int left_dim = f_.transposed ? 1 : 0;
    left.begin[left_dim] = row, left.extent[left_dim] = rows;
    right.begin[1 - left_dim] = col, right.extent[1 - left_dim] = cols;
    out->push_back({f_.a, a, !f_.transposed});
    out->push_back({f_.b, b, f_.transposed});
  }

  uint64_t workspace(const Region& r) const override {
    const int64_t left = r.extent[0] * rank_, right = r.extent[1] * rank_;
    const int64_t spare = f_.transposed ? std::max(left, right) : 0;
    return static_cast<uint64_t>(left + right + spare) * sizeof(float);
  }

  Status compute(const Compute& c) const override {
    const int64_t rows = c.region.extent[0], cols = c.region.extent[1];
    float* left = floats(c.workspace.data());
    float* right = left + rows * rank_;
    const View& a = c.inputs[1];
    const View& b = c.inputs[2];
    if (!f_.transposed) {
      decode(b, 0, rows * rank_, left);
      decode(a, 0, rank_ * cols, right);
    } else {
      float* spare = right + rank_ * cols;
      decode(a, 0, rank_ * rows, spare);
      transpose(spare, rank_, rows, left);
      decode(b, 0, cols * rank_, spare);
      transpose(spare, cols, rank_, right);
    }
    if (const int64_t bad = first_nonfinite(left, rows * rank_); bad >= 0)
      return damaged(!f_.transposed, c.region.begin[0] + bad / rank_, bad % rank_, left[bad]);
    if (const int64_t bad = first_nonfinite(right, cols * rank_); bad >= 0)
      return damaged(f_.transposed, c.region.begin[1] + bad % cols, bad / cols, right[bad]);
    float* out = floats(c.out.data());
    decode(c.inputs[0], 0, rows * cols, out);
    matmul_add(out, left, right, rows, rank_, cols, static_cast<float>(f_.scale));
    // NaN and infinity of the base are the base's; what the update made of finite weights is refused.
    if (first_nonfinite(out, rows * cols) < 0) return {};
    constexpr int64_t kStep = 256;
    for (int64_t at = 0; at < rows * cols; at += kStep) {
      const int64_t n = std::min(kStep, rows * cols - at);
      if (first_nonfinite(out + at, n) < 0) continue;
      float base[kStep];
      decode(c.inputs[0], at, n, base);
      for (int64_t i = 0; i < n; ++i) {
        if (std::isfinite(base[i]) && !std::isfinite(out[at + i]))
          return bad_input("merging into {}: the update times its scale {} is too large for F32; check lora_alpha, r and --weight, or the "
                           "adapter's training diverged", element_text(*base_, index_in(c.region, at + i), tensor_), f_.scale);
      }
    }
    return {};
  }

 private:
  // An element of a factor by its place along the base's dimension and along the rank.
  Error damaged(bool b, int64_t at, int64_t rank, float value) const {
    return bad_input("merging into tensor {}: {} is {}; the adapter is damaged, or its training diverged", tensor_text(*base_, tensor_),
                     b ? element_text(*f_.b, {at, rank}, f_.b_name) : element_text(*f_.a, {rank, at}, f_.a_name),
                     std::isnan(value) ? "NaN" : "infinity");
  }
  std::string tensor_;
  NodePtr base_;
  LoraFactors f_;
  TensorSpec spec_;
  int64_t rank_;
};

class AddScaled final : public Node {
 public:
  AddScaled(NodePtr base, NodePtr x, double scale) : base_(std::move(base)), x_(std::move(x)), scale_(scale) {
    spec_ = base_->spec();
    spec_.type = DType::kF32;
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override {
    return fmt::format("add_scaled v1 {:a} {} {}", static_cast<float>(scale_), read_tag(base_->spec().type),
                       read_tag(x_->spec().type));
  }
  std::vector<NodePtr> inputs() const override { return {base_, x_}; }
  void trace(Origin* o) const override { o->changed = true, base_->trace(o); }
  Shape granularity() const override {
    return joined_granularity(joined_granularity(Node::granularity(), *base_), *x_);
  }
  void needs(const Region& r, std::vector<Need>* out) const override {
    out->push_back({base_, r, false});
    out->push_back({x_, r, false});
  }
  uint64_t workspace(const Region& r) const override { return static_cast<uint64_t>(piece(r)) * sizeof(float); }
  Status compute(const Compute& c) const override {
    const int64_t n = c.region.elements(), step = piece(c.region);
    float* out = floats(c.out.data());
    float* x = floats(c.workspace.data());
    decode(c.inputs[0], 0, n, out);
    for (int64_t at = 0; at < n; at += step) {
      const int64_t m = std::min(step, n - at);
      decode(c.inputs[1], at, m, x);
      for (int64_t i = 0; i < m; ++i) out[at + i] += static_cast<float>(scale_) * x[i];
    }
    return {};
  }

 private:
  static int64_t piece(const Region& r) { return std::clamp<int64_t>(r.elements(), 1, kPiece); }
  NodePtr base_, x_;
  double scale_;
  TensorSpec spec_;
};

class WithRows final : public Node {
 public:
  WithRows(NodePtr base, NodePtr trained, std::vector<int64_t> indices) : base_(std::move(base)), trained_(std::move(trained)) {
    spec_ = base_->spec();
    spec_.type = DType::kF32;
    for (size_t i = 0; i < indices.size(); ++i) row_of_[indices[i]] = static_cast<int64_t>(i);
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override {
    std::string text = fmt::format("with_rows v1 {} {}", read_tag(base_->spec().type), read_tag(trained_->spec().type));
    for (const auto& [row, i] : row_of_) text += fmt::format(" {}:{}", row, i);
    return text;
  }
  std::vector<NodePtr> inputs() const override { return {base_, trained_}; }
  void trace(Origin* o) const override { o->changed = true, base_->trace(o); }
  Shape granularity() const override { return joined_granularity(Node::granularity(), *base_); }

  // The trained rows, which are few, go to every tile.
  void needs(const Region& r, std::vector<Need>* out) const override {
    out->push_back({base_, r, false});
    Region all = Region::all(trained_->spec().shape);
    all.begin[1] = r.begin[1], all.extent[1] = r.extent[1];
    out->push_back({trained_, all, true});
  }
  Status compute(const Compute& c) const override {
    const int64_t first = c.region.begin[0], rows = c.region.extent[0], cols = c.region.extent[1];
    float* out = floats(c.out.data());
    decode(c.inputs[0], 0, rows * cols, out);
    for (auto it = row_of_.lower_bound(first); it != row_of_.end() && it->first < first + rows; ++it)
      decode(c.inputs[1], it->second * cols, cols, out + (it->first - first) * cols);
    return {};
  }

 private:
  NodePtr base_, trained_;
  std::map<int64_t, int64_t> row_of_;  // of the base -> of the trained
  TensorSpec spec_;
};

class SameAs final : public Node {
 public:
  SameAs(NodePtr base, NodePtr copy, SameAsText text) : base_(std::move(base)), copy_(std::move(copy)), text_(std::move(text)) {}
  TensorSpec spec() const override { return base_->spec(); }
  std::string describe() const override { return "same_as v1"; }
  void trace(Origin* o) const override { base_->trace(o); }
  std::vector<NodePtr> inputs() const override { return {base_, copy_}; }
  Shape granularity() const override {
    return joined_granularity(joined_granularity(Node::granularity(), *base_), *copy_);
  }
  void needs(const Region& r, std::vector<Need>* out) const override {
    out->push_back({base_, r, false});
    out->push_back({copy_, r, false});
  }
  uint64_t workspace(const Region& r) const override { return 2 * static_cast<uint64_t>(piece(r)) * sizeof(float); }
  Status compute(const Compute& c) const override {
    std::memcpy(c.out.data(), c.inputs[0].data, c.out.size());
    if (c.inputs[0].type == c.inputs[1].type && std::memcmp(c.inputs[0].data, c.inputs[1].data, c.out.size()) == 0)
      return {};
    const int64_t n = c.region.elements(), step = piece(c.region);
    float* x = floats(c.workspace.data());
    float* y = x + step;
    for (int64_t at = 0; at < n; at += step) {
      const int64_t m = std::min(step, n - at);
      decode(c.inputs[0], at, m, x);
      decode(c.inputs[1], at, m, y);
      for (int64_t i = 0; i < m; ++i)
        if (x[i] != y[i]) {
          const Shape index = index_in(c.region, at + i);
          return bad_input("{}: {} is {} and {} is {}; {}", text_.doing, element_text(*copy_, index, text_.copy), y[i],
                           element_text(*base_, index, "the base"), x[i], text_.why);
        }
    }
    return {};
  }

 private:
  static int64_t piece(const Region& r) { return std::clamp<int64_t>(r.elements(), 1, kPiece); }
  NodePtr base_, copy_;
  SameAsText text_;
};

class Turned final : public Node {
 public:
  explicit Turned(NodePtr in) : in_(std::move(in)) {
    const Shape s = in_->spec().shape;
    spec_ = {DType::kF32, {s[1], s[0]}};
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return "turned v1 " + read_tag(in_->spec().type); }
  std::vector<NodePtr> inputs() const override { return {in_}; }
  void trace(Origin* o) const override {
    std::swap(o->index[0], o->index[1]);
    in_->trace(o);
  }
  void needs(const Region& r, std::vector<Need>* out) const override {
    Region t = r;
    std::swap(t.begin[0], t.begin[1]), std::swap(t.extent[0], t.extent[1]);
    out->push_back({in_, t, false});
  }
  uint64_t workspace(const Region& r) const override { return static_cast<uint64_t>(r.elements()) * sizeof(float); }
  Status compute(const Compute& c) const override {
    float* x = floats(c.workspace.data());
    decode(c.inputs[0], 0, c.region.elements(), x);
    transpose(x, c.region.extent[1], c.region.extent[0], floats(c.out.data()));
    return {};
  }

 private:
  NodePtr in_;
  TensorSpec spec_;
};

class Narrowed final : public Node {
 public:
  explicit Narrowed(NodePtr in) : in_(std::move(in)), spec_{DType::kF32, in_->spec().shape} {}
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return "narrowed v1"; }
  std::vector<NodePtr> inputs() const override { return {in_}; }
  void trace(Origin* o) const override { in_->trace(o); }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({in_, r, false}); }
  Status compute(const Compute& c) const override {
    for (int64_t i = 0, n = c.region.elements(); i < n; ++i) {
      double x;
      std::memcpy(&x, c.inputs[0].data + i * sizeof(double), sizeof(double));
      floats(c.out.data())[i] = static_cast<float>(x);
    }
    return {};
  }

 private:
  NodePtr in_;
  TensorSpec spec_;
};

class Finite final : public Node {
 public:
  Finite(NodePtr in, std::string name) : in_(std::move(in)), name_(std::move(name)) {}
  TensorSpec spec() const override { return in_->spec(); }
  std::string describe() const override { return "finite v1"; }
  std::vector<NodePtr> inputs() const override { return {in_}; }
  void trace(Origin* o) const override { in_->trace(o); }
  Shape granularity() const override { return in_->granularity(); }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({in_, r, false}); }
  uint64_t workspace(const Region& r) const override { return static_cast<uint64_t>(piece(r)) * sizeof(float); }
  Status compute(const Compute& c) const override {
    std::memcpy(c.out.data(), c.inputs[0].data, c.out.size());
    float* x = floats(c.workspace.data());
    const int64_t n = c.region.elements(), step = piece(c.region);
    for (int64_t at = 0; at < n; at += step) {
      const int64_t m = std::min(step, n - at);
      decode(c.inputs[0], at, m, x);
      if (const int64_t bad = first_nonfinite(x, m); bad >= 0)
        return bad_input("merging: {} is {}; the adapter is damaged, or its training diverged", element_text(*in_, index_in(c.region, at + bad), name_),
                         std::isnan(x[bad]) ? "NaN" : "infinity");
    }
    return {};
  }

 private:
  static int64_t piece(const Region& r) { return std::clamp<int64_t>(r.elements(), 1, kPiece); }
  NodePtr in_;
  std::string name_;
};

}  // namespace

NodePtr lora_delta(std::string tensor, NodePtr base, LoraFactors factors) {
  return std::make_shared<LoraDelta>(std::move(tensor), exact(std::move(base)), std::move(factors));
}
NodePtr add_scaled(NodePtr base, NodePtr x, double scale) {
  return std::make_shared<AddScaled>(exact(std::move(base)), std::move(x), scale);
}
NodePtr with_rows(NodePtr base, NodePtr trained, std::vector<int64_t> indices) {
  return std::make_shared<WithRows>(exact(std::move(base)), std::move(trained), std::move(indices));
}
NodePtr same_as(NodePtr base, NodePtr copy, SameAsText text) {
  return std::make_shared<SameAs>(std::move(base), std::move(copy), std::move(text));
}
NodePtr turned(NodePtr matrix) { return std::make_shared<Turned>(std::move(matrix)); }
NodePtr narrowed(NodePtr f64) { return std::make_shared<Narrowed>(std::move(f64)); }
NodePtr finite(NodePtr tensor, std::string name) { return std::make_shared<Finite>(std::move(tensor), std::move(name)); }

}  // namespace ingot::transform
