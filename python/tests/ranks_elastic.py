"""Trainings that change their number of ranks, for test_ranks.py: a JSON list of {"world", "dir", "steps", "seed", "exact"} on stdin; for each a line with what rank 0 has in the end. One process imports torch, and forks the ranks.

exact: rank 0 alone has data, so that the mean over ranks is the same number to the bit whatever their number is (a power of two); else each has its share of the batch, and sums are rounded in another order."""
import hashlib
import json
import os
import socket
import sys

import torch
import torch._dynamo  # an optimizer imports it
import torch.distributed as dist
import torch.distributed.checkpoint
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import ingot

BATCH = 16


def full(t):
    return t.full_tensor() if hasattr(t, "full_tensor") else t


def train(run):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(12, 40), torch.nn.Tanh(), torch.nn.Linear(40, 30), torch.nn.Tanh(), torch.nn.Linear(30, 4))
    mesh = init_device_mesh("cpu", (world,))
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    truth = torch.randn(12, 4, generator=torch.Generator().manual_seed(3))
    losses = []
    with ingot.Checkpointer(run["dir"], cadence=ingot.Cadence(steps=run["every"]), rank_timeout=300) as ck:
        state = {"model": model, "optimizer": optimizer}
        first = ck.restore(state) + 1
        read = ck._ranks.bytes_read if ck._ranks is not None else None
        for step in range(first, run["steps"] + 1):
            x = torch.randn(BATCH, 12, generator=torch.Generator().manual_seed(1000 * run["seed"] + step))  # of all ranks
            y = (x @ truth).tanh()
            if run["exact"]:
                loss = torch.nn.functional.mse_loss(model(x), y)
                (loss * (world if rank == 0 else 0)).backward()
            else:
                mine = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
                loss = torch.nn.functional.mse_loss(model(x[mine]), y[mine])
                loss.backward()
                loss = loss.detach()
                dist.all_reduce(loss)
                loss /= world
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if ck.due(step):
                ck.save(step, state)
    tensors = [full(t) for t in model.state_dict().values()] + [full(s[k]) for s in optimizer.state.values() for k in sorted(s)]
    digest = hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()
    reads = [None] * world
    dist.all_gather_object(reads, read)
    if rank == 0:
        print(json.dumps({"first": first, "losses": losses, "weights": digest, "tensors": len(tensors), "read": reads}), flush=True)
    dist.barrier()
    dist.destroy_process_group()


def launch(run):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    children = []
    for rank in range(run["world"]):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.environ.update(RANK=str(rank), WORLD_SIZE=str(run["world"]), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
                train(run)
                code = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(pid)
    if any([os.waitpid(pid, 0)[1] for pid in children]):
        sys.exit(f"a rank of {run} failed")


for run in json.load(sys.stdin):
    launch(run)
