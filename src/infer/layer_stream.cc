#include "infer/layer_stream.h"

#include <system_error>

#include "base/memory.h"

namespace ingot {

void LayerStream::forget() {
  if (next_.valid()) next_.wait();
  next_ = {};
}

Result<std::shared_ptr<const LayerWeights>> LayerStream::get(int64_t layer) {
  std::lock_guard lock(callers_);
  const auto load = [this](int64_t l) { return within_memory("loading a layer", [&] { return load_(l); }); };
  if (expected_ != layer || !next_.valid()) {
    forget();
    next_ = std::async(std::launch::deferred, load, layer);
  }
  Result<LayerWeights> loaded = next_.get();
  if (!loaded.ok()) return loaded.take_error();
  auto out = std::make_shared<const LayerWeights>(std::move(*loaded));
  expected_ = layer + 1 < layers_ ? layer + 1 : 0;
  try {
    next_ = std::async(std::launch::async, load, expected_);
  } catch (const std::system_error&) {  // no thread to be had: when it is asked for
    next_ = std::async(std::launch::deferred, load, expected_);
  }
  return out;
}

}  // namespace ingot
