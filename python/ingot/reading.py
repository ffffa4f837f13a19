"""A checkpoint's bytes into a state: what is compared before anything is touched, who reads which ranges, and how they get into the live objects."""
from __future__ import annotations

import base64
import json
import math
import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import _ingot, foreign, nest, sharded, shares
from .arguments import outside
from .match import Match, Mismatch, merged
from .ranks import Ranks
from .rng import Rng

Place = Tuple[str, str]  # group and name


class Piece(NamedTuple):
    """Where a tensor, or a part of one, lies."""
    file: str
    at: int                    # of its bytes in the file
    shape: Tuple[int, ...]
    offset: Tuple[int, ...]    # its first index in each dimension of the whole


class Stored:
    """The tensors of a checkpoint, each of one piece or of several."""

    def __init__(self, found: Any) -> None:
        self.path = found.path
        self.forms: Dict[Place, Tuple[str, Tuple[int, ...]]] = {}
        self.pieces: Dict[Place, List[Piece]] = {}
        for group, name, type_name, shape, file, at, part in found.tensors():
            of, whole, offset = part if part is not None else (name, shape, (0,) * len(shape))
            form = self.forms.setdefault((group, of), (type_name, tuple(whole)))
            if form != (type_name, tuple(whole)):
                raise _ingot.BadInput(f"{found.path}: two files tell of '{of}' of '{group}' as {form[0]} {list(form[1])} and as {type_name} {list(whole)}")
            self.pieces.setdefault((group, of), []).append(Piece(file, at, tuple(shape), tuple(offset)))
        for (group, name), pieces in self.pieces.items():
            there, whole = sum(math.prod(p.shape) for p in pieces), math.prod(self.forms[group, name][1])
            if there != whole:
                raise _ingot.BadInput(f"{found.path}: of the {whole} elements of '{name}' of '{group}' its files have {there}")

    def form(self, place: Place) -> Tuple[str, Tuple[int, ...]]:
        """Type and shape of what state.json names; BadInput where no file has it."""
        if place not in self.forms:
            raise _ingot.BadInput(f"{self.path}: its state.json names the tensor '{place[1]}' of '{place[0]}', which no file has")
        return self.forms[place]


class _Plan:
    """Which ranges of which files go where."""

    def __init__(self, stored: Optional[Stored]) -> None:
        self.stored = stored
        self.rows: List[Tuple[str, List[int], str, int, int]] = []  # (type, shape, file, offset, address)
        self.later: List[Tuple[Any, Any]] = []  # (view of a target, view of what was read): copied when all has been compared

    def fill(self, place: Place, target: Any, offset: Tuple[int, ...]) -> None:
        """A plain tensor or array that is the part of the whole that begins there."""
        type_name, _ = self.stored.forms[place]
        shape = tuple(target.shape)
        size = nest.bytes_of(type_name)
        straight = _address(target)
        for p in self.stored.pieces[place]:
            box = [(max(o, po), min(o + n, po + pn)) for o, n, po, pn in zip(offset, shape, p.offset, p.shape)]
            if any(a >= b for a, b in box):
                continue
            if not box:
                box_rows, inner = (0, 1), 1
            else:
                box_rows, inner = (box[0][0] - p.offset[0], box[0][1] - p.offset[0]), math.prod(p.shape[1:])
            at = p.at + box_rows[0] * inner * size
            rows = [box_rows[1] - box_rows[0], *p.shape[1:]] if box else []
            even = all(a == o == po and b == o + n == po + pn for (a, b), o, n, po, pn in list(zip(box, offset, shape, p.offset, p.shape))[1:])
            if even and straight is not None:
                skipped = (box[0][0] - offset[0]) * inner * size if box else 0
                self.rows.append((type_name, rows, p.file, at, straight + skipped))
                continue
            read, address = nest.empty("$tensor" if hasattr(target, "data_ptr") else "$array", type_name, tuple(rows))
            self.rows.append((type_name, rows, p.file, at, address))
            first = (box[0][0], *p.offset[1:]) if box else ()
            self.later.append((target[tuple(slice(a - o, b - o) for (a, b), o in zip(box, offset))] if box else target,
                               read[tuple(slice(a - f, b - f) for (a, b), f in zip(box, first))] if box else read))

    def finish(self) -> None:
        for target, read in self.later:
            if hasattr(target, "copy_"):
                target.copy_(read)
            else:
                target[...] = read


