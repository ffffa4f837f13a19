// ingot._ingot: the engine of checkpoints for the package. Only addresses, names and JSON texts cross this border; what they mean for Python, NumPy and torch is
// the package's matter. Calls that wait or copy release the GIL, and no thread of the engine touches Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/set.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <unistd.h>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "checkpoint/place.h"
#include "checkpoint/preemption.h"
#include "checkpoint/restore.h"
#include "checkpoint/saver.h"
#include "commit/verify.h"
#include "exec/load.h"
#include "formats/formats.h"
#include "formats/outputs.h"
#include "storage/hub.h"

namespace nb = nanobind;
using namespace ingot;
using namespace ingot::checkpoint;

namespace {

// The Python exceptions of the package, by the kind of failure.
PyObject *error_type, *bad_input_type, *interrupted_type;

// What quotes a damaged file may be no UTF-8.
nb::object text(const std::string& s) { return nb::steal(PyUnicode_DecodeUTF8(s.data(), static_cast<Py_ssize_t>(s.size()), "backslashreplace")); }

[[noreturn]] void raise(const Error& e) {
  PyObject* type = e.kind == ErrorKind::kUsage ? PyExc_ValueError : e.kind == ErrorKind::kBadInput ? bad_input_type : e.kind == ErrorKind::kInterrupted ? interrupted_type : error_type;
  PyErr_SetObject(type, text(e.message).ptr());
  throw nb::python_error();
}
template <class T>
T value(Result<T> r) {
  if (!r.ok()) raise(r.error());
  return std::move(r).value();
}
void check(const Status& s) {
  if (!s.ok()) raise(s.error());
}

// What needs no Python: other threads of it run meanwhile.
template <class F>
auto without_gil(F f) {
  nb::gil_scoped_release released;
  return f();
}

Located located(const std::string& path) { return value(locate(path)); }

// (name, shape, offset): of the whole tensor that ranks share
using PartRow = std::tuple<std::string, std::vector<int64_t>, std::vector<int64_t>>;
// (name, type as in safetensors, shape, address, still, part); the address of one that lies on a device is 0
using TensorRow = std::tuple<std::string, std::string, std::vector<int64_t>, uintptr_t, bool, std::optional<PartRow>>;

TensorSpec spec_of(const std::string& name, const std::string& type, const std::vector<int64_t>& shape) {
  const auto t = dtype_by_st_name(type);
  if (!t) raise(usage("'{}' has the type {}, which safetensors has not", name, type));
  if (shape.size() > kMaxDims) raise(usage("'{}' has {} dimensions, at most {} are kept", name, shape.size(), kMaxDims));
  TensorSpec s;
  s.type = *t;
  for (const int64_t d : shape) s.shape.push_back(d);
  return s;
}

nb::tuple shape_of(const TensorSpec& spec) {
  nb::list shape;
  for (int i = 0; i < spec.shape.rank; ++i) shape.append(spec.shape[i]);
  return nb::tuple(shape);
}

nb::object part_of(const std::optional<PartOf>& p) {
  return p ? nb::object(nb::make_tuple(p->name, nb::tuple(nb::cast(p->shape)), nb::tuple(nb::cast(p->offset)))) : nb::none();
}

// (type, shape, file, offset in it, address)
using RangeRow = std::tuple<std::string, std::vector<int64_t>, std::string, uint64_t, uintptr_t>;
std::vector<Target> targets_of(const std::vector<RangeRow>& rows) {
  std::vector<Target> targets;
  for (const auto& [type, shape, file, offset, address] : rows) {
    Target t;
    t.from.spec = spec_of(file, type, shape);
    t.from.file = file, t.from.offset = offset;
    t.into = {reinterpret_cast<std::byte*>(address), bytes_of(t.from.spec)};
    targets.push_back(std::move(t));
  }
  return targets;
}

// (group, stem of its files or "", tensors)
using GroupRow = std::tuple<std::string, std::string, std::vector<TensorRow>>;

Snapshot snapshot_of(int64_t step, const std::vector<GroupRow>& groups, std::string state, std::map<std::string, std::string> files, Metrics metrics) {
  Snapshot s;
  s.step = step, s.state = std::move(state), s.files = std::move(files), s.metrics = std::move(metrics);
  for (const auto& [group, stem, rows] : groups) {
    s.groups.push_back({group, {}, stem});
    for (const auto& [name, type, shape, address, still, part] : rows) {
      Tensor t{name, spec_of(name, type, shape), reinterpret_cast<const std::byte*>(address), still};
      if (part) t.part = PartOf{std::get<0>(*part), std::get<1>(*part), std::get<2>(*part)};
      s.groups.back().tensors.push_back(std::move(t));
    }
  }
  return s;
}

std::map<std::string, std::string> texts_of(const std::map<std::string, nb::bytes>& files) {
  std::map<std::string, std::string> texts;
  for (const auto& [name, bytes] : files) texts[name] = std::string(bytes.c_str(), bytes.size());
  return texts;
}

// The model's files stay what other software reads.
bool compressed_group(const std::string& group) { return group != "model" && !is_adapter(group); }

Keep keep_of(const nb::dict& d) {
  Keep k;
  const auto get = [&]<class T>(const char* name, std::optional<T>* into) {
    if (d.contains(name) && !d[name].is_none()) *into = nb::cast<T>(d[name]);
  };
  get("last", &k.last), get("best", &k.best), get("every_steps", &k.every_steps), get("max_age", &k.max_age), get("max_bytes", &k.max_bytes);
  std::optional<std::string> metric;
  std::optional<bool> greatest, exponential;
  std::optional<std::set<int64_t>> pinned;
  get("metric", &metric), get("greatest", &greatest), get("exponential", &exponential), get("pinned", &pinned);
  k.metric = metric.value_or(""), k.greatest = greatest.value_or(false), k.exponential = exponential.value_or(false), k.pinned = pinned.value_or(std::set<int64_t>());
  return k;
}

// A call into Python from C++ that has released the GIL. What it raises is kept for the caller of the engine, and an error to the engine.
class Callbacks {
 public:
  template <class F>
  Status run(F f) {
    nb::gil_scoped_acquire held;
    try {
      f();
      return {};
    } catch (const std::exception&) {
      raised_ = std::current_exception();
      return failed("copying from a device");
    }
  }
  void rethrow() const {
    if (raised_) std::rethrow_exception(raised_);
  }

