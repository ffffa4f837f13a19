// Directories of torch.distributed.checkpoint (DCP), as FSDP, Megatron and NeMo leave them: `.metadata` and what each rank wrote, __RANK_N.distcp.
#pragma once

#include "exec/executor.h"
#include "formats/dcp_metadata.h"
#include "formats/formats.h"

namespace ingot {

// A name for what is stored under a key, or nothing to pass it over.
using DcpName = std::function<std::string(const DcpEntry&)>;
// All tensors and values of a DCP directory. Reads `.metadata`, the sizes of the files and the plain values. `kinds`, where it is given, gets those of the paths.
Result<Artifact> read_dcp(Store& store, const Probe& directory, const DcpName& name, StateKinds* kinds = nullptr);

}  // namespace ingot
