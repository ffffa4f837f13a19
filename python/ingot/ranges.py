"""Boxes of tensors out of the files of a checkpoint: the bytes that they need, and hardly any besides."""
from __future__ import annotations

import ctypes
import itertools
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from . import _ingot, nest
from .reading import Piece, _address

_PAGE = 4096        # a disk reads no less
_FEW = 64           # reads that cost less than what lies between them
_AT_ONCE = 8 << 20  # bytes of one read
WHOLE = 0.92        # of a file from which on all of it is read, and compared


class Run(NamedTuple):
    """Bytes that lie together in a file, and where they go."""
    file: str
    at: int
    bytes: int
    address: int


class Ranges:
    """What is to be read of one checkpoint, and then reads it."""

    def __init__(self, found: Any) -> None:
        self.found = found
        self.objects = objects_of(found)
        self.runs: List[Run] = []
        self.cut: List[Tuple[Any, Any]] = []    # (target, view of what was read with what lies between)
        self.later: List[Tuple[Any, Any]] = []  # (target, what was read for it), after those
        self.bytes_read = 0  # from files
        self.wanted = 0      # of that, what was asked for

    def box(self, type_name: str, piece: Piece, offset: Tuple[int, ...], target: Any) -> None:
        """A part of a piece, of the target's shape, that begins at ``offset`` of it, into a tensor or an array."""
        shape, size = tuple(target.shape), nest.bytes_of(type_name)
        self.wanted += math.prod(shape) * size
        if not math.prod(shape):
            return
        if nest.type_of(target) == type_name and (address := _address(target)) is not None:
            into = None
        else:
            into, address = nest.empty("$tensor" if hasattr(target, "data_ptr") else "$array", type_name, shape)
            self.later.append((target, into))
        rows, inner = _contiguous(piece.shape, shape)
        length, step = inner * size, _step(piece.shape, len(rows)) * size
        if math.prod(rows) > _FEW and length < _PAGE and step - length < _PAGE:
            # A few elements of each row, and the rows within pages of each other: they are read as they are, and cut in memory.
            for at, whole, here, there in _blocks(type_name, piece, offset, shape, len(rows) - 1):
                self.runs.append(Run(piece.file, piece.at + at, *_memory(whole)))
                self.cut.append(((target if into is None else into)[here], whole[there]))
            return
        for at, to in _runs(piece.shape, offset, shape, rows, inner):
            self.runs.append(Run(piece.file, piece.at + at * size, length, address + to * size))

    def read(self, threads: int, compare: bool = True, besides: Tuple[str, ...] = ()) -> None:
        """BadInput names a file that is not what the manifest says: of those that are read as good as whole, and of ``besides``, which are read for that."""
        files: Dict[str, List[Run]] = {}
        for r in self.runs:
            files.setdefault(r.file, []).append(r)
        whole = [f for f, runs in files.items() if compare and sum(r.bytes for r in runs) >= WHOLE * self.objects[f]["bytes"]]
        by_engine = whole + [f for f in files if f not in whole and self.objects[f].get("frames") is not None]
        also = [f for f in besides if f not in by_engine]
        reading = self.found.reading(threads)
        reading.read([("U8", [r.bytes], r.file, r.at, r.address) for f in by_engine for r in files[f]])
        if whole or also:
            reading.read_files(whole + also)
            reading.check_files(whole + also)
        self.bytes_read += reading.bytes
        self._read([r for f, runs in files.items() if f not in by_engine for r in runs], threads)
        for target, read in self.cut + self.later:
            if hasattr(target, "copy_"):
                target.copy_(read)
            else:
                target[...] = read
        self.runs, self.cut, self.later = [], [], []

    def _read(self, runs: List[Run], threads: int) -> None:
        pieces = [Run(r.file, r.at + i, min(_AT_ONCE, r.bytes - i), r.address + i) for r in sorted(runs) for i in range(0, r.bytes, _AT_ONCE)]
        opened: Dict[str, int] = {}
        try:
            for f in dict.fromkeys(r.file for r in pieces):
                path = os.path.join(self.found.path, f)
                try:
                    opened[f] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError as e:
                    raise _ingot.BadInput(f"restoring {path}: {e.strerror}") from None
            n = min(threads or os.cpu_count() or 1, 16)
            with ThreadPoolExecutor(max(1, n)) as pool:
                for _ in pool.map(lambda part: [self._one(r, opened[r.file]) for r in part], _shares(pieces, 4 * n)):
                    pass
        finally:
            for fd in opened.values():
                os.close(fd)
        self.bytes_read += sum(r.bytes for r in pieces)

    def _one(self, r: Run, fd: int) -> None:
        view = memoryview((ctypes.c_char * r.bytes).from_address(r.address)).cast("B")
        done = 0
        while done < r.bytes:
            try:
                n = os.preadv(fd, [view[done:]], r.at + done)
            except OSError as e:
                raise _ingot.BadInput(f"restoring {os.path.join(self.found.path, r.file)}: reading {r.bytes} bytes at {r.at}: {e.strerror}") from None
            if not n:
                raise _ingot.BadInput(f"restoring {os.path.join(self.found.path, r.file)}: it ends at {r.at + done}, and its manifest says {self.objects[r.file]['bytes']} bytes")
            done += n


