// ingot checkpoint: what lies in a directory of training checkpoints, which one to go on from, which to keep.
#include <algorithm>

#include "base/clock.h"
#include "checkpoint/keep.h"
#include "checkpoint/lease.h"
#include "checkpoint/place.h"
#include "checkpoint/uploads.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/subcommands.h"
#include "cli/text.h"
#include "formats/json.h"

namespace ingot::cli {
namespace {

using checkpoint::Found;

// Of those that read whole files, or remove some: --threads and --dry-run are theirs to name.
constexpr std::initializer_list<const char*> kForModels = {"--memory", "--force", "--no-resume", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"};

struct Directory {
  Located at;
  std::vector<Found> all;  // newest first
};

// DIR and what is in it. Not there: kNotFound.
Result<Directory> directory(const std::string& given) {
  Directory d;
  INGOT_ASSIGN(const std::string path, expand_variables(given));
  INGOT_ASSIGN(d.at, checkpoint::locate_checkpoints(path));
  INGOT_ASSIGN(d.all, checkpoint::scan(*d.at.store, d.at.path));
  return d;
}

Error none(const Directory& d, std::string_view what = "checkpoint") {
  return Error{ErrorKind::kNotFound, fmt::format("there is no {} in {}", what, printable(d.at.path))};
}

// By a step, "latest", or its own name.
Result<const Found*> pick(const Directory& d, const std::string& which) {
  for (const Found& f : d.all)
    if (which == "latest" ? f.state == checkpoint::State::kWhole : std::to_string(f.step) == which || file_name(f.path) == which) return &f;
  return none(d, which == "latest" ? "whole checkpoint" : fmt::format("checkpoint '{}'", printable(which)));
}

std::string metrics_shown(const checkpoint::Metrics& m) {
  std::string s;
  for (const auto& [name, value] : m) s += fmt::format("{}{} {:.6g}", s.empty() ? "" : ", ", printable(name), value);
  return s;
}

OrderedJson metrics_json(const checkpoint::Metrics& m) {
  OrderedJson j = OrderedJson::object();
  for (const auto& [name, value] : m) j[name] = value;
  return json_shown(std::move(j));
}

OrderedJson found_json(const Found& f) {
  OrderedJson j = {{"step", f.step}, {"path", f.path}, {"state", state_name(f.state)}, {"bytes", f.bytes}, {"unique_bytes", f.unique}};
  if (!f.reason.empty()) j["reason"] = f.reason;
  if (f.manifest.time > 0) j["time"] = f.manifest.time, j["epoch"] = f.manifest.epoch, j["world"] = f.manifest.world;
  if (!f.manifest.run.empty()) j["run"] = f.manifest.run;
  j["metrics"] = metrics_json(f.metrics);
  j["pinned"] = f.pinned;
  return j;
}

std::string age_of(const Found& f) { return f.manifest.time > 0 ? format_duration(std::max(0.0, unix_time() - f.manifest.time)) : "?"; }
std::string state_of(const Found& f) { return fmt::format("{}{}", state_name(f.state), f.pinned ? ", pinned" : ""); }

// "800, 1000": steps that have files in common with this one; on the disk they are there once, and damage to them is damage to all.
std::string shares_of(const Directory& d, size_t i, OrderedJson* steps = nullptr) {
  std::string s;
  for (const size_t k : checkpoint::sharing(d.all, i)) {
    s += fmt::format("{}{}", s.empty() ? "" : ", ", d.all[k].step);
    if (steps) steps->push_back(d.all[k].step);
  }
  return s;
}

// What of it is in the bucket, where a mount uploads behind one's back: null, true or false, and in words.
std::string uploaded_of(checkpoint::Uploads& uploads, const Found& f, OrderedJson* j, std::string* unknown) {
  std::vector<std::string> files = {checkpoint::kManifestFile};
  for (const auto& o : f.manifest.objects) files.push_back(o.file());
  const checkpoint::Upload u = uploads.look(f.path, files, f.manifest.time);
  using State = checkpoint::Upload::State;
  if (u.state == State::kUnknown) {
    (*j)["uploaded"] = nullptr;
    *unknown = u.how;
    return ", written";
  }
  (*j)["uploaded"] = u.state == State::kDone;
  if (u.state == State::kDone) return ", uploaded";
  return u.pending ? fmt::format(", {} not uploaded", count_of(u.pending, "file")) : ", not uploaded";
}

Status ls_command(Context& c) {
  std::string dir;
  c.args.summary("the checkpoints of a directory, newest first");
  c.args.usage("checkpoint ls DIR");
  c.args.positional("DIR", &dir, "where a training run saves");
  c.args.example("ingot checkpoint ls run/");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const Directory d, directory(dir));
  if (d.all.empty()) return none(d);
  OrderedJson j = {{"path", d.at.path}, {"checkpoints", OrderedJson::array()}};
  j["disk_bytes"] = checkpoint::disk_bytes(d.all);
  const bool shared = std::any_of(d.all.begin(), d.all.end(), [](const Found& f) { return !f.shared.empty(); });
  Table table(shared ? std::vector<std::string>{">step", ">age", ">size", ">unique", "shares with", "state", "~metrics"} : std::vector<std::string>{">step", ">age", ">size", ">unique", "state", "~metrics"});
  std::string notes, unknown;
  const auto uploads = checkpoint::uploads_of(d.at.path);
  for (size_t i = 0; i < d.all.size(); ++i) {
    const Found& f = d.all[i];
    OrderedJson row = found_json(f), with = OrderedJson::array();
    const std::string shares = shares_of(d, i, &with);
    row["shares_with"] = with;
    std::string state = state_of(f);
    if (uploads && f.state == checkpoint::State::kWhole) state += uploaded_of(*uploads, f, &row, &unknown);
    j["checkpoints"].push_back(row);
    std::vector<std::string> cells = {std::to_string(f.step), age_of(f), format_bytes(f.bytes), format_bytes(f.unique), state, metrics_shown(f.metrics)};
    if (shared) cells.insert(cells.begin() + 4, shares);
    table.row(cells);
    if (!f.reason.empty()) notes += fmt::format("{}: {}\n", f.step, printable(f.reason));
  }
  if (!unknown.empty()) notes += fmt::format("whether they are uploaded is unknown: {}\n", printable(unknown)), j["upload_unknown"] = unknown;
  return c.report.result(j, table.str(0, stdout_width()) + (notes.empty() ? "" : "\n" + notes));
}

Status show_command(Context& c) {
  std::string dir, which = "latest";
  c.args.summary("one checkpoint: its files, hashes and metrics");
  c.args.usage("checkpoint show DIR [STEP]");
  c.args.positional("DIR", &dir, "where a training run saves");
  c.args.positional("STEP", &which, "which (latest)", false);
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const Directory d, directory(dir));
  INGOT_ASSIGN(const Found* f, pick(d, which));
  OrderedJson j = found_json(*f);
  std::string text = fmt::format("{}: step {}, {}, {} old, {}\n", printable(f->path), f->step, state_of(*f), age_of(*f), format_bytes(f->bytes));
  if (!f->reason.empty()) text += fmt::format("{}\n", printable(f->reason));
  if (!f->metrics.empty()) text += fmt::format("metrics: {}\n", metrics_shown(f->metrics));
  Table table({"~file", ">size", "hash", "the same as"});
  j["objects"] = OrderedJson::array();
  for (const auto& o : f->manifest.objects) {
    OrderedJson row = {{"name", o.name}, {"bytes", o.bytes}, {"hash", o.hash}};
    if (o.same_as) row["same_as"] = *o.same_as;
    j["objects"].push_back(row);
    table.row({printable(o.name), format_bytes(o.bytes), o.hash, o.same_as ? fmt::format("step {}", *o.same_as) : ""});
  }
  return c.report.result(j, text + (f->manifest.objects.empty() ? "" : table.str(0, stdout_width())));
}

// latest and best: the path alone, for scripts.
Status path_command(Context& c, bool best) {
  std::string dir, instead, metric;
  bool greatest = false;
  c.args.summary(best ? "the path of the checkpoint with the best metric" : "the path of the newest whole checkpoint");
  c.args.usage(best ? "checkpoint best DIR --metric NAME [--max] [--or TEXT]" : "checkpoint latest DIR [--or TEXT]");
  c.args.detail("Prints the path alone, for scripts. Exit code 5 and nothing printed where there is none.");
  c.args.positional("DIR", &dir, "where a training run saves");
  c.args.section("Options");
  if (best) {
    c.args.text("--metric", "NAME", &metric, "by what");
    c.args.flag("--max", &greatest, "the greatest value is the best, not the least");
  }
  c.args.text("--or", "TEXT", &instead, "printed where there is none, with exit code 0: for shell scripts under set -e", true);
  c.args.example(best ? "ingot checkpoint best run/ --metric val_loss" : "python train.py --resume \"$(ingot checkpoint latest run/ --or none)\"");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (best && metric.empty()) return usage("'ingot checkpoint best' needs the name of a metric, as in: ingot checkpoint best {} --metric val_loss", shell_word(dir));
  INGOT_ASSIGN(const Directory d, directory(dir));
  const Found* chosen = nullptr;
  for (const Found& f : d.all) {
    if (f.state != checkpoint::State::kWhole) continue;
    if (!best) {
      chosen = &f;
      break;
    }
    const auto m = f.metrics.find(metric);
    if (m == f.metrics.end() || m->second != m->second) continue;
    if (!chosen || (greatest ? m->second > chosen->metrics.at(metric) : m->second < chosen->metrics.at(metric))) chosen = &f;
  }
  if (chosen) return c.report.result(found_json(*chosen), printable(chosen->path) + "\n");
  if (c.args.has("--or")) return c.report.result({{"path", instead}}, instead + "\n");
  return none(d, best ? fmt::format("whole checkpoint with a metric '{}'", printable(metric)) : "whole checkpoint");
}

Status latest_command(Context& c) { return path_command(c, false); }
Status best_command(Context& c) { return path_command(c, true); }

Status verify_command(Context& c) {
  std::string dir, which;
  c.args.summary("whether checkpoints have the bytes that their manifests tell");
  c.args.usage("checkpoint verify DIR [STEP]");
  c.args.detail("Every file is read and its hash compared. Exit code 3 where one differs.");
  c.args.positional("DIR", &dir, "where a training run saves");
  c.args.positional("STEP", &which, "one of them, or latest; without it all that have a manifest", false);
  c.args.unused(kForModels);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const Directory d, directory(dir));
  if (d.all.empty()) return none(d);
  std::vector<const Found*> wanted;
  if (which.empty()) {
    for (const Found& f : d.all) wanted.push_back(&f);
  } else {
    INGOT_ASSIGN(const Found* f, pick(d, which));
    wanted.push_back(f);
  }
  OrderedJson rows = OrderedJson::array();
  std::string text;
  size_t bad = 0, unknown = 0;
  for (const Found* f : wanted) {
    INGOT_TRY(go_on(c));
    OrderedJson row = {{"step", f->step}, {"path", f->path}}, with = OrderedJson::array();
    const std::string shares = shares_of(d, static_cast<size_t>(f - d.all.data()), &with);
    row["shares_with"] = with;
    if (f->state == checkpoint::State::kUnverified) {
      ++unknown;
      row["outcome"] = "unverified";
      text += fmt::format("{}: unverified: {}\n", f->step, f->reason);
    } else if (Status s = checkpoint::verify(*d.at.store, *f, static_cast<int>(c.args.common.threads)); !s.ok()) {
      ++bad;
      row["outcome"] = "damaged", row["reason"] = s.error().message;
      text += fmt::format("{}: {}\n", f->step, printable(s.error().message));
    } else {
      row["outcome"] = "whole";
      text += fmt::format("{}: whole, {} in {}\n", f->step, format_bytes(f->manifest.bytes()), count_of(f->manifest.objects.size(), "file"));
      if (!shares.empty()) text.insert(text.size() - 1, fmt::format("; shares files with {}: damage to them is damage to all", shares));
    }
    rows.push_back(row);
  }
  INGOT_TRY(c.report.result({{"path", d.at.path}, {"checkpoints", rows}, {"damaged", bad}, {"unverified", unknown}}, text));
  if (bad) return bad_input("{} of {} in {} {} not what was saved; a resume passes {} over", bad, count_of(wanted.size(), "checkpoint"), printable(d.at.path), bad == 1 ? "is" : "are", bad == 1 ? "it" : "them");
  return {};
}

