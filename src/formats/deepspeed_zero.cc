// ZeRO 1, 2 and 3: each rank's optimizer file holds its part of flat groups of float32, in which the parameters follow each other. Stages 1 and 2 cut a group evenly
// over the ranks; stage 3 cuts each parameter, the part of the last ranks padded. A parameter is read from the ranges of the ranks' files that it lies in.
#include <algorithm>
#include <set>

#include "formats/deepspeed.h"
#include "formats/file_pieces.h"
#include "formats/hf_weights.h"
#include "formats/pickle_values.h"
#include "formats/rounded_tensor.h"

namespace ingot {
namespace {

using Flat = std::shared_ptr<const Source>;
constexpr size_t kMostGroups = 10'000;

const PickleValue* entry(const PickleValue* dict, std::string_view key) { return dict && dict->is_dict() && dict->size() <= 4096 ? dict->get(key) : nullptr; }
const PickleValue* entry(const PickleValue* dict, int64_t key) {
  if (!dict || !dict->is_dict()) return nullptr;
  const auto items = dict->items();
  for (size_t i = 0; i + 1 < items.size(); i += 2)
    if (items[i]->as_int() == key) return items[i + 1];
  return nullptr;
}

// One rank's optimizer file.
struct Rank {
  std::string path, digest;
  TorchArchive archive;
  const PickleValue* state = nullptr;  // optimizer_state_dict
  const PickleValue* base = nullptr;   // of torch's optimizer: state, param_groups
  int64_t stage = 0, partitions = 0;
  std::vector<Flat> masters;                           // of each group
  std::vector<std::map<std::string, Flat>> moments;    // by their names, of each group
  std::vector<std::string> steps;                      // of each group, as JSON
};

class ZeroReader {
 public:
  ZeroReader(Store& store, const Probe& tag) : store_(store), p_(tag) { a_.path = tag.path; }

  Result<Artifact> read() {
    INGOT_ASSIGN(const auto files, deepspeed_files(p_));
    INGOT_TRY(open_all(files));
    const Model& first = models_[0];
    const PickleValue& root = first.archive.pickle.root();
    INGOT_ASSIGN(frozen_, deepspeed_params(root.get("frozen_param_shapes"), first.path));
    INGOT_ASSIGN(params_, deepspeed_params(root.get("param_shapes"), first.path));
    for (const DeepspeedParam& p : params_) {
      if (p.group >= by_group_.size()) by_group_.resize(p.group + 1);
      by_group_[p.group].push_back(&p);
    }
    INGOT_TRY(deepspeed_values(first.archive.pickle, root, "", first.path, {"module", "param_shapes", "frozen_param_shapes",
                               "frozen_param_fragments", "shared_params", "optimizer"}, &a_));
    if (!ranks_.empty()) {
      INGOT_TRY(check_ranks());
      INGOT_TRY(join());
      const Rank& r = ranks_[0];
      INGOT_TRY(deepspeed_values(r.archive.pickle, *r.state, "optimizer", r.path,
                                 {"optimizer/base_optimizer_state", "optimizer/optimizer_state_dict", "optimizer/param_slice_mappings",
                                     "optimizer/ds_zero_partition_groups"}, &a_));
      if (const PickleValue* groups = entry(r.base, "param_groups"))
        INGOT_TRY(deepspeed_values(r.archive.pickle, *groups, "optimizer/param_groups", r.path, {}, &a_));
    }
    INGOT_TRY(add_model());
    add_shared();
    std::vector<LazyTensor> all = std::move(model_);
    all.insert(all.end(), std::make_move_iterator(tensors_.begin()), std::make_move_iterator(tensors_.end()));
    a_.tensors = std::move(all);
    for (auto& m : models_)
      for (auto& notice : m.archive.tensors.notices()) a_.notices.push_back(std::move(notice));
    return std::move(a_);
  }

 private:
  struct Model {
    std::string path;
    TorchArchive archive;
  };

