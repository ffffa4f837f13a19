"""Saving and loading a state that several ranks share (./run bench --checkpoints --ranks 4), beside torch's DCP at its best and torch_checkpointing; and what the coordinator of a thousand does.

Every way is a job of its own of that many gloo ranks, forked from one process that has imported torch. The state is F32 DTensors on the CPU, in equal parts over the ranks, all of them changed between saves. The ranks begin
a save together: the stall is that of the rank that waits longest until it may change its part, durable the time until the last rank's bytes are on the medium. What a load reads is what read() and pread() gave to all ranks.
"""
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

import bench

WAYS = {
    "copy": "plain copy of a rank's share into warm buffers",
    "dcp": "DCP async_save",
    "dcp_process": "DCP async_save, PROCESS, DefaultStager, plan caching",
    "torch_checkpointing": "torch_checkpointing",
    "ingot": "ingot.Checkpointer",
    "ingot_dcp": "DCP async_save through ingot.dcp",
    "ingot_dcp_process": "DCP async_save through ingot.dcp, PROCESS, DefaultStager, plan caching",
}
FEWER = 2  # ranks of the load that reshards


def bytes_read():
    with open("/proc/self/io") as f:
        return int(f.readline().split()[1])


def way_of(way, state, out):
    """(save, load, close) of a way: save(i) begins one and returns a call that waits until this rank's is durable; load(i, into)."""
    import torch.distributed as dist
    path = lambda i: out / f"save-{i}"
    if way == "copy":
        import torch
        warm = {k: torch.zeros_like(v.to_local()) for k, v in state.items()}

        def save(i):
            for k, v in state.items():
                warm[k].copy_(v.to_local())
            return lambda: None
        return save, None, lambda: None
    if "dcp" in way:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
        options = {}
        if way.endswith("dcp_process"):
            from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
            options = {"async_checkpointer_type": AsyncCheckpointerType.PROCESS,
                       "async_stager": DefaultStager(StagingOptions(use_pinned_memory=False, use_shared_memory=True, use_async_staging=False, use_non_blocking_copy=False))}
        if way.startswith("ingot"):
            import ingot.dcp
            writer, reader, sync = lambda i: ingot.dcp.StorageWriter(out, i, keep=ingot.Keep(last=2)), lambda i: ingot.dcp.StorageReader(out, i, verify=True), lambda i: None
        else:
            writer, reader, sync = lambda i: dcp.FileSystemWriter(path(i), sync_files=True), lambda i: dcp.FileSystemReader(path(i)), lambda i: bench.sync(path(i))

        def save(i):
            future = dcp.async_save({"model": state}, storage_writer=writer(i), planner=dcp.DefaultSavePlanner(enable_plan_caching=True), **options)
            future = getattr(future, "upload_completion", future)
            return lambda: (future.result(), dist.get_rank() == 0 and sync(i))

        def load(i, into):
            dcp.load({"model": into}, storage_reader=reader(i))
        return save, load, lambda: None
    if way == "torch_checkpointing":
        from torch_checkpointing import CheckpointManager
        from torch_checkpointing.config import AsyncCheckpointSaverConfig
        from torch_checkpointing.staging import CheckpointStagerConfig
        from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig
        manager = CheckpointManager(CheckpointManager.Config(storage_config=LocalFileSystemStorageConfig(use_direct_io=False), save=AsyncCheckpointSaverConfig(
            staging_config=CheckpointStagerConfig(use_pinned_memory=False, use_shared_memory=True, use_async_staging=False, use_non_blocking_copy=False))))

        def save(i):
            future = manager.save(str(path(i)), {"model": state})
            if manager._staging_future is not None:
                manager._staging_future.result()
            return lambda: (future.result(), dist.barrier(), dist.get_rank() == 0 and bench.sync(path(i)))

        def load(i, into):
            manager.load(str(path(i)), into={"model": into})
        return save, load, manager.close
    import ingot
    ck = ingot.Checkpointer(out, signals=False, keep=ingot.Keep(last=2))

    def save(i):
        return ck.save(i, {"model": state}).wait

    def load(i, into):
        reader = ingot.Checkpointer(out, signals=False)
        reader.restore({"model": into})
    return save, load, ck.close


