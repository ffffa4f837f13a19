// What ds_to_universal makes: zero/NAME/{fp32,exp_avg,exp_avg_sq,step}.pt, each parameter whole, beside the model states. From stage 3 it leaves them flat, and their
// shapes stand in the model states.
#include <algorithm>
#include <set>

#include "formats/deepspeed.h"
#include "formats/file_pieces.h"
#include "formats/pickle_values.h"

namespace ingot {
namespace {

constexpr size_t kMaxFiles = 4u << 20;

// A flat tensor by its true shape.
NodePtr shaped(std::shared_ptr<const Source> flat, const std::string& name, const std::string& path, const Shape& shape) {
  auto source = std::make_shared<SourceFile>();
  const DType type = flat->spec().type;
  source->file = make_flat_file(std::move(flat)), source->path = path;
  return make_file_tensor(std::move(source), name, 0, {type, shape});
}

}  // namespace

Result<Artifact> read_deepspeed_universal(Store& store, const Probe& p) {
  Artifact a;
  a.path = p.path;
  INGOT_ASSIGN(const auto files, deepspeed_files(p));
  const std::string model_path = join_path(p.path, files[0].name), zero = join_path(p.path, "zero");
  INGOT_ASSIGN(const OpenedFile model_file, open_head(store, model_path));
  INGOT_ASSIGN(TorchArchive model, open_torch_archive(model_file));
  const PickleValue& root = model.pickle.root();
  const PickleValue* module = root.get("module");
  INGOT_ASSIGN(const auto params, deepspeed_params(root.get("param_shapes"), model_path));
  std::unordered_map<std::string, Shape> shapes;
  for (const DeepspeedParam& d : params) shapes.emplace(d.name, d.shape);
  std::vector<LazyTensor> tensors;
  if (module && module->has_pairs()) {
    const auto take = [&](const std::string& name, const PickleValue& v) -> Result<bool> {
      if (!TorchTensors::is_tensor(v)) return false;
      INGOT_ASSIGN(NodePtr node, model.tensors.tensor(name, v));
      // What stage 3 leaves in the place of its parts has no elements.
      const auto whole = shapes.find(name);
      if (node && (whole == shapes.end() || node->spec().shape == whole->second)) tensors.push_back({"model/" + name, std::move(node)});
      return true;
    };
    INGOT_TRY(flatten_pickle(model.pickle, *module, "", "reading " + model_path, take, &a.values));
  }
  INGOT_TRY(deepspeed_values(model.pickle, root, "", model_path, {"module", "param_shapes", "frozen_param_shapes", "frozen_param_fragments",
                             "shared_params", "optimizer"}, &a));

  // zero/NAME/KEY.pt, and zero/optimizer_state.pt.
  struct State {
    std::string param, key, path;
    Result<TorchArchive> archive = failed("not opened");
  };
  std::vector<State> states;
  INGOT_ASSIGN(const auto names, store.list(zero));
  std::vector<std::string> folders;
  for (const Entry& e : names)
    if (e.directory) folders.push_back(e.name);
  std::sort(folders.begin(), folders.end());
  std::vector<Result<std::vector<Entry>>> listed(folders.size(), Result<std::vector<Entry>>(std::vector<Entry>()));
  Calls calls;
  for (size_t i = 0; i < folders.size(); ++i) calls.push_back([&, i] { listed[i] = store.list(join_path(zero, folders[i])); });
  INGOT_TRY(call_together(store, "opening " + p.path, calls));
  for (size_t i = 0; i < folders.size(); ++i) {
    if (!listed[i].ok()) return listed[i].take_error();
    for (const Entry& e : *listed[i])
      if (!e.directory && e.name.ends_with(".pt"))
        states.push_back({folders[i], e.name.substr(0, e.name.size() - 3), join_path(join_path(zero, folders[i]), e.name)});
  }
  const size_t of_params = states.size();
  const bool has_optimizer = std::any_of(names.begin(), names.end(), [](const Entry& e) { return e.name == "optimizer_state.pt"; });
  if (has_optimizer) states.push_back({"", "", join_path(zero, "optimizer_state.pt")});
  if (states.size() > kMaxFiles) return bad_input("opening {}: it has {} files, more than the {} that are accepted", zero, states.size(), kMaxFiles);
  std::sort(states.begin(), states.begin() + static_cast<ptrdiff_t>(of_params), [](const State& x, const State& y) {
    return std::tie(x.key, x.param) < std::tie(y.key, y.param);
  });
  calls.clear();
  for (State& s : states)
    calls.push_back([&s, &store] {
      s.archive = [&]() -> Result<TorchArchive> {
        INGOT_ASSIGN(const OpenedFile file, open_head(store, s.path));
        return open_torch_archive(file);
      }();
    });
  INGOT_TRY(call_together(store, "opening " + p.path, calls));
  std::map<std::string_view, size_t> parts;
  for (const State& s : states) ++parts[s.param];
  std::set<std::string> modules;
  for (const LazyTensor& t : tensors) modules.insert(t.name.substr(6));
  for (State& s : states) {
    // Of what no optimizer steps there is a copy of what the module holds.
    if (s.key == "fp32" && parts[s.param] == 1 && modules.count(s.param)) continue;
    if (!s.archive.ok()) return s.archive.take_error();
    const PickleValue& value = s.archive->pickle.root();
    if (s.param.empty()) {
      INGOT_TRY(deepspeed_values(s.archive->pickle, value, "optimizer", s.path, {"optimizer/fp32_flat_groups", "optimizer/optimizer_state_dict"}, &a));
      continue;
    }
    const PickleValue* tensor = value.is_dict() ? value.get("param") : &value;
    const std::string kind = s.key == "fp32" ? "master" : s.key, name = kind + "/" + s.param;
    if (!tensor || !TorchTensors::is_tensor(*tensor)) {
      if (value.is_dict()) return bad_input("reading {}: it has no tensor 'param'; is it of ds_to_universal?", s.path);
      INGOT_TRY(deepspeed_values(s.archive->pickle, value, name, s.path, {}, &a));
      continue;
    }
    INGOT_ASSIGN(NodePtr node, s.archive->tensors.tensor(name, *tensor));
    if (!node) continue;
    const auto whole = shapes.find(s.param);
    if (s.key != "step" && whole != shapes.end() && node->spec().shape != whole->second) {
      const auto flat = std::dynamic_pointer_cast<const Source>(node);
      if (!flat || flat->spec().shape.rank != 1 || flat->spec().shape[0] != whole->second.elements())
        return bad_input("reading {}: '{}' is {}, by the model states {}; the file is of another run", s.path, s.param,
                         to_string(node->spec().shape), to_string(whole->second));
      node = shaped(flat, name, s.path, whole->second);
    }
    tensors.push_back({name, std::move(node)});
  }
  // Tied parameters are one tensor.
  const PickleValue* shared = root.get("shared_params");
  const auto items = shared && shared->is_dict() ? shared->items() : std::span<const PickleValue* const>();
  std::unordered_map<std::string, NodePtr> all;
  for (const LazyTensor& t : tensors) all.emplace(t.name, t.node);
  for (size_t i = 0; i + 1 < items.size(); i += 2)
    for (const char* kind : {"model/", "master/"})
      if (const auto it = all.find(kind + pickle_key(*items[i + 1])); it != all.end() && !all.contains(kind + pickle_key(*items[i])))
        tensors.push_back({kind + pickle_key(*items[i]), it->second});
  a.tensors = std::move(tensors);
  return a;
}

}  // namespace ingot
