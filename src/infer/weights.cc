// Loading tensors: sources are read straight into their buffer, everything else is evaluated (a lazily merged
// adapter, a lazily quantized model).
#include "infer/weights.h"

#include <cstring>

#include "exec/load.h"

namespace ingot {
namespace {

Result<const LazyTensor*> find_tensor(const Artifact& artifact, const std::string& name) {
  const LazyTensor* t = artifact.find(name);
  if (!t) return bad_input("tensor {} is missing: the model's metadata asks for it", name);
  return t;
}

Status check(const LazyTensor& t, const Shape& expected) {
  const TensorSpec spec = t.spec();
  if (!(spec.shape == expected))
    return bad_input("tensor {} has shape {}, but the model's metadata asks for {}", tensor_text(*t.node, t.name),
                     to_string(spec.shape), to_string(expected));
  if (spec.type != DType::kF32 && !find_decode(spec.type))
    return bad_input("tensor {} has type {}, which cannot be computed with", tensor_text(*t.node, t.name), info(spec.type).name);
  if (expected.back() % info(spec.type).block)
    return bad_input("tensor {} has rows of {} elements, not a multiple of the {} of a {} block", tensor_text(*t.node, t.name),
                     expected.back(), info(spec.type).block, info(spec.type).name);
  return Status();
}

}  // namespace

AlignedBytes allocate_aligned(uint64_t bytes) {
  if (bytes > (UINT64_C(1) << 46)) return nullptr;
  const uint64_t size = align_up(bytes ? bytes : 1, 64);
  return AlignedBytes(static_cast<std::byte*>(std::aligned_alloc(64, size)));
}

Status WeightLoader::want(const std::string& name, const Shape& shape, std::vector<float>* vector) {
  INGOT_ASSIGN(const LazyTensor* t, find_tensor(artifact_, name));
  INGOT_TRY(check(*t, shape));
  const uint64_t bytes = bytes_of(t->spec());
  AlignedBytes buffer = allocate_aligned(bytes);
  if (!buffer) return failed("no memory for tensor {} ({} bytes)", tensor_text(*t->node, t->name), bytes);
  wanted_.push_back({t, std::move(buffer), vector});
  return {};
}

Status WeightLoader::matrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* w) {
  INGOT_TRY(want(name, Shape{rows, cols}, nullptr));
  w->name = name;
  w->type = wanted_.back().tensor->spec().type;
  w->rows = rows;
  w->cols = cols;
  w->row_bytes = bytes_of(w->type, cols);
  w->decode = find_decode(w->type);
  w->data = wanted_.back().bytes;
  return {};
}

Status WeightLoader::matrices(const std::string& name, const Shape& shape, std::vector<WeightMatrix>* out) {
  INGOT_TRY(want(name, shape, nullptr));
  const DType type = wanted_.back().tensor->spec().type;
  const std::shared_ptr<std::byte[]>& bytes = wanted_.back().bytes;
  WeightMatrix w;
  w.name = name, w.type = type, w.rows = shape[1], w.cols = shape[2];
  w.row_bytes = bytes_of(type, w.cols);
  w.decode = find_decode(type);
  for (int64_t k = 0; k < shape[0]; ++k) {
    w.part = k, w.parts = shape[0];
    w.data = std::shared_ptr<const std::byte[]>(bytes, bytes.get() + static_cast<uint64_t>(k) * w.bytes());
    out->push_back(w);
  }
  return {};
}

Status WeightLoader::vector(const std::string& name, const Shape& shape, std::vector<float>* out) {
  INGOT_TRY(want(name, shape, out));
  out->resize(static_cast<size_t>(shape.elements()));
  return {};
}

Status WeightLoader::load(const ExecOptions& options) {
  std::vector<LazyTensor> tensors;
  std::vector<MutByteView> places;
  for (const auto& w : wanted_) {
    tensors.push_back(*w.tensor);
    places.emplace_back(w.bytes.get(), bytes_of(w.tensor->spec()));
  }
  INGOT_TRY(ingot::load(tensors, places, options));
  for (const auto& w : wanted_) {
    if (!w.vector) continue;
    const DType type = w.tensor->spec().type;
    if (type == DType::kF32) std::memcpy(w.vector->data(), w.bytes.get(), w.vector->size() * 4);
    else find_decode(type)(w.bytes.get(), static_cast<int64_t>(w.vector->size()), w.vector->data());
  }
  wanted_.clear();
  return {};
}

void decode_row(const WeightMatrix& w, int64_t row, float* out) {
  if (w.type == DType::kF32)
    std::memcpy(out, w.row(row), static_cast<size_t>(w.cols) * 4);
  else
    w.decode(w.row(row), w.cols, out);
}

}  // namespace ingot
