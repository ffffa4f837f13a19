// A store that writes down what is done to it, and the file systems that a loss of power may leave of that: what was synced is there, of the rest any part.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "storage/forwarding.h"

namespace ingot::checkpoint::testing {

struct Operation {
  enum class Kind { kCreate, kWrite, kTruncate, kSync, kRename, kRemove, kLink, kDirectory, kSyncDirectory } kind;
  std::string path, to;  // of names; a write's is of no meaning
  int inode = -1;
  uint64_t offset = 0;
  std::string bytes;
};

class History {
 public:
  int add(Operation o) {
    std::lock_guard lock(mutex_);
    if (o.kind == Operation::Kind::kCreate) o.inode = inodes_[o.path] = ++last_;
    if (o.kind == Operation::Kind::kLink) inodes_[o.to] = o.inode = inodes_[o.path];
    if (o.kind == Operation::Kind::kRename || o.kind == Operation::Kind::kRemove) move(o.path, o.kind == Operation::Kind::kRename ? o.to : "");
    operations_.push_back(std::move(o));
    return operations_.back().inode;
  }
  int inode(const std::string& path) {
    std::lock_guard lock(mutex_);
    const auto it = inodes_.find(path);
    return it == inodes_.end() ? -1 : it->second;
  }
  size_t size() const { return operations_.size(); }
  // As if it had never been called.
  void forget(Operation::Kind kind) {
    for (Operation& o : operations_)
      if (o.kind == kind) o.kind = Operation::Kind::kDirectory;
  }

  // The operations before `end` that nothing had made durable by then.
  std::vector<size_t> pending(size_t end) const {
    std::vector<size_t> out;
    for (size_t i = 0; i < end; ++i)
      if (!durable(i, end)) out.push_back(i);
    return out;
  }

  // The files when the power goes before operation `end`; of the pending ones `lost` did not get to the medium, and of a write in `torn` only a half.
  std::unique_ptr<Store> after(size_t end, const std::set<size_t>& lost, size_t torn) const {
    std::map<std::string, int> names;
    std::map<int, std::string> files;
    for (size_t i = 0; i < end; ++i) {
      const Operation& o = operations_[i];
      if (lost.count(i)) continue;
      switch (o.kind) {
        case Operation::Kind::kCreate: names[o.path] = o.inode; break;
        case Operation::Kind::kWrite: {
          const std::string& all = o.bytes;
          const std::string part = i == torn ? all.substr(0, all.size() / 2) : all;
          std::string& f = files[o.inode];
          if (f.size() < o.offset + part.size()) f.resize(o.offset + part.size(), '\0');
          f.replace(o.offset, part.size(), part);
          break;
        }
        case Operation::Kind::kTruncate: files[o.inode].resize(o.offset, '\0'); break;
        case Operation::Kind::kLink: names[o.to] = o.inode; break;
        case Operation::Kind::kRename:
        case Operation::Kind::kRemove: {
          std::map<std::string, int> moved;
          bool there = false;
          for (const auto& [name, inode] : names) there |= name == o.path || name.rfind(o.path + "/", 0) == 0;
          for (auto it = names.begin(); it != names.end();) {
            const bool from = it->first == o.path || it->first.rfind(o.path + "/", 0) == 0;
            const bool target = o.kind == Operation::Kind::kRename && there && it->first == o.to;
            if (from && o.kind == Operation::Kind::kRename) moved[o.to + it->first.substr(o.path.size())] = it->second;
            it = from || target ? names.erase(it) : std::next(it);
          }
          names.merge(moved);
          break;
        }
        default: break;
      }
    }
    auto store = make_memory_store();
    for (const auto& [name, inode] : names) {
      auto f = store->create(name, 0, false);
      if (f.ok() && !files[inode].empty()) (void)(*f)->write(0, as_bytes(files[inode]));
    }
    return store;
  }