  Error bad(const std::string& what) const { return bad_input("opening {}: {}", p_.path, what); }
  const std::vector<const DeepspeedParam*>& of_group(size_t g) const {
    static const std::vector<const DeepspeedParam*> none;
    return g < by_group_.size() ? by_group_[g] : none;
  }

  Status open_all(const std::vector<DeepspeedFile>& files) {
    std::vector<Result<TorchArchive>> opened;
    for (size_t i = 0; i < files.size(); ++i) opened.emplace_back(failed("not opened"));
    Calls calls;
    for (size_t i = 0; i < files.size(); ++i)
      calls.push_back([&, i] {
        opened[i] = [&]() -> Result<TorchArchive> {
          INGOT_ASSIGN(const OpenedFile file, open_head(store_, join_path(p_.path, files[i].name)));
          return open_torch_archive(file);
        }();
      });
    INGOT_TRY(call_together(store_, "opening " + p_.path, calls));
    int64_t next = 0;
    for (size_t i = 0; i < files.size(); ++i) {
      if (!opened[i].ok()) return opened[i].take_error();
      const std::string path = join_path(p_.path, files[i].name);
      if (!files[i].optimizer) {
        models_.push_back({path, *std::move(opened[i])});
        if (!models_.back().archive.pickle.root().is_dict()) return bad_input("reading {}: it holds no dict, so none of DeepSpeed's states", path);
        continue;
      }
      if (files[i].dp > next)
        return bad(fmt::format("of the optimizer's files of {} ranks that of rank {} is missing ({}); copy it, too", files.back().dp + 1, next,
                               name_of(files[i].name, next)));
      next = files[i].dp + 1;
      INGOT_TRY(read_rank(path, *std::move(opened[i])));
    }
    if (models_.size() > 1 && !ranks_.empty() && models_.size() != ranks_.size())
      return bad(fmt::format("there are model states of {} ranks, but optimizer states of {}; copy the files of all ranks", models_.size(), ranks_.size()));
    return {};
  }

  // The name of the same file of another rank.
  static std::string name_of(std::string name, int64_t rank) {
    const size_t from = name.find("zero_pp_rank_") + 13;
    return name.replace(from, name.find('_', from) - from, std::to_string(rank));
  }

  Status read_rank(const std::string& path, TorchArchive archive) {
    Rank r{path, archive.digest, std::move(archive), nullptr, nullptr, 0, 0, {}, {}, {}};
    r.state = entry(&r.archive.pickle.root(), "optimizer_state_dict");
    const PickleValue* stage = entry(r.state, "zero_stage");
    if (stage && stage->is_object()) stage = stage->object()->args->at(0);
    r.stage = stage ? stage->as_int().value_or(-1) : r.state ? 1 : -1;
    const PickleValue* masters = entry(r.state, r.stage == 3 ? "fp32_flat_groups" : "single_partition_of_fp32_groups");
    if (r.stage < 1 || r.stage > 3 || !masters || !masters->is_sequence())
      return bad_input("reading {}: it holds no optimizer_state_dict of ZeRO stage 1, 2 or 3 (stage {}); is it DeepSpeed's?", path, r.stage);
    if (masters->size() > kMostGroups)
      return bad_input("reading {}: it has {} groups of parameters, more than the {} that are accepted", path, masters->size(), kMostGroups);
    r.base = entry(r.state, r.stage == 3 ? "optimizer_state_dict" : "base_optimizer_state");
    const PickleValue* count = entry(r.state, "partition_count");
    if (count && count->is_sequence())
      for (const PickleValue* c : count->items()) r.partitions = std::max(r.partitions, c->as_int().value_or(0));
    else if (count) r.partitions = count->as_int().value_or(0);
    for (size_t g = 0; g < masters->size(); ++g) {
      INGOT_ASSIGN(Flat flat, flat_of(&r, fmt::format("fp32 group {}", g), *masters->at(g)));
      r.masters.push_back(std::move(flat));
      auto& moments = r.moments.emplace_back();
      std::string& step = r.steps.emplace_back();
      const PickleValue* own = entry(entry(r.base, "state"), static_cast<int64_t>(g));
      const auto items = own && own->is_dict() && own->size() <= 64 ? own->items() : std::span<const PickleValue* const>();
      for (size_t i = 0; i + 1 < items.size(); i += 2) {
        const std::string key = pickle_key(*items[i]);
        if (key.empty() || key.find('\0') != std::string::npos || key.find('/') != std::string::npos || key == "model" || key == "master") continue;
        if (!TorchTensors::is_tensor(*items[i + 1])) {
          if (key == "step") {
            INGOT_ASSIGN(step, pickle_json(r.archive.pickle, *items[i + 1], "reading " + path));
          }
          continue;
        }
        INGOT_ASSIGN(NodePtr node, r.archive.tensors.tensor(fmt::format("{} of group {}", key, g), *items[i + 1]));
        if (!node) continue;
        const auto* source = dynamic_cast<const Source*>(node.get());
        if (key == "step" && source && node->spec().shape.elements() == 1) {
          std::byte bytes[8] = {};
          if (auto s = source->read(Region::all(node->spec().shape), {bytes, bytes_of(node->spec())}); !s.ok()) return s.take_error();
          step = fmt::format("{:02x}", fmt::join(reinterpret_cast<const uint8_t*>(bytes), reinterpret_cast<const uint8_t*>(bytes) + 8, ""));
          if (ranks_.empty()) steps_.emplace(g, node);
        } else {
          INGOT_ASSIGN(moments[key], flat_of(&r, fmt::format("{} of group {}", key, g), *items[i + 1]));
        }
      }
    }
    ranks_.push_back(std::move(r));
    return {};
  }

