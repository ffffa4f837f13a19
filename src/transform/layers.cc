#include "transform/layers.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "formats/gguf.h"
#include "transform/gguf_check.h"

namespace ingot::transform {
namespace {

constexpr std::string_view kLayer = "blk.";

// Where a layer that stays comes to lie.
int64_t number_after(int64_t layer, const std::set<int64_t>& gone) { return layer - std::distance(gone.begin(), gone.lower_bound(layer)); }

// The name in the pruned model; nothing where it is of a layer that goes.
std::optional<std::string> name_after(const std::string& name, const std::set<int64_t>& gone) {
  const int64_t layer = layer_of(name);
  if (layer < 0) return name;
  if (gone.contains(layer)) return std::nullopt;
  return fmt::format("{}{}{}", kLayer, number_after(layer, gone), name.substr(name.find('.', kLayer.size())));
}

void set_integer(MetaValue* m, int64_t n) {
  std::visit(
      [&]<class T>(T& v) {
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) v = static_cast<T>(n);
      },
      m->v);
}

// Of a list with an element a layer those of the layers that stay.
void drop_elements(MetaValue* m, int64_t count, const std::set<int64_t>& gone) {
  std::visit(
      [&]<class T>(T& v) {
        if constexpr (requires { v.erase(v.begin()); } && !std::is_same_v<T, std::string>) {
          if (static_cast<int64_t>(v.size()) != count) return;
          for (auto it = gone.rbegin(); it != gone.rend(); ++it) v.erase(v.begin() + *it);
        }
      },
      m->v);
}

}  // namespace

int64_t layer_of(std::string_view name) {
  if (!name.starts_with(kLayer)) return -1;
  int64_t n = 0;
  size_t i = kLayer.size();
  for (; i < name.size() && i < kLayer.size() + 9 && name[i] >= '0' && name[i] <= '9'; ++i) n = n * 10 + (name[i] - '0');
  const bool as_written = i == kLayer.size() + 1 || name[kLayer.size()] != '0';  // "blk.01" is no other name of "blk.1"
  return i > kLayer.size() && as_written && i < name.size() && name[i] == '.' ? n : -1;
}

Result<Artifact> prune_layers(const Artifact& gguf, const std::set<int64_t>& layers) {
  const std::string* architecture = meta_string(gguf, "general.architecture");
  const std::string prefix = architecture ? *architecture + "." : "";
  int64_t count = 0;
  for (const LazyTensor& t : gguf.tensors) {
    count = std::max(count, layer_of(t.name) + 1);
    if (t.name.starts_with("enc.blk.") || t.name.starts_with("dec.blk.")) return usage("pruning layers of {}: it has an encoder and a decoder, of which layers cannot be left out by number", gguf.path);
    if (t.name.starts_with("per_layer_")) return usage("pruning layers of {}: '{}' has a part for each layer, which is not cut", gguf.path, t.name);
  }
  for (const char* every : {"full_attention_interval", "interleave_moe_layer_step", "moe_every_n_layers"})
    if (const MetaValue* m = gguf.meta(prefix + every); m && count_of(*m).value_or(2) > 1)
      return usage("pruning layers of {}: by {}{} its layers are of different kinds by their numbers, which would be others", gguf.path, prefix, every);
  constexpr int64_t kMostLayers = 1 << 20;
  const MetaValue* told = gguf.meta(prefix + "block_count");
  if (const auto n = told ? count_of(*told) : std::nullopt; n && *n <= kMostLayers) count = std::max(count, *n);  // trailing layers may have no tensors here
  if (count == 0) return usage("pruning layers of {}: it has none (no tensor is called 'blk.N...')", gguf.path);
  for (const int64_t layer : layers)
    if (layer >= count) return usage("pruning layers of {}: it has no layer {}; its layers are 0 to {}", gguf.path, layer, count - 1);
  if (static_cast<int64_t>(layers.size()) == count) return usage("pruning layers of {}: these are all {} of its layers", gguf.path, count);

  Artifact out = gguf;
  out.tensors.edit([&](std::vector<LazyTensor>& all) {
    std::erase_if(all, [&](const LazyTensor& t) { return layers.contains(layer_of(t.name)); });
    for (LazyTensor& t : all) t.name = *name_after(t.name, layers);
  });
  std::erase_if(out.metadata, [](const auto& kv) { return kv.first == "general.size_label"; });  // it counts the weights of the whole
  bool counted = false;
  const auto gone_from = [&](int64_t first) { return std::distance(layers.lower_bound(first), layers.end()); };
  for (auto& [key, value] : out.metadata) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view what = std::string_view(key).substr(prefix.size());
    auto n = count_of(value);
    if (n && *n > count) n.reset();  // counts no layers of this model
    if (what == "block_count") {
      counted = n && *n >= static_cast<int64_t>(layers.size());
      if (counted) set_integer(&value, *n - static_cast<int64_t>(layers.size()));
    } else if (what == "leading_dense_block_count") {
      if (n) set_integer(&value, number_after(*n, layers));
    } else if (what == "nextn_predict_layers" || what == "attention.shared_kv_layers") {  // the last ones
      if (n) set_integer(&value, *n - gone_from(count - *n));
    } else {
      drop_elements(&value, count, layers);
    }
  }
  if (!counted) return bad_input("pruning layers of {}: its metadata has no {}block_count that counts them", gguf.path, prefix);
  // Those lists are of each layer; a window that is one number is, for some models, of every second or sixth layer by its number.
  const MetaValue* window = out.meta(prefix + "attention.sliding_window");
  if (window && count_of(*window).value_or(0) > 0 && !out.meta(prefix + "attention.sliding_window_pattern"))
    out.notices.push_back(fmt::format("{}: it has {}attention.sliding_window, and nothing that says which layers look through it: where llama.cpp goes by their numbers, which are others now, "
                                      "a layer that looked at all of the text sees a window of it, and the other way round", gguf.path, prefix));
  return out;
}

Importance without_layers(const Importance& whole, const std::set<int64_t>& layers) {
  Importance out = whole;
  out.weights.clear();
  for (const auto& [name, weights] : whole.weights)
    if (auto other = name_after(name, layers)) out.weights.emplace(*std::move(other), weights);
  return out;
}

}  // namespace ingot::transform
