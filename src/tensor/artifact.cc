#include "tensor/artifact.h"

#include <bit>
#include <cstring>
#include <functional>

#include "kernels/hash.h"

namespace ingot {
namespace {

class MemoryTensor final : public Source {
 public:
  MemoryTensor(TensorSpec spec, const std::byte* bytes, std::shared_ptr<const void> owner, std::string identity)
      : spec_(spec), bytes_(bytes), owner_(std::move(owner)), identity_(std::move(identity)) {
    if (identity_.empty()) identity_ = to_hex(hash128({bytes_, bytes_of(spec_)}));
  }
  const std::byte* resident() const override { return bytes_; }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return "memory:" + identity_; }
  Result<uint64_t> read(const Region& region, MutByteView out) const override {
    for_each_run(Region::all(spec_.shape), region, [&](int64_t at, int64_t to, int64_t n) {
      std::memcpy(out.data() + bytes_of(spec_.type, to), bytes_ + bytes_of(spec_.type, at), bytes_of(spec_.type, n));
    });
    return bytes_of(spec_.type, region.elements());
  }

 private:
  TensorSpec spec_;
  const std::byte* bytes_;
  std::shared_ptr<const void> owner_;
  std::string identity_;
};

}  // namespace

// Where the name stands, or the free slot where it would.
size_t TensorList::slot(std::string_view name) const {
  size_t s = std::hash<std::string_view>()(name);
  for (;; ++s) {
    s &= slots_.size() - 1;
    if (!slots_[s] || all_[slots_[s] - 1].name == name) return s;
  }
}

void TensorList::add(size_t i) {
  uint32_t& s = slots_[slot(all_[i].name)];
  if (!s) s = static_cast<uint32_t>(i + 1);
}

void TensorList::index() {
  slots_.assign(std::bit_ceil(2 * all_.size() + 16), 0);
  for (size_t i = 0; i < all_.size(); ++i) add(i);
}

void TensorList::push_back(LazyTensor t) {
  all_.push_back(std::move(t));
  if (slots_.size() < 2 * all_.size()) index();
  else add(all_.size() - 1);
}

const LazyTensor* TensorList::find(std::string_view name) const {
  const uint32_t at = slots_.empty() ? 0 : slots_[slot(name)];
  return at ? &all_[at - 1] : nullptr;
}

const MetaValue* Artifact::meta(std::string_view key) const {
  for (const auto& [k, v] : metadata)
    if (k == key) return &v;
  return nullptr;
}

NodePtr make_memory_tensor(TensorSpec spec, std::vector<std::byte> bytes, std::string identity) {
  const auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  return make_resident_tensor(spec, owner->data(), owner, std::move(identity));
}

NodePtr make_resident_tensor(TensorSpec spec, const std::byte* bytes, std::shared_ptr<const void> owner, std::string identity) {
  return std::make_shared<MemoryTensor>(spec, bytes, std::move(owner), std::move(identity));
}

}  // namespace ingot