  Result<Flat> flat_of(Rank* r, const std::string& what, const PickleValue& v) {
    if (!TorchTensors::is_tensor(v)) return bad_input("reading {}: {} is no tensor; the file is damaged", r->path, what);
    INGOT_ASSIGN(NodePtr node, r->archive.tensors.tensor(what, v));
    auto flat = std::dynamic_pointer_cast<const Source>(node);
    if (!flat || flat->spec().shape.rank != 1) return bad_input("reading {}: {} is no flat tensor; the file is damaged", r->path, what);
    return flat;
  }

  // That the files are of one run, one step, and one of each rank.
  Status check_ranks() {
    const Rank& first = ranks_[0];
    const auto world = static_cast<int64_t>(ranks_.size());
    std::map<std::string, const Rank*> seen;
    for (const Rank& r : ranks_) {
      const auto differs = [&](const std::string& what, const std::string& own, const std::string& others) {
        return bad(fmt::format("{} has {} {}, but {} has {}: the files are of different runs or steps; copy those of one", file_name(r.path), what,
                               own, file_name(first.path), others));
      };
      if (r.stage != first.stage) return differs("the ZeRO stage", std::to_string(r.stage), std::to_string(first.stage));
      if (r.partitions && r.partitions != world)
        return bad(fmt::format("{} is of {} ranks (partition_count), but there are files of {}; copy the files of all ranks", file_name(r.path),
                               r.partitions, world));
      if (r.masters.size() != first.masters.size()) return differs("groups", std::to_string(r.masters.size()), std::to_string(first.masters.size()));
      for (size_t g = 0; g < r.masters.size(); ++g) {
        if (r.masters[g]->spec().type != first.masters[g]->spec().type)
          return differs(fmt::format("group {} as", g), std::string(info(r.masters[g]->spec().type).name),
                                     std::string(info(first.masters[g]->spec().type).name));
        if (r.steps[g] != first.steps[g])
          return bad(fmt::format("{} and {} are of different steps (group {}); copy the files of one step", file_name(first.path), file_name(r.path), g));
        if (r.moments[g].size() != first.moments[g].size())
          return differs(fmt::format("of group {} states:", g), std::to_string(r.moments[g].size()), std::to_string(first.moments[g].size()));
        for (const auto& [key, flat] : first.moments[g])
          if (const auto own = r.moments[g].find(key); own == r.moments[g].end() || own->second->spec().type != flat->spec().type)
            return differs("of the state " + key, "none, or another type", "one");
      }
      if (r.digest.empty() || world == 1) continue;
      if (const auto [it, fresh] = seen.emplace(r.digest, &r); !fresh)
        return bad(fmt::format("{} holds the same as {}: it is a copy of another rank's file; copy that of its own rank", file_name(r.path),
                               file_name(it->second->path)));
    }
    const PickleValue* steps = models_[0].archive.pickle.root().get("global_steps");
    for (const Model& m : models_) {
      const PickleValue* own = m.archive.pickle.root().get("global_steps");
      if ((steps ? steps->as_int() : std::nullopt) != (own ? own->as_int() : std::nullopt))
        return bad(fmt::format("{} is of another step than {}; copy the files of one step", file_name(m.path), file_name(models_[0].path)));
    }
    return first.stage == 3 ? Status() : check_slices();
  }

