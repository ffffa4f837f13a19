// ingot checkpoint: what lies in a directory of training checkpoints, which one to go on from, which to keep.
#include <utility>

#include "base/clock.h"
#include "checkpoint/keep.h"
#include "checkpoint/lease.h"
#include "checkpoint/uploads.h"
#include "cli/checkpoint_args.h"
#include "cli/checkpoint_curve.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/subcommands.h"
#include "cli/text.h"
#include "commit/small_file.h"

namespace ingot::cli {
namespace {

using checkpoint::Found;

constexpr char kDirHelp[] = "where a training run saves; DIR/latest and a checkpoint's own path stand for that one";

// The checkpoint that a command changes: named on the command line, in one way or the other.
Result<const Found*> one_meant(const CheckpointDirectory& d, const std::string& which, const char* command) {
  if (which.empty() && d.named.empty()) return usage("'ingot checkpoint {0}' needs a step, as in: ingot checkpoint {0} {1} latest", command, shell_word(d.at.path));
  return d.pick(which.empty() ? d.named : which);
}

// "800, 1000": steps that have files in common with this one; on the disk they are there once, and damage to them is damage to all.
std::string shares_of(const CheckpointDirectory& d, const Found* f, OrderedJson* steps) {
  std::string s;
  for (const size_t k : checkpoint::sharing(d.all, static_cast<size_t>(f - d.all.data()))) {
    s += fmt::format("{}{}", s.empty() ? "" : ", ", d.all[k].step);
    steps->push_back(d.all[k].step);
  }
  return s;
}

// What of it is in the bucket, where a mount uploads behind one's back: null, true or false, and in words.
std::string uploaded_of(checkpoint::Uploads& uploads, const Found& f, OrderedJson* j, std::string* unknown) {
  const checkpoint::Upload u = uploads.look(f.path, f.manifest.files(), f.manifest.time);
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
  std::string dir, svg;
  c.args.summary("the checkpoints of a directory, newest first");
  c.args.usage("checkpoint ls DIR [--svg FILE]");
  c.args.detail("Where ingot saved none: what Megatron, DeepSpeed, Lightning, torch's distributed checkpoints or a script left.");
  c.args.positional("DIR", &dir, kDirHelp);
  c.args.section("Options");
  c.args.text("--svg", "FILE", &svg, "also draws each metric and the sizes over the steps; a FILE.svg that is there is replaced");
  c.args.example("ingot checkpoint ls run/");
  c.args.example("ingot checkpoint ls run/ --svg run.svg");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (!svg.empty() && extension(svg) != "svg") return usage("--svg '{}': the drawing is an SVG file; give a name that ends with .svg", svg);
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(dir));
  if (d.all.empty()) return svg.empty() ? list_others(c, d, false) : d.none("checkpoint of ingot's, so nothing to draw");
  INGOT_ASSIGN(const auto meant, d.meant());
  OrderedJson j = {{"path", d.at.path}, {"checkpoints", OrderedJson::array()}};
  j["disk_bytes"] = checkpoint::disk_bytes(d.all);
  const bool shared = std::any_of(meant.begin(), meant.end(), [](const Found* f) { return !f->shared.empty(); });
  Table table(shared ? std::vector<std::string>{">step", ">age", ">size", ">unique", "shares with", "state", "~metrics"} : std::vector<std::string>{">step", ">age", ">size", ">unique", "state", "~metrics"});
  std::string notes, unknown;
  const auto uploads = checkpoint::uploads_of(d.at.path);
  for (const Found* f : meant) {
    OrderedJson row = found_json(*f), with = OrderedJson::array();
    const std::string shares = shares_of(d, f, &with);
    row["shares_with"] = with;
    std::string state = state_of(*f);
    if (uploads && f->state == checkpoint::State::kWhole) state += uploaded_of(*uploads, *f, &row, &unknown);
    j["checkpoints"].push_back(row);
    std::vector<std::string> cells = {std::to_string(f->step), age_of(*f), format_bytes(f->bytes), format_bytes(f->unique), state, metrics_shown(f->metrics)};
    if (shared) cells.insert(cells.begin() + 4, shares);
    table.row(cells);
    if (!f->reason.empty()) notes += fmt::format("{}: {}\n", f->step, printable(f->reason));
  }
  if (!unknown.empty()) notes += fmt::format("whether they are uploaded is unknown: {}\n", printable(unknown)), j["upload_unknown"] = unknown;
  if (!svg.empty()) {
    INGOT_ASSIGN(const std::string path, expand_variables(svg));
    INGOT_ASSIGN(const Located to, locate(path));
    INGOT_TRY(check_parents(to.path));
    INGOT_TRY(replace_text(*to.store, to.path, checkpoint_curve(d.at.path, d.all)));
    j["svg"] = to.path;
    notes += fmt::format("{}: drawn\n", printable(to.path));
  }
  return c.report.result(j, table.str(0, stdout_width()) + (notes.empty() ? "" : "\n" + notes));
}

Status show_command(Context& c) {
  std::string dir, which;
  c.args.summary("one checkpoint: its files, hashes and metrics");
  c.args.usage("checkpoint show DIR [STEP]");
  c.args.positional("DIR", &dir, kDirHelp);
  c.args.positional("STEP", &which, "which (latest)", false);
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(dir));
  INGOT_ASSIGN(const Found* f, d.pick(!which.empty() ? which : d.named.empty() ? "latest" : d.named));
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
  c.args.positional("DIR", &dir, kDirHelp);
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
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(dir));
  std::vector<Found> all = d.all;
  if (!d.named.empty() && d.named != "latest") std::erase_if(all, [&](const Found& f) { return file_name(f.path) != d.named; });
  const Found* chosen = best ? best_whole(all, metric, greatest) : newest_whole(all);
  if (chosen) return c.report.result(found_json(*chosen), printable(chosen->path) + "\n");
  if (c.args.has("--or")) return c.report.result({{"path", instead}}, instead + "\n");
  return d.none(best ? fmt::format("whole checkpoint with a metric '{}'", printable(metric)) : "whole checkpoint");
}

