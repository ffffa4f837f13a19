// config.json of one model, read by the rules of its architecture: numbers, shapes, which layers attend to what.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.h"

namespace ingot {

// The configuration of the language model: what text_config of a model of several parts says, over what stands beside it; as transformers reads them, the two are
// tied where either says so, and the ids of special tokens are the root's.
Json language_config(const Json& config);

// What the class takes for keys that the configuration does not have (null is had), under no other name either that the architecture reads it by.
std::vector<std::pair<std::string, Json>> missing_defaults(const Architecture& a, const Json& config);
// With these.
Json with_defaults(const Architecture& a, Json config);

// A number of config.json by a path: keys "a.b", or numbers, between "*", "/" (an exact quotient, else nothing) and "//" (rounded down), from the left.
std::optional<double> config_number(const Json& config, std::string_view path);
// The same, but a value that is there and is no number is kBadInput that shows it (null counts as absent).
Result<std::optional<double>> read_config_number(const Json& config, std::string_view path, const std::string& what);
// The keys of a path, in order; and the value of the path where they have these values (nothing: absent).
std::vector<std::string> path_keys(std::string_view path);
std::optional<double> path_value(std::string_view path, const std::vector<std::optional<double>>& values);

using Params = std::map<std::string, int64_t>;
// The params of an architecture for one config; an error names the keys that are missing or make no sense.
Result<Params> config_params(const Architecture& a, const Json& config, const std::string& what);

// "heads*head_dim+2*kv_heads*head_dim" where `param` gives the params; nothing where one is missing or the product is beyond int64.
std::optional<int64_t> extent(std::string_view text, const std::function<std::optional<int64_t>(const std::string&)>& param);
// The shape that these extents give.
Result<Shape> shape_of(const std::vector<std::string>& extents, const Params& params, const std::string& tensor);

// Which layers see the last tokens only, as the class that config.json names has it.
struct Windows {
  std::optional<int64_t> window;  // nothing: every layer sees everything
  std::vector<bool> layers;       // of each, whether it has the window; empty without one
  bool usual = true;              // as the architecture has it where the metadata says nothing else
  const WindowRule* rule = nullptr;
};
Result<Windows> attention_windows(const Architecture& a, const Json& config, int64_t layers, const std::string& what);
// Whether a layer is of those that are all but every period-th; 0: all are.
bool but_every(int64_t period, int64_t layer);
// Whether the elements of a layer's heads are rotated, which some layers do without.
bool has_rope(const LayerKinds& k, int64_t layer, bool window);
// The query is divided by the root of this where nothing else is said. Params: layers, head_dim, and those that LayerKinds::attention_scale names.
double usual_attention_divisor(const LayerKinds& k, const Params& params);

}  // namespace ingot
