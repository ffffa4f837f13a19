// The steps of a pre-tokenizer, as PreTokenizer::compile chains them.
#pragma once

#include <memory>
#include <string>

#include "tokenizer/pretokenizer.h"

namespace ingot {

class PreTokenizer::Step {
 public:
  virtual ~Step() = default;
  // Cuts `text`, which is not empty. `first`: nothing of the input stands before it.
  virtual Status split(std::string_view text, bool first, Regex::Workspace& workspace, PieceSink& next) const = 0;
};

namespace steps {

using StepPtr = std::shared_ptr<const PreTokenizer::Step>;

StepPtr regex(Regex regex, SplitBehavior behavior, bool invert);
StepPtr string(std::string needle, SplitBehavior behavior, bool invert);
StepPtr characters(bool (*predicate)(char32_t), SplitBehavior behavior);  // single characters match
StepPtr whitespace();
StepPtr byte_level(bool add_prefix_space, bool spell);
StepPtr metaspace(const PreTokenizerRule& rule);
StepPtr fixed_length(size_t length);

}  // namespace steps
}  // namespace ingot
