// ingot verify: reads an output again and compares it with the hash that it was published with.
#include "cli/command.h"
#include "cli/job.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "exec/commit.h"
#include "exec/verify.h"
#include "formats/formats.h"

namespace ingot::cli {

Status command_verify(Context& c) {
  std::string given;
  c.args.usage("verify PATH");
  c.args.detail(
      "PATH is a file or directory that ingot wrote. Every byte is read and its hash compared with the one that was noted when it "
      "was published (in the extended attribute user.ingot.key); the model's structure is checked too. Exit code 0: it is what was "
      "written; 3: it is not.");
  c.args.positional("PATH", &given, "a GGUF file, a safetensors file or a model directory");
  c.args.example("ingot verify model-Q4_K_M.gguf");
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  warn_unused(c, {"--memory", "--dry-run", "--force", "--no-resume", "--seed", "--max-shard-size", "--verify", "--rank-timeout"});
  INGOT_ASSIGN(const Located at, input_path(given));
  Store& store = *at.store;
  const std::string& path = at.path;
  const std::string noted = noted_root(store, path);
  VerifyRun run;
  run.threads = c.args.common.threads > 0 ? static_cast<int>(c.args.common.threads) : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  run.cancel = &c.cancel;
  INGOT_ASSIGN(const TreeHash now, hash_tree(store, path, run));
  if (!noted.empty() && noted != now.root)
    return bad_input("'{}' is not what ingot wrote: its hash is {}, and {} was noted when it was published; something changed it. Make it "
                     "anew with --force, or copy it again", path, now.root, noted);
  if (auto model = open_model(store, path); !model.ok()) return std::move(model.take_error()).during("verifying " + path);
  return c.report.done({{"path", path}, {"bytes", now.bytes}, {"hash", now.root}, {"noted", noted}, {"as_written", !noted.empty()}},
                         noted.empty() ? fmt::format("{}: {}, hash {}; its structure is sound, but no hash was noted with it (it was copied, or the "
                                                     "file system keeps no extended attributes): compare it with the one that the run printed\n",
                                                     printable(path), format_bytes(now.bytes), now.root)
                                       : fmt::format("{}: {}, hash {}: as it was written\n", printable(path), format_bytes(now.bytes), now.root));
}

}  // namespace ingot::cli
