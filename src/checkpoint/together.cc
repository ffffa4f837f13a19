#include "checkpoint/together.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/clock.h"
#include "kernels/hash.h"

namespace ingot::checkpoint {
namespace {

constexpr double kLook = 0.5;  // seconds between looks at whether the save was given up
constexpr size_t kMostNamed = 4;

// What is told begins with one of these.
constexpr char kGood = '+', kBad = '-', kOther = '?', kStopped = '!';

std::string as_told(const Status& s) {
  if (s.ok()) return std::string(1, kGood);
  return (s.error().kind == ErrorKind::kInterrupted ? kStopped : kBad) + s.error().message;
}

std::vector<std::string_view> lines(std::string_view text) {
  std::vector<std::string_view> all;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    all.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return all;
}

// "layer.0.weight F32 [2, 3]; ...", of what the first has and the second has not.
std::string missing_of(std::string_view has, std::string_view has_not) {
  const auto theirs = lines(has_not);
  const std::set<std::string_view> there(theirs.begin(), theirs.end());
  std::string text;
  size_t n = 0;
  for (const std::string_view l : lines(has))
    if (!there.contains(l) && ++n <= kMostNamed) text += fmt::format("{}{}", text.empty() ? "" : "; ", l);
  return n > kMostNamed ? fmt::format("{} and {} more", text, n - kMostNamed) : text;
}

class Together {
 public:
  Together(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options, Meeting& meeting, double patience)
      : store_(store), directory_(directory), snapshot_(snapshot), options_(options), meeting_(meeting), patience_(patience) {}

  Result<Saved> run() { return meeting_.rank() == 0 ? lead() : follow(); }

 private:
  std::string key(const std::string& what) const { return fmt::format("{}/{}", options_.attempt, what); }
  bool cancelled() const { return options_.cancel && options_.cancel->cancelled(); }

  // In pieces, so that an abort is heard; but whoever waits for what must come (the outcome) goes on waiting.
  Result<std::string> get(const std::string& what, double seconds, bool heeds_abort) {
    const auto start = Clock::now();
    for (;;) {
      auto text = meeting_.get(key(what), std::min(kLook, std::max(0.01, seconds - seconds_since(start))));
      if (text.ok() || text.error().kind != ErrorKind::kNotFound || seconds_since(start) >= seconds) return text;
      if (heeds_abort && cancelled()) return interrupted();
    }
  }

  // What it saves, by which the others find out whether they save the same.
  std::string heading() const { return fmt::format("{} {}", snapshot_.step, to_hex(hash128(as_bytes(snapshot_.signature)))); }

  Result<Saved> lead() {
    Saved saved;
    const Status done = [&]() -> Status {
      const Status begun = clear_before_parts(store_, directory_, snapshot_.step, options_);
      INGOT_TRY(meeting_.put(key("begin"), begun.ok() ? kGood + heading() : as_told(begun)));
      INGOT_TRY(begun);
      std::vector<std::string> parts;
      auto mine = save_part(store_, directory_, snapshot_, options_, 0, meeting_.world());
      // All are heard before anything is said of it: who is still writing would write into what is being removed.
      Status wrong = mine.ok() ? Status() : Status(mine.error());
      if (mine.ok()) parts.push_back(std::move(mine->text));
      std::string silent;
      for (int r = 1; r < meeting_.world(); ++r) {
        auto told = get(fmt::format("part/{}", r), silent.empty() ? patience_ : kLook, true);
        if (!told.ok() && told.error().kind == ErrorKind::kNotFound) {
          silent += fmt::format("{}{}", silent.empty() ? "" : ", ", r);
          continue;
        }
        if (told.ok() && told->starts_with(kGood)) {
          parts.push_back(told->substr(1));
          meeting_.drop(key(fmt::format("part/{}", r)));
          continue;
        }
        if (wrong.ok()) wrong = told.ok() ? what_is_wrong_with(r, *told) : Status(told.error());
      }
      if (wrong.ok() && !silent.empty())
        wrong = failed("saving step {}: rank {} of {} has not written its part {:.0f} s after rank 0 had: it has ended, hangs, or did not call save for this step; nothing is left of this save", snapshot_.step,
                       silent, meeting_.world(), patience_);
      INGOT_TRY(wrong);
      INGOT_ASSIGN(saved, publish_parts(store_, directory_, snapshot_, options_, parts));
      return {};
    }();
    if (!done.ok()) remove_parts_of(store_, directory_, snapshot_.step, options_);
    (void)meeting_.put(key("outcome"), as_told(done));  // it is committed or not, whether the others hear of it or not
    if (!done.ok()) return done;
    return saved;
  }

