// What a pickle holds as names and plain values: the paths of keys and positions ("optimizer/state/0/step"), and JSON texts. Values may form circles, be shared
// a million times over and nest as deep as the stream is long: nothing here is recursive, and what is made is bounded by the pickle's size.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "formats/pickle.h"

namespace ingot {

// What may still be looked at and written for one pickle.
class PickleBudget {
 public:
  explicit PickleBudget(const Pickle& p) : values_(16 * uint64_t{p.values()} + 4096), bytes_(16 * uint64_t{p.bytes()} + (1 << 20)) {}
  bool value() { return values(1); }
  bool values(uint64_t n) { return n <= values_ ? (values_ -= n, true) : (values_ = 0, false); }
  bool bytes(uint64_t n) { return n <= bytes_ ? (bytes_ -= n, true) : (bytes_ = 0, false); }
  std::string changed;  // the first text that is no UTF-8, as it is kept

 private:
  uint64_t values_, bytes_;
};

// Of a key as Python's str() has it: 0, "name", (1, 2).
std::string pickle_key(const PickleValue& key);

// A node of OmegaConf, which has its parent and types beside it, is its content; what torch.compile gives, which has the compiler beside it, its module. All else
// is itself.
const PickleValue* pickle_content(const PickleValue* v);

// A value as JSON: numbers as Python's json writes them (NaN, Infinity), bytes as hexadecimal digits, sets and tuples as lists, a class or dtype as
// "torch.bfloat16", a device as "cuda:0", numpy's arrays and scalars as their numbers, an object as its attributes, and what else would be called as
// {"call": "module.name", "args": [..]}. A value within itself is "<itself>".
Result<std::string> pickle_json(const Pickle& pickle, const PickleValue& value, const std::string& doing);
Result<std::string> pickle_json(const PickleValue& value, const std::string& doing, PickleBudget* budget);

// Goes through all beneath `from`, in its order. `take` is asked for each object and what lies outside (tensors, storages) by its path: true, and it is not gone
// into. All else ends in `values`, as JSON by its path below `prefix`: dicts, lists and objects are gone into, empty ones, long lists of numbers and what has no
// parts stand there themselves. Sets and what else would be called are gone into where a tensor lies in them, by positions. `kinds`, where it is given, is told of what the state
// is made (state_tree.h), `notices` of what names do not tell and of texts that are no UTF-8. Two of one name are an error. A torch.nn.Module is gone into as its state_dict() names its tensors ("blocks.0.weight").
using PickleTake = std::function<Result<bool>(const std::string& path, const PickleValue& value)>;
Status flatten_pickle(const Pickle& pickle, const PickleValue& from, const std::string& prefix, const std::string& doing, const PickleTake& take,
                      std::map<std::string, std::string>* values, std::map<std::string, std::string>* kinds = nullptr, std::vector<std::string>* notices = nullptr);

}  // namespace ingot
