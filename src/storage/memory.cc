// Files in memory with chosen capabilities.
#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "storage/store.h"

namespace ingot {
namespace {

struct Blob {
  std::mutex mutex;
  std::string bytes;
  std::map<uint64_t, uint64_t> parts;  // size by offset, where bytes come in parts
  uint64_t version = 0;
};
using BlobPtr = std::shared_ptr<Blob>;

std::string identity_of(const Blob& b) { return fmt::format("{}:v{}", b.bytes.size(), b.version); }

class MemoryRead final : public ReadFile {
 public:
  // `current` tells what lies under the name now.
  MemoryRead(std::string path, BlobPtr blob, Capabilities caps, std::function<BlobPtr()> current)
      : path_(std::move(path)), blob_(std::move(blob)), caps_(caps), current_(std::move(current)) {
    std::lock_guard lock(blob_->mutex);
    size_ = blob_->bytes.size();
    identity_ = identity_of(*blob_);
  }
  uint64_t size() const override { return size_; }
  const std::string& path() const override { return path_; }
  Capabilities capabilities() const override { return caps_; }
  std::string identity() const override { return identity_; }
  Status check_unchanged() const override {
    const BlobPtr now = current_();
    if (now != blob_) return bad_input("{} changed while it was being read (another file took its name)", path_);
    std::lock_guard lock(now->mutex);
    return identity_of(*now) == identity_ ? Status() : Status(bad_input("{} changed while it was being read (it was written to)", path_));
  }
  Status read(uint64_t offset, MutByteView out) const override {
    std::lock_guard lock(blob_->mutex);
    uint64_t end;
    if (!checked_add(offset, out.size(), &end) || end > blob_->bytes.size())
      return bad_input("reading {}: it ends at byte {}, but bytes {} to {} are needed; the file was cut short", path_,
                       blob_->bytes.size(), offset, offset + out.size());
    if (!out.empty()) std::memcpy(out.data(), blob_->bytes.data() + offset, out.size());
    return {};
  }

 private:
  std::string path_, identity_;
  BlobPtr blob_;
  Capabilities caps_;
  std::function<BlobPtr()> current_;
  uint64_t size_;
};

class MemoryWrite final : public WriteFile {
 public:
  // `end` makes the file visible, on a store without rename.
  MemoryWrite(std::string path, BlobPtr blob, Capabilities caps, std::function<void()> end)
      : path_(std::move(path)), blob_(std::move(blob)), caps_(caps), end_(std::move(end)) {
    resumed_ = caps_.mode == WriteMode::kRandom ? 0 : blob_->bytes.size();
  }
  uint64_t resumed() const override { return resumed_; }
  Status write(uint64_t offset, ByteView bytes) override {
    std::lock_guard lock(blob_->mutex);
    auto& b = blob_->bytes;
    if (caps_.mode == WriteMode::kSequential && offset != b.size())
      return failed("writing {}: offset {} is not its end {}; this store only appends", path_, offset, b.size());
    if (caps_.mode == WriteMode::kParts) {
      if (bytes.size() > caps_.part_max) return failed("writing {}: a part of {} bytes", path_, bytes.size());
      blob_->parts[offset] = bytes.size();
      if (blob_->parts.size() > caps_.part_count_max) return failed("writing {}: more than {} parts", path_, caps_.part_count_max);
    }
    if (offset + bytes.size() > b.size()) b.resize(offset + bytes.size(), '\0');
    if (!bytes.empty()) std::memcpy(b.data() + offset, bytes.data(), bytes.size());
    ++blob_->version;
    return {};
  }
  bool share(const ReadFile& from) override {
    std::string bytes(from.size(), '\0');
    if (caps_.mode != WriteMode::kRandom || !dynamic_cast<const MemoryRead*>(&from) || !from.read(0, MutByteView(reinterpret_cast<std::byte*>(bytes.data()), bytes.size())).ok())
      return false;
    std::lock_guard lock(blob_->mutex);
    blob_->bytes = std::move(bytes);
    ++blob_->version;
    return true;
  }
  Status read_back(uint64_t offset, MutByteView out) override {
    std::lock_guard lock(blob_->mutex);
    if (offset + out.size() > blob_->bytes.size()) return failed("reading back {}: beyond its end", path_);
    if (!out.empty()) std::memcpy(out.data(), blob_->bytes.data() + offset, out.size());
    return {};
  }
  Status truncate(uint64_t size) override {
    std::lock_guard lock(blob_->mutex);
    blob_->bytes.resize(std::min<size_t>(size, blob_->bytes.size()));
    resumed_ = blob_->bytes.size();
    return {};
  }
  Status sync() override { return {}; }
  Result<uint64_t> size() override {
    std::lock_guard lock(blob_->mutex);
    return blob_->bytes.size();
  }
  Status complete() override {
    if (caps_.mode == WriteMode::kParts) {
      std::lock_guard lock(blob_->mutex);
      uint64_t at = 0;
      for (const auto& [offset, size] : blob_->parts) {
        if (offset != at) return failed("ending {}: bytes {} to {} are in no part", path_, at, offset);
        if ((at += size) < blob_->bytes.size() && size < caps_.part_min)
          return failed("ending {}: a part of {} bytes before the last, the least is {}", path_, size, caps_.part_min);
      }
    }
    end_();
    return {};
  }

