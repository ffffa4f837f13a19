// A job from its key to outputs that are whole, durable and read back. The work itself is in pipeline.cc, the tasks in plan.cc, what follows in publish.cc.
#include "exec/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/memory.h"
#include "base/threads.h"
#include "commit/commit.h"
#include "commit/journal.h"
#include "exec/copies.h"
#include "exec/key.h"
#include "commit/names.h"
#include "exec/pipeline.h"
#include "commit/publication.h"

namespace ingot {
namespace {

class Job {
 public:
  Job(const std::vector<Output>& outputs, const ExecOptions& options) : outputs_(outputs), options_(options), destinations_(outputs.begin(), outputs.end()) {}

  Result<PlanReport> plan_only() {
    INGOT_TRY(begin());
    PlanReport r;
    if (!options_.force) INGOT_TRY(commit_.find_published(true));
    r.up_to_date = commit_.all_published();
    INGOT_TRY(commit_.check_existing(false));
    INGOT_ASSIGN(plan_, make_plan(outputs_, options_));
    publication_.begin(file_sizes());
    INGOT_TRY(check_targets());
    for (size_t o = 0; o < outputs_.size(); ++o)
      for (const auto& f : layout(o).files) r.files.push_back({commit_.final_path_of(o, f.name), f.size});
    r.source_bytes = plan_->source_bytes;
    INGOT_ASSIGN(r.memory_floor, least_memory(outputs_, options_));
    r.memory = plan_->most_used;
    r.tasks = plan_->fine_tasks;
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

  Result<Written> write_only() {
    Written written;
    written_ = &written;
    INGOT_ASSIGN([[maybe_unused]] const ExecReport report, run());
    written.key = name_key();
    written.leaf_bytes = options_.leaf_bytes;
    return written;
  }

  // As one process, whatever the world that wrote.
  Status publish_only(const std::vector<Written>& ranks) {
    if (outputs_.empty() || ranks.empty()) return usage("nothing to publish");
    sources_ = sources_of(outputs_);
    INGOT_TRY(commit_.check_names(sources_));
    key_ = ranks[0].key;
    commit_.set_key(key_, key_, sources_stamp(sources_));
    Status s = publish_locked(ranks, std::any_of(ranks.begin(), ranks.end(), [](const Written& w) { return w.published; }));
    return commit_.in_users_terms(std::move(s));
  }

 private:
  Status publish_locked(const std::vector<Written>& ranks, bool any_published) {
    INGOT_TRY(commit_.lock());
    INGOT_TRY(commit_.find_published(false));
    if (!any_published) INGOT_TRY(publication_.begin(ranks));
    INGOT_ASSIGN(recorded_, commit_.read_journals());
    if (commit_.all_published() && !recorded_.verified) {
      INGOT_TRY(commit_.start_over(false));  // of a --force that was killed
      return commit_.clean();
    }
    if (any_published && !recorded_.verified)
      return usage("publishing {}: a rank found it finished already, and now it is not there as it was; let all ranks write again", outputs_[0].path);
    if (!recorded_.verified) INGOT_TRY(commit_.check_existing(false));
    INGOT_ASSIGN(journal_, Journal::open(commit_.journal_store(), commit_.journal_of(0), key_, recorded_.verified));
    if (!recorded_.verified) INGOT_TRY(journal_->begin(commit_.journal_outputs(), commit_.stamp()));
    // By the content: what was published already, whoever noted it.
    if (recorded_.verified || options_.verify != Verify::kNone) INGOT_TRY(publication_.settle(*journal_, &recorded_));
    INGOT_TRY(publication_.check_written());
    for (size_t o = 0; o < outputs_.size(); ++o) INGOT_TRY(commit_.check_replaced(o, publication_.files(o)));
    return publication_.publish(std::move(journal_));
  }

  // Any text is a name for a job; hidden names are made of digits.
  std::string name_key() const { return options_.key.empty() ? key_ : to_hex(hash128(as_bytes("job " + options_.key))); }
  const Layout& layout(size_t o) const { return plan_->layouts[o]; }

  // What a job is, and whether its names can be; nothing is written.
  Status begin() {
    if (outputs_.empty()) return usage("nothing to write");
    if (options_.rank < 0 || options_.world < 1 || options_.rank >= options_.world)
      return usage("rank {} of a world of {}", options_.rank, options_.world);
    sources_ = sources_of(outputs_);
    INGOT_TRY(commit_.check_names(sources_));
    INGOT_ASSIGN(key_, job_key(outputs_, options_));
    commit_.set_key(name_key(), key_, sources_stamp(sources_));
    report_.key = key_;
    return {};
  }

  // Under the locks: nobody else writes these outputs until the end.
  Status locked() {
    INGOT_TRY(commit_.lock());
    INGOT_TRY(commit_.clear_leftovers());
    // Ranks agree only on what all of them see: one that comes late finds the work done, --force or not.
    // Under a name that the ranks agreed on, what is there may have other contents: only publish() can tell.
    const bool named = !options_.key.empty();
    if (!named && (!options_.force || options_.world > 1)) INGOT_TRY(commit_.find_published(options_.rank == 0));
    INGOT_ASSIGN(recorded_, commit_.read_journals());
    if (commit_.all_published() && !recorded_.verified) {
      report_published();
      if (written_) written_->published = true;
      if (options_.rank) return {};
      INGOT_TRY(commit_.start_over(false));  // of a --force that was killed
      return commit_.clean();
    }
    if (options_.rank && !named && (recorded_.verified || (recorded_.key.empty() && !options_.force && all_there()))) {
      if (written_) written_->published = true;
      return {};
    }
    if (recorded_.touched && options_.on_notice && options_.resume)
      options_.on_notice(fmt::format("{}: an unfinished run is started over: its inputs were touched since (mode, owner or links)", outputs_[0].path));
    if ((recorded_.touched && recorded_.key.empty()) || !options_.resume) {
      // Of several ranks another may be ahead: what it has is written over.
      if (options_.world == 1) INGOT_TRY(commit_.start_over(recorded_.verified || recorded_.touched));
      before_ = std::exchange(recorded_, JournalState());
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
    if (uploads_) (void)uploads_->finish();  // they write to the sinks
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
      if (!o.store->capabilities().keeps) return true;
      // Where notes are kept, one of this job would have been found.
      const auto there = o.store->stat(o.path);
      if (!o.store->note(o.path).empty() || !there.ok() || !*there || (*there)->directory() != o.directory) return false;
      const auto entries = o.directory ? o.store->list(o.path) : Result<std::vector<Entry>>(std::vector<Entry>(1));
      return entries.ok() && !entries->empty();  // an empty directory was made for the output
    });
  }

