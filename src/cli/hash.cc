// ingot hash: the exact and the value hash of a model, or of an adapter, and of each of its tensors.
#include "cli/command.h"
#include "cli/job.h"
#include "cli/metadata.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"

namespace ingot::cli {

namespace {

OrderedJson tensors_json(const std::vector<transform::ContentHash::Tensor>& tensors, const ContentHashes& hashes) {
  OrderedJson list = OrderedJson::array();
  for (const auto& t : tensors) {
    list.push_back({{"name", t.name}, {"type", info(t.spec.type).name}, {"shape", shape_json(t.spec.shape)}, {"hash", t.hash(hashes.roots)}});
  }
  return list;
}

}  // namespace

Status command_hash(Context& c) {
  std::string given;
  bool each = false;
  c.args.usage("hash PATH [--tensors]");
  c.args.detail(
      "Two hashes. 'exact' is of the tensors as they lie in the file: names, types, shapes, bytes. 'value' is of the model that they are: under "
      "the names and in the row order of the Hugging Face directory, float types widened to F32; a BF16 model, its BF16 GGUF and its F32 GGUF "
      "have the same. Metadata, tokenizer and other files are in neither. The definition is in docs/formats/hashes.md. A run that was stopped "
      "goes on with the same command.");
  c.args.positional("PATH|-m,--model", &given, "a model file or directory, an adapter, or a name like org/model");
  c.args.section("Options");
  c.args.flag("--tensors", &each, "one line for each tensor too, first as they lie, then as values");
  c.args.example("ingot hash base/");
  c.args.example("ingot hash model.gguf --json | jq -r .value");
  c.args.unused({"--force", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const Located at, input_path(given));
  INGOT_ASSIGN(const Artifact a, open_told(c, at));
  INGOT_ASSIGN(const transform::ContentHash what, transform::content_hash(a));
  INGOT_ASSIGN(const auto hashes, hash_reported(c, what, "hashing"));
  if (!hashes) return {};
  const Totals totals = totals_of(a);
  OrderedJson j = {{"path", at.path}, {"format", a.format}, {"exact", hashes->exact}, {"value", hashes->value}};
  std::string text = fmt::format("{}: {}, {}, {}\nexact  {}\nvalue  {}\n", printable(at.path), a.format,
                                 count_of(totals.tensors, "tensor"), format_bytes(totals.bytes), hashes->exact, hashes->value);
  if (!what.as_it_is.empty()) {
    j["note"] = fmt::format("the value hash is of names and rows as they are here, so that it agrees with no other format's: {}",
                            what.as_it_is);
    text += fmt::format("note: {}\n", printable(j["note"].get<std::string>()));
  }
  Table table({"", "~tensor", "type", "?shape", "hash"});
  for (const auto& [form, tensors] : {std::pair{"exact", &what.exact}, std::pair{"value", &what.value}}) {
    j["tensors"][form] = tensors_json(*tensors, *hashes);
    for (const auto& t : *tensors)
      table.row({form, printable(t.name), std::string(info(t.spec.type).name), to_string(t.spec.shape), t.hash(hashes->roots)});
  }
  return c.report.result(j, each ? text + table.str(0, stdout_width()) : text);
}

}  // namespace ingot::cli
