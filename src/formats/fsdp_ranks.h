// FSDP's sharded state with one torch.save a rank, as verl and its like lay it in a directory: model_world_size_8_rank_0.pt.
#pragma once

#include "formats/formats.h"

namespace ingot {

bool is_fsdp_ranks(const Probe& directory);
// The model, each DTensor joined along the dimension that is cut over the ranks; config.json and tokenizer from huggingface/ beside them. Optimizers stay where they
// are, as a notice says.
Result<Artifact> read_fsdp_ranks(Store& store, const Probe& directory);

}  // namespace ingot
