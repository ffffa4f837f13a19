// The files of a DCP directory, and what lies in them: a chunk of a tensor or a value is a whole archive of torch.save, or a row of a safetensors file.
#pragma once

#include <functional>
#include <map>

#include "formats/dcp_metadata.h"
#include "formats/formats.h"

namespace ingot {

class DcpFiles {
 public:
  // Opens all of them. What is missing, or shorter than the metadata says, is an error that names what lies there.
  static Result<DcpFiles> open(Store& store, const std::string& directory, const DcpMetadata& metadata);

  // What stands for all of them together.
  const std::shared_ptr<const ReadFile>& all() const { return all_; }
  // The chunk of a tensor. Where in its archive the data begin is looked up when they are first read.
  Result<std::shared_ptr<const Source>> chunk(const DcpEntry& entry, const DcpChunk& chunk) const;
  // Plain values by their names below the entry's, tensors among them too. Entries that lie together are read together.
  Status values(const std::vector<std::pair<const DcpEntry*, std::string>>& entries, Artifact* a, StateKinds* kinds) const;

 private:
  struct File {
    std::shared_ptr<const ReadFile> file;
    std::string path;
    std::map<std::pair<std::string, std::string>, NodePtr> rows;  // of a safetensors file, by name and offsets
    bool archives = true;
  };
  static Result<File> open_one(Store& store, const std::string& path);
  std::vector<File> files_;
  std::shared_ptr<const ReadFile> all_;
  std::string hash_;
};

}  // namespace ingot
