#include "transform/lora.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "base/memory.h"
#include "formats/json.h"
#include "model/architecture.h"
#include "quant/codec.h"
#include "storage/store.h"
#include "transform/cast.h"
#include "transform/lora_config.h"
#include "transform/lora_nodes.h"

namespace ingot::transform {
namespace {

// What the adapter's file holds for one module ("model.layers.0.self_attn.q_proj").
struct Module {
  const LazyTensor* a = nullptr;  // lora_A.weight, or lora_embedding_A
  const LazyTensor* b = nullptr;
  const LazyTensor* b_bias = nullptr;
  const LazyTensor* base_weight = nullptr;  // base_layer.weight
  bool embedding = false;
};

struct Keys {
  std::map<std::string, Module> modules;
  std::map<std::string, const LazyTensor*> replaced;  // base tensor name -> modules_to_save, trained biases
};

// What `text` leaves before `end`, if it ends so.
bool strip(std::string* text, std::string_view end) {
  if (text->size() <= end.size() || !text->ends_with(end)) return false;
  text->resize(text->size() - end.size());
  return true;
}

class Merge {
 public:
  Merge(const Artifact& base) : base_(base), out_(base) {
    for (size_t i = 0; i < out_.tensors.size(); ++i) index_[out_.tensors[i].name] = i;
  }

  Status init() {
    if (auto it = base_.files.find("config.json"); it != base_.files.end()) {
      INGOT_ASSIGN(config_, parse_json(it->second, "reading " + join_path(base_.path, "config.json")));
      if (const Json* t = json_member(config_, "tie_word_embeddings"); t && !t->is_boolean())
        return bad_input("reading {}: 'tie_word_embeddings' is {}, expected true or false", join_path(base_.path, "config.json"),
                         json_brief(*t));
      tied_ = json_bool(config_, "tie_word_embeddings").value_or(false);
      if (auto arch = find_architecture(config_, base_.path); arch.ok()) {
        if (const auto* r = (*arch)->by_role("embedding")) embedding_ = r->hf;
        if (const auto* r = (*arch)->by_role("output")) output_ = r->hf;
      }
    }
    return {};
  }

  Status add(const AdapterSpec& spec);
  Result<Artifact> finish();

 private:
  NodePtr* node(const std::string& tensor) {
    auto it = index_.find(tensor);
    return it == index_.end() ? nullptr : &out_.tensors.node(it->second);
  }
  Result<Keys> sort_keys(const Artifact& adapter, const LoraConfig& c, const std::string& file);
  Status check_targets(const LoraConfig& c, const Keys& keys, const std::string& file);
  Status merge_module(const std::string& path, const Module& m, const LoraConfig& c, double weight, bool conv1d,
                      const std::string& file);
  Result<bool> linear_is_transposed(const Keys& keys);
  Status untie(const std::set<std::string>& changed, const LoraConfig& c);

