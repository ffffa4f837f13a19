#!/usr/bin/env python3
"""What people run today, one tool a format: formats_peer.py torch|dcp|zero2|zero3|gguf IN OUT (bench/formats.py)."""
import sys
from pathlib import Path

kind, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
if kind == "torch":
    import torch
    from safetensors.torch import save_file
    save_file(torch.load(source, map_location="cpu", weights_only=True), out, metadata={"format": "pt"})
elif kind == "dcp":
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    dcp_to_torch_save(str(source), str(out))
elif kind.startswith("zero"):
    from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_fp32_state_dict
    convert_zero_checkpoint_to_fp32_state_dict(str(source), str(out), safe_serialization=True, max_shard_size="5GB")
else:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    try:
        from transformers import GgufConfig  # since 5.24 weights stay packed, and cannot be saved, unless this says so
        more = {"quantization_config": GgufConfig(dequantize=True)}
    except ImportError:
        more = {}
    AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float16, **more).save_pretrained(out)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(out)
