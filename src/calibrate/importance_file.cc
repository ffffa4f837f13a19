#include "calibrate/importance_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/json.h"
#include "formats/outputs.h"
#include "transform/imatrix_entries.h"

namespace ingot::calibrate {

struct ImportanceFile::Values {
  struct Weight {
    std::vector<float> sums, counts;
    int32_t calls = 0;
  };
  std::vector<Weight> weights;
  bool filled = false;
};

namespace {

enum class What { kSums, kCounts, kOlder };
constexpr const char* kWhat[] = {"sums", "counts", "calls"};

// Values of one weight, once they are there. The first of a file stands on the sources, so that the job knows which files it is made of.
class ValuesNode final : public Node {
 public:
  ValuesNode(std::shared_ptr<const ImportanceFile::Values> values, size_t weight, What what, Shape shape, std::string key, std::vector<NodePtr> sources)
      : values_(std::move(values)), weight_(weight), what_(what), shape_(shape), key_(std::move(key)), sources_(std::move(sources)) {}
  TensorSpec spec() const override { return {DType::kF32, shape_}; }
  std::string describe() const override { return fmt::format("imatrix v1 {} {} {}", kWhat[static_cast<size_t>(what_)], weight_, key_); }
  std::vector<NodePtr> inputs() const override { return sources_; }
  Status compute(const Compute& c) const override {
    if (!values_->filled) return failed("the sums of an importance matrix are asked for before they are there; this is a defect of ingot");
    const auto& w = values_->weights[weight_];
    auto* out = reinterpret_cast<float*>(c.out.data());
    const size_t columns = w.sums.size() / w.counts.size();
    for_each_run(Region::all(shape_), c.region, [&](int64_t at, int64_t to, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const auto from = static_cast<size_t>(at + i);
        if (what_ == What::kCounts) {
          out[to + i] = w.counts[from];
        } else if (what_ == What::kSums) {
          out[to + i] = w.sums[from];
        } else {
          // In llama-imatrix's own arithmetic; what was never reached counts all columns alike there.
          const float count = w.counts[from / columns];
          out[to + i] = (count == 0 ? 1.0F : w.sums[from] / count) * static_cast<float>(w.calls);
        }
      }
    });
    return {};
  }

 private:
  std::shared_ptr<const ImportanceFile::Values> values_;
  size_t weight_;
  What what_;
  Shape shape_;
  std::string key_;
  std::vector<NodePtr> sources_;
};

}  // namespace

ImportanceFile::ImportanceFile(std::vector<WeightShape> weights, ImportanceFileOptions options)
    : weights_(std::move(weights)), options_(std::move(options)), values_(std::make_shared<Values>()) {
  std::sort(weights_.begin(), weights_.end(), [](const WeightShape& a, const WeightShape& b) { return a.name < b.name; });
}

Output ImportanceFile::output(Store& store, const std::string& path) const {
  Artifact a;
  a.path = path;
  a.naming = "imatrix";
  const auto add = [&](const std::string& name, size_t i, What what, const Shape& shape) {
    a.tensors.push_back({name, std::make_shared<ValuesNode>(values_, i, what, shape, options_.key, a.tensors.empty() ? options_.sources : std::vector<NodePtr>())});
  };
  for (size_t i = 0; i < weights_.size(); ++i) {
    const auto& [name, cols, matrices] = weights_[i];
    if (options_.older) {
      add(name, i, What::kOlder, Shape{cols * matrices});
    } else {
      add(fmt::format("{}{}", name, transform::kImatrixSums), i, What::kSums, matrices > 1 ? Shape{matrices, cols} : Shape{cols});
      add(fmt::format("{}{}", name, transform::kImatrixCounts), i, What::kCounts, matrices > 1 ? Shape{matrices, 1} : Shape{1});
    }
  }
  if (options_.older) {
    a.format = "imatrix";
    a.values["chunks"] = std::to_string(options_.chunks);
    a.values["dataset"] = OrderedJson(options_.datasets.empty() ? "" : options_.datasets.back()).dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    return imatrix_output(std::move(a), store, path, [values = values_]() -> Result<std::vector<int32_t>> {
      std::vector<int32_t> calls;
      for (const auto& w : values->weights) calls.push_back(w.calls);
      return calls;
    });
  }
  a.format = "gguf";
  a.metadata = {{"general.type", {std::string("imatrix")}},
                {"imatrix.datasets", {options_.datasets}},
                {"imatrix.chunk_count", {options_.chunks}},
                {"imatrix.chunk_size", {options_.chunk_size}}};
  return gguf_output(std::move(a), store, path);
}

Status ImportanceFile::fill(const transform::ImportanceSums& sums) {
  std::vector<Values::Weight> all;
  std::vector<WeightShape> kept;
  for (const auto& [name, cols, matrices] : weights_) {
    const auto it = sums.entries.find(name);
    if (it == sums.entries.end()) return bad_input("writing an importance matrix: there are no sums of '{}'", name);
    const auto& e = it->second;
    if (e.counts.size() != static_cast<size_t>(matrices) || e.values.size() != static_cast<size_t>(matrices * cols))
      return bad_input("writing an importance matrix: '{}' has {} sums of {} matrices ({}), expected {} of {}", name, e.values.size(), e.counts.size(), e.file, matrices * cols, matrices);
    Values::Weight w;
    w.sums.assign(e.values.begin(), e.values.end());
    w.counts.assign(e.counts.begin(), e.counts.end());
    for (size_t i = 0; i < w.sums.size(); ++i)
      if (!std::isfinite(w.sums[i])) return bad_input("writing an importance matrix: the sum of '{}' in column {} is {}, which no f32 can hold", name, i % static_cast<size_t>(cols), e.values[i]);
    const double most = *std::max_element(e.counts.begin(), e.counts.end()), chunk = std::max(1U, options_.chunk_size);
    if (options_.older && most <= 0) continue;  // the older kind of file cannot say that
    w.calls = static_cast<int32_t>(std::min<double>(std::ceil(most / chunk), INT32_MAX));
    all.push_back(std::move(w));
    kept.push_back({name, cols, matrices});
  }
  weights_ = std::move(kept);
  values_->weights = std::move(all);
  values_->filled = true;
  return {};
}

std::vector<WeightShape> shapes_of(const transform::ImportanceSums& sums) {
  std::vector<WeightShape> all;
  for (const auto& [name, e] : sums.entries) all.push_back({name, static_cast<int64_t>(e.values.size() / e.counts.size()), static_cast<int64_t>(e.counts.size())});
  return all;
}

}  // namespace ingot::calibrate