  std::vector<FileSizes> file_sizes() const {
    std::vector<FileSizes> all;
    for (const auto& l : plan_->layouts) {
      all.emplace_back();
      for (const auto& f : l.files) all.back().push_back({f.name, f.size});
    }
    return all;
  }

  // What --force would take away, and the room.
  Status check_targets() {
    for (size_t o = 0; o < outputs_.size(); ++o) INGOT_TRY(commit_.check_replaced(o, publication_.files(o)));
    std::vector<FileSizes> wanted = publication_.files();
    for (size_t o = 0; o < wanted.size(); ++o)
      for (size_t f = 0; f < wanted[o].size(); ++f)
        if (!plan_->layouts[o].files[f].link.empty()) wanted[o][f].size = 0;  // a second name takes no room
    return commit_.check_space(wanted);
  }

  Status work() {
    INGOT_ASSIGN(plan_, make_plan(outputs_, options_));
    publication_.begin(file_sizes());
    if (recorded_.verified) INGOT_TRY(publication_.settle(*journal_, &recorded_));
    INGOT_TRY(check_targets());
    INGOT_TRY(open_sinks());
    if (shared() && written_ && any_late())
      return usage("writing {}: bytes that are known last need what other ranks have written; publish by run_job, or leave them out", outputs_[0].path);
    if (!publication_.all_done()) {
      const auto start = Clock::now();
      INGOT_TRY(write());
      take_hashes();
      if (!shared()) INGOT_TRY(write_late());
      report_.seconds_write = seconds_since(start);
      INGOT_TRY(verify(false));
      for (const ReadFile* f : sources_) INGOT_TRY(f->check_unchanged());
      INGOT_TRY(journal_->finished(options_.rank, options_.world));
    }
    take_hashes();
    if (written_) {
      note_written();
      return {};
    }
    if (options_.rank == 0) {
      if (shared() && !publication_.all_done()) {
        INGOT_TRY(publication_.gather(*journal_, options_.resume ? recorded_ : before_, [&](const LeafId& id) { return sinks_[id.output][id.file]->owns(id.leaf); }));
        INGOT_TRY(write_late());
        INGOT_TRY(verify(true));
        take_hashes();
      }
      report_progress(Phase::kCommit);
      INGOT_TRY(publication_.publish(std::move(journal_)));
    }
    fill_report();
    report_progress(Phase::kDone);
    return {};
  }

