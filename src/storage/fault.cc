// The fault-injecting store: numbers every mutating call and lets the hook stop the world there.
#include <atomic>
#include <mutex>

#include "storage/store.h"

namespace ingot {
namespace {

struct State {
  FaultHooks hooks;
  std::mutex mutex;
  uint64_t number = 0;
  std::string dead;  // the text of the crash, once it happened

  Status step(const char* op, const std::string& path) {
    std::lock_guard lock(mutex);
    if (dead.empty() && hooks.hook) dead = hooks.hook(number, op, path);
    ++number;
    return dead.empty() ? Status() : Status(failed("{} {}: {}", op, path, dead));
  }
};

class FaultRead final : public ReadFile {
 public:
  FaultRead(std::string path, std::unique_ptr<ReadFile> f, std::shared_ptr<State> s)
      : path_(std::move(path)), file_(std::move(f)), state_(std::move(s)) {}
  uint64_t size() const override { return file_->size(); }
  const std::string& path() const override { return file_->path(); }
  std::string identity() const override { return file_->identity(); }
  std::string stamp() const override { return file_->stamp(); }
  Status check_unchanged() const override { return file_->check_unchanged(); }
  bool from_medium() override { return file_->from_medium(); }
  Status read(uint64_t offset, MutByteView out) const override {
    if (state_->hooks.on_read) {
      std::lock_guard lock(state_->mutex);
      state_->hooks.on_read(path_, offset, out.size());
    }
    return file_->read(offset, out);
  }

 private:
  std::string path_;
  std::unique_ptr<ReadFile> file_;
  std::shared_ptr<State> state_;
};

class FaultWrite final : public WriteFile {
 public:
  FaultWrite(std::string path, std::unique_ptr<WriteFile> f, std::shared_ptr<State> s)
      : path_(std::move(path)), file_(std::move(f)), state_(std::move(s)) {}
  uint64_t resumed() const override { return file_->resumed(); }
  Status write(uint64_t offset, ByteView bytes) override {
    INGOT_TRY(state_->step("write", path_));
    return file_->write(offset, bytes);
  }
  Status read_back(uint64_t offset, MutByteView out) override { return file_->read_back(offset, out); }
  Status truncate(uint64_t size) override {
    INGOT_TRY(state_->step("truncate", path_));
    return file_->truncate(size);
  }
  Status sync() override {
    INGOT_TRY(state_->step("sync", path_));
    return file_->sync();
  }
  Result<uint64_t> size() override { return file_->size(); }
  Status complete() override {
    INGOT_TRY(state_->step("complete", path_));
    return file_->complete();
  }

 private:
  std::string path_;
  std::unique_ptr<WriteFile> file_;
  std::shared_ptr<State> state_;
};

class FaultStore final : public Store {
 public:
  FaultStore(Store& beneath, FaultHooks hooks) : beneath_(beneath), state_(std::make_shared<State>()) {
    state_->hooks = std::move(hooks);
  }
  std::string name() const override { return beneath_.name(); }
  Capabilities capabilities() const override { return beneath_.capabilities(); }
  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override {
    INGOT_ASSIGN(auto f, beneath_.open(path));
    return std::unique_ptr<ReadFile>(new FaultRead(path, std::move(f), state_));
  }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    INGOT_TRY(state_->step("create", path));
    INGOT_ASSIGN(auto f, beneath_.create(path, size, resume));
    return std::unique_ptr<WriteFile>(new FaultWrite(path, std::move(f), state_));
  }
  Result<std::optional<Stat>> stat(const std::string& path) override { return beneath_.stat(path); }
  Result<std::string> resolve(const std::string& path) override { return beneath_.resolve(path); }
  Result<std::vector<Entry>> list(const std::string& d) override { return beneath_.list(d); }
  Status make_directory(const std::string& path) override {
    INGOT_TRY(state_->step("make_directory", path));
    return beneath_.make_directory(path);
  }
  Status rename(const std::string& from, const std::string& to, bool replace) override {
    INGOT_TRY(state_->step("rename", to));
    return beneath_.rename(from, to, replace);
  }
  Result<bool> exchange(const std::string& a, const std::string& b) override {
    INGOT_TRY(state_->step("exchange", b));
    return beneath_.exchange(a, b);
  }
  Status abandon(const std::string& path) override {
    INGOT_TRY(state_->step("abandon", path));
    return beneath_.abandon(path);
  }
  bool set_note(const std::string& path, const std::string& text) override {
    return state_->step("set_note", path).ok() && beneath_.set_note(path, text);
  }
  std::string note(const std::string& path) override { return beneath_.note(path); }
  Status remove(const std::string& path) override {
    INGOT_TRY(state_->step("remove", path));
    return beneath_.remove(path);
  }
  Status sync_directory(const std::string& path) override {
    INGOT_TRY(state_->step("sync_directory", path));
    return beneath_.sync_directory(path);
  }
  Result<uint64_t> free_space(const std::string& d) override { return beneath_.free_space(d); }
  bool locked(const std::string& path) override { return beneath_.locked(path); }
  Result<std::unique_ptr<StoreLock>> lock(const std::string& path) override { return beneath_.lock(path); }

 private:
  Store& beneath_;
  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<Store> make_fault_store(Store& beneath, FaultHooks hooks) {
  return std::make_unique<FaultStore>(beneath, std::move(hooks));
}

}  // namespace ingot
