// Small jobs for the tests of the commit, the sources and the ranks: tensors of known bytes, from memory or from files.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "storage/forwarding.h"

namespace ingot::testing {

// Bytes that differ from place to place and from seed to seed.
inline std::string pattern(size_t bytes, uint32_t seed) {
  std::string s(bytes, '\0');
  uint32_t x = seed * 2654435761u + 1;
  for (char& c : s) {
    x = x * 1664525u + 1013904223u;
    c = static_cast<char>(x >> 24);
  }
  return s;
}

inline NodePtr bytes_tensor(const std::string& bytes) {
  const auto* p = reinterpret_cast<const std::byte*>(bytes.data());
  return make_memory_tensor({DType::kU8, {static_cast<int64_t>(bytes.size())}}, {p, p + bytes.size()});
}

// A whole file as a tensor.
class FileBytes final : public Source {
 public:
  explicit FileBytes(std::shared_ptr<ReadFile> file) : file_(std::move(file)) {}
  TensorSpec spec() const override { return {DType::kU8, {static_cast<int64_t>(file_->size())}}; }
  std::string describe() const override { return "bytes of " + file_->identity(); }
  Result<uint64_t> read(const Region& r, MutByteView out) const override {
    INGOT_TRY(file_->read(r.begin[0], out));
    return out.size();
  }
  const ReadFile* file() const override { return file_.get(); }

 private:
  std::shared_ptr<ReadFile> file_;
};

// "head", then the tensors one after another.
inline Result<Layout> plain_layout(const std::vector<NamedSpec>& specs) {
  Layout l;
  l.files.resize(1);
  l.files[0].extents.push_back({0, "head"});
  l.files[0].size = 4;
  for (const auto& s : specs) {
    l.tensors.push_back({0, l.files[0].size});
    l.files[0].size += bytes_of(s.second);
  }
  return l;
}

// A file for each tensor, the last in a subdirectory.
inline Result<Layout> directory_layout(const std::vector<NamedSpec>& specs) {
  Layout l;
  for (size_t i = 0; i < specs.size(); ++i) {
    l.tensors.push_back({static_cast<int>(i), 0});
    l.files.push_back({fmt::format("{}{}", i + 1 == specs.size() ? "sub/" : "", specs[i].first), bytes_of(specs[i].second), {}});
  }
  return l;
}

inline Output file_output(Store& store, const std::string& path, const std::vector<NodePtr>& tensors) {
  Output o;
  for (size_t i = 0; i < tensors.size(); ++i) o.artifact.tensors.push_back({fmt::format("t{}", i), tensors[i]});
  o.layout = plain_layout;
  o.store = &store;
  o.path = path;
  return o;
}

inline Output directory_output(Store& store, const std::string& path, const std::vector<NodePtr>& tensors) {
  Output o = file_output(store, path, tensors);
  o.layout = directory_layout;
  o.directory = true;
  o.older_name = [](const std::string& name) { return name.rfind("t", 0) == 0 || name.rfind("sub/", 0) == 0; };
  return o;
}

inline ExecOptions small_job() {
  ExecOptions o;
  o.threads = 2;
  o.leaf_bytes = 256;
  o.tile_elements = 100;
  o.memory = 16 << 20;
  return o;
}

// The local store as poorer file systems are: no exchanging rename, no locks, no notes.
class PlainStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  Result<bool> exchange(const std::string&, const std::string&) override { return false; }
  class NoLock final : public StoreLock {
    bool excludes() const override { return false; }
  };
  Result<std::unique_ptr<StoreLock>> lock(const std::string&) override { return std::unique_ptr<StoreLock>(new NoLock); }
  bool locked(const std::string&) override { return false; }
  bool set_note(const std::string&, const std::string&) override { return false; }
  std::string note(const std::string&) override { return ""; }
};

// The store as a job sees it that is killed at the n-th call; `killed` tells whether there were so many.
inline std::unique_ptr<Store> dies_at(Store& beneath, uint64_t n, bool* killed) {
  FaultHooks hooks;
  hooks.hook = [n, killed](uint64_t k, const char*, const std::string&) -> std::string {
    *killed |= k >= n;
    return *killed ? "killed" : "";
  };
  return make_fault_store(beneath, hooks);
}

// A directory of the local file system, removed at the end.
class LocalTest : public ::testing::Test {
 protected:
  LocalTest() {
    char name[] = "/tmp/ingot-exec-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  ~LocalTest() override { std::filesystem::remove_all(dir_); }
  std::string at(const std::string& name) const { return dir_ + "/" + name; }
  void put(const std::string& name, const std::string& text) const { std::ofstream(at(name), std::ios::binary) << text; }
  std::string get(const std::string& name) const {
    std::ifstream f(at(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
  }
  NodePtr source(const std::string& name) const { return std::make_shared<FileBytes>(std::shared_ptr<ReadFile>(*local_store().open(at(name)))); }
  // Names in a directory, sorted, hidden ones too.
  std::vector<std::string> names(const std::string& in = "") const {
    std::vector<std::string> all;
    for (const auto& e : std::filesystem::directory_iterator(at(in))) all.push_back(e.path().filename());
    std::sort(all.begin(), all.end());
    return all;
  }
  std::string dir_;
};

}  // namespace ingot::testing
