#include "cli/verification.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/clock.h"
#include "base/threads.h"
#include "cli/job.h"
#include "cli/text.h"
#include "commit/names.h"
#include "exec/plan.h"
#include "formats/index_check.h"
#include "transform/scan.h"

namespace ingot::cli {
namespace {

using transform::Looked;
using transform::Scan;

bool countable(Looked l) { return l == Looked::kValues || l == Looked::kScales; }

// The pass over all files: their hash, and what the scan makes of their bytes.
Status read_files(Context& c, const Located& at, Scan& scan, Verification* v) {
  VerifyRun run;
  run.threads = thread_count(c.args.common.threads);
  run.cancel = &c.cancel;
  run.look = [&](const ReadFile& file) { return scan.look(file); };
  std::atomic<uint64_t> done{0};
  std::mutex mutex;
  Progress p;
  p.phase = Phase::kVerify, p.total = tree_bytes(*at.store, at.path);
  run.progress = [&](uint64_t bytes, const std::string&) {
    done += bytes;
    if (const std::unique_lock lock(mutex, std::try_to_lock); lock) p.done = done, c.report.progress(p);
  };
  INGOT_ASSIGN(v->tree, hash_tree(*at.store, at.path, run));
  for (const std::string& other : scan.unseen()) {
    p.total += tree_bytes(*at.store, other);
    INGOT_ASSIGN([[maybe_unused]] const TreeHash tree, hash_tree(*at.store, other, run));
  }
  for (const std::string& other : scan.unseen()) v->errors.push_back({"structure", fmt::format("reading {}: it changed while it was being verified; verify it again once nothing touches it", other)});
  v->bytes = done;
  return {};
}

void check_records(const ZipRecords& zip, const Scan& scan, uint64_t limit, Verification* v) {
  v->records = scan.records();
  for (const auto& fault : zip.faults) v->errors.push_back({"structure", fault});
  for (const auto& d : scan.damage()) {
    const ZipRecord& r = zip.records[d.record];
    std::string tensors;
    for (size_t i = 0; i < std::min<size_t>(d.tensors.size(), 3); ++i) tensors += fmt::format("{} '{}'", i ? "," : d.tensors.size() > 1 ? ", tensors" : ", tensor", d.tensors[i]);
    if (d.tensors.size() > 3) tensors += fmt::format(" and {} more", d.tensors.size() - 3);
    v->errors.push_back({"checksum",
                         fmt::format("reading {}: the CRC-32 of its record '{}'{} is {:08x}, by the archive {:08x}; the file is damaged, copy it again",
                                     zip.archives[r.archive].path(), r.name.substr(0, 200), tensors, d.found, r.crc),
                         d.tensors});
  }
  for (const ZipRecord& r : zip.records) {
    if (!r.summed) ++v->unsummed;
    if (!r.summed || r.stored) continue;
    const ZipFile& archive = zip.archives[r.archive];
    const ZipEntry& entry = *archive.find(r.name);
    if (entry.size > limit) {
      v->warnings.push_back({"checksum", fmt::format("reading {}: its record '{}' takes {} unpacked, more than --memory: its checksum was not compared", archive.path(),
                                                     r.name.substr(0, 200), format_bytes(entry.size))});
      continue;
    }
    ++v->records;
    if (auto s = archive.read(entry, limit); !s.ok()) v->errors.push_back({"checksum", s.take_error().message});
  }
}

// The values of what the scan could not see. Where one cannot be read the others are, each by itself.
Status count_rest(Context& c, Scan& scan, Verification* v) {
  std::vector<LazyTensor> rest;
  std::vector<Scan::Tensor*> own;
  for (auto& t : scan.tensors())
    if (!t.in_files && countable(t.looked)) rest.push_back({t.names[0], t.node}), own.push_back(&t);
  const ExecOptions options = exec_options(c);
  const auto take = [&](size_t i, const transform::Nonfinite& n) { own[i]->nan = n.nan, own[i]->infinite = n.infinite; };
  const auto all = transform::nonfinite(rest, options);
  if (!all.ok() && all.error().kind != ErrorKind::kBadInput) return all.error();
  for (size_t i = 0; i < rest.size(); ++i) {
    if (all.ok()) {
      take(i, (*all)[i]);
      continue;
    }
    const auto one = transform::nonfinite({rest[i]}, options);
    if (one.ok()) {
      take(i, (*one)[0]);
    } else if (one.error().kind == ErrorKind::kBadInput) {
      v->errors.push_back({"unreadable", one.error().message, own[i]->names});
      own[i]->looked = Looked::kUnknown;
    } else {
      return one.error();
    }
  }
  return {};
}

}  // namespace

Result<Verification> examine(Context& c, const Located& at, const Artifact& model, const Faults& faults) {
  const auto start = Clock::now();
  Verification v;
  for (const auto& f : faults) v.errors.push_back({"structure", f});
  INGOT_ASSIGN(const auto there, at.store->stat(at.path));
  const bool directory = there && there->directory();
  std::vector<std::string> files;
  if (directory) {
    INGOT_ASSIGN(files, list_tree(*at.store, at.path, nullptr));
    std::erase_if(files, [](const std::string& f) { return f.ends_with("/"); });
  }
  ZipRecords zip;
  if (!directory || !files.empty()) {
    INGOT_ASSIGN(zip, zip_records(*at.store, at.path, files));
  }
  Scan scan(model, zip, VerifyRun().leaf_bytes);
  c.report.begin_progress("verifying");
  Status status = read_files(c, at, scan, &v);
  if (status.ok()) {
    check_records(zip, scan, c.args.common.memory ? c.args.common.memory : default_memory(), &v);
    status = count_rest(c, scan, &v);
  }
  c.report.end_progress();
  INGOT_TRY(std::move(status));
  if (directory) {
    INGOT_ASSIGN(IndexCheck index, check_indexes(*at.store, at.path));
    v.indexes = index.indexes;
    for (auto& e : index.errors) v.errors.push_back({"index", std::move(e)});
    for (auto& w : index.warnings) v.warnings.push_back({"index", std::move(w)});
  }
  for (auto& t : scan.tensors()) v.tensors.push_back({std::move(t.names), t.node->spec(), t.looked, {t.nan, t.infinite}});
  v.seconds = seconds_since(start);
  return v;
}

}  // namespace ingot::cli
