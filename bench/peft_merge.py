#!/usr/bin/env python3
"""The peer's merge: PEFT's merge_and_unload as its users write it. peft_merge.py BASE ADAPTER OUTPUT"""
import shutil
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base_dir, adapter_dir, out_dir = map(Path, sys.argv[1:4])
base = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.bfloat16, device_map="auto")
model = PeftModel.from_pretrained(base, adapter_dir)
model.merge_and_unload().save_pretrained(out_dir, safe_serialization=True)
for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
    if (base_dir / name).exists():
        shutil.copy(base_dir / name, out_dir / name)