Status latest_command(Context& c) { return path_command(c, false); }
Status best_command(Context& c) { return path_command(c, true); }

Status verify_command(Context& c) {
  std::string dir, which;
  c.args.summary("whether checkpoints have the bytes that their manifests tell");
  c.args.usage("checkpoint verify DIR [STEP]");
  c.args.detail("Every file is read and its hash compared. Exit code 3 where one differs. What others saved is read to its end.");
  c.args.positional("DIR", &dir, kDirHelp);
  c.args.positional("STEP", &which, "one of them, or latest; without it all that have a manifest", false);
  c.args.unused(kForModels);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(dir));
  if (d.all.empty() && which.empty()) return list_others(c, d, true);
  INGOT_ASSIGN(auto wanted, d.meant());
  if (!which.empty()) {
    INGOT_ASSIGN(const Found* f, d.pick(which));
    wanted = {f};
  }
  OrderedJson rows = OrderedJson::array();
  std::string text;
  size_t bad = 0, unknown = 0;
  for (const Found* f : wanted) {
    INGOT_TRY(go_on(c));
    OrderedJson row = {{"step", f->step}, {"path", f->path}}, with = OrderedJson::array();
    const std::string shares = shares_of(d, f, &with);
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
  c.args.positional("DIR", &dir, kDirHelp);
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
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(dir));
  if (!d.named.empty()) return usage("'ingot checkpoint prune' weighs the checkpoints of a directory against each other; give it: {}", shell_word(d.at.path));
  for (const std::string& s : steps) {
    INGOT_ASSIGN(const Found* f, d.pick(s));
    keep.pinned.insert(f->step);
  }
  if (!last && !best && !every && !keep.exponential && !keep.max_age && !keep.max_bytes)
    return usage("'ingot checkpoint prune' needs a rule, as in: ingot checkpoint prune {} --last 3", shell_word(dir));
  INGOT_TRY(checkpoint::check(keep));
  if (d.all.empty()) return d.none();
  // What a run that is under way may have resumed from stays.
  checkpoint::Needed needed;
  needed.resumed_from = d.all.front().manifest.parent;
  needed.epoch = checkpoint::read_lease(*d.at.store, d.at.path).epoch;
  std::vector<Found> all = d.all;
  if (const auto uploads = checkpoint::uploads_of(d.at.path)) {
    // Nothing goes while the newest may be on its way.
    needed.settle = checkpoint::kSettle;
    for (Found& f : all) {
      if (f.state != checkpoint::State::kWhole) continue;
      const auto u = uploads->look(f.path, f.manifest.files(), f.manifest.time);
      if (u.state != checkpoint::Upload::State::kUnknown) f.uploaded = u.state == checkpoint::Upload::State::kDone;
      if (f.uploaded.value_or(false)) break;
    }
  }
  const auto decisions = checkpoint::decide(all, keep, needed, unix_time());
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
  c.args.usage("checkpoint annotate DIR/checkpoint-STEP NAME=NUMBER...");
  c.args.positional("DIR", &dir, kDirHelp);
  c.args.positional("STEP", &which, "which, or latest; left out where DIR is a checkpoint itself", false);
  c.args.rest("NAME=NUMBER", &words, "the metrics");
  c.args.example("ingot checkpoint annotate run/ 1200 val_loss=1.25");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (which.find('=') != std::string::npos) words.insert(words.begin(), std::exchange(which, ""));
  checkpoint::Metrics metrics;
  for (const std::string& w : words) {
    const size_t eq = w.find('=');
    char* end = nullptr;
    const double value = eq == std::string::npos ? 0 : std::strtod(w.c_str() + eq + 1, &end);
    if (eq == std::string::npos || eq == 0 || end == w.c_str() + eq + 1 || *end) return usage("'{}' is no metric; give NAME=NUMBER, as in val_loss=1.25", printable(w));
    metrics[w.substr(0, eq)] = value;
  }
  if (metrics.empty()) return usage("'ingot checkpoint annotate' needs a metric, as in: ingot checkpoint annotate {} {}val_loss=1.25", shell_word(dir), which.empty() ? "" : shell_word(which) + " ");
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(dir));
  INGOT_ASSIGN(const Found* f, one_meant(d, which, "annotate"));
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
  c.args.positional("DIR", &dir, kDirHelp);
  c.args.positional("STEP", &which, "which, or latest; left out where DIR is a checkpoint itself", false);
  c.args.section("Options");
  c.args.flag("--off", &off, "pinned no more");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(dir));
  INGOT_ASSIGN(const Found* f, one_meant(d, which, "pin"));
  INGOT_TRY(checkpoint::put_pinned(*d.at.store, *f, !off));
  return c.report.result({{"step", f->step}, {"path", f->path}, {"pinned", !off}}, fmt::format("{} is {}pinned\n", printable(f->path), off ? "no longer " : ""));
}

}  // namespace

