#!/usr/bin/env python3
"""What each file type costs, by ingot's own files and its own eval, beside recorded figures of llama-quantize's files by llama-perplexity.

quality.py --data DIR (./run bench --quality --data DIR): DIR has text/heldout.txt, expected/quality.tsv (type, imatrix, bytes, ppl, mean_kld, max_kld, same_top), and where they are there
expected/base-TYPE-imatrix_yes.gguf (a file of llama-quantize), tiny-moe/ with expected/moe/quality.tsv and expected/moe/imatrix.gguf. Files are made from the F16 conversion of the model, as the recorded
ones were, and compared with it in windows of 256 tokens. --llama-perplexity PROGRAM has it measure the same files, too. Writes docs/quality.md.
"""
import argparse
import csv
import datetime
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from bench import commit, machine, told

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = 256

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", type=Path, required=True, help="recorded figures, the text")
parser.add_argument("--ingot", default=ROOT / "build" / "release" / "ingot")
parser.add_argument("--dir", type=Path, default=ROOT / "build" / "quality", help="where the files go (500 MB)")
parser.add_argument("--types", default="", help="only these file types, comma-separated; docs/quality.md is not written then")
parser.add_argument("--effort", default="normal", choices=["fast", "normal", "best"])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--llama-perplexity", type=Path, help="the program, to measure the same files")
args = parser.parse_args()


def run(*words):
    p = subprocess.run([str(w) for w in words], capture_output=True, stdin=subprocess.DEVNULL)
    if p.returncode:
        sys.exit(f"{' '.join(map(str, words))}: exit code {p.returncode}\n{p.stderr.decode(errors='replace')[-1500:]}")
    return p.stdout.decode(errors="replace") + p.stderr.decode(errors="replace"), p.stdout


def say(text):
    print("== " + text, flush=True)


def recorded_rows(path):
    wanted = [t for t in args.types.split(",") if t]
    with open(path, newline="") as f:
        return [row for row in csv.DictReader(f, delimiter="\t") if not wanted or row["type"] in wanted]


def peer(model, logits, text):
    """Perplexity, mean, max, same top of llama-perplexity, and its seconds."""
    start = time.perf_counter()
    for _ in range(10):  # its log thread may lose the end of the output
        out, _ = run(args.llama_perplexity, "-m", model, "-f", text, "-c", CONTEXT, "-t", args.threads, "--kl-divergence", "--kl-divergence-base", logits)
        found = [re.search(pattern, out) for pattern in (r"Mean PPL\(Q\) +: +([0-9.]+)", r"Mean +KLD: +(-?[0-9.]+)", r"Maximum KLD: +(-?[0-9.]+)", r"Same top p: +([0-9.]+)")]
        if all(found):
            return [float(m[1]) for m in found], time.perf_counter() - start
    sys.exit(f"llama-perplexity printed no figures:\n{out[-1500:]}")


class Model:
    """A model, the types that are recorded of it, and what was found."""

    def __init__(self, title, source, imatrix, recorded, folder):
        self.title, self.source, self.imatrix, self.recorded, self.folder = title, source, imatrix, recorded_rows(recorded), folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.base = folder / "base-F16.gguf"

    def path(self, row):
        return self.folder / f"{row['type']}-{row['imatrix']}.gguf"

    def make(self):
        run(args.ingot, "convert", self.source, "--type", "F16", "--out", self.base, "--force", "--quiet")
        for imatrix in ("no", "yes"):
            kinds = [r["type"] for r in self.recorded if r["imatrix"] == imatrix and r["bytes"] != "refused"]
            if kinds:
                given = ["--imatrix", self.imatrix] if imatrix == "yes" else []
                run(args.ingot, "quantize", self.base, "--type", ",".join(kinds), "--out", self.folder / ("{type}-" + imatrix + ".gguf"), *given, "--effort", args.effort, "--force", "--quiet")

    def measure(self, more, text):
        """Of ours and of `more` files beside, by ingot; and by the peer where it is there."""
        made = [self.path(r) for r in self.recorded if self.path(r).exists() and r["bytes"] != "refused"]
        words = [args.ingot, "eval", *made, *more, "--against", self.base, "--text", text, "-c", CONTEXT, "--threads", args.threads, "--json"]
        start = time.perf_counter()
        _, out = run(*words)
        self.seconds = time.perf_counter() - start
        self.result = json.loads(out)
        self.found = {Path(m["path"]).name: m for m in self.result["models"]}
        self.peer, self.peer_seconds = {}, 0
        if args.llama_perplexity:
            logits = self.folder / "logits.kld"
            start = time.perf_counter()
            run(args.llama_perplexity, "-m", self.base, "-f", text, "-c", CONTEXT, "-t", args.threads, "--kl-divergence-base", logits)
            self.peer_seconds = time.perf_counter() - start
            for model in [*made, *more]:
                self.peer[model.name], seconds = peer(model, logits, text)
                self.peer_seconds += seconds
            logits.unlink()

    def table(self):
        head = ["type", "imatrix", "bytes", "of llama-quantize", "perplexity", "recorded", "mean KL", "recorded", "ours / recorded", "max KL", "recorded", "same top %", "recorded"]
        lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
        for row in self.recorded:
            if row["bytes"] == "refused":
                continue
            m = self.found[self.path(row).name]
            kl, theirs = m["kl"]["mean"], float(row["mean_kld"])
            ratio = f"{kl['value'] / theirs:.3f}" if theirs > 2e-5 else ""
            lines.append(f"| {row['type']} | {row['imatrix']} | {m['bytes']:,} | {int(row['bytes']):,} | {m['perplexity']['value']:.4f} | {float(row['ppl']):.4f} | "
                         f"{kl['value']:.6f} ± {kl['error']:.6f} | {theirs:.6f} | {ratio} | {m['kl']['max']:.4f} | {float(row['max_kld']):.4f} | "
                         f"{m['same_top']['value'] * 100:.2f} | {float(row['same_top']):.2f} |")
        return lines

    def agreement(self):
        """The same files by both programs."""
        lines = ["| file | perplexity: ingot | llama-perplexity | mean KL: ingot | llama-perplexity | max KL: ingot | llama-perplexity | same top %: ingot | llama-perplexity |", "|---|" + "---:|" * 8]
        for name, (ppl, mean, most, same) in self.peer.items():
            m = self.found[name]
            lines.append(f"| {name} | {m['perplexity']['value']:.4f} | {ppl:.4f} | {m['kl']['mean']['value']:.6f} | {mean:.6f} | {m['kl']['max']:.4f} | {most:.4f} | "
                         f"{m['same_top']['value'] * 100:.2f} | {same:.2f} |")
        return lines


