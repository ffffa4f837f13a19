#!/usr/bin/env python3
"""Every architecture against the real peers; makes docs/architectures.md (./run check-peer, or alone: ./run check-peer --architectures [--only NAME]).

The small models of tests/data/make/architectures.py, as directories with a tokenizer. Of each, by the program itself:
1. `ingot convert` and convert_hf_to_gguf.py: tensors byte for byte in F32, metadata key for key but for what has its reason in
   tests/data/architectures_differences.json.
2. `ingot run` and llama.cpp (llama_greedy.cc): the prompt's ids and the most likely tokens, past the sliding window and the original context. Where llama.cpp
   does not read a feature, the model without it too. And transformers' tokens, always with all features.
3. Logits: the test Architectures.HasTransformersLogits compares ours with the recorded ones; here transformers makes them anew.
The outcome is appended to docs/logs/llama-cpp.txt.
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections import defaultdict
from pathlib import Path

import numpy as np

from bench import told

ROOT = Path(__file__).resolve().parent.parent
LLAMA_CPP, BIN = Path(os.environ["LLAMA_CPP_DIR"]), Path(os.environ["LLAMA_QUANTIZE"]).parent
os.environ["LLAMA_CPP"] = str(LLAMA_CPP)
sys.path[:0] = [str(ROOT / "tests" / "data" / "make"), str(LLAMA_CPP / "gguf-py")]
import architectures  # noqa: E402
import gguf  # noqa: E402

N = 24
PROMPT = """def window(text, size=24):
    # What lies further back than 1024 tokens is not seen: naïve, 你好.
    for start in range(0, len(text), size):
        yield text[start:start + size]

