#include "checkpoint/saver.h"

#include <algorithm>
#include <random>

#include "base/clock.h"
#include "base/priority.h"
#include "base/threads.h"
#include "commit/small_file.h"

namespace ingot::checkpoint {
namespace {

constexpr size_t kMostPending = 64;

}  // namespace

bool Save::done() const {
  std::lock_guard lock(mutex_);
  return done_;
}

Status Save::wait(std::optional<double> seconds) const {
  std::unique_lock lock(mutex_);
  if (!seconds) ended_.wait(lock, [&] { return done_; });
  else if (!ended_.wait_for(lock, std::chrono::duration<double>(*seconds), [&] { return done_; })) return failed("step {} is still being written", step_);
  told_ = true;
  return status_;
}

bool Save::went_wrong() const {
  std::lock_guard lock(mutex_);
  return done_ && !status_.ok();
}

Upload Save::uploaded() const {
  std::unique_lock lock(mutex_);
  if (!done_) return {Upload::State::kPending, 0, "it is being written"};
  if (!status_.ok()) return {Upload::State::kPending, 0, "its save went wrong"};
  if (!uploads_ || in_bucket_) return {Upload::State::kDone, 0, ""};
  lock.unlock();  // nothing that is read here changes any more
  Upload u = uploads_->look(path_, files_, closed_);
  lock.lock();
  in_bucket_ |= u.state == Upload::State::kDone;
  return u;
}

Status Save::untold() const {
  std::lock_guard lock(mutex_);
  if (!done_ || (!status_.ok() && status_.error().kind == ErrorKind::kInterrupted)) return {};
  return std::exchange(told_, true) ? Status() : status_;
}

void Save::finish(Status s) {
  {
    std::lock_guard lock(mutex_);
    status_ = std::move(s), done_ = true, closed_ = unix_time();
  }
  ended_.notify_all();
}

Result<std::unique_ptr<Saver>> Saver::open(Store& store, const std::string& directory, SaverOptions options) {
  INGOT_TRY(check(options.keep));
  std::unique_ptr<Saver> s(new Saver(store, directory, std::move(options)));
  INGOT_TRY(s->begin());
  try {
    s->thread_ = std::thread([saver = s.get()] { saver->work(); });
  } catch (const std::system_error&) {
    return Threads::refused("saving checkpoints");
  }
  return s;
}

Status Saver::begin() {
  if (leads()) {
    Status taken = take_over();
    if (options_.meeting) INGOT_TRY(options_.meeting->put("lease", taken.ok() ? fmt::format("+{}", lease_text(lease_)) : fmt::format("-{}", taken.error().message)));
    return taken;
  }
  const auto told = options_.meeting->get("lease", options_.patience);
  if (!told.ok() && told.error().kind != ErrorKind::kNotFound) return told.error();
  if (!told.ok()) return failed("saving into {}: rank 0 has not made its checkpointer within {:.0f} s; all ranks make one, of the same directory", directory_, options_.patience);
  if (!told->starts_with('+')) return failed("rank 0: {}", told->substr(std::min<size_t>(1, told->size())));
  INGOT_ASSIGN(lease_, parse_lease(told->substr(1)));
  return {};
}

Status Saver::take_over() {
  if (const Lease now = read_lease(store_, directory_); !options_.family.empty() && now.epoch > 0 && now.owner.starts_with(options_.family)) {
    lease_ = now;  // what lies there unfinished may be another one's of the family
    return {};
  }
  INGOT_ASSIGN(const auto found, scan(store_, directory_));
  int64_t newest = 0;
  for (const Found& f : found) newest = std::max(newest, f.manifest.objects.empty() ? 0 : f.manifest.epoch);
  INGOT_TRY(not_taken_since(store_, directory_, options_.lease_seen));
  INGOT_ASSIGN(lease_, take_lease(store_, directory_, newest, unix_time(), options_.family));
  INGOT_TRY(remove_parts(store_, directory_, {"checkpoint-", "latest", "lease.json"}));
  for (const Found& f : found)
    if (store_.capabilities().rename && f.state == State::kWhole) INGOT_TRY(remove_parts(store_, f.path, {kMetricsFile, kPinnedFile, kQuarantineFile}));
  // What is whole there can be linked to, by its hashes.
  for (const Found& f : found)
    if (f.state == State::kWhole) {
      previous_ = f.manifest;
      break;
    }
  return {};
}

Result<bool> Saver::skips(bool busy) {
  if (!options_.meeting) return busy;
  const std::string key = fmt::format("{}/skip {}", lease_.owner, ++asked_);
  if (leads()) {
    INGOT_TRY(options_.meeting->put(key, busy ? "1" : "0"));
    return busy;
  }
  INGOT_ASSIGN(const std::string told, options_.meeting->get(key, options_.patience));
  return told == "1";
}

Saver::~Saver() { (void)close(); }

Result<SavePtr> Saver::save(Snapshot live, const DeviceCopy& from_devices) {
  const auto called = Clock::now();
  if (live.step < 0) return usage("saving step {}: steps begin at 0", live.step);
  SavePtr handle(new Save(live.step, options_.uploads));
  {
    std::unique_lock lock(mutex_);
    if (closing_) return usage("saving step {}: the checkpointer is closed", live.step);
    if (current_ && current_->step() == live.step && !current_->went_wrong()) return current_;
    // One that has been told of is all but over: its memory is free in a moment.
    if (options_.overlap == Overlap::kSkip) {
      const bool busy = current_ && !current_->done();
      lock.unlock();
      INGOT_ASSIGN(const bool skipped, skips(busy));
      lock.lock();
      if (skipped) {
        ++stats_.skipped;
        return SavePtr();
      }
    }
    changed_.wait(lock, [&] { return !current_; });
    if (closing_) return usage("saving step {}: the checkpointer is closed", live.step);
    if (const SavePtr failed = std::exchange(failed_, nullptr))
      if (Status s = failed->untold(); !s.ok()) return s;
    if (last_ && last_->step() == live.step) return last_;
    current_ = handle;  // from here on this save's
    called_ = called;
  }
  bool all_copied = true;
  const Status staged = guarded([&]() -> Status {
    INGOT_ASSIGN(all_copied, stage(&live, from_devices));
    return {};
  });
  if (!staged.ok() && options_.meeting) decline_together(*options_.meeting, next_attempt(), staged);
  std::unique_lock lock(mutex_);
  stats_.stall_seconds = seconds_since(called);
  stats_.staging_bytes = staging_.bytes() + device_staging_.bytes();
  if (!staged.ok()) {
    current_.reset();
    changed_.notify_all();
    handle->finish(staged);
    return staged;
  }
  next_ = std::move(live);
  changed_.notify_all();
  if (!all_copied) {
    // Until nothing looks at the live tensors any more.
    changed_.wait(lock, [&] { return current_ != handle && !tidying_; });
    stats_.stall_seconds = seconds_since(called);
    lock.unlock();
    INGOT_TRY(handle->wait());
  }
  return handle;
}

Result<bool> Saver::stage(Snapshot* live, const DeviceCopy& from_devices) {
  still_.mark(live);
  INGOT_TRY(check_room(*live));
  uint64_t host = 0, device = 0;
  for (const Group& g : live->groups)
    for (const Tensor& t : g.tensors)
      if (t.on_device()) device += staged_bytes(bytes_of(t.spec));
  if (device > options_.staging)
    return usage("saving step {}: its tensors on devices take {} bytes of memory for copies, and the checkpointer may take {}: give it more", live->step, device, options_.staging);
  std::vector<Tensor*> fitting;
  bool all = true;
  for (Group& g : live->groups)
    for (Tensor& t : g.tensors) {
      const uint64_t size = staged_bytes(bytes_of(t.spec));
      const bool fits = t.on_device() || size <= options_.staging - device - host;
      if (fits && !t.on_device()) host += size;
      if (fits) fitting.push_back(&t);
      all = all && fits;
    }
  struct Blocks {
    std::shared_ptr<std::byte> host, device;
  };
  const auto blocks = std::make_shared<Blocks>();
  INGOT_ASSIGN(blocks->host, staging_.take(host));
  if (device) {
    INGOT_ASSIGN(blocks->device, device_staging_.take(device));
  }
  std::vector<Copy> copies;
  std::vector<std::byte*> from_device;
  std::byte *to_host = blocks->host.get(), *to_device = blocks->device.get();
  std::vector<std::byte*> places(fitting.size());
  for (const bool large : {true, false})
    for (size_t i = 0; i < fitting.size(); ++i) {
      const uint64_t size = bytes_of(fitting[i]->spec);
      std::byte*& to = fitting[i]->on_device() ? to_device : to_host;
      if ((size >= kLargeTensor) == large) places[i] = std::exchange(to, to + staged_bytes(size));
    }
  for (size_t i = 0; i < fitting.size(); ++i) {
    Tensor& t = *fitting[i];
    if (t.on_device()) from_device.push_back(places[i]);
    else copies.push_back({places[i], t.bytes, bytes_of(t.spec)});
    t.bytes = places[i];
  }
  // A device copies beside the processor.
  std::function<Status()> arrived;
  if (!from_device.empty()) {
    if (!from_devices) return usage("saving step {}: it has tensors without memory, and nothing that copies them from a device", live->step);
    INGOT_ASSIGN(arrived, from_devices(from_device));
  }
  const Status copied = copy_all(copies, options_.threads);
  if (arrived) INGOT_TRY(arrived());
  INGOT_TRY(copied);
  live->memory = blocks;
  return all;
}

void Saver::work() {
  work_behind();  // the training goes first
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return next_ || (closing_ && !current_); });
    if (!next_) return;
    Snapshot snapshot = std::move(*std::exchange(next_, std::nullopt));
    const SavePtr handle = current_;
    lock.unlock();
    Status s = guarded([&] { return write(snapshot, handle.get()); });
    const bool aborted = !s.ok() && handle->cancel_.cancelled();
    if (aborted) s = Error{ErrorKind::kInterrupted, fmt::format("the save of step {} was aborted; nothing of it is left", handle->step())};
    handle->finish(s);
    if (s.ok()) still_.note(snapshot);
    snapshot = {};  // its memory is the next one's
    lock.lock();
    if (s.ok()) last_ = handle;
    else if (!aborted) ++stats_.failed, failed_ = handle;
    current_.reset();
    tidying_ = true;
    const auto reports = std::exchange(reports_, {});
    lock.unlock();
    changed_.notify_all();
    // Beside the next save's copying. Metrics first: they say what is kept.
    for (const auto& [step, metrics] : reports)
      if (Status r = report(step, metrics); !r.ok()) notice(r.error().message);
    if (s.ok() && leads()) prune_and_tell();
    lock.lock();
    tidying_ = false;
    lock.unlock();
    changed_.notify_all();
  }
}

