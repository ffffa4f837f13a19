// What unfinished runs leave on disk: told of, taken away, and put back where it belongs.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "commit/commit.h"
#include "commit/names.h"

namespace ingot {
namespace {

std::string sized(uint64_t bytes) {
  if (bytes < 1'000'000) return fmt::format("{} bytes", bytes);
  return bytes < 1'000'000'000 ? fmt::format("{:.0f} MB", bytes / 1e6) : fmt::format("{:.1f} GB", bytes / 1e9);
}

}  // namespace

// Where an output that a journal in `directory` names is.
std::string Commit::named_by(const std::string& directory, const JournalOutput& out) {
  return out.path.find('/') == std::string::npos ? join_path(directory, out.path) : out.path;
}

// What lies under a hidden name goes. Where it may be a directory that --force replaced, only files that `known` knows go; with others in it, it is kept
// where it is seen.
Status Commit::drop(Store& st, const std::string& hidden, const std::string& final_name, bool replaced, const std::function<bool(const std::string&)>& known) const {
  INGOT_ASSIGN(const auto there, st.stat(hidden));
  if (!there) return {};
  if (!replaced || there->link || !there->directory()) return st.remove(hidden);
  INGOT_ASSIGN(const auto names, list_tree(st, hidden, known));
  bool foreign = false;
  Status removed;
  for (const auto& n : names) {
    if (!known(n)) foreign = true;
    else if (removed.ok()) removed = st.remove(join_path(hidden, n));
  }
  if (!foreign && removed.ok()) removed = st.remove(hidden);
  if (!foreign && removed.ok()) return {};
  std::string kept = final_name + ".old";
  for (int i = 1;; ++i) {
    INGOT_ASSIGN(const auto taken, st.stat(kept));
    if (!taken) break;
    kept = fmt::format("{}.old{}", final_name, i);
  }
  if (auto moved = st.rename(hidden, kept, false); !moved.ok()) kept = hidden;
  notice(removed.ok() ? fmt::format("{}: what appeared in the replaced directory during the run is kept in {}", final_name, kept)
                      : fmt::format("{}: the replaced directory could not be removed and stays in {}: {}", final_name, kept, removed.error().message));
  return {};
}

// The temporaries of one output of the job of that key; what was being replaced comes back where nothing has its name.
Status Commit::drop_output(Store& st, const std::string& final_name, const std::string& key, bool verified) const {
  std::function<bool(const std::string&)> known = [](const std::string&) { return false; };
  for (const auto& out : outputs_)
    if (out.older_name && file_name(out.path) == file_name(final_name)) known = out.older_name;
  const std::string part = temporary_path(final_name, key, ".part"), old = temporary_path(final_name, key, ".old");
  INGOT_ASSIGN(const auto kept, st.stat(old));
  INGOT_ASSIGN(const auto there, st.stat(final_name));
  if (kept && !there) INGOT_TRY(st.rename(old, final_name, false));
  INGOT_TRY(drop(st, part, final_name, verified, known));
  return drop(st, old, final_name, true, known);
}

// The locks of all ranks that a job has had: none of them is at work while they are held.
Result<std::vector<std::unique_ptr<StoreLock>>> Commit::hold_ranks(Store& st, const std::string& journal) const {
  std::vector<std::unique_ptr<StoreLock>> held;
  const std::string directory = parent_path(journal), base = file_name(journal);
  INGOT_ASSIGN(const auto entries, st.list(directory));
  for (const auto& e : entries) {
    // "base.lock" is the job's own, where its outputs have none.
    if (journal_name_of(e.name, base) || e.name.compare(0, base.size() + 2, base + ".r")) continue;
    INGOT_ASSIGN(auto lock, st.lock(join_path(directory, e.name)));
    if (!lock) return failed("writing {}: a rank of an earlier start is still at work; stop it first", path(0));
    held.push_back(std::move(lock));
  }
  return held;
}

// Scratch files and other ranks first: the journal that names the outputs goes last.
Status Commit::remove_journals(Store& st, const std::string& journal) const {
  const std::string directory = parent_path(journal), base = file_name(journal);
  INGOT_ASSIGN(const auto entries, st.list(directory));
  std::vector<std::string> files;
  for (const auto& e : entries)
    if (journal_name_of(e.name, base)) files.push_back(join_path(directory, e.name));
  std::sort(files.rbegin(), files.rend());
  for (const auto& f : files) INGOT_TRY(st.remove(f));
  return {};
}

// An unfinished job, by the journals that lie in one directory.
struct Commit::Unfinished {
  std::string key, name;  // name: of its first output, as temporaries spell it
  std::vector<std::string> outputs;
  bool verified = false, ours = false;  // ours: it was to write an output of this job
};

Status Commit::clear_leftovers() {
  if (options_.rank || !options_.journal_path.empty()) return {};
  std::set<std::pair<Store*, std::string>> directories;
  for (size_t o = 0; o < outputs_.size(); ++o)
    if (!direct(o)) directories.insert({&store(o), parent_path(path(o))});
  for (const auto& [st, directory] : directories) {
    INGOT_ASSIGN(const auto entries, st->list(directory));
    INGOT_ASSIGN(const std::string resolved, st->resolve(directory));
    std::map<std::string, Unfinished> jobs;  // by the name of the journal without the rank
    for (const auto& e : entries) {
      const auto t = parse_temporary(e.name);
      if (!t || e.directory || t->suffix.rfind(".journal", 0)) continue;
      const std::string base = e.name.substr(0, e.name.size() - t->suffix.size()) + ".journal";
      if (!journal_name_of(e.name, base) || t->suffix.find(".scratch") != std::string::npos) continue;
      Unfinished& job = jobs[base];
      job.key = t->key;
      job.name = t->name;
      auto read = Journal::read(*st, join_path(directory, e.name), "");
      if (!read.ok()) continue;
      job.verified |= read->verified;
      if (read->outputs.empty()) continue;
      job.outputs.clear();
      for (const auto& out : read->outputs) job.outputs.push_back(named_by(resolved, out));
    }
    for (auto& [base, job] : jobs) {
      const std::string journal = join_path(directory, base);
      std::vector<std::string> others;
      for (const auto& out : job.outputs) {
        if (std::any_of(targets_.begin(), targets_.end(), [&](const Target& t) { return t.named == out; })) job.ours = true;
        else others.push_back(out);
      }
      // Killed before it said what it was to write: its own name tells.
      if (job.outputs.empty())
        for (size_t o = 0; o < outputs_.size(); ++o)
          job.ours |= &store(o) == st && parent_path(path(o)) == directory && short_name(file_name(path(o))) == job.name;
      if (journal == journal_base()) {
        // The same bytes were to go to other names before: those are not this job's any more.
        for (const auto& out : others)
          if (!st->locked(lock_path(out))) INGOT_TRY(drop_output(*st, out, job.key, job.verified));
      } else {
        INGOT_TRY(job.ours ? discard_unfinished(*st, journal, job, others) : tell_unfinished(*st, directory, job));
      }
    }
  }
  // What lies beside an output of this job without a journal that names it.
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (direct(o)) continue;
    INGOT_ASSIGN(const auto entries, store(o).list(parent_path(path(o))));
    for (const auto& e : entries) {
      const auto t = parse_temporary(e.name);
      if (t && t->name == short_name(file_name(path(o))) && t->key != key_.substr(0, kKeyDigits) && (t->suffix == ".part" || t->suffix == ".old"))
        INGOT_TRY(drop_output(store(o), path(o), t->key, true));
    }
  }
  return {};
}

