// A LoRA adapter in GGUF, as llama.cpp's convert_lora_to_gguf makes it of PEFT's, as PEFT's again: names of the modules, rows of q and k in the class's order, and the
// configuration that the file's tensors and metadata tell.
#pragma once

#include <string>

#include "formats/json.h"
#include "tensor/artifact.h"

namespace ingot::transform {

// "adapter" is its general.type.
bool is_gguf_adapter(const Artifact& a);

// `base`: the base's config.json, for architectures whose rows of q and k llama.cpp permutes by the heads, which the file does not say; null where none was given.
// `base_name`: what adapter_config.json calls the base; empty: what the metadata names. Blocks become F16. kBadInput for what is no LoRA, and what PEFT cannot say.
Result<Artifact> gguf_lora_to_peft(const Artifact& gguf, const Json& base, const std::string& base_name);

}  // namespace ingot::transform
