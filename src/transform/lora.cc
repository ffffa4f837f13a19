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
#include "transform/adapter_files.h"
#include "transform/cast.h"
#include "transform/lora_config.h"
#include "transform/lora_keys.h"
#include "transform/lora_nodes.h"
#include "transform/token_rows.h"

namespace ingot::transform {
namespace {

bool strip(std::string* text, std::string_view end) {
  if (text->size() <= end.size() || !text->ends_with(end)) return false;
  text->resize(text->size() - end.size());
  return true;
}

std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

// Heads that PEFT puts on a model for a task, and saves though the base has none.
bool is_task_head(const std::string& tensor) {
  const std::string module = module_of(tensor);
  return module == "score" || module == "classifier" || module == "qa_outputs";
}

class Merge {
 public:
  Merge(const Artifact& base, const LoraMergeOptions& options) : base_(base), out_(base), options_(options) {
    for (size_t i = 0; i < out_.tensors.size(); ++i) index_[out_.tensors[i].name] = i;
  }
  Status init();
  Status add(const AdapterSpec& spec);
  Result<Artifact> finish();

 private:
  // One adapter at a time.
  struct Adding {
    const std::string& file;
    LoraConfig config;
    LoraKeys keys;
  };
  NodePtr* node(const std::string& tensor) {
    auto it = index_.find(tensor);
    return it == index_.end() ? nullptr : &out_.tensors.node(it->second);
  }
  void notice(const std::string& text) const {
    if (options_.on_notice) options_.on_notice(text);
  }
  bool is_embedding(const std::string& tensor) const { return tensor == embedding_ || tensor == output_; }
  Status check_targets(const Adding& a);
  Status check_saved(const Adding& a);
  void join_tied(Adding* a);
  Status untie(const Adding& a);
  Status replace(const std::string& name, const LazyTensor& t, const std::string& file);
  Status replace_rows(const Adding& a);
  Status merge_module(const std::string& path, const LoraModule& m, const Adding& a, double weight, bool conv1d);
  Result<bool> linear_is_transposed(const LoraKeys& keys);
  Status check_vocabulary(const std::string& file);
  void tell_whole(const Adding& a) const;
  Status make_classifier(OrderedJson* config);

