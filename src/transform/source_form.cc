#include "transform/source_form.h"

#include <map>

#include "formats/gguf.h"
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
  return hf_tensors(a, *arch, [](const LazyTensor& t) -> Result<NodePtr> { return t.node; }, false);
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
