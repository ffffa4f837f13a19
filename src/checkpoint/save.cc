#include "checkpoint/save.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/threads.h"
#include "checkpoint/directory.h"
#include "commit/names.h"
#include "commit/small_file.h"
#include "commit/verify.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "kernels/hash.h"
#include "storage/forwarding.h"

namespace ingot::checkpoint {
namespace {

constexpr uint64_t kPage = 4096;  // where a file's tensors begin: what lies on a page in memory is written from there (storage/direct.h)

// What the job writes: tensors in files, the places of both, and which files are objects of the manifest (all but the last, itself).
struct Plan {
  TensorList tensors;
  Layout layout;
  Manifest manifest;
  std::set<std::string> compressed;  // names of files
};

// Indexes of tensors, a file each: still ones apart, and no file of more than max_shard bytes unless one tensor alone is, or they are an adapter's.
std::vector<std::vector<size_t>> files_of(const Group& group, uint64_t max_shard) {
  std::vector<std::vector<size_t>> files;
  if (is_adapter(group.name) && !group.tensors.empty()) {
    files.emplace_back(group.tensors.size());
    std::iota(files[0].begin(), files[0].end(), size_t{0});
    return files;
  }
  for (const bool still : {true, false}) {
    uint64_t room = 0;
    bool begun = false;
    for (size_t i = 0; i < group.tensors.size(); ++i) {
      if (group.tensors[i].still != still) continue;
      const uint64_t bytes = bytes_of(group.tensors[i].spec);
      if (!begun || bytes > room) files.emplace_back(), room = max_shard, begun = true;
      files.back().push_back(i);
      room -= std::min(room, bytes);
    }
  }
  return files;
}

// The hash of an object whose bytes are in memory: those of its file, between the extents of no tensor.
std::string hash_of(const FileLayout& file, const std::vector<std::pair<uint64_t, ByteView>>& tensors) {
  std::map<uint64_t, ByteView> pieces;
  for (const Extent& e : file.extents) pieces[e.offset] = as_bytes(e.bytes);
  for (const auto& [offset, bytes] : tensors)
    if (!bytes.empty()) pieces[offset] = bytes;
  TreeHasher tree;
  for (const auto& [offset, bytes] : pieces) tree.update(bytes);
  return tree.root();
}

class Planner {
 public:
  // stored(NAME): the bytes of a compressed file that has been written, 0 for one that was linked.
  Planner(const std::string& directory, const Snapshot& s, const SaveOptions& o, std::function<uint64_t(const std::string&)> stored)
      : directory_(directory), s_(s), o_(o), stored_(std::move(stored)) {}

  Result<Plan> plan() {
    // First: where files have their own names at once, it tells a save of ours that did not end from what other software made.
    add_text(kStateFile, s_.state);
    for (const Group& g : s_.groups) INGOT_TRY(add(g));
    for (const auto& [name, text] : s_.files) {
      if (find(name)) return usage("saving step {}: the file '{}' is one that the checkpoint makes itself; leave it out of the model's files", s_.step, name);
      add_text(name, text);
    }
    Manifest& m = p_.manifest;
    m.step = s_.step, m.epoch = o_.epoch, m.time = o_.time, m.run = o_.run, m.parent = o_.parent, m.metrics = s_.metrics;
    FileLayout record;
    record.name = kManifestFile;
    record.extents.push_back({0, manifest_text(m), [m = p_.manifest, may_commit = o_.may_commit, stored = stored_](const Digests& digests) mutable -> Result<std::string> {
                                if (may_commit) INGOT_TRY(may_commit());  // where nothing is renamed, this is the commit
                                for (size_t i = 0; i < m.objects.size(); ++i) {
                                  Object& o = m.objects[i];
                                  o.hash = digests(0, i);
                                  if (o.frames && stored(o.name)) o.frames = stored(o.name);
                                }
                                return manifest_text(m);
                              }});
    record.size = record.extents[0].bytes.size();
    p_.layout.files.push_back(std::move(record));
    return std::move(p_);
  }

