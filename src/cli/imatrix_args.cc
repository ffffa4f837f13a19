#include "cli/imatrix_args.h"

#include "cli/paths.h"
#include "cli/text.h"

namespace ingot::cli {

void ImatrixArgs::declare(Args& a) {
  a.usage("imatrix MODEL [--calibrate TEXT]... [--out FILE]");
  a.usage("imatrix --in-file FILE --in-file FILE --out FILE");
  a.usage("imatrix FILE --stats [--svg PICTURE]");
  a.detail("Runs a text through the model and sums up, for each weight matrix, the squares of each input column: what 'ingot quantize --imatrix' and llama-quantize weigh errors with.");
  a.positional("MODEL|-m,--model,--base", &model, "a GGUF file, a Hugging Face directory, an adapter's (its base is the one that it names), or a name like org/model; or an importance matrix, "
               "to look at or to merge", false);
  a.section("Text");
  a.list("-f,--calibrate|--file", "TEXT", &texts, "a file of text, or of JSON lines; NAME=FILE names a category; 'builtin' (default): the mix that ships with ingot; may be repeated");
  a.integer("-c,--ctx|--ctx-size", "N", &length, 8, 1 << 20, "tokens of a window; each window is a text of its own (default 512)");
  a.integer("--chunks", "N", &chunks, -1, INT32_MAX, "at most so many windows (default: all)");
  a.integer("--chunk|--from-chunk", "N", &skip, 0, INT32_MAX, "leave out the first N windows");
  a.flag("--parse-special", &parse_special, "texts like <|im_start|> become the tokens that they name");
  a.section("Options");
  adapters.declare(a);
  a.text("-o,--out|--output-file,--output", "FILE", &out, "the importance matrix (default MODEL-imatrix.gguf, here)");
  a.text("--output-format", "F", &format, "gguf (default), or dat as older llama.cpp reads it (default for FILE.dat)");
  a.flag("--process-output", &process_output, "the output's matrix too");
  a.text("--arithmetic", "HOW", &how_, "exact (default): only the file counts, the same bytes on every machine; fast: as 'ingot run' multiplies, where the machine has the instructions: activations rounded to int8 with quantized weights, to sixteen bits with floats");
  a.list("--in-file", "FILE", &in_files, "importance matrices whose sums are added (.gguf or .dat); may be repeated; with MODEL and without --calibrate nothing is run");
  a.flag("--stats|--show-statistics", &statistics, "print figures for each tensor, as llama-imatrix defines them");
  a.text("--svg", "FILE", &svg, "draw the mean importance of each kind of tensor over the layers; a FILE.svg that is there is replaced");
  a.example("ingot imatrix model-F16.gguf --calibrate wiki.txt --out imatrix.gguf");
  a.example("ingot imatrix base/ --adapter lora/ --calibrate chat.jsonl --calibrate code=sources.txt --chunks 200");
  a.example("ingot imatrix imatrix.gguf --stats --svg imatrix.svg");
  a.unused({"--seed", "--max-shard-size", "--rank-timeout", "--provenance", "--strict"});
  a.too_many("a text is --calibrate FILE, an output --out FILE");
  a.ignored("--no-ppl");
  a.ignored("--output-frequency|-ofreq", "N");
  a.ignored("--save-frequency", "N");
}

Status ImatrixArgs::check(const Args& args) {
  if (how_ == "fast") arithmetic = Arithmetic::kFast;
  else if (!how_.empty() && how_ != "exact") return usage("--arithmetic takes exact or fast, not '{}'", how_);
  if (!format.empty() && format != "gguf" && format != "dat") return usage("--output-format is gguf or dat, not '{}'", format);
  if (!svg.empty() && extension(svg) != "svg") return usage("--svg '{}': the drawing is an SVG file; give a name that ends with .svg", svg);
  if (model.empty() && !texts.empty()) return usage("'ingot imatrix' needs the model that the text is to run through: ingot imatrix MODEL --calibrate {}", shell_word(texts[0]));
  if (model.empty() && in_files.empty())
    return usage("'ingot imatrix' needs a model to run a text through (ingot imatrix MODEL), or importance matrices to merge (--in-file FILE); see: ingot imatrix --help");
  if (texts.empty())
    for (const char* name : {"--chunks", "--chunk", "--parse-special"})
      if (args.has(name) && !in_files.empty()) return usage("{} is for a text, and none is given: --calibrate FILE", name);
  return {};
}

bool ImatrixArgs::older() const { return format.empty() ? extension(out) == "dat" : format == "dat"; }

}  // namespace ingot::cli
