// Models by the names that they have on the Hugging Face Hub, found in its local cache as huggingface_hub lays it out:
// HUB/models--ORG--NAME/ with refs/REVISION (a commit), snapshots/COMMIT/ (the files, mostly links) and blobs/. Nothing is fetched, nothing written.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "storage/store.h"

namespace ingot {

// "org/model", "model" or either with "@revision": a branch or tag, with slashes or not, or a commit.
struct HubId {
  std::string repo, revision;  // no revision: what the cache calls main
  std::string text() const { return revision.empty() ? repo : repo + "@" + revision; }
};
// By the rules of huggingface_hub for names. Nothing where the text cannot be one.
std::optional<HubId> parse_hub_id(std::string_view text);

// The cache's directory, by the first of these that is set: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME (/hub), XDG_CACHE_HOME
// (/huggingface/hub), HOME or else the user's directory by the system (/.cache/huggingface/hub). Empty where none is.
std::string hub_cache();

// An input as a user names it: a path or URL as locate() has them, hf://ID, or an ID, if neither its first component nor the whole is
// an existing path. An id leads to its snapshot's directory, and "org/model/FILE" into that of a model that the cache has; whether all files
// are in it is for who opens it to find out. kBadInput: an id that the cache has not, with where was looked and how to download it.
Result<Located> locate_model(const std::string& given);

// What a path into a cache (any cache, not only hub_cache()) tells of itself: it is a snapshot's directory or leads through one.
struct HubSnapshot {
  std::string hub, repo, commit;  // "/x/hub", "org/model", "3f2a.."
  std::string folder() const;     // of the repository
};
std::optional<HubSnapshot> hub_snapshot(const std::string& path);
// Whether a file at this path lies among downloads that are named by the hash of their bytes (a Hub's cache, Ollama's models): with other bytes it would be a damaged one.
bool named_by_hash(const std::string& path);
// The repository whose folder in a cache has this name ("models--org--model"); empty where it is none.
std::string hub_repository(const std::string& folder_name);
// The snapshot of a repository's folder that is meant by the revision.
Result<std::string> find_snapshot(Store& store, const std::string& folder, const HubId& id);

// What a model at this path is called: the last component; of a snapshot not the commit, but the model.
std::string model_name(const std::string& path);
// What a quantized copy was probably made from, by the endings that names of such copies have: "org/model" of "org/model-bnb-4bit". Empty:
// its name says nothing of the kind.
std::string hub_original(const std::string& repo);
// "hf download org/model".
std::string hub_download(const HubId& id);
// ": hf download org/model", for whoever misses a file of a snapshot; empty where the path leads through none.
std::string hub_download(Store& store, const std::string& path);

}  // namespace ingot
