#include "checkpoint/rescue.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <tuple>

#include "base/threads.h"
#include "checkpoint/candidates.h"
#include "checkpoint/contents.h"
#include "checkpoint/file_check.h"
#include "checkpoint/restore.h"
#include "commit/verify.h"
#include "formats/checkpoints_in.h"
#include "formats/dcp_metadata.h"
#include "formats/deepspeed.h"
#include "formats/index_check.h"
#include "formats/training_beside.h"
#include "transform/model_state.h"

namespace ingot::checkpoint {
namespace {

std::string files_text(uint64_t n) { return fmt::format("{} file{}", n, n == 1 ? "" : "s"); }

class Rescuer {
 public:
  Rescuer(Store& store, const RescueOptions& options) : store_(store), o_(options) {
    run_.threads = thread_count(options.threads);
    run_.cancel = options.cancel;
    run_.progress = [this](uint64_t bytes, const std::string&) {
      done_ += bytes;
      if (o_.progress) o_.progress(done_, total_);
    };
  }

  Result<Rescue> all(const std::string& path) {
    INGOT_ASSIGN(const auto candidates, find_candidates(store_, path, &r_.notes));
    for (const Candidate& c : candidates)
      for (const CandidateFile& f : c.files) total_ += f.stat.size;
    for (const Candidate& c : candidates) {
      if (o_.cancel && o_.cancel->cancelled()) return interrupted();
      Remains x;
      x.path = c.path, x.step = c.step;
      for (const CandidateFile& f : c.files) x.bytes += f.stat.size, ++x.files;
      INGOT_TRY(c.kind == Candidate::Kind::kOurs ? examine_ours(c, &x) : examine(c, &x));
      r_.all.push_back(std::move(x));
    }
    const auto age = [](const Remains& x) { return std::tuple(x.found.manifest.objects.empty() ? 0 : x.found.manifest.epoch, x.step.value_or(-1)); };
    std::stable_sort(r_.all.begin(), r_.all.end(), [&](const Remains& a, const Remains& b) { return age(a) > age(b); });
    mend();
    share();
    INGOT_TRY(ask_latest(path));
    return std::move(r_);
  }

 private:
  // A name for a file that several checkpoints have is read once.
  Result<std::string> root_of_file(const std::string& path, const Stat& stat) {
    if (const auto it = stat.links > 1 ? roots_.find(stat.identity) : roots_.end(); it != roots_.end()) return it->second;
    INGOT_ASSIGN(const TreeHash tree, hash_tree(*view_, path, run_));
    if (stat.links > 1) roots_[stat.identity] = tree.root;
    return tree.root;
  }

  void lose(Remains* x, const std::string& part) {
    for (auto& [name, sound] : x->parts)
      if (part.empty() || name == part) sound = false;
  }
  void fault(Remains* x, std::string path, std::string what, const std::string& part) {
    x->outcome = Outcome::kTorn;
    lose(x, part);
    x->faults.push_back({std::move(path), std::move(what), part});
  }