// Where nothing is renamed a save begins by removing what is there of its step. The state that was resumed from is whole there: to write it again (the save after the loop of a run that had ended) would risk it.
std::optional<Manifest> Saver::already_there(int64_t step) const {
  if (store_.capabilities().rename || options_.meeting || options_.parent != step || last_) return std::nullopt;
  const auto there = look_at(store_, join_path(directory_, directory_name(step)));
  if (!there.ok() || there->state != State::kWhole || there->manifest.run != options_.run) return std::nullopt;
  return there->manifest;
}

Result<Saved> Saver::write_one(const Snapshot& snapshot, const SaveOptions& options) {
  if (options_.meeting) return save_together(store_, directory_, snapshot, options, *options_.meeting, options_.patience);
  if (auto there = already_there(snapshot.step)) return Saved{*std::move(there), 0};
  return ingot::checkpoint::save(store_, directory_, snapshot, options);
}

SaveOptions Saver::options_for(Save* handle) {
  SaveOptions o;
  o.threads = options_.threads, o.neighbours = options_.neighbours, o.max_shard = options_.max_shard, o.compress = options_.compress;
  o.epoch = lease_.epoch, o.time = unix_time(), o.run = options_.run, o.parent = options_.parent;
  o.cancel = &handle->cancel_;
  o.may_commit = [this, handle]() -> Status {
    if (handle->cancel_.cancelled()) return interrupted();
    return still_mine(store_, directory_, lease_);
  };
  return o;
}

