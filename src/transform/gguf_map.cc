#include "transform/gguf_map.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_set>

#include "base/memory.h"
#include "formats/hf_weights.h"
#include "formats/json.h"
#include "quant/decode.h"
#include "storage/hub.h"
#include "tokenizer/gguf_gaps.h"
#include "transform/class_by_tensors.h"
#include "transform/class_rules.h"
#include "transform/dequantize.h"
#include "transform/gguf_metadata.h"
#include "transform/gguf_vocab.h"
#include "transform/key_names.h"
#include "transform/lora_nodes.h"
#include "transform/rule_nodes.h"
#include "transform/text_part.h"

namespace ingot::transform {
namespace {

// Runs of digits compare as numbers, so that layer 10 follows layer 9. An order of our own, not the file's: sharded or
// not, merged in one pass or stored in between, a model gives the same GGUF.
bool natural_less(const std::string& a, const std::string& b) {
  size_t i = 0, j = 0;
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      size_t x = i, y = j;
      while (x < a.size() && digit(a[x])) ++x;
      while (y < b.size() && digit(b[y])) ++y;
      if (x - i != y - j) return x - i < y - j;
      if (const int c = a.compare(i, x - i, b, j, y - j); c != 0) return c < 0;
      i = x, j = y;
    } else {
      if (a[i] != b[j]) return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
      ++i, ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

std::string file_text(const Artifact& a, const std::string& name) {
  auto it = a.files.find(name);
  return it == a.files.end() ? std::string() : it->second;
}

// What tensors of one rule and layer come together in.
struct Group {
  const TensorRule* rule;
  int layer;
  std::vector<const LazyTensor*> in;  // in the rule's order; null: not there yet
};

class Mapper {
 public:
  Mapper(const Artifact& hf, const ToGgufOptions& options) : hf_(hf), options_(options) {}
  Result<Artifact> run();

 private:
  Status read_config();
  std::string class_text() const {
    const Json* classes = json_member(config_, "architectures");
    return classes && classes->is_array() && !classes->empty() ? json_brief(classes->front()) : arch_->name;
  }
  Status map_tensors();
  Status gather(const LazyTensor& t, const MappedName& m);
  Status make(const Group& g);
  Result<NodePtr> written(const TensorRule& rule, const std::string& name, const LazyTensor& t, NodePtr node) const;
  Status check_head(const LazyTensor& head);
  Status check_announced(const TensorRule& rule, const std::unordered_set<std::string>& have);
  Status check_complete();
  Status check_llama_cpp();
  Status add_vocab();
  std::string tokenizer_path() const;
  Status check_vocab(const Tokenizer& tokenizer, GgufVocab vocab);
  Status cannot_say(const std::string& text);
  std::optional<int64_t> param(const std::string& name) const {
    const auto it = params_.find(name);
    return it == params_.end() ? std::nullopt : std::optional<int64_t>(it->second);
  }

  const Artifact& hf_;
  const ToGgufOptions& options_;
  std::string config_path_;
  Json config_;
  const Architecture* arch_ = nullptr;
  Params params_;
  bool tied_ = false;
  int64_t vocab_rows_ = 0;
  std::vector<Group> groups_;
  std::map<std::pair<const TensorRule*, int>, size_t> group_of_;
  std::map<std::tuple<NodePtr, std::string, bool>, NodePtr> mapped_;  // by input, permutation and cast: one node stays one
  Artifact out_;
};

Status Mapper::read_config() {
  config_path_ = join_path(hf_.path, "config.json");
  const std::string text = file_text(hf_, "config.json");
  if (text.empty()) {
    if (hf_.files.count("config.json")) return bad_input("reading {}: the file is empty; copy it from the model's repository", config_path_);
    const auto at = locate(hf_.path);
    const std::string parent = parent_path(hf_.path);
    return hf_.path.ends_with(".safetensors")
               ? bad_input("converting {}: a single file of weights has no configuration and no tokenizer; {}", hf_.path,
                           at.ok() && is_there(*at->store, join_path(parent_path(at->path), "config.json"))
                               ? fmt::format("give the model's directory, '{}'", parent)
                               : "put it beside the config.json and the tokenizer of its model, and give that directory")
               : bad_input("converting {}: there is no config.json beside the weights; give the model's directory{}", hf_.path,
                           at.ok() ? hub_download(*at->store, hf_.path) : "");
  }
  INGOT_ASSIGN(config_, parse_json(text, "reading " + config_path_));
  const std::string what = "reading " + config_path_;
  INGOT_ASSIGN(arch_, architecture_or_like(hf_, config_, config_path_, options_.on_notice));
  config_ = with_defaults(*arch_, config_);
  INGOT_ASSIGN(params_, config_params(*arch_, config_, what));
  INGOT_TRY(check_plain(hf_, "converting " + hf_.path));
  if (const Json* t = json_member(config_, "tie_word_embeddings"); t && !t->is_null() && !t->is_boolean())
    return bad_input("{}: 'tie_word_embeddings' is {}, expected true or false", what, json_brief(*t));
  tied_ = json_bool(config_, "tie_word_embeddings").value_or(arch_->tied_by_default);
  return {};
}

// In F32 where GGUF has it so whatever the rest is, else as it is.
Result<NodePtr> Mapper::written(const TensorRule& rule, const std::string& name, const LazyTensor& t, NodePtr node) const {
  const TensorSpec spec = node->spec();
  if (rule.f32 || spec.shape.rank < 2 || name.ends_with("_norm.weight")) return cast(t.name, std::move(node), DType::kF32, {nullptr, options_.counts});
  if (!is_float_type(spec.type) || spec.type == DType::kF64)
    return bad_input("converting {}: tensor {} is {}, expected F32, F16 or BF16", hf_.path, tensor_text(*t.node, t.name), info(spec.type).name);
  return node;
}

Status Mapper::gather(const LazyTensor& t, const MappedName& m) {
  INGOT_ASSIGN(const Shape want, shape_of(m.rule->hf_shape(m.part), params_, t.name));
  if (const Shape found = t.spec().shape; !(found == want))
    return bad_input("converting {}: tensor {} is {}, but config.json makes it {}; the two do not belong together",
                     hf_.path, tensor_text(*t.node, t.name), to_string(found), to_string(want));
  INGOT_ASSIGN(const size_t count, hf_count(*m.rule, [this](const std::string& name) { return param(name); }));
  if (m.expert >= 0 && static_cast<size_t>(m.expert) >= count)
    return bad_input("converting {}: tensor {} is of expert {}, but config.json says {} experts", hf_.path, tensor_text(*t.node, t.name), m.expert, count);
  const auto [it, fresh] = group_of_.emplace(std::pair(m.rule, m.layer), groups_.size());
  if (fresh) groups_.push_back({m.rule, m.layer, std::vector<const LazyTensor*>(count)});
  groups_[it->second].in[m.expert >= 0 ? static_cast<size_t>(m.expert) : m.part] = &t;
  return {};
}

Status Mapper::make(const Group& g) {
  const TensorRule& rule = *g.rule;
  std::vector<NodePtr> in;
  for (size_t k = 0; k < g.in.size(); ++k) {
    if (!g.in[k])
      return bad_input("converting {}: the tensor '{}' is missing; the model is not whole", hf_.path,
                       expand(rule.hf[rule.per_expert() ? 0 : k], g.layer, static_cast<int>(k)));
    in.push_back(g.in[k]->node);
  }
  const LazyTensor& first = *g.in[0];
  NodePtr* known = nullptr;  // a tensor that has two names stays one
  if (in.size() == 1 && rule.gguf.size() == 1 && rule.regroup.empty() && !rule.transpose && rule.add == 0)
    known = &mapped_[{in[0], rule.permute, rule.f32 || rule.gguf[0].ends_with("_norm.weight")}];
  std::vector<NodePtr> out;
  if (known && *known) out = {*known};
  else {
    auto made = to_gguf_nodes(rule, std::move(in), [this](const std::string& name) { return param(name); });
    if (!made.ok()) return std::move(made.take_error()).during(fmt::format("converting {}: tensor {}", hf_.path, tensor_text(*first.node, first.name)));
    out = *std::move(made);
  }
  for (size_t k = 0; k < out.size(); ++k) {
    const std::string name = expand(rule.gguf[k], g.layer);
    if (!known || !*known) {
      INGOT_ASSIGN(out[k], written(rule, name, first, std::move(out[k])));
    }
    if (const LazyTensor* other = out_.find(name))
      return bad_input("converting {}: '{}' gives '{}', which another tensor of the model gives, too ({}); one of the two is left over", hf_.path, first.name, other->name,
                       origin_of(*other->node).tensor);
    if (rule.role == "embedding") vocab_rows_ = out[k]->spec().shape[0];
    out_.tensors.push_back({name, out[k]});
  }
  if (known) *known = out[0];
  return {};
}

Status Mapper::map_tensors() {
  std::vector<const LazyTensor*> in;
  for (const auto& t : hf_.tensors) in.push_back(&t);
  std::sort(in.begin(), in.end(), [](auto* a, auto* b) { return natural_less(a->name, b->name); });
  const LazyTensor* head = nullptr;
  std::vector<std::string> passed_over;
  for (const LazyTensor* t : in) {
    if (is_dropped(*arch_, t->name)) continue;
    const auto m = map_to_gguf(*arch_, t->name);
    if (is_passed_over(t->name, m, params_.at("layers"))) {
      passed_over.push_back(t->name);
      continue;
    }
    if (!m) {
      const std::string origin = likely_origin(t->name, [this](const std::string& name) { return map_to_gguf(*arch_, name).has_value(); });
      return bad_input("converting {}: the tensor {} {} is none that {} has{}; data/architectures/{}.json lists them{}", hf_.path,
                       tensor_text(*t->node, t->name), to_string(t->spec().shape), class_text(), origin, arch_->name,
                       origin.empty() ? ". If transformers runs the model without it, load it there and save it anew" : "");
    }
    if (m->rule->role == "output" && tied_) head = t;
    else INGOT_TRY(gather(*t, *m));
  }
  if (!passed_over.empty() && options_.on_notice)
    options_.on_notice(fmt::format("{}: tensors that the class does not read, and transformers passes over, are left out: {}", hf_.path, some_of(passed_over)));
  for (const Group& g : groups_) INGOT_TRY(make(g));
  return head ? check_head(*head) : Status();
}

// A head that is left out because it is tied must be the embedding: compared as the embedding is written.
Status Mapper::check_head(const LazyTensor& head) {
  const std::string name = arch_->by_role("embedding")->gguf[0];
  for (size_t i = 0; i < out_.tensors.size(); ++i) {
    const LazyTensor& e = out_.tensors[i];
    if (e.name != name || head.node == e.node) continue;
    if (!(head.spec().shape == e.spec().shape) || !find_decode(head.spec().type))
      return bad_input("converting {}: config.json ties the embeddings, but '{}' is {} {} and the embedding {} {}", hf_.path, head.name,
                       info(head.spec().type).name, to_string(head.spec().shape), info(e.spec().type).name, to_string(e.spec().shape));
    out_.tensors.node(i) =
        same_as(e.node, head.node,
                {"converting " + hf_.path, head.name,
                 "config.json says tie_word_embeddings, which would leave the head out: set it to false to keep the head, or remove "
                 "the head"});
  }
  return {};
}

// Tensors that config.json announces by a flag must be there, others not: whoever believes the one or the other would
// run another model.
Status Mapper::check_announced(const TensorRule& rule, const std::unordered_set<std::string>& have) {
  const Json* m = json_member(config_, rule.announced);
  if (m && !m->is_boolean())
    return bad_input("reading {}: '{}' is {}, expected true or false", config_path_, rule.announced, json_brief(*m));
  const bool announced = m ? m->get<bool>() : rule.assumed;
  const int64_t n = rule.per_layer() ? params_.at("layers") : 1;
  for (int64_t i = 0; i < n; ++i) {
    const bool there = have.count(expand(rule.gguf[0], static_cast<int>(i))) > 0;
    if (there == announced) continue;
    const std::string tensor = expand(rule.hf[0], static_cast<int>(i));
    if (announced)
      return bad_input("converting {}: config.json {}, but the tensor '{}' is missing; the model is not whole, or the "
                       "flag is wrong", hf_.path, m ? fmt::format("says '{}' is true", rule.announced) : fmt::format("does not say that '{}' is false", rule.announced), tensor);
    return bad_input("converting {}: the tensor '{}' is there, but config.json {}, so that transformers would leave it out; set '{}' to "
                     "true if the model was trained with it, else remove the tensor", hf_.path, tensor,
                     m ? fmt::format("says '{}' is false", rule.announced) : fmt::format("does not set '{}'", rule.announced), rule.announced);
  }
  return {};
}

Status Mapper::check_complete() {
  std::unordered_set<std::string> have;
  for (const auto& t : out_.tensors) have.insert(t.name);
  for (const auto& r : arch_->tensors) {
    if (!r.announced.empty()) INGOT_TRY(check_announced(r, have));
    if (r.optional || (r.role == "output" && tied_)) continue;
    const int64_t n = r.per_layer() ? params_.at("layers") : 1;
    for (int64_t i = 0; i < n; ++i)
      for (const auto& gguf : r.gguf)
        if (!have.count(expand(gguf, static_cast<int>(i))))
          return bad_input("converting {}: the tensor '{}' is missing; the model is not whole", hf_.path,
                           expand(r.hf[0], static_cast<int>(i), 0));
  }
  return {};
}

// What runs here, but whose file llama.cpp refuses.
Status Mapper::check_llama_cpp() {
  const auto tell = [&](const std::string& why) {
    return cannot_say(fmt::format("'{}' {}, so that llama.cpp does not load the file; ingot does", hf_.path, why));
  };
  for (const auto& [list, there] : {std::pair{&arch_->llama_cpp.unread, true}, {&arch_->llama_cpp.needed, false}})
    for (const std::string& name : *list)
      if ((out_.find(expand(name, 0)) != nullptr) == there)
        INGOT_TRY(tell(fmt::format("has {}'{}', which its {} models {}", there ? "" : "no ", expand(name, 0), arch_->name, there ? "have not" : "need")));
  const int64_t heads = params_.at("heads"), head_dim = params_.at("head_dim"), hidden = params_.at("hidden");
  if (arch_->llama_cpp.square && heads * head_dim != hidden)
    INGOT_TRY(tell(fmt::format("has {} heads of {} at a width of {}, where its {} models have no other heads than of width / heads", heads, head_dim, hidden, arch_->name)));
  return {};
}

Status Mapper::add_vocab() {
  INGOT_ASSIGN(Tokenizer t, hf_tokenizer(hf_.files, hf_.path, options_.on_warning));
  if (!options_.pre_tokenizer.empty()) {
    const auto own = t.pre_tokenizer_name();
    INGOT_TRY(t.override_pre_tokenizer(options_.pre_tokenizer));
    if ((!own.ok() || *own != options_.pre_tokenizer) && options_.on_warning)
      options_.on_warning(fmt::format("--pre-tokenizer {} overrides {}, which the rules of {} match: who loads the file will cut some texts "
                                      "into other tokens than the model was trained with", options_.pre_tokenizer,
                                      own.ok() ? *own : "no known name", tokenizer_path()));
  }
  auto vocab = t.to_gguf_vocab(static_cast<size_t>(vocab_rows_));
  if (!vocab.ok()) return std::move(vocab.take_error()).during("converting the tokenizer of " + hf_.path);
  if (static_cast<int64_t>(t.size()) < vocab_rows_ && options_.on_notice && !options_.to_run)
    options_.on_notice(fmt::format("the embedding has {} rows for {} tokens: {} unused tokens pad the vocabulary",
                                   vocab_rows_, t.size(), vocab_rows_ - static_cast<int64_t>(t.size())));
  for (const std::string& w : vocab->warnings)
    if (options_.on_warning) options_.on_warning(fmt::format("the tokenizer of {}: {}", hf_.path, w));
  INGOT_TRY(check_vocab(t, *vocab));
  append_vocab(*vocab, &out_.metadata);
  return {};
}

std::string Mapper::tokenizer_path() const {
  return join_path(hf_.path, hf_.files.count("tokenizer.json") ? "tokenizer.json" : "tokenizer.model");
}

// Tells what whoever loads the file will do otherwise than the directory's tokenizer.
Status Mapper::check_vocab(const Tokenizer& tokenizer, GgufVocab vocab) {
  if (options_.to_run || (!options_.strict && !options_.on_notice)) return {};
  for (const auto& [key, value] : out_.metadata)
    if (key == "general.name") vocab.name = std::get<std::string>(value.v);
  auto findings = find_gguf_gaps(tokenizer, vocab);
  if (!findings.ok()) return std::move(findings.take_error()).during("comparing the tokenizer of " + hf_.path + " with what GGUF says of it");
  for (const GgufFinding& f : *findings) INGOT_TRY(cannot_say(fmt::format("{}: {}", tokenizer_path(), f.describe())));
  return {};
}

Status Mapper::cannot_say(const std::string& text) {
  if (options_.strict) return bad_input("converting {}: {}. Without --strict this is a notice, and the file is written", hf_.path, text);
  if (options_.on_notice && !options_.to_run) options_.on_notice(text);
  return {};
}

Result<Artifact> Mapper::run() {
  if (hf_.naming != "hf")
    return bad_input("converting {}: it is {}, expected a Hugging Face model", hf_.path, hf_.naming == "imatrix" ? "an importance matrix" : hf_.format);
  out_.path = hf_.path;
  out_.format = out_.naming = "gguf";
  INGOT_TRY(read_config());
  INGOT_TRY(map_tensors());
  INGOT_TRY(check_complete());
  INGOT_TRY(check_llama_cpp());
  INGOT_TRY(add_gguf_metadata({*arch_, config_, params_, config_path_, options_.name, options_.to_run ? nullptr : options_.on_notice, [this](const std::string& text) { return cannot_say(text); }}, &out_));
  INGOT_TRY(add_vocab());
  return std::move(out_);
}

}  // namespace

Result<Artifact> to_gguf(const Artifact& hf, const ToGgufOptions& options) {
  return within_memory("converting " + hf.path, [&]() -> Result<Artifact> {
    INGOT_ASSIGN(Artifact text, text_part(hf, options.on_notice));
    INGOT_ASSIGN(const Artifact settled, with_settled_head(std::move(text), options.on_notice));
    return Mapper(settled, options).run();
  });
}

}  // namespace ingot::transform
