#include "commit/commit.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "base/clock.h"
#include "commit/names.h"

namespace ingot {
namespace {

// What tells an output that nobody touched since: names, sizes and times of its files.
Result<std::string> fingerprint(Store& st, const std::string& path) {
  INGOT_ASSIGN(const auto there, st.stat(path));
  if (!there || there->link) return std::string();
  if (!there->directory()) return there->identity;
  INGOT_ASSIGN(auto files, list_tree(st, path, nullptr));
  std::string text;
  for (const auto& f : files) {
    INGOT_ASSIGN(const auto s, st.stat(join_path(path, f)));
    text += fmt::format("{}|{}\n", f, s ? s->identity : "");
  }
  return to_hex(hash128(as_bytes(text)));
}

// "KEY ROOT STAMP FINGERPRINT", kept with a published output.
struct Note {
  std::string key, root, stamp, print;
};
std::string note_text(const Note& n) { return fmt::format("{} {} {} {}", n.key, n.root, n.stamp, n.print); }
Note read_note(const std::string& text) {
  Note n;
  size_t at = 0;
  for (std::string* field : {&n.key, &n.root, &n.stamp, &n.print}) {
    const size_t end = std::min(text.find(' ', at), text.size());
    *field = text.substr(at, end - at);
    at = std::min(end + 1, text.size());
  }
  return n;
}

bool inside(const std::string& inner, const std::string& outer) {
  return inner.size() > outer.size() && inner.compare(0, outer.size(), outer) == 0 && (outer.back() == '/' || inner[outer.size()] == '/');
}

}  // namespace

std::string noted_root(Store& store, const std::string& path) { return read_note(store.note(path)).root; }

Status Commit::check_names(const std::vector<const ReadFile*>& sources) {
  targets_.clear();
  for (size_t o = 0; o < outputs_.size(); ++o) {
    Store& st = store(o);
    if (const std::string last = file_name(path(o)); last.empty() || last == "." || last == "..")
      return usage("writing '{}': a finished output takes its place under its own name; give that name", path(o));
    targets_.emplace_back();
    INGOT_ASSIGN(targets_[o].resolved, st.resolve(path(o)));
    INGOT_ASSIGN(const std::string directory, st.resolve(parent_path(path(o))));
    targets_[o].named = join_path(directory, file_name(path(o)));
    const std::string& mine = targets_[o].resolved;
    for (size_t p = 0; p < o; ++p) {
      if (&store(p) != &st) continue;
      const std::string& other = targets_[p].resolved;
      if (other == mine) return usage("the outputs {} and {} are the same file; give each its own name", path(p), path(o));
      if (inside(mine, other)) return usage("the output {} lies inside the output {}, which takes its place as a whole; write it elsewhere", path(o), path(p));
      if (inside(other, mine)) return usage("the output {} lies inside the output {}, which takes its place as a whole; write it elsewhere", path(p), path(o));
    }
    for (const ReadFile* source : sources) {
      auto from = st.resolve(source->path());
      if (!from.ok()) continue;  // of another store
      if (*from == mine && !outputs_[o].in_place_of_input) return usage("the output {} is an input of the same job; give another name", path(o));
      if (outputs_[o].directory && inside(*from, mine))
        return usage("the output {} holds the input {} of the same job; give another name", path(o), source->path());
    }
    if (!direct(o)) {
      // Directories that are missing above it are made by lock().
      for (std::string up = parent_path(path(o));; up = parent_path(up)) {
        INGOT_ASSIGN(const auto above, st.stat(up));
        if (above && !above->directory()) return usage("writing {}: {} is no directory", path(o), up);
        if (above) break;
      }
    }
    if (const auto own = st.stat(path(o)); own.ok() && *own && (*own)->mount_point)
      return usage("writing {}: another file system is mounted there, and a finished output takes its place as a whole; give a name in it", path(o));
    // What --force may replace: a file by a file, a directory by a directory.
    INGOT_ASSIGN(const auto there, st.stat(path(o)));
    if (!there) continue;
    if (there->kind == Stat::Kind::kSpecial)
      return usage("writing {}: it is a device, a pipe or a socket, and the finished output would take its place; give the name of a file", path(o));
    if (there->directory() != outputs_[o].directory && there->kind != Stat::Kind::kDangling)
      return outputs_[o].directory ? usage("writing {}: it is a file and the output is a directory; give another name", path(o))
                                   : usage("writing {}: it is a directory and the output is a file; give the name of a file in it", path(o));
  }
  return {};
}

std::string Commit::temporary(size_t o, const std::string& suffix) const { return temporary_path(path(o), key_, suffix); }
Store& Commit::journal_store() const { return options_.journal_store ? *options_.journal_store : store(0); }
std::string Commit::journal_base() const { return options_.journal_path.empty() ? temporary(0, ".journal") : options_.journal_path; }
std::string Commit::journal_of(int rank) const {
  return options_.world > 1 ? fmt::format("{}.r{}", journal_base(), rank) : journal_base();
}
std::string Commit::rank_lock(int rank) const { return fmt::format("{}.r{}.lock", journal_base(), rank); }
std::string Commit::root(size_t o) const { return direct(o) ? path(o) : temporary(o, ".part"); }
std::string Commit::path_of(size_t o, const std::string& file) const { return outputs_[o].directory ? join_path(root(o), file) : root(o); }
std::string Commit::final_path_of(size_t o, const std::string& file) const {
  return outputs_[o].directory ? join_path(path(o), file) : path(o);
}
std::vector<JournalOutput> Commit::journal_outputs() const {
  std::vector<JournalOutput> all;
  // By name alone beside the journal, so that a directory may be moved with both.
  const auto beside = journal_store().resolve(parent_path(journal_base()));
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (!store(o).capabilities().keeps) continue;
    const std::string& named = targets_[o].named;
    all.push_back({beside.ok() && parent_path(named) == *beside ? file_name(named) : named, outputs_[o].directory});
  }
  return all;
}

