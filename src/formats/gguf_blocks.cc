#include "formats/gguf_blocks.h"

#include <algorithm>
#include <numeric>

#include "exec/evaluate.h"
#include "formats/gguf.h"
#include "formats/gguf_header.h"

namespace ingot {
namespace {

// The same bytes as a tensor of another type: blocks as bytes, or bytes as blocks. What the other has along the last dimension is what fills as many blocks.
class SameBytes final : public Node {
 public:
  SameBytes(NodePtr input, TensorSpec spec) : input_(std::move(input)), spec_(spec) {}
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("same_bytes v1 {}", info(spec_.type).name); }
  std::vector<NodePtr> inputs() const override { return {input_}; }
  // Whole blocks, on either side, and what the input asks for.
  Shape granularity() const override {
    Shape g = input_->granularity();
    int64_t& last = g[g.rank - 1];
    const int64_t whole = std::max(info(input_->spec().type).block, input_->spec().type == DType::kU8 ? info(spec_.type).bytes : int64_t{1});
    last = from_input(std::lcm(last, whole));
    return g;
  }
  void needs(const Region& r, std::vector<Need>* out) const override {
    Region of = r;
    const int d = r.extent.rank - 1;
    of.begin[d] = to_input(r.begin[d]), of.extent[d] = to_input(r.extent[d]);
    out->push_back({input_, of, false});
  }
  void trace(Origin* o) const override {
    int64_t& last = o->index[o->index.rank - 1];
    last = to_input(last);
    input_->trace(o);
  }
  Status compute(const Compute& c) const override {
    if (!c.out.empty()) std::memcpy(c.out.data(), c.inputs[0].data, bytes_of(spec_.type, c.region.elements()));
    return {};
  }

 private:
  // Elements along the last dimension: there are as many bytes.
  static int64_t converted(int64_t n, const TypeInfo& from, const TypeInfo& to) { return n / from.block * from.bytes / to.bytes * to.block; }
  int64_t to_input(int64_t n) const { return converted(n, info(spec_.type), info(input_->spec().type)); }
  int64_t from_input(int64_t n) const { return converted(n, info(input_->spec().type), info(spec_.type)); }

  NodePtr input_;
  TensorSpec spec_;
};

TensorSpec as_bytes_of(TensorSpec s) {
  int64_t& last = s.shape[s.shape.rank - 1];
  last = last / info(s.type).block * info(s.type).bytes;
  s.type = DType::kU8;
  return s;
}

// The header's bytes, as they are read like a file.
class HeaderBytes final : public ReadFile {
 public:
  HeaderBytes(std::string path, std::vector<std::byte> bytes) : path_(std::move(path)), bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  const std::string& path() const override { return path_; }
  std::string identity() const override { return path_; }
  Status read(uint64_t offset, MutByteView out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) return bad_input("reading {}: it ends at byte {}", path_, bytes_.size());
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return {};
  }

 private:
  std::string path_;
  std::vector<std::byte> bytes_;
};

}  // namespace

Result<Artifact> gguf_as_bytes(const Artifact& gguf) {
  std::vector<NamedSpec> specs;
  for (const LazyTensor& t : gguf.tensors) specs.emplace_back(t.name, t.spec());
  if (gguf.find(kGgufHeaderTensor)) return bad_input("converting {}: a tensor of it is called '{}', which is what its header would be", gguf.path, kGgufHeaderTensor);
  INGOT_ASSIGN(const Layout layout, layout_gguf(gguf, specs));
  const std::string& header = layout.files[0].extents[0].bytes;
  const ByteView bytes = as_bytes(header);
  Artifact out;
  out.path = gguf.path, out.format = gguf.format, out.naming = gguf.naming;
  out.tensors.push_back({std::string(kGgufHeaderTensor), make_memory_tensor({DType::kU8, {static_cast<int64_t>(header.size())}}, {bytes.begin(), bytes.end()})});
  for (const LazyTensor& t : gguf.tensors) {
    const TensorSpec s = t.spec();
    out.tensors.push_back({t.name, is_block_type(s.type) ? std::make_shared<SameBytes>(t.node, as_bytes_of(s)) : t.node});
  }
  return out;
}

Result<Artifact> gguf_from_bytes(Artifact opened) {
  const LazyTensor* header = opened.find(kGgufHeaderTensor);
  if (!header) return opened;
  const std::string path = fmt::format("'{}' of {}", kGgufHeaderTensor, opened.path);
  if (const TensorSpec s = header->spec(); s.type != DType::kU8 || s.shape.rank != 1)
    return bad_input("reading {}: it is {} {}, expected bytes in a row (U8)", path, info(s.type).name, to_string(s.shape));
  INGOT_ASSIGN(auto bytes, evaluate(header->node));
  OpenedFile file;
  file.path = path;
  file.file = std::make_shared<HeaderBytes>(path, std::move(bytes));
  INGOT_ASSIGN(GgufHeader h, read_gguf_header(file));
  if (h.big_endian) return bad_input("reading {}: it is big-endian, expected little-endian", path);
  Artifact out;
  out.path = opened.path, out.format = opened.format, out.naming = "gguf", out.notices = opened.notices;
  out.metadata = std::move(h.metadata);
  for (const GgufInfo& t : h.tensors) {
    const LazyTensor* data = opened.find(t.name);
    if (!data) return bad_input("opening {}: the tensor '{}' is missing, of which its GGUF header tells; the file is not whole", opened.path, t.name);
    const bool blocks = is_block_type(t.spec.type);
    const TensorSpec want = blocks ? as_bytes_of(t.spec) : t.spec, found = data->spec();
    const Shape one = found.shape.rank ? found.shape : Shape{1};  // a header has no tensors without a dimension
    if (found.type != want.type || !(one == want.shape))
      return bad_input("opening {}: the tensor '{}' is {} {}, but its GGUF header makes it {} {} in {} {}", opened.path, t.name, info(found.type).name, to_string(found.shape),
                       info(t.spec.type).name, to_string(t.spec.shape), info(want.type).name, to_string(want.shape));
    out.tensors.push_back({t.name, blocks ? std::make_shared<SameBytes>(data->node, t.spec) : data->node});
  }
  if (opened.tensors.size() != h.tensors.size() + 1)
    return bad_input("opening {}: it has {} tensors, but its GGUF header tells of {}", opened.path, opened.tensors.size() - 1, h.tensors.size());
  return out;
}

}  // namespace ingot
