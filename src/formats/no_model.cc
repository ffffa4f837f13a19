#include "formats/no_model.h"

#include <algorithm>

#include "formats/json.h"

namespace ingot {
namespace {

constexpr std::string_view kManifests = "/manifests/", kModelLayer = "application/vnd.ollama.image.model";

// The hash of the model that a manifest of Ollama's names; empty where the text is none.
std::string model_of(const std::string& text) {
  if (!text.starts_with('{') || text.find(kModelLayer) == text.npos) return "";
  const auto j = parse_json(text, "");
  const Json* layers = j.ok() ? json_member(*j, "layers") : nullptr;
  for (const Json& layer : layers && layers->is_array() ? *layers : Json::array())
    if (const auto digest = json_string(layer, "digest"); json_string(layer, "mediaType") == kModelLayer && digest && digest->starts_with("sha256:")) return digest->substr(7, 100);
  return "";
}

Status check_ollama(Store& store, const Probe& p) {
  const auto is_directory = [&](const char* name) {
    const Entry* e = p.find(name);
    return e && e->directory;
  };
  if (p.directory && is_directory("manifests") && is_directory("blobs"))
    return bad_input("opening {}: it is Ollama's store; give the manifest of a model in it, {}/registry.ollama.ai/library/MODEL/TAG, or the file that 'ollama show --modelfile "
                     "MODEL' names behind FROM", p.path, join_path(p.path, "manifests"));
  const auto real = store.resolve(p.path);
  const size_t at = real.ok() ? ("/" + *real + "/").rfind(kManifests) : std::string::npos;
  if (at == std::string::npos) return {};
  const std::string models = at ? real->substr(0, at - 1) : "";
  std::vector<std::string> files = {p.path};
  if (p.directory) {
    files.clear();
    for (const Entry& e : p.entries)
      if (!e.directory && files.size() < 16) files.push_back(join_path(p.path, e.name));
  }
  for (const std::string& file : files) {
    const auto opened = p.directory ? open_head(store, file) : Result<OpenedFile>(p.file);
    const std::string hash = opened.ok() && opened->head.size() == opened->file->size() ? model_of(opened->head) : "";
    if (hash.empty()) continue;
    const std::string blob = join_path(models, "blobs/sha256-" + hash);
    return bad_input("opening {}: it is a manifest of Ollama's, not the model; {}", file,
                     is_there(store, blob) ? fmt::format("the model is the blob that it names, give that: {}", blob)
                                           : fmt::format("the blob that it names is not there ({}): ollama pull the model again", blob));
  }
  return {};
}

// "model.gguf.part1of2", "model.gguf-split-a", "model.gguf.part-00": the name of the whole; empty where it is no such name.
std::string cut_from(const std::string& path) {
  for (std::string_view end : {".gguf", ".safetensors", ".bin"})
    for (std::string_view cut : {".part", "-split-", ".split-"})
      if (const size_t at = path.rfind(std::string(end) + std::string(cut)); at != path.npos && path.find('/', at) == path.npos && at + end.size() + cut.size() < path.size())
        return path.substr(0, at + end.size());
  return "";
}

}  // namespace

Status check_no_model(Store& store, const Probe& p) {
  if (const std::string whole = cut_from(p.path); !p.directory && !whole.empty())
    return bad_input("opening {}: by its name it is a part of '{}', cut by its bytes; join all parts in order first: cat {}{}* > {}", p.path, file_name(whole), whole,
                     p.path.substr(whole.size(), p.path[whole.size()] == '.' ? 5 : 7), whole);
  return check_ollama(store, p);
}

}  // namespace ingot
