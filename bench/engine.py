#!/usr/bin/env python3
"""How fast `ingot run` reads prompts and writes text, by type, and what the memory could give: engine.py [--types ...] (./run bench --engine).

A Llama of 1.1 billion random weights (make_model.py), quantized by ingot; a prompt of about 512 tokens, then 32 tokens one by one. With --llama-bench PROGRAM each type is run by it, too, in turn, on the same file. Generation
reads every weight once a token: its share of what reading the memory gives is printed beside. Writes docs/bench-engine.md.
"""
import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from bench import commit, machine

ROOT = Path(__file__).resolve().parent.parent
FLOATS = ["F16", "BF16"]
TYPES = FLOATS + ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "TQ2_0", "TQ1_0", "MXFP4_MOE", "NVFP4"]

p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
p.add_argument("--types", default=",".join(TYPES))
p.add_argument("--reps", type=int, default=3)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--small", action="store_true", help="a model of 20 million parameters: tries the machinery only")
p.add_argument("--dir", type=Path, default=ROOT / "build" / "bench", help="where the model and its files go (15 GB)")
p.add_argument("--ingot", type=Path, default=ROOT / "build" / "release" / "ingot")
p.add_argument("--llama-bench", type=Path, help="the program")
args = p.parse_args()


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, stdin=subprocess.DEVNULL, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr[-1500:]}")
    return done.stdout


def read_rate():
    """Bytes a second that so many threads read from memory; the best of five."""
    parts = [np.ones(1 << 25, np.float64) for _ in range(args.threads)]
    best = 0.0
    for _ in range(5):
        threads = [threading.Thread(target=part.sum) for part in parts]
        start = time.perf_counter()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        best = max(best, sum(part.nbytes for part in parts) / (time.perf_counter() - start))
    return best


def make(kind):
    out = model / f"engine-{kind}.gguf"
    if not out.exists():
        # The types of the fewest bits need an importance matrix; whose it is changes no time.
        few = ["--calibrate", "builtin", "--ctx", "128", "--chunks", "2"] if kind.startswith(("IQ1", "IQ2", "IQ3")) else []
        run(args.ingot, "quantize", model / "base", "--type", kind, "--out", out, "--effort", "fast", "--quiet", *few)
    return out


def ours(path):
    got = json.loads(run(args.ingot, "run", path, "--prompt", PROMPT, "-n", 32, "--threads", args.threads, "--json").splitlines()[-1])
    return got["prompt_tokens_per_second"], got["tokens_per_second"], got["prompt_tokens"]


def theirs(path):
    rows = json.loads(run(args.llama_bench, "-m", path, "-p", 512, "-n", 32, "-t", args.threads, "-r", 1, "-o", "json"))
    return next(r["avg_ts"] for r in rows if r["n_prompt"]), next(r["avg_ts"] for r in rows if r["n_gen"])


model = args.dir / ("small" if args.small else "model-1.1b")
model.mkdir(parents=True, exist_ok=True)
if not (model / "adapter" / "adapter_model.safetensors").exists():
    print("== making the model", flush=True)
    run(sys.executable, ROOT / "bench" / "make_model.py", model, *(["--small"] if args.small else []))
PROMPT = (ROOT / "data" / "texts" / "prose.txt").read_text()[:2600]
lines = []
for kind in args.types.split(","):
    path = make(kind)
    mine, peers, tokens = [], [], 0
    for _ in range(args.reps):
        prompt, generation, tokens = ours(path)
        mine.append((prompt, generation))
        if args.llama_bench:
            peers.append(theirs(path))
    rate, size = read_rate(), path.stat().st_size
    prompt, generation = (statistics.median(column) for column in zip(*mine))
    row = f"| {kind} | {size / 1e6:,.0f} | {prompt:.0f} | {generation:.1f} | {generation * size / rate * 100:.0f} % |"
    if peers:
        their_prompt, their_generation = (statistics.median(column) for column in zip(*peers))
        row += f" {their_prompt:.0f} | {their_generation:.1f} | {prompt / their_prompt:.2f} | {generation / their_generation:.2f} |"
    print(row, flush=True)
    lines.append(row)

head = "| type | MB | prompt, tokens/s | generation, tokens/s | of the memory |"
rule = "|---|---:|---:|---:|---:|"
if args.llama_bench:
    head += " llama.cpp: prompt | generation | ours / its: prompt | generation |"
    rule += "---:|---:|---:|---:|"
text = f"""# The CPU engine by type

{machine()}; {args.threads} threads; ingot {commit()}; a Llama of 1.1 billion random weights, a prompt of {tokens} tokens, then 32 more; medians of {args.reps}. `./run bench --engine` makes this page.
"Of the memory": the file's bytes times tokens a second, beside what {args.threads} threads read from memory just then ({rate / 1e9:.1f} GB/s the last time).

{head}
{rule}
""" + "\n".join(lines) + "\n"
if args.small or args.types != ",".join(TYPES):
    print(text)
else:
    (ROOT / "docs" / "bench-engine.md").write_text(text)
    print("== docs/bench-engine.md")