def main():
    data, text = args.data, args.data / "text" / "heldout.txt"
    base = Model("tiny-llama-base", ROOT / "examples" / "tiny-llama-base", ROOT / "tests" / "data" / "quant" / "imatrix.gguf", data / "expected" / "quality.tsv", args.dir / "base")
    models = [(base, sorted((data / "expected").glob("base-*-imatrix_yes.gguf")))]
    if (data / "tiny-moe").is_dir():
        moe = Model("tiny-moe, a mixture of 8 experts", data / "tiny-moe", data / "expected" / "moe" / "imatrix.gguf", data / "expected" / "moe" / "quality.tsv", args.dir / "moe")
        models.append((moe, []))
    lines = ["# What each file type costs", "", "Made by `bench/quality.py`; do not edit. Each file is made by `ingot quantize` from the F16 conversion and measured by `ingot eval` (weights expanded, sums of f32) against it, on held-out "
             f"text in windows of {CONTEXT} tokens; beside it what was recorded of llama-quantize's file of the type by llama-perplexity (llama.cpp of the llama-cpp-python 0.3.36 sdist). llama-perplexity rounds activations to "
             "int8 where weights are quantized, and the reference's logits to 16 bits: what it records of the finest types is that noise, which is not in the files.", "",
             f"- Command: `{told('./run bench --quality', sys.argv[1:])}`", f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; commit {commit()}", f"- Machine: {machine()}; {args.threads} threads"]
    for model, more in models:
        say(f"{model.title}: {len(model.recorded)} rows")
        model.make()
        model.measure(more, text)
        r = model.result
        lines += ["", f"## {model.title}", "", f"{r['windows']} windows, {r['scored']:,} tokens scored; reference: {model.found and r['reference']['perplexity']['value']:.4f}. {len(model.found)} files beside the reference in "
                  f"{model.seconds:.1f} s.", "", *model.table()]
        for path in more:
            m, row = model.found[path.name], next((x for x in model.recorded if f"base-{x['type']}-imatrix_{x['imatrix']}.gguf" == path.name), None)
            if row:
                lines += ["", f"llama-quantize's own {row['type']} with imatrix, by `ingot eval`: perplexity {m['perplexity']['value']:.4f} (recorded {float(row['ppl']):.4f}), mean KL {m['kl']['mean']['value']:.6f} ± "
                          f"{m['kl']['mean']['error']:.6f} ({float(row['mean_kld']):.6f}), max {m['kl']['max']:.4f} ({float(row['max_kld']):.4f}), same top {m['same_top']['value'] * 100:.2f} % ({float(row['same_top']):.2f} %)."]
        if model.peer:
            lines += ["", f"The same files by llama-perplexity in the same run: {model.peer_seconds:.1f} s.", "", *model.agreement()]
    out = "\n".join(lines) + "\n"
    print(out)
    target = args.dir / "quality.md" if args.types or args.effort != "normal" else ROOT / "docs" / "quality.md"
    target.write_text(out)
    say(f"written: {target}")


if __name__ == "__main__":
    main()
