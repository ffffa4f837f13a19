#include "formats/pickle_values.h"

#include <simdjson.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "formats/json.h"
#include "formats/pickle_numpy.h"

namespace ingot {
namespace {

using enum PickleKind;

constexpr size_t kMaxDepth = 200;
constexpr size_t kLongList = 1024;  // of more plain items than this a list is one value
constexpr int64_t kLongArray = 1 << 20;  // of more elements numpy's arrays are not written out
constexpr char kItself[] = "\"<itself>\"";

// The text, with U+FFFD for what is no UTF-8 (halves of surrogate pairs, too).
std::string utf8_only(std::string_view s) {
  if (simdjson::validate_utf8(s.data(), s.size())) return std::string(s);
  std::string out;
  for (size_t i = 0; i < s.size();) {
    size_t n = std::min<size_t>(4, s.size() - i);
    while (n > 0 && !simdjson::validate_utf8(s.data() + i, n)) --n;
    out += n ? s.substr(i, n) : std::string_view("\xef\xbf\xbd");
    i += std::max<size_t>(n, 1);
  }
  return out;
}

std::string hex_of(const std::string& bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (unsigned char c : bytes) out += "0123456789abcdef"[c >> 4], out += "0123456789abcdef"[c & 15];
  return out;
}

std::string long_numpy_json(const NumpyArray& a) { return json_quote(utf8_only(fmt::format("<{} elements of numpy's {}{}>", a.elements, a.kind, a.item))); }

std::string numpy_json(const NumpyArray& a) {
  if (a.elements && numpy_element(a, 0).empty()) return json_quote(utf8_only(fmt::format("{}{}: {}", a.kind, a.item, hex_of(a.bytes))));
  if (a.scalar) return numpy_element(a, 0);
  std::string out;
  if (a.shape.empty()) return numpy_element(a, 0);
  if (a.elements == 0) return "[]";
  // In C order: of Fortran's the first index runs fastest.
  std::vector<int64_t> index(a.shape.size(), 0);
  for (size_t open = a.shape.size();;) {
    out.append(open, '[');
    int64_t at = 0;
    for (size_t d = 0; d < index.size(); ++d) {
      const size_t k = a.fortran ? index.size() - 1 - d : d;
      at = at * a.shape[k] + index[k];
    }
    out += numpy_element(a, at);
    open = 0;
    size_t d = index.size();
    while (d > 0 && ++index[d - 1] == a.shape[d - 1]) index[--d] = 0, out += ']', ++open;
    if (d == 0) return out;
    out += ", ";
  }
}

// JSON of what has no parts to go into; empty for what has.
std::string scalar_json(const PickleValue& v) {
  switch (v.kind()) {
    case kNone: return "null";
    case kBool: return *v.as_bool() ? "true" : "false";
    case kInt: return fmt::format("{}", *v.as_int());
    case kLong: return std::string(v.text());
    case kFloat: return json_double(*v.as_number());
    case kText: return json_quote(utf8_only(v.text()));
    case kBytes: return json_quote(hex_of(v.bytes()));
    case kGlobal: return json_quote(utf8_only(v.global_text()));
    case kPersistent: return json_quote("<outside the pickle>");
    case kObject: {
      if (const auto head = numpy_array(v, false)) {
        if (head->elements > kLongArray) return long_numpy_json(*head);
        if (const auto a = numpy_array(v)) return numpy_json(*a);
      }
      const PickleValue& args = *v.object()->args;
      if (v.is_call_of("torch", "device") && args.at(0) && args.at(0)->is_text())
        return json_quote(args.at(1) ? fmt::format("{}:{}", utf8_only(args.at(0)->text()), pickle_key(*args.at(1))) : utf8_only(args.at(0)->text()));
      return "";
    }
    default: return "";
  }
}

// The bytes that a value's own text would take, at least: held against the budget before it is made.
uint64_t text_size(const PickleValue& v) {
  if (v.is_text() || v.kind() == kBytes) return v.text().size();
  return 8;
}

// Spends that much; the first text that utf8_only() changes is told of.
bool spend_text(const PickleValue& v, PickleBudget* budget) {
  if (v.is_text() && budget->changed.empty() && !simdjson::validate_utf8(v.text().data(), v.text().size())) budget->changed = utf8_only(v.text().substr(0, 200));
  return budget->bytes(text_size(v));
}

bool is_plain(const PickleValue& v) { return !v.is_sequence() && !v.is_dict() && !v.is_object(); }

Error too_much(const std::string& doing) {
  return bad_input("{}: its pickle uses the same values over and over: written out it would be more than 16 times what it is; refused", doing);
}
Error too_deep(const std::string& doing) { return bad_input("{}: its values are nested deeper than {} levels; refused", doing, kMaxDepth); }

// Names and members of a torch.nn.Module as its state_dict() has them; nothing of what is no module.
std::optional<PickleItems> module_members(const PickleValue& v) {
  const PickleValue* own = v.is_object() ? v.attributes() : nullptr;
  const PickleValue *parameters = own ? own->get("_parameters") : nullptr, *buffers = own ? own->get("_buffers") : nullptr, *modules = own ? own->get("_modules") : nullptr;
  if (!parameters || !buffers || !modules) return std::nullopt;
  PickleItems members;
  const PickleValue* passing = own->get("_non_persistent_buffers_set");
  for (const PickleValue* from : {parameters, buffers, modules}) {
    const auto items = from->is_dict() ? from->items() : std::span<const PickleValue* const>();
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const bool passes = from == buffers && passing && std::any_of(passing->items().begin(), passing->items().end(), [&](const PickleValue* name) {
        return name->is_text() && name->text() == items[i]->text();
      });
      if (!items[i + 1]->is_none() && !passes) members.insert(members.end(), {items[i], items[i + 1]});
    }
  }
  return members;
}

// As StateKinds (state_tree.h) call what is gone into, and values whose JSON does not tell.
std::string dict_kind(const PickleValue& v) { return v.dict_class() == "Counter" ? "counter" : v.dict_class() == "OrderedDict" ? "odict" : ""; }
std::string kind_of(const PickleValue& v, std::span<const PickleValue* const> items, bool pairs) {
  if (v.is_sequence()) return v.kind() == kList ? "list" : v.kind() == kTuple ? "tuple" : "set";
  bool ints = true, positions = true;
  for (size_t i = 0; pairs && i < items.size(); i += 2) {
    ints = ints && items[i] && items[i]->kind() == kInt;
    positions = positions && !items[i];
  }
  const std::string of = dict_kind(v);
  return !pairs ? "list" : positions ? (v.size() ? "list" : "tuple") : of.empty() ? (ints ? "ints" : "dict") : ints ? of + "_ints" : of;
}
std::string kind_of_value(const PickleValue& v) {
  const auto plain = [](const PickleValue* i) { return is_plain(*i) && i->kind() != kBytes && i->kind() != kGlobal; };
  if (v.kind() == kBytes) return "bytes";
  if (v.kind() == kTuple) return "tuple";
  if (v.is_dict()) return dict_kind(v);
  return v.kind() == kSet && std::all_of(v.items().begin(), v.items().end(), plain) ? "set" : "";
}

// Whether there is something beneath a value that is a tensor, or may be one: what lies outside the pickle, an array of numpy's.
class Holds {
 public:
  explicit Holds(PickleBudget* budget) : budget_(*budget) {}
  // What the budget does not allow to look at is not found: who goes on with it finds it empty.
  bool operator()(const PickleValue* v) {
    std::vector<const PickleValue*> open = {v};
    std::unordered_set<const PickleValue*> seen;
    for (bool first = true; !open.empty(); first = false) {
      const PickleValue* at = open.back();
      open.pop_back();
      if (!at || (is_plain(*at) && at->kind() != kPersistent) || none_.contains(at) || !seen.insert(at).second) continue;
      if (at->kind() == kPersistent || (!first && is_numpy_array(*at))) return true;
      if (!budget_.values(at->items().size() + 4)) return false;
      open.insert(open.end(), at->items().begin(), at->items().end());
      open.push_back(at->state());
      if (const PickleObject* o = at->object()) open.insert(open.end(), {o->callable, o->args, o->kwargs});
    }
    none_.merge(seen);
    return false;
  }