  // Whether other processes have a part of the same files.
  bool shared() const { return options_.world > 1 && !alone_ && options_.key.empty(); }
  template <class F>
  Status each_sink(F f) {
    for (size_t o = 0; o < sinks_.size(); ++o)
      for (size_t k = 0; k < sinks_[o].size(); ++k) INGOT_TRY(f(o, k, *sinks_[o][k]));
    return {};
  }
  bool any_late() const {
    return std::any_of(sinks_.begin(), sinks_.end(), [](const auto& files) {
      return std::any_of(files.begin(), files.end(), [](const auto& sink) { return sink->has_late(); });
    });
  }

  void take_hashes() {
    (void)each_sink([&](size_t o, size_t f, SinkFile& sink) {
      for (uint64_t l = 0; l < sink.leaves(); ++l)
        if (sink.hashes()[l]) publication_.hashes(o, f)[l] = sink.hashes()[l];
      return Status();
    });
  }

  // What is made from the hashes of everything else.
  Status write_late() {
    if (!any_late()) return {};
    const Digests digests = [&](size_t o, size_t f) { return root_of({{"", publication_.hashes(o, f)}}); };
    INGOT_TRY(each_sink([&](size_t o, size_t, SinkFile& sink) { return publication_.done(o) ? Status() : sink.write_late(digests); }));
    return sync();
  }

  Status sync() {
    return each_sink([&](size_t o, size_t f, SinkFile& sink) -> Status {
      bool synced = true;
      Status finished = sink.finish(&synced);
      // What the system holds in memory may read back as it was written, and be lost all the same.
      if (!synced) INGOT_TRY(journal_->distrust(static_cast<int>(o), static_cast<int>(f)));
      return finished;
    });
  }

  void note_written() {
    (void)each_sink([&](size_t o, size_t f, SinkFile& sink) {
      Written::File file{static_cast<int>(o), outputs_[o].directory ? layout(o).files[f].name : "", sink.size(), {}};
      for (uint64_t l = 0; l < sink.leaves(); ++l)
        if (const auto& h = publication_.hashes(o, f)[l]; h && (publication_.done(o) || sink.owns(l))) file.leaves[l] = *h;
      if (!file.leaves.empty() || file.size == 0) written_->files.push_back(std::move(file));
      return Status();
    });
  }

  VerifyRun verify_run() const { return {thread_count(options_.threads), options_.leaf_bytes, options_.cancel, {}}; }

