#!/usr/bin/env python3
"""Saving and loading a training state beside the peers, in one run (./run bench --checkpoints): the stall of a save, the time until it is durable, cold and warm loads.

Every way runs in a process of its own, one after another, on the same state: F32 tensors on the CPU (--cuda: on a GPU), all of them changed between saves. The stall is how long the caller
waits until it may change the state; durable is counted from the call until everything is on the medium (fsync of the peers' files is in their time, as ours is in ours).
"""
import argparse
import datetime
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import bench
import checkpoints_ranks

WAYS = {
    "copy": "plain copy into warm buffers",
    "torch": "torch.save",
    "safetensors": "safetensors save_file",
    "dcp": "DCP async_save",
    "dcp_process": "DCP async_save, PROCESS, DefaultStager",
    "torch_checkpointing": "torch_checkpointing",
    "ingot": "ingot.Checkpointer",
}


def cold(path):
    for p in bench.files_under(path):
        fd = os.open(p, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def worker(way, folder, tensors, reps, device):
    import torch
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    state = {f"w{i}": torch.randn(4096, 4096, device=device) for i in range(tensors)}
    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    out = pathlib.Path(folder) / way
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    result = {"stall": [], "durable": [], "cold": [], "warm": [], "bytes": tensors * 4096 * 4096 * 4}
    close = lambda: None
    if way == "copy":
        warm = {k: torch.zeros(v.shape, pin_memory=device == "cuda") for k, v in state.items()}

        def save(i, path):
            for k, v in state.items():
                warm[k].copy_(v, non_blocking=True)
            settle()
            return lambda: None
        load = None
    elif way == "torch":
        def save(i, path):
            torch.save(state, path)
            return lambda: bench.sync(path)

        def load(path, into):
            for k, v in torch.load(path, mmap=False).items():
                into[k].copy_(v)
    elif way == "safetensors":
        from safetensors.torch import load_file, save_file

        def save(i, path):
            save_file(state, path)
            return lambda: bench.sync(path)

        def load(path, into):
            for k, v in load_file(path).items():
                into[k].copy_(v)
    elif way.startswith("dcp"):
        import torch.distributed as dist
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29617", RANK="0", WORLD_SIZE="1")
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "cpu:gloo")
        options = {}
        if way == "dcp_process":
            from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
            options = {"async_checkpointer_type": AsyncCheckpointerType.PROCESS,
                       "async_stager": DefaultStager(StagingOptions(use_pinned_memory=device == "cuda", use_shared_memory=True, use_async_staging=False, use_non_blocking_copy=device == "cuda"))}

        def save(i, path):
            writer = dcp.FileSystemWriter(path, sync_files=True)
            future = dcp.async_save({"model": state}, storage_writer=writer, planner=dcp.DefaultSavePlanner(enable_plan_caching=True), **options)
            future = getattr(future, "upload_completion", future)
            return lambda: (future.result(), bench.sync(path))

        def load(path, into):
            dcp.load({"model": into}, storage_reader=dcp.FileSystemReader(path))

        def close():
            dist.destroy_process_group()
    elif way == "torch_checkpointing":
        from torch_checkpointing import CheckpointManager
        from torch_checkpointing.config import AsyncCheckpointSaverConfig
        from torch_checkpointing.staging import CheckpointStagerConfig
        from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

        def make_manager():  # its direct I/O fails on this kind of file system ("Invalid argument" at close)
            return CheckpointManager(CheckpointManager.Config(storage_config=LocalFileSystemStorageConfig(use_direct_io=False), save=AsyncCheckpointSaverConfig(
                staging_config=CheckpointStagerConfig(use_pinned_memory=device == "cuda", use_shared_memory=True, use_async_staging=False, use_non_blocking_copy=device == "cuda"))))
        manager = make_manager()

        def save(i, path):
            future = manager.save(str(path), {"model": state})
            if manager._staging_future is not None:
                manager._staging_future.result()
            return lambda: (future.result(), bench.sync(path))

        def load(path, into):
            manager.load(str(path), into={"model": into})
        close = manager.close
    else:
        import ingot
        ck = ingot.Checkpointer(out, signals=False, keep=ingot.Keep(last=2))

        def save(i, path):
            handle = ck.save(i, {"model": state})
            return handle.wait

        def load(path, into):
            ingot.Checkpointer(out, signals=False).restore({"model": into})
        close = ck.close
    import warnings
    warnings.simplefilter("ignore")
    path = None
    for i in range(1, reps + 2):
        for v in state.values():
            v.add_(1)
        settle()
        before, path = path, out / f"save-{i}"
        start = time.perf_counter()
        durable = save(i, path)
        result["stall"].append(time.perf_counter() - start)
        durable()
        result["durable"].append(time.perf_counter() - start)
        # What is removed is in nobody's time.
        if way == "ingot":
            ck.wait()
        elif before is not None and way != "copy":
            shutil.rmtree(before) if before.is_dir() else before.unlink()
    close()
    if load is not None:
        into = {k: torch.zeros_like(v) for k, v in state.items()}
        where = out / f"checkpoint-{reps + 1}" if way == "ingot" else path
        if way.startswith("dcp"):
            dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "cpu:gloo")
        if way == "torch_checkpointing":
            manager = make_manager()
        for i in range(reps):
            for kind in ("cold", "warm"):
                if kind == "cold":
                    cold(where)
                start = time.perf_counter()
                load(path, into)
                settle()
                result[kind].append(time.perf_counter() - start)
        assert all(torch.equal(into[k], state[k]) for k in state), f"{way}: what was loaded is not what was saved"
        result["stored"] = bench.size_of(where)
    import resource
    result["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    shutil.rmtree(out)
    print(json.dumps(result), flush=True)
    os._exit(0)  # writer processes of the peers need not be waited for


def training(folder, tensors, device):
    """How much slower a training loop that keeps the device busy (all cores, or the GPU) is while a checkpoint is written, and with one each minute."""
    import torch
    import ingot
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    state = {f"w{i}": torch.randn(4096, 4096, device=device) for i in range(tensors)}
    n, settle = (8192, torch.cuda.synchronize) if device == "cuda" else (1024, lambda: None)
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    out = pathlib.Path(folder) / "training"
    shutil.rmtree(out, ignore_errors=True)

    def step():
        start = time.perf_counter()
        for _ in range(4):
            torch.mm(a, b)
        settle()
        return time.perf_counter() - start

    def steps(until):
        taken = []
        while not until():
            taken.append(step())
        return taken
    rows = []
    with ingot.Checkpointer(out, signals=False, keep=ingot.Keep(last=2)) as ck:
        ck.save(0, {"model": state}).wait()  # memory for copies is there from here on
        ck.wait()
        for i in range(1, 6):
            end = time.perf_counter() + 4
            alone = steps(lambda: time.perf_counter() >= end)
            for v in state.values():
                v.add_(1)
            settle()
            start = time.perf_counter()
            handle = ck.save(i, {"model": state})
            stall = time.perf_counter() - start
            beside = steps(lambda: handle.done)
            normal = statistics.median(alone)
            lost = sum(beside) - len(beside) * normal
            rows.append({"stall": stall, "while_written": sum(beside) / len(beside) / normal - 1, "each_minute": (stall + lost) / 60, "durable": stall + sum(beside)})
            ck.wait()
    shutil.rmtree(out)
    print(json.dumps({k: statistics.median(r[k] for r in rows) for k in rows[0]}), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dir", type=pathlib.Path, default=bench.ROOT / "build" / "bench" / "checkpoints")
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--small", action="store_true")
    p.add_argument("--only", action="append")
    p.add_argument("--cuda", action="store_true", help="the state is on a GPU; the plain copy is into pinned memory")
    p.add_argument("--ranks", type=int, help="that many gloo ranks share the state (docs/bench-checkpoints-ranks.md)")
    p.add_argument("--tensors", type=int, default=48, help="of 64 MiB; with --ranks")
    p.add_argument("--worker")
    args = p.parse_args()
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(bench.ROOT / "build" / "release" / "python"), str(bench.ROOT / "bench")]))
    if args.ranks and args.worker:
        return checkpoints_ranks.worker(args.worker, args.dir, args.ranks, args.tensors, args.reps)
    if args.ranks:
        return checkpoints_ranks.main(args, env)
    tensors, device = 2 if args.small else 48, "cuda" if args.cuda else "cpu"
    if args.worker == "training":
        return training(args.dir, tensors, device)
    if args.worker:
        return worker(args.worker, args.dir, tensors, args.reps, device)
    args.dir.mkdir(parents=True, exist_ok=True)
    limits = bench.measured_limits(args.dir, args.small)
    results = {}
    for way in args.only or WAYS:
        bench.say(WAYS[way])
        words = [sys.executable, "-B", __file__, "--worker", way, "--dir", str(args.dir), "--reps", str(args.reps), *(["--small"] if args.small else []), *(["--cuda"] if args.cuda else [])]
        found = subprocess.run(words, env=env, capture_output=True, text=True)
        if found.returncode:
            print(found.stderr[-2000:], file=sys.stderr)
            continue
        results[way] = json.loads(found.stdout.splitlines()[-1])
        print({k: [round(x, 3) for x in v] for k, v in results[way].items() if isinstance(v, list)})
    slowed = None
    if not args.only or "ingot" in args.only:
        bench.say("a training loop with saves")
        found = subprocess.run([sys.executable, "-B", __file__, "--worker", "training", "--dir", str(args.dir), *(["--small"] if args.small else []), *(["--cuda"] if args.cuda else [])], env=env, capture_output=True, text=True)
        slowed = json.loads(found.stdout.splitlines()[-1]) if found.returncode == 0 else print(found.stderr[-2000:], file=sys.stderr)
    size = next(iter(results.values()))["bytes"]
    later = lambda r, k: statistics.median(r[k][1:]) if len(r[k]) > 1 else r[k][0]
    lines = ["# Saving and loading a training state beside the peers", "", f"Made by `bench/checkpoints.py`; do not edit. One run; {tensors} F32 tensors of 4096 x 4096 on the {'GPU' if args.cuda else 'CPU'} ({size / 1e9:.2f} GB), all changed "
             f"between saves; medians of {args.reps} after the first, which is told apart. **Stall**: until the state may change. **Durable**: from the call until everything is on the medium, hashes "
             "included where the way makes any (ingot alone does). Loads go into tensors that are there; cold: the files' pages were dropped; ingot's loads verify every byte.", "",
             f"- Command: `./run bench --checkpoints {' '.join(sys.argv[1:])}`", f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; commit {bench.commit()}",
             f"- Machine: {bench.machine()}", f"- Peers: {bench.versions()}", bench.limits_line(limits),
             f"- At the limit: {size / limits['disk_write']:.2f} s to write, {size / limits['disk_read']:.2f} s to read, {size / limits['memory_copy_2_threads']:.2f} s to copy", "",
             "| way | first stall s | stall s | of the plain copy | durable s | of the disk's limit | load cold s | load warm s | peak RSS GB |", "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    plain = later(results["copy"], "stall") if "copy" in results else None
    for way, r in results.items():
        cell = lambda x, f="{:.2f}": f.format(x) if x is not None else ""
        lines.append(f"| {WAYS[way]} | {r['stall'][0]:.2f} | {later(r, 'stall'):.2f} | {cell(later(r, 'stall') / plain if plain else None, '{:.1f}x')} | "
                     f"{cell(None if way == 'copy' else later(r, 'durable'))} | {cell(None if way == 'copy' else later(r, 'durable') * limits['disk_write'] / size, '{:.2f}x')} | "
                     f"{cell(statistics.median(r['cold']) if r['cold'] else None)} | {cell(statistics.median(r['warm']) if r['warm'] else None)} | {r['rss'] / 1e9:.1f} |")
    if slowed:
        lines += ["", f"A training loop that keeps {'the GPU' if args.cuda else 'all cores'} busy (matrix products), saving the same state: {slowed['while_written']:.1%} slower while a checkpoint is written (for {slowed['durable']:.1f} s), "
                  f"{slowed['each_minute']:.1%} with a save each minute, its stall of {slowed['stall']:.2f} s included."]
    text = "\n".join(lines) + "\n"
    print(text)
    if not args.small and not args.only:
        (bench.ROOT / "docs" / f"bench-checkpoints{'-gpu' if args.cuda else ''}.md").write_text(text)


if __name__ == "__main__":
    main()