 private:
  std::string path_;
  BlobPtr blob_;
  Capabilities caps_;
  std::function<void()> end_;
  uint64_t resumed_;
};

class MemoryStore final : public Store {
 public:
  explicit MemoryStore(Capabilities caps) : caps_(caps) {}
  std::string name() const override { return "memory"; }
  Capabilities capabilities() const override { return caps_; }

  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override {
    std::lock_guard lock(mutex_);
    auto it = files_.find(path);
    if (it == files_.end()) return bad_input("opening {}: no such file or directory", path);
    return std::unique_ptr<ReadFile>(new MemoryRead(path, it->second, caps_, [this, path]() -> BlobPtr {
      std::lock_guard lock(mutex_);
      auto now = files_.find(path);
      return now == files_.end() ? nullptr : now->second;
    }));
  }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    std::lock_guard lock(mutex_);
    // Without rename the file is an upload until complete(): what the name holds stays as it is.
    auto& blob = (caps_.rename ? files_ : uploads_)[path];
    // As on a file system, an open reader keeps what it opened.
    if (!blob || !resume) blob = std::make_shared<Blob>();
    if (caps_.mode == WriteMode::kRandom && blob->bytes.size() < size) blob->bytes.resize(size, '\0');
    if (size && blob->bytes.size() > size) blob->bytes.resize(size);
    return std::unique_ptr<WriteFile>(new MemoryWrite(path, blob, caps_, [this, path, blob = blob] {
      if (caps_.rename) return;
      std::lock_guard lock(mutex_);
      files_[path] = blob;
      if (auto it = uploads_.find(path); it != uploads_.end() && it->second == blob) uploads_.erase(it);
    }));
  }
  Result<std::unique_ptr<WriteFile>> change(const std::string& path) override {
    std::lock_guard lock(mutex_);
    const auto it = files_.find(path);
    if (it == files_.end() || caps_.mode != WriteMode::kRandom) return Store::change(path);
    return std::unique_ptr<WriteFile>(new MemoryWrite(path, it->second, caps_, [] {}));
  }
  Status abandon(const std::string& path) override {
    std::lock_guard lock(mutex_);
    uploads_.erase(path);
    return {};
  }
  Result<std::optional<Stat>> stat(const std::string& path) override {
    std::lock_guard lock(mutex_);
    Stat s;
    if (auto it = files_.find(path); it != files_.end()) {
      std::lock_guard inner(it->second->mutex);
      s.size = it->second->bytes.size();
      s.identity = identity_of(*it->second);
      return std::optional<Stat>(s);
    }
    if (!directory(path)) return std::optional<Stat>();
    s.kind = Stat::Kind::kDirectory;
    return std::optional<Stat>(s);
  }
  Result<std::string> resolve(const std::string& path) override { return path; }
  Result<std::vector<Entry>> list(const std::string& dir) override {
    std::lock_guard lock(mutex_);
    if (!directory(dir)) return bad_input("listing {}: no such directory", dir);
    std::set<std::pair<std::string, bool>> seen;
    const std::string prefix = dir == "." ? "" : dir + "/";
    for (const auto& [name, blob] : files_) {
      if (name.compare(0, prefix.size(), prefix) || name.size() == prefix.size()) continue;
      const std::string rest = name.substr(prefix.size());
      const size_t slash = rest.find('/');
      seen.insert({rest.substr(0, slash), slash != std::string::npos});
    }
    std::vector<Entry> out;
    for (const auto& [n, d] : seen) out.push_back({n, d});
    return out;
  }
  Status make_directory(const std::string& path) override {
    std::lock_guard lock(mutex_);
    directories_.insert(path);
    return {};
  }
  Status rename(const std::string& from, const std::string& to, bool replace) override {
    std::lock_guard lock(mutex_);
    if (!caps_.rename) return failed("renaming {}: this store cannot rename", from);
    if (!replace && (files_.count(to) || directory(to))) return failed("renaming {} to {}: the target exists", from, to);
    if (replace && full(to)) return failed("renaming {} to {}: the target is a directory that is not empty", from, to);
    std::map<std::string, BlobPtr> moved;
    for (auto it = files_.begin(); it != files_.end();) {
      const bool target = it->first == to || it->first.compare(0, to.size() + 1, to + "/") == 0;
      if (it->first == from) moved[to] = it->second;
      else if (it->first.compare(0, from.size() + 1, from + "/") == 0) moved[to + it->first.substr(from.size())] = it->second;
      else if (!target) { ++it; continue; }
      it = files_.erase(it);
    }
    if (directories_.erase(from)) directories_.insert(to);
    else if (moved.empty()) return failed("renaming {}: no such file or directory", from);
    files_.merge(moved);
    if (auto note = notes_.extract(from)) {
      note.key() = to;
      notes_.erase(to);
      notes_.insert(std::move(note));
    } else {
      notes_.erase(to);
    }
    return {};
  }
  Result<bool> exchange(const std::string& a, const std::string& b) override {
    if (!caps_.rename || !caps_.exchange) return false;
    {
      std::lock_guard lock(mutex_);
      const auto there = [&](const std::string& p) { return files_.count(p) || directory(p); };
      if (!there(a) || !there(b)) return failed("exchanging {} and {}: one is not there", a, b);
    }
    // Not atomic for readers of this store, which tests have none of.
    INGOT_TRY(rename(a, a + ".exchange", false));
    INGOT_TRY(rename(b, a, false));
    INGOT_TRY(rename(a + ".exchange", b, false));
    return true;
  }
  Result<bool> link(const std::string& from, const std::string& to) override {
    std::lock_guard lock(mutex_);
    const auto it = files_.find(from);
    if (!caps_.rename || it == files_.end() || files_.count(to)) return false;
    files_[to] = it->second;
    return true;
  }
  Status remove(const std::string& path) override {
    std::lock_guard lock(mutex_);
    for (auto it = files_.begin(); it != files_.end();)
      it = it->first == path || it->first.compare(0, path.size() + 1, path + "/") == 0 ? files_.erase(it) : std::next(it);
    directories_.erase(path);
    notes_.erase(path);
    return {};
  }
  bool set_note(const std::string& path, const std::string& text) override {
    std::lock_guard lock(mutex_);
    notes_[path] = text;
    return true;
  }
  std::string note(const std::string& path) override {
    std::lock_guard lock(mutex_);
    auto it = notes_.find(path);
    return it == notes_.end() ? "" : it->second;
  }
  Status sync_directory(const std::string&) override { return {}; }
  Result<uint64_t> free_space(const std::string&) override { return UINT64_MAX; }
  Result<std::unique_ptr<StoreLock>> lock(const std::string& path) override {
    std::lock_guard lock(locks_->mutex);
    if (!locks_->held.insert(path).second) return std::unique_ptr<StoreLock>();
    return std::unique_ptr<StoreLock>(new Lock(locks_, path));
  }

