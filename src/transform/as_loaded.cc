#include "transform/as_loaded.h"

#include "transform/class_rules.h"
#include "transform/dequantize.h"
#include "transform/key_names.h"

namespace ingot::transform {

Result<Artifact> as_loaded(const Artifact& model, const std::function<void(const std::string&)>& on_notice) {
  INGOT_ASSIGN(Artifact a, with_class_defaults(model, on_notice));
  INGOT_ASSIGN(a, dequantized(a, on_notice));
  INGOT_ASSIGN(a, with_plain_names(std::move(a), on_notice));
  return with_class_tensors(std::move(a), on_notice);
}

}  // namespace ingot::transform