 private:
  bool find(const std::string& name) const { return name == kManifestFile || name == kMetricsFile || name == kQuarantineFile || name == kPinnedFile || name == kWriterFile || p_.manifest.find(name); }

  Status add(const Group& g) {
    const auto files = files_of(g, o_.max_shard);
    OrderedJson map = OrderedJson::object();
    uint64_t total = 0;
    for (size_t k = 0; k < files.size(); ++k) {
      const std::string name = files.size() == 1 ? g.name + ".safetensors" : fmt::format("{}-{:05}-of-{:05}.safetensors", g.name, k + 1, files.size());
      if (find(name)) return usage("saving step {}: two keys of the state make the file '{}'", s_.step, name);
      std::vector<NamedSpec> specs;
      for (size_t i : files[k]) specs.emplace_back(g.tensors[i].name, g.tensors[i].spec);
      INGOT_ASSIGN(Layout one, layout_safetensors(specs, {{"format", "pt"}, {"ingot", "checkpoint"}}, kPage));
      FileLayout& file = one.files[0];
      file.name = name;
      std::vector<std::pair<uint64_t, ByteView>> bytes;
      for (size_t t = 0; t < files[k].size(); ++t) {
        const Tensor& tensor = g.tensors[files[k][t]];
        const ByteView view(tensor.bytes, bytes_of(tensor.spec));
        bytes.emplace_back(one.tensors[t].offset, view);
        p_.layout.tensors.push_back({static_cast<int>(p_.layout.files.size()), one.tensors[t].offset});
        p_.tensors.push_back({tensor.name, make_resident_tensor(tensor.spec, tensor.bytes, s_.memory, fmt::format("step {} {}", s_.step, p_.tensors.size()))});
        map[tensor.name] = name;
        total += view.size();
      }
      Object object;
      object.name = name, object.bytes = file.size;
      if (o_.compress && o_.compress(g.name)) object.frames = 0, p_.compressed.insert(name);
      if (o_.previous && g.tensors[files[k][0]].still) link(&file, &object, hash_of(file, bytes));
      p_.manifest.objects.push_back(std::move(object));
      p_.layout.files.push_back(std::move(file));
    }
    if (files.size() > 1) {
      OrderedJson index;
      index["metadata"]["total_size"] = total;
      index["weight_map"] = std::move(map);
      add_text(g.name + ".safetensors.index.json", json_text(index));
    }
    return {};
  }

  // A file of that checkpoint with these bytes, whatever it is called there. After some links the bytes are written again: what the medium lost since then is whole from there on.
  void link(FileLayout* file, Object* object, const std::string& hash) const {
    for (const Object& o : o_.previous->objects)
      if (o.bytes == object->bytes && o.hash == hash && o.frames.has_value() == object->frames.has_value() && o.generation < kMostLinks) {
        file->link = join_path(join_path(directory_, directory_name(o_.previous->step)), o.name);
        object->frames = o.frames;
        object->same_as = o.same_as.value_or(o_.previous->step);
        object->generation = o.generation + 1;
        return;
      }
  }

  void add_text(const std::string& name, const std::string& text) {
    FileLayout file;
    file.name = name, file.size = text.size();
    if (!text.empty()) file.extents.push_back({0, text});
    p_.manifest.objects.emplace_back().name = name;
    p_.manifest.objects.back().bytes = text.size();
    p_.layout.files.push_back(std::move(file));
  }

  const std::string& directory_;
  const Snapshot& s_;
  const SaveOptions& o_;
  const std::function<uint64_t(const std::string&)> stored_;
  Plan p_;
};

// A save that gives its files their own names at once has cleared them away before: what is there now, another process made. And one that was replaced meanwhile makes none.
class OwnFiles final : public ForwardingStore {
 public:
  OwnFiles(Store& beneath, std::function<Status()> still_mine) : ForwardingStore(beneath), still_mine_(std::move(still_mine)) {}
  Result<std::unique_ptr<WriteFile>> create(const std::string& path, uint64_t size, bool resume) override {
    if (resume) return ForwardingStore::create(path, size, true);
    if (still_mine_) INGOT_TRY(still_mine_());
    return beneath().create_new(path, size);  // its own would ask create()
  }