Status Saver::write(const Snapshot& snapshot, Save* handle) {
  SaveOptions o = options_for(handle);
  o.attempt = next_attempt();
  const std::optional<Manifest> source = link_source(snapshot.step);
  if (source) o.previous = &*source;
  auto done = write_one(snapshot, o);
  // Whoever has taken over removes what was begun here: that is why, then, whatever failed first.
  if (!done.ok() && !handle->cancel_.cancelled()) INGOT_TRY(still_mine(store_, directory_, lease_));
  if (!done.ok()) return done.take_error();
  note(snapshot.step, handle, *std::move(done));
  return {};
}

void Saver::note(int64_t step, Save* handle, Saved saved) {
  if (leads())
    if (Status hint = put_latest(store_, directory_, step); !hint.ok()) notice(hint.error().message);
  std::lock_guard lock(mutex_);
  ++stats_.saves;
  stats_.newest = step, stats_.newest_time = unix_time();
  stats_.save_seconds = seconds_since(called_);
  stats_.bytes = saved.manifest.bytes(), stats_.written_bytes = saved.written;
  handle->path_ = join_path(directory_, directory_name(step));
  handle->bytes_ = saved.written;
  handle->files_ = saved.manifest.files();
  written_at_[step] = Clock::now();
  if (options_.uploads) pending_.push_back(current_);
  if (pending_.size() > kMostPending) pending_.erase(pending_.begin());  // nobody can tell of them, or their mount is gone
  previous_ = std::move(saved.manifest);
}

