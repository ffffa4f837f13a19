// Layouts of safetensors files and of Hugging Face directories.
#include <algorithm>

#include "base/bytes.h"
#include "base/utf8.h"
#include "formats/json.h"
#include "formats/output_formats.h"
#include "formats/safetensors.h"
#include "formats/shards.h"

namespace ingot {
namespace {

// The order of dtypes in the reference implementation, in which a writer puts the last ones first: falling alignment,
// so that every tensor is aligned to its own type.
int dtype_rank(DType t) {
  static constexpr DType kOrder[] = {DType::kBool,   DType::kF4,     DType::kF6E2M3, DType::kF6E3M2,     DType::kU8,
                                     DType::kI8,     DType::kF8E5M2, DType::kF8E4M3, DType::kF8E8M0,
                                     DType::kF8E4M3Fnuz, DType::kF8E5M2Fnuz, DType::kI16, DType::kU16, DType::kF16,
                                     DType::kBF16,   DType::kI32,    DType::kU32,    DType::kF32,        DType::kC64,
                                     DType::kF64,    DType::kI64,    DType::kU64};
  for (int i = 0; i < static_cast<int>(std::size(kOrder)); ++i)
    if (kOrder[i] == t) return i;
  return -1;
}

// Header and offsets of the tensors `which` as file number `file` of the layout.
Result<FileLayout> place_file(const std::vector<NamedSpec>& specs, std::vector<int> which,
                              const std::map<std::string, std::string>& metadata, int file,
                              std::vector<Placement>* placements, uint64_t align = 8) {
  for (int i : which) {
    const auto& [name, spec] = specs[static_cast<size_t>(i)];
    if (dtype_rank(spec.type) < 0)
      return usage("writing safetensors: tensor '{}' has the type {}, which the format does not have; {}", name, info(spec.type).name,
                   another_type(spec.type, "a float type"));
    if (!valid_utf8(name)) return bad_input("writing safetensors: the tensor name '{}' is not UTF-8", name);
  }
  std::sort(which.begin(), which.end(), [&](int a, int b) {
    const auto& x = specs[static_cast<size_t>(a)];
    const auto& y = specs[static_cast<size_t>(b)];
    const int rx = dtype_rank(x.second.type), ry = dtype_rank(y.second.type);
    return rx != ry ? rx > ry : x.first < y.first;
  });
  std::string json = "{\"__metadata__\":{";
  bool first = true;
  for (const auto& [k, v] : metadata) {
    json += fmt::format("{}{}:{}", first ? "" : ",", json_quote(k), json_quote(v));
    first = false;
  }
  json += "}";
  uint64_t at = 0;
  for (int i : which) {
    const auto& [name, spec] = specs[static_cast<size_t>(i)];
    const uint64_t size = bytes_of(spec);
    json += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[", json_quote(name), info(spec.type).st_name);
    for (int d = 0; d < spec.shape.rank; ++d) json += fmt::format("{}{}", d ? "," : "", spec.shape[d]);
    json += fmt::format("],\"data_offsets\":[{},{}]}}", at, at + size);
    (*placements)[static_cast<size_t>(i)] = {file, at};
    at += size;
  }
  json += "}";
  json.resize(align_up(8 + json.size(), align) - 8, ' ');
  const uint64_t base = 8 + json.size();
  for (int i : which) (*placements)[static_cast<size_t>(i)].offset += base;
  ByteWriter w;
  w.write<uint64_t>(json.size());
  w.append(json);
  FileLayout out;
  out.size = base + at;
  out.extents.push_back({0, std::move(w.str())});
  return out;
}

Status check_unique(const std::vector<NamedSpec>& specs) {
  std::vector<std::string_view> names;
  for (const auto& s : specs) names.push_back(s.first);
  std::sort(names.begin(), names.end());
  if (auto it = std::adjacent_find(names.begin(), names.end()); it != names.end())
    return bad_input("writing safetensors: the tensor '{}' would stand twice", *it);
  return {};
}

std::vector<int> iota(size_t n) {
  std::vector<int> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = static_cast<int>(i);
  return v;
}

}  // namespace

Result<Layout> layout_safetensors(const std::vector<NamedSpec>& specs,
                                  const std::map<std::string, std::string>& metadata, uint64_t align) {
  INGOT_TRY(check_unique(specs));
  Layout l;
  l.tensors.resize(specs.size());
  const std::map<std::string, std::string> pt = {{"format", "pt"}};
  INGOT_ASSIGN(auto file, place_file(specs, iota(specs.size()), metadata.empty() ? pt : metadata, 0, &l.tensors, align));
  l.files.push_back(std::move(file));
  return l;
}

Result<Layout> layout_hf_directory(const std::vector<NamedSpec>& specs, const std::map<std::string, std::string>& files,
                                   uint64_t max_shard) {
  INGOT_TRY(check_unique(specs));
  const std::map<std::string, std::string> pt = {{"format", "pt"}};
  TensorNames names;
  for (size_t i = 0; i < specs.size(); ++i) names.emplace_back(specs[i].first, i);
  return layout_shards(specs, files, max_shard, "model", ".safetensors", names, [&](const std::vector<int>& which, int file, std::vector<Placement>* placements) {
    return place_file(specs, which, pt, file, placements);
  });
}

}  // namespace ingot