  Status open_sinks() {
    uploads_ = std::make_unique<Uploads>(plan_->uploads);
    // Of files that ranks share nobody cuts one: another rank may be ahead.
    const bool resume = options_.resume || (options_.world > 1 && options_.key.empty());
    for (size_t o = 0; o < outputs_.size(); ++o) {
      const Layout& po = layout(o);
      Store& st = *outputs_[o].store;
      const bool done = publication_.done(o);
      sinks_.emplace_back();
      if (!done) INGOT_TRY(commit_.make_part(o, publication_.files(o)));
      std::vector<const ReadFile*> copied;
      if (!done && options_.world == 1 && st.capabilities().mode == WriteMode::kRandom) copied = copied_files(outputs_[o].artifact, po);
      std::vector<std::vector<std::pair<uint64_t, uint64_t>>> extents(po.files.size());
      for (size_t i = 0; i < po.tensors.size(); ++i)
        extents[po.tensors[i].file].emplace_back(po.tensors[i].offset, bytes_of(outputs_[o].artifact.tensors[i].spec()));
      for (size_t f = 0; f < po.files.size(); ++f) {
        const int oi = static_cast<int>(o), fi = static_cast<int>(f);
        auto sink = std::make_unique<SinkFile>(
            po.files[f], st.capabilities(), options_.leaf_bytes,
            [this, oi, fi](uint64_t leaf, const Hash128& h) { return journal_->leaf({oi, fi, leaf}, h); }, uploads_.get());
        const uint64_t n = sink->leaves();
        // Ranks with artifacts of their own have all of it. Else a file is cut by leaves; without random writes it is the work of one rank.
        const uint64_t rank = alone_ ? 0 : options_.rank, world = alone_ || !options_.key.empty() ? 1 : options_.world;
        if (world > 1 && st.capabilities().mode == WriteMode::kRandom) sink->own(n * rank / world, n * (rank + 1) / world, rank == 0);
        else if (world > 1 && (sink->has_late() ? 0 : f % world) != rank) sink->own(0, 0, false);
        std::map<uint64_t, Hash128> known;
        for (auto it = recorded_.leaves.lower_bound({oi, fi, 0}); it != recorded_.leaves.end(); ++it) {
          if (it->first.output != oi || it->first.file != fi) break;
          known[it->first.leaf] = it->second;
        }
        if (done) {
          for (const auto& [leaf, h] : known)
            if (leaf < n) sink->set_hash(leaf, h);
          sink->own(0, 0, false);
        } else if (sink->owns_any() || st.capabilities().mode == WriteMode::kRandom) {
          INGOT_TRY(sink->open(st, commit_.path_of(o, po.files[f].name), resume, options_.resume ? known : std::map<uint64_t, Hash128>{}, copied.empty() ? nullptr : copied[f]));
          if (outputs_[o].in_place_of_input) INGOT_TRY(st.copy_access(outputs_[o].path, commit_.path_of(o, po.files[f].name)));  // before there is a byte in it
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
    INGOT_TRY(sync());
    if (scratch_) {
      scratch_.reset();
      INGOT_TRY(commit_.journal_store().remove(scratch_path_));
    }
    return {};
  }

  // This rank's own leaves, read back; or those of late bytes. On stores with rename through a file opened anew, so that the cache can be left out.
  Status verify(bool late) {
    if (options_.verify == Verify::kNone || (late && !any_late())) return {};
    const auto start = Clock::now();
    std::vector<LeavesToVerify> all;
    bool medium = options_.verify == Verify::kMedium;
    total_ = done_ = 0;
    INGOT_TRY(each_sink([&](size_t o, size_t f, SinkFile& sink) -> Status {
      if (!sink.file() || !outputs_[o].store->capabilities().keeps) return {};
      LeavesToVerify v;
      v.path = commit_.final_path_of(o, layout(o).files[f].name);
      v.size = sink.size();
      v.hashes = sink.hashes();
      for (uint64_t l = 0; l < sink.leaves(); ++l) {
        if (!sink.owns(l) || !v.hashes[l] || (late && !sink.late(l))) continue;
        v.leaves.push_back(l);
        total_ += sink.leaf_size(l);
      }
      if (v.leaves.empty()) return {};
      if (commit_.direct(o)) {
        v.read = [&sink](uint64_t at, MutByteView out) { return sink.file()->read_back(at, out); };
        medium = false;
      } else {
        INGOT_ASSIGN(std::shared_ptr<ReadFile> file, outputs_[o].store->open(sink.path()));
        if (medium && !file->from_medium()) medium = false;
        v.read = [file](uint64_t at, MutByteView out) { return file->read(at, out); };
      }
      all.push_back(std::move(v));
      return {};
    }));
    report_.verified = medium && !all.empty() ? Verify::kMedium : Verify::kCache;
    report_progress(Phase::kVerify);
    VerifyRun run = verify_run();
    run.progress = [this](uint64_t n, const std::string& path) { advance(Phase::kVerify, n, file_name(path)); };
    Status s = verify_leaves(all, run);
    report_.seconds_verify += seconds_since(start);
    return s;
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
      OutputReport r{outputs_[o].path, 0, publication_.root_hash(o), !commit_.noted_root(o).empty()};
      for (const auto& s : sinks_[o]) r.bytes += s->size();
      report_.outputs.push_back(std::move(r));
      report_.digests.emplace_back();
      for (size_t f = 0; f < sinks_[o].size() && !outputs_[o].store->capabilities().keeps; ++f)
        report_.digests.back().push_back(root_of({{"", publication_.hashes(o, f)}}));
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
  const std::vector<Destination> destinations_;
  Commit commit_{destinations_, options_};
  Publication publication_{destinations_, options_, commit_};
  std::vector<const ReadFile*> sources_;
  std::string key_, scratch_path_;
  JournalState recorded_;
  JournalState before_;  // what was recorded, of a run that starts over
  std::unique_ptr<Journal> journal_;
  Written* written_ = nullptr;  // the first half alone: what goes to whoever publishes
  bool fresh_ = true;   // no earlier run left anything to go on from
  bool alone_ = false;  // this rank has all the work, whatever the world
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

Result<PlanReport> plan_job(const std::vector<Output>& outputs, const ExecOptions& options) {
  return within_memory("planning", [&] { return Job(outputs, options).plan_only(); });
}

Result<ExecReport> run_job(const std::vector<Output>& outputs, const ExecOptions& options) {
  return within_memory("writing", [&] { return Job(outputs, options).run(); });
}

Result<Written> write(const std::vector<Output>& outputs, const ExecOptions& options) {
  return within_memory("writing", [&] { return Job(outputs, options).write_only(); });
}

Status publish(const std::vector<Output>& outputs, const std::vector<Written>& of_all_ranks, const ExecOptions& options) {
  ExecOptions alone = options;
  alone.rank = 0;
  alone.world = 1;
  return within_memory("publishing", [&] { return Job(outputs, alone).publish_only(of_all_ranks); });
}

}  // namespace ingot