  Status examine_ours(const Candidate& c, Remains* x) {
    x->made_by = "ingot";
    INGOT_ASSIGN(x->found, checkpoint::look_at(store_, c.path));
    const Found& f = x->found;
    if (!f.manifest.objects.empty()) x->step = f.step;
    const auto state = read_state(c.path);
    const Contents contents = state.ok() ? contents_of(*state) : Contents();
    for (const auto& [part, keys] : contents) x->parts[part] = true;
    if (contents.empty())
      for (const CandidateFile& file : c.files)
        if (!file.part.empty()) x->parts[file.part] = true;
    if (f.manifest.objects.empty()) {
      if (f.state == State::kNewer) {
        x->notes.push_back(f.reason);
        return examine_files(c, x);
      }
      fault(x, join_path(c.path, kManifestFile), f.reason, "manifest");  // no part goes with it: what lies there is looked at as others' files are
      INGOT_TRY(examine_files(c, x));
      for (auto& [part, sound] : x->parts) sound = part == "model" && !x->weights.empty();
      return {};
    }
    x->outcome = Outcome::kWhole;
    x->checked = o_.quick ? files_text(f.manifest.objects.size()) + " by their sizes" : files_text(f.manifest.objects.size()) + " by their hashes";
    for (const Object& o : f.manifest.objects) {
      const std::string path = join_path(c.path, o.name);
      const auto it = std::find_if(c.files.begin(), c.files.end(), [&](const CandidateFile& file) { return file.name == o.file(); });
      const std::string lies_at = join_path(c.path, o.file());
      std::string what;
      if (it == c.files.end() || it->stat.kind != Stat::Kind::kFile) {
        what = fmt::format("{}: it is not there; the manifest says {} bytes", lies_at, o.file_bytes());
      } else if (it->stat.size != o.file_bytes()) {
        what = fmt::format("{}: it has {} bytes, the manifest says {}{}", lies_at, it->stat.size, o.file_bytes(), it->stat.size < o.file_bytes() ? fmt::format(": truncated at byte {}", it->stat.size) : "");
      } else if (!o_.quick) {
        const auto root = root_of_file(path, it->stat);
        if (!root.ok() && root.error().kind == ErrorKind::kInterrupted) return root.error();
        if (!root.ok()) what = root.error().message;
        else if (*root != o.hash) what = fmt::format("{}: its hash is {}, the manifest says {}: its bytes have changed", path, *root, o.hash);
      }
      if (what.empty()) continue;
      bad_.insert({c.path, o.name});
      x->outcome = Outcome::kTorn;
      x->faults.push_back({lies_at, std::move(what), o.name == kStateFile ? "" : "other"});
      const std::string group = group_of(o.name);
      // With state.json the nest is lost, and whatever is more than tensors.
      for (const auto& [part, keys] : contents) {
        const bool hit = keys.contains(group) || (part == "model" && (group == "model" || group == "adapter_model"));
        if (hit) x->parts[part] = false, x->faults.back().part = part;
      }
      if (o.name == kStateFile)
        for (auto& [part, sound] : x->parts) sound = sound && part == "model";
    }
    if (f.state == State::kTorn && x->outcome == Outcome::kWhole) fault(x, c.path, f.reason, "");
    if (f.state == State::kQuarantined) {
      if (x->outcome == Outcome::kWhole) {
        x->notes.push_back(fmt::format("a resume put it aside ({}); its files are as the manifest says now: without {} a resume takes it again", f.reason, join_path(c.path, kQuarantineFile)));
      } else {
        x->notes.push_back(fmt::format("a resume has put it aside: {}", f.reason));
      }
    }
    const auto model = x->parts.find("model");
    if (model != x->parts.end() && model->second) try_model(c.path, x);
    return {};
  }

  Result<Json> read_state(const std::string& path) {
    INGOT_ASSIGN(const std::string text, read_text(store_, join_path(path, kStateFile), 64u << 20));
    INGOT_ASSIGN(const Json j, parse_json(text, kStateFile));
    const Json* state = json_member(j, "state");
    return state ? *state : Json();
  }

  // Whether a model opens there; of a training state, the model in it.
  bool try_model(const std::string& path, Remains* x) {
    const auto opened = open_model(store_, path);
    if (!opened.ok()) return false;
    std::string notice;
    if (opened->naming == "gguf" || opened->naming == "imatrix" || !transform::model_state(*opened, &notice).ok()) return false;
    x->weights = path;
    return true;
  }

  void take_keys(const Artifact& a, Remains* x) {
    const auto take = [&](const std::string& name) {
      const std::string_view part = part_named(std::string_view(name).substr(0, name.find('/')));
      if (!part.empty()) x->parts.emplace(part, true);
    };
    for (const LazyTensor& t : a.tensors) {
      if (a.naming.empty()) take(t.name);
      else x->parts.emplace("model", true);
    }
    for (const auto& [name, value] : a.values)
      if (value != "null" && value != "{}" && value != "[]") take(name);  // DeepSpeed names what it was not given, too
    for (const char* key : {"global_step", "global_steps", "step", "iteration", "iter"})
      if (const auto it = a.values.find(key); it != a.values.end())
        if (const auto j = parse_json(it->second, key); j.ok() && j->is_number_integer()) {
          x->step = j->get<int64_t>();
          break;
        }
    if (a.values.contains("pytorch-lightning_version")) x->made_by = "Lightning";
  }

