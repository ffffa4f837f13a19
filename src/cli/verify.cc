// ingot verify: reads an output again and compares it with the hash that it was published with, or with those in its manifest.
#include <algorithm>

#include "base/threads.h"
#include "cli/command.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "commit/commit.h"
#include "commit/names.h"
#include "commit/verify.h"
#include "formats/manifest.h"

namespace ingot::cli {

namespace {

// What of the tensors is not as the manifest says; empty where all is.
std::string difference(const Manifest& told, const ContentHashes& found) {
  const bool exact = found.exact == told.content.exact, value = found.value == told.content.value;
  if (exact && value) return "";
  const std::string exacts = fmt::format("exact hash {}, written {}", found.exact, told.content.exact),
                    values = fmt::format("value hash {}, written {}", found.value, told.content.value);
  if (exact) return fmt::format("its tensors are those that were written, but its metadata makes another model of them ({})", values);
  if (value) return fmt::format("its tensors hold the values that were written, but have other names, types or orders of rows ({})", exacts);
  return fmt::format("its tensors are not those that were written ({}; {}); 'ingot hash --tensors' here and of a good copy tells which",
                     exacts, values);
}

// Whether all of the model lies in the file or directory that was given; of a set of splits it does not.
bool whole_in(const Artifact& a, bool directory) {
  const auto inside = [&](const LazyTensor& t) { return origin_of(*t.node, {}).file == a.path; };
  return directory || std::all_of(a.tensors.begin(), a.tensors.end(), inside);
}

Result<TreeHash> hash_all(Context& c, const Located& at) {
  VerifyRun run;
  run.threads = thread_count(c.args.common.threads);
  run.cancel = &c.cancel;
  return hash_tree(*at.store, at.path, run);
}

// The hashes of the model's tensors, which are those in its manifest; kBadInput where they are not.
Result<std::optional<ContentHashes>> check_tensors(Context& c, const Artifact& model, const Manifest& told) {
  INGOT_ASSIGN(const transform::ContentHash what, transform::content_hash(model));
  INGOT_ASSIGN(auto found, hash_reported(c, what, "verifying"));
  if (const std::string other = found ? difference(told, *found) : ""; !other.empty())
    return bad_input("'{}' is not what ingot wrote: {}. Something changed it, or made it from another file and kept that one's manifest: "
                     "make it anew, or copy it again", model.path, other);
  return found;
}

}  // namespace

Status command_verify(Context& c) {
  std::string given;
  c.args.usage("verify PATH");
  c.args.detail(
      "PATH is a file or directory that ingot wrote. Every byte is read and its hash compared with the one that was noted when it "
      "was published (in the extended attribute user.ingot.key). A copy has no such note: then the hashes of its tensors are compared with "
      "those in its manifest, if it was made with --provenance; metadata and other files have none there. The model's structure is checked "
      "too. Exit code 0: it is what was written; 3: it is not.");
  c.args.positional("PATH|-m,--model", &given, "a GGUF file, a safetensors file or a model directory");
  c.args.example("ingot verify model-Q4_K_M.gguf");
  c.args.unused({"--dry-run", "--force", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  c.args.common.dry_run = false;
  INGOT_ASSIGN(const Located at, input_path(given));
  Store& store = *at.store;
  const std::string& path = at.path;
  const std::string noted = noted_root(store, path);
  auto model = open_told(c, at);
  if (!model.ok() && noted.empty()) return std::move(model.take_error()).during("verifying " + path);
  const std::string text = model.ok() ? take_manifest(&*model) : "";
  TreeHash now;
  if (noted.empty() && !text.empty()) {
    now.bytes = tree_bytes(store, path);
  } else {
    INGOT_ASSIGN(now, hash_all(c, at));
  }
  const bool as_written = !noted.empty() && noted == now.root, changed = !noted.empty() && !as_written;
  OrderedJson j = {{"path", path}, {"bytes", now.bytes}, {"hash", now.root}, {"noted", noted}, {"as_written", as_written}};
  std::string verdict;  // of the tensors
  if (!text.empty() && !(as_written && whole_in(*model, store.list(path).ok()))) {
    const auto told = parse_manifest(text, path);
    if (told.ok()) {
      INGOT_ASSIGN(const auto found, check_tensors(c, *model, *told));
      if (!found) return {};
      j["manifest"] = {{"exact", found->exact}, {"value", found->value}};
      verdict = fmt::format("every tensor is as it was written (exact hash {} in its manifest)", found->exact);
    } else if (!changed) {
      return told.error();
    }
  }
  if (changed)
    return bad_input("'{}' is not what ingot wrote: its hash is {}, and {} was noted when it was published; something changed {}. Make it "
                     "anew with --force, or copy it again",
                     path, now.root, noted, verdict.empty() ? "it" : "its metadata or other files; " + verdict);
  if (!model.ok()) return std::move(model.take_error()).during("verifying " + path);
  const std::string size = fmt::format("{}: {}", printable(path), format_bytes(now.bytes));
  if (as_written) verdict = fmt::format("hash {}: as it was written{}", now.root, verdict.empty() ? "" : "; of all its parts " + verdict);
  else if (!verdict.empty()) verdict += "; metadata and other files have no hash there, but its structure is sound";
  else
    verdict = fmt::format("hash {}; its structure is sound, but no hash was noted with it (it was copied, or the file system keeps no extended "
                          "attributes): compare it with the one that the run printed", now.root);
  return c.report.done(j, fmt::format("{}, {}\n", size, verdict));
}

}  // namespace ingot::cli
