// A job from its key to its commit. The work itself is in pipeline.cc, the tasks in plan.cc.
#include "exec/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "exec/commit.h"
#include "exec/journal.h"
#include "exec/key.h"
#include "exec/names.h"
#include "exec/pipeline.h"
#include "exec/verify.h"

namespace ingot {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

class Job {
 public:
  Job(const std::vector<Output>& outputs, const ExecOptions& options) : outputs_(outputs), options_(options), commit_(outputs, options) {}

  Result<PlanReport> plan_only() {
    INGOT_TRY(begin());
    PlanReport r;
    if (!options_.force) INGOT_TRY(commit_.find_published(true));
    r.up_to_date = commit_.all_published();
    INGOT_TRY(commit_.check_existing(false));
    INGOT_ASSIGN(plan_, make_plan(outputs_, options_));
    INGOT_TRY(check_targets());
    for (size_t o = 0; o < outputs_.size(); ++o)
      for (const auto& f : layout(o).files) r.files.push_back({commit_.final_path_of(o, f), f.size});
    r.source_bytes = plan_->source_bytes;
    INGOT_ASSIGN(r.memory_floor, least_memory(outputs_, options_));
    r.memory = plan_->most_used;
    r.tasks = plan_->parts;
    for (const auto& v : plan_->values()) r.spilled += v.spilled;
    return r;
  }

  Result<ExecReport> run() {
    report_progress(Phase::kPlan);
    INGOT_TRY(begin());
    if (commit_.journal_store().capabilities().mode != WriteMode::kRandom)
      return usage("the store of {} keeps no journal; give a local path for it", outputs_[0].path);
    Status s = locked();
    if (!s.ok() && options_.cancel && options_.cancel->cancelled()) {
      Error stop = interrupted();
      if (const std::string left = commit_.remains(); !left.empty()) stop.message += "; " + left;
      s = std::move(stop);
    }
    if (!s.ok()) return commit_.in_users_terms(std::move(s));
    return std::move(report_);
  }

 private:
  int threads() const {
    return options_.threads > 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
  }
  const Layout& layout(size_t o) const { return plan_->layouts[o]; }

  // What a job is, and whether its names can be; nothing is written.
  Status begin() {
    if (outputs_.empty()) return usage("nothing to write");
    if (options_.rank < 0 || options_.world < 1 || options_.rank >= options_.world)
      return usage("rank {} of a world of {}", options_.rank, options_.world);
    sources_ = sources_of(outputs_);
    INGOT_TRY(commit_.check_names(sources_));
    INGOT_ASSIGN(key_, job_key(outputs_, options_));
    commit_.set_key(key_, sources_stamp(sources_));
    report_.key = key_;
    return {};
  }

  // Under the locks: nobody else writes these outputs until the end.
  Status locked() {
    INGOT_TRY(commit_.lock());
    INGOT_TRY(commit_.clear_leftovers());
    // Ranks agree only on what all of them see: one that comes late finds the work done, --force or not.
    if (!options_.force || options_.world > 1) INGOT_TRY(commit_.find_published(options_.rank == 0));
    INGOT_ASSIGN(recorded_, commit_.read_journals());
    if (commit_.all_published() && !recorded_.verified) {
      report_published();
      if (options_.rank) return {};
      INGOT_TRY(commit_.start_over(false));  // of a --force that was killed
      return commit_.clean();
    }
    if (options_.rank && (recorded_.verified || (recorded_.key.empty() && !options_.force && all_there()))) return {};
    if (recorded_.touched && options_.on_notice && options_.resume)
      options_.on_notice(fmt::format("{}: an unfinished run is started over: its inputs were touched since (mode, owner or links)", outputs_[0].path));
    if ((recorded_.touched && recorded_.key.empty()) || !options_.resume) {
      // Of several ranks another may be ahead: what it has is written over.
      if (options_.world == 1) INGOT_TRY(commit_.start_over(recorded_.verified || recorded_.touched));
      recorded_ = JournalState();
    }
    // Only publishing is left: rank 0's alone, whatever the world was and is. It holds the others back.
    if (recorded_.verified) {
      INGOT_TRY(commit_.lock_ranks());
      alone_ = true;
    }
    fresh_ = recorded_.key.empty();
    if (!recorded_.verified) INGOT_TRY(commit_.check_existing(false));
    auto journal = Journal::open(commit_.journal_store(), commit_.journal_of(options_.rank), key_, !fresh_);
    // "Verified" stays in force until settle() finds otherwise.
    Status s = journal.ok() ? Status() : Status(journal.take_error());
    if (s.ok()) journal_ = std::move(*journal);
    if (s.ok() && !recorded_.verified) s = journal_->begin(commit_.journal_outputs(), commit_.stamp());
    if (s.ok()) s = work();
    if (s.ok() || (options_.cancel && options_.cancel->cancelled())) return s;
    // Bad input stays bad, and a run that was refused before its first byte (no space) leaves nothing worth going on from. What an earlier run
    // left is kept: another option may go on with it.
    const bool bad = s.error().kind == ErrorKind::kBadInput || s.error().kind == ErrorKind::kUsage;
    if (fresh_ && (bad || (s.error().kind != ErrorKind::kInterrupted && written_bytes_ == 0))) {
      sinks_.clear();
      journal_.reset();
      scratch_.reset();
      commit_.discard();
    }
    return s;
  }

