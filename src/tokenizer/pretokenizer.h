// Pre-tokenizers: the rules that cut text into the pieces a model works on, as tokenizer.json writes them,
// and the names by which GGUF files refer to known sets of rules (pretokenizers.def).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/regex.h"

namespace ingot {

// When Metaspace puts a mark before a text: kFirst before the first one only.
enum class PrependScheme { kAlways, kFirst, kNever };
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

// One step. Sequences are flattened.
struct PreTokenizerRule {
  enum class Kind {
    kSplitRegex,
    kSplitString,
    kByteLevel,
    kDigits,
    kPunctuation,
    kWhitespace,
    kWhitespaceSplit,
    kMetaspace,
    kBert,
    kFixedLength
  };
  Kind kind = Kind::kSplitRegex;
  std::string pattern;                                // the splits; kMetaspace: the mark
  SplitBehavior behavior = SplitBehavior::kIsolated;  // the splits and kPunctuation
  bool invert = false;            // the splits: what lies between matches counts as the match
  bool add_prefix_space = false;  // kByteLevel
  bool use_regex = false;         // kByteLevel: also split by GPT-2's pattern
  bool individual = false;        // kDigits
  bool whole_tokens = false;      // kSplitRegex: matches what is a token as it stands (user-defined pieces)
  PrependScheme prepend = PrependScheme::kAlways;  // kMetaspace
  bool split = true;                               // kMetaspace: each mark begins a piece
  size_t length = 0;                               // kFixedLength, in characters

  std::string describe() const;
  bool operator==(const PreTokenizerRule&) const = default;
};
using PreTokenizerRules = std::vector<PreTokenizerRule>;

// Receives pieces in order.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  // `first`: nothing of the input stands before it.
  virtual void piece(std::string_view text, bool first) = 0;
};

// The compiled rules. Immutable; any number of threads may use it.
class PreTokenizer {
 public:
  static Result<PreTokenizer> compile(PreTokenizerRules rules);
  // Cuts `text` (well-formed UTF-8). With byte_level() the pieces are raw bytes (the byte alphabet undone),
  // else UTF-8. Memory does not grow with the number of pieces.
  Status split(std::string_view text, Regex::Workspace& workspace, PieceSink& sink, bool first = true) const;
  bool byte_level() const { return byte_level_; }
  const PreTokenizerRules& rules() const { return rules_; }

  class Step;

 private:
  PreTokenizerRules rules_;
  std::vector<std::shared_ptr<const Step>> steps_;
  bool byte_level_ = false;
};

// --- Names (pretokenizer_names.cc) ---

// What a name of `tokenizer.ggml.pre` stands for.
struct NamedPreTokenizer {
  std::string name;
  PreTokenizerRules rules;
  bool ignore_merges = false;  // a piece that is a token is taken whole
  bool detect = true;          // false: the name is only read, never proposed for rules
  bool read = true;            // false: only proposed; another entry is what llama.cpp does under the name
};

// What llama.cpp does under a name; null when it is not known.
const NamedPreTokenizer* find_pre_tokenizer(std::string_view name);
// What the tokenizer.json of models that are given the name does, where that is known; else the same as llama.cpp.
const NamedPreTokenizer* original_pre_tokenizer(std::string_view name);
std::vector<std::string> pre_tokenizer_names();
// The entries whose rules do the same as `rules`, best first.
std::vector<const NamedPreTokenizer*> match_pre_tokenizers(const PreTokenizerRules& rules);
// True for a pattern of pretokenizers.def (written the same or equivalently): known to run in linear time.
bool is_known_pattern(std::string_view pattern);

extern const char kGpt2Pattern[];

}  // namespace ingot