 private:
  std::exception_ptr raised_;
};

// A Python object that the engine's threads may drop.
std::shared_ptr<nb::object> shared(nb::object o) {
  return {new nb::object(std::move(o)), [](nb::object* p) {
            if (!Py_IsInitialized()) return;
            nb::gil_scoped_acquire held;
            delete p;
          }};
}

PageLock page_lock_of(const nb::object& lock, const nb::object& unlock) {
  const auto calls = shared(nb::make_tuple(lock, unlock));
  const auto call = [calls](size_t i, auto... arguments) {
    if (!Py_IsInitialized()) return false;
    nb::gil_scoped_acquire held;
    try {
      return nb::cast<bool>((*calls)[i](arguments...));
    } catch (const std::exception&) {
      return false;
    }
  };
  return {[call](std::byte* block, uint64_t bytes) { return call(0, reinterpret_cast<uintptr_t>(block), bytes); },
          [call](std::byte* block) { (void)call(1, reinterpret_cast<uintptr_t>(block)); }};
}

// ingot.ranks.Ranks, asked from the engine's threads.
class PyMeeting final : public Meeting {
 public:
  PyMeeting(nb::object ranks, int rank, int world) : ranks_(shared(std::move(ranks))), rank_(rank), world_(world) {}
  int rank() const override { return rank_; }
  int world() const override { return world_; }
  Status put(const std::string& key, const std::string& text) override {
    return call([&] { ranks_->attr("put")(key, nb::bytes(text.data(), text.size())); });
  }
  Result<std::string> get(const std::string& key, double seconds) override {
    std::optional<std::string> text;
    INGOT_TRY(call([&] {
      const nb::object got = ranks_->attr("get")(key, seconds);
      if (got.is_none()) return;
      const auto bytes = nb::cast<nb::bytes>(got);
      text = std::string(bytes.c_str(), bytes.size());
    }));
    if (!text) return Error{ErrorKind::kNotFound, "nobody has put " + key};
    return *std::move(text);
  }
  void drop(const std::string& key) override {
    (void)call([&] { ranks_->attr("drop")(key); });
  }

