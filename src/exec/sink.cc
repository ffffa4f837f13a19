#include "exec/sink.h"

#include <algorithm>

#include "base/status.h"

namespace ingot {

uint64_t part_bytes(uint64_t file_size, const Capabilities& caps, uint64_t leaf_bytes) {
  if (caps.mode != WriteMode::kParts) return 0;
  const uint64_t most = std::max(1u, caps.part_count_max), least = (file_size + most - 1) / most;
  const uint64_t bytes = align_up(std::max({caps.part_min, least, uint64_t{1}}), leaf_bytes);
  return bytes > caps.part_max ? 0 : bytes;
}

SinkFile::SinkFile(const FileLayout& layout, Capabilities caps, uint64_t leaf_bytes, OnLeaf on_leaf, Uploads* uploads)
    : layout_(layout), caps_(caps), leaf_bytes_(leaf_bytes), on_leaf_(std::move(on_leaf)),
      count_((layout.size + leaf_bytes - 1) / leaf_bytes), own_last_(count_), checksums_(layout.checksums),
      hashes_(count_), uploads_(uploads), part_bytes_(part_bytes(layout.size, caps, leaf_bytes)) {
  for (const auto& e : layout.extents)
    for (uint64_t l = e.offset / leaf_bytes; e.late && l * leaf_bytes < e.offset + e.bytes.size(); ++l) late_.insert(l);
  for (const auto& c : layout.checksums) late_.insert(c.at / leaf_bytes), late_.insert((c.at + 3) / leaf_bytes);
}

uint64_t SinkFile::leaf_size(uint64_t leaf) const {
  return std::min(leaf_bytes_, layout_.size - leaf * leaf_bytes_);
}

Status SinkFile::open(Store& store, const std::string& path, bool resume,
                      const std::map<uint64_t, Hash128>& recorded, const ReadFile* whole) {
  path_ = path;
  if (whole && recorded.empty()) {
    INGOT_ASSIGN(file_, store.create(path, 0, false));  // without room of its own
    shared_ = file_->share(*whole);
  }
  if (!shared_ && !layout_.link.empty() && caps_.mode == WriteMode::kRandom) {
    INGOT_TRY(store.remove(path));
    INGOT_ASSIGN(shared_, store.link(layout_.link, path));
    // Whoever may not open it to write (another user's) writes a file of his own.
    if (auto linked = shared_ ? store.change(path) : Result<std::unique_ptr<WriteFile>>(usage("")); linked.ok()) file_ = std::move(*linked);
    else shared_ = false;
  }
  if (!shared_) {
    file_.reset();
    INGOT_ASSIGN(file_, store.create(path, layout_.size, resume));
  }
  if (caps_.mode == WriteMode::kParts && !part_bytes_)
    return failed("writing {}: {} bytes do not fit into {} parts of at most {} bytes", path, layout_.size, caps_.part_count_max, caps_.part_max);
  // A recorded leaf counts only if the bytes are really there, and can be summed.
  std::vector<std::byte> buffer(leaf_bytes_);
  const uint64_t there = caps_.mode == WriteMode::kRandom || !caps_.keeps ? layout_.size : file_->resumed();
  std::map<uint64_t, std::vector<Checksums::Piece>> summed;
  for (const auto& [leaf, hash] : recorded) {
    if (leaf >= count_ || !resume || leaf * leaf_bytes_ + leaf_size(leaf) > there) continue;
    const MutByteView v(buffer.data(), leaf_size(leaf));
    if (!caps_.keeps && !layout_.checksums.empty()) continue;
    if (caps_.keeps && (!file_->read_back(leaf * leaf_bytes_, v).ok() || !(hash128(v) == hash))) continue;
    hashes_[leaf] = hash;
    if (!layout_.checksums.empty()) summed[leaf] = checksums_.pieces(leaf * leaf_bytes_, v);
  }
  // A part counts as a whole, a sequential file up to the first gap.
  const uint64_t unit = part_bytes_ ? part_bytes_ / leaf_bytes_ : 1;
  bool gap = false;
  for (uint64_t l = 0; l < count_ && caps_.mode != WriteMode::kRandom; l += unit) {
    const auto first = hashes_.begin() + l, last = hashes_.begin() + std::min(count_, l + unit);
    const bool whole = std::all_of(first, last, [](const auto& h) { return h.has_value(); });
    gap |= !whole;
    if (whole && (part_bytes_ || !gap)) next_ = std::min((l + unit) * leaf_bytes_, layout_.size);
    else std::fill(first, last, std::nullopt);
  }
  if (caps_.mode == WriteMode::kSequential && file_->resumed() > next_) INGOT_TRY(file_->truncate(next_));
  for (uint64_t l = 0; l < count_; ++l)
    if (hashes_[l] && owns(l)) resumed_bytes_ += leaf_size(l);
  for (const auto& [leaf, pieces] : summed)
    if (hashes_[leaf]) checksums_.add(pieces);
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
  for (const auto& f : layout_.extents) {
    taken.emplace_back(f.offset, f.bytes.size());
    if (!f.late) fillers_.push_back({f.offset, f.bytes});
  }
  for (const auto& c : layout_.checksums) taken.emplace_back(c.at, 4);
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
  if (caps_.mode == WriteMode::kSequential) {
    for (const auto& e : layout_.extents)
      if (e.late && e.offset + e.bytes.size() < layout_.size)
        return failed("writing {}: bytes {} to {} are known last, and this store takes a file's bytes in order; write it to another store, or without them", path_,
                      e.offset, e.offset + e.bytes.size());
    INGOT_TRY(write_sequential(UINT64_MAX, {}));
    return write_checksums();
  }
  if (caps_.mode == WriteMode::kRandom) {
    for (const auto& f : fillers_) INGOT_TRY(write_random(f.offset, as_bytes(f.bytes)));
    fillers_.clear();
    return write_checksums();
  }
  // Parts that no tensor reaches; the others take their fillers when the first tensor comes.
  taken = tensor_extents;
  for (const auto& e : layout_.extents)
    if (e.late) taken.emplace_back(e.offset, e.bytes.size());
  for (const auto& c : layout_.checksums) taken.emplace_back(c.at, 4);
  std::erase_if(taken, [](const auto& t) { return t.second == 0; });
  std::sort(taken.begin(), taken.end());
  auto t = taken.begin();
  for (uint64_t at = 0; at < layout_.size; at += part_bytes_) {
    const uint64_t end = std::min(layout_.size, at + part_bytes_);
    while (t != taken.end() && t->first + t->second <= at) ++t;
    if ((t == taken.end() || t->first >= end) && leaf_pending(at / leaf_bytes_)) INGOT_TRY(write_parts(at, {}));
  }
  return write_checksums();
}

Status SinkFile::write(uint64_t offset, ByteView bytes) {
  INGOT_TRY(write_extent(offset, bytes));
  return write_checksums();
}

void SinkFile::sum(uint64_t offset, ByteView bytes) {
  if (!layout_.checksums.empty()) checksums_.add(checksums_.pieces(offset, bytes));
}

// Those that are known by now.
Status SinkFile::write_checksums() {
  if (layout_.checksums.empty()) return {};
  for (const auto& [at, bytes] : checksums_.take()) INGOT_TRY(write_extent(at, as_bytes(bytes)));
  return {};
}

Status SinkFile::write_extent(uint64_t offset, ByteView bytes) {
  if (bytes.empty()) return {};
  switch (caps_.mode) {
    case WriteMode::kRandom: return write_random(offset, bytes);
    case WriteMode::kParts: return write_parts(offset, bytes);
    case WriteMode::kSequential: return write_sequential(offset, bytes);
  }
  return {};
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
    if (!shared_) INGOT_TRY(file_->write(at, run));
    sum(at, run);
    if (!shared_) file_->start_flush(at, run.size());
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
      INGOT_ASSIGN(const auto hash, feed_part(leaf, at, part));
      if (hash) done.emplace_back(leaf, *hash);
    }
    at = stop;
  }
  return record(done);
}

