#include "cli/doctor_checkpoints.h"

#include <algorithm>

#include "checkpoint/contents.h"
#include "checkpoint/directory.h"
#include "checkpoint/uploads.h"
#include "cli/output.h"
#include "cli/text.h"
#include "formats/json.h"
#include "storage/probe.h"

namespace ingot::cli {
namespace {

using checkpoint::Found;
using checkpoint::State;

constexpr const char* kRenameDirectory = "rename a directory";

struct Point {
  const char* what;
  std::string outcome;  // "yes", "no", "unknown"
  std::string how;      // it was found out
};

std::string missing_of(const std::vector<std::pair<const char*, bool>>& parts) {
  std::string s;
  for (const auto& [name, there] : parts)
    if (!there) s += (s.empty() ? "" : ", ") + std::string(name);
  return s;
}

// The seven points of the checklist, each with how it was found out.
std::vector<Point> examine(Store& store, const std::string& path, const std::vector<Found>& all, const MountProbe& probe, int threads) {
  std::vector<Point> points;
  const auto newest = std::find_if(all.begin(), all.end(), [](const Found& f) { return f.state == State::kWhole; });
  if (newest == all.end()) return {{"a checkpoint is whole", "no", "none of those here has a manifest and all its files"}};
  const auto text = read_text(store, join_path(newest->path, checkpoint::kStateFile));
  const auto state = text.ok() ? parse_json(*text, checkpoint::kStateFile) : Result<Json>(failed("no state"));
  const Json tree = state.ok() && json_member(*state, "state") ? *json_member(*state, "state") : Json();
  const checkpoint::Contents contents = checkpoint::contents_of(tree);
  const bool rng = contents.contains("rng"), data = contents.contains("data");
  const std::string missing = missing_of({{"weights", std::any_of(newest->manifest.objects.begin(), newest->manifest.objects.end(), [](const auto& o) { return o.name.ends_with(".safetensors"); })},
                                          {"an optimizer", contents.contains("optimizer")}, {"a scheduler", contents.contains("scheduler")}, {"random numbers", rng}});
  points.push_back({"it holds weights, optimizer, scheduler, step and random numbers", missing.empty() ? "yes" : "no", missing.empty() ? fmt::format("read from the state of step {}", newest->step) : fmt::format("the state of step {} lacks {}", newest->step, missing)});
  const Status whole = checkpoint::verify(store, *newest, threads);
  points.push_back({"writes are atomic", whole.ok() ? "yes" : "no", !whole.ok() ? whole.error().message : probe.renames() ? fmt::format("directories are renamed here (tried); step {} read whole, every hash compared", newest->step)
                                                                              : fmt::format("the manifest is closed last, every file by its size and hash; step {} read whole", newest->step)});
  const auto hint = read_text(store, join_path(path, "latest"));
  const bool points_right = hint.ok() && *hint == fmt::format("{}\n", newest->step);
  points.push_back({"'latest' moves only after the write", points_right ? "yes" : hint.ok() ? "no" : "unknown", points_right ? fmt::format("it names step {}, which is whole", newest->step) : hint.ok() ? fmt::format("it says '{}', the newest whole one is step {}; a resume goes by the manifests", printable(hint->substr(0, 20)), newest->step) : "there is none; a resume goes by the manifests"});
  points.push_back({"a resume gives the identical trajectory", rng && data ? "yes" : "no", rng && data ? "random numbers and the place in the data are in the state; examples/train.py shows it to the bit" : fmt::format("the state lacks {}", rng ? "the place in the data (ingot.loader)" : data ? "random numbers (ingot.rng())" : "random numbers (ingot.rng()) and the place in the data (ingot.loader)")});
  const auto resumed = std::find_if(all.begin(), all.end(), [](const Found& f) { return f.manifest.parent.has_value(); });
  points.push_back({"it works after a preemption", resumed == all.end() ? "unknown" : "yes", resumed == all.end() ? "no process here has resumed yet: kill one and start it again" : fmt::format("step {} is of a process that had resumed from step {}", resumed->step, *resumed->manifest.parent)});
  const uint64_t bytes = checkpoint::disk_bytes(all);
  const uint64_t next = newest->bytes;
  const bool room = !probe.free || *probe.free > 2 * next;
  points.push_back({"retention bounds storage", room ? "yes" : "no", fmt::format("{} take {}; {} free, the next takes {}", count_of(all.size(), "checkpoint"), format_bytes(bytes), probe.free ? format_bytes(*probe.free) : "unknown", format_bytes(next))});
  points.push_back({"it loads at another number of GPUs", newest->manifest.world == 1 ? "yes" : "unknown", newest->manifest.world == 1 ? "one process saved it, each tensor whole" : fmt::format("{} processes saved it", newest->manifest.world)});
  return points;
}

}  // namespace

Result<bool> doctor_checkpoints(Context& c, const std::string& given) {
  const auto at = locate(given);
  if (!at.ok()) return false;
  const auto there = at->store->stat(at->path);
  if (!there.ok() || !*there || !(*there)->directory()) return false;
  const auto found = checkpoint::scan(*at->store, at->path);
  const auto entries = at->store->list(at->path);
  if (!found.ok() || !entries.ok()) return false;
  // Those of other software are models, to be looked at one by one.
  if (!entries->empty() && std::none_of(found->begin(), found->end(), [](const Found& f) { return !f.manifest.objects.empty(); })) return false;
  INGOT_ASSIGN(const MountProbe p, probe_directory(at->path));
  const std::pair<const char*, bool> rows[] = {{"append", p.append}, {"write anywhere", p.random_write}, {"rename a file", p.rename_file}, {kRenameDirectory, p.rename_directory}, {"hard links", p.link},
                                               {"exclusive creation", p.exclusive}, {"writes past the cache", p.direct}, {"locks", p.lock}, {"fsync", p.sync}, {"read after write", p.read_after_write}};
  OrderedJson j = {{"path", at->path}, {"kind", "checkpoints"}, {"file_system", p.type}, {"source", p.source}};
  Table table({"", "works"});
  for (const auto& [what, works] : rows) {
    j["probe"][what] = works;
    table.row({what, works ? "yes" : p.bucket() && what == kRenameDirectory ? "not tried: a bucket copies and removes its files one by one" : "no"});
  }
  if (p.free) j["free_bytes"] = *p.free;
  j["protocol"] = p.renames() ? "rename" : "manifest";
  std::string text = fmt::format("{}: {}, on {} ({}){}\n{}checkpoints are written {}\n", printable(at->path), found->empty() ? "empty" : count_of(found->size(), "checkpoint"), p.type, printable(p.source),
                                 p.free ? fmt::format(", {} free", format_bytes(*p.free)) : "", table.str(2), p.renames() ? "under a hidden name, which is renamed" : "under their own names, the manifest last: a bucket renames nothing at once");
  const auto uploads = checkpoint::uploads_of(at->path, p);
  const std::string durable = uploads ? uploads->described() : p.bucket() ? "what is closed is in the bucket" : "what is synced is on the disk";
  j["durable"] = durable;
  text += wrap(printable(durable), stdout_width() ? stdout_width() : 100, 0) + "\n";
  if (!found->empty()) {
    text += "\n";
    bool good = true;
    for (const Point& x : examine(*at->store, at->path, *found, p, static_cast<int>(c.args.common.threads))) {
      j["checklist"].push_back({{"what", x.what}, {"outcome", x.outcome}, {"how", x.how}});
      good = good && x.outcome != "no";
      text += wrap(fmt::format("{:<8}{}: {}", x.outcome, x.what, printable(x.how)), stdout_width() ? stdout_width() : 100, 8) + "\n";
    }
    j["sound"] = good;
  }
  INGOT_TRY(c.report.result(j, text));
  return true;
}

}  // namespace ingot::cli
