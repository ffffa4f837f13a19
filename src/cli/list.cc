// ingot list: what there is.
#include <map>

#include "cli/command.h"
#include "cli/job.h"
#include "cli/output.h"
#include "cli/text.h"
#include "formats/formats.h"
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

Status list_types(Context& c) {
  Table table({"type", "of", ">bits/weight", ">8B model", "=advice"});
  OrderedJson types = OrderedJson::array();
  for (const transform::FileType& t : transform::file_types()) {
    std::string_view advice;
    double bits = transform::bits_per_weight(t.base);
    for (const Advice& a : kAdvice) {
      if (a.type != t.name) continue;
      advice = a.text;
      if (a.bits > 0) bits = a.bits;
    }
    table.row({std::string(t.name), std::string(info(t.base).name), fmt::format("{:.2f}", bits),
               format_bytes(static_cast<uint64_t>(bits / 8 * 8.03e9)), std::string(advice)});
    types.push_back({{"name", t.name},
                     {"file_type", t.id},
                     {"element_type", info(t.base).name},
                     {"bits_per_weight", bits},
                     {"advice", advice}});
  }
  return c.report.result(
      {{"types", types}},
      table.str(0, stdout_width()) + "\"of\": the type that most tensors get; mixes (_S, _M) keep some tensors larger.\n");
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
  std::string what;
  c.args.usage("list types | methods | formats | architectures | stores");
  c.args.positional("WHAT", &what, "types, methods, formats, architectures or stores");
  c.args.later("--for", true, "sizes for one model");
  c.args.example("ingot list types");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
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
