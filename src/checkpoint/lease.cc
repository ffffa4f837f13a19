#include "checkpoint/lease.h"

#include <unistd.h>

#include <algorithm>
#include <random>

#include "checkpoint/manifest.h"
#include "commit/small_file.h"
#include "formats/json.h"

namespace ingot::checkpoint {
namespace {

std::string lease_path(const std::string& directory) { return join_path(directory, "lease.json"); }

Error taken_over(const std::string& directory, const Lease& by, const std::string& what) {
  return failed("saving into {}: process {} of {} has taken over (epoch {}, {}): this process was taken for lost, and writes there no more. End it; the other one goes on", directory, by.pid, by.host, by.epoch, what);
}

}  // namespace

std::string lease_text(const Lease& l) {
  OrderedJson j;
  j["epoch"] = l.epoch, j["owner"] = l.owner, j["host"] = l.host, j["pid"] = l.pid, j["time"] = l.time;
  return json_text(j);
}

Result<Lease> parse_lease(std::string_view text) {
  INGOT_ASSIGN(const Json j, parse_json(text, "lease.json"));
  Lease l;
  l.epoch = json_int(j, "epoch").value_or(0);
  l.owner = json_string(j, "owner").value_or("");
  l.host = json_string(j, "host").value_or("");
  l.pid = json_int(j, "pid").value_or(0);
  l.time = json_number(j, "time").value_or(0);
  return l;
}

Lease read_lease(Store& store, const std::string& directory) {
  const auto text = read_text(store, lease_path(directory), 1 << 16);
  const auto lease = text.ok() ? parse_lease(*text) : Result<Lease>(failed("nothing"));
  if (lease.ok()) return *lease;
  Lease none;
  none.epoch = 0;
  return none;
}

Status put_lease(Store& store, const std::string& directory, const Lease& l) { return replace_text(store, lease_path(directory), lease_text(l)); }

Status not_taken_since(Store& store, const std::string& directory, std::optional<int64_t> seen) {
  const Lease now = read_lease(store, directory);
  if (!seen || now.epoch <= *seen) return {};
  return taken_over(directory, now, fmt::format("when this one looked for what to resume from it was {}", *seen));
}

Result<Lease> take_lease(Store& store, const std::string& directory, int64_t newest, double now, const std::string& family) {
  Lease l;
  const int64_t before = read_lease(store, directory).epoch;
  if (before < 0 || before > kMostEpochs) return bad_input("taking {}: its epoch is {}, which nobody wrote; remove the file", lease_path(directory), before);
  l.epoch = std::max(before, newest) + 1;
  std::random_device random;
  l.owner = fmt::format("{}{:08x}{:08x}{:08x}{:08x}", family, random(), random(), random(), random());
  char host[256] = "";
  (void)::gethostname(host, sizeof host - 1);
  l.host = host, l.pid = ::getpid(), l.time = now;
  INGOT_TRY(put_lease(store, directory, l));
  return l;
}

Status still_mine(Store& store, const std::string& directory, const Lease& mine) {
  const Lease now = read_lease(store, directory);
  if (now.epoch == 0 || now.owner == mine.owner || now.epoch < mine.epoch) return {};
  return taken_over(directory, now, fmt::format("this is {}", mine.epoch));
}

}  // namespace ingot::checkpoint