Status SinkFile::record(const std::vector<std::pair<uint64_t, Hash128>>& leaves) {
  for (const auto& [leaf, hash] : leaves) {
    INGOT_TRY(on_leaf_(leaf, hash));
    std::lock_guard lock(mutex_);
    hashes_[leaf] = hash;
  }
  return {};
}

// With the lock held: a part of a leaf; the leaf's hash when this was the last of it.
Result<std::optional<Hash128>> SinkFile::feed_part(uint64_t leaf, uint64_t at, ByteView part) {
  Open& o = open_[leaf];
  const uint64_t within = at - leaf * leaf_bytes_;
  if (within != o.fed) {
    o.later[within] = {part.size(), hash128(part)};
    return std::optional<Hash128>();
  }
  o.hasher.update(part);
  o.fed += part.size();
  std::vector<std::byte> bytes;
  for (auto it = o.later.begin(); it != o.later.end() && it->first == o.fed; it = o.later.erase(it)) {
    bytes.resize(it->second.size);
    INGOT_TRY(file_->read_back(leaf * leaf_bytes_ + o.fed, bytes));
    if (!(hash128(bytes) == it->second.hash))
      return failed("writing {}: bytes {} to {} are no longer what was written there; the disk or memory is at fault, or something else writes to it",
                    path_, leaf * leaf_bytes_ + o.fed, leaf * leaf_bytes_ + o.fed + bytes.size());
    o.hasher.update(bytes);
    o.fed += bytes.size();
  }
  if (o.fed < leaf_size(leaf)) return std::optional<Hash128>();
  const Hash128 hash = o.hasher.digest();
  open_.erase(leaf);
  return std::optional(hash);
}

