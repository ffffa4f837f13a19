#include "checkpoint/uploads.h"

#include <cmath>
#include <ctime>
#include <thread>

#include "base/clock.h"
#include "checkpoint/manifest.h"
#include "formats/json.h"
#include "storage/mount_table.h"
#include "storage/rclone.h"
#include "storage/store.h"

namespace ingot::checkpoint {
namespace {

using State = Upload::State;

// rclone queues a file a moment after close() has returned (FUSE releases it behind the back of its user): an empty queue says something only then.
constexpr double kReleased = 2;

class RcloneUploads final : public Uploads {
 public:
  explicit RcloneUploads(Store& store, std::string directory) : store_(store), directory_(std::move(directory)) {}

  Upload look(const std::string& checkpoint, const std::vector<std::string>& files, double closed) override {
    const auto table = mounts();
    const Mounted* m = mount_of(table, checkpoint);
    if (!m || m->type != "fuse.rclone") return {State::kUnknown, 0, fmt::format("the mount that {} lay in is gone", checkpoint)};
    const auto rclone = process_of(table, *m);
    if (!rclone)
      return {State::kUnknown, 0,
              fmt::format("no rclone that serves {} is among the processes seen from here (in a container those of the host are out of sight; run with the host's: docker run --pid=host)", m->point)};
    if (!rclone->caches) return {State::kDone, 0, "rclone runs without a cache: what is closed is uploaded"};
    const auto resolved = store_.resolve(checkpoint);
    const std::string within = relative(*m, resolved.ok() ? *resolved : checkpoint);
    std::string why;
    Json stats;
    if (const std::string meta = meta_of(*rclone, *m, &stats, &why); !meta.empty()) {
      // Of each file, as soon as it is written to: the queue has only those that have been closed.
      Upload u = by_meta(join_path(meta, within), files);
      if (u.state != State::kUnknown) return u;
      why += (why.empty() ? "" : "; ") + u.how;
    }
    if (const Json queue = asked(*rclone, "vfs/queue", m->source, nullptr); json_member(queue, "queue")) {
      Upload u{State::kDone, 0, "rclone's queue"};
      for (const Json& item : queue["queue"])
        if (json_string(item, "name").value_or("").starts_with(within + "/")) u.state = State::kPending, ++u.pending;
      return released(u, closed);
    }
    if (const Json* cache = json_member(stats, "diskCache")) {
      const int64_t left = json_int(*cache, "uploadsInProgress").value_or(0) + json_int(*cache, "uploadsQueued").value_or(0);
      return released({left ? State::kPending : State::kDone, static_cast<size_t>(left), "rclone's vfs/stats"}, closed);
    }
    if (!rclone->log.empty())
      if (Upload u = upload_by_log(tail_of(rclone->log, 1 << 20), closed); u.state != State::kUnknown) return u;
    return {State::kUnknown, 0, fmt::format("rclone (process {}) tells nothing of its queue: {}. Start it with --rc, or let this user read {}", rclone->process, why.empty() ? "it has no cache directory here" : why, rclone->cache)};
  }

  std::string too_much(uint64_t bytes, uint64_t pending) override {
    const auto table = mounts();
    const Mounted* m = mount_of(table, directory_);
    const auto rclone = m ? process_of(table, *m) : std::nullopt;
    if (!rclone || !rclone->caches) return "";
    std::string text;
    if (rclone->cap && bytes + pending > *rclone->cap)
      text = fmt::format("rclone's cache is capped at {} bytes (--vfs-cache-max-size) and cannot give up what is not uploaded: {} bytes come now, {} wait. It will grow over the cap until they are uploaded. "
                         "Raise the cap (SkyPilot: config.mount_cached.vfs_cache_max_size), or save less often",
                         *rclone->cap, bytes, pending);
    if (const auto room = store_.free_space(rclone->cache); room.ok() && *room < bytes)
      text += fmt::format("{}rclone's cache in {} has {} bytes free on its disk, and {} come now: the save fails unless rclone frees what it has uploaded already. Give rclone a larger disk (--cache-dir)", text.empty() ? "" : ". And ", rclone->cache, *room, bytes);
    return text;
  }

  std::string described() override {
    const auto table = mounts();
    const Mounted* m = mount_of(table, directory_);
    const auto rclone = m ? process_of(table, *m) : std::nullopt;
    if (!rclone) return "rclone, which none of the processes seen from here serves: what is closed may be uploaded later, and nobody here can tell when";
    if (!rclone->caches) return fmt::format("rclone (process {}) without a cache: what is closed is in the bucket", rclone->process);
    std::string why;
    Json stats;
    const std::string meta = meta_of(*rclone, *m, &stats, &why);
    return fmt::format("rclone (process {}) uploads what is closed later; its cache in {} {}; {}", rclone->process, rclone->cache,
                       rclone->cap ? fmt::format("holds {} bytes, and more while they are not uploaded", *rclone->cap) : "has no limit",
                       !meta.empty() ? "what is not uploaded yet is seen there" : !stats.empty() ? "what is not uploaded yet its remote control tells" : !rclone->log.empty() ? "what is not uploaded yet its log tells" : "what is not uploaded yet nobody here can tell");
  }

 private:
  static std::optional<RcloneMount> process_of(const std::vector<Mounted>& table, const Mounted& m) {
    // A bind mount has another point than the one that rclone was given.
    std::vector<std::string> points = {m.point};
    for (const Mounted& other : table)
      if (other.device == m.device) points.push_back(other.point);
    return find_rclone(points);
  }

