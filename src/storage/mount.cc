#include "storage/mount.h"

#include "storage/forwarding.h"

namespace ingot {
namespace {

class MountWrite final : public WriteFile {
 public:
  MountWrite(Store& store, std::string path, std::unique_ptr<WriteFile> file, uint64_t size) : store_(store), path_(std::move(path)), file_(std::move(file)), size_(size) {}
  Status write(uint64_t offset, ByteView bytes) override {
    if (!file_ || offset != written_) return failed("writing {}: offset {} is not its end {}; a mounted bucket takes a file from its begin to its end", path_, offset, written_);
    written_ += bytes.size();
    return file_->write(offset, bytes);
  }
  Status read_back(uint64_t offset, MutByteView out) override {
    INGOT_ASSIGN(const auto file, store_.open(path_));
    return file->read(offset, out);
  }
  Status truncate(uint64_t) override { return failed("writing {}: a mounted bucket cuts no file", path_); }
  // A whole one is closed, too: that is when most of these mounts upload it. Of one whose size nobody told (0, and there are bytes) each sync may be the last.
  Status sync() override {
    if (!file_) return {};
    INGOT_TRY(file_->sync());
    if (size_ && written_ != size_) return {};
    INGOT_TRY(file_->complete());
    if (written_ == size_) file_.reset();
    return {};
  }
  Result<uint64_t> size() override {
    INGOT_ASSIGN(const auto there, store_.stat(path_));
    return there ? there->size : 0;
  }
  Status complete() override { return {}; }

 private:
  Store& store_;
  std::string path_;
  std::unique_ptr<WriteFile> file_;
  uint64_t size_, written_ = 0;
};

class MountStore final : public ForwardingStore {
 public:
  explicit MountStore(Store& beneath) : ForwardingStore(beneath) {}
  std::string name() const override { return "mounted bucket"; }
  Capabilities capabilities() const override {
    Capabilities c = ForwardingStore::capabilities();
    c.mode = WriteMode::kSequential;
    c.rename = c.exchange = false;
    return c;
  }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    if (resume) return std::unique_ptr<WriteFile>(new MountWrite(*this, path, nullptr, size));  // it was closed whole
    INGOT_TRY(make_directory(parent_path(path)));
    INGOT_ASSIGN(auto file, ForwardingStore::create(path, 0, false));
    return std::unique_ptr<WriteFile>(new MountWrite(*this, path, std::move(file), size));
  }
  Result<std::unique_ptr<WriteFile>> create_new(const std::string& path, uint64_t size) override {
    INGOT_TRY(make_directory(parent_path(path)));
    INGOT_ASSIGN(auto file, beneath().create_new(path, 0));
    return std::unique_ptr<WriteFile>(new MountWrite(*this, path, std::move(file), size));
  }
  Result<std::unique_ptr<WriteFile>> change(const std::string& path) override { return Store::change(path); }
  Status rename(const std::string& from, const std::string&, bool) override { return failed("renaming {}: on a mounted bucket that is no single step", from); }
  Result<bool> exchange(const std::string&, const std::string&) override { return false; }
  Result<bool> link(const std::string&, const std::string&) override { return false; }
  Status sync_directory(const std::string&) override { return {}; }
  bool set_note(const std::string&, const std::string&) override { return false; }
  std::string note(const std::string&) override { return ""; }
};

}  // namespace

std::unique_ptr<Store> make_mount_store(Store& beneath) { return std::make_unique<MountStore>(beneath); }

}  // namespace ingot
