#include "formats/checkpoints_in.h"

#include <algorithm>

#include "formats/hf_weights.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxText = 4096;
constexpr size_t kLooked = 64;  // directories, the greatest numbers first
// Lightning's last.ckpt is a link, which copies without links are texts of.
constexpr const char* kLatestTexts[] = {"latest", "latest.txt", "last_checkpoint", "last.ckpt"};
// Where resuming takes the greatest number, whatever else lies there.
constexpr std::pair<std::string_view, std::string_view> kRules[] = {{"checkpoint-", "transformers"}, {"checkpoint_", "accelerate"}, {"epoch_", "torchtune"}};
constexpr char kUnfinished[] = "checkpoint-is-incomplete.txt";  // transformers writes it before a checkpoint, and removes it after

std::string without_extension(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

void newest_first(std::vector<std::string>* names) {
  const auto key = [](const std::string& n) { return std::pair(step_of(without_extension(n)), std::string_view(n)); };
  std::sort(names->begin(), names->end(), [&](const std::string& a, const std::string& b) { return key(a) > key(b); });
}

// Of a directory, the files in it.
uint64_t bytes_at(Store& store, const std::string& path) {
  uint64_t bytes = 0;
  if (const auto there = store.stat(path); there.ok() && *there && !(*there)->directory()) return (*there)->size;
  if (const auto entries = store.list(path); entries.ok())
    for (const Entry& e : *entries)
      if (const auto there = store.stat(join_path(path, e.name)); there.ok() && *there) bytes += (*there)->size;
  return bytes;
}

// A checkpoint that was written to its end, by all that its names tell.
bool is_complete(Store& store, const std::string& path) {
  const auto p = look_at(store, path);
  return p.ok() && p->directory && !p->find(kUnfinished) && (surest_score(*p) > kConfigScore || p->find("checkpoints") || p->find("checkpoint") || p->find("pytorch_model_fsdp_0"));
}

// The greatest number first; FSDP's optimizer_0/ lies beside its model.
std::vector<std::string> numbered_directories(const Probe& p) {
  std::vector<std::string> names;
  for (const Entry& e : p.entries)
    if (e.directory && e.name[0] != '.' && step_of(e.name.ends_with(".ckpt") ? without_extension(e.name) : e.name) && !e.name.starts_with("optimizer_")) names.push_back(e.name);
  newest_first(&names);
  return names;
}

// "; of those that are there give one: ..".
std::string instead(Store& store, const Probe& p) {
  auto names = numbered_directories(p);
  std::erase_if(names, [&](const std::string& n) { return !is_complete(store, join_path(p.path, n)); });
  if (names.empty()) return "; copy what it should name, or give the checkpoint itself";
  return fmt::format("; give one that is there: {}{}", join_path(p.path, names[0]),
                     names.size() > 1 ? fmt::format(" (others: {})", some_of({names.begin() + 1, names.end()})) : "");
}

}  // namespace

std::string listed_by_step(Store& store, const std::string& directory, std::vector<std::string> names) {
  newest_first(&names);
  constexpr size_t kShown = 5;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) names[i] += fmt::format(" ({} bytes)", bytes_at(store, join_path(directory, names[i])));
  return some_of(names, kShown);
}

Result<std::optional<LatestName>> latest_name(Store& store, const Probe& p) {
  for (const char* file : kLatestTexts) {
    const Entry* e = p.find(file);
    if (!e) continue;
    const std::string path = join_path(p.path, file);
    if (e->directory) return std::optional(LatestName{file, file, true});
    INGOT_ASSIGN(const OpenedFile opened, open_head(store, path));
    if (opened.head.size() > kMaxText || opened.head.find('\0') != std::string::npos) continue;  // no text, but a file of that name
    std::string text = opened.head;
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
    text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    while (text.size() > 1 && text.back() == '/') text.pop_back();
    if (text.empty()) return bad_input("opening {}: it is empty, expected the name of a checkpoint{}", path, instead(store, p));
    if (text.find_first_of("\r\n") != std::string::npos)
      return bad_input("opening {}: it has several lines, expected the name of one checkpoint{}", path, instead(store, p));
    const Entry* named = p.find(text);
    // The number of a step alone.
    if (!named && text.find_first_not_of("0123456789") == std::string::npos)
      for (const Entry& other : p.entries)
        if (step_of(without_extension(other.name)) == step_of("-" + text) && (!named || named->name.size() > other.name.size())) named = &other;
    if (named && is_inside(named->name)) return std::optional(LatestName{named->name, file, named->directory});
    if (!is_inside(text))
      return bad_input("opening {}: it names '{}', which is no place in this directory; {}", path, text.substr(0, 200),
                       text[0] == '/' ? "give that path itself, or where it lies now" + instead(store, p) : "refused" + instead(store, p));
    INGOT_ASSIGN(const auto deeper, store.stat(join_path(p.path, text)));
    if (!deeper || text.find('/') == std::string::npos) return bad_input("opening {}: it names '{}', which is not there{}", path, text.substr(0, 200), instead(store, p));
    return std::optional(LatestName{text, file, deeper->directory()});
  }
  return std::optional<LatestName>();
}