 private:
  PickleBudget& budget_;
  std::unordered_set<const PickleValue*> none_;
};

// Keys and values in turn of an object or set with tensors in it, wherever they stand: its items, what calling it was given, its state. A key is null of what has
// a position only.
PickleItems parts_of(const PickleValue& v, Holds* holds) {
  PickleItems parts;
  const auto positions = [&](std::span<const PickleValue* const> items) {
    for (const PickleValue* item : items) parts.insert(parts.end(), {nullptr, item});
  };
  const auto pairs = [&](const PickleValue* dict) { parts.insert(parts.end(), dict->items().begin(), dict->items().end()); };
  v.has_pairs() ? pairs(&v) : positions(v.items());
  const PickleValue* state = v.state();
  if (is_numpy_array(v) && state && state->at(4) && state->at(4)->is_sequence()) return positions(state->at(4)->items()), parts;  // of objects
  if (const PickleObject* o = v.object()) {
    if ((*holds)(o->args)) positions(o->args->items());
    if (o->kwargs && (*holds)(o->kwargs)) pairs(o->kwargs);
  }
  if (!state) return parts;
  const bool attributes = v.attributes() != nullptr;
  for (const PickleValue* s : attributes && state->is_sequence() ? state->items() : std::span(&state, 1)) {
    if (s->is_none() || (!(v.size() == 0 && s == v.attributes()) && !(*holds)(s))) continue;
    s->is_dict() ? pairs(s) : s->is_sequence() ? positions(s->items()) : positions({&s, 1});
  }
  return parts;
}

}  // namespace

