// Whole tensors of an adapter: what is replaced, which of two tied ones, rows of an embedding, heads, and what the configuration says then.
#include <algorithm>

#include "model/architecture.h"
#include "quant/decode.h"
#include "storage/hub.h"
#include "transform/class_rules.h"
#include "transform/lora_merge.h"
#include "transform/lora_nodes.h"

namespace ingot::transform {

bool is_task_head(const std::string& tensor) {
  for (const char* name : {"score.weight", "score.bias", "classifier.weight", "classifier.bias"})
    if (tensor == name) return true;
  return false;
}

// A base that is to be tied and has both: transformers ties them where they are equal, else they are two. The first rows tell at once; the rest is compared
// as it streams.
Status Merge::settle_head() {
  NodePtr &e = *node(embedding_), h = *node(output_);
  INGOT_ASSIGN(const bool two, differ_at_once(e, h));
  if (two) {
    tied_ = false, untied_ = true;
    notice(fmt::format("'{}': config.json ties '{}' to '{}', but the two differ, and transformers does not tie them then: they stay two", base_.path, output_, embedding_));
    return {};
  }
  e = same_as(e, h, {"merging into " + base_.path, output_, "config.json says tie_word_embeddings, which is so for a part of it only; set it to false"});
  out_.tensors.edit([&](std::vector<LazyTensor>& all) { std::erase_if(all, [&](const LazyTensor& t) { return t.name == output_; }); });
  index_.clear();
  for (size_t i = 0; i < out_.tensors.size(); ++i) index_[out_.tensors[i].name] = i;
  return {};
}

bool Merge::is_saved(const Adding& a, const std::string& tensor) const { return a.config.is_saved(a.keys.name(module_of(tensor))); }

// Whole tensors: what the configuration names must be there.
Status Merge::check_saved(const Adding& a) {
  const auto& [file, c, keys] = a;
  const bool shared = tied_ && c.ties_saved;
  const auto need = [&](const std::string& name) -> Status {
    if (!is_saved(a, name) || keys.replaced.count(name) || (shared && is_embedding(name))) return {};
    return bad_input("merging {}: modules_to_save in adapter_config.json names '{}', but the file has no weights for it; the file is not whole", file, module_of(name));
  };
  for (const auto& t : base_.tensors)
    if (index_.count(t.name)) INGOT_TRY(need(t.name));
  return tied_ && !output_.empty() ? need(output_) : Status();
}

// What PEFT does not load is passed over: weights of a module under factors by its plain name, and copies of a base that nothing was put upon.
void Merge::pass_over(Adding* a) {
  auto& [file, c, keys] = *a;
  const auto drop = [&, k = &keys](std::map<std::string, const LazyTensor*>* list, const std::string& name) {
    k->passed_over.push_back(list->at(name)->name);
    list->erase(name);
  };
  for (const auto& [name, t] : std::map(keys.replaced)) {
    const bool bias = name.ends_with(".bias") && (c.bias != "none" || t->name.ends_with(".base_layer.bias"));
    if (keys.modules.count(module_of(name)) && !bias) drop(&keys.replaced, name);
  }
  for (const auto& [name, t] : std::map(keys.base_copies)) {
    const std::string module = module_of(name);
    if (!keys.modules.count(module) && !keys.token_rows.count(module) && !is_saved(*a, name)) drop(&keys.base_copies, name);
  }
}

// A tied head and its embedding are one tensor where PEFT keeps them one: what the file holds of the head is the embedding's once more. The head's
// weights where both are there as a whole: they are to be the same.
Result<const LazyTensor*> Merge::join_tied(Adding* a) {
  const LazyTensor* none = nullptr;
  if (!tied_ || embedding_.empty()) return none;
  auto& [file, c, keys] = *a;
  const std::string head = module_of(output_), embedding = module_of(embedding_);
  const auto move = [&](std::map<std::string, const LazyTensor*>* from, std::map<std::string, const LazyTensor*>* to) {
    const auto it = from->find(output_);
    if (it == from->end()) return;
    to->emplace(embedding_, it->second);
    from->erase(it);
  };
  move(&keys.base_copies, &keys.base_copies);
  // Two in training where one of them was saved by itself.
  const bool apart = !c.ties_saved && (is_saved(*a, output_) || is_saved(*a, embedding_));
  const auto whole = keys.replaced.find(output_);
  const LazyTensor* copy = !apart && whole != keys.replaced.end() && keys.replaced.count(embedding_) ? whole->second : nullptr;
  // Under factors or trained rows, what is stored of the two is what they were before.
  if (!apart) move(&keys.replaced, keys.modules.count(embedding) || keys.token_rows.count(embedding) ? &keys.base_copies : &keys.replaced);
  // Its factors are the embedding's, turned; the scale goes by its own name, and where that makes it another the two are no longer one.
  if (const auto e = keys.modules.find(embedding); c.ties_factors && (e != keys.modules.end() || keys.modules.count(head))) {
    if (e == keys.modules.end())
      return bad_input("merging {}: it has factors for '{}' and none for '{}', whose they are with ensure_weight_tying; the file is not whole", file, head, embedding);
    if (const auto h = keys.modules.find(head); h != keys.modules.end()) e->second.head_a = h->second.a, e->second.head_b = h->second.b;
    INGOT_ASSIGN(const auto of_head, c.scaling(keys.name(head)));
    INGOT_ASSIGN(const auto of_embedding, c.scaling(keys.name(embedding)));
    keys.modules.erase(head);
    if (of_head.scale != of_embedding.scale) (keys.modules[head] = e->second).shared = true;
  }
  // Its rows are the embedding's unless the configuration has others for it.
  const auto *rows = c.rows_of(keys.name(head), false), *of_embedding = c.rows_of(keys.name(embedding), true);
  if (keys.token_rows.count(embedding) && (!rows || (of_embedding && *rows == *of_embedding))) keys.token_rows.erase(head);
  return copy;
}

// The input embedding of a tied model is changed, or its output gets weights of its own: they are two tensors from now
// on, as they were while the adapter was trained. With ensure_weight_tying they stay one.
Status Merge::untie(const Adding& a) {
  const auto& [file, c, keys] = a;
  if (!tied_ || embedding_.empty() || output_.empty()) return {};
  const auto factors = [&](const std::string& name) { return keys.modules.count(module_of(name)) > 0; };
  const auto saved = [&](const std::string& name) { return keys.replaced.count(name) && is_saved(a, name); };
  const bool embedding = (factors(embedding_) && !c.ties_factors) || (saved(embedding_) && !c.ties_saved);
  if (!embedding && !factors(output_) && !saved(output_) && !keys.token_rows.count(module_of(output_))) return {};
  // A base may keep both though they are tied. In training the head was what the embedding was before.
  const NodePtr* e = node(embedding_);
  if (!e) return {};
  if (!index_.count(output_)) {
    index_[output_] = out_.tensors.size();
    out_.tensors.push_back({output_, *e});
  }
  untied_ = true;
  tied_ = false;
  const auto head = keys.modules.find(module_of(output_));
  const bool scales = head != keys.modules.end() && head->second.shared;
  notice(fmt::format("'{}' {}: they are two tensors from now on (tie_word_embeddings: false)", file,
                     scales ? fmt::format("gives '{}' and '{}' the same factors in other scales (rank_pattern, alpha_pattern)", embedding_, output_)
                            : fmt::format("trains '{}' or '{}' by itself", embedding_, output_)));
  return {};
}

// Embeddings may have another number of rows: the vocabulary was resized.
Status Merge::replace(const std::string& name, const LazyTensor& t, const std::string& file) {
  NodePtr* w = node(name);
  const Shape have = t.spec().shape;
  if (!w) {
    index_[name] = out_.tensors.size();
    out_.tensors.push_back({name, finite(t.node, t.name)});
    return {};
  }
  const Shape want = (*w)->spec().shape;
  const bool resized = is_embedding(name) && have.rank == 2 && want.rank == 2 && have[1] == want[1] && have[0] > 0;
  if (!(have == want) && !resized)
    return bad_input("merging {}: '{}' is {}, but the base's '{}' is {}; the adapter is for another model", file, t.name, to_string(have), name,
                     to_string(want));
  *w = finite(t.node, t.name);
  if (const auto by = changed_by_.find(name); by != changed_by_.end() && by->second != file)
    notice(fmt::format("what '{}' changed in '{}' is lost: '{}', which comes later, brings the whole tensor", by->second, name, file));
  return {};
}

Status Merge::replace_rows(const Adding& a) {
  const auto& [file, c, keys] = a;
  for (const auto& [module, t] : keys.token_rows) {
    const std::string name = module + ".weight";
    const std::vector<int64_t>* rows = c.rows_of(keys.name(module), name == embedding_);
    if (!rows)
      return bad_input("merging {}: '{}' holds trained rows, but trainable_token_indices in adapter_config.json does not name '{}'; the two files do not "
                       "belong together", file, t->name, module);
    NodePtr* w = node(name);
    if (!w) return bad_input("merging {}: the base has no tensor '{}', which '{}' is for", file, name, t->name);
    const Shape want = (*w)->spec().shape, have = t->spec().shape;
    if (want.rank != 2 || have.rank != 2 || have[1] != want[1] || have[0] != static_cast<int64_t>(rows->size()))
      return bad_input("merging {}: '{}' is {}, expected {} rows (trainable_token_indices) for '{}', {}", file, t->name, to_string(have), rows->size(), name,
                       to_string(want));
    if (!find_decode((*w)->spec().type))
      return bad_input("merging {}: the base's tensor {} is {}, whose values ingot cannot read yet", file, tensor_text(**w, name), info((*w)->spec().type).name);
    for (int64_t row : *rows)
      if (row >= want[0])
        return bad_input("merging {}: trainable_token_indices names row {}, but '{}' has {}: the embedding was resized and not saved; save the adapter with "
                         "save_embedding_layers=True", file, row, name, want[0]);
    const NodePtr trained = finite(t->node, t->name);
    *w = with_rows(*w, trained, *rows);
    // Where the configuration ties the two, PEFT puts the rows into both, whatever else happens to the head.
    if (name != embedding_ || !config_tied_ || keys.token_rows.count(module_of(output_)) || keys.replaced.count(output_)) continue;
    if (NodePtr* h = node(output_); h && (*h)->spec().shape == want) *h = with_rows(*h, trained, *rows);
  }
  // Each list of the configuration finds its rows; those of a tied head may be the embedding's.
  for (const auto& [end, list] : c.token_indices) {
    const bool there = std::any_of(keys.token_rows.begin(), keys.token_rows.end(), [&, rows = &list](const auto& kv) {
      const auto* own = c.rows_of(keys.name(kv.first), kv.first + ".weight" == embedding_);
      return own == rows || (tied_ && own && *own == *rows && kv.first + ".weight" == embedding_);
    });
    if (!there)
      return bad_input("merging {}: adapter_config.json names trained rows (trainable_token_indices) of '{}', but the file has none; the file is not whole", file,
                       end.empty() ? embedding_ : end);
  }
  return {};
}

// Head and embedding speak of the same tokens.
Status Merge::check_vocabulary(const Adding& a) {
  const NodePtr *e = node(embedding_), *h = node(output_);
  if (!e || !h || (*e)->spec().shape.rank != 2 || (*h)->spec().shape.rank != 2) return {};
  const int64_t rows = (*e)->spec().shape[0], out = (*h)->spec().shape[0];
  if (rows == out) return {};
  const bool factors = a.keys.modules.count(module_of(embedding_)) || a.keys.modules.count(module_of(output_));
  return bad_input("merging {}: '{}' has {} rows and '{}' {}: the vocabulary was resized and only one of the two is saved; {}", a.file, embedding_, rows, output_, out,
                   factors ? "PEFT saves only the one that has factors: save the resized base too and merge into that, or train the other one by modules_to_save"
                           : "save the adapter with save_embedding_layers=True");
}

// A module may be known (a tied head, one for a task) and have no weights.
Status Merge::check_modules(const Adding& a) {
  for (const auto& [path, m] : a.keys.modules)
    if (!node(path + ".weight"))
      return bad_input("merging {}: it has factors for '{}', of which neither the base {} nor the adapter has the weights; give the base that the adapter was trained on",
                       a.file, path, base_.path);
  const NodePtr* e = node(embedding_);
  std::string head;
  for (const auto& [name, t] : a.keys.replaced) {
    if (!is_task_head(name) || base_.find(name)) continue;
    const Shape s = t->spec().shape;
    const LazyTensor* weight = out_.find(module_of(name) + ".weight");
    const bool bias = name.ends_with(".bias");
    const bool fits = bias ? weight && s.rank == 1 && s[0] == weight->spec().shape[0] : s.rank == 2 && s[0] > 0 && (!e || s[1] == (*e)->spec().shape[1]);
    if (!fits) return bad_input("merging {}: '{}' is {}, which is no head of a model of this width", a.file, t->name, to_string(s));
    if (!head.empty() && head != module_of(name)) return bad_input("merging {}: it has two heads, '{}' and '{}'", a.file, head, module_of(name));
    head = module_of(name);
  }
  return {};
}

// A head for a task takes the place of the one for the next token.
Status Merge::make_classifier(OrderedJson* config) {
  const auto head = std::find_if(out_.tensors.begin(), out_.tensors.end(), [](const LazyTensor& t) { return is_task_head(t.name) && t.name.ends_with(".weight"); });
  if (head == out_.tensors.end() || base_.find(head->name)) return {};
  const char* end = task_type_ == "SEQ_CLS" ? "ForSequenceClassification" : task_type_ == "TOKEN_CLS" ? "ForTokenClassification" : nullptr;
  OrderedJson& classes = (*config)["architectures"];
  std::string name = classes.is_array() && !classes.empty() && classes[0].is_string() ? classes[0].get<std::string>() : "";
  if (!end || !name.ends_with("ForCausalLM"))
    return bad_input("merging {}: the adapter has the head '{}' for the task '{}', with which ingot cannot make a model of {}", base_.path, head->name, task_type_, json_brief(Json(classes)));
  const std::string made = name.substr(0, name.size() - 11) + end;
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
  std::string name = model_name(base_.path);
  if (name.empty() || name == "." || name == "..") name = "model";
  if (auto n = json_string(config_, "_name_or_path"); n && !n->empty() && std::count(n->begin(), n->end(), '/') <= 1)
    name = *n;
  for (const auto& adapter : names_) name += "-" + adapter;
  if (!options_.name.empty()) name = options_.name;
  j["_name_or_path"] = name;
  // A model of several parts keeps what is said of its text in text_config.
  const auto set = [&](const char* key, const OrderedJson& value) {
    const auto text = j.find("text_config");
    const bool within = text != j.end() && text->is_object() && text->contains(key);
    if (within) (*text)[key] = value;
    if (!within || j.contains(key)) j[key] = value;
  };
  if (untied_) set("tie_word_embeddings", false);
  const NodePtr* e = node(embedding_);
  const LazyTensor* before = base_.find(embedding_);
  if (e && before && (*e)->spec().shape[0] != before->spec().shape[0]) {
    set("vocab_size", (*e)->spec().shape[0]);
    notice(fmt::format("the vocabulary has {} rows instead of the base's {} (vocab_size)", (*e)->spec().shape[0], before->spec().shape[0]));
  }
  INGOT_TRY(make_classifier(&j));
  it = out_.files.find("config.json");
  it->second = json_text(j);
  return std::move(out_);
}

}  // namespace ingot::transform
