"""Names that a framework gives its checkpoints, beside the directories that ingot gives them: links, and where a file system has none small files that say the same."""
from __future__ import annotations

import contextlib
import json
import os
from typing import Optional


def write_text(path: str, text: str) -> None:
    """A small file, whole or not at all."""
    aside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.ingot-new")
    with open(aside, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(aside, path)


def point(path: str, target: str) -> None:
    """``path`` is another name of ``target`` from here on, at once; what was there, if no directory, is replaced."""
    there = os.path.dirname(path)
    os.makedirs(there, exist_ok=True)
    # One process gives names here: what a killed one left on the way to its own, of whatever name, is nobody's.
    for left in os.listdir(there):
        if left.startswith(".") and left.endswith((".ingot-link", ".ingot-new")):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(there, left))
    aside, to = os.path.join(there, f".{os.path.basename(path)}.ingot-link"), os.path.relpath(target, there)
    try:
        os.symlink(to, aside)
    except OSError:  # mounted buckets have no links
        write_text(path, json.dumps({"ingot": "link", "to": to}) + "\n")
    else:
        os.replace(aside, path)


def target_of(path: str) -> Optional[str]:
    """What a name of ours stands for, as an absolute path, whether it is there or not; None for what is no such name."""
    if os.path.islink(path):
        return os.path.realpath(path)
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > 4096:
            return None
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
    except (OSError, ValueError):
        return None
    return os.path.realpath(os.path.join(os.path.dirname(path), found["to"])) if isinstance(found, dict) and found.get("ingot") == "link" else None