  bool locked(const std::string& path) override {
    std::lock_guard lock(locks_->mutex);
    return locks_->held.count(path) > 0;
  }

 private:
  struct Locks {
    std::mutex mutex;
    std::set<std::string> held;
  };
  class Lock final : public StoreLock {
   public:
    Lock(std::shared_ptr<Locks> locks, std::string path) : locks_(std::move(locks)), path_(std::move(path)) {}
    ~Lock() override {
      std::lock_guard lock(locks_->mutex);
      locks_->held.erase(path_);
    }

   private:
    std::shared_ptr<Locks> locks_;
    std::string path_;
  };

  bool full(const std::string& path) const {
    const std::string prefix = path + "/";
    const auto it = files_.lower_bound(prefix);
    return it != files_.end() && !it->first.compare(0, prefix.size(), prefix);
  }
  bool directory(const std::string& path) const {
    if (path == "." || directories_.count(path)) return true;
    return full(path);
  }

  Capabilities caps_;
  std::mutex mutex_;
  std::map<std::string, BlobPtr> files_;
  std::map<std::string, BlobPtr> uploads_;  // begun and not complete
  std::map<std::string, std::string> notes_;
  std::set<std::string> directories_;
  std::shared_ptr<Locks> locks_ = std::make_shared<Locks>();
};

}  // namespace

std::unique_ptr<Store> make_memory_store(Capabilities capabilities) {
  return std::make_unique<MemoryStore>(capabilities);
}

}  // namespace ingot
