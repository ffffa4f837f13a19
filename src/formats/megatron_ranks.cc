#include "formats/megatron_ranks.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "formats/chunked_tensor.h"
#include "formats/file_pieces.h"
#include "formats/torch_file.h"

namespace ingot {
namespace {

constexpr char kFile[] = "model_optim_rng.pt", kBegin[] = "mp_rank_", kModel[] = "model/";
constexpr size_t kMostRanks = 1 << 14;

// How a tensor lies over the tensor-parallel ranks, by the module that it belongs to, the last part of its name aside.
enum class Cut { kUnknown, kSame, kRows, kGatedRows, kColumns };

std::string dotted(std::string name) {
  std::replace(name.begin(), name.end(), '/', '.');
  return name;
}

bool is_one_of(std::string_view module, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(), [&](std::string_view n) { return module == n || (module.ends_with(n) && module[module.size() - n.size() - 1] == '.'); });
}

// Some rows of a tensor.
class Rows final : public Source {
 public:
  Rows(std::shared_ptr<const Source> all, int64_t begin, int64_t rows) : all_(std::move(all)), begin_(begin), spec_(all_->spec()) { spec_.shape[0] = rows; }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("rows v1 {}+{} of {}", begin_, spec_.shape[0], all_->describe()); }
  const ReadFile* file() const override { return all_->file(); }
  uint64_t workspace(const Region& r) const override { return all_->workspace(within(r)); }
  void trace(Origin* o) const override {
    if (o->index.rank) o->index[0] += begin_;
    all_->trace(o);
  }
  Result<uint64_t> read(const Region& r, MutByteView out) const override { return all_->read(within(r), out); }

 private:
  Region within(Region r) const {
    r.begin[0] += begin_;
    return r;
  }
  std::shared_ptr<const Source> all_;
  int64_t begin_;
  TensorSpec spec_;
};

struct Rank {
  int64_t tensor = 0, pipeline = 0;
  std::string path;
  TorchState state;
  std::map<std::string_view, const LazyTensor*> model;  // by the name, of views of state
  std::map<std::string, const LazyTensor*> dotted;      // the same by the modules' names
};

// "mp_rank_01_003": tensor-parallel rank 1, pipeline stage 3.
bool read_name(std::string_view name, Rank* r) {
  if (!name.starts_with(kBegin)) return false;
  name.remove_prefix(std::string_view(kBegin).size());
  for (int64_t* n : {&r->tensor, &r->pipeline}) {
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), *n);
    if (error != std::errc() || *n < 0 || *n >= static_cast<int64_t>(kMostRanks)) return false;
    name.remove_prefix(static_cast<size_t>(end - name.data()));
    if (name.empty()) return true;
    if (name[0] != '_') return false;
    name.remove_prefix(1);
  }
  return false;  // a third number: of experts
}

class RankReader {
 public:
  RankReader(Store& store, const Probe& p) : store_(store), p_(p) { a_.path = p.path, a_.format = "megatron"; }

  Result<Artifact> read() {
    INGOT_TRY(find());
    INGOT_TRY(open());
    Rank& first = ranks_[0];
    a_.values = std::move(first.state.values);
    if (ranks_.size() == 1) {
      a_.notices = std::move(first.state.notices);
      a_.tensors = std::move(first.state.tensors);
      return std::move(a_);
    }
    std::erase_if(a_.values, [](const auto& v) { return v.first.starts_with("optimizer/") || v.first.starts_with("rng_state/"); });
    a_.notices.push_back(fmt::format("{}: the model is joined of {} ranks ({} tensor-parallel, {} stages); each one's optimizer is in its own file, like {}", p_.path,
                                     ranks_.size(), tensor_, pipeline_, first.path));
    std::vector<LazyTensor> all;
    int64_t layers = 0;  // of the stages before
    for (int64_t stage = 0; stage < pipeline_; ++stage) INGOT_TRY(add_stage(stage, &layers, &all));
    a_.tensors = std::move(all);
    return std::move(a_);
  }

 private:
  Status find() {
    for (const Entry& e : p_.entries) {
      Rank r;
      if (!e.directory || !e.name.starts_with(kBegin)) continue;
      if (!read_name(e.name, &r))
        return bad_input("opening {}: {} is of no rank by tensors and pipeline stages alone (of experts, perhaps), which ingot does not join; convert it with Megatron's "
                         "--ckpt-convert-format torch_dist", p_.path, e.name.substr(0, 200));
      r.path = join_path(join_path(p_.path, e.name), kFile);
      tensor_ = std::max(tensor_, r.tensor + 1), pipeline_ = std::max(pipeline_, r.pipeline + 1);
      ranks_.push_back(std::move(r));
      if (ranks_.size() > kMostRanks) return bad_input("opening {}: it has more than {} ranks", p_.path, kMostRanks);
    }
    std::sort(ranks_.begin(), ranks_.end(), [](const Rank& a, const Rank& b) { return std::pair(a.pipeline, a.tensor) < std::pair(b.pipeline, b.tensor); });
    return {};
  }

