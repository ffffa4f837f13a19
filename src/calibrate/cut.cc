// Texts to windows of tokens.
#include <algorithm>
#include <optional>
#include <string_view>

#include "calibrate/texts.h"

namespace ingot::calibrate {
namespace {

struct Category {
  std::string name;
  std::vector<int32_t> ids;
  int64_t whole = 0;             // windows
  int64_t first = 0, taken = 0;  // of them
};

// The token that is put before every text, if it is BOS. What a text itself begins with does not count.
Result<std::optional<int32_t>> bos_of(const Tokenizer& tokenizer) {
  const auto bos = tokenizer.bos();
  if (!bos) return std::optional<int32_t>();
  constexpr std::string_view kAny = "a";
  INGOT_ASSIGN(const auto with, tokenizer.encode(kAny, true));
  INGOT_ASSIGN(const auto without, tokenizer.encode(kAny, false));
  const bool added = !with.empty() && with[0] == *bos && (without.empty() || without[0] != *bos);
  return added ? bos : std::optional<int32_t>();
}

Result<std::vector<Category>> tokenize(const Tokenizer& tokenizer, const std::vector<Text>& texts, const WindowOptions& options) {
  std::vector<Category> categories;
  for (const Text& t : texts) {
    auto encoded = tokenizer.encode(t.text, true, options.parse_special);
    if (!encoded.ok()) return std::move(encoded.take_error()).during(fmt::format("tokenizing '{}'", t.name));
    auto c = std::find_if(categories.begin(), categories.end(), [&](const Category& has) { return has.name == t.category; });
    if (c == categories.end()) c = categories.insert(c, Category{t.category, {}});
    if (c->ids.empty()) c->ids = std::move(*encoded);
    else c->ids.insert(c->ids.end(), encoded->begin(), encoded->end());
  }
  for (Category& c : categories) c.whole = static_cast<int64_t>(c.ids.size()) / options.length;
  return categories;
}

// One window of each category in turn: of that order, `most` behind the first `skip`. Those of a category stand together. Returns how many there are in all.
int64_t choose(std::vector<Category>& categories, int64_t skip, int64_t most) {
  int64_t nth = 0, longest = 0;
  for (const Category& c : categories) longest = std::max(longest, c.whole);
  for (int64_t round = 0; round < longest; ++round) {
    for (Category& c : categories) {
      if (round >= c.whole) continue;
      if (nth >= skip && (most == 0 || nth - skip < most) && c.taken++ == 0) c.first = round;
      ++nth;
    }
  }
  return nth;
}

Error no_window(const std::vector<Category>& categories, int64_t length) {
  const auto longest = std::max_element(categories.begin(), categories.end(), [](const Category& a, const Category& b) { return a.ids.size() < b.ids.size(); });
  const std::string whose = categories.size() > 1 ? fmt::format("the longest category, '{}',", longest->name) : "the text";
  return bad_input("{} has {} tokens, but a window has {}; give more text, or shorter windows with --ctx", whose, longest == categories.end() ? 0 : longest->ids.size(), length);
}

}  // namespace

Result<TokenWindows> cut(const Tokenizer& tokenizer, const std::vector<Text>& texts, const WindowOptions& options) {
  if (options.length < 2) return usage("--ctx {}: a window has at least 2 tokens", options.length);
  INGOT_ASSIGN(auto categories, tokenize(tokenizer, texts, options));
  const int64_t all = choose(categories, options.skip, options.most);
  if (all == 0) return no_window(categories, options.length);
  if (options.skip >= all) return usage("--chunk {}: there are {} windows of {} tokens in the text; leave out fewer", options.skip, all, options.length);
  INGOT_ASSIGN(const auto bos, bos_of(tokenizer));

  TokenWindows out;
  out.length = options.length;
  for (const Text& t : texts)
    if (std::find(out.names.begin(), out.names.end(), t.name) == out.names.end()) out.names.push_back(t.name);
  const auto length = static_cast<size_t>(options.length);
  for (Category& c : categories) {
    out.tokens += static_cast<int64_t>(c.ids.size());
    if (c.whole == 0) out.too_short.push_back(c.name);
    if (c.taken > 0) {
      if (bos)
        for (int64_t i = 0; i < c.taken; ++i) c.ids[static_cast<size_t>(c.first + i) * length] = *bos;
      const auto begin = c.ids.begin() + c.first * options.length;
      out.ids.insert(out.ids.end(), begin, begin + c.taken * options.length);
      out.category.insert(out.category.end(), static_cast<size_t>(c.taken), static_cast<int32_t>(out.categories.size()));
      out.categories.push_back(c.name);
    }
    c.ids = {};
  }
  return out;
}

}  // namespace ingot::calibrate