  // Stages 1 and 2 note which parts of which parameters a rank has.
  Status check_slices() {
    std::vector<uint64_t> size(ranks_[0].masters.size(), 0);  // of a part, of each group
    for (const Rank& r : ranks_)
      for (size_t g = 0; g < size.size(); ++g) size[g] = std::max(size[g], static_cast<uint64_t>(r.masters[g]->spec().shape[0]));
    for (size_t k = 0; k < ranks_.size(); ++k) {
      const PickleValue* all = entry(ranks_[k].state, "param_slice_mappings");
      if (!all || all->size() != size.size()) continue;
      for (size_t g = 0; g < size.size(); ++g) {
        std::map<std::string, std::pair<int64_t, int64_t>> own;  // start and count
        const auto items = all->at(g) && all->at(g)->is_dict() ? all->at(g)->items() : std::span<const PickleValue* const>();
        for (size_t i = 0; i + 1 < items.size(); i += 2) {
          const PickleValue *start = items[i + 1]->get("start"), *count = items[i + 1]->get("numel");
          if (start && count) own[pickle_key(*items[i])] = {start->as_int().value_or(-1), count->as_int().value_or(-1)};
        }
        uint64_t at = 0;
        const uint64_t begin = k * size[g], end = begin + size[g];
        for (const DeepspeedParam* d : of_group(g)) {
          const DeepspeedParam& p = *d;
          const uint64_t n = static_cast<uint64_t>(p.shape.elements()), from = std::max(at, begin), to = std::min(at + n, end);
          const auto it = own.find(p.name);
          if (from < to && it != own.end() && (it->second.first != static_cast<int64_t>(from - begin) || it->second.second != static_cast<int64_t>(to - from)))
            return bad(fmt::format("{} has {} elements of '{}' from {}, expected of rank {} {} from {}; it is of another rank or run",
                                   file_name(ranks_[k].path), it->second.second, p.name,
                                   it->second.first, k, to - from, from - begin));
          if (from < to && !own.empty() && it == own.end())
            return bad(fmt::format("{} has nothing of '{}', of which {} elements are rank {}'s; it is of another rank or run",
                                   file_name(ranks_[k].path), p.name, to - from, k));
          at += n + padding(g, p.name);
        }
      }
    }
    return {};
  }

  // What follows a parameter in its group.
  uint64_t padding(size_t group, const std::string& name) {
    if (paddings_.empty()) {
      paddings_.resize(ranks_[0].masters.size());
      const PickleValue* all = entry(ranks_[0].state, "param_alignment_paddings");
      std::vector<size_t> next(paddings_.size(), 0);
      for (const DeepspeedParam& p : params_) {
        const PickleValue* own = all && p.group < paddings_.size() ? all->at(p.group) : nullptr;
        const PickleValue* n = own ? own->at(next[p.group]++) : nullptr;
        if (n && n->as_int().value_or(0) > 0) paddings_[p.group][p.name] = static_cast<uint64_t>(std::min<int64_t>(*n->as_int(), 1 << 30));
      }
    }
    const auto it = paddings_[group].find(name);
    return it == paddings_[group].end() ? 0 : it->second;
  }

