#!/usr/bin/env python3
"""Writes a Llama-shaped model of seeded random weights, and a LoRA adapter for it: make_model.py OUT [--small].

1.1 billion parameters: hidden 2048, 22 layers, FFN 5632, 32 heads, 4 KV heads, 32000 tokens (the bundled tokenizer
padded), bf16. Weights are Gaussian (0.02) with a scale for each input channel and a few outliers, as trained
weights have. One tensor at a time: little memory.
"""
import argparse
import json
import math
import shutil
import struct
from pathlib import Path

import torch

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
    seed = 0
    for c in name.encode():
        seed = (seed * 1000003 + c) % (1 << 62)
    return torch.Generator().manual_seed(seed)


def weight(name, shape):
    g = generator(name)
    w = torch.randn(shape, generator=g).mul_(0.02)
    if len(shape) == 2:
        w.mul_(torch.randn(shape[1], generator=g).mul_(0.3).exp_())
        flat = w.view(-1)
        where = torch.randint(flat.numel(), (flat.numel() // 5000,), generator=g)
        flat[where] *= 8
    else:
        w = 1 + w * 5  # a norm
    return w


def write_safetensors(path, tensors, dtype, make):
    """tensors: name -> shape; make(name, shape) -> f32 tensor."""
    width, label = (2, "BF16") if dtype == torch.bfloat16 else (4, "F32")
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        size = math.prod(shape) * width
        header[name] = {"dtype": label, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for name, shape in tensors.items():
            t = make(name, shape).to(dtype).contiguous()
            f.write(t.view(torch.int16 if width == 2 else torch.int32).numpy().tobytes())


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
write_safetensors(base / "model.safetensors", tensors, torch.bfloat16, weight)

config = json.loads((ROOT / "examples" / "lora-code" / "adapter_config.json").read_text())
config.update(r=RANK, lora_alpha=2 * RANK, target_modules=sorted(n.split(".")[1] for n in PROJECTIONS))
(adapter / "adapter_config.json").write_text(json.dumps(config, indent=2))
low_rank = {}
for i in range(layers):
    for name, (rows, columns) in PROJECTIONS.items():
        p = f"base_model.model.model.layers.{i}.{name}."
        low_rank |= {p + "lora_A.weight": (RANK, columns), p + "lora_B.weight": (rows, RANK)}


def low_rank_weight(name, shape):
    t = torch.randn(shape, generator=generator(name))
    return t.mul_(shape[1] ** -0.5 if "lora_A" in name else 0.003)


write_safetensors(adapter / "adapter_model.safetensors", low_rank, torch.float32, low_rank_weight)
