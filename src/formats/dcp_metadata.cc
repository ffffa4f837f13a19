#include "formats/dcp_metadata.h"

#include <map>
#include <unordered_map>
#include <utility>

#include "formats/chunked_tensor.h"
#include "formats/hf_weights.h"
#include "formats/pickle_values.h"
#include "formats/torch_types.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

constexpr std::string_view kModule = "torch.distributed.checkpoint.metadata";

// An attribute of one of torch's small records.
const PickleValue* part(const PickleValue& v, std::string_view name) {
  const PickleValue* own = v.is_object() ? v.attributes() : nullptr;
  return own && own->size() <= 32 ? own->get(name) : nullptr;
}

class MetadataReader {
 public:
  MetadataReader(const Pickle& pickle, const std::string& path) : path_(path), root_(pickle.root()), budget_(pickle) {}

  Result<DcpMetadata> read() {
    const PickleValue *entries = part(root_, "state_dict_metadata"), *stored = part(root_, "storage_data"), *paths = part(root_, "planner_data");
    if (!root_.is_call_of(kModule, "Metadata") || !entries || !entries->is_dict() || !stored || !stored->is_dict())
      return bad_input("reading {}: it is a pickle, but of no Metadata of torch.distributed.checkpoint; is the file a checkpoint's?", path_);
    INGOT_TRY(read_places(*stored));
    if (paths && paths->is_dict())
      for (size_t i = 0; i + 1 < paths->items().size(); i += 2) {
        INGOT_TRY(spend(paths->items()[i]->text().size()));
        paths_[pickle_key(*paths->items()[i])] = paths->items()[i + 1];
      }
    const auto items = entries->items();
    m_.entries.reserve(items.size() / 2);
    for (size_t i = 0; i + 1 < items.size(); i += 2) INGOT_TRY(read_entry(*items[i], *items[i + 1]));
    INGOT_TRY(name_entries());
    return std::move(m_);
  }

 private:
  // Values that the pickle has once can stand in it a million times: what is made of them is bounded by its size.
  Status spend(uint64_t bytes) {
    if (budget_.value() && budget_.bytes(bytes)) return {};
    return bad_input("reading {}: it uses the same names and chunks over and over; refused", path_);
  }
  Error bad(const std::string& key, const std::string& what) const {
    return bad_input("reading {}: of '{}' {}; the file is damaged", path_, key.substr(0, 200), what);
  }

  // Numbers of a list, none negative.
  static bool numbers(const PickleValue* v, std::vector<uint64_t>* out) {
    if (!v || !v->is_sequence() || v->size() > static_cast<size_t>(kMaxDims)) return false;
    out->clear();
    for (const PickleValue* i : v->items()) {
      if (i->as_int().value_or(-1) < 0) return false;
      out->push_back(static_cast<uint64_t>(*i->as_int()));
    }
    return true;
  }
  static std::string place_key(std::string_view fqn, const std::vector<uint64_t>& offsets, bool tensor) {
    std::string s = fmt::format("{}{}", fqn, tensor ? '\1' : '\2');
    for (uint64_t o : offsets) s += fmt::format("{},", o);
    return s;
  }

