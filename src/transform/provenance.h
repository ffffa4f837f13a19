// --provenance: the manifests of what a job writes (formats/manifest.h). Their text is laid out before the job, with places for the hashes,
// which are known when all bytes have passed and are filled in last.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "formats/json.h"
#include "transform/content_hash.h"

namespace ingot::transform {

// What was done to an artifact, in order.
class Operations {
 public:
  // `options`: those that change bytes, as the user knows them. The nodes that the operation has added to `made` tell their own versions and
  // parameters.
  void add(const char* operation, OrderedJson options, const Artifact& made);
  const OrderedJson& list() const { return list_; }

 private:
  void collect(const NodePtr& node, std::set<std::string>* steps);
  OrderedJson list_ = OrderedJson::array();
  std::set<NodePtr> seen_;
};

class Provenance {
 public:
  Provenance(std::string version, uint64_t seed) : version_(std::move(version)), seed_(seed) {}

  // An input as it was opened, and its own manifest's text if it has one, whose inputs are named too. All come before the first model.
  Status add_input(const Artifact& opened, const std::string& manifest);
  // A model that the job makes, with its manifest; `directory` as for put_manifest().
  Result<Artifact> tell(Artifact made, const Operations& operations, bool directory);
  // The outputs as they are to be run, their manifests completed by the job itself, and after them those that make the hashes.
  std::vector<Output> complete(std::vector<Output> outputs) const;
  // After a run of complete(): inputs that are not what their own manifest says, in words.
  std::vector<std::string> contradictions(const ExecReport& report) const;
  // Bytes that pass for the hashes alone, and the files that they count as.
  uint64_t hash_bytes() const;
  size_t hash_files() const;

 private:
  OrderedJson places(size_t hash) const;
  std::string version_;
  uint64_t seed_;
  OrderedJson inputs_ = OrderedJson::array();
  std::vector<std::string> claimed_;  // of each input: the exact hash in its own manifest
  std::vector<ContentHash> hashes_;   // of the inputs, then of the models
};

}  // namespace ingot::transform
