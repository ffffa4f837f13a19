#include "exec/load.h"

#include "base/memory.h"
#include "commit/journal.h"
#include "exec/key.h"
#include "exec/pipeline.h"

namespace ingot {
namespace {

Status load_all(const TensorList& tensors, const std::vector<MutByteView>& into, const ExecOptions& options) {
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
  std::unique_ptr<StoreLock> lock;
  if (!options.journal_path.empty() && options.journal_store) {
    Store& store = *options.journal_store;
    const std::string path = options.journal_path + ".facts";
    // The key of a fact says all that it depends on, so one for the journal is enough.
    const std::string key = to_hex(hash128(as_bytes("facts of load() 1")));
    INGOT_ASSIGN(const auto there, store.stat(path));
    JournalState known;
    if (there) {
      INGOT_ASSIGN(known, Journal::read(store, path, key));
    }
    if (there && there->size && known.key.empty())
      return usage("loading: {} holds something else than facts; remove it or give another name", path);
    facts = std::move(known.facts);
    // Who finds another at it takes what is there and records nothing.
    INGOT_ASSIGN(lock, store.lock(path + ".lock"));
    if (lock) {
      INGOT_ASSIGN(journal, Journal::open(store, path, key, true));
    }
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
  INGOT_TRY(run_pipeline({outputs, *plan, options.cancel, sinks, into, nullptr, facts, fact, moved, source_bytes, written, tasks}));
  for (const ReadFile* f : sources_of(outputs)) INGOT_TRY(f->check_unchanged());
  return {};
}

}  // namespace

Status load(const TensorList& tensors, const std::vector<MutByteView>& into, const ExecOptions& options) {
  return within_memory("loading", [&] { return load_all(tensors, into, options); });
}

}  // namespace ingot