Result<JournalState> Commit::read_journals() const {
  JournalState all;
  const std::string dir = parent_path(journal_base()), base = file_name(journal_base());
  INGOT_ASSIGN(const auto entries, journal_store().list(dir));
  for (const auto& e : entries) {
    if (!journal_name_of(e.name, base) || e.name.find(".scratch", base.size()) != std::string::npos) continue;
    auto read = Journal::read(journal_store(), join_path(dir, e.name), content_);
    if (!read.ok()) {
      // Rank 0 may have removed it since the listing.
      INGOT_ASSIGN(const auto there, journal_store().stat(join_path(dir, e.name)));
      if (!there) continue;
      return read.take_error();
    }
    if (read->key.empty()) continue;
    if (read->stamp != stamp_) {
      all.touched |= !read->leaves.empty() || !read->facts.empty();
      continue;
    }
    all.key = read->key;
    all.leaves.merge(read->leaves);
    all.facts.merge(read->facts);
    all.finished.merge(read->finished);
    all.verified |= read->verified;
  }
  return all;
}

Result<std::unique_ptr<StoreLock>> Commit::wait_for(const std::string& lock, const std::string& what) const {
  const auto start = Clock::now();
  for (auto pause = std::chrono::milliseconds(5);; pause = std::min(pause * 2, std::chrono::milliseconds(200))) {
    INGOT_ASSIGN(auto held, journal_store().lock(lock));
    if (held) return held;
    if (options_.cancel && options_.cancel->cancelled()) return interrupted();
    const double waited = seconds_since(start);
    if (waited > options_.rank_timeout) return failed("{} for {:.0f} s (--rank-timeout); stop it, or wait for it, and start this again", what, waited);
    std::this_thread::sleep_for(pause);
  }
}

Status Commit::make_parents() {
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (direct(o)) continue;
    std::vector<std::string> missing;
    for (std::string up = parent_path(path(o));; up = parent_path(up)) {
      INGOT_ASSIGN(const auto above, store(o).stat(up));
      if (above) break;
      missing.push_back(up);
    }
    for (auto up = missing.rbegin(); up != missing.rend(); ++up) {
      INGOT_TRY(store(o).make_directory(*up));
      INGOT_TRY(store(o).sync_directory(parent_path(*up)));
      made_.emplace_back(&store(o), *up);
    }
  }
  return {};
}

// Directories that were made for a job that was refused, and hold nothing, go again.
Commit::~Commit() {
  targets_.clear();  // the locks' files lie in them
  rank_locks_.clear();
  for (auto it = made_.rbegin(); it != made_.rend(); ++it)
    if (const auto entries = it->first->list(it->second); entries.ok() && entries->empty()) (void)it->first->remove(it->second);
}

