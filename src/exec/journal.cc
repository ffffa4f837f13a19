#include "exec/journal.h"

#include <utility>

namespace ingot {
namespace {

constexpr std::string_view kMagic = "ingot journal 1\n";

// Record: u32 payload size, u8 kind, payload, u64 low half of XXH3-128 over kind and payload.
struct Parsed {
  JournalState state;
  uint64_t valid = 0;  // bytes up to the end of the last whole record; 0 when the key differs
};

Parsed parse(const std::string& text, const std::string& key) {
  Parsed p;
  const std::string head = std::string(kMagic) + key + "\n";
  if (text.compare(0, head.size(), head)) return p;
  p.valid = head.size();
  ByteReader r(as_bytes(text).subspan(head.size()));
  for (;;) {
    uint32_t size;
    ByteView body;
    uint64_t sum;
    if (!r.read(&size) || !r.view(uint64_t{size} + 1, &body) || !r.read(&sum) || hash128(body).lo != sum) break;
    p.valid = head.size() + r.pos();
    ByteReader b(body);
    char kind = 0;
    b.read(&kind);
    if (kind == 'L') {
      int32_t output, file;
      uint64_t leaf;
      Hash128 h;
      if (b.read(&output) && b.read(&file) && b.read(&leaf) && b.read(&h.lo) && b.read(&h.hi))
        p.state.leaves[{output, file, leaf}] = h;
    } else if (kind == 'F') {
      uint32_t n;
      ByteView name, bytes;
      if (b.read(&n) && b.view(n, &name) && b.view(b.remaining(), &bytes))
        p.state.facts[std::string(as_text(name))] = as_text(bytes);
    } else if (kind == 'D') {
      int32_t rank, world;
      if (b.read(&rank) && b.read(&world)) p.state.finished.insert({rank, world});
    } else if (kind == 'V') {
      p.state.verified = true;
    }
  }
  return p;
}

}  // namespace

Result<JournalState> Journal::read(Store& store, const std::string& path, const std::string& key) {
  INGOT_ASSIGN(const std::string text, read_text(store, path, UINT64_MAX));
  return parse(text, key).state;
}

Result<std::unique_ptr<Journal>> Journal::open(Store& store, const std::string& path, const std::string& key, bool resume) {
  uint64_t valid = 0;
  if (resume && store.exists(path)) {
    INGOT_ASSIGN(const std::string text, read_text(store, path, UINT64_MAX));
    valid = parse(text, key).valid;
  }
  auto j = std::make_unique<Journal>();
  INGOT_ASSIGN(j->file_, store.create(path, 0, valid > 0));
  if (valid) {
    // A torn last record would hide every later one.
    INGOT_TRY(j->file_->truncate(valid));
    j->size_ = valid;
  } else {
    const std::string head = std::string(kMagic) + key + "\n";
    INGOT_TRY(j->file_->write(0, as_bytes(head)));
    j->size_ = head.size();
  }
  return j;
}

Status Journal::append(char kind, const std::string& payload) {
  ByteWriter w;
  w.write(static_cast<uint32_t>(payload.size()));
  const std::string body = kind + payload;
  w.append(body);
  w.write(hash128(as_bytes(body)).lo);
  std::lock_guard lock(mutex_);
  INGOT_TRY(file_->write(size_, as_bytes(w.str())));
  size_ += w.size();
  return {};
}

Status Journal::leaf(const LeafId& id, const Hash128& hash) {
  ByteWriter w;
  w.write(static_cast<int32_t>(id.output));
  w.write(static_cast<int32_t>(id.file));
  w.write(id.leaf);
  w.write(hash.lo);
  w.write(hash.hi);
  return append('L', w.str());
}

Status Journal::fact(const std::string& key, const std::string& bytes) {
  ByteWriter w;
  w.write(static_cast<uint32_t>(key.size()));
  w.append(key);
  w.append(bytes);
  return append('F', w.str());
}

Status Journal::finished(int rank, int world) {
  ByteWriter w;
  w.write(static_cast<int32_t>(rank));
  w.write(static_cast<int32_t>(world));
  return append('D', w.str());
}

Status Journal::verified() { return append('V', ""); }

}  // namespace ingot