  Status what_is_wrong_with(int rank, const std::string& told) const {
    const std::string text = told.substr(std::min<size_t>(1, told.size()));
    if (told.starts_with(kStopped)) return Error{ErrorKind::kInterrupted, text};
    if (!told.starts_with(kOther)) return failed("rank {}: {}", rank, text);
    const size_t end = text.find('\n');
    const std::string step = text.substr(0, end), theirs = end == std::string::npos ? "" : text.substr(end + 1);
    if (step != std::to_string(snapshot_.step)) return usage("rank {} saves step {}, and rank 0 step {}: all ranks save the same steps", rank, step, snapshot_.step);
    const std::string more = missing_of(theirs, snapshot_.signature), less = missing_of(snapshot_.signature, theirs);
    return usage("saving step {}: the state of rank {} is another than that of rank 0{}{}", snapshot_.step, rank, more.empty() ? "" : fmt::format("; rank {} alone has {}", rank, more),
                 less.empty() ? "" : fmt::format("; rank 0 alone has {}", less));
  }

  Result<Saved> follow() {
    const int rank = meeting_.rank();
    const std::string part = fmt::format("part/{}", rank);
    Saved saved;
    bool silent = false;
    const Status done = [&]() -> Status {
      const auto begun_by = get("begin", patience_, true);
      silent = !begun_by.ok();
      if (silent && begun_by.error().kind == ErrorKind::kNotFound)
        return failed("saving step {}: rank 0 has not begun to save within {:.0f} s: it has ended, hangs, or did not call save for this step", snapshot_.step, patience_);
      if (silent) return begun_by.error();
      const std::string& begun = *begun_by;
      if (!begun.starts_with(kGood)) return failed("rank 0: {}", begun.substr(std::min<size_t>(1, begun.size())));
      if (begun.substr(1) != heading()) {
        INGOT_TRY(meeting_.put(key(part), fmt::format("{}{}\n{}", kOther, snapshot_.step, snapshot_.signature)));
        return {};  // rank 0 tells what is wrong
      }
      INGOT_ASSIGN(Part mine, save_part(store_, directory_, snapshot_, options_, rank, meeting_.world()));
      saved.written = mine.objects.written();
      saved.manifest = std::move(mine.objects);
      return meeting_.put(key(part), kGood + mine.text);
    }();
    if (!done.ok()) (void)meeting_.put(key(part), as_told(done));
    if (silent) return done;
    // Rank 0 may be waiting for another one.
    auto outcome = get("outcome", 3 * patience_, false);
    if (!done.ok()) return done;
    if (!outcome.ok() && outcome.error().kind == ErrorKind::kNotFound) return failed("saving step {}: rank {} has written its part, and rank 0 has not told whether it is committed: it has ended, or hangs", snapshot_.step, rank);
    if (!outcome.ok()) return outcome.take_error();
    if (outcome->starts_with(kGood)) return saved;
    return Error{outcome->starts_with(kStopped) ? ErrorKind::kInterrupted : ErrorKind::kFailed, outcome->substr(std::min<size_t>(1, outcome->size()))};
  }

  Store& store_;
  const std::string& directory_;
  const Snapshot& snapshot_;
  const SaveOptions& options_;
  Meeting& meeting_;
  const double patience_;
};

}  // namespace

Result<Saved> save_together(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options, Meeting& meeting, double patience) {
  return Together(store, directory, snapshot, options, meeting, patience).run();
}

void decline_together(Meeting& meeting, const std::string& attempt, const Status& why) {
  const std::string told = as_told(why);
  if (meeting.rank() > 0) {
    (void)meeting.put(fmt::format("{}/part/{}", attempt, meeting.rank()), told);
    return;
  }
  (void)meeting.put(attempt + "/begin", told);
  (void)meeting.put(attempt + "/outcome", told);
}

std::string Ticket::attempt() const { return fmt::format("{} part {}", lease.owner, number); }

std::string ticket_text(const Ticket& t) { return fmt::format("{} {} {}", t.step, t.number, lease_text(t.lease)); }

Result<Ticket> parse_ticket(std::string_view text) {
  Ticket t;
  const char* const end = text.data() + text.size();
  const auto [after_step, wrong_step] = std::from_chars(text.data(), end, t.step);
  const auto [after, wrong] = std::from_chars(std::min(after_step + 1, end), end, t.number);
  if (wrong_step != std::errc() || wrong != std::errc() || after == end) return usage("what the coordinator tells of a save is not whole");
  INGOT_ASSIGN(t.lease, parse_lease(std::string_view(after + 1, static_cast<size_t>(end - after - 1))));
  return t;
}

Result<std::string> write_part(Store& store, const std::string& directory, const Ticket& ticket, const Snapshot& groups, SaveOptions options, int rank, int world) {
  options.epoch = ticket.lease.epoch, options.attempt = ticket.attempt();
  options.may_commit = [&] { return still_mine(store, directory, ticket.lease); };
  // Rank 0 of the parts is whoever publishes, with the texts.
  INGOT_ASSIGN(Part part, save_part(store, directory, groups, options, rank + 1, world + 1));
  return std::move(part.text);
}

}  // namespace ingot::checkpoint
