#include "transform/importance.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "exec/evaluate.h"
#include "formats/json.h"
#include "transform/imatrix_entries.h"

namespace ingot::transform {
namespace {

constexpr int64_t kMostValues = int64_t{1} << 28;

Result<std::vector<float>> floats(const std::string& path, const LazyTensor& t) {
  const TensorSpec s = t.spec();
  if (s.type != DType::kF32 || s.shape.elements() < 1 || s.shape.elements() > kMostValues)
    return bad_input("reading the importance matrix {}: '{}' has {} values of {}, expected some of F32", path, t.name, s.shape.elements(), info(s.type).name);
  INGOT_ASSIGN(const auto bytes, evaluate(t.node));
  std::vector<float> v(static_cast<size_t>(s.shape.elements()));
  std::memcpy(v.data(), bytes.data(), bytes.size());
  for (size_t i = 0; i < v.size(); ++i)
    if (!(v[i] >= 0 && std::isfinite(v[i]))) return bad_input("reading the importance matrix {}: value {} of '{}' is {}, expected a mean of squares; compute it again", path, i, t.name, v[i]);
  return v;
}

// `values` are of `counts.size()` matrices. The older files have one count for all matrices of a tensor.
Status add(const std::string& path, const std::string& name, const std::vector<double>& values, const std::vector<double>& counts, ImportanceSums* all) {
  ImportanceSums::Entry& s = all->entries[name];
  if (s.values.empty()) s = {std::vector<double>(values.size()), std::vector<double>(counts.size()), path};
  const bool one = counts.size() == 1;
  if (s.values.size() != values.size() || (s.counts.size() != counts.size() && s.counts.size() != 1 && !one))
    return bad_input("merging importance matrices: '{}' has {} values for {} matrices in {}, and {} for {} in {}: they are of different models", name, values.size(), counts.size(), path,
                     s.values.size(), s.counts.size(), s.file);
  if (s.counts.size() < counts.size()) s.counts.assign(counts.size(), s.counts[0]);
  for (size_t i = 0; i < values.size(); ++i) s.values[i] += values[i];
  for (size_t i = 0; i < s.counts.size(); ++i) s.counts[i] += counts[one ? 0 : i];
  return {};
}

uint32_t chunk_of(const Artifact& a) {
  const MetaValue* m = a.meta("imatrix.chunk_size");
  const auto* n = m ? std::get_if<uint32_t>(&m->v) : nullptr;
  return n ? *n : 0;
}

Status add_gguf(const Artifact& a, ImportanceSums* all) {
  if (const MetaValue* m = a.meta("imatrix.chunk_count"))
    if (const auto* n = std::get_if<uint32_t>(&m->v)) all->chunks += *n;
  if (const MetaValue* m = a.meta("imatrix.datasets"))
    if (const auto* names = std::get_if<std::vector<std::string>>(&m->v)) all->datasets.insert(all->datasets.end(), names->begin(), names->end());
  for (const LazyTensor& t : a.tensors) {
    if (!t.name.ends_with(kImatrixSums)) continue;
    const std::string name = t.name.substr(0, t.name.size() - kImatrixSums.size());
    const LazyTensor* of = a.find(fmt::format("{}{}", name, kImatrixCounts));
    if (!of) return bad_input("reading the importance matrix {}: '{}' has no '{}{}'; the file is damaged", a.path, t.name, name, kImatrixCounts);
    INGOT_ASSIGN(const auto values, floats(a.path, t));
    INGOT_ASSIGN(const auto counts, floats(a.path, *of));
    if (values.size() % counts.size() != 0)
      return bad_input("reading the importance matrix {}: '{}' has {} values, which its {} counts do not divide; the file is damaged", a.path, t.name, values.size(), counts.size());
    INGOT_TRY(add(a.path, name, {values.begin(), values.end()}, {counts.begin(), counts.end()}, all));
  }
  return {};
}

// Values are means times the number of calls; an expert's own count is not kept.
Status add_dat(const Artifact& a, double chunk, ImportanceSums* all) {
  std::vector<int64_t> calls;
  if (const auto it = a.values.find("calls"); it != a.values.end()) {
    INGOT_ASSIGN(const Json j, parse_json(it->second, a.path));
    for (const Json& n : j) calls.push_back(n.is_number_integer() ? n.get<int64_t>() : 0);
  }
  if (calls.size() != a.tensors.size()) return bad_input("reading the importance matrix {}: it has {} entries and {} counts; the file is damaged", a.path, a.tensors.size(), calls.size());
  if (const auto it = a.values.find("chunks"); it != a.values.end()) all->chunks += static_cast<uint32_t>(std::max<int64_t>(0, std::strtoll(it->second.c_str(), nullptr, 10)));
  if (const auto it = a.values.find("dataset"); it != a.values.end()) {
    INGOT_ASSIGN(const Json j, parse_json(it->second, a.path));
    if (j.is_string() && !j.get<std::string>().empty()) all->datasets.push_back(j.get<std::string>());
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    const LazyTensor& t = a.tensors[i];
    if (calls[i] <= 0) return bad_input("reading the importance matrix {}: '{}' was counted {} times, expected at least once; compute it again", a.path, t.name, calls[i]);
    INGOT_ASSIGN(const auto means, floats(a.path, t));
    std::vector<double> values(means.begin(), means.end());
    for (double& v : values) v *= chunk;
    INGOT_TRY(add(a.path, t.name, values, {chunk * static_cast<double>(calls[i])}, all));
  }
  return {};
}

}  // namespace

Result<ImportanceSums> read_importance_sums(const std::vector<Artifact>& files, uint32_t usual_chunk) {
  ImportanceSums all;
  for (const Artifact& a : files) {
    if (a.naming != "imatrix") return bad_input("reading the importance matrix {}: it is {}, expected an importance matrix as llama-imatrix writes it", a.path, a.format);
    if (a.format == "gguf") all.chunk_size = std::max(all.chunk_size, chunk_of(a));
  }
  for (const Artifact& a : files) INGOT_TRY(a.format == "gguf" ? add_gguf(a, &all) : add_dat(a, all.chunk_size ? all.chunk_size : usual_chunk, &all));
  return all;
}

Status add_sums(const ImportanceSums& other, ImportanceSums* sums) {
  for (const auto& [name, e] : other.entries) INGOT_TRY(add(e.file, name, e.values, e.counts, sums));
  sums->datasets.insert(sums->datasets.end(), other.datasets.begin(), other.datasets.end());
  sums->chunks += other.chunks;
  sums->chunk_size = std::max(sums->chunk_size, other.chunk_size);
  return {};
}

Importance importance_of(const ImportanceSums& all) {
  Importance out;
  if (!all.datasets.empty()) out.dataset = all.datasets.front();
  out.chunks = all.chunks;
  size_t unseen = 0, of = 0;
  std::string first;
  for (const auto& [name, s] : all.entries) {
    const size_t width = s.values.size() / s.counts.size();
    std::vector<float> means(s.values.size());
    for (size_t m = 0; m < s.counts.size(); ++m, ++of) {
      double most = 0;
      for (size_t i = m * width; i < (m + 1) * width; ++i) most = std::max(most, s.values[i]);
      // What was never used has no columns that count more than others.
      const bool seen = s.counts[m] > 0 && most > 0;
      for (size_t i = m * width; i < (m + 1) * width; ++i) means[i] = seen ? static_cast<float>(s.values[i] / s.counts[m]) : 1.0F;
      if (seen) continue;
      if (!unseen++) first = s.counts.size() > 1 ? fmt::format("matrix {} of '{}'", m, name) : fmt::format("'{}'", name);
    }
    out.weights[name] = std::make_shared<const std::vector<float>>(std::move(means));
  }
  if (unseen)
    out.notices.push_back(fmt::format("the importance matrix says nothing of {}{}: all columns count alike there; a longer calibration text may reach {}", first,
                                      unseen > 1 ? fmt::format(" and {} more of {}", unseen - 1, of) : "", unseen > 1 ? "them" : "it"));
  return out;
}

Result<Importance> read_importance(const std::vector<Artifact>& files) {
  INGOT_ASSIGN(const ImportanceSums all, read_importance_sums(files));
  Importance out = importance_of(all);
  for (const Artifact& a : files) out.files.push_back(a.path);
  return out;
}

}  // namespace ingot::transform