Status Commit::lock() {
  if (options_.rank > 0) {
    INGOT_TRY(make_parents());
    INGOT_ASSIGN(auto held, wait_for(rank_lock(options_.rank), fmt::format("another process has been rank {} of this job", options_.rank)));
    rank_locks_.push_back(std::move(held));
    return {};
  }
  INGOT_TRY(make_parents());
  bool told = false;
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (direct(o) && o) continue;
    Store& st = direct(o) ? journal_store() : store(o);
    const std::string name = direct(o) ? journal_base() + ".lock" : lock_path(path(o));
    INGOT_ASSIGN(targets_[o].lock, st.lock(name));
    // Another job that looks around may hold it for a moment.
    for (int tries = 0; !targets_[o].lock && tries < 15; ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      INGOT_ASSIGN(targets_[o].lock, st.lock(name));
    }
    if (!targets_[o].lock) return failed("writing {}: another ingot is writing it; wait for it or stop it", path(o));
    if (!targets_[o].lock->excludes() && !told) {
      told = true;
      notice(fmt::format("{}: this file system keeps no locks; nothing would stop a second ingot from writing there too", path(o)));
    }
  }
  return {};
}

Status Commit::lock_ranks() {
  for (int r = 1; r < options_.world; ++r) {
    INGOT_ASSIGN(auto held, wait_for(rank_lock(r), fmt::format("rank {} has finished and not ended", r)));
    rank_locks_.push_back(std::move(held));
  }
  return {};
}

Status Commit::find_published(bool compare_stamp) {
  for (size_t o = 0; o < outputs_.size(); ++o) {
    const Note n = read_note(store(o).note(path(o)));
    if (n.key != key_ || n.print.empty() || (compare_stamp && n.stamp != stamp_)) continue;
    const auto print = fingerprint(store(o), path(o));
    if (!print.ok() || *print != n.print) continue;
    targets_[o].published = true;
    targets_[o].root = n.root;
  }
  return {};
}

bool Commit::all_published() const {
  // Hashes alone are not there any more; they come with the outputs that were made with them.
  bool any = false;
  for (size_t o = 0; o < targets_.size(); ++o) {
    if (!store(o).capabilities().keeps) continue;
    if (!targets_[o].published) return false;
    any = true;
  }
  return any;
}

// One that was made for the output is as good as none.
Result<bool> Commit::empty_directory(size_t o) const {
  INGOT_ASSIGN(const auto there, store(o).stat(path(o)));
  if (!outputs_[o].directory || !there || !there->directory() || there->link) return false;
  INGOT_ASSIGN(const auto entries, store(o).list(path(o)));
  return entries.empty();
}

Status Commit::check_existing(bool publishing) const {
  for (size_t o = 0; o < outputs_.size(); ++o) {
    // Of an output on a store without rename some files may be complete already.
    if (targets_[o].published || options_.force || outputs_[o].in_place_of_input || (publishing && direct(o))) continue;
    INGOT_ASSIGN(const auto there, store(o).stat(path(o)));
    INGOT_ASSIGN(const bool empty, empty_directory(o));
    if (!there || empty) continue;
    const Note n = read_note(store(o).note(path(o)));
    if (n.key == key_)
      return usage("writing {}: it exists already, made by this same command, but it or an input was touched since; 'ingot verify' checks it, --force makes it anew", path(o));
    return usage("writing {}: it exists already{}; 'ingot verify' checks it, --force replaces it", path(o),
                 n.key.empty() ? "" : " (another job of ingot made it)");
  }
  return {};
}

bool Commit::owns(size_t o, const FileSizes& files, const std::string& name) const {
  for (const auto& f : files)
    if (f.name == name || (name.back() == '/' && f.name.compare(0, name.size(), name) == 0)) return true;
  return outputs_[o].older_name && outputs_[o].older_name(name);
}

Status Commit::check_replaced(size_t o, const FileSizes& files) const {
  if (targets_[o].published || !outputs_[o].directory || direct(o)) return {};
  INGOT_ASSIGN(const auto there, store(o).stat(path(o)));
  if (!there || !there->directory()) return {};
  INGOT_ASSIGN(const auto names, list_tree(store(o), path(o), [&](const std::string& n) { return owns(o, files, n); }));
  std::vector<std::string> foreign;
  for (const auto& n : names)
    if (!owns(o, files, n)) foreign.push_back(n);
  if (foreign.empty()) return {};
  return usage("writing {}: the directory there holds {}, which {} no file of such an output; --force would remove {}: move {} away or give another name",
               path(o), quoted_list(foreign), foreign.size() > 1 ? "are" : "is", foreign.size() > 1 ? "them" : "it", foreign.size() > 1 ? "them" : "it");
}

