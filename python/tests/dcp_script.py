"""Ranks that save and load through torch's DCP, for test_dcp.py: KIND DIR ACTION[:STEP]... Tells what the state is after each."""
import argparse
import hashlib
import os
import signal
import sys
import warnings

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.distributed.fsdp  # noqa: F401: once, before the ranks are forked
import torch.distributed.tensor.parallel  # noqa: F401
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh

import ingot
import ingot.dcp


class Model(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = torch.nn.Linear(12, width)
        self.norm = torch.nn.LayerNorm(width)
        self.outer = torch.nn.Linear(width, 4)

    def forward(self, x):
        return self.outer(self.norm(self.inner(x)).relu())


def make(kind, width):
    torch.manual_seed(1)
    model = Model(width)
    world = dist.get_world_size()
    if kind == "fsdp2":
        from torch.distributed.fsdp import fully_shard
        mesh = init_device_mesh("cpu", (world,))
        for layer in (model.inner, model.outer):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    elif kind == "tp":
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
        parallelize_module(model, init_device_mesh("cpu", (world,)), {"inner": ColwiseParallel(use_local_output=False), "norm": SequenceParallel(sequence_dim=1), "outer": RowwiseParallel()})
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def train(model, opt, kind, n):
    for i in range(n):
        torch.manual_seed(100 + i + (0 if kind == "tp" else dist.get_rank()))
        loss = model(torch.randn(8, 12)).square().mean()
        opt.zero_grad()
        loss.backward()
        if kind == "ddp":
            for p in model.parameters():
                dist.all_reduce(p.grad)
        opt.step()


def whole(t):
    return t.full_tensor() if hasattr(t, "full_tensor") else t


def leaves(tree, path=""):
    if isinstance(tree, dict):
        for k in sorted(tree, key=str):
            yield from leaves(tree[k], f"{path}/{k}")
    elif isinstance(tree, (list, tuple)) and any(isinstance(x, dict) for x in tree):
        for i, x in enumerate(tree):
            yield from leaves(x, f"{path}/{i}")
    else:
        yield path, tree


def digest(state):
    h = hashlib.sha256()
    for path, value in leaves(state):
        h.update(path.encode())
        h.update(whole(value).detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    return h.hexdigest()[:16]


def local_bytes(state):
    return sum((v.to_local() if hasattr(v, "to_local") else v).numel() * v.element_size() for _, v in leaves(state) if isinstance(v, torch.Tensor))


class Stages:
    """What is each rank's alone, as of pipeline parallelism: eight stages."""

    def __init__(self, filled):
        rank, world = dist.get_rank(), dist.get_world_size()
        self.state = {"model": {f"stages.{i}.w": torch.full((64, 32), float(i)) if filled else torch.zeros(64, 32) for i in range(8) if i * world // 8 == rank}, "names": {f"stage {i}": f"of {i}" if filled else ""
                      for i in range(8) if i * world // 8 == rank}}

    def check(self):
        for name, t in self.state["model"].items():
            assert (t == float(name.split(".")[1])).all(), name
        for name, text in self.state["names"].items():
            assert text == f"of {name.split()[1]}", (name, text)


def main(arguments=None):
    p = argparse.ArgumentParser()
    p.add_argument("kind")
    p.add_argument("dir")
    p.add_argument("actions", nargs="+")
    p.add_argument("--width", type=int, default=64)
    p.add_argument("--die-rank", type=int, default=-1)
    p.add_argument("--other-step", type=int, default=-1)
    p.add_argument("--other-dir", type=int, default=-1)
    p.add_argument("--caching", action="store_true")
    p.add_argument("--lowest", action="store_true")
    p.add_argument("--by-checkpointer", action="store_true")
    a = p.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    ck = ingot.Checkpointer(a.dir, keep=ingot.Keep(last=2), rank_timeout=60) if a.by_checkpointer else None
    if a.kind == "pp":
        for action in a.actions:
            what, _, step = action.partition(":")
            s = Stages(what == "save")
            if what == "save":
                dcp.save(s.state, storage_writer=ingot.dcp.StorageWriter(a.dir, int(step)))
            else:
                dcp.load(s.state, storage_reader=ingot.dcp.StorageReader(a.dir))
                s.check()
                print("stages", sorted(s.state["model"]), flush=True)
        dist.destroy_process_group()
        return
    model, opt = make(a.kind, a.width)

    def state_of():
        m, o = get_state_dict(model, opt)
        return {"model": m, "optimizer": o}

    def table():
        return {"table": {"t": torch.arange(3000.0 * 1000).reshape(3000, 1000)}} if a.lowest else {}

    extra = {"step": 0, "note": ("as", [1, 2.5, None]), "seen": {"é": 3}}
    for action in a.actions:
        what, _, step = action.partition(":")
        n = int(step or 0)
        if what == "train":
            train(model, opt, a.kind, n)
        elif what in ("save", "thread", "process"):
            write = ingot._ingot.write_part

            def watched(*args):
                told = write(*args)
                if rank == a.die_rank:
                    os.kill(os.getpid(), signal.SIGKILL)
                print("wrote", sum(ingot.nest.bytes_of(type_name, shape) for _, _, rows in args[4] for _, type_name, shape, *_ in rows), flush=True)
                return told
            ingot._ingot.write_part = watched
            state = {**state_of(), **table(), **extra, "step": n}
            writer = (ingot.dcp.StorageWriter(ck, n, metrics={"loss": n / 2}) if ck else
                      ingot.dcp.StorageWriter(a.dir + ("-other" if rank == a.other_dir else ""), n + (rank == a.other_step), keep=ingot.Keep(last=3), metrics={"loss": n / 2}))
            planner = dcp.DefaultSavePlanner(enable_plan_caching=a.caching, dedup_save_to_lowest_rank=a.lowest)
            if what == "save":
                dcp.save(state, storage_writer=writer, planner=planner)
                ingot._ingot.write_part = write
            else:
                kind = AsyncCheckpointerType.THREAD if what == "thread" else AsyncCheckpointerType.PROCESS
                ingot._ingot.write_part = write
                print("state", n, digest(state), flush=True)
                future = dcp.async_save(state, storage_writer=writer, planner=planner, async_checkpointer_type=kind)
                with torch.no_grad():  # what changes after the call is not in it; no collective of ours while torch's are under way
                    for q in model.parameters():
                        q.add_(1)
                future.result()
                continue
            print("state", n, digest(state), flush=True)
        elif what in ("load", "verify"):  # verify: the hashes of all files are compared
            state = {**state_of(), **table(), "step": None, "note": None, "seen": {"é": 0}}
            with torch.no_grad():
                for _, t in leaves(state):
                    if isinstance(t, torch.Tensor):
                        (t.to_local() if hasattr(t, "to_local") else t).zero_()
            reader = ingot.dcp.StorageReader(ck or a.dir, n or None, verify=True if what == "verify" else None)
            needed = local_bytes(state)
            dcp.load(state, storage_reader=reader)
            set_state_dict(model, opt, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
            print("loaded", reader.step, digest({**state, **state_of()}), flush=True)
            print("read", reader.bytes_read, "of", needed, flush=True)
        elif what == "ck-save":
            ck.save(n, {**state_of(), **extra, "step": n}).wait()
            print("state", n, digest({**state_of(), **extra, "step": n}), flush=True)
        elif what == "ck-restore":
            state = {**state_of(), "step": None, "note": None, "seen": {"é": 0}}
            with torch.no_grad():
                for _, t in leaves(state):
                    if isinstance(t, torch.Tensor):
                        (t.to_local() if hasattr(t, "to_local") else t).zero_()
            got = ck.restore(state)
            print("loaded", got, digest(state), flush=True)
    if ck:
        ck.close()
    dist.destroy_process_group()


def run(environment, arguments, log):
    """In a process that was forked from one that has imported all this."""
    os.environ.update(environment)
    for fd, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), fd)
    try:
        main(arguments)
    except dcp.api.CheckpointException as e:
        print(e, file=sys.stderr, flush=True)
        os._exit(3)