  // MetadataIndex(fqn, offset, ..): _StorageInfo(relative_path, offset, length, transform_descriptors)
  Status read_places(const PickleValue& stored) {
    std::map<std::string, size_t, std::less<>> files;
    const auto items = stored.items();
    places_.reserve(items.size() / 2);
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const PickleValue &index = *items[i], &info = *items[i + 1];
      const PickleValue *fqn = part(index, "fqn"), *offset = part(index, "offset"), *file = part(info, "relative_path"), *how = part(info,
          "transform_descriptors");
      const PickleValue *begin = part(info, "offset"), *size = part(info, "length");
      if (!fqn || !fqn->is_text()) return bad("storage_data", fmt::format("row {} has no name", i / 2));
      INGOT_TRY(spend(fqn->text().size() + (file ? file->text().size() : 0)));
      const std::string key(fqn->text());
      const int64_t at = begin ? begin->as_int().value_or(-1) : -1, length = size ? size->as_int().value_or(-1) : -1;
      if (!file || !file->is_text() || at < 0 || length < 0) return bad(key, "the place is no file, offset and length");
      if (!is_inside(std::string(file->text())))
        return bad_input("reading {}: '{}' would lie in the file '{}', which is outside the directory; refused", path_, key.substr(0, 200),
                         file->text().substr(0, 200));
      if (how && how->size())
        return bad_input("reading {}: '{}' is stored transformed ({}), which ingot does not read; save it again without extensions", path_, key.substr(0, 200),
                         how->at(0) && how->at(0)->is_text() ? how->at(0)->text() : "of an unknown kind");
      const bool tensor = offset && !offset->is_none();
      std::vector<uint64_t> offsets;
      if (tensor && !numbers(offset, &offsets)) return bad(key, "an offset is none");
      const auto [it, fresh] = files.emplace(file->text(), m_.files.size());
      if (fresh) m_.files.emplace_back(file->text());
      places_[place_key(key, offsets, tensor)] = {it->second, static_cast<uint64_t>(at), static_cast<uint64_t>(length)};
    }
    return {};
  }

  Status read_entry(const PickleValue& key, const PickleValue& value) {
    if (!key.is_text() || key.text().empty() || key.text().find('\0') != std::string_view::npos) return bad(pickle_key(key), "the name is none");
    INGOT_TRY(spend(key.text().size()));
    DcpEntry e;
    e.key = key.text();
    if (value.is_call_of(kModule, "BytesStorageMetadata")) {
      const auto there = places_.find(place_key(e.key, {}, false));
      if (there == places_.end()) return bad(e.key, "no file is told in which it lies");
      e.place = there->second;
    } else if (value.is_call_of(kModule, "TensorStorageMetadata")) {
      e.tensor = true;
      INGOT_TRY(read_tensor(value, &e));
    } else {
      return bad(e.key, fmt::format("the kind is {}, expected a tensor or bytes", value.is_object() ? value.object()->callable->global_text() : "unknown"));
    }
    m_.entries.push_back(std::move(e));
    return {};
  }

  Status read_tensor(const PickleValue& value, DcpEntry* e) {
    const PickleValue *properties = part(value, "properties"), *chunks = part(value, "chunks");
    const PickleValue* state = properties ? properties->state() : nullptr;  // (dtype, layout, ..)
    const PickleValue* dtype = state && state->at(0) ? state->at(0) : properties ? part(*properties, "dtype") : nullptr;
    const TorchType* type = dtype && dtype->module() == "torch" ? torch_type_by_dtype(dtype->name()) : nullptr;
    if (!type)
      return bad_input("reading {}: tensor '{}' has the type {}, which ingot does not know", path_, e->key.substr(0, 200),
                       dtype && dtype->kind() == PickleKind::kGlobal ? dtype->global_text() : "of nothing");
    e->spec.type = type->type;
    std::vector<uint64_t> size, offsets, sizes;
    if (!numbers(part(value, "size"), &size) || (type->pair && size.size() == static_cast<size_t>(kMaxDims)))
      return bad(e->key, fmt::format("the shape is none of at most {} dimensions", kMaxDims));
    uint64_t n = 1;
    for (uint64_t d : size) {
      if (!checked_mul(n, std::max<uint64_t>(d, 1), &n) || n > static_cast<uint64_t>(INT64_MAX) / 32)
        return bad(e->key, fmt::format("the shape overflows (a dimension of {})", d));
      e->spec.shape.push_back(static_cast<int64_t>(d));
    }
    if (!chunks || !chunks->is_sequence()) return bad(e->key, "there is no list of chunks");
    std::unordered_map<std::string, size_t> seen;
    std::vector<Region> regions;
    for (const PickleValue* c : chunks->items()) {
      INGOT_TRY(spend(e->key.size()));
      if (!numbers(part(*c, "offsets"), &offsets) || !numbers(part(*c, "sizes"), &sizes) || offsets.size() != size.size() || sizes.size() != size.size())
        return bad(e->key, fmt::format("a chunk has no offsets and sizes of {} dimensions", size.size()));
      Region r = Region::all(e->spec.shape);
      for (size_t d = 0; d < size.size(); ++d) {
        if (offsets[d] > size[d] || sizes[d] > size[d] - offsets[d])
          return bad(e->key, fmt::format("a chunk reaches from {} to {} in dimension {}, the tensor to {}", offsets[d], offsets[d] + sizes[d], d, size[d]));
        r.begin[static_cast<int>(d)] = static_cast<int64_t>(offsets[d]), r.extent[static_cast<int>(d)] = static_cast<int64_t>(sizes[d]);
      }
      if (r.elements() == 0) continue;  // the share of a rank that has none
      const std::string key = place_key(e->key, offsets, true);
      const auto [same, fresh] = seen.emplace(key, regions.size());
      if (!fresh && regions[same->second] == r) continue;  // replicated, each rank tells it
      const auto there = places_.find(key);
      if (there == places_.end()) return bad(e->key, fmt::format("no file is told in which the chunk {} lies", to_string(r)));
      regions.push_back(r);
      if (type->pair) r.begin.push_back(0), r.extent.push_back(2);
      e->chunks.push_back({r, there->second});
    }
    if (const std::string why = why_not_filled(e->spec.shape, regions); !why.empty())
      return bad_input("reading {}: the {} chunks of tensor '{}' {} do not fill it once: {}; ranks are missing from the save, or the file is "
                       "damaged", path_, regions.size(),
                       e->key.substr(0, 200), to_string(e->spec.shape), why);
    if (type->pair) e->spec.shape.push_back(2);
    return {};
  }

  // By their places in the nested state, where these are as different as the keys.
  Status name_entries() {
    std::unordered_map<std::string, size_t> keys, names;
    for (DcpEntry& e : m_.entries) {
      if (!keys.emplace(e.key, 0).second) return bad(e.key, "there are two");
      e.path = e.key;
      const auto it = paths_.find(e.key);
      if (it == paths_.end() || !it->second->is_sequence() || it->second->size() == 0 || it->second->size() > kMaxParts) continue;
      e.deep = it->second->size() > 1;
      e.path.clear();
      bool first = true;
      for (const PickleValue* key : it->second->items()) {
        INGOT_TRY(spend(key->text().size() + e.path.size()));
        m_.kinds.emplace(e.path, dcp_kind(e.path, key->kind() == PickleKind::kInt));
        if (!std::exchange(first, false)) e.path += '/';  // a key may be empty
        e.path += pickle_key(*key);
      }
    }
    if (const PickleValue* told = part(root_, kKindsKey)) {
      INGOT_ASSIGN(const StateKinds kinds, parse_kinds(told->text(), "reading " + path_));
      for (const auto& [path, kind] : kinds)
        if (const auto it = m_.kinds.find(path); it != m_.kinds.end()) it->second = kind;
    }
    for (const DcpEntry& e : m_.entries) ++names[e.path];
    for (DcpEntry& e : m_.entries)
      if (e.path.empty() || e.path.find('\0') != std::string::npos || names[e.path] > 1) e.path = e.key;
    return {};
  }

  static constexpr size_t kMaxParts = 100;
  const std::string& path_;
  const PickleValue& root_;
  PickleBudget budget_;
  DcpMetadata m_;
  std::unordered_map<std::string, DcpPlace> places_;
  std::unordered_map<std::string, const PickleValue*> paths_;
};

}  // namespace

// DCP makes texts of the ints by which a torch optimizer numbers its parameters. Where they are names, it is a dict.
std::string dcp_kind(const std::string& path, bool positions) { return positions ? "list" : path == "state" || path.ends_with("/state") ? "ints" : "dict"; }

Result<DcpMetadata> parse_dcp_metadata(std::string bytes, const std::string& path) {
  const std::string hash = to_hex(hash128(as_bytes(bytes)));
  INGOT_ASSIGN(const Pickle pickle, Pickle::run(std::move(bytes), "reading " + path));
  INGOT_ASSIGN(DcpMetadata m, MetadataReader(pickle, path).read());
  m.hash = hash;
  return m;
}

}  // namespace ingot
