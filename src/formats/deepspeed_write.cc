// DeepSpeed's universal checkpoints, as ds_to_universal makes them of a ZeRO directory: global_stepN_universal/zero/NAME/{fp32,exp_avg,exp_avg_sq,step}.pt, each
// parameter whole, and latest_universal. An engine of any world size loads it (of stage 3 where it takes parameters in a dict): the model states stand there by the names of all stages.
#include <algorithm>
#include <set>

#include "formats/json.h"
#include "formats/output_formats.h"
#include "formats/torch_write.h"
#include "formats/widened_tensor.h"
#include "formats/zip_write.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr char kFolder[] = "archive";

// One file, and what of the output's tensors stands in it.
struct StateFile {
  std::string name;
  TorchWriteState state;
  bool bare = false;  // a tensor alone
};

struct Plan {
  std::vector<StateFile> files;
  std::string latest;
};

class Planner {
 public:
  explicit Planner(const Artifact& a) : a_(a) {}

  Result<Plan> plan(std::vector<LazyTensor>* tensors) {
    tensors_ = tensors;
    std::map<NodePtr, std::string> masters;
    std::map<NodePtr, size_t> module;
    INGOT_TRY(sort_values());
    const std::string step = a_.values.count("global_steps") ? a_.values.at("global_steps") : "0";
    if (step.empty() || step.size() > 18 || step.find_first_not_of("0123456789") != std::string::npos)
      return bad_input("writing a universal checkpoint of {}: its global_steps are {}", a_.path, step.substr(0, 40));
    const std::string tag = fmt::format("global_step{}_universal", step);
    plan_.latest = tag;
    for (const LazyTensor& t : a_.tensors) {
      const size_t slash = t.name.find('/');
      if (slash == std::string::npos || slash + 1 == t.name.size()) continue;
      const std::string kind = t.name.substr(0, slash), param = t.name.substr(slash + 1);
      if (kind == "model") {
        const auto [one, fresh] = module.emplace(t.node, 0);  // tied ones share a storage
        if (fresh) one->second = number(t);
        model_.state.tensors.emplace_back("module/" + param, one->second);
        continue;
      }
      if (!is_folder(param) || !is_folder(kind)) return bad_input("writing a universal checkpoint of {}: the name '{}' makes no folder", a_.path, t.name);
      StateFile f;
      f.name = fmt::format("{}/zero/{}/{}.pt", tag, param, kind == "master" ? "fp32" : kind);
      f.bare = kind == "step";
      f.state.tensors.emplace_back("param", number(t));
      if (!f.bare) f.state.values.emplace_back("cat_dim", 0);
      if (f.bare && optimizer_.state.tensors.empty()) optimizer_.state.tensors.emplace_back("optimizer_state_dict/state/0/step", number(t));
      if (kind == "master") {
        const auto [own, first] = masters.emplace(t.node, param);
        if (first) add_shape("param_shapes/0/", t);
        else model_.state.values.emplace_back("shared_params/" + param, own->second);  // tied
      }
      plan_.files.push_back(std::move(f));
    }
    if (masters.empty())
      return usage("writing a universal checkpoint of {}: it has no float32 copies that an optimizer steps (master/..); the output is for "
                   "DeepSpeed's ZeRO directories", a_.path);
    add_others(tag);
    optimizer_.name = tag + "/zero/optimizer_state.pt";
    model_.name = tag + "/mp_rank_00_model_states.pt";
    StateFile parts{tag + "/zero_pp_rank_0_mp_rank_00_model_states.pt", {{}, model_.state.values}, false};
    parts.state.values.emplace_back("module", OrderedJson::object());
    for (StateFile* f : {&optimizer_, &model_, &parts}) plan_.files.push_back(std::move(*f));
    return std::move(plan_);
  }

 private:
  static bool is_folder(const std::string& s) { return s.find('/') == std::string::npos && s != "." && s != ".." && s.find('\\') == std::string::npos; }

  void add_shape(const std::string& below, const LazyTensor& t) {
    const std::string param = t.name.substr(t.name.find('/') + 1);
    if (t.spec().shape.rank == 0) model_.state.values.emplace_back(below + param, OrderedJson::array());
    for (int d = 0; d < t.spec().shape.rank; ++d) model_.state.values.emplace_back(fmt::format("{}{}/{}", below, param, d), t.spec().shape[d]);
  }

  // What no optimizer steps, frozen parameters and buffers, has a file of its float32 values alone, as ds_to_universal writes it of stages 1 and 2.
  void add_others(const std::string& tag) {
    std::set<std::string> buffers;
    for (const auto& [name, text] : a_.values)
      if (name.starts_with("buffer_names/")) buffers.insert(text);
    for (const LazyTensor& t : a_.tensors) {
      if (!t.name.starts_with("model/")) continue;
      const std::string param = t.name.substr(6);
      NodePtr wide = a_.find("master/" + param) || !is_folder(param) ? nullptr : widened_tensor(t.node);
      if (!wide) continue;
      if (!buffers.contains(json_quote(param))) add_shape("frozen_param_shapes/", t);
      StateFile f{fmt::format("{}/zero/{}/fp32.pt", tag, param), {}, false};
      f.state.tensors.emplace_back("param", number({"float32 of " + t.name, std::move(wide)}));
      f.state.values.emplace_back("cat_dim", 0);
      plan_.files.push_back(std::move(f));
    }
  }

