#include "formats/outputs.h"

#include <algorithm>

#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/manifest.h"
#include "formats/output_formats.h"
#include "formats/state_tree.h"

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

// A file that a model directory of transformers has: what --force may take away beside the files of the new one.
bool model_file(const std::string& name) {
  static constexpr std::string_view kNames[] = {
      "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
      "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
      "chat_template.json", "additional_chat_templates/", "preprocessor_config.json", "processor_config.json", kManifestFile,
      "pytorch_model.bin", "pytorch_model.bin.index.json"};
  if (std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames)) return true;
  if (name.rfind("additional_chat_templates/", 0) == 0) return ends_with(name, ".jinja");
  // model-00001-of-00007.safetensors
  const auto middle_of = [&](std::string_view stem, std::string_view end) {
    return name.starts_with(stem) && ends_with(name, end) ? std::string_view(name).substr(stem.size(), name.size() - stem.size() - end.size()) : std::string_view();
  };
  std::string_view middle = middle_of("model-", ".safetensors");
  if (middle.empty()) middle = middle_of("pytorch_model-", ".bin");
  const size_t of = middle.find("-of-");
  const auto digits = [](std::string_view s) { return s.size() == 5 && s.find_first_not_of("0123456789") == std::string_view::npos; };
  return of != std::string_view::npos && digits(middle.substr(0, of)) && digits(middle.substr(of + 4));
}

// config.json with "dtype" (and "torch_dtype", where that is the name in use) set to the float type that most of the
// weights have; the text unchanged where it has neither, or is no JSON object.
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

}  // namespace

