// Filters of lists, dicts and what else can be walked through.
#include <algorithm>
#include <list>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_text.h"

namespace ingot::jinja {
namespace {

using Values = std::vector<Value>;

Result<Value> list(Evaluator& e, Values items) { return make_sequence(e.budget(), Flavor::kList, std::move(items)); }
Result<Value> iterator(Evaluator& e, Values items) { return make_sequence(e.budget(), Flavor::kIterator, std::move(items)); }

// What is sorted or grouped by: an attribute, its capitals aside unless `exact`.
Result<Value> key_of(Evaluator& e, const Value& item, const Value& attribute, bool exact, const Value& otherwise = {}) {
  INGOT_ASSIGN(Value key, e.path(item, attribute, otherwise));
  return exact || !key.is(Kind::kText) ? key : e.text(lower(key.text()));
}

struct Keyed {
  Value key, item;
};
// A list's sort is stable, and harmless where the order is none (NaN, an error on the way).
Result<Values> sorted(Evaluator& e, std::list<Keyed> items, bool reverse) {
  Status failed;
  items.sort([&](const Keyed& x, const Keyed& y) {
    if (!failed.ok()) return false;
    auto order = reverse ? compare(e.budget(), y.key, x.key) : compare(e.budget(), x.key, y.key);
    if (!order.ok()) failed = Status(order.take_error());
    return order.ok() && *order < 0;
  });
  INGOT_TRY(std::move(failed));
  Values out;
  for (Keyed& k : items) out.push_back(std::move(k.item));
  return out;
}

Result<Value> filter_sort(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("sort", call, {"", "reverse", "case_sensitive", "attribute"}, 1));
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  const bool exact = a.boolean(2, false);
  std::list<Keyed> keyed;
  // "a.b,c": by the one, then by the other.
  Values attributes = {a.value(3, Value::none())};
  if (attributes[0].is(Kind::kText)) {
    const std::string all = attributes[0].text();
    attributes.clear();
    for (const std::string_view part : split_text(all, ",")) attributes.push_back(e.text(std::string(part)));
  }
  for (const Value& item : items) {
    Values keys;
    for (const Value& attribute : attributes) {
      INGOT_ASSIGN(Value key, key_of(e, item, attribute, exact));
      keys.push_back(std::move(key));
    }
    INGOT_ASSIGN(Value key, list(e, std::move(keys)));
    keyed.push_back({std::move(key), item});
  }
  INGOT_ASSIGN(Values out, sorted(e, std::move(keyed), a.boolean(1, false)));
  return list(e, std::move(out));
}

Result<Value> filter_dictsort(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("dictsort", call, {"", "case_sensitive", "by", "reverse"}, 1));
  INGOT_ASSIGN(const std::string by, a.text(2, "key"));
  if (by != "key" && by != "value") return bad_input("dictsort(): 'by' must be key or value");
  if (a[0].is(Kind::kUndefined)) return undefined_error(a[0]);
  if (!a[0].is(Kind::kDict)) return bad_input("dictsort() needs a dict, not '{}'", type_name(a[0]));
  std::list<Keyed> keyed;
  for (const auto& [key, value] : a[0].dict().items) {
    INGOT_ASSIGN(Value pair, make_sequence(e.budget(), Flavor::kTuple, {key, value}));
    INGOT_ASSIGN(Value sort_key, key_of(e, by == "key" ? key : value, Value::none(), a.boolean(1, false)));
    keyed.push_back({std::move(sort_key), std::move(pair)});
  }
  INGOT_ASSIGN(Values out, sorted(e, std::move(keyed), a.boolean(3, false)));
  return list(e, std::move(out));
}