 private:
  template <class F>
  Status call(F f) {
    if (!Py_IsInitialized()) return failed("asking the other ranks: the program has ended");
    nb::gil_scoped_acquire held;
    try {
      f();
      return {};
    } catch (const nb::python_error& e) {
      return failed("{}", nb::str(e.value()).c_str());  // what() would be the whole traceback
    } catch (const std::exception& e) {
      return failed("asking the other ranks: {}", e.what());
    }
  }
  const std::shared_ptr<nb::object> ranks_;
  const int rank_, world_;
};

// A checkpoint as it was found: what is done with it looks at no directory again.
struct PyFound {
  Store* store;
  Found found;
};

// A child of fork() has none of the threads of what its parent made.
struct PyPreemption {
  std::unique_ptr<Preemption> listening;
  pid_t process = ::getpid();
  ~PyPreemption() {
    if (::getpid() != process) (void)listening.release();
  }
};

// A saver with the notices it made, which Python asks for.
struct PySaver {
  std::unique_ptr<Saver> saver;
  std::mutex mutex;
  std::vector<std::string> notices;
  pid_t process = ::getpid();
  Saver& get() {
    if (::getpid() != process) raise(failed("saving a checkpoint in a child of fork(): only the process that made the checkpointer saves"));
    if (!saver) raise(usage("the checkpointer is closed"));
    return *saver;
  }
  ~PySaver() {
    if (::getpid() != process) (void)saver.release();
    else if (saver) without_gil([&] { saver.reset(); });
  }
};

}  // namespace

