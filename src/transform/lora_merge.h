// The state of a merge, between lora.cc (factors, the order of steps) and lora_whole.cc (whole tensors, ties, vocabularies, heads).
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/json.h"
#include "transform/lora.h"
#include "transform/lora_config.h"
#include "transform/lora_keys.h"

namespace ingot::transform {

// Heads that PEFT puts on a model for a task, and saves though the base has none.
bool is_task_head(const std::string& tensor);

class Merge {
 public:
  Merge(const Artifact& base, const LoraMergeOptions& options) : base_(base), out_(base), options_(options) {
    for (size_t i = 0; i < out_.tensors.size(); ++i) index_[out_.tensors[i].name] = i;
  }
  Status init();
  Status add(const AdapterSpec& spec);
  Result<Artifact> finish();

 private:
  // One adapter at a time.
  struct Adding {
    const std::string& file;
    LoraConfig config;
    LoraKeys keys;
  };
  NodePtr* node(const std::string& tensor) {
    auto it = index_.find(tensor);
    return it == index_.end() ? nullptr : &out_.tensors.node(it->second);
  }
  void notice(const std::string& text) const {
    if (options_.on_notice) options_.on_notice(text);
  }
  bool is_embedding(const std::string& tensor) const { return tensor == embedding_ || tensor == output_; }
  Status settle_head();
  Status settle_targets(Adding* a);
  bool is_saved(const Adding& a, const std::string& tensor) const;
  Status check_saved(const Adding& a);
  void pass_over(Adding* a);
  Result<const LazyTensor*> join_tied(Adding* a);
  Status untie(const Adding& a);
  Status replace(const std::string& name, const LazyTensor& t, const std::string& file);
  Status replace_rows(const Adding& a);
  Status merge_module(const std::string& path, const LoraModule& m, const Adding& a, double weight, bool conv1d);
  Result<bool> linear_is_transposed(const LoraKeys& keys);
  Status check_vocabulary(const Adding& a);
  Status check_modules(const Adding& a);
  Status tell_whole(const Adding& a);
  Status make_classifier(OrderedJson* config);

  const Artifact& base_;
  Artifact out_;
  const LoraMergeOptions& options_;
  Json config_;
  bool known_ = false;                  // the architecture
  bool config_tied_ = false;            // what config.json says
  bool tied_ = false, untied_ = false;  // what is
  std::string embedding_, output_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> changed_by_;  // tensor -> the last adapter that did
  std::vector<std::string> names_;                  // of the adapters
  std::string task_type_;                           // of the adapter that brought a head
};

}  // namespace ingot::transform
