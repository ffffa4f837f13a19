#include "transform/source_form.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "formats/gguf.h"
#include "formats/gguf_scales.h"
#include "formats/json.h"
#include "formats/widened_tensor.h"
#include "model/model_config.h"
#include "quant/codec.h"
#include "transform/gguf_check.h"
#include "transform/gguf_to_hf.h"
#include "transform/rule_nodes.h"

namespace ingot::transform {
namespace {

bool widens(DType type) {
  const TypeInfo& t = info(type);
  return t.block == 1 && t.bytes <= 4 && (t.name.starts_with('F') || t.name.starts_with("BF")) && find_codec(type);
}

// The text says what stands in the way.
Result<std::vector<LazyTensor>> from_gguf(const Artifact& a) {
  const std::string* name = meta_string(a, "general.architecture");
  if (!name) return bad_input("its metadata names no architecture");
  const Architecture* arch = architecture_of(a);
  if (!arch) return bad_input("ingot does not know the architecture '{}' (ingot list architectures)", *name);
  return hf_tensors(a, *arch, [&](const LazyTensor& t) -> Result<NodePtr> { return gguf_values(a, t); }, false);
}

// What the class's usual names have of a tensor under another spelling: experts that were fused, one by one. Empty where it does not fit.
std::vector<LazyTensor> spelled_usually(const Architecture& arch, const Params& params, const LazyTensor& t, const MappedName& m) {
  const auto param = [&](const std::string& name) {
    const auto it = params.find(name);
    return it == params.end() ? std::nullopt : std::optional<int64_t>(it->second);
  };
  const auto want = shape_of(m.rule->hf_shape(m.part), params, t.name);
  const auto parts = want.ok() && *want == t.spec().shape ? to_gguf_nodes(*m.rule, {t.node}, param) : Result<std::vector<NodePtr>>(std::vector<NodePtr>());
  std::vector<LazyTensor> out;
  for (size_t k = 0; parts.ok() && k < parts->size(); ++k) {
    const auto usual = std::find_if(arch.tensors.begin(), arch.tensors.end(), [&](const TensorRule& r) { return !r.alternative && r.gguf == std::vector{m.rule->gguf[k]}; });
    const auto nodes = usual == arch.tensors.end() ? Result<std::vector<NodePtr>>(std::vector<NodePtr>()) : to_hf_nodes(*usual, {(*parts)[k]}, param);
    if (!nodes.ok() || nodes->empty()) return {};
    for (size_t e = 0; e < nodes->size(); ++e) out.push_back({expand(usual->hf[usual->per_expert() ? 0 : e], m.layer, static_cast<int>(e)), (*nodes)[e]});
  }
  return out;
}

Result<std::vector<LazyTensor>> from_hf(const Artifact& a) {
  std::vector<LazyTensor> out(a.tensors.begin(), a.tensors.end());
  const auto text = a.files.find("config.json");
  if (text == a.files.end()) return out;
  INGOT_ASSIGN(Json config, parse_json(text->second, "config.json"));
  const auto arch = find_architecture(config, "config.json");
  if (!arch.ok()) return bad_input("ingot does not know the architecture that config.json names (ingot list architectures)");
  config = language_config(config);
  const TensorRule *head = (*arch)->by_role("output"), *embedding = (*arch)->by_role("embedding");
  const bool tied = head && embedding && a.find(embedding->hf[0]) &&
                    json_bool(config, "tie_word_embeddings").value_or((*arch)->tied_by_default);
  std::erase_if(out, [&](const LazyTensor& t) { return is_dropped(**arch, t.name) || (tied && t.name == head->hf[0]); });
  if (const auto params = config_params(**arch, with_defaults(**arch, config), "config.json"); params.ok()) {
    std::vector<LazyTensor> usual;
    for (LazyTensor& t : out) {
      const auto m = map_to_gguf(**arch, t.name);
      auto parts = m && m->rule->alternative ? spelled_usually(**arch, *params, t, *m) : std::vector<LazyTensor>();
      if (parts.empty()) parts.push_back(std::move(t));
      std::move(parts.begin(), parts.end(), std::back_inserter(usual));
    }
    out = std::move(usual);
  }
  // As GGUF has them: the other way the difference would be rounded.
  for (LazyTensor& t : out)
    if (const auto m = map_to_gguf(**arch, t.name); m && m->rule->add != 0 && widens(t.spec().type)) t.node = add_constant(t.node, m->rule->add);
  return out;
}

}  // namespace

Result<Artifact> source_form(const Artifact& a, std::string* as_it_is) {
  auto tensors = a.naming == "gguf" ? from_gguf(a) : from_hf(a);
  if (as_it_is) *as_it_is = tensors.ok() ? "" : tensors.error().message;
  Artifact out;
  out.path = a.path;
  out.format = a.format;
  out.naming = tensors.ok() && a.naming == "gguf" ? "hf" : a.naming;
  out.tensors = tensors.ok() ? TensorList(*std::move(tensors)) : a.tensors;
  // No cast, which would take what a value was before it was rounded: what has the same bytes has the same values.
  std::map<NodePtr, NodePtr> wide;
  for (size_t i = 0; i < out.tensors.size(); ++i)
    if (const NodePtr node = out.tensors[i].node; widens(node->spec().type)) {
      NodePtr& made = wide[node];
      if (!made) made = widened_tensor(node);
      out.tensors.node(i) = made;
    }
  return out;
}

}  // namespace ingot::transform