  bool all_there() const {
    return std::all_of(outputs_.begin(), outputs_.end(), [](const Output& o) {
      const auto there = o.store->stat(o.path);
      if (!there.ok() || !*there || (*there)->directory() != o.directory) return false;
      const auto entries = o.directory ? o.store->list(o.path) : Result<std::vector<Entry>>(std::vector<Entry>(1));
      return entries.ok() && !entries->empty();  // an empty directory was made for the output
    });
  }

  // What --force would take away, and the room.
  Status check_targets() {
    std::vector<const Layout*> layouts;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      INGOT_TRY(commit_.check_replaced(o, layout(o)));
      layouts.push_back(&layout(o));
    }
    return commit_.check_space(layouts);
  }

  Status work() {
    INGOT_ASSIGN(plan_, make_plan(outputs_, options_));
    ready_.assign(outputs_.size(), false);
    if (recorded_.verified) INGOT_TRY(settle());
    INGOT_TRY(check_targets());
    INGOT_TRY(open_sinks());
    bool whole = true;
    for (size_t o = 0; o < outputs_.size(); ++o) whole = whole && (ready_[o] || commit_.published(o));
    if (!whole) {
      const auto start = Clock::now();
      INGOT_TRY(write());
      report_.seconds_write = seconds_since(start);
      const auto verify_start = Clock::now();
      if (options_.verify != Verify::kNone) INGOT_TRY(verify());
      report_.seconds_verify = seconds_since(verify_start);
      for (const ReadFile* f : sources_) INGOT_TRY(f->check_unchanged());
      INGOT_TRY(journal_->finished(options_.rank, options_.world));
      if (options_.rank == 0 && options_.world > 1 && !alone_) INGOT_TRY(gather_ranks());
    }
    if (options_.rank == 0) {
      INGOT_TRY(publish());
    }
    fill_report();
    report_progress(Phase::kDone);
    return {};
  }

  // An earlier run had verified all and was publishing when it was killed: what lies under which name is found out from the content.
  Status settle() {
    for (size_t o = 0; o < outputs_.size(); ++o) {
      if (commit_.published(o)) continue;
      INGOT_ASSIGN(const auto found, commit_.settle(o, [&](const std::string& root) {
        return commit_.check_whole(o, layout(o), root).ok() && verify_leaves(recorded_leaves(o, root), verify_run()).ok();
      }));
      if (options_.cancel && options_.cancel->cancelled()) return interrupted();
      ready_[o] = found == Commit::Found::kReady;
      if (found == Commit::Found::kUnfinished && recorded_.verified) {
        // Something took it away since: it is made again, by this rank.
        recorded_.verified = false;
        INGOT_TRY(journal_->begin(commit_.journal_outputs(), commit_.stamp()));
        for (const auto& [id, h] : recorded_.leaves) INGOT_TRY(journal_->leaf(id, h));
      }
    }
    return commit_.check_existing(true);
  }

