#include "formats/torch_tensors.h"

#include <algorithm>
#include <cstring>

#include "formats/pickle_numpy.h"
#include "formats/pickle_values.h"
#include "formats/strided_tensor.h"
#include "formats/torch_sparse.h"

namespace ingot {
namespace {

// What a few bytes may stand for in full: values that are expanded, sparse ones made dense.
constexpr uint64_t kLeastFull = 64u << 20, kFullPerByte = 64;

// A function of torch that makes a tensor, and its arguments.
struct Call {
  std::string_view function;
  const PickleValue* args = nullptr;
  const PickleValue* state = nullptr;
};

// What is under parameters and tensors of a subclass. No function: the value is no tensor.
Call tensor_call(const PickleValue* v) {
  Call c;
  for (int depth = 0; depth < 16 && v && v->is_object(); ++depth) {
    const PickleValue *f = v->object()->callable, *args = v->object()->args;
    if (f->is_global("torch._tensor", "_rebuild_from_type_v2") || f->is_global("torch._tensor", "_rebuild_from_type")) {  // (function, class, arguments, state)
      const PickleValue* inner = args->at(0);
      if (!inner || inner->kind() != PickleKind::kGlobal || !args->at(2) || args->at(2)->kind() != PickleKind::kTuple) return {};
      c.state = args->at(3);
      f = inner, args = args->at(2);
    }
    const std::string_view name = f->name();
    if (f->is_global("torch.nn.parameter", "Parameter") || f->is_global("torch.nn.parameter", "Buffer")) {
      v = args->at(0);
      continue;
    }
    if (f->module() != "torch._utils" || !name.starts_with("_rebuild_")) return {};
    if (name == "_rebuild_parameter" || name == "_rebuild_parameter_with_state" || name == "_rebuild_device_tensor_from_cpu_tensor") {
      v = args->at(0);
      continue;
    }
    c.function = name, c.args = args;
    return c;
  }
  return {};
}

Result<Shape> read_shape(const PickleValue* v) {
  if (!v || !v->is_sequence()) return bad_input("its shape is no list");
  if (v->size() > static_cast<size_t>(kMaxDims)) return bad_input("it has {} dimensions; at most {} are supported", v->size(), kMaxDims);
  Shape s;
  uint64_t n = 1;
  for (const PickleValue* d : v->items()) {
    const auto i = d->as_int();
    if (!i || *i < 0) return bad_input("it has the dimension {}", pickle_key(*d));
    // A zero must not hide an overflow: whoever multiplies in another order would meet it.
    if (!checked_mul(n, static_cast<uint64_t>(std::max<int64_t>(*i, 1)), &n) || n > static_cast<uint64_t>(INT64_MAX) / 64) return bad_input("its shape overflows (a dimension of {})", *i);
    s.push_back(*i);
  }
  return s;
}

bool flag(const PickleValue* metadata, std::string_view name) {
  const PickleValue* v = metadata ? metadata->get(name) : nullptr;
  return v && v->as_bool().value_or(false);
}

}  // namespace

std::optional<TorchStorageId> torch_storage_id(const PickleValue& v) {
  const PickleValue* id = v.persistent_id();
  if (!id || !id->is_sequence() || id->size() < 5 || id->at(0)->text() != "storage" || id->at(1)->kind() != PickleKind::kGlobal) return std::nullopt;
  TorchStorageId s;
  s.key = id->at(2)->is_text() ? std::string(id->at(2)->text()) : id->at(2)->as_int() ? pickle_key(*id->at(2)) : "";
  s.type_name = id->at(1)->name();
  s.type = torch_type_by_storage(s.type_name);
  if (s.type) s.item = static_cast<uint64_t>(s.type->item);
  else if (s.type_name == "QInt32Storage") s.item = 4;
  const auto n = id->at(4)->as_int();
  if (s.key.empty() || !n || *n < 0 || !checked_mul(static_cast<uint64_t>(*n), s.item, &s.bytes)) return std::nullopt;
  s.end = s.bytes;
  if (const PickleValue* part = id->at(5); part && !part->is_none()) {  // (key, offset, size), of old files
    const int64_t offset = part->at(1) ? part->at(1)->as_int().value_or(-1) : -1, size = part->at(2) ? part->at(2)->as_int().value_or(-1) : -1;
    uint64_t length = 0;
    if (offset < 0 || size < 0 || !checked_mul(static_cast<uint64_t>(offset), s.item, &s.begin) || !checked_mul(static_cast<uint64_t>(size), s.item, &length) ||
        !checked_add(s.begin, length, &s.end) || s.end > s.bytes)
      return std::nullopt;
  }
  return s;
}

Error TorchTensors::bad(const std::string& path, const std::string& what) const {
  return bad_input("reading {}: of tensor '{}' {}; the file is damaged, or made to mislead", source_->path, path, what);
}

void TorchTensors::note(const std::string& kind, std::string text) {
  constexpr size_t kKinds = 16;
  const auto it = std::find_if(notices_.begin(), notices_.end(), [&](const Noted& n) { return n.kind == kind; });
  if (it != notices_.end()) ++it->more;
  else if (notices_.size() < kKinds) notices_.push_back({kind, std::move(text)});
  else ++more_;
}

std::vector<std::string> TorchTensors::notices() const {
  std::vector<std::string> all;
  for (const Noted& n : notices_) all.push_back(n.first + (n.more ? fmt::format("; so {} {} more", n.more == 1 ? "is" : "are", n.more) : ""));
  if (more_) all.push_back(fmt::format("{}: and {} tensors of other kinds", source_->path, more_));
  return all;
}

NodePtr TorchTensors::without(const std::string& path, const std::string& what) {
  note(what, fmt::format("{}: '{}' is passed over: {}", source_->path, path, what));
  return nullptr;
}

bool TorchTensors::is_tensor(const PickleValue& v) { return torch_storage_id(v).has_value() || !tensor_call(&v).function.empty(); }

Result<NodePtr> TorchTensors::tensor(const std::string& path, const PickleValue& value) {
  if (value.kind() == PickleKind::kPersistent) return dense(path, &value, value, "");
  const Call c = tensor_call(&value);
  if (c.function == "_rebuild_tensor" || c.function == "_rebuild_tensor_v2" || c.function == "_rebuild_tensor_v3") return dense(path, c.args->at(0), *c.args, c.function);
  if (c.function == "_rebuild_sparse_tensor") return sparse(path, *c.args);
  if (c.function == "_rebuild_device_tensor_from_numpy" || c.function == "_rebuild_xla_tensor") return from_numpy(path, *c.args);
  if (c.function == "_rebuild_meta_tensor_no_storage") return without(path, "it was saved from the meta device, which holds no data");
  if (c.function == "_rebuild_qtensor") return without(path, "it is quantized by torch; save its dequantize()");
  if (c.function == "_rebuild_nested_tensor") return without(path, "it is a nested tensor; save its unbind()");
  if (c.function == "_rebuild_wrapper_subclass") {
    // The state is a dict, or for a class with slots (dict or None, dict).
    const auto part = [&](std::string_view key) -> const PickleValue* {
      const PickleValue* found = c.state ? c.state->get(key) : nullptr;
      for (size_t i = 0; c.state && c.state->kind() == PickleKind::kTuple && i < c.state->size() && !found; ++i) found = c.state->at(i)->get(key);
      return found;
    };
    const PickleValue* local = part("_local_tensor");
    const Call inner = local ? tensor_call(local) : Call();
    if (const PickleValue* kind = c.args->at(0); !local && kind && kind->is_global("torch.distributed._shard.sharded_tensor.api", "ShardedTensor"))
      return without(path, "it is one rank's part of a tensor that FSDP cut (a ShardedTensor); save it with torch.distributed.checkpoint, which ingot joins, or whole "
                           "(StateDictType.FULL_STATE_DICT)");
    if (inner.function.empty() || inner.function == "_rebuild_wrapper_subclass") {
      const std::string name = c.args->at(0) ? c.args->at(0)->global_text() : "";
      const bool quantized = name.starts_with("torchao.") || name.find("quanto.") != name.npos;
      return without(path, fmt::format("it is of the class {}, {}", name, quantized ? "quantized: save its dequantize(), or take the model that it was made from" : "whose parts ingot does not know"));
    }
    INGOT_ASSIGN(NodePtr node, tensor(path, *local));
    const auto whole = read_shape(c.args->at(2));
    const PickleValue *spec = part("_spec"), *placements = spec ? spec->get("placements") : nullptr;
    bool partial = false;  // each rank has an addend
    TorchShard part_of;
    for (const PickleValue* p : placements ? placements->items() : std::span<const PickleValue* const>()) {
      const std::string_view kind = p->is_object() ? p->object()->callable->name() : "";
      const PickleValue* dim = p->get("dim");
      partial = partial || kind.find("Partial") != kind.npos;
      // After a cut no copies, and no second cut.
      part_of.known = part_of.known && part_of.axis < 0 && (kind == "Replicate" || (kind == "Shard" && dim && dim->as_int().value_or(-1) >= 0 && *dim->as_int() < kMaxDims));
      if (kind == "Shard" && part_of.known) part_of.axis = static_cast<int>(*dim->as_int());
    }
    const PickleValue *mesh = spec ? spec->get("mesh") : nullptr, *place = mesh ? mesh->get("_coordinate_on_dim") : nullptr;
    if (place && place->is_sequence() && place->size()) part_of.place = place->at(place->size() - 1)->as_int().value_or(-1);
    if (node && whole.ok() && placements) part_of.whole = *whole, shards_.emplace(path, part_of);
    if (!node || partial || !whole.ok() || *whole != node->spec().shape)
      note("distributed", fmt::format("{}: '{}' is a distributed tensor{}; of it the part is taken that the rank which saved the file holds{}", source_->path, path,
                                      whole.ok() ? fmt::format(" {}", to_string(*whole)) : "", node ? fmt::format(": {}", to_string(node->spec().shape)) : ""));
    return node;
  }
  return without(path, fmt::format("torch makes it by torch._utils.{}, which ingot does not know", c.function));
}

Result<NodePtr> TorchTensors::dense(const std::string& path, const PickleValue* value, const PickleValue& args, std::string_view function) {
  const auto storage = value ? torch_storage_id(*value) : std::nullopt;
  if (!storage) return bad(path, "the storage is none, or its size overflows");
  const TorchType* type = storage->type;
  if (function == "_rebuild_tensor_v3" && args.at(6)) {
    type = args.at(6)->module() == "torch" ? torch_type_by_dtype(args.at(6)->name()) : nullptr;
    if (!type) return without(path, fmt::format("it has the type {}, which ingot does not know", args.at(6)->global_text()));
  } else if (!type && storage->type_name == "UntypedStorage") {
    type = torch_type_of(DType::kU8);
  } else if (!type) {
    return without(path, fmt::format("it is in a {}, which ingot does not know (quantized by torch? then save its dequantize())", storage->type_name));
  }
  StridedView v;
  v.spec.type = type->type;
  int64_t offset = 0;
  if (function.empty()) {  // a storage by itself
    v.spec.shape = {static_cast<int64_t>((storage->end - storage->begin) / static_cast<uint64_t>(type->item))};
    v.strides[0] = 1;
  } else {
    auto shape = read_shape(args.at(2));
    if (!shape.ok()) return bad(path, shape.error().message);
    v.spec.shape = *shape;
    const auto from = args.at(1) ? args.at(1)->as_int() : std::nullopt;
    if (!from || *from < 0) return bad(path, fmt::format("the offset in its storage is {}", args.at(1) ? pickle_key(*args.at(1)) : "not there"));
    offset = *from;
    const PickleValue* strides = args.at(3);
    if (!strides || !strides->is_sequence() || strides->size() != static_cast<size_t>(v.spec.shape.rank)) return bad(path, "the strides are not as many as its dimensions");
    for (size_t i = 0; i < strides->size(); ++i) {
      const auto stride = strides->at(i)->as_int();
      if (!stride || *stride < 0) return bad(path, fmt::format("a stride is {}", pickle_key(*strides->at(i))));
      v.strides[i] = *stride;
    }
    const PickleValue* metadata = args.at(function == "_rebuild_tensor_v3" ? 7 : 6);
    if (function == "_rebuild_tensor") metadata = nullptr;
    v.conjugate = flag(metadata, "conj"), v.negate = flag(metadata, "neg");
  }
  uint64_t reach = 0, from = 0, to = 0;
  if (!v.reach(&reach) || !checked_add(reach, static_cast<uint64_t>(offset), &to) || !checked_mul(to, static_cast<uint64_t>(type->item), &to) ||
      !checked_add(to, storage->begin, &to) || (reach && to > storage->end))
    return bad(path, fmt::format("{} {} at offset {} reaches beyond its storage '{}' of {} bytes", type->dtype, to_string(v.spec.shape), offset, storage->key,
                                 storage->end - storage->begin));
  from = storage->begin + static_cast<uint64_t>(offset) * static_cast<uint64_t>(type->item);
  if (const uint64_t full = bytes_of(v.spec.type, v.spec.shape.elements()), own = std::max(kLeastFull, kFullPerByte * storage->bytes); full > own)
    return bad(path, fmt::format("{} {} is {} bytes, of which its storage has {}; at most {} are accepted", type->dtype, to_string(v.spec.shape), full, storage->bytes, own));
  const auto there = storages_.find(storage->key);
  if (there == storages_.end() && storage->bytes > 0) return bad(path, fmt::format("the storage '{}' is not there", storage->key));
  if (there != storages_.end() && there->second.bytes != storage->bytes)
    return bad(path, fmt::format("the storage '{}' has {} bytes by the pickle ({}), but {} in the file", storage->key, storage->bytes, storage->type_name, there->second.bytes));
  v.offset = reach ? there->second.offset + from : 0;
  v.swap = big_endian_;
  if (type->pair) {
    if (v.spec.shape.rank == kMaxDims) return without(path, fmt::format("{} of {} dimensions is kept as pairs, one dimension more than ingot has", type->dtype, kMaxDims));
    for (int i = 0; i < v.spec.shape.rank; ++i) v.strides[static_cast<size_t>(i)] *= 2;
    v.strides[static_cast<size_t>(v.spec.shape.rank)] = 1;
    v.spec.shape.push_back(2);
    note("complex", fmt::format("{}: '{}' is {}: kept as {} with a last dimension of real and imaginary part", source_->path, path, type->dtype, info(type->type).name));
  }
  std::string id = fmt::format("{}|{}|{}|{}{}|", storage->key, type->dtype, v.offset, v.conjugate ? "c" : "", v.negate ? "n" : "");
  for (int i = 0; i < v.spec.shape.rank; ++i) id += fmt::format("{}:{},", v.spec.shape[i], v.spec.shape[i] == 1 ? 0 : v.strides[static_cast<size_t>(i)]);
  NodePtr& made = made_[id];
  if (!made) made = make_strided_tensor(there != storages_.end() && there->second.unpacked ? there->second.unpacked : source_, path, v);
  return made;
}

Result<NodePtr> TorchTensors::sparse(const std::string& path, const PickleValue& args) {
  const PickleValue *layout = args.at(0), *data = args.at(1);
  const PickleValue* called = layout && layout->is_object() ? layout->object()->args->at(0) : nullptr;
  const std::string name(called ? called->text() : layout ? layout->name() : "");
  const bool coo = name.ends_with("sparse_coo"), csc = name.ends_with("sparse_csc"), compressed = csc || name.ends_with("sparse_csr");
  if (!data || !data->is_sequence() || data->size() < (compressed ? 4u : 3u)) return bad(path, "the sparse parts are not there");
  const size_t parts = compressed ? 3 : 2;
  std::vector<NodePtr> nodes;
  for (size_t i = 0; i < parts && (coo || compressed); ++i) {
    const PickleValue& part = *data->at(i);
    const Call c = tensor_call(&part);
    if (c.function != "_rebuild_tensor_v2" && c.function != "_rebuild_tensor_v3") return bad(path, "the sparse parts are no tensors");
    INGOT_ASSIGN(NodePtr node, dense(path, c.args->at(0), *c.args, c.function));
    if (!node) return node;
    nodes.push_back(std::move(node));
  }
  auto shape = read_shape(data->at(parts));
  if (!shape.ok()) return bad(path, shape.error().message);
  if (nodes.empty()) return without(path, fmt::format("it is sparse ({}); save its to_dense()", name));
  const TensorSpec values = nodes.back()->spec(), first = nodes[0]->spec();
  const uint64_t full = bytes_of(values.type, shape->elements()), own = std::max(kLeastFull, kFullPerByte * (bytes_of(values) + bytes_of(first)));
  if (full > own) return without(path, fmt::format("it is sparse ({}), and {} bytes as a dense tensor, of which its file has {}; save its to_dense()", name, full, bytes_of(values)));
  Shape rest;
  for (int i = 1; i < values.shape.rank; ++i) rest.push_back(values.shape[i]);
  bool fits = first.type == DType::kI64;
  if (coo) {
    if (!data->at(3) || !data->at(3)->as_bool().value_or(false)) return without(path, "it is sparse (COO) and may hold a place twice; save its coalesce()");
    const int64_t dims = first.shape.rank == 2 ? first.shape[0] : -1;
    fits = fits && values.shape.rank >= 1 && first.shape.rank == 2 && first.shape[1] == values.shape[0] && dims + rest.rank == shape->rank;
    for (int i = 0; fits && i < rest.rank; ++i) fits = rest[i] == (*shape)[static_cast<int>(dims) + i];
    if (!fits) return bad(path, "the sparse parts do not fit its shape");
    return make_dense_of_coo(path, nodes[0], nodes[1], *shape);
  }
  if (shape->rank != 2 || values.shape.rank != 1) return without(path, fmt::format("it is sparse ({}) of {} dimensions; save its to_dense()", name, shape->rank));
  const TensorSpec columns = nodes[1]->spec();
  fits = fits && columns.type == DType::kI64 && first.shape.rank == 1 && first.shape[0] == (*shape)[csc ? 1 : 0] + 1 && columns.shape == values.shape;
  if (!fits) return bad(path, "the sparse parts do not fit its shape");
  return make_dense_of_csr(path, nodes[0], nodes[1], nodes[2], *shape, csc);
}

Result<NodePtr> TorchTensors::array(const std::string& path, const PickleValue& value) {
  if (!is_numpy_array(value)) return NodePtr();
  if (const auto it = arrays_.find(&value); it != arrays_.end()) return it->second;
  auto a = numpy_array(value, false);
  if (!a || a->shape.empty()) return NodePtr();
  constexpr std::pair<std::string_view, DType> kKinds[] = {{"f4", DType::kF32}, {"f8", DType::kF64}, {"f2", DType::kF16}, {"i8", DType::kI64}, {"i4", DType::kI32}, {"i2", DType::kI16},
                                                           {"i1", DType::kI8},  {"u1", DType::kU8},  {"u2", DType::kU16}, {"u4", DType::kU32}, {"u8", DType::kU64}, {"b1", DType::kBool},
                                                           {"c8", DType::kC64}, {"c16", DType::kF64}};
  const std::string kind = fmt::format("{}{}", a->kind, a->item);
  const auto known = std::find_if(std::begin(kKinds), std::end(kKinds), [&](const auto& k) { return k.first == kind; });
  const bool pair = kind == "c16";
  if (known == std::end(kKinds) || a->shape.size() + pair > static_cast<size_t>(kMaxDims)) return NodePtr();
  // A pickle may make many arrays of the same bytes.
  if (!(a = numpy_array(value))) return arrays_[&value] = nullptr;
  array_bytes_ += a->bytes.size();
  if (array_bytes_ > Pickle::kMaxBytes) return bad(path, fmt::format("the numpy arrays up to it have {} bytes, more than its pickle can hold", array_bytes_));
  TensorSpec spec{known->second, {}};
  for (int64_t d : a->shape) spec.shape.push_back(d);
  if (pair) spec.shape.push_back(2), note("complex", fmt::format("{}: '{}' is complex128: kept as F64 with a last dimension of real and imaginary part", source_->path, path));
  a->bytes = numpy_in_order(*a);
  const auto* bytes = reinterpret_cast<const std::byte*>(a->bytes.data());
  return arrays_[&value] = make_memory_tensor(spec, {bytes, bytes + a->bytes.size()});
}

Result<NodePtr> TorchTensors::from_numpy(const std::string& path, const PickleValue& args) {
  INGOT_ASSIGN(NodePtr node, args.at(0) ? array(path, *args.at(0)) : Result<NodePtr>(NodePtr()));
  const TorchType* type = args.at(1) && args.at(1)->module() == "torch" ? torch_type_by_dtype(args.at(1)->name()) : nullptr;
  if (!node || !type || type->pair || node->spec().type != type->type)
    return without(path, fmt::format("it is made of a numpy array that would have to be cast to {}; save its cpu()", args.at(1) ? args.at(1)->global_text() : ""));
  return node;
}

Result<TorchState> torch_state(const Pickle& pickle, TorchTensors tensors, const std::string& path, const std::string& name) {
  TorchState s;
  const PickleValue& root = *pickle_content(&pickle.root());
  const bool alone = TorchTensors::is_tensor(root) || !(root.has_pairs() || root.is_sequence() || root.attributes());
  const auto take = [&](const std::string& at, const PickleValue& v) -> Result<bool> {
    const bool tensor = TorchTensors::is_tensor(v);
    INGOT_ASSIGN(NodePtr node, tensor ? tensors.tensor(at, v) : tensors.array(at, v));
    if (!node) return tensor;
    if (at.empty()) return bad_input("reading {}: one of its tensors has no name", path);
    s.tensors.push_back({at, std::move(node)});
    return true;
  };
  INGOT_TRY(flatten_pickle(pickle, root, alone ? name : "", "reading " + path, take, &s.values, &s.kinds, &s.notices));
  if (!alone && root.size() == 0) s.values.erase("");
  for (auto& notice : tensors.notices()) s.notices.push_back(std::move(notice));
  s.shards = tensors.take_shards();
  s.flat = !alone && !root.is_sequence() && s.values.empty();
  for (size_t i = 1; root.has_pairs() && i < root.items().size(); i += 2) s.flat = s.flat && (TorchTensors::is_tensor(*root.items()[i]) || is_numpy_array(*root.items()[i]));
  for (const LazyTensor& t : s.tensors) s.flat = s.flat && (root.has_pairs() || t.name.find('/') == std::string::npos);
  return s;
}

}  // namespace ingot