def _address(target: Any) -> Optional[int]:
    """Of memory that the bytes can be read into as they are stored."""
    if hasattr(target, "data_ptr"):
        return target.data_ptr() if nest.on_host(target) and target.is_contiguous() else None
    return target.ctypes.data


def _tree_of(found: Any, rank: int) -> Tuple[Optional[Dict[str, Any]], List[str]]:
    """The state that state.json tells of, each value a tree that unpack takes, and the places where nothing is this rank's. BadInput where it is anything else: its hash is right, so it was written like that.
    None of a trainer's layout: its files are what the state is read from."""
    file = f"{found.path}/state.json"
    try:
        whole = json.loads(found.read_object("state.json"))
        if "framework" in whole:
            return None, []
        stays = _with_own(found, whole, rank)
        tree = whole["state"]
        for key, value in tree.items():
            nest.check(value, key)
    except nest.UnknownKind as e:
        raise _ingot.Error(f"{file}: {e}") from None
    except _ingot.Error:
        raise
    except nest.UNREADABLE as e:
        raise _ingot.BadInput(f"{file}: it is no state: {type(e).__name__}: {e}") from None
    return tree, stays


def _with_own(found: Any, whole: Dict[str, Any], rank: int) -> List[str]:
    """Puts what is this rank's own into the tree, in the place of rank 0's; where the checkpoint has nothing of this rank (it was saved by fewer) the live value stays. Gives the places of those."""
    paths = whole.get("own", [])
    if rank == 0 or not paths:
        return []
    name = shares.own_group(rank) + ".json"
    own = json.loads(found.read_object(name)) if found.has(name) else [[path, nest.STAYS] for path in paths]
    for path, value in own:
        above, last = nest.step_to(whole["state"], path)
        above[last] = value
    return [] if found.has(name) else ["/".join(p) for p in paths]


def _matched(found: Any, tree: Dict[str, Any], stored: Stored, state: Dict[str, Any]) -> Match:
    match = Match(stored.forms)
    match.problems += [f"'{k}' is in the state and not in the checkpoint" for k in state if k not in tree]
    match.problems += [f"'{k}' is in the checkpoint and not in the state" for k in tree if k not in state]
    for key in state:
        if key in tree:
            match.walk(tree[key], state[key], key)
    if match.unknown is not None:
        stored.form(match.unknown)  # raises
    return match


