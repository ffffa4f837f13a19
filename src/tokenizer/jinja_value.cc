#include "tokenizer/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tokenizer/jinja_text.h"

namespace ingot::jinja {

Status Budget::spend(int64_t n) {
  steps += n;
  if (steps > max_steps) return bad_input("more than {} steps were taken: the template does not end, or does not fit this conversation", max_steps);
  return room(0);
}

Status Budget::room(uint64_t more) const {
  if (bytes > max_bytes || more > static_cast<uint64_t>(max_bytes - bytes))
    return bad_input("more than {} MiB of memory would be taken", max_bytes >> 20);
  return {};
}

const std::string& Value::text() const { return static_cast<const Text*>(object_.get())->text; }
bool Value::is_safe() const { return kind_ == Kind::kText && static_cast<const Text*>(object_.get())->safe; }
const Sequence& Value::sequence() const { return *static_cast<const Sequence*>(object_.get()); }
Sequence& Value::sequence() { return *static_cast<Sequence*>(object_.get()); }
const Dict& Value::dict() const { return *static_cast<const Dict*>(object_.get()); }
Namespace& Value::name_space() const { return *static_cast<Namespace*>(object_.get()); }
Function& Value::function() const { return *static_cast<Function*>(object_.get()); }

Error undefined_error(const Value& undefined) { return bad_input("{}", static_cast<const Undefined*>(undefined.object())->message); }

namespace {

constexpr size_t kIndexed = 8;  // a dict of more has an index

int nesting(const Value& v) {
  return v.is(Kind::kSequence) ? v.sequence().depth : v.is(Kind::kDict) ? v.dict().depth : v.is(Kind::kFunction) ? v.function().depth : 0;
}

uint64_t mix(uint64_t a, uint64_t b) { return (a ^ (b + 0x9E3779B97F4A7C15 + (a << 6) + (a >> 2))) * 0xBF58476D1CE4E5B9; }

}  // namespace

Result<int> depth_over(const std::vector<Value>& held) {
  int depth = 0;
  for (const Value& v : held) depth = std::max(depth, nesting(v));
  if (depth >= kMaxNesting) return bad_input("lists and dicts are nested deeper than {} levels", kMaxNesting);
  return depth + 1;
}

Result<Value> make_sequence(Budget& b, Flavor flavor, std::vector<Value> items) {
  INGOT_ASSIGN(const int depth, depth_over(items));
  auto sequence = std::make_shared<Sequence>(b, flavor, std::move(items));
  sequence->depth = depth;
  return Value(Kind::kSequence, std::move(sequence));
}

const Value* Dict::find(std::string_view key) const {
  if (index.empty()) {
    for (const auto& [k, v] : items)
      if (k.is(Kind::kText) && k.text() == key) return &v;
    return nullptr;
  }
  const auto [first, last] = index.equal_range(std::hash<std::string_view>()(key));
  for (auto it = first; it != last; ++it)
    if (const auto& [k, v] = items[it->second]; k.is(Kind::kText) && k.text() == key) return &v;
  return nullptr;
}

const Value* Dict::find(const Value& key) const {
  if (key.is(Kind::kText)) return find(key.text());
  if (index.empty()) {
    for (const auto& [k, v] : items)
      if (equal(budget, k, key)) return &v;
    return nullptr;
  }
  const auto h = hash(key);
  if (!h.ok()) return nullptr;
  const auto [first, last] = index.equal_range(*h);
  for (auto it = first; it != last; ++it)
    if (equal(budget, items[it->second].first, key)) return &items[it->second].second;
  return nullptr;
}

Status Dict::set(const Value& key, Value value) {
  INGOT_ASSIGN(const uint64_t h, hash(key));
  INGOT_ASSIGN(const int least, depth_over({key, value}));
  depth = std::max(depth, least);
  budget.count(sizeof(Value));
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = std::move(value);
    return {};
  }
  items.emplace_back(key, std::move(value));
  grow(2 * sizeof(Value) + 32);
  if (!index.empty()) {
    index.emplace(h, items.size() - 1);
  } else if (items.size() > kIndexed) {
    for (size_t i = 0; i < items.size(); ++i) {
      INGOT_ASSIGN(const uint64_t each, hash(items[i].first));
      index.emplace(each, i);
    }
  }
  return {};
}

