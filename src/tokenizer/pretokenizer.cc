// The steps of pre-tokenization and their chain. A piece goes through all steps before the next is cut, so
// that no list of pieces is held. Semantics follow the tokenizers library.
#include "tokenizer/pretokenizer.h"

#include <deque>

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

// Applies a behavior to the stream of (range, is it a match) of one text and passes pieces on; empty pieces
// are dropped.
class Splitter {
 public:
  Splitter(std::string_view text, SplitBehavior behavior, bool invert, PieceSink& next)
      : text_(text), behavior_(behavior), invert_(invert), next_(next) {}

  void add(size_t begin, size_t end, bool match) {
    match ^= invert_;
    switch (behavior_) {
      case SplitBehavior::kIsolated:
        emit(begin, end);
        return;
      case SplitBehavior::kRemoved:
        if (!match) emit(begin, end);
        return;
      case SplitBehavior::kContiguous:
        if (held_ && match == previous_) {
          end_ = end;
        } else {
          hold(begin, end);
        }
        break;
      case SplitBehavior::kMergedWithPrevious:
        if (held_ && match && !previous_) {
          end_ = end;
        } else {
          hold(begin, end);
        }
        break;
      case SplitBehavior::kMergedWithNext:  // a match joins what follows unless that is a match too
        if (held_ && previous_ && !match) {
          end_ = end;
        } else {
          hold(begin, end);
        }
        break;
    }
    previous_ = match;
  }
  void finish() {
    if (held_) emit(begin_, end_);
    held_ = false;
  }

 private:
  void hold(size_t begin, size_t end) {
    finish();
    held_ = true, begin_ = begin, end_ = end;
  }
  void emit(size_t begin, size_t end) {
    if (begin < end) next_.piece(text_.substr(begin, end - begin));
  }
  std::string_view text_;
  SplitBehavior behavior_;
  bool invert_;
  PieceSink& next_;
  bool held_ = false, previous_ = false;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace

class PreTokenizer::Step {
 public:
  virtual ~Step() = default;
  // Cuts `text`, which is not empty.
  virtual Status split(std::string_view text, Regex::Workspace& workspace, PieceSink& next) const = 0;
};

namespace {

using Step = PreTokenizer::Step;
using Kind = PreTokenizerRule::Kind;

class RegexStep : public Step {
 public:
  RegexStep(Regex regex, SplitBehavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}
  Status split(std::string_view text, Regex::Workspace& workspace, PieceSink& next) const override {
    Splitter out(text, behavior_, invert_, next);
    Regex::Iterator matches(regex_, text, workspace);
    size_t previous = 0, begin = 0, end = 0;
    while (matches.next(&begin, &end)) {
      if (previous != begin) out.add(previous, begin, false);
      out.add(begin, end, true);
      previous = end;
    }
    if (!matches.status().ok()) return std::move(matches.status());
    if (previous != text.size()) out.add(previous, text.size(), false);
    out.finish();
    return {};
  }

 private:
  Regex regex_;
  SplitBehavior behavior_;
  bool invert_;
};

class StringStep : public Step {
 public:
  StringStep(std::string needle, SplitBehavior behavior, bool invert)
      : needle_(std::move(needle)), behavior_(behavior), invert_(invert) {}
  Status split(std::string_view text, Regex::Workspace&, PieceSink& next) const override {
    Splitter out(text, behavior_, invert_, next);
    size_t previous = 0;
    for (size_t at; (at = text.find(needle_, previous)) != std::string_view::npos;
         previous = at + needle_.size()) {
      if (previous != at) out.add(previous, at, false);
      out.add(at, at + needle_.size(), true);
    }
    if (previous != text.size()) out.add(previous, text.size(), false);
    out.finish();
    return {};
  }

 private:
  std::string needle_;
  SplitBehavior behavior_;
  bool invert_;
};

// Digits, Punctuation, WhitespaceSplit: single characters match.
class CharStep : public Step {
 public:
  CharStep(bool (*predicate)(char32_t), SplitBehavior behavior)
      : predicate_(predicate), behavior_(behavior) {}
  Status split(std::string_view text, Regex::Workspace&, PieceSink& next) const override {
    Splitter out(text, behavior_, false, next);
    const char *p = text.data(), *begin = p, *end = p + text.size(), *previous = p;
    while (p < end) {
      const char* at = p;
      if (!predicate_(unicode::next_char(p))) continue;
      if (previous != at) out.add(previous - begin, at - begin, false);
      out.add(at - begin, p - begin, true);
      previous = p;
    }
    if (previous != end) out.add(previous - begin, end - begin, false);
    out.finish();
    return {};
  }

