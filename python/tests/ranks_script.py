"""A training of several ranks, for test_ranks.py: KIND DIR STEPS."""
import argparse
import hashlib
import os
import signal
import sys
import time

import torch
import torch.distributed as dist

import ingot
import ingot.ranks

p = argparse.ArgumentParser()
p.add_argument("kind")
p.add_argument("dir")
p.add_argument("steps", type=int)
p.add_argument("--signal-rank", type=int, default=-1)
p.add_argument("--die-rank", type=int, default=-1)
p.add_argument("--die-in", choices=("save", "publish", "restore"))
p.add_argument("--patience", type=float, default=120)  # a machine that does much else
p.add_argument("--skew", action="store_true")
p.add_argument("--wide", action="store_true")
a = p.parse_args()
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(1)
width = 1024 if a.wide else 24
model = torch.nn.Sequential(torch.nn.Linear(12, width), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(width, 4))
if a.kind == "ddp":
    model = torch.nn.parallel.DistributedDataParallel(model)
elif a.kind == "fsdp2":
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    mesh = init_device_mesh("cpu", (world,))
    for layer in (model[0], model[3]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
else:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
    model = parallelize_module(model, init_device_mesh("cpu", (world,)), {"0": ColwiseParallel(), "3": RowwiseParallel()})
opt = torch.optim.AdamW(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 1 / (1 + step / 10))
torch.manual_seed(100 + (0 if a.kind == "tp" else rank))  # each rank draws its own
if a.skew and rank == 1:
    real = time.monotonic
    time.monotonic = lambda: real() + 1e6
with ingot.Checkpointer(a.dir, cadence=ingot.Cadence(steps=2, minutes=1), keep=ingot.Keep(last=3), rank_timeout=a.patience) as ck:
    if rank == a.die_rank and a.die_in:
        # A save: its files are written, and nobody knows; rank 0 begins. A publish: rank 0 has heard all, or the other one waits for its word. A restore: what all ranks have comes from one of them.
        def dies(self, *args):
            if not at or at in args[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, *args)
        name, at = {"save": ("put", "/part/" if rank else "/begin"), "publish": ("drop", "/part/") if rank == 0 else ("get", "/outcome"), "restore": ("give", "")}[a.die_in]
        real = getattr(ingot.ranks.Ranks, name)
        setattr(ingot.ranks.Ranks, name, dies)
    state = {"model": model, "optimizer": opt, "scheduler": scheduler, "rng": ingot.rng(), "note": "plain"}
    first = ck.restore(state) + 1
    print("read", getattr(ck._ranks, "bytes_read", 0))
    for step in range(first, a.steps + 1):
        x = torch.randn(8, 12)
        loss = model(x).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        scheduler.step()
        if rank == a.die_rank and not a.die_in and step == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == a.signal_rank and step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        if ck.preempted:
            ck.save(step, state).wait()
            print("preempted at", step, flush=True)
            sys.exit(ck.exit_code)
        if ck.due(step):
            ck.save(step, state)
full = {k: (v.full_tensor() if hasattr(v, "full_tensor") else v) for k, v in model.state_dict().items()}
moments = [s["exp_avg"].full_tensor() if hasattr(s["exp_avg"], "full_tensor") else s["exp_avg"] for s in opt.state.values()]
digest = hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in [*full.values(), *moments])).hexdigest()
print("weights", digest)
dist.destroy_process_group()
