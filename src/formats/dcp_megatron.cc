// What Megatron and NeMo leave (their torch_dist): a DCP directory whose keys have the layers stacked on a first axis, common.pt with what all ranks share, and above
// it a text that names the last iteration. Tensors get their modules' names: model/decoder.layers.0.mlp.linear_fc1.weight, master/.., exp_avg/.., exp_avg_sq/..
#include <algorithm>

#include "base/utf8.h"
#include "formats/dcp.h"
#include "formats/json.h"
#include "formats/megatron_ranks.h"
#include "formats/megatron_yaml.h"
#include "formats/torch_file.h"

namespace ingot {
namespace {

constexpr char kTracker[] = "latest_checkpointed_iteration.txt", kBackend[] = "metadata.json", kCommon[] = "common.pt";
constexpr uint64_t kMaxText = 1 << 20;

// One index of the first axis of a tensor.
class Layer final : public Source {
 public:
  Layer(std::shared_ptr<const Source> all, int64_t index) : all_(std::move(all)), index_(index), spec_(all_->spec()) {
    for (int d = 1; d < spec_.shape.rank; ++d) spec_.shape[d - 1] = spec_.shape[d];
    --spec_.shape.rank;
  }
  TensorSpec spec() const override { return spec_; }
  std::string describe() const override { return fmt::format("layer v1 {} of {}", index_, all_->describe()); }
  const ReadFile* file() const override { return all_->file(); }
  uint64_t workspace(const Region& r) const override { return all_->workspace(within(r)); }
  void trace(Origin* o) const override {
    o->index = lifted(o->index, index_);
    all_->trace(o);
  }
  Result<uint64_t> read(const Region& r, MutByteView out) const override { return all_->read(within(r), out); }

 private:
  static Shape lifted(const Shape& s, int64_t first) {
    Shape out{first};
    for (int d = 0; d < s.rank; ++d) out.push_back(s[d]);
    return out;
  }
  Region within(const Region& r) const { return {lifted(r.begin, index_), lifted(r.extent, 1)}; }

