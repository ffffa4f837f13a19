#include "formats/manifest.h"

#include "formats/json.h"

namespace ingot {
namespace {

bool read_model(const Json& j, Manifest::Model* m) {
  m->format = json_string(j, "format").value_or("");
  for (auto [key, hash] : {std::pair{"exact", &m->exact}, std::pair{"value", &m->value}}) {
    *hash = json_string(j, key).value_or("");
    if (hash->size() != 32 || hash->find_first_not_of("0123456789abcdef") != std::string::npos) return false;
  }
  return true;
}

}  // namespace

void put_manifest(Artifact* a, std::string text, bool directory) {
  if (directory) {
    a->files[kManifestFile] = std::move(text);
    return;
  }
  // What a safetensors file without metadata of its own says.
  if (a->naming != "gguf" && a->metadata.empty()) a->metadata.emplace_back("format", MetaValue{std::string("pt")});
  a->metadata.emplace_back(kManifestKey, MetaValue{std::move(text)});
}

std::string take_manifest(Artifact* a) {
  std::string text;
  if (const auto file = a->files.find(kManifestFile); file != a->files.end()) {
    text = std::move(file->second);
    a->files.erase(file);
  }
  std::erase_if(a->metadata, [&](auto& kv) {
    if (kv.first != kManifestKey) return false;
    if (auto* s = std::get_if<std::string>(&kv.second.v)) text = std::move(*s);
    return true;
  });
  return text;
}

Result<Manifest> parse_manifest(const std::string& text, const std::string& path) {
  const std::string what = "reading the manifest of " + path;
  const auto parsed = parse_json(text, what);
  const Json j = parsed.ok() ? *parsed : Json();
  const std::string format = json_string(j, "format").value_or("");
  if (format.starts_with("ingot manifest ") && format != kManifestFormat)
    return bad_input("{}: its format is '{}', this version of ingot reads '{}'; use the version that wrote it ({}) or a later one", what,
                     format.substr(0, 40), kManifestFormat, json_string(j, "ingot").value_or("not said").substr(0, 40));
  Manifest m;
  const Json *content = json_member(j, "content"), *inputs = json_member(j, "inputs");
  bool whole = format == kManifestFormat && content && read_model(*content, &m.content) && inputs && inputs->is_array();
  for (size_t i = 0; whole && i < inputs->size(); ++i) whole = read_model((*inputs)[i], &m.inputs.emplace_back());
  if (!whole)
    return bad_input("{}: it is damaged, or was written by something else; copy the model again, or convert it without --provenance, which "
                     "leaves the manifest out", what);
  return m;
}

}  // namespace ingot