  // Each tensor of the output is of one file; a step is in several.
  size_t number(const LazyTensor& t) {
    tensors_->push_back({fmt::format("{}", tensors_->size()) + " " + t.name, t.node});
    return tensors_->size() - 1;
  }

  Status sort_values() {
    bool version = false;
    for (const auto& [name, text] : a_.values) {
      INGOT_ASSIGN(OrderedJson value, parse_json_ordered(text, "writing a universal checkpoint: the value " + name));
      if (value.is_object() && value.contains("call")) continue;  // an object of a class of DeepSpeed's, which sets its own
      constexpr std::string_view kOptimizer = "optimizer/";
      if (name.starts_with("optimizer/loss_scaler/")) continue;
      version = version || name.starts_with("universal_checkpoint_info/");
      if (!name.starts_with(kOptimizer)) {
        model_.state.values.emplace_back(name, std::move(value));
        continue;
      }
      const std::string own = name.substr(kOptimizer.size());
      if (own.starts_with("param_groups/")) optimizer_.state.values.emplace_back("optimizer_state_dict/" + own, value);  // where stage 3 looks for them
      optimizer_.state.values.emplace_back(own, std::move(value));
    }
    // Stage 3 has it in the model states only, and stages 1 and 2 look for it here.
    const auto ours = a_.values.find("ds_version");
    if (ours != a_.values.end() && !a_.values.count("optimizer/ds_version")) {
      INGOT_ASSIGN(OrderedJson value, parse_json_ordered(ours->second, "writing a universal checkpoint: the value ds_version"));
      optimizer_.state.values.emplace_back("ds_version", std::move(value));
    }
    if (!version) model_.state.values.emplace_back("universal_checkpoint_info/universal_checkpoint_version", 0.2);
    return {};
  }

  const Artifact& a_;
  std::vector<LazyTensor>* tensors_ = nullptr;
  Plan plan_;
  StateFile model_, optimizer_;
};

Result<Layout> layout_universal(const std::vector<NamedSpec>& specs, const Plan& plan) {
  Layout l;
  l.tensors.resize(specs.size());
  for (const StateFile& f : plan.files) {
    const int file = static_cast<int>(l.files.size());
    FileLayout out;
    if (f.bare) {
      const size_t i = f.state.tensors[0].second;
      INGOT_ASSIGN(const TorchType* type, torch_type_to_write(specs[i]));
      PickleWriter w;
      put_torch_tensor(&w, specs[i].second, *type, 0);
      std::string pickle = w.finish();
      const Hash128 id = hash128(as_bytes(f.name + pickle));
      ZipLayout zip(&out, 0, 64);
      begin_torch_archive(&zip, kFolder, std::move(pickle));
      l.tensors[i] = {file, zip.reserve(fmt::format("{}/data/0", kFolder), bytes_of(specs[i].second))};
      end_torch_archive(&zip, kFolder, fmt::format("{:020}{:020}", id.hi, id.lo));
    } else {
      std::vector<int> which;
      for (const auto& [name, i] : f.state.tensors) which.push_back(static_cast<int>(i));
      INGOT_ASSIGN(out, place_torch_archive(specs, f.state, kFolder, which, file, &l.tensors));
    }
    out.name = f.name;
    l.files.push_back(std::move(out));
  }
  FileLayout latest;
  latest.name = "latest_universal", latest.size = plan.latest.size();
  latest.extents.push_back({0, plan.latest});
  l.files.push_back(std::move(latest));
  return l;
}

bool universal_file(const std::string& name) {
  if (name == "latest_universal") return true;
  const size_t slash = name.find('/');
  return name.starts_with("global_step") && slash != std::string::npos && std::string_view(name).substr(0, slash).ends_with("_universal") &&
      name.ends_with(".pt");
}

Output universal_output(Artifact artifact, Store& store, const std::string& path, uint64_t) {
  Output o;
  std::vector<LazyTensor> tensors;
  o.layout = [plan = Planner(artifact).plan(&tensors)](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    if (!plan.ok()) return plan.error();
    return layout_universal(specs, *plan);
  };
  artifact.tensors = std::move(tensors);
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  o.directory = true;
  o.older_name = universal_file;
  return o;
}

}  // namespace

extern const OutputFormat kOutput_deepspeed = {"deepspeed-universal", "", "DeepSpeed's universal checkpoints, of a ZeRO directory", nullptr, universal_output, false, "deepspeed"};

}  // namespace ingot
