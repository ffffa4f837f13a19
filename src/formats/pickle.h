// Python's pickles, protocols 0 to 5, read by a machine that makes inert records: nothing is imported or called. What a pickle asks to be called is a record of
// the global's name and its arguments, whatever class that is; only a few of Python's own containers, which are plain data, become what they stand for
// (OrderedDict, defaultdict, Counter, set, bytes, Size). A pickle that asks for code in the plain sense (os.system, builtins.eval, ..) is refused by that name.
//
//   INGOT_ASSIGN(const Pickle p, Pickle::run(bytes, "reading " + path));
//   const PickleValue* params = p.root().get("param_groups");            // null: no dict, or no such key
//   for (const PickleValue* group : params->items()) lr = group->get("lr")->as_number();
//
// All values live as long as their Pickle. They may form circles (a list that holds itself): who goes through them uses walk_pickle() of pickle_values.h or
// bounds its own depth.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace ingot {

enum class PickleKind : uint8_t {
  kNone,
  kBool,
  kInt,         // of 64 bits
  kLong,        // longer: decimal text
  kFloat,
  kText,
  kBytes,
  kList,
  kTuple,       // torch.Size, too
  kSet,
  kDict,        // OrderedDict, defaultdict, Counter, too
  kGlobal,      // a class or function, by name
  kObject,      // what calling one would have made
  kPersistent,  // what lies outside, by an id: torch's storages
};

class PickleValue;
using PickleItems = std::vector<const PickleValue*>;

// What a kObject holds.
struct PickleObject {
  const PickleValue* callable = nullptr;  // mostly kGlobal
  const PickleValue* args = nullptr;      // kTuple
  const PickleValue* kwargs = nullptr;    // kDict, or null
};

class PickleValue {
 public:
  PickleKind kind() const { return kind_; }
  bool is_none() const { return kind_ == PickleKind::kNone; }
  bool is_text() const { return kind_ == PickleKind::kText; }
  bool is_dict() const { return kind_ == PickleKind::kDict; }
  bool is_object() const { return kind_ == PickleKind::kObject; }
  // A list, tuple or set.
  bool is_sequence() const { return kind_ == PickleKind::kList || kind_ == PickleKind::kTuple || kind_ == PickleKind::kSet; }

  // Nothing where the value is of another kind. A bool counts as an int, as in Python, and an int as a number.
  std::optional<bool> as_bool() const;
  std::optional<int64_t> as_int() const;
  std::optional<double> as_number() const;
  // The text of a kText, digits of a kLong; else empty. A text from a pickle is UTF-8, but for halves of surrogate pairs: see valid_utf8 in pickle_values.h.
  std::string_view text() const;
  // Of a kBytes, and of a kText as it stands (the bytes of Python 2 are texts).
  std::string bytes() const;
  size_t stored() const { return kind_ == PickleKind::kBytes || kind_ == PickleKind::kText ? size_ : 0; }  // what these take in the stream, at least as many

  // Of a list, tuple or set its items; where has_pairs() keys and values in turn, in their order; else none. An object that was appended to (a deque) has
  // items as well.
  std::span<const PickleValue* const> items() const;
  // A dict, or an object of a subclass of dict.
  bool has_pairs() const { return is_dict() || (is_object() && flag_); }
  // Of a dict: the name in collections of what it was (OrderedDict, Counter); empty for Python's own.
  std::string_view dict_class() const;
  size_t size() const { return has_pairs() ? items().size() / 2 : items().size(); }
  // The value of a text key (the last, where a pickle sets one twice), or of an attribute of an object; null where there is none. It looks at one after
  // another: who wants many goes through items().
  const PickleValue* get(std::string_view key) const;
  // Number i of a sequence, or null.
  const PickleValue* at(size_t i) const { return i < items().size() && !has_pairs() ? items()[i] : nullptr; }

  // kGlobal: "torch._utils" and "_rebuild_tensor_v2". Names of Python 2 are those of 3 (builtins, copyreg).
  std::string_view module() const;
  std::string_view name() const;
  std::string global_text() const;  // "torch._utils._rebuild_tensor_v2"
  bool is_global(std::string_view module, std::string_view name) const;

  const PickleObject* object() const;  // of a kObject, else null
  // Whether it is an object that a call of this global would have made.
  bool is_call_of(std::string_view module, std::string_view name) const;
  // What BUILD gave an object or dict: mostly a dict of attributes, for classes with slots (dict or None, dict). Null: nothing.
  const PickleValue* state() const;
  // The dict of attributes in that state, or null.
  const PickleValue* attributes() const;
  // Of a kPersistent: for torch ('storage', type, key, location, numel).
  const PickleValue* persistent_id() const;

 private:
  friend class PickleMachine;
  friend class Pickle;
  struct Box;     // of what has items or parts
  struct Global;
  PickleKind kind_ = PickleKind::kNone;
  bool flag_ = false;  // the bool; of kBytes: it is a text of a character a byte (_codecs.encode(.., 'latin1')); of kObject: its items are pairs
  uint32_t size_ = 0;  // of a text
  union {
    int64_t integer_ = 0;
    double number_;
    const char* chars_;
    Box* box_;
    const Global* global_;
  };
};

class Pickle {
 public:
  // The most that is accepted; real ones of a hundred thousand tensors have a tenth of it.
  static constexpr uint64_t kMaxBytes = 256u << 20;

  // Runs the pickle that begins at byte `from` of the bytes. `doing` begins its errors: "reading /m/a.pt". `end`: where it stopped; without it, bytes that
  // follow are an error. `cut`: whether the error was that the bytes end before the pickle does.
  static Result<Pickle> run(std::string bytes, const std::string& doing, size_t from = 0, size_t* end = nullptr, bool* cut = nullptr);
  Pickle(Pickle&&) noexcept;
  Pickle& operator=(Pickle&&) noexcept;
  ~Pickle();

  const PickleValue& root() const { return *root_; }
  // All ids of what lies outside.
  std::vector<const PickleValue*> persistent() const;
  size_t values() const;  // how many there are
  size_t bytes() const;   // of the stream that they were made from: what goes through them bounds by it what it makes

 private:
  friend class PickleMachine;
  struct Arena;
  Pickle();
  std::unique_ptr<Arena> arena_;
  const PickleValue* root_ = nullptr;
};

}  // namespace ingot
