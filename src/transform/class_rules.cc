#include "transform/class_rules.h"

#include <algorithm>
#include <set>

#include "exec/evaluate.h"
#include "formats/hf_weights.h"
#include "formats/json.h"
#include "model/model_config.h"
#include "quant/decode.h"
#include "storage/store.h"

namespace ingot::transform {
namespace {

using Told = const std::function<void(const std::string&)>&;

// Sets the class that is inferred where the configuration names none that is known.
Result<const Architecture*> settle_class(const Json& config, const std::string& path, OrderedJson* out, Told on_notice) {
  if (json_member(config, "text_config")) return nullptr;
  const std::string name = class_of(config), type = json_string(config, "model_type").value_or("");
  const Architecture *by_name = architecture_of_class(name), *by_type = architecture_of_type(type);
  if (by_name && !type.empty() && by_name != by_type)
    return bad_input("reading {}: 'architectures' says {} and 'model_type' {}, which contradict each other: transformers goes by model_type, others by the "
                     "class; make them those of the model that was trained", path, name, type);
  if (by_name) return by_name;
  const Architecture* inferred = inferred_architecture(config);
  if (!inferred) {
    const auto other = find_architecture(config, path);  // by another class in the list
    return other.ok() ? *other : nullptr;
  }
  const std::string& taken = inferred->classes[0];
  (*out)["architectures"] = OrderedJson::array({taken});
  if (on_notice)
    on_notice(fmt::format("{}: {}; by its model_type, {}, it is {}, as in transformers", path,
                          name.empty() ? "'architectures' names no class" : fmt::format("the class {} is unknown", name), type, taken));
  return inferred;
}

// "q_proj.bias" and the like in a layer of a class that has none there.
bool is_foreign_bias(const Architecture& arch, std::string_view name) {
  return name.starts_with("model.layers.") && name.ends_with("_proj.bias") && !map_to_gguf(arch, name) && !is_dropped(arch, name);
}
// Whether the class reads the flag.
bool is_read(const Architecture& arch, std::string_view flag) {
  return arch.require.count(std::string(flag)) || std::any_of(arch.tensors.begin(), arch.tensors.end(), [&](const TensorRule& r) { return r.announced == flag; });
}

// A pair that the configuration ties, as far as it is stored; nothing where it ties none.
struct Tied {
  std::string embedding_name, head_name;
  const LazyTensor *embedding = nullptr, *head = nullptr;
};
Tied tied_of(const Architecture& arch, const Json& config, const Artifact& model) {
  const TensorRule *e = arch.by_role("embedding"), *h = arch.by_role("output");
  if (!e || !h || !json_bool(config, "tie_word_embeddings").value_or(arch.tied_by_default)) return {};
  return {e->hf[0], h->hf[0], model.find(e->hf[0]), model.find(h->hf[0])};
}

}  // namespace

std::string class_of(const Json& config) {
  const Json* list = json_member(config, "architectures");
  return list && list->is_array() && !list->empty() && list->front().is_string() ? list->front().get<std::string>() : "";
}

void tell_defaults(const std::vector<std::pair<std::string, Json>>& taken, const std::string& path, Told on_notice) {
  std::vector<std::string> list;
  for (const auto& [key, value] : taken) list.push_back(fmt::format("'{}' ({})", key, value.dump()));
  if (!list.empty() && on_notice) on_notice(fmt::format("{}: missing, and taken as the class has it: {}", path, some_of(list, list.size())));
}

Result<Artifact> with_class_defaults(Artifact model, Told on_notice) {
  const auto text = model.files.find("config.json");
  if (model.naming != "hf" || text == model.files.end()) return model;
  const std::string path = join_path(model.path, "config.json");
  const auto parsed = parse_json(text->second, path);
  if (!parsed.ok()) return model;  // who needs a configuration says what is wrong with it
  const Json& config = *parsed;
  if (!config.is_object()) return bad_input("reading {}: it is {}, expected an object; copy it from the model's repository", path, json_brief(config));
  INGOT_ASSIGN(OrderedJson out, parse_json_ordered(text->second, path));
  const OrderedJson before = out;
  INGOT_ASSIGN(const Architecture* arch, settle_class(config, path, &out, on_notice));
  if (!arch) return model;
  const auto added = missing_defaults(*arch, config);
  for (const auto& [key, value] : added) out[key] = value;
  std::vector<std::string> removed;
  for (const char* key : {"attention_bias", "mlp_bias"})
    if (const auto it = config.find(key); !is_read(*arch, key) && it != config.end() && !it->is_null() && *it != false) {
      out.erase(key);
      removed.push_back(fmt::format("'{}'", key));
    }
  tell_defaults(added, path, on_notice);
  if (!removed.empty() && on_notice) on_notice(fmt::format("{}: passed over, since the class does not read it: {}", path, some_of(removed, removed.size())));
  if (out != before) model.files["config.json"] = json_text(out);
  return model;
}

Result<Artifact> with_class_tensors(Artifact model, Told on_notice) {
  const auto text = model.files.find("config.json");
  if (model.naming != "hf" || text == model.files.end()) return model;
  const auto config = parse_json(text->second, "config.json");
  const auto arch = config.ok() ? find_architecture(*config, "") : Result<const Architecture*>(config.error());
  if (!arch.ok()) return model;
  const auto tell = [&](const std::string& what) {
    if (on_notice) on_notice(fmt::format("'{}': {}", model.path, what));
  };
  std::vector<std::string> left_out;
  for (const LazyTensor& t : model.tensors)
    if (is_foreign_bias(**arch, t.name)) left_out.push_back(t.name);
  if (!left_out.empty()) {
    tell(fmt::format("biases left out, which {} has not: {}", (*arch)->classes[0], some_of(left_out)));
    model.tensors.edit([&](auto& all) { std::erase_if(all, [&](const LazyTensor& t) { return is_foreign_bias(**arch, t.name); }); });
  }
  const Tied tied = tied_of(**arch, *config, model);
  if (tied.head && !tied.embedding) {
    tell(fmt::format("of the tied pair only '{}' is stored: it is '{}', too, as in transformers", tied.head->name, tied.embedding_name));
    model.tensors.edit([&](auto& all) { std::find_if(all.begin(), all.end(), [&](const LazyTensor& t) { return t.name == tied.head_name; })->name = tied.embedding_name; });
  }
  return model;
}

Artifact without_ties(Artifact model) {
  const auto text = model.files.find("config.json");
  const auto config = text == model.files.end() ? Result<Json>(Json()) : parse_json(text->second, "config.json");
  if (model.naming != "hf" || !config.ok() || !config->is_object()) return model;
  std::set<std::string> left_out;
  if (const auto arch = find_architecture(*config, ""); arch.ok()) {
    const Tied tied = tied_of(**arch, *config, model);
    if (tied.head && tied.embedding && tied.head->node == tied.embedding->node) left_out.insert(tied.head_name);
  } else if (json_bool(language_config(*config), "tie_word_embeddings").value_or(true)) {
    std::set<const Node*> seen;
    for (const LazyTensor& t : model.tensors)
      if (!seen.insert(t.node.get()).second) left_out.insert(t.name);
  }
  if (!left_out.empty()) model.tensors.edit([&](auto& all) { std::erase_if(all, [&](const LazyTensor& t) { return left_out.contains(t.name); }); });
  return model;
}

Result<bool> differ_at_once(const NodePtr& a, const NodePtr& b) {
  const Shape shape = a->spec().shape;
  if (!(shape == b->spec().shape)) return true;
  const Decode of_a = find_decode(a->spec().type), of_b = find_decode(b->spec().type);
  if (a == b || shape.rank != 2 || shape.elements() == 0 || !of_a || !of_b) return a != b && shape.elements() != 0;
  Region first = Region::all(shape);
  first.extent[0] = std::clamp<int64_t>((1 << 14) / shape[1], 1, shape[0]);
  std::vector<float> values[2];
  for (const auto& [node, decode, out] : {std::tuple{a, of_a, &values[0]}, {b, of_b, &values[1]}}) {
    INGOT_ASSIGN(const auto bytes, evaluate(node, first));
    out->resize(static_cast<size_t>(first.elements()));
    decode(bytes.data(), first.elements(), out->data());
  }
  return values[0] != values[1];
}

Result<Artifact> with_settled_head(Artifact model, Told on_notice) {
  const auto text = model.files.find("config.json");
  const auto config = text == model.files.end() ? Result<Json>(Json()) : parse_json(text->second, "config.json");
  const auto arch = config.ok() ? find_architecture(*config, "") : Result<const Architecture*>(config.error());
  if (model.naming != "hf" || !arch.ok()) return model;
  const Tied tied = tied_of(**arch, *config, model);
  if (!tied.head || !tied.embedding || !(tied.head->spec().shape == tied.embedding->spec().shape)) return model;  // whose shape is none is said where it is read
  INGOT_ASSIGN(const bool two, differ_at_once(tied.embedding->node, tied.head->node));
  if (!two) return model;
  if (on_notice)
    on_notice(fmt::format("'{}': config.json ties '{}' to '{}', but the two differ, and transformers does not tie them then: they stay two", model.path,
                          tied.head_name, tied.embedding_name));
  INGOT_ASSIGN(OrderedJson out, parse_json_ordered(text->second, "config.json"));
  out["tie_word_embeddings"] = false;
  text->second = json_text(out);
  return model;
}

bool is_passed_over(const std::string& name, const std::optional<MappedName>& mapped, int64_t layers) {
  if (mapped) return mapped->layer >= layers;
  constexpr std::string_view kLayers = "model.layers.";
  if (name.starts_with(kLayers) && std::atoll(name.c_str() + kLayers.size()) >= layers) return true;
  constexpr std::string_view kEnds[] = {".masked_bias", "._extra_state", ".weight_scale", ".weight_scale_inv", ".input_scale", ".activation_scale", ".output_scale",
                                        ".k_scale", ".v_scale", ".kv_scale", ".q_scale"};
  return name.starts_with("v_head.") || name == "lm_head.bias" || name.find(".rotary_emb.") != std::string::npos ||
         std::any_of(std::begin(kEnds), std::end(kEnds), [&](std::string_view end) { return name.ends_with(end); });
}

}  // namespace ingot::transform