 private:
  const std::function<Status()> still_mine_;
};

}  // namespace

uint64_t Snapshot::bytes() const {
  uint64_t sum = state.size();
  for (const Group& g : groups)
    for (const Tensor& t : g.tensors) sum += bytes_of(t.spec);
  for (const auto& [name, text] : files) sum += text.size();
  return sum;
}

bool is_adapter(const std::string& group) { return group == "adapter_model" || group.starts_with("adapter_model."); }

std::string directory_name(int64_t step) { return fmt::format("checkpoint-{}", step); }

Result<Saved> save(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options) {
  std::unique_ptr<FramedStore> framed;
  INGOT_ASSIGN(Plan plan, Planner(directory, snapshot, options, [&framed](const std::string& name) { return framed->stored(name); }).plan());
  std::optional<OwnFiles> own;
  if (!store.capabilities().rename) own.emplace(store, options.may_commit);
  Store& files = own ? static_cast<Store&>(*own) : store;
  framed = make_framed_store(files, plan.compressed);
  const std::unique_ptr<Store> journal = make_memory_store();
  const std::string path = join_path(directory, directory_name(snapshot.step));
  if (own) {
    // What is there would be mixed with what comes. One of this process's time or later is not this one's to remove.
    if (options.may_commit) INGOT_TRY(options.may_commit());
    const auto there = checkpoint::look_at(store, path);
    if (there.ok() && there->state == State::kWhole && there->manifest.epoch >= options.epoch) return failed("saving step {}: {} is there already, of epoch {}", snapshot.step, path, there->manifest.epoch);
    INGOT_TRY(remove_directory(store, path, kManifestFile, kWriterFile));
    INGOT_TRY(put_writer(files, path, options.epoch, options.time));
  }
  Output o;
  o.store = framed.get();
  o.path = path;
  o.directory = true;
  o.older_name = [](const std::string&) { return true; };
  o.artifact.path = o.path;
  o.artifact.tensors = std::move(plan.tensors);
  o.layout = [&plan](const std::vector<NamedSpec>&) { return Result<Layout>(plan.layout); };
  ExecOptions e;
  e.threads = std::max(thread_count(options.threads), store.capabilities().requests);  // they wait for the medium, mostly
  e.memory = options.memory;
  e.force = true;
  e.resume = false;
  e.verify = Verify::kNone;
  e.cancel = options.cancel;
  e.journal_store = journal.get();
  e.journal_path = "journal";
  if (!options.attempt.empty()) e.key = options.attempt;
  Written written;
  const Status done = [&]() -> Status {
    INGOT_ASSIGN(written, write({o}, e));
    if (options.may_commit) INGOT_TRY(options.may_commit());
    return publish({o}, {written}, e);
  }();
  if (!done.ok()) {
    // Only what this save began: another process may be writing beside.
    if (!own && !options.attempt.empty()) (void)remove_durably(store, temporary_path(path, to_hex(hash128(as_bytes("job " + e.key))), ".part"));
    if (own && writer_of(store, path) == options.epoch) (void)remove_directory(store, path, kManifestFile, kWriterFile);
    return done;
  }
  Saved saved;
  saved.manifest = std::move(plan.manifest);
  for (size_t i = 0; i < saved.manifest.objects.size(); ++i) {
    Object& object = saved.manifest.objects[i];
    std::vector<std::optional<Hash128>> leaves;
    for (const auto& [leaf, hash] : written.files[i].leaves) leaves.emplace_back(hash);
    object.hash = root_of({{"", leaves}});
    if (object.frames && framed->stored(object.name)) object.frames = framed->stored(object.name);
    if (!object.same_as) saved.written += object.file_bytes();
  }
  return saved;
}

}  // namespace ingot::checkpoint
