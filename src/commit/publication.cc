#include "commit/publication.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/threads.h"
#include "commit/names.h"

namespace ingot {
namespace {

// Within its directory: no way out of it.
bool stays_inside(const std::string& name) {
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    const std::string part = name.substr(at, end - at);
    if (part.empty() || part == "." || part == "..") return false;
    at = end + 1;
  }
  return true;
}

}  // namespace

void Publication::begin(std::vector<FileSizes> files) {
  files_ = std::move(files);
  ready_.assign(files_.size(), false);
  hashes_.assign(files_.size(), {});
  for (size_t o = 0; o < files_.size(); ++o)
    for (const auto& f : files_[o]) hashes_[o].emplace_back((f.size + options_.leaf_bytes - 1) / options_.leaf_bytes);
}

Status Publication::begin(const std::vector<Written>& ranks) {
  struct Known {
    uint64_t size = 0, leaves = 0;
    size_t number = 0;
  };
  std::vector<std::map<std::string, Known>> files(outputs_.size());
  for (size_t r = 0; r < ranks.size(); ++r) {
    const Written& w = ranks[r];
    if (w.key != ranks[0].key)
      return usage("publishing {}: rank {} has written another job than rank 0 (keys {} and {}); give all of them the same inputs, or one name for the job",
                   outputs_[0].path, r, w.key, ranks[0].key);
    if (w.leaf_bytes != options_.leaf_bytes)
      return usage("publishing {}: rank {} has hashed leaves of {} bytes, here they have {}; use one version of ingot", outputs_[0].path, r, w.leaf_bytes, options_.leaf_bytes);
    for (const auto& f : w.files) {
      if (f.output < 0 || static_cast<size_t>(f.output) >= outputs_.size() || outputs_[f.output].directory == f.name.empty() || (!f.name.empty() && !stays_inside(f.name)))
        return usage("publishing {}: rank {} has written '{}' of an output number {}, which is none here", outputs_[0].path, r, f.name, f.output);
      const auto [it, fresh] = files[f.output].try_emplace(f.name, Known{f.size, 0, 0});
      if (it->second.size != f.size)
        return usage("publishing {}: rank {} has '{}' with {} bytes, another rank with {}", outputs_[f.output].path, r, f.name, f.size, it->second.size);
      it->second.leaves += f.leaves.size();
    }
  }
  std::vector<FileSizes> sizes(outputs_.size());
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (files[o].empty()) return failed("publishing {}: no rank has written it; let all of them write, with the same outputs", outputs_[o].path);
    for (auto& [name, known] : files[o]) {
      // Before there is memory for them.
      if (known.size / options_.leaf_bytes + (known.size % options_.leaf_bytes != 0) > known.leaves)
        return failed("publishing {}: no rank has written all of '{}'; the same command goes on", outputs_[o].path, name);
      known.number = sizes[o].size();
      sizes[o].push_back({name, known.size});
    }
  }
  begin(std::move(sizes));
  for (size_t r = 0; r < ranks.size(); ++r)
    for (const auto& f : ranks[r].files) {
      Hashes& known = hashes_[f.output][files[f.output][f.name].number];
      for (const auto& [leaf, h] : f.leaves) {
        if (leaf >= known.size() || (known[leaf] && !(*known[leaf] == h)))
          return usage("publishing {}: rank {} has written other bytes to '{}' than another rank did", outputs_[f.output].path, r, f.name);
        known[leaf] = h;
      }
    }
  // What an earlier run gave these names may have had other contents.
  for (size_t o = 0; o < outputs_.size(); ++o)
    if (commit_.published(o) && commit_.noted_root(o) != written_root(o)) commit_.forget_published(o);
  return {};
}

bool Publication::all_done() const {
  for (size_t o = 0; o < outputs_.size(); ++o)
    if (!done(o)) return false;
  return true;
}

std::string Publication::root_hash(size_t o) const {
  return commit_.noted_root(o).empty() ? written_root(o) : commit_.noted_root(o);
}

std::string Publication::written_root(size_t o) const {
  std::map<std::string, Hashes> files;
  for (size_t f = 0; f < hashes_[o].size(); ++f) files[files_[o][f].name] = hashes_[o][f];
  return root_of(files);
}

VerifyRun Publication::verify_run() const {
  return {thread_count(options_.threads), options_.leaf_bytes, options_.cancel, {}};
}

// A file of an output under `root`, opened when it is first read. `unseen`: an upload that is not complete.
LeavesToVerify Publication::leaves_of(size_t o, size_t f, const std::string& root, Hashes hashes, bool unseen) const {
  const FileSize& file = files_[o][f];
  LeavesToVerify v;
  v.path = commit_.final_path_of(o, file.name);
  v.size = file.size;
  v.leaves.resize(hashes.size());
  std::iota(v.leaves.begin(), v.leaves.end(), 0);
  v.hashes = std::move(hashes);
  struct Opened {
    std::mutex once;
    std::shared_ptr<ReadFile> read;
    std::shared_ptr<WriteFile> upload;
  };
  const std::string path = outputs_[o].directory ? join_path(root, file.name) : root;
  v.read = [this, o, path, size = file.size, unseen, opened = std::make_shared<Opened>()](uint64_t at, MutByteView out) -> Status {
    {
      std::lock_guard lock(opened->once);
      if (unseen && !opened->upload) {
        INGOT_ASSIGN(opened->upload, outputs_[o].store->create(path, size, true));
      } else if (!unseen && !opened->read) {
        INGOT_ASSIGN(opened->read, outputs_[o].store->open(path));
      }
    }
    return unseen ? opened->upload->read_back(at, out) : opened->read->read(at, out);
  };
  return v;
}

