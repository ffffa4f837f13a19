// The options of llama-quantize.
#include "cli/quantize_args.h"

#include <algorithm>
#include <sstream>

#include "cli/paths.h"
#include "cli/text.h"
#include "cli/type_names.h"
#include "formats/formats.h"

namespace ingot::cli {

void QuantizeArgs::declare(Args& a) {
  a.section("Choosing types (as llama-quantize has them)");
  a.flag("--pure", &pure_, "no mix: every matrix gets the type that the file type is named after");
  a.flag("--allow-requantize", &allow_requantize_,
         "quantize from weights that are quantized already (loses more)");
  a.flag("--leave-output-tensor", &leave_output_, "output.weight stays as it is");
  a.text("--output-tensor-type", "T", &output_type_, "type of output.weight");
  a.text("--token-embedding-type", "T", &embedding_type_, "type of token_embd.weight");
  a.list("--tensor-type", "PATTERN=T", &tensor_types_,
         "type of the tensors whose name matches the regular expression; may be repeated, the first that "
         "matches holds");
  a.list("--tensor-type-file", "FILE", &tensor_type_files_, "such words, apart by spaces or lines, from a file");
  a.list("--imatrix", "FILE", &imatrix_, "importance of each column, as llama-imatrix computes it (.gguf or .dat); several are merged");
  a.list("--include-weights", "PART", &include_, "importance only for the tensors whose name has this in it; may be repeated");
  a.list("--exclude-weights", "PART", &exclude_, "no importance for these");
  a.text("--max-buffer-size", "MiB", &buffer_, "as --memory; a number alone counts MiB");
  a.later("--calibrate", true, "computing an importance matrix from a text");
  a.later("--prune-layers", true, "leaving out layers");
  a.later("--keep-split", false, "writing splits");
  a.later("--override-kv", true, "changing metadata");
  a.later("--effort", true, "choosing between fast and best");
  a.later("--ctx", true, "calibration");
  a.later("--chunks", true, "calibration");
}

namespace {

Result<std::pair<std::string, DType>> tensor_type(const std::string& given) {
  const size_t at = given.rfind('=');
  if (at == std::string::npos || at == 0 || at + 1 == given.size())
    return usage("--tensor-type '{}': write it as PATTERN=T, like 'attn_v=Q6_K' or 'blk\\.[0-3]\\.ffn_down=Q5_K'", given);
  INGOT_ASSIGN(const DType t, read_element_type("--tensor-type", given.substr(at + 1)));
  return std::pair(given.substr(0, at), t);
}

}  // namespace

Result<std::shared_ptr<const transform::Importance>> QuantizeArgs::importance(Context& c) const {
  std::shared_ptr<const transform::Importance> none;
  if (imatrix_.empty()) {
    if (!include_.empty() || !exclude_.empty()) return usage("{} chooses among the entries of an importance matrix; give one with --imatrix FILE", include_.empty() ? "--exclude-weights" : "--include-weights");
    return none;
  }
  if (!include_.empty() && !exclude_.empty()) return usage("--include-weights and --exclude-weights exclude each other");
  std::vector<Artifact> files;
  for (const std::string& given : imatrix_) {
    INGOT_ASSIGN(const std::string path, expand_variables(given));
    INGOT_ASSIGN(const Located at, locate(path));
    INGOT_ASSIGN(Artifact a, open_model(*at.store, at.path));
    files.push_back(std::move(a));
  }
  INGOT_ASSIGN(transform::Importance all, transform::read_importance(files));
  for (const std::string& n : all.notices) c.report.notice(n);
  const auto has_one = [](const std::string& name, const std::vector<std::string>& parts) {
    return std::any_of(parts.begin(), parts.end(), [&](const std::string& part) { return name.find(part) != std::string::npos; });
  };
  std::erase_if(all.weights, [&](const auto& entry) { return include_.empty() ? has_one(entry.first, exclude_) : !has_one(entry.first, include_); });
  if (all.weights.empty()) return usage("{} leaves no entry of the importance matrix", include_.empty() ? "--exclude-weights" : "--include-weights");
  return std::shared_ptr<const transform::Importance>(std::make_shared<transform::Importance>(std::move(all)));
}

Result<transform::QuantizeOptions> QuantizeArgs::read(Context& c) const {
  transform::QuantizeOptions o;
  o.pure = pure_;
  o.allow_requantize = allow_requantize_;
  o.to_allow_it = "or allow it with --allow-requantize";
  o.leave_output = leave_output_;
  if (leave_output_ && !output_type_.empty())
    return usage("--leave-output-tensor and --output-tensor-type exclude each other");
  if (!buffer_.empty()) {
    if (c.args.has("--memory")) return usage("--memory and --max-buffer-size are the same; give one");
    const bool plain = buffer_.find_first_not_of("0123456789") == std::string::npos;
    auto bytes = parse_size(buffer_ + (plain ? "MiB" : ""));
    if (!bytes.ok()) return usage("--max-buffer-size: {}", bytes.error().message);
    c.args.common.memory = *bytes;
  }
  if (!output_type_.empty()) {
    INGOT_ASSIGN(o.output_type, read_element_type("--output-tensor-type", output_type_));
  }
  if (!embedding_type_.empty()) {
    INGOT_ASSIGN(o.token_embedding_type, read_element_type("--token-embedding-type", embedding_type_));
  }
  std::vector<std::string> given = tensor_types_;
  for (const std::string& file : tensor_type_files_) {
    INGOT_ASSIGN(const std::string text, read_text_input(file, c.cancel));
    std::istringstream words(text);
    for (std::string word; words >> word;) given.push_back(word);
  }
  for (const std::string& word : given) {
    INGOT_ASSIGN(auto pattern, tensor_type(word));
    o.tensor_types.push_back(std::move(pattern));
  }
  INGOT_ASSIGN(o.imatrix, importance(c));
  o.to_give_it = "--imatrix FILE";
  o.counts = std::make_shared<transform::CastCounts>();
  o.on_notice = [&c](const std::string& text) { c.report.notice(text); };
  return o;
}

}  // namespace ingot::cli
