#include "transform/lora_base.h"

#include "formats/json.h"
#include "storage/hub.h"

namespace ingot::transform {

namespace {

Result<Json> config_of(const Artifact& adapter) {
  const auto file = adapter.files.find("adapter_config.json");
  return parse_json(file == adapter.files.end() ? "{}" : file->second, "reading " + join_path(adapter.path, "adapter_config.json"));
}

// What its base may be called on the Hub.
std::optional<HubId> hub_base(const Json& config) {
  const std::string base = json_string(config, "base_model_name_or_path").value_or("");
  // The path of a cache on the machine that trained it.
  if (const auto snapshot = hub_snapshot(base)) return HubId{snapshot->repo, snapshot->commit};
  auto id = parse_hub_id(base);
  if (id && id->revision.empty()) id->revision = json_string(config, "revision").value_or("");
  return id;
}

}  // namespace

std::string original_of_base(const Artifact& adapter) {
  const auto config = config_of(adapter);
  const auto id = config.ok() ? hub_base(*config) : std::nullopt;
  return id ? hub_original(id->repo) : "";
}

std::string base_download(const Artifact& adapter) {
  const auto config = config_of(adapter);
  const auto id = config.ok() ? hub_base(*config) : std::nullopt;
  if (!id) return "";
  const std::string original = hub_original(id->repo);
  return hub_download(original.empty() ? *id : HubId{original, ""});
}

Result<Located> find_base(const Artifact& adapter) {
  const std::string path = join_path(adapter.path, "adapter_config.json");
  INGOT_ASSIGN(const Json config, config_of(adapter));
  const std::string base = json_string(config, "base_model_name_or_path").value_or("");
  if (base.empty()) return bad_input("'{}' does not name its base (base_model_name_or_path in {})", adapter.path, path);
  bool file = false;
  for (const std::string& candidate : {base, join_path(adapter.path, base), join_path(parent_path(adapter.path), base)}) {
    INGOT_ASSIGN(Located at, locate(candidate));
    INGOT_ASSIGN(const auto there, at.store->stat(at.path));
    if (there && there->directory()) return at;
    file = file || there;
  }
  if (file)
    return bad_input("'{}' names as its base '{}' (base_model_name_or_path in {}), which is a file; a base is a Hugging Face directory", adapter.path,
                     base, path);
  const auto id = hub_base(config);
  if (!id)
    return bad_input("'{}' names as its base '{}' (base_model_name_or_path in {}), which lies neither here nor in the adapter's directory nor beside that", adapter.path, base,
                     path);
  auto at = locate_model("hf://" + id->text());
  if (at.ok()) return at;
  if (const std::string original = hub_original(id->repo); !original.empty())
    return bad_input("'{}' names as its base '{}', which by its name is a quantized copy (and not here): take the model that it was made from, probably {}: {}",
                     adapter.path, base, original, hub_download({original, ""}));
  return at.take_error().during(fmt::format("'{}' names as its base '{}', which lies neither here nor in the adapter's directory nor beside that", adapter.path, base));
}

}  // namespace ingot::transform
