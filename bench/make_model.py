#!/usr/bin/env python3
"""Writes a Llama-shaped model of seeded random weights, and a LoRA adapter for it: make_model.py OUT [--small].

1.1 billion parameters: hidden 2048, 22 layers, FFN 5632, 32 heads, 4 KV heads, 32000 tokens (the bundled tokenizer
padded), bf16. Weights are Gaussian (0.02) with a scale for each input channel and a few outliers, as trained
weights have. One tensor at a time: little memory. Needs numpy and nothing else, so that --against needs no peer.
"""
import argparse
import json
import math
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("out", type=Path)
parser.add_argument("--small", action="store_true", help="a model of 20 million parameters, to try the benchmark")
args = parser.parse_args()

hidden, layers, ffn, heads, kv_heads, vocab = (512, 4, 1536, 8, 4, 8192) if args.small else (2048, 22, 5632, 32, 4, 32000)
head_dim = hidden // heads
RANK = 16
PROJECTIONS = {
    "self_attn.q_proj": (heads * head_dim, hidden), "self_attn.k_proj": (kv_heads * head_dim, hidden),
    "self_attn.v_proj": (kv_heads * head_dim, hidden), "self_attn.o_proj": (hidden, heads * head_dim),
    "mlp.gate_proj": (ffn, hidden), "mlp.up_proj": (ffn, hidden), "mlp.down_proj": (hidden, ffn),
}


def generator(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def gaussian(g, shape):
    return g.standard_normal(shape, dtype=np.float32)


def weight(name, shape):
    g = generator(name)
    w = gaussian(g, shape) * np.float32(0.02)
    if len(shape) == 2:
        w *= np.exp(gaussian(g, shape[1]) * np.float32(0.3))
        w.reshape(-1)[g.integers(0, w.size, w.size // 5000)] *= 8
    else:
        w = 1 + w * 5  # a norm
    return w


def bf16(w):
    bits = w.view(np.uint32)  # no NaN here: nearest even is one addition
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path, tensors, label, make):
    """tensors: name -> shape; label: BF16 or F32; make(name, shape) -> f32 array."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        size = math.prod(shape) * (2 if label == "BF16" else 4)
        header[name] = {"dtype": label, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for name, shape in tensors.items():
            w = np.ascontiguousarray(make(name, shape), dtype=np.float32)
            (bf16(w) if label == "BF16" else w).tofile(f)


base, adapter = args.out / "base", args.out / "adapter"
base.mkdir(parents=True, exist_ok=True)
adapter.mkdir(parents=True, exist_ok=True)
example = ROOT / "examples" / "tiny-llama-base"
for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
    shutil.copy(example / name, base / name)
config = json.loads((example / "config.json").read_text())
config.update(hidden_size=hidden, num_hidden_layers=layers, intermediate_size=ffn, num_attention_heads=heads,
              num_key_value_heads=kv_heads, head_dim=head_dim, vocab_size=vocab)
(base / "config.json").write_text(json.dumps(config, indent=2))

tensors = {"model.embed_tokens.weight": (vocab, hidden)}
for i in range(layers):
    p = f"model.layers.{i}."
    tensors |= {p + n + ".weight": s for n, s in PROJECTIONS.items()}
    tensors |= {p + "input_layernorm.weight": (hidden,), p + "post_attention_layernorm.weight": (hidden,)}
tensors |= {"model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}
write_safetensors(base / "model.safetensors", tensors, "BF16", weight)

config = json.loads((ROOT / "examples" / "lora-code" / "adapter_config.json").read_text())
config.update(r=RANK, lora_alpha=2 * RANK, target_modules=sorted(n.split(".")[1] for n in PROJECTIONS))
(adapter / "adapter_config.json").write_text(json.dumps(config, indent=2))
low_rank = {}
for i in range(layers):
    for name, (rows, columns) in PROJECTIONS.items():
        p = f"base_model.model.model.layers.{i}.{name}."
        low_rank |= {p + "lora_A.weight": (RANK, columns), p + "lora_B.weight": (rows, RANK)}


def low_rank_weight(name, shape):
    return gaussian(generator(name), shape) * np.float32(shape[1] ** -0.5 if "lora_A" in name else 0.003)


write_safetensors(adapter / "adapter_model.safetensors", low_rank, "F32", low_rank_weight)