const PickleValue* pickle_content(const PickleValue* v) {
  if (v->is_call_of("torch._dynamo.eval_frame", "OptimizedModule") && v->object()->args->at(0)) v = v->object()->args->at(0);
  for (int i = 0; i < 16 && v->is_object() && v->object()->callable->module().starts_with("omegaconf."); ++i) {
    const PickleValue* content = v->get("_content");
    if (!content) content = v->get("_val");
    if (!content) break;
    v = content;
  }
  return v;
}

std::string pickle_key(const PickleValue& k) {
  switch (k.kind()) {
    case kText: return utf8_only(k.text());
    case kNone: return "None";
    case kBool: return *k.as_bool() ? "True" : "False";
    case kTuple: {
      std::string s = "(";
      for (size_t i = 0; i < std::min<size_t>(k.size(), 16); ++i) {
        const PickleValue& item = *k.at(i);
        if (i) s += ", ";
        s += item.is_text() ? fmt::format("'{}'", utf8_only(item.text())) : is_plain(item) ? pickle_key(item) : "(..)";
      }
      return s + (k.size() > 16 ? ", .." : k.size() == 1 ? "," : "") + ")";
    }
    case kBytes: return hex_of(k.bytes());
    case kGlobal: return utf8_only(k.global_text());
    case kObject: return utf8_only(k.object()->callable->global_text());
    case kInt: case kLong: case kFloat: return scalar_json(k);
    default: return "(..)";
  }
}

Result<std::string> pickle_json(const Pickle& pickle, const PickleValue& value, const std::string& doing) {
  PickleBudget budget(pickle);
  return pickle_json(value, doing, &budget);
}

Result<std::string> pickle_json(const PickleValue& value, const std::string& doing, PickleBudget* budget) {
  struct Frame {
    const PickleValue* value;
    std::span<const PickleValue* const> items;
    bool pairs;
    std::string_view end;
    size_t next = 0;
  };
  std::string out;
  std::vector<Frame> open;
  for (const PickleValue* v = &value;;) {
    if (!budget->value() || !spend_text(*v, budget)) return too_much(doing);
    if (std::any_of(open.begin(), open.end(), [&](const Frame& f) { return f.value == v; })) out += kItself;
    else if (std::string s = scalar_json(*v); !s.empty()) {
      if (!budget->bytes(s.size())) return too_much(doing);
      out += s;
    }
    else if (open.size() >= kMaxDepth) return too_deep(doing);
    else if (v->has_pairs()) out += '{', open.push_back({v, v->items(), true, "}"});
    else if (v->is_sequence() || (v->is_object() && v->size())) out += '[', open.push_back({v, v->items(), false, "]"});
    else if (const PickleValue* own = v->attributes()) out += '{', open.push_back({v, own->items(), true, "}"});
    else out += fmt::format("{{\"call\": {}, \"args\": [", json_quote(utf8_only(v->object()->callable->global_text()))), open.push_back({v, v->object()->args->items(), false, "]}"});
    while (!open.empty() && open.back().next >= open.back().items.size()) out += open.back().end, open.pop_back();
    if (open.empty()) return out;
    Frame& f = open.back();
    if (f.next) out += ", ";
    if (f.pairs) {
      if (!spend_text(*f.items[f.next], budget)) return too_much(doing);
      out += json_quote(pickle_key(*f.items[f.next++])) + ": ";
    }
    v = f.items[f.next++];
  }
}

