// A PEFT adapter's directory as save_pretrained() leaves it: adapter_model.safetensors beside adapter_config.json, which is among the artifact's files.
#include "formats/output_formats.h"
#include "formats/outputs.h"

namespace ingot {
namespace {

constexpr char kWeights[] = "adapter_model.safetensors";

// Also what older versions and save_pretrained() leave beside.
bool peft_file(const std::string& name) {
  return name == kWeights || name == "adapter_config.json" || name == "adapter_model.bin" || name == "tokenizer.json" || name == "tokenizer_config.json" || name == "tokenizer.model" ||
      name == "special_tokens_map.json" || name == "added_tokens.json" || name == "chat_template.jinja" || name == "vocab.json" || name == "merges.txt";
}

Result<Layout> layout_peft(const std::vector<NamedSpec>& specs, const std::map<std::string, std::string>& files) {
  INGOT_ASSIGN(Layout l, layout_safetensors(specs, {}));
  l.files[0].name = kWeights;
  for (const auto& [name, text] : files) {
    FileLayout f;
    f.name = name, f.size = text.size();
    if (!text.empty()) f.extents.push_back({0, text});
    l.files.push_back(std::move(f));
  }
  return l;
}

Output peft_output(Artifact artifact, Store& store, const std::string& path, uint64_t) {
  Output o;
  o.layout = [path, files = artifact.files](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    if (!files.contains("adapter_config.json")) return usage("writing {}: there is no adapter_config.json, without which PEFT loads no adapter", path);
    return layout_peft(specs, files);
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  o.directory = true;
  o.older_name = peft_file;
  return o;
}

}  // namespace

extern const OutputFormat kOutput_peft = {"peft", "", "a PEFT adapter's directory, of an adapter", nullptr, peft_output, false};

}  // namespace ingot
