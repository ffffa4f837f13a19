// The digest store: takes everything and keeps nothing. What a job writes to it is hashed on the way, and only the hashes are wanted.
#include "storage/store.h"

namespace ingot {
namespace {

class DigestFile final : public WriteFile {
 public:
  explicit DigestFile(uint64_t size) : size_(size) {}
  Status write(uint64_t, ByteView) override { return {}; }
  Status read_back(uint64_t, MutByteView) override { return failed("reading back from a store that keeps nothing"); }
  Status truncate(uint64_t) override { return {}; }
  Status sync() override { return {}; }
  Result<uint64_t> size() override { return size_; }
  Status complete() override { return {}; }

 private:
  uint64_t size_;
};

class DigestStore final : public Store {
 public:
  std::string name() const override { return "digest"; }
  // Parts of any size, so that they come as whole leaves, in any order; nothing is gained from several at a time.
  Capabilities capabilities() const override {
    Capabilities c;
    c.mode = WriteMode::kParts;
    c.part_min = 1;
    c.part_max = UINT64_MAX / 2;
    c.part_count_max = UINT32_MAX;
    c.rename = c.exchange = c.keeps = false;
    c.requests = 0;
    return c;
  }
  Result<std::unique_ptr<ReadFile>> open(const std::string& path) override { return none(path); }
  Result<std::unique_ptr<WriteFile>> create(const std::string&, uint64_t size, bool) override {
    return std::unique_ptr<WriteFile>(new DigestFile(size));
  }
  Result<std::optional<Stat>> stat(const std::string&) override { return std::optional<Stat>(); }
  Result<std::string> resolve(const std::string& path) override { return path; }
  Result<std::vector<Entry>> list(const std::string& directory) override { return none(directory); }
  Status make_directory(const std::string&) override { return {}; }
  Status rename(const std::string& from, const std::string&, bool) override { return none(from); }
  Result<bool> exchange(const std::string&, const std::string&) override { return false; }
  Status remove(const std::string&) override { return {}; }
  Status sync_directory(const std::string&) override { return {}; }
  Result<uint64_t> free_space(const std::string&) override { return UINT64_MAX; }
  Result<std::unique_ptr<StoreLock>> lock(const std::string& path) override { return none(path); }
  bool locked(const std::string&) override { return false; }

 private:
  static Error none(const std::string& path) { return failed("opening {}: this store keeps nothing", path); }
};

}  // namespace

std::unique_ptr<Store> make_digest_store() { return std::make_unique<DigestStore>(); }

}  // namespace ingot
