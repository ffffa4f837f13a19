#include "formats/pickle_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "formats/pickle_refused.h"

namespace ingot {
namespace {

using enum PickleKind;

constexpr size_t kMaxValues = size_t{1} << 23;
constexpr size_t kMaxMarks = 10'000;    // open at a time: Python's own writer stops at a thousand levels
constexpr size_t kMaxName = 1000;       // of a module or class
constexpr size_t kMaxLongBytes = 256;   // of an integer: 2048 bits
constexpr uint64_t kMaxSpent = 4;       // times the stream, see spend()

// Decimal digits of a two's complement number of any length but 0.
std::string decimal(std::string_view little_endian) {
  const bool negative = little_endian.back() & 0x80;
  std::vector<uint32_t> limbs(little_endian.size() / 4 + 1, negative ? UINT32_MAX : 0);
  std::memcpy(limbs.data(), little_endian.data(), little_endian.size());
  if (negative) {
    uint64_t carry = 1;
    for (uint32_t& l : limbs) carry += static_cast<uint32_t>(~l), l = static_cast<uint32_t>(carry), carry >>= 32;
  }
  std::string digits;
  while (!limbs.empty()) {
    uint64_t rest = 0;
    for (size_t i = limbs.size(); i-- > 0;) rest = rest << 32 | limbs[i], limbs[i] = static_cast<uint32_t>(rest / 1'000'000'000), rest %= 1'000'000'000;
    while (!limbs.empty() && limbs.back() == 0) limbs.pop_back();
    for (int i = 0; i < 9 && (rest || !limbs.empty()); ++i, rest /= 10) digits += static_cast<char>('0' + rest % 10);
  }
  if (digits.empty()) return "0";
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

// Whether each character of a UTF-8 text is below 256.
bool is_latin1(std::string_view s) {
  for (size_t i = 0; i < s.size(); ++i) {
    const auto c = static_cast<unsigned char>(s[i]);
    if (c < 0x80) continue;
    if ((c != 0xc2 && c != 0xc3) || i + 1 == s.size() || (static_cast<unsigned char>(s[++i]) & 0xc0) != 0x80) return false;
  }
  return true;
}

std::string_view python3_module(std::string_view m) { return m == "__builtin__" ? "builtins" : m == "copy_reg" ? "copyreg" : m; }

}  // namespace

bool PickleMachine::fail(std::string what) {
  if (error_.empty()) error_ = fmt::format("{} (before byte {}); the file is damaged, or no pickle of a checkpoint", what, at_);
  return false;
}

bool PickleMachine::refuse(std::string_view what) {
  // pickle.dump of a tensor: its storage's bytes are a file of torch.save in the pickle, which torch loads with all that such a file may do.
  const std::string_view advice = what == "torch.storage._load_from_bytes" ? "It is how pickle.dump writes a tensor; where you trust who wrote it, make a file of torch.save of it, which needs no "
                                                                             "calls: torch.save(pickle.load(open(FILE, 'rb')), 'model.pt')"
                                                                           : "No checkpoint needs that; do not load it with other programs";
  if (error_.empty()) error_ = fmt::format("asks to call {}: not run, file refused. {}", what, advice);
  return false;
}

bool PickleMachine::take(uint64_t n, std::string_view* out) {
  if (n > arena_.stream.size() - at_) {
    cut_ = true;
    return fail(fmt::format("claims {} bytes more where {} are left", n, arena_.stream.size() - at_));
  }
  *out = std::string_view(arena_.stream).substr(at_, n);
  at_ += n;
  return true;
}

bool PickleMachine::line(std::string_view* out) {
  const size_t end = arena_.stream.find('\n', at_);
  if (end == std::string::npos) {
    cut_ = true;
    return fail("has a line without an end");
  }
  *out = std::string_view(arena_.stream).substr(at_, end - at_);
  at_ = end + 1;
  return true;
}

template <class T>
bool PickleMachine::number(T* v) {
  std::string_view b;
  if (!take(sizeof(T), &b)) return false;
  std::memcpy(v, b.data(), sizeof(T));
  return true;
}

template <class T>
bool PickleMachine::sized(std::string_view* out) {
  T n = 0;
  return number(&n) && take(n, out);
}

PickleValue* PickleMachine::make(Kind kind) {
  if (arena_.values.size() >= kMaxValues) {
    fail(fmt::format("makes more than {} values, which is more than is accepted", kMaxValues));
    return nullptr;
  }
  PickleValue& v = arena_.values.emplace_back();
  v.kind_ = kind;
  if (kind >= kList && kind != kGlobal) v.box_ = &arena_.boxes.emplace_back();
  return &v;
}

bool PickleMachine::push(PickleValue* v) {
  if (v) stack_.push_back(v);
  return v;
}

bool PickleMachine::push_int(int64_t i) {
  PickleValue* v = make(kInt);
  if (v) v->integer_ = i;
  return push(v);
}

bool PickleMachine::push_bool(bool b) {
  PickleValue* v = make(kBool);
  if (v) v->flag_ = b;
  return push(v);
}

bool PickleMachine::push_text(Kind kind, std::string_view text) {
  PickleValue* v = make(kind);
  if (v) v->chars_ = text.data(), v->size_ = static_cast<uint32_t>(text.size());
  return push(v);
}

bool PickleMachine::push_long(std::string_view b) {
  if (b.size() > kMaxLongBytes) return fail(fmt::format("has an integer of {} bytes; at most {} are accepted", b.size(), kMaxLongBytes));
  if (b.size() > 8) return push_digits(decimal(b));
  int64_t i = !b.empty() && (b.back() & 0x80) ? -1 : 0;
  std::memcpy(&i, b.data(), b.size());
  return push_int(i);
}

bool PickleMachine::push_digits(std::string_view digits) {
  int64_t i = 0;
  const auto r = std::from_chars(digits.data(), digits.data() + digits.size(), i);
  if (r.ec == std::errc() && r.ptr == digits.data() + digits.size()) return push_int(i);
  if (r.ec != std::errc::result_out_of_range || r.ptr != digits.data() + digits.size() || digits.size() > kMaxLongBytes * 5 / 2)
    return fail(fmt::format("has '{}' for an integer", digits.substr(0, 40)));
  const bool negative = digits[0] == '-';
  digits.remove_prefix(digits.find_first_not_of("-0"));
  return push_text(kLong, arena_.texts.emplace_back(fmt::format("{}{}", negative ? "-" : "", digits)));
}

bool PickleMachine::push_global(std::string_view module, std::string_view name) {
  if (module.size() > kMaxName || name.size() > kMaxName || module.empty() || name.empty()) return fail("asks for a class without a name of reasonable length");
  const bool attribute_of = name == "getattr" && python3_module(module) == "builtins";  // see call_getattr()
  if (!attribute_of && is_refused_global(module, name)) return refuse(fmt::format("{}.{}", module, name));
  PickleValue* v = make(kGlobal);
  if (v) v->global_ = &arena_.globals.emplace_back(PickleValue::Global{python3_module(module), name});
  return push(v);
}

bool PickleMachine::need(size_t n) {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  return stack_.size() >= floor + n || fail("takes a value where none is");
}

PickleValue* PickleMachine::pop() {
  PickleValue* v = stack_.back();
  stack_.pop_back();
  return v;
}

bool PickleMachine::pop_mark(size_t* n) {
  if (marks_.empty()) return fail("takes values up to a mark where none is");
  *n = stack_.size() - marks_.back();
  marks_.pop_back();
  return true;
}

bool PickleMachine::push_sequence(Kind kind, size_t n) {
  if (!need(n)) return false;
  PickleValue* v = make(kind);
  if (!v) return false;
  // A function that calls its arguments would do with it what call_getattr() refuses.
  if (kind == kTuple && std::any_of(stack_.end() - static_cast<ptrdiff_t>(n), stack_.end(), [](const PickleValue* i) { return i->is_global("builtins", "getattr"); }))
    return refuse("builtins.getattr");
  v->box_->items.assign(stack_.end() - static_cast<ptrdiff_t>(n), stack_.end());
  stack_.resize(stack_.size() - n);
  return push(v);
}

bool PickleMachine::push_dict(size_t n) { return n % 2 ? fail("has a dict with a key and no value") : push_sequence(kDict, n); }

bool PickleMachine::push_persistent() {
  if (!need(1)) return false;
  // torch's old files have a module's class as ('module', class, file, source): the class is what that stands for.
  const PickleValue& id = *top();
  if (id.kind_ == kTuple && id.size() == 4 && id.at(0)->text() == "module" && id.at(1)->kind_ == kGlobal) {
    pop();
    return push(const_cast<PickleValue*>(id.at(1)));
  }
  PickleValue* v = make(kPersistent);
  if (v) v->box_->state = pop();
  return push(v);
}

bool PickleMachine::memoize(uint64_t i) {
  if (!need(1)) return false;
  // Writers count from 0 or 1, one for each value that they put there.
  if (i > arena_.values.size()) return fail(fmt::format("puts a value at number {} of its memo, though it has made only {}", i, arena_.values.size()));
  if (memo_.size() <= i) memo_.resize(std::max<size_t>(i + 1, memo_.size() * 2));
  memo_[i] = top();
  ++memoized_;
  return true;
}

bool PickleMachine::recall(uint64_t i) { return i < memo_.size() && memo_[i] ? push(memo_[i]) : fail(fmt::format("takes number {} of its memo, where nothing is", i)); }

bool PickleMachine::append(size_t n) {
  if (!need(n + 1)) return false;
  PickleValue* to = stack_[stack_.size() - n - 1];
  if (to->kind_ != kList && !(to->kind_ == kObject && (!to->flag_ || n == 0))) return fail("appends to what is no list");
  to->box_->items.insert(to->box_->items.end(), stack_.end() - static_cast<ptrdiff_t>(n), stack_.end());
  stack_.resize(stack_.size() - n);
  return true;
}

bool PickleMachine::set_items(size_t n) {
  if (n % 2) return fail("sets a key without a value");
  if (!need(n + 1)) return false;
  PickleValue* to = stack_[stack_.size() - n - 1];
  // An object may be of a subclass of dict, but what torch's functions make is none (CVE-2026-24747).
  const bool object = to->kind_ == kObject && (to->flag_ || to->box_->items.empty()) && !to->box_->object.callable->module().starts_with("torch._");
  if (to->kind_ != kDict && !object) return fail("sets items of what is no dict");
  if (to->kind_ == kObject) to->flag_ = true;
  to->box_->items.insert(to->box_->items.end(), stack_.end() - static_cast<ptrdiff_t>(n), stack_.end());
  stack_.resize(stack_.size() - n);
  return true;
}

bool PickleMachine::add_items(size_t n) {
  if (!need(n + 1)) return false;
  PickleValue* to = stack_[stack_.size() - n - 1];
  if (to->kind_ != kSet) return fail("adds to what is no set");
  to->box_->items.insert(to->box_->items.end(), stack_.end() - static_cast<ptrdiff_t>(n), stack_.end());
  stack_.resize(stack_.size() - n);
  return true;
}

// A few bytes can ask again and again for the same large value to be looked at: in all no more than a few times what the stream has.
bool PickleMachine::spend(uint64_t n) {
  spent_ += n;
  return spent_ <= kMaxSpent * arena_.stream.size() + 1024 || fail("copies its own values over and over");
}

bool PickleMachine::copy_into(PickleValue* to, const PickleValue& from, bool pairs) {
  if (!spend(from.box_->items.size())) return false;
  if (!pairs || from.kind_ == kDict) {
    to->box_->items = from.box_->items;
    return true;
  }
  for (const PickleValue* pair : from.box_->items) {  // [(key, value), ..]
    if (!pair->is_sequence() || pair->size() != 2) return fail("makes a dict of what are no pairs");
    to->box_->items.insert(to->box_->items.end(), pair->items().begin(), pair->items().end());
  }
  return true;
}

// Python's own containers, which are nothing but their content.
bool PickleMachine::call_known(const PickleValue& f, const PickleValue& args, bool* known) {
  const std::string_view m = f.module(), name = f.name();
  const size_t n = args.size();
  const PickleValue* first = args.at(0);
  const auto made = [&](Kind kind, const PickleValue* from) {
    *known = true;
    PickleValue* v = make(kind);
    return v && (!from || copy_into(v, *from, kind == kDict)) && push(v);
  };
  const bool builtin = m == "builtins", collections = m == "collections";
  if ((collections && (name == "OrderedDict" || name == "Counter")) || (builtin && name == "dict"))
    if (n == 0 || (n == 1 && (first->is_sequence() || first->is_dict()))) {
      if (!made(kDict, first)) return false;
      if (collections) top()->box_->object.callable = &f;
      return true;
    }
  if (collections && name == "defaultdict" && (n <= 1 || (n == 2 && args.at(1)->is_dict()))) return made(kDict, args.at(1));
  const Kind kind = builtin && (name == "set" || name == "frozenset") ? kSet : builtin && name == "list" ? kList : kTuple;
  if (kind != kTuple || (builtin && name == "tuple") || (m == "torch" && name == "Size"))
    if (n == 0 || (n == 1 && first->is_sequence())) return made(kind, first);
  const bool bytes = builtin && (name == "bytes" || name == "bytearray"), encode = m == "_codecs" && name == "encode";
  if (bytes && n == 1 && first->kind_ == kBytes) return *known = true, push(const_cast<PickleValue*>(first));
  if (bytes && n == 0) return *known = true, push_text(kBytes, "");
  if ((bytes || encode) && n == 2 && first->is_text() && (args.at(1)->text() == "latin1" || args.at(1)->text() == "latin-1")) {
    *known = true;
    if (!spend(first->size_)) return false;
    if (!is_latin1(first->text())) return fail("encodes a text as latin1 that cannot be");
    if (!push_text(kBytes, first->text())) return false;
    top()->flag_ = true;
    return true;
  }
  return true;
}

// getattr(Outer, "Inner") and getattr(object, "method"): how protocols below 4 name nested classes and bound methods, and Python 3.11 members of enums. Of a
// global it is the global that protocol 4 names with a dot; of all else a record that nothing may call or ask further. What leads from there to code (__globals__,
// a module's "system") is refused; a class may have attributes of such names, uncalled: roles of a chat are user and system.
bool PickleMachine::call_getattr(PickleValue* f, PickleValue* args) {
  const std::string_view attribute = args->size() == 2 ? args->at(1)->text() : "";
  if (args->size() != 2 || !args->at(1)->is_text() || attribute.empty()) return refuse("builtins.getattr");
  const PickleValue& of = *args->at(0);
  const bool special = attribute.starts_with("__") && attribute.ends_with("__") && attribute != "__call__" && attribute != "__getitem__";
  if (of.kind_ != kGlobal) {
    if (special || of.is_call_of("builtins", "getattr")) return refuse(fmt::format("builtins.getattr for '{}' of an object", attribute.substr(0, 80)));
    PickleValue* v = make(kObject);
    if (v) v->box_->object = {f, args, nullptr};
    return push(v);
  }
  if (of.name().size() + attribute.size() >= kMaxName) return fail("asks for a class without a name of reasonable length");
  const std::string_view last = of.name().substr(of.name().rfind('.') + 1);
  const size_t letter = last.find_first_not_of('_');
  const bool of_class = letter != std::string_view::npos && last[letter] >= 'A' && last[letter] <= 'Z';
  if (!spend(of.name().size() + attribute.size())) return false;
  const std::string& name = arena_.texts.emplace_back(fmt::format("{}.{}", of.name(), attribute));
  if (special || (!of_class && is_refused_global(of.module(), name))) return refuse(fmt::format("{}.{}", of.module(), name));
  PickleValue* v = make(kGlobal);
  if (v) v->global_ = &arena_.globals.emplace_back(PickleValue::Global{of.module(), name});
  return push(v);
}

bool PickleMachine::call(PickleValue* f, PickleValue* args, PickleValue* kwargs) {
  if (args->kind_ != kTuple || (kwargs && kwargs->kind_ != kDict)) return fail("calls something with what are no arguments");
  if (f->kind_ != kGlobal && f->kind_ != kObject) return fail("calls what is no function");
  if (f->is_global("builtins", "getattr")) return kwargs ? refuse("builtins.getattr") : call_getattr(f, args);
  if (f->is_call_of("builtins", "getattr")) return refuse(fmt::format("the method '{}' of an object", f->object()->args->at(1)->text().substr(0, 80)));
  if (f->name().find('.') != std::string_view::npos && is_refused_global(f->module(), f->name())) return refuse(f->global_text());
  bool known = false;
  if (f->kind_ == kGlobal && !kwargs && (!call_known(*f, *args, &known) || known)) return known && error_.empty();
  // Objects of Python 2's protocols: copyreg makes them.
  const bool rebuilt = f->is_global("copyreg", "_reconstructor") && args->size() == 3, newobj = f->is_global("copyreg", "__newobj__") && args->size() >= 1;
  PickleValue* v = make(kObject);
  if (!v) return false;
  v->box_->object = {f, args, kwargs};
  if (rebuilt || newobj) {
    PickleValue* rest = make(kTuple);
    if (!rest || (newobj && !spend(args->size()))) return false;
    if (newobj) rest->box_->items.assign(args->box_->items.begin() + 1, args->box_->items.end());
    v->box_->object = {args->at(0), rest, nullptr};
  }
  return push(v);
}

bool PickleMachine::build() {
  if (!need(2)) return false;
  const PickleValue* state = pop();
  PickleValue* v = top();
  if (v->kind_ != kObject && v->kind_ != kDict) return fail("gives a state to what is no object");
  if (v->box_->state) return fail("gives an object a second state");
  v->box_->state = state;
  return true;
}

const PickleValue* PickleMachine::run() {
  for (std::string_view op; take(1, &op);) {
    if (op[0] == '.') {
      if (stack_.size() == 1 && marks_.empty()) return top();
      fail(fmt::format("ends with {} values in place of one", stack_.size()));
      return nullptr;
    }
    if (!step(static_cast<unsigned char>(op[0]))) return nullptr;
  }
  return nullptr;
}

bool PickleMachine::step(unsigned char op) {
  uint8_t u8 = 0;
  uint16_t u16 = 0;
  uint32_t u32 = 0;
  int32_t i32 = 0;
  uint64_t u64 = 0;
  size_t n = 0;
  std::string_view s, t;
  switch (op) {
    case 0x80:  // PROTO
      return number(&u8) && (u8 <= 5 || fail(fmt::format("has protocol {}; 0 to 5 are known", u8)));
    case 0x95:  // FRAME: only how the bytes are cut
      return number(&u64) && (u64 <= arena_.stream.size() - at_ || take(u64, &s));
    case '(':
      if (marks_.size() >= kMaxMarks) return fail(fmt::format("nests more than {} levels", kMaxMarks));
      return marks_.push_back(static_cast<uint32_t>(stack_.size())), true;
    case '0':  // POP
      if (!marks_.empty() && marks_.back() == stack_.size()) return marks_.pop_back(), true;
      return need(1) && (stack_.pop_back(), true);
    case '1': return pop_mark(&n) && (stack_.resize(stack_.size() - n), true);
    case '2': return need(1) && push(top());  // DUP
    // Plain values.
    case 'N': return push(make(kNone));
    case 0x88: return push_bool(true);
    case 0x89: return push_bool(false);
    case 'J': return number(&i32) && push_int(i32);
    case 'K': return number(&u8) && push_int(u8);
    case 'M': return number(&u16) && push_int(u16);
    case 0x8a: return sized<uint8_t>(&s) && push_long(s);
    case 0x8b: return sized<uint32_t>(&s) && push_long(s);
    case 'G': {
      if (!number(&u64)) return false;
      PickleValue* v = make(kFloat);
      if (v) v->number_ = std::bit_cast<double>(__builtin_bswap64(u64));
      return push(v);
    }
    case 'X': return sized<uint32_t>(&s) && push_text(kText, s);
    case 0x8c: return sized<uint8_t>(&s) && push_text(kText, s);
    case 0x8d: return sized<uint64_t>(&s) && push_text(kText, s);
    case 'T': return sized<uint32_t>(&s) && push_text(kText, s);  // the texts of Python 2, which are bytes
    case 'U': return sized<uint8_t>(&s) && push_text(kText, s);
    case 'B': return sized<uint32_t>(&s) && push_text(kBytes, s);
    case 'C': return sized<uint8_t>(&s) && push_text(kBytes, s);
    case 0x8e: return sized<uint64_t>(&s) && push_text(kBytes, s);
    case 0x96: return sized<uint64_t>(&s) && push_text(kBytes, s);
    // Containers.
    case ']': return push(make(kList));
    case ')': return push(make(kTuple));
    case '}': return push(make(kDict));
    case 0x8f: return push(make(kSet));
    case 0x85: return push_sequence(kTuple, 1);
    case 0x86: return push_sequence(kTuple, 2);
    case 0x87: return push_sequence(kTuple, 3);
    case 't': return pop_mark(&n) && push_sequence(kTuple, n);
    case 'l': return pop_mark(&n) && push_sequence(kList, n);
    case 'd': return pop_mark(&n) && push_dict(n);
    case 0x91: return pop_mark(&n) && push_sequence(kSet, n);
    case 'a': return append(1);
    case 'e': return pop_mark(&n) && append(n);
    case 's': return set_items(2);
    case 'u': return pop_mark(&n) && set_items(n);
    case 0x90: return pop_mark(&n) && add_items(n);
    // The memo.
    case 'q': return number(&u8) && memoize(u8);
    case 'r': return number(&u32) && memoize(u32);
    case 0x94: return memoize(memoized_);
    case 'h': return number(&u8) && recall(u8);
    case 'j': return number(&u32) && recall(u32);
    // Names, and what would be made of them.
    case 'c': return line(&s) && line(&t) && push_global(s, t);
    case 0x93: {
      if (!need(2)) return false;
      const PickleValue *name = pop(), *module = pop();
      return name->is_text() && module->is_text() ? push_global(module->text(), name->text()) : fail("names a class by what is no text");
    }
    case 'R':
    case 0x81: {  // REDUCE, NEWOBJ
      if (!need(2)) return false;
      PickleValue *args = pop(), *f = pop();
      return call(f, args, nullptr);
    }
    case 0x92: {  // NEWOBJ_EX
      if (!need(3)) return false;
      PickleValue *kwargs = pop(), *args = pop(), *f = pop();
      return call(f, args, kwargs);
    }
    case 'b': return build();
    case 'Q': return push_persistent();
    default: return read_text_op(op);
  }
}

}  // namespace ingot
