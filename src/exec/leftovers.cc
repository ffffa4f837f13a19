// What unfinished runs leave on disk: told of, taken away, and put back where it belongs.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "exec/commit.h"
#include "exec/names.h"

namespace ingot {
namespace {

std::string sized(uint64_t bytes) {
  if (bytes < 1'000'000) return fmt::format("{} bytes", bytes);
  return bytes < 1'000'000'000 ? fmt::format("{:.0f} MB", bytes / 1e6) : fmt::format("{:.1f} GB", bytes / 1e9);
}

}  // namespace

Status Commit::restore_old(size_t o) const {
  if (direct(o)) return {};
  INGOT_ASSIGN(const auto old, store(o).stat(temporary(o, ".old")));
  INGOT_ASSIGN(const auto there, store(o).stat(path(o)));
  return old && !there ? store(o).rename(temporary(o, ".old"), path(o), false) : Status();
}

// All that the job of that key left in that directory and beside its outputs. What --force was about to replace comes back where nothing
// has its name.
Status Commit::discard_job(Store& st, const std::string& directory, const std::string& key, const std::vector<JournalOutput>& outputs) {
  for (const auto& out : outputs) {
    const std::string old = temporary_path(out.path, key, ".old");
    INGOT_ASSIGN(const auto kept, st.stat(old));
    INGOT_ASSIGN(const auto there, st.stat(out.path));
    if (kept && !there) INGOT_TRY(st.rename(old, out.path, false));
    for (const char* suffix : {".part", ".old"}) INGOT_TRY(st.remove(temporary_path(out.path, key, suffix)));
  }
  INGOT_ASSIGN(const auto entries, st.list(directory));
  std::vector<std::string> journals;
  for (const auto& e : entries) {
    const auto t = parse_temporary(e.name);
    if (!t || t->key != key.substr(0, kKeyDigits) || t->suffix.rfind(".journal", 0)) continue;
    if (t->suffix.size() > 5 && t->suffix.compare(t->suffix.size() - 5, 5, ".lock") == 0) {
      INGOT_ASSIGN(const auto held, st.lock(join_path(directory, e.name)));
      if (!held) return failed("a rank of an earlier start with other settings is still writing there ({}); stop it first", join_path(directory, t->name));
      continue;
    }
    journals.push_back(join_path(directory, e.name));
  }
  // Scratch files and other ranks first: the journal that names the outputs goes last.
  std::sort(journals.rbegin(), journals.rend());
  for (const auto& j : journals) INGOT_TRY(st.remove(j));
  return {};
}

Status Commit::clear_leftovers() {
  if (options_.rank || !options_.journal_path.empty()) return {};
  std::map<std::pair<Store*, std::string>, std::vector<std::string>> names;  // of this job's outputs, as temporaries spell them
  for (size_t o = 0; o < outputs_.size(); ++o)
    if (!direct(o)) names[{&store(o), parent_path(path(o))}].push_back(short_name(file_name(path(o))));
  for (const auto& [where, mine] : names) {
    auto [st, directory] = where;
    INGOT_ASSIGN(const auto entries, st->list(directory));
    // Each unfinished job: the journals it has here, and whether it was to write an output of this one.
    struct Job {
      std::vector<JournalOutput> outputs;
      bool ours = false, journal = false;
    };
    std::map<std::string, Job> jobs;  // by the key's digits
    for (const auto& e : entries) {
      const auto t = parse_temporary(e.name);
      if (!t || t->key == key_.substr(0, kKeyDigits)) continue;
      Job& job = jobs[t->key];
      job.ours |= std::find(mine.begin(), mine.end(), t->name) != mine.end();
      if (t->suffix.rfind(".journal", 0) || e.directory || t->suffix.find(".lock") != std::string::npos ||
          t->suffix.find(".scratch") != std::string::npos)
        continue;
      auto read = Journal::read(*st, join_path(directory, e.name), "");
      job.journal = true;
      if (read.ok() && !read->outputs.empty()) job.outputs = read->outputs;
    }
    for (auto& [key, job] : jobs) {
      std::vector<std::string> shown;
      for (const auto& out : job.outputs) {
        shown.push_back(file_name(out.path));
        for (const auto& t : targets_) job.ours |= t.resolved == out.path;
      }
      if (job.ours) {
        // Its other outputs: nobody may be writing them now. Those of this job are locked already.
        std::vector<std::unique_ptr<StoreLock>> held;
        for (const auto& out : job.outputs) {
          const bool locked = std::any_of(targets_.begin(), targets_.end(), [&](const Target& t) { return t.resolved == out.path; });
          if (locked) continue;
          INGOT_ASSIGN(auto lock, st->lock(lock_path(out.path)));
          if (!lock) return failed("writing {}: another ingot is writing it together with {}; wait for it or stop it", path(0), out.path);
          held.push_back(std::move(lock));
        }
        for (size_t o = 0; o < outputs_.size(); ++o)
          if (&store(o) == st && parent_path(path(o)) == directory) job.outputs.push_back({path(o), outputs_[o].directory});
        INGOT_TRY(discard_job(*st, directory, key, job.outputs));
        notice(fmt::format("{}: an unfinished run with other inputs or settings is discarded", shown.empty() ? path(0) : quoted_list(shown)));
      } else if (job.journal && !job.outputs.empty()) {
        INGOT_ASSIGN(const auto lock, st->lock(lock_path(job.outputs[0].path)));
        if (!lock) continue;  // at work
        uint64_t bytes = 0;
        for (const auto& out : job.outputs) bytes += tree_bytes(*st, temporary_path(out.path, key, ".part"));
        notice(fmt::format("in {} lies an unfinished run that was to write {}: {} in hidden files (.*.ingot-{}.*). Its own command goes on with it, or "
                           "starts anew with --no-resume; remove them if it is not wanted", directory, quoted_list(shown), sized(bytes), key));
      }
    }
  }
  return {};
}

Status Commit::start_over() {
  if (options_.world > 1) return {};  // another rank may be ahead
  for (size_t o = 0; o < outputs_.size(); ++o) {
    INGOT_TRY(restore_old(o));
    INGOT_TRY(direct(o) ? Status() : store(o).remove(temporary(o, ".part")));
    INGOT_TRY(direct(o) ? Status() : store(o).remove(temporary(o, ".old")));
  }
  return journal_store().remove(journal_of(0));
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
