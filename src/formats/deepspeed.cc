#include "formats/deepspeed.h"

#include <algorithm>
#include <charconv>

#include "formats/hf_weights.h"
#include "formats/pickle_values.h"
#include "formats/safetensors.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxTag = 1 << 16;
constexpr char kLatest[] = "latest", kLatestUniversal[] = "latest_universal";

bool number_after(std::string_view* s, std::string_view before, int64_t* n) {
  if (!s->starts_with(before)) return false;
  s->remove_prefix(before.size());
  const auto r = std::from_chars(s->data(), s->data() + s->size(), *n);
  if (r.ec != std::errc() || *n < 0) return false;
  s->remove_prefix(static_cast<size_t>(r.ptr - s->data()));
  return true;
}

bool is_tag(const Probe& p) {
  return std::any_of(p.entries.begin(), p.entries.end(), [](const Entry& e) {
    return !e.directory && (deepspeed_file(e.name) || e.name.ends_with("_model_states.pt"));
  });
}
bool is_universal(const Probe& p) {
  const Entry* zero = p.find("zero");
  return zero && zero->directory;
}

// The directory that `latest` names.
Result<Probe> latest_tag(Store& store, const Probe& p, const char* file) {
  const std::string path = join_path(p.path, file);
  INGOT_ASSIGN(std::string tag, read_side_file(store, path, kMaxTag));
  while (!tag.empty() && std::isspace(static_cast<unsigned char>(tag.back()))) tag.pop_back();
  const Entry* there = p.find(tag);
  std::vector<std::string> others = directories_in(store, p.path, "global_step");
  if (!is_inside(tag) || !there || !there->directory)
    return bad_input("opening {}: it names '{}', which is not there{}", path, tag.substr(0, 200),
                     others.empty() ? "; copy it" : fmt::format("; give one of those that are there itself: {}", some_of(others)));
  return look_at(store, join_path(p.path, tag));
}

}  // namespace

std::optional<DeepspeedFile> deepspeed_file(std::string_view name) {
  DeepspeedFile f;
  f.name = name;
  for (std::string_view kind : {"bf16_", "fp16_"})
    if (name.starts_with(kind)) name.remove_prefix(kind.size());
  if (number_after(&name, "zero_pp_rank_", &f.dp)) {
    if (!number_after(&name, "_mp_rank_", &f.mp)) return std::nullopt;
  } else if (!number_after(&name, "mp_rank_", &f.mp)) {
    return std::nullopt;
  }
  f.optimizer = name == "_optim_states.pt";
  return f.optimizer || name == "_model_states.pt" ? std::optional(f) : std::nullopt;
}

Result<std::vector<DeepspeedFile>> deepspeed_files(const Probe& p) {
  std::vector<DeepspeedFile> files;
  std::vector<std::string> pipeline;
  for (const Entry& e : p.entries) {
    if (e.directory) continue;
    if (e.name.starts_with("layer_") && e.name.ends_with("_states.pt")) pipeline.push_back(e.name);
    const auto f = deepspeed_file(e.name);
    if (f && f->mp > 0)
      return bad_input("opening {}: {} is of model-parallel rank {}, and how the model is cut over these is not told in the files; {}", p.path, e.name, f->mp,
                       p.find("zero") ? "load it with DeepSpeed in one model-parallel rank, save it there, and open that"
                                      : "convert it with DeepSpeed's ds_to_universal, load that in one model-parallel rank, save it there, and open that");
    if (f) files.push_back(*f);
  }
  if (!pipeline.empty())
    return bad_input("opening {}: it is of a pipeline, or has experts ({}), which ingot does not join; convert it with DeepSpeed's ds_to_universal "
                     "first, and open that", p.path,
                     some_of(pipeline));
  std::sort(files.begin(), files.end(), [](const DeepspeedFile& a, const DeepspeedFile& b) {
    return std::tie(a.optimizer, a.dp) < std::tie(b.optimizer, b.dp);
  });
  for (size_t i = 1; i < files.size(); ++i)
    if (files[i].optimizer == files[i - 1].optimizer && files[i].dp == files[i - 1].dp)
      return bad_input("opening {}: {} and {} are of the same rank; one is left from another save: remove that", p.path, files[i - 1].name, files[i].name);
  if (files.empty() || files[0].optimizer)
    return bad_input("opening {}: there is no mp_rank_00_model_states.pt or zero_pp_rank_0_mp_rank_00_model_states.pt, which holds the parameters' "
                     "names and shapes; copy it, too",
                     p.path);
  return files;
}

Result<std::vector<DeepspeedParam>> deepspeed_params(const PickleValue* shapes, const std::string& path) {
  std::vector<DeepspeedParam> params;
  if (!shapes || shapes->is_none()) return params;
  PickleItems groups;
  if (shapes->is_dict()) groups = {shapes};
  else groups.assign(shapes->items().begin(), shapes->items().end());
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto items = groups[g]->is_dict() ? groups[g]->items() : std::span<const PickleValue* const>();
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      DeepspeedParam p;
      p.name = pickle_key(*items[i]), p.group = g;
      uint64_t n = 1;
      const PickleValue& shape = *items[i + 1];
      bool good = !p.name.empty() && p.name.find('\0') == std::string::npos && shape.is_sequence() &&
          shape.size() <= static_cast<size_t>(kMaxDims) && params.size() < (4u << 20);
      for (size_t d = 0; good && d < shape.size(); ++d) {
        const int64_t size = shape.at(d)->as_int().value_or(-1);
        good = size >= 0 && checked_mul(n, static_cast<uint64_t>(std::max<int64_t>(size, 1)), &n) && n <= static_cast<uint64_t>(INT64_MAX) / 32;
        if (good) p.shape.push_back(size);
      }
      if (!good) return bad_input("reading {}: the shape of parameter '{}' is none, or overflows; the file is damaged", path, p.name.substr(0, 200));
      params.push_back(std::move(p));
    }
  }
  return params;
}

Status deepspeed_values(const Pickle& pickle, const PickleValue& from, const std::string& prefix, const std::string& path,
                        const std::vector<std::string>& but, Artifact* a) {
  std::map<std::string, std::string> all;
  const auto take = [](const std::string&, const PickleValue& v) -> Result<bool> { return TorchTensors::is_tensor(v); };
  INGOT_TRY(flatten_pickle(pickle, from, prefix, "reading " + path, take, &all));
  for (auto& [name, value] : all)
    if (std::none_of(but.begin(), but.end(), [&](const std::string& b) { return name == b || name.starts_with(b + "/"); }))
      a->values.emplace(name, std::move(value));
  return {};
}

int probe_deepspeed(const Probe& p) {
  if (!p.directory) return 0;
  if (is_tag(p)) return 92;
  const bool steps = std::any_of(p.entries.begin(), p.entries.end(), [](const Entry& e) { return e.directory && e.name.starts_with("global_step"); });
  const bool latest = p.find(kLatest) || p.find(kLatestUniversal);
  return latest && (steps || p.find("zero_to_fp32.py")) ? 92 : is_universal(p) && p.find("zero_to_fp32.py") ? 60 : 0;
}

Result<Artifact> open_deepspeed(Store& store, const Probe& p, Faults*) {
  Probe tag = p;
  if (!is_tag(p)) {
    INGOT_ASSIGN(tag, latest_tag(store, p, p.find(kLatest) ? kLatest : kLatestUniversal));
  }
  INGOT_ASSIGN(Artifact a, is_universal(tag) ? read_deepspeed_universal(store, tag) : read_deepspeed_zero(store, tag));
  a.path = p.path, a.format = "deepspeed";
  return a;
}

}  // namespace ingot
