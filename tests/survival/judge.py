"""Judges a training script that was stopped at some call and started again, by the rules of ckpt-chaos 0.1.8 (its invariants.py), in their order:

  1. the resume failed                                         HARD_FAIL
  2. it ended with other weights than the run never stopped    SILENT_DIVERGENCE
  3. it went on at less than there was                         LOST_WORK
  4. otherwise                                                 PASS

What there was is more than ckpt-chaos asks for: the newest checkpoint that a reader of its own finds whole, and the last step that the script had been told is durable.
"""
import collections
import importlib.util
import json
import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
VERDICTS = ("PASS", "HARD_FAIL", "SILENT_DIVERGENCE", "LOST_WORK")

_spec = importlib.util.spec_from_file_location("read_checkpoint", os.path.join(ROOT, "docs", "formats", "read_checkpoint.py"))
reader = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reader)


def classify(failed, same_weights, resumed_from, there_was):
    if failed:
        return "HARD_FAIL"
    if not same_weights:
        return "SILENT_DIVERGENCE"
    return "LOST_WORK" if resumed_from < there_was else "PASS"


def steps_whole(directory):
    """{step: (epoch, bytes of the manifest)} of what is whole to the reader in docs/formats, which shares no code with the engine; a quarantine counts as none."""
    found = {}
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        match = re.fullmatch(r"checkpoint-(\d+)", name)
        path = os.path.join(directory, name)
        if not match or os.path.exists(os.path.join(path, "quarantine.json")):
            continue
        try:
            manifest = reader.check(path)
            with open(os.path.join(path, "manifest.json"), "rb") as f:
                found[int(match[1])] = (manifest["epoch"], f.read())
        except (OSError, ValueError, KeyError):
            pass
    return found


def acknowledged(file):
    """The last step in the file that a script appends to; a line cut short is none."""
    try:
        with open(file) as f:
            return max((int(x) for x in f.read().split("\n")[:-1]), default=0)
    except FileNotFoundError:
        return 0


def resumed_from(err):
    m = re.search(r"resumed at step (\d+)", err)
    return int(m[1]) if m else 0


def result(out):
    """What the script printed last, or None."""
    lines = out.strip().splitlines()
    try:
        return json.loads(lines[-1])["weights"] if lines else None
    except (ValueError, KeyError, TypeError):
        return None


class Table:
    """Counts of verdicts by history, and what failed."""

    def __init__(self):
        self.rows = collections.OrderedDict()
        self.failures = []

    def add(self, history, verdict, detail=""):
        self.rows.setdefault(history, collections.Counter())[verdict] += 1
        if verdict not in ("PASS", "ended"):
            self.failures.append(f"{history}: {verdict}: {detail}")

    def count(self, verdict):
        return sum(c[verdict] for c in self.rows.values())

    def print(self, title):
        width = max(map(len, self.rows), default=0)
        print(f"survival: {title}", file=sys.stderr)
        for history, c in self.rows.items():
            stopped = sum(c[v] for v in VERDICTS)
            print(f"survival:   {history:<{width}} {stopped:>6} stopped: " + ", ".join(f"{c[v]} {v}" for v in VERDICTS) + (f"; {c['ended']} went on to the end" if c["ended"] else ""),
                  file=sys.stderr, flush=True)
