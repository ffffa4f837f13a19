#!/usr/bin/env python3
"""Makes tests/data/gguf/little-endian.gguf and big-endian.gguf: the same keys and tensors in either order of bytes, by gguf-py's own writer and, for blocks, by
the functions of its gguf_convert_endian.py. Needs gguf-py (that of llama.cpp, for all types) and numpy."""
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf.scripts.gguf_convert_endian import byteswap_tensors

OUT = Path(__file__).resolve().parent.parent / "gguf"
ROWS, WIDTH = 2, 256


class Data:  # what the converter's functions are given
    def __init__(self, data):
        self.data = data


def tensors():
    rng = np.random.default_rng(11)
    for dtype in (np.float32, np.float16, np.float64, np.int8, np.int16, np.int32, np.int64):
        yield np.dtype(dtype).name, (rng.standard_normal((3, 5)) * 100).astype(dtype), None
    yield "bfloat16", rng.integers(0, 1 << 15, (3, 5), dtype=np.uint16), gguf.GGMLQuantizationType.BF16
    for kind, swap in byteswap_tensors.items():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        yield kind.name, rng.integers(0, 256, (ROWS, WIDTH // block * size), dtype=np.uint8), kind


def make(name, endian):
    w = gguf.GGUFWriter(OUT / name, "test", endianess=endian)
    for kind, value in (("uint8", 200), ("int8", -5), ("uint16", 60000), ("int16", -3), ("uint32", 4000000000), ("int32", -7), ("float32", 1.5), ("bool", True),
                        ("uint64", 1 << 60), ("int64", -(1 << 60)), ("float64", 2.5), ("string", "text ü")):
        getattr(w, "add_" + kind)("a." + kind, value)
    w.add_array("a.texts", ["x", "", "yz"])
    w.add_array("a.numbers", [1, -2, 3])
    w.add_array("a.floats", [0.5, 1.25])
    w.add_array("a.flags", [True, False])
    for name, data, kind in tensors():
        if kind in byteswap_tensors and endian == gguf.GGUFEndian.BIG:
            flat = Data(data.reshape(-1).copy())
            size = gguf.GGML_QUANT_SIZES[kind][1]
            for at in range(0, len(flat.data), size):
                byteswap_tensors[kind](flat, at)
            data = flat.data.reshape(data.shape)
        w.add_tensor(name, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


make("little-endian.gguf", gguf.GGUFEndian.LITTLE)
make("big-endian.gguf", gguf.GGUFEndian.BIG)
