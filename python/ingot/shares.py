"""Who writes what of a state that several ranks hold, the same answer on all of them without a word: what all have is cut by bytes, parts are written by who has them, and what is each rank's own by each."""
from __future__ import annotations

import json
from typing import Dict, List, NamedTuple, Set, Tuple

from . import _ingot

LITTLE = 64 << 20   # bytes of a group that rank 0 writes alone, in one file
SMALL = 64 << 10    # a tensor of less is rank 0's: a loss, a counter that is not quite the same everywhere
DEFAULT_SHARD = 5_000_000_000


class Piece(NamedTuple):
    """An entry as the plan sees it."""
    group: str
    name: str
    bytes: int
    part: bool = False  # of a tensor that ranks share; this rank has it
    own: bool = False   # this rank's alone


class Share(NamedTuple):
    groups: List[Tuple[str, str, List[int]]]  # (group, stem of its files or "", positions of the pieces), of one rank
    files: Dict[str, bytes]                   # indexes, of rank 0


def cut(sizes: List[int], runs: int) -> List[List[int]]:
    """Positions, in order, in that many runs of about as many bytes; some may be empty."""
    out: List[List[int]] = [[] for _ in range(runs)]
    total, before = max(1, sum(sizes)), 0
    for i, size in enumerate(sizes):
        out[min(runs - 1, (2 * before + size) * runs // (2 * total))].append(i)  # where its middle lies
        before += size
    return out


def own_group(rank: int) -> str:
    return f"rank-{rank:05}"


def share_of(pieces: List[Piece], spread: Set[str], rank: int, world: int, max_shard: int = 0) -> Share:
    """Of what a rank has packed (its parts alone, everything else in full) what it writes. spread: groups that have tensors that ranks share."""
    by_group: Dict[str, List[int]] = {}
    groups: List[Tuple[str, str, List[int]]] = []
    files: Dict[str, bytes] = {}
    own = [i for i, p in enumerate(pieces) if p.own]
    for i, p in enumerate(pieces):
        if not p.own:
            by_group.setdefault(p.group, []).append(i)
    for group, members in by_group.items():
        whole = [i for i in members if not pieces[i].part]
        sizes = [pieces[i].bytes for i in whole]
        if group in spread:
            mine = [whole[i] for i in cut(sizes, world)[rank] if rank == 0 or sizes[i] >= SMALL]
            mine += [i for i, size in zip(whole, sizes) if rank == 0 and size < SMALL and i not in mine]
            mine += [i for i in members if pieces[i].part]
            if mine:
                groups.append((group, _ingot.rank_stem(group, rank), mine))
        elif sum(sizes) < LITTLE:
            if rank == 0:
                groups.append((group, "", whole))
        else:
            each = max(1, -(-sum(sizes) // (world * (max_shard or DEFAULT_SHARD))))
            runs = [r for r in cut(sizes, world * each) if r]
            names = [f"{group}-{k + 1:05}-of-{len(runs):05}" for k in range(len(runs))]
            groups += [(group, names[k], [whole[i] for i in run]) for k, run in enumerate(runs) if k * world // len(runs) == rank]
            if rank == 0:
                weights = {pieces[whole[i]].name: names[k] + ".safetensors" for k, run in enumerate(runs) for i in run}
                files[f"{group}.safetensors.index.json"] = json.dumps({"metadata": {"total_size": sum(sizes)}, "weight_map": weights}).encode()
    if own:
        groups.append((own_group(rank), "", own))
    return Share(groups, files)
