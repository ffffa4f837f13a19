"""Directories that trainers make, checked before one is resumed from: those of ingot by their hashes, the others by whatever can be told of them."""
from __future__ import annotations

import json
import os
import re
import struct
import sys
import warnings
import zipfile
from typing import Any, Callable, List, Optional

from . import _ingot
from .arguments import expand


def check_archive(path: str) -> None:
    """A file of torch.save, read to its end; BadInput where it is torn or its bytes are not those that were summed."""
    try:
        with open(path, "rb") as f:
            head = f.read(4)
        if head[:2] != b"PK":
            from .foreign import _load
            _load(path)  # of the older kind, which has no sums
            return
        with zipfile.ZipFile(path) as z:
            bad = z.testzip()
            if bad is not None or not any(n.endswith("/data.pkl") for n in z.namelist()):
                raise _ingot.BadInput(f"{path}: {f'its record {bad} is damaged' if bad else 'it has no data.pkl'}")
    except _ingot.BadInput:
        raise
    except Exception as e:  # whatever zipfile and torch raise of a torn file
        raise _ingot.BadInput(f"{path}: it cannot be read: {type(e).__name__}: {e}") from e


def check_safetensors(path: str) -> None:
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as f:
            (length,) = struct.unpack("<Q", f.read(8))
            if length > size - 8:
                raise ValueError(f"its header would have {length} bytes, and it has {size}")
            header = json.loads(f.read(length))
        end = max((t["data_offsets"][1] for n, t in header.items() if n != "__metadata__"), default=0)
    except Exception as e:  # of any damage
        raise _ingot.BadInput(f"{path}: it is no whole safetensors file: {e}") from e
    if 8 + length + end != size:
        raise _ingot.BadInput(f"{path}: it has {size} bytes, its header says {8 + length + end}")


def read_json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        raise _ingot.BadInput(f"{path} is not there: the save that should have written it did not end") from None
    except (OSError, ValueError) as e:
        raise _ingot.BadInput(f"{path}: it cannot be read: {e}") from e


def check_weights(path: str, names: List[str]) -> None:
    """The model's files of a directory, whatever their format."""
    models = [n for n in names if re.match(r"(model|adapter_model|pytorch_model)[^/]*\.(safetensors|bin)$", n)]
    indexes = [n for n in names if re.match(r"(model|adapter_model|pytorch_model)[^/]*\.index\.json$", n)]
    if not models:
        raise _ingot.BadInput(f"{path}: it has no file of a model or an adapter")
    for index in indexes:
        for shard in sorted(set(read_json(os.path.join(path, index)).get("weight_map", {}).values())):
            if shard not in names:
                raise _ingot.BadInput(f"{path}/{shard} is not there, and {index} names it")
    for name in models:
        (check_safetensors if name.endswith(".safetensors") else check_archive)(os.path.join(path, name))


class Chooser:
    """Which checkpoint of a directory a run goes on from. complete(path): raises BadInput for one that a run cannot go on from, though all its bytes are right. plain(path): the same of one that
    has no manifest, and looks at its bytes."""

    def __init__(self, complete: Callable[[str], None], plain: Callable[[str], None], threads: int = 0):
        self.complete, self.plain, self.threads = complete, plain, threads

    def newest(self, directory: str) -> Optional[Any]:
        """The newest that can be taken; None where there is none at all. Each that is passed over is told, with the reason."""
        directory = expand(directory)
        there = _ingot.scan(directory) if os.path.isdir(directory) else []
        newer = [f for f in there if f.state == "newer"]
        if newer:
            raise _ingot.Error(newer[0].reason)
        ours = [f for f in there if f.state != "unverified"]
        others = [f for f in there if f.state == "unverified" and re.fullmatch(r"checkpoint[-_]\d+", os.path.basename(f.path))]
        # What another program wrote after ours, and further on, is what the run got to.
        whole = next((f for f in ours if f.state == "whole"), None)
        after = [f for f in others if whole is None or f.step > whole.step and _time(f.path) > _time(os.path.join(whole.path, "manifest.json"))]
        order = after + ours + [f for f in others if f not in after]
        for i, f in enumerate(order):
            if self._takes(f):
                for torn in order[i + 1:]:
                    if torn.step > f.step and torn.state == "torn":  # without a manifest nothing tells how new it is
                        warnings.warn(f"{torn.path} is passed over: {torn.reason}", RuntimeWarning, stacklevel=5)
                return f
        if order:
            raise _ingot.BadInput(f"{directory}: none of its {len(order)} checkpoints can be resumed from: 'ingot checkpoint rescue {directory}' tells what is left. To start afresh, give another directory, or remove them")
        return None

    def _takes(self, f: Any) -> bool:
        try:
            self.check(f)
        except _ingot.BadInput as e:
            if os.path.isdir(f.path):  # else retention removed it meanwhile
                put_aside = f.state == "whole" and _is_damage(e)
                warnings.warn(f"{f.path} is {'damaged and put aside' if put_aside else 'passed over'}: {e}", RuntimeWarning, stacklevel=6)
                if put_aside:
                    try:
                        f.quarantine(str(e))
                    except _ingot.Error:
                        pass  # a directory that is read only
            return False
        return True

    def named(self, path: str) -> Any:
        """One that was asked for by its path; BadInput where it cannot be taken."""
        f = _ingot.look_at(path)
        self.check(f)
        return f

    def check(self, f: Any) -> None:
        if f.state == "whole":
            f.verify(self.threads)
            try:
                self.complete(f.path)
            except _ingot.BadInput as e:
                raise Incomplete(str(e)) from None
        elif f.state == "unverified":
            self.plain(f.path)
            self.complete(f.path)
        else:
            raise Incomplete(f"{f.path}: {f.reason}" if f.path not in str(f.reason) else str(f.reason))


class Incomplete(_ingot.BadInput):
    """Its bytes are as they should be, and nothing can go on from it."""


def _is_damage(e: Exception) -> bool:
    return not isinstance(e, Incomplete)


def _time(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def make_way(directory: str, step: int) -> None:
    """Moves away what another program left under the name of a checkpoint that is to be saved: it is not replaced."""
    path = os.path.join(directory, f"checkpoint-{step}")
    if not os.path.isdir(path) or _ingot.look_at(path).state != "unverified":
        return
    n, aside = 1, os.path.join(directory, f"other-checkpoint-{step}")
    while os.path.exists(aside):
        n += 1
        aside = os.path.join(directory, f"other-checkpoint-{step}-{n}")
    os.rename(path, aside)
    warnings.warn(f"{path} was there, made by other software; it is {aside} now, as the checkpoint of step {step} takes its name", RuntimeWarning, stacklevel=4)


def seen_by_all(ck: Any, path: str) -> None:
    """BadInput on all ranks where one does not see what rank 0 has chosen."""
    if ck._ranks is None:
        return
    blind = [str(r) for r, sees in enumerate(ck._ranks.all("sees", os.path.exists(path))) if not sees]
    if blind:
        raise _ingot.BadInput(f"resuming from {path}: rank 0 has chosen it, and rank {', '.join(blind)} of {ck._ranks.world} has nothing there; give a directory that all ranks see (a shared file system, the same path)")


def told_resumed(ck: Any, found: Any) -> None:
    """The checkpointer goes on from there."""
    ck._resumes = True
    ck._in_run_of(found)
    ck._resumed(found, found.step)


def told_fresh(ck: Any) -> None:
    ck._resumes = False
    print(f"ingot: fresh start, no checkpoint in {ck.directory}", file=sys.stderr)
