// The rules of pre-tokenization and the chain of their steps (pretokenizer_steps.h). A piece goes through all steps before the
// next is cut, so that no list of pieces is held. Semantics follow the tokenizers library.
#include "tokenizer/pretokenizer.h"

#include <deque>

#include "tokenizer/pretokenizer_steps.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot {

const char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

const char* behavior_name(SplitBehavior b) {
  switch (b) {
    case SplitBehavior::kIsolated:
      return "Isolated";
    case SplitBehavior::kRemoved:
      return "Removed";
    case SplitBehavior::kMergedWithPrevious:
      return "MergedWithPrevious";
    case SplitBehavior::kMergedWithNext:
      return "MergedWithNext";
    case SplitBehavior::kContiguous:
      return "Contiguous";
  }
  return "?";
}

using Step = PreTokenizer::Step;
using Kind = PreTokenizerRule::Kind;

// One link of the chain while a text passes through it.
class Link : public PieceSink {
 public:
  Link(const Step& step, Regex::Workspace& workspace, PieceSink& next, Status& failure)
      : step_(step), workspace_(workspace), next_(next), failure_(failure) {}
  void piece(std::string_view text, bool first) override {
    if (!failure_.ok()) return;
    if (Status s = step_.split(text, first, workspace_, next_); !s.ok() && failure_.ok()) failure_ = std::move(s);
  }

 private:
  const Step& step_;
  Regex::Workspace& workspace_;
  PieceSink& next_;
  Status& failure_;
};

// Undoes the byte alphabet at the end of a chain that needed it.
class Unspell : public PieceSink {
 public:
  explicit Unspell(PieceSink& next) : next_(next) {}
  void piece(std::string_view text, bool first) override {
    if (unicode::byte_chars_to_bytes(text, bytes_)) next_.piece(bytes_, first);
  }

 private:
  PieceSink& next_;
  std::string bytes_;
};

}  // namespace

std::string PreTokenizerRule::describe() const {
  switch (kind) {
    case Kind::kSplitRegex:
    case Kind::kSplitString:
      return std::string("Split(") + (kind == Kind::kSplitRegex ? "Regex " : "String ") +
             quoted(pattern, 500) + ", " + behavior_name(behavior) + (invert ? ", invert)" : ")");
    case Kind::kByteLevel:
      return std::string("ByteLevel(add_prefix_space=") + (add_prefix_space ? "true" : "false") +
             ", use_regex=" + (use_regex ? "true)" : "false)");
    case Kind::kDigits:
      return std::string("Digits(individual_digits=") + (individual ? "true)" : "false)");
    case Kind::kPunctuation:
      return std::string("Punctuation(") + behavior_name(behavior) + ")";
    case Kind::kWhitespace:
      return "Whitespace";
    case Kind::kWhitespaceSplit:
      return "WhitespaceSplit";
    case Kind::kMetaspace: {
      constexpr const char* kSchemes[] = {"always", "first", "never"};
      return "Metaspace(" + quoted(pattern) + ", prepend_scheme=" + kSchemes[static_cast<int>(prepend)] + (split ? ", split)" : ")");
    }
    case Kind::kBert:
      return "BertPreTokenizer";
    case Kind::kFixedLength:
      return "FixedLength(" + std::to_string(length) + ")";
  }
  return "?";
}

Result<PreTokenizer> PreTokenizer::compile(PreTokenizerRules rules) {
  constexpr size_t kMaxRules = 64;
  if (rules.size() > kMaxRules) {
    return bad_input("pre_tokenizer: {} steps found; at most {} are accepted", rules.size(), kMaxRules);
  }
  PreTokenizer pre;
  for (size_t i = 0; i < rules.size(); ++i) {
    const PreTokenizerRule& rule = rules[i];
    switch (rule.kind) {
      case Kind::kSplitRegex: {
        INGOT_ASSIGN(Regex regex, Regex::compile(rule.pattern, is_known_pattern(rule.pattern)));
        pre.steps_.push_back(steps::regex(std::move(regex), rule.behavior, rule.invert));
        break;
      }
      case Kind::kSplitString:
        pre.steps_.push_back(steps::string(rule.pattern, rule.behavior, rule.invert));
        break;
      case Kind::kByteLevel: {
        if (pre.byte_level_) return bad_input("pre_tokenizer: two ByteLevel steps found; one is supported");
        pre.byte_level_ = true;
        const bool last = i + 1 == rules.size();
        // The library adds the space, splits, then spells.
        if (rule.add_prefix_space) pre.steps_.push_back(steps::byte_level(true, false));
        if (rule.use_regex) {
          INGOT_ASSIGN(Regex regex, Regex::compile(kGpt2Pattern, true));
          pre.steps_.push_back(steps::regex(std::move(regex), SplitBehavior::kIsolated, false));
        }
        if (!last) pre.steps_.push_back(steps::byte_level(false, true));
        break;
      }
      case Kind::kDigits:
        pre.steps_.push_back(steps::characters(
            unicode::is_numeric, rule.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous));
        break;
      case Kind::kPunctuation:
        pre.steps_.push_back(steps::characters(unicode::is_punctuation, rule.behavior));
        break;
      case Kind::kWhitespace:
        pre.steps_.push_back(steps::whitespace());
        break;
      case Kind::kWhitespaceSplit:
        pre.steps_.push_back(steps::characters(unicode::is_whitespace, SplitBehavior::kRemoved));
        break;
      case Kind::kMetaspace:
        if (pre.byte_level_) return bad_input("pre_tokenizer: a Metaspace behind ByteLevel is not supported");
        pre.steps_.push_back(steps::metaspace(rule));
        break;
      case Kind::kBert:
        pre.steps_.push_back(steps::characters(unicode::is_whitespace, SplitBehavior::kRemoved));
        pre.steps_.push_back(steps::characters(unicode::is_punctuation, SplitBehavior::kIsolated));
        break;
      case Kind::kFixedLength:
        if (rule.length == 0) return bad_input("pre_tokenizer: a FixedLength of 0 is none");
        pre.steps_.push_back(steps::fixed_length(rule.length));
        break;
    }
  }
  pre.rules_ = std::move(rules);
  return pre;
}

Status PreTokenizer::split(std::string_view text, Regex::Workspace& workspace, PieceSink& sink, bool first) const {
  if (text.empty()) return {};
  Status failure;
  Unspell unspell(sink);
  const bool spelled = byte_level_ && rules_.back().kind != Kind::kByteLevel;
  PieceSink* next = spelled ? static_cast<PieceSink*>(&unspell) : &sink;
  std::deque<Link> links;  // built from the end, so that each knows the next
  for (size_t i = steps_.size(); i-- > 0;) next = &links.emplace_back(*steps_[i], workspace, *next, failure);
  next->piece(text, first);
  return failure;
}

}  // namespace ingot
