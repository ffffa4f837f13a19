#include "cli/imatrix_output.h"

#include <algorithm>

#include "cli/paths.h"
#include "cli/text.h"
#include "formats/gguf.h"
#include "infer/bf16_tiles.h"
#include "infer/packed.h"
#include "kernels/hash.h"

namespace ingot::cli {
namespace {

using calibrate::TokenWindows;
using calibrate::WeightShape;

// The names of the texts, without the folders of this machine.
std::vector<std::string> datasets_of(const ImatrixSources& s) {
  std::vector<std::string> all = s.sums.datasets;
  for (const std::string& name : s.windows.names) all.push_back(file_name(name));
  return all;
}

uint32_t chunk_size_of(const Context& c, const ImatrixArgs& a, const ImatrixSources& s) {
  return s.runs() || c.args.has("--ctx") || !s.sums.chunk_size ? static_cast<uint32_t>(a.length) : s.sums.chunk_size;
}

}  // namespace

Result<std::string> imatrix_key(const ImatrixArgs& a, const ImatrixSources& s) {
  std::string text = fmt::format("imatrix 1|{}|{}", a.length, a.process_output);
  for (const Artifact& f : s.files) text += "|" + f.format;
  if (s.runs()) {
    // Tensors are told apart by their names, and run by what the metadata says.
    Artifact meta;
    meta.metadata = s.gguf.metadata;
    INGOT_ASSIGN(const Layout header, layout_gguf(meta, {}));
    text += "|" + to_hex(hash128(as_bytes(header.files[0].extents[0].bytes)));
    for (const LazyTensor& t : s.gguf.tensors) text += "|" + t.name;
    text += "|" + to_hex(hash128(std::as_bytes(std::span(s.windows.ids))));
    const auto some = [&](bool (*can)(DType)) { return std::any_of(s.gguf.tensors.begin(), s.gguf.tensors.end(), [can](const LazyTensor& t) { return t.spec().shape.rank > 1 && can(t.spec().type); }); };
    if (a.arithmetic == Arithmetic::kFast && some(can_pack)) text += "|int8";
    if (a.arithmetic == Arithmetic::kFast && some(can_multiply_by_tiles)) text += "|tiles";
  }
  return to_hex(hash128(as_bytes(text)));
}

Result<calibrate::ImportanceFile> imatrix_file(const Context& c, const ImatrixArgs& a, const ImatrixSources& s) {
  calibrate::ImportanceFileOptions o;
  o.older = a.older();
  INGOT_ASSIGN(o.key, imatrix_key(a, s));
  for (const Artifact& f : s.files)
    for (const LazyTensor& t : f.tensors) o.sources.push_back(t.node);
  std::vector<WeightShape> weights = calibrate::shapes_of(s.sums);
  double most = 0;
  for (const auto& [name, e] : s.sums.entries) most = std::max(most, *std::max_element(e.counts.begin(), e.counts.end()));
  if (s.runs()) {
    for (const LazyTensor& t : s.gguf.tensors) o.sources.push_back(t.node);
    for (const WeightShape& w : s.weights)
      if (!s.sums.entries.contains(w.name)) weights.push_back(w);
    most += static_cast<double>(s.windows.ids.size());
  }
  o.datasets = datasets_of(s);
  o.chunk_size = chunk_size_of(c, a, s);
  o.chunks = static_cast<uint32_t>(std::min<double>(most / o.chunk_size, UINT32_MAX));
  return calibrate::ImportanceFile(std::move(weights), std::move(o));
}

std::string imatrix_plan(const ImatrixSources& s) {
  const TokenWindows& w = s.windows;
  if (!s.runs()) return fmt::format("merges {} importance {}\n", s.files.size(), s.files.size() == 1 ? "matrix" : "matrices");
  return fmt::format("runs {} of {} tokens ({} of the text's {}) through {} of '{}' and collects {}\n", count_of(static_cast<uint64_t>(w.count()), "window"), w.length,
                     format_count(w.ids.size()), format_count(static_cast<uint64_t>(w.tokens)), count_of(static_cast<uint64_t>(s.config.layers), "layer"), printable(s.model->path),
                     count_of(s.weights.size(), "tensor"));
}

OrderedJson imatrix_json(const ImatrixSources& s) {
  const TokenWindows& w = s.windows;
  return {{"chunks", w.count()}, {"chunk_size", w.length}, {"tokens", w.ids.size()}, {"text_tokens", w.tokens}, {"texts", w.names}};
}

std::string imatrix_run_text(const ImatrixSources& s, int64_t resumed, double seconds) {
  const TokenWindows& w = s.windows;
  const double rate = static_cast<double>((w.count() - resumed) * w.length) / seconds;
  return fmt::format("{} of {} tokens ({} of the text's {}) in {} ({} tokens/s){}\n", count_of(static_cast<uint64_t>(w.count()), "window"), w.length, format_count(w.ids.size()),
                     format_count(static_cast<uint64_t>(w.tokens)), format_duration(seconds), format_count(static_cast<uint64_t>(rate)),
                     resumed ? fmt::format("; {} of them by an earlier run", resumed) : "");
}

}  // namespace ingot::cli