std::map<std::string, std::string> side_files_of(std::map<std::string, std::string> files, const std::vector<NamedSpec>& specs) {
  if (auto it = files.find("config.json"); it != files.end()) it->second = config_with_dtype(it->second, specs);
  return files;
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

Result<std::vector<Output>> gguf_outputs(Artifact artifact, Store& store, const std::string& path, uint64_t max_shard) {
  return gguf_splits(std::move(artifact), store, path, {max_shard});
}

// Orders the tensors by the file that they come from, and tells where those of each but the last end. What is of no file goes with the first.
static std::vector<size_t> by_source(TensorList* tensors) {
  std::map<std::string, std::vector<LazyTensor>> of_file;
  for (const LazyTensor& t : *tensors) of_file[origin_of(*t.node).file].push_back(t);
  if (auto none = of_file.find(""); none != of_file.end() && of_file.size() > 1) {
    auto& first = std::next(none)->second;
    first.insert(first.begin(), none->second.begin(), none->second.end());
    of_file.erase(none);
  }
  std::vector<LazyTensor> all;
  std::vector<size_t> ends;
  for (auto& [file, those] : of_file) {
    if (!all.empty()) ends.push_back(all.size());
    all.insert(all.end(), those.begin(), those.end());
  }
  *tensors = std::move(all);
  return ends;
}

Result<std::vector<Output>> gguf_splits(Artifact artifact, Store& store, const std::string& path, const GgufSplit& split) {
  // llama-gguf-split's rule: tensors in order, padded to the format's 32 bytes; a new file when the next one would not fit.
  std::vector<size_t> ends;
  if (split.as_source) ends = by_source(&artifact.tensors);
  if (split.bare_first && !artifact.tensors.empty()) ends.push_back(0);
  uint64_t in_file = 0, count_in_file = 0;
  for (size_t i = 0; i < artifact.tensors.size() && !split.as_source; ++i) {
    const uint64_t size = align_up(bytes_of(artifact.tensors[i].spec()), 32);
    const bool full = (split.bytes && in_file + size > split.bytes) || (split.tensors && count_in_file == split.tensors);
    if (count_in_file > 0 && full) ends.push_back(i), in_file = count_in_file = 0;
    in_file += size, ++count_in_file;
  }
  ends.push_back(artifact.tensors.size());
  std::vector<Output> out;
  if (ends.size() == 1 && !split.always) {
    out.push_back(gguf_output(std::move(artifact), store, path));
    return out;
  }
  if (ends.size() > kMaxGgufSplits)
    return usage("writing {}: it would be {} files, the format has at most {}; give a larger size, or more tensors a file", path, ends.size(), kMaxGgufSplits);
  const std::string prefix = ends_with(path, ".gguf") ? path.substr(0, path.size() - 5) : path;
  const auto count = static_cast<uint16_t>(ends.size());
  const auto total = static_cast<int32_t>(artifact.tensors.size());
  std::erase_if(artifact.metadata, [](const auto& kv) { return kv.first.starts_with("split."); });
  size_t begin = 0;
  for (uint16_t no = 0; no < count; ++no) {
    Artifact part;
    part.path = artifact.path;
    part.format = artifact.format;
    part.naming = artifact.naming;
    if (no == 0) part.metadata = artifact.metadata;
    part.metadata.emplace_back("split.no", MetaValue{no});
    part.metadata.emplace_back("split.tensors.count", MetaValue{total});
    part.metadata.emplace_back("split.count", MetaValue{count});
    part.tensors = std::vector<LazyTensor>(artifact.tensors.begin() + static_cast<std::ptrdiff_t>(begin),
                                           artifact.tensors.begin() + static_cast<std::ptrdiff_t>(ends[no]));
    begin = ends[no];
    out.push_back(gguf_output(std::move(part), store, fmt::format("{}-{:05}-of-{:05}.gguf", prefix, no + 1, count)));
  }
  return out;
}

Output hf_directory_output(Artifact artifact, Store& store, const std::string& path, uint64_t max_shard) {
  Output o;
  o.layout = [files = artifact.files, max_shard](const std::vector<NamedSpec>& specs) {
    return layout_hf_directory(specs, side_files_of(files, specs), max_shard);
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  o.directory = true;
  o.older_name = model_file;
  return o;
}

// Of names that are one tensor the first stays, and {other: first} says so, as safetensors.torch.save_model has it.
static void tell_ties(TensorList* tensors, std::map<std::string, std::string>* metadata) {
  std::map<const Node*, std::string> first;
  for (const auto& t : *tensors)
    if (const auto [it, fresh] = first.emplace(t.node.get(), t.name); !fresh) it->second = std::min(it->second, t.name);
  const std::map<std::string, std::string> own = *metadata;  // a name among these has no place to be told of
  const auto is_other = [&](const LazyTensor& t) { return t.name != first[t.node.get()] && t.spec().shape.elements() > 0 && !own.contains(t.name); };
  for (const auto& t : *tensors)
    if (is_other(t)) (*metadata)[t.name] = first[t.node.get()];
  tensors->edit([&](auto& all) { std::erase_if(all, is_other); });
}

Output safetensors_output(Artifact artifact, Store& store, const std::string& path) {
  std::map<std::string, std::string> metadata;
  if (artifact.format == "safetensors")
    for (const auto& [k, v] : artifact.metadata)
      if (const auto* s = std::get_if<std::string>(&v.v)) metadata[k] = *s;
  if (metadata.empty()) metadata["format"] = "pt";
  tell_ties(&artifact.tensors, &metadata);
  if (!artifact.values.empty()) {
    std::string object;
    for (const auto& [name, text] : artifact.values) object += fmt::format("{}{}: {}", object.empty() ? "" : ", ", json_quote(name), text);
    metadata[kValuesKey] = "{" + object + "}";
  }
  if (const MetaValue* kinds = artifact.meta(kKindsKey))
    if (const auto* text = std::get_if<std::string>(&kinds->v)) metadata[kKindsKey] = *text;
  Output o;
  o.layout = [metadata = std::move(metadata)](const std::vector<NamedSpec>& specs) {
    return layout_safetensors(specs, metadata);
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  return o;
}

extern const OutputFormat kOutput_gguf = {"gguf", "gguf", "llama.cpp's files", gguf_output, nullptr};
extern const OutputFormat kOutput_safetensors = {"safetensors", "safetensors", "a Hugging Face directory, or one file", safetensors_output, hf_directory_output};

Result<Output> make_output(Artifact artifact, Store& store, const std::string& path, const std::string& format, uint64_t max_shard) {
  const std::string name = file_name(path);
  const size_t dot = name.rfind('.');
  const std::string extension = dot == std::string::npos || dot == 0 ? "" : name.substr(dot + 1);
  const OutputFormat* by_name = output_format_of_extension(extension);
  const OutputFormat* f = format.empty() ? (by_name ? by_name : output_format("safetensors")) : output_format(format);
  if (!f) {
    std::string known;
    for (const OutputFormat* x : output_formats()) known += fmt::format("{}{}", known.empty() ? "" : ", ", x->name);
    return usage("writing {}: the format '{}' is not known for output; known: {}", path, format, known);
  }
  if (f->name == "gguf" && !artifact.meta("general.architecture"))
    return usage("writing {}: '{}' has no GGUF metadata; map it to GGUF's names first (to_gguf)", path, artifact.path);
  if (f->file && (f == by_name || !f->directory)) return f->file(std::move(artifact), store, path);
  return f->directory(std::move(artifact), store, path, max_shard);
}

}  // namespace ingot