Status Commit::check_space(const std::vector<FileSizes>& files) const {
  std::map<std::pair<Store*, std::string>, uint64_t> wanted;
  for (size_t o = 0; o < outputs_.size(); ++o) {
    INGOT_ASSIGN(const auto begun, store(o).stat(root(o)));
    if (targets_[o].published || (begun && !direct(o))) continue;  // an unfinished run has its space already
    std::string up = parent_path(path(o));
    for (;; up = parent_path(up)) {
      INGOT_ASSIGN(const auto above, store(o).stat(up));
      if (above || direct(o)) break;
    }
    for (const auto& f : files[o]) wanted[{&store(o), up}] += f.size;
  }
  for (const auto& [where, bytes] : wanted) {
    auto free = where.first->free_space(where.second);
    if (free.ok() && *free < bytes)
      return failed("writing to {}: {} bytes are needed and {} are free; free some or write elsewhere", where.second, bytes, *free);
  }
  return {};
}

Result<Commit::Found> Commit::settle(size_t o, const std::function<bool(const std::string& root)>& whole) {
  if (whole(path(o))) {
    targets_[o].published = true;
    return Found::kPublished;
  }
  return !direct(o) && whole(root(o)) ? Found::kReady : Found::kUnfinished;
}

Status Commit::make_part(size_t o, const FileSizes& files) {
  if (!outputs_[o].directory || direct(o)) return {};
  INGOT_ASSIGN(const auto there, store(o).stat(root(o)));
  if (there && (there->link || !there->directory()))
    return failed("writing {}: something else has the name of its temporary {}; remove it", path(o), root(o));
  INGOT_TRY(store(o).make_directory(root(o)));
  if (there && options_.world == 1) {
    INGOT_ASSIGN(const auto names, list_tree(store(o), root(o), nullptr));
    std::set<std::string> known;
    for (const auto& f : files) known.insert(f.name);
    for (const auto& n : names)
      if (!known.count(n) && n.back() != '/') INGOT_TRY(store(o).remove(join_path(root(o), n)));
  }
  for (const auto& f : files)
    if (const std::string dir = parent_path(path_of(o, f.name)); dir != root(o)) INGOT_TRY(store(o).make_directory(dir));
  return {};
}

Status Commit::check_whole(size_t o, const FileSizes& files, const std::string& where) const {
  std::set<std::string> expected;
  for (const auto& f : files) {
    expected.insert(f.name);
    const std::string file = outputs_[o].directory ? join_path(where, f.name) : where;
    INGOT_ASSIGN(const auto there, store(o).stat(file));
    if (!there || there->kind != Stat::Kind::kFile || there->link)
      return failed("verifying {}: {} is not there as a file; something else removed or replaced it", path(o), f.name.empty() ? file : f.name);
    if (there->size != f.size)
      return failed("verifying {}: {} has {} bytes, expected {}; something else wrote there. The same command writes it again", path(o), file, there->size, f.size);
  }
  if (!outputs_[o].directory || direct(o)) return {};
  INGOT_ASSIGN(const auto names, list_tree(store(o), where, nullptr));
  for (const auto& n : names)
    if (!expected.count(n)) return failed("verifying {}: {} lies among its files and is none of them; remove it, and the same command goes on", path(o), join_path(where, n));
  return {};
}

// What --force replaced.
Status Commit::remove_old(size_t o, const FileSizes& files) const {
  return drop(store(o), temporary(o, ".old"), path(o), true, [&](const std::string& n) { return owns(o, files, n); });
}