  Status examine_files(const Candidate& c, Remains* x) {
    const bool dcp = std::any_of(c.files.begin(), c.files.end(), [](const CandidateFile& f) { return f.name == kDcpMetadata; });
    uint64_t records = 0, read = 0;
    std::vector<std::string> ranks;  // .distcp files
    for (const CandidateFile& f : c.files) {
      if (o_.cancel && o_.cancel->cancelled()) return interrupted();
      if (file_name(f.name).starts_with(".") && file_name(f.name) != kDcpMetadata) continue;
      if (f.stat.kind == Stat::Kind::kSpecial) {
        x->notes.push_back(fmt::format("{}: it is no file but a pipe, socket or device; it was not opened", f.path));
        continue;
      }
      if (f.stat.kind == Stat::Kind::kDangling) {
        if (!f.part.empty()) x->parts.emplace(f.part, true);
        fault(x, f.path, fmt::format("{}: it is a link to what is not there", f.path), f.part);
        continue;
      }
      if (!f.part.empty()) x->parts.emplace(f.part, true);
      if (f.name.ends_with(".distcp")) ranks.push_back(f.path);
      if (f.name.ends_with(".distcp") && dcp) continue;  // with the others, below
      if (f.stat.size == 0 && f.part.empty() && !f.name.ends_with(".pt") && !f.name.ends_with(".ckpt") && file_name(f.name) != kDcpMetadata && !f.name.ends_with(".json")) continue;
      INGOT_ASSIGN(const FileCheck check, check_file(store_, f.path, !o_.quick, run_));
      records += check.records, ++read;
      if (check.faults.empty()) continue;
      const bool all_of_it = c.files.size() == 1 || file_name(f.name) == kDcpMetadata, weights = f.name.ends_with(".safetensors") || file_name(f.name) == "config.json";
      const std::string part = all_of_it ? "" : !f.part.empty() ? f.part : weights ? "model" : "other";
      for (const std::string& what : check.faults) fault(x, f.path, what, part);
    }
    for (const CandidateFile& f : c.files)
      if (file_name(f.name) == kDcpMetadata) take_entries(f.path, x);
    if (dcp) INGOT_TRY(examine_dcp(c, ranks, x, &records, &read));
    x->checked = o_.quick ? files_text(read) + " by their headers and ends"
                          : fmt::format("{} read to the end{}", files_text(read), records ? fmt::format(", {} checksums compared", records) : "");
    return open_candidate(c, x);
  }

  // What was saved, whether its data can be read or not.
  void take_entries(const std::string& path, Remains* x) {
    auto text = read_text(store_, path);
    const auto metadata = text.ok() ? parse_dcp_metadata(std::move(*text), path) : Result<DcpMetadata>(text.error());
    if (!metadata.ok()) return;
    for (const DcpEntry& e : metadata->entries)
      if (const std::string_view part = part_named(e.path); !part.empty()) x->parts.emplace(part, true);
  }