  Status join() {
    if (ranks_[0].stage == 3) return join_parameters();
    for (size_t g = 0; g < ranks_[0].masters.size(); ++g) {
      INGOT_TRY(join_group(g, "master", [&](const Rank& r) { return r.masters[g]; }));
      for (const auto& [key, flat] : ranks_[0].moments[g]) INGOT_TRY(join_group(g, key, [&, &key = key](const Rank& r) { return r.moments[g].at(key); }));
      add_steps(g);
    }
    return {};
  }

  void add_steps(size_t g) {
    if (const auto step = steps_.find(g); step != steps_.end())
      for (const DeepspeedParam* p : of_group(g)) tensors_.push_back({"step/" + p->name, step->second});
  }

  std::shared_ptr<SourceFile> source_of(std::vector<FilePiece> pieces) const {
    auto source = std::make_shared<SourceFile>();
    source->file = make_pieces_file(p_.path, std::move(pieces)), source->path = p_.path;
    return source;
  }

  template <class F>
  Status join_group(size_t g, const std::string& kind, F part) {
    const DType type = part(ranks_[0])->spec().type;
    std::vector<FilePiece> pieces;
    uint64_t have = 0, size = 0;
    for (const Rank& r : ranks_) {
      const Flat flat = part(r);
      const uint64_t n = static_cast<uint64_t>(flat->spec().shape[0]);
      // Only the last part may be without its padding.
      if (pieces.empty()) size = n;
      else if (n > size || (n < size && &r != &ranks_.back()))
        return bad(fmt::format("{} has {} elements of {} of group {}, rank 0 {}; the files are of different runs", file_name(r.path), n, kind, g, size));
      pieces.push_back({make_flat_file(flat), 0, bytes_of(flat->spec())});
      have += n;
    }
    uint64_t need = 0;
    for (const DeepspeedParam* p : of_group(g)) need += static_cast<uint64_t>(p->shape.elements()) + padding(g, p->name);
    const uint64_t unit = 2 * ranks_.size();  // to which DeepSpeed fills a group up
    if (align_up(need, unit) != align_up(have, unit))
      return bad(fmt::format("group {} has {} elements of {} in {} ranks, but its parameters' shapes need {}; the files are of different runs, or "
                             "ranks are missing", g, have, kind,
                             ranks_.size(), need));
    // What follows the last one may be missing.
    if (const auto& all = of_group(g); need > have + (all.empty() ? 0 : padding(g, all.back()->name)))
      return bad(fmt::format("group {} has {} elements of {}, {} are needed", g, have, kind, need));
    const auto source = source_of(std::move(pieces));
    uint64_t at = 0;
    for (const DeepspeedParam* p : of_group(g)) {
      const std::string name = kind + "/" + p->name;
      tensors_.push_back({name, make_file_tensor(source, name, bytes_of(type, static_cast<int64_t>(at)), {type, p->shape})});
      at += static_cast<uint64_t>(p->shape.elements()) + padding(g, p->name);
    }
    return {};
  }

