#include "cli/imatrix_sources.h"

#include <algorithm>
#include <map>

#include "cli/generation.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "formats/formats.h"

namespace ingot::cli {
namespace {

using calibrate::WeightShape;

constexpr int64_t kShortText = 10'000;  // tokens

Result<Artifact> open_matrix(Context& c, const std::string& given) {
  INGOT_ASSIGN(const Located at, input_path(given));
  INGOT_ASSIGN(Artifact a, open_told(c, at));
  if (a.naming != "imatrix") return bad_input("--in-file '{}' is {}, no importance matrix; give one as llama-imatrix or 'ingot imatrix' writes it", at.path, a.format);
  return a;
}

// A model, or an importance matrix in its place.
Status open_model_argument(Context& c, ImatrixArgs* a, const std::vector<AdapterArgument>& adapters, ImatrixSources* s) {
  INGOT_ASSIGN(const Located at, input_path(a->model));
  const auto head = open_model(*at.store, at.path);
  if (head.ok() && head->naming == "imatrix") {
    if (!a->texts.empty()) return usage("'{}' is an importance matrix; the text needs a model to run through: ingot imatrix MODEL --in-file {} --calibrate {}", at.path, shell_word(a->model), shell_word(a->texts[0]));
    if (!adapters.empty()) return usage("--adapter is for a model; '{}' is an importance matrix", at.path);
    a->in_files.insert(a->in_files.begin(), a->model);
    return {};
  }
  INGOT_ASSIGN(const OpenedModel opened, open_with_adapters(c, a->model, adapters, Given::kBaseOfAdapter));
  INGOT_ASSIGN(Artifact gguf, as_gguf_weights(c, opened.artifact));
  return calibrate_model(opened, std::move(gguf), *a, s);
}

// The type that most of the weights that are collected have, where it is a quantized one.
std::string quantized_type(const ImatrixSources& s) {
  std::map<DType, int64_t> elements;
  for (const WeightShape& w : s.weights)
    if (const LazyTensor* t = s.gguf.find(w.name)) elements[t->spec().type] += t->spec().shape.elements();
  const auto most = std::max_element(elements.begin(), elements.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most != elements.end() && is_block_type(most->first) ? std::string(info(most->first).name) : "";
}

// The files' entries against the model's tensors: where a file has one count for all matrices of a tensor (the older kind), each matrix has it.
Status check_fit(Context& c, ImatrixSources* s) {
  size_t foreign = 0;
  std::string first;
  for (auto& [name, e] : s->sums.entries) {
    const LazyTensor* t = s->gguf.find(name);
    if (!t && name == calibrate::kOutputName) t = s->gguf.find("token_embd.weight");
    if (!t) {
      if (!foreign++) first = name;
      continue;
    }
    const Shape shape = t->spec().shape;
    const size_t matrices = shape.rank == 3 ? static_cast<size_t>(shape[0]) : 1, values = matrices * static_cast<size_t>(shape.rank ? shape.back() : 1);
    if (e.values.size() != values || (e.counts.size() != matrices && e.counts.size() != 1))
      return bad_input("'{}' has {} values for {} matrices in {}, but in '{}' the tensor has {} columns in {}: they are of different models", name, e.values.size(), e.counts.size(), e.file,
                       s->model->path, values / matrices, matrices);
    if (e.counts.size() != matrices) e.counts.assign(matrices, e.counts[0]);
  }
  if (foreign == s->sums.entries.size() && foreign) return bad_input("no entry of {} is the name of a tensor of '{}': they are of different models", s->files[0].path, s->model->path);
  if (foreign) c.report.notice(fmt::format("{} of the files that are merged {} no tensor of '{}'; kept as {}", foreign == 1 ? "'" + first + "'" : fmt::format("'{}' and {} more entries", first, foreign - 1),
                                           foreign == 1 ? "is" : "are", s->model->path, foreign == 1 ? "it is" : "they are"));
  return {};
}

}  // namespace

Status calibrate_model(const OpenedModel& model, Artifact gguf, const ImatrixArgs& a, ImatrixSources* s) {
  s->model = model;
  s->gguf = std::move(gguf);
  INGOT_ASSIGN(const Runnable can, runnable(s->gguf));
  s->config = can.config;
  if (a.length > can.context) {
    const std::string limit = can.limit.empty() ? "context" : can.limit;
    return usage("--ctx {}{}: the {} of '{}' is {} tokens; give at most that", a.length, a.length == 512 ? " (the default)" : "", limit, s->model->path, can.context);
  }
  s->weights = calibrate::product_weights(s->gguf, s->config, a.process_output);
  return {};
}

Result<ImatrixSources> open_imatrix_sources(Context& c, ImatrixArgs* a) {
  ImatrixSources s;
  INGOT_ASSIGN(const std::vector<AdapterArgument> adapters, a->adapters.read(c.args));
  if (!a->model.empty()) INGOT_TRY(open_model_argument(c, a, adapters, &s));
  for (const std::string& given : a->in_files) {
    INGOT_ASSIGN(s.files.emplace_back(), open_matrix(c, given));
  }
  if (s.files.empty()) return s;
  INGOT_ASSIGN(s.sums, transform::read_importance_sums(s.files, static_cast<uint32_t>(a->length)));
  if (s.model) INGOT_TRY(check_fit(c, &s));
  return s;
}

Status read_imatrix_text(Context& c, ImatrixArgs* a, std::string* assumed, ImatrixSources* s) {
  if (a->texts.empty()) {
    a->texts = {"builtin"};
    *assumed += fmt::format("{}--calibrate builtin", assumed->empty() ? "" : ", ");
  }
  INGOT_ASSIGN(const std::vector<calibrate::Text> texts, calibrate::read_texts(a->texts, calibrate::BuiltinHalf::kCalibrate, &c.cancel));
  INGOT_ASSIGN(const Tokenizer tokenizer, open_tokenizer(c, s->model->base));
  INGOT_TRY(go_on(c));
  INGOT_ASSIGN(s->windows, calibrate::cut(tokenizer, texts, {.length = a->length, .skip = a->skip, .most = std::max<int64_t>(0, a->chunks), .parse_special = a->parse_special}));
  for (const std::string& category : s->windows.too_short) c.report.notice(fmt::format("the text of '{}' has not one window of {} tokens; it is left out", category, a->length));
  if (const int64_t tokens = s->windows.count() * a->length; tokens < kShortText)
    c.report.warning(fmt::format("the text has {} tokens in whole windows; with fewer than {} the figures of many columns are rough", format_count(static_cast<uint64_t>(tokens)), format_count(kShortText)));
  if (const std::string type = quantized_type(*s); !type.empty())
    c.report.warning(fmt::format("'{}' is quantized already (mostly {}): the importance is that of what the quantized model computes; a float file gives a better one", s->model->path, type));
  return {};
}

std::vector<std::string> input_paths(const ImatrixSources& s) {
  std::vector<std::string> inputs;
  if (s.model) inputs = input_paths(*s.model);
  for (const Artifact& f : s.files) inputs.push_back(f.path);
  return inputs;
}

}  // namespace ingot::cli
