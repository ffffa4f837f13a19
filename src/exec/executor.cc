// A job from its key to its commit. The work itself is in pipeline.cc, the tasks in plan.cc.
#include "exec/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "exec/direct.h"
#include "exec/journal.h"
#include "exec/pipeline.h"

namespace ingot {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

void describe(const MetaValue& v, std::string& out) {
  std::visit(
      [&](const auto& x) {
        using T = std::decay_t<decltype(x)>;
        if constexpr (std::is_same_v<T, MetaArray>) {
          for (const auto& e : x) describe(e, out);
        } else if constexpr (std::is_same_v<T, std::string>) {
          out += x + ";";
        } else if constexpr (requires { x.size(); }) {
          for (const auto& e : x) out += fmt::format("{};", e);
        } else {
          out += fmt::format("{};", x);
        }
      },
      v.v);
}

// The key of a job: the same key makes the same bytes. Everything that reaches a file goes in: the graphs down to
// the identities of the sources, names, the layout as far as it is known, seed.
Result<std::string> job_key(const std::vector<Output>& outputs, const ExecOptions& o) {
  std::string text = fmt::format("ingot job 1|{}|{}", o.seed, o.leaf_bytes);
  for (const auto& out : outputs) {
    text += fmt::format("|{}|{}", file_name(out.path), out.directory);
    std::vector<NamedSpec> named;
    for (const auto& t : out.artifact.tensors) {
      named.emplace_back(t.name, t.spec());
      text += "|" + t.name + graph_identity(*t.node);
    }
    auto layout = out.layout(named);
    if (!layout.ok()) return std::move(layout.take_error()).during("laying out " + out.path);
    for (const auto& f : layout->files) {
      text += fmt::format("|{}:{}", f.name, f.size);
      for (const auto& b : f.fixed) text += fmt::format(":{}:{}", b.offset, to_hex(hash128(as_bytes(b.bytes))));
    }
    for (const auto& p : layout->tensors) text += fmt::format("|{}@{}", p.file, p.offset);
    for (const auto& [k, v] : out.artifact.metadata) {
      text += "|" + k + "=";
      describe(v, text);
    }
  }
  return to_hex(hash128(as_bytes(text)));
}

class Job {
 public:
  Job(const std::vector<Output>& outputs, const ExecOptions& options) : outputs_(outputs), options_(options) {}

  Result<PlanReport> plan_only() {
    StageRun stages;
    stages.threads = threads();
    stages.cancel = options_.cancel;
    INGOT_TRY(run_stages(all_nodes(), facts_, stages));
    INGOT_ASSIGN(plan_, make_plan(outputs_, facts_, options_));
    PlanReport r;
    for (size_t o = 0; o < outputs_.size(); ++o)
      for (const auto& f : plan_.outputs[o].layout.files)
        r.files.push_back({outputs_[o].directory ? join_path(outputs_[o].path, f.name) : outputs_[o].path, f.size});
    r.source_bytes = plan_.source_bytes;
    INGOT_ASSIGN(r.memory_floor, least_memory(outputs_, facts_, options_));
    r.memory = plan_.most_used;
    r.tasks = plan_.tasks.size();
    for (const auto& s : plan_.shared) r.shared_spilled += s.spilled;
    return r;
  }

