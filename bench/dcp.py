#!/usr/bin/env python3
"""dcp.save, dcp.async_save and dcp.load over ranks of one machine (gloo): torch's FileSystemWriter and ingot.dcp in turn, on the same state of FSDP's layout. Times are of the slowest rank, the median of --reps;
both sync their files. `PYTHONPATH=build/release/python python bench/dcp.py --dir DIR`"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
import warnings


def timed(dist, f):
    import torch
    dist.barrier()
    start = time.monotonic()
    out = f()
    took = torch.tensor(time.monotonic() - start)
    dist.all_reduce(took, op=dist.ReduceOp.MAX)
    return took.item(), out


def rank_main(a):
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
    from torch.distributed.tensor import DTensor, Shard
    from torch.distributed.device_mesh import init_device_mesh
    import ingot.dcp
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    mesh, n = init_device_mesh("cpu", (world,)), a.tensors
    rows = int(a.megabytes * 1e6 / world / n / 4 / 1024)
    state = {"model": {f"layers.{i}.weight": DTensor.from_local(torch.randn(rows, 1024), mesh, [Shard(0)], run_check=False) for i in range(n)}, "step": 0}
    step = 0
    for way in ("torch", "ingot"):
        shutil.rmtree(os.path.join(a.dir, way), ignore_errors=True) if rank == 0 else None
        dist.barrier()

        def writer():
            if way == "torch":
                return dcp.FileSystemWriter(os.path.join(a.dir, way, f"checkpoint-{step}"))
            return ingot.dcp.StorageWriter(os.path.join(a.dir, way), step, keep=ingot.Keep(last=1))

        def done():
            if way == "torch" and rank == 0:
                shutil.rmtree(os.path.join(a.dir, way, f"checkpoint-{step - 1}"), ignore_errors=True)
        times = {"save": [], "stall (thread)": [], "durable (thread)": [], "stall (process)": [], "durable (process)": [], "load": []}
        for _ in range(a.reps + 1):
            step += 1
            times["save"].append(timed(dist, lambda: dcp.save(state, storage_writer=writer()))[0])
            done()
            for kind in (AsyncCheckpointerType.THREAD, AsyncCheckpointerType.PROCESS):
                step += 1
                name = kind.name.lower()
                start = time.monotonic()
                stall, future = timed_alone(lambda: dcp.async_save(state, storage_writer=writer(), async_checkpointer_type=kind))
                future.result()
                took = torch.tensor([stall, time.monotonic() - start])
                dist.all_reduce(took, op=dist.ReduceOp.MAX)
                times[f"stall ({name})"].append(took[0].item())
                times[f"durable ({name})"].append(took[1].item())
                done()
            path = os.path.join(a.dir, way, f"checkpoint-{step}")
            times["load"].append(timed(dist, lambda: dcp.load(state, storage_reader=dcp.FileSystemReader(path) if way == "torch" else ingot.dcp.StorageReader(path)))[0])
        if rank == 0:
            for what, t in times.items():
                print(f"{way:6} {what:18} {statistics.median(t[1:]):7.3f} s   ({min(t[1:]):.3f} to {max(t[1:]):.3f})", flush=True)
    dist.destroy_process_group()


def timed_alone(f):
    """Without a collective of ours while torch's are under way."""
    start = time.monotonic()
    out = f()
    return time.monotonic() - start, out


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--dir", required=True)
    p.add_argument("--ranks", type=int, default=4)
    p.add_argument("--megabytes", type=float, default=400)
    p.add_argument("--tensors", type=int, default=20)
    p.add_argument("--reps", type=int, default=3)
    a = p.parse_args()
    if "RANK" in os.environ:
        rank_main(a)
        return
    procs = [subprocess.Popen([sys.executable, *sys.argv], env=dict(os.environ, RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE=str(a.ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT="29791", OMP_NUM_THREADS="1"))
             for r in range(a.ranks)]
    sys.exit(max(p.wait() for p in procs))


if __name__ == "__main__":
    main()
