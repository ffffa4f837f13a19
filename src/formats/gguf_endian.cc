#include "formats/gguf_endian.h"

#include <algorithm>

namespace ingot {
namespace {

// `count` numbers of `width` bytes from byte `at` of a block on.
struct Field {
  DType type;
  int at, width, count;
};
// Of ggml-common.h's block structs the members that are no bytes; MXFP4 and NVFP4 have none. gguf-py's gguf_convert_endian.py has some of the types, llama.cpp
// on a big-endian machine all. (Blocks that gguf-py's writer is given are passed through as bytes, whatever the file's order: it makes none that others read.)
constexpr Field kFields[] = {
    {DType::kQ4_0, 0, 2, 1},     {DType::kQ4_1, 0, 2, 2},    {DType::kQ5_0, 0, 2, 1},   {DType::kQ5_1, 0, 2, 2},   {DType::kQ8_0, 0, 2, 1},  {DType::kQ8_1, 0, 2, 2},
    {DType::kQ2_K, 80, 2, 2},    {DType::kQ3_K, 108, 2, 1},  {DType::kQ4_K, 0, 2, 2},   {DType::kQ5_K, 0, 2, 2},   {DType::kQ6_K, 208, 2, 1}, {DType::kQ8_K, 0, 4, 1},
    {DType::kQ8_K, 260, 2, 16},  {DType::kIQ2_XXS, 0, 2, 33}, {DType::kIQ2_XS, 0, 2, 33}, {DType::kIQ2_S, 0, 2, 1}, {DType::kIQ3_XXS, 0, 2, 1}, {DType::kIQ3_S, 0, 2, 1},
    {DType::kIQ1_S, 0, 2, 1},    {DType::kIQ1_S, 34, 2, 8},  {DType::kIQ1_M, 48, 2, 4}, {DType::kIQ4_NL, 0, 2, 1}, {DType::kIQ4_XS, 0, 2, 2}, {DType::kTQ1_0, 52, 2, 1},
    {DType::kTQ2_0, 64, 2, 1},   {DType::kQ1_0, 0, 2, 1},    {DType::kQ2_0, 0, 2, 1}};

class LittleEndian final : public Node {
 public:
  explicit LittleEndian(NodePtr input) : input_(std::move(input)), spec_(input_->spec()) {
    for (const Field& f : kFields)
      if (f.type == spec_.type) fields_.push_back(f);
    if (!is_block_type(spec_.type)) fields_.push_back({spec_.type, 0, static_cast<int>(info(spec_.type).bytes), 1});
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return "little_endian v1"; }
  std::vector<NodePtr> inputs() const override { return {input_}; }
  Shape granularity() const override { return joined_granularity(Node::granularity(), *input_); }
  void needs(const Region& r, std::vector<Need>* out) const override { out->push_back({input_, r, false}); }
  void trace(Origin* o) const override { input_->trace(o); }
  Status compute(const Compute& c) const override {
    const uint64_t size = bytes_of(spec_.type, c.region.elements()), block = static_cast<uint64_t>(info(spec_.type).bytes);
    if (size) std::memcpy(c.out.data(), c.inputs[0].data, size);
    for (const Field& f : fields_)
      for (std::byte *b = c.out.data() + f.at, *end = c.out.data() + size; b < end; b += block)
        for (int k = 0; k < f.count; ++k) std::reverse(b + k * f.width, b + (k + 1) * f.width);
    return {};
  }

 private:
  NodePtr input_;
  TensorSpec spec_;
  std::vector<Field> fields_;
};

}  // namespace

NodePtr little_endian(NodePtr node) { return std::make_shared<LittleEndian>(std::move(node)); }

}  // namespace ingot