const char* type_name(const Value& v) {
  switch (v.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kText:
      return "str";
    case Kind::kSequence:
      switch (v.sequence().flavor) {
        case Flavor::kList:
          return "list";
        case Flavor::kTuple:
          return "tuple";
        case Flavor::kRange:
          return "range";
        case Flavor::kView:
          return v.sequence().name.c_str();
        case Flavor::kIterator:
          return "generator";
      }
      return "";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kFunction:
      return "function";
  }
  return "";
}

bool truth(const Value& v) {
  switch (v.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return v.integer() != 0;
    case Kind::kFloat:
      return v.real() != 0;
    case Kind::kText:
      return !v.text().empty();
    case Kind::kSequence:
      return !v.sequence().sized() || !v.sequence().items.empty();
    case Kind::kDict:
      return !v.dict().items.empty();
    case Kind::kNamespace:
    case Kind::kFunction:
      return true;
  }
  return false;
}

bool equal(Budget& b, const Value& x, const Value& y) {
  ++b.steps;
  if (b.exhausted()) return false;
  if (x.is_number() && y.is_number()) {
    if (!x.is(Kind::kFloat) && !y.is(Kind::kFloat)) return x.integer() == y.integer();
    const auto wide = [](const Value& v) { return v.is(Kind::kFloat) ? static_cast<long double>(v.real()) : static_cast<long double>(v.integer()); };
    return wide(x) == wide(y);
  }
  if (x.kind() != y.kind()) return false;
  switch (x.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kText:
      b.count(std::min(x.text().size(), y.text().size()));
      return x.text() == y.text();
    case Kind::kSequence: {
      const Sequence &s = x.sequence(), &t = y.sequence();
      if (&s == &t) return true;
      if (s.flavor != t.flavor || !s.indexed() || s.items.size() != t.items.size()) return false;
      for (size_t i = 0; i < s.items.size(); ++i)
        if (!equal(b, s.items[i], t.items[i])) return false;
      return true;
    }
    case Kind::kDict: {
      const Dict &s = x.dict(), &t = y.dict();
      if (&s == &t) return true;
      if (s.items.size() != t.items.size()) return false;
      for (const auto& [key, value] : s.items) {
        const Value* other = t.find(key);
        if (!other || !equal(b, value, *other)) return false;
      }
      return true;
    }
    default:
      return x.object() == y.object();
  }
}

Result<int> compare(Budget& b, const Value& x, const Value& y) {
  INGOT_TRY(b.spend());
  for (const Value* v : {&x, &y})
    if (v->is(Kind::kUndefined)) return undefined_error(*v);
  const auto order = [](const auto& p, const auto& q) { return p < q ? -1 : p > q ? 1 : p == q ? 0 : 2; };  // 2: NaN
  if (x.is_number() && y.is_number()) {
    if (!x.is(Kind::kFloat) && !y.is(Kind::kFloat)) return order(x.integer(), y.integer());
    return order(x.is(Kind::kFloat) ? static_cast<long double>(x.real()) : static_cast<long double>(x.integer()),
                 y.is(Kind::kFloat) ? static_cast<long double>(y.real()) : static_cast<long double>(y.integer()));
  }
  if (x.is(Kind::kText) && y.is(Kind::kText)) {
    b.count(std::min(x.text().size(), y.text().size()));
    return order(x.text().compare(y.text()), 0);  // the order of UTF-8's bytes is that of the characters
  }
  if (x.is(Kind::kSequence) && y.is(Kind::kSequence)) {
    const Sequence &s = x.sequence(), &t = y.sequence();
    if (s.flavor == t.flavor && (s.flavor == Flavor::kList || s.flavor == Flavor::kTuple)) {
      for (size_t i = 0; i < std::min(s.items.size(), t.items.size()); ++i)
        if (!equal(b, s.items[i], t.items[i])) return compare(b, s.items[i], t.items[i]);
      return order(s.items.size(), t.items.size());
    }
  }
  return bad_input("'{}' and '{}' have no order: they cannot be compared with < or sorted", type_name(x), type_name(y));
}