Status prune_command(Context& c) {
  std::string dir;
  int64_t last = 0, best = 0, every = 0;
  checkpoint::Keep keep;
  bool greatest = false;
  double age = 0;
  uint64_t most = 0;
  std::vector<std::string> steps;
  c.args.summary("removes checkpoints that no rule keeps");
  c.args.usage("checkpoint prune DIR --last N [rules] [--dry-run]");
  c.args.detail("What any rule wants is kept, and always the newest one, pinned ones, and whatever is not whole. Tells for each why it stays or goes.");
  c.args.positional("DIR", &dir, "where a training run saves");
  c.args.section("Rules");
  c.args.integer("--last", "N", &last, 1, 1'000'000, "the newest N");
  c.args.integer("--best", "N", &best, 1, 1'000'000, "the best N by --metric");
  c.args.text("--metric", "NAME", &keep.metric, "the metric that --best goes by; the least is the best");
  c.args.flag("--max", &greatest, "the greatest is the best");
  c.args.integer("--every-steps", "N", &every, 1, INT64_MAX, "each whose step is a multiple of N");
  c.args.flag("--exponential", &keep.exponential, "one in each doubling of the distance to the newest");
  c.args.list("--keep", "STEP", &steps, "this one; may repeat");
  c.args.section("Limits, which take the oldest");
  c.args.duration("--max-age", "TIME", &age, "no older than this");
  c.args.size("--max-bytes", "SIZE", &most, "no more than this in all");
  c.args.example("ingot checkpoint prune run/ --last 3 --best 2 --metric val_loss --dry-run");
  c.args.unused(kForModels);
  c.args.unused({"--threads"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (last) keep.last = static_cast<int>(last);
  if (best) keep.best = static_cast<int>(best);
  if (every) keep.every_steps = every;
  if (c.args.has("--max-age")) keep.max_age = age;
  if (c.args.has("--max-bytes")) keep.max_bytes = most;
  keep.greatest = greatest;
  INGOT_ASSIGN(const Directory d, directory(dir));
  for (const std::string& s : steps) {
    INGOT_ASSIGN(const Found* f, pick(d, s));
    keep.pinned.insert(f->step);
  }
  if (!last && !best && !every && !keep.exponential && !keep.max_age && !keep.max_bytes)
    return usage("'ingot checkpoint prune' needs a rule, as in: ingot checkpoint prune {} --last 3", shell_word(dir));
  INGOT_TRY(checkpoint::check(keep));
  if (d.all.empty()) return none(d);
  // What a run that is under way may have resumed from stays.
  checkpoint::Needed needed;
  needed.resumed_from = d.all.front().manifest.parent;
  needed.epoch = checkpoint::read_lease(*d.at.store, d.at.path).epoch;
  const auto decisions = checkpoint::decide(d.all, keep, needed, unix_time());
  const bool dry = c.args.common.dry_run;
  OrderedJson rows = OrderedJson::array();
  Table table({">step", dry ? "would be" : "", ">size", "=why"});
  size_t removed = 0;
  for (size_t i = 0; i < d.all.size(); ++i) {
    const auto& x = decisions[i];
    rows.push_back({{"step", x.step}, {"keep", x.keep}, {"why", x.why}, {"bytes", d.all[i].bytes}});
    table.row({std::to_string(x.step), x.keep ? "kept" : "removed", format_bytes(d.all[i].bytes), printable(x.why)});
    if (!x.keep) ++removed;
  }
  const uint64_t freed = checkpoint::disk_bytes(d.all) - checkpoint::disk_bytes(d.all, [&](size_t i) { return decisions[i].keep; });
  if (!dry) INGOT_TRY(checkpoint::prune(*d.at.store, d.all, decisions));
  return c.report.result({{"path", d.at.path}, {"checkpoints", rows}, {"removed", removed}, {"freed_bytes", freed}, {"dry_run", dry}},
                         table.str(0, stdout_width()) + fmt::format("{} {}, {} freed\n", count_of(removed, "checkpoint"), dry ? "would be removed" : "removed", format_bytes(freed)));
}

Status annotate_command(Context& c) {
  std::string dir, which;
  std::vector<std::string> words;
  c.args.summary("adds metrics to a checkpoint that is there");
  c.args.usage("checkpoint annotate DIR STEP NAME=NUMBER...");
  c.args.positional("DIR", &dir, "where a training run saves");
  c.args.positional("STEP", &which, "which, or latest");
  c.args.rest("NAME=NUMBER", &words, "the metrics");
  c.args.example("ingot checkpoint annotate run/ 1200 val_loss=1.25");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  checkpoint::Metrics metrics;
  for (const std::string& w : words) {
    const size_t eq = w.find('=');
    char* end = nullptr;
    const double value = eq == std::string::npos ? 0 : std::strtod(w.c_str() + eq + 1, &end);
    if (eq == std::string::npos || eq == 0 || end == w.c_str() + eq + 1 || *end) return usage("'{}' is no metric; give NAME=NUMBER, as in val_loss=1.25", printable(w));
    metrics[w.substr(0, eq)] = value;
  }
  if (metrics.empty()) return usage("'ingot checkpoint annotate' needs a metric, as in: ingot checkpoint annotate {} {} val_loss=1.25", shell_word(dir), shell_word(which));
  INGOT_ASSIGN(const Directory d, directory(dir));
  INGOT_ASSIGN(const Found* f, pick(d, which));
  if (f->manifest.objects.empty()) return bad_input("annotating {}: {}", printable(f->path), f->reason);
  INGOT_TRY(checkpoint::put_metrics(*d.at.store, *f, metrics));
  INGOT_ASSIGN(const Found after, checkpoint::look_at(*d.at.store, f->path));
  return c.report.result(found_json(after), fmt::format("{}: {}\n", after.step, metrics_shown(after.metrics)));
}

Status pin_command(Context& c) {
  std::string dir, which;
  bool off = false;
  c.args.summary("keeps a checkpoint whatever the rules say");
  c.args.usage("checkpoint pin DIR STEP [--off]");
  c.args.positional("DIR", &dir, "where a training run saves");
  c.args.positional("STEP", &which, "which, or latest");
  c.args.section("Options");
  c.args.flag("--off", &off, "pinned no more");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const Directory d, directory(dir));
  INGOT_ASSIGN(const Found* f, pick(d, which));
  INGOT_TRY(checkpoint::put_pinned(*d.at.store, *f, !off));
  return c.report.result({{"step", f->step}, {"path", f->path}, {"pinned", !off}}, fmt::format("{} is {}pinned\n", printable(f->path), off ? "no longer " : ""));
}

}  // namespace

Status command_checkpoint(Context& c) {
  const std::vector<Subcommand> all = {{"ls", ls_command}, {"show", show_command}, {"latest", latest_command}, {"best", best_command}, {"verify", verify_command}, {"prune", prune_command},
                                       {"annotate", annotate_command}, {"pin", pin_command}};
  return run_subcommand(c, all, [](Args& args) {
    args.usage("checkpoint ls DIR");
    args.usage("checkpoint show DIR [STEP]");
    args.usage("checkpoint latest DIR, checkpoint best DIR --metric NAME");
    args.usage("checkpoint verify DIR [STEP]");
    args.usage("checkpoint prune DIR --last N");
    args.usage("checkpoint annotate DIR STEP NAME=NUMBER, checkpoint pin DIR STEP");
    args.detail("'ingot checkpoint ls --help' tells its options, and so do the others. Checkpoints are saved by the Python package: docs/checkpoints.md.");
    args.example("ingot checkpoint ls run/");
    args.unused(kForWriters);
  });
}

}  // namespace ingot::cli