  Result<ExecReport> run() {
    if (outputs_.empty()) return usage("nothing to write");
    if (options_.rank < 0 || options_.world < 1 || options_.rank >= options_.world)
      return usage("rank {} of a world of {}", options_.rank, options_.world);
    report_progress(Phase::kPlan);
    INGOT_ASSIGN(key_, job_key(outputs_, options_));
    journal_store_ = options_.journal_store ? options_.journal_store : outputs_[0].store;
    if (journal_store_->capabilities().mode != WriteMode::kRandom)
      return usage("the store of {} keeps no journal; give a local path for it", outputs_[0].path);
    journal_base_ = options_.journal_path.empty() ? temporary(0, ".journal") : options_.journal_path;

    INGOT_TRY(check_targets());
    INGOT_TRY(discard_stale());
    const std::string mine = journal_of(options_.rank);
    INGOT_ASSIGN(lock_, journal_store_->lock(mine));
    // The state of an earlier run, of all its ranks; read before this rank's journal goes on.
    if (options_.resume) INGOT_TRY(load_journals(recorded_));
    INGOT_TRY(check_exists());
    {
      INGOT_ASSIGN(journal_, Journal::open(*journal_store_, mine, key_, options_.resume));
    }
    Status s = work();
    if (!s.ok()) {
      if (options_.cancel && options_.cancel->cancelled()) s = interrupted();
      // Bad input stays bad: its leavings serve no resume.
      // Nor does a run that was refused before its first byte (no space) leave anything worth going on from.
      const bool began = s.error().kind == ErrorKind::kInterrupted || !sinks_.empty() || !recorded_.leaves.empty() || !recorded_.facts.empty();
      if (s.error().kind == ErrorKind::kBadInput || s.error().kind == ErrorKind::kUsage || !began) discard_own();
      return s;
    }
    return std::move(report_);
  }

 private:
  int threads() const {
    return options_.threads > 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
  }
  bool directly(int o) const { return !outputs_[o].store->capabilities().rename; }
  // A name beside the final one, unique to the key.
  std::string temporary(int o, const char* suffix) const {
    const std::string& path = outputs_[o].path;
    return join_path(parent_path(path), fmt::format(".{}.ingot-{}{}", file_name(path), key_.substr(0, 12), suffix));
  }
  // Where a file is written: under the final name only on stores where that stays invisible until complete().
  std::string root(int o) const { return directly(o) ? outputs_[o].path : temporary(o, ".part"); }
  std::string path_of(int o, const FileLayout& f) const {
    return outputs_[o].directory ? join_path(root(o), f.name) : root(o);
  }
  std::string journal_of(int rank) const {
    return options_.world > 1 ? fmt::format("{}.r{}", journal_base_, rank) : journal_base_;
  }
  std::vector<NodePtr> all_nodes() const {
    std::vector<NodePtr> nodes;
    for (const auto& o : outputs_)
      for (const auto& t : o.artifact.tensors) nodes.push_back(t.node);
    return nodes;
  }

  // One that was made for the output is as good as none.
  bool empty_directory(size_t o) const {
    Store& st = *outputs_[o].store;
    if (!outputs_[o].directory || !st.is_directory(outputs_[o].path)) return false;
    const auto entries = st.list(outputs_[o].path);
    return entries.ok() && entries->empty();
  }

  Status check_targets() {
    for (size_t o = 0; o < outputs_.size(); ++o) {
      for (size_t p = 0; p < o; ++p)
        if (outputs_[p].path == outputs_[o].path) return usage("two outputs have the same path {}", outputs_[o].path);
      const std::string up = parent_path(outputs_[o].path);
      if (!directly(o) && !outputs_[o].store->is_directory(up))
        return usage("writing {}: the directory {} does not exist; create it first", outputs_[o].path, up);
      // What --force may replace: a file by a file, a directory by a directory.
      Store& st = *outputs_[o].store;
      if (st.is_special(outputs_[o].path))
        return usage("writing {}: it is a device, a pipe or a socket, and the finished output would take its place; give the name of a file",
                     outputs_[o].path);
      if (st.exists(outputs_[o].path) && st.is_directory(outputs_[o].path) != outputs_[o].directory)
        return outputs_[o].directory
                   ? usage("writing {}: it is a file and the output is a directory; give another name", outputs_[o].path)
                   : usage("writing {}: it is a directory and the output is a file; give the name of a file in it", outputs_[o].path);
    }
    return {};
  }

