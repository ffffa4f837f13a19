// The manifest of a model, a JSON text in the file itself: from what it was made, by what, and the hashes of what it holds
// (docs/formats/hashes.md). GGUF has it under a metadata key, a safetensors file under the same key of its __metadata__, a directory as a file.
#pragma once

#include <string>
#include <vector>

#include "tensor/artifact.h"

namespace ingot {

inline constexpr char kManifestKey[] = "ingot.manifest";
inline constexpr char kManifestFile[] = "ingot_manifest.json";
inline constexpr char kManifestFormat[] = "ingot manifest 1";

// Into an artifact that is to be written; `directory`: as a Hugging Face directory.
void put_manifest(Artifact* a, std::string text, bool directory);
// Out of an artifact that was opened: it tells of that file alone, and of none that is made from it. Empty where there is none.
std::string take_manifest(Artifact* a);

struct Manifest {
  struct Model {
    std::string format, exact, value;
  };
  std::vector<Model> inputs;
  Model content;  // without format
};
// kBadInput: the text is damaged, or of a format that this ingot does not know. `path` is the model's.
Result<Manifest> parse_manifest(const std::string& text, const std::string& path);

}  // namespace ingot
