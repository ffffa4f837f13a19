#!/usr/bin/env python3
"""The files that bench/formats.py converts: make_formats.py torch|dcp|zero2|zero3 BASE OUT, from a directory with model.safetensors.

ZeRO's files are laid out as DeepSpeed 0.16 and later save them (stage_1_and_2.py, stage3.py, engine.py: _save_zero_checkpoint): two ranks, Adam's states beside the
masters; of the first half of the layers, so that the masters have as many bytes as the other rows' weights.
"""
import collections
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

WORLD = 2


def save(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(data, path)


def adam(masters):
    return {"state": {i: {"step": torch.tensor(7.0), "exp_avg": m * 0.1, "exp_avg_sq": m * m} for i, m in enumerate(masters)},
            "param_groups": [{"lr": 1e-4, "params": list(range(len(masters)))}]}


def model_states(weights, stage):
    shapes = collections.OrderedDict((n, w.shape) for n, w in weights.items())
    return {"module": {n: w if stage == 2 else torch.empty(0, dtype=w.dtype) for n, w in weights.items()}, "buffer_names": [], "optimizer": None,
            "param_shapes": [shapes], "frozen_param_shapes": None, "frozen_param_fragments": None, "shared_params": {}, "lr_scheduler": None,
            "global_steps": 7, "global_samples": 56, "skipped_steps": 0, "dp_world_size": WORLD, "mp_world_size": 1, "ds_config": {}, "ds_version": "0.16.9"}


def zero(weights, out, stage):
    folder = out / "global_step7"
    flat = [w.float().reshape(-1) for w in weights.values()]
    if stage == 2:  # one flat vector, padded to an even cut
        whole = torch.cat(flat)
        align = 2 * WORLD
        whole = torch.cat([whole, torch.zeros(-len(whole) % align)])
        parts = [p.clone() for p in whole.chunk(WORLD)]
        save(model_states(weights, stage), folder / "mp_rank_00_model_states.pt")
    else:  # every parameter cut in equal parts, the last padded
        parts = [[] for _ in range(WORLD)]
        for f in flat:
            n = math.ceil(len(f) / WORLD)
            for r, p in enumerate(torch.cat([f, torch.zeros(n * WORLD - len(f))]).chunk(WORLD)):
                parts[r].append(p)
        parts = [torch.cat(p) for p in parts]
    for rank, part in enumerate(parts):
        if stage == 3:
            save(model_states(weights, stage), folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
        state = {"zero_stage": stage, "partition_count": WORLD if stage == 3 else [WORLD], "loss_scaler": None, "dynamic_loss_scale": False, "overflow": False}
        if stage == 2:
            state |= {"base_optimizer_state": adam([part]), "single_partition_of_fp32_groups": [part], "group_paddings": [0], "clip_grad": 1.0}
        else:
            state |= {"optimizer_state_dict": adam([part]), "fp32_flat_groups": [part]}
        save({"optimizer_state_dict": state, "ds_config": {}, "ds_version": "0.16.9"}, folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    (out / "latest").write_text("global_step7")


def main():
    kind, base, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    weights = load_file(base / "model.safetensors")
    part = out.with_name(out.name + ".part")
    if kind == "torch":
        save(weights, part)
    elif kind == "dcp":
        import torch.distributed.checkpoint as dcp
        dcp.save(weights, checkpoint_id=str(part), no_dist=True)
    else:
        layers = 1 + max(int(n.split(".")[2]) for n in weights if n.startswith("model.layers."))
        kept = {n: w for n, w in weights.items() if not n.startswith("model.layers.") or int(n.split(".")[2]) < layers // 2}
        zero(kept, part, int(kind[-1]))
    part.rename(out)


main()
