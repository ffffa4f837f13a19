// The steps of pre-tokenization: each cuts one text into pieces.
#include "tokenizer/pretokenizer_steps.h"

#include "tokenizer/unicode.h"

namespace ingot {
namespace {

// Applies a behavior to the stream of (range, is it a match) of one text and passes pieces on; empty pieces
// are dropped.
class Splitter {
 public:
  Splitter(std::string_view text, bool first, SplitBehavior behavior, bool invert, PieceSink& next)
      : text_(text), first_(first), behavior_(behavior), invert_(invert), next_(next) {}

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
    if (begin < end) next_.piece(text_.substr(begin, end - begin), first_ && begin == 0);
  }
  std::string_view text_;
  bool first_;
  SplitBehavior behavior_;
  bool invert_;
  PieceSink& next_;
  bool held_ = false, previous_ = false;
  size_t begin_ = 0, end_ = 0;
};

using Step = PreTokenizer::Step;

class RegexStep : public Step {
 public:
  RegexStep(Regex regex, SplitBehavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}
  Status split(std::string_view text, bool first, Regex::Workspace& workspace, PieceSink& next) const override {
    Splitter out(text, first, behavior_, invert_, next);
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

void cut_at(std::string_view needle, std::string_view text, Splitter out) {
  size_t previous = 0;
  for (size_t at; (at = text.find(needle, previous)) != std::string_view::npos; previous = at + needle.size()) {
    if (previous != at) out.add(previous, at, false);
    out.add(at, at + needle.size(), true);
  }
  if (previous != text.size()) out.add(previous, text.size(), false);
  out.finish();
}

class StringStep : public Step {
 public:
  StringStep(std::string needle, SplitBehavior behavior, bool invert)
      : needle_(std::move(needle)), behavior_(behavior), invert_(invert) {}
  Status split(std::string_view text, bool first, Regex::Workspace&, PieceSink& next) const override {
    cut_at(needle_, text, Splitter(text, first, behavior_, invert_, next));
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
  Status split(std::string_view text, bool first, Regex::Workspace&, PieceSink& next) const override {
    Splitter out(text, first, behavior_, false, next);
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
  Status split(std::string_view text, bool first, Regex::Workspace&, PieceSink& next) const override {
    const char *p = text.data(), *end = p + text.size(), *from = p;
    int current = 0;  // class of the run that started at `from`: 0 space, 1 word, 2 other
    while (p < end) {
      const char* at = p;
      const char32_t c = unicode::next_char(p);
      const int k = unicode::is_whitespace(c) ? 0 : unicode::is_word(c) ? 1 : 2;
      if (k == current) continue;
      if (current != 0) next.piece({from, static_cast<size_t>(at - from)}, first && from == text.data());
      current = k;
      from = at;
    }
    if (current != 0) next.piece({from, static_cast<size_t>(end - from)}, first && from == text.data());
    return {};
  }
};

// ByteLevel: may add a space, split by GPT-2's pattern (a RegexStep behind this one), and spell bytes as
// characters. The last is left out when nothing but the model follows.
class ByteLevelStep : public Step {
 public:
  ByteLevelStep(bool add_prefix_space, bool spell) : add_prefix_space_(add_prefix_space), spell_(spell) {}
  Status split(std::string_view text, bool first, Regex::Workspace&, PieceSink& next) const override {
    if (add_prefix_space_ && text[0] != ' ') {
      std::string with_space = " ";
      with_space += text;
      pass(with_space, first, next);
    } else {
      pass(text, first, next);
    }
    return {};
  }

 private:
  void pass(std::string_view text, bool first, PieceSink& next) const {
    if (!spell_) return next.piece(text, first);
    std::string spelled;
    spelled.reserve(text.size() * 2);
    unicode::append_byte_chars(spelled, text);
    next.piece(spelled, first);
  }
  bool add_prefix_space_, spell_;
};

// Metaspace: spaces become a mark, one may be put before the text, and each mark begins a piece.
class MetaspaceStep : public Step {
 public:
  explicit MetaspaceStep(const PreTokenizerRule& rule) : mark_(rule.pattern), prepend_(rule.prepend), split_(rule.split) {}
  Status split(std::string_view text, bool first, Regex::Workspace&, PieceSink& next) const override {
    std::string marked;
    marked.reserve(text.size() + text.size() / 2 + mark_.size());
    const bool wanted = prepend_ == PrependScheme::kAlways || (prepend_ == PrependScheme::kFirst && first);
    if (wanted && text[0] != ' ' && !text.starts_with(mark_)) marked = mark_;
    for (size_t at; (at = text.find(' ')) != text.npos; text.remove_prefix(at + 1)) marked.append(text.substr(0, at)) += mark_;
    marked.append(text);
    if (split_) cut_at(mark_, marked, Splitter(marked, first, SplitBehavior::kMergedWithNext, false, next));
    else next.piece(marked, first);
    return {};
  }

 private:
  std::string mark_;
  PrependScheme prepend_;
  bool split_;
};

class FixedLengthStep : public Step {
 public:
  explicit FixedLengthStep(size_t length) : length_(length) {}
  Status split(std::string_view text, bool first, Regex::Workspace&, PieceSink& next) const override {
    for (const char *p = text.data(), *end = p + text.size(); p < end; first = false) {
      const char* from = p;
      for (size_t n = 0; n < length_ && p < end; ++n) unicode::next_char(p);
      next.piece({from, static_cast<size_t>(p - from)}, first);
    }
    return {};
  }

 private:
  size_t length_;
};

}  // namespace

namespace steps {

StepPtr regex(Regex regex, SplitBehavior behavior, bool invert) {
  return std::make_shared<RegexStep>(std::move(regex), behavior, invert);
}
StepPtr string(std::string needle, SplitBehavior behavior, bool invert) {
  return std::make_shared<StringStep>(std::move(needle), behavior, invert);
}
StepPtr characters(bool (*predicate)(char32_t), SplitBehavior behavior) { return std::make_shared<CharStep>(predicate, behavior); }
StepPtr whitespace() { return std::make_shared<WhitespaceStep>(); }
StepPtr byte_level(bool add_prefix_space, bool spell) { return std::make_shared<ByteLevelStep>(add_prefix_space, spell); }
StepPtr metaspace(const PreTokenizerRule& rule) { return std::make_shared<MetaspaceStep>(rule); }
StepPtr fixed_length(size_t length) { return std::make_shared<FixedLengthStep>(length); }

}  // namespace steps
}  // namespace ingot
