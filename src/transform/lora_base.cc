#include "transform/lora_base.h"

#include "formats/json.h"
#include "storage/hub.h"

namespace ingot::transform {

Result<Located> find_base(const Artifact& adapter) {
  const std::string path = join_path(adapter.path, "adapter_config.json");
  const auto file = adapter.files.find("adapter_config.json");
  INGOT_ASSIGN(const Json config, parse_json(file == adapter.files.end() ? "{}" : file->second, "reading " + path));
  const std::string base = json_string(config, "base_model_name_or_path").value_or("");
  if (base.empty()) return bad_input("'{}' does not name its base (base_model_name_or_path in {})", adapter.path, path);
  for (const std::string& candidate : {base, join_path(adapter.path, base)}) {
    INGOT_ASSIGN(Located at, locate(candidate));
    INGOT_ASSIGN(const auto there, at.store->stat(at.path));
    if (there && there->directory()) return at;
  }
  auto id = parse_hub_id(base);
  if (id && id->revision.empty()) id->revision = json_string(config, "revision").value_or("");
  // The path of a cache on the machine that trained it.
  if (const auto snapshot = hub_snapshot(base)) id = HubId{snapshot->repo, snapshot->commit};
  if (!id)
    return bad_input("'{}' names as its base '{}' (base_model_name_or_path in {}), which is not here, nor beside the adapter", adapter.path, base,
                     path);
  auto at = locate_model("hf://" + id->text());
  if (at.ok()) return at;
  return at.take_error().during(fmt::format("'{}' names as its base '{}', which is no path from here nor from the adapter's directory", adapter.path, base));
}

}  // namespace ingot::transform
