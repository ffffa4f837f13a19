#include "formats/index_check.h"

#include <algorithm>
#include <map>
#include <set>

#include "formats/formats.h"
#include "formats/hf_weights.h"
#include "formats/json.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxIndex = 256u << 20;

Status check_index(Store& store, const std::string& path, IndexCheck* c) {
  INGOT_ASSIGN(const std::string text, read_side_file(store, path, kMaxIndex));
  INGOT_ASSIGN(const Json j, parse_json(text, "reading " + path));
  const Json* map = json_member(j, "weight_map");
  if (!map || !map->is_object()) return bad_input("{}: it has no weight_map", path);
  std::map<std::string, std::set<std::string>> shards;
  for (auto it = map->begin(); it != map->end(); ++it)
    if (it->is_string()) shards[it->get<std::string>()].insert(it.key());
  const auto lies_here = [&](const auto& shard) { return is_inside(shard.first) && is_there(store, join_path(parent_path(path), plain_path(shard.first))); };
  if (!std::any_of(shards.begin(), shards.end(), lies_here)) {
    c->warnings.push_back(fmt::format("{}: none of the files that it names is there; the weights that were found are others", path));
    return {};
  }
  uint64_t total = 0, unique = 0;
  for (const auto& [name, tensors] : shards) {
    auto opened = is_inside(name) ? open_model(store, join_path(parent_path(path), plain_path(name))) : Result<Artifact>(bad_input("{}: '{}' lies outside the directory", path, name));
    if (!opened.ok()) {
      c->errors.push_back(opened.take_error().message);
      continue;
    }
    const Artifact& shard = *opened;
    std::vector<std::string> absent, extra;
    for (const auto& t : tensors)
      if (!shard.find(t)) absent.push_back(t);
    std::set<NodePtr> seen;
    for (const LazyTensor& t : shard.tensors) {
      if (!tensors.count(t.name)) extra.push_back(t.name);
      total += bytes_of(t.spec());
      if (seen.insert(t.node).second) unique += bytes_of(t.spec());
    }
    if (!absent.empty()) c->errors.push_back(fmt::format("{}: {} should hold {}, and does not", path, name, some_of(absent)));
    if (!extra.empty()) c->warnings.push_back(fmt::format("{}: it does not name {}, which {} holds", path, some_of(extra), name));
  }
  const Json* metadata = json_member(j, "metadata");
  const Json* size = metadata && metadata->is_object() ? json_member(*metadata, "total_size") : nullptr;
  if (!size || !size->is_number()) return {};
  const auto told = static_cast<uint64_t>(std::max(0.0, size->get<double>()));
  if (told != total && told != unique) c->warnings.push_back(fmt::format("{}: its total_size is {}, but the tensors of its shards take {} bytes", path, told, total));
  return {};
}

}  // namespace

Result<IndexCheck> check_indexes(Store& store, const std::string& directory) {
  IndexCheck c;
  INGOT_ASSIGN(auto entries, store.list(directory));
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  for (const Entry& e : entries) {
    const bool index = e.name.ends_with(".safetensors.index.json") || e.name.ends_with(".bin.index.json");
    if (e.directory || !index) continue;
    ++c.indexes;
    if (auto s = check_index(store, join_path(directory, e.name), &c); !s.ok()) c.errors.push_back(s.take_error().message);
  }
  return c;
}

}  // namespace ingot
