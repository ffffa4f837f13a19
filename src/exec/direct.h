// DirectProvider: leaves read as they are asked for, broadcast values and groups kept for the provider's life. Serves
// evaluate(), the reductions of stages, and the loading of shared values. Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "exec/evaluator.h"

namespace ingot {

class DirectProvider final : public Provider {
 public:
  explicit DirectProvider(const Facts& facts, std::atomic<uint64_t>* bytes_read = nullptr)
      : facts_(facts), bytes_read_(bytes_read) {}
  Result<View> leaf(const LeafNode& leaf, const Region& region, Arena& arena) override;
  Result<View> broadcast(const Need& need, Arena& arena) override;
  Result<View> group(const GroupOutput& output, const Region& region, Arena& arena) override;

 private:
  struct Value {
    std::mutex mutex;
    bool ready = false;
    std::vector<std::vector<std::byte>> bytes;  // one, or one for each output of a group
  };
  Value& value(const std::string& key);

  const Facts& facts_;
  std::atomic<uint64_t>* bytes_read_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Value>> values_;
};

// All outputs of a group from its whole inputs.
Status compute_group(const Group& group, Provider& provider, const Facts& facts, Arena& arena,
                     const std::vector<MutByteView>& outs);

// Runs the stages that `nodes` need (and those that they need) which `facts` does not hold yet, inputs first. Each new fact is
// given to `made` (journal it). Threads share the chunks; the facts do not depend on their number.
class CancelToken;
struct StageRun {
  int threads = 1;
  std::atomic<uint64_t>* bytes_read = nullptr;
  CancelToken* cancel = nullptr;
  std::function<Status(const std::string& key, const std::string& fact)> made;
};
Status run_stages(const std::vector<NodePtr>& nodes, Facts& facts, const StageRun& run);

}  // namespace ingot
