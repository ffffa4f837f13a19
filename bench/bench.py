#!/usr/bin/env python3
"""ingot against the real peers, in one run (./run bench; bench.sh sets the peers up).

Each row runs peer and ingot in turn, the order alternating from repetition to repetition, with warm inputs (read
once before), at equal threads and equal durability: the fsync of a peer's output is added to its time where the
peer does none. Peak memory is the largest resident set of the row's processes (wait4). The standard library only:
a child's peak resident set counts what its parent had at exec, so this process stays small.
"""
import argparse
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TYPES = ["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "Q4_0"]
PEER_PYTHON = os.environ.get("PEER_PYTHON", sys.executable)
GIB = float(1 << 30)


def options(description):
    """What bench.py and against.py have in common."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--only", default="", help="rows to run, comma-separated prefixes of: ship, convert, quantize-TYPE, cp")
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--small", action="store_true", help="a model of 20 million parameters: tries the machinery only")
    p.add_argument("--dir", type=Path, default=ROOT / "build" / "bench", help="where model and outputs go (8 GB)")
    p.add_argument("--ingot", type=Path, default=ROOT / "build" / "release" / "ingot")
    p.add_argument("--no-peer", action="store_true", help="ingot's own times only, while tuning")
    return p


class Failure(Exception):
    pass


def run(command, log, env=None):
    """Runs a command; returns (seconds, peak resident bytes, the JSON object of its last line or {})."""
    with open(log, "ab") as out:
        out.write(("\n$ " + " ".join(map(str, command)) + "\n").encode())
        out.flush()
        begin = out.tell()
        start = time.perf_counter()
        child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                 env={**os.environ, **(env or {})})
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        tail = Path(log).read_text(errors="replace").splitlines()[-15:]
        raise Failure(f"{command[0]} failed with {child.returncode}:\n" + "\n".join(tail))
    result = {}
    with open(log, "rb") as f:
        f.seek(begin)
        for line in f:
            if line.startswith(b'{"command":'):
                result = json.loads(line)
    return seconds, usage.ru_maxrss * 1024, result


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def files_under(path):
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]


def size_of(path):
    return sum(f.stat().st_size for f in files_under(path))


def sync(path):
    start = time.perf_counter()
    for f in files_under(path):
        fd = os.open(f, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    return time.perf_counter() - start


def warm(path):
    for f in files_under(path):
        with open(f, "rb", buffering=0) as handle:
            buffer = bytearray(4 << 20)
            while handle.readinto(buffer):
                pass


class Step:
    """One command and the output that must be durable when it counts as done."""

    def __init__(self, command, output, env=None):
        self.command, self.output, self.env = command, output, env


class Side:
    """Peer or ingot in a row: steps run one after another; `result` is the file compared."""

    def __init__(self, name, steps, result):
        self.name, self.steps, self.result = name, steps, result

    def once(self, log):
        for step in self.steps:
            remove(step.output)
        os.sync()
        times, fsyncs, peak, verify = [], [], 0, 0.0
        for step in self.steps:
            seconds, rss, result = run(step.command, log, step.env)
            times.append(seconds)
            verify += result.get("seconds_verify", 0.0)
            fsyncs.append(sync(step.output))
            peak = max(peak, rss)
        return {"seconds": sum(times) + sum(fsyncs), "steps": times, "fsync": sum(fsyncs), "peak_rss": peak,
                "verify": verify, "bytes": size_of(self.result)}


class Bench:
    def __init__(self, args):
        self.args = args
        self.dir = args.dir / ("small" if args.small else "model-1.1b")
        self.out = self.dir / "out"
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = self.dir / "commands.log"
        self.log.write_text("")
        self.base, self.adapter = self.dir / "base", self.dir / "adapter"
        self.f16 = self.dir / "base-f16.gguf"
        # ingot's commands: row -> (title, words, inputs). The rows are chosen by these names.
        self.jobs = {"convert": ("convert to F16", ["convert", self.base, "--type", "F16"], [self.base])}
        for kind in TYPES:
            self.jobs[f"quantize-{kind}"] = (f"quantize F16 to {kind}", ["quantize", self.f16, "--type", kind], [self.f16])
        for memory in ("512M", "128M"):
            words = ["ship", self.base, "--adapter", self.adapter, "--type", "Q4_K_M", "--memory", memory]
            self.jobs[f"ship-{memory}"] = ("ship base + adapter to Q4_K_M", words, [self.base, self.adapter])
        self.peer_env = {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.rows = []

    # Inputs -------------------------------------------------------------------------------------------------
    def make_model(self):
        if not (self.adapter / "adapter_model.safetensors").exists():
            say(f"making the model in {self.dir}")
            run([PEER_PYTHON, ROOT / "bench" / "make_model.py", self.dir, *(["--small"] if self.args.small else [])], self.log)

    def make_f16(self, program=None):
        """Where there is no peer, ingot makes the file that quantize reads."""
        if not self.f16.exists():
            say(f"making the F16 GGUF that quantize reads, with {'ingot' if self.args.no_peer else 'the peer'}'s converter")
            partial = self.dir / "partial.gguf"
            step = self.ingot("convert", partial, program) if self.args.no_peer else self.peer_convert(self.base, partial)
            run(step.command, self.log, step.env)
            partial.rename(self.f16)

    def peer_convert(self, model, out):
        command = [PEER_PYTHON, ROOT / "bench" / "convert_peer.py", model, "--outfile", out, "--outtype", "f16"]
        return Step(command, out, self.peer_env)

    def peer_quantize(self, source, out, kind):
        return Step([os.environ["LLAMA_QUANTIZE"], source, out, kind, self.args.threads], out)

    def ingot(self, job, out, program=None):
        """The step that runs a job of self.jobs by a program, this tree's where none is given."""
        words = self.jobs[job][1]
        return Step([program or self.args.ingot, *words, "--out", out, "--threads", self.args.threads, "--force", "--json"], out)

    def chosen(self, name):
        wanted = [w for w in self.args.only.split(",") if w]
        return not wanted or any(name.startswith(w) for w in wanted)

    # Rows ---------------------------------------------------------------------------------------------------
    def ship(self):
        merged, f16, q4 = self.out / "peer-merged", self.out / "peer-f16.gguf", self.out / "peer-Q4_K_M.gguf"
        peer = Side("PEFT merge + convert_hf_to_gguf + llama-quantize", [
            Step([PEER_PYTHON, ROOT / "bench" / "peft_merge.py", self.base, self.adapter, merged], merged, self.peer_env),
            self.peer_convert(merged, f16), self.peer_quantize(f16, q4, "Q4_K_M")], q4)
        ours = []
        for memory in ("512M", "128M"):
            out = self.out / f"ship-{memory}.gguf"
            ours.append(Side(f"ingot ship --memory {memory}", [self.ingot(f"ship-{memory}", out)], out))
        self.row(self.jobs["ship-512M"][0], peer, ours, [self.base, self.adapter])

    def convert(self):
        out, peer_out = self.out / "convert-f16.gguf", self.out / "peer-f16.gguf"
        self.row(self.jobs["convert"][0], Side("convert_hf_to_gguf", [self.peer_convert(self.base, peer_out)], peer_out),
                 [Side("ingot convert --type F16", [self.ingot("convert", out)], out)], [self.base])

    def quantize(self, kind):
        out, peer_out, job = self.out / f"quantize-{kind}.gguf", self.out / f"peer-{kind}.gguf", f"quantize-{kind}"
        self.row(self.jobs[job][0], Side("llama-quantize", [self.peer_quantize(self.f16, peer_out, kind)], peer_out),
                 [Side("ingot quantize", [self.ingot(job, out)], out)], [self.f16])

    def copy(self):
        out = self.out / "copy.gguf"
        peer = Side("cp, then fsync", [Step(["cp", "--reflink=never", self.f16, out], out)], out)
        self.row("cp + fsync of the F16 file", peer, [], [self.f16])

    def row(self, title, peer, ours, inputs):
        say(title)
        sides = ([] if self.args.no_peer and ours else [peer]) + ours
        runs = {s.name: [] for s in sides}
        for rep in range(self.args.reps):
            for side in sides if rep % 2 == 0 else reversed(sides):
                for path in inputs:
                    warm(path)
                runs[side.name].append(side.once(self.log))
        for side in sides:
            for step in side.steps:
                remove(step.output)
        entry = {"row": title, "input_bytes": sum(map(size_of, inputs)), "sides": []}
        for side in sides:
            r = runs[side.name]
            median = statistics.median(x["seconds"] for x in r)
            entry["sides"].append({
                "name": side.name, "peer": side is peer, "median_seconds": median,
                "seconds": [x["seconds"] for x in r], "peak_rss": max(x["peak_rss"] for x in r),
                "verify_seconds": statistics.median(x["verify"] for x in r),
                "fsync_seconds": statistics.median(x["fsync"] for x in r), "output_bytes": r[0]["bytes"],
                "step_seconds": [statistics.median(x["steps"][i] for x in r) for i in range(len(side.steps))],
                "command": [" ".join(map(str, s.command)) for s in side.steps]})
            if entry["sides"][0]["peer"]:
                entry["sides"][-1]["times_faster"] = entry["sides"][0]["median_seconds"] / median
            say(f"  {side.name}: {median:.2f} s, {entry['sides'][-1]['peak_rss'] / 2**20:.0f} MiB")
        self.rows.append(entry)

    def run(self):
        self.make_model()
        self.make_f16()
        say("limits of the machine")
        self.limits = measured_limits(self.dir, self.args.small)
        if self.chosen("cp"):
            self.copy()
        if self.chosen("convert"):
            self.convert()
        for kind in TYPES:
            if self.chosen(f"quantize-{kind}"):
                self.quantize(kind)
        if self.chosen("ship"):
            self.ship()


def told(program, words):
    """A command as a committed file may tell it: no path of this machine."""
    return " ".join([program, *(re.sub(r"(^|=)(/|\.\./|~).*/", r"\1", w) for w in words)])


def say(text):
    print("== " + text if not text.startswith(" ") else text, flush=True)


def machine():
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    return f"{model}, {os.cpu_count()} cores, {kib / 2**20:.0f} GiB, {platform.platform()}"


def measured_limits(folder, small):
    found = subprocess.run([sys.executable, ROOT / "bench" / "limits.py", folder, "64" if small else "2048"],
                           check=True, capture_output=True)
    return json.loads(found.stdout)


def limits_line(limits):
    return (f"- Limits measured in this run: disk write {limits['disk_write'] / 1e9:.2f} GB/s and read "
            f"{limits['disk_read'] / 1e9:.2f} GB/s ({'direct I/O' if limits['direct_io'] else 'no direct I/O'}), memory copy "
            f"{limits['memory_copy_1_thread'] / 1e9:.1f} GB/s with one thread, {limits['memory_copy_2_threads'] / 1e9:.1f} with two")


def model_line(small):
    return "- Model: " + ("20 million parameters (--small: these figures mean nothing)" if small else
                          "1.1 billion parameters, hidden 2048, 22 layers, FFN 5632, 32 heads, 4 KV heads, 32000 tokens, bf16, "
                          "random weights (bench/make_model.py); LoRA r = 16 on all projections")


def versions():
    code = "import torch, transformers, peft, gguf, importlib.metadata as m; print('torch', torch.__version__, " \
           "'transformers', transformers.__version__, 'peft', peft.__version__, 'gguf', m.version('gguf'))"
    out = subprocess.run([PEER_PYTHON, "-c", code], capture_output=True, text=True)
    return out.stdout.strip() or "peers not importable"


def commit():
    def git(*words):
        try:
            return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:  # no git here
            return ""
    return (git("rev-parse", "--short", "HEAD") or "none") + (" with changes" if git("status", "--porcelain", "src", "include") else "")


def table(rows, limits):
    """A line for each side of each row, beneath the head."""
    lines = ["| row | who | median s | all s | times faster | peak RSS MiB | output GB | out GB/s | of disk write |",
             "|---|---|---:|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        for side in row["sides"]:
            rate = side["output_bytes"] / side["median_seconds"]
            faster = "1" if side["peer"] else f"**{side['times_faster']:.1f}**" if "times_faster" in side else ""
            steps = "" if len(side["step_seconds"]) == 1 else " (" + " + ".join(f"{s:.1f}" for s in side["step_seconds"]) + f" + fsync {side['fsync_seconds']:.1f})"
            lines.append(f"| {row['row']} | {side['name']}{steps} | {side['median_seconds']:.2f} | "
                         f"{' '.join(f'{s:.2f}' for s in side['seconds'])} | {faster} | {side['peak_rss'] / 2**20:.0f} | "
                         f"{side['output_bytes'] / 1e9:.3f} | {rate / 1e9:.2f} | {rate / limits['disk_write']:.0%} |")
    return lines


def report(bench, command):
    limits = bench.limits
    lines = ["# Benchmark", "", "Made by `bench/bench.py`; do not edit. One run, medians of "
             f"{bench.args.reps} repetitions, order alternating, inputs warm in the page cache, {bench.args.threads} threads "
             "each, fsync of every output in the time of both sides. ingot's times include its verifying re-read of what it wrote. A peak RSS of "
             "about 20 MiB is this script's own (a child starts with it).", "",
             f"- Command: `{command}`", f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; commit {commit()}",
             f"- Machine: {machine()}",
             f"- Peers: {versions()}; llama.cpp from the llama-cpp-python 0.3.36 sdist (GGML_NATIVE, 2 threads where it has the option)",
             model_line(bench.args.small), limits_line(limits), ""]
    lines += table(bench.rows, limits)
    copy = next((r["sides"][0] for r in bench.rows if r["row"].startswith("cp")), None)
    convert = next((s for r in bench.rows if r["row"].startswith("convert") for s in r["sides"] if not s["peer"]), None)
    if copy and convert:
        rate = copy["output_bytes"] / copy["median_seconds"]
        whole, apart = (convert["output_bytes"] / s / rate for s in
                        (convert["median_seconds"], convert["median_seconds"] - convert["verify_seconds"]))
        lines += ["", f"`ingot convert --type F16` runs at {apart:.0%} of the rate of `cp` + fsync of the same bytes, its verifying "
                  f"re-read ({convert['verify_seconds']:.2f} s) apart; at {whole:.0%} with it."]
    return "\n".join(lines) + "\n"


def main():
    args = options(__doc__.splitlines()[0]).parse_args()
    if not args.ingot.exists():
        sys.exit(f"bench.py: {args.ingot} is not there; ./run build")
    bench = Bench(args)
    try:
        bench.run()
    except Failure as e:
        sys.exit(f"bench.py: {e}\n(all commands and their output: {bench.log})")
    command = told("./run bench", sys.argv[1:])
    text = report(bench, command)
    print("\n" + text)
    results = {"command": command, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(), "commit": commit(),
               "machine": machine(), "peers": versions(), "threads": args.threads, "limits": bench.limits, "rows": bench.rows}
    (args.dir / "results.json").write_text(json.dumps(results, indent=1))
    full = not (args.small or args.only or args.no_peer)
    target = ROOT / "docs" / "bench.md" if full else args.dir / "results.md"
    target.write_text(text)
    say(f"written: {target}, {args.dir / 'results.json'}")


if __name__ == "__main__":
    main()