Result<Value> filter_groupby(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("groupby", call, {"", "attribute", "default", "case_sensitive"}, 2));
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  const bool exact = a.boolean(3, false);
  std::list<Keyed> keyed;
  for (const Value& item : items) {
    INGOT_ASSIGN(Value key, key_of(e, item, a[1], exact, a[2]));
    keyed.push_back({std::move(key), item});
  }
  INGOT_ASSIGN(const Values in_order, sorted(e, std::move(keyed), false));
  Values groups, members;
  Value key;
  const auto close = [&]() -> Status {
    if (members.empty()) return {};
    INGOT_ASSIGN(Value shown, key_of(e, members[0], a[1], true, a[2]));
    INGOT_ASSIGN(Value all, list(e, std::move(members)));
    INGOT_ASSIGN(Value group, make_sequence(e.budget(), Flavor::kTuple, {std::move(shown), std::move(all)}));
    group.sequence().group = true;
    groups.push_back(std::move(group));
    members.clear();
    return {};
  };
  for (const Value& item : in_order) {
    INGOT_ASSIGN(Value next, key_of(e, item, a[1], exact, a[2]));
    if (!members.empty() && !equal(e.budget(), key, next)) INGOT_TRY(close());
    key = std::move(next);
    members.push_back(item);
  }
  INGOT_TRY(close());
  return list(e, std::move(groups));
}

Result<Value> filter_unique(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("unique", call, {"", "case_sensitive", "attribute"}, 1));
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  Dict seen(e.budget());
  Values out;
  for (const Value& item : items) {
    INGOT_ASSIGN(const Value key, key_of(e, item, a.value(2, Value::none()), a.boolean(1, false)));
    INGOT_TRY(hash(key));
    if (seen.find(key)) continue;
    INGOT_TRY(seen.set(key, Value(true)));
    out.push_back(item);
  }
  return iterator(e, std::move(out));
}

Result<Value> least(Evaluator& e, Call& call, int sign) {
  INGOT_ASSIGN(Args a, Args::bind(sign < 0 ? "min" : "max", call, {"", "case_sensitive", "attribute"}, 1));
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  if (items.empty()) return e.undefined("there is no least or greatest item: the sequence is empty");
  Value best = items[0];
  INGOT_ASSIGN(Value best_key, key_of(e, best, a.value(2, Value::none()), a.boolean(1, false)));
  for (size_t i = 1; i < items.size(); ++i) {
    INGOT_ASSIGN(Value key, key_of(e, items[i], a.value(2, Value::none()), a.boolean(1, false)));
    INGOT_ASSIGN(const int order, compare(e.budget(), key, best_key));
    if (order != sign) continue;
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}
Result<Value> filter_min(Evaluator& e, Call& call) { return least(e, call, -1); }
Result<Value> filter_max(Evaluator& e, Call& call) { return least(e, call, 1); }

Result<Value> filter_sum(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("sum", call, {"", "attribute", "start"}, 1));
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  Value total = a.value(2, Value(int64_t{0}));
  if (total.is(Kind::kText)) return bad_input("sum() adds no texts: use join()");
  for (const Value& item : items) {
    INGOT_ASSIGN(const Value v, e.path(item, a.value(1, Value::none())));
    INGOT_ASSIGN(total, arithmetic(e, Op::kAdd, total, v));
  }
  return total;
}

Result<Value> filter_join(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("join", call, {"", "d", "attribute"}, 1));
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  Values values;
  bool safe = a.given(1) && a[1].is_safe();
  for (const Value& item : items) {
    INGOT_ASSIGN(Value v, e.path(item, a.value(2, Value::none())));
    safe = safe || v.is_safe();
    values.push_back(std::move(v));
  }
  return e.joined(values, a.given(1) ? a[1] : e.text(""), safe && e.autoescape());
}

Result<Value> filter_list(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("list", call, {""}, 1));
  INGOT_ASSIGN(Values items, iterate(e.budget(), a[0]));
  return list(e, std::move(items));
}

Result<Value> filter_length(Evaluator&, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("length", call, {""}, 1));
  INGOT_ASSIGN(const int64_t n, length(a[0]));
  return Value(n);
}

Result<Value> filter_first(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("first", call, {""}, 1));
  Value& v = a[0];
  if (v.is(Kind::kSequence)) {
    Values& items = v.sequence().items;
    if (items.empty()) return e.undefined("there is no first item: the sequence is empty");
    Value first = items[0];
    if (!v.sequence().sized()) items.erase(items.begin());
    return first;
  }
  INGOT_ASSIGN(const Values items, iterate(e.budget(), v));
  return items.empty() ? e.undefined("there is no first item: the sequence is empty") : items[0];
}