Status Commit::discard_unfinished(Store& st, const std::string& journal, const Unfinished& job, const std::vector<std::string>& others) {
  // Nobody may be writing its other outputs now; those of this job are locked already.
  std::vector<std::unique_ptr<StoreLock>> held;
  for (const auto& out : others) {
    auto lock = st.lock(lock_path(out));
    if (!lock.ok()) continue;  // its directory is gone, or another user's
    if (!*lock) return failed("writing {}: another ingot is writing it together with {}; wait for it or stop it", path(0), out);
    held.push_back(std::move(*lock));
  }
  INGOT_ASSIGN([[maybe_unused]] const auto ranks, hold_ranks(st, journal));
  std::vector<std::string> names;
  for (const auto& out : job.outputs) {
    names.push_back(file_name(out));
    INGOT_TRY(drop_output(st, out, job.key, job.verified));
  }
  INGOT_TRY(remove_journals(st, journal));
  if (names.empty()) return {};
  notice(fmt::format("{}: an unfinished run with other inputs or settings is discarded", quoted_list(names)));
  return {};
}

Status Commit::tell_unfinished(Store& st, const std::string& directory, const Unfinished& job) {
  if (job.outputs.empty() || st.locked(lock_path(job.outputs[0]))) return {};  // torn, or at work
  uint64_t bytes = 0;
  std::vector<std::string> names;
  for (const auto& out : job.outputs) {
    bytes += tree_bytes(st, temporary_path(out, job.key, ".part"));
    names.push_back(file_name(out));
  }
  notice(fmt::format("in {} lies an unfinished run that was to write {}: {} in hidden files (.*.ingot-{}.*). Its own command goes on with it, or starts anew with "
                     "--no-resume; remove them if it is not wanted", directory, quoted_list(names), sized(bytes), job.key));
  return {};
}

Status Commit::start_over(bool verified) {
  INGOT_ASSIGN([[maybe_unused]] const auto ranks, hold_ranks(journal_store(), journal_base()));
  for (size_t o = 0; o < outputs_.size(); ++o)
    if (!direct(o)) INGOT_TRY(drop_output(store(o), path(o), key_, verified));
  return remove_journals(journal_store(), journal_base());
}

std::string Commit::remains() const {
  std::map<std::string, uint64_t> bytes;
  std::string files;
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (direct(o)) continue;
    const uint64_t n = tree_bytes(store(o), temporary(o, ".part"));
    if (!n) continue;
    bytes[parent_path(path(o))] += n;
  }
  for (const auto& [dir, n] : bytes) files += fmt::format("{}{} in {}", files.empty() ? "" : ", ", sized(n), dir);
  return files.empty() ? "" : fmt::format("until then {} stay in hidden files (.*.ingot-{}.*); to discard them, start it with --no-resume or remove them", files,
                                          key_.substr(0, kKeyDigits));
}

}  // namespace ingot
