#include "tensor/types.h"

#include <cctype>

namespace ingot {
namespace {
constexpr TypeInfo kTypes[] = {
#define TYPE(e, name, block, bytes, ggml, st) {DType::e, name, block, bytes, ggml, st},
#include "tensor/types.def"
#undef TYPE
};

bool same_letters(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (std::toupper(static_cast<unsigned char>(a[i])) != std::toupper(static_cast<unsigned char>(b[i]))) return false;
  return true;
}

template <class F>
std::optional<DType> find(F f) {
  for (const auto& t : kTypes)
    if (f(t)) return t.type;
  return std::nullopt;
}
}  // namespace

const TypeInfo& info(DType t) { return kTypes[static_cast<int>(t)]; }
std::optional<DType> dtype_by_name(std::string_view name) {
  return find([&](const TypeInfo& t) { return same_letters(t.name, name); });
}
std::optional<DType> dtype_by_ggml_id(int id) {
  if (id < 0) return std::nullopt;
  return find([&](const TypeInfo& t) { return t.ggml_id == id; });
}
std::optional<DType> dtype_by_st_name(std::string_view name) {
  if (name.empty()) return std::nullopt;
  return find([&](const TypeInfo& t) { return t.st_name == name; });
}

}  // namespace ingot
