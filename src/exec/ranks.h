// Which of several processes this one is, from the environment of what started them.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"

namespace ingot {

struct ProcessRank {
  int rank = 0, world = 1;
  std::string from;  // the variables that say so, "RANK and WORLD_SIZE"; empty for one process
};

// torchrun (RANK, WORLD_SIZE), Open MPI's mpirun (OMPI_COMM_WORLD_RANK, _SIZE), MPICH's and Intel's (PMI_RANK, PMI_SIZE), srun
// (SLURM_PROCID, SLURM_STEP_NUM_TASKS), in this order. Slurm's SLURM_NTASKS is also set in a batch script, where nothing was
// started in parallel: only a step's number of tasks counts. A world of one, or half a pair, is one process.
// `get` returns null for a variable that is not set. Errors: kUsage where a value is no rank below its world.
Result<ProcessRank> process_rank(const std::function<const char*(const char*)>& get);
Result<ProcessRank> process_rank();  // of this process's environment

}  // namespace ingot
