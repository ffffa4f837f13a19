// Megatron-LM's older form of a checkpoint (--ckpt-format torch): of each rank of the model a directory mp_rank_TENSOR[_PIPELINE] with its whole state in one
// file of torch.
#pragma once

#include "formats/formats.h"

namespace ingot {

bool is_megatron_ranks(const Probe& iteration);
// Of one rank its state as it is, by paths; of several the model, joined: model/decoder.layers.0.mlp.linear_fc1.weight. The optimizer's state, whose parameters
// have numbers and no names, stays in the ranks' files, as a notice says.
Result<Artifact> read_megatron_ranks(Store& store, const Probe& iteration);

}  // namespace ingot