Result<Value> filter_last(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("last", call, {""}, 1));
  if (a[0].is(Kind::kSequence) && !a[0].sequence().sized()) return bad_input("last() needs a list: put |list before it");
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  return items.empty() ? e.undefined("there is no last item: the sequence is empty") : items.back();
}

Result<Value> filter_reverse(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("reverse", call, {""}, 1));
  INGOT_ASSIGN(Values items, iterate(e.budget(), a[0]));
  std::reverse(items.begin(), items.end());
  if (a[0].is(Kind::kSequence) && !a[0].sequence().sized()) return list(e, std::move(items));
  if (!a[0].is(Kind::kText)) return iterator(e, std::move(items));
  std::string out;
  for (const Value& c : items) out += c.text();
  return e.text(std::move(out), a[0].is_safe());
}

Result<Value> filter_items(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("items", call, {""}, 1));
  if (a[0].is(Kind::kUndefined)) return iterator(e, {});
  if (!a[0].is(Kind::kDict)) return bad_input("items() needs a dict, not '{}'", type_name(a[0]));
  Call none;
  INGOT_ASSIGN(Value view, call_method(e, a[0], "items", none));
  return iterator(e, view.sequence().items);
}

Result<Value> filter_batch(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("batch", call, {"", "linecount", "fill_with"}, 2));
  INGOT_ASSIGN(const int64_t size, a.integer(1, 0));
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  Values out, batch;
  const auto close = [&]() -> Status {
    INGOT_ASSIGN(Value v, list(e, std::exchange(batch, {})));
    out.push_back(std::move(v));
    return {};
  };
  for (const Value& item : items) {
    if (static_cast<int64_t>(batch.size()) == size) INGOT_TRY(close());
    batch.push_back(item);
  }
  if (batch.empty()) return iterator(e, std::move(out));
  if (a.given(2) && !a[2].is(Kind::kNone) && size > static_cast<int64_t>(batch.size())) {
    INGOT_TRY(e.budget().room(static_cast<uint64_t>(size) < (uint64_t{1} << 40) ? static_cast<uint64_t>(size) * sizeof(Value) : UINT64_MAX / 2));
    batch.resize(static_cast<size_t>(size), a[2]);
  }
  INGOT_TRY(close());
  return iterator(e, std::move(out));
}

Result<Value> filter_slice(Evaluator& e, Call& call) {
  INGOT_ASSIGN(Args a, Args::bind("slice", call, {"", "slices", "fill_with"}, 2));
  INGOT_ASSIGN(const int64_t slices, a.integer(1, 0));
  INGOT_ASSIGN(const Values items, iterate(e.budget(), a[0]));
  if (slices == 0) return bad_input("slice(): division by zero");
  Values out;
  const auto n = static_cast<int64_t>(items.size());
  const int64_t each = n / slices, more = n % slices;
  auto at = items.begin();
  for (int64_t i = 0; i < slices; ++i) {
    INGOT_TRY(e.budget().spend());
    Values part(at, at + each + (i < more ? 1 : 0));
    at += static_cast<ptrdiff_t>(part.size());
    if (a.given(2) && !a[2].is(Kind::kNone) && i >= more) part.push_back(a[2]);
    INGOT_ASSIGN(Value v, list(e, std::move(part)));
    out.push_back(std::move(v));
  }
  return iterator(e, std::move(out));
}

Result<Value> filter_attr(Evaluator& e, Call& call) {
  INGOT_ASSIGN(const Args a, Args::bind("attr", call, {"", "name"}, 2));
  INGOT_ASSIGN(const std::string name, a.text(1));
  return e.attribute(a[0], name, false);
}