  std::shared_ptr<const Source> all_;
  int64_t index_;
  TensorSpec spec_;
};

// Whose state it is, and the module's name: "optimizer.state.fp32_param.X" is "master", X.
std::pair<std::string, std::string> kind_of(const std::string& key) {
  constexpr std::string_view kState = "optimizer.state.";
  const size_t dot = key.find('.', kState.size());
  if (key.starts_with(kState) && dot != std::string::npos) {
    const std::string kind = key.substr(kState.size(), dot - kState.size());
    return {kind == "fp32_param" ? "master" : kind, key.substr(dot + 1)};
  }
  return {key.starts_with("optimizer.") || key.starts_with("chained_") ? "optimizer" : "model", key};
}

// "decoder.layers.mlp..": where the number of the layer belongs, or npos where there is one, or none belongs.
size_t place_of_layer(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  const size_t at = name.find(kLayers);
  if (at == std::string::npos || (at > 0 && name[at - 1] != '.')) return std::string::npos;
  const size_t after = at + kLayers.size();
  return after < name.size() && (name[after] < '0' || name[after] > '9') ? after : std::string::npos;
}

// Both forms of a layer (transformer_engine's fuses the norms) save the norms by the names of the fused one.
std::string module_name(std::string name) {
  for (const auto& [stored, own] : {std::pair<std::string_view, std::string_view>{"self_attention.linear_qkv.layer_norm_", "input_layernorm."},
                                    {"mlp.linear_fc1.layer_norm_", "pre_mlp_layernorm."}})
    if (const size_t at = name.find(stored); at != std::string::npos) name.replace(at, stored.size(), own);
  return name;
}

// The model's configuration where it is no part of common.pt, by the names of Megatron's arguments: of Megatron Bridge beside the weights, of NeMo in a directory
// beside theirs.
Status add_yaml(Store& store, const Probe& p, Artifact* a) {
  struct Place {
    std::string path;
    const char* section;
  };
  for (const Place& at : {Place{join_path(p.path, "run_config.yaml"), "model"}, Place{join_path(parent_path(p.path), "context/model.yaml"), "config"}}) {
    if (!is_there(store, at.path)) continue;
    INGOT_ASSIGN(const std::string text, read_side_file(store, at.path, kMaxText));
    if (!valid_utf8(text)) return bad_input("reading {}: it is no UTF-8; copy it again", at.path);
    for (auto& [name, value] : yaml_section(text, at.section)) a->values.emplace("args/" + name, std::move(value));
  }
  return {};
}

Result<Artifact> read_torch_dist(Store& store, const Probe& p) {
  const std::string path = join_path(p.path, kBackend);
  INGOT_ASSIGN(const std::string text, read_side_file(store, path, kMaxText));
  INGOT_ASSIGN(const Json backend, parse_json(text, "reading " + path));
  const auto sharded = json_string(backend, "sharded_backend");
  if (sharded && *sharded != "torch_dist")
    return bad_input("opening {}: {} says that it is saved by '{}', which ingot does not read; save it with --ckpt-format torch_dist", p.path,
                     kBackend, sharded->substr(0, 100));
  INGOT_ASSIGN(Artifact a, read_dcp(store, p, [](const DcpEntry& e) { return e.key; }));
  if (!sharded) return a;
  a.format = "megatron";
  const TensorList stored = std::move(a.tensors);
  std::vector<LazyTensor> tensors;
  for (const LazyTensor& t : stored) {
    const auto [kind, name] = kind_of(t.name);
    const size_t place = place_of_layer(name);
    const auto source = std::dynamic_pointer_cast<const Source>(t.node);
    if (place == std::string::npos || t.spec().shape.rank < 1) {
      tensors.push_back({kind + "/" + module_name(name), t.node});
      continue;
    }
    constexpr int64_t kMostLayers = 10'000, kMostTensors = 1 << 20;
    if (t.spec().shape[0] > kMostLayers || static_cast<int64_t>(tensors.size()) + t.spec().shape[0] > kMostTensors)
      return bad_input("opening {}: '{}' has {} layers, more than is accepted", p.path, t.name, t.spec().shape[0]);
    for (int64_t i = 0; i < t.spec().shape[0]; ++i)
      tensors.push_back({kind + "/" + module_name(fmt::format("{}{}.{}", name.substr(0, place), i, name.substr(place))), std::make_shared<Layer>(source, i)});
  }
  a.tensors = std::move(tensors);
  if (!p.find(kCommon))
    return bad_input("opening {}: there is no {}, which holds what all ranks share (the iteration, arguments, the optimizer's groups); copy it, too",
                     p.path, kCommon);
  INGOT_ASSIGN(const OpenedFile file, open_head(store, join_path(p.path, kCommon)));
  INGOT_ASSIGN(TorchState common, read_torch(file));
  for (auto& t : common.tensors) a.tensors.push_back(std::move(t));
  for (auto& [name, value] : common.values) a.values.emplace(name, std::move(value));
  for (auto& notice : common.notices) a.notices.push_back(std::move(notice));
  INGOT_TRY(add_yaml(store, p, &a));
  return a;
}

}  // namespace

int probe_megatron(const Probe& p) {
  if (!p.directory) return 0;
  const Entry *weights = p.find("weights"), *context = p.find("context");
  if (p.find(kTracker) || (weights && weights->directory && context && context->directory)) return 96;
  return (p.find(kDcpMetadata) && p.find(kBackend)) || is_megatron_ranks(p) ? 96 : 0;
}

Result<Artifact> open_megatron(Store& store, const Probe& p, Faults*) {
  if (p.find(kDcpMetadata)) return read_torch_dist(store, p);
  if (is_megatron_ranks(p)) return read_megatron_ranks(store, p);
  if (!p.find(kTracker)) {  // NeMo's
    INGOT_ASSIGN(const Probe weights, look_at(store, join_path(p.path, "weights")));
    if (!weights.find(kDcpMetadata) || !weights.find(kBackend))
      return bad_input("opening {}: there is no {} and {}; it is of NeMo, and the save did not end, or is of another form than torch_dist", weights.path, kDcpMetadata, kBackend);
    return read_torch_dist(store, weights);
  }
  const std::string tracker = join_path(p.path, kTracker);
  INGOT_ASSIGN(std::string text, read_side_file(store, tracker, kMaxText));
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  const bool number = !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
  if (!number && text != "release")
    return bad_input("opening {}: it says '{}', expected the number of an iteration, or release; give the directory of the iteration itself",
                     tracker, text.substr(0, 100));
  const std::string name = number ? fmt::format("iter_{:07}", std::stoul(text)) : text;
  std::vector<std::string> there = directories_in(store, p.path, "iter_");
  if (const Entry* e = p.find(name); !e || !e->directory)
    return bad_input("opening {}: it names iteration {}, but there is no {}{}", tracker, text, name,
                     there.empty() ? "; copy it" : fmt::format("; of those that are there give one itself: {}", join_path(p.path, there.back())));
  INGOT_ASSIGN(const Probe iteration, look_at(store, join_path(p.path, name)));
  if (is_megatron_ranks(iteration)) return read_megatron_ranks(store, iteration);
  if (!iteration.find(kDcpMetadata)) return bad_input("opening {}: there is no {}: the save did not end; take an older iteration", iteration.path, kDcpMetadata);
  return iteration.find(kBackend) ? read_torch_dist(store, iteration) : read_dcp(store, iteration, [](const DcpEntry& e) { return e.path; });
}

}  // namespace ingot