  // The directory that --force replaces goes with all that is in it: it has to be an older output of this kind.
  Status check_replaced() {
    for (size_t o = 0; o < outputs_.size(); ++o) {
      Store& st = *outputs_[o].store;
      if (committed_[o] || !outputs_[o].directory || directly(o) || !st.is_directory(outputs_[o].path)) continue;
      INGOT_ASSIGN(const auto entries, st.list(outputs_[o].path));
      bool any_known = entries.empty();
      for (const auto& e : entries) {
        bool known = false;
        for (const auto& f : plan_.outputs[o].layout.files) known |= f.name == e.name || f.name.rfind(e.name + "/", 0) == 0;
        if (e.directory && !known)
          return usage("writing {}: the directory there holds a directory '{}', which this output has not; --force would remove it: move it "
                       "away or give another name", outputs_[o].path, e.name);
        any_known |= known;
      }
      if (!any_known)
        return usage("writing {}: the directory there holds '{}' and no file of this output, so it is no older one; --force would remove "
                     "it: move it away or give another name", outputs_[o].path, entries[0].name);
    }
    return {};
  }

  // An existing output is an error, but for one that this very job had verified and renamed before it was killed.
  Status check_exists() {
    committed_.assign(outputs_.size(), false);
    for (size_t o = 0; o < outputs_.size(); ++o) {
      Store& st = *outputs_[o].store;
      if (!st.exists(outputs_[o].path) || empty_directory(o)) continue;
      if (recorded_.verified && !st.exists(root(o))) {
        committed_[o] = true;
      } else if (recorded_.verified && directly(o)) {
        continue;  // some of its files may still have to be completed
      } else if (!options_.force) {
        lock_.reset();
        if (recorded_.leaves.empty()) (void)journal_store_->remove(journal_of(options_.rank));
        return usage("writing {}: it exists already; --force replaces it", outputs_[o].path);
      }
    }
    return {};
  }

  // Unfinished runs of other jobs to the same output (other inputs or settings) are removed, unless one is running.
  Status discard_stale() {
    if (options_.rank || directly(0) || !options_.journal_path.empty()) return {};
    const std::string dir = parent_path(outputs_[0].path);
    const std::string prefix = "." + file_name(outputs_[0].path) + ".ingot-";
    INGOT_ASSIGN(const auto entries, outputs_[0].store->list(dir));
    for (const auto& e : entries) {
      if (e.name.compare(0, prefix.size(), prefix) || e.name.size() < prefix.size() + 12) continue;
      const std::string other = e.name.substr(prefix.size(), 12);
      if (other == key_.substr(0, 12) || e.name.find(".journal") == std::string::npos) continue;
      const std::string journal = join_path(dir, e.name);
      {
        auto held = journal_store_->lock(journal);
        if (!held.ok()) return failed("writing {}: another ingot is writing it with other settings; wait for it or stop it",
                                      outputs_[0].path);
      }
      if (options_.on_notice)
        options_.on_notice(fmt::format("{}: an unfinished run with other inputs or settings is discarded", outputs_[0].path));
      for (const auto& out : outputs_)
        for (const char* suffix : {".part", ".scratch"})
          INGOT_TRY(out.store->remove(join_path(parent_path(out.path),
                                                fmt::format(".{}.ingot-{}{}", file_name(out.path), other, suffix))));
      INGOT_TRY(journal_store_->remove(journal));
    }
    return {};
  }

  Status load_journals(JournalState& into) {
    const std::string dir = parent_path(journal_base_), base = file_name(journal_base_);
    INGOT_ASSIGN(const auto entries, journal_store_->list(dir));
    for (const auto& e : entries) {
      if (e.name != base && e.name.compare(0, base.size() + 2, base + ".r")) continue;
      INGOT_ASSIGN(JournalState s, Journal::read(*journal_store_, join_path(dir, e.name), key_));
      into.leaves.merge(s.leaves);
      into.facts.merge(s.facts);
      into.finished.merge(s.finished);
      into.verified |= s.verified;
    }
    return {};
  }