def fits(found: Any, state: Dict[str, Any], ranks: Optional[Ranks] = None) -> bool:
    """Whether it would fill everything in the state, by its state.json and the headers of its files; the same on all ranks. Nothing is told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree, stays = _tree_of(found, ranks.rank if ranks else 0)
            if tree is None:
                return True  # on all ranks: one file says so
            good = not stays and not _matched(found, tree, Stored(found), state).problems
    except (_ingot.Error, Mismatch):
        good = False
    return good if ranks is None else all(ranks.all("fits", good))


def _compared(found: Any, tree: Dict[str, Any], stored: Stored, state: Dict[str, Any], strict: bool, ranks: Optional[Ranks]) -> Match:
    match = _matched(found, tree, stored, state)
    problems = match.problems
    if ranks is not None:
        said = ranks.all("match", problems[:9])
        problems = problems or [f"rank {r}: {p}" for r, those in enumerate(said) for p in those]
    if problems:
        more = len(problems) - 8
        text = f"restoring {found.path}: " + "; ".join(problems[:8]) + (f"; and {more} more" if more > 0 else "")
        if strict:
            raise Mismatch(text + ". strict=False goes on without what has no place, and converts types")
        warnings.warn(text, RuntimeWarning, stacklevel=outside())
    return match


def restore(found: Any, state: Dict[str, Any], strict: bool, threads: int, ranks: Optional[Ranks] = None) -> None:
    """BadInput: it is damaged, and nothing of the state counts. Mismatch: nothing has been touched. Of several ranks each reads what it has a place for, what all have one reads and gives to the others; all of
    them end the same way."""
    tree, stays = _tree_of(found, ranks.rank if ranks else 0)
    if tree is None:
        verify(found, threads, ranks)
        foreign.restore(foreign.Taken(found.path, state), state, strict)
        return
    if stays:
        warnings.warn(f"{found.path} was saved by {found.world} ranks and has nothing of rank {ranks.rank}'s own: {', '.join(stays)} go on as they are", RuntimeWarning, stacklevel=outside())
    stored = Stored(found)
    match = _compared(found, tree, stored, state, strict, ranks)
    plan = _Plan(stored)
    wanted: Dict[Place, Any] = {}
    given: List[Tuple[Place, Any]] = []  # what all ranks have
    taken = set()
    for place, (kind, live) in match.tensors.items():
        type_name, shape = stored.forms[place]
        like = live.tensor if isinstance(live, sharded.Like) else live
        if sharded.is_shared(like):
            in_it = like is live and nest.type_of(live) == type_name
            wanted[place] = sharded.itself(live) if in_it else sharded.empty_like(like, getattr(nest.torch_if_loaded(), nest.TYPE_NAMES[type_name]))
            for part, offset in sharded.parts(wanted[place]):
                plan.fill(place, part, offset)
            continue
        address = nest.in_place(live, type_name, shape)
        if address is not None and address not in taken:
            taken.add(address)
            wanted[place] = sharded.plain(live.detach())
        else:
            wanted[place], _ = nest.empty(kind, type_name, shape)
        if ranks is None or place[0] == shares.own_group(ranks.rank):
            plan.fill(place, wanted[place], (0,) * len(shape))
        else:
            given.append((place, wanted[place]))
    readers: List[List[int]] = []
    if ranks is not None:
        readers = _readers(stored, [place for place, _ in given], ranks.world)
        for i in readers[ranks.rank]:
            plan.fill(given[i][0], given[i][1], (0,) * len(stored.forms[given[i][0]][1]))
    _read(found, plan, threads, ranks)
    plan.finish()
    for rank, those in enumerate(readers):
        for i in those:
            ranks.give(given[i][1], rank)
    both = [k for k in state if k in tree]
    for key in [k for k in both if not isinstance(state[k], Rng)] + [k for k in both if isinstance(state[k], Rng)]:
        value = nest.unpack(tree[key], lambda kind, group, name: wanted[group, name], state[key], key)
        state[key] = merged(state[key], value, strict, key)
    wanted.clear()  # what was only read to be copied (onto a device) goes now, not when the collector comes by


_TOGETHER = 4 << 20  # bytes that lie together and one rank reads: what is compared is a megabyte, and two ranks would read the one at their border twice


def _readers(stored: Stored, places: List[Place], world: int) -> List[List[int]]:
    """Which rank reads which of the places, the same on all of them."""
    order = sorted(range(len(places)), key=lambda i: stored.pieces[places[i]][0][:2])
    runs: List[List[int]] = []
    sizes: List[int] = []
    for i in order:
        size, file = nest.bytes_of(*stored.forms[places[i]]), stored.pieces[places[i]][0].file
        if runs and sizes[-1] < _TOGETHER and stored.pieces[places[runs[-1][0]]][0].file == file:
            runs[-1].append(i)
            sizes[-1] += size
        else:
            runs.append([i])
            sizes.append(size)
    return [[i for k in those for i in runs[k]] for those in shares.cut(sizes, world)]


def verify(found: Any, threads: int, ranks: Optional[Ranks] = None) -> None:
    """BadInput where a byte of it is not what its manifest says. Several ranks read a share each."""
    if ranks is None:
        found.verify(threads)
    else:
        _read(found, _Plan(None), threads, ranks)


def _read(found: Any, plan: _Plan, threads: int, ranks: Optional[Ranks]) -> None:
    """Every byte is read by one of the ranks at least, and all of it compared with the manifest."""
    if ranks is None:
        found.restore(plan.rows, threads)
        return
    error: Optional[str] = None
    reading = None

    def step(what: Any) -> None:
        nonlocal error
        if error is None:
            try:
                what()
            except _ingot.BadInput as e:
                error = str(e)

    def begin() -> None:
        nonlocal reading
        reading = found.reading(threads)
        if ranks.rank == 0:
            reading.look()
        reading.read(plan.rows)

    step(begin)
    for last in (False, True):
        said = ranks.all("read", [error, "" if error else base64.b64encode(reading.told()).decode()])
        wrong = [(r, e) for r, (e, _) in enumerate(said) if e is not None]
        if wrong:
            raise _ingot.BadInput(wrong[0][1] if wrong[0][0] == ranks.rank else f"rank {wrong[0][0]}: {wrong[0][1]}")
        step(lambda: [reading.hear(base64.b64decode(told)) for r, (_, told) in enumerate(said) if r != ranks.rank])
        step(reading.check if last else lambda: reading.read_rest(ranks.rank, ranks.world))
    ranks.bytes_read = reading.bytes
    ends = ranks.all("checked", error)
    bad = [e for e in ends if e is not None]
    if bad:
        raise _ingot.BadInput(error or bad[0])
