// ingot checkpoint rescue: what of the checkpoints in a directory, whoever left them, is whole, and what of the rest can be taken.
#include "checkpoint/rescue.h"

#include <algorithm>

#include "checkpoint/contents.h"
#include "cli/checkpoint_args.h"
#include "cli/output.h"
#include "cli/text.h"

namespace ingot::cli {
namespace {

using checkpoint::Outcome;
using checkpoint::Remains;

// "model, optimizer (torn), step".
std::string parts_text(const Remains& x) {
  std::string s;
  for (const std::string_view part : checkpoint::kParts)
    if (const auto it = x.parts.find(part); it != x.parts.end()) s += fmt::format("{}{}{}", s.empty() ? "" : ", ", part, it->second ? "" : " (torn)");
  return s.empty() ? "nothing that is known" : s;
}

// What can be done with it, and how.
std::string recovery_text(const Remains& x) {
  std::string s;
  for (const auto& r : x.repairs) s += fmt::format("{}another checkpoint has the bytes: cp --remove-destination {} {}", s.empty() ? "" : "; ", shell_word(r.from), shell_word(r.to));
  if (x.resumes()) return x.outcome == Outcome::kWhole ? "resumes fully" : "can be resumed from, as far as anyone can tell";
  if (!x.weights.empty()) return fmt::format("{}{}the weights can be taken: ingot convert {} OUT", s, s.empty() ? "" : "; ", shell_word(x.weights));
  return s.empty() ? x.outcome == Outcome::kTorn ? "nothing can be taken" : "no model is in it" : s;
}

std::string relative(const std::string& path, const std::string& directory) {
  if (path == directory) return ".";
  const std::string head = directory.ends_with("/") ? directory : directory + "/";
  return path.starts_with(head) ? path.substr(head.size()) : path;
}

// A line, broken between words on a terminal. Commands to copy are none.
std::string prose(const std::string& line) { return (stdout_width() ? wrap(line, stdout_width(), 4) : line) + "\n"; }

OrderedJson remains_json(const Remains& x) {
  OrderedJson j = {{"step", x.step ? OrderedJson(*x.step) : OrderedJson()}, {"path", x.path}, {"made_by", x.made_by}, {"outcome", outcome_name(x.outcome)}, {"checked", x.checked},
                   {"bytes", x.bytes}, {"files", x.files}, {"parts", OrderedJson::object()}, {"resumes", x.resumes()}, {"weights", x.weights.empty() ? OrderedJson() : OrderedJson(x.weights)},
                   {"faults", OrderedJson::array()}};
  for (const std::string_view part : checkpoint::kParts)
    if (const auto it = x.parts.find(part); it != x.parts.end()) j["parts"][std::string(part)] = it->second ? "whole" : "torn";
  for (const auto& f : x.faults) j["faults"].push_back({{"path", f.path}, {"what", f.what}, {"part", f.part.empty() ? OrderedJson() : OrderedJson(f.part)}});
  for (const auto& r : x.repairs) j["repairs"].push_back({{"from", r.from}, {"to", r.to}});
  if (!x.notes.empty()) j["notes"] = x.notes;
  j["recovery"] = recovery_text(x);
  if (!x.found.metrics.empty()) j["metrics"] = metrics_json(x.found.metrics);
  return j;
}

// One checkpoint by its own path is looked at alone; DIR/latest is a hint, and all that lies there counts.
std::string searched(const CheckpointDirectory& d) { return d.named.empty() || d.named == "latest" ? d.at.path : join_path(d.at.path, d.named); }

// kNotFound where nobody has left any.
Result<checkpoint::Rescue> look_for_any(Context& c, const CheckpointDirectory& d, bool quick) {
  checkpoint::RescueOptions o;
  o.quick = quick, o.threads = static_cast<int>(c.args.common.threads), o.cancel = &c.cancel;
  o.progress = [&](uint64_t done, uint64_t total) {
    Progress p;
    p.phase = Phase::kVerify, p.done = done, p.total = std::max(done, total);
    c.report.progress(p);
  };
  c.report.begin_progress("reading");
  auto found = checkpoint::rescue(*d.at.store, searched(d), o);
  c.report.end_progress();
  if (!found.ok() || !found->all.empty()) return found;
  for (const std::string& n : found->notes) c.report.notice(n);
  return Error{ErrorKind::kNotFound, fmt::format("there is no checkpoint in {}", printable(searched(d)))};
}

Table table_of(const checkpoint::Rescue& found, const std::string& path) {
  Table table({">step", "~checkpoint", "made by", "state", "=holds"});
  for (const Remains& x : found.all) table.row({x.step ? std::to_string(*x.step) : "?", shown(relative(x.path, path), 60), x.made_by, outcome_name(x.outcome), parts_text(x)});
  return table;
}

}  // namespace

Status list_others(Context& c, const CheckpointDirectory& d, bool whole) {
  INGOT_ASSIGN(const auto found, look_for_any(c, d, !whole));
  OrderedJson rows = OrderedJson::array();
  std::string faults;
  size_t torn = 0;
  for (const Remains& x : found.all) {
    rows.push_back(remains_json(x));
    if (x.outcome != Outcome::kTorn) continue;
    ++torn;
    for (const auto& f : x.faults) faults += prose(printable(f.what));
  }
  const std::string path = searched(d), word = shell_word(path);
  INGOT_TRY(c.report.result({{"path", path}, {"quick", !whole}, {"torn", torn}, {"checkpoints", rows}},
                            table_of(found, path).str(0, stdout_width()) + (faults.empty() ? "" : "\n" + faults) +
                                fmt::format("\nnone was saved by ingot: {}\n", whole ? "they were read to the end, but no hashes tell what they should be"
                                                                                     : fmt::format("by sizes and headers; 'ingot checkpoint rescue {}' reads them to the end", printable(word)))));
  if (torn && whole) return bad_input("{} of {} in {} {} torn; 'ingot checkpoint rescue {}' tells what can be taken all the same", torn, count_of(found.all.size(), "checkpoint"), printable(path), torn == 1 ? "is" : "are", printable(word));
  return {};
}

Status checkpoint_rescue_command(Context& c) {
  std::string dir;
  bool quick = false;
  c.args.summary("what of a directory's checkpoints, whoever made them, can be recovered");
  c.args.usage("checkpoint rescue DIR [--quick]");
  c.args.detail(
      "DIR: what ingot, the transformers Trainer, Lightning, torch's distributed checkpoints, DeepSpeed, accelerate, Megatron or a script with torch.save left, also mixed. Each checkpoint is "
      "whole (every hash is the manifest's), torn, or unverified: read to its end without a fault, but nobody wrote down what it should be. Of the torn ones: which file, where, and what can "
      "be taken all the same. Nothing is changed or deleted. Exit code 0: something can be recovered; 5: nothing.");
  c.args.positional("DIR", &dir, "a directory of checkpoints, or one checkpoint");
  c.args.section("Options");
  c.args.flag("--quick", &quick, "sizes, headers and ends of files alone; without it every byte is read, once");
  c.args.example("ingot checkpoint rescue run/");
  c.args.example("ingot checkpoint rescue lightning_logs/ --json | jq -r .resumable");
  c.args.unused(kForModels);
  c.args.unused({"--dry-run"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(dir));
  const std::string path = searched(d);
  INGOT_ASSIGN(const auto found, look_for_any(c, d, quick));

  size_t counts[3] = {};
  OrderedJson rows = OrderedJson::array();
  Table table = table_of(found, path);
  std::string faults;
  for (const Remains& x : found.all) {
    ++counts[static_cast<int>(x.outcome)];
    rows.push_back(remains_json(x));
    if (x.outcome == Outcome::kTorn || !x.notes.empty()) {
      faults += fmt::format("\n{}\n", printable(x.path));
      for (const auto& f : x.faults) faults += prose("  " + printable(f.what));
      for (const std::string& n : x.notes) faults += prose("  note: " + printable(n));
      faults += fmt::format("  -> {}\n", printable(recovery_text(x)));
    }
  }
  const Remains *best = found.resumable(), *model = found.with_weights();
  OrderedJson j = {{"path", path}, {"quick", quick}, {"whole", counts[0]}, {"unverified", counts[1]}, {"torn", counts[2]}, {"resumable", best ? OrderedJson(best->path) : OrderedJson()},
                   {"weights", model ? OrderedJson(model->weights) : OrderedJson()}, {"checkpoints", rows}, {"shared", OrderedJson::array()}, {"notes", found.notes}};
  std::string text = fmt::format("{}: {}: {} whole, {} unverified, {} torn{}\n\n{}", printable(path), count_of(found.all.size(), "checkpoint"), counts[0], counts[1], counts[2],
                                 quick ? " (by sizes and headers; without --quick every byte is read)" : "", table.str(0, stdout_width()));
  if (counts[1]) text += prose("unverified: read to the end without a fault, but no hashes tell what it should be");
  text += faults;
  if (!found.shared.empty()) text += "\nOne file under several names: if it goes bad, all of these lose it\n";
  for (const auto& s : found.shared) {
    j["shared"].push_back({{"name", s.name}, {"bytes", s.bytes}, {"steps", s.steps}});
    std::vector<std::string> steps;
    for (const int64_t n : s.steps) steps.push_back(std::to_string(n));
    text += fmt::format("  {}, {}: steps {}\n", printable(s.name), format_bytes(s.bytes), join(steps, ", "));
  }
  for (const std::string& n : found.notes) text += "\n" + prose("note: " + printable(n));
  text += best ? fmt::format("\nThe newest that resumes fully{}: {}\n", best->outcome == Outcome::kWhole ? "" : " (unverified)", printable(best->path)) : "\nNone resumes fully.\n";
  if (model && model != best) text += fmt::format("The newest with a model: ingot convert {} OUT\n", printable(shell_word(model->weights)));
  const bool nothing = !best && !model && std::all_of(found.all.begin(), found.all.end(), [](const Remains& x) { return x.outcome == Outcome::kTorn && x.repairs.empty(); });
  if (!nothing) return c.report.result(j, text);
  if (c.report.json()) c.report.keep_in_result(j);
  else INGOT_TRY(print(text));
  return Error{ErrorKind::kNotFound, fmt::format("nothing can be recovered from {}: {}, torn, and no model in {} opens", printable(path), count_of(found.all.size(), "checkpoint"), found.all.size() > 1 ? "them" : "it")};
}

}  // namespace ingot::cli
