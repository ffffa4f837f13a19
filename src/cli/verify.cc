// ingot verify: everything of a model is read once; structure, checksums, values and hashes are held against what they should be, and all that is found is told.
#include <algorithm>
#include <set>

#include "cli/command.h"
#include "cli/findings.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "cli/verification.h"
#include "commit/commit.h"
#include "formats/manifest.h"
#include "transform/as_loaded.h"
#include "transform/class_check.h"
#include "transform/gguf_check.h"

namespace ingot::cli {

namespace {

using transform::Looked;

constexpr size_t kShown = 10;        // tensors with NaN or infinity
constexpr size_t kErrorsShown = 50;

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
  const auto inside = [&](const LazyTensor& t) { return origin_of(*t.node).file == a.path; };
  return directory || std::all_of(a.tensors.begin(), a.tensors.end(), inside);
}

// What the hashes say, of the file and of the manifest in it.
struct Verdict {
  std::string text;
  bool as_written = false, done = true;  // done: false where --dry-run, or another process, leaves it at a plan
  OrderedJson manifest;
};

Result<Verdict> check_hashes(Context& c, const Artifact& model, const std::string& noted, const std::string& manifest, bool directory, Verification* v) {
  Verdict out;
  out.as_written = !noted.empty() && noted == v->tree.root;
  const bool changed = !noted.empty() && !out.as_written;
  std::string tensors;  // the verdict on them
  bool other = false;
  if (!manifest.empty() && !(out.as_written && whole_in(model, directory))) {
    const auto told = parse_manifest(manifest, model.path);
    if (told.ok()) {
      INGOT_ASSIGN(const transform::ContentHash what, transform::content_hash(model));
      INGOT_ASSIGN(const auto found, hash_reported(c, what, "verifying"));
      if (!found) {
        out.done = false;
        return out;
      }
      if (const std::string differs = difference(*told, *found); differs.empty()) {
        out.manifest = {{"exact", found->exact}, {"value", found->value}};
        tensors = fmt::format("every tensor is as it was written (exact hash {} in its manifest)", found->exact);
      } else {
        other = true;
        v->errors.push_back({"manifest", fmt::format("'{}' is not what ingot wrote: {}. Something changed it, or made it from another file and kept that one's "
                                                     "manifest: make it anew, or copy it again", model.path, differs)});
      }
    } else if (!changed) {
      v->errors.push_back({"manifest", told.error().message});
    }
  }
  if (changed && !other)
    v->errors.push_back({"hash", fmt::format("'{}' is not what ingot wrote: its hash is {}, and {} was noted when it was published; something changed {}. Make it "
                                             "anew with --force, or copy it again",
                                             model.path, v->tree.root, noted, tensors.empty() ? "it" : "its metadata or other files; " + tensors)});
  if (out.as_written) out.text = fmt::format("{}: as it was written{}", v->tree.root, tensors.empty() ? "" : "; of all its parts " + tensors);
  else if (!tensors.empty()) out.text = tensors + "; metadata and other files have no hash there";
  else if (changed || other) out.text = fmt::format("{}: not what was written", v->tree.root);
  else out.text = fmt::format("{}: no hash was noted with it (another program made it, or it was copied)", v->tree.root);
  return out;
}

// A warning for each tensor with any; with --strict they are errors, all in one.
void tell_nonfinite(bool strict, Verification* v) {
  std::vector<Finding> found;
  for (const auto& t : v->tensors)
    if (t.found.total())
      found.push_back({"nonfinite", fmt::format("{} {} '{}'{} ({} {})", nonfinite_text(t.found.nan, t.found.infinite), t.looked == Looked::kScales ? "among the scales of" : "in", t.names[0],
                                                t.names.size() > 1 ? fmt::format(" (and its {} other names)", t.names.size() - 1) : "", info(t.spec.type).name,
                                                to_string(t.spec.shape)), t.names});
  auto& to = strict ? v->errors : v->warnings;
  to.insert(to.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
}

OrderedJson findings_json(const Verification& v) {
  OrderedJson list = OrderedJson::array();
  for (const auto& [severity, all] : {std::pair{"error", &v.errors}, {"warning", &v.warnings}})
    for (const Finding& f : *all) {
      list.push_back({{"severity", severity}, {"kind", f.kind}, {"message", f.message}});
      if (!f.tensors.empty()) list.back()["tensors"] = f.tensors;
    }
  return list;
}

struct Counts {
  uint64_t values = 0, scales = 0, none = 0, unknown = 0;  // tensors
  std::set<std::string_view> unknown_types;
  transform::Nonfinite found;
  size_t bad = 0;
};
Counts counts_of(const Verification& v) {
  Counts n;
  for (const auto& t : v.tensors) {
    ++(t.looked == Looked::kValues ? n.values : t.looked == Looked::kScales ? n.scales : t.looked == Looked::kNothing ? n.none : n.unknown);
    if (t.looked == Looked::kUnknown) n.unknown_types.insert(info(t.spec.type).name);
    n.found.nan += t.found.nan, n.found.infinite += t.found.infinite, n.bad += t.found.total() != 0;
  }
  return n;
}

OrderedJson json_of(const Artifact& model, const Verification& v, const Counts& n, const std::string& noted, const Verdict& verdict) {
  OrderedJson j = {{"path", model.path}, {"format", model.format}, {"bytes", v.tree.bytes}, {"hash", v.tree.root}, {"noted", noted}, {"as_written", verdict.as_written}};
  if (!verdict.manifest.is_null()) j["manifest"] = verdict.manifest;
  j["sound"] = v.errors.empty();
  j["tensors"] = {{"all", model.tensors.size()}, {"values", n.values}, {"scales", n.scales}, {"integers", n.none}, {"not_looked_into", n.unknown}};
  j["records"] = {{"compared", v.records}, {"without_checksum", v.unsummed}};
  OrderedJson list = OrderedJson::array();
  for (const auto& t : v.tensors)
    if (t.found.total())
      list.push_back({{"tensor", t.names[0]}, {"names", t.names}, {"type", info(t.spec.type).name}, {"of", t.looked == Looked::kScales ? "scales" : "values"},
                      {"nan", t.found.nan}, {"infinite", t.found.infinite}});
  j["nonfinite"] = list;
  j["findings"] = findings_json(v);
  j["read_bytes"] = v.bytes;
  j["seconds"] = v.seconds;
  return j;
}

std::string report_text(const Artifact& model, const Verification& v, const Counts& n, const Verdict& verdict) {
  Table table({"", ""});
  const auto broken = [&](std::initializer_list<std::string_view> kinds) {
    return static_cast<size_t>(std::count_if(v.errors.begin(), v.errors.end(), [&](const Finding& f) { return std::find(kinds.begin(), kinds.end(), f.kind) != kinds.end(); }));
  };
  const size_t structure = broken({"structure", "index", "unreadable"}), sums = broken({"checksum"});
  table.row({"structure", structure ? fmt::format("{} errors", structure) : fmt::format("sound{}", v.indexes ? ", its index and shards too" : "")});
  if (v.records || v.unsummed)
    table.row({"checksums", fmt::format("{} records of archives{}{}", format_count(v.records), sums ? fmt::format(", {} damaged", sums) : v.records ? ", all right" : "",
                                        v.unsummed ? fmt::format("; {} were written without one", format_count(v.unsummed)) : "")});
  std::string values = fmt::format("{} tensors{}", format_count(n.values + n.scales), n.scales ? fmt::format(" ({} by the scales of their blocks)", format_count(n.scales)) : "");
  values += n.bad ? fmt::format(": {} in {} of them", nonfinite_text(n.found.nan, n.found.infinite), format_count(n.bad)) : ": no NaN, no infinity";
  if (n.none) values += fmt::format("; {} of integers", format_count(n.none));
  if (n.unknown) values += fmt::format("; {} not looked into ({})", format_count(n.unknown), fmt::join(n.unknown_types, ", "));
  table.row({"values", values});
  table.row({"hash", verdict.text});
  return fmt::format("{}: {}, {} tensors, {}; {} read in {} ({})\n{}", printable(model.path), model.format, format_count(model.tensors.size()), format_bytes(v.tree.bytes),
                     format_bytes(v.bytes), format_duration(v.seconds), format_rate(static_cast<double>(v.bytes) / std::max(v.seconds, 1e-9)), table.str(2));
}

}  // namespace

Status command_verify(Context& c) {
  std::string given;
  c.args.usage("verify PATH");
  c.args.detail(
      "Every byte is read once. The model's structure and bounds are checked, the CRC-32 of each record of a ZIP archive (torch, npz, DCP), an index against its "
      "shards, and NaN and infinity are counted in every float tensor, by name (of a quantized one in the scales of its blocks). What ingot wrote is compared with "
      "the hash that was noted when it was published (in the extended attribute user.ingot.key). A copy has no such note: then the hashes of its tensors are "
      "compared with those in its manifest, if it was made with --provenance. All that is found is told. Exit code 0: it is good; 3: it is not. NaN and infinity "
      "alone are warnings, with --strict errors.");
  c.args.positional("PATH|-m,--model", &given, "a model, an adapter or a checkpoint: a file or a directory of any format");
  c.args.example("ingot verify model-Q4_K_M.gguf");
  c.args.example("ingot verify checkpoint-500/ --json | jq .findings");
  c.args.unused({"--dry-run", "--force", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--name"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  c.args.common.dry_run = false;
  INGOT_ASSIGN(const Located at, input_path(given));
  const std::string noted = noted_root(*at.store, at.path);
  Faults faults;
  auto opened = open_told(c, at, &faults);
  if (!opened.ok() && noted.empty()) return std::move(opened.take_error()).during("verifying " + at.path);
  Artifact model = opened.ok() ? *std::move(opened) : Artifact();
  if (!opened.ok()) model.path = at.path;
  const std::string manifest = opened.ok() ? take_manifest(&model) : "";
  INGOT_ASSIGN(Verification v, examine(c, at, model, faults));
  if (!opened.ok()) v.errors.push_back({"structure", std::move(opened.take_error()).during("verifying " + at.path).message});
  if (model.naming == "gguf" && beside_a_model(model).empty())
    for (std::string& text : transform::examine_gguf(model).warnings) v.warnings.push_back({"metadata", fmt::format("'{}': {}", model.path, text)});
  if (const auto loaded = transform::as_loaded(model, {}); model.naming == "hf" && loaded.ok())
    if (const auto report = transform::examine_class(*loaded))
      for (const std::string& text : report->errors) v.errors.push_back({"structure", fmt::format("'{}': {}", model.path, text)});
  INGOT_ASSIGN(const Verdict verdict, check_hashes(c, model, noted, manifest, at.store->list(at.path).ok(), &v));
  if (!verdict.done) return {};
  // NaN are what a training left, and no damage: --strict is for whoever ships. Elsewhere --strict makes errors of notices, too.
  tell_nonfinite(c.args.common.strict, &v);
  const Counts n = counts_of(v);
  const OrderedJson j = json_of(model, v, n, noted, verdict);
  size_t shown = 0, held = 0;
  for (const Finding& w : v.warnings) {
    if (std::string_view(w.kind) != "nonfinite" || shown++ < kShown) c.report.warning(w.message);
    else ++held;
  }
  if (held) c.report.warning(fmt::format("and {} more tensors with NaN or infinity (all in --json)", format_count(held)));
  std::string text = report_text(model, v, n, verdict);
  if (v.errors.empty()) return c.report.done(j, text);
  for (size_t i = 0; v.errors.size() > 1 && i < std::min(v.errors.size(), kErrorsShown); ++i) text += fmt::format("error: {}\n", printable(v.errors[i].message));
  if (v.errors.size() > kErrorsShown) text += fmt::format("and {} more (all in --json)\n", format_count(v.errors.size() - kErrorsShown));
  if (c.report.json()) c.report.keep_in_result(j);
  else if (!c.report.quiet()) INGOT_TRY(print(text));
  if (v.errors.size() == 1) return Error{ErrorKind::kBadInput, v.errors[0].message};
  return bad_input("'{}' is not good: {} errors, the first: {}", model.path, v.errors.size(), v.errors[0].message);
}

}  // namespace ingot::cli