Result<uint64_t> hash(const Value& v) {
  switch (v.kind()) {
    case Kind::kBool:
    case Kind::kInt:
      return mix(1, static_cast<uint64_t>(v.integer()));
    case Kind::kFloat: {
      const double f = v.real();
      if (std::trunc(f) == f && std::abs(f) < 9e18) return mix(1, static_cast<uint64_t>(static_cast<int64_t>(f)));
      return mix(2, static_cast<uint64_t>(std::hash<double>()(f)));
    }
    case Kind::kText:
      return std::hash<std::string_view>()(v.text());
    case Kind::kSequence: {
      if (v.sequence().flavor == Flavor::kList) return bad_input("a list cannot be a key (unhashable type: 'list')");
      if (v.sequence().flavor != Flavor::kTuple) break;
      uint64_t h = 3;
      for (const Value& item : v.sequence().items) {
        INGOT_ASSIGN(const uint64_t each, hash(item));
        h = mix(h, each);
      }
      return h;
    }
    case Kind::kDict:
      return bad_input("a dict cannot be a key (unhashable type: 'dict')");
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return mix(4, static_cast<uint64_t>(v.kind()));
    default:
      break;
  }
  return mix(5, reinterpret_cast<uintptr_t>(v.object()));
}

Result<bool> contains(Budget& b, Value& in, const Value& what) {
  switch (in.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kText:
      if (!what.is(Kind::kText)) return bad_input("'in' of a text needs a text on its left, not '{}'", type_name(what));
      b.count(in.text().size());
      return find_text(in.text(), what.text(), 0) != std::string::npos;
    case Kind::kDict: {
      INGOT_TRY(hash(what).ok() ? Status() : Status(hash(what).take_error()));
      return in.dict().find(what) != nullptr;
    }
    default: {
      if (in.is(Kind::kSequence) && in.sequence().sized()) {
        for (const Value& v : in.sequence().items)
          if (equal(b, v, what)) return true;
        return false;
      }
      INGOT_ASSIGN(const std::vector<Value> items, iterate(b, in));
      return std::any_of(items.begin(), items.end(), [&](const Value& v) { return equal(b, v, what); });
    }
  }
}

Result<int64_t> length(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
      return int64_t{0};
    case Kind::kText:
      return static_cast<int64_t>(count_chars(v.text()));
    case Kind::kDict:
      return static_cast<int64_t>(v.dict().items.size());
    case Kind::kSequence:
      if (v.sequence().sized()) return static_cast<int64_t>(v.sequence().items.size());
      break;
    case Kind::kFunction:
      if (const auto n = v.function().attribute("length"); n.ok() && n->is(Kind::kInt)) return n->integer();
      break;
    default:
      break;
  }
  return bad_input("'{}' has no length", type_name(v));
}

Result<std::vector<Value>> iterate(Budget& b, Value& v) {
  std::vector<Value> out;
  switch (v.kind()) {
    case Kind::kUndefined:
      return out;
    case Kind::kText: {
      const std::string& text = v.text();
      INGOT_TRY(b.spend(static_cast<int64_t>(text.size())));
      INGOT_TRY(b.room(count_chars(text) * (sizeof(Value) + sizeof(Text))));
      for (size_t i = 0; i < text.size();) {
        const size_t next = next_char_at(text, i);
        out.push_back(make_text(b, text.substr(i, next - i)));
        i = next;
      }
      return out;
    }
    case Kind::kDict:
      b.count(v.dict().items.size() * sizeof(Value));
      for (const auto& item : v.dict().items) out.push_back(item.first);
      return out;
    case Kind::kSequence:
      b.count(v.sequence().items.size() * sizeof(Value));
      if (v.sequence().sized()) return v.sequence().items;
      return std::exchange(v.sequence().items, {});
    default:
      return bad_input("'{}' is nothing that can be iterated over", type_name(v));
  }
}

