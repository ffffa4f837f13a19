// A store, and files, that hand every call on to what is beneath them: a wrapper overrides only what it changes.
#pragma once

#include "storage/store.h"

namespace ingot {

class ForwardingRead : public ReadFile {
 public:
  explicit ForwardingRead(std::unique_ptr<ReadFile> beneath) : beneath_(std::move(beneath)) {}
  uint64_t size() const override { return beneath_->size(); }
  const std::string& path() const override { return beneath_->path(); }
  std::string identity() const override { return beneath_->identity(); }
  std::string stamp() const override { return beneath_->stamp(); }
  Status check_unchanged() const override { return beneath_->check_unchanged(); }
  Capabilities capabilities() const override { return beneath_->capabilities(); }
  bool from_medium() override { return beneath_->from_medium(); }
  Status read(uint64_t offset, MutByteView out) const override { return beneath_->read(offset, out); }

 private:
  std::unique_ptr<ReadFile> beneath_;
};

class ForwardingWrite : public WriteFile {
 public:
  explicit ForwardingWrite(std::unique_ptr<WriteFile> beneath) : beneath_(std::move(beneath)) {}
  uint64_t resumed() const override { return beneath_->resumed(); }
  Status write(uint64_t offset, ByteView bytes) override { return beneath_->write(offset, bytes); }
  bool share(const ReadFile& from) override { return beneath_->share(from); }
  Status read_back(uint64_t offset, MutByteView out) override { return beneath_->read_back(offset, out); }
  Status truncate(uint64_t size) override { return beneath_->truncate(size); }
  void start_flush(uint64_t offset, uint64_t size) override { beneath_->start_flush(offset, size); }
  Status sync() override { return beneath_->sync(); }
  Result<uint64_t> size() override { return beneath_->size(); }
  Status complete() override { return beneath_->complete(); }

 private:
  std::unique_ptr<WriteFile> beneath_;
};

class ForwardingStore : public Store {
 public:
  explicit ForwardingStore(Store& beneath) : beneath_(beneath) {}
  std::string name() const override { return beneath_.name(); }
  Capabilities capabilities() const override { return beneath_.capabilities(); }
  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override { return beneath_.open(path); }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    return beneath_.create(path, size, resume);
  }
  Result<std::unique_ptr<WriteFile>> change(const std::string& path) override { return beneath_.change(path); }
  Status copy_access(const std::string& from, const std::string& to) override { return beneath_.copy_access(from, to); }
  Result<std::optional<Stat>> stat(const std::string& path) override { return beneath_.stat(path); }
  Result<std::string> resolve(const std::string& path) override { return beneath_.resolve(path); }
  Result<std::vector<Entry>> list(const std::string& directory) override { return beneath_.list(directory); }
  Status make_directory(const std::string& path) override { return beneath_.make_directory(path); }
  Status rename(const std::string& from, const std::string& to, bool replace) override { return beneath_.rename(from, to, replace); }
  Result<bool> exchange(const std::string& a, const std::string& b) override { return beneath_.exchange(a, b); }
  Result<bool> link(const std::string& from, const std::string& to) override { return beneath_.link(from, to); }
  Status remove(const std::string& path) override { return beneath_.remove(path); }
  Status abandon(const std::string& path) override { return beneath_.abandon(path); }
  Status sync_directory(const std::string& path) override { return beneath_.sync_directory(path); }
  Result<uint64_t> free_space(const std::string& directory) override { return beneath_.free_space(directory); }
  Result<std::unique_ptr<StoreLock>> lock(const std::string& path) override { return beneath_.lock(path); }
  bool locked(const std::string& path) override { return beneath_.locked(path); }
  bool set_note(const std::string& path, const std::string& text) override { return beneath_.set_note(path, text); }
  std::string note(const std::string& path) override { return beneath_.note(path); }

 protected:
  // create_new() is made of the wrapper's own stat() and create(); one that can do better asks what is beneath.
  Store& beneath() { return beneath_; }

 private:
  Store& beneath_;
};

}  // namespace ingot