def rank_main(way, out, tensors, reps, saves):
    """One rank of a job; what rank 0 is told of all goes to stdout."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard
    import warnings
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    fresh = lambda make: {f"w{i}": DTensor.from_local(make(i), mesh, [Shard(0)], run_check=False) for i in range(tensors)}
    rows = 4096 // world
    every = [None] * world

    def worst(x):
        dist.all_gather_object(every, x)
        return max(every)

    def total(x):
        dist.all_gather_object(every, x)
        return sum(every)
    result = {"stall": [], "durable": [], "load": [], "read": []}
    # Of a rank's part of tensor i in save n: each row differs, so that a load that mixes parts up is seen.
    part = lambda n: lambda i: (torch.arange(rank * rows, rank * rows + rows, dtype=torch.float32) / 4096 + float(i + n)).unsqueeze(1).repeat(1, 4096)
    if saves:
        state = fresh(part(0))
        save, load, close = way_of(way, state, out)
        for i in range(1, reps + 2):
            for v in state.values():
                v.to_local().add_(1)
            os.sync() if rank == 0 else None
            dist.barrier()
            start = time.perf_counter()
            durable = save(i)
            stall = time.perf_counter() - start
            durable()
            whole = time.perf_counter() - start
            result["stall"].append(worst(stall))
            result["durable"].append(worst(whole))
            if rank == 0 and i > 1 and way != "copy" and not way.startswith("ingot"):
                shutil.rmtree(out / f"save-{i - 1}")
            dist.barrier()
        del state
        if way == "ingot":
            close()  # it has retired what is older
    else:
        load = way_of(way, fresh(part(0)), out)[1] if way != "ingot" else way_of(way, {}, out)[1]
    if load is not None:
        into = fresh(lambda i: torch.zeros(rows, 4096))
        where = out / (f"checkpoint-{reps + 1}" if way.startswith("ingot") else f"save-{reps + 1}")
        result["stored"] = bench.size_of(where)
        for k in range(reps):
            if rank == 0:
                for f in bench.files_under(where):
                    fd = os.open(f, os.O_RDONLY)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(fd)
            dist.barrier()
            before, start = bytes_read(), time.perf_counter()
            load(reps + 1, into)
            taken, read = time.perf_counter() - start, bytes_read() - before
            result["load"].append(worst(taken))
            result["read"].append(total(read))
        want = part(reps + 1)
        assert all(torch.equal(v.to_local(), want(i)) for i, v in enumerate(into.values())), f"{way}: what was loaded is not what was saved"
    import resource
    result["rss"] = total(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    if rank == 0:
        print(json.dumps(result), flush=True)
    dist.barrier()
    os._exit(0)  # writer processes of the peers need not be waited for


def worker(way, folder, world, tensors, reps):
    """A job that saves and loads, and one of fewer ranks that loads."""
    import torch  # noqa: F401
    import torch._dynamo  # noqa: F401
    import torch.distributed.checkpoint  # noqa: F401
    import torch.distributed.tensor  # noqa: F401
    out = pathlib.Path(folder) / f"ranks-{way}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for ranks, saves in ((world, True), (FEWER, False)):
        if way in ("copy", "torch_checkpointing") and not saves:
            continue  # torch_checkpointing 0.1.1 gathers what its resharder needs in tensors on a GPU (metadata_manager.py): there is none on the CPU
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        children = []
        for rank in range(ranks):
            pid = os.fork()
            if pid == 0:
                try:
                    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
                    rank_main(way, out, tensors, reps, saves)
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                os._exit(1)
            children.append(pid)
        if any([os.waitpid(pid, 0)[1] for pid in children]):
            sys.exit(f"{way}: a rank of {ranks} failed")
    shutil.rmtree(out)


def talk(world):
    """Seconds in which rank 0 hears from that many ranks through torch's store, and forgets it."""
    from torch.distributed import TCPStore
    from ingot.ranks import Ranks
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    lead, part = Ranks(store, 0, world), b"x" * 560
    for r in range(1, world):
        lead.put(f"part/{r}", part)
    start = time.perf_counter()
    for r in range(1, world):
        assert lead.get(f"part/{r}", 1) == part
        lead.drop(f"part/{r}")
    return time.perf_counter() - start


def plans(folder):
    """What the coordinator does for a save of many ranks."""
    program = bench.ROOT / "build" / "release" / "bench" / "plan_bench"
    if not program.exists():
        return []
    rows = []
    for ranks, size in ((1000, 800_000_000), (1000, 10_000_000_000)):
        found = [json.loads(subprocess.run([program, folder, str(ranks), "10000", str(size)], check=True, capture_output=True, text=True).stdout) for _ in range(3)]
        rows.append(sorted(found, key=lambda r: r["seconds"])[1])
    return rows


