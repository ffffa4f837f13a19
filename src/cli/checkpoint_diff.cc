// ingot checkpoint diff: what changed between two checkpoints: metrics, plain values of the state, tensors by group.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "checkpoint/restore.h"
#include "cli/checkpoint_args.h"
#include "cli/comparison.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "formats/safetensors.h"

namespace ingot::cli {
namespace {

using checkpoint::Found;

// A checkpoint of ours, or whatever else opens as a model or a state.
struct Side {
  Located at;
  std::optional<Found> ours;
};

Result<Side> side_of(const CheckpointDirectory& d, const std::string& which) {
  INGOT_ASSIGN(const Found* f, d.pick(which));
  return Side{{d.at.store, f->path}, f->manifest.objects.empty() ? std::nullopt : std::optional(*f)};
}

Result<Side> side_at(const std::string& given) {
  INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(given));
  if (!d.named.empty()) return side_of(d, d.named);
  if (newest_whole(d.all)) return side_of(d, "latest");
  INGOT_ASSIGN(const Located at, input_path(given));
  return Side{at, std::nullopt};
}

// What is no tensor, by its place in the nest; an array of plain values is one value.
void add_values(const std::string& place, const Json& v, std::map<std::string, std::string>* all) {
  const auto below = [&](const std::string& key) { return place.empty() ? key : place + "." + key; };
  if (v.is_object() && v.size() == 1) {
    const std::string& mark = v.begin().key();
    const Json& inner = v.begin().value();
    if (mark == "$tensor" || mark == "$array") return;
    if (mark == "$dict" || mark == "$odict" || mark == "$counter") {
      for (const Json& pair : inner.is_array() ? inner : Json::array())
        if (pair.is_array() && pair.size() == 2) add_values(below(pair[0].is_string() ? pair[0].get<std::string>() : json_brief(pair[0])), pair[1], all);
      return;
    }
    if (mark == "$tuple" || mark == "$set" || mark == "$frozenset" || mark == "$deque") return add_values(place, inner, all);
  }
  const bool marked = v.is_object() && v.size() == 1 && v.begin().key().starts_with("$");
  if (v.is_object() && !marked) {
    for (const auto& [key, value] : v.items()) add_values(below(key), value, all);
  } else if (v.is_array() && std::any_of(v.begin(), v.end(), [](const Json& x) { return x.is_structured(); })) {
    for (size_t i = 0; i < v.size(); ++i) add_values(below(std::to_string(i)), v[i], all);
  } else {
    (*all)[place] = v.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
}

Result<std::map<std::string, std::string>> values_of(Store& store, const Found& f) {
  std::map<std::string, std::string> all;
  INGOT_ASSIGN(const std::string text, checkpoint::read_object(store, f, checkpoint::kStateFile));
  INGOT_ASSIGN(const Json j, parse_json(text, "reading " + join_path(f.path, checkpoint::kStateFile)));
  if (const Json* state = json_member(j, "state")) add_values("", *state, &all);
  return all;
}

// Those of one file have one hash: where the other side has a file with it, they are not read.
struct OneTensor {
  std::string group, hash;
  LazyTensor tensor;
};
using Tensors = std::map<std::string, OneTensor>;  // "optimizer/state.0.exp_avg"
Result<Tensors> read_tensors(Store& store, const Found& f) {
  Tensors all;
  const auto view = make_framed_store(store);
  for (const auto& o : f.manifest.objects) {
    if (!o.name.ends_with(".safetensors")) continue;
    INGOT_ASSIGN(SafetensorsFile file, read_safetensors(*view, join_path(f.path, o.name)));
    const std::string group = checkpoint::group_of(o.name);
    for (LazyTensor& t : file.tensors) {
      const std::string name = group + "/" + t.name;
      all.insert_or_assign(name, OneTensor{group, o.hash, {name, t.node}});
    }
  }
  return all;
}

struct GroupTotals {
  size_t unchanged = 0, changed = 0, shapes = 0, only_a = 0, only_b = 0;
  double squared_error = 0, squares_b = 0, max = 0;
  double relative() const { return squares_b > 0 ? std::sqrt(squared_error / squares_b) : squared_error > 0 ? INFINITY : 0; }
};

struct Changed {
  std::string what;
  std::string a, b;  // as JSON; empty: it is not there
};
std::vector<Changed> changed(const std::map<std::string, std::string>& a, const std::map<std::string, std::string>& b) {
  std::set<std::string> names;
  for (const auto* side : {&a, &b})
    for (const auto& [name, value] : *side) names.insert(name);
  std::vector<Changed> out;
  const auto at = [](const auto& all, const std::string& n) { return all.contains(n) ? all.at(n) : std::string(); };
  for (const std::string& n : names)
    if (at(a, n) != at(b, n)) out.push_back({n, at(a, n), at(b, n)});
  return out;
}

OrderedJson as_json(const std::string& text) {
  if (text.empty()) return {};
  auto j = parse_json_ordered(text, "");
  return j.ok() ? json_shown(std::move(*j)) : OrderedJson(text);
}

OrderedJson changed_json(const std::vector<Changed>& all) {
  OrderedJson j = OrderedJson::object();
  for (const Changed& x : all) j[x.what] = {{"a", as_json(x.a)}, {"b", as_json(x.b)}};
  return j;
}

std::string changed_text(const char* title, const std::vector<Changed>& all, size_t most) {
  if (all.empty()) return "";
  Table t({fmt::format("~{} ({})", title, all.size()), "~A", "~B"});
  for (size_t i = 0; i < std::min(all.size(), most); ++i) t.row({shown(all[i].what, 60), all[i].a.empty() ? "-" : shown(all[i].a, 30), all[i].b.empty() ? "-" : shown(all[i].b, 30)});
  return "\n" + t.str(0, stdout_width()) + (all.size() > most ? fmt::format("and {} more (--all)\n", all.size() - most) : "");
}

std::map<std::string, std::string> metric_texts(const checkpoint::Metrics& m) {
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : m) out[name] = std::isfinite(value) ? fmt::format("{}", value) : fmt::format("\"{}\"", value);
  return out;
}

struct Differences {
  std::vector<Changed> metrics, values;
  std::map<std::string, GroupTotals> groups;
  Comparison found;
};

Result<Differences> compare_ours(Context& c, const Side& a, const Side& b) {
  Differences r;
  r.metrics = changed(metric_texts(a.ours->metrics), metric_texts(b.ours->metrics));
  INGOT_ASSIGN(const auto values_a, values_of(*a.at.store, *a.ours));
  INGOT_ASSIGN(const auto values_b, values_of(*b.at.store, *b.ours));
  r.values = changed(values_a, values_b);
  INGOT_ASSIGN(const Tensors in_a, read_tensors(*a.at.store, *a.ours));
  INGOT_ASSIGN(const Tensors in_b, read_tensors(*b.at.store, *b.ours));
  Artifact x, y;
  x.path = a.at.path, y.path = b.at.path, x.format = y.format = "safetensors";
  x.naming = y.naming = "checkpoint";  // names are as they are: there is no other form of a state
  std::vector<LazyTensor> read_a, read_b;
  for (const auto& [name, t] : in_a) {
    const auto other = in_b.find(name);
    if (other != in_b.end() && other->second.hash == t.hash && other->second.tensor.spec() == t.tensor.spec()) ++r.groups[t.group].unchanged;
    else read_a.push_back(t.tensor);
  }
  for (const auto& [name, t] : in_b) {
    const auto other = in_a.find(name);
    if (other == in_a.end() || other->second.hash != t.hash || other->second.tensor.spec() != t.tensor.spec()) read_b.push_back(t.tensor);
  }
  x.tensors = std::move(read_a), y.tensors = std::move(read_b);
  INGOT_ASSIGN(r.found, compare(c, std::move(x), std::move(y)));
  const auto group = [](const std::string& name) { return name.substr(0, name.find('/')); };
  for (const Compared& p : r.found.pairs) {
    GroupTotals& g = r.groups[group(p.name)];
    if (verdict(p) != Verdict::kDifferent) {
      ++g.unchanged;
      continue;
    }
    ++g.changed;
    g.squared_error += p.d.squared_error, g.squares_b += p.d.squares_b, g.max = std::max(g.max, p.d.max_error);
  }
  for (const auto& [name, text] : r.found.shapes) ++r.groups[group(name)].shapes;
  for (const auto& n : r.found.only_a) ++r.groups[group(n)].only_a;
  for (const auto& n : r.found.only_b) ++r.groups[group(n)].only_b;
  return r;
}

OrderedJson side_json(const Side& s) {
  OrderedJson j = {{"path", s.at.path}};
  if (s.ours) j["step"] = s.ours->step, j["state"] = state_name(s.ours->state);
  return j;
}

}  // namespace

