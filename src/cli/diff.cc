// ingot diff: what differs between two models, whatever format each is in: tensors, shapes, types, values, metadata, configuration.
#include "cli/command.h"
#include "cli/comparison.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"

namespace ingot::cli {

Status command_diff(Context& c) {
  std::string given_a, given_b;
  bool all = false, exit_code = false;
  c.args.usage("diff A B [--all] [--exit-code]");
  c.args.detail(
      "Tensors that only one has, of other shapes, types or values; of values the greatest and the mean error, the error relative to B (|A-B| / |B|) and the "
      "cosine. Of a Hugging Face model and a GGUF file the names and rows are brought into one form first. Configuration, metadata and small files are compared "
      "too. Both are read once, within --memory.");
  c.args.positional("A", &given_a, "a model file or directory, an adapter, a checkpoint, or a name like org/model");
  c.args.positional("B", &given_b, "the other one, which A is measured by");
  c.args.section("Options");
  c.args.flag("--all", &all, "a line for each tensor that differs, not only for those of the greatest error");
  c.args.flag("--exit-code", &exit_code, "exit code 1 where anything differs, as diff and git have it");
  c.args.example("ingot diff base/ merged/");
  c.args.example("ingot diff model-Q4_K_M.gguf base/ --all");
  c.args.example("ingot diff a.pt b.safetensors --json | jq .tensors[0]");
  c.args.unused({"--dry-run", "--force", "--no-resume", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const Located at_a, input_path(given_a));
  INGOT_ASSIGN(const Located at_b, input_path(given_b));
  INGOT_ASSIGN(const Artifact a, open_told(c, at_a));
  INGOT_ASSIGN(const Artifact b, open_told(c, at_b));
  INGOT_ASSIGN(const Comparison found, compare(c, a, b));

  OrderedJson j = {{"a", {{"path", a.path}, {"format", a.format}, {"tensors", a.tensors.size()}}},
                   {"b", {{"path", b.path}, {"format", b.format}, {"tensors", b.tensors.size()}}}};
  add_comparison(found, &j);

  std::string text;
  const int width = stdout_width();
  Table sides({"", "~", ""});
  for (const auto& [side, x] : {std::pair{"A", &a}, {"B", &b}}) sides.row({side, printable(x->path), fmt::format("{}, {}", x->format, count_of(x->tensors.size(), "tensor"))});
  text += sides.str(0, width);
  if (!found.under.empty()) text += fmt::format("{}\n", width ? wrap(printable(found.under), width, 0) : printable(found.under));
  const auto counts = found.counts();
  text += fmt::format("\nsame bytes   {}\nsame values  {}\ndifferent    {}\n", format_count(counts[0]), format_count(counts[1]), format_count(counts[2]));
  const size_t most = all ? SIZE_MAX : kComparedShown;
  text += differences_text(found, most) + list_text("beside the tensors", found.beside, most);
  INGOT_TRY(c.report.result(j, text));
  if (exit_code && (!found.same_tensors() || !found.beside.empty())) return failed("the two differ (--exit-code)");
  return {};
}

}  // namespace ingot::cli