  Status examine_dcp(const Candidate& c, const std::vector<std::string>& ranks, Remains* x, uint64_t* records, uint64_t* read) {
    auto zip = zip_records(store_, c.path, {kDcpMetadata});
    if (!zip.ok()) {
      fault(x, join_path(c.path, kDcpMetadata), zip.error().message, "");
      return {};
    }
    for (const std::string& what : zip->faults) fault(x, join_path(c.path, kDcpMetadata), what, "");
    *read += ranks.size();
    if (o_.quick) return {};
    auto faults = check_records(store_, ranks, *zip, run_);
    if (!faults.ok()) {
      if (faults.error().kind == ErrorKind::kInterrupted) return faults.error();
      fault(x, c.path, faults.error().message, "");
      return {};
    }
    *records += zip->records.size();
    for (const RecordFault& f : *faults) {
      const std::string& path = zip->archives[zip->records[f.record].archive].path();  // "FILE ('model.emb.weight', 4 bytes at byte 0)"
      const size_t key = path.find(" ('");
      fault(x, path.substr(0, key), f.what, key == std::string::npos ? "" : std::string(part_named(std::string_view(path).substr(key + 3))));
    }
    return {};
  }

  // What is in it, and whether the model can be had.
  Status open_candidate(const Candidate& c, Remains* x) {
    const bool model_sound = std::none_of(x->faults.begin(), x->faults.end(), [](const Fault& f) { return f.part.empty() || f.part == "model"; });
    const bool directory = c.kind != Candidate::Kind::kFile && c.kind != Candidate::Kind::kBeside;
    std::string path = c.path;
    if (c.kind == Candidate::Kind::kBeside) {
      // The directory of a run would be opened as one of its checkpoints.
      std::vector<std::string> models;
      for (const CandidateFile& f : c.files)
        if (f.part == "model") models.push_back(f.path);
      if (models.empty()) return {};
      if (models.size() == 1 && !models[0].ends_with("index.json") && file_name(models[0]).find("adapter_model") == std::string::npos) path = models[0];
    }
    const auto opened = open_model(store_, path);
    if (opened.ok()) {
      take_keys(*opened, x);
      if (x->outcome == Outcome::kTorn && c.files.size() == 1) lose(x, "");
      else if (model_sound) (void)try_model(path, x);
    } else if (directory || c.kind == Candidate::Kind::kBeside) {
      const std::string& why = opened.error().message;
      // Where a file was found torn its opener says that once more; and a state without a model is no fault.
      const bool told = std::any_of(x->faults.begin(), x->faults.end(), [&](const Fault& f) { return why.find(f.path) != std::string::npos; });
      const bool ranks = std::any_of(c.files.begin(), c.files.end(), [](const CandidateFile& f) { return deepspeed_file(file_name(f.name)) || file_name(f.name) == kDcpMetadata || f.name.ends_with(".distcp"); });
      if (!told && (ranks || x->parts.empty())) fault(x, path, why, "");
      else if (!told && x->parts.contains("model")) fault(x, path, why, "model");
      // One file of it may have the model all the same: mp_rank_00_model_states.pt without the optimizer's ranks.
      for (const CandidateFile& f : c.files)
        if (f.part == "model" && x->weights.empty() && f.name.find("-of-") == std::string::npos && f.name.find("zero_pp_rank_") == std::string::npos && f.name.find("world_size") == std::string::npos &&
            !f.name.ends_with(".json") && std::none_of(x->faults.begin(), x->faults.end(), [&](const Fault& other) { return other.path == f.path; }))
          (void)try_model(f.path, x);
      if (const auto model = x->parts.find("model"); model != x->parts.end()) model->second = !x->weights.empty();
    } else if (x->faults.empty()) {
      fault(x, c.path, opened.error().message, "");
    }
    if (opened.ok() && (directory || c.kind == Candidate::Kind::kBeside)) {
      INGOT_ASSIGN(const auto index, check_indexes(store_, c.path));
      for (const std::string& what : index.errors)
        if (std::none_of(x->faults.begin(), x->faults.end(), [&](const Fault& f) { return f.what == what; })) fault(x, c.path, what, "model"), x->weights.clear();
    }
    return {};
  }