 private:
  bool (*predicate_)(char32_t);
  SplitBehavior behavior_;
};

// Whitespace: keeps the matches of \w+|[^\w\s]+.
class WhitespaceStep : public Step {
 public:
  Status split(std::string_view text, Regex::Workspace&, PieceSink& next) const override {
    const char *p = text.data(), *end = p + text.size(), *from = p;
    int current = 0;  // class of the run that started at `from`: 0 space, 1 word, 2 other
    while (p < end) {
      const char* at = p;
      const char32_t c = unicode::next_char(p);
      const int k = unicode::is_whitespace(c) ? 0 : unicode::is_word(c) ? 1 : 2;
      if (k == current) continue;
      if (current != 0) next.piece({from, static_cast<size_t>(at - from)});
      current = k;
      from = at;
    }
    if (current != 0) next.piece({from, static_cast<size_t>(end - from)});
    return {};
  }
};

// ByteLevel: may add a space, split by GPT-2's pattern (a RegexStep behind this one), and spell bytes as
// characters. The last is left out when nothing but the model follows.
class ByteLevelStep : public Step {
 public:
  ByteLevelStep(bool add_prefix_space, bool spell) : add_prefix_space_(add_prefix_space), spell_(spell) {}
  Status split(std::string_view text, Regex::Workspace&, PieceSink& next) const override {
    if (add_prefix_space_ && text[0] != ' ') {
      std::string with_space = " ";
      with_space += text;
      pass(with_space, next);
    } else {
      pass(text, next);
    }
    return {};
  }

 private:
  void pass(std::string_view text, PieceSink& next) const {
    if (!spell_) return next.piece(text);
    std::string spelled;
    spelled.reserve(text.size() * 2);
    unicode::append_byte_chars(spelled, text);
    next.piece(spelled);
  }
  bool add_prefix_space_, spell_;
};

// One link of the chain while a text passes through it.
class Link : public PieceSink {
 public:
  Link(const Step& step, Regex::Workspace& workspace, PieceSink& next, Status& failure)
      : step_(step), workspace_(workspace), next_(next), failure_(failure) {}
  void piece(std::string_view text) override {
    if (!failure_.ok()) return;
    if (Status s = step_.split(text, workspace_, next_); !s.ok() && failure_.ok()) failure_ = std::move(s);
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
  void piece(std::string_view text) override {
    if (unicode::byte_chars_to_bytes(text, bytes_)) next_.piece(bytes_);
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
        pre.steps_.push_back(std::make_shared<RegexStep>(std::move(regex), rule.behavior, rule.invert));
        break;
      }
      case Kind::kSplitString:
        if (rule.pattern.empty())
          return bad_input("pre_tokenizer: a Split with an empty pattern cuts nothing");
        pre.steps_.push_back(std::make_shared<StringStep>(rule.pattern, rule.behavior, rule.invert));
        break;
      case Kind::kByteLevel: {
        if (pre.byte_level_) return bad_input("pre_tokenizer: two ByteLevel steps found; one is supported");
        pre.byte_level_ = true;
        const bool last = i + 1 == rules.size();
        // The library adds the space, splits, then spells.
        if (rule.add_prefix_space) pre.steps_.push_back(std::make_shared<ByteLevelStep>(true, false));
        if (rule.use_regex) {
          INGOT_ASSIGN(Regex regex, Regex::compile(kGpt2Pattern, true));
          pre.steps_.push_back(
              std::make_shared<RegexStep>(std::move(regex), SplitBehavior::kIsolated, false));
        }
        if (!last) pre.steps_.push_back(std::make_shared<ByteLevelStep>(false, true));
        break;
      }
      case Kind::kDigits:
        pre.steps_.push_back(std::make_shared<CharStep>(
            unicode::is_numeric, rule.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous));
        break;
      case Kind::kPunctuation:
        pre.steps_.push_back(std::make_shared<CharStep>(unicode::is_punctuation, rule.behavior));
        break;
      case Kind::kWhitespace:
        pre.steps_.push_back(std::make_shared<WhitespaceStep>());
        break;
      case Kind::kWhitespaceSplit:
        pre.steps_.push_back(std::make_shared<CharStep>(unicode::is_whitespace, SplitBehavior::kRemoved));
        break;
    }
  }
  pre.rules_ = std::move(rules);
  return pre;
}

Status PreTokenizer::split(std::string_view text, Regex::Workspace& workspace, PieceSink& sink) const {
  if (text.empty()) return {};
  Status failure;
  Unspell unspell(sink);
  const bool spelled = byte_level_ && rules_.back().kind != Kind::kByteLevel;
  PieceSink* next = spelled ? static_cast<PieceSink*>(&unspell) : &sink;
  std::deque<Link> links;  // built from the end, so that each knows the next
  for (size_t i = steps_.size(); i-- > 0;) next = &links.emplace_back(*steps_[i], workspace, *next, failure);
  next->piece(text);
  return failure;
}

}  // namespace ingot