  const Artifact& base_;
  Artifact out_;
  Json config_;
  bool tied_ = false, untied_ = false;
  std::string embedding_, output_;
  std::unordered_map<std::string, size_t> index_;
  std::vector<std::string> names_;  // of the adapters
};

Result<Keys> Merge::sort_keys(const Artifact& adapter, const LoraConfig& c, const std::string& file) {
  Keys keys;
  for (const auto& t : adapter.tensors) {
    std::string key = t.name;
    constexpr std::string_view kPrefix = "base_model.model.";
    if (!key.starts_with(kPrefix))
      return bad_input("merging {}: the key '{}' does not begin with '{}'; it is no PEFT adapter, or made for another "
                       "tool",
                       file, t.name, kPrefix);
    key.erase(0, kPrefix.size());
    if (key.find(".lora_magnitude_vector") != std::string::npos)
      return bad_input("merging {}: '{}' is a magnitude of DoRA (use_dora), which is not supported yet", file, t.name);
    if (!is_float_type(t.spec().type) || !find_codec(t.spec().type))
      return bad_input("merging {}: '{}' is {}, expected F32, F16 or BF16", file, t.name, info(t.spec().type).name);
    struct Kind {
      std::string_view end;
      const LazyTensor* Module::*slot;
      bool embedding;
    };
    static constexpr Kind kKinds[] = {{".lora_A.weight", &Module::a, false},
                                      {".lora_B.weight", &Module::b, false},
                                      {".lora_B.bias", &Module::b_bias, false},
                                      {".lora_embedding_A", &Module::a, true},
                                      {".lora_embedding_B", &Module::b, true},
                                      {".base_layer.weight", &Module::base_weight, false}};
    bool done = false;
    for (const auto& k : kKinds)
      if (strip(&key, k.end)) {
        Module& m = keys.modules[key];
        m.*k.slot = &t;
        m.embedding = m.embedding || k.embedding;
        done = true;
        break;
      }
    if (done) continue;
    // Whole tensors: modules_to_save, and biases that were trained.
    const bool wrapped = strip(&key, ".base_layer.bias");
    if (wrapped) key += ".bias";
    for (std::string_view part : {".modules_to_save.default", ".modules_to_save"})
      if (auto at = key.find(part); at != std::string::npos) key.erase(at, part.size());
    const std::string module = key.substr(0, key.rfind('.'));
    const bool bias = key.ends_with(".bias") && c.bias != "none";
    if (!bias && !c.is_saved(module))
      return bad_input("merging {}: the key '{}' is neither a LoRA factor nor named in modules_to_save; it would be left "
                       "over",
                       file, t.name);
    if (!keys.replaced.emplace(key, &t).second)
      return bad_input("merging {}: two keys hold the tensor '{}'", file, key);
  }
  return keys;
}

// The file must hold the modules that the configuration names, and no others.
Status Merge::check_targets(const LoraConfig& c, const Keys& keys, const std::string& file) {
  for (const auto& [path, m] : keys.modules) {
    if (!m.a || !m.b)
      return bad_input("merging {}: the module '{}' has {} but no {}; the file is not whole", file, path,
                       m.a ? "lora_A" : m.b ? "lora_B" : "base_layer.weight", m.a ? "lora_B" : "lora_A");
    const std::string weight = path + ".weight";
    if (!index_.count(weight) && !(tied_ && weight == output_))
      return bad_input("merging {}: the base {} has no module '{}' ({} tensors); the adapter is for another model", file,
                       base_.path, path, base_.tensors.size());
    INGOT_ASSIGN(bool target, c.is_target(path));
    if (!target)
      return bad_input("merging {}: it has factors for '{}', which target_modules in adapter_config.json does not name; "
                       "the two files do not belong together",
                       file, path);
  }
  for (const auto& [name, t] : keys.replaced)
    if (!index_.count(name) && !(tied_ && name == output_))
      return bad_input("merging {}: '{}' replaces '{}', which the base {} does not have; the adapter is for another "
                       "model",
                       file, t->name, name, base_.path);
  // A head that is tied to a saved embedding need not be there twice.
  for (const auto& saved : c.modules_to_save) {
    const bool there = std::any_of(keys.replaced.begin(), keys.replaced.end(), [&](const auto& kv) {
      return ("." + kv.first).find("." + saved + ".") != std::string::npos;
    });
    if (!there && !c.ensure_weight_tying)
      return bad_input("merging {}: modules_to_save in adapter_config.json names '{}', but the file has no weights for it; the file is not "
                       "whole", file, saved);
  }
  if (c.targets.all_linear) return {};
  for (const auto& t : base_.tensors) {
    std::string module = t.name;
    if (!strip(&module, ".weight") || t.spec().shape.rank < 2 || keys.modules.count(module)) continue;
    INGOT_ASSIGN(bool target, c.is_target(module));
    if (target)
      return bad_input("merging {}: adapter_config.json names the module '{}', but the file has no factors for it; the "
                       "file is not whole",
                       file, module);
  }
  return {};
}

bool fits(const TensorSpec& w, const TensorSpec& a, const TensorSpec& b, bool transposed) {
  return w.shape[transposed ? 1 : 0] == b.shape[0] && w.shape[transposed ? 0 : 1] == a.shape[1];
}

// Conv1D keeps [in, out]. PEFT corrects a wrong fan_in_fan_out by the module's class; here the modules whose shape fits
// one way only decide for the square ones. True: at least one is [in, out], and none [out, in].
Result<bool> Merge::linear_is_transposed(const Keys& keys) {
  bool any = false;
  for (const auto& [path, m] : keys.modules) {
    const TensorSpec w = (*node(path + ".weight"))->spec(), a = m.a->spec(), b = m.b->spec();
    if (m.embedding || w.shape.rank != 2 || a.shape.rank != 2 || b.shape.rank != 2 || path + ".weight" == output_)
      continue;
    const bool straight = fits(w, a, b, false), turned = fits(w, a, b, true);
    if (straight && !turned) return false;
    any = any || (turned && !straight);
  }
  return any;
}

Status Merge::merge_module(const std::string& path, const Module& m, const LoraConfig& c, double weight, bool conv1d,
                           const std::string& file) {
  const std::string tensor = path + ".weight";
  NodePtr& w = *node(tensor);
  const TensorSpec ws = w->spec(), as = m.a->spec(), bs = m.b->spec();
  if (!find_codec(ws.type))
    return bad_input("merging {}: the base's tensor {} is {}, whose values ingot cannot read yet", file, tensor_text(*w, tensor),
                     info(ws.type).name);
  INGOT_ASSIGN(const auto s, c.scaling(path));
  if (as.shape.rank != 2 || bs.shape.rank != 2 || ws.shape.rank != 2)
    return bad_input("merging {}: the module '{}' has {}-D weights and factors {} and {}; only 2-D ones are supported",
                     file, path, ws.shape.rank, to_string(as.shape), to_string(bs.shape));
  if (as.shape[0] == 0 || bs.shape[1] == 0)
    return bad_input("merging {}: the factors of '{}' have rank 0 ({} and {}); the adapter is damaged", file, path,
                     to_string(as.shape), to_string(bs.shape));
  if (as.shape[0] != s.rank || bs.shape[1] != s.rank)
    return bad_input("merging {}: the factors of '{}' are {} and {}, but adapter_config.json gives it the rank {}", file,
                     path, to_string(as.shape), to_string(bs.shape), s.rank);
  const bool straight = !m.embedding && fits(ws, as, bs, false), turned = fits(ws, as, bs, true);
  if (!straight && !turned)
    return bad_input("merging {}: the factors of '{}' are {} and {}, which do not fit {}, {}; the adapter is for another model",
                     file, path, to_string(as.shape), to_string(bs.shape), tensor_text(*w, tensor), to_string(ws.shape));
  if (m.base_weight) {
    if (!(m.base_weight->spec().shape == ws.shape))
      return bad_input("merging {}: '{}' is {}, but the base has {}; the adapter was trained on a base with another "
                       "vocabulary",
                       file, m.base_weight->name, to_string(m.base_weight->spec().shape), to_string(ws.shape));
    w = same_as(w, m.base_weight->node,
                {"merging into " + tensor_text(*w, tensor), m.base_weight->name,
                 "the adapter keeps a copy of the base's weights, so it was trained on another base"});
  }
  const double scale = s.scale * weight;
  w = lora_delta(tensor, w,
                 {m.a->node, m.b->node, m.a->name, m.b->name, scale, !straight || (turned && conv1d)});
  if (m.b_bias) {
    if (!c.lora_bias)
      return bad_input("merging {}: '{}' is there, but lora_bias is not set; the two files do not belong together", file,
                       m.b_bias->name);
    NodePtr* bias = node(path + ".bias");
    if (!bias)
      return bad_input("merging {}: lora_bias is set, but '{}' has no bias in the base to add it to", file, path);
    if (!((*bias)->spec().shape == m.b_bias->spec().shape))
      return bad_input("merging {}: '{}' is {}, but the base's bias is {}", file, m.b_bias->name,
                       to_string(m.b_bias->spec().shape), to_string((*bias)->spec().shape));
    if (!find_codec((*bias)->spec().type))
      return bad_input("merging {}: the bias of '{}' is {}, whose values ingot cannot read yet", file, path,
                       info((*bias)->spec().type).name);
    *bias = add_scaled(*bias, m.b_bias->node, scale);
  }
  return {};
}

// The input embedding of a tied model is changed, or its output gets weights of its own: they are two tensors from now
// on, as they were while the adapter was trained. With ensure_weight_tying they stay one.
Status Merge::untie(const std::set<std::string>& changed, const LoraConfig& c) {
  if (!tied_ || embedding_.empty() || output_.empty()) return {};
  const bool output = changed.count(output_) > 0;
  if (!output && (!changed.count(embedding_) || c.ensure_weight_tying)) return {};
  if (!index_.count(output_)) {  // a base may keep both though they are tied
    const LazyTensor* e = base_.find(embedding_);
    if (!e) return {};
    index_[output_] = out_.tensors.size();
    out_.tensors.push_back({output_, e->node});
  }
  untied_ = true;
  return {};
}

Status Merge::add(const AdapterSpec& spec) {
  const Artifact& adapter = spec.adapter;
  const std::string file = adapter.path;
  const auto text = adapter.files.find("adapter_config.json");
  if (adapter.naming != "peft" || text == adapter.files.end())
    return bad_input("merging {}: it is no PEFT adapter (no adapter_config.json); give the adapter's directory", file);
  if (!std::isfinite(spec.weight)) return usage("merging {}: the weight must be a finite number", file);
  INGOT_ASSIGN(LoraConfig c, parse_lora_config(text->second, join_path(file, "adapter_config.json")));
  if (adapter.tensors.empty()) return bad_input("merging {}: the adapter has no tensors", file);
  INGOT_ASSIGN(Keys keys, sort_keys(adapter, c, file));
  INGOT_TRY(check_targets(c, keys, file));
  if (!keys.replaced.empty() && spec.weight != 1)
    return usage("merging {}: it replaces whole tensors ('{}'), which a weight of {} cannot scale; leave --weight out",
                 file, keys.replaced.begin()->first, spec.weight);
  std::set<std::string> changed;
  for (const auto& [path, m] : keys.modules) changed.insert(path + ".weight");
  for (const auto& [name, t] : keys.replaced) changed.insert(name);
  INGOT_TRY(untie(changed, c));
  INGOT_ASSIGN(bool conv1d, linear_is_transposed(keys));
  if (!conv1d && c.fan_in_fan_out) {
    // All square: the flag is all there is to go by.
    conv1d = std::all_of(keys.modules.begin(), keys.modules.end(), [&](const auto& kv) {
      const auto w = (*node(kv.first + ".weight"))->spec().shape;
      return kv.second.embedding || (w.rank == 2 && w[0] == w[1]);
    });
  }
  for (const auto& [path, m] : keys.modules) INGOT_TRY(merge_module(path, m, c, spec.weight, conv1d, file));
  for (const auto& [name, t] : keys.replaced) {
    NodePtr& w = *node(name);
    if (!(w->spec().shape == t->spec().shape))
      return bad_input("merging {}: '{}' is {}, but the base's '{}' is {}; the adapter is for another model", file,
                       t->name, to_string(t->spec().shape), name, to_string(w->spec().shape));
    w = t->node;
  }
  names_.push_back(file_name(file));
  return {};
}

Result<Artifact> Merge::finish() {
  auto it = out_.files.find("config.json");
  if (it == out_.files.end() || names_.empty()) return std::move(out_);
  INGOT_ASSIGN(OrderedJson j, parse_json_ordered(it->second, "reading " + join_path(base_.path, "config.json")));
  // The merged model's name travels in the configuration, so that it does not depend on where it is stored.
  std::string name = file_name(base_.path);
  if (name.empty() || name == "." || name == "..") name = "model";
  if (auto n = json_string(config_, "_name_or_path"); n && !n->empty() && std::count(n->begin(), n->end(), '/') <= 1)
    name = *n;
  for (const auto& adapter : names_) name += "-" + adapter;
  j["_name_or_path"] = name;
  if (untied_) j["tie_word_embeddings"] = false;
  it->second = json_text(j);
  return std::move(out_);
}

}  // namespace

Result<Artifact> lora_merge(const Artifact& base, const std::vector<AdapterSpec>& adapters) {
  if (base.naming == "gguf")
    return bad_input("merging into {}: a GGUF file is not supported as the base of a LoRA merge; give the Hugging Face "
                     "directory that it was made from",
                     base.path);
  if (base.naming == "peft") return bad_input("merging into {}: it is an adapter, not a model", base.path);
  return within_memory("merging into " + base.path, [&]() -> Result<Artifact> {
    Merge m(base);
    INGOT_TRY(m.init());
    for (const auto& a : adapters) INGOT_TRY(m.add(a));
    return m.finish();
  });
}

}  // namespace ingot::transform
