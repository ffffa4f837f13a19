#include "calibrate/importance_matrix.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "transform/layers.h"

namespace ingot::calibrate {
namespace {

constexpr uint32_t kVersion = 1;
constexpr int64_t kLanes = 32;    // columns summed together, in registers
constexpr int64_t kColumns = 256;  // of a thread's task

// Products of two f32 are exact in f64, so that a fused multiply-add gives the same bits.
void sum_squares(const float* x, int64_t rows, int64_t cols, int64_t first, int64_t n, double* out) {
  double sums[kLanes] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * cols + first;
    if (n == kLanes) {
      for (int64_t c = 0; c < kLanes; ++c) sums[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    } else {
      for (int64_t c = 0; c < n; ++c) sums[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    }
  }
  std::copy_n(sums, n, out + first);
}

}  // namespace

std::vector<WeightShape> product_weights(const Artifact& gguf, const ModelConfig& config, bool output) {
  std::vector<WeightShape> all;
  for (const LazyTensor& t : gguf.tensors) {
    const Shape s = t.spec().shape;
    const int64_t layer = transform::layer_of(t.name);
    // A norm of each head's own is 2-D and multiplied with nothing.
    if (layer < 0 || layer >= config.layers || !t.name.ends_with(".weight") || t.name.ends_with("norm.weight") || s.rank < 2 || s.rank > 3) continue;
    if (s.rank == 2 && s[0] == 1) continue;  // the gate of a shared expert: a number a token, never quantized
    all.push_back({t.name, s.back(), s.rank == 3 ? s[0] : 1});
  }
  if (output) all.push_back({std::string(gguf.find(kOutputName) ? kOutputName : "token_embd.weight"), config.hidden, 1});
  return all;
}

ImportanceMatrix::ImportanceMatrix(const std::vector<WeightShape>& expected) {
  for (const WeightShape& w : expected) {
    Entry& e = entries_[w.name];
    e.cols = w.cols;
    e.sums.resize(static_cast<size_t>(w.cols * w.matrices));
    e.counts.resize(static_cast<size_t>(w.matrices));
  }
}

bool ImportanceMatrix::seen(const double* to, const float* x, int64_t rows, int64_t cols) const {
  return x == last_ && rows == last_rows_ && static_cast<size_t>(cols) == squares_.size() && std::find(served_.begin(), served_.end(), to) == served_.end() &&
         std::memcmp(last_row_.data(), x + (rows - 1) * cols, last_row_.size() * sizeof(float)) == 0;
}

void ImportanceMatrix::add(ThreadPool& pool, std::string_view name, int64_t part, const float* x, int64_t rows, int64_t cols) {
  const auto it = entries_.find(name);
  if (it == entries_.end() || it->second.cols != cols || rows < 1 || part < 0 || part >= static_cast<int64_t>(it->second.counts.size())) return;
  Entry& e = it->second;
  double* to = e.sums.data() + part * cols;
  if (!seen(to, x, rows, cols)) {
    squares_.resize(static_cast<size_t>(cols));
    const auto columns = [&](int64_t task) {
      const int64_t end = std::min(cols, (task + 1) * kColumns);
      for (int64_t c = task * kColumns; c < end; c += kLanes) sum_squares(x, rows, cols, c, std::min(kLanes, end - c), squares_.data());
    };
    const int64_t tasks = (cols + kColumns - 1) / kColumns;
    // An expert's few rows are not worth waking the threads.
    if (rows * cols < 65536)
      for (int64_t i = 0; i < tasks; ++i) columns(i);
    else
      pool.parallel_for(tasks, columns);
    last_ = x, last_rows_ = rows;
    last_row_.assign(x + (rows - 1) * cols, x + rows * cols);
    served_.clear();
  }
  served_.push_back(to);
  for (int64_t c = 0; c < cols; ++c) to[c] += squares_[static_cast<size_t>(c)];
  e.counts[static_cast<size_t>(part)] += rows;
}

void ImportanceMatrix::copy(const ImportanceMatrix& from) {
  auto it = from.entries_.begin();
  for (auto& [name, e] : entries_) {
    std::copy(it->second.sums.begin(), it->second.sums.end(), e.sums.begin());
    std::copy(it->second.counts.begin(), it->second.counts.end(), e.counts.begin());
    ++it;
  }
}

Status ImportanceMatrix::check_finite() const {
  for (const auto& [name, e] : entries_)
    for (size_t i = 0; i < e.sums.size(); ++i)
      if (!(e.sums[i] <= static_cast<double>(FLT_MAX))) {
        const auto cols = static_cast<size_t>(e.cols);
        return bad_input("the inputs of '{}'{} have squares that sum up to {} in column {}: what comes before it in the model overflows on this text; check the weights ('ingot verify' finds "
                         "NaN and infinity), or compute the matrix from a file of another type",
                         name, e.counts.size() > 1 ? fmt::format(" (matrix {})", i / cols) : "", e.sums[i], i % cols);
      }
  return {};
}

transform::ImportanceSums ImportanceMatrix::sums() const {
  transform::ImportanceSums s;
  for (const auto& [name, e] : entries_) s.entries[name] = {e.sums, {e.counts.begin(), e.counts.end()}, "this run"};
  return s;
}

std::string ImportanceMatrix::bytes() const {
  ByteWriter w;
  w.write(kVersion);
  w.write(static_cast<uint64_t>(entries_.size()));
  for (const auto& [name, e] : entries_) {
    w.text(name);
    w.write(e.cols);
    w.write(static_cast<uint64_t>(e.counts.size()));
    w.append(e.counts.data(), e.counts.size() * sizeof(int64_t));
    w.append(e.sums.data(), e.sums.size() * sizeof(double));
  }
  return std::move(w.str());
}

Status ImportanceMatrix::restore(ByteView from) {
  const auto wrong = [](std::string_view what) { return bad_input("the sums so far are not of this model: {}", what); };
  ByteReader r(from);
  uint32_t version = 0;
  uint64_t count = 0;
  if (!r.read(&version) || !r.read(&count) || version != kVersion || count != entries_.size()) return wrong("another version, or another number of tensors");
  ImportanceMatrix found;
  found.entries_ = entries_;
  for (auto& [name, e] : found.entries_) {
    std::string named;
    int64_t cols = 0;
    uint64_t matrices = 0;
    ByteView counts, sums;
    if (!r.text(&named) || named != name || !r.read(&cols) || cols != e.cols || !r.read(&matrices) || matrices != e.counts.size() ||
        !r.view(e.counts.size() * sizeof(int64_t), &counts) || !r.view(e.sums.size() * sizeof(double), &sums))
      return wrong(fmt::format("'{}' is missing, or of another shape", name));
    std::memcpy(e.counts.data(), counts.data(), counts.size());
    std::memcpy(e.sums.data(), sums.data(), sums.size());
    const bool odd = std::any_of(e.counts.begin(), e.counts.end(), [](int64_t n) { return n < 0; }) ||
                     std::any_of(e.sums.begin(), e.sums.end(), [](double s) { return !(s >= 0 && std::isfinite(s)); });
    if (odd) return wrong(fmt::format("'{}' has a sum or a count that is none", name));
  }
  if (r.remaining()) return wrong("there is more behind it");
  entries_ = std::move(found.entries_);
  return {};
}

}  // namespace ingot::calibrate
