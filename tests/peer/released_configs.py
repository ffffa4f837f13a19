#!/usr/bin/env python3
"""Does ingot plan released models as llama.cpp's converter does? For each config.json a sparse directory of the full shape is made (names from its
index and from transformers' model on the meta device), planned by `ingot ship`, and names, shapes, types and metadata are compared with those that
convert_hf_to_gguf.py would write. No weight is needed and none is read: a job is stopped once the header of its file is there.

    python3 released_configs.py --configs DIR [--ingot PROGRAM] [--only NAME] [--table docs/released-models.md]    (./run check-released sets it up)

DIR has one directory a model: config.json, and what there is of model.safetensors.index.json, generation_config.json, tokenizer_config.json.
The vocabulary is made up (the example's, padded), so the tokenizer's keys are not compared. Exit code 1 where anything differs.
"""
import argparse
import datetime
import json
import logging
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LLAMA_CPP = os.environ.get("LLAMA_CPP_DIR") or os.environ.get("LLAMA_CPP") or sys.exit("LLAMA_CPP_DIR must name llama.cpp's source")
sys.path[:0] = [LLAMA_CPP, LLAMA_CPP + "/gguf-py"]
import torch
import transformers
import conversion
import gguf
from conversion.base import ModelBase, get_model_architecture
from transformers.core_model_loading import revert_weight_conversion

transformers.logging.set_verbosity_error()
logging.disable(logging.WARNING)

# Classes that are for later: a refusal that names the class is right.
LATER = {"BertForMaskedLM", "BertModel", "XLMRobertaForSequenceClassification", "CohereForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM",
         "FalconForCausalLM", "GemmaForCausalLM", "Gemma4ForConditionalGeneration", "GptOssForCausalLM", "GraniteMoeForCausalLM", "PhiMoEForCausalLM",
         "Qwen3_5ForConditionalGeneration"}
