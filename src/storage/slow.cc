// The slow store: every call that would go to a far store waits, and is counted.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "storage/forwarding.h"

namespace ingot {
namespace {

class Way {
 public:
  Way(const SlowOptions& options, SlowCounts* counts) : options_(options), counts_(*counts) {}
  Capabilities numbers(Capabilities c) const {
    c.requests = options_.requests, c.request_bytes = options_.request_bytes;
    return c;
  }

  template <class F>
  auto call(F f) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return under_way_ < options_.requests; });
    ++under_way_, ++counts_.calls;
    const uint64_t round = counts_.rounds + 1;
    lock.unlock();
    std::this_thread::sleep_for(options_.latency);
    auto answer = f();
    lock.lock();
    --under_way_, counts_.rounds = std::max<uint64_t>(counts_.rounds, round);
    lock.unlock();
    room_.notify_one();
    return answer;
  }

 private:
  const SlowOptions options_;
  SlowCounts& counts_;
  std::mutex mutex_;
  std::condition_variable room_;
  int under_way_ = 0;
};
using WayPtr = std::shared_ptr<Way>;

class SlowRead final : public ForwardingRead {
 public:
  SlowRead(std::unique_ptr<ReadFile> f, WayPtr way) : ForwardingRead(std::move(f)), way_(std::move(way)) {}
  Capabilities capabilities() const override { return way_->numbers(ForwardingRead::capabilities()); }
  Status check_unchanged() const override { return way_->call([&] { return ForwardingRead::check_unchanged(); }); }
  Status read(uint64_t offset, MutByteView out) const override { return way_->call([&] { return ForwardingRead::read(offset, out); }); }

 private:
  WayPtr way_;
};

class SlowWrite final : public ForwardingWrite {
 public:
  SlowWrite(std::unique_ptr<WriteFile> f, WayPtr way) : ForwardingWrite(std::move(f)), way_(std::move(way)) {}
  Status write(uint64_t offset, ByteView bytes) override { return way_->call([&] { return ForwardingWrite::write(offset, bytes); }); }
  Status read_back(uint64_t offset, MutByteView out) override {
    return way_->call([&] { return ForwardingWrite::read_back(offset, out); });
  }
  Status truncate(uint64_t size) override { return way_->call([&] { return ForwardingWrite::truncate(size); }); }
  Status sync() override { return way_->call([&] { return ForwardingWrite::sync(); }); }
  Status complete() override { return way_->call([&] { return ForwardingWrite::complete(); }); }

 private:
  WayPtr way_;
};

class SlowStore final : public ForwardingStore {
 public:
  SlowStore(Store& beneath, WayPtr way) : ForwardingStore(beneath), way_(std::move(way)) {}
  Capabilities capabilities() const override { return way_->numbers(ForwardingStore::capabilities()); }
  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override {
    INGOT_ASSIGN(auto f, way_->call([&] { return ForwardingStore::open(path); }));
    return std::unique_ptr<ReadFile>(new SlowRead(std::move(f), way_));
  }
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    INGOT_ASSIGN(auto f, way_->call([&] { return ForwardingStore::create(path, size, resume); }));
    return std::unique_ptr<WriteFile>(new SlowWrite(std::move(f), way_));
  }
  Result<std::unique_ptr<WriteFile>> change(const std::string& path) override {
    INGOT_ASSIGN(auto f, way_->call([&] { return ForwardingStore::change(path); }));
    return std::unique_ptr<WriteFile>(new SlowWrite(std::move(f), way_));
  }
  Status copy_access(const std::string& from, const std::string& to) override { return way_->call([&] { return ForwardingStore::copy_access(from, to); }); }
  Result<std::optional<Stat>> stat(const std::string& path) override { return way_->call([&] { return ForwardingStore::stat(path); }); }
  Result<std::vector<Entry>> list(const std::string& directory) override {
    return way_->call([&] { return ForwardingStore::list(directory); });
  }
  Status make_directory(const std::string& path) override { return way_->call([&] { return ForwardingStore::make_directory(path); }); }
  Status rename(const std::string& from, const std::string& to, bool replace) override {
    return way_->call([&] { return ForwardingStore::rename(from, to, replace); });
  }
  Result<bool> exchange(const std::string& a, const std::string& b) override {
    return way_->call([&] { return ForwardingStore::exchange(a, b); });
  }
  Status remove(const std::string& path) override { return way_->call([&] { return ForwardingStore::remove(path); }); }
  Status abandon(const std::string& path) override { return way_->call([&] { return ForwardingStore::abandon(path); }); }
  Status sync_directory(const std::string& path) override { return way_->call([&] { return ForwardingStore::sync_directory(path); }); }
  Result<uint64_t> free_space(const std::string& directory) override {
    return way_->call([&] { return ForwardingStore::free_space(directory); });
  }
  Result<std::unique_ptr<StoreLock>> lock(const std::string& path) override {
    return way_->call([&] { return ForwardingStore::lock(path); });
  }
  bool locked(const std::string& path) override { return way_->call([&] { return ForwardingStore::locked(path); }); }
  bool set_note(const std::string& path, const std::string& text) override {
    return way_->call([&] { return ForwardingStore::set_note(path, text); });
  }
  std::string note(const std::string& path) override { return way_->call([&] { return ForwardingStore::note(path); }); }

 private:
  WayPtr way_;
};

}  // namespace

std::unique_ptr<Store> make_slow_store(Store& beneath, const SlowOptions& options, SlowCounts* counts) {
  return std::make_unique<SlowStore>(beneath, std::make_shared<Way>(options, counts));
}

}  // namespace ingot
