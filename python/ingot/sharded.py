"""Tensors that torch spreads over ranks: DTensor (FSDP2, tensor parallelism) and ShardedTensor (FSDP1). Of one process they are kept as their local tensor, which is the whole."""
from __future__ import annotations

from typing import Any, Optional


def kind_of(t: Any) -> Optional[str]:
    """"DTensor", "ShardedTensor", or None for a tensor that lies in one place."""
    for c in type(t).__mro__:
        if c.__name__ in ("DTensor", "ShardedTensor") and c.__module__.startswith("torch.distributed"):
            return c.__name__
    return None


def ranks_of(t: Any) -> int:
    if kind_of(t) == "DTensor":
        return int(t.device_mesh.size())
    return len({s.placement.rank() for s in t.metadata().shards_metadata}) or 1


def local(t: Any) -> Optional[Any]:
    """The plain tensor of this process that is all of it; None where other ranks, or several pieces, have the rest."""
    if kind_of(t) == "DTensor":
        return t.detach().to_local() if ranks_of(t) == 1 else None
    pieces = t.local_shards()
    return pieces[0].tensor if len(pieces) == 1 and tuple(pieces[0].tensor.shape) == tuple(t.size()) else None


def plain(t: Any) -> Any:
    """A tensor's own memory, whatever it is wrapped in; itself where there is no other."""
    if kind_of(t) is None:
        return t
    here = local(t)
    return t if here is None else here


def like(value: Any, live: Any) -> Any:
    """A plain tensor as ``live`` is spread, so that it can be put there."""
    if kind_of(value) is not None:
        return value
    if kind_of(live) == "DTensor":
        return type(live).from_local(value.to(live.device), live.device_mesh, live.placements, run_check=False) if ranks_of(live) == 1 else value
    here = local(live)
    if here is None:
        return value
    if here.data_ptr() != value.data_ptr():
        here.copy_(value)
    return live