std::string float_text(double f) {
  if (std::isnan(f)) return "nan";
  if (std::isinf(f)) return f < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, f, std::chars_format::scientific).ptr;
  const std::string_view all(buffer, static_cast<size_t>(end - buffer));
  const size_t e = all.find('e');
  const int exponent = std::atoi(std::string(all.substr(e + 1)).c_str());
  const bool negative = all[0] == '-';
  std::string digits;
  for (const char c : all.substr(0, e))
    if (c >= '0' && c <= '9') digits += c;
  const int n = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    if (n > 1) digits.insert(1, 1, '.');
    digits += fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  } else if (exponent < 0) {
    digits.insert(0, "0." + std::string(static_cast<size_t>(-exponent - 1), '0'));
  } else if (n <= exponent + 1) {
    digits.append(static_cast<size_t>(exponent + 1 - n), '0').append(".0");
  } else {
    digits.insert(static_cast<size_t>(exponent) + 1, 1, '.');
  }
  if (negative) digits.insert(0, 1, '-');
  return digits;
}

std::string repr_text(std::string_view text) {
  const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t i = 0; i < text.size();) {
    const size_t next = next_char_at(text, i);
    const char32_t c = char_at(text, i);
    if (c == static_cast<char32_t>(quote) || c == '\\') out += {'\\', static_cast<char>(c)};
    else if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (is_printable(c)) out += text.substr(i, next - i);
    else out += c < 0x100 ? fmt::format("\\x{:02x}", static_cast<uint32_t>(c)) : c < 0x10000 ? fmt::format("\\u{:04x}", static_cast<uint32_t>(c))
                                                                               : fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    i = next;
  }
  return out + quote;
}

void append_repr(Budget& b, const Value& v, std::string* out, int depth) {
  ++b.steps;
  // A namespace may hold itself.
  if (depth > 2 * kMaxNesting) b.steps = b.max_steps + 1;
  if (b.exhausted() || !b.room(out->size()).ok()) {
    b.steps = b.max_steps + 1;
    return;
  }
  const auto list = [&](const auto& items, const auto& each) {
    for (size_t i = 0; i < items.size() && !b.exhausted(); ++i) {
      if (i > 0) *out += ", ";
      each(items[i]);
    }
  };
  const auto one = [&](const Value& item) { append_repr(b, item, out, depth + 1); };
  const auto pairs = [&](const Dict& dict) {
    *out += '{';
    list(dict.items, [&](const auto& item) {
      one(item.first);
      *out += ": ";
      one(item.second);
    });
    *out += '}';
  };
  switch (v.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      *out += "Undefined";
      return;
    case Kind::kNone:
      *out += "None";
      return;
    case Kind::kBool:
      *out += v.boolean() ? "True" : "False";
      return;
    case Kind::kInt:
      *out += std::to_string(v.integer());
      return;
    case Kind::kFloat:
      *out += float_text(v.real());
      return;
    case Kind::kText:
      b.count(v.text().size());
      *out += v.is_safe() ? "Markup(" + repr_text(v.text()) + ")" : repr_text(v.text());
      return;
    case Kind::kDict:
      return pairs(v.dict());
    case Kind::kNamespace:
      *out += "<Namespace ";
      pairs(*v.name_space().values);
      *out += '>';
      return;
    case Kind::kFunction:
      *out += v.function().repr();
      return;
    case Kind::kSequence:
      break;
  }
  const Sequence& s = v.sequence();
  if (s.flavor == Flavor::kRange) *out += s.name;
  if (s.flavor == Flavor::kIterator) *out += "<generator object>";
  if (s.flavor == Flavor::kRange || s.flavor == Flavor::kIterator) return;
  *out += s.flavor == Flavor::kList ? "[" : s.flavor == Flavor::kTuple ? "(" : s.name + "([";
  list(s.items, one);
  if (s.flavor == Flavor::kTuple && s.items.size() == 1) *out += ',';
  *out += s.flavor == Flavor::kList ? "]" : s.flavor == Flavor::kTuple ? ")" : "])";
}

void append_text(Budget& b, const Value& v, std::string* out) {
  if (v.is(Kind::kUndefined)) return;
  if (!v.is(Kind::kText)) return append_repr(b, v, out);
  b.count(v.text().size());
  *out += v.text();
}

std::string to_text(Budget& b, const Value& v) {
  std::string out;
  append_text(b, v, &out);
  return out;
}

}  // namespace ingot::jinja