std::vector<SinkFile::Filler>::const_iterator SinkFile::filler_at(uint64_t offset) const {
  return std::lower_bound(fillers_.begin(), fillers_.end(), offset, [](const Filler& f, uint64_t v) { return f.offset + f.bytes.size() <= v; });
}

// An extent in the parts that it reaches; without bytes, the part there that is made of fillers alone.
Status SinkFile::write_parts(uint64_t offset, ByteView bytes) {
  const uint64_t end = offset + std::max<uint64_t>(bytes.size(), 1);
  for (uint64_t at = offset / part_bytes_ * part_bytes_; at < end; at += part_bytes_) {
    const uint64_t size = std::min(part_bytes_, layout_.size - at), from = std::max(offset, at), to = std::min(offset + bytes.size(), at + size);
    if (from == at && to == at + size) {
      bool pending = false;
      {
        std::lock_guard lock(mutex_);
        pending = leaf_pending(at / leaf_bytes_);
      }
      const ByteView part = bytes.subspan(from - offset, size);
      if (pending) sum(at, part);
      if (pending) INGOT_TRY(uploads_ && uploads_->most() ? upload(at, std::string(as_text(part))) : put_part(at, part));
      continue;
    }
    std::string whole;
    {
      std::lock_guard lock(mutex_);
      if (!leaf_pending(at / leaf_bytes_)) continue;
      auto [it, fresh] = blocks_.try_emplace(at);
      Block& b = it->second;
      if (fresh) {
        b.bytes.resize(size);
        b.left = size;
        for (auto f = filler_at(at); f != fillers_.end() && f->offset < at + size; ++f) {
          const uint64_t first = std::max(f->offset, at), last = std::min(f->offset + f->bytes.size(), at + size);
          b.bytes.replace(first - at, last - first, f->bytes, first - f->offset, last - first);
          b.left -= last - first;
          sum(first, as_bytes(f->bytes).subspan(first - f->offset, last - first));
        }
      }
      if (to > from) {
        sum(from, bytes.subspan(from - offset, to - from));
        b.bytes.replace(from - at, to - from, as_text(bytes.subspan(from - offset, to - from)));
        b.left -= to - from;
      }
      if (b.left) continue;
      whole = std::move(b.bytes);
      blocks_.erase(it);
    }
    INGOT_TRY(upload(at, std::move(whole)));
  }
  return {};
}