Status flatten_pickle(const Pickle& pickle, const PickleValue& from, const std::string& prefix, const std::string& doing, const PickleTake& take,
                      std::map<std::string, std::string>* values, std::map<std::string, std::string>* kinds, std::vector<std::string>* notices) {
  struct Frame {
    const PickleValue* value;
    std::span<const PickleValue* const> items;
    bool pairs, module;
    size_t path;  // its length
    PickleItems own;
    size_t next = 0, position = 0;
  };
  PickleBudget budget(pickle);
  Holds holds(&budget);
  std::unordered_map<std::string, bool> met;  // names, and whether they are a container's
  std::vector<std::pair<std::string, size_t>> slashes;  // names with a slash of a key's own, and where that key begins
  const auto twice = [&](const std::string& name) { return bad_input("{}: two of its values are called '{}', as keys are joined by '/'; rename one", doing, name.substr(0, 200)); };
  // What names cannot tell.
  const auto finish = [&]() -> Status {
    size_t misleading = 0;
    std::string sample;
    for (const auto& [name, key] : slashes)
      for (size_t at = name.find('/', key); at != std::string::npos; at = name.find('/', at + 1)) {
        if (!budget.bytes(at)) return too_much(doing);
        const auto it = met.find(name.substr(0, at));
        if (it == met.end() || !it->second) continue;
        if (!misleading++) sample = fmt::format("'{}' is a key within '{}', and '{}' is a dict", name.substr(key, 200), name.substr(0, key), it->first);
        break;
      }
    if (notices && misleading)
      notices->push_back(fmt::format("{}: {}{}: names do not tell them apart, so that a state written of them has the one within the other", doing, sample,
                                     misleading > 1 ? fmt::format(" ({} more such keys)", misleading - 1) : ""));
    if (notices && !budget.changed.empty())
      notices->push_back(fmt::format("{}: '{}' held what is no UTF-8 (half of a surrogate pair, or bytes of Python 2), as others of its texts may: kept as U+FFFD", doing, budget.changed));
    return {};
  };
  std::vector<Frame> open;
  std::string path = prefix;
  for (const PickleValue* v = &from;;) {
    v = pickle_content(v);
    if (!budget.value()) return too_much(doing);
    if (path.find('\0') != std::string::npos) return bad_input("{}: the name of its value '{}' holds a zero byte", doing, json_quote(path.substr(0, 200)));
    bool taken = false;
    const bool within_itself = std::any_of(open.begin(), open.end(), [&](const Frame& f) { return f.value == v; });
    if (v->is_object() || v->kind() == kPersistent) {
      if (!budget.bytes(path.size())) return too_much(doing);
      INGOT_ASSIGN(taken, take(path, *v));
      if (taken && !met.emplace(path, false).second) return twice(path);
    }
    const size_t before = open.size();
    const std::optional<PickleItems> members = taken || within_itself ? std::nullopt : module_members(*v);
    // Of a module without any, within another, state_dict() has nothing.
    const bool nothing = members && members->empty() && before && open.back().module;
    if (!taken && !within_itself && !nothing && scalar_json(*v).empty()) {
      if (open.size() >= kMaxDepth) return too_deep(doing);
      PickleItems own = members.value_or(PickleItems());
      const bool module = !own.empty();
      if (!module && (v->is_object() || v->kind() == kSet || v->state()) && holds(v)) own = parts_of(*v, &holds);
      const bool plain = v->is_sequence() && v->size() > kLongList && std::all_of(v->items().begin(), v->items().end(), [](const PickleValue* i) { return is_plain(*i); });
      if (!own.empty()) {
        open.push_back({v, {}, true, module, path.size(), std::move(own)});
        open.back().items = open.back().own;
      } else if (v->size() && ((v->has_pairs() || (v->is_sequence() && v->kind() != kSet && !plain)))) {
        open.push_back({v, v->items(), v->has_pairs(), false, path.size(), {}});
      } else if (const PickleValue* attributes = v->attributes(); v->is_object() && v->size() == 0 && attributes && attributes->size()) {
        open.push_back({v, attributes->items(), true, false, path.size(), {}});
      }
      // Modules within one are no containers: their names have dots.
      if (open.size() > before && !(module && before && open[before - 1].module)) {
        if (!budget.bytes(path.size() + 8)) return too_much(doing);
        if (before && !met.emplace(path, true).second) return twice(path);  // a key of the root may be empty, as its own name is
        if (kinds) kinds->emplace(path, kind_of(*v, open.back().items, open.back().pairs));
      }
    }
    if (!taken && !nothing && open.size() == before) {  // no parts
      INGOT_ASSIGN(std::string text, within_itself ? Result<std::string>(kItself) : pickle_json(*v, doing, &budget));
      if (!budget.bytes(path.size() + text.size())) return too_much(doing);
      if (const std::string kind = kinds && !within_itself ? kind_of_value(*v) : ""; !kind.empty()) kinds->emplace(path, kind);
      if (!values->emplace(path, std::move(text)).second || !met.emplace(path, false).second) return twice(path);
    }
    while (!open.empty() && open.back().next >= open.back().items.size()) open.pop_back();
    if (open.empty()) return finish();
    Frame& f = open.back();
    path.resize(f.path);
    const PickleValue* key = f.pairs ? f.items[f.next] : nullptr;
    if (key && !spend_text(*key, &budget)) return too_much(doing);
    const char between = f.module && open.size() > 1 && open[open.size() - 2].module ? '.' : '/';
    if (!path.empty() || open.size() > 1) path += between;  // a key may be empty
    const size_t begin = path.size();
    path += key ? pickle_key(*key) : fmt::format("{}", f.position++);
    if (path.find('/', begin) != std::string::npos) {
      if (!budget.bytes(path.size())) return too_much(doing);
      slashes.emplace_back(path, begin);
    }
    f.next += f.pairs ? 2 : 1;
    v = f.items[f.next - 1];
  }
}

}  // namespace ingot