  Status work() {
    for (auto& [k, v] : recorded_.facts) facts_.set(k, v);
    report_progress(Phase::kStages);
    StageRun stages{.threads = threads(), .bytes_read = &source_bytes_, .cancel = options_.cancel, .made = {}};
    stages.made = [&](const std::string& k, const std::string& v) { return journal_->fact(k, v); };
    INGOT_TRY(run_stages(all_nodes(), facts_, stages));
    INGOT_ASSIGN(plan_, make_plan(outputs_, facts_, options_));
    INGOT_TRY(check_replaced());
    INGOT_TRY(check_space());
    INGOT_TRY(open_sinks());
    const auto start = Clock::now();
    INGOT_TRY(write());
    report_.seconds_write = seconds_since(start);
    INGOT_TRY(journal_->finished(options_.rank, options_.world));
    if (options_.rank == 0) {
      INGOT_TRY(gather_ranks());
      const auto verify_start = Clock::now();
      if (options_.verify) INGOT_TRY(verify());
      report_.seconds_verify = seconds_since(verify_start);
      INGOT_TRY(commit());
    }
    fill_report();
    report_progress(Phase::kDone);
    return {};
  }

  Status check_space() {
    std::map<std::pair<Store*, std::string>, uint64_t> wanted;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      Store& st = *outputs_[o].store;
      if (committed_[o] || st.exists(root(o))) continue;  // an unfinished run has its space already
      for (const auto& f : plan_.outputs[o].layout.files) wanted[{&st, parent_path(outputs_[o].path)}] += f.size;
    }
    for (const auto& [where, bytes] : wanted) {
      auto free = where.first->free_space(where.second);
      if (free.ok() && *free < bytes)
        return failed("writing to {}: {} bytes are needed and {} are free; free some or write elsewhere", where.second,
                      bytes, *free);
    }
    return {};
  }

