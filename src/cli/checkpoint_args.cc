#include "cli/checkpoint_args.h"

#include <algorithm>

#include "base/clock.h"
#include "checkpoint/place.h"
#include "cli/comparison.h"
#include "cli/paths.h"
#include "cli/text.h"

namespace ingot::cli {

using checkpoint::Found;
using checkpoint::State;

namespace {

constexpr char kLatest[] = "latest";

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

Result<CheckpointDirectory> checkpoint_directory(const std::string& given) {
  CheckpointDirectory d;
  INGOT_ASSIGN(const std::string path, expand_variables(given));
  INGOT_ASSIGN(d.at, checkpoint::locate_checkpoints(without_slashes(path)));
  Store& store = *d.at.store;
  INGOT_ASSIGN(const auto there, store.stat(d.at.path));
  const bool directory = there && there->directory();
  if (file_name(d.at.path) == kLatest && (!directory || there->link)) {
    // The hint is a text, or lost; with some software a link.
    d.named = kLatest, d.at.path = parent_path(d.at.path);
  } else if (directory && (is_there(store, join_path(d.at.path, checkpoint::kManifestFile)) || is_there(store, join_path(d.at.path, checkpoint::kStateFile)))) {
    // One may lie outside any directory of checkpoints, under any name.
    INGOT_ASSIGN(Found one, checkpoint::look_at(store, d.at.path));
    INGOT_ASSIGN(const std::string real, store.resolve(d.at.path));
    d.named = file_name(real);
    const std::string own = d.at.path;
    d.at.path = own == "." || own == ".." || own.ends_with("/..") || own.ends_with("/.") ? parent_path(real) : parent_path(own);
    one.path = join_path(d.at.path, d.named);
    INGOT_ASSIGN(d.all, checkpoint::scan(store, d.at.path));
    if (std::none_of(d.all.begin(), d.all.end(), [&](const Found& f) { return f.path == one.path; })) d.all.push_back(std::move(one));
    return d;
  }
  INGOT_ASSIGN(d.all, checkpoint::scan(store, d.at.path));
  return d;
}

Error CheckpointDirectory::none(std::string_view what) const {
  return Error{ErrorKind::kNotFound, fmt::format("there is no {} in {}", what, printable(at.path))};
}

Result<const Found*> CheckpointDirectory::pick(const std::string& which) const {
  for (const Found& f : all)
    if (which == kLatest ? f.state == State::kWhole : std::to_string(f.step) == which || file_name(f.path) == which) return &f;
  return none(which == kLatest ? "whole checkpoint" : fmt::format("checkpoint '{}'", printable(which)));
}

Result<std::vector<const Found*>> CheckpointDirectory::meant() const {
  std::vector<const Found*> out;
  if (!named.empty()) {
    INGOT_ASSIGN(const Found* f, pick(named));
    return std::vector<const Found*>{f};
  }
  for (const Found& f : all) out.push_back(&f);
  return out;
}

const Found* newest_whole(const std::vector<Found>& all) {
  const auto it = std::find_if(all.begin(), all.end(), [](const Found& f) { return f.state == State::kWhole; });
  return it == all.end() ? nullptr : &*it;
}

const Found* best_whole(const std::vector<Found>& all, const std::string& metric, bool greatest) {
  const Found* chosen = nullptr;
  for (const Found& f : all) {
    const auto m = f.metrics.find(metric);
    if (f.state != State::kWhole || m == f.metrics.end() || m->second != m->second) continue;
    if (!chosen || (greatest ? m->second > chosen->metrics.at(metric) : m->second < chosen->metrics.at(metric))) chosen = &f;
  }
  return chosen;
}

std::string metrics_shown(const checkpoint::Metrics& m) {
  std::string s;
  for (const auto& [name, value] : m) s += fmt::format("{}{} {:.6g}", s.empty() ? "" : ", ", printable(name), value);
  return s;
}

OrderedJson metrics_json(const checkpoint::Metrics& m) {
  OrderedJson j = OrderedJson::object();
  for (const auto& [name, value] : m) j[name] = number_json(value);
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

}  // namespace ingot::cli