// map('filter', ...) or map(attribute='a', default=x).
Result<Value> filter_map(Evaluator& e, Call& call) {
  Value over = call.args[0];
  Values out;
  if (!truth(over)) return iterator(e, std::move(out));
  if (call.args.size() == 1 && std::any_of(call.kwargs.begin(), call.kwargs.end(), [](const auto& k) { return k.first == "attribute"; })) {
    INGOT_ASSIGN(const Args a, Args::bind("map", call, {"", "attribute", "default"}, 1));
    INGOT_ASSIGN(const Values items, iterate(e.budget(), over));
    for (const Value& item : items) {
      INGOT_ASSIGN(Value v, key_of(e, item, a[1], true, a[2]));
      out.push_back(std::move(v));
    }
    return iterator(e, std::move(out));
  }
  if (call.args.size() < 2 || !call.args[1].is(Kind::kText)) return bad_input("map() needs the name of a filter, or attribute=");
  const Builtin filter = find_filter(call.args[1].text());
  if (!filter) return bad_input("there is no filter named '{}'", call.args[1].text());
  INGOT_ASSIGN(const Values items, iterate(e.budget(), over));
  for (const Value& item : items) {
    INGOT_TRY(e.budget().spend());
    Call one{.args = {call.args.begin() + 1, call.args.end()}, .kwargs = call.kwargs};
    one.args[0] = item;
    INGOT_ASSIGN(Value v, filter(e, one));
    out.push_back(std::move(v));
  }
  return iterator(e, std::move(out));
}

// select and reject, by a test or by truth, of the items or of an attribute.
Result<Value> selected(Evaluator& e, Call& call, bool attribute, bool wanted) {
  Value over = call.args[0];
  Values out;
  if (!truth(over)) return iterator(e, std::move(out));
  const size_t at = attribute ? 2 : 1;  // of the test's name
  if (call.args.size() < at) return bad_input("the name of an attribute is missing");
  Builtin test = nullptr;
  if (call.args.size() > at) {
    test = call.args[at].is(Kind::kText) ? find_test(call.args[at].text()) : nullptr;
    if (!test) return bad_input("there is no test named '{}'", to_text(e.budget(), call.args[at]));
  }
  INGOT_ASSIGN(const Values items, iterate(e.budget(), over));
  for (const Value& item : items) {
    INGOT_TRY(e.budget().spend());
    INGOT_ASSIGN(Value v, e.path(item, attribute ? call.args[1] : Value::none()));
    if (test) {
      Call one{.args = {call.args.begin() + static_cast<ptrdiff_t>(at), call.args.end()}, .kwargs = call.kwargs};
      one.args[0] = std::move(v);
      INGOT_ASSIGN(v, test(e, one));
    }
    if (truth(v) == wanted) out.push_back(item);
  }
  return iterator(e, std::move(out));
}
Result<Value> filter_select(Evaluator& e, Call& call) { return selected(e, call, false, true); }
Result<Value> filter_reject(Evaluator& e, Call& call) { return selected(e, call, false, false); }
Result<Value> filter_selectattr(Evaluator& e, Call& call) { return selected(e, call, true, true); }
Result<Value> filter_rejectattr(Evaluator& e, Call& call) { return selected(e, call, true, false); }

constexpr NamedBuiltin kFilters[] = {
    {"attr", filter_attr}, {"batch", filter_batch}, {"count", filter_length}, {"dictsort", filter_dictsort}, {"first", filter_first},
    {"groupby", filter_groupby}, {"items", filter_items}, {"join", filter_join}, {"last", filter_last}, {"length", filter_length},
    {"list", filter_list}, {"map", filter_map}, {"max", filter_max}, {"min", filter_min}, {"reject", filter_reject},
    {"rejectattr", filter_rejectattr}, {"reverse", filter_reverse}, {"select", filter_select}, {"selectattr", filter_selectattr},
    {"slice", filter_slice}, {"sort", filter_sort}, {"sum", filter_sum}, {"unique", filter_unique}};

}  // namespace

Builtin find_sequence_filter(std::string_view name) {
  for (const NamedBuiltin& f : kFilters)
    if (f.name == name) return f.run;
  return nullptr;
}

}  // namespace ingot::jinja