def run(words, environment, seconds):
    """(exit code or None, stdout, stderr). Peers leave processes behind that hold these open; they end with the job."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        p = subprocess.Popen(words, env=environment, stdout=out, stderr=err, start_new_session=True)
        try:
            code = p.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.wait()
        texts = []
        for f in (out, err):
            f.seek(0)
            texts.append(f.read())
        return code, *texts


def main(args, environment):
    args.dir.mkdir(parents=True, exist_ok=True)
    world, tensors = args.ranks, 2 if args.small else args.tensors
    size = tensors * 4096 * 4096 * 4
    limits, load = bench.measured_limits(args.dir, args.small), os.getloadavg()[0]
    results, failed = {}, {}
    for way in args.only or WAYS:
        bench.say(f"{world} ranks: {WAYS[way]}")
        words = [sys.executable, "-B", os.path.join(os.path.dirname(os.path.abspath(__file__)), "checkpoints.py"), "--ranks", str(world), "--tensors", str(tensors), "--worker", way, "--dir", str(args.dir), "--reps", str(args.reps)]
        code, out, err = run(words, environment, 1800)
        lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"stall"')]
        if code or not lines:
            failed[way] = "it did not end within half an hour" if code is None else next((line for line in reversed(err.splitlines()) if re.match(r"\w+(\.\w+)*(Error|Exception|Timeout): ", line)), "it failed")[:200]
            print(err[-3000:], file=sys.stderr)
            if not lines:
                continue
        results[way] = lines
        print(json.dumps(lines))
    coordinator = plans(args.dir)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    heard = talk(1000)
    loads = sorted((load, os.getloadavg()[0]))
    later = lambda r, k: statistics.median(r[k][1:]) if len(r[k]) > 1 else r[k][0]
    plain = later(results["copy"][0], "stall") if "copy" in results else None
    lines = [f"# A state that {world} ranks share, saved and loaded beside the peers", "",
             f"Made by `bench/checkpoints_ranks.py`; do not edit. One run; {tensors} F32 DTensors of 4096 x 4096 on the CPU in equal parts over {world} gloo ranks ({size / 1e9:.2f} GB in all), each rank with one thread of torch, all "
             f"changed between saves; medians of {args.reps} after the first. The ranks begin together. **Stall**: of the rank that waits longest until its part may change. **Durable**: until the last rank's bytes are on the "
             f"medium, hashes included where the way makes any (ingot alone does). **Load**: cold, into DTensors that are there, by {world} ranks and by {FEWER}; **read**: what all ranks read, by what is stored. ingot's loads verify every byte. torch_checkpointing 0.1.1 reshards where there is a GPU alone.",
             "", f"- Command: `./run bench --checkpoints {' '.join(shown(sys.argv[1:]))}`", f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; commit {bench.commit()}",
             f"- Machine: {bench.machine()}; load {loads[0]:.1f} to {loads[1]:.1f}", f"- Peers: {versions()}", bench.limits_line(limits),
             f"- At the limit: {size / limits['disk_write']:.2f} s to write, {size / limits['disk_read']:.2f} s to read, {size / limits['memory_copy_2_threads']:.2f} s to copy", "",
             f"| way | stall s | of the plain copy | durable s | of the disk's limit | load by {world} s | read | load by {FEWER} s | read | peak RSS of all ranks GB |", "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for way, (saved, *fewer) in results.items():
        cell = lambda x, f="{:.2f}": f.format(x) if x is not None else ""
        loaded = lambda r: [cell(statistics.median(r["load"])), cell(max(r["read"]) / r["stored"], "{:.3f}x")] if r and r["load"] else ["", ""]
        durable = None if way == "copy" else later(saved, "durable")
        row = [WAYS[way], cell(later(saved, "stall")), cell(later(saved, "stall") / plain if plain else None, "{:.2f}x"), cell(durable), cell(durable and durable * limits["disk_write"] / size, "{:.2f}x"),
               *loaded(saved), *loaded(fewer[0] if fewer else None), cell(saved["rss"] / 1e9, "{:.1f}")]
        lines.append("| " + " | ".join(row) + " |")
    lines += [f"| {WAYS[way]} | {why.replace('|', '/')} | | | | | | | | |" for way, why in failed.items() if way not in results] + [""]
    lines += [f"{WAYS[way]}: {why}" for way, why in failed.items() if way in results]
    if coordinator:
        lines += ["## What rank 0 of a thousand does alone", "", f"`build/release/bench/plan_bench` (-DINGOT_BENCHMARKS=ON), medians of 3: `save_together()` of rank 0 of {coordinator[0]['ranks']} ranks of {coordinator[0]['tensors']} "
                  "tensors each, its own planned and written in full (four elements each), the parts of the others told as they would tell them; their files lie there without data. From the call to the checkpoint's name.", "",
                  "| bytes of all ranks | files | told by the ranks | s | CPU s | MB |", "|---:|---:|---:|---:|---:|---:|"]
        lines += [f"| {r['bytes'] / 1e12:.1f} TB | {r['files']} | {r['told'] / 1e6:.2f} MB | {r['seconds']:.2f} | {r['cpu']:.2f} | {r['megabytes']:.0f} |" for r in coordinator]
        lines += ["", f"Hearing from 999 ranks through torch's TCPStore, of this machine: {heard:.2f} s."]
    text = "\n".join(lines) + "\n"
    print(text)
    if not args.small and not args.only:
        (bench.ROOT / "docs" / "bench-checkpoints-ranks.md").write_text(text)


def shown(words):
    """Without the folder of one machine."""
    return [w for i, w in enumerate(words) if not w.startswith("--dir") and (i == 0 or words[i - 1] != "--dir")]


def versions():
    import importlib.metadata as m
    return ", ".join(f"{name} {m.version(name)}" for name in ("torch", "torch_checkpointing"))
