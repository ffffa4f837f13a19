"""Tensors that torch spreads over ranks: DTensor (FSDP2, tensor parallelism) and ShardedTensor (FSDP1). Of one process they are kept as their local tensor, which is the whole; of several each keeps its parts."""
from __future__ import annotations

from typing import Any, List, Optional, Tuple


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


def parts(t: Any) -> List[Tuple[Any, Tuple[int, ...]]]:
    """The plain tensors that this process has of it, each with its first index in each dimension of the whole; without those of no elements."""
    if kind_of(t) == "DTensor":
        if t.device_mesh.get_coordinate() is None:
            return []
        chunks = t.__create_chunk_list__()  # as torch's own checkpoints ask; more than one where the local tensor is made of others
        if len(chunks) > 1:
            from torch.distributed.checkpoint.metadata import MetadataIndex
            here = [(t.__get_tensor_shard__(MetadataIndex("", c.offsets, i)), tuple(c.offsets)) for i, c in enumerate(chunks)]
        else:
            here = [(t.detach().to_local(), tuple(chunks[0].offsets))]
    else:
        here = [(s.tensor.detach(), tuple(s.metadata.shard_offsets)) for s in t.local_shards()]
    return [(x, offset) for x, offset in here if x.numel()]


def itself(t: Any) -> Any:
    return t.detach() if kind_of(t) == "DTensor" else t


class Like:
    """In the place of a live tensor: it is not there yet, and will be spread as this one is (an optimizer's state as its parameter)."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def is_shared(t: Any) -> bool:
    """Whether ranks have parts of it."""
    return t is not None and kind_of(t) is not None and local(t) is None


def empty_like(t: Any, dtype: Any) -> Any:
    """Another one, spread as it is."""
    import torch
    here = t.detach().to_local()
    return type(t).from_local(torch.empty(here.shape, dtype=dtype, device=here.device), t.device_mesh, t.placements, run_check=False, shape=t.shape, stride=t.stride())


def written_here(t: Any, where: str) -> List[Tuple[Any, Tuple[int, ...]]]:
    """Those that this process is to keep: of copies of a part on several ranks the first one is."""
    if kind_of(t) == "DTensor":
        if any(p.is_partial() for p in t.placements):
            raise TypeError(f"{where}: a DTensor whose ranks have parts of a sum ({t.placements}); redistribute it before it is saved")
        at = t.device_mesh.get_coordinate()
        if at is None or any(p.is_replicate() and i > 0 for p, i in zip(t.placements, at)):
            return []
    return parts(t)


def storage_of(t: Any) -> Any:
    """What two names of one such tensor have in common."""
    return t._local_tensor if kind_of(t) == "DTensor" else t


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
