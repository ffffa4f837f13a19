// What unfinished runs leave on disk: told of, taken away, and put back where it belongs.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

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

// All that a job left: temporaries of its outputs, and the files of its journal. What --force was about to replace comes back where nothing has its
// name.
Status Commit::discard_job(Store& st, const std::string& journal, const std::string& key, const std::vector<JournalOutput>& outputs) {
  for (const auto& out : outputs) {
    const std::string old = temporary_path(out.path, key, ".old");
    INGOT_ASSIGN(const auto kept, st.stat(old));
    INGOT_ASSIGN(const auto there, st.stat(out.path));
    if (kept && !there) INGOT_TRY(st.rename(old, out.path, false));
    for (const char* suffix : {".part", ".old"}) INGOT_TRY(st.remove(temporary_path(out.path, key, suffix)));
  }
  const std::string directory = parent_path(journal), base = file_name(journal);
  INGOT_ASSIGN(const auto entries, st.list(directory));
  std::vector<std::string> files;
  for (const auto& e : entries) {
    if (journal_name_of(e.name, base)) {
      files.push_back(join_path(directory, e.name));
    } else if (e.name.compare(0, base.size() + 1, base + ".") == 0) {
      INGOT_ASSIGN(const auto held, st.lock(join_path(directory, e.name)));
      if (!held) return failed("writing {}: a rank of an earlier start with other settings is still at work; stop it first", path(0));
    }
  }
  // Scratch files and other ranks first: the journal that names the outputs goes last.
  std::sort(files.rbegin(), files.rend());
  for (const auto& f : files) INGOT_TRY(st.remove(f));
  return {};
}

// An unfinished job, by the journals that lie in one directory.
struct Commit::Unfinished {
  std::string key;
  std::vector<JournalOutput> outputs;
  bool ours = false;  // it was to write an output of this job
};

Status Commit::clear_leftovers() {
  if (options_.rank || !options_.journal_path.empty()) return {};
  std::set<std::pair<Store*, std::string>> directories;
  for (size_t o = 0; o < outputs_.size(); ++o)
    if (!direct(o)) directories.insert({&store(o), parent_path(path(o))});
  for (const auto& [st, directory] : directories) {
    INGOT_ASSIGN(const auto entries, st->list(directory));
    std::map<std::string, Unfinished> jobs;  // by the name of the journal without the rank
    for (const auto& e : entries) {
      const auto t = parse_temporary(e.name);
      if (!t || e.directory || t->suffix.rfind(".journal", 0)) continue;
      const std::string base = e.name.substr(0, e.name.size() - t->suffix.size()) + ".journal";
      if (!journal_name_of(e.name, base) || t->suffix.find(".scratch") != std::string::npos || join_path(directory, base) == journal_base()) continue;
      Unfinished& job = jobs[base];
      job.key = t->key;
      if (auto read = Journal::read(*st, join_path(directory, e.name), ""); read.ok() && !read->outputs.empty()) job.outputs = read->outputs;
    }
    for (auto& [base, job] : jobs) {
      for (const auto& out : job.outputs)
        for (const auto& t : targets_) job.ours |= t.resolved == out.path;
      INGOT_TRY(job.ours ? discard_unfinished(*st, join_path(directory, base), job) : tell_unfinished(*st, directory, job));
    }
  }
  // What lies beside an output of this job without a journal that names it.
  for (size_t o = 0; o < outputs_.size(); ++o) {
    if (direct(o)) continue;
    INGOT_ASSIGN(const auto entries, store(o).list(parent_path(path(o))));
    for (const auto& e : entries) {
      const auto t = parse_temporary(e.name);
      if (!t || t->name != short_name(file_name(path(o))) || t->key == key_.substr(0, kKeyDigits)) continue;
      INGOT_TRY(discard_job(store(o), temporary_path(path(o), t->key, ".journal"), t->key, {{path(o), outputs_[o].directory}}));
    }
  }
  return {};
}

Status Commit::discard_unfinished(Store& st, const std::string& journal, const Unfinished& job) {
  // Nobody may be writing its other outputs now; those of this job are locked already.
  std::vector<std::unique_ptr<StoreLock>> held;
  std::vector<std::string> names;
  for (const auto& out : job.outputs) {
    names.push_back(file_name(out.path));
    if (std::any_of(targets_.begin(), targets_.end(), [&](const Target& t) { return t.resolved == out.path; })) continue;
    INGOT_ASSIGN(auto lock, st.lock(lock_path(out.path)));
    if (!lock) return failed("writing {}: another ingot is writing it together with {}; wait for it or stop it", path(0), out.path);
    held.push_back(std::move(lock));
  }
  INGOT_TRY(discard_job(st, journal, job.key, job.outputs));
  notice(fmt::format("{}: an unfinished run with other inputs or settings is discarded", quoted_list(names)));
  return {};
}

Status Commit::tell_unfinished(Store& st, const std::string& directory, const Unfinished& job) {
  if (job.outputs.empty()) return {};
  {
    INGOT_ASSIGN(const auto lock, st.lock(lock_path(job.outputs[0].path)));
    if (!lock) return {};  // at work
  }
  uint64_t bytes = 0;
  std::vector<std::string> names;
  for (const auto& out : job.outputs) {
    bytes += tree_bytes(st, temporary_path(out.path, job.key, ".part"));
    names.push_back(file_name(out.path));
  }
  notice(fmt::format("in {} lies an unfinished run that was to write {}: {} in hidden files (.*.ingot-{}.*). Its own command goes on with it, or starts anew with "
                     "--no-resume; remove them if it is not wanted", directory, quoted_list(names), sized(bytes), job.key));
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
