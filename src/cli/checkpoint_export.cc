// ingot checkpoint export: the model of one checkpoint to a Hugging Face directory, to GGUF, or as an adapter: 'convert', 'ship' or 'lora merge' on the checkpoint that
// is meant, once the hashes of what they read have been compared.
#include <algorithm>

#include "base/threads.h"
#include "checkpoint/restore.h"
#include "cli/checkpoint_args.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "commit/verify.h"
#include "formats/formats.h"

namespace ingot::cli {
namespace {

using checkpoint::Found;

struct Asked {
  std::string dir, out, step, metric, type, dtype, base, config_from;
  bool greatest = false;
};

Result<const Found*> meant_checkpoint(const CheckpointDirectory& d, const Asked& a) {
  const std::string which = !a.step.empty() ? a.step : d.named.empty() ? "latest" : d.named;
  if (which == "best") {
    if (a.metric.empty()) return usage("--step best needs the name of a metric, as in: --step best --metric val_loss");
    if (const Found* f = best_whole(d.all, a.metric, a.greatest)) return f;
    return d.none(fmt::format("whole checkpoint with a metric '{}'", printable(a.metric)));
  }
  if (!a.metric.empty()) return usage("--metric changes nothing without --step best");
  if (which == "latest" && !newest_whole(d.all) && !d.all.empty())
    return Error{ErrorKind::kNotFound, fmt::format("there is no checkpoint in {0} that is known to be whole; 'ingot checkpoint rescue {1}' tells what can be taken, --step N takes one that is "
                                                   "unverified", printable(d.at.path), shell_word(d.at.path))};
  return d.pick(which);
}

// What a conversion reads: the tensors of the model, and the small files beside them.
bool is_of_model(const std::string& name) {
  const std::string group = checkpoint::group_of(name);
  return group.empty() ? name != checkpoint::kStateFile : group == "model" || group == "adapter_model";
}

Status verify_model(Context& c, Store& store, const Found& f) {
  VerifyRun run;
  run.threads = thread_count(c.args.common.threads);
  run.cancel = &c.cancel;
  uint64_t bytes = 0;
  const auto view = make_framed_store(store);
  for (const auto& o : f.manifest.objects) {
    if (!is_of_model(o.name)) continue;
    const std::string path = join_path(f.path, o.name);
    INGOT_ASSIGN(const TreeHash found, hash_tree(*view, path, run));
    if (found.bytes != o.bytes || found.root != o.hash)
      return bad_input("exporting {}: its hash is {}, the manifest says {}: its bytes have changed; 'ingot checkpoint rescue {}' tells what can be taken", path, found.root, o.hash,
                       shell_word(parent_path(f.path)));
    bytes += o.bytes;
  }
  c.report.notice(fmt::format("{}: step {}, {} compared with the manifest", f.path, f.step, format_bytes(bytes)));
  return {};
}

// As if typed: the options that every command has go along.
Status run_as(Context& c, Status (*command)(Context&), const char* name, std::vector<std::string> words) {
  static constexpr std::string_view kOwn[] = {"--step", "--metric", "--max", "--type", "--dtype", "--base", "--config-from", "DIR", "OUT"};
  for (const auto& [option, value] : c.args.given()) {
    if (std::find(std::begin(kOwn), std::end(kOwn), option) != std::end(kOwn)) continue;
    words.push_back(option);
    if (!value.empty()) words.push_back(value);
  }
  std::string line = fmt::format("ingot {}", name);
  for (const auto& w : words) line += fmt::format(" {}", shell_word(w));
  c.report.detail(line);
  Args args(name, std::move(words));
  Context as{args, c.report, c.cancel};
  return command(as);
}

}  // namespace

Status checkpoint_export_command(Context& c) {
  Asked a;
  c.args.summary("the model of a checkpoint to a Hugging Face directory or to GGUF");
  c.args.usage("checkpoint export DIR OUT [--step N|latest|best] [--type T]");
  c.args.detail(
      "OUT.gguf is a GGUF file, of --type T or of the type that the weights have; any other OUT is a directory that transformers loads. Before a byte is written the model's files are compared "
      "with the hashes in the manifest. The checkpoint of an adapter (PEFT's files) becomes an adapter's directory, or with --base the model with the adapter folded in.");
  c.args.positional("DIR", &a.dir, "where a training run saves, or one checkpoint");
  c.args.positional("OUT|--out", &a.out, "what is written");
  c.args.section("Options");
  c.args.text("--step", "WHICH", &a.step, "a step, latest (the newest whole one; the default), or best");
  c.args.text("--metric", "NAME", &a.metric, "of --step best: by what; the least is the best");
  c.args.flag("--max", &a.greatest, "of --step best: the greatest is the best");
  c.args.text("--type", "T", &a.type, "of a GGUF file: a type like Q4_K_M ('ingot list types')");
  c.args.text("--dtype", "T", &a.dtype, "of a directory: f32, f16 or bf16 (default: as the weights are)");
  c.args.text("--base", "DIR", &a.base, "of an adapter: the model that it was trained on, to fold it into");
  c.args.text("--config-from", "DIR", &a.config_from, "config.json and tokenizer, where the checkpoint has none");
  c.args.example("ingot checkpoint export run/ model-Q4_K_M.gguf --type Q4_K_M");
  c.args.example("ingot checkpoint export run/ best/ --step best --metric val_loss");
  c.args.example("ingot checkpoint export lora-run/ merged/ --base org/model");
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  const bool gguf = extension(a.out) == "gguf";
  if (!a.type.empty() && !gguf) return usage("--type {} is for GGUF files; '{}' would be a directory: name a .gguf file, or choose its float type by --dtype", a.type, a.out);
  if (!a.dtype.empty() && gguf) return usage("--dtype {} is for directories; the type of a GGUF file is chosen by --type", a.dtype);
  if (a.greatest && a.step != "best") return usage("--max changes nothing without --step best");
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(a.dir));
  if (d.all.empty()) return d.none();
  INGOT_ASSIGN(const Found* f, meant_checkpoint(d, a));
  Store& store = *d.at.store;
  if (f->manifest.objects.empty() && f->state != checkpoint::State::kUnverified) return bad_input("exporting {}: {}", f->path, f->reason);
  if (f->state == checkpoint::State::kUnverified) c.report.warning(fmt::format("{}: unverified: {}", f->path, f->reason));
  else INGOT_TRY(verify_model(c, store, *f));
  INGOT_TRY(go_on(c));
  const bool adapter = is_there(store, join_path(f->path, "adapter_config.json")) && !is_there(store, join_path(f->path, "model.safetensors")) &&
                       !is_there(store, join_path(f->path, "model.safetensors.index.json"));
  const std::string& path = f->path;
  if (adapter) {
    if (!a.config_from.empty()) return usage("--config-from is for checkpoints of whole models; {} holds an adapter, whose base has the configuration: --base DIR", path);
    if (gguf) {
      std::vector<std::string> words = a.base.empty() ? std::vector<std::string>{path} : std::vector<std::string>{a.base, "--adapter", path};
      words.insert(words.end(), {"--out", a.out, "--type", a.type.empty() ? "F16" : a.type});
      return run_as(c, command_ship, "ship", std::move(words));
    }
    std::vector<std::string> words = {path, "--to", "peft", "--out", a.out};
    if (!a.base.empty()) words = {"merge", a.base, "--adapter", path, "--out", a.out};
    if (!a.dtype.empty()) words.insert(words.end(), {"--dtype", a.dtype});
    return a.base.empty() ? run_as(c, command_convert, "convert", std::move(words)) : run_as(c, command_lora, "lora", std::move(words));
  }
  if (!a.base.empty()) return usage("--base is for the checkpoint of an adapter; {} holds a whole model", path);
  if (a.config_from.empty() && !is_there(store, join_path(path, "config.json")))
    return usage("exporting {0}: it has no config.json, without which nothing loads a model (the Checkpointer's model_files=DIR saves it along); give the model's own: ingot checkpoint export {1} {2} "
                 "--config-from DIR", path, shell_word(a.dir), shell_word(a.out));
  std::vector<std::string> words = {path, "--out", a.out};
  if (!a.type.empty()) words.insert(words.end(), {"--type", a.type});
  if (!a.dtype.empty()) words.insert(words.end(), {"--dtype", a.dtype});
  if (!a.config_from.empty()) words.insert(words.end(), {"--config-from", a.config_from});
  if (a.type.empty()) words.emplace_back("--force-copy");  // a checkpoint whose model is what is asked already is exported all the same
  return a.type.empty() ? run_as(c, command_convert, "convert", std::move(words)) : run_as(c, command_ship, "ship", std::move(words));
}

}  // namespace ingot::cli
