// LayerStream: the layers of a model in turn, the next one loaded while one is used.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>

#include "infer/model.h"

namespace ingot {

class LayerStream {
 public:
  using Load = std::function<Result<LayerWeights>(int64_t layer)>;
  // `load` is called by one thread at a time, of its own where the system gives one.
  LayerStream(int64_t layers, Load load) : layers_(layers), load_(std::move(load)) {}
  ~LayerStream() { forget(); }
  LayerStream(const LayerStream&) = delete;
  LayerStream& operator=(const LayerStream&) = delete;

  // Waits for it, and begins the one after it: after the last the first. In order costs nothing; another than the expected one is loaded anew.
  // Callers take turns.
  Result<std::shared_ptr<const LayerWeights>> get(int64_t layer);

 private:
  void forget();
  int64_t layers_;
  Load load_;
  std::mutex callers_;
  int64_t expected_ = -1;
  std::future<Result<LayerWeights>> next_;
};

}  // namespace ingot