  // The path as the bucket's root has it.
  static std::string relative(const Mounted& m, const std::string& path) {
    std::string p = m.root == "/" ? "" : m.root.substr(1) + "/";
    p += path.size() > m.point.size() ? path.substr(m.point == "/" ? 1 : m.point.size() + 1) : "";
    return p;
  }

  static Json asked(const RcloneMount& r, const char* what, const std::string& fs, std::string* why) {
    if (r.control.empty()) return {};
    // Of a remote control of several mounts "fs" picks one; one mount alone needs none, whatever its remote is called.
    for (const std::string& json : {json_line({{"fs", fs}}), std::string("{}")}) {
      const auto text = ask_rclone(r.control, what, json);
      if (!text.ok() && why) *why = text.error().message;
      if (auto j = text.ok() ? parse_json(*text, what) : Result<Json>(failed("no answer")); j.ok()) return std::move(*j);
    }
    return {};
  }

  // Where the cache notes of each file what of it is uploaded; empty: not to be found from here. `stats`: what rclone says of itself, where it had to be asked.
  std::string meta_of(const RcloneMount& r, const Mounted& m, Json* stats, std::string* why) const {
    if (std::string path = computed_meta(r, m); !path.empty()) return path;
    *stats = asked(r, "vfs/stats", m.source, why);
    const Json* cache = json_member(*stats, "diskCache");
    const auto path = cache ? json_string(*cache, "pathMeta") : std::nullopt;
    return path && readable(*path) ? *path : "";
  }
  std::string computed_meta(const RcloneMount& r, const Mounted& m) const {
    // "m:bucket/runs"; an unnamed remote begins with a colon, one of this machine has none.
    const size_t colon = m.source.find(':', 1);
    std::string name = colon == std::string::npos ? "local" : m.source.substr(0, colon), root = colon == std::string::npos ? m.source : m.source.substr(colon + 1);
    while (root.starts_with('/')) root = root.substr(1);
    const std::string above = join_path(r.cache, "vfsMeta");
    if (const std::string path = join_path(join_path(above, name), root); readable(path)) return path;
    // Options in a remote's own text end as a hash after its name.
    std::string only;
    for (const std::string& d : directories_in(store_, above, name + "{"))
      if (const std::string path = join_path(join_path(above, d), root); readable(path)) {
        if (!only.empty()) return "";
        only = path;
      }
    return only;
  }

  bool readable(const std::string& path) const { return store_.list(path).ok(); }

  Upload by_meta(const std::string& directory, const std::vector<std::string>& files) const {
    Upload u{State::kDone, 0, "rclone's cache"};
    for (const std::string& name : files) {
      const auto there = store_.stat(join_path(directory, name));
      if (!there.ok()) return {State::kUnknown, 0, there.error().message};
      if (!*there) continue;  // uploaded, and given up since
      if (!is_clean(join_path(directory, name))) u.state = State::kPending, ++u.pending;
    }
    return u;
  }

  // A note that is being written is looked at again.
  bool is_clean(const std::string& note) const {
    for (int tries = 0; tries < 10; ++tries) {
      if (tries) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      const auto text = read_text(store_, note, 1 << 20);
      if (const auto clean = text.ok() ? clean_by_meta(*text) : std::nullopt) return *clean;
    }
    return false;
  }

  static Upload released(Upload u, double closed) {
    if (u.state == State::kDone && std::abs(unix_time() - closed) < kReleased) u.state = State::kPending;
    return u;
  }

  Store& store_;
  const std::string directory_;
};

}  // namespace

std::optional<bool> clean_by_meta(const std::string& text) {
  const auto j = parse_json(text, "vfsMeta");
  const auto dirty = j.ok() ? json_bool(*j, "Dirty") : std::nullopt;
  return dirty ? std::optional<bool>(!*dirty) : std::nullopt;
}

Upload upload_by_log(const std::string& log, double closed) {
  constexpr std::string_view kSaid = "vfs cache: cleaned: objects ", kIdle = " in use 0, to upload 0, uploading 0,";
  const size_t at = log.rfind(kSaid);
  if (at == std::string::npos) return {};
  const size_t begin = log.rfind('\n', at) == std::string::npos ? 0 : log.rfind('\n', at) + 1, end = std::min(log.find('\n', at), log.size());
  const std::string line = log.substr(begin, end - begin);
  struct tm t = {};
  const char* rest = ::strptime(line.c_str(), "%Y/%m/%d %H:%M:%S", &t);
  t.tm_isdst = -1;  // rclone writes the time of day where it runs, in whole seconds
  if (!rest || static_cast<double>(::mktime(&t)) < closed) return {};
  if (line.find(kIdle) != std::string::npos) return {State::kDone, 0, "rclone's log"};
  return {State::kPending, 1, "rclone's log"};
}

std::shared_ptr<Uploads> uploads_of(const std::string& directory, const MountProbe& probe) {
  if (!probe.caches()) return nullptr;
  const auto at = locate(directory);
  const auto where = at.ok() ? at->store->resolve(at->path) : Result<std::string>(failed("nowhere"));
  if (!where.ok()) return nullptr;
  return std::make_shared<RcloneUploads>(*at->store, *where);
}

std::shared_ptr<Uploads> uploads_of(const std::string& directory) {
  const auto at = locate(directory);
  const auto where = at.ok() ? at->store->resolve(at->path) : Result<std::string>(failed("nowhere"));
  if (!where.ok()) return nullptr;
  MountProbe p;
  const auto table = mounts();
  if (const Mounted* m = mount_of(table, *where)) p.type = m->type, p.source = m->source;
  return uploads_of(directory, p);
}

}  // namespace ingot::checkpoint