NB_MODULE(_ingot, m) {
  m.doc() = "The engine of checkpoints. Use the package's names instead of these.";
  error_type = nb::exception<std::runtime_error>(m, "Error").release().ptr();
  bad_input_type = nb::exception<std::domain_error>(m, "BadInput", error_type).release().ptr();
  interrupted_type = nb::exception<std::logic_error>(m, "Interrupted", error_type).release().ptr();

  nb::class_<Save>(m, "Save")
      .def_prop_ro("step", &Save::step)
      .def_prop_ro("done", &Save::done)
      // ("done", "pending" or "unknown"; how that was found out, or why it was not)
      .def_prop_ro("uploaded",
                   [](const Save& s) {
                     const Upload u = without_gil([&] { return s.uploaded(); });
                     constexpr const char* kNames[] = {"done", "pending", "unknown"};
                     return std::pair<std::string, std::string>(kNames[static_cast<int>(u.state)], u.how);
                   })
      .def("abort", &Save::abort)
      // Raises what went wrong, if nobody has heard of it.
      .def("poll", [](const Save& s) { check(s.untold()); })
      // True when it is over; what went wrong is raised.
      .def("wait", [](const Save& s, double seconds) {
        (void)without_gil([&] { return s.wait(seconds); });
        if (!s.done()) return false;
        check(s.wait(0));  // its own end: the one above may have come a moment before that
        return true;
      });

  nb::class_<PySaver>(m, "Saver")
      .def("__init__",
           [](PySaver* self, const std::string& directory, const nb::dict& keep, bool skip, int threads, uint64_t max_shard, const std::string& run, std::optional<int64_t> parent, std::optional<double> settle,
              const nb::object& lock, const nb::object& unlock, uint64_t staging, bool compress, std::optional<int64_t> lease_seen, const nb::object& ranks, const std::string& family) {
             new (self) PySaver();
             SaverOptions o;
             o.keep = keep_of(keep), o.overlap = skip ? Overlap::kSkip : Overlap::kWait, o.threads = threads, o.run = run, o.parent = parent, o.lease_seen = lease_seen, o.family = family;
             if (max_shard) o.max_shard = max_shard;
             o.page_lock = page_lock_of(lock, unlock);
             if (staging) o.staging = staging;
             if (compress) o.compress = compressed_group;
             if (!ranks.is_none()) {
               o.patience = nb::cast<double>(ranks.attr("patience"));
               o.neighbours = nb::cast<int>(ranks.attr("neighbours"));
               o.meeting = std::make_shared<PyMeeting>(ranks, nb::cast<int>(ranks.attr("rank")), nb::cast<int>(ranks.attr("world")));
             }
             o.on_notice = [self](const std::string& text) {
               std::lock_guard lock(self->mutex);
               self->notices.push_back(text);
             };
             const Place place = value(without_gil([&] { return place_for_checkpoints(directory); }));
             suit(place, settle, &o);
             self->saver = value(without_gil([&] { return Saver::open(*place.at.store, place.at.path, std::move(o)); }));
           },
           nb::arg("directory"), nb::arg("keep"), nb::arg("skip"), nb::arg("threads"), nb::arg("max_shard"), nb::arg("run"), nb::arg("parent").none(), nb::arg("settle").none(),
           nb::arg("lock"), nb::arg("unlock"), nb::arg("staging"), nb::arg("compress"), nb::arg("lease_seen").none(), nb::arg("ranks").none(), nb::arg("family") = "")
      // from_devices(addresses): begins to copy the rows without an address there, in their order, and returns a call that waits for them.
      .def("save",
           [](PySaver& self, int64_t step, const std::vector<GroupRow>& groups, const std::string& state,
              const std::map<std::string, nb::bytes>& files, const Metrics& metrics, const nb::object& from_devices, const std::string& signature) -> SavePtr {
             Snapshot s = snapshot_of(step, groups, state, texts_of(files), metrics);
             s.signature = signature;
             Saver& saver = self.get();
             Callbacks callbacks;
             nb::object arrived;
             const DeviceCopy copy = [&](const std::vector<std::byte*>& into) -> Result<std::function<Status()>> {
               INGOT_TRY(callbacks.run([&] {
                 nb::list addresses;
                 for (std::byte* p : into) addresses.append(reinterpret_cast<uintptr_t>(p));
                 arrived = from_devices(addresses);
               }));
               return std::function<Status()>([&] { return callbacks.run([&] { arrived(); }); });
             };
             auto saved = without_gil([&] { return saver.save(std::move(s), copy); });
             callbacks.rethrow();
             return value(std::move(saved));
           })
      // Of ranks whose talk is torch's DCP: src/checkpoint/saver.h.
      .def("begin_parts",
           [](PySaver& self, int64_t step, uint64_t bytes) {
             Saver& saver = self.get();
             return value(without_gil([&] { return saver.begin_parts(step, bytes); }));
           })
      .def("publish_parts",
           [](PySaver& self, int64_t step, const std::string& state, const std::map<std::string, nb::bytes>& files, const Metrics& metrics, const std::vector<nb::bytes>& parts) {
             Saver& saver = self.get();
             Snapshot s = snapshot_of(step, {}, state, texts_of(files), metrics);
             std::vector<std::string> told;
             for (const nb::bytes& p : parts) told.emplace_back(p.c_str(), p.size());
             check(without_gil([&] { return saver.publish_parts(std::move(s), told); }));
           })
      .def("abandon_parts",
           [](PySaver& self) {
             Saver& saver = self.get();
             without_gil([&] { saver.abandon_parts(); });
           })
      .def("report",
           [](PySaver& self, int64_t step, const Metrics& metrics) {
             Saver& saver = self.get();
             check(without_gil([&] { return saver.report(step, metrics); }));
           })
      .def("wait",
           [](PySaver& self) {
             Saver& saver = self.get();
             check(without_gil([&] { return saver.wait(); }));
           })
      .def("close",
           [](PySaver& self) {
             Saver& saver = self.get();
             check(without_gil([&] { return saver.close(); }));
           })
      .def_prop_ro("epoch", [](PySaver& self) { return self.get().epoch(); })
      .def("notices", [](PySaver& self) {
        std::lock_guard lock(self.mutex);
        nb::list out;
        for (const std::string& n : std::exchange(self.notices, {})) out.append(text(n));
        return out;
      })
      .def("stats", [](PySaver& self) {
        Saver& saver = self.get();
        const Stats s = without_gil([&] { return saver.stats(); });
        nb::dict d;
        d["saves"] = s.saves, d["skipped"] = s.skipped, d["failed"] = s.failed, d["newest"] = s.newest, d["newest_time"] = s.newest_time;
        if (s.newest >= 0) d["age_seconds"] = s.newest_age;
        d["uploaded"] = s.uploaded, d["pending_bytes"] = s.pending_bytes;
        d["stall_seconds"] = s.stall_seconds, d["save_seconds"] = s.save_seconds, d["bytes"] = s.bytes, d["written_bytes"] = s.written_bytes, d["staging_bytes"] = s.staging_bytes;
        return d;
      });

  // What a rank writes of a save that Saver.begin_parts() began, by its ticket; what it tells Saver.publish_parts(). Threads 0: a few, of all neighbours together.
  m.def("write_part", [](const std::string& directory, const std::string& ticket, int rank, int world, const std::vector<GroupRow>& groups, int threads, int neighbours, uint64_t max_shard, bool compress) {
    const Ticket t = value(parse_ticket(ticket));
    const Snapshot s = snapshot_of(t.step, groups, "", {}, {});
    SaveOptions o;
    o.threads = threads, o.neighbours = neighbours;
    if (max_shard) o.max_shard = max_shard;
    if (compress) o.compress = compressed_group;
    const std::string told = value(without_gil([&]() -> Result<std::string> {
      INGOT_ASSIGN(const Place place, place_for_checkpoints(directory));
      return write_part(*place.at.store, place.at.path, t, s, o, rank, world);
    }));
    return nb::bytes(told.data(), told.size());
  });

  nb::class_<PyPreemption>(m, "Preemption")
      .def("__init__", [](PyPreemption* self, const std::vector<int>& signals, std::optional<double> deadline) {
        new (self) PyPreemption{value(Preemption::listen(signals, deadline))};
      }, nb::arg("signals"), nb::arg("deadline").none())
      .def("close", [](PyPreemption& self) {
        if (::getpid() == self.process) without_gil([&] { self.listening.reset(); });
      });
  // The signal that came, 0: none.
  m.def("preempted", &Preemption::seen);

  nb::class_<Artifact>(m, "Artifact")
      .def_ro("format", &Artifact::format)
      .def_ro("notices", &Artifact::notices)
      .def_ro("values", &Artifact::values)
      // (name, type, shape); the type as safetensors has it, else as ggml has it.
      .def("tensors",
           [](const Artifact& a) {
             nb::list out;
             for (const LazyTensor& t : a.tensors) {
               const auto& type = info(t.spec().type);
               out.append(nb::make_tuple(t.name, std::string(type.st_name.empty() ? type.name : type.st_name), shape_of(t.spec())));
             }
             return out;
           })
      // The metadata of a safetensors file.
      .def("metadata",
           [](const Artifact& a) {
             nb::dict d;
             for (const auto& [key, v] : a.metadata)
               if (const auto* text = std::get_if<std::string>(&v.v)) d[key.c_str()] = *text;
             return d;
           })
      // Tensors by their numbers into memory.
      .def("load", [](const Artifact& a, const std::vector<std::pair<size_t, uintptr_t>>& rows, int threads) {
        TensorList tensors;
        std::vector<MutByteView> into;
        for (const auto& [i, address] : rows) {
          if (i >= a.tensors.size()) raise(usage("there is no tensor number {}", i));
          tensors.push_back(a.tensors[i]);
          into.push_back({reinterpret_cast<std::byte*>(address), bytes_of(a.tensors[i].spec())});
        }
        ExecOptions o;
        o.threads = threads;
        check(without_gil([&] { return load(tensors, into, o); }));
      });
  m.def("open", [](const std::string& path) {
    const Located at = value(locate_model(path));
    return value(without_gil([&] { return open_model(*at.store, at.path); }));
  });
  // Of the files that a rank has of a group whose tensors are shared.
  m.def("rank_stem", [](const std::string& group, int rank) { return rank_stem(group, rank); });
  // One safetensors file, by the executor: whole, durable and read back under its name.
  m.def("save_file", [](const std::string& path, const std::vector<std::tuple<std::string, std::string, std::vector<int64_t>, uintptr_t>>& rows, const std::map<std::string, std::string>& metadata, int threads) {
    const Located at = located(path);
    Output o;
    o.store = at.store, o.path = at.path;
    o.layout = [metadata](const std::vector<NamedSpec>& specs) { return layout_safetensors(specs, metadata); };
    for (const auto& [name, type, shape, address] : rows)
      o.artifact.tensors.push_back({name, make_resident_tensor(spec_of(name, type, shape), reinterpret_cast<const std::byte*>(address), nullptr)});
    ExecOptions e;
    e.threads = threads, e.force = true, e.resume = false;
    return value(without_gil([&] { return run_job({o}, e); })).outputs[0].bytes;
  });

  // By several ranks: docs of src/checkpoint/restore.h.
  nb::class_<Reading>(m, "Reading")
      .def("read", [](Reading& r, const std::vector<RangeRow>& rows) {
        const auto targets = targets_of(rows);
        check(without_gil([&] { return r.read(targets); }));
      })
      .def("look", [](Reading& r) { check(without_gil([&] { return r.look(); })); })
      .def("read_rest", [](Reading& r, int rank, int world) { check(without_gil([&] { return r.read_rest(rank, world); })); })
      .def("told", [](Reading& r) {
        const std::string text = r.told();
        return nb::bytes(text.data(), text.size());
      })
      .def("hear", [](Reading& r, const nb::bytes& told) { check(r.hear({told.c_str(), told.size()})); })
      .def("check", [](const Reading& r) { check(without_gil([&] { return r.check(); })); })
      .def("read_files", [](Reading& r, const std::vector<std::string>& names) { check(without_gil([&] { return r.read_files(names); })); })
      .def("check_files", [](const Reading& r, const std::vector<std::string>& names) { check(without_gil([&] { return r.check_files(names); })); })
      .def_prop_ro("bytes", [](const Reading& r) { return r.bytes(); });

  nb::class_<PyFound>(m, "Found")
      .def_prop_ro("step", [](const PyFound& f) { return f.found.step; })
      .def_prop_ro("path", [](const PyFound& f) { return f.found.path; })
      .def_prop_ro("state", [](const PyFound& f) { return state_name(f.found.state); })
      .def_prop_ro("reason", [](const PyFound& f) { return text(f.found.reason); })
      .def_prop_ro("metrics", [](const PyFound& f) { return f.found.metrics; })
      .def_prop_ro("run", [](const PyFound& f) { return f.found.manifest.run; })
      // Why the metrics that came late do not count.
      .def_prop_ro("late_reason", [](const PyFound& f) { return text(f.found.late_reason); })
      // An object's text, compared with the manifest.
      .def("read_object", [](const PyFound& f, const std::string& name) { return value(read_object(*f.store, f.found, name)); })
      // (group, name, type, shape, file, offset) of each.
      .def("tensors",
           [](const PyFound& f) {
             nb::list out;
             for (const Stored& s : value(tensors_of(*f.store, f.found)))
               out.append(nb::make_tuple(s.group, s.name, std::string(info(s.spec.type).st_name), shape_of(s.spec), s.file, s.offset, part_of(s.part)));
             return out;
           })
      .def_prop_ro("world", [](const PyFound& f) { return f.found.manifest.world; })
      .def("has", [](const PyFound& f, const std::string& name) { return f.found.manifest.find(name) != nullptr; })
      // rows: (type, shape, file, offset, address). All files are read and compared.
      .def("restore",
           [](const PyFound& f, const std::vector<RangeRow>& rows, int threads) {
             const auto targets = targets_of(rows);
             check(without_gil([&] { return restore(*f.store, f.found, targets, threads); }));
           })
      .def("reading", [](const PyFound& f, int threads) { return value(without_gil([&] { return Reading::open(*f.store, f.found, threads); })); })
      .def("verify", [](const PyFound& f, int threads) { check(without_gil([&] { return verify(*f.store, f.found, threads); })); })
      .def("quarantine", [](const PyFound& f, const std::string& reason) { check(put_quarantine(*f.store, f.found, reason, unix_time())); })
      .def("put_metrics", [](const PyFound& f, const Metrics& metrics) { check(put_metrics(*f.store, f.found, metrics)); });
  m.def("scan", [](const std::string& directory) {
    const Located at = value(locate_checkpoints(directory));
    nb::list out;
    for (Found& f : value(scan(*at.store, at.path))) out.append(nb::cast(PyFound{at.store, std::move(f)}));
    return out;
  });
  // Of the process that saves there now; 0: none.
  m.def("lease_epoch", [](const std::string& directory) {
    const Located at = located(directory);
    return read_lease(*at.store, at.path).epoch;
  });
  m.def("look_at", [](const std::string& path) {
    const Located at = value(locate_checkpoints(path));
    return PyFound{at.store, value(checkpoint::look_at(*at.store, at.path))};
  });
  // The hashes of memory, each as the manifest has that of an object. rows: (address, bytes).
  m.def("hashes", [](const std::vector<std::pair<uintptr_t, size_t>>& rows, int threads) {
    std::vector<std::string> out(rows.size());
    without_gil([&] {
      ThreadPool pool(threads);
      pool.parallel_for(static_cast<int64_t>(rows.size()), [&](int64_t i) {
        TreeHasher tree;
        tree.update({reinterpret_cast<const std::byte*>(rows[i].first), rows[i].second});
        out[i] = tree.root();
      });
    });
    return out;
  });
  // The names of the small files that travel with a model's weights.
  m.def("tokenizer_files", &tokenizer_side_files);
  m.attr("PREEMPTED_EXIT_CODE") = kPreemptedExitCode;
}
