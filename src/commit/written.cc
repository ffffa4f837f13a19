#include "commit/written.h"

#include <utility>

#include "base/bytes.h"

namespace ingot {
namespace {

constexpr std::string_view kMagic = "ingot written 1\n";

}  // namespace

std::string Written::serialize() const {
  ByteWriter w;
  w.append(kMagic);
  w.text(key);
  w.write(leaf_bytes);
  w.write(static_cast<uint8_t>(published));
  for (const auto& f : files) {
    w.write(static_cast<int32_t>(f.output));
    w.text(f.name);
    w.write(f.size);
    w.write(static_cast<uint64_t>(f.leaves.size()));
    for (const auto& [leaf, h] : f.leaves) {
      w.write(leaf);
      w.write(h.lo);
      w.write(h.hi);
    }
  }
  w.write(hash128(as_bytes(w.str())).lo);
  return std::move(w.str());
}

Result<Written> Written::parse(std::string_view bytes) {
  const Error torn = bad_input("reading what a rank has written: the {} bytes are damaged or cut short; pass them as they were", bytes.size());
  if (bytes.size() < kMagic.size() + 8 || bytes.compare(0, kMagic.size(), kMagic)) return torn;
  const std::string_view body = bytes.substr(0, bytes.size() - 8);
  ByteReader sum(as_bytes(bytes.substr(body.size()))), r(as_bytes(body.substr(kMagic.size())));
  uint64_t want = 0;
  if (!sum.read(&want) || hash128(as_bytes(body)).lo != want) return torn;
  Written w;
  uint8_t published = 0;
  if (!r.text(&w.key) || !r.read(&w.leaf_bytes) || !r.read(&published)) return torn;
  w.published = published != 0;
  while (r.remaining()) {
    File f;
    int32_t output;
    uint64_t n;
    if (!r.read(&output) || !r.text(&f.name) || !r.read(&f.size) || !r.read(&n)) return torn;
    f.output = output;
    for (; n; --n) {
      uint64_t leaf;
      Hash128 h;
      if (!r.read(&leaf) || !r.read(&h.lo) || !r.read(&h.hi)) return torn;
      f.leaves[leaf] = h;
    }
    w.files.push_back(std::move(f));
  }
  return w;
}

}  // namespace ingot
