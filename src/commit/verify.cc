#include "commit/verify.h"

#include <algorithm>
#include <atomic>

#include "base/threads.h"
#include "commit/names.h"

namespace ingot {

const char* verify_name(Verify v) {
  switch (v) {
    case Verify::kMedium: return "medium";
    case Verify::kCache: return "cache";
    case Verify::kNone: return "none";
  }
  return "";
}

Status verify_leaves(const std::vector<LeavesToVerify>& files, const VerifyRun& run) {
  std::vector<uint64_t> starts = {0};  // of each file in the sequence of all leaves
  for (const auto& f : files) starts.push_back(starts.back() + f.leaves.size());
  std::atomic<uint64_t> next{0};
  const uint64_t all = starts.back();
  const auto work = [&]() -> Status {
    std::vector<std::byte> buffer(run.leaf_bytes);
    for (uint64_t i; (i = next++) < all;) {
      if (run.cancel && run.cancel->cancelled()) return interrupted();
      const size_t k = std::upper_bound(starts.begin(), starts.end(), i) - starts.begin() - 1;
      const auto& f = files[k];
      const uint64_t leaf = f.leaves[i - starts[k]], at = leaf * run.leaf_bytes;
      const MutByteView v(buffer.data(), std::min(run.leaf_bytes, f.size - at));
      Status s = f.read(at, v);
      const auto& want = f.hashes[leaf];
      if (s.ok() && (!want || !(hash128(v) == *want)))
        s = failed("verifying {}: bytes {} to {} are not what was computed (hash {}, expected {}); the disk or memory is at fault, or "
                   "something else wrote there. The same command writes them again",
                   f.path, at, at + v.size(), to_hex(hash128(v)), want ? to_hex(*want) : "none");
      if (!s.ok()) {
        next = all;
        return s;
      }
      if (run.progress) run.progress(v.size(), f.path);
    }
    return {};
  };
  return run_on_threads(static_cast<int>(std::min<uint64_t>(run.threads, std::max<uint64_t>(all, 1))), work);
}

std::string root_of(const std::map<std::string, std::vector<std::optional<Hash128>>>& files) {
  std::string leaves;
  for (const auto& [name, hashes] : files)
    for (const auto& h : hashes)
      if (h) leaves.append(reinterpret_cast<const char*>(&*h), sizeof *h);
  return to_hex(hash128(as_bytes(leaves)));
}

void TreeHasher::update(ByteView bytes) {
  while (!bytes.empty()) {
    const size_t n = std::min<uint64_t>(bytes.size(), kLeafBytes - in_leaf_);
    leaf_->update(bytes.first(n));
    bytes = bytes.subspan(n), in_leaf_ += n;
    if (in_leaf_ == kLeafBytes) end_leaf();
  }
}

void TreeHasher::end_leaf() {
  leaves_.emplace_back(leaf_->digest());
  leaf_ = std::make_unique<Hasher128>(), in_leaf_ = 0;
}

std::string TreeHasher::root() {
  if (in_leaf_) end_leaf();
  return root_of({{"", leaves_}});
}

Result<TreeHash> hash_tree(Store& store, const std::string& path, const VerifyRun& run) {
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there) return bad_input("reading {}: no such file or directory", path);
  std::vector<std::string> names = {""};
  if (there->directory()) {
    INGOT_ASSIGN(names, list_tree(store, path, nullptr));
  }
  std::map<std::string, std::vector<std::optional<Hash128>>> files;
  TreeHash tree;
  for (const auto& name : names) {
    if (!name.empty() && name.back() == '/') continue;  // an empty directory
    INGOT_ASSIGN(const auto file, store.open(name.empty() ? path : join_path(path, name)));
    auto& hashes = files[name];
    const VerifyRun::Look look = run.look ? run.look(*file) : nullptr;
    hashes.resize((file->size() + run.leaf_bytes - 1) / run.leaf_bytes);
    tree.bytes += file->size();
    std::atomic<uint64_t> next{0};
    INGOT_TRY(run_on_threads(static_cast<int>(std::min<uint64_t>(run.threads, std::max<size_t>(hashes.size(), 1))), [&]() -> Status {
      std::vector<std::byte> buffer(run.leaf_bytes);
      for (uint64_t leaf; (leaf = next++) < hashes.size();) {
        if (run.cancel && run.cancel->cancelled()) return interrupted();
        const MutByteView v(buffer.data(), std::min(run.leaf_bytes, file->size() - leaf * run.leaf_bytes));
        Status s = file->read(leaf * run.leaf_bytes, v);
        if (s.ok() && look) s = look(leaf * run.leaf_bytes, v);
        if (!s.ok()) {
          next = hashes.size();
          return s;
        }
        hashes[leaf] = hash128(v);
        if (run.progress) run.progress(v.size(), file->path());
      }
      return {};
    }));
  }
  tree.root = root_of(files);
  return tree;
}

}  // namespace ingot
