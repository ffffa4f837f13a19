#include "transform/lora_keys.h"

#include <algorithm>
#include <set>
#include <vector>

#include "quant/codec.h"
#include "transform/cast.h"

namespace ingot::transform {
namespace {

enum class Part { kA, kB, kBBias, kEmbeddingA, kEmbeddingB, kMagnitude, kBaseCopy, kSavedCopy, kTokenRows, kNothing, kBuffer, kPassedOver, kWhole };

// What follows the module's path. A name in angle brackets is the adapter's, which PEFT leaves out when it saves and a raw state dict has.
struct Ending {
  std::string_view text;
  Part part;
  const char* tensor;  // of the module: its name in the base
};
constexpr Ending kEndings[] = {
    {".lora_A.<>.weight", Part::kA, "weight"},
    {".lora_B.<>.weight", Part::kB, "weight"},
    {".lora_B.<>.bias", Part::kBBias, "weight"},
    {".lora_embedding_A.<>", Part::kEmbeddingA, "weight"},
    {".lora_embedding_B.<>", Part::kEmbeddingB, "weight"},
    {".lora_magnitude_vector.<>", Part::kMagnitude, "weight"},
    {".lora_magnitude_vector.<>.weight", Part::kMagnitude, "weight"},
    {".token_adapter.trainable_tokens_delta.<>", Part::kTokenRows, "weight"},
    {".token_adapter.trainable_tokens_original.<>", Part::kNothing, "weight"},
    {".token_adapter.token_indices.<>", Part::kNothing, "weight"},
    {".token_adapter.base_layer.weight", Part::kBaseCopy, "weight"},
    {".base_layer.weight", Part::kBaseCopy, "weight"},
    {".base_layer", Part::kNothing, "weight"},  // of an adapter called "weight"
    // A bias that was trained belongs to the layer below the factors.
    {".base_layer.bias", Part::kWhole, "bias"},
};

struct Key {
  std::string tensor;   // of the base, under the adapter's spelling
  std::string trained;  // of the module within the model that was trained
  Part part = Part::kWhole;
  std::string adapter;  // its name, where the key has it
};

// Whether `name` ends in `ending`, whose <> stands for one part or for none at all.
bool ends_in(std::string_view name, std::string_view ending, size_t* begin, std::string* adapter) {
  const size_t hole = ending.find(".<>");
  adapter->clear();
  if (hole == std::string_view::npos) {
    *begin = name.size() - std::min(name.size(), ending.size());
    return name.ends_with(ending);
  }
  const std::string_view head = ending.substr(0, hole), tail = ending.substr(hole + 3);
  if (!name.ends_with(tail)) return false;
  name.remove_suffix(tail.size());
  if (name.ends_with(head)) {
    *begin = name.size() - head.size();
    return true;
  }
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || !name.substr(0, dot).ends_with(head)) return false;
  *adapter = name.substr(dot + 1);
  *begin = dot - head.size();
  return true;
}

Key parse_ending(const std::string& name) {
  Key key;
  size_t begin = 0;
  for (const Ending& e : kEndings)
    if (ends_in(name, e.text, &begin, &key.adapter) && begin > 0) {
      key.part = e.part;
      key.tensor = name.substr(0, begin + 1) + e.tensor;
      return key;
    }
  // Copies of whole modules, which may have more below them.
  for (const auto& [infix, part] : {std::pair{std::string_view(".modules_to_save."), Part::kSavedCopy}, {".original_module.", Part::kBaseCopy}}) {
    const size_t at = name.find(infix);
    if (at == std::string::npos) continue;
    std::string rest = name.substr(at + infix.size());
    if (const size_t dot = rest.find('.'); part == Part::kSavedCopy && dot != std::string::npos) key.adapter = rest.substr(0, dot), rest.erase(0, dot + 1);
    key.part = part;
    key.tensor = name.substr(0, at + 1) + rest;
    return key;
  }
  key.tensor = name;
  if (name.ends_with("rotary_emb.inv_freq")) key.part = Part::kBuffer;
  if (name.starts_with("v_head.")) key.part = Part::kPassedOver;  // TRL's value head
  return key;
}

Key parse_key(std::string name) {
  // Once it is PEFT's own; wrappers may stand before it, of which the model that was trained knows nothing.
  constexpr std::string_view kOwn = "base_model.model.";
  size_t inside = 0;
  if (const size_t at = name.find(kOwn); at == 0 || (at != std::string::npos && name[at - 1] == '.')) name.erase(at, kOwn.size()), inside = at;
  Key key = parse_ending(name);
  key.trained = module_of(key.tensor.size() > inside ? key.tensor.substr(inside) : key.tensor);
  return key;
}

Status put(const LazyTensor** slot, const LazyTensor& t, const std::string& file) {
  if (*slot) return bad_input("merging {}: '{}' and '{}' are the same tensor of the model; the file is not of one adapter", file, (*slot)->name, t.name);
  *slot = &t;
  return {};
}

}  // namespace

