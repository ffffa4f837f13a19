#include "formats/shards.h"

#include <fmt/format.h>

#include <utility>

#include "formats/json.h"

namespace ingot {

Result<Layout> layout_shards(const std::vector<NamedSpec>& specs, const std::map<std::string, std::string>& files, uint64_t max_shard, const std::string& stem,
                             const std::string& extension, const TensorNames& names, const PlaceShard& place) {
  std::vector<std::vector<int>> shards;
  std::vector<int> open;
  uint64_t in_open = 0, total = 0;
  int64_t elements = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const uint64_t size = bytes_of(specs[i].second);
    total += size, elements += specs[i].second.shape.elements();
    if (size > max_shard) {
      shards.push_back({static_cast<int>(i)});
      continue;
    }
    if (in_open + size > max_shard) shards.push_back(std::exchange(open, {})), in_open = 0;
    open.push_back(static_cast<int>(i));
    in_open += size;
  }
  if (!open.empty() || shards.empty()) shards.push_back(std::move(open));
  Layout l;
  l.tensors.resize(specs.size());
  std::vector<std::string> file_of(specs.size());
  for (size_t s = 0; s < shards.size(); ++s) {
    INGOT_ASSIGN(auto file, place(shards[s], static_cast<int>(s), &l.tensors));
    file.name = shards.size() == 1 ? stem + extension : fmt::format("{}-{:05}-of-{:05}{}", stem, s + 1, shards.size(), extension);
    for (int i : shards[s]) file_of[static_cast<size_t>(i)] = file.name;
    l.files.push_back(std::move(file));
  }
  std::map<std::string, std::string> map, side = files;
  for (const auto& [name, tensor] : names) map[name] = file_of[tensor];
  if (shards.size() > 1) {
    std::string json = fmt::format("{{\n  \"metadata\": {{\n    \"total_parameters\": {},\n    \"total_size\": {}\n  }},\n  \"weight_map\": {{", elements, total);
    bool first = true;
    for (const auto& [name, file] : map) {
      json += fmt::format("{}\n    {}: {}", first ? "" : ",", json_quote(name), json_quote(file));
      first = false;
    }
    side[stem + extension + ".index.json"] = json + "\n  }\n}\n";
  }
  for (auto& [name, bytes] : side) {
    FileLayout f;
    f.name = name;
    f.size = bytes.size();
    if (!bytes.empty()) f.extents.push_back({0, std::move(bytes)});
    l.files.push_back(std::move(f));
  }
  return l;
}

}  // namespace ingot