  Status examine(const Candidate& c, Remains* x) {
    x->made_by = maker(c);
    x->outcome = Outcome::kUnverified;
    if (c.files.empty()) {
      fault(x, c.path, fmt::format("{}: it is empty: its save did not end", c.path), "");
      return {};
    }
    INGOT_TRY(examine_files(c, x));
    if (c.kind == Candidate::Kind::kUnfinished) fault(x, c.path, fmt::format("{}: a save that did not end, or is under way", c.path), "");
    if (c.kind == Candidate::Kind::kDirectory || c.kind == Candidate::Kind::kBeside) {
      Probe p;
      p.path = c.path, p.directory = true;
      if (auto entries = store_.list(c.path); entries.ok()) p.entries = std::move(*entries);
      std::sort(p.entries.begin(), p.entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
      // A pipe of such a name would be waited for.
      std::erase_if(p.entries, [&](const Entry& e) {
        return std::any_of(c.files.begin(), c.files.end(), [&](const CandidateFile& f) { return f.name == e.name && f.stat.kind != Stat::Kind::kFile; });
      });
      const TrainingBeside t = training_beside(store_, p);
      if (const auto step = t.values.find("step") != t.values.end() ? t.values.find("step") : t.values.find("global_step"); step != t.values.end())
        if (const auto j = parse_json(step->second, "step"); j.ok() && j->is_number_integer()) x->step = j->get<int64_t>(), x->parts.emplace("step", true);
      for (const std::string& n : t.notices)
        if (!n.starts_with("the model is read without it") && std::none_of(x->faults.begin(), x->faults.end(), [&](const Fault& f) { return n.find(f.what) != std::string::npos; })) x->notes.push_back(n);
      if (p.find("checkpoint-is-incomplete.txt")) fault(x, c.path, fmt::format("{}: its checkpoint-is-incomplete.txt is there: transformers had not ended its save", c.path), "");
    }
    if (x->step && (x->outcome != Outcome::kTorn || c.kind != Candidate::Kind::kFile)) x->parts.emplace("step", true);
    return {};
  }

  static std::string maker(const Candidate& c) {
    const auto has = [&](auto test) { return std::any_of(c.files.begin(), c.files.end(), [&](const CandidateFile& f) { return test(std::string_view(f.name)); }); };
    const auto file = [&](std::string_view name) { return has([&](std::string_view n) { return n == name || n.ends_with("/" + std::string(name)); }); };
    const auto begins = [&](std::string_view b) { return has([&](std::string_view n) { return n.substr(n.rfind('/') + 1).starts_with(b); }); };
    if (c.kind == Candidate::Kind::kUnfinished) return "ingot";
    std::string more = file("adapter_config.json") ? ", PEFT" : "";
    if (has([](std::string_view n) { return deepspeed_file(n.substr(n.rfind('/') + 1)).has_value(); })) more += file("trainer_state.json") || c.path.ends_with(".ckpt") ? ", DeepSpeed" : "";
    if (file("trainer_state.json") || file("training_args.bin")) return "transformers Trainer" + more;
    if (c.path.ends_with(".ckpt") && (c.kind == Candidate::Kind::kDirectory || file_name(c.path).find("step=") != std::string::npos)) return "Lightning" + more;
    if (has([](std::string_view n) { return deepspeed_file(n.substr(n.rfind('/') + 1)).has_value(); }) || begins("zero_to_fp32")) return "DeepSpeed";
    if (begins("random_states_") || begins("custom_checkpoint_")) return "accelerate" + more;
    if (file("common.pt") || file("model_optim_rng.pt")) return "Megatron";
    if (file(kDcpMetadata) || has([](std::string_view n) { return n.ends_with(".distcp"); })) return "torch DCP";
    if (begins("recipe_state")) return "torchtune";
    if (begins("model_world_size_")) return "FSDP, a file a rank";
    if (file("adapter_config.json")) return "PEFT";
    if (file("config.json") && begins("model")) return "save_pretrained";
    return "a script";
  }

  // Files of ours that are damaged, and lie whole in another checkpoint.
  void mend() {
    const auto key = [](const Object& o) { return std::tuple(o.hash, o.bytes, o.frames); };  // compressed otherwise it is another file
    std::map<std::tuple<std::string, uint64_t, std::optional<uint64_t>>, std::string> sound;
    for (const Remains& x : r_.all)
      for (const Object& o : x.found.manifest.objects)
        if (!bad_.contains({x.path, o.name})) sound.emplace(key(o), join_path(x.path, o.file()));
    for (Remains& x : r_.all)
      for (const Object& o : x.found.manifest.objects)
        if (bad_.contains({x.path, o.name}))
          if (const auto it = sound.find(key(o)); it != sound.end()) x.repairs.push_back({it->second, join_path(x.path, o.file())});
  }

  void share() {
    std::map<std::string, SharedFile> all;
    for (const Remains& x : r_.all)
      for (const Object& o : x.found.manifest.objects) {
        const auto there = store_.stat(join_path(x.path, o.file()));
        if (!there.ok() || !*there || (*there)->links < 2) continue;
        SharedFile& s = all[(*there)->identity];
        s.name = o.file(), s.bytes = o.file_bytes();
        s.steps.push_back(x.found.step);
      }
    for (auto& [identity, s] : all)
      if (s.steps.size() > 1) r_.shared.push_back(std::move(s));
  }

  // A hint that leads to what a resume should not take.
  Status ask_latest(const std::string& path) {
    Probe p;
    p.path = path, p.directory = true;
    auto entries = store_.list(path);
    if (!entries.ok()) return {};
    p.entries = std::move(*entries);
    std::erase_if(p.entries, [&](const Entry& e) {
      const auto there = e.directory || !e.name.starts_with("la") ? Result<std::optional<Stat>>(std::nullopt) : store_.stat(join_path(path, e.name));
      return there.ok() && *there && (*there)->kind == Stat::Kind::kSpecial;
    });
    std::sort(p.entries.begin(), p.entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
    const auto latest = latest_name(store_, p);
    if (!latest.ok()) {
      r_.notes.push_back(latest.error().message);
      return {};
    }
    if (!*latest) return {};
    const std::string named = join_path(path, (*latest)->name);
    for (const Remains& x : r_.all)
      if (x.path == named && x.outcome == Outcome::kTorn) {
        const Remains* better = r_.resumable();
        r_.notes.push_back(fmt::format("{} names {}, which is torn{}", join_path(path, (*latest)->text), (*latest)->name,
                                       x.made_by == "ingot" ? "; a resume goes by the manifests, and takes the newest whole one"
                                       : better             ? fmt::format("; whoever resumes by it fails, until it names {}", file_name(better->path))
                                                            : ""));
      }
    return {};
  }

  Store& store_;
  const std::unique_ptr<FramedStore> view_ = make_framed_store(store_);
  const RescueOptions& o_;
  VerifyRun run_;
  std::atomic<uint64_t> done_{0};
  uint64_t total_ = 0;
  Rescue r_;
  std::map<std::string, std::string> roots_;              // by identity
  std::set<std::pair<std::string, std::string>> bad_;     // a checkpoint and its object
};

}  // namespace

const char* outcome_name(Outcome o) {
  constexpr const char* kNames[] = {"whole", "unverified", "torn"};
  return kNames[static_cast<int>(o)];
}

bool Remains::resumes() const {
  if (outcome == Outcome::kTorn) return false;
  const auto sound = [&](const char* part) {
    const auto it = parts.find(part);
    return it != parts.end() && it->second;
  };
  return outcome == Outcome::kWhole || (sound("model") && sound("optimizer"));
}

const Remains* Rescue::resumable() const {
  const auto it = std::find_if(all.begin(), all.end(), [](const Remains& x) { return x.resumes(); });
  return it == all.end() ? nullptr : &*it;
}

const Remains* Rescue::with_weights() const {
  const auto it = std::find_if(all.begin(), all.end(), [](const Remains& x) { return !x.weights.empty(); });
  return it == all.end() ? nullptr : &*it;
}

Result<Rescue> rescue(Store& store, const std::string& path, const RescueOptions& options) { return Rescuer(store, options).all(path); }

}  // namespace ingot::checkpoint