Status SinkFile::upload(uint64_t offset, std::string part) {
  auto put = [this, offset, bytes = std::make_shared<std::string>(std::move(part))] { return put_part(offset, as_bytes(*bytes)); };
  return uploads_ ? uploads_->put(std::move(put)) : put();
}

Status SinkFile::put_part(uint64_t offset, ByteView bytes) {
  INGOT_TRY(file_->write(offset, bytes));
  return feed(offset, bytes);
}

Status SinkFile::write_sequential(uint64_t offset, ByteView bytes) {
  std::lock_guard lock(mutex_);
  if (!bytes.empty()) {
    if (offset + bytes.size() <= next_) return {};  // an earlier run has it
    const uint64_t done = offset < next_ ? next_ - offset : 0;
    sum(offset + done, bytes.subspan(done));
    if (offset > next_) {
      waiting_[offset] = as_text(bytes);
      return {};
    }
    INGOT_TRY(emit(bytes.subspan(next_ - offset)));
  }
  for (;;) {
    if (const auto f = filler_at(next_); f != fillers_.end() && f->offset <= next_) {
      const ByteView left = as_bytes(f->bytes).subspan(next_ - f->offset);
      sum(next_, left);
      INGOT_TRY(emit(left));
      continue;
    }
    const auto w = waiting_.begin();
    if (w == waiting_.end() || w->first > next_) return {};
    const std::string held = std::move(w->second);
    const uint64_t first = w->first;
    waiting_.erase(w);
    if (first + held.size() > next_) INGOT_TRY(emit(as_bytes(held).subspan(next_ - first)));
  }
}

// With the lock held: bytes whose turn it is.
Status SinkFile::emit(ByteView bytes) {
  INGOT_TRY(file_->write(next_, bytes));
  const uint64_t at = next_, end = next_ += bytes.size();
  for (uint64_t p = at; p < end;) {
    const uint64_t leaf = p / leaf_bytes_, stop = std::min(end, (leaf + 1) * leaf_bytes_);
    INGOT_ASSIGN(const auto hash, feed_part(leaf, p, bytes.subspan(p - at, stop - p)));
    if (hash) {
      INGOT_TRY(on_leaf_(leaf, *hash));
      hashes_[leaf] = *hash;
    }
    p = stop;
  }
  return {};
}

Status SinkFile::write_late(const Digests& digests) {
  late_written_ = true;
  std::vector<std::byte> buffer(leaf_bytes_);
  for (auto [at, end] : checksums_.missing())
    for (; at < end; at += std::min(end - at, leaf_bytes_)) {
      const MutByteView v(buffer.data(), std::min(end - at, leaf_bytes_));
      INGOT_TRY(file_->read_back(at, v));
      sum(at, v);
    }
  INGOT_TRY(write_checksums());
  for (const auto& e : layout_.extents) {
    if (!e.late || !pending(e.offset, e.bytes.size())) continue;
    INGOT_ASSIGN(const std::string bytes, e.late(digests));
    if (bytes.size() != e.bytes.size()) return failed("writing {}: {} late bytes came, {} were planned; this is a defect of ingot", path_, bytes.size(), e.bytes.size());
    INGOT_TRY(write(e.offset, as_bytes(bytes)));
  }
  return {};
}

