#include "checkpoint/place.h"

#include "storage/direct.h"
#include "storage/mount.h"
#include "storage/mount_table.h"

namespace ingot::checkpoint {

namespace {

Store* mounted(Store& local) {
  static const std::unique_ptr<Store> mount = make_mount_store(local);
  return mount.get();
}

}  // namespace

Result<Located> locate_checkpoints(const std::string& directory) {
  INGOT_ASSIGN(Located at, locate(directory));
  INGOT_ASSIGN(const std::string where, at.store->resolve(at.path));
  const auto table = mounts();
  MountProbe p;
  if (const Mounted* m = mount_of(table, where)) p.type = m->type;
  if (p.bucket()) at.store = mounted(*at.store);
  return at;
}

Result<Place> place_for_checkpoints(const std::string& directory) {
  Place p;
  INGOT_ASSIGN(p.at, locate(directory));
  INGOT_ASSIGN(p.probe, probe_directory(p.at.path));
  if (!p.probe.renames()) p.at.store = mounted(*p.at.store);
  else if (p.probe.writes_directly()) p.at.store = &direct_store();
  return p;
}

void suit(const Place& place, std::optional<double> settle, SaverOptions* o) {
  o->uploads = uploads_of(place.at.path, place.probe);
  o->settle = settle.value_or(place.probe.caches() ? kSettle : 0);
  o->still_there = [place]() -> Status {
    INGOT_ASSIGN(const std::string where, place.at.store->resolve(place.at.path));
    const auto table = mounts();
    const Mounted* m = mount_above(table, where);
    const std::string type = m ? m->type : "unknown", source = m ? m->source : "unknown";
    if (type == place.probe.type && source == place.probe.source) return {};
    return failed("saving into {}: it was on {} ({}), and that is not mounted there any more; what lies there now is {} ({}). Mount it again", place.at.path, place.probe.type, place.probe.source, type, source);
  };
}

}  // namespace ingot::checkpoint
