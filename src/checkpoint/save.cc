#include "checkpoint/save.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <numeric>
#include <set>

#include "base/threads.h"
#include "checkpoint/directory.h"
#include "commit/names.h"
#include "commit/small_file.h"
#include "commit/verify.h"
#include "formats/json.h"
#include "formats/parts.h"
#include "formats/safetensors.h"
#include "kernels/hash.h"
#include "storage/forwarding.h"

namespace ingot::checkpoint {

int writing_threads(const SaveOptions& options, bool compresses) {
  constexpr int kWriters = 4;
  if (options.threads || compresses) return thread_count(options.threads);
  return std::clamp(kWriters / std::max(options.neighbours, 1), 1, thread_count(0));
}
namespace {

constexpr uint64_t kPage = 4096;  // where a file's tensors begin: what lies on a page in memory is written from there (storage/direct.h)

// What the job writes: tensors in files, the places of both, and which files are objects of the manifest (all but the last, itself).
struct Plan {
  TensorList tensors;
  Layout layout;
  Manifest manifest;
  std::set<std::string> compressed;  // names of files
};

Manifest manifest_of(const Snapshot& s, const SaveOptions& o) {
  Manifest m;
  m.step = s.step, m.epoch = o.epoch, m.time = o.time, m.run = o.run, m.parent = o.parent, m.metrics = s.metrics;
  return m;
}

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

// Which parts of which tensors a file has; empty where all are whole.
std::string parts_text(const Group& group, const std::vector<size_t>& tensors) {
  std::string text;  // OrderedJson looks through all that it has for each name that comes
  for (const size_t i : tensors)
    if (const auto& p = group.tensors[i].part)
      text += fmt::format("{}{}:{{\"of\":{},\"shape\":[{}],\"offset\":[{}]}}", text.empty() ? "{" : ",", json_quote(group.tensors[i].name), json_quote(p->name), fmt::join(p->shape, ","), fmt::join(p->offset, ","));
  return text.empty() ? text : text + "}";
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

  // The whole, the manifest last.
  Result<Plan> plan() {
    INGOT_TRY(add_files());
    FileLayout record;
    record.name = kManifestFile;
    record.extents.push_back({0, manifest_text(p_.manifest), [m = p_.manifest, may_commit = o_.may_commit, stored = stored_](const Digests& digests) mutable -> Result<std::string> {
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

  // What one rank writes; rank 0 the texts, too.
  Result<Plan> plan_part(int rank) {
    texts_ = rank == 0;
    INGOT_TRY(add_files());
    return std::move(p_);
  }

 private:
  Status add_files() {
    // First: where files have their own names at once, it tells a save of ours that did not end from what other software made.
    if (texts_) add_text(kStateFile, s_.state);
    for (const Group& g : s_.groups) INGOT_TRY(add(g));
    for (const auto& [name, text] : s_.files) {
      if (find(name)) return usage("saving step {}: the file '{}' is one that the checkpoint makes itself; leave it out of the model's files", s_.step, name);
      add_text(name, text);
    }
    std::vector<Object> objects = std::move(p_.manifest.objects);
    p_.manifest = manifest_of(s_, o_);
    p_.manifest.objects = std::move(objects);
    return {};
  }

  bool find(const std::string& name) const { return name == kManifestFile || name == kMetricsFile || name == kQuarantineFile || name == kPinnedFile || name == kWriterFile || p_.manifest.find(name); }

  Status add(const Group& g) {
    const auto files = files_of(g, o_.max_shard);
    const std::string& stem = g.stem.empty() ? g.name : g.stem;
    std::string map;
    uint64_t total = 0;
    for (size_t k = 0; k < files.size(); ++k) {
      const std::string name = files.size() == 1 ? stem + ".safetensors" : fmt::format("{}-{:05}-of-{:05}.safetensors", stem, k + 1, files.size());
      if (find(name)) return usage("saving step {}: two keys of the state make the file '{}'", s_.step, name);
      std::vector<NamedSpec> specs;
      for (size_t i : files[k]) specs.emplace_back(g.tensors[i].name, g.tensors[i].spec);
      std::map<std::string, std::string> metadata = {{"format", "pt"}, {"ingot", "checkpoint"}};
      if (const std::string parts = parts_text(g, files[k]); !parts.empty()) metadata[kPartsKey] = parts;
      INGOT_ASSIGN(Layout one, layout_safetensors(specs, metadata, kPage));
      FileLayout& file = one.files[0];
      file.name = name;
      std::vector<std::pair<uint64_t, ByteView>> bytes;
      for (size_t t = 0; t < files[k].size(); ++t) {
        const Tensor& tensor = g.tensors[files[k][t]];
        const ByteView view(tensor.bytes, bytes_of(tensor.spec));
        bytes.emplace_back(one.tensors[t].offset, view);
        p_.layout.tensors.push_back({static_cast<int>(p_.layout.files.size()), one.tensors[t].offset});
        p_.tensors.push_back({tensor.name, make_resident_tensor(tensor.spec, tensor.bytes, s_.memory, fmt::format("step {} {}", s_.step, p_.tensors.size()))});
        if (files.size() > 1) map += fmt::format("{}{}:{}", map.empty() ? "" : ",", json_quote(tensor.name), json_quote(name));
        total += view.size();
      }
      Object object;
      object.name = name, object.bytes = file.size;
      if (o_.compress && o_.compress(g.name)) object.frames = 0, p_.compressed.insert(name);
      if (o_.previous && g.tensors[files[k][0]].still) link(&file, &object, hash_of(file, bytes));
      p_.manifest.objects.push_back(std::move(object));
      p_.layout.files.push_back(std::move(file));
    }
    if (files.size() > 1 && g.stem.empty()) {  // of stems of their own whoever gives them makes the index
      add_text(g.name + ".safetensors.index.json", fmt::format("{{\"metadata\":{{\"total_size\":{}}},\"weight_map\":{{{}}}}}\n", total, map));
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
  bool texts_ = true;
  Plan p_;
};

// A save that gives its files their own names at once has cleared them away before, and one of several ranks has a hidden name that is new: what is there now, another process or rank made. And one that was
// replaced meanwhile makes none.
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

namespace {

// Where files are written to, and how, whoever writes how much of a checkpoint.
class Writing {
 public:
  Writing(Store& store, const std::string& directory, int64_t step, const SaveOptions& options, int world = 1)
      : store_(store), options_(options), path_(join_path(directory, directory_name(step))), named_at_once_(!store.capabilities().rename) {
    if (named_at_once_ || world > 1) own_.emplace(store, options.may_commit);
  }

  // Hashes are known afterwards, and the bytes of what is compressed.
  Result<std::vector<Object>> write(Plan plan, int rank, int world) {
    compresses_ = !plan.compressed.empty();
    framed_ = make_framed_store(own_ ? static_cast<Store&>(*own_) : store_, plan.compressed);
    output_ = destination();
    output_.artifact.path = path_;
    output_.artifact.tensors = std::move(plan.tensors);
    output_.layout = [layout = std::move(plan.layout)](const std::vector<NamedSpec>&) { return Result<Layout>(layout); };
    INGOT_ASSIGN(written_, ingot::write({output_}, exec(rank, world)));
    std::vector<Object> objects = std::move(plan.manifest.objects);
    for (size_t i = 0; i < objects.size(); ++i) {
      std::vector<std::optional<Hash128>> leaves;
      for (const auto& [leaf, hash] : written_.files[i].leaves) leaves.emplace_back(hash);
      objects[i].hash = root_of({{"", leaves}});
      if (objects[i].frames && stored(objects[i].name)) objects[i].frames = stored(objects[i].name);
    }
    return objects;
  }
  // What ranks of this world have written, with a hash for each file.
  Status publish(const std::vector<Written>& of_all) {
    if (options_.may_commit) INGOT_TRY(options_.may_commit());
    if (!output_.store) output_ = destination();
    ExecOptions e = exec(0, 1);
    e.leaf_bytes = of_all.at(0).leaf_bytes;
    return ingot::publish({output_}, of_all, e);
  }
  // What is there would be mixed with what comes. One of this process's time or later is not this one's to remove.
  Status clear_before(int64_t step) {
    if (!named_at_once_) return {};
    if (options_.may_commit) INGOT_TRY(options_.may_commit());
    const auto there = checkpoint::look_at(store_, path_);
    if (there.ok() && there->state == State::kWhole && there->manifest.epoch >= options_.epoch) return failed("saving step {}: {} is there already, of epoch {}", step, path_, there->manifest.epoch);
    INGOT_TRY(remove_directory(store_, path_, kManifestFile, kWriterFile));
    return put_writer(*own_, path_, options_.epoch, options_.time);
  }
  // Only what this save began: another process may be writing beside.
  void remove() {
    if (!named_at_once_ && !options_.attempt.empty()) (void)remove_durably(store_, temporary_path(path_, to_hex(hash128(as_bytes("job " + options_.attempt))), ".part"));
    if (named_at_once_ && writer_of(store_, path_) == options_.epoch) (void)remove_directory(store_, path_, kManifestFile, kWriterFile);
  }
  uint64_t stored(const std::string& name) const { return framed_->stored(name); }
  const Written& written() const { return written_; }

 private:
  Output destination() {
    Output o;
    o.store = framed_ ? framed_.get() : own_ ? static_cast<Store*>(&*own_) : &store_;
    o.path = path_;
    o.directory = true;
    o.older_name = [](const std::string&) { return true; };
    return o;
  }
  ExecOptions exec(int rank, int world) {
    ExecOptions e;
    e.threads = std::max(writing_threads(options_, compresses_), store_.capabilities().requests);  // they wait for the medium, mostly
    e.memory = options_.memory;
    e.force = true;
    e.resume = false;
    e.verify = Verify::kNone;
    e.cancel = options_.cancel;
    e.journal_store = journal_.get();
    e.journal_path = "journal";
    if (!options_.attempt.empty()) e.key = options_.attempt;
    e.rank = rank, e.world = world;
    return e;
  }

  Store& store_;
  const SaveOptions& options_;
  const std::string path_;
  const bool named_at_once_;
  std::optional<OwnFiles> own_;
  std::unique_ptr<FramedStore> framed_;
  bool compresses_ = false;
  const std::unique_ptr<Store> journal_ = make_memory_store();
  Output output_;
  Written written_;
};

// Of a file that one rank has written all of, its own hash says as much as those of its leaves, of which a thousand ranks have gigabytes.
constexpr uint64_t kWholeFile = uint64_t{1} << 62;
Written as_whole_files(const std::string& key, const std::vector<Object>& objects) {
  Written w;
  w.key = key, w.leaf_bytes = kWholeFile;
  for (const Object& o : objects) {
    Written::File& f = w.files.emplace_back();
    f.name = o.name, f.size = o.bytes;
    if (o.bytes) f.leaves[0] = hash128(as_bytes(o.hash));
  }
  return w;
}

struct Heard {
  std::string key;
  Manifest manifest;
};
Result<Heard> parse_part(std::string_view text) {
  const size_t end = text.find(' ');
  if (end == std::string_view::npos) return failed("what a rank tells of its part of a checkpoint is not whole");
  Heard p;
  p.key = text.substr(0, end);
  INGOT_ASSIGN(p.manifest, parse_manifest(text.substr(end + 1), "a rank's part"));
  return p;
}

}  // namespace

std::string part_text(const Manifest& m, const std::string& key) { return fmt::format("{} {}", key, manifest_text(m)); }

Result<Saved> save(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options) {
  Writing w(store, directory, snapshot.step, options);
  INGOT_ASSIGN(Plan plan, Planner(directory, snapshot, options, [&w](const std::string& name) { return w.stored(name); }).plan());
  INGOT_TRY(w.clear_before(snapshot.step));
  Saved saved;
  saved.manifest = plan.manifest;
  const Status done = [&]() -> Status {
    INGOT_ASSIGN(saved.manifest.objects, w.write(std::move(plan), 0, 1));
    return w.publish({w.written()});
  }();
  if (!done.ok()) {
    w.remove();
    return done;
  }
  saved.written = saved.manifest.written();
  return saved;
}

Status clear_before_parts(Store& store, const std::string& directory, int64_t step, const SaveOptions& options) { return Writing(store, directory, step, options).clear_before(step); }

void remove_parts_of(Store& store, const std::string& directory, int64_t step, const SaveOptions& options) { Writing(store, directory, step, options).remove(); }

Result<Part> save_part(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options, int rank, int world) {
  Writing w(store, directory, snapshot.step, options, world);
  INGOT_ASSIGN(Plan plan, Planner(directory, snapshot, options, [&w](const std::string& name) { return w.stored(name); }).plan_part(rank));
  Manifest m = plan.manifest;
  if (plan.layout.files.empty()) return Part{m, part_text(m, "")};
  // One rank more than there are: the manifest's.
  INGOT_ASSIGN(m.objects, w.write(std::move(plan), rank, world + 1));
  return Part{m, part_text(m, w.written().key)};
}

Result<Saved> publish_parts(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options, const std::vector<std::string>& parts, std::optional<int> told_world) {
  Plan plan;
  plan.manifest = manifest_of(snapshot, options);
  plan.manifest.world = told_world.value_or(static_cast<int>(parts.size()));
  std::vector<Written> all;
  std::map<std::string, size_t> made;
  Saved saved;
  for (size_t r = 0; r < parts.size(); ++r) {
    INGOT_ASSIGN(Heard p, parse_part(parts[r]));
    if (p.manifest.step != snapshot.step || p.manifest.epoch != options.epoch)
      return usage("saving step {} of epoch {}: rank {} has written step {} of epoch {}", snapshot.step, options.epoch, r, p.manifest.step, p.manifest.epoch);
    for (const Object& o : p.manifest.objects)
      if (const auto [it, fresh] = made.try_emplace(o.name, r); !fresh) return usage("saving step {}: rank {} and rank {} have both made '{}'", snapshot.step, it->second, r, o.name);
    if (r == 0) saved.written = p.manifest.written();
    if (!p.key.empty()) all.push_back(as_whole_files(p.key, p.manifest.objects));
    std::move(p.manifest.objects.begin(), p.manifest.objects.end(), std::back_inserter(plan.manifest.objects));
  }
  saved.manifest = plan.manifest;
  FileLayout record;
  record.name = kManifestFile;
  record.extents.push_back({0, manifest_text(plan.manifest)});
  record.size = record.extents[0].bytes.size();
  plan.layout.files.push_back(std::move(record));
  for (const Object& o : plan.manifest.objects)
    if (o.frames) plan.compressed.insert(o.name);
  plan.manifest.objects.clear();
  if (options.may_commit) INGOT_TRY(options.may_commit());  // where nothing is renamed, this is the commit
  Writing w(store, directory, snapshot.step, options);
  const int world = static_cast<int>(parts.size());
  Object manifest;
  manifest.name = kManifestFile, manifest.bytes = plan.layout.files[0].size;
  INGOT_ASSIGN([[maybe_unused]] const auto none, w.write(std::move(plan), world, world + 1));
  all.push_back(as_whole_files(w.written().key, {manifest}));
  INGOT_TRY(w.publish(all));
  return saved;
}

}  // namespace ingot::checkpoint
