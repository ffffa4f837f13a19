#include "transform/imatrix_entries.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "exec/evaluate.h"
#include "formats/json.h"

namespace ingot::transform {
namespace {

constexpr int64_t kMostExperts = 1 << 16;

// Computed at once: a weight's sums are few beside the weight.
class Entry final : public Node {
 public:
  Entry(NodePtr sums, std::vector<float> counts, int32_t calls) : sums_(std::move(sums)), counts_(std::move(counts)), calls_(calls) {}
  TensorSpec spec() const override { return {DType::kF32, {sums_->spec().shape.elements()}}; }
  std::string describe() const override { return fmt::format("imatrix entry v1 {} {:a}", calls_, fmt::join(counts_, " ")); }
  std::vector<NodePtr> inputs() const override { return {sums_}; }
  Shape granularity() const override { return spec().shape; }
  void needs(const Region&, std::vector<Need>* out) const override { out->push_back({sums_, Region::all(sums_->spec().shape), false}); }
  void trace(Origin* o) const override { o->changed = true, sums_->trace(o); }
  Status compute(const Compute& c) const override {
    const float* in = c.inputs[0].f32();
    auto* out = reinterpret_cast<float*>(c.out.data());
    const size_t n = static_cast<size_t>(c.region.elements()), row = n / counts_.size();
    for (size_t i = 0; i < n; ++i) {
      const float count = counts_[i / row];
      out[i] = (count == 0 ? 1.0F : in[i] / count) * static_cast<float>(calls_);
    }
    return {};
  }

 private:
  NodePtr sums_;
  std::vector<float> counts_;  // of each expert
  int32_t calls_;
};

}  // namespace

Result<Artifact> imatrix_entries(const Artifact& a) {
  const MetaValue *size = a.meta("imatrix.chunk_size"), *chunks = a.meta("imatrix.chunk_count"), *datasets = a.meta("imatrix.datasets");
  const auto* chunk = size ? std::get_if<uint32_t>(&size->v) : nullptr;
  if (a.naming != "imatrix" || !chunk || *chunk == 0) return a;
  Artifact out;
  out.path = a.path, out.format = a.format, out.naming = a.naming;
  if (const auto* n = chunks ? std::get_if<uint32_t>(&chunks->v) : nullptr) out.values["chunks"] = std::to_string(*n);
  if (const auto* all = datasets ? std::get_if<std::vector<std::string>>(&datasets->v) : nullptr)
    out.values["dataset"] = OrderedJson(all->empty() ? "" : (*all)[0]).dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  OrderedJson all_calls = OrderedJson::array();
  for (const LazyTensor& t : a.tensors) {
    if (!t.name.ends_with(kImatrixSums)) continue;
    const std::string name = t.name.substr(0, t.name.size() - kImatrixSums.size());
    const LazyTensor* of = a.find(fmt::format("{}{}", name, kImatrixCounts));
    const int64_t values = t.spec().shape.elements(), experts = of ? of->spec().shape.elements() : 0;
    if (experts < 1 || experts > kMostExperts || values < 1 || values % experts != 0 || of->spec().type != DType::kF32 || t.spec().type != DType::kF32) return a;
    INGOT_ASSIGN(const auto bytes, evaluate(of->node));
    std::vector<float> counts(static_cast<size_t>(experts));
    std::memcpy(counts.data(), bytes.data(), bytes.size());
    const float most = *std::max_element(counts.begin(), counts.end());
    if (!(most >= 0 && most < 0x1p31F) || std::any_of(counts.begin(), counts.end(), [](float n) { return std::isnan(n); })) return a;
    if (most == 0) continue;
    const auto calls = static_cast<int32_t>((static_cast<int64_t>(most) + *chunk - 1) / *chunk);
    out.tensors.push_back({name, std::make_shared<Entry>(t.node, std::move(counts), calls)});
    all_calls.push_back(calls);
  }
  out.values["calls"] = all_calls.dump();
  return out;
}

}  // namespace ingot::transform