print(list(window("""
# What llama.cpp computes otherwise, and the model in which the two may be compared: (its name, what is changed in config.json, why).
UNREAD = {
    "mistral": ("no window", {"sliding_window": None}, "llama.cpp has no sliding window in its llama architecture"),
    "qwen2": ("no window", {"use_sliding_window": False}, "llama.cpp has no sliding window in its qwen2 architecture"),
    "starcoder2": ("no window", {"sliding_window": None}, "llama.cpp has no sliding window in its starcoder2 architecture"),
    "phi4": ("no window", {"sliding_window": None}, "llama.cpp leaves the window of its phi3 architecture off"),
    "olmo3": ("one base", {"rope_theta": 500000.0, "rope_scaling": {**architectures.yarn, "rope_theta": 500000.0}},
              "llama.cpp rotates the layers with a window by the base of those without (it reads `olmo2.rope.freq_base_swa` and uses it not), "
              "transformers and ingot by 500000; in released models both are that"),
}

parser = argparse.ArgumentParser()
parser.add_argument("--ingot", type=Path, default=ROOT / "build" / "release" / "ingot")
parser.add_argument("--infer-test", type=Path, default=ROOT / "build" / "release" / "infer_test")
parser.add_argument("--only", action="append", help="a case; then docs/architectures.md is not written")
args = parser.parse_args()
faults = []


def run(*words):
    p = subprocess.run([str(w) for w in words], capture_output=True, stdin=subprocess.DEVNULL)
    if p.returncode:
        told_last = " ".join((p.stderr + p.stdout).decode(errors="replace").split())[-400:]
        raise RuntimeError(f"{Path(words[0]).name}: exit code {p.returncode}: ...{told_last}")
    return p.stdout.decode()


def llama_greedy():
    """Built from llama.cpp's static libraries, as its own programs are."""
    program, source = BIN / "llama-greedy", ROOT / "bench" / "llama_greedy.cc"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        libraries = [BIN.parent / f"{name}.a" for name in ("src/libllama", "ggml/src/libggml", "ggml/src/libggml-cpu", "ggml/src/libggml-base")]
        headers = [f"-I{LLAMA_CPP}/include", f"-I{LLAMA_CPP}/ggml/include"]
        run("g++", "-std=c++20", "-O1", *headers, source, *libraries, "-fopenmp", "-lpthread", "-ldl", "-o", program)
    return program


class Differences:
    """What may differ; a reason that no file needs any more is a fault."""

    def __init__(self):
        self.rules = json.loads((ROOT / "tests" / "data" / "architectures_differences.json").read_text())
        self.seen = defaultdict(dict)  # rule -> {(case, key): (ingot's, the converter's)}

    def allowed(self, case, key, ours, peers):
        for i, rule in enumerate(self.rules):
            if key in rule["keys"] and case in rule.get("cases", [case]):
                self.seen[i][case, key] = ours, peers
                return True
        return False

    def unused(self):
        return [rule["keys"] for i, rule in enumerate(self.rules) if i not in self.seen]


differences = Differences()


def fields(reader):
    return {k: ([t.name for t in f.types], f.contents()) for k, f in reader.fields.items() if not k.startswith("GGUF.")}


def compare_files(case, ours, peers, row):
    ours, peers = gguf.GGUFReader(ours), gguf.GGUFReader(peers)
    mine, theirs = fields(ours), fields(peers)
    if row["refused"]:
        mine = {k: v for k, v in mine.items() if not k.startswith("tokenizer.")}
    row["architecture"] = theirs["general.architecture"][1]
    row["keys"], row["allowed"] = len(mine.keys() | theirs.keys()), 0
    for key in sorted(mine.keys() | theirs.keys()):
        a, b = mine.get(key), theirs.get(key)
        if a == b:
            continue
        if differences.allowed(case, key, a and a[1], b and b[1]):
            row["allowed"] += 1
        else:
            faults.append(f"{case}: {key}: ingot {str(a)[:200]}, convert_hf_to_gguf {str(b)[:200]}")
    mine, theirs = ({t.name: t for t in r.tensors} for r in (ours, peers))
    row["tensors"] = len(theirs)
    for name in sorted(mine.keys() | theirs.keys()):
        a, b = mine.get(name), theirs.get(name)
        if a is None or b is None:
            faults.append(f"{case}: tensor {name} is only in {'convert_hf_to_gguf' if a is None else 'ingot'}'s file")
        elif list(a.shape) != list(b.shape) or a.tensor_type != b.tensor_type or a.data.tobytes() != b.data.tobytes():
            faults.append(f"{case}: tensor {name} differs: {a.tensor_type.name} {a.shape.tolist()}, {b.tensor_type.name} {b.shape.tolist()}")


def convert(name, cls, config, shifted, work, row):
    # One name for all: from that of a model llama.cpp takes rules of the tokenizer.
    directory, ours, peers = work / name / "tiny", work / name / "ingot.gguf", work / name / "peer.gguf"
    directory.mkdir(parents=True)
    architectures.make_model(cls, config, shifted, directory)
    run(args.ingot, "convert", directory, "--type", "F32", "--out", ours, "--quiet")
    row["refused"] = ""
    try:
        architectures.convert(directory, peers, vocab=True)
    except Exception as e:
        row["refused"] = f"{type(e).__name__}: {str(e).replace(f'{directory}/', '') or traceback.extract_tb(e.__traceback__)[-1].line.split('  #')[0]}"
        architectures.convert(directory, peers, vocab=False)
    return directory, ours, peers


def greedy(model):
    """ingot's and llama.cpp's (prompt ids, ids); the least lead of a token in llama.cpp's."""
    prompt = [int(t) for t in run(args.ingot, "tokenize", model, "--text", PROMPT, "--ids").split()]
    mine = json.loads(run(args.ingot, "run", model, "--prompt", PROMPT, "-n", N, "--threads", 1, "--json", "--quiet"))
    if mine["prompt_tokens"] != len(prompt):
        raise RuntimeError(f"run takes {mine['prompt_tokens']} tokens where tokenize has {len(prompt)}")
    if len(mine["ids"]) != N:
        raise RuntimeError(f"ingot ends the text after {len(mine['ids'])} of {N} tokens: the prompt is to be another")
    lines = run(llama_greedy(), model, N, PROMPT).splitlines()
    theirs = [[int(t) for t in line.split()] for line in lines[:2]]
    return (prompt, mine["ids"]), theirs, min(map(float, lines[2].split()), default=0.0)


def same(a, b):
    """How many of the tokens at the beginning are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def transformers_greedy(model, prompt, eos):
    ids = []
    while len(ids) < N:
        token = int(architectures.logits_of(model, prompt + ids)[-1].argmax())
        if token == eos:
            break
        ids.append(token)
    return ids


def features(config, length):
    """The window and the rope scaling of a configuration that a text of so many tokens goes beyond."""
    out = []
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window:
        out.append(f"window {window}")
    rope = config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type"))
    original = rope.get("original_max_position_embeddings", config.get("original_max_position_embeddings")) if kind else None
    if kind:
        out.append(kind + (f" {rope['factor']:g}" if "factor" in rope else "") + (f", original context {original}" if original else ""))
    for limit in (window, original):
        if limit and length <= limit:
            faults.append(f"the text of {length} tokens is not longer than {limit}")
    return "; ".join(out) or "none"


def check(case, work):
    cls, config = architectures.CASES[case]
    row = {"case": case, "class": cls}
    directory, ours, peers = convert(case, cls, config, case in architectures.SHIFTED, work, row)
    compare_files(case, ours, peers, row)

    recorded = json.loads((architectures.OUT / f"{case}.json").read_text())
    model = architectures.transformers_model(directory)
    logits = architectures.logits_of(model, recorded["tokens"])
    row["again"] = max(float(np.abs(logits[int(p)][::architectures.STEP] - np.float32(v)).max()) for p, v in recorded["logits"].items()) / recorded["deviation"]
    if row["again"] > 2e-5:
        faults.append(f"{case}: transformers' logits differ from the recorded ones by {row['again']:.1e} standard deviations")

    (prompt, mine), (their_prompt, theirs), row["lead"] = greedy(ours)
    row["prompt"], row["features"] = len(prompt), features(config, len(prompt))
    if prompt != their_prompt:
        faults.append(f"{case}: the prompt's ids: ingot {prompt}, llama.cpp {their_prompt}")
    want = transformers_greedy(model, prompt, config["eos_token_id"])
    row["transformers"] = f"{same(mine, want)} of {len(want)}"
    if mine != want:
        faults.append(f"{case}: tokens: ingot {mine}, transformers {want}")
    row["llama.cpp"] = f"{same(mine, theirs)} of {len(mine)}"
    if case not in UNREAD:
        if mine != theirs:
            faults.append(f"{case}: tokens: ingot {mine}, llama.cpp {theirs} (least lead {row['lead']:g})")
        return row

    variant, changes, why = UNREAD[case]
    if mine == theirs:
        faults.append(f"{case}: its tokens are the same, where it is said that {why}")
    _, ours, peers = convert(f"{case}, {variant}", cls, {**config, **changes}, case in architectures.SHIFTED, work, other := {})
    compare_files(f"{case}, {variant}", ours, peers, other)
    (prompt, mine), (their_prompt, theirs), row["lead"] = greedy(ours)
    row["llama.cpp"] = f"{same(mine, theirs)} of {len(mine)} ({variant})"
    if (prompt, mine) != (their_prompt, theirs):
        faults.append(f"{case}, {variant}: tokens: ingot {mine}, llama.cpp {theirs} (least lead {row['lead']:g})")
    return row


def logits_errors(work):
    """By the test: {case: the worst error in standard deviations}."""
    report = work / "test.json"
    run(args.infer_test, "--gtest_filter=*Architectures.HasTransformersLogits/*", f"--gtest_output=json:{report}")
    tests = [t for suite in json.loads(report.read_text())["testsuites"] for t in suite["testsuite"]]
    return {t["name"].split("/")[1]: float(t["worst"]) for t in tests}


def shown(value):
    if value is None:
        return "-"
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def page(rows, head):
    lines = ["# Architectures, against the real peers", "",
             "Made by `./run check-peer --architectures` (`bench/architectures_check.py`), on a small random model of each class (`tests/data/make/architectures.py`);",
             f"{head}.", "",
             "- **file**: `ingot convert DIR --type F32` and `convert_hf_to_gguf.py --outtype f32` on the same directory: tensors equal byte for byte, keys of metadata equal but for",
             "  the differences below, each with its reason. The tokenizer's keys are among them, where the converter takes this tokenizer for the class.",
             "- **logits**: the worst error against transformers' in F32, in standard deviations of the logits (the test `Architectures.HasTransformersLogits`: 72 tokens, in batches",
             "  of 512 and of 7); `Architectures.EachFeatureMatters` shows for each feature that without it the error is over 2e-3.",
             f"- **window, rope**: the sliding window, and the scaling of the angles with the original context, that the texts go beyond: the {N} greedy tokens follow a",
             f"  prompt of {min(r['prompt'] for r in rows)}, the logits are of 72.",
             f"- **as transformers**, **as llama.cpp**: so many of {N} greedy tokens of `ingot run`, by ids, are those of transformers, and those of llama.cpp on ingot's F32 file (keys",
             "  and values in F32); both made the same ids of the prompt.", "",
             "| class | case | architecture | file: tensors, keys, of them differing | logits | window, rope | as transformers | as llama.cpp |", "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        file = f"{r['tensors']}, {r['keys']}, {r['allowed'] or 'none'}{' (no tokenizer)' if r['refused'] else ''}"
        lines.append(f"| {r['class']} | {r['case']} | {r['architecture']} | {file} | {r['logits']:.1e} | {r['features']} | {r['transformers']} | {r['llama.cpp']} |")
    lines += ["", "## Keys that differ, and why", "",
              "The list is `tests/data/architectures_differences.json`, of the unit tests too. A difference that is not on it is a fault, and so is an entry that no file needs.", "",
              "| key | cases | ingot | convert_hf_to_gguf | why |", "|---|---|---|---|---|"]
    for i, rule in enumerate(differences.rules):
        by_key = defaultdict(list)
        for (case, key), values in differences.seen[i].items():
            by_key[key, shown(values[0]), shown(values[1])].append(case)
        for (key, mine, theirs), cases in by_key.items():
            lines.append(f"| `{key}` | {', '.join(cases) if 'cases' in rule else f'{len(cases)} files'} | {mine} | {theirs} | {rule['why']} |")
    lines += ["", "The converter takes the bundled model's tokenizer, a byte-level BPE, not for each class; these files are compared without the tokenizer's keys:", ""]
    lines += [f"- {r['case']}: {r['refused']}" for r in rows if r["refused"]]
    lines += ["", "## What llama.cpp computes otherwise", "",
              "There its tokens cannot be those of the model: they are of one that is the same but for this, and the model as it is has transformers'.", ""]
    lines += [f"- {case}: {why}." for case, (_, _, why) in UNREAD.items()]
    if faults:
        lines += ["", "## Not equal", "", *(f"- {f}" for f in faults)]
    return "\n".join(lines) + "\n"


rows = []
with tempfile.TemporaryDirectory() as folder:
    errors = logits_errors(Path(folder))
    for case in args.only or architectures.CASES:
        try:
            row = check(case, Path(folder))
        except Exception as e:  # told, and the others are compared still
            faults.append(f"{case}: {type(e).__name__}: {str(e).replace(folder + '/', '')}")
            continue
        row["logits"] = errors[case.replace("-", "_")]
        rows.append(row)
        print("== " + ", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
if not args.only:
    faults += [f"no file differs in {keys} any more" for keys in differences.unused()]
    classes = {line.split()[-1] for line in run(args.ingot, "list", "architectures").splitlines()[1:] if line}
    faults += [f"{cls} has no model in tests/data/make/architectures.py" for cls in sorted(classes - {cls for cls, _ in architectures.CASES.values()})]
for f in faults:
    print("FAULT " + f)

commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
now = datetime.datetime.now(datetime.timezone.utc)
versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "gguf"))
head = f"{now:%Y-%m-%d}, commit {commit}, {versions}, llama.cpp of the llama-cpp-python 0.3.36 sdist"
if not args.only and rows:
    (ROOT / "docs" / "architectures.md").write_text(page(rows, head))
with open(ROOT / "docs" / "logs" / "llama-cpp.txt", "a") as f:
    f.write(f"\n{now:%Y-%m-%dT%H:%M:%SZ} {told('bench/architectures_check.py', sys.argv[1:])} (commit {commit}; {versions}; "
            f"llama.cpp of the llama-cpp-python 0.3.36 sdist): {'FAILED' if faults else 'passed'}\n")
    if rows:
        f.write(f"  {len(rows)} models: {sum(r['tensors'] for r in rows)} tensors byte for byte and {sum(r['keys'] for r in rows)} keys compared with convert_hf_to_gguf's, "
                f"{sum(r['allowed'] for r in rows)} keys differ for a reason that is listed\n"
                f"  logits: worst error {max(r['logits'] for r in rows):.1e} standard deviations; transformers' own within {max(r['again'] for r in rows):.1e} of the recorded\n"
                f"  {N} greedy tokens of each compared with transformers' and llama.cpp's; the least lead of one of them {min(r['lead'] for r in rows):.2g}\n")
    f.writelines(f"  FAULT {text}\n" for text in faults)
sys.exit(1 if faults or not rows else 0)
