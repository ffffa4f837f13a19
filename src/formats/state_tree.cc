#include "formats/state_tree.h"

#include <algorithm>
#include <charconv>

namespace ingot {
namespace {

constexpr size_t kMaxDepth = 200, kMaxSlashes = 1000;

bool is_int(const std::string& key, int64_t* n) {
  const auto r = std::from_chars(key.data(), key.data() + key.size(), *n);
  return r.ec == std::errc() && r.ptr == key.data() + key.size() && std::to_string(*n) == key;
}

// As the items of a set must be: tensors and scalars.
bool are_hashable(const StateNode& n) {
  return std::all_of(n.below.begin(), n.below.end(), [](const StateNode& b) { return b.tensor >= 0 || (b.plain && !b.value.is_structured()); });
}

// Whether the keys are 0 to n - 1, in any order.
bool are_positions(const StateNode& n) {
  for (size_t i = 0; i < n.below.size(); ++i)
    if (!n.index.contains(std::to_string(i))) return false;
  return true;
}
bool are_ints(const StateNode& n) {
  return std::all_of(n.below.begin(), n.below.end(), [](const StateNode& b) { int64_t i = 0; return is_int(b.key, &i); });
}

bool of_ints(std::string_view kind) { return kind == "ints" || kind.ends_with("_ints"); }

// What is called with the items to make a container of that kind, which no operation of pickles makes.
struct Maker {
  const char *module = nullptr, *name = nullptr;
};
Maker maker_of(std::string_view kind) {
  if (kind == "set") return {"builtins", "set"};
  if (kind.starts_with("odict")) return {"collections", "OrderedDict"};
  if (kind.starts_with("counter")) return {"collections", "Counter"};
  return {};
}

bool holds_object(const OrderedJson& v) {
  return v.is_object() || (v.is_array() && std::any_of(v.begin(), v.end(), holds_object));
}

StateNode* child(StateNode* n, const std::string& key) {
  const auto [it, fresh] = n->index.emplace(key, n->below.size());
  if (fresh) n->below.emplace_back().key = key;
  return &n->below[it->second];
}

std::string bytes_of_hex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    unsigned v = 0;
    if (const auto r = std::from_chars(hex.data() + i, hex.data() + i + 2, v, 16); r.ec != std::errc() || r.ptr != hex.data() + i + 2) return "";
    out += static_cast<char>(v);
  }
  return out;
}

}  // namespace

void set_kinds(const StateKinds& kinds, Artifact* a) {
  std::erase_if(a->metadata, [](const auto& kv) { return kv.first == kKindsKey; });
  // Names without a slash say as much themselves.
  const auto leads_down = [](const std::string& name) { return name.find('/') != std::string::npos; };
  const bool plain = std::none_of(a->tensors.begin(), a->tensors.end(), [&](const LazyTensor& t) { return leads_down(t.name); }) &&
                     std::none_of(a->values.begin(), a->values.end(), [&](const auto& v) { return leads_down(v.first); });
  if (kinds.empty() || (plain && (kinds == StateKinds{{"", "dict"}} || kinds == StateKinds{{"", "odict"}}))) return;
  a->metadata.emplace_back(kKindsKey, MetaValue{kinds_text(kinds)});
}

std::string kinds_text(const StateKinds& kinds) {
  OrderedJson j = OrderedJson::object();
  for (const auto& [path, kind] : kinds) j[kind].push_back(path);
  return json_line(j);
}

Result<StateKinds> kinds_of(const Artifact& a) {
  const MetaValue* v = a.meta(kKindsKey);
  const auto* text = v ? std::get_if<std::string>(&v->v) : nullptr;
  return text ? parse_kinds(*text, "reading " + a.path) : StateKinds();
}

Result<StateKinds> parse_kinds(std::string_view text, const std::string& reading) {
  StateKinds kinds;
  const std::string doing = fmt::format("{}: '{}' of its metadata", reading, kKindsKey);
  INGOT_ASSIGN(const OrderedJson j, parse_json_ordered(text, doing));
  if (!j.is_object()) return bad_input("{}: it is no JSON object", doing);
  for (const auto& [kind, paths] : j.items()) {
    if (!paths.is_array()) return bad_input("{}: '{}' is no list of names", doing, kind.substr(0, 100));
    for (const auto& path : paths) {
      if (!path.is_string()) return bad_input("{}: '{}' is no list of names", doing, kind.substr(0, 100));
      kinds.emplace(path.get<std::string>(), kind);
    }
  }
  return kinds;
}

