#!/usr/bin/env python3
"""Does llama.cpp agree with ingot's files? llama_cpp_check.py --text TEXT (./run check-peer sets the peers up).

1. Every file type: ingot's file of base + adapter is loaded by llama.cpp and generates; F16 files of base and of
   base + adapter must give exactly the recorded greedy continuations (tests/data/*.tsv, made by transformers).
2. Q4_K_M: divergence from the F16 file, ingot's file against llama-quantize's, with llama-perplexity on the same
   pieces of held-out text: ingot's must be no worse by two standard errors of the paired differences.
The outcome is appended to docs/logs/llama-cpp.txt.
"""
import argparse
import datetime
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import told

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ["LLAMA_QUANTIZE"]).parent
BASE, ADAPTER = ROOT / "examples" / "tiny-llama-base", ROOT / "examples" / "lora-code"
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"]

parser = argparse.ArgumentParser()
parser.add_argument("--ingot", default=ROOT / "build" / "release" / "ingot")
parser.add_argument("--expected", type=Path, default=ROOT / "tests" / "data")
parser.add_argument("--text", type=Path, help="held-out text for the divergence; without it part 2 is left out")
parser.add_argument("--types", default="Q4_K_M", help="file types of part 2")
args = parser.parse_args()
lines, bad = [], 0


def say(text):
    print(text, flush=True)
    lines.append("  " + text)


def run(*words, env=None):
    p = subprocess.run([str(w) for w in words], capture_output=True, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL)
    if p.returncode:
        sys.exit(f"{' '.join(map(str, words))}: exit code {p.returncode}\n{p.stderr.decode(errors='replace')[-1500:]}")
    return p


def generate(model, prompt, n=24):
    """The greedy continuation. llama-simple, because llama-completion's log thread may lose the end of its output."""
    text = run(BIN / "llama-simple", "-m", model, "-n", n, prompt).stdout.decode(errors="replace")
    return text.split(prompt, 1)[-1].removesuffix("\n")


def unescape(text):
    return re.sub(r"\\([nt\\])", lambda m: {"n": "\n", "t": "\t", "\\": "\\"}[m[1]], text)


def greedy(name, model):
    """(right, all) over the recorded continuations."""
    cases = [line.rstrip("\n").split("\t") for line in (args.expected / name).read_text().splitlines() if line]
    right = 0
    for prompt, want in cases:
        got, want = generate(model, unescape(prompt)), unescape(want)
        if got == want:
            right += 1
        else:
            print(f"   {prompt!r}: expected {want!r}, found {got!r}")
    return right, len(cases)


def divergence(text, models, base, work):
    """Mean KLD of each model for each piece of the text: 3000 characters, two or more windows of 256 tokens."""
    found = {m: [] for m in models}
    for start in range(0, len(text) - 2999, 3000):
        piece, logits = work / "piece.txt", work / "logits.kld"
        piece.write_text(text[start:start + 3000])
        common = ["-f", piece, "-c", 256, "-t", 2, "--kl-divergence-base", logits]
        run(BIN / "llama-perplexity", "-m", base, *common)
        for m in models:
            for _ in range(10):  # its log thread may lose the end of the output, the more so on a busy machine
                p = run(BIN / "llama-perplexity", "-m", m, *common, "--kl-divergence")
                mean = re.search(rb"Mean +KLD: +(-?[0-9.]+) ", p.stdout + p.stderr)
                if mean:
                    break
            else:
                sys.exit(f"llama-perplexity printed no mean divergence:\n{(p.stdout + p.stderr).decode(errors='replace')[-1500:]}")
            found[m].append(float(mean[1]))
    return found


with tempfile.TemporaryDirectory() as folder:
    work = Path(folder)
    run(args.ingot, "ship", BASE, "--adapter", ADAPTER, "--type", ",".join(TYPES), "--out", work / "{type}.gguf", "--quiet")
    loaded = 0
    for kind in TYPES:
        text = generate(work / f"{kind}.gguf", "def main(")
        if text.strip():
            loaded += 1
            print(f"   {kind}: {text!r}")
    say(f"{loaded} of {len(TYPES)} file types load in llama.cpp and generate ({' '.join(TYPES)})")
    bad += loaded != len(TYPES)
    run(args.ingot, "convert", BASE, "--type", "F16", "--out", work / "base-F16.gguf", "--quiet")
    for name, model in (("greedy-base.tsv", "base-F16.gguf"), ("greedy-merged-code.tsv", "F16.gguf")):
        right, total = greedy(name, work / model)
        say(f"{name}: llama.cpp on ingot's F16 file gives {right} of {total} recorded continuations")
        bad += right != total or total == 0
    if args.text:
        run(os.environ["PEER_PYTHON"], ROOT / "bench" / "convert_peer.py", BASE, "--outfile", work / "peer-F16.gguf", "--outtype", "f16")
        for kind in args.types.split(","):
            ours, peer = work / f"ours-{kind}.gguf", work / f"peer-{kind}.gguf"
            run(args.ingot, "quantize", work / "base-F16.gguf", "--type", kind, "--out", ours, "--quiet")
            run(os.environ["LLAMA_QUANTIZE"], work / "peer-F16.gguf", peer, kind, 2)
            kld = divergence(args.text.read_text(errors="replace"), [ours, peer], work / "peer-F16.gguf", work)
            differences = [a - b for a, b in zip(kld[ours], kld[peer])]
            mean, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
            good = mean <= 2 * error
            bad += not good
            say(f"{kind}: mean divergence over {len(differences)} pieces: ingot {statistics.mean(kld[ours]):.6f}, llama-quantize "
                f"{statistics.mean(kld[peer]):.6f}, paired difference {mean:+.6f} +- {error:.6f}: {'no worse' if good else 'WORSE'}; "
                f"bytes {ours.stat().st_size} and {peer.stat().st_size}")

commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
log = ROOT / "docs" / "logs" / "llama-cpp.txt"
log.parent.mkdir(parents=True, exist_ok=True)
with open(log, "a") as f:
    f.write(f"\n{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ} {told('bench/llama_cpp_check.py', sys.argv[1:])} "
            f"(commit {commit}; llama.cpp of the llama-cpp-python 0.3.36 sdist): {'FAILED' if bad else 'passed'}\n")
    f.write("\n".join(lines) + "\n")
sys.exit(1 if bad else 0)