Result<std::string> Saver::begin_parts(int64_t step, uint64_t bytes) {
  if (step < 0) return usage("saving step {}: steps begin at 0", step);
  abandon_parts();
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !current_ && !tidying_; });
    if (closing_) return usage("saving step {}: the checkpointer is closed", step);
    called_ = Clock::now();
  }
  INGOT_TRY(check_room(step, bytes));
  Ticket t;
  t.step = step, t.number = std::random_device{}(), t.lease = lease_;
  SaveOptions o;
  o.epoch = lease_.epoch, o.time = unix_time(), o.attempt = t.attempt();
  o.may_commit = [&] { return still_mine(store_, directory_, lease_); };
  INGOT_TRY(o.may_commit());
  INGOT_TRY(clear_before_parts(store_, directory_, step, o));
  std::lock_guard lock(mutex_);
  parts_ = t;
  return ticket_text(t);
}

Status Saver::publish_parts(Snapshot texts, const std::vector<std::string>& parts) {
  SavePtr handle(new Save(texts.step, options_.uploads));
  SaveOptions o = options_for(handle.get());
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !current_ && !tidying_; });
    if (closing_) return usage("saving step {}: the checkpointer is closed", texts.step);
    if (!parts_ || parts_->step != texts.step) return usage("saving step {}: {}", texts.step, parts_ ? fmt::format("step {} was begun since; one save ends before the next begins", parts_->step) : "it was not begun, or given up");
    o.attempt = std::exchange(parts_, std::nullopt)->attempt();
    current_ = handle;
  }
  const Status s = guarded([&]() -> Status {
    std::vector<std::string> all;
    Result<Saved> done = failed("");
    const int world = static_cast<int>(parts.size());
    auto mine = save_part(store_, directory_, texts, o, 0, world + 1);
    if (mine.ok()) {
      all.push_back(std::move(mine->text));
      all.insert(all.end(), parts.begin(), parts.end());
      done = ingot::checkpoint::publish_parts(store_, directory_, texts, o, all, world);
    }
    if (!mine.ok() || !done.ok()) {
      remove_parts_of(store_, directory_, texts.step, o);
      // Whoever has taken over removes what was begun here: that is why, then, whatever failed first.
      INGOT_TRY(still_mine(store_, directory_, lease_));
      return mine.ok() ? done.take_error() : mine.take_error();
    }
    done->written = done->manifest.written();
    note(texts.step, handle.get(), *std::move(done));
    prune_and_tell();
    return {};
  });
  handle->finish(s);
  {
    std::lock_guard lock(mutex_);
    if (s.ok()) last_ = handle;
    else ++stats_.failed;
    current_.reset();
  }
  changed_.notify_all();
  return s;
}

void Saver::abandon_parts() {
  std::optional<Ticket> begun;
  {
    std::lock_guard lock(mutex_);
    begun = std::exchange(parts_, std::nullopt);
  }
  if (!begun || !still_mine(store_, directory_, lease_).ok()) return;
  SaveOptions o;
  o.epoch = lease_.epoch, o.attempt = begun->attempt();
  remove_parts_of(store_, directory_, begun->step, o);
}

void Saver::prune_and_tell() {
  if (Status p = guarded([&] { return prune(); }); !p.ok()) notice("pruning " + directory_ + ": " + p.error().message);
}

Status Saver::prune() {
  INGOT_TRY(still_mine(store_, directory_, lease_));
  INGOT_ASSIGN(found_, scan(store_, directory_, found_));
  {
    std::lock_guard lock(mutex_);
    std::erase_if(written_at_, [&](const auto& w) { return std::none_of(found_.begin(), found_.end(), [&](const Found& f) { return f.step == w.first; }); });
  }
  for (Found& f : found_) {
    if (options_.settle <= 0) break;
    if (f.state != State::kWhole) continue;
    if (!f.uploaded.value_or(false)) f.uploaded = in_bucket(f);
    if (f.uploaded.value_or(false)) break;  // what is older has no one to wait for
  }
  const auto decisions = decide(found_, options_.keep, {options_.parent, options_.settle, lease_.epoch}, unix_time());
  return checkpoint::prune(store_, found_, decisions);
}

