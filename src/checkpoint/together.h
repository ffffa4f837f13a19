// One checkpoint by all ranks of a run: each writes its own files, rank 0 the manifest, when all have. docs/design/checkpoints.md, "Several ranks".
#pragma once

#include <string>

#include "checkpoint/lease.h"
#include "checkpoint/meeting.h"
#include "checkpoint/save.h"

namespace ingot::checkpoint {

// save() on every rank, for the same step, with options.attempt agreed on. The snapshot of rank 0 has the state's text and the small files; those of the others groups of tensors alone. Groups of one name
// on several ranks give their files stems that tell them apart (Group::stem). On return it is committed, or on no rank it is: then the error names the ranks that are in the way. `patience`: seconds that a rank
// waits for another one that tells nothing.
// Saved::written is of this rank; Saved::manifest of rank 0 the whole, of another rank its own objects.
// Errors: kUsage where ranks save different steps, or states of other keys (Snapshot::signature); kFailed; kInterrupted where one gave it up.
Result<Saved> save_together(Store& store, const std::string& directory, const Snapshot& snapshot, const SaveOptions& options, Meeting& meeting, double patience);

// In the place of save_together(), by a rank that cannot even begin (no memory, no room): the others need not wait for it.
void decline_together(Meeting& meeting, const std::string& attempt, const Status& why);

// The same where the talk is somebody else's, as torch's DCP: Saver::begin_parts() on one process gives a ticket, each rank writes by it, and Saver::publish_parts() on that process takes what they tell.
struct Ticket {
  int64_t step = 0;
  uint64_t number = 0;  // no other save under that lease has it
  Lease lease;
  std::string attempt() const;  // SaveOptions::attempt
};
std::string ticket_text(const Ticket& ticket);
Result<Ticket> parse_ticket(std::string_view text);
// The groups of a rank, durable on return; what is told of them goes to publish_parts(), by rank. Of `options` how it is written; whose save it is says the ticket. kFailed where another process has taken over meanwhile.
Result<std::string> write_part(Store& store, const std::string& directory, const Ticket& ticket, const Snapshot& groups, SaveOptions options, int rank, int world);

}  // namespace ingot::checkpoint