  Status open() {
    std::vector<std::string> paths;
    for (const Rank& r : ranks_) paths.push_back(r.path);
    INGOT_ASSIGN(auto states, read_torch_together(store_, "opening " + p_.path, paths));
    const auto rank_there = [&](int64_t t, int64_t s) { return std::any_of(ranks_.begin(), ranks_.end(), [&](const Rank& r) { return r.tensor == t && r.pipeline == s; }); };
    // What the run says of itself, before what lies there.
    for (const auto& s : states) {
      if (!s.ok()) continue;
      for (const auto& [key, n] : {std::pair{"args/tensor_model_parallel_size", &tensor_}, {"args/pipeline_model_parallel_size", &pipeline_}})
        if (const auto v = s->values.find(key); v != s->values.end())
          if (int64_t said = 0; std::from_chars(v->second.data(), v->second.data() + v->second.size(), said).ec == std::errc() && said > 0)
            *n = std::max(*n, std::min<int64_t>(said, kMostRanks));
      break;
    }
    if (static_cast<size_t>(tensor_) > kMostRanks / static_cast<size_t>(pipeline_)) return bad_input("opening {}: it has more than {} ranks", p_.path, kMostRanks);
    for (int64_t s = 0; s < pipeline_; ++s)
      for (int64_t t = 0; t < tensor_; ++t)
        if (!rank_there(t, s))
          return bad_input("opening {}: it is of {} tensor-parallel ranks and {} pipeline stages, but rank {} of stage {} is missing ({}{:02}{}); copy the directories of all ranks",
                           p_.path, tensor_, pipeline_, t, s, kBegin, t, pipeline_ > 1 ? fmt::format("_{:03}", s) : "");
    if (ranks_.size() != static_cast<size_t>(tensor_ * pipeline_))
      return bad_input("opening {}: it has {} directories of ranks, but {} tensor-parallel ranks and {} stages; some are left from another save: remove these", p_.path, ranks_.size(),
                       tensor_, pipeline_);
    for (size_t i = 0; i < ranks_.size(); ++i) {
      Rank& r = ranks_[i];
      if (!states[i].ok()) {
        if (is_there(store_, r.path)) return states[i].take_error();
        return bad_input("opening {}: there is no {}, the state of its rank; copy the files of all ranks", parent_path(r.path), kFile);
      }
      r.state = *std::move(states[i]);
      for (const LazyTensor& t : r.state.tensors)
        if (t.name.starts_with(kModel)) r.model.emplace(std::string_view(t.name).substr(sizeof kModel - 1), &t), r.dotted.emplace(dotted(t.name.substr(sizeof kModel - 1)), &t);
        else if (t.name.starts_with("model0/"))
          return bad_input("opening {}: it has virtual pipeline stages (model0), which ingot does not join; convert it with Megatron's --ckpt-convert-format torch_dist", r.path);
      if (r.model.empty()) return bad_input("opening {}: it has no tensors below 'model', expected those of a rank of Megatron", r.path);
    }
    return {};
  }