Result<StateNode*> StateTree::at(const std::string& name) {
  StateNode* n = &root_;
  size_t from = 0, looked = 0;
  for (size_t depth = 0;; ++depth) {
    if (n->tensor >= 0 || n->plain || depth == kMaxDepth)
      return bad_input("{}: '{}' lies {}", doing_, name.substr(0, 200), depth == kMaxDepth ? fmt::format("deeper than {} levels", kMaxDepth) : "below another value");
    size_t slash = nested_ || !kinds_.empty() ? name.find('/', from) : std::string::npos;
    // A slash is a key's own where nothing that has members ends before it; so are those of a name that is nothing but slashes.
    while (!kinds_.empty() && slash != std::string::npos && !kinds_.contains(name.substr(0, slash)))
      slash = ++looked < kMaxSlashes ? name.find('/', slash + 1) : std::string::npos;
    n = child(n, name.substr(from, slash == std::string::npos ? slash : slash - from));
    if (slash == std::string::npos) break;
    from = slash + 1;
  }
  if (n->tensor >= 0 || n->plain || !n->below.empty()) return bad_input("{}: '{}' would stand twice in the state", doing_, name.substr(0, 200));
  return n;
}

Status StateTree::add(const std::string& name, int64_t tensor) {
  INGOT_ASSIGN(StateNode * n, at(name));
  n->tensor = tensor;
  return {};
}

Status StateTree::add(const std::string& name, const OrderedJson& value) {
  INGOT_ASSIGN(StateNode * n, at(name));
  put(n, name, value);
  return {};
}

// A dict of plain values, and a list with one in it, is no value but members.
void StateTree::put(StateNode* n, const std::string& name, const OrderedJson& value) {
  if (value.is_object() && !value.empty()) {
    n->kind = "dict";
    for (const auto& [key, v] : value.items()) put(child(n, key), "", v);
  } else if (value.is_array() && holds_object(value)) {
    n->kind = "list";
    for (size_t i = 0; i < value.size(); ++i) put(child(n, std::to_string(i)), "", value[i]);
  } else {
    n->plain = true, n->value = value;
    if (const auto it = kinds_.find(name); !name.empty() && it != kinds_.end()) n->kind = it->second;
  }
}

const StateNode& StateTree::finish() {
  settle(&root_, "", true);
  return root_;
}

// As deep as names are long at most: see at().
void StateTree::settle(StateNode* n, const std::string& path, bool root) {
  if (n->tensor >= 0 || n->plain) return;
  const auto it = kinds_.find(path);
  if (n->kind.empty() && !kinds_.empty()) n->kind = it == kinds_.end() ? "dict" : it->second;
  if (n->kind.empty()) n->kind = n->key == "state" ? "ints" : !root && !n->below.empty() && are_positions(*n) ? "list" : "dict";
  // Members may have been left out.
  if (n->kind == "set" && !are_hashable(*n)) n->kind = "list";
  if (n->by_position() && !are_positions(*n)) n->kind = "ints";
  if (of_ints(n->kind) && !are_ints(*n)) n->kind = n->kind == "ints" ? "dict" : n->kind.substr(0, n->kind.size() - 5);
  for (StateNode& b : n->below) settle(&b, root ? b.key : path + "/" + b.key, false);
  if (!n->by_position()) return;
  std::vector<StateNode> sorted;
  for (size_t i = 0; i < n->below.size(); ++i) sorted.push_back(std::move(n->below[n->index.at(std::to_string(i))]));
  for (size_t i = 0; i < sorted.size(); ++i) n->index[std::to_string(i)] = i;
  n->below = std::move(sorted);
}

Status put_state(PickleWriter* w, const StateNode& n, const std::function<Status(size_t)>& tensor) {
  if (n.tensor >= 0) return tensor(static_cast<size_t>(n.tensor));
  if (n.plain && n.kind == "bytes" && n.value.is_string()) return w->binary(bytes_of_hex(n.value.get<std::string>())), Status();
  const bool flat = n.plain && n.value.is_array() && std::none_of(n.value.begin(), n.value.end(), [](const auto& v) { return v.is_structured(); });
  const Maker maker = maker_of(n.kind);
  const bool items = n.plain && n.value.is_array() && (n.kind == "tuple" || (n.kind == "set" && flat));
  const bool empty = n.plain && n.value.is_object() && n.kind != "set" && maker.name;
  if (n.plain && !items && !empty) return w->json(n.value), Status();
  if (maker.name) w->global(maker.module, maker.name), w->open_tuple();
  const bool tuple = n.kind == "tuple", dict = !items && !n.by_position();
  dict ? w->open_dict() : tuple ? w->open_tuple() : w->open_list();
  for (size_t i = 0; items && i < n.value.size(); ++i) w->json(n.value[i]);
  for (const StateNode& b : n.below) {
    int64_t number = 0;
    if (dict && of_ints(n.kind) && is_int(b.key, &number)) w->integer(number);
    else if (dict) w->text(b.key);
    INGOT_TRY(put_state(w, b, tensor));
  }
  dict ? w->close_dict() : tuple ? w->close_tuple() : w->close_list();
  if (maker.name) w->close_tuple(), w->call();
  return {};
}

}  // namespace ingot
