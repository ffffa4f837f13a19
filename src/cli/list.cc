// ingot list: what there is.
#include <algorithm>
#include <iterator>
#include <map>

#include "cli/command.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/text.h"
#include "formats/formats.h"
#include "formats/gguf.h"
#include "formats/output_formats.h"
#include "model/architecture.h"
#include "transform/quantize.h"

namespace ingot::cli {

namespace {

// What the published comparisons of llama.cpp's types say, in a line. A type without a row is listed without
// advice. `bits`: of a whole 8B model's file, as llama-quantize makes it; 0: those of the base type.
struct Advice {
  std::string_view type;
  double bits;
  std::string_view text;
};
constexpr Advice kAdvice[] = {
    {"F32", 0, "exact; only to convert on from"},
    {"F16", 0, "exact for most models; the reference to compare with"},
    {"BF16", 0, "exact for models trained in bf16"},
    {"Q8_0", 8.5, "next to no loss"},
    {"Q6_K", 6.56, "very small loss"},
    {"Q5_K_M", 5.7, "small loss"},
    {"Q5_K_S", 5.57, "small loss, a little smaller"},
    {"Q4_K_M", 4.89, "the usual choice: a quarter of F16, moderate loss"},
    {"Q4_K_S", 4.67, "smaller, more loss"},
    {"Q4_0", 0, "old and simple; Q4_K_S is better at its size"},
    {"Q4_1", 0, "old and simple; Q4_K_M is better and smaller"},
    {"Q5_0", 0, "old and simple; Q5_K_S is better at its size"},
    {"Q5_1", 0, "old and simple; Q5_K_M is better and smaller"},
    {"Q3_K_L", 4.3, "much loss"},
    {"Q3_K_M", 4.0, "much loss; for models that would not fit otherwise"},
    {"Q3_K_S", 3.64, "very much loss"},
    {"MXFP4_MOE", 0, "for mixtures of experts: their experts in MXFP4, the rest Q8_0"},
    {"Q2_K", 3.16, "very much loss; a smaller model at Q4_K_M is mostly better"},
    {"Q2_K_S", 2.97, "very much loss; needs an importance matrix"},
    {"IQ4_NL", 4.68, "near Q4_K_S; for rows that super-blocks do not fit"},
    {"IQ4_XS", 4.46, "near Q4_K_S and smaller; slower without a GPU"},
    {"IQ3_M", 3.76, "better than Q3_K_M at its size, slower without a GPU"},
    {"IQ3_S", 3.66, "better than Q3_K_S at its size, slower without a GPU"},
    {"IQ3_XS", 3.5, "much loss; needs an importance matrix"},
    {"IQ3_XXS", 3.25, "much loss; needs an importance matrix"},
    {"IQ2_M", 2.93, "very much loss; needs an importance matrix"},
    {"IQ2_S", 2.74, "very much loss; needs an importance matrix"},
    {"IQ2_XS", 2.59, "very much loss; needs an importance matrix"},
    {"IQ2_XXS", 2.38, "very much loss; needs an importance matrix"},
    {"IQ1_M", 2.15, "for the largest models alone; needs an importance matrix"},
    {"IQ1_S", 2.0, "for the largest models alone; needs an importance matrix"},
    {"TQ2_0", 0, "for models trained with three values (BitNet); fast"},
    {"TQ1_0", 0, "for models trained with three values (BitNet); smallest"},
    {"NVFP4", 0, "four bits with a scale for each 16; for GPUs that compute with it"},
};

const Advice* advice_for(std::string_view type) {
  const auto* it = std::find_if(std::begin(kAdvice), std::end(kAdvice), [&](const Advice& a) { return a.type == type; });
  return it == std::end(kAdvice) ? nullptr : it;
}

OrderedJson type_json(const transform::FileType& t, double bits, std::string_view advice) {
  return {{"name", t.name}, {"file_type", t.id}, {"element_type", info(t.base).name}, {"bits_per_weight", bits}, {"advice", advice}};
}

Status list_types(Context& c) {
  Table table({"type", "of", ">bits/weight", ">8B model", "=advice"});
  OrderedJson types = OrderedJson::array();
  for (const transform::FileType& t : transform::file_types()) {
    const Advice* a = advice_for(t.name);
    const double bits = a && a->bits > 0 ? a->bits : transform::bits_per_weight(t.base);
    const std::string_view advice = a ? a->text : "";
    table.row({std::string(t.name), std::string(info(t.base).name), fmt::format("{:.2f}", bits),
               format_bytes(static_cast<uint64_t>(bits / 8 * 8.03e9)), std::string(advice)});
    types.push_back(type_json(t, bits, advice));
  }
  return c.report.result(
      {{"types", types}},
      table.str(0, stdout_width()) + "\"of\": the type that most tensors get; mixes (_S, _M) keep some tensors larger.\n");
}

// The same for a model that is there: the file that each type would make of it.
Status list_types_for(Context& c, const std::string& model) {
  INGOT_ASSIGN(const OpenedModel opened, open_with_adapters(c, model, {}));
  transform::Operations done = opened.operations;
  // The name of a tokenizer's rules is a few bytes.
  Artifact gguf;
  if (auto named = as_gguf(c, opened.artifact, "", &done); named.ok()) {
    gguf = *std::move(named);
  } else {
    INGOT_ASSIGN(gguf, as_gguf(c, opened.artifact, "default", &done));
  }
  uint64_t weights = 0;
  bool quantized = false;
  for (const LazyTensor& t : gguf.tensors) weights += static_cast<uint64_t>(t.spec().shape.elements()), quantized = quantized || is_block_type(t.spec().type);
  Table table({"type", ">bits/weight", ">size", "=advice"});
  OrderedJson types = OrderedJson::array();
  for (const transform::FileType& t : transform::file_types()) {
    transform::QuantizeOptions options;
    INGOT_ASSIGN(transform::TypePlan plan, transform::plan_types(gguf, t.name, options));
    if (plan.needs_imatrix) {  // with which some mixes are others
      options.imatrix = std::make_shared<transform::Importance>();
      INGOT_ASSIGN(plan, transform::plan_types(gguf, t.name, options));
    }
    std::vector<NamedSpec> specs;
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan.types.size(); ++i) {
      specs.emplace_back(gguf.tensors[i].name, TensorSpec{plan.types[i], gguf.tensors[i].spec().shape});
      bytes += bytes_of(specs.back().second);
    }
    INGOT_ASSIGN(const Layout layout, layout_gguf(gguf, specs));
    const double bits = weights ? static_cast<double>(bytes) * 8 / static_cast<double>(weights) : 0;
    const Advice* a = advice_for(t.name);
    const std::string_view advice = a ? a->text : "";
    table.row({std::string(t.name), fmt::format("{:.2f}", bits), format_bytes(layout.files[0].size), std::string(advice)});
    OrderedJson j = type_json(t, bits, advice);
    j["bytes"] = layout.files[0].size, j["needs_imatrix"] = plan.needs_imatrix;
    types.push_back(std::move(j));
  }
  return c.report.result({{"model", opened.path}, {"weights", weights}, {"types", types}},
                         table.str(0, stdout_width()) + fmt::format("of {}, {} weights{}\n", opened.path, format_count(weights),
                                                                    quantized ? "; they are quantized already, and made smaller only with --allow-requantize, which loses more than once" : ""));
}

Status list_formats(Context& c) {
  Table table({"format", "read", "write", "="});
  OrderedJson formats = OrderedJson::array();
  static const std::map<std::string_view, const char*> kAbout = {
      {"deepspeed", "DeepSpeed's directories: ZeRO 1, 2 and 3, universal; written as universal ones (--to deepspeed-universal)"},
      {"imatrix", "importance matrices of llama-imatrix, .dat and GGUF"},
      {"megatron", "directories of Megatron-LM and NeMo: torch_dist, and the older files of ranks (mp_rank_NN)"}};
  for (const std::string_view name : format_names()) {
    const OutputFormat* written = output_format(name);
    const auto other = kAbout.find(name);
    const std::string what(other != kAbout.end() ? other->second : written ? written->about : "");
    table.row({std::string(name), "yes", written ? "yes" : "no", what});
    formats.push_back({{"name", name}, {"read", true}, {"write", written != nullptr}, {"about", what}});
  }
  return c.report.result({{"formats", formats}}, table.str(0, stdout_width()));
}

Status list_architectures(Context& c) {
  INGOT_ASSIGN(const std::vector<Architecture>* all, architectures());
  Table table({"architecture", "=classes of config.json"});
  OrderedJson list = OrderedJson::array();
  for (const Architecture& a : *all) {
    table.row({a.name, join(a.classes, ", ")});
    list.push_back({{"name", a.name}, {"classes", a.classes}});
  }
  return c.report.result({{"architectures", list}}, table.str(0, stdout_width()));
}

Status list_methods(Context& c) {
  return c.report.result(
      {{"methods", {{{"name", "lora"}, {"about", "PEFT LoRA adapters folded into their base"}}}}},
      "lora  PEFT LoRA adapters folded into their base (ingot lora merge, ingot ship)\n");
}

Status list_stores(Context& c) {
  Table table({"", "="});
  table.row({"local", "files and directories (paths), and the models in the Hugging Face Hub's local cache (org/model)"});
  return c.report.result({{"stores", {{{"name", "local"}, {"about", "files and directories, and the models in the Hugging Face Hub's local cache"}}}}},
                         table.str(0, stdout_width()));
}

struct Row {
  const char* name;
  Status (*list)(Context&);
};
constexpr Row kLists[] = {{"types", list_types},
                          {"methods", list_methods},
                          {"formats", list_formats},
                          {"architectures", list_architectures},
                          {"stores", list_stores}};

}  // namespace

Status command_list(Context& c) {
  std::string what, model;
  c.args.usage("list types [--for MODEL] | methods | formats | architectures | stores");
  c.args.positional("WHAT", &what, "types, methods, formats, architectures or stores");
  c.args.text("--for", "MODEL", &model, "types: what each would make of this model");
  c.args.example("ingot list types");
  c.args.example("ingot list types --for model-F16.gguf");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (!model.empty() && what != "types") return usage("--for goes with 'ingot list types' alone");
  if (!model.empty()) return list_types_for(c, model);
  std::vector<std::string> names;
  for (const Row& row : kLists) {
    if (what == row.name) return row.list(c);
    names.emplace_back(row.name);
  }
  const std::string near = nearest(what, names);
  return usage("there is no list of '{}'{}; there are {}", what,
               near.empty() ? "" : fmt::format(" (did you mean {}?)", near), join(names, ", "));
}

}  // namespace ingot::cli
