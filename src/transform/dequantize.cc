#include "transform/dequantize.h"

#include <algorithm>
#include <map>
#include <set>

#include "formats/json.h"
#include "quant/codec.h"
#include "storage/hub.h"
#include "transform/cast.h"
#include "transform/fp8.h"

namespace ingot::transform {
namespace {

constexpr const char* kConfigKeys[] = {"quantization_config", "compression_config"};

// The last part of the names that quantized formats give to what lies beside a weight, or instead of it.
const std::set<std::string_view> kParts = {
    "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale", "weight_packed", "weight_shape", "weight_zero_point",
    "qweight", "qzeros", "scales", "g_idx", "SCB", "weight_format", "absmax", "quant_map", "nested_absmax", "nested_quant_map",
    "bitsandbytes__nf4", "bitsandbytes__fp4", "codes", "codebooks", "W_q"};
// Of activations and the cache: they change no weight.
const std::set<std::string_view> kActivationParts = {"input_scale", "input_scale_ub", "activation_scale", "output_scale",
                                                     "q_scale", "k_scale", "v_scale", "kv_scale", "prob_output_scale"};

std::string_view last_part(std::string_view name) { return name.substr(name.rfind('.') + 1); }  // npos + 1 is 0

// "'a.weight' of /m/x.safetensors (U8 [64, 1])".
std::string shown(const LazyTensor& t) {
  return fmt::format("{} ({} {})", tensor_text(*t.node, t.name), info(t.spec().type).name, to_string(t.spec().shape));
}

const Json* quantization(const Json& config, const char** key) {
  for (const char* k : kConfigKeys)
    if (const Json* q = json_member(config, k)) return *key = k, q;
  return nullptr;
}

std::string method_of(const Json& q) {
  std::string s = json_string(q, "quant_method").value_or("unnamed");
  for (const char* key : {"format", "quant_algo"})
    if (const auto f = json_string(q, key)) s += ", " + *f;
  return s;
}

// What a de-quantized model has not: parts of quantized formats, and weights of other types than floats (indices and masks may
// lie beside any model).
std::vector<const LazyTensor*> quantized_tensors(const Artifact& a) {
  std::vector<const LazyTensor*> out;
  for (const LazyTensor& t : a.tensors) {
    const DType type = t.spec().type;
    if (last_part(t.name) == "_extra_state") continue;
    if (kParts.count(last_part(t.name)) || (!is_float_type(type) && type != DType::kI64 && type != DType::kBool)) out.push_back(&t);
  }
  return out;
}

// Weights of plain floats that the model's code rounds as it runs, or that belong to other activations than the plain ones.
bool means_other_weights(const Json& q) {
  const Json* transform = json_member(q, "transform_config");
  return json_string(q, "quant_method") == "bitnet" || (transform && transform->is_object() && !transform->empty());
}

// FP8 by itself; of other schemes scales may be.
bool is_fp8_weight(const LazyTensor& t) { return is_fp8(t.spec().type) && !kParts.count(last_part(t.name)); }

struct Block {
  int64_t rows = 128, cols = 128;
};
// "weight_block_size" of FP8 models, "block_structure" or "group_size" of compressed-tensors' groups.
Result<Block> block_of(const Json* q, const std::string& what) {
  const Json* size = q ? json_member(*q, "weight_block_size") : nullptr;
  if (const Json* groups = q && !size ? json_member(*q, "config_groups") : nullptr; groups && groups->is_object())
    for (const auto& [name, group] : groups->items())
      if (const Json* weights = json_member(group, "weights"); weights && !size) {
        if (const auto n = json_int(*weights, "group_size"); json_string(*weights, "strategy") == "group" && n && *n > 0 && *n <= INT32_MAX) return Block{1, *n};
        size = json_member(*weights, "block_structure");
      }
  if (!size) return Block();
  const auto side = [&](size_t i) {
    return size->is_array() && size->size() == 2 && (*size)[i].is_number_integer() ? (*size)[i].get<int64_t>() : 0;
  };
  const Block block{side(0), side(1)};
  if (block.rows < 1 || block.cols < 1 || block.rows > INT32_MAX || block.cols > INT32_MAX)
    return bad_input("{}: the size of the blocks that share a scale is {}, expected two numbers above zero", what, json_brief(*size));
  return block;
}

// The type that the weights have in memory when transformers loads them.
DType float_type_of(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"})
    if (const auto s = json_string(config, key)) return *s == "float32" ? DType::kF32 : *s == "float16" ? DType::kF16 : DType::kBF16;
  return DType::kBF16;
}

// The size of the blocks that the scale's shape stands for.
Result<Block> fit(const LazyTensor& weight, const LazyTensor& scale, Block block) {
  const Shape w = weight.spec().shape, s = scale.spec().shape;
  const DType type = scale.spec().type;
  if (!find_codec(type) && type != DType::kF8E8M0)
    return bad_input("the scale {} has a type whose values ingot cannot read", shown(scale));
  if (s.elements() == 1) return Block();
  if (w.rank == 2 && s[0] == w[0] && (s.rank == 1 || (s.rank == 2 && s[1] == 1))) return Block{1, w[1]};
  const auto blocks = [](int64_t n, int64_t size) { return (n + size - 1) / size; };
  if (w.rank == 2 && s.rank == 2 && s[0] == blocks(w[0], block.rows) && s[1] == blocks(w[1], block.cols)) return block;
  std::string expected = "one number";
  if (w.rank == 2)
    expected += fmt::format(", one for each row ([{0}] or [{0}, 1]), or one for each block of {1} x {2} ([{3}, {4}])", w[0], block.rows,
                            block.cols, blocks(w[0], block.rows), blocks(w[1], block.cols));
  return bad_input("the scale {} does not fit the weight {}; expected {}", shown(scale), shown(weight), expected);
}

// FP8 weights times their scales, which are taken out.
Result<TensorList> multiplied(const Artifact& a, const Json* q, DType kept, const std::string& what) {
  INGOT_ASSIGN(const Block block, block_of(q, what));
  const bool scaled = q || std::any_of(a.tensors.begin(), a.tensors.end(), [](const auto& t) { return kParts.count(last_part(t.name)); });
  std::set<std::string_view> used;
  std::map<const Node*, NodePtr> made;  // one node stays one
  std::vector<LazyTensor> out;
  for (const LazyTensor& t : a.tensors) {
    if (!is_fp8_weight(t)) continue;
    const LazyTensor* scale = nullptr;
    for (const char* end : {"_scale_inv", "_scale"})
      if (!scale) scale = a.find(t.name + end);
    if (!scale && scaled)
      return bad_input("{0}: the weight {1} has no scale; expected '{2}_scale_inv' or '{2}_scale': the model is not whole", what, shown(t), t.name);
    Block size;
    if (scale) {
      used.insert(scale->name);
      auto fitted = fit(t, *scale, block);
      if (!fitted.ok()) return std::move(fitted.take_error()).during(what);
      size = *fitted;
    }
    NodePtr& node = made[t.node.get()];
    if (node) continue;
    node = fp8_weight(t.node, scale ? scale->node : nullptr, size.rows, size.cols, scale ? scale->name : "");
    if (kept != DType::kF32) {
      INGOT_ASSIGN(node, cast(t.name, node, kept, {nullptr, nullptr, true}));
    }
  }
  for (const LazyTensor& t : a.tensors) {
    if (used.count(t.name)) continue;
    const auto it = made.find(t.node.get());
    out.push_back({t.name, it == made.end() ? t.node : it->second});
  }
  return TensorList(std::move(out));
}

}  // namespace

Result<Artifact> dequantized(const Artifact& model, const std::function<void(const std::string&)>& on_notice) {
  const auto text = model.files.find("config.json");
  if (model.naming != "hf" || text == model.files.end()) return model;
  const auto n = std::count_if(model.tensors.begin(), model.tensors.end(), [](const auto& t) { return is_fp8_weight(t); });
  // Who needs a configuration says what is wrong with it.
  const auto config = parse_json(text->second, "config.json");
  if (!config.ok()) return model;
  const char* key = nullptr;
  const Json* q = quantization(*config, &key);
  if ((!n && !q) || (q && means_other_weights(*q))) return model;
  const std::string what = "reading " + join_path(model.path, "config.json");
  Artifact out = model;
  const DType kept = float_type_of(*config);
  if (n) {
    INGOT_ASSIGN(out.tensors, multiplied(model, q, kept, "reading " + model.path));
  }
  if (!quantized_tensors(out).empty()) return model;  // other schemes, beside FP8 or alone: all stays as it is
  if (n && on_notice)
    on_notice(fmt::format("{}: {} weights are FP8{}; they are {}{} where no other type is asked for", model.path, n, q ? " (" + method_of(*q) + ")" : "",
                          out.tensors.size() < model.tensors.size() ? "multiplied by their scales, and " : "", info(kept).name));
  out.tensors.edit([](auto& all) { std::erase_if(all, [](const LazyTensor& t) { return kActivationParts.count(last_part(t.name)) > 0; }); });
  INGOT_ASSIGN(OrderedJson j, parse_json_ordered(text->second, what));
  for (const char* k : kConfigKeys) j.erase(k);
  for (const char* k : {"dtype", "torch_dtype"})
    if (json_string(*config, k).value_or("").starts_with("float8")) j[k] = "bfloat16";
  out.files["config.json"] = json_text(j);
  if (!n && on_notice)
    on_notice(fmt::format("{}: '{}' ({}) is left over: all weights are plain floats, without scales; it is not written", what, key, method_of(*q)));
  return out;
}

Status check_plain(const Artifact& model, const std::string& doing, const std::string& then) {
  const auto text = model.files.find("config.json");
  if (text == model.files.end()) return {};
  INGOT_ASSIGN(const Json config, parse_json(text->second, "reading " + join_path(model.path, "config.json")));
  const char* key = nullptr;
  const Json* q = quantization(config, &key);
  const auto tensors = quantized_tensors(model);
  // Without a configuration for it a part alone may be left over; packed weights are none.
  const auto packed = [](const LazyTensor* t) { return !is_float_type(t->spec().type) && kParts.count(last_part(t->name)); };
  if (q ? tensors.empty() && !means_other_weights(*q) : std::none_of(tensors.begin(), tensors.end(), packed)) return {};
  std::string found;
  for (size_t i = 0; i < std::min<size_t>(tensors.size(), 2); ++i) found += (i ? ", " : "") + shown(*tensors[i]);
  const std::string why = q ? fmt::format("'{}' of config.json is {} ({})", key, method_of(*q), json_brief(*q)) : "though config.json does not say so";
  const auto snapshot = hub_snapshot(model.path);
  const std::string original = snapshot ? hub_original(snapshot->repo) : "";
  return bad_input("{}: the weights are quantized: give the model that it was made from{}{}. Or load it with transformers, call dequantize() and save "
                   "it: ingot reads plain floats and FP8 with scales, but {}{}", doing,
                   original.empty() ? "" : fmt::format(", probably {}: {}", original, hub_download({original, ""})), then, why,
                   found.empty() ? "" : fmt::format(", and there are {} tensors like {}", tensors.size(), found));
}

}  // namespace ingot::transform