Result<std::optional<MeantCheckpoint>> checkpoint_meant(Store& store, const Probe& p, bool strays) {
  const auto meant = [&](const std::string& name, std::string why, std::vector<std::string> others) {
    std::erase(others, name);
    return std::optional(MeantCheckpoint{join_path(p.path, name), fmt::format("{}: {}", p.path, why),
                                         others.empty() ? "" : fmt::format("; to take another, give {}{}", join_path(p.path, others[0]),
                                                                           others.size() > 1 ? fmt::format(" (or {})", some_of({others.begin() + 1, others.end()})) : "")});
  };
  std::vector<std::string> names = numbered_directories(p);
  INGOT_ASSIGN(const auto latest, latest_name(store, p));
  if (latest && latest->directory) {
    std::string newer;
    for (const auto& n : names)
      if (newer.empty() && family_of(n) == family_of(latest->name) && step_of(n) > step_of(latest->name)) newer = fmt::format("; {} has a greater number", n);
    return meant(latest->name, latest->name == latest->text ? fmt::format("its directory {} is taken", latest->name)
                                                            : fmt::format("{} is taken, which its file '{}' names{}", latest->name, latest->text, newer), names);
  }
  if (latest) return std::optional<MeantCheckpoint>();  // a file, of weights that lie here
  const std::vector<std::string> every = names;
  const size_t all = names.size();
  if (names.size() > kLooked) names.resize(kLooked);
  std::vector<std::string> half;
  std::erase_if(names, [&](const std::string& n) { return !is_complete(store, join_path(p.path, n)) && (half.push_back(n), true); });
  for (const auto& [family, framework] : kRules) {
    std::vector<std::string> own, passed;
    for (const auto& n : names)
      if (family_of(n) == family) own.push_back(n);
    for (const auto& n : half)
      if (!own.empty() && family_of(n) == family && step_of(n) > step_of(own[0])) passed.push_back(n);
    if (own.empty() || own.size() != names.size()) continue;
    const std::string which = own.size() == 1 ? "its only checkpoint" : fmt::format("the last of its {} checkpoints, as {} resumes", std::count_if(every.begin(), every.end(), [&](const auto& n) { return family_of(n) == family; }), framework);
    return meant(own[0], fmt::format("{} is taken, {}{}", own[0], which,
                                     passed.empty() ? "" : fmt::format("; passed over, as it was not saved to its end: {}", some_of(passed))), own);
  }
  if (strays) return std::optional<MeantCheckpoint>();
  if (names.empty() && all > 0 && !p.find("checkpoints"))
    if (const auto& last = half[0]; std::any_of(std::begin(kRules), std::end(kRules), [&](const auto& r) { return r.first == family_of(last); }))
      return bad_input("opening {}: none of its {} checkpoints has weights that are whole (the last is {}): they were not saved to their end, or not copied whole", p.path, all,
                       join_path(p.path, last));
  // One within the other: Lightning's, accelerate's; checkpoint/ of Lightning with DeepSpeed, without its `latest`.
  for (const char* within : {"checkpoints", "lightning_logs", "checkpoint"})
    if (const Entry* e = p.find(within); e && e->directory && names.empty()) return meant(within, fmt::format("its directory {} is taken", within), {});
  if (names.size() == 1) return meant(names[0], fmt::format("{} is taken, its only checkpoint", names[0]), {});
  if (names.empty()) return std::optional<MeantCheckpoint>();
  return bad_input("opening {}: it holds {} checkpoints, and nothing says which is meant: {}; give one, like: {}", p.path, names.size(),
                   listed_by_step(store, p.path, names), join_path(p.path, names[0]));
}

}  // namespace ingot
