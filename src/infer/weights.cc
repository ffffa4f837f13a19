// Loading tensors: leaves are read straight into their buffer, everything else is evaluated (a lazily merged
// adapter, a lazily quantized model).
#include "infer/weights.h"

#include <cstring>

#include "exec/evaluate.h"

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
  if (spec.type != DType::kF32 && !find_codec(spec.type))
    return bad_input("tensor {} has type {}, which cannot be computed with", tensor_text(*t.node, t.name), info(spec.type).name);
  if (expected.back() % info(spec.type).block)
    return bad_input("tensor {} has rows of {} elements, not a multiple of the {} of a {} block", tensor_text(*t.node, t.name),
                     expected.back(), info(spec.type).block, info(spec.type).name);
  return Status();
}

Result<std::shared_ptr<const std::byte[]>> read_all(const LazyTensor& t) {
  const TensorSpec spec = t.spec();
  const uint64_t bytes = bytes_of(spec);
  if (const auto* leaf = dynamic_cast<const LeafNode*>(t.node.get())) {
    AlignedBytes buffer = allocate_aligned(bytes);
    if (!buffer) return failed("no memory for tensor {} ({} bytes)", tensor_text(*t.node, t.name), bytes);
    INGOT_TRY(leaf->read(Region::all(spec.shape), MutByteView(buffer.get(), bytes)));
    return std::shared_ptr<const std::byte[]>(std::move(buffer));
  }
  auto value = evaluate(t.node);
  if (!value.ok()) return value.take_error().during("computing tensor " + t.name);
  auto held = std::make_shared<std::vector<std::byte>>(std::move(*value));
  if (held->size() != bytes)
    return failed("tensor {} came out as {} bytes, not {}", t.name, held->size(), bytes);
  const std::byte* p = held->data();
  return std::shared_ptr<const std::byte[]>(std::shared_ptr<void>(held), p);
}

}  // namespace

AlignedBytes allocate_aligned(uint64_t bytes) {
  if (bytes > (UINT64_C(1) << 46)) return nullptr;
  const uint64_t size = align_up(bytes ? bytes : 1, 64);
  return AlignedBytes(static_cast<std::byte*>(std::aligned_alloc(64, size)));
}

Result<WeightMatrix> load_matrix(const Artifact& artifact, const std::string& name, int64_t rows,
                                 int64_t cols) {
  INGOT_ASSIGN(const LazyTensor* t, find_tensor(artifact, name));
  INGOT_TRY(check(*t, Shape{rows, cols}));
  WeightMatrix w;
  w.name = name;
  w.type = t->spec().type;
  w.rows = rows;
  w.cols = cols;
  w.row_bytes = bytes_of(w.type, cols);
  w.codec = find_codec(w.type);
  INGOT_ASSIGN(w.data, read_all(*t));
  return w;
}

Result<std::vector<float>> load_vector(const Artifact& artifact, const std::string& name, int64_t n,
                                       bool optional) {
  if (optional && !artifact.find(name)) return std::vector<float>();
  INGOT_ASSIGN(const LazyTensor* t, find_tensor(artifact, name));
  INGOT_TRY(check(*t, Shape{n}));
  INGOT_ASSIGN(const auto bytes, read_all(*t));
  std::vector<float> out(static_cast<size_t>(n));
  if (t->spec().type == DType::kF32)
    std::memcpy(out.data(), bytes.get(), out.size() * 4);
  else
    find_codec(t->spec().type)->decode(bytes.get(), n, out.data());
  return out;
}

void decode_row(const WeightMatrix& w, int64_t row, float* out) {
  if (w.type == DType::kF32)
    std::memcpy(out, w.row(row), static_cast<size_t>(w.cols) * 4);
  else
    w.codec->decode(w.row(row), w.cols, out);
}

}  // namespace ingot
