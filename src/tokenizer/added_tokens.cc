// Added tokens: a trie whose edges are one hash table.
#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <set>

#include "tokenizer/unicode.h"

namespace ingot {
namespace {

uint64_t edge_hash(uint64_t key) { return (key * 0x9E3779B97F4A7C15ull) >> 20; }

// The character that ends at `end` of well-formed text.
char32_t char_before(std::string_view text, size_t end, size_t* begin) {
  size_t b = end - 1;
  while (b > 0 && (static_cast<uint8_t>(text[b]) & 0xC0) == 0x80) --b;
  *begin = b;
  const char* p = text.data() + b;
  return unicode::next_char(p);
}

}  // namespace

uint32_t AddedTokenFinder::child(uint32_t node, uint8_t byte) const {
  if (node == 0) return root_[byte];
  if (edges_.empty()) return 0;
  const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
  for (size_t i = edge_hash(key) & (edges_.size() - 1); edges_[i].to != 0;
       i = (i + 1) & (edges_.size() - 1)) {
    if (edges_[i].key == key) return edges_[i].to;
  }
  return 0;
}

uint32_t AddedTokenFinder::make_child(uint32_t node, uint8_t byte) {
  if (const uint32_t c = child(node, byte)) return c;
  const uint32_t to = ++nodes_;
  ends_.resize(nodes_ + 1, nullptr);
  if (node == 0) return root_[byte] = to;
  const auto insert = [this](Edge e) {
    size_t i = edge_hash(e.key) & (edges_.size() - 1);
    while (edges_[i].to != 0) i = (i + 1) & (edges_.size() - 1);
    edges_[i] = e;
  };
  if (static_cast<size_t>(nodes_) * 2 > edges_.size()) {
    std::vector<Edge> old = std::move(edges_);
    edges_.assign(std::max<size_t>(64, old.size() * 2), Edge{});
    for (const Edge& e : old) {
      if (e.to != 0) insert(e);
    }
  }
  insert({static_cast<uint64_t>(node) << 8 | byte, to});
  return to;
}

void AddedTokenFinder::add(std::string_view text, const AddedToken* token) {
  if (text.empty()) return;
  uint32_t node = 0;
  for (const char c : text) node = make_child(node, static_cast<uint8_t>(c));
  ends_[node] = token;
}

const AddedToken* AddedTokenFinder::longest(std::string_view text, size_t* length) const {
  const AddedToken* best = nullptr;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node = child(node, static_cast<uint8_t>(text[i]));
    if (node == 0) break;
    if (ends_[node]) best = ends_[node], *length = i + 1;
  }
  return best;
}

std::vector<AddedTokenFinder::Segment> AddedTokenFinder::split_longest_first(std::string_view text,
                                                                             bool parse_special) const {
  std::vector<Segment> segments;
  if (!text.empty()) segments.push_back({0, text.size(), nullptr});
  if (empty()) return segments;
  struct Order {
    bool operator()(const AddedToken* a, const AddedToken* b) const {
      return a->content.size() != b->content.size() ? a->content.size() > b->content.size() : a->id < b->id;
    }
  };
  std::set<const AddedToken*, Order> found;  // somewhere in the text
  for (size_t at = 0; at < text.size(); ++at) {
    uint32_t node = 0;
    for (size_t i = at; i < text.size() && (node = child(node, static_cast<uint8_t>(text[i]))) != 0; ++i)
      if (const AddedToken* t = ends_[node]; t && (parse_special || !t->special)) found.insert(t);
  }
  const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  for (const AddedToken* token : found) {
    std::vector<Segment> cut;
    for (const Segment& s : segments) {
      if (s.token) {
        cut.push_back(s);
        continue;
      }
      size_t at = s.begin;
      for (size_t hit; (hit = text.substr(0, s.end).find(token->content, at)) != std::string_view::npos;) {
        size_t left = hit;
        if (token->lstrip)
          while (left > at && is_space(text[left - 1])) --left;
        if (left > at) cut.push_back({at, left, nullptr});
        at = hit + token->content.size();
        cut.push_back({hit, at, token});
        if (token->rstrip)
          while (at < s.end && is_space(text[at])) ++at;
      }
      if (at < s.end) cut.push_back({at, s.end, nullptr});
    }
    segments = std::move(cut);
  }
  return segments;
}

bool AddedTokenFinder::stands_alone(std::string_view text, size_t begin, size_t end) {
  size_t at = 0;
  if (begin > 0 && unicode::is_word(char_before(text, begin, &at))) return false;
  if (end == text.size()) return true;
  const char* p = text.data() + end;
  return !unicode::is_word(unicode::next_char(p));
}

size_t AddedTokenFinder::space_before(std::string_view text, size_t begin, size_t floor) {
  while (begin > floor) {
    size_t at = 0;
    if (!unicode::is_whitespace(char_before(text, begin, &at))) break;
    begin = at;
  }
  return std::max(begin, floor);
}

size_t AddedTokenFinder::space_after(std::string_view text, size_t end) {
  while (end < text.size()) {
    const char* p = text.data() + end;
    if (!unicode::is_whitespace(unicode::next_char(p))) break;
    end = static_cast<size_t>(p - text.data());
  }
  return end;
}

}  // namespace ingot
