"""Writes tests/data/quant/types_read.safetensors: for each block type of GGUF that ingot only reads, blocks of random bytes (TYPE.blocks, U8 [blocks, bytes]) and the values that
llama.cpp's gguf package reads from them (TYPE.values, F32). Four types it does not read; theirs are computed here from the format's description.

    python tests/data/make/types_read.py     # needs numpy, gguf, safetensors
"""
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

BLOCKS = 3
# Where a block has f16 scales, which random bytes would make infinite or NaN.
HALVES = {"Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_1": [0, 2], "Q1_0": [0], "Q2_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52],
          "TQ2_0": [64], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0]}


def own(name, blocks):
    d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if name == "Q8_1":
        return d * blocks[:, 4:].view(np.int8).astype(np.float32)
    if name == "Q8_K":
        return blocks[:, :4].copy().view(np.float32) * blocks[:, 4:260].view(np.int8).astype(np.float32)
    bits = {"Q1_0": 1, "Q2_0": 2}[name]
    codes = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").reshape(len(blocks), -1, bits)
    if bits == 1:
        return np.where(codes[..., 0] == 1, d, -d)
    return d * (codes[..., 0].astype(np.float32) + 2 * codes[..., 1].astype(np.float32) - 1)


rng = np.random.default_rng(14)
tensors = {}
for name in ["Q4_1", "Q5_0", "Q5_1", "Q8_1", "Q1_0", "Q2_0", "Q2_K", "Q3_K", "Q8_K", "IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4", "TQ1_0", "TQ2_0", "IQ2_XXS", "IQ2_XS", "IQ2_S",
             "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M"]:
    size = {"Q1_0": 18, "Q2_0": 18, "Q8_1": 36}.get(name) or gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    scale = rng.normal(0, 0.05, (BLOCKS, 2))
    for i, at in enumerate(HALVES.get(name, [])):
        blocks[:, at:at + 2] = scale[:, i].astype(np.float16).view(np.uint8).reshape(BLOCKS, 2)
    if name == "Q8_K":
        blocks[:, :4] = scale[:, 0].astype(np.float32).view(np.uint8).reshape(BLOCKS, 4)
    if name == "IQ1_M":  # the f16's nibbles are the upper ones of four words
        half = scale[:, 0].astype(np.float16).view(np.uint16)
        for i in range(4):
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | ((half >> 4 * i & 15) << 4).astype(np.uint8)
    if name in ("Q8_1", "Q8_K", "Q1_0", "Q2_0"):
        values = own(name, blocks)
    else:
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
    assert np.isfinite(values).all(), name
    tensors[name + ".blocks"], tensors[name + ".values"] = blocks, values.astype(np.float32)
save_file(tensors, pathlib.Path(__file__).resolve().parents[1] / "quant" / "types_read.safetensors")
