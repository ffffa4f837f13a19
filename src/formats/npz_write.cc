#include "formats/npz_write.h"

#include "base/bytes.h"
#include "formats/output_formats.h"
#include "formats/zip_read.h"
#include "formats/zip_write.h"

namespace ingot {
namespace {

// NumPy's names of the types that it has: not bfloat16 and float8, which are others' extensions.
constexpr std::pair<DType, const char*> kDescrs[] = {
    {DType::kF32, "<f4"}, {DType::kF16, "<f2"}, {DType::kF64, "<f8"}, {DType::kI8, "|i1"},  {DType::kI16, "<i2"},  {DType::kI32, "<i4"}, {DType::kI64, "<i8"},
    {DType::kU8, "|u1"},  {DType::kU16, "<u2"}, {DType::kU32, "<u4"}, {DType::kU64, "<u8"}, {DType::kBool, "|b1"}, {DType::kC64, "<c8"}};

const char* descr_of(DType t) {
  for (const auto& [type, descr] : kDescrs)
    if (type == t) return descr;
  return nullptr;
}

Result<std::string> npy_header(const NamedSpec& t) {
  const char* descr = descr_of(t.second.type);
  if (!descr)
    return usage("writing npz: tensor '{}' has the type {}, which NumPy does not have; {}", t.first, info(t.second.type).name,
                 another_type(t.second.type, "f32 or f16"));
  std::string shape;
  for (int i = 0; i < t.second.shape.rank; ++i) shape += fmt::format("{}{}", i ? ", " : "", t.second.shape[i]);
  if (t.second.shape.rank == 1) shape += ",";
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, shape);
  dict.resize(align_up(10 + dict.size() + 1, 64) - 10 - 1, ' ');
  dict += '\n';
  ByteWriter w;
  w.append("\x93NUMPY");
  w.write(uint8_t{1});
  w.write(uint8_t{0});
  w.write(static_cast<uint16_t>(dict.size()));
  w.append(dict);
  return std::move(w.str());
}

}  // namespace

Output npz_output(Artifact artifact, Store& store, const std::string& path) {
  Output o;
  o.layout = [](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    Layout l;
    l.files.emplace_back();
    ZipLayout zip(&l.files[0], 0, 64);
    for (const auto& t : specs) {
      if (const auto why = bad_record_name(t.first + ".npy"); !why.empty())
        return usage("writing npz: the name of tensor '{}' {}, as no reader of archives takes it; write another format", t.first, why);
      INGOT_ASSIGN(std::string header, npy_header(t));
      l.tensors.push_back({0, zip.reserve(t.first + ".npy", bytes_of(t.second), std::move(header))});
    }
    zip.finish();
    return l;
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  return o;
}

extern const OutputFormat kOutput_npz = {"npz", "npz", "NumPy's archives", npz_output, nullptr};

}  // namespace ingot
