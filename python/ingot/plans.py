"""Who writes what of a save that torch's DCP has planned: evenly, in which files, under which names. Of items, sizes and ranks alone; no byte is looked at."""
from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from . import _ingot, nest, shares

EVEN = 1 << 20     # bytes by which a rank may have more than the others before anything is moved
CUT = 256 << 10    # tensors of less are not cut
_Key = Tuple[str, Tuple[int, ...]]  # a tensor's name and where the chunk begins


class Cut(NamedTuple):
    """Of a chunk that several ranks have, the rows that one of them writes."""
    first: int
    rows: int


def key_of(item: Any) -> _Key:
    return item.index.fqn, tuple(item.index.offset or ())


def bytes_of(item: Any, cut: Optional[Cut] = None) -> int:
    """0 for what is no tensor."""
    if item.tensor_data is None:
        return 0
    sizes = list(item.tensor_data.chunk.sizes)
    if cut is not None:
        sizes[0] = cut.rows
    return math.prod(sizes) * item.tensor_data.properties.dtype.itemsize


class Assigned(NamedTuple):
    """What a rank writes."""
    items: List[Any]
    cuts: Dict[_Key, Cut]


def balanced(plans: List[List[Any]], held: List[Optional[List[Any]]]) -> List[Assigned]:
    """The plans as they are where they are even. Else what several ranks have goes to those that write least, large tensors in pieces: torch gives each to one rank, in their order, by the size of the whole tensor (or
    all to the first, dedup_save_to_lowest_rank). ``held``: the items that each rank had before they were given out; None of a rank that has not told."""
    loads = [sum(map(bytes_of, items)) for items in plans]
    even = sum(loads) / max(1, len(plans))
    if len(plans) < 2 or max(loads) <= max(1.1 * even, even + EVEN) or any(h is None for h in held):
        return [Assigned(items, {}) for items in plans]
    holders: Dict[_Key, List[int]] = {}
    for rank, items in enumerate(held):
        for item in items or ():
            if item.tensor_data is not None:
                holders.setdefault(key_of(item), []).append(rank)
    out = [Assigned([], {}) for _ in plans]
    movable: List[Tuple[int, Any]] = []
    for rank, items in enumerate(plans):
        for item in items:
            size = bytes_of(item)
            if size and len(holders.get(key_of(item), ())) > 1:
                movable.append((size, item))
                loads[rank] -= size
            else:
                out[rank].items.append(item)

    def give(rank: int, item: Any, cut: Optional[Cut], size: int) -> None:
        out[rank].items.append(item)
        loads[rank] += size
        if cut is not None:
            out[rank].cuts[key_of(item)] = cut
    for size, item in sorted(movable, key=lambda m: (-m[0], key_of(m[1]))):
        ranks = sorted(holders[key_of(item)], key=lambda r: (loads[r], r))
        sizes = item.tensor_data.chunk.sizes
        rows = sizes[0] if len(sizes) else 1
        level = max(even, (sum(loads[r] for r in ranks) + size) / len(ranks))  # what all of them have, in the best case
        if size < CUT or rows < 2 or loads[ranks[0]] + size <= 1.05 * level:
            give(ranks[0], item, None, size)
            continue
        row, first = size // rows, 0
        for rank in ranks:
            left = rows - first
            room = max(0, math.ceil((level - loads[rank]) / row))
            take = left if rank == ranks[-1] else min(left, room)
            if take * row < CUT // 4 and take < left:
                continue  # a crumb
            if left - take and (left - take) * row < CUT // 4:
                take = left
            give(rank, item, Cut(first, take), take * row)
            first += take
            if first == rows:
                break
    return out


class Places:
    """The group and the name of each tensor, the same on all ranks: by its path in the nest, as a Checkpointer has it. Tensors that stand in the state itself (``dcp.save(model.state_dict())``) are of one group."""

    def __init__(self, flat: str) -> None:
        self.flat = flat

    @classmethod
    def of(cls, tops: Set[str]) -> "Places":
        """tops: the keys of the state that hold something."""
        n = 1
        flat = "model"
        while flat in tops:
            flat, n = f"tensors{'' if n == 1 else n}", n + 1
        return cls(flat)

    def of_path(self, path: Tuple[Any, ...]) -> Tuple[str, str]:
        names = [str(p) for p in path]
        if len(names) > 1 and nest._group_of(names[0]) == names[0]:
            return names[0], ".".join(names[1:])
        return self.flat, ".".join(names)


def is_part(item: Any, cut: Optional[Cut]) -> bool:
    return cut is not None or tuple(item.tensor_data.chunk.sizes) != tuple(item.tensor_data.size)


def stems(assigned: List[Assigned], group_of: Any, most: int, named_by_rank: bool) -> List[Dict[str, List[str]]]:
    """Of each rank, by group, the stems of the files into which its tensors go, cut by bytes in their order. Groups of whole tensors alone get the names that transformers reads; others (and all, where nobody knows what
    the other ranks have: ``named_by_rank``) those of ranks."""
    sizes: List[Dict[str, List[int]]] = []
    spread: Set[str] = set()
    for a in assigned:
        mine: Dict[str, List[int]] = {}
        for item in a.items:
            if item.tensor_data is None:
                continue
            cut, group = a.cuts.get(key_of(item)), group_of(item.index.fqn)
            if is_part(item, cut):
                spread.add(group)
            mine.setdefault(group, []).append(bytes_of(item, cut))
        sizes.append(mine)
    out: List[Dict[str, List[str]]] = [{} for _ in assigned]
    for group in dict.fromkeys(g for mine in sizes for g in mine):
        if named_by_rank or group in spread:
            for rank, mine in enumerate(sizes):
                if group in mine:
                    out[rank][group] = [_ingot.rank_stem(group, rank)]
            continue
        runs = [(rank, len(shard_runs(mine[group], most))) for rank, mine in enumerate(sizes) if group in mine]
        n, k = sum(count for _, count in runs), 0
        for rank, count in runs:
            out[rank][group] = [group] if n == 1 else [f"{group}-{i + 1:05}-of-{n:05}" for i in range(k, k + count)]
            k += count
    return out


def shard_runs(sizes: List[int], most: int) -> List[List[int]]:
    """The files of a rank: positions, in order."""
    return [run for run in shares.cut(sizes, max(1, -(-sum(sizes) // most))) if run]


def tops_of(paths: Iterable[Tuple[Any, ...]]) -> Set[str]:
    return {str(p[0]) for p in paths if len(p) > 1}