 private:
  void move(const std::string& from, const std::string& to) {
    std::map<std::string, int> moved;
    for (auto it = inodes_.begin(); it != inodes_.end();) {
      if (it->first != from && it->first.rfind(from + "/", 0) != 0) {
        ++it;
        continue;
      }
      if (!to.empty()) moved[to + it->first.substr(from.size())] = it->second;
      it = inodes_.erase(it);
    }
    for (const auto& [name, inode] : moved) inodes_[name] = inode;
  }
  bool durable(size_t i, size_t end) const {
    const Operation& o = operations_[i];
    using K = Operation::Kind;
    if (o.kind == K::kSync || o.kind == K::kSyncDirectory || o.kind == K::kDirectory) return true;
    const bool data = o.kind == K::kWrite || o.kind == K::kTruncate;
    const std::string directory = data ? "" : parent_path(o.to.empty() ? o.path : o.to);
    for (size_t k = i + 1; k < end; ++k) {
      const Operation& s = operations_[k];
      if (data ? s.kind == K::kSync && s.inode == o.inode : s.kind == K::kSyncDirectory && s.path == directory) return true;
    }
    return false;
  }

  std::mutex mutex_;
  std::vector<Operation> operations_;
  std::map<std::string, int> inodes_;
  int last_ = 0;
};

class RecordedWrite final : public ForwardingWrite {
 public:
  RecordedWrite(std::unique_ptr<WriteFile> f, History& history, int inode) : ForwardingWrite(std::move(f)), history_(history), inode_(inode) {}
  Status write(uint64_t offset, ByteView bytes) override {
    history_.add({Operation::Kind::kWrite, "", "", inode_, offset, std::string(as_text(bytes))});
    return ForwardingWrite::write(offset, bytes);
  }
  Status truncate(uint64_t size) override {
    history_.add({Operation::Kind::kTruncate, "", "", inode_, size, ""});
    return ForwardingWrite::truncate(size);
  }
  Status sync() override {
    INGOT_TRY(ForwardingWrite::sync());
    history_.add({Operation::Kind::kSync, "", "", inode_, 0, ""});
    return {};
  }

 private:
  History& history_;
  int inode_;
};

class RecordingStore final : public ForwardingStore {
 public:
  RecordingStore(Store& beneath, History& history) : ForwardingStore(beneath), history_(history) {}
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    const int known = resume ? history_.inode(path) : -1;
    const int inode = known >= 0 ? known : history_.add({Operation::Kind::kCreate, path, "", -1, 0, ""});
    if (size) history_.add({Operation::Kind::kTruncate, "", "", inode, size, ""});
    INGOT_ASSIGN(auto f, ForwardingStore::create(path, size, resume));
    return std::unique_ptr<WriteFile>(new RecordedWrite(std::move(f), history_, inode));
  }
  Result<std::unique_ptr<WriteFile>> change(const std::string& path) override {
    INGOT_ASSIGN(auto f, ForwardingStore::change(path));
    return std::unique_ptr<WriteFile>(new RecordedWrite(std::move(f), history_, history_.inode(path)));
  }
  Status make_directory(const std::string& path) override {
    history_.add({Operation::Kind::kDirectory, path, "", -1, 0, ""});
    return ForwardingStore::make_directory(path);
  }
  Status rename(const std::string& from, const std::string& to, bool replace) override {
    INGOT_TRY(ForwardingStore::rename(from, to, replace));
    history_.add({Operation::Kind::kRename, from, to, -1, 0, ""});
    return {};
  }
  Result<bool> exchange(const std::string&, const std::string&) override { return false; }  // two renames, which is the harder way
  Result<bool> link(const std::string& from, const std::string& to) override {
    INGOT_ASSIGN(const bool done, ForwardingStore::link(from, to));
    if (done) history_.add({Operation::Kind::kLink, from, to, -1, 0, ""});
    return done;
  }
  Status remove(const std::string& path) override {
    INGOT_TRY(ForwardingStore::remove(path));
    history_.add({Operation::Kind::kRemove, path, "", -1, 0, ""});
    return {};
  }
  Status sync_directory(const std::string& path) override {
    INGOT_TRY(ForwardingStore::sync_directory(path));
    history_.add({Operation::Kind::kSyncDirectory, path, "", -1, 0, ""});
    return {};
  }

 private:
  History& history_;
};

}  // namespace ingot::checkpoint::testing
