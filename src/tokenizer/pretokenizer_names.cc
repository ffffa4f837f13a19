// The table of known pre-tokenizers and the comparison of rules with it. Rules are compared in a canonical
// form, so that two spellings of the same thing are the same.
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "tokenizer/pretokenizer.h"

namespace ingot {
namespace {

using Kind = PreTokenizerRule::Kind;
constexpr int kIgnoreMerges = 1, kReadOnly = 2, kProposed = 4;
constexpr bool kGpt2 = true, kIndividual = true;
constexpr auto kContiguous = SplitBehavior::kContiguous;

PreTokenizerRule regex(const char* pattern) {
  PreTokenizerRule r;
  r.pattern = pattern;
  return r;
}
PreTokenizerRule bytes(bool use_regex = false) {
  PreTokenizerRule r;
  r.kind = Kind::kByteLevel;
  r.use_regex = use_regex;
  return r;
}
PreTokenizerRule digits(bool individual) {
  PreTokenizerRule r;
  r.kind = Kind::kDigits;
  r.individual = individual;
  return r;
}
PreTokenizerRule digits(SplitBehavior) { return digits(false); }
PreTokenizerRule punctuation(SplitBehavior behavior) {
  PreTokenizerRule r;
  r.kind = Kind::kPunctuation;
  r.behavior = behavior;
  return r;
}

struct KnownRules {
  std::vector<NamedPreTokenizer> entries;
  std::vector<PreTokenizerRules> canonical;  // beside entries
  std::map<std::string, std::string, std::less<>> aliases;
  std::set<std::string> patterns;  // canonical texts of all patterns
};

void replace_all(std::string& s, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = s.find(from, at)) != std::string::npos; at += to.size())
    s.replace(at, from.size(), to);
}

// Rewrites what is written in several ways in files: control characters raw or escaped, the English
// contractions, and possessive quantifiers (which make no difference in any pattern of the table: each stands
// before disjoint or optional characters).
std::string canonical_pattern(std::string_view pattern) {
  std::string p(pattern);
  replace_all(p, "\r", "\\r");
  replace_all(p, "\n", "\\n");
  replace_all(p, "\t", "\\t");
  constexpr std::string_view kContractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
  for (const std::string_view other :
       {"'(?i:[sdmt]|ll|ve|re)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
        "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])", "(?i:'s|'t|'re|'ve|'m|'d|'ll)"}) {
    replace_all(p, other, kContractions);
  }
  replace_all(p, "]?+\\p", "]?\\p");
  replace_all(p, "]++[", "]+[");
  return p;
}

bool ends_with(std::string_view s, std::string_view tail) {
  return s.size() >= tail.size() && s.substr(s.size() - tail.size()) == tail;
}

PreTokenizerRules canonical_rules(const PreTokenizerRules& rules) {
  PreTokenizerRules out;
  for (PreTokenizerRule rule : rules) {
    if (rule.kind == Kind::kByteLevel && rule.use_regex && !rule.add_prefix_space) {
      out.push_back(regex(kGpt2Pattern));  // the library splits first, then spells bytes
      rule.use_regex = false;
    } else if (rule.kind == Kind::kSplitRegex) {
      rule.pattern = canonical_pattern(rule.pattern);
      // Matches removed and inverted = only matches kept. A pattern that ends so leaves nothing between
      // matches.
      if (rule.behavior == SplitBehavior::kRemoved && rule.invert && ends_with(rule.pattern, "|\\s+")) {
        rule.behavior = SplitBehavior::kIsolated;
      }
      if (rule.behavior == SplitBehavior::kIsolated) rule.invert = false;
      // \p{N} and \d+-like splits of one character are what Digits does.
      if (rule.behavior == SplitBehavior::kIsolated && rule.pattern == "\\p{N}") rule = digits(true);
    }
    out.push_back(std::move(rule));
  }
  return out;
}

const KnownRules& known_rules() {
  static const KnownRules t = [] {
    KnownRules known;
    const auto add = [&](const char* name, int flags, PreTokenizerRules rules) {
      known.canonical.push_back(canonical_rules(rules));
      for (const auto& rule : known.canonical.back()) {
        if (rule.kind == Kind::kSplitRegex) known.patterns.insert(rule.pattern);
      }
      known.patterns.insert("\\p{N}");
      known.entries.push_back({name, std::move(rules), (flags & kIgnoreMerges) != 0, (flags & kReadOnly) == 0,
                               (flags & kProposed) == 0});
    };
#define PRE_TOKENIZER(name, flags, ...) add(name, flags, {__VA_ARGS__});
#define ALIAS(name, entry) known.aliases.emplace(name, entry);
#include "tokenizer/pretokenizers.def"
#undef PRE_TOKENIZER
#undef ALIAS
    return known;
  }();
  return t;
}

}  // namespace

const NamedPreTokenizer* find_pre_tokenizer(std::string_view name) {
  const KnownRules& t = known_rules();
  if (const auto it = t.aliases.find(name); it != t.aliases.end()) name = it->second;
  for (const auto& e : t.entries) {
    if (e.read && e.name == name) return &e;
  }
  return nullptr;
}

const NamedPreTokenizer* original_pre_tokenizer(std::string_view name) {
  const KnownRules& t = known_rules();
  const auto known = [&](std::string_view n) {
    const auto it = std::find_if(t.entries.begin(), t.entries.end(), [&](const NamedPreTokenizer& e) { return e.detect && e.name == n; });
    return it == t.entries.end() ? nullptr : &*it;
  };
  if (const auto* own = known(name)) return own;
  const auto alias = t.aliases.find(name);
  const auto* other = alias == t.aliases.end() ? nullptr : known(alias->second);
  return other ? other : find_pre_tokenizer(name);
}

std::vector<std::string> pre_tokenizer_names() {
  std::set<std::string> names;
  for (const auto& e : known_rules().entries) names.insert(e.name);
  for (const auto& [name, entry] : known_rules().aliases) {
    if (!name.empty()) names.insert(name);
  }
  return {names.begin(), names.end()};
}

std::vector<const NamedPreTokenizer*> match_pre_tokenizers(const PreTokenizerRules& rules) {
  const KnownRules& t = known_rules();
  const PreTokenizerRules wanted = canonical_rules(rules);
  std::vector<const NamedPreTokenizer*> found;
  for (size_t i = 0; i < t.entries.size(); ++i) {
    if (t.entries[i].detect && t.canonical[i] == wanted) found.push_back(&t.entries[i]);
  }
  return found;
}

bool is_known_pattern(std::string_view pattern) {
  const std::string p = canonical_pattern(pattern);
  // These patterns of the table look ahead over a whole run from each of its characters: quadratic, so they
  // run counted.
  for (const std::string_view slow : {"(?=(", "\\s+$", "\\s{512}"}) {
    if (p.find(slow) != std::string::npos) return false;
  }
  return known_rules().patterns.count(p) != 0;
}

}  // namespace ingot