Status Publication::settle(Journal& journal, JournalState* recorded) {
  for (const auto& [id, h] : recorded->leaves)
    if (static_cast<size_t>(id.output) < hashes_.size() && static_cast<size_t>(id.file) < hashes_[id.output].size() && id.leaf < hashes_[id.output][id.file].size())
      hashes_[id.output][id.file][id.leaf] = h;
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (commit_.published(o)) continue;
    if (!outputs_[o].store->capabilities().keeps) {
      ready_[o] = all_hashed(o);  // nothing else is left of it
      continue;
    }
    INGOT_ASSIGN(const auto found, commit_.settle(o, [&](const std::string& root) {
      if (!commit_.check_whole(o, files_[o], root).ok()) return false;
      std::vector<LeavesToVerify> files;
      for (size_t f = 0; f < hashes_[o].size(); ++f) files.push_back(leaves_of(o, f, root, hashes_[o][f], false));
      return verify_leaves(files, verify_run()).ok();
    }));
    if (options_.cancel && options_.cancel->cancelled()) return interrupted();
    ready_[o] = found == Commit::Found::kReady;
    if (found == Commit::Found::kUnfinished && recorded->verified) {
      // Something took it away since: it is made again, by this rank.
      recorded->verified = false;
      INGOT_TRY(journal.begin(commit_.journal_outputs(), commit_.stamp()));
      for (const auto& [id, h] : recorded->leaves) INGOT_TRY(journal.leaf(id, h));
    }
  }
  return commit_.check_existing(true);
}

bool Publication::all_hashed(size_t o) const {
  for (const auto& file : hashes_[o])
    for (const auto& h : file)
      if (!h) return false;
  return true;
}

Status Publication::check_written() const {
  std::vector<LeavesToVerify> files;
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (done(o) || !outputs_[o].store->capabilities().keeps) continue;
    if (!commit_.direct(o)) INGOT_TRY(commit_.check_whole(o, files_[o], commit_.root(o)));
    for (size_t f = 0; f < hashes_[o].size(); ++f) files.push_back(leaves_of(o, f, commit_.root(o), hashes_[o][f], commit_.direct(o)));
  }
  return options_.verify == Verify::kNone ? Status() : verify_leaves(files, verify_run());
}

Status Publication::gather(Journal& journal, const JournalState& recorded, const std::function<bool(const LeafId&)>& mine) {
  JournalState all;
  auto start = Clock::now(), moved = start;
  double next_notice = 5;
  size_t seen = 0;
  for (auto pause = std::chrono::milliseconds(5);; pause = std::min(pause * 2, std::chrono::milliseconds(500))) {
    if (options_.cancel && options_.cancel->cancelled()) return interrupted();
    INGOT_ASSIGN(all, commit_.read_journals());
    std::string missing;
    for (int r = 0; r < options_.world; ++r)
      if (!all.finished.count({r, options_.world})) missing += (missing.empty() ? "" : ", ") + std::to_string(r);
    if (missing.empty()) break;
    if (const size_t now = all.leaves.size() + all.finished.size(); now != seen) seen = now, moved = Clock::now();
    if (options_.on_notice && seconds_since(start) > next_notice) {
      options_.on_notice(fmt::format("rank 0 of {} has done its part and waits for rank {}", options_.world, missing));
      next_notice *= 4;
    }
    if (seconds_since(moved) > options_.rank_timeout)
      return failed("rank 0 of {} has done its part and gives up: rank {} recorded nothing for {:.0f} s (--rank-timeout). Start all ranks again "
                    "with the same command, from inputs that look the same to each of them, and they go on", options_.world, missing, seconds_since(moved));
    std::this_thread::sleep_for(pause);
  }
  INGOT_TRY(commit_.lock_ranks());
  // Also into this rank's own journal, which is the last to go.
  std::set<std::pair<int, int>> suspect;
  for (const auto& [id, h] : all.leaves) {
    if (!mine(id)) INGOT_TRY(journal.leaf(id, h));
    auto& known = hashes_[id.output][id.file][id.leaf];
    if (known) continue;
    // Recorded before this rank began, and not found when it opened the file: the other one's word does not count.
    if (recorded.leaves.count(id)) suspect.insert({id.output, id.file});
    known = h;
  }
  std::vector<LeavesToVerify> again;
  for (const auto& [o, f] : suspect)
    if (outputs_[o].store->capabilities().keeps) again.push_back(leaves_of(o, f, commit_.root(o), hashes_[o][f], commit_.direct(o)));
  Status s = verify_leaves(again, verify_run());
  if (s.ok() || s.error().kind == ErrorKind::kInterrupted) return s;
  return failed("{}. What another rank had written is gone: start all ranks again with --no-resume", s.error().message);
}

Status Publication::publish(std::unique_ptr<Journal> journal) {
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (commit_.published(o)) continue;
    if (!all_hashed(o)) return failed("publishing {}: no rank has written all of it; the same command goes on", commit_.root(o));
    if (!commit_.direct(o)) INGOT_TRY(commit_.check_whole(o, files_[o], commit_.root(o)));
  }
  INGOT_TRY(journal->verified());
  for (size_t o = 0; o < outputs_.size(); ++o)
    INGOT_TRY(commit_.publish(o, files_[o], root_hash(o), [&]() -> Status {
      for (const auto& f : files_[o]) {
        INGOT_ASSIGN(const auto file, outputs_[o].store->create(commit_.path_of(o, f.name), f.size, true));
        INGOT_ASSIGN(const uint64_t size, file->size());
        if (size != f.size)
          return failed("publishing {}: of its {} bytes {} were uploaded; let all ranks write again", commit_.path_of(o, f.name), f.size, size);
        INGOT_TRY(file->complete());
      }
      return {};
    }));
  journal.reset();
  return commit_.clean();
}

}  // namespace ingot
