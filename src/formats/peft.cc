// A PEFT adapter directory: adapter_config.json and adapter_model.safetensors, or of older versions adapter_model.bin. What the configuration means is
// src/transform/lora_config.h.
#include "formats/hf_weights.h"
#include "formats/safetensors.h"

namespace ingot {

int probe_peft(const Probe& p) {
  if (!p.directory) return 0;
  // MLX's adapters have a configuration of that name too: 70 is more than a stray weights file, less than a model.
  if (p.find("adapter_config.json")) return p.find("adapter_model.safetensors") || p.find("adapter_model.bin") ? 90 : p.find("adapters.safetensors") ? 70 : 50;
  return p.find("adapter_model.safetensors") || p.find("adapter_model.bin") ? 45 : 0;
}

Result<Artifact> open_peft(Store& store, const Probe& p, Faults*) {
  Artifact a;
  a.path = p.path;
  a.format = a.naming = "peft";
  if (!p.find("adapter_config.json"))
    return bad_input("opening the adapter {}: there is no adapter_config.json; give the directory that PEFT's "
                     "save_pretrained wrote",
                     p.path);
  const char* name = p.find("adapter_model.safetensors") ? "adapter_model.safetensors" : "adapter_model.bin";
  if (!p.find(name)) {
    if (p.find("adapters.safetensors"))
      return bad_input("opening the adapter {}: it is one of MLX (adapters.safetensors), whose names and factors are others than PEFT's; fuse it into its "
                       "base with mlx_lm.fuse, or save it as PEFT does", p.path);
    return bad_input("opening the adapter {}: there is no adapter_model.safetensors{}", p.path, without_weights(store, p));
  }
  Result<SafetensorsFile> weights = SafetensorsFile();
  Result<std::string> config = std::string();
  SideFiles side;
  Calls calls = {[&] { weights = read_weights_file(store, join_path(p.path, name)); },
                 [&] { config = read_side_file(store, join_path(p.path, "adapter_config.json"), 16u << 20); }};
  INGOT_TRY(ask_side_files(store, p, tokenizer_side_files(), &side, &calls));
  INGOT_TRY(call_together(store, "opening " + p.path, calls));
  INGOT_ASSIGN(auto file, std::move(weights));
  a.tensors = std::move(file.tensors);
  a.notices = std::move(file.notices);
  if (p.find("new_embeddings.safetensors"))
    a.notices.push_back(fmt::format("{}: new_embeddings.safetensors, the rows of added tokens, is passed over, as in PEFT; for them to count save the "
                                    "adapter with save_embedding_layers=True", p.path));
  INGOT_ASSIGN(a.files["adapter_config.json"], std::move(config));
  INGOT_TRY(take_side_files(store, p, std::move(side), &a));
  return a;
}

}  // namespace ingot
