// The fault-injecting store: numbers every mutating call and lets the hook stop the world there.
#include "storage/fault.h"

#include <mutex>

#include "storage/forwarding.h"

namespace ingot {
namespace {

struct State {
  FaultHooks hooks;
  bool once = false, reads = false, half = false;  // MediumErrors
  std::mutex mutex;
  uint64_t number = 0;
  std::string dead;  // the text of the crash, once it happened

  Status step(const char* op, const std::string& path) {
    std::lock_guard lock(mutex);
    std::string text = dead;
    if (text.empty() && hooks.hook) text = hooks.hook(number, op, path);
    ++number;
    if (!once) dead = text;
    return text.empty() ? Status() : Status(failed("{} {}: {}", op, path, text));
  }
  Status read_step(const char* op, const std::string& path) { return reads ? step(op, path) : Status(); }
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
    INGOT_TRY(state_->read_step("read", path_));
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
    if (Status s = state_->step("write", path_); !s.ok()) {
      if (state_->half) (void)ForwardingWrite::write(offset, bytes.first(bytes.size() / 2));
      return s;
    }
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
  FaultStore(Store& beneath, std::shared_ptr<State> state) : ForwardingStore(beneath), state_(std::move(state)) {}
  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override {
    INGOT_TRY(state_->read_step("open", path));
    INGOT_ASSIGN(auto f, ForwardingStore::open(path));
    return std::unique_ptr<ReadFile>(new FaultRead(path, std::move(f), state_));
  }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    INGOT_TRY(state_->step("create", path));
    INGOT_ASSIGN(auto f, ForwardingStore::create(path, size, resume));
    return std::unique_ptr<WriteFile>(new FaultWrite(path, std::move(f), state_));
  }
  Result<std::unique_ptr<WriteFile>> create_new(const std::string& path, uint64_t size) override {
    INGOT_TRY(state_->step("create", path));
    INGOT_ASSIGN(auto f, beneath().create_new(path, size));
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
  Result<std::optional<Stat>> stat(const std::string& path) override {
    INGOT_TRY(state_->read_step("stat", path));
    return ForwardingStore::stat(path);
  }
  Result<std::vector<Entry>> list(const std::string& directory) override {
    INGOT_TRY(state_->read_step("list", directory));
    return ForwardingStore::list(directory);
  }
  Result<uint64_t> free_space(const std::string& directory) override {
    INGOT_TRY(state_->read_step("free_space", directory));
    return ForwardingStore::free_space(directory);
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
  auto state = std::make_shared<State>();
  state->hooks = std::move(hooks);
  return std::make_unique<FaultStore>(beneath, std::move(state));
}

std::unique_ptr<Store> make_unsound_store(Store& beneath, MediumErrors errors) {
  auto state = std::make_shared<State>();
  state->hooks.hook = std::move(errors.error);
  state->once = state->reads = true, state->half = errors.half;
  return std::make_unique<FaultStore>(beneath, std::move(state));
}

}  // namespace ingot