Status checkpoint_diff_command(Context& c) {
  std::string given_a, given_b, given_c;
  bool all = false, exit_code = false;
  c.args.summary("what changed between two checkpoints");
  c.args.usage("checkpoint diff A B");
  c.args.usage("checkpoint diff DIR STEP STEP");
  c.args.detail(
      "Metrics, the plain values of the state by their places (step, lr, epoch), and tensors by group: unchanged, changed (by how much, as 'ingot diff' tells), of one side only. What has the "
      "same hash in both is not read. Checkpoints of other software are compared as 'ingot diff' does.");
  c.args.positional("A", &given_a, "a checkpoint, or a directory of them: its newest whole one");
  c.args.positional("B", &given_b, "the other one, which A is measured by; or a step of A");
  c.args.positional("STEP", &given_c, "the other step of A", false);
  c.args.section("Options");
  c.args.flag("--all", &all, "a line for each value and tensor that differs, not only for the first, and those of the greatest error");
  c.args.flag("--exit-code", &exit_code, "exit code 1 where anything differs, as diff and git have it");
  c.args.example("ingot checkpoint diff run/ 1000 1200");
  c.args.example("ingot checkpoint diff a/checkpoint-500 b/latest --exit-code");
  c.args.unused({"--dry-run", "--force", "--no-resume", "--seed", "--max-shard-size", "--verify", "--rank-timeout", "--provenance", "--strict", "--name"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  Side a, b;
  if (given_c.empty()) {
    INGOT_ASSIGN(a, side_at(given_a));
    INGOT_ASSIGN(b, side_at(given_b));
  } else {
    INGOT_ASSIGN(const CheckpointDirectory d, checkpoint_directory(given_a));
    INGOT_ASSIGN(a, side_of(d, given_b));
    INGOT_ASSIGN(b, side_of(d, given_c));
  }
  const size_t most = all ? SIZE_MAX : kComparedShown;
  Differences r;
  if (a.ours && b.ours) {
    INGOT_ASSIGN(r, compare_ours(c, a, b));
  } else {
    INGOT_ASSIGN(Artifact x, open_told(c, a.at));
    INGOT_ASSIGN(Artifact y, open_told(c, b.at));
    INGOT_ASSIGN(r.found, compare(c, std::move(x), std::move(y)));
  }
  OrderedJson j = {{"a", side_json(a)}, {"b", side_json(b)}, {"metrics", changed_json(r.metrics)}, {"values", changed_json(r.values)}, {"groups", OrderedJson::object()}};
  add_comparison(r.found, &j);
  Table sides({"", "~", ""});
  for (const auto& [side, x] : {std::pair{"A", &a}, {"B", &b}}) sides.row({side, printable(x->at.path), x->ours ? fmt::format("step {}, {}", x->ours->step, state_of(*x->ours)) : "no manifest"});
  std::string text = sides.str(0, stdout_width());
  if (!r.groups.empty()) {
    Table groups({"~group", ">unchanged", ">changed", ">only A", ">only B", ">|A-B|/|B|", ">max |A-B|"});
    for (const auto& [name, g] : r.groups) {
      groups.row({shown(name, 40), format_count(g.unchanged), format_count(g.changed + g.shapes), format_count(g.only_a), format_count(g.only_b), g.changed ? fmt::format("{:.3g}", g.relative()) : "", g.changed ? fmt::format("{:.3g}", g.max) : ""});
      j["groups"][name] = {{"unchanged", g.unchanged}, {"changed", g.changed}, {"of_another_shape", g.shapes}, {"only_a", g.only_a}, {"only_b", g.only_b}, {"relative", number_json(g.relative())}, {"max_error", number_json(g.max)}};
    }
    text += "\n" + groups.str(0, stdout_width());
  } else if (a.ours && b.ours) {
    text += "\nno tensors on either side\n";
  } else {
    const auto counts = r.found.counts();
    text += fmt::format("\nsame bytes   {}\nsame values  {}\ndifferent    {}\n", format_count(counts[0]), format_count(counts[1]), format_count(counts[2]));
  }
  text += changed_text("metric", r.metrics, most) + changed_text("value", r.values, most) + differences_text(r.found, most) + list_text("beside the tensors", r.found.beside, most);
  const bool same = r.found.same_tensors() && r.metrics.empty() && r.values.empty() && r.found.beside.empty();
  if (same) text += "\nnothing differs\n";
  j["same"] = same;
  INGOT_TRY(c.report.result(j, text));
  if (exit_code && !same) return failed("the two differ (--exit-code)");
  return {};
}

}  // namespace ingot::cli
