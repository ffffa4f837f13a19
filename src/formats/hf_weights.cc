#include "formats/hf_weights.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <tuple>

#include "formats/checkpoints_in.h"
#include "formats/json.h"
#include "storage/hub.h"

namespace ingot {
namespace {

constexpr std::string_view kEnd = ".safetensors", kTorchEnd = ".bin";
constexpr std::string_view kTorchEnds[] = {kTorchEnd, ".pt", ".pth", ".ckpt"};

// An adapter's weights are no model's; macOS leaves "._" copies that hold no data.
bool is_weights(const Entry& e, std::string_view end = kEnd) {
  return !e.directory && e.name.ends_with(end) && e.name[0] != '.' && !e.name.starts_with("adapter_model");
}

// What trainers leave beside a model in torch's files.
bool is_of_training(std::string_view name) {
  for (const char* begin : {"optimizer", "scheduler", "rng_state", "random_states", "training_args", "training_state", "trainer_state", "scaler", "custom_checkpoint", "sampler", "optim_world_size_", "extra_state_world_size_"})
    if (name.starts_with(begin)) return true;
  return false;
}
bool is_torch_weights(const Entry& e) {
  return !is_of_training(e.name) && std::any_of(std::begin(kTorchEnds), std::end(kTorchEnds), [&](std::string_view end) { return is_weights(e, end); });
}

struct ShardName {
  std::string prefix;
  uint64_t number = 0, of = 0;
};
std::optional<ShardName> shard_name(std::string_view name) {
  const std::string_view end = name.ends_with(kEnd) ? kEnd : kTorchEnd;
  if (!name.ends_with(end)) return std::nullopt;
  name.remove_suffix(end.size());
  ShardName s;
  // From the end: "-", digits. At most 9 of them.
  const auto take = [&name](std::string_view before, uint64_t* out) {
    const size_t at = name.find_last_not_of("0123456789") + 1;
    const std::string_view digits = name.substr(at);
    if (digits.empty() || digits.size() > 9 || !name.substr(0, at).ends_with(before)) return false;
    std::from_chars(digits.data(), digits.data() + digits.size(), *out);
    name.remove_suffix(digits.size() + before.size());
    return true;
  };
  if (!take("-of-", &s.of) || !take("-", &s.number) || s.of == 0 || s.number > s.of || name.empty()) return std::nullopt;
  s.prefix = name;
  return s;
}

struct Weights {
  std::vector<ShardSet> sets;
  std::vector<std::string> others;
};
// Of the weights for which `wanted` holds.
template <class F>
Weights sort_out(const Probe& p, F wanted, std::string_view end = kEnd) {
  std::map<std::tuple<std::string, uint64_t>, ShardSet> sets;
  Weights w;
  for (const Entry& e : p.entries) {
    if (!is_weights(e, end) || !wanted(e.name)) continue;
    const auto s = shard_name(e.name);
    if (!s) {
      w.others.push_back(e.name);
      continue;
    }
    ShardSet& set = sets[{s->prefix, s->of}];
    set.prefix = s->prefix, set.of = s->of;
    if (!set.files.emplace(s->number, e.name).second) w.others.push_back(e.name);  // the same number spelled with other zeros
  }
  for (auto& [key, set] : sets) w.sets.push_back(std::move(set));
  return w;
}
Weights sort_out(const Probe& p) {
  Weights w = sort_out(p, [](const std::string& name) { return !name.starts_with("consolidated"); });
  // Mistral's repositories have the model twice, once under its own names; transformers reads the other one.
  return w.sets.empty() && w.others.empty() ? sort_out(p, [](const std::string&) { return true; }) : w;
}

// Of torch's files.
Weights sort_out_torch(const Probe& p) {
  Weights w = sort_out(p, [](const std::string& name) { return !is_of_training(name); }, kTorchEnd);
  for (const Entry& e : p.entries)
    if (is_torch_weights(e) && !e.name.ends_with(kTorchEnd)) w.others.push_back(e.name);
  return w;
}

// The sets that may be the model: those named as transformers names them, if there are any.
std::vector<const ShardSet*> candidates(const Weights& w) {
  std::vector<const ShardSet*> own, all;
  for (const ShardSet& s : w.sets) {
    all.push_back(&s);
    if (s.prefix == "model" || s.prefix == "pytorch_model") own.push_back(&s);
  }
  return own.empty() ? all : own;
}

std::vector<std::string> names_of(const ShardSet& s) {
  std::vector<std::string> names;
  for (const auto& [number, name] : s.files) names.push_back(name);
  return names;
}

// "model-00002-of-00003.safetensors", as those that are there spell it.
std::string name_of(const ShardSet& s, uint64_t number) {
  const std::string& like = s.files.begin()->second;
  const size_t of = like.rfind("-of-");
  return fmt::format("{}-{:0{}}{}", s.prefix, number, of - s.prefix.size() - 1, like.substr(of));
}

std::string absent_names(const ShardSet& s) {
  std::vector<std::string> names;
  const uint64_t first = s.files.count(0) ? 0 : 1;
  for (uint64_t i = first; i < first + s.of && names.size() < 3; ++i)
    if (!s.files.count(i)) names.push_back(name_of(s, i));
  const uint64_t more = std::max<uint64_t>(s.absent(), names.size()) - names.size();
  return some_of(names) + (more ? fmt::format(" and {} more", more) : "");
}

const Entry* find_file(const Probe& p, std::string_view name) {
  const Entry* e = p.find(name);
  return e && !e->directory ? e : nullptr;
}

// Downloads that did not finish, as the Hub's client, browsers and other programs name them.
std::vector<std::string> unfinished(Store& store, const Probe& p) {
  std::vector<std::string> names;
  const auto add = [&names](const std::vector<Entry>& entries, const std::string& before) {
    for (const Entry& e : entries)
      for (const char* end : {".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".download"})
        if (!e.directory && e.name.ends_with(end)) names.push_back(before + e.name);
  };
  add(p.entries, "");
  if (const auto snapshot = hub_snapshot(p.path))
    if (const auto entries = store.list(join_path(snapshot->folder(), "blobs")); entries.ok()) add(*entries, "blobs/");
  const std::string cache = ".cache/huggingface/download";
  if (p.find(".cache"))
    if (const auto entries = store.list(join_path(p.path, cache)); entries.ok()) add(*entries, cache + "/");
  return names;
}

// Subdirectories that could be opened, the greatest number last; names without one come first.
std::vector<std::string> folders_with_weights(Store& store, const Probe& p) {
  std::vector<std::string> folders, found;
  for (const Entry& e : p.entries)
    if (e.directory && e.name[0] != '.') folders.push_back(e.name);
  std::sort(folders.begin(), folders.end(), [](const std::string& a, const std::string& b) {
    return std::pair(step_of(a), std::string_view(a)) < std::pair(step_of(b), std::string_view(b));
  });
  // A repository in the Hub's cache: its files are in snapshots/REVISION.
  if (const auto revisions = p.find("snapshots") ? store.list(join_path(p.path, "snapshots")) : Result<std::vector<Entry>>(std::vector<Entry>()); revisions.ok())
    for (const Entry& e : *revisions)
      if (e.directory) folders.push_back(join_path("snapshots", e.name));
  constexpr size_t kLooked = 64;
  if (folders.size() > kLooked) folders.erase(folders.begin(), folders.end() - kLooked);
  for (const std::string& f : folders) {
    const auto entries = store.list(join_path(p.path, f));
    if (entries.ok() && std::any_of(entries->begin(), entries->end(), [](const Entry& e) { return !e.directory && (e.name.ends_with(kEnd) || e.name.starts_with(kTorchName) || e.name.starts_with("model_world_size_")); }))
      found.push_back(f);
  }
  return found;
}

// Beside a model, whose tensors it is not among: adapters.
std::string beside(Store& store, const Probe& p) {
  const std::string opened = p.path + ": it is opened as the model that it is; ";
  for (const char* name : {"adapter_model.safetensors", "adapter_model.bin"})
    if (find_file(p, name)) return fmt::format("{}the adapter beside the weights ({}) is not applied", opened, name);
  if (const Entry* e = p.find("lora_adapter"); e && e->directory)
    return fmt::format("{}the adapter in {} is not applied: give that by --adapter", opened, join_path(p.path, "lora_adapter"));
  if (!find_file(p, "adapter_config.json")) return "";
  const auto folders = folders_with_weights(store, p);
  return folders.empty() ? "" : fmt::format("{}adapter_config.json speaks of an adapter, which is not applied: give the last, {}, by --adapter", opened,
                                            join_path(p.path, folders.back()));
}

std::vector<std::string> all_names(const Weights& w) {
  std::vector<std::string> all = w.others;
  for (const ShardSet& s : w.sets)
    for (auto& name : names_of(s)) all.push_back(std::move(name));
  return all;
}

// Of shards without an index, and of single files: what the names prove.
Result<WeightFiles> unnamed_weights(Store& store, const Probe& p, const Weights& w, const char* index, WeightFiles found) {
  const auto sets = candidates(w);
  if (sets.size() > 1) {
    std::vector<std::string> each;
    for (const ShardSet* s : sets) each.push_back(fmt::format("{} of {} like {}", s->files.size(), s->of, s->files.begin()->second));
    return bad_input("opening {}: the directory has shards of {} sets ({}), but no {} that tells which is the model; download the index, or "
                     "remove the files of the others", p.path, sets.size(), some_of(each), index);
  }
  const ShardSet& s = *sets[0];
  if (!s.whole()) {
    const auto halves = unfinished(store, p);
    return bad_input("opening {}: of {} shards {} {} there; missing: {}{}. Download them{}", p.path, s.of, s.files.size(),
                     s.files.size() == 1 ? "is" : "are", absent_names(s), halves.empty() ? "" : "; unfinished: " + some_of(halves),
                     hub_download(store, p.path));
  }
  found.files = names_of(s);
  std::sort(found.files.begin(), found.files.end());
  found.notices.push_back(fmt::format("{}: there is no {}; {}, all their tensors are taken{}", p.path, index,
                                      s.of == 1 ? fmt::format("the name of {} proves it whole", found.files[0]) : fmt::format("the names of the {} shards prove them whole", s.of),
                                      w.others.empty() ? "" : "; passed over: " + some_of(w.others)));
  return found;
}

// Where there are no safetensors of any name.
Result<WeightFiles> unnamed_torch_weights(Store& store, const Probe& p, WeightFiles found) {
  const Weights w = sort_out_torch(p);
  if (std::any_of(w.others.begin(), w.others.end(), [](const std::string& n) { return n.starts_with("consolidated.") && n.ends_with(".pth"); }))
    return bad_input("opening {}: its weights ({}) are in Meta's own format, one file a rank, with other names and rows; download the files that the same repository has for "
                     "transformers ({} or {}, and config.json), or make them: transformers' convert_llama_weights_to_hf.py", p.path, some_of(w.others), kSingleName, kIndexName);
  if (!w.sets.empty()) return unnamed_weights(store, p, w, kTorchIndexName, std::move(found));
  if (w.others.size() > 1) {
    const auto taken = [&](const std::string& name, const std::string& why) {
      found.files = {name};
      found.notices.push_back(fmt::format("{}: of its {} torch files {} is taken, {}", p.path, w.others.size(), name, why));
      return found;
    };
    INGOT_ASSIGN(const auto latest, latest_name(store, p));
    if (latest && !latest->directory) return taken(latest->name, fmt::format("which its file '{}' names", latest->text));
    // Lightning goes on from it; what else there is are the best by some measure.
    const auto of_lightning = [](const std::string& n) { return n == "last.ckpt" || (n.ends_with(".ckpt") && n.find("step=") != n.npos); };
    if (find_file(p, "last.ckpt") && std::all_of(w.others.begin(), w.others.end(), of_lightning)) return taken("last.ckpt", "as Lightning resumes");
    const std::string list = listed_by_step(store, p.path, w.others), first = list.substr(0, list.find(" ("));
    return bad_input("opening {}: the directory has {} torch files, and nothing tells which is the model: {}; give one of them, like: {}", p.path, w.others.size(), list,
                     join_path(p.path, first));
  }
  if (w.others.empty()) return bad_input("opening {}: the directory has no *.safetensors file{}", p.path, without_weights(store, p));
  found.files = w.others;
  found.notices.push_back(fmt::format("{}: there is no {}; {} is taken, the only weights file here", p.path, kSingleName, w.others[0]));
  return found;
}

}  // namespace

std::optional<uint64_t> step_of(const std::string& name) {
  const size_t at = family_of(name).size();
  uint64_t step = 0;
  if (at == 0 || at == name.size() || std::from_chars(name.data() + at, name.data() + name.size(), step).ec != std::errc()) return std::nullopt;
  return step;
}

std::string_view family_of(std::string_view name) { return name.substr(0, name.find_last_not_of("0123456789") + 1); }

std::string some_of(const std::vector<std::string>& names, size_t most) {
  std::string s;
  for (size_t i = 0; i < std::min(names.size(), most); ++i) s += (i ? ", " : "") + names[i];
  return names.size() > most ? fmt::format("{} and {} more", s, names.size() - most) : s;
}

bool ShardSet::whole() const {
  return files.size() == of && files.rbegin()->first - files.begin()->first == of - 1;
}

int weights_score(const Probe& p) {
  if (find_file(p, kSingleName) || find_file(p, kIndexName)) return 95;
  if (find_file(p, kTorchName) || find_file(p, kTorchIndexName)) return 94;
  const Weights w = sort_out(p);
  // An adapter may lie beside a model, whose shards prove what it is; a stray file does not.
  const auto sets = candidates(w);
  if (sets.size() == 1 && sets[0]->whole()) return 93;
  if (!w.sets.empty() || !w.others.empty()) return 60;
  const Weights torch = sort_out_torch(p);
  return torch.sets.empty() && torch.others.empty() ? 0 : 30;
}

Result<WeightFiles> find_weights(Store& store, const Probe& p) {
  WeightFiles found;
  const auto told = [&found](std::string text) {
    if (!text.empty()) found.notices.push_back(std::move(text));
  };
  told(beside(store, p));
  const bool single = find_file(p, kSingleName), indexed = find_file(p, kIndexName);
  for (const char* torch : {kTorchName, kTorchIndexName})
    if ((single || indexed) && find_file(p, torch))
      told(fmt::format("{}: {} is taken, as transformers does, not {} beside it", p.path, single ? kSingleName : kIndexName, torch));
  const bool broken = single && indexed && is_dangling(store, join_path(p.path, kSingleName));
  if (broken) told(fmt::format("{}: {} is a link to a file that is not there; {} is taken, as transformers does", p.path, kSingleName, kIndexName));
  if (single && !broken) {
    found.files = {kSingleName};
    std::vector<std::string> passed;
    for (const ShardSet& s : sort_out(p).sets)
      if (s.prefix == "model")
        for (auto& name : names_of(s)) passed.push_back(std::move(name));
    if (indexed && !passed.empty()) passed.insert(passed.begin(), kIndexName);
    if (!passed.empty())
      told(fmt::format("{}: {} is taken, as transformers does; passed over, as if left from another save: {}. If those are the model, remove "
                       "{}", p.path, kSingleName, some_of(passed), kSingleName));
    return found;
  }
  if (indexed) {
    found.index = kIndexName;
    for (const Entry& e : p.entries)
      if (is_weights(e)) found.files.push_back(e.name);
    return found;
  }
  const Weights w = sort_out(p);
  const std::vector<std::string> all = all_names(w);
  // Where transformers finds none of its names for safetensors, it takes these; safetensors of other names may be of another model.
  if (find_file(p, kTorchName) || find_file(p, kTorchIndexName)) {
    const char* taken = find_file(p, kTorchName) ? kTorchName : kTorchIndexName;
    if (!all.empty()) told(fmt::format("{}: {} is taken, as transformers does; passed over, as if of another model: {}", p.path, taken, some_of(all)));
    if (taken == kTorchName) {
      found.files = {kTorchName};
      return found;
    }
    found.index = kTorchIndexName;
    for (const Entry& e : p.entries)
      if (is_weights(e, kTorchEnd) && !is_of_training(e.name)) found.files.push_back(e.name);
    return found;
  }
  if (find_file(p, "params.json") && std::all_of(all.begin(), all.end(), [](const std::string& name) { return name.starts_with("consolidated"); }) && !all.empty())
    return bad_input("opening {}: its weights ({}, with params.json) are in Mistral's own format, with other names and rows; download the files that the "
                     "same repository has for transformers ({} or {}, and config.json), or make them: transformers' convert_mistral_weights_to_hf.py",
                     p.path, some_of(all), kSingleName, kIndexName);
  if (!w.sets.empty()) return unnamed_weights(store, p, w, kIndexName, std::move(found));
  for (const Entry& e : p.entries)
    if (w.others.size() > 1 && e.name.starts_with("model.safetensors.index.") && e.name.ends_with(".json"))
      return bad_input("opening {}: it holds a variant of the model, which transformers takes where it is asked for (variant=..): {} is its index, and {} are "
                       "its files; give the index the name {}", p.path, e.name, some_of(w.others), kIndexName);
  if (w.others.size() > 1)
    return bad_input("opening {}: {} *.safetensors files ({}), but no {} and no {} that tells which belong to the model; download the index, "
                     "or give the one that is wanted the name {}", p.path, w.others.size(), some_of(w.others), kSingleName, kIndexName, kSingleName);
  if (w.others.empty()) return unnamed_torch_weights(store, p, std::move(found));
  found.files = w.others;
  told(fmt::format("{}: there is no {}; {} is taken, the only safetensors file here", p.path, kSingleName, w.others[0]));
  return found;
}

bool is_inside(const std::string& path) {
  if (path.empty() || path.find_first_of(std::string_view("\\\0", 2)) != std::string::npos) return false;
  for (size_t from = 0; from <= path.size();) {
    const size_t end = std::min(path.find('/', from), path.size());
    const std::string_view part = std::string_view(path).substr(from, end - from);
    if (part.empty() || part == "." || part == "..") return false;
    from = end + 1;
  }
  return true;
}

std::string plain_path(const std::string& path) { return std::filesystem::path(path).lexically_normal().string(); }

bool is_listed(const Probe& p, const std::string& path) { return path.find('/') != std::string::npos || p.find(path); }

Result<std::optional<WeightFiles>> named_weights(const Probe& p, const std::string& config) {
  constexpr const char* kKey = "transformers_weights";
  const auto json = config.find(kKey) == std::string::npos ? Result<Json>(Json()) : parse_json(config, "");
  const Json* named = json.ok() ? json_member(*json, kKey) : nullptr;  // who needs a configuration says what is wrong with it
  if (!named) return std::optional<WeightFiles>();
  const auto* name = named->get_ptr<const std::string*>();
  const std::string plain = name ? plain_path(*name) : "";
  const bool index = plain.ends_with(".safetensors.index.json");
  if (!is_inside(plain) || !(index || plain.ends_with(kEnd)))
    return bad_input("opening {}: '{}' of config.json is {}, expected a *.safetensors file of the directory, or a *.safetensors.index.json; transformers "
                     "refuses it, too", p.path, kKey, json_brief(*named));
  WeightFiles found;
  if (index) found.index = plain;
  else found.files = {plain};
  found.notices = {fmt::format("{}: {} is taken, which config.json names ({})", p.path, plain, kKey)};
  return std::optional(std::move(found));
}

std::string left_over(const Probe& p, const std::vector<std::string>& named) {
  const std::string_view end = !named.empty() && named[0].ends_with(kTorchEnd) ? kTorchEnd : kEnd;
  std::vector<std::string> names = all_names(sort_out(p, [&](const std::string& name) {
    return !name.starts_with("consolidated") && name != kSingleName && !is_of_training(name) && !std::binary_search(named.begin(), named.end(), name);
  }, end));
  std::sort(names.begin(), names.end());
  return names.empty() ? "" : fmt::format("{}: the index does not name {}; passed over, as if left from another save", p.path, some_of(names));
}

Error absent_shards(Store& store, const Probe& p, const std::string& index, const std::vector<std::string>& named, const std::string& why) {
  std::vector<std::string> absent;
  for (const auto& name : named)
    if (!is_listed(p, name)) absent.push_back(name);
  std::string text = fmt::format("{} of the {} files that the index names {} not there: {}", absent.size(), named.size(),
                                 absent.size() == 1 ? "is" : "are", some_of(absent));
  if (!why.empty()) text += fmt::format("; of the others one cannot be read ({})", why);
  const std::string_view end = index.starts_with(kTorchName) ? kTorchEnd : kEnd;
  const Weights w = sort_out(p, [&](const std::string& name) { return !is_of_training(name) && !std::binary_search(named.begin(), named.end(), name); }, end);
  const ShardSet* whole = nullptr;
  std::vector<std::string> instead = w.others;
  for (const ShardSet& s : w.sets) {
    if (s.whole()) whole = &s;
    for (auto& name : names_of(s)) instead.push_back(std::move(name));
  }
  if (const auto halves = unfinished(store, p); !halves.empty()) text += fmt::format("; unfinished downloads: {}", some_of(halves));
  if (whole)
    return bad_input("opening {}: {}. But there is a whole set of {} shards of another save, like {}: if that is the model, remove the index, "
                     "which is not its own", join_path(p.path, index), text, whole->of, whole->files.begin()->second);
  if (!instead.empty()) text += fmt::format("; instead there {} {}", instead.size() == 1 ? "is" : "are", some_of(instead));
  return bad_input("opening {}: {}. Download what is missing; hf download goes on where it stopped{}", join_path(p.path, index), text,
                   hub_download(store, p.path));
}

std::string without_weights(Store& store, const Probe& p) {
  if (auto folders = folders_with_weights(store, p); !folders.empty()) {
    const std::string last = folders.back();
    folders.pop_back();
    const std::string given = join_path(p.path, last);
    if (folders.empty()) return fmt::format("; its subdirectory has: give {}", given);
    return step_of(last) ? fmt::format("; its subdirectories have: give the last, {} (others: {})", given, some_of(folders))
                         : fmt::format("; its subdirectories have: give {} (or {})", given, some_of(folders));
  }
  std::string gguf, other;  // what of each kind is there
  for (const Entry& e : p.entries) {
    const std::string_view n = e.name;
    if (!e.directory && n.ends_with(".gguf") && gguf.empty()) gguf = n;
    if (n == "tf_model.h5" || n == "flax_model.msgpack" || n == "model.ckpt.index") other = n;
  }
  if (p.find("zero_to_fp32.py")) return "; of the shards of DeepSpeed ZeRO, which zero_to_fp32.py is for, there are none: copy global_stepN/ and latest, too";
  if (!gguf.empty()) return fmt::format("; it has a GGUF file: give {}", join_path(p.path, gguf));
  if (!other.empty())
    return fmt::format(", only weights of TensorFlow or Flax ({}), which ingot does not read; load them with transformers 4 (from_tf=True, from_flax=True) and "
                       "save_pretrained them", other);
  if (const auto halves = unfinished(store, p); !halves.empty())
    return fmt::format(", only unfinished downloads ({}); download them again{}", some_of(halves), hub_download(store, p.path));
  // What a client asked for in vain is noted there.
  if (const auto s = hub_snapshot(p.path); s && is_there(store, join_path(s->folder(), fmt::format(".no_exist/{}/{}", s->commit, kSingleName))))
    return fmt::format(": the cache knows that {} has no {} on the Hub; weights of other forms are not supported yet", s->repo, kSingleName);
  return "; download the weights" + hub_download(store, p.path);
}

}  // namespace ingot