  // The files of an output under `root`, with the hashes that the journals have.
  std::vector<LeavesToVerify> recorded_leaves(size_t o, const std::string& root) const {
    std::vector<LeavesToVerify> all;
    for (size_t f = 0; f < layout(o).files.size(); ++f) {
      const FileLayout& file = layout(o).files[f];
      LeavesToVerify v;
      v.path = outputs_[o].directory ? join_path(root, file.name) : root;
      v.size = file.size;
      v.last = (file.size + options_.leaf_bytes - 1) / options_.leaf_bytes;
      v.hashes.resize(v.last);
      for (uint64_t l = 0; l < v.last; ++l)
        if (auto it = recorded_.leaves.find({static_cast<int>(o), static_cast<int>(f), l}); it != recorded_.leaves.end()) v.hashes[l] = it->second;
      v.read = [this, o, path = v.path, opened = std::shared_ptr<ReadFile>(), once = std::make_shared<std::mutex>()](uint64_t at, MutByteView out) mutable -> Status {
        {
          std::lock_guard lock(*once);
          if (!opened) {
            INGOT_ASSIGN(opened, outputs_[o].store->open(path));
          }
        }
        return opened->read(at, out);
      };
      all.push_back(std::move(v));
    }
    return all;
  }

  VerifyRun verify_run() const { return {threads(), options_.leaf_bytes, options_.cancel, {}}; }

