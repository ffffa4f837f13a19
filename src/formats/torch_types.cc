#include "formats/torch_types.h"

namespace ingot {
namespace {

constexpr TorchType kTypes[] = {
    {"float32", "FloatStorage", DType::kF32, 4, false},
    {"float64", "DoubleStorage", DType::kF64, 8, false},
    {"float16", "HalfStorage", DType::kF16, 2, false},
    {"bfloat16", "BFloat16Storage", DType::kBF16, 2, false},
    {"int64", "LongStorage", DType::kI64, 8, false},
    {"int32", "IntStorage", DType::kI32, 4, false},
    {"int16", "ShortStorage", DType::kI16, 2, false},
    {"int8", "CharStorage", DType::kI8, 1, false},
    {"uint8", "ByteStorage", DType::kU8, 1, false},
    {"bool", "BoolStorage", DType::kBool, 1, false},
    {"complex64", "ComplexFloatStorage", DType::kC64, 8, false},
    {"complex128", "ComplexDoubleStorage", DType::kF64, 16, true},
    {"complex32", "ComplexHalfStorage", DType::kF16, 4, true},
    {"uint16", "", DType::kU16, 2, false},
    {"uint32", "", DType::kU32, 4, false},
    {"uint64", "", DType::kU64, 8, false},
    {"float8_e4m3fn", "", DType::kF8E4M3, 1, false},
    {"float8_e5m2", "", DType::kF8E5M2, 1, false},
    {"float8_e4m3fnuz", "", DType::kF8E4M3Fnuz, 1, false},
    {"float8_e5m2fnuz", "", DType::kF8E5M2Fnuz, 1, false},
    {"float8_e8m0fnu", "", DType::kF8E8M0, 1, false},
};
constexpr std::pair<std::string_view, std::string_view> kOtherNames[] = {{"float", "float32"}, {"double", "float64"}, {"half", "float16"}, {"long", "int64"},
                                                                         {"int", "int32"},     {"short", "int16"},    {"cfloat", "complex64"}, {"cdouble", "complex128"}};

}  // namespace

const TorchType* torch_type_by_dtype(std::string_view name) {
  for (const auto& [other, own] : kOtherNames)
    if (name == other) name = own;
  for (const TorchType& t : kTypes)
    if (t.dtype == name) return &t;
  return nullptr;
}

const TorchType* torch_type_by_storage(std::string_view name) {
  for (const TorchType& t : kTypes)
    if (!t.storage.empty() && t.storage == name) return &t;
  return nullptr;
}

const TorchType* torch_type_of(DType type) {
  for (const TorchType& t : kTypes)
    if (t.type == type && !t.pair) return &t;
  return nullptr;
}

}  // namespace ingot