  Status open_sinks() {
    // A multi-process job never truncates: another rank may be ahead.
    const bool resume = options_.resume || options_.world > 1;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      const auto& po = plan_.outputs[o];
      Store& st = *outputs_[o].store;
      sinks_.emplace_back();
      if (outputs_[o].directory && !directly(o) && !committed_[o]) INGOT_TRY(st.make_directory(root(o)));
      std::vector<std::vector<std::pair<uint64_t, uint64_t>>> extents(po.layout.files.size());
      for (size_t i = 0; i < po.specs.size(); ++i)
        extents[po.layout.tensors[i].file].emplace_back(po.layout.tensors[i].offset, bytes_of(po.specs[i]));
      for (size_t f = 0; f < po.layout.files.size(); ++f) {
        const int oi = static_cast<int>(o), fi = static_cast<int>(f);
        auto sink = std::make_unique<SinkFile>(
            po.layout.files[f], st.capabilities(), options_.leaf_bytes,
            [this, oi, fi](uint64_t leaf, const Hash128& h) { return journal_->leaf({oi, fi, leaf}, h); });
        const uint64_t n = sink->leaves();
        const int rank = options_.rank, world = options_.world;
        if (st.capabilities().mode == WriteMode::kRandom)
          sink->own(n * rank / world, n * (rank + 1) / world);
        else if (static_cast<int>(f) % world != rank)  // without random writes, a file is the work of one rank
          sink->own(0, 0);
        std::map<uint64_t, Hash128> known;
        for (auto it = recorded_.leaves.lower_bound({oi, fi, 0}); it != recorded_.leaves.end(); ++it) {
          if (it->first.output != oi || it->first.file != fi) break;
          known[it->first.leaf] = it->second;
        }
        if (committed_[o]) {
          for (const auto& [leaf, h] : known) sink->set_hash(leaf, h);
          sink->own(0, 0);
        } else if (sink->owns_any() || st.capabilities().mode == WriteMode::kRandom) {
          const std::string path = path_of(oi, po.layout.files[f]);
          const std::string dir = parent_path(path);
          if (outputs_[o].directory && !directly(o) && dir != root(o)) INGOT_TRY(st.make_directory(dir));
          INGOT_TRY(sink->open(st, path, resume, options_.resume ? known : std::map<uint64_t, Hash128>{}));
          INGOT_TRY(sink->start(extents[f]));
        }
        resumed_ += sink->resumed_bytes();
        sinks_.back().push_back(std::move(sink));
      }
    }
    if (plan_.scratch_bytes) {
      scratch_path_ = journal_base_ + fmt::format(".scratch{}", options_.rank);
      INGOT_ASSIGN(scratch_, journal_store_->create(scratch_path_, plan_.scratch_bytes, false));
    }
    return {};
  }

  Status write() {
    uint64_t total = 0;
    for (const auto& files : sinks_)
      for (const auto& s : files) total += s->size();
    total_ = total / options_.world;
    done_ = resumed_;
    report_progress(Phase::kWrite);
    std::atomic<uint64_t> tasks{0};
    Status s = run_pipeline({outputs_, plan_, facts_, options_.cancel, sinks_, scratch_.get(),
                             [this](uint64_t n, const std::string& t) { advance(Phase::kWrite, n, t); },
                             source_bytes_, written_bytes_, tasks});
    report_.tasks = tasks;
    if (!s.ok()) return s;
    for (auto& files : sinks_)
      for (auto& f : files) INGOT_TRY(f->finish());
    if (scratch_) {
      scratch_.reset();
      INGOT_TRY(journal_store_->remove(scratch_path_));
    }
    return {};
  }

  // Waits for the other ranks and takes over the hashes that they published.
  Status gather_ranks() {
    if (options_.world == 1) return {};
    JournalState all;
    const auto start = Clock::now();
    double next_notice = 5;
    for (;;) {
      if (options_.cancel && options_.cancel->cancelled()) return interrupted();
      all = JournalState();
      INGOT_TRY(load_journals(all));
      std::string missing;
      for (int r = 0; r < options_.world; ++r)
        if (!all.finished.count({r, options_.world})) missing += (missing.empty() ? "" : ", ") + std::to_string(r);
      if (missing.empty()) break;
      if (options_.on_notice && seconds_since(start) > next_notice) {
        options_.on_notice(fmt::format("rank 0 of {} has done its part and waits for rank {}", options_.world, missing));
        next_notice *= 4;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    for (const auto& [id, h] : all.leaves) sinks_[id.output][id.file]->set_hash(id.leaf, h);
    for (size_t o = 0; o < sinks_.size(); ++o)
      for (size_t f = 0; f < sinks_[o].size(); ++f)
        if (!committed_[o] && !sinks_[o][f]->file())
          INGOT_TRY(sinks_[o][f]->attach(*outputs_[o].store, path_of(o, plan_.outputs[o].layout.files[f])));
    return {};
  }

  Status verify() {
    struct Item {
      SinkFile* sink;
      uint64_t leaf;
    };
    std::vector<Item> items;
    total_ = done_ = 0;
    for (size_t o = 0; o < sinks_.size(); ++o)
      for (auto& s : sinks_[o]) {
        if (committed_[o] || !s->file()) continue;
        for (uint64_t l = 0; l < s->leaves(); ++l) items.push_back({s.get(), l});
        total_ += s->size();
      }
    report_progress(Phase::kVerify);
    std::atomic<size_t> next{0};
    std::mutex mutex;
    Status error;
    auto loop = [&] {
      std::vector<std::byte> buffer(options_.leaf_bytes);
      for (size_t i; (i = next++) < items.size();) {
        if (options_.cancel && options_.cancel->cancelled()) return;
        auto [sink, leaf] = items[i];
        const MutByteView v(buffer.data(), sink->leaf_size(leaf));
        const auto& want = sink->hashes()[leaf];
        Status s = sink->file()->read_back(leaf * options_.leaf_bytes, v);
        if (s.ok() && (!want || !(hash128(v) == *want)))
          s = failed("verifying {}: bytes {} to {} on the medium are not what was computed (hash {}, expected {}); the disk or "
                     "memory is at fault, or something else wrote there. The same command writes them again",
                     sink->path(), leaf * options_.leaf_bytes, leaf * options_.leaf_bytes + v.size(), to_hex(hash128(v)),
                     want ? to_hex(*want) : "none");
        if (!s.ok()) {
          std::lock_guard lock(mutex);
          if (error.ok()) error = std::move(s);
          next = items.size();
        }
        advance(Phase::kVerify, v.size(), file_name(sink->path()));
      }
    };
    std::vector<std::thread> pool;
    for (int i = 1; i < plan_.threads; ++i) pool.emplace_back(loop);
    loop();
    for (auto& t : pool) t.join();
    if (options_.cancel && options_.cancel->cancelled()) return interrupted();
    return error;
  }

  Status commit() {
    report_progress(Phase::kCommit);
    INGOT_TRY(journal_->verified());
    for (size_t o = 0; o < outputs_.size(); ++o) {
      if (committed_[o]) continue;
      Store& st = *outputs_[o].store;
      for (auto& f : sinks_[o]) INGOT_TRY(f->complete());
      if (directly(o)) continue;
      if (outputs_[o].directory) INGOT_TRY(st.sync_directory(root(o)));
      INGOT_TRY(st.rename(root(o), outputs_[o].path, options_.force || empty_directory(o)));
      INGOT_TRY(st.sync_directory(parent_path(outputs_[o].path)));
    }
    journal_.reset();
    // This rank's journal says that all is verified: it goes last, after those of other ranks and of earlier worlds.
    const std::string dir = parent_path(journal_base_), base = file_name(journal_base_), own = file_name(journal_of(0));
    INGOT_ASSIGN(const auto entries, journal_store_->list(dir));
    for (const auto& e : entries)
      if ((e.name == base || e.name.compare(0, base.size() + 1, base + ".") == 0) && e.name != own)
        INGOT_TRY(journal_store_->remove(join_path(dir, e.name)));
    return journal_store_->remove(journal_of(0));
  }

  void discard_own() {
    sinks_.clear();
    journal_.reset();
    scratch_.reset();
    if (options_.world > 1) return;  // other ranks may be at work
    for (size_t o = 0; o < outputs_.size(); ++o)
      if (o >= committed_.size() || !committed_[o]) (void)outputs_[o].store->remove(root(o));
    if (!scratch_path_.empty()) (void)journal_store_->remove(scratch_path_);
    (void)journal_store_->remove(journal_of(0));
  }

  void fill_report() {
    report_.source_bytes = source_bytes_;
    report_.written_bytes = written_bytes_;
    report_.resumed_bytes = resumed_;
    for (size_t o = 0; o < outputs_.size(); ++o) {
      OutputReport r;
      r.path = outputs_[o].path;
      // The root: a hash of all leaf hashes, file after file.
      std::string leaves;
      for (const auto& s : sinks_[o]) {
        r.bytes += s->size();
        for (const auto& h : s->hashes())
          if (h) leaves.append(reinterpret_cast<const char*>(&*h), sizeof *h);
      }
      r.hash = to_hex(hash128(as_bytes(leaves)));
      report_.outputs.push_back(r);
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
  std::string key_, journal_base_, scratch_path_;
  Store* journal_store_ = nullptr;
  std::unique_ptr<StoreLock> lock_;
  JournalState recorded_;
  std::unique_ptr<Journal> journal_;
  std::vector<bool> committed_;  // renamed by an earlier run
  Facts facts_;
  Plan plan_;
  std::vector<std::vector<std::unique_ptr<SinkFile>>> sinks_;
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
    case Phase::kStages: return "stages";
    case Phase::kWrite: return "write";
    case Phase::kVerify: return "verify";
    case Phase::kCommit: return "commit";
    case Phase::kDone: return "done";
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