Status Commit::publish(size_t o, const FileSizes& files, const std::string& root_hash, const std::function<Status()>& complete) {
  Store& st = store(o);
  Target& t = targets_[o];
  if (direct(o)) {
    if (!t.published) INGOT_TRY(complete());
    t.published = true;
    return {};
  }
  const std::string part = root(o), old = temporary(o, ".old");
  if (t.published) {
    if (t.root.empty()) {  // found by its content: this job's work from now on, whoever had made it
      INGOT_ASSIGN(const std::string same, fingerprint(st, path(o)));
      st.set_note(path(o), note_text({key_, root_hash, stamp_, same}));
    }
    // An earlier run was killed after the exchange: the temporary's name holds what was replaced.
    INGOT_ASSIGN(const auto replaced, st.stat(part));
    if (replaced && outputs_[o].directory) {
      INGOT_TRY(remove_old(o, files));
      INGOT_TRY(st.rename(part, old, false));
    } else if (replaced) {
      INGOT_TRY(st.remove(part));
    }
    return remove_old(o, files);
  }
  INGOT_ASSIGN(const std::string print, fingerprint(st, part));
  st.set_note(part, note_text({key_, root_hash, stamp_, print}));
  if (outputs_[o].directory) {
    std::set<std::string> directories = {part};
    for (const auto& f : files)
      for (std::string d = parent_path(path_of(o, f.name)); d.size() > part.size(); d = parent_path(d)) directories.insert(d);
    for (auto d = directories.rbegin(); d != directories.rend(); ++d) INGOT_TRY(st.sync_directory(*d));
  }
  INGOT_ASSIGN(const auto there, st.stat(path(o)));
  INGOT_ASSIGN(const bool empty, empty_directory(o));
  const std::string up = parent_path(path(o));
  if (there && !empty && !options_.force && !outputs_[o].in_place_of_input)
    return failed("writing {}: something else made a file of that name during the run; the same command with --force puts the finished output in its place", path(o));
  bool exchanged = false;
  if (!there || empty || !outputs_[o].directory) {
    INGOT_TRY(st.rename(part, path(o), there.has_value()));
  } else {
    INGOT_TRY(check_replaced(o, files));
    INGOT_TRY(remove_old(o, files));  // of an earlier run
    INGOT_ASSIGN(exchanged, st.exchange(part, path(o)));
    if (!exchanged) {
      // Two steps where the file system has no exchange: a kill between them leaves nothing under the name, and the next run goes on.
      INGOT_TRY(st.rename(path(o), old, false));
      INGOT_TRY(st.sync_directory(up));
      INGOT_TRY(st.rename(part, path(o), false));
    }
  }
  INGOT_TRY(st.sync_directory(up));
  t.published = true;
  if (exchanged) INGOT_TRY(st.rename(part, old, false));
  return remove_old(o, files);
}

Status Commit::clean() {
  // This rank's journal says that all is verified: it goes last, after those of other ranks and of earlier worlds.
  const std::string dir = parent_path(journal_base()), base = file_name(journal_base()), own = file_name(journal_of(0));
  INGOT_ASSIGN(const auto entries, journal_store().list(dir));
  for (const auto& e : entries)
    if (journal_name_of(e.name, base)) {
      if (e.name != own) INGOT_TRY(journal_store().remove(join_path(dir, e.name)));
    } else if (e.name.compare(0, base.size() + 1, base + ".") == 0) {
      (void)journal_store().lock(join_path(dir, e.name));  // of a rank that is no more: it goes with the lock
    }
  INGOT_TRY(journal_store().remove(journal_of(0)));
  rank_locks_.clear();
  for (auto& t : targets_) t.lock.reset();
  return {};
}

void Commit::discard() {
  if (options_.world > 1) return;  // other ranks may be at work
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (direct(o)) (void)store(o).abandon(path(o));
    const auto part = direct(o) ? Result<std::optional<Stat>>(std::optional<Stat>()) : store(o).stat(root(o));
    // Something else that had the name is not ours to remove.
    if (part.ok() && *part && !(*part)->link && (*part)->directory() == outputs_[o].directory) (void)store(o).remove(root(o));
  }
  (void)remove_journals(journal_store(), journal_base());
}

Status Commit::in_users_terms(Status s) const {
  if (s.ok()) return s;
  Error e = s.take_error();
  if (e.message.find("; remove it") != std::string::npos) return e;  // what is to be removed is named as it is
  for (size_t o = 0; o < outputs_.size(); ++o)
    for (const std::string& hidden : {direct(o) ? std::string() : root(o), lock_path(path(o))})
      for (size_t at = 0; !hidden.empty() && (at = e.message.find(hidden, at)) != std::string::npos; at += path(o).size())
        e.message.replace(at, hidden.size(), path(o));
  return e;
}

}  // namespace ingot
