#include "exec/sink.h"

#include <algorithm>

#include "base/status.h"

namespace ingot {

SinkFile::SinkFile(const FileLayout& layout, Capabilities caps, uint64_t leaf_bytes, OnLeaf on_leaf)
    : layout_(layout), caps_(caps), leaf_bytes_(leaf_bytes), on_leaf_(std::move(on_leaf)),
      count_((layout.size + leaf_bytes - 1) / leaf_bytes), own_last_(count_), hashes_(count_) {}

uint64_t SinkFile::leaf_size(uint64_t leaf) const {
  return std::min(leaf_bytes_, layout_.size - leaf * leaf_bytes_);
}

Status SinkFile::open(Store& store, const std::string& path, bool resume,
                      const std::map<uint64_t, Hash128>& recorded) {
  path_ = path;
  INGOT_ASSIGN(file_, store.create(path, layout_.size, resume));
  const bool ordered = caps_.mode != WriteMode::kRandom;
  if (caps_.mode == WriteMode::kParts) {
    const uint64_t least = (layout_.size + caps_.part_count_max - 1) / std::max(1u, caps_.part_count_max);
    part_bytes_ = align_up(std::max({caps_.part_min, least, uint64_t{1}}), leaf_bytes_);
    if (part_bytes_ > caps_.part_max)
      return failed("writing {}: {} bytes do not fit into {} parts of at most {} bytes", path, layout_.size,
                    caps_.part_count_max, caps_.part_max);
  }
  // A recorded leaf counts only if the bytes are really there.
  std::vector<std::byte> buffer(leaf_bytes_);
  const uint64_t there = ordered ? file_->resumed() : layout_.size;
  for (const auto& [leaf, hash] : recorded) {
    if (leaf >= count_ || !resume || leaf * leaf_bytes_ + leaf_size(leaf) > there) continue;
    const MutByteView v(buffer.data(), leaf_size(leaf));
    if (!file_->read_back(leaf * leaf_bytes_, v).ok() || !(hash128(v) == hash)) continue;
    hashes_[leaf] = hash;
  }
  if (ordered) {
    uint64_t trusted = 0;
    while (trusted < count_ && hashes_[trusted]) ++trusted;
    uint64_t at = std::min(trusted * leaf_bytes_, layout_.size);
    if (part_bytes_ && at < layout_.size) at = at / part_bytes_ * part_bytes_;
    for (uint64_t l = at / leaf_bytes_ + (at % leaf_bytes_ ? 1 : 0); l < count_; ++l) hashes_[l].reset();
    if (file_->resumed() > at) INGOT_TRY(file_->truncate(at));
    next_ = written_ = at;
  }
  for (uint64_t l = own_first_; l < own_last_; ++l)
    if (hashes_[l]) resumed_bytes_ += leaf_size(l);
  return {};
}

Status SinkFile::attach(Store& store, const std::string& path) {
  path_ = path;
  INGOT_ASSIGN(file_, store.create(path, layout_.size, true));
  return {};
}

bool SinkFile::pending(uint64_t offset, uint64_t bytes) const {
  if (!bytes) return false;
  std::lock_guard lock(mutex_);
  for (uint64_t l = offset / leaf_bytes_; l <= (offset + bytes - 1) / leaf_bytes_; ++l)
    if (leaf_pending(l)) return true;
  return false;
}

Status SinkFile::start(const std::vector<std::pair<uint64_t, uint64_t>>& tensor_extents) {
  // Everything that no tensor fills: fixed bytes, and zeros between.
  std::vector<std::pair<uint64_t, uint64_t>> taken = tensor_extents;
  for (const auto& f : layout_.fixed) {
    taken.emplace_back(f.offset, f.bytes.size());
    fillers_.push_back({f.offset, f.bytes});
  }
  std::sort(taken.begin(), taken.end());
  uint64_t at = 0;
  for (const auto& [offset, bytes] : taken) {
    if (!bytes) continue;
    if (offset < at || offset + bytes > layout_.size)
      return failed("laying out {}: bytes {} to {} overlap others or pass its end", path_, offset, offset + bytes);
    if (offset > at) fillers_.push_back({at, std::string(offset - at, '\0')});
    at = offset + bytes;
  }
  if (at < layout_.size) fillers_.push_back({at, std::string(layout_.size - at, '\0')});
  std::sort(fillers_.begin(), fillers_.end(), [](const Filler& a, const Filler& b) { return a.offset < b.offset; });
  if (!owns_any()) return {};
  if (caps_.mode == WriteMode::kRandom) {
    for (const auto& f : fillers_) INGOT_TRY(write_random(f.offset, as_bytes(f.bytes)));
    fillers_.clear();
    return {};
  }
  std::lock_guard lock(mutex_);
  return write_ordered(UINT64_MAX, {});
}

Status SinkFile::write(uint64_t offset, ByteView bytes) {
  if (bytes.empty()) return {};
  if (caps_.mode == WriteMode::kRandom) return write_random(offset, bytes);
  std::lock_guard lock(mutex_);
  return write_ordered(offset, bytes);
}

Status SinkFile::write_random(uint64_t offset, ByteView bytes) {
  // Runs of leaves that are still this rank's to write go out in one call.
  uint64_t at = offset;
  const uint64_t end = offset + bytes.size();
  while (at < end) {
    uint64_t stop = at;
    {
      std::lock_guard lock(mutex_);
      while (stop < end && leaf_pending(stop / leaf_bytes_)) stop = std::min(end, (stop / leaf_bytes_ + 1) * leaf_bytes_);
    }
    if (stop == at) {
      at = std::min(end, (at / leaf_bytes_ + 1) * leaf_bytes_);
      continue;
    }
    const ByteView run = bytes.subspan(at - offset, stop - at);
    INGOT_TRY(file_->write(at, run));
    file_->start_flush(at, run.size());
    INGOT_TRY(feed(at, run));
    at = stop;
  }
  return {};
}

Status SinkFile::feed(uint64_t offset, ByteView bytes) {
  std::vector<std::pair<uint64_t, Hash128>> done;
  const uint64_t end = offset + bytes.size();
  for (uint64_t at = offset; at < end;) {
    const uint64_t leaf = at / leaf_bytes_;
    const uint64_t stop = std::min(end, (leaf + 1) * leaf_bytes_);
    const ByteView part = bytes.subspan(at - offset, stop - at);
    if (part.size() == leaf_size(leaf)) {
      done.emplace_back(leaf, hash128(part));  // whole leaves are hashed outside the lock
    } else {
      std::lock_guard lock(mutex_);
      if (const auto hash = feed_part(leaf, at, part)) done.emplace_back(leaf, *hash);
    }
    at = stop;
  }
  for (const auto& [leaf, hash] : done) {
    INGOT_TRY(on_leaf_(leaf, hash));
    std::lock_guard lock(mutex_);
    hashes_[leaf] = hash;
  }
  return {};
}

// With the lock held: a part of a leaf; the leaf's hash when this was the last of it.
std::optional<Hash128> SinkFile::feed_part(uint64_t leaf, uint64_t at, ByteView part) {
  Open& o = open_[leaf];
  const uint64_t within = at - leaf * leaf_bytes_;
  if (within == o.fed) {
    o.hasher.update(part);
    o.fed += part.size();
    for (auto it = o.waiting.begin(); it != o.waiting.end() && it->first == o.fed; it = o.waiting.erase(it)) {
      o.hasher.update(as_bytes(it->second));
      o.fed += it->second.size();
    }
  } else {
    o.waiting[within] = as_text(part);
  }
  if (o.fed < leaf_size(leaf)) return std::nullopt;
  const Hash128 hash = o.hasher.digest();
  open_.erase(leaf);
  return hash;
}

// With the lock held.
Status SinkFile::write_ordered(uint64_t offset, ByteView bytes) {
  auto drain = [&]() -> Status {
    for (;;) {
      auto f = std::lower_bound(fillers_.begin(), fillers_.end(), next_, [](const Filler& a, uint64_t v) {
        return a.offset + a.bytes.size() <= v;
      });
      if (f != fillers_.end() && f->offset <= next_) {
        INGOT_TRY(emit(as_bytes(f->bytes).subspan(next_ - f->offset)));
        continue;
      }
      auto w = waiting_.begin();
      if (w == waiting_.end() || w->first > next_) return {};
      const std::string held = std::move(w->second);
      const uint64_t first = w->first;
      waiting_.erase(w);
      if (first + held.size() > next_) INGOT_TRY(emit(as_bytes(held).subspan(next_ - first)));
    }
  };
  if (!bytes.empty()) {
    if (offset + bytes.size() <= next_) return {};  // an earlier run has it
    if (offset > next_) {
      waiting_[offset] = as_text(bytes);
      return {};
    }
    INGOT_TRY(emit(bytes.subspan(next_ - offset)));
  }
  return drain();
}

Status SinkFile::emit(ByteView bytes) {
  const uint64_t at = next_;
  if (caps_.mode == WriteMode::kSequential) {
    INGOT_TRY(file_->write(next_, bytes));
    next_ += bytes.size();
    written_ = next_;
  } else {
    uint64_t taken = 0;
    while (taken < bytes.size()) {
      const uint64_t n = std::min<uint64_t>(part_bytes_ - part_.size(), bytes.size() - taken);
      part_.append(as_text(bytes.subspan(taken, n)));
      taken += n;
      if (part_.size() == part_bytes_) INGOT_TRY(flush_part());
    }
    next_ += bytes.size();
  }
  const uint64_t end = at + bytes.size();
  for (uint64_t p = at; p < end;) {
    const uint64_t leaf = p / leaf_bytes_;
    const uint64_t stop = std::min(end, (leaf + 1) * leaf_bytes_);
    if (const auto hash = feed_part(leaf, p, bytes.subspan(p - at, stop - p))) {
      INGOT_TRY(on_leaf_(leaf, *hash));
      hashes_[leaf] = *hash;
    }
    p = stop;
  }
  return {};
}

Status SinkFile::flush_part() {
  if (part_.empty()) return {};
  INGOT_TRY(file_->write(written_, as_bytes(part_)));
  written_ += part_.size();
  part_.clear();
  return {};
}

Status SinkFile::finish(bool* synced) {
  if (!owns_any()) return {};
  {
    std::lock_guard lock(mutex_);
    if (caps_.mode == WriteMode::kParts) INGOT_TRY(flush_part());
    for (uint64_t l = own_first_; l < own_last_; ++l)
      if (!hashes_[l]) return failed("writing {}: bytes from {} on never came", path_, l * leaf_bytes_);
  }
  Status s = file_->sync();
  *synced = s.ok();
  return s;
}

}  // namespace ingot
