"""A small model of several ranks (gloo), trained as a user would: --kind ddp | fsdp2. Prints a hash of the final weights, the optimizer and the generators of all ranks, the same on all of them."""
import argparse
import hashlib
import json
import os
import sys

import torch
import torch.distributed as dist

import ingot


def acknowledge(path, step):
    if path and dist.get_rank() == 0:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(fd, b"%d\n" % step)
        os.fsync(fd)
        os.close(fd)


def whole(t):
    return (t.full_tensor() if hasattr(t, "full_tensor") else t).detach().numpy().tobytes()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--checkpoints", required=True)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--every", type=int, default=2)
    p.add_argument("--last", type=int, default=2)
    p.add_argument("--acknowledged")
    p.add_argument("--kind", default="ddp")
    p.add_argument("--patience", type=float, default=8)
    args = p.parse_args()

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(5)
    frozen = torch.nn.Embedding(32, 16)
    frozen.requires_grad_(False)
    model = torch.nn.Sequential(frozen, torch.nn.Linear(16, 24), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(24, 1))
    if args.kind == "ddp":
        model = torch.nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        mesh = init_device_mesh("cpu", (world,))
        for layer in (model[1], model[4]):
            fully_shard(layer, mesh=mesh)
    data = torch.Generator().manual_seed(9)
    x, y = torch.randint(0, 32, (240,), generator=data), torch.randn(240, 1, generator=data)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 5))
    torch.manual_seed(100 + rank)  # each draws its own data and its own dropout
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "rng": ingot.rng()}
    last = None
    with ingot.Checkpointer(args.checkpoints, cadence=ingot.Cadence(steps=args.every), keep=ingot.Keep(last=args.last, best=1, metric="val"), rank_timeout=args.patience) as ck:
        step = ck.restore(state)
        while step < args.steps:
            step += 1
            rows = torch.randint(0, len(x), (8,))
            loss = torch.nn.functional.mse_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            if ck.due(step):
                if last is not None:
                    acknowledge(args.acknowledged, last.wait().step)
                last = ck.save(step, state, metrics={"loss": loss.item()})
                if step % (2 * args.every) == 0:  # and between those the loop is ahead of what is written
                    acknowledge(args.acknowledged, last.wait().step)
                    if rank == 0:
                        ck.report(step, {"val": loss.item()})
    if last is not None:
        acknowledge(args.acknowledged, last.wait().step)
    moments = [s[k] for s in optimizer.state.values() for k in sorted(s)]
    generators = [None] * world
    dist.all_gather_object(generators, torch.get_rng_state().numpy().tobytes())
    digest = hashlib.sha256(b"".join([*map(whole, model.state_dict().values()), *map(whole, moments), *generators]))
    dist.barrier()
    print(json.dumps({"step": step, "weights": digest.hexdigest()}))
    sys.stdout.flush()
    dist.destroy_process_group()


main()
