// The layout of a GGUF v3 file.
#include <unordered_set>

#include "formats/gguf.h"

namespace ingot {
namespace {

void put_string(ByteWriter* w, std::string_view s) {
  w->write<uint64_t>(s.size());
  w->append(s);
}

GgufType type_of(const MetaValue& v) {
  static constexpr GgufType kTypes[] = {
      GgufType::kBool,  GgufType::kU8,  GgufType::kI8,  GgufType::kU16, GgufType::kI16,   GgufType::kU32,
      GgufType::kI32,   GgufType::kU64, GgufType::kI64, GgufType::kF32, GgufType::kF64,   GgufType::kString,
      GgufType::kArray, GgufType::kArray, GgufType::kArray, GgufType::kArray, GgufType::kArray};
  static_assert(std::size(kTypes) == std::variant_size_v<decltype(MetaValue::v)>);
  return kTypes[v.v.index()];
}

template <class T>
void put_array(ByteWriter* w, GgufType t, const std::vector<T>& v) {
  w->write(static_cast<uint32_t>(t));
  w->write<uint64_t>(v.size());
  if constexpr (std::is_same_v<T, std::string>) {
    for (const auto& s : v) put_string(w, s);
  } else {
    w->append(v.data(), v.size() * sizeof(T));
  }
}

// The value without its type tag. False when a mixed array holds more than one type.
bool put_value(ByteWriter* w, const MetaValue& value) {
  return std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, bool>) {
          w->write<uint8_t>(v ? 1 : 0);
        } else if constexpr (std::is_arithmetic_v<T>) {
          w->write(v);
        } else if constexpr (std::is_same_v<T, std::string>) {
          put_string(w, v);
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          put_array(w, GgufType::kString, v);
        } else if constexpr (std::is_same_v<T, std::vector<int32_t>>) {
          put_array(w, GgufType::kI32, v);
        } else if constexpr (std::is_same_v<T, std::vector<uint32_t>>) {
          put_array(w, GgufType::kU32, v);
        } else if constexpr (std::is_same_v<T, std::vector<float>>) {
          put_array(w, GgufType::kF32, v);
        } else {
          const GgufType t = v.empty() ? static_cast<GgufType>(v.empty_of) : type_of(v[0]);
          w->write(static_cast<uint32_t>(t));
          w->write<uint64_t>(v.size());
          for (const MetaValue& e : v)
            if (type_of(e) != t || !put_value(w, e)) return false;
        }
        return true;
      },
      value.v);
}

}  // namespace

Result<Layout> layout_gguf(const Artifact& meta, const std::vector<NamedSpec>& specs) {
  uint64_t alignment = 32;
  if (const MetaValue* m = meta.meta("general.alignment")) {
    const auto* v = std::get_if<uint32_t>(&m->v);
    if (!v || *v == 0 || (*v & (*v - 1)) != 0 || *v > (1u << 24))
      return bad_input("writing GGUF: general.alignment must be a power of two, 16 MiB at most");
    alignment = *v;
  }
  ByteWriter w;
  w.append("GGUF");
  w.write<uint32_t>(3);
  w.write<uint64_t>(specs.size());
  w.write<uint64_t>(meta.metadata.size());
  for (const auto& [key, value] : meta.metadata) {
    put_string(&w, key);
    w.write(static_cast<uint32_t>(type_of(value)));
    if (!put_value(&w, value)) return bad_input("writing GGUF: the array '{}' holds values of several types", key);
  }
  Layout l;
  uint64_t at = 0;
  std::unordered_set<std::string_view> names;
  for (const auto& [name, spec] : specs) {
    if (!names.insert(name).second) return bad_input("writing GGUF: the tensor '{}' would stand twice", name);
    if (name.empty() || name.size() > kMaxGgufTensorName)
      return bad_input("writing GGUF: the tensor name '{}' has {} bytes, llama.cpp loads at most {}", name, name.size(),
                       kMaxGgufTensorName);
    if (spec.shape.rank > 4)
      return bad_input("writing GGUF: tensor '{}' has {} dimensions, the format has at most 4", name, spec.shape.rank);
    if (info(spec.type).ggml_id < 0)
      return usage("writing GGUF: tensor '{}' has the type {}, which the format does not have; choose one with --type",
                   name, info(spec.type).name);
    put_string(&w, name);
    w.write<uint32_t>(spec.shape.rank ? static_cast<uint32_t>(spec.shape.rank) : 1);
    for (int i = spec.shape.rank; i-- > 0;) w.write<uint64_t>(static_cast<uint64_t>(spec.shape[i]));
    if (spec.shape.rank == 0) w.write<uint64_t>(1);
    w.write(static_cast<uint32_t>(info(spec.type).ggml_id));
    w.write<uint64_t>(at);
    l.tensors.push_back({0, at});
    at = align_up(at + bytes_of(spec), alignment);
  }
  w.pad_to(alignment);
  const uint64_t base = w.size();
  for (auto& p : l.tensors) p.offset += base;
  FileLayout f;
  f.size = base + at;
  f.extents.push_back({0, std::move(w.str())});
  l.files.push_back(std::move(f));
  return l;
}

}  // namespace ingot