Status SinkFile::finish(bool* synced) {
  if (!owns_any()) return {};
  {
    std::lock_guard lock(mutex_);
    for (uint64_t l = 0; l < count_; ++l)
      if (leaf_pending(l) && (late_written_ || !late_.count(l))) return failed("writing {}: bytes from {} on never came", path_, l * leaf_bytes_);
  }
  Status s = file_->sync();
  *synced = s.ok();
  return s;
}

Holdback::Holdback(const FileLayout& layout, const Capabilities& caps, uint64_t leaf_bytes) : mode_(caps.mode), size_(layout.size), part_(part_bytes(layout.size, caps, leaf_bytes)) {
  if (mode_ == WriteMode::kRandom) return;
  std::map<std::pair<uint64_t, uint64_t>, std::vector<uint64_t>> places;
  for (const auto& c : layout.checksums) places[{c.begin, c.end}].push_back(c.at);
  for (auto& [range, at] : places) ranges_.push_back({range.first, range.second, 0, std::move(at)});
}

void Holdback::begin() {
  std::sort(extents_.begin(), extents_.end());
  const size_t tensors = extents_.size();
  for (size_t i = 0, r = 0; i < tensors; ++i) {
    while (r < ranges_.size() && ranges_[r].end <= extents_[i].first) ++r;
    for (size_t k = r; k < ranges_.size() && ranges_[k].begin < extents_[i].first + extents_[i].second; ++k)
      ranges_[k].left += std::min(ranges_[k].end, extents_[i].first + extents_[i].second) - std::max(ranges_[k].begin, extents_[i].first);
  }
  for (const auto& r : ranges_)
    for (const uint64_t at : r.places) extents_.emplace_back(at, 4);
  std::sort(extents_.begin(), extents_.end());
  if (!part_) return;
  tensor_bytes_.assign((size_ + part_ - 1) / part_, 0);
  for (const auto& [offset, bytes] : extents_)
    for (uint64_t p = offset / part_; p * part_ < offset + bytes; ++p)
      tensor_bytes_[p] += std::min(offset + bytes, (p + 1) * part_) - std::max(offset, p * part_);
}

int64_t Holdback::come(uint64_t offset, uint64_t bytes, int64_t* peak) {
  int64_t change = come_alone(offset, bytes, peak), most = 0;
  auto r = std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& range) { return range.end <= offset; });
  for (; r != ranges_.end() && r->begin < offset + bytes; ++r) {
    r->left -= std::min(r->end, offset + bytes) - std::max(r->begin, offset);
    for (size_t i = 0; r->left == 0 && i < r->places.size(); ++i) {
      const int64_t more = come_alone(r->places[i], 4, &most);
      *peak = std::max(*peak, change + most);
      change += more;
    }
  }
  return change;
}

int64_t Holdback::come_alone(uint64_t offset, uint64_t bytes, int64_t* peak) {
  int64_t change = 0;
  *peak = 0;
  if (mode_ == WriteMode::kParts) {
    for (uint64_t p = offset / part_; part_ && p * part_ < offset + bytes; ++p) {
      const uint64_t first = p * part_, size = std::min(part_, size_ - first);
      const uint64_t from = std::max(offset, first), to = std::min(offset + bytes, first + size);
      if (to - from == size) continue;
      const auto [it, fresh] = open_.emplace(p, tensor_bytes_[p]);
      if (fresh) change += static_cast<int64_t>(size);
      *peak = std::max(*peak, change);
      if ((it->second -= to - from) > 0) continue;
      open_.erase(it);
      change -= static_cast<int64_t>(size);
    }
    return change;
  }
  if (mode_ == WriteMode::kRandom) return 0;
  *peak = change = static_cast<int64_t>(bytes);
  waiting_[offset] = bytes;
  for (auto w = waiting_.begin(); w != waiting_.end() && w->first == extents_[next_].first + done_; w = waiting_.erase(w)) {
    change -= static_cast<int64_t>(w->second);
    done_ += w->second;
    if (done_ == extents_[next_].second) ++next_, done_ = 0;
  }
  return change;
}

}  // namespace ingot
