"""Tensors on accelerators: each is copied once, into memory of the host that is page-locked, on the stream that computed it."""
from __future__ import annotations

import ctypes
from typing import Any, Callable, List

from .nest import torch_if_loaded


def lock(block: int, size: int) -> bool:
    """Page-locks memory of the host for CUDA's (and ROCm's) copies; whether it did."""
    torch = torch_if_loaded()
    if torch is None or not torch.cuda.is_initialized():
        return False
    return int(torch.cuda.cudart().cudaHostRegister(block, size, 0)) == 0


def unlock(block: int) -> bool:
    return int(torch_if_loaded().cuda.cudart().cudaHostUnregister(block)) == 0


def copier(tensors: List[Any]) -> Callable[[List[int]], Callable[[], None]]:
    """For the engine: begins to copy the tensors to those addresses, and returns a call that waits for them. Whatever was launched before on the current stream of a device is in the copy."""
    def begin(addresses: List[int]) -> Callable[[], None]:
        torch = torch_if_loaded()
        devices = set()
        first, end = min(addresses), max(a + t.nbytes for a, t in zip(addresses, tensors))  # of one block, in whatever order
        block = torch.frombuffer((ctypes.c_ubyte * (end - first)).from_address(first), dtype=torch.uint8)
        for t, address in zip(tensors, addresses):
            to = block[address - first:address - first + t.nbytes].view(t.dtype).view(t.shape)
            overlaps = t.device.type == "cuda"
            to.copy_(t, non_blocking=overlaps)
            if overlaps:
                devices.add(t.device)

        def arrived() -> None:
            for d in devices:
                torch.cuda.current_stream(d).synchronize()
        return arrived
    return begin
