// Fuzzes the keys of an adapter's file: whatever their names and shapes, a merge gives a model that can be computed, or an error. The first line is the base:
// 't' where it is tied, 'w' where its names are wrapped; the second is adapter_config.json; each other one a letter for the shape and a key.
#include <cstdlib>

#include "exec/evaluate.h"
#include "transform/key_names.h"
#include "transform/lora.h"

namespace {

using ingot::Shape;

ingot::NodePtr zeros(Shape shape) {
  return ingot::make_memory_tensor({ingot::DType::kF32, shape}, std::vector<std::byte>(static_cast<size_t>(shape.elements()) * 4), "zeros");
}

Shape shape_of(char letter) {
  switch (letter) {
    case 'a': return {2, 4};
    case 'b': return {4, 2};
    case 'd': return {4};
    case 'e': return {6, 4};
    case 'f': return {2, 6};
    case 'g': return {1, 4};
    case 'h': return {0, 4};
    case 'i': return {};
    default: return {4, 4};
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto line = [&] {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string out(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    return out;
  };
  const std::string kind = line();
  const bool tied = kind.find('t') != std::string::npos;
  const std::string wrapper = kind.find('w') != std::string::npos ? "_orig_mod." : "";
  ingot::Artifact base, adapter;
  base.naming = "hf", base.path = "base";
  base.files["config.json"] = tied ? R"({"architectures":["LlamaForCausalLM"],"tie_word_embeddings":true,"vocab_size":4})"
                                   : R"({"architectures":["LlamaForCausalLM"],"tie_word_embeddings":false,"vocab_size":4})";
  for (const char* name : {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight", "lm_head.weight"})
    if (!tied || std::string_view(name) != "lm_head.weight") base.tensors.push_back({wrapper + name, zeros({4, 4})});
  base.tensors.push_back({wrapper + "model.norm.weight", zeros({4})});
  adapter.path = "adapter", adapter.naming = "peft";
  adapter.files["adapter_config.json"] = line();
  while (!text.empty() && adapter.tensors.size() < 64)
    if (const std::string key = line(); !key.empty()) adapter.tensors.push_back({key.substr(1), zeros(shape_of(key[0]))});
  auto plain = ingot::transform::with_plain_names(std::move(base), {});
  if (!plain.ok()) return 0;
  const auto merged = ingot::transform::lora_merge(*plain, {{adapter, 1}});
  if (!merged.ok()) return 0;
  for (const auto& t : merged->tensors) (void)ingot::evaluate(t.node);
  return 0;
}
