#include "exec/load.h"

#include "exec/journal.h"
#include "exec/pipeline.h"

namespace ingot {

Status load(const TensorList& tensors, const std::vector<MutByteView>& into, const ExecOptions& options) {
  std::vector<Output> outputs(1);
  outputs[0].artifact.tensors = tensors;
  outputs[0].layout = [](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    Layout l;
    l.files.resize(specs.size());
    for (size_t i = 0; i < specs.size(); ++i) l.tensors.push_back({static_cast<int>(i), 0});
    return l;
  };
  if (into.size() != tensors.size()) return usage("loading {} tensors into {} places", tensors.size(), into.size());
  Progress progress;
  progress.phase = Phase::kLoad;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = bytes_of(tensors[i].spec());
    if (into[i].size() != bytes) return usage("loading {}: it has {} bytes, its place {}", tensors[i].name, bytes, into[i].size());
    progress.total += bytes;
  }
  std::map<std::string, std::string> facts;
  std::unique_ptr<Journal> journal;
  if (!options.journal_path.empty() && options.journal_store) {
    // The key of a fact says all that it depends on, so one for the journal is enough.
    const std::string key = to_hex(hash128(as_bytes("facts of load() 1")));
    if (auto known = Journal::read(*options.journal_store, options.journal_path, key); known.ok()) facts = std::move(known->facts);
    INGOT_ASSIGN(journal, Journal::open(*options.journal_store, options.journal_path, key, true));
  }
  INGOT_ASSIGN(const auto plan, make_plan(outputs, options));
  std::vector<std::vector<std::unique_ptr<SinkFile>>> sinks;
  std::mutex mutex;
  std::atomic<uint64_t> source_bytes{0}, written{0}, tasks{0};
  const auto fact = [&](const std::string& key, const std::string& bytes) { return journal ? journal->fact(key, bytes) : Status(); };
  const auto moved = [&](uint64_t n, const std::string& name) {
    if (!options.on_progress) return;
    std::lock_guard lock(mutex);
    progress.done += n;
    progress.tensor = name;
    options.on_progress(progress);
  };
  return run_pipeline({outputs, *plan, options.cancel, sinks, into, nullptr, facts, fact, moved, source_bytes, written, tasks});
}

}  // namespace ingot
