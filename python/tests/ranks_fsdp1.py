"""FSDP1's sharded state dicts, of ranks; for test_ranks.py: DIR."""
import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp import StateDictType

import ingot

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(1)
model = FSDP(torch.nn.Sequential(torch.nn.Linear(12, 24), torch.nn.ReLU(), torch.nn.Linear(24, 4)), device_id=torch.device("cpu"))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
model(torch.randn(4, 12)).sum().backward()
optimizer.step()
FSDP.set_state_dict_type(model, StateDictType.SHARDED_STATE_DICT)


def parts():
    found = []
    for value in [*state["model"].values(), *(t for s in state["optimizer"]["state"].values() for t in s.values())]:
        found += [s.tensor for s in value.local_shards()] if hasattr(value, "local_shards") else [value]
    return found


state = {"model": model.state_dict(), "optimizer": FSDP.optim_state_dict(model, optimizer)}
with ingot.Checkpointer(sys.argv[1], rank_timeout=10) as ck:
    ck.save(1, state).wait()
    want = [t.clone() for t in parts()]
    for t in parts():
        t.fill_(3)
    assert ck.restore(state) == 1
    assert len(want) > 8 and all(torch.equal(a, b) for a, b in zip(want, parts()))
print("equal", len(want))
dist.destroy_process_group()