Result<LoraKeys> read_lora_keys(const Artifact& adapter, const KnownName& known) {
  const std::string& file = adapter.path;
  std::vector<Key> keys;
  std::vector<std::string> tensors;  // each once
  std::map<std::string, size_t> place;
  std::set<std::string> adapters;
  for (const auto& t : adapter.tensors) {
    keys.push_back(parse_key(t.name));
    const Key& k = keys.back();
    if (k.part == Part::kMagnitude)
      return bad_input("merging {}: '{}' is a magnitude of DoRA (use_dora), which is not supported yet", file, t.name);
    if (!k.adapter.empty()) adapters.insert(k.adapter);
    if (k.part != Part::kBuffer && k.part != Part::kPassedOver && place.emplace(k.tensor, tensors.size()).second) tensors.push_back(k.tensor);
  }
  if (adapters.size() > 1)
    return bad_input("merging {}: its keys hold {} adapters, '{}', '{}' ..; save the one that is meant by itself", file, adapters.size(),
                     *adapters.begin(), *std::next(adapters.begin()));
  const PlainNames plain = plain_names(tensors, known);
  if (!plain.first.empty())
    return bad_input("merging {}: '{}' and '{}' are the same tensor of the model; the file is not of one adapter", file, brief_name(plain.first),
                     brief_name(plain.second));
  if (!plain.ok()) {
    const size_t i = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.tensor == plain.unknown; }) - keys.begin();
    const bool factor = keys[i].part != Part::kWhole && keys[i].part != Part::kSavedCopy && keys[i].part != Part::kBaseCopy;
    const bool ending = plain.unknown.find(".lora_") != std::string::npos;
    return bad_input("merging {}: the base has no {} '{}', which '{}' is for{}; the adapter is for another model, or its keys are none of PEFT's", file,
                     factor ? "module" : "tensor", brief_name(factor ? module_of(plain.unknown) : plain.unknown), brief_name(adapter.tensors[i].name),
                     ending ? " (its ending is none that PEFT writes)" : likely_origin(plain.unknown, known));
  }
  LoraKeys out;
  std::map<std::string, const LazyTensor*> saved_copies;
  out.changes = plain.changes;
  for (size_t i = 0; i < keys.size(); ++i) {
    const LazyTensor& t = adapter.tensors[i];
    Key k = keys[i];
    if (k.part == Part::kPassedOver) out.passed_over.push_back(t.name);
    if (k.part == Part::kBuffer || k.part == Part::kPassedOver) continue;
    k.tensor = plain.names[place[k.tensor]];
    if (k.part == Part::kNothing) continue;
    out.trained.emplace(module_of(k.tensor), k.trained);
    if (!is_float_type(t.spec().type) || !find_codec(t.spec().type))
      return bad_input("merging {}: '{}' is {}, expected F32, F16 or BF16", file, t.name, info(t.spec().type).name);
    const std::string module = module_of(k.tensor);
    switch (k.part) {
      case Part::kBaseCopy: INGOT_TRY(put(&out.base_copies[k.tensor], t, file)); continue;
      case Part::kTokenRows: INGOT_TRY(put(&out.token_rows[module], t, file)); continue;
      case Part::kSavedCopy: INGOT_TRY(put(&saved_copies[k.tensor], t, file)); continue;
      case Part::kWhole: INGOT_TRY(put(&out.replaced[k.tensor], t, file)); continue;
      default: break;
    }
    LoraModule& m = out.modules[module];
    const bool a = k.part == Part::kA || k.part == Part::kEmbeddingA, embedding = k.part == Part::kEmbeddingA || k.part == Part::kEmbeddingB;
    if (const LazyTensor* other = m.a ? m.a : m.b; other && embedding != m.embedding)
      return bad_input("merging {}: '{}' and '{}' spell the factors of one module in two ways, of which PEFT reads one", file, other->name, t.name);
    INGOT_TRY(put(k.part == Part::kBBias ? &m.b_bias : a ? &m.a : &m.b, t, file));
    m.embedding |= embedding;
  }
  // Where PEFT stores both, the plain one is what it loads.
  for (const auto& [tensor, t] : saved_copies)
    if (!out.replaced.emplace(tensor, t).second) out.passed_over.push_back(t->name);
  return out;
}

ModuleName LoraKeys::name(const std::string& module) const {
  if (const auto it = trained.find(module); it != trained.end()) return {module, it->second};
  // One that the file does not have, by what happened to another's name.
  for (const auto& [base, then] : trained) {
    if (base == then) continue;
    size_t same = 0;
    while (same < std::min(base.size(), then.size()) && base[base.size() - 1 - same] == then[then.size() - 1 - same]) ++same;
    const std::string_view before = std::string_view(base).substr(0, base.size() - same);
    if (module.starts_with(before)) return {module, then.substr(0, then.size() - same) + module.substr(before.size())};
  }
  return {module, module};
}

}  // namespace ingot::transform
