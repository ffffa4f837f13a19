#include "checkpoint/candidates.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "checkpoint/contents.h"
#include "checkpoint/manifest.h"
#include "commit/names.h"
#include "formats/dcp_metadata.h"
#include "formats/dcp_shards.h"
#include "formats/deepspeed.h"
#include "formats/hf_weights.h"

namespace ingot::checkpoint {
namespace {

constexpr int kDeep = 6;               // lightning_logs/version_0/checkpoints/x.ckpt/checkpoint/
constexpr size_t kMostDirectories = 20'000, kMostLoose = 1000;
// Directories that a save makes, by what is before the step.
constexpr std::string_view kFamilies[] = {"checkpoint-", "checkpoint_", "ckpt-", "ckpt_", "step-", "step_", "global_step", "epoch-", "epoch_", "iter_", "iter-"};
constexpr std::string_view kWords[] = {"step", "epoch", "iter", "ckpt", "checkpoint"};
// Names that end with a rank's number, not with a step.
constexpr std::string_view kRanks[] = {"rng_state", "random_states", "custom_checkpoint", "model_world_size_", "optim_world_size_", "extra_state_world_size_", "consolidated", "optimizer_0", "sampler", "dl_state_dict"};
// A model's file that belongs to its directory; any other is a checkpoint by itself.
constexpr std::string_view kModels[] = {"model", "pytorch_model", "adapter_model", "model_state", "model_states", "model_state_dict", "model_optim_rng", "weights", "state_dict"};
constexpr std::string_view kEnds[] = {".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".pkl"};

std::string stem_of(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

bool is_one_of(std::string_view name, std::span<const std::string_view> all) { return std::find(all.begin(), all.end(), name) != all.end(); }
bool begins_with_one_of(std::string_view name, std::span<const std::string_view> all) {
  return std::any_of(all.begin(), all.end(), [&](std::string_view b) { return name.starts_with(b); });
}
bool ends_with_one_of(std::string_view name) {
  return std::any_of(std::begin(kEnds), std::end(kEnds), [&](std::string_view e) { return name.ends_with(e); });
}

// Without "-00001-of-00002".
std::string without_shard(const std::string& stem) {
  const size_t of = stem.rfind("-of-");
  const size_t dash = of == std::string::npos || of == 0 ? std::string::npos : stem.rfind('-', of - 1);
  return dash == std::string::npos ? stem : stem.substr(0, dash);
}

std::optional<int64_t> step_in(const std::string& stem) {
  if (const size_t at = stem.find("step="); at != std::string::npos) {
    const size_t end = std::min(stem.find_first_not_of("0123456789", at + 5), stem.size());
    const auto n = step_of(stem.substr(0, end));
    return n ? std::optional(static_cast<int64_t>(*n)) : std::nullopt;
  }
  // "epoch=02-val_loss=0.32" ends with no step.
  if (stem.find('=') != std::string::npos || begins_with_one_of(stem, kRanks) || stem.find("-of-") != std::string::npos || stem.find("_rank_") != std::string::npos) return std::nullopt;
  const auto n = step_of(stem);
  const std::string family(family_of(stem));
  const bool apart = family.ends_with('-') || family.ends_with('_') || is_one_of(family, kWords);  // "float8" is no step
  return n && apart && *n <= INT64_MAX ? std::optional(static_cast<int64_t>(*n)) : std::nullopt;
}

// By a file's name, what it holds.
std::string part_of_file(const std::string& name) {
  if (const auto d = deepspeed_file(name)) return d->optimizer ? "optimizer" : "model";
  const std::string stem = stem_of(name);
  for (const char* state : {"training_state", "trainer_state", "recipe_state", "train_state"})
    if (stem.starts_with(state)) return "step";
  const std::string_view part = part_named(stem);
  return part == "step" || name.ends_with(".ckpt") || name.ends_with(".json") ? "" : std::string(part);
}

bool named_by_step(const std::string& name) {
  if (name.ends_with(".ckpt")) return true;
  const std::string family(family_of(name));
  return step_of(name) && is_one_of(family, kFamilies);
}

// What a framework's own files show to be one checkpoint, with all that lies below it.
bool is_framework(const Probe& p) {
  return is_dcp_shards(p) || p.find(kDcpMetadata) || p.find(".metadata.tmp") || std::any_of(p.entries.begin(), p.entries.end(), [](const Entry& e) {
           return !e.directory && (e.name.ends_with(".distcp") || deepspeed_file(e.name).has_value() || e.name.starts_with("model_world_size_"));
         });
}

class Finder {
 public:
  Finder(Store& store, std::vector<std::string>* notes) : store_(store), notes_(notes) {}

  Status look(const std::string& path, int depth) {
    const auto real = store_.resolve(path);
    if (!seen_.insert(real.ok() ? *real : path).second) return {};
    if (seen_.size() > kMostDirectories) {
      if (!cut_) notes_->push_back(fmt::format("{}: and what comes after: more than {} directories; the rest was not looked at, give one of them", path, kMostDirectories));
      cut_ = true;
      return {};
    }
    Probe p;
    p.path = path, p.directory = true;
    auto entries = store_.list(path);
    if (!entries.ok()) {
      if (depth == 0) return entries.take_error();
      notes_->push_back(entries.take_error().message);
      return {};
    }
    p.entries = std::move(*entries);
    std::sort(p.entries.begin(), p.entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
    const std::string name = file_name(real.ok() ? *real : path);
    if (is_ours(p)) return add_directory(p, name, Candidate::Kind::kOurs);
    if (named_by_step(name) || is_framework(p)) return add_directory(p, name, Candidate::Kind::kDirectory);
    add_loose(p);
    for (const Entry& e : p.entries) {
      if (!e.directory) continue;
      const std::string below = join_path(path, e.name);
      if (e.name[0] == '.') {
        if (const auto t = parse_temporary(e.name); t && t->suffix == ".part" && named_by_step(t->name)) {
          Candidate c{Candidate::Kind::kUnfinished, below, step_in(t->name), {}};
          collect(below, "", 1, &c);
          out.push_back(std::move(c));
        }
        continue;
      }
      const auto there = store_.stat(below);
      if (!there.ok() || !*there || (*there)->link) continue;  // what a link leads to is found under its own name, or is not of this directory
      if (depth + 1 < kDeep) INGOT_TRY(look(below, depth + 1));
    }
    return {};
  }

  std::vector<Candidate> out;

 private:
  bool is_ours(const Probe& p) {
    const auto head_has = [&](const char* file, std::string_view mark) {
      const Entry* e = p.find(file);
      if (!e || e->directory) return false;
      const auto there = store_.stat(join_path(p.path, file));
      if (!there.ok() || !*there || (*there)->kind != Stat::Kind::kFile) return false;
      const auto opened = open_head(store_, join_path(p.path, file));
      return opened.ok() && opened->head.substr(0, 200).find(mark) != std::string::npos;
    };
    return head_has(kManifestFile, R"("ingot":"checkpoint")") || head_has(kStateFile, R"("ingot": "state")") || head_has(kStateFile, R"("ingot":"state")");
  }

  // Another name for a file beside it: a link, or what a copy without links makes of one (Lightning's last.ckpt).
  bool is_hint(const Probe& p, const std::string& name) {
    constexpr uint64_t kMostText = 4096;
    const std::string path = join_path(p.path, name);
    const auto there = store_.stat(path);
    if (!there.ok() || !*there || (*there)->kind != Stat::Kind::kFile) return false;
    if ((*there)->link) {
      const auto to = store_.resolve(path), here = store_.resolve(p.path);
      return to.ok() && here.ok() && parent_path(*to) == *here;
    }
    if (name != "last.ckpt" || (*there)->size > kMostText) return false;
    const auto text = read_text(store_, path, kMostText);
    return text.ok() && p.find(file_name(*text)) && file_name(*text) != name;
  }

  std::optional<CandidateFile> file_at(const std::string& path, const std::string& name) {
    CandidateFile f{name, path, part_of_file(file_name(name)), {}};
    const auto there = store_.stat(path);
    if (!there.ok() || !*there) {
      if (!there.ok()) notes_->push_back(there.error().message);
      return std::nullopt;  // it went away meanwhile
    }
    f.stat = **there;
    return f;
  }

  // All that lies below, links to directories aside.
  void collect(const std::string& directory, const std::string& prefix, int depth, Candidate* c) {
    const auto entries = store_.list(directory);
    if (!entries.ok()) {
      notes_->push_back(entries.error().message);
      return;
    }
    for (const Entry& e : *entries) {
      const std::string path = join_path(directory, e.name), name = prefix + e.name;
      const auto f = file_at(path, name);
      if (!f) continue;
      if (!f->stat.directory()) c->files.push_back(*f);
      else if (!f->stat.link && depth < kDeep) collect(path, name + "/", depth + 1, c);
    }
  }

  Status add_directory(const Probe& p, const std::string& name, Candidate::Kind kind) {
    Candidate c;
    c.kind = kind, c.path = p.path;
    const auto step = name.ends_with(".ckpt") ? step_in(stem_of(name)) : step_of(name) ? std::optional(static_cast<int64_t>(*step_of(name))) : std::nullopt;
    c.step = step;
    collect(p.path, "", 1, &c);
    std::sort(c.files.begin(), c.files.end(), [](const CandidateFile& a, const CandidateFile& b) { return a.name < b.name; });
    const bool likely = std::any_of(c.files.begin(), c.files.end(), [](const CandidateFile& f) { return ends_with_one_of(f.name) || f.name.ends_with(".distcp") || file_name(f.name) == kDcpMetadata; });
    // A directory of that name without anything in it is what a save leaves that was stopped at once.
    if (likely || kind == Candidate::Kind::kOurs || c.files.empty() || std::any_of(p.entries.begin(), p.entries.end(), [](const Entry& e) { return e.name == "trainer_state.json" || e.name == "config.json"; }))
      out.push_back(std::move(c));
    return {};
  }

  // Files of a run's own directory: those of one checkpoint that lies there, those of one step each, and files that are a checkpoint alone.
  void add_loose(const Probe& p) {
    Candidate beside;
    beside.kind = Candidate::Kind::kBeside, beside.path = p.path;
    std::map<int64_t, std::vector<CandidateFile>> steps;
    std::vector<std::pair<std::optional<int64_t>, std::string>> alone;
    std::vector<std::string> sides;
    bool any = false;
    for (const Entry& e : p.entries) {
      if (e.directory || e.name[0] == '.') continue;
      if (e.name.ends_with(".index.json") || e.name == "config.json" || e.name == "adapter_config.json" || e.name == "trainer_state.json") {
        sides.push_back(e.name);
        continue;
      }
      if (!ends_with_one_of(e.name)) continue;
      const std::string stem = stem_of(e.name), part = part_of_file(e.name);
      const auto step = step_in(stem);
      const bool known = !part.empty() || begins_with_one_of(stem, kRanks) || stem.starts_with("training_args");
      if (known && step) {
        if (const auto f = file_at(join_path(p.path, e.name), e.name)) steps[*step].push_back(*f);
      } else if (known && (part != "model" || is_one_of(without_shard(stem), kModels) || begins_with_one_of(stem, kRanks))) {
        if (const auto f = file_at(join_path(p.path, e.name), e.name)) beside.files.push_back(*f), any |= !part.empty();
      } else if (!e.name.ends_with(".bin") && !e.name.ends_with(".pkl")) {
        if (!is_hint(p, e.name)) alone.emplace_back(step, e.name);
      }
    }
    if (any) {
      for (const std::string& s : sides)
        if (const auto f = file_at(join_path(p.path, s), s)) beside.files.push_back(*f);
      out.push_back(std::move(beside));
    }
    for (auto& [step, files] : steps) {
      std::set<std::string> parts;
      for (const auto& f : files) parts.insert(f.part);
      if (parts.size() == files.size()) {
        const auto model = std::find_if(files.begin(), files.end(), [](const CandidateFile& f) { return f.part == "model"; });
        const std::string path = (model == files.end() ? files.front() : *model).path;
        out.push_back({Candidate::Kind::kFile, path, step, files});
      } else {
        for (auto& f : files) out.push_back({Candidate::Kind::kFile, f.path, step, {f}});
      }
    }
    std::stable_sort(alone.begin(), alone.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    if (alone.size() > kMostLoose)
      notes_->push_back(fmt::format("{}: of {} files that may each be a checkpoint the {} of the greatest numbers were looked at", p.path, alone.size(), kMostLoose));
    for (size_t i = 0; i < std::min(alone.size(), kMostLoose); ++i)
      if (auto f = file_at(join_path(p.path, alone[i].second), alone[i].second)) out.push_back({Candidate::Kind::kFile, f->path, alone[i].first, {*f}});
  }

  Store& store_;
  std::vector<std::string>* notes_;
  std::set<std::string> seen_;
  bool cut_ = false;
};

}  // namespace

Result<std::vector<Candidate>> find_candidates(Store& store, const std::string& path, std::vector<std::string>* notes) {
  Finder finder(store, notes);
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there) return std::vector<Candidate>();
  if (!there->directory()) {
    const std::string name = file_name(path);
    finder.out.push_back({Candidate::Kind::kFile, path, step_in(stem_of(name)), {{name, path, part_of_file(name), *there}}});
    return std::move(finder.out);
  }
  INGOT_TRY(finder.look(path, 0));
  return std::move(finder.out);
}

}  // namespace ingot::checkpoint
