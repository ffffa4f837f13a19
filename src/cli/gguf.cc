// ingot gguf: a set of splits made and joined, and metadata edited (gguf_edit.cc).
#include "cli/gguf.h"

#include "cli/job.h"
#include "cli/paths.h"
#include "cli/subcommands.h"
#include "cli/text.h"
#include "formats/formats.h"
#include "formats/outputs.h"

namespace ingot::cli {
namespace {

Result<Artifact> open_gguf_input(Context& c, const std::string& given) {
  INGOT_ASSIGN(const Located at, input_path(given));
  INGOT_ASSIGN(Artifact a, open_told(c, at));
  if (a.format != "gguf") return bad_input("'{}' is {}, expected a GGUF file", at.path, a.format);
  return a;
}

Status write_all(Context& c, std::vector<Output> outputs, const Artifact& in) {
  std::vector<std::string> inputs = {in.path};
  for (const LazyTensor& t : in.tensors)
    if (Origin o = origin_of(*t.node); !o.file.empty() && o.file != inputs.back()) inputs.push_back(std::move(o.file));
  for (const Output& o : outputs) {
    INGOT_ASSIGN([[maybe_unused]] const Located checked, output_path(o.path, file_of("gguf"), inputs));
  }
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, nullptr));
  return report ? c.report.done(report_json(outputs, *report), report_text(outputs, *report)) : Status();
}

Status split_command(Context& c) {
  std::string path, out, size;
  std::vector<std::string> words;
  GgufSplit split;
  int64_t tensors = 0;
  c.args.summary("cuts a GGUF file into a set of smaller ones");
  c.args.usage("gguf split FILE PREFIX [--split-max-size SIZE | --split-max-tensors N]");
  c.args.detail("Writes PREFIX-00001-of-0000N.gguf and so on; the first one has the metadata, and opens as the whole model. Names and rules are llama-gguf-split's: "
                "most bytes of tensors a file by --split-max-size (--max-shard-size), or at most 128 tensors.");
  c.args.positional("FILE|-m,--model", &path, "a GGUF file, or the first of a set, which is cut anew");
  c.args.rest("PREFIX", &words, "the same as --out");
  c.args.section("Options");
  c.args.text("-o,--out", "PREFIX", &out, "the names' beginning (a last .gguf is left out)");
  c.args.integer("--split-max-tensors", "N", &tensors, 1, INT32_MAX, "most tensors in a file");
  c.args.flag("--no-tensor-first-split", &split.bare_first, "the first file has the metadata alone");
  c.args.example("ingot gguf split model.gguf parts/model --split-max-size 2G");
  c.args.unused({"--strict", "--name", "--provenance"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (out.empty() && words.size() == 1) out = words[0], words.clear();
  if (out.empty() || !words.empty()) return usage("'ingot gguf split' needs one PREFIX for the names, as in: ingot gguf split {} PREFIX --split-max-size 2G", shell_word(path));
  split.bytes = c.args.common.max_shard_size;  // --split-max-size is another name of it
  if (split.bytes && tensors) return usage("--split-max-size and --split-max-tensors exclude each other; give one");
  split.tensors = tensors ? static_cast<uint64_t>(tensors) : split.bytes ? 0 : 128;
  split.always = true;
  INGOT_ASSIGN(const Artifact in, open_gguf_input(c, path));
  if (!out.ends_with(".gguf")) out += ".gguf";
  INGOT_ASSIGN(const Located to, output_path(out, file_of("gguf"), {}));
  INGOT_ASSIGN(auto outputs, gguf_splits(in, *to.store, to.path, split));
  return write_all(c, std::move(outputs), in);
}

Status merge_command(Context& c) {
  std::string path, out;
  std::vector<std::string> words;
  c.args.summary("makes one GGUF file of a set of splits");
  c.args.usage("gguf merge FIRST OUT");
  c.args.positional("FIRST|-m,--model", &path, "the first of the set: ...-00001-of-0000N.gguf");
  c.args.rest("OUT", &words, "the same as --out");
  c.args.section("Options");
  c.args.text("-o,--out", "FILE", &out, "the whole model");
  c.args.example("ingot gguf merge model-00001-of-00003.gguf model.gguf");
  c.args.unused({"--strict", "--name", "--provenance", "--max-shard-size"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (out.empty() && words.size() == 1) out = words[0], words.clear();
  if (out.empty() || !words.empty()) return usage("'ingot gguf merge' needs one OUT, as in: ingot gguf merge {} OUT", shell_word(path));
  INGOT_ASSIGN(Artifact in, open_gguf_input(c, path));
  std::erase_if(in.metadata, [](const auto& kv) { return kv.first.starts_with("split."); });
  INGOT_ASSIGN(const Located to, output_path(out, file_of("gguf"), {}));
  std::vector<Output> outputs;
  outputs.push_back(gguf_output(in, *to.store, to.path));
  return write_all(c, std::move(outputs), in);
}

}  // namespace

Status command_gguf(Context& c) {
  return run_subcommand(c, {{"edit", gguf_edit_command}, {"split", split_command}, {"merge", merge_command}}, [](Args& args) {
    args.usage("gguf edit FILE --set KEY=VALUE --delete KEY");
    args.usage("gguf split FILE PREFIX --split-max-size SIZE");
    args.usage("gguf merge FIRST OUT");
    args.detail("'ingot gguf edit --help' tells its options, and so do the others.");
    args.example("ingot gguf edit model.gguf --set 'general.name=My model'");
    args.unused(kForWriters);
  });
}

}  // namespace ingot::cli
