#include "checkpoint/keep.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "base/status.h"
#include "commit/small_file.h"

namespace ingot::checkpoint {
namespace {

struct Row {
  const Found* found;
  Decision* decision;
  bool held = false;  // by more than `last`: no limit takes it
  void want(const std::string& why, bool hold) {
    decision->keep = true, held |= hold;
    decision->why += (decision->why.empty() ? "" : "; ") + why;
  }
};

void want_best(std::vector<Row>& rows, const Keep& keep) {
  std::vector<std::pair<double, Row*>> by;
  for (Row& r : rows)
    if (const auto m = r.found->metrics.find(keep.metric); m != r.found->metrics.end() && !std::isnan(m->second)) by.emplace_back(m->second, &r);
  // Of equals the newer one, which comes first.
  std::stable_sort(by.begin(), by.end(), [&](const auto& a, const auto& b) { return keep.greatest ? a.first > b.first : a.first < b.first; });
  for (size_t i = 0; i < by.size() && i < static_cast<size_t>(*keep.best); ++i) by[i].second->want(fmt::format("best {} ({:g})", keep.metric, by[i].first), true);
}

// The oldest of each doubling: it is what the next doubling will want.
void want_exponential(std::vector<Row>& rows) {
  std::map<int, Row*> oldest;
  for (Row& r : rows) {
    const int64_t distance = rows.front().found->step - r.found->step;
    oldest[distance <= 0 ? -1 : static_cast<int>(std::bit_width(static_cast<uint64_t>(distance)))] = &r;
  }
  for (const auto& [doubling, row] : oldest) row->want("exponential spacing", true);
}

}  // namespace

Status check(const Keep& k) {
  if (k.best && k.metric.empty()) return usage("keep: the best {} by what? Give the metric's name", *k.best);
  if ((k.last && *k.last < 1) || (k.best && *k.best < 0) || (k.every_steps && *k.every_steps < 1) || (k.max_age && *k.max_age < 0))
    return usage("keep: last and every_steps are at least 1, best and max_age at least 0");
  return {};
}

std::vector<Decision> decide(const std::vector<Found>& found, const Keep& keep, const Needed& needed, double now) {
  std::vector<Decision> out(found.size());
  std::vector<Row> rows;
  for (size_t i = 0; i < found.size(); ++i) {
    out[i].step = found[i].step;
    if (found[i].state == State::kWhole) rows.push_back({&found[i], &out[i]});
    else out[i].why = std::string(state_name(found[i].state)) + ": left for you to look at";
  }
  if (rows.empty()) return out;
  for (size_t i = 0; i < found.size(); ++i)
    if (const Found& f = found[i]; f.state == State::kTorn && f.writer > 0 && !f.pinned && f.writer < needed.epoch && f.writer < rows.front().found->manifest.epoch)
      out[i].keep = false, out[i].why = "a save of an earlier process that did not end";
  const bool rules = keep.last || keep.best || keep.every_steps || keep.exponential;
  for (Row& r : rows) r.decision->keep = !rules;
  for (size_t i = 0; i < rows.size(); ++i) {
    Row& r = rows[i];
    const int64_t step = r.found->step;
    if (i == 0) r.want("the newest", true);
    else if (keep.last && i < static_cast<size_t>(*keep.last)) r.want(fmt::format("of the last {}", *keep.last), false);
    if (step == needed.resumed_from) r.want("this run resumed from it", true);
    if (r.found->pinned || keep.pinned.contains(step)) r.want("pinned", true);
    if (keep.every_steps && step % *keep.every_steps == 0) r.want(fmt::format("every {} steps", *keep.every_steps), true);
  }
  for (Row& r : rows) {
    if (needed.settle <= 0) break;
    const bool settled = r.found->uploaded.value_or(now - r.found->manifest.time >= needed.settle);
    r.want(settled ? r.found->uploaded ? "the newest that is in the bucket" : "the newest that has had the time to reach the bucket" : "may not have reached the bucket yet", true);
    if (settled) break;
  }
  if (keep.best) want_best(rows, keep);
  if (keep.exponential) want_exponential(rows);
  const auto kept = [&](size_t i) { return out[i].keep && found[i].state == State::kWhole; };
  uint64_t bytes = keep.max_bytes ? disk_bytes(found, kept) : 0;
  for (auto r = rows.rbegin(); r != rows.rend(); ++r) {
    Decision& d = *r->decision;
    const double age = now - r->found->manifest.time;
    const bool old = keep.max_age && age > *keep.max_age, full = keep.max_bytes && bytes > *keep.max_bytes;
    if (d.keep && !r->held && (old || full)) {
      d.keep = false;
      if (keep.max_bytes) bytes = disk_bytes(found, kept);
      d.why = old ? fmt::format("{:.0f} s old, more than {:.0f}", age, *keep.max_age) : fmt::format("all together over {} bytes", *keep.max_bytes);
    } else if (!d.keep && d.why.empty()) {
      d.why = "no rule keeps it";
    } else if (d.keep && d.why.empty()) {
      d.why = "no rule removes it";
    }
  }
  return out;
}

Status prune(Store& store, const std::vector<Found>& found, const std::vector<Decision>& decisions) {
  if (!found.empty()) INGOT_TRY(remove_gone(store, parent_path(found[0].path)));
  for (size_t i = found.size(); i-- > 0;)
    if (!decisions[i].keep) INGOT_TRY(remove_directory(store, found[i].path, kManifestFile, kWriterFile));
  return {};
}

}  // namespace ingot::checkpoint