  // Where layers count from 0 in each stage: "decoder.layers.1." of the second is "decoder.layers.5.".
  static std::string renumbered(const std::string& name, int64_t before, int64_t* most) {
    constexpr std::string_view kLayers = "layers.";
    const size_t at = name.find(kLayers), begin = at + kLayers.size();
    int64_t n = 0;
    if (at == std::string::npos || (at > 0 && name[at - 1] != '.')) return name;
    const auto [end, error] = std::from_chars(name.data() + begin, name.data() + name.size(), n);
    if (error != std::errc() || n < 0 || n > 100'000) return name;
    *most = std::max(*most, n + 1);
    return fmt::format("{}{}{}", name.substr(0, begin), n + before, end);
  }

  static Cut cut_of(const std::string& name, int64_t rows, const Rank& r) {
    const size_t dot = name.rfind('.');
    const std::string module = name.substr(0, dot == std::string::npos ? 0 : dot), last = name.substr(dot + 1);
    if (last == "bias" && is_one_of(module, {"linear_proj", "linear_fc2", "dense_4h_to_h", "dense"})) return Cut::kSame;
    if (last != "weight" && last != "bias") return last.starts_with("layer_norm_") ? Cut::kSame : Cut::kUnknown;
    if (is_one_of(module, {"linear_proj", "linear_fc2", "dense_4h_to_h", "dense"})) return Cut::kColumns;
    if (is_one_of(module, {"linear_qkv", "linear_q", "linear_kv", "query_key_value", "query", "key_value", "word_embeddings", "output_layer"})) return Cut::kRows;
    if (is_one_of(module, {"linear_fc1", "dense_h_to_4h"})) {
      // Gate and up are one after the other in each rank, where there are two: then what comes down is half as wide.
      const bool newer = module.ends_with("linear_fc1");
      const std::string down = module.substr(0, module.size() - std::string_view(newer ? "linear_fc1" : "dense_h_to_4h").size()) + (newer ? "linear_fc2" : "dense_4h_to_h") + ".weight";
      const auto t = r.dotted.find(down);
      if (t == r.dotted.end() || t->second->spec().shape.rank != 2) return Cut::kUnknown;
      return t->second->spec().shape[1] * 2 == rows ? Cut::kGatedRows : Cut::kRows;
    }
    return module.find("norm") != std::string::npos || is_one_of(module, {"position_embeddings"}) ? Cut::kSame : Cut::kUnknown;
  }

  Status add_stage(int64_t stage, int64_t* layers, std::vector<LazyTensor>* all) {
    const Rank* ranks = &ranks_[static_cast<size_t>(stage * tensor_)];
    int64_t most = 0;
    for (const LazyTensor& t : ranks[0].state.tensors) {
      if (!t.name.starts_with(kModel)) continue;
      const std::string own = t.name.substr(sizeof kModel - 1), name = dotted(own);
      const std::string whole = kModel + renumbered(name, *layers, &most);
      if (!names_.insert(whole).second) {
        // The last stage of a tied model has the embedding once more.
        if (stage > 0 && name.ends_with("word_embeddings.weight")) continue;
        return bad_input("opening {}: two of its stages have a tensor '{}'", p_.path, whole);
      }
      const int64_t rows = t.spec().shape.rank ? t.spec().shape[0] : 0;
      INGOT_TRY(add(whole, own, tensor_ == 1 ? Cut::kSame : cut_of(name, rows, ranks[0]), ranks, all));
    }
    *layers += most;
    return {};
  }

  Status add(const std::string& whole, const std::string& own, Cut cut, const Rank* ranks, std::vector<LazyTensor>* all) {
    const TensorSpec part = ranks[0].model.at(own)->spec();
    TensorSpec spec = part;
    const int axis = cut == Cut::kColumns ? 1 : 0;
    if (cut == Cut::kUnknown || (cut != Cut::kSame && part.shape.rank <= axis))
      return bad_input("opening {}: how '{}' ({}) is cut over its {} tensor-parallel ranks is not known; convert it with Megatron's --ckpt-convert-format torch_dist", p_.path, whole,
                       to_string(part.shape), tensor_);
    if (cut != Cut::kSame && (part.shape[axis] > INT64_MAX / 64 / tensor_ / std::max<int64_t>(part.shape.elements() / std::max<int64_t>(part.shape[axis], 1), 1)))
      return bad_input("opening {}: the shape of tensor '{}' overflows", p_.path, whole);
    if (cut != Cut::kSame) spec.shape[axis] *= tensor_;
    std::vector<TensorChunk> chunks;
    std::vector<FilePiece> files;
    for (int64_t i = 0; i < tensor_; ++i) {
      const auto it = ranks[i].model.find(own);
      if (it == ranks[i].model.end() || !(it->second->spec() == part))
        return bad_input("opening {}: its tensor '{}' is {}, but {} in {}; the files are of different saves", ranks[i].path, own,
                         it == ranks[i].model.end() ? "not there" : to_string(it->second->spec().shape), to_string(part.shape), ranks[0].path);
      const auto source = std::dynamic_pointer_cast<const Source>(it->second->node);
      if (!source || !source->file()) return bad_input("opening {}: its tensor '{}' is not plain data", ranks[i].path, own);
      if (cut == Cut::kSame && i == 0) all->push_back({whole, source});
      if (cut == Cut::kSame || part.shape.elements() == 0) continue;
      files.push_back({std::shared_ptr<const ReadFile>(source, source->file()), 0, source->file()->size()});
      const int64_t pieces = cut == Cut::kGatedRows ? 2 : 1, length = part.shape[axis] / pieces;
      for (int64_t half = 0; half < pieces; ++half) {
        Region region = Region::all(part.shape);
        region.extent[axis] = length;
        region.begin[axis] = half * length * tensor_ + i * length;
        chunks.push_back({region, pieces == 1 ? source : std::make_shared<Rows>(source, half * length, length)});
      }
    }
    if (cut == Cut::kSame) return {};
    if (chunks.empty()) return bad_input("opening {}: its tensor '{}' is empty", p_.path, whole);
    all->push_back({whole, make_chunked_tensor(whole, spec, std::move(chunks), make_pieces_file(p_.path, std::move(files)))});
    return {};
  }

  Store& store_;
  const Probe& p_;
  Artifact a_;
  std::vector<Rank> ranks_;  // by stage, then by tensor-parallel rank
  int64_t tensor_ = 1, pipeline_ = 1;
  std::set<std::string> names_;
};

}  // namespace

bool is_megatron_ranks(const Probe& p) {
  return std::any_of(p.entries.begin(), p.entries.end(), [](const Entry& e) { return e.directory && e.name.starts_with(kBegin); });
}

Result<Artifact> read_megatron_ranks(Store& store, const Probe& iteration) { return RankReader(store, iteration).read(); }

}  // namespace ingot
