// The options of llama-quantize.
#include "cli/quantize_args.h"

#include "cli/text.h"
#include "cli/type_names.h"

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
  a.text("--max-buffer-size", "MiB", &buffer_, "as --memory; a number alone counts MiB");
  const char* imatrix = "an importance matrix";
  a.later("--imatrix", true, imatrix);
  a.later("--calibrate", true, "computing an importance matrix from a text");
  a.later("--include-weights", true, imatrix);
  a.later("--exclude-weights", true, imatrix);
  a.later("--tensor-type-file", true, "types from a file");
  a.later("--prune-layers", true, "leaving out layers");
  a.later("--keep-split", false, "writing splits");
  a.later("--override-kv", true, "changing metadata");
  a.later("--effort", true, "choosing between fast and best");
  a.later("--ctx", true, "calibration");
  a.later("--chunks", true, "calibration");
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
  for (const std::string& given : tensor_types_) {
    const size_t at = given.rfind('=');
    if (at == std::string::npos || at == 0 || at + 1 == given.size())
      return usage(
          "--tensor-type '{}': write it as PATTERN=T, like 'attn_v=Q6_K' or 'blk\\.[0-3]\\.ffn_down=Q5_K'",
          given);
    INGOT_ASSIGN(const DType t, read_element_type("--tensor-type", given.substr(at + 1)));
    o.tensor_types.emplace_back(given.substr(0, at), t);
  }
  o.counts = std::make_shared<transform::CastCounts>();
  o.on_notice = [&c](const std::string& text) { c.report.notice(text); };
  return o;
}

}  // namespace ingot::cli
