// What differs between two models or states, tensor by tensor and beside the tensors: for 'ingot diff' and 'ingot checkpoint diff'.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "formats/json.h"
#include "tensor/artifact.h"
#include "transform/measure.h"

namespace ingot::cli {

// A tensor of both sides, of one shape.
struct Compared {
  std::string name;
  NodePtr a, b;
  DType type_a, type_b;  // as they lie in the files
  transform::TensorDifference d;
};
enum class Verdict { kBytes, kValues, kDifferent };
Verdict verdict(const Compared& p);

struct Comparison {
  std::string under;  // why other names than those of the files, if so
  std::vector<Compared> pairs;  // the greatest error first
  std::vector<std::pair<std::string, std::string>> shapes;  // name; "[3, 4] and [4, 3]"
  std::vector<std::string> only_a, only_b;
  std::vector<std::string> beside;  // metadata and files that differ

  std::array<uint64_t, 3> counts() const;  // of pairs, by verdict
  bool same_tensors() const;
};
// Both are read once, within --memory.
Result<Comparison> compare(Context& c, Artifact a, Artifact b);

// NaN and infinity as texts.
OrderedJson number_json(double v);
// How many lines of each kind are shown without --all.
inline constexpr size_t kComparedShown = 20;
// The tensors that are different, a row each, and what only one side has or what is of another shape; of each at most `most`.
std::string differences_text(const Comparison& found, size_t most);
std::string list_text(const char* what, const std::vector<std::string>& names, size_t most);
// The members that both commands have.
void add_comparison(const Comparison& found, OrderedJson* j);

}  // namespace ingot::cli
