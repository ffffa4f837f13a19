// The rotary embedding of config.json as a GGUF file says it: metadata, and factors for each pair as tensors.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.h"
#include "tensor/artifact.h"

namespace ingot::transform {

// Tensors that are made from config.json; the source has none of that. rope_freqs.weight holds Llama 3's factors, the others longrope's.
inline constexpr const char* kRopeFactors[] = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};
bool is_rope_factors(std::string_view gguf_name);

struct GgufRope {
  std::vector<std::pair<std::string, MetaValue>> metadata;
  std::vector<LazyTensor> tensors;
  std::string notice;  // what the file, or llama.cpp of this architecture, cannot say
};

// `rope_dim` elements of a head are turned. `what` names the file. The keys and their meaning are llama.cpp's.
Result<GgufRope> gguf_rope(const Json& config, const Architecture& arch, int64_t rope_dim, const std::string& what);

}  // namespace ingot::transform