std::optional<bool> Saver::in_bucket(const Found& f) const {
  if (options_.uploads) {
    const Upload u = options_.uploads->look(f.path, f.manifest.files(), f.manifest.time);
    if (u.state != Upload::State::kUnknown) return u.state == Upload::State::kDone;
  }
  // Of this process's own a clock that nobody sets tells how long they have had.
  const auto w = written_at_.find(f.step);
  return w == written_at_.end() ? std::nullopt : std::optional<bool>(seconds_since(w->second) >= options_.settle);
}

std::optional<Manifest> Saver::link_source(int64_t step) const {
  const bool full = options_.keep.every_steps && step % *options_.keep.every_steps == 0;
  std::lock_guard lock(mutex_);
  if (full || !store_.capabilities().rename || !previous_ || previous_->step == step) return std::nullopt;
  return previous_;
}

Status Saver::check_room(const Snapshot& live) {
  uint64_t bytes = live.bytes();
  // What was linked often enough is written again: then all may be.
  const auto source = link_source(live.step);
  if (source && std::none_of(source->objects.begin(), source->objects.end(), [](const Object& o) { return o.generation >= kMostLinks; }))
    for (const Group& g : live.groups)
      for (const Tensor& t : g.tensors) bytes -= t.still ? bytes_of(t.spec) : 0;
  return check_room(live.step, bytes);
}

Status Saver::check_room(int64_t step, uint64_t bytes) {
  INGOT_ASSIGN(const auto there, store_.stat(directory_));
  if (!there && !leads()) return failed("saving step {} into {}: this rank does not see the directory; all ranks save into one that they share (rank 0 has made it)", step, directory_);
  if (!there) {
    if (options_.still_there) INGOT_TRY(options_.still_there());
    INGOT_TRY(put_lease(store_, directory_, lease_));
    {
      std::lock_guard lock(mutex_);
      previous_.reset();
    }
    notice(fmt::format("{} was removed while this process saves into it; it is made again, and what was in it is gone", directory_));
  }
  INGOT_ASSIGN(const uint64_t room, store_.free_space(directory_));
  if (room < bytes) return failed("saving step {} into {}: it takes {} bytes and {} are free there; remove something, or keep fewer checkpoints", step, directory_, bytes, room);
  if (options_.uploads) {
    const std::string text = options_.uploads->too_much(bytes, look_at_uploads());
    // Once: the numbers differ from save to save.
    if (text.empty() != told_too_much_.empty() && !text.empty()) notice(fmt::format("saving step {} into {}: {}", step, directory_, text));
    told_too_much_ = text;
  }
  return {};
}

uint64_t Saver::look_at_uploads() const {
  std::unique_lock lock(mutex_);
  const std::vector<SavePtr> all = pending_;
  lock.unlock();
  std::vector<SavePtr> there;
  uint64_t bytes = 0;
  bool unknown = false;
  for (const SavePtr& s : all) {
    const Upload u = s->uploaded();
    unknown |= u.state == Upload::State::kUnknown;
    if (u.state == Upload::State::kDone) there.push_back(s);
    else bytes += s->bytes_;
  }
  lock.lock();
  for (const SavePtr& s : there) {
    uploaded_ = s->step();
    std::erase(pending_, s);
  }
  if (unknown) uploaded_ = std::nullopt;
  return bytes;
}

Status Saver::report(int64_t step, const Metrics& metrics) {
  if (!leads()) return {};  // rank 0's count
  {
    std::lock_guard lock(mutex_);
    if (current_ && current_->step() == step) {
      reports_.emplace_back(step, metrics);
      return {};
    }
  }
  std::lock_guard lock(metrics_mutex_);
  const Status put = [&]() -> Status {
    INGOT_ASSIGN(const Found f, look_at(store_, join_path(directory_, directory_name(step))));
    return put_metrics(store_, f, metrics);
  }();
  // Whoever has taken over may have removed it: that is why, then.
  if (!put.ok()) INGOT_TRY(still_mine(store_, directory_, lease_));
  return put;
}

Status Saver::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !current_ && !tidying_; });
  const SavePtr failed = std::exchange(failed_, nullptr);
  return failed ? failed->untold() : Status();
}

Status Saver::close() {
  abandon_parts();
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  return wait();
}

Stats Saver::stats() const {
  const uint64_t pending = look_at_uploads();
  std::lock_guard lock(mutex_);
  Stats s = stats_;
  s.pending_bytes = pending;
  s.uploaded = options_.uploads ? uploaded_ : s.newest;
  if (const auto w = written_at_.find(s.newest); w != written_at_.end()) s.newest_age = seconds_since(w->second);
  return s;
}

}  // namespace ingot::checkpoint
