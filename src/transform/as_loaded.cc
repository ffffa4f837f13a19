#include "transform/as_loaded.h"

#include "transform/dequantize.h"
#include "transform/key_names.h"

namespace ingot::transform {

Result<Artifact> as_loaded(const Artifact& model, const std::function<void(const std::string&)>& on_notice) {
  INGOT_ASSIGN(Artifact plain, dequantized(model, on_notice));
  return with_plain_names(std::move(plain), on_notice);
}

}  // namespace ingot::transform
