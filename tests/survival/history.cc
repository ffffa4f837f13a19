// A run's saves through the fault-injecting store over the local one, each of its operations noted among the system calls that fault_shim.cc sees: survival_test.py
// compares the two. history DIR.
#include <dlfcn.h>

#include <cstdio>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/place.h"
#include "checkpoint/saver.h"

using namespace ingot;
using namespace ingot::checkpoint;

namespace {

int fail(const Error& e) {
  std::fprintf(stderr, "history: %s\n", e.message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const auto note = reinterpret_cast<void (*)(const char*, const char*)>(::dlsym(RTLD_DEFAULT, "ingot_faults_note"));
  if (argc != 2 || !note) return std::fprintf(stderr, "history DIR, under fault_shim\n"), 2;
  const auto place = place_for_checkpoints(argv[1]);
  if (!place.ok()) return fail(place.error());
  FaultHooks hooks;
  hooks.hook = [&](uint64_t, const char* op, const std::string& path) {
    note((std::string("store.") + op).c_str(), path.c_str());
    return std::string();
  };
  const auto store = make_fault_store(*place->at.store, hooks);
  SaverOptions o;
  o.keep.last = 2, o.keep.best = 1, o.keep.metric = "val";
  auto saver = Saver::open(*store, place->at.path, o);
  if (!saver.ok()) return fail(saver.error());
  for (int64_t step = 2; step <= 10; step += 2) {
    auto s = testing::make_state(step, {{"model", {1024, 384}}, {"momentum", {384}}});
    s.fill(0, 0, 1);  // never changes
    s.snapshot.metrics = {{"loss", 1.0}};
    const auto handle = (*saver)->save(std::move(s.snapshot));
    if (!handle.ok()) return fail(handle.error());
    if (const Status done = (*handle)->wait(); !done.ok()) return fail(done.error());
    if (const Status told = (*saver)->report(step, {{"val", 1.0 / static_cast<double>(step)}}); !told.ok()) return fail(told.error());
  }
  if (const Status end = (*saver)->close(); !end.ok()) return fail(end.error());
  return 0;
}
