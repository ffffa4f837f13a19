// Ids to snapshots. What is read here (names of folders, the text of refs) may be anything: it becomes part of a path only as one plain component.
#include "storage/hub.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace ingot {
namespace {

constexpr std::string_view kModels = "models--", kScheme = "hf://";

bool is_word(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_hex(std::string_view s) { return s.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

// huggingface_hub: 1 to 96 of A-Z a-z 0-9 _ - . that begin and end with a letter, a digit or _.
bool is_part(std::string_view s) {
  return !s.empty() && s.size() <= 96 && is_word(s.front()) && is_word(s.back()) &&
         std::all_of(s.begin(), s.end(), [](char c) { return is_word(c) || c == '-' || c == '.'; });
}

// One component of a path that leads nowhere else.
bool is_component(std::string_view s) {
  return !s.empty() && s.size() <= 255 && s != "." && s != ".." &&
         std::all_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) > ' ' && c != '/' && c != '\\' && c != 127; });
}

bool is_revision(std::string_view s) {
  for (size_t begin = 0; begin <= s.size();) {
    const size_t end = std::min(s.find('/', begin), s.size());
    if (!is_component(s.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return s.size() <= 1024;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// HOME, or without it (cron, systemd) what the system knows of the user, as Python's expanduser has it.
std::string home() {
  if (std::string path = environment("HOME"); !path.empty()) return path;
  passwd entry{}, *found = nullptr;
  std::string buffer(1 << 14, '\0');
  return ::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found && found->pw_dir ? found->pw_dir : "";
}

// "~/x", "$VAR/x" and "${VAR}/x" as Python's expanduser and expandvars have them: what is not set stays.
std::string expand(std::string path) {
  if ((path == "~" || path.starts_with("~/")) && !home().empty()) path.replace(0, 1, home());
  std::string out;
  for (size_t i = 0; i < path.size();) {
    const bool brace = path.compare(i, 2, "${") == 0;
    const size_t begin = i + 1 + brace;
    size_t end = begin;
    while (path[i] == '$' && end < path.size() && is_word(path[end])) ++end;
    const char* value = end > begin && (!brace || (end < path.size() && path[end] == '}')) ? std::getenv(path.substr(begin, end - begin).c_str()) : nullptr;
    if (value) out += value, i = end + brace;
    else out += path[i++];
  }
  return out;
}

// The commit that a ref holds; empty where there is no such ref.
Result<std::string> read_ref(Store& store, const std::string& folder, const std::string& revision) {
  const std::string path = join_path(folder, "refs/" + revision);
  INGOT_ASSIGN(const auto there, store.stat(path));
  if (!there || there->kind != Stat::Kind::kFile) return std::string();
  INGOT_ASSIGN(std::string commit, read_text(store, path, 1024));
  commit.erase(commit.find_last_not_of(" \r\n\t") + 1);
  commit.erase(0, commit.find_first_not_of(" \r\n\t"));
  if (!is_component(commit)) return bad_input("reading {}: it holds no commit; remove it and download the model again", path);
  return commit;
}

// All refs, "main" or "refs/pr/1"; a cache has few.
void list_refs(Store& store, const std::string& folder, const std::string& below, int depth, std::vector<std::string>* out) {
  const auto entries = store.list(join_path(join_path(folder, "refs"), below));
  if (!entries.ok() || depth > 4) return;
  for (const Entry& e : *entries) {
    if (out->size() >= 64) return;
    const std::string name = below.empty() ? e.name : join_path(below, e.name);
    if (e.directory) list_refs(store, folder, name, depth + 1, out);
    else out->push_back(name);
  }
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  const size_t shown = std::min<size_t>(names.size(), 4);
  for (size_t i = 0; i < shown; ++i) text += fmt::format("{}{}", i ? ", " : "", names[i]);
  return names.empty() ? "none" : fmt::format("{}{}", text, names.size() > shown ? ", .." : "");
}

std::string download(const std::string& hub, const HubId& id) {
  std::string line = fmt::format("hf download {}", id.repo);
  if (!id.revision.empty() && id.revision != "main") line += fmt::format(" --revision {}", id.revision);
  if (hub != hub_cache()) line += fmt::format(" --cache-dir '{}'", hub);
  const std::string offline = environment("HF_HUB_OFFLINE"), off = offline.empty() ? environment("TRANSFORMERS_OFFLINE") : offline;
  // As huggingface_hub reads a switch.
  for (const char* on : {"1", "ON", "YES", "TRUE", "on", "yes", "true", "On", "Yes", "True"})
    if (off == on) line += " (HF_HUB_OFFLINE is set here: unset it for that)";
  return line;
}

std::string lower(std::string s) {
  for (char& c : s) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return s;
}

Error not_cached(Store& store, const std::string& given, const std::string& hub, const HubId& id) {
  const std::string what = given.starts_with(kScheme) ? fmt::format("'{}'", given) : fmt::format("'{}' is no file or directory here, and", given);
  if (hub.empty())
    return bad_input("{}: where the Hugging Face Hub's local cache is cannot be told, as neither HF_HUB_CACHE, HF_HOME nor HOME is set; set one", what);
  std::string near;
  const auto names = directories_in(store, hub, kModels);
  for (const std::string& name : names)
    if (lower(hub_repository(name)) == lower(id.repo)) near = hub_repository(name);
  if (!near.empty()) return bad_input("{} is not in the Hugging Face Hub's local cache ({}); did you mean '{}'?", what, hub, near);
  const auto there = store.stat(hub);
  return bad_input("{} is not in the Hugging Face Hub's local cache ({}{}); if it is a model's name, download it: {}", what, hub,
                   there.ok() && *there ? "" : ", which does not exist", download(hub, id));
}

std::string folder_of(const std::string& hub, const std::string& repo) {
  std::string name(kModels);
  for (const char c : repo) name += c == '/' ? std::string("--") : std::string(1, c);
  return join_path(hub, name);
}

Result<bool> is_there_at(Store& store, const std::string& path) {
  INGOT_ASSIGN(const auto there, store.stat(path));
  return there.has_value();
}

}  // namespace

std::optional<HubId> parse_hub_id(std::string_view text) {
  const size_t at = text.find('@');
  const std::string_view repo = text.substr(0, at), revision = at == std::string_view::npos ? "" : text.substr(at + 1);
  if (at != std::string_view::npos && !is_revision(revision)) return std::nullopt;
  const size_t slash = repo.find('/');
  if (!is_part(repo.substr(0, slash)) || (slash != std::string_view::npos && !is_part(repo.substr(slash + 1)))) return std::nullopt;
  if (repo.find("--") != std::string_view::npos || repo.find("..") != std::string_view::npos || repo.ends_with(".git")) return std::nullopt;
  return HubId{std::string(repo), std::string(revision)};
}

std::string hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (std::string path = environment(name); !path.empty()) {
      path = expand(path);
      while (path.size() > 1 && path.back() == '/') path.pop_back();
      return path;
    }
  if (const std::string home = environment("HF_HOME"); !home.empty()) return join_path(expand(home), "hub");
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty()) return join_path(expand(cache), "huggingface/hub");
  return home().empty() ? "" : join_path(home(), ".cache/huggingface/hub");
}

Result<std::string> find_snapshot(Store& store, const std::string& folder, const HubId& id) {
  const std::string hub = parent_path(folder), all = join_path(folder, "snapshots");
  const std::vector<std::string> snapshots = directories_in(store, all);
  const auto has = [&](const std::string& commit) { return std::binary_search(snapshots.begin(), snapshots.end(), commit); };
  const std::string revision = id.revision.empty() ? "main" : id.revision;
  INGOT_ASSIGN(const std::string commit, read_ref(store, folder, revision));
  if (has(commit)) return join_path(all, commit);
  if (!commit.empty())
    return bad_input("'{}': the Hugging Face Hub's cache ({}) says that {} is commit {}, but has not its files (those of other commits: {}); download "
                     "it: {}", id.text(), folder, revision, commit, listed(snapshots), download(hub, id));
  if (has(revision)) return join_path(all, revision);
  std::vector<std::string> begin;
  if (is_hex(revision) && revision.size() >= 4)
    for (const std::string& s : snapshots)
      if (s.starts_with(revision)) begin.push_back(s);
  if (begin.size() == 1) return join_path(all, begin[0]);
  if (begin.size() > 1)
    return bad_input("'{}': {} commits in the Hugging Face Hub's cache ({}) begin with {}: {}; give more of it", id.text(), begin.size(), folder,
                     revision, listed(begin));
  std::vector<std::string> refs;
  list_refs(store, folder, "", 0, &refs);
  std::sort(refs.begin(), refs.end());
  // A copy of nothing but the files.
  if (id.revision.empty() && refs.empty() && snapshots.size() == 1) return join_path(all, snapshots[0]);
  if (snapshots.empty())
    return bad_input("'{}': the Hugging Face Hub's cache ({}) holds no snapshot of it, the download did not get so far; repeat it: {}", id.text(),
                     folder, download(hub, id));
  const std::string& like = refs.empty() ? snapshots[0] : refs[0];
  return bad_input("'{}': the Hugging Face Hub's cache ({}) has no revision '{}' of it (branches and tags there: {}; commits: {}); give one, "
                   "like {}@{}, or download it: {}", id.text(), folder, revision, listed(refs), listed(snapshots), id.repo, like, download(hub, id));
}

namespace {

// "org/model/FILE" of a repository that is in the cache; empty where it is a path.
Result<std::string> file_of_snapshot(Store& store, const std::string& given) {
  const size_t slash = given.find('/'), end = given.find('/', std::min(slash, given.size() - 1) + 1);
  const auto id = parse_hub_id(std::string_view(given).substr(0, end));
  const std::string hub = hub_cache();
  if (!id || end == std::string::npos || hub.empty() || given.find("/..", end) != std::string::npos) return std::string();
  INGOT_ASSIGN(const bool first, is_there_at(store, given.substr(0, slash)));
  INGOT_ASSIGN(const bool cached, is_there_at(store, join_path(folder_of(hub, id->repo), "snapshots")));
  if (first || !cached) return std::string();
  INGOT_ASSIGN(const std::string snapshot, find_snapshot(store, folder_of(hub, id->repo), *id));
  return join_path(snapshot, given.substr(end + 1));
}

}  // namespace

Result<Located> locate_model(const std::string& given) {
  for (const std::string_view page : {"https://huggingface.co/", "https://hf.co/"})
    if (given.starts_with(page)) {
      const size_t model = given.find('/', page.size()), end = model == std::string::npos ? model : given.find('/', model + 1);
      if (const auto id = parse_hub_id(std::string_view(given).substr(page.size(), end - page.size())))
        return bad_input("'{}': nothing is fetched from there; download it: {}, then give {}", given, download(hub_cache(), *id), id->repo);
    }
  const bool url = given.starts_with(kScheme);
  std::string_view name = std::string_view(given).substr(url ? kScheme.size() : 0);
  if (name.ends_with('/')) name.remove_suffix(1);
  const auto id = parse_hub_id(name);
  if (url && !id)
    return usage("'{}': expected hf://ORG/MODEL or hf://ORG/MODEL@REVISION; a file of it is given by its path in the cache ({})", given, hub_cache());
  Store& store = local_store();
  if (!id) {
    INGOT_ASSIGN(std::string file, file_of_snapshot(store, given));
    return file.empty() ? locate(given) : Located{&store, std::move(file)};
  }
  const std::string hub = hub_cache(), folder = folder_of(hub, id->repo);
  if (!url) {
    INGOT_ASSIGN(const bool first, is_there_at(store, id->repo.substr(0, id->repo.find('/'))));
    INGOT_ASSIGN(const bool whole, is_there_at(store, given));
    if (first || whole) return locate(given);
  }
  const auto there = hub.empty() ? Result<std::optional<Stat>>(std::optional<Stat>()) : store.stat(folder);
  if (!there.ok()) return Error(there.error()).during(fmt::format("looking for '{}' in the Hugging Face Hub's cache", given));
  if (*there && (*there)->directory()) {
    INGOT_ASSIGN(std::string snapshot, find_snapshot(store, folder, *id));
    return Located{&store, std::move(snapshot)};
  }
  // "model.gguf" that is not there is a path with a slip, not a name.
  for (const char* end : {".gguf", ".safetensors", ".json", ".yaml", ".yml", ".bin", ".pt", ".txt"})
    if (!url && given.ends_with(end)) return locate(given);
  return not_cached(store, given, hub, *id);
}

std::string HubSnapshot::folder() const { return folder_of(hub, repo); }

std::string hub_repository(const std::string& name) {
  if (!name.starts_with(kModels)) return "";
  const std::string rest = name.substr(kModels.size());
  const size_t at = rest.find("--");
  const std::string repo = at == std::string::npos ? rest : fmt::format("{}/{}", rest.substr(0, at), rest.substr(at + 2));
  return parse_hub_id(repo) ? repo : "";
}

std::optional<HubSnapshot> hub_snapshot(const std::string& path) {
  constexpr std::string_view kSnapshots = "/snapshots/";
  for (size_t at = path.rfind(kSnapshots); at != std::string::npos && at > 0; at = path.rfind(kSnapshots, at - 1)) {
    const std::string folder = path.substr(0, at), repo = hub_repository(file_name(folder));
    const size_t begin = at + kSnapshots.size();
    const std::string commit = path.substr(begin, path.find('/', begin) - begin);
    if (!repo.empty() && !commit.empty()) return HubSnapshot{parent_path(folder), repo, commit};
  }
  return std::nullopt;
}

bool named_by_hash(const std::string& path) { return hub_snapshot(path) || file_name(parent_path(path)) == "blobs"; }

std::string model_name(const std::string& path) {
  const std::string last = file_name(path);
  const auto snapshot = hub_snapshot(path);
  return snapshot && last == snapshot->commit ? file_name(snapshot->repo) : last;
}

std::string hub_original(const std::string& repo) {
  for (const std::string_view end : {"-unsloth-bnb-4bit", "-bnb-4bit", "-bnb-8bit", "-gptq-int4", "-gptq-int8", "-gptq-4bit", "-gptq-8bit", "-gptq",
                                     "-awq-int4", "-awq-4bit", "-awq", "-hqq", "-aqlm", "-int4", "-int8", "-4bit", "-8bit"})
    if (repo.size() > end.size() && lower(repo).ends_with(end)) {
      const std::string original = repo.substr(0, repo.size() - end.size());
      return parse_hub_id(original) ? original : "";
    }
  return "";
}

std::string hub_download(const HubId& id) { return download(hub_cache(), id); }

std::string hub_download(Store& store, const std::string& path) {
  const auto s = hub_snapshot(path);
  if (!s) return "";
  const auto main = read_ref(store, s->folder(), "main");
  return fmt::format(": {}", download(s->hub, {s->repo, main.ok() && *main == s->commit ? "" : s->commit}));
}

}  // namespace ingot
