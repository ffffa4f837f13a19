// A PEFT adapter directory: adapter_config.json and adapter_model.safetensors. What the configuration means is
// src/transform/lora_config.h.
#include "formats/formats.h"
#include "formats/safetensors.h"

namespace ingot {

int probe_peft(const Probe& p) {
  if (!p.directory) return 0;
  if (p.has("adapter_config.json")) return p.has("adapter_model.safetensors") ? 90 : 50;
  return p.has("adapter_model.safetensors") || p.has("adapter_model.bin") ? 45 : 0;
}

Result<Artifact> open_peft(Store& store, const std::string& path, Faults*) {
  Artifact a;
  a.path = path;
  a.format = "peft";
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there) return bad_input("opening the adapter {}: no such directory; check the path", path);
  if (!there->directory())
    return bad_input("opening the adapter {}: it is a file; give the directory with adapter_config.json and "
                     "adapter_model.safetensors",
                     path);
  const std::string config = join_path(path, "adapter_config.json"),
                    weights = join_path(path, "adapter_model.safetensors");
  INGOT_ASSIGN(const auto has_config, store.stat(config));
  if (!has_config)
    return bad_input("opening the adapter {}: there is no adapter_config.json; give the directory that PEFT's "
                     "save_pretrained wrote",
                     path);
  INGOT_ASSIGN(const auto has_weights, store.stat(weights));
  if (!has_weights) {
    INGOT_ASSIGN(const auto torch, store.stat(join_path(path, "adapter_model.bin")));
    if (torch)
      return bad_input("opening the adapter {}: its weights are a torch file (adapter_model.bin), which is not "
                       "supported yet; save the adapter with safe_serialization=True",
                       path);
    return bad_input("opening the adapter {}: there is no adapter_model.safetensors; download the weights", path);
  }
  INGOT_ASSIGN(auto file, read_safetensors(store, weights));
  a.tensors = std::move(file.tensors);
  INGOT_ASSIGN(a.files["adapter_config.json"], read_text(store, config, 16u << 20));
  INGOT_ASSIGN(auto side, read_side_files(store, path,
                                          {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                           "added_tokens.json", "chat_template.jinja"}));
  for (auto& [name, bytes] : side) a.files[name] = std::move(bytes);
  return a;
}

}  // namespace ingot