Status command_checkpoint(Context& c) {
  const std::vector<Subcommand> all = {{"ls", ls_command},       {"show", show_command},         {"latest", latest_command},     {"best", best_command},
                                       {"verify", verify_command}, {"rescue", checkpoint_rescue_command}, {"prune", prune_command}, {"diff", checkpoint_diff_command},
                                       {"export", checkpoint_export_command}, {"pin", pin_command}, {"annotate", annotate_command}, {"watch", checkpoint_watch_command}};
  return run_subcommand(c, all, [](Args& args) {
    args.usage("checkpoint ls DIR [--svg FILE]");
    args.usage("checkpoint show DIR [STEP]");
    args.usage("checkpoint latest DIR, checkpoint best DIR --metric NAME");
    args.usage("checkpoint verify DIR [STEP], checkpoint rescue DIR");
    args.usage("checkpoint diff DIR STEP STEP, checkpoint diff A B");
    args.usage("checkpoint export DIR OUT [--type T]");
    args.usage("checkpoint watch DIR [--exec CMD]");
    args.usage("checkpoint prune DIR --last N");
    args.usage("checkpoint annotate DIR STEP NAME=NUMBER, checkpoint pin DIR STEP");
    args.detail("'ingot checkpoint ls --help' tells its options, and so do the others. Checkpoints are saved by the Python package: docs/checkpoints.md.");
    args.example("ingot checkpoint ls run/");
    args.unused(kForWriters);
  });
}

}  // namespace ingot::cli
