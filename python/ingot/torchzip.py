"""What ``torch.save`` makes, as one piece of memory: its own pickle and records, with the storages copied and summed by several threads."""
from __future__ import annotations

import ctypes
import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List, Tuple, Union

_ALIGN = 64
_PIECE = 4 << 20   # bytes that are copied and then summed while they are near
_LONG = 0xFFFFFFFF  # "see the Zip64 field"
_WIDE = 0xFFFFFFFF  # sizes and places from which on it is needed
_FLAGS = 0x0800    # names are UTF-8
_DAY = 33          # 1980-01-01: the first day that a ZIP can say


class _Records:
    """Stands for torch's writer of archives, and takes note."""

    def __init__(self) -> None:
        self.all: List[Tuple[str, Any, int]] = []

    def write_record(self, name: str, data: Any, size: int) -> None:
        self.all.append((name, data.encode() if isinstance(data, str) else data, size))


def _address(data: Any) -> int:
    if isinstance(data, bytes):
        return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
    return int(data.data_ptr())


def _short(n: int) -> int:
    return _LONG if n >= _WIDE else n


def _local(name: bytes, size: int, crc: int, at: int) -> bytes:
    """The header before a record that begins at ``at``; the data after it lie at a multiple of 64 bytes."""
    wide = struct.pack("<HHQQ", 1, 16, size, size) if size >= _WIDE else b""
    fixed = at + 30 + len(name) + len(wide) + 4
    fill = -fixed % _ALIGN
    head = struct.pack("<IHHHHHIIIHH", 0x04034b50, 45 if wide else 20, _FLAGS, 0, 0, _DAY, crc, _short(size), _short(size), len(name), len(wide) + 4 + fill)
    return head + name + wide + b"FB" + struct.pack("<H", fill) + b"Z" * fill


def _central(name: bytes, size: int, crc: int, at: int) -> bytes:
    wide = (struct.pack("<QQ", size, size) if size >= _WIDE else b"") + (struct.pack("<Q", at) if at >= _WIDE else b"")
    extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
    version = 45 if wide else 20
    return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, version, version, _FLAGS, 0, 0, _DAY, crc, _short(size), _short(size), len(name), len(extra), 0, 0, 0, 0, _short(at)) + name + extra


def _end(count: int, start: int, size: int) -> bytes:
    out = b""
    if count >= 0xFFFF or start >= _WIDE or size >= _WIDE:
        out = struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, count, count, size, start) + struct.pack("<IIQI", 0x07064b50, 0, start + size, 1)
    return out + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), _short(size), _short(start), 0)


def _copy(to: int, data: Any, size: int) -> int:
    """Copies, and tells the CRC-32."""
    crc, source = 0, _address(data)
    for i in range(0, size, _PIECE):
        n = min(_PIECE, size - i)
        ctypes.memmove(to + i, source + i, n)
        crc = zlib.crc32((ctypes.c_ubyte * n).from_address(to + i), crc)
    return crc


def dumps(obj: Any, folder: str = "archive", threads: int = 0) -> bytes:
    """The bytes of ``torch.save(obj, folder + ".pt")``: what torch's writer would have got, in an archive that torch.load reads, with mmap=True too."""
    import torch
    records = _Records()
    try:
        torch.serialization._save(obj, records, torch.serialization.pickle, torch.serialization.DEFAULT_PROTOCOL, False)
    except (AttributeError, TypeError):  # another torch, with another writer within; or what cannot be pickled, which it says again
        stream = io.BytesIO()
        torch.save(obj, stream)
        return stream.getvalue()
    records.write_record("version", "3\n", 2)
    names = [f"{folder}/{name}".encode() for name, _, _ in records.all]
    at, places = 0, []
    for name, (_, _, size) in zip(names, records.all):
        data = at + len(_local(name, size, 0, at))
        places.append((at, data))
        at = data + size
    start = at
    directory = sum(len(_central(name, size, 0, header)) for name, (_, _, size), (header, _) in zip(names, records.all, places))
    out = bytes(start + directory + len(_end(len(names), start, directory)))  # nobody else has it yet: it is filled in below
    base = _address(out)
    rows = [(base + data, record[1], record[2]) for record, (_, data) in zip(records.all, places)]
    many = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if many > 1 and at > _PIECE:
        with ThreadPoolExecutor(many) as pool:
            sums = list(pool.map(lambda row: _copy(*row), rows))
    else:
        sums = [_copy(*row) for row in rows]
    end = b""
    for name, (_, _, size), (header, _), crc in zip(names, records.all, places, sums):
        local = _local(name, size, crc, header)
        ctypes.memmove(base + header, local, len(local))
        end += _central(name, size, crc, header)
    end += _end(len(names), start, directory)
    ctypes.memmove(base + start, end, len(end))
    return out


def folder_of(name: Union[str, os.PathLike]) -> str:
    """What torch calls the folder within an archive: the file's name without its ending."""
    return os.path.splitext(os.path.basename(os.fspath(name)))[0] or "archive"
