#include "formats/outputs.h"

#include "formats/gguf.h"
#include "formats/json.h"

namespace ingot {
namespace {

// The float types of weights by torch's names.
struct TorchFloat {
  DType type;
  const char* name;
};
constexpr TorchFloat kTorchFloats[] = {
    {DType::kF32, "float32"}, {DType::kF16, "float16"}, {DType::kBF16, "bfloat16"}, {DType::kF64, "float64"}};

bool ends_with(std::string_view s, std::string_view end) {
  return s.size() > end.size() && s.substr(s.size() - end.size()) == end;
}

}  // namespace

std::string config_with_dtype(const std::string& config, const std::vector<NamedSpec>& specs) {
  uint64_t count[std::size(kTorchFloats)] = {};
  for (const auto& s : specs)
    for (size_t i = 0; i < std::size(kTorchFloats); ++i)
      if (s.second.type == kTorchFloats[i].type) count[i] += static_cast<uint64_t>(s.second.shape.elements());
  size_t best = 0;
  for (size_t i = 1; i < std::size(kTorchFloats); ++i)
    if (count[i] > count[best]) best = i;
  auto parsed = parse_json_ordered(config, "config.json");
  if (!parsed.ok() || !parsed->is_object() || count[best] == 0) return config;
  OrderedJson& j = *parsed;
  bool changed = false;
  for (const char* key : {"dtype", "torch_dtype"})
    if (auto it = j.find(key); it != j.end() && it.value() != kTorchFloats[best].name) {
      it.value() = kTorchFloats[best].name;
      changed = true;
    }
  return changed ? json_text(j) : config;
}

Output gguf_output(Artifact artifact, Store& store, const std::string& path) {
  Output o;
  Artifact meta;
  meta.metadata = artifact.metadata;
  o.layout = [meta = std::move(meta)](const std::vector<NamedSpec>& specs) { return layout_gguf(meta, specs); };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  return o;
}

Output hf_directory_output(Artifact artifact, Store& store, const std::string& path, uint64_t max_shard) {
  Output o;
  o.layout = [files = artifact.files, max_shard](const std::vector<NamedSpec>& specs) {
    auto side = files;
    if (auto it = side.find("config.json"); it != side.end()) it->second = config_with_dtype(it->second, specs);
    return layout_hf_directory(specs, side, max_shard);
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  o.directory = true;
  return o;
}

Output safetensors_output(Artifact artifact, Store& store, const std::string& path) {
  std::map<std::string, std::string> metadata;
  if (artifact.format == "safetensors")
    for (const auto& [k, v] : artifact.metadata)
      if (const auto* s = std::get_if<std::string>(&v.v)) metadata[k] = *s;
  Output o;
  o.layout = [metadata = std::move(metadata)](const std::vector<NamedSpec>& specs) {
    return layout_safetensors(specs, metadata);
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  return o;
}

Result<Output> make_output(Artifact artifact, Store& store, const std::string& path, const std::string& format,
                           uint64_t max_shard) {
  if (format == "gguf" || (format.empty() && ends_with(path, ".gguf"))) {
    if (!artifact.meta("general.architecture"))
      return usage("writing {}: '{}' has no GGUF metadata; map it to GGUF's names first (to_gguf)", path, artifact.path);
    return gguf_output(std::move(artifact), store, path);
  }
  if (ends_with(path, ".safetensors") && (format.empty() || format == "safetensors"))
    return safetensors_output(std::move(artifact), store, path);
  if (format.empty() || format == "safetensors")
    return hf_directory_output(std::move(artifact), store, path, max_shard);
  return usage("writing {}: the format '{}' is not known for output; known: gguf, safetensors", path, format);
}

}  // namespace ingot
