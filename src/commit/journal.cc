#include "commit/journal.h"

#include <utility>

namespace ingot {
namespace {

constexpr std::string_view kMagic = "ingot journal 2\n";

// 50 bytes a leaf: enough for 80 TB.
constexpr uint64_t kMostBytes = uint64_t{4} << 30;
constexpr size_t kKeySize = 32;

// Record: u32 payload size, u8 kind, payload, u64 low half of XXH3-128 over kind and payload.
struct Parsed {
  JournalState state;
  uint64_t valid = 0;  // bytes up to the end of the last whole record; 0 when the key differs
};

std::string head_of(const std::string& key) { return std::string(kMagic) + key + "\n"; }

Parsed parse(const std::string& text, const std::string& wanted) {
  Parsed p;
  const std::string key = wanted.empty() && text.size() > kMagic.size() + kKeySize ? text.substr(kMagic.size(), kKeySize) : wanted;
  const std::string head = head_of(key);
  if (key.empty() || text.compare(0, head.size(), head)) return p;
  p.state.key = key;
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
    if (kind == 'B') {
      // Whoever begins again is not done.
      p.state.outputs.clear();
      p.state.finished.clear();
      p.state.verified = false;
      b.text(&p.state.stamp);
      uint8_t directory;
      std::string path;
      while (b.read(&directory) && b.text(&path)) p.state.outputs.push_back({path, directory != 0});
    } else if (kind == 'X') {
      int32_t output, file;
      if (b.read(&output) && b.read(&file))
        std::erase_if(p.state.leaves, [&](const auto& l) { return l.first.output == output && l.first.file == file; });
    } else if (kind == 'L') {
      int32_t output, file;
      uint64_t leaf;
      Hash128 h;
      if (b.read(&output) && b.read(&file) && b.read(&leaf) && b.read(&h.lo) && b.read(&h.hi))
        p.state.leaves[{output, file, leaf}] = h;
    } else if (kind == 'F') {
      std::string key;
      ByteView bytes;
      if (b.text(&key) && b.view(b.remaining(), &bytes)) p.state.facts[key] = as_text(bytes);
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
  INGOT_ASSIGN(const std::string text, read_text(store, path, kMostBytes));
  return parse(text, key).state;
}

Result<std::unique_ptr<Journal>> Journal::open(Store& store, const std::string& path, const std::string& key, bool resume) {
  uint64_t valid = 0;
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (resume && there) {
    INGOT_ASSIGN(const std::string text, read_text(store, path, kMostBytes));
    valid = parse(text, key).valid;
  }
  auto j = std::make_unique<Journal>();
  INGOT_ASSIGN(j->file_, store.create(path, 0, valid > 0));
  if (valid) {
    // A torn last record would hide every later one.
    INGOT_TRY(j->file_->truncate(valid));
    j->size_ = valid;
  } else {
    const std::string head = head_of(key);
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

Status Journal::begin(const std::vector<JournalOutput>& outputs, const std::string& stamp) {
  ByteWriter w;
  w.text(stamp);
  for (const auto& o : outputs) {
    w.write(static_cast<uint8_t>(o.directory));
    w.text(o.path);
  }
  return append('B', w.str());
}

Status Journal::distrust(int output, int file) {
  ByteWriter w;
  w.write(static_cast<int32_t>(output));
  w.write(static_cast<int32_t>(file));
  return append('X', w.str());
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
  w.text(key);
  w.append(bytes);
  return append('F', w.str());
}

Status Journal::finished(int rank, int world) {
  ByteWriter w;
  w.write(static_cast<int32_t>(rank));
  w.write(static_cast<int32_t>(world));
  return append('D', w.str());
}

Status Journal::verified() {
  INGOT_TRY(append('V', ""));
  return file_->sync();
}

}  // namespace ingot
