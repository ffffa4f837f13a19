// Scan: a model's files looked at while their bytes pass, once and in any order: checksums of the records of archives, NaN and infinity of every tensor whose
// elements lie in files as they are. What lies otherwise is left for the executor.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "commit/verify.h"
#include "formats/zip_records.h"
#include "tensor/artifact.h"
#include "transform/nonfinite.h"

namespace ingot::transform {

class Scan {
 public:
  struct Tensor {
    std::vector<std::string> names;  // all that it has
    NodePtr node;
    Looked looked = Looked::kNothing;
    bool in_files = false;
    std::atomic<uint64_t> nan{0}, infinite{0};
  };
  // Leaves, except the last of a file, have `leaf_bytes`. Both arguments are to outlive it.
  Scan(const Artifact& a, const ZipRecords& zip, uint64_t leaf_bytes);

  // For hash_tree: from one thread at a time; what it gives, from many.
  VerifyRun::Look look(const ReadFile& file);
  // Paths of files that hold what is to be looked at and have not passed.
  std::vector<std::string> unseen() const;

  std::deque<Tensor>& tensors() { return tensors_; }
  struct Damage {
    size_t record;  // of ZipRecords::records
    uint32_t found;
    std::vector<std::string> tensors;  // that lie in it
  };
  // Of all records that passed.
  std::vector<Damage> damage() const;
  uint64_t records() const { return sums_.size(); }

 private:
  struct Span {
    uint64_t begin, end;
    size_t of;  // a tensor, or a sum
  };
  // Spans of one file in the order of their begin; `reach` is the furthest end of those up to each.
  struct Spans {
    std::vector<Span> all;
    std::vector<uint64_t> reach;
    void sort();
    template <class F>
    void each(uint64_t begin, uint64_t end, F f) const;
  };
  struct File {
    std::string path;
    Spans tensors, sums;
    bool seen = false;
  };
  struct Sum {
    size_t record;
    uint64_t begin, end;
    std::vector<uint32_t> parts;  // of what each leaf has of it
    const File* file;
  };
  void count(Tensor& t, const Span& s, uint64_t offset, ByteView bytes, const ReadFile& file, Status* status);

  const ZipRecords& zip_;
  uint64_t leaf_bytes_;
  std::deque<Tensor> tensors_;
  std::vector<Sum> sums_;
  std::map<std::string, File> files_;  // by identity: a file has many names
};

}  // namespace ingot::transform
