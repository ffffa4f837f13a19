// The nested state that the names of tensors and values stand for ("optimizer/state/0/step"), as torch's kinds of files hold it. Names tell neither where a slash
// is a key's own nor which containers are lists, nor that keys are ints, so readers of such states record that in their artifact's
// metadata (kKindsKey: a small JSON text), safetensors files carry it along, and writers build the state by it:
//
//   "" : "dict", "model": "dict", "optimizer/state": "ints", "optimizer/param_groups": "list", "optimizer/param_groups/0/betas": "tuple"
//
// dict: of text keys; ints: a dict of int keys; odict, odict_ints, counter, counter_ints: collections.OrderedDict and Counter of these; list, tuple, set: by
// positions; and of plain values that JSON does not tell apart: tuple, set, odict, counter, bytes (whose JSON is their hexadecimal digits). It is inert text: whatever it says, what is written is made of Python's own types, which torch.load(weights_only=True) takes.
//
// Where nothing is recorded, slashes lead down if there are plain values beside the tensors (a training state as ingot opens it), and are a key's own if there
// are none (names of JAX); keys that are 0 to n - 1 are a list, but at the root and for a torch optimizer's "state", which numbers its parameters in a dict.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/json.h"
#include "formats/pickle_write.h"
#include "tensor/artifact.h"

namespace ingot {

inline constexpr char kKindsKey[] = "ingot.kinds";  // {"dict": ["", "model"], "ints": [..]}
using StateKinds = std::map<std::string, std::string>;  // by path
// Into the metadata in place of others, where they tell more than that all is one dict, and from there.
void set_kinds(const StateKinds& kinds, Artifact* a);
Result<StateKinds> kinds_of(const Artifact& a);
// As that text.
std::string kinds_text(const StateKinds& kinds);
Result<StateKinds> parse_kinds(std::string_view text, const std::string& reading);

struct StateNode {
  std::string key, kind;
  std::vector<StateNode> below;  // of list, tuple and set by their positions
  std::unordered_map<std::string, size_t> index;  // of below, by their keys
  int64_t tensor = -1;
  bool plain = false;  // a value, which `value` is
  OrderedJson value;

  bool by_position() const { return kind == "list" || kind == "tuple" || kind == "set"; }
};

class StateTree {
 public:
  // `doing` begins its errors. `nested`: whether slashes lead down where no kinds are known.
  StateTree(const StateKinds& kinds, bool nested, std::string doing) : kinds_(kinds), nested_(nested), doing_(std::move(doing)) {}
  Status add(const std::string& name, int64_t tensor);
  Status add(const std::string& name, const OrderedJson& value);
  // Once all are there.
  const StateNode& finish();

 private:
  Result<StateNode*> at(const std::string& name);
  void put(StateNode* n, const std::string& name, const OrderedJson& value);
  void settle(StateNode* n, const std::string& path, bool root);

  const StateKinds& kinds_;
  bool nested_;
  std::string doing_;
  StateNode root_;
};

// Writes the value that a node is. `tensor` writes one.
Status put_state(PickleWriter* w, const StateNode& n, const std::function<Status(size_t)>& tensor);

}  // namespace ingot
