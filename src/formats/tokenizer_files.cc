#include "formats/tokenizer_files.h"

#include <algorithm>

#include "formats/hf_weights.h"
#include "formats/safetensors.h"

namespace ingot {
namespace {

constexpr std::string_view kAlone[] = {"tokenizer.json", "tekken.json", "tokenizer.model"};

bool is_alone(std::string_view name) { return std::find(std::begin(kAlone), std::end(kAlone), name) != std::end(kAlone); }

}  // namespace

Result<std::optional<Artifact>> open_tokenizer_files(Store& store, const std::string& path) {
  const auto none = std::optional<Artifact>();
  INGOT_ASSIGN(Probe p, look_at(store, path));
  const std::string name = file_name(path);
  const bool file = !p.directory && is_alone(name);
  if (!p.directory && !file) return none;
  if (file) {
    INGOT_ASSIGN(p, look_at(store, parent_path(path)));
    std::erase_if(p.entries, [&](const Entry& e) { return is_alone(e.name) && e.name != name; });
  } else if (weights_score(p) > 0 || p.find("adapter_config.json") ||
             std::none_of(p.entries.begin(), p.entries.end(), [](const Entry& e) { return is_alone(e.name) || e.name == "vocab.json"; })) {
    return none;
  }
  Artifact a;
  a.path = file ? path : p.path;
  a.format = "tokenizer";
  a.naming = "hf";
  std::vector<std::string> names = tokenizer_side_files();
  names.push_back("config.json");
  Calls calls;
  SideFiles side;
  INGOT_TRY(ask_side_files(store, p, names, &side, &calls));
  INGOT_TRY(call_together(store, "opening " + a.path, calls));
  INGOT_TRY(take_side_files(store, p, std::move(side), &a));
  return std::optional(std::move(a));
}

}  // namespace ingot
