#include "checkpoint/still.h"

#include <algorithm>

namespace ingot::checkpoint {
namespace {

ByteView bytes_in(const Tensor& t) { return {t.bytes, bytes_of(t.spec)}; }

Hash128 few_of(ByteView bytes) {
  constexpr size_t kPiece = 256, kPieces = 32;
  if (bytes.size() <= kPiece * kPieces) return hash128(bytes);
  Hasher128 h;
  for (size_t i = 0; i < kPieces; ++i) h.update(bytes.subspan((bytes.size() - kPiece) / (kPieces - 1) * i, kPiece));
  return h.digest();
}

}  // namespace

void StillTensors::mark(Snapshot* s) const {
  for (Group& g : s->groups)
    for (Tensor& t : g.tensors)
      if (const auto k = known_.find({g.name, t.name}); k != known_.end()) t.still = k->second.still;
}

void StillTensors::note(const Snapshot& saved) {
  for (const Group& g : saved.groups)
    for (const Tensor& t : g.tensors) {
      const auto [it, fresh] = known_.try_emplace({g.name, t.name});
      Known& k = it->second;
      const Hash128 few = few_of(bytes_in(t));
      const bool same = !fresh && few == k.few;
      const Hash128 all = same ? hash128(bytes_in(t)) : Hash128();
      // One that the caller says is still is believed until it moves.
      k.still = fresh ? t.still : same && (!k.hashed ? t.still : all == k.all);
      k.few = few, k.all = all, k.hashed = same;
    }
}

}  // namespace ingot::checkpoint