  // Of the same state of each rank all groups, one after another.
  template <class F>
  Status join_parts(const std::vector<DeepspeedParam>& params, const std::string& kind, F parts) {
    std::vector<std::shared_ptr<const ReadFile>> ranks;
    DType type = DType::kF32;
    uint64_t have = 0;  // of a rank
    for (size_t k = 0; k < ranks_.size(); ++k) {
      std::vector<FilePiece> pieces;
      uint64_t n = 0;
      for (const Flat& flat : parts(ranks_[k])) {
        if (n && flat->spec().type != type) return bad(fmt::format("{} holds {} in different types", file_name(ranks_[k].path), kind));
        type = flat->spec().type;
        n += static_cast<uint64_t>(flat->spec().shape[0]);
        pieces.push_back({make_flat_file(flat), 0, bytes_of(flat->spec())});
      }
      if (k && n != have)
        return bad(fmt::format("{} has {} elements of {}, rank 0 {}; the files are of different runs", file_name(ranks_[k].path), n, kind, have));
      have = n;
      ranks.push_back(make_pieces_file(ranks_[k].path, std::move(pieces)));
    }
    const uint64_t world = ranks_.size(), item = static_cast<uint64_t>(info(type).bytes);
    uint64_t need = 0, at = 0, done = 0;
    for (const DeepspeedParam& p : params) need += (static_cast<uint64_t>(p.shape.elements()) + world - 1) / world;
    if (need != have)
      return bad(fmt::format("each of {} ranks has {} elements of {}, but the parameters' shapes need {}; the files are of different runs, or ranks "
                             "are missing", world, have, kind, need));
    std::vector<FilePiece> pieces;
    for (const DeepspeedParam& p : params) {
      const uint64_t n = static_cast<uint64_t>(p.shape.elements()), part = (n + world - 1) / world;
      for (uint64_t k = 0, left = n; left > 0; ++k) {
        const uint64_t own = std::min(part, left);
        pieces.push_back({ranks[k], at * item, own * item});
        left -= own;
      }
      at += part;
    }
    const auto source = source_of(std::move(pieces));
    for (const DeepspeedParam& p : params) {
      const std::string name = kind + "/" + p.name;
      tensors_.push_back({name, make_file_tensor(source, name, done * item, {type, p.shape})});
      done += static_cast<uint64_t>(p.shape.elements());
    }
    return {};
  }

  Status join_parameters() {
    INGOT_TRY(join_parts(params_, "master", [](const Rank& r) { return r.masters; }));
    const Rank& first = ranks_[0];
    for (const auto& [key, flat] : first.moments.empty() ? std::map<std::string, Flat>() : first.moments[0]) {
      if (std::any_of(ranks_.begin(), ranks_.end(), [&, &key = key](const Rank& r) {
        return std::any_of(r.moments.begin(), r.moments.end(), [&](const auto& m) { return !m.count(key); });
      })) {
        a_.notices.push_back(fmt::format("{}: the optimizer's {} is passed over: only some groups have it", p_.path, key));
        continue;
      }
      INGOT_TRY(join_parts(params_, key, [&, &key = key](const Rank& r) {
        std::vector<Flat> all;
        for (const auto& m : r.moments) all.push_back(m.at(key));
        return all;
      }));
    }
    // All groups step together; where there are more of them than of shapes, the first speaks for all.
    for (const DeepspeedParam& p : params_) {
      const auto step = steps_.find(steps_.count(p.group) ? p.group : 0);
      if (step != steps_.end()) tensors_.push_back({"step/" + p.name, step->second});
    }
    return {};
  }

  // What the module holds. Of stage 3 that is in the ranks' parts: the frozen ones lie there as they are, the others are the masters, rounded.
  Status add_model() {
    const bool parts = !ranks_.empty() && ranks_[0].stage == 3;
    const TorchArchive& archive = models_[0].archive;
    const PickleValue* module = archive.pickle.root().get("module");
    if (!module || !module->has_pairs()) return bad_input("reading {}: it has no module; is it DeepSpeed's?", models_[0].path);
    std::unordered_map<std::string, const LazyTensor*> masters;
    for (const LazyTensor& t : tensors_) masters.emplace(t.name, &t);
    std::set<std::string> frozen;
    if (parts) INGOT_TRY(add_frozen(&frozen));
    std::unordered_map<std::string, bool> seen;
    const auto take = [&](const std::string& name, const PickleValue& v) -> Result<bool> {
      if (!TorchTensors::is_tensor(v)) return false;
      INGOT_ASSIGN(NodePtr node, models_[0].archive.tensors.tensor(name, v));
      const std::string own = "model/" + name;
      if (!node || frozen.count(name) || !seen.emplace(own, true).second) return true;
      if (const auto master = masters.find("master/" + name); parts && master != masters.end()) node = rounded_tensor(master->second->node, node->spec().type);
      else if (parts && node->spec().shape.elements() == 0 && shared_.count(name)) return true;
      model_.push_back({own, std::move(node)});
      return true;
    };
    for (const Model& m : models_) read_shared(m.archive.pickle.root().get("shared_params"));
    return flatten_pickle(archive.pickle, *module, "", "reading " + models_[0].path, take, &a_.values);
  }

