// The fault-injecting store: numbers every mutating call and lets the hook stop the world there.
#include <mutex>

#include "storage/forwarding.h"

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

class FaultRead final : public ForwardingRead {
 public:
  FaultRead(std::string path, std::unique_ptr<ReadFile> f, std::shared_ptr<State> s)
      : ForwardingRead(std::move(f)), path_(std::move(path)), state_(std::move(s)) {}
  Status read(uint64_t offset, MutByteView out) const override {
    if (state_->hooks.on_read) {
      std::lock_guard lock(state_->mutex);
      state_->hooks.on_read(path_, offset, out.size());
    }
    return ForwardingRead::read(offset, out);
  }

 private:
  std::string path_;
  std::shared_ptr<State> state_;
};

class FaultWrite final : public ForwardingWrite {
 public:
  FaultWrite(std::string path, std::unique_ptr<WriteFile> f, std::shared_ptr<State> s)
      : ForwardingWrite(std::move(f)), path_(std::move(path)), state_(std::move(s)) {}
  Status write(uint64_t offset, ByteView bytes) override {
    INGOT_TRY(state_->step("write", path_));
    return ForwardingWrite::write(offset, bytes);
  }
  Status truncate(uint64_t size) override {
    INGOT_TRY(state_->step("truncate", path_));
    return ForwardingWrite::truncate(size);
  }
  Status sync() override {
    INGOT_TRY(state_->step("sync", path_));
    return ForwardingWrite::sync();
  }
  Status complete() override {
    INGOT_TRY(state_->step("complete", path_));
    return ForwardingWrite::complete();
  }

 private:
  std::string path_;
  std::shared_ptr<State> state_;
};

class FaultStore final : public ForwardingStore {
 public:
  FaultStore(Store& beneath, FaultHooks hooks) : ForwardingStore(beneath), state_(std::make_shared<State>()) {
    state_->hooks = std::move(hooks);
  }
  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override {
    INGOT_ASSIGN(auto f, ForwardingStore::open(path));
    return std::unique_ptr<ReadFile>(new FaultRead(path, std::move(f), state_));
  }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    INGOT_TRY(state_->step("create", path));
    INGOT_ASSIGN(auto f, ForwardingStore::create(path, size, resume));
    return std::unique_ptr<WriteFile>(new FaultWrite(path, std::move(f), state_));
  }
  Result<std::unique_ptr<WriteFile>> change(const std::string& path) override {
    INGOT_TRY(state_->step("change", path));
    INGOT_ASSIGN(auto f, ForwardingStore::change(path));
    return std::unique_ptr<WriteFile>(new FaultWrite(path, std::move(f), state_));
  }
  Status copy_access(const std::string& from, const std::string& to) override {
    INGOT_TRY(state_->step("copy_access", to));
    return ForwardingStore::copy_access(from, to);
  }
  Status make_directory(const std::string& path) override {
    INGOT_TRY(state_->step("make_directory", path));
    return ForwardingStore::make_directory(path);
  }
  Status rename(const std::string& from, const std::string& to, bool replace) override {
    INGOT_TRY(state_->step("rename", to));
    return ForwardingStore::rename(from, to, replace);
  }
  Result<bool> exchange(const std::string& a, const std::string& b) override {
    INGOT_TRY(state_->step("exchange", b));
    return ForwardingStore::exchange(a, b);
  }
  Result<bool> link(const std::string& from, const std::string& to) override {
    INGOT_TRY(state_->step("link", to));
    return ForwardingStore::link(from, to);
  }
  Status abandon(const std::string& path) override {
    INGOT_TRY(state_->step("abandon", path));
    return ForwardingStore::abandon(path);
  }
  bool set_note(const std::string& path, const std::string& text) override {
    return state_->step("set_note", path).ok() && ForwardingStore::set_note(path, text);
  }
  Status remove(const std::string& path) override {
    INGOT_TRY(state_->step("remove", path));
    return ForwardingStore::remove(path);
  }
  Status sync_directory(const std::string& path) override {
    INGOT_TRY(state_->step("sync_directory", path));
    return ForwardingStore::sync_directory(path);
  }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<Store> make_fault_store(Store& beneath, FaultHooks hooks) {
  return std::make_unique<FaultStore>(beneath, std::move(hooks));
}

}  // namespace ingot