RENAMED = {"PhiMoEForCausalLM": "PhimoeForCausalLM"}  # the model's own code, and transformers'
# Q4_K_M files that people download, in GB (10^9), as their pages on the Hub say.
PUBLISHED = {"WizardLM-2-8x22B": (85.58, "bartowski/Mixtral-8x22B-v0.1-GGUF"), "gemma-3-1b-it": (0.81, "lex-au/Google.Gemma-3-1b-it-GGUF")}
DTYPES = {torch.float32: ("F32", 4), torch.float16: ("F16", 2), torch.bfloat16: ("BF16", 2), torch.int8: ("I8", 1), torch.uint8: ("U8", 1), torch.bool: ("BOOL", 1)}
# No disk holds these files: their space is not taken, nor asked for.
SHIM = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/statvfs.h>
int fallocate(int fd, int mode, long offset, long size) { (void)fd, (void)mode, (void)offset, (void)size; errno = EOPNOTSUPP; return -1; }
int statvfs(const char* path, struct statvfs* s) { (void)path; *s = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096, .f_bavail = 1UL << 40}; return 0; }
"""
MEASURE = """
import resource, subprocess, sys, time
start = time.monotonic()
rc = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("\\nmeasured", rc, time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""

parser = argparse.ArgumentParser()
parser.add_argument("--configs", type=Path, required=True)
parser.add_argument("--ingot", type=Path, default=ROOT / "build" / "release" / "ingot")
parser.add_argument("--only", action="append", help="a model's directory; may be repeated")
parser.add_argument("--table", type=Path, help="write the table here")
parser.add_argument("--work", type=Path, help="where the sparse directories lie (default: a temporary directory)")
parser.add_argument("--keep", action="store_true", help="leave the sparse directories")
args = parser.parse_args()


def model_tensors(source, config):
    """{name: (shape, dtype)} as save_pretrained would write them; the index decides where there is one."""
    name = config["architectures"][0]
    cls = getattr(transformers, RENAMED.get(name, name))
    with torch.device("meta"):
        model = cls._from_config(cls.config_class.from_pretrained(source))
    state = model.state_dict()
    for tied in model.all_tied_weights_keys:
        state.pop(tied, None)
    made = {k: (tuple(v.shape), v.dtype) for k, v in revert_weight_conversion(model, state).items()}
    index = next((json.loads(p.read_text()) for p in (source / "model.safetensors.index.json", source / "pytorch_model.bin.index.json") if p.exists()), None)
    if not index:
        return made, {k: "model.safetensors" for k in made}, ""
    text = config.get("text_config", config)
    hidden = text["hidden_size"]
    tensors, total = {}, 0
    for k in index["weight_map"]:
        if k + "SCB" in index["weight_map"] or k.removesuffix("weight") + "SCB" in index["weight_map"]:
            tensors[k] = made[k][0], torch.int8
        elif k in made:
            tensors[k] = made[k]
        elif k == "lm_head.weight":
            tensors[k] = (text["vocab_size"], hidden), next(iter(made.values()))[1]
        elif k.endswith("inv_freq"):
            tensors[k] = (hidden // text["num_attention_heads"] // 2,), torch.float16 if "gpt_neox" in k else torch.float32
        elif k.endswith("attention.bias"):
            tensors[k] = (1, 1, text["max_position_embeddings"], text["max_position_embeddings"]), torch.bool
        elif k.endswith("masked_bias"):
            tensors[k] = (), torch.float16
        elif k.endswith(".SCB"):
            tensors[k] = made[k.removesuffix("SCB") + "weight"][0][:1], torch.float32
        elif k.endswith(".weight_format"):
            tensors[k] = (), torch.uint8
        else:
            raise ValueError(f"a tensor of the index that the class has not: {k}")
        total += torch.Size(tensors[k][0]).numel() * (1 / 8 if tensors[k][1] == torch.bool else DTYPES[tensors[k][1]][1])  # as the index counts them
    said = index.get("metadata", {}).get("total_size")
    note = "" if not said or int(said) == total else f"index says {int(said)} bytes, the shapes {total}"
    if missing := made.keys() - tensors.keys():
        note += f" not in the index: {sorted(missing)[:3]}"
    bins = {f for f in index["weight_map"].values() if f.endswith(".bin")}
    return tensors, {k: re.sub(r"^pytorch_(.*)\.bin$", r"\1.safetensors", f) if f in bins else f for k, f in index["weight_map"].items()}, note


def write_sparse(source, target, tensors, files):
    target.mkdir(parents=True)
    for p in source.glob("*.json"):
        if not p.name.endswith(".index.json"):
            shutil.copy(p, target / p.name)
            (target / p.name).chmod(0o644)
    total = 0
    for file in sorted(set(files.values())):
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for k in sorted(k for k in tensors if files[k] == file):
            shape, dtype = tensors[k]
            size = torch.Size(shape).numel() * DTYPES[dtype][1]
            header[k] = {"dtype": DTYPES[dtype][0], "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(target / file, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            f.truncate(8 + len(text) + at)
        total += at
    if len(set(files.values())) > 1:
        (target / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": files}))
    return total


def write_tokenizer(target, tensors):
    """The example's byte-level tokenizer with as many tokens as the embedding has rows."""
    rows = next(s[0] for k, (s, _) in tensors.items() if re.search(r"embed_tokens|wte|embed_in|word_embeddings", k))
    j = json.loads((ROOT / "examples" / "tiny-llama-base" / "tokenizer.json").read_text())
    have = {**j["model"]["vocab"], **{t["content"]: t["id"] for t in j["added_tokens"]}}
    j["post_processor"] = None
    j["model"]["vocab"].update({f"<made-up-{i}>": i for i in range(max(have.values()) + 1, rows)})
    (target / "tokenizer.json").write_text(json.dumps(j))
    (target / "added_tokens.json").unlink(missing_ok=True)
    (target / "special_tokens_map.json").unlink(missing_ok=True)
    p = target / "tokenizer_config.json"
    if p.exists():  # which tokens those are belongs to the vocabulary that is not there
        told = {k: v for k, v in json.loads(p.read_text()).items() if k == "chat_template"}
        p.write_text(json.dumps(told))


def converted(directory):
    """(tensors {name: (shape, type)}, metadata) that convert_hf_to_gguf.py --outtype f16 would write."""
    with torch.inference_mode():
        hparams = ModelBase.load_hparams(directory, False)
        cls = conversion.get_model_class(get_model_architecture(hparams, conversion.ModelType.TEXT))
        cls.set_vocab = lambda self: None
        model = cls(directory, gguf.LlamaFileType.MOSTLY_F16, directory / "x.gguf", dry_run=True)
        model.hparams = {**json.loads((directory / "config.json").read_text()), **model.hparams}  # what transformers 5 renames when it reads (rotary_pct)
        model.prepare_tensors()
        model.prepare_metadata(vocab_only=False)
    writer = model.gguf_writer
    tensors = {k: (tuple(t.shape), t.dtype.name) for part in writer.tensors for k, t in part.items()}
    return tensors, {k: v.value for part in writer.kv_data for k, v in part.items()}


class Header:
    """Metadata and tensors of a GGUF file whose data need not be there."""
    FORMATS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}

    def __init__(self, path):
        with open(path, "rb") as f:
            self.f = f
            if f.read(4) != b"GGUF":
                raise ValueError("no header yet")
            self.take("<I")
            tensors, keys = self.take("<Q"), self.take("<Q")
            self.metadata = {self.text(): self.value(self.take("<I")) for _ in range(keys)}
            self.tensors = {}
            for _ in range(tensors):
                name = self.text()
                shape = tuple(reversed([self.take("<Q") for _ in range(self.take("<I"))]))
                self.tensors[name] = shape, gguf.GGMLQuantizationType(self.take("<I")).name
                self.take("<Q")

    def take(self, form):
        return struct.unpack(form, self.f.read(struct.calcsize(form)))[0]

    def text(self):
        return self.f.read(self.take("<Q")).decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            kind = self.take("<I")
            return [self.value(kind) for _ in range(self.take("<Q"))]
        return self.take(self.FORMATS[kind])


def planned(directory, out, shim):
    """The header of the F16 file, whose job is ended as soon as it is there."""
    log = open(out.parent / "log", "w+")
    job = subprocess.Popen([args.ingot, "ship", directory, "--type", "F16", "--out", out, "--verify", "none", "--memory", "512M"], stdout=log,
                           stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, "LD_PRELOAD": str(shim)})
    try:
        while True:
            ended = job.poll() is not None
            for p in [*out.parent.glob(".*.part"), out]:
                try:
                    return Header(p)
                except (OSError, ValueError, struct.error, MemoryError, OverflowError, RecursionError):  # not all of it is there yet
                    pass
            if ended:
                log.seek(0)
                raise ValueError(f"no header: exit code {job.returncode}: {log.read()[-600:]}")
            time.sleep(0.02)
    finally:
        job.kill()
        job.wait()


def short(text, n=500):
    text = " ".join(text.split())
    return text if len(text) <= n else text[:n] + " ..."


def same(a, b):
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, (int, float)) and isinstance(b, (int, float)) and struct.pack("<f", a) == struct.pack("<f", b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# Keys that differ, with the same model read by llama.cpp: (key, what ours has, what the converter has, why). None: has no such key.
WHATEVER = object()
KNOWN = [
    (r"\w+\.attention\.(key|value)_length", None, WHATEVER, "transformers' config objects add the head's size; without the key a reader takes the same"),
    (r"llama\.rope\.freq_base", None, 10000.0, "transformers' config objects add rope_theta; without the key a reader takes the same"),
    (r"gemma2\.rope\.freq_base", 10000.0, None, "what a reader takes without the key"),
    (r"gptneox\.rope\.freq_base|general\.file_type", WHATEVER, None, "the converter leaves it out of GPT-NeoX"),
    (r"(llama|qwen2|starcoder2)\.attention\.sliding_window(_pattern)?", WHATEVER, None, "llama.cpp reads no window of this architecture; ours says it, with a notice"),
    (r"phi3\.rope\.scaling\.type", "longrope", None, "llama.cpp takes the type from the tensors; ours says it"),
    (r"phi3\.attention\.sliding_window", 0, WHATEVER, "a window as long as the context is none; llama.cpp reads none of Phi-3"),
    (r"gemma2\.attention\.scale", WHATEVER, None, "llama.cpp takes it from the number of layers; ours says it, with a notice"),
    (r"\w+\.rope\.scaling\.yarn_beta_(fast|slow)", None, WHATEVER, "what llama.cpp takes without the key"),
    (r"\w+\.rope\.scaling\.yarn_attn_factor", None, WHATEVER, "llama.cpp works it out from the factor, with or without the key"),
]


def known(key, a, b, metadata):
    for pattern, ours, theirs, why in KNOWN:
        if re.fullmatch(pattern, key) and (ours is WHATEVER or same(ours, a)) and (theirs is WHATEVER or same(theirs, b)):
            arch = metadata["general.architecture"]
            if pattern.startswith(r"\w+\.attention\.(key") and b != metadata[f"{arch}.embedding_length"] // metadata[f"{arch}.attention.head_count"]:
                return None
            if "yarn_beta" in pattern and b != (32 if key.endswith("fast") else 1):
                return None
            if key == "phi3.attention.sliding_window" and b < metadata["phi3.context_length"]:
                return None
            if "yarn_attn_factor" in pattern and abs(b - 1 - 0.1 * math.log(metadata[f"{arch}.rope.scaling.factor"])) > 1e-6:
                return None
            return key, why
    return None


def compare(ours, tensors, metadata):
    """(what differs, what differs for a reason that is known)"""
    out, reasons = [], []
    for what, a, b in (("tensor", ours.tensors, tensors), ("key", ours.metadata, metadata)):
        drop = lambda d: {k: v for k, v in d.items() if what == "tensor" or not re.match(r"tokenizer\.|general\.(?!architecture|file_type|alignment)|GGUF\.", k)}
        a, b = drop(a), drop(b)
        if what == "key":
            for k in sorted(a.keys() | b.keys()):
                if not same(a.get(k), b.get(k)) and (why := known(k, a.get(k), b.get(k), metadata)):
                    reasons.append(why)
                    a.pop(k, None), b.pop(k, None)
        missing, extra = sorted(b.keys() - a.keys()), sorted(a.keys() - b.keys())
        other = [k for k in a if k in b and not same(a[k], b[k])]
        if missing:
            out.append(f"{len(missing)} {what}s of the converter missing, as {', '.join(f'{k} = {b[k]}' for k in missing[:3])}")
        if extra:
            out.append(f"{len(extra)} {what}s that the converter has not, as {', '.join(f'{k} = {a[k]}' for k in extra[:3])}")
        if other:
            out.append(f"{len(other)} {what}s differ, as {other[0]}: {a[other[0]]}, the converter {b[other[0]]}" + (f" ({', '.join(other[1:4])})" if other[1:] else ""))
    return out, reasons


def check(source, work, shim):
    """A row: name, class, outcome, tensors compared, notes, bytes of Q4_K_M, seconds and peak memory of planning."""
    config = json.loads((source / "config.json").read_text())
    cls = config["architectures"][0]
    row = {"name": source.name, "class": cls, "outcome": "", "compared": 0, "notes": [], "bytes": 0, "seconds": 0.0, "cpu": 0.0, "rss": 0, "good": False}
    target = work / source.name
    tensors, files, note = model_tensors(source, config)
    if note:
        row["notes"].append(note)
    row["source"] = write_sparse(source, target, tensors, files)
    write_tokenizer(target, tensors)
    out = work / "out" / "x.gguf"
    out.parent.mkdir()
    try:
        p = subprocess.run([sys.executable, "-S", "-c", MEASURE, args.ingot, "ship", target, "--type", "Q4_K_M", "--out", out, "--dry-run", "--json"],
                           capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "LD_PRELOAD": str(shim)})
        result, _, measured = p.stdout.rpartition("\nmeasured ")
        code, row["seconds"], row["cpu"], row["rss"] = (float(x) for x in measured.split())
        events = [json.loads(line) for line in p.stderr.splitlines() if line.startswith("{")]
        row["said"] = [e["message"] for e in events if "message" in e and e.get("event") != "info"] or p.stderr.splitlines()
        if code:
            error = json.loads(result)["error"]["message"].replace(f"{work}/", "")
            row["outcome"], row["error"] = "refused", error
            quantized = "quantization_config" in config and cls not in LATER
            row["good"] = (cls in LATER and cls in error) or (quantized and "quantiz" in error)
            if row["good"]:
                return row
            row["notes"].append(error)
        try:
            expected, metadata = converted(target)
        except BaseException as e:  # the converter leaves with SystemExit too
            expected = None
            row["notes"].append(f"the converter: {type(e).__name__}: {short(str(e), 200)}")
            if os.environ.get("DEBUG"):
                traceback.print_exc()
        if code:
            return row
        row["bytes"] = sum(f["bytes"] for f in json.loads(result)["files"])
        if expected is None:
            row["outcome"] = "planned, not compared"
            return row
        ours = planned(target, out, shim)
        differences, reasons = compare(ours, expected, metadata)
        row["compared"] = len(expected)
        row["outcome"] = "differs" if differences else "equal"
        row["notes"] += differences
        row["known"] = reasons
        row["good"] = not differences
        return row
    finally:
        shutil.rmtree(out.parent)
        if not args.keep:
            shutil.rmtree(target)


def main():
    sources = sorted(p.parent for p in args.configs.glob("*/config.json") if not args.only or p.parent.name in args.only)
    if not sources:
        sys.exit(f"{args.configs} has no MODEL/config.json")
    work = args.work or Path(tempfile.mkdtemp(prefix="ingot-released-"))
    work.mkdir(parents=True, exist_ok=True)
    (work / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", work / "shim.so", work / "shim.c"], check=True)
    rows = []
    for source in sources:
        try:
            row = check(source, work, work / "shim.so")
        except Exception as e:
            if os.environ.get("DEBUG"):
                traceback.print_exc()
            row = {"name": source.name, "class": "?", "outcome": "not tried", "compared": 0, "notes": [f"{type(e).__name__}: {short(str(e))}"], "bytes": 0, "seconds": 0.0,
                   "cpu": 0.0, "rss": 0, "good": False}
        rows.append(row)
        print(f"{'ok  ' if row['good'] else 'BAD '}{row['name']} ({row['class']}): {row['outcome']}, {row['compared']} tensors, {row['bytes'] / 1e9:.2f} GB, "
              f"{row['seconds']:.2f} s ({row['cpu']:.2f} CPU), {row['rss'] / 1e6:.0f} MB" + "".join("\n      " + n for n in row["notes"])
              + "".join(f"\n      {k}: {why}" for k, why in row.get("known", [])) + "".join("\n    > " + short(n, 400) for n in row.get("said", [])), flush=True)
    if not args.keep:
        shutil.rmtree(work)
    good = sum(r["good"] for r in rows)
    equal = sum(r["outcome"] == "equal" for r in rows)
    summary = f"{len(rows)} models: {equal} planned as the converter plans them, {sum(r['good'] and r['outcome'] == 'refused' for r in rows)} refused rightly, {len(rows) - good} not right"
    print(summary)
    if args.table:
        write_table(rows, summary)
    sys.exit(good != len(rows))


def write_table(rows, summary):
    lines = ["# Released models", "",
             f"Made by `./run check-released DIR --table {args.table.as_posix()}` ({datetime.date.today()}): each model's full shape, from its `config.json` and its",
             "index (else from transformers' model), was written as a sparse directory and planned by `ingot ship`; names, shapes and types of the F16 file's tensors",
             "and its metadata are compared with what `convert_hf_to_gguf.py` would write: `equal` is all of them but for the keys named in the last column, whose",
             "reasons stand below. The vocabulary is made up (the example's byte-level one, padded to the size of the embedding): the tokenizer's keys are not",
             "compared, and a Q4_K_M file of the real tokenizer is some MB larger. Planning is `ship --type Q4_K_M --dry-run`: CPU time and peak memory.", "",
             "| model | class | outcome | tensors | source | Q4_K_M | published | CPU | memory | |", "|---|---|---|--:|--:|--:|--:|--:|--:|---|"]
    gb = lambda b: f"{b / 1e9:.2f} GB" if b else ""
    for r in rows:
        cell = "; ".join(r["notes"] + [k for k, _ in r.get("known", [])]) or re.sub(r"; ingot knows.*", "", r.get("error", ""))
        published = "[{0:.2f} GB](https://huggingface.co/{1})".format(*PUBLISHED[r["name"]]) if r["name"] in PUBLISHED else ""
        lines.append(f"| {r['name']} | {r['class']} | {r['outcome']} | {r['compared'] or ''} | {gb(r.get('source'))} | {gb(r['bytes'])} | {published} | "
                     f"{r['cpu']:.2f} s | {r['rss'] / 1e6:.0f} MB | {short(cell, 300).replace('|', '/')} |")
    lines += ["", summary + ".", "", "Keys that differ:", ""]
    lines += [f"- `{k}`: {why}" for k, why in sorted({pair for r in rows for pair in r.get("known", [])})]
    args.table.write_text("\n".join(lines + [""]))


main()