  void read_shared(const PickleValue* shared) {
    const auto items = shared && shared->is_dict() ? shared->items() : std::span<const PickleValue* const>();
    for (size_t i = 0; i + 1 < items.size(); i += 2) shared_.emplace(pickle_key(*items[i]), pickle_key(*items[i + 1]));
  }

  Status add_frozen(std::set<std::string>* names) {
    const auto world = static_cast<uint64_t>(models_.size());
    std::vector<std::unordered_map<std::string_view, const PickleValue*>> fragments(models_.size());
    for (size_t k = 0; k < models_.size(); ++k) {
      const PickleValue* all = models_[k].archive.pickle.root().get("frozen_param_fragments");
      const auto items = all && all->has_pairs() ? all->items() : std::span<const PickleValue* const>();
      for (size_t i = 0; i + 1 < items.size(); i += 2) fragments[k][items[i]->text()] = items[i + 1];
    }
    for (const DeepspeedParam& p : frozen_) {
      std::vector<FilePiece> pieces;
      DType type = DType::kF32;
      uint64_t left = static_cast<uint64_t>(p.shape.elements());
      const uint64_t part = (left + world - 1) / world;
      for (size_t k = 0; k < models_.size(); ++k) {
        Model& m = models_[k];
        const auto found = fragments[k].find(p.name);
        const PickleValue* own = found == fragments[k].end() ? nullptr : found->second;
        if (!own || !TorchTensors::is_tensor(*own))
          return bad_input("reading {}: there is no part of the frozen parameter '{}'; the file is of another run", m.path, p.name);
        INGOT_ASSIGN(NodePtr node, m.archive.tensors.tensor("frozen " + p.name, *own));
        auto flat = std::dynamic_pointer_cast<const Source>(node);
        const uint64_t n = std::min(left, part);
        if (!flat || flat->spec().shape.rank != 1 || static_cast<uint64_t>(flat->spec().shape[0]) < n || (!pieces.empty() && flat->spec().type != type))
          return bad_input("reading {}: the part of the frozen parameter '{}' {} is no flat tensor of {} elements; the file is of another run",
                           m.path, p.name, to_string(p.shape), n);
        type = flat->spec().type;
        pieces.push_back({make_flat_file(flat), 0, bytes_of(type, static_cast<int64_t>(n))});
        left -= n;
      }
      if (left) return bad(fmt::format("of the frozen parameter '{}' {} elements are in no rank's file", p.name, left));
      model_.push_back({"model/" + p.name, make_file_tensor(source_of(std::move(pieces)), "model/" + p.name, 0, {type, p.shape})});
      names->insert(p.name);
    }
    return {};
  }

  // Tied parameters have one node: a map from the name that is not stored to the one that is.
  void add_shared() {
    for (std::vector<LazyTensor>* list : {&model_, &tensors_}) {
      std::unordered_map<std::string, NodePtr> all;
      for (const LazyTensor& t : *list) all.emplace(t.name, t.node);
      for (const auto& [name, stored] : shared_)
        for (const char* kind : {"model/", "master/"})
          if (const auto it = all.find(kind + stored); it != all.end() && !all.count(kind + name)) list->push_back({kind + name, it->second});
    }
  }

  Store& store_;
  const Probe& p_;
  Artifact a_;
  std::vector<Model> models_;
  std::vector<Rank> ranks_;
  std::vector<DeepspeedParam> params_, frozen_;
  std::vector<std::vector<const DeepspeedParam*>> by_group_;  // of params_
  std::map<size_t, NodePtr> steps_;  // of rank 0's groups
  std::vector<std::map<std::string, uint64_t>> paddings_;
  std::map<std::string, std::string> shared_;
  std::vector<LazyTensor> model_, tensors_;
};

}  // namespace

Result<Artifact> read_deepspeed_zero(Store& store, const Probe& tag) { return ZeroReader(store, tag).read(); }

}  // namespace ingot