  const Artifact& base_;
  Artifact out_;
  const LoraMergeOptions& options_;
  Json config_;
  bool tied_ = false, untied_ = false;
  std::string embedding_, output_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> replaced_by_;  // tensor -> the adapter that replaced it as a whole
  std::vector<std::string> names_;                  // of the adapters
  std::string task_type_;                           // of the last adapter
};

Status Merge::init() {
  if (auto it = base_.files.find("config.json"); it != base_.files.end()) {
    INGOT_ASSIGN(config_, parse_json(it->second, "reading " + join_path(base_.path, "config.json")));
    if (const Json* t = json_member(config_, "tie_word_embeddings"); t && !t->is_boolean())
      return bad_input("reading {}: 'tie_word_embeddings' is {}, expected true or false", join_path(base_.path, "config.json"), json_brief(*t));
    tied_ = json_bool(config_, "tie_word_embeddings").value_or(false);
    if (auto arch = find_architecture(config_, base_.path); arch.ok()) {
      if (const auto* r = (*arch)->by_role("embedding")) embedding_ = r->hf;
      if (const auto* r = (*arch)->by_role("output")) output_ = r->hf;
    }
  }
  if (!embedding_.empty()) return {};
  // An architecture that is not known: by PEFT's names for the two.
  output_ = "lm_head.weight";
  for (const auto& t : base_.tensors)
    if (t.name.ends_with("embed_tokens.weight")) embedding_ = t.name;
  return {};
}

// The file must hold the modules that the configuration names, and no others.
Status Merge::check_targets(const Adding& a) {
  const auto& [file, c, keys] = a;
  for (const auto& [path, m] : keys.modules) {
    if (!m.a || !m.b)
      return bad_input("merging {}: the module '{}' has {} but no {}; the file is not whole", file, path, m.a ? "lora_A" : "lora_B", m.a ? "lora_B" : "lora_A");
    INGOT_ASSIGN(bool target, c.is_target(path));
    if (!target)
      return bad_input("merging {}: it has factors for '{}', which target_modules in adapter_config.json does not name; "
                       "the two files do not belong together",
                       file, path);
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

// Whole tensors: what the configuration names must be there, and what is there must be what PEFT would load.
Status Merge::check_saved(const Adding& a) {
  const auto& [file, c, keys] = a;
  for (const auto& [name, t] : keys.replaced)
    if (const auto m = keys.modules.find(module_of(name)); m != keys.modules.end() && !(name.ends_with(".bias") && (c.bias != "none" || t->name.ends_with(".base_layer.bias"))))
      return bad_input("merging {}: '{}' is left over: the module has factors, so that PEFT would not load it", file, t->name);
  const bool shared = tied_ && c.ensure_weight_tying;
  const auto need = [&](const std::string& name) -> Status {
    if (!c.is_saved(module_of(name)) || keys.replaced.count(name) || (shared && is_embedding(name))) return {};
    return bad_input("merging {}: modules_to_save in adapter_config.json names '{}', but the file has no weights for it; the file is not whole", file, module_of(name));
  };
  for (const auto& t : base_.tensors) INGOT_TRY(need(t.name));
  return tied_ && !output_.empty() ? need(output_) : Status();
}

// A tied head and its embedding are one tensor where PEFT keeps them one: what the file holds of the head is the embedding's once more.
void Merge::join_tied(Adding* a) {
  if (!tied_ || embedding_.empty()) return;
  auto& [file, c, keys] = *a;
  for (auto* list : {&keys.base_copies, &keys.replaced}) {
    const auto head = list->find(output_);
    if (head == list->end()) continue;
    if (list == &keys.replaced && c.is_saved(module_of(output_)) && !c.ensure_weight_tying) continue;
    // Under factors, what is stored of the two is what they were before.
    auto& to = keys.modules.count(module_of(embedding_)) ? keys.base_copies : *list;
    to.emplace(embedding_, head->second);
    list->erase(head);
  }
  // Its factors are the embedding's, turned; and an embedding that was trained by factors has no other value.
  if (c.ensure_weight_tying && keys.modules.count(module_of(embedding_))) keys.modules.erase(module_of(output_));
}

// The input embedding of a tied model is changed, or its output gets weights of its own: they are two tensors from now
// on, as they were while the adapter was trained. With ensure_weight_tying they stay one.
Status Merge::untie(const Adding& a) {
  const auto& [file, c, keys] = a;
  if (!tied_ || embedding_.empty() || output_.empty()) return {};
  const auto changed = [&](const std::string& name) {
    return keys.modules.count(module_of(name)) || (keys.replaced.count(name) && c.is_saved(module_of(name)));
  };
  if (!changed(output_) && !keys.token_rows.count(module_of(output_)) && (!changed(embedding_) || c.ensure_weight_tying)) return {};
  // A base may keep both though they are tied. In training the head was what the embedding was before.
  const NodePtr* e = node(embedding_);
  if (!e) return {};
  if (!index_.count(output_)) {
    index_[output_] = out_.tensors.size();
    out_.tensors.push_back({output_, *e});
  }
  untied_ = true;
  tied_ = false;
  return {};
}

// Embeddings may have another number of rows: the vocabulary was resized.
Status Merge::replace(const std::string& name, const LazyTensor& t, const std::string& file) {
  NodePtr* w = node(name);
  const Shape have = t.spec().shape;
  if (!w) {
    index_[name] = out_.tensors.size();
    out_.tensors.push_back({name, t.node});
    return {};
  }
  const Shape want = (*w)->spec().shape;
  const bool resized = is_embedding(name) && have.rank == 2 && want.rank == 2 && have[1] == want[1] && have[0] > 0;
  if (!(have == want) && !resized)
    return bad_input("merging {}: '{}' is {}, but the base's '{}' is {}; the adapter is for another model", file, t.name, to_string(have), name,
                     to_string(want));
  *w = t.node;
  return {};
}

Status Merge::replace_rows(const Adding& a) {
  const auto& [file, c, keys] = a;
  for (const auto& [module, t] : keys.token_rows) {
    const std::string name = module + ".weight";
    const std::vector<int64_t>* rows = nullptr;
    for (const auto& [end, list] : c.token_indices)
      if (end.empty() ? name == embedding_ : module.ends_with(end)) rows = &list;
    if (!rows)
      return bad_input("merging {}: '{}' holds trained rows, but trainable_token_indices in adapter_config.json does not name '{}'; the two files do not "
                       "belong together", file, t->name, module);
    NodePtr* w = node(name);
    if (!w) return bad_input("merging {}: the base has no tensor '{}', which '{}' is for", file, name, t->name);
    const Shape want = (*w)->spec().shape, have = t->spec().shape;
    if (want.rank != 2 || have.rank != 2 || have[1] != want[1] || have[0] != static_cast<int64_t>(rows->size()))
      return bad_input("merging {}: '{}' is {}, expected {} rows (trainable_token_indices) for '{}', {}", file, t->name, to_string(have), rows->size(), name,
                       to_string(want));
    if (!find_codec((*w)->spec().type))
      return bad_input("merging {}: the base's tensor {} is {}, whose values ingot cannot read yet", file, tensor_text(**w, name), info((*w)->spec().type).name);
    for (int64_t row : *rows)
      if (row >= want[0])
        return bad_input("merging {}: trainable_token_indices names row {}, but '{}' has {}: the embedding was resized and not saved; save the adapter with "
                         "save_embedding_layers=True", file, row, name, want[0]);
    *w = with_rows(*w, t->node, *rows);
  }
  for (const auto& [end, list] : c.token_indices) {
    const auto named = [&, e = &end](const auto& kv) { return e->empty() ? kv.first + ".weight" == embedding_ : kv.first.ends_with(*e); };
    const bool tied_head = tied_ && !end.empty() && module_of(output_).ends_with(end);
    if (!tied_head && std::none_of(keys.token_rows.begin(), keys.token_rows.end(), named))
      return bad_input("merging {}: adapter_config.json names trained rows (trainable_token_indices) of '{}', but the file has none; the file is not whole", file,
                       end.empty() ? embedding_ : end);
  }
  return {};
}

bool fits(const TensorSpec& w, const TensorSpec& a, const TensorSpec& b, bool transposed) {
  return w.shape[transposed ? 1 : 0] == b.shape[0] && w.shape[transposed ? 0 : 1] == a.shape[1];
}

// Conv1D keeps [in, out]. PEFT corrects a wrong fan_in_fan_out by the module's class; here the modules whose shape fits
// one way only decide for the square ones. True: at least one is [in, out], and none [out, in].
Result<bool> Merge::linear_is_transposed(const LoraKeys& keys) {
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

Status Merge::merge_module(const std::string& path, const LoraModule& m, const Adding& adding, double weight, bool conv1d) {
  const auto& [file, c, keys] = adding;
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

// Head and embedding speak of the same tokens.
Status Merge::check_vocabulary(const std::string& file) {
  const NodePtr *e = node(embedding_), *h = node(output_);
  if (!e || !h || (*e)->spec().shape.rank != 2 || (*h)->spec().shape.rank != 2) return {};
  const int64_t rows = (*e)->spec().shape[0], out = (*h)->spec().shape[0];
  if (rows == out) return {};
  return bad_input("merging {}: '{}' has {} rows and '{}' {}: the vocabulary was resized and only one of the two is saved; save the adapter with "
                   "save_embedding_layers=True", file, embedding_, rows, output_, out);
}

void Merge::tell_whole(const Adding& a) const {
  const auto& [file, c, keys] = a;
  std::string unasked, copies;
  const auto list = [](std::string* text, const std::string& name) { *text += (text->empty() ? "'" : ", '") + name + "'"; };
  for (const auto& [name, t] : keys.replaced)
    if (!c.is_saved(module_of(name)) && !name.ends_with(".bias")) list(&unasked, name);
  for (const auto& [name, t] : keys.base_copies)
    if (!keys.replaced.count(name)) list(&copies, name);
  if (!unasked.empty()) notice(fmt::format("'{}' brings {} as a whole, which takes the place of the base's", file, unasked));
  if (!copies.empty()) notice(fmt::format("'{}' keeps the {} that it was trained on, which takes the place of the base's", file, copies));
  for (const auto& f : c.passed_over) notice(fmt::format("'{}': PEFT 0.21 does not know the field '{}' and passes over it; so does this", join_path(file, "adapter_config.json"), f));
  if (!keys.changes.empty()) notice(fmt::format("'{}': {}", file, keys.changes));
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
  const KnownName known = [&](const std::string& name) { return index_.count(name) || (tied_ && name == output_) || is_task_head(name); };
  INGOT_ASSIGN(LoraKeys found, read_lora_keys(adapter, known));
  Adding a{file, std::move(c), std::move(found)};
  const LazyTensor* head = tied_ && a.keys.replaced.count(embedding_) && a.keys.replaced.count(output_) ? a.keys.replaced.at(output_) : nullptr;
  join_tied(&a);
  INGOT_TRY(check_targets(a));
  INGOT_TRY(check_saved(a));
  if (a.keys.replaced.count(output_)) head = nullptr;  // of its own
  const auto& [_, config, keys] = a;
  if ((!keys.replaced.empty() || !keys.token_rows.empty()) && spec.weight != 1)
    return usage("merging {}: it replaces whole tensors ('{}'), which a weight of {} cannot scale; leave --weight out", file,
                 keys.replaced.empty() ? keys.token_rows.begin()->first : keys.replaced.begin()->first, spec.weight);
  tell_whole(a);
  for (const auto& [name, t] : keys.base_copies)
    if (!keys.replaced.count(name)) INGOT_TRY(replace(name, *t, file));
  INGOT_TRY(untie(a));
  for (const auto& [name, t] : keys.replaced) {
    INGOT_TRY(replace(name, *t, file));
    if (const auto [by, first] = replaced_by_.emplace(name, file); !first) notice(fmt::format("'{}' is replaced by '{}' and by '{}', which comes later and counts", name, by->second, file));
  }
  if (head) {
    NodePtr& e = *node(embedding_);
    if (!(head->spec().shape == e->spec().shape))
      return bad_input("merging {}: '{}' is {}, but '{}', to which the model ties it, {}", file, head->name, to_string(head->spec().shape), embedding_, to_string(e->spec().shape));
    e = same_as(e, head->node, {"merging " + file, head->name, "the model ties the two, and the adapter holds different ones"});
  }
  INGOT_TRY(replace_rows(a));
  INGOT_ASSIGN(bool conv1d, linear_is_transposed(keys));
  if (!conv1d && config.fan_in_fan_out) {
    // All square: the flag is all there is to go by.
    conv1d = std::all_of(keys.modules.begin(), keys.modules.end(), [&](const auto& kv) {
      const auto w = (*node(kv.first + ".weight"))->spec().shape;
      return kv.second.embedding || (w.rank == 2 && w[0] == w[1]);
    });
  }
  for (const auto& [path, m] : keys.modules) INGOT_TRY(merge_module(path, m, a, spec.weight, conv1d));
  INGOT_TRY(check_vocabulary(file));
  task_type_ = a.config.task_type;
  const NodePtr* e = node(embedding_);
  INGOT_TRY(take_adapter_files(adapter, e ? (*e)->spec().shape[0] : 0, keys.replaced.count(embedding_) || keys.base_copies.count(embedding_), &out_.files, options_.on_notice));
  names_.push_back(file_name(file));
  return {};
}

// A head for a task takes the place of the one for the next token.
Status Merge::make_classifier(OrderedJson* config) {
  const auto head = std::find_if(out_.tensors.begin(), out_.tensors.end(), [](const LazyTensor& t) { return is_task_head(t.name) && t.name.ends_with(".weight"); });
  if (head == out_.tensors.end() || base_.find(head->name)) return {};
  const char* end = task_type_ == "SEQ_CLS" ? "ForSequenceClassification" : task_type_ == "TOKEN_CLS" ? "ForTokenClassification" : nullptr;
  OrderedJson& classes = (*config)["architectures"];
  std::string name = classes.is_array() && !classes.empty() && classes[0].is_string() ? classes[0].get<std::string>() : "";
  if (!end || !strip(&name, "ForCausalLM"))
    return bad_input("merging {}: the adapter has the head '{}' for the task '{}', with which ingot cannot make a model of {}", base_.path, head->name, task_type_, json_brief(Json(classes)));
  const std::string made = name + end;
  classes = OrderedJson::array({made});
  const int64_t labels = head->spec().shape[0];
  if (const auto ids = config->find("id2label"); ids == config->end() || !ids->is_object() || static_cast<int64_t>(ids->size()) != labels) {
    OrderedJson to = OrderedJson::object(), from = OrderedJson::object();
    for (int64_t i = 0; i < labels; ++i) to[std::to_string(i)] = fmt::format("LABEL_{}", i), from[fmt::format("LABEL_{}", i)] = i;
    (*config)["id2label"] = to, (*config)["label2id"] = from;
  }
  notice(fmt::format("the adapter's head '{}' for {} labels makes the model a {}; the head for the next token is left out", head->name, labels, made));
  out_.tensors.edit([&](std::vector<LazyTensor>& all) { std::erase_if(all, [&](const LazyTensor& t) { return t.name == output_; }); });
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
  const NodePtr* e = node(embedding_);
  const LazyTensor* before = base_.find(embedding_);
  if (e && before && (*e)->spec().shape[0] != before->spec().shape[0]) {
    j["vocab_size"] = (*e)->spec().shape[0];
    notice(fmt::format("the vocabulary has {} rows instead of the base's {} (vocab_size)", (*e)->spec().shape[0], before->spec().shape[0]));
  }
  INGOT_TRY(make_classifier(&j));
  it = out_.files.find("config.json");
  it->second = json_text(j);
  return std::move(out_);
}

}  // namespace

Result<Artifact> lora_merge(const Artifact& base, const std::vector<AdapterSpec>& adapters, const LoraMergeOptions& options) {
  if (base.naming == "gguf")
    return bad_input("merging into {}: a GGUF file is not supported as the base of a LoRA merge; give the Hugging Face "
                     "directory that it was made from",
                     base.path);
  if (base.naming == "peft") return bad_input("merging into {}: it is an adapter, not a model", base.path);
  return within_memory("merging into " + base.path, [&]() -> Result<Artifact> {
    Merge m(base, options);
    INGOT_TRY(m.init());
    for (const auto& a : adapters) INGOT_TRY(m.add(a));
    return m.finish();
  });
}

}  // namespace ingot::transform
