#include "formats/torch_sparse.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace ingot {
namespace {

class Dense : public Node {
 public:
  Dense(std::string name, std::vector<NodePtr> inputs, const Shape& shape) : name_(std::move(name)), inputs_(std::move(inputs)), spec_{inputs_.back()->spec().type, shape} {}
  TensorSpec spec() const override { return spec_; }
  std::vector<NodePtr> inputs() const override { return inputs_; }
  void needs(const Region&, std::vector<Need>* out) const override {
    for (const auto& n : inputs_) out->push_back({n, Region::all(n->spec().shape), true});
  }

 protected:
  // Whether the index lies in the region; *at is then its place in it.
  static bool place(const Region& r, const int64_t* index, int dims, int64_t* at) {
    *at = 0;
    for (int i = 0; i < dims; ++i) {
      const int64_t k = index[i] - r.begin[i];
      if (k < 0 || k >= r.extent[i]) return false;
      *at = *at * r.extent[i] + k;
    }
    return true;
  }
  Error outside(int64_t index, int64_t size) const {
    return bad_input("reading the sparse tensor '{}': it has a value at index {} of a dimension of {}; the file is damaged", name_, index, size);
  }
  std::string name_;
  std::vector<NodePtr> inputs_;
  TensorSpec spec_;
};

class DenseOfCoo final : public Dense {
 public:
  using Dense::Dense;
  std::string describe() const override { return "coo v1 " + to_string(spec_.shape); }
  // Dimensions that are dense in the values stay whole.
  Shape granularity() const override {
    Shape g = spec_.shape;
    for (int i = 0; i < g.rank; ++i) g[i] = i < sparse_dims() ? 1 : std::max<int64_t>(g[i], 1);
    return g;
  }
  Status compute(const Compute& c) const override {
    const int dims = sparse_dims();
    const int64_t n = inputs_[0]->spec().shape[1];
    const auto* indices = reinterpret_cast<const int64_t*>(c.inputs[0].data);
    int64_t rest = 1;
    for (int i = dims; i < spec_.shape.rank; ++i) rest *= spec_.shape[i];
    const uint64_t bytes = bytes_of(spec_.type, rest);
    if (!c.out.empty()) std::memset(c.out.data(), 0, c.out.size());
    for (int64_t k = 0; k < n; ++k) {
      int64_t index[kMaxDims], at = 0;
      for (int i = 0; i < dims; ++i) {
        index[i] = indices[i * n + k];
        if (index[i] < 0 || index[i] >= spec_.shape[i]) return outside(index[i], spec_.shape[i]);
      }
      if (bytes && place(c.region, index, dims, &at)) std::memcpy(c.out.data() + static_cast<uint64_t>(at) * bytes, c.inputs[1].data + static_cast<uint64_t>(k) * bytes, bytes);
    }
    return {};
  }

 private:
  int sparse_dims() const { return static_cast<int>(inputs_[0]->spec().shape[0]); }
};

class DenseOfCsr final : public Dense {
 public:
  DenseOfCsr(std::string name, std::vector<NodePtr> inputs, const Shape& shape, bool turned) : Dense(std::move(name), std::move(inputs), shape), turned_(turned) {}
  std::string describe() const override { return fmt::format("{} v1 {}", turned_ ? "csc" : "csr", to_string(spec_.shape)); }
  Status compute(const Compute& c) const override {
    const auto* rows = reinterpret_cast<const int64_t*>(c.inputs[0].data);
    const auto* columns = reinterpret_cast<const int64_t*>(c.inputs[1].data);
    const int64_t n = inputs_[1]->spec().shape[0], item = info(spec_.type).bytes, outer = spec_.shape[turned_ ? 1 : 0], inner = spec_.shape[turned_ ? 0 : 1];
    if (!c.out.empty()) std::memset(c.out.data(), 0, c.out.size());
    for (int64_t r = 0; r < outer; ++r) {
      if (rows[r] < 0 || rows[r] > rows[r + 1] || rows[r + 1] > n) return outside(rows[r + 1], n);
      for (int64_t k = rows[r]; k < rows[r + 1]; ++k) {
        if (columns[k] < 0 || columns[k] >= inner) return outside(columns[k], inner);
        const int64_t index[2] = {turned_ ? columns[k] : r, turned_ ? r : columns[k]};
        if (int64_t at = 0; place(c.region, index, 2, &at)) std::memcpy(c.out.data() + at * item, c.inputs[2].data + k * item, static_cast<size_t>(item));
      }
    }
    return {};
  }

 private:
  bool turned_;
};

}  // namespace

NodePtr make_dense_of_coo(std::string name, NodePtr indices, NodePtr values, const Shape& shape) {
  return std::make_shared<DenseOfCoo>(std::move(name), std::vector<NodePtr>{std::move(indices), std::move(values)}, shape);
}

NodePtr make_dense_of_csr(std::string name, NodePtr rows, NodePtr columns, NodePtr values, const Shape& shape, bool turned) {
  return std::make_shared<DenseOfCsr>(std::move(name), std::vector<NodePtr>{std::move(rows), std::move(columns), std::move(values)}, shape, turned);
}

}  // namespace ingot
