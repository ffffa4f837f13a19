#include "transform/lora.h"

#include <algorithm>
#include <cmath>

#include "base/memory.h"
#include "formats/hf_weights.h"
#include "model/architecture.h"
#include "quant/decode.h"
#include "storage/hub.h"
#include "transform/adapter_files.h"
#include "transform/class_rules.h"
#include "transform/lora_merge.h"
#include "transform/lora_nodes.h"

namespace ingot::transform {
namespace {

// Of a causal model that is not known: where its embedding is.
constexpr const char* kEmbeddings[] = {"embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "tok_embeddings.weight"};

bool strip_weight(std::string* name) {
  constexpr std::string_view kEnd = ".weight";
  if (name->size() <= kEnd.size() || !name->ends_with(kEnd)) return false;
  name->resize(name->size() - kEnd.size());
  return true;
}

bool fits(const TensorSpec& w, const TensorSpec& a, const TensorSpec& b, bool transposed) {
  return w.shape[transposed ? 1 : 0] == b.shape[0] && w.shape[transposed ? 0 : 1] == a.shape[1];
}

}  // namespace

Status Merge::init() {
  if (auto it = base_.files.find("config.json"); it != base_.files.end()) {
    INGOT_ASSIGN(config_, parse_json(it->second, "reading " + join_path(base_.path, "config.json")));
    if (const Json* t = json_member(config_, "tie_word_embeddings"); t && !t->is_boolean())
      return bad_input("reading {}: 'tie_word_embeddings' is {}, expected true or false", join_path(base_.path, "config.json"), json_brief(*t));
    if (auto arch = find_architecture(config_, base_.path); arch.ok() && !json_member(config_, "text_config")) {
      known_ = true;
      if (const auto* r = (*arch)->by_role("embedding")) embedding_ = r->hf[0];
      if (const auto* r = (*arch)->by_role("output")) output_ = r->hf[0];
      tied_ = (*arch)->tied_by_default;
    }
  }
  if (embedding_.empty()) {
    // Classes that are not known: a model for the next token whose weights have no head is tied, whatever its class takes for granted.
    output_ = "lm_head.weight";
    for (const char* name : kEmbeddings)
      for (const auto& t : base_.tensors)
        if (embedding_.empty() && t.name.ends_with(name)) embedding_ = t.name;
    tied_ = !embedding_.empty() && !index_.count(output_);
  }
  tied_ = config_tied_ = json_bool(config_, "tie_word_embeddings").value_or(tied_);
  return tied_ && index_.count(output_) && index_.count(embedding_) ? settle_head() : Status();
}

// PEFT makes factors for the modules that the configuration names, loads those that the file has too, and passes over the rest of the file: fresh factors
// change nothing.
Status Merge::settle_targets(Adding* a) {
  auto& [file, c, keys] = *a;
  const bool had = !keys.modules.empty();
  std::vector<std::string> others, fresh;
  for (const auto& [path, m] : std::map(keys.modules)) {
    if (!m.a || !m.b)
      return bad_input("merging {}: the module '{}' has {} but no {}; the file is not whole", file, path, m.a ? "lora_A" : "lora_B", m.a ? "lora_B" : "lora_A");
    const bool head = path + ".weight" == output_, embedding = path + ".weight" == embedding_;
    if ((known_ || head || embedding) && m.embedding != embedding)
      return bad_input("merging {}: '{}' is {}, whose factors PEFT calls {}; in the file they are '{}' and '{}', which PEFT would pass over; rename them", file,
                       path, embedding ? "an embedding" : "a linear module", embedding ? "lora_embedding_A and lora_embedding_B" : "lora_A and lora_B",
                       m.a->name, m.b->name);
    INGOT_ASSIGN(bool target, c.is_target(keys.name(path)));
    if (c.targets.all_linear) target = target && !head && !embedding;
    // PEFT takes a head that shares the embedding's factors out of the list.
    if (target || (head && tied_ && c.ties_factors)) continue;
    others.push_back("'" + path + "'");
    keys.modules.erase(path);
  }
  if (had && keys.modules.empty())
    return bad_input("merging {}: it has factors for {}, of which target_modules in adapter_config.json names none; the two files do not belong together", file,
                     some_of(others));
  if (!others.empty())
    notice(fmt::format("'{}' has factors for {}, which target_modules in adapter_config.json does not name: they are passed over, as in PEFT", file, some_of(others)));
  if (c.targets.all_linear) return {};
  for (const auto& t : base_.tensors) {
    std::string module = t.name;
    if (!strip_weight(&module) || t.spec().shape.rank < 2 || keys.modules.count(module)) continue;
    INGOT_ASSIGN(bool target, c.is_target(keys.name(module)));
    if (target) fresh.push_back("'" + module + "'");
  }
  if (fresh.empty()) return {};
  if (c.random_factors)
    return bad_input("merging {}: adapter_config.json names {}, but the file has no factors for {}, and with init_lora_weights false PEFT takes random ones; the file is "
                     "not whole", file, some_of(fresh), fresh.size() > 1 ? "them" : "it");
  notice(fmt::format("'{}': adapter_config.json names {}, but the file has no factors for {}: {} as in the base, as in PEFT", file, some_of(fresh),
                     fresh.size() > 1 ? "them" : "it", fresh.size() > 1 ? "they stay" : "it stays"));
  return {};
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
  if (!find_decode(ws.type))
    return bad_input("merging {}: the base's tensor {} is {}, whose values ingot cannot read yet", file, tensor_text(*w, tensor),
                     info(ws.type).name);
  INGOT_ASSIGN(const auto s, c.scaling(keys.name(path)));
  if (as.shape.rank != 2 || bs.shape.rank != 2 || ws.shape.rank != 2)
    return bad_input("merging {}: the module '{}' has {}-D weights and factors {} and {}; only 2-D ones are supported",
                     file, path, ws.shape.rank, to_string(as.shape), to_string(bs.shape));
  if (as.shape[0] == 0 || bs.shape[1] == 0)
    return bad_input("merging {}: the factors of '{}' have rank 0 ({} and {}); the adapter is damaged", file, path,
                     to_string(as.shape), to_string(bs.shape));
  if (!m.shared && (as.shape[0] != s.rank || bs.shape[1] != s.rank))
    return bad_input("merging {}: the factors of '{}' are {} and {}, but adapter_config.json gives it the rank {}", file,
                     path, to_string(as.shape), to_string(bs.shape), s.rank);
  const bool straight = !m.embedding && fits(ws, as, bs, false), turned = fits(ws, as, bs, true);
  const Shape vocabulary = m.embedding ? Shape{as.shape[1], bs.shape[0]} : Shape{bs.shape[0], as.shape[1]};
  if (!straight && !turned && is_embedding(tensor) && vocabulary[1] == ws.shape[1])
    return bad_input("merging {}: the factors of '{}' are for {} tokens, but {} has {} rows: the embedding was resized in training and not saved. Save the adapter "
                     "with save_embedding_layers=True, or give the resized model as the base", file, path, vocabulary[0], tensor_text(*w, tensor), ws.shape[0]);
  if (!straight && !turned)
    return bad_input("merging {}: the factors of '{}' are {} and {}, which do not fit {}, {}; the adapter is for another model",
                     file, path, to_string(as.shape), to_string(bs.shape), tensor_text(*w, tensor), to_string(ws.shape));
  const double scale = s.scale * weight;
  NodePtr fa = m.a->node, fb = m.b->node;
  for (const auto& [mine, head] : {std::pair{&fa, m.head_b}, {&fb, m.head_a}}) {
    if (!head) continue;
    const std::string why = "ensure_weight_tying makes the head's factors the embedding's, turned, and the adapter holds others";
    const NodePtr t = head->spec().shape.rank == 2 ? ingot::transform::turned(head->node) : nullptr;
    if (!t || !(t->spec().shape == (*mine)->spec().shape)) return bad_input("merging {}: '{}' is {}: {}", file, head->name, to_string(head->spec().shape), why);
    *mine = same_as(*mine, t, {"merging " + file, head->name, why});
  }
  w = lora_delta(tensor, w, {fa, fb, m.a->name, m.b->name, scale, !straight || (turned && conv1d)});
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
    if (!find_decode((*bias)->spec().type))
      return bad_input("merging {}: the bias of '{}' is {}, whose values ingot cannot read yet", file, path,
                       info((*bias)->spec().type).name);
    *bias = add_scaled(*bias, m.b_bias->node, scale);
  }
  return {};
}

Status Merge::tell_whole(const Adding& a) {
  const auto& [file, c, keys] = a;
  std::string unasked, copies;
  const auto list = [](std::string* text, const std::string& name) { *text += (text->empty() ? "'" : ", '") + name + "'"; };
  for (const auto& [name, t] : keys.replaced)
    if (!is_saved(a, name) && !name.ends_with(".bias") && !is_task_head(name)) list(&unasked, name);
  for (const auto& [name, t] : keys.base_copies) {
    const NodePtr* w = node(name);
    INGOT_ASSIGN(const bool other, w ? differ_at_once(*w, t->node) : Result<bool>(true));
    if (!keys.replaced.count(name) && other) list(&copies, name);
  }
  if (!unasked.empty()) notice(fmt::format("'{}' brings {} as a whole, in place of the base's", file, unasked));
  if (!copies.empty()) notice(fmt::format("'{}' keeps the {} that it was trained on, in place of the base's", file, copies));
  if (!c.passed_over.empty())
    notice(fmt::format("'{}': PEFT 0.21 does not know {} and passes over {}; so does this", join_path(file, "adapter_config.json"), some_of(c.passed_over, 10),
                       c.passed_over.size() > 1 ? "them" : "it"));
  if (!keys.passed_over.empty())
    notice(fmt::format("'{}': {} of its tensors are none that PEFT would load, and are passed over ('{}'{})", file, keys.passed_over.size(), keys.passed_over[0],
                       keys.passed_over.size() > 1 ? " .." : ""));
  if (!keys.changes.empty()) notice(fmt::format("'{}': {}", file, keys.changes));
  return {};
}

Status Merge::add(const AdapterSpec& spec) {
  Artifact adapter = spec.adapter;
  const std::string file = adapter.path;
  const auto text = adapter.files.find("adapter_config.json");
  if (adapter.naming != "peft" || text == adapter.files.end())
    return bad_input("merging {}: it is no PEFT adapter (no adapter_config.json); give the adapter's directory", file);
  if (!std::isfinite(spec.weight)) return usage("merging {}: the weight must be a finite number", file);
  INGOT_ASSIGN(LoraConfig c, parse_lora_config(text->second, join_path(file, "adapter_config.json")));
  if (adapter.tensors.empty()) return bad_input("merging {}: the adapter has no tensors", file);
  if (c.targets.absent) INGOT_TRY(set_default_targets(json_string(config_, "model_type").value_or(""), join_path(file, "adapter_config.json"), &c));
  for (size_t i = 0; i < adapter.tensors.size(); ++i)
    if (NodePtr& n = adapter.tensors.node(i); n->spec().type == DType::kF64) n = narrowed(n);
  const KnownName known = [&](const std::string& name) { return index_.count(name) || (tied_ && name == output_) || is_task_head(name); };
  auto found = read_lora_keys(adapter, known);
  if (!found.ok() && c.task_type == "QUESTION_ANS")
    return bad_input("merging {}: it was trained for the task QUESTION_ANS, whose head and class of model ingot cannot write yet ({})", file, found.error().message);
  if (!found.ok()) return found.take_error();
  Adding a{file, std::move(c), std::move(*found)};
  INGOT_TRY(settle_targets(&a));
  pass_over(&a);
  INGOT_ASSIGN(const LazyTensor* head, join_tied(&a));
  INGOT_TRY(check_saved(a));
  const auto& [_, config, keys] = a;
  if ((!keys.replaced.empty() || !keys.token_rows.empty()) && spec.weight != 1)
    return usage("merging {}: it replaces whole tensors ('{}'), which a weight of {} cannot scale; leave --weight out", file,
                 keys.replaced.empty() ? keys.token_rows.begin()->first : keys.replaced.begin()->first, spec.weight);
  INGOT_TRY(tell_whole(a));
  for (const auto& [name, t] : keys.base_copies) INGOT_TRY(replace(name, *t, file));
  INGOT_TRY(untie(a));
  for (const auto& [name, t] : keys.replaced) INGOT_TRY(replace(name, *t, file));
  INGOT_TRY(check_modules(a));
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
  INGOT_TRY(check_vocabulary(a));
  for (const auto& [name, t] : keys.replaced) {
    changed_by_[name] = file;
    if (is_task_head(name)) task_type_ = config.task_type;
  }
  for (const auto& [module, m] : keys.modules) changed_by_[module + ".weight"] = file;
  for (const auto& [module, t] : keys.token_rows) changed_by_[module + ".weight"] = file;
  const NodePtr* e = node(embedding_);
  INGOT_TRY(take_adapter_files(adapter, e ? (*e)->spec().shape[0] : 0, keys.replaced.count(embedding_) || keys.base_copies.count(embedding_), &out_.files, options_.on_notice));
  names_.push_back(model_name(file));
  return {};
}

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