def objects_of(found: Any) -> Dict[str, Dict[str, Any]]:
    """The manifest's objects by their names."""
    with open(os.path.join(found.path, "manifest.json"), encoding="utf-8") as f:
        return {o["name"]: o for o in json.load(f)["objects"]}


def _memory(t: Any) -> Tuple[int, int]:
    """Bytes and address of a tensor or an array that is contiguous."""
    return (t.numel() * t.element_size(), t.data_ptr()) if hasattr(t, "data_ptr") else (t.nbytes, t.ctypes.data)


def _contiguous(whole: Tuple[int, ...], box: Tuple[int, ...]) -> Tuple[Tuple[int, ...], int]:
    """The outer extents of a box, and how many elements lie together within."""
    k = len(box)
    while k and box[k - 1] == whole[k - 1]:
        k -= 1
    k = max(0, k - 1)
    return box[:k], math.prod(box[k:])


def _step(whole: Tuple[int, ...], outer: int) -> int:
    """Elements from one run to the next."""
    return math.prod(whole[outer:])


def _runs(whole: Tuple[int, ...], offset: Tuple[int, ...], box: Tuple[int, ...], rows: Tuple[int, ...], inner: int) -> Iterator[Tuple[int, int]]:
    """(first element in the whole, in the box) of each."""
    strides = [math.prod(whole[i + 1:]) for i in range(len(whole))]
    base = sum(o * s for o, s in zip(offset, strides))
    for k, index in enumerate(itertools.product(*map(range, rows))):
        yield base + sum(i * s for i, s in zip(index, strides)), k * inner


def _blocks(type_name: str, piece: Piece, offset: Tuple[int, ...], box: Tuple[int, ...], d: int) -> Iterator[Tuple[int, Any, Any, Any]]:
    """Rows of the dimension d with all that they have: (where in the piece, memory for them, which of the box they are, and where it is in that memory); each of some megabytes at most."""
    size, row = nest.bytes_of(type_name), math.prod(piece.shape[d + 1:])
    step = max(1, _AT_ONCE // max(1, row * size))
    inside = tuple(slice(o, o + b) for o, b in zip(offset[d + 1:], box[d + 1:]))
    for at, first in _runs(piece.shape, (*offset[:d + 1], *(0 for _ in box[d + 1:])), box, box[:d], 1):
        index = []
        for extent in reversed(box[:d]):
            first, i = divmod(first, extent)
            index.insert(0, i)
        for i in range(0, box[d], step):
            n = min(step, box[d] - i)
            whole, _ = nest.empty("$tensor", type_name, (n, *piece.shape[d + 1:]))
            yield (at + i * row) * size, whole, (*index, slice(i, i + n)), (slice(None), *inside)


def _shares(runs: List[Run], n: int) -> List[List[Run]]:
    """In that many lists, or fewer, of about as many bytes."""
    out: List[List[Run]] = [[]]
    limit, there = sum(r.bytes for r in runs) / n, 0.0
    for r in runs:
        if there > limit:
            out.append([])
            there = 0
        out[-1].append(r)
        there += r.bytes
    return out
