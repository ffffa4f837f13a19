"""A small PEFT adapter and what llama.cpp makes of it: python make_gguf.py BASE_HF_DIR CONVERT_LORA_TO_GGUF.py OUT (tests/data/adapters/lora-gguf; torch, peft, transformers,
gguf). The base is tests/data/checkpoints/megatron/llama/hf."""
import os, subprocess, sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

base, script, out = sys.argv[1:]
torch.manual_seed(3)
model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(
    r=2, lora_alpha=6, rank_pattern={"v_proj": 3}, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "down_proj", "embed_tokens", "model.layers.1.self_attn.o_proj"]))
for p in model.parameters():
    if p.requires_grad: torch.nn.init.normal_(p)
model.peft_config["default"].base_model_name_or_path = "base"
model.save_pretrained(os.path.join(out, "peft"), save_embedding_layers=False)
os.remove(os.path.join(out, "peft/README.md"))
subprocess.run([sys.executable, script, "--base", base, "--outfile", os.path.join(out, "lora.gguf"), "--outtype", "f32", os.path.join(out, "peft")], check=True)