  Status open_sinks() {
    uploads_ = std::make_unique<Uploads>(plan_->uploads);
    // A multi-process job never truncates: another rank may be ahead.
    const bool resume = options_.resume || options_.world > 1;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      const Layout& po = layout(o);
      Store& st = *outputs_[o].store;
      const bool done = commit_.published(o) || ready_[o];
      sinks_.emplace_back();
      if (!done) INGOT_TRY(commit_.make_part(o, layout(o)));
      std::vector<std::vector<std::pair<uint64_t, uint64_t>>> extents(po.files.size());
      for (size_t i = 0; i < po.tensors.size(); ++i)
        extents[po.tensors[i].file].emplace_back(po.tensors[i].offset, bytes_of(outputs_[o].artifact.tensors[i].spec()));
      for (size_t f = 0; f < po.files.size(); ++f) {
        const int oi = static_cast<int>(o), fi = static_cast<int>(f);
        auto sink = std::make_unique<SinkFile>(
            po.files[f], st.capabilities(), options_.leaf_bytes,
            [this, oi, fi](uint64_t leaf, const Hash128& h) { return journal_->leaf({oi, fi, leaf}, h); }, uploads_.get());
        const uint64_t n = sink->leaves();
        const int rank = alone_ ? 0 : options_.rank, world = alone_ ? 1 : options_.world;
        if (st.capabilities().mode == WriteMode::kRandom)
          sink->own(n * rank / world, n * (rank + 1) / world);
        else if (static_cast<int>(f) % world != rank)  // without random writes, a file is the work of one rank
          sink->own(0, 0);
        std::map<uint64_t, Hash128> known;
        for (auto it = recorded_.leaves.lower_bound({oi, fi, 0}); it != recorded_.leaves.end(); ++it) {
          if (it->first.output != oi || it->first.file != fi) break;
          known[it->first.leaf] = it->second;
        }
        if (done) {
          for (const auto& [leaf, h] : known)
            if (leaf < n) sink->set_hash(leaf, h);
          sink->own(0, 0);
        } else if (sink->owns_any() || st.capabilities().mode == WriteMode::kRandom) {
          INGOT_TRY(sink->open(st, commit_.path_of(o, po.files[f]), resume, options_.resume ? known : std::map<uint64_t, Hash128>{}));
          INGOT_TRY(sink->start(extents[f]));
        }
        resumed_ += sink->resumed_bytes();
        sinks_.back().push_back(std::move(sink));
      }
    }
    if (plan_->scratch_bytes) {
      scratch_path_ = commit_.journal_base() + fmt::format(".scratch{}", options_.rank);
      INGOT_ASSIGN(scratch_, commit_.journal_store().create(scratch_path_, plan_->scratch_bytes, false));
    }
    return {};
  }

  Status write() {
    uint64_t total = 0;
    for (const auto& files : sinks_)
      for (const auto& s : files) total += s->size();
    total_ = total / (alone_ ? 1 : options_.world);
    done_ = resumed_;
    report_progress(Phase::kWrite);
    std::atomic<uint64_t> tasks{0};
    Status s = run_pipeline({outputs_, *plan_, options_.cancel, sinks_, {}, scratch_.get(), recorded_.facts,
                             [this](const std::string& key, const std::string& bytes) { return journal_->fact(key, bytes); },
                             [this](uint64_t n, const std::string& t) { advance(Phase::kWrite, n, t); },
                             source_bytes_, written_bytes_, tasks});
    report_.tasks = tasks;
    if (Status u = uploads_->finish(); s.ok()) s = std::move(u);
    if (!s.ok()) return s;
    for (size_t o = 0; o < sinks_.size(); ++o)
      for (size_t f = 0; f < sinks_[o].size(); ++f) {
        bool synced = true;
        Status finished = sinks_[o][f]->finish(&synced);
        // What the system holds in memory may read back as it was written, and be lost all the same.
        if (!synced) INGOT_TRY(journal_->distrust(static_cast<int>(o), static_cast<int>(f)));
        if (!finished.ok()) return finished;
      }
    if (scratch_) {
      scratch_.reset();
      INGOT_TRY(commit_.journal_store().remove(scratch_path_));
    }
    return {};
  }

  // This rank's own leaves, read back. On stores with rename through a file opened anew, so that the cache can be left out.
  Status verify() {
    std::vector<LeavesToVerify> all;
    bool medium = options_.verify == Verify::kMedium;
    total_ = done_ = 0;
    for (size_t o = 0; o < sinks_.size(); ++o)
      for (size_t f = 0; f < sinks_[o].size(); ++f) {
        SinkFile* sink = sinks_[o][f].get();
        if (!sink->file() || !sink->owns_any()) continue;
        LeavesToVerify v;
        v.path = commit_.final_path_of(o, layout(o).files[f]);
        v.size = sink->size();
        v.hashes = sink->hashes();
        std::tie(v.first, v.last) = sink->owned();
        if (commit_.direct(o)) {
          v.read = [sink](uint64_t at, MutByteView out) { return sink->file()->read_back(at, out); };
          medium = false;
        } else {
          INGOT_ASSIGN(std::shared_ptr<ReadFile> file, outputs_[o].store->open(sink->path()));
          if (medium && !file->from_medium()) medium = false;
          v.read = [file](uint64_t at, MutByteView out) { return file->read(at, out); };
        }
        total_ += std::min(v.size, v.last * options_.leaf_bytes) - v.first * options_.leaf_bytes;
        all.push_back(std::move(v));
      }
    report_.verified = medium && !all.empty() ? Verify::kMedium : Verify::kCache;
    report_progress(Phase::kVerify);
    VerifyRun run = verify_run();
    run.progress = [this](uint64_t n, const std::string& path) { advance(Phase::kVerify, n, file_name(path)); };
    return verify_leaves(all, run);
  }

  // Waits for the other ranks and takes over the hashes that they published.
  Status gather_ranks() {
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
      SinkFile& sink = *sinks_[id.output][id.file];
      if (const auto [first, last] = sink.owned(); id.leaf < first || id.leaf >= last) INGOT_TRY(journal_->leaf(id, h));
      if (sink.hashes()[id.leaf]) continue;
      // Recorded before this rank began, and not found when it opened the file: the other one's word does not count.
      if (recorded_.leaves.count(id)) suspect.insert({id.output, id.file});
      sink.set_hash(id.leaf, h);
    }
    for (size_t o = 0; o < sinks_.size(); ++o)
      for (size_t f = 0; f < sinks_[o].size(); ++f)
        if (!commit_.published(o) && !ready_[o] && !sinks_[o][f]->file())
          INGOT_TRY(sinks_[o][f]->attach(*outputs_[o].store, commit_.path_of(o, layout(o).files[f])));
    std::vector<LeavesToVerify> again;
    for (const auto& [o, f] : suspect) {
      SinkFile* sink = sinks_[o][f].get();
      again.push_back({commit_.final_path_of(o, layout(o).files[f]), [sink](uint64_t at, MutByteView out) { return sink->file()->read_back(at, out); },
                       sink->size(), sink->hashes(), 0, sink->leaves()});
    }
    Status s = verify_leaves(again, verify_run());
    if (s.ok() || s.error().kind == ErrorKind::kInterrupted) return s;
    return failed("{}. What another rank had written is gone: start all ranks again with --no-resume", s.error().message);
  }

  // From here on any rerun finishes the job, whatever stops this one.
  Status publish() {
    report_progress(Phase::kCommit);
    for (size_t o = 0; o < outputs_.size(); ++o) {
      if (commit_.published(o)) continue;
      for (const auto& s : sinks_[o])
        for (const auto& h : s->hashes())
          if (!h) return failed("publishing {}: no rank has written all of it; the same command goes on", s->path());
      if (!commit_.direct(o)) INGOT_TRY(commit_.check_whole(o, layout(o), commit_.root(o)));
    }
    INGOT_TRY(journal_->verified());
    for (size_t o = 0; o < outputs_.size(); ++o)
      INGOT_TRY(commit_.publish(o, layout(o), root_hash(o), [&]() -> Status {
        for (auto& f : sinks_[o]) INGOT_TRY(f->complete());
        return {};
      }));
    journal_.reset();
    return commit_.clean();
  }

  std::string root_hash(size_t o) const {
    if (!commit_.noted_root(o).empty()) return commit_.noted_root(o);
    std::map<std::string, std::vector<std::optional<Hash128>>> files;
    for (size_t f = 0; f < sinks_[o].size(); ++f) files[layout(o).files[f].name] = sinks_[o][f]->hashes();
    return root_of(files);
  }

  void report_published() {
    for (size_t o = 0; o < outputs_.size(); ++o)
      report_.outputs.push_back({outputs_[o].path, tree_bytes(*outputs_[o].store, outputs_[o].path), commit_.noted_root(o), true});
  }

  void fill_report() {
    report_.source_bytes = source_bytes_;
    report_.written_bytes = written_bytes_;
    report_.resumed_bytes = resumed_;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      OutputReport r{outputs_[o].path, 0, root_hash(o), !commit_.noted_root(o).empty()};
      for (const auto& s : sinks_[o]) r.bytes += s->size();
      report_.outputs.push_back(std::move(r));
    }
  }

  void report_progress(Phase phase) {
    if (!options_.on_progress) return;
    std::lock_guard lock(progress_mutex_);
    options_.on_progress({phase, std::min<uint64_t>(done_, total_), total_, resumed_, ""});
  }
  void advance(Phase phase, uint64_t bytes, const std::string& tensor) {
    done_ += bytes;
    if (!options_.on_progress) return;
    std::unique_lock lock(progress_mutex_, std::try_to_lock);
    if (!lock) return;
    options_.on_progress({phase, std::min<uint64_t>(done_, total_), total_, resumed_, tensor});
  }

  const std::vector<Output>& outputs_;
  const ExecOptions& options_;
  Commit commit_;
  std::vector<const ReadFile*> sources_;
  std::string key_, scratch_path_;
  JournalState recorded_;
  std::unique_ptr<Journal> journal_;
  bool fresh_ = true;   // no earlier run left anything to go on from
  bool alone_ = false;  // this rank has all the work, whatever the world
  std::vector<bool> ready_;  // whole under its hidden name since an earlier run
  std::unique_ptr<Plan> plan_;
  std::vector<std::vector<std::unique_ptr<SinkFile>>> sinks_;
  std::unique_ptr<Uploads> uploads_;  // ends before the sinks do
  std::unique_ptr<WriteFile> scratch_;
  std::atomic<uint64_t> source_bytes_{0}, written_bytes_{0}, done_{0}, total_{0};
  uint64_t resumed_ = 0;
  std::mutex progress_mutex_;
  ExecReport report_;
};

}  // namespace

const char* phase_name(Phase p) {
  switch (p) {
    case Phase::kPlan: return "plan";
    case Phase::kLoad: return "loading";
    case Phase::kWrite: return "write";
    case Phase::kVerify: return "verify";
    case Phase::kCommit: return "commit";
    case Phase::kDone: return "done";
  }
  return "";
}

const char* verify_name(Verify v) {
  switch (v) {
    case Verify::kMedium: return "medium";
    case Verify::kCache: return "cache";
    case Verify::kNone: return "none";
  }
  return "";
}

Result<PlanReport> plan_job(const std::vector<Output>& outputs, const ExecOptions& options) {
  return Job(outputs, options).plan_only();
}

Result<ExecReport> run_job(const std::vector<Output>& outputs, const ExecOptions& options) {
  return Job(outputs, options).run();
}

}  // namespace ingot
