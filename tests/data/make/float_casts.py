"""Casts of torch between float types, as src/transform/cast_test.cc expects them: python3 float_casts.py OUT.safetensors

SOURCE.TARGET.in and .out: every code of the 8-bit types, and f64 values at the edges of rounding, overflow and denormals. Finite values that the target makes
infinite are left out: ingot refuses them.
"""
import sys

import torch
from safetensors.torch import save_file

edges = [0.0, 1.0, 1 + 2**-24, 1 + 2**-23, 1 + 2**-11, 1 + 2**-11 + 2**-30, 1 + 2**-10, 1 + 2**-8, 1 + 2**-8 + 2**-40, 1 / 3, 65504.0, 65519.9, 1e-8, 2**-24, 2**-25, 2**-25 + 2**-40,
         6e-8, 2**-126, 2**-130, 1.4e-45, 7e-46, 1e-60, 3.3e38, 1e30, float("inf"), float("nan")]
sources = {"float64": torch.tensor(edges + [-x for x in edges], dtype=torch.float64)}
for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"):
    sources[name] = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
tensors = {}
for name, values in sources.items():
    for target in ("float32", "float16", "bfloat16"):
        out = values.to(getattr(torch, target))
        keep = ~(torch.isinf(out) & torch.isfinite(values.to(torch.float64)))
        tensors[f"{name}.{target}.in"] = values.view(torch.uint8).reshape(len(values), -1)[keep].view(values.dtype).reshape(-1)
        tensors[f"{name}.{target}.out"] = out[keep].contiguous()
save_file(tensors, sys.argv[1])
