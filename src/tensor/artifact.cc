#include "tensor/artifact.h"

#include <cstring>

#include "kernels/hash.h"

namespace ingot {
namespace {

class MemoryTensor final : public Source {
 public:
  MemoryTensor(TensorSpec spec, std::vector<std::byte> bytes, std::string identity)
      : spec_(spec), bytes_(std::move(bytes)), identity_(std::move(identity)) {
    if (identity_.empty()) identity_ = to_hex(hash128(bytes_));
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return "memory:" + identity_; }
  Result<uint64_t> read(const Region& region, MutByteView out) const override {
    for_each_run(Region::all(spec_.shape), region, [&](int64_t at, int64_t to, int64_t n) {
      std::memcpy(out.data() + bytes_of(spec_.type, to), bytes_.data() + bytes_of(spec_.type, at),
                  bytes_of(spec_.type, n));
    });
    return bytes_of(spec_.type, region.elements());
  }

 private:
  TensorSpec spec_;
  std::vector<std::byte> bytes_;
  std::string identity_;
};

}  // namespace

const LazyTensor* Artifact::find(std::string_view name) const {
  for (const auto& t : tensors)
    if (t.name == name) return &t;
  return nullptr;
}

const MetaValue* Artifact::meta(std::string_view key) const {
  for (const auto& [k, v] : metadata)
    if (k == key) return &v;
  return nullptr;
}

NodePtr make_memory_tensor(TensorSpec spec, std::vector<std::byte> bytes, std::string identity) {
  return std::make_shared<MemoryTensor>(spec, std::move(bytes), std::move(identity));
}

}  // namespace ingot
