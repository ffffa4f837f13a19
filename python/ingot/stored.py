"""A checkpoint read as a nest of new objects, for frameworks that put it into their own: nothing that a file names is looked up but in a list that the caller gives."""
from __future__ import annotations

import collections
import enum
import json
import os
import warnings
from typing import Any, Dict, Iterable, List, Optional, Tuple

from . import _ingot, nest

_PLAIN = (type(None), bool, str, int, float, complex, bytes, bytearray)
_PAIRS = (dict, collections.OrderedDict, collections.Counter, collections.defaultdict)
_ITEMS = (list, tuple, set, frozenset, collections.deque)


def refuse_inexact(x: Any, kinds: Iterable[type], path: Tuple[str, ...] = (), advice: str = "give its class, kinds=[...], or keep plain values", above: Tuple[int, ...] = ()) -> None:
    """StateError, naming the place, for whatever would come back as another kind than it is. What the engine itself refuses it names as well."""
    kind, kinds = type(x), tuple(kinds)
    if kind in _PLAIN:
        return
    torch, numpy = nest.torch_if_loaded(), nest.numpy_if_loaded()
    if torch is not None and isinstance(x, (torch.Tensor, torch.dtype, torch.device, torch.Size)):
        return
    if numpy is not None and (kind is numpy.ndarray or isinstance(x, numpy.generic)):
        return
    where = "/".join(path)
    if id(x) in above:
        raise nest.StateError(f"{where}: it holds itself")
    above += (id(x),)
    if kind in _PAIRS:
        if kind is collections.defaultdict and x.default_factory is not None and nest._FACTORIES.get(getattr(x.default_factory, "__name__", "")) is not x.default_factory:
            raise nest.StateError(f"{where}: a defaultdict of {x.default_factory!r} would come back as a dict; keep a dict")
        for k, v in x.items():
            refuse_inexact(k, kinds, path + (str(k),), advice, above)
            refuse_inexact(v, kinds, path + (str(k),), advice, above)
    elif kind in _ITEMS:
        for i, v in enumerate(x):
            refuse_inexact(v, kinds, path + (str(i),), advice, above)
    elif kind not in kinds:
        raise nest.StateError(f"{where}: a {kind.__module__}.{kind.__qualname__} cannot be kept as one: {advice}")
    elif isinstance(x, enum.Enum):
        refuse_inexact(x.value, kinds, path, advice, above)
    elif isinstance(x, dict):
        refuse_inexact(dict(dict.items(x)), kinds, path, advice, above)
    elif isinstance(x, (list, tuple, set, frozenset)):
        refuse_inexact(list(x), kinds, path, advice, above)


class _Unpacker(nest._Unpacker):
    """With the classes that the caller names, wherever they stand."""

    def __init__(self, tensor: Any, kinds: Iterable[type]) -> None:
        super().__init__(tensor)
        self.kinds = {f"{k.__module__}.{k.__qualname__}": k for k in kinds}

    def go(self, x: Any, live: Any, where: str) -> Any:
        kind = nest.kind_of(x)
        if kind in ("$sub", "$named") and x[kind][0] in self.kinds:
            cls, value = self.kinds[x[kind][0]], x[kind][1]
            if kind == "$named":
                return cls(*[self.go(v, None, f"{where}/{f}") for f, v in value])
            return cls(self.go(value, None, where))
        return super().go(x, live, where)


def read(found: Any, threads: int = 0, kinds: Iterable[type] = ()) -> Dict[str, Any]:
    """The state of a checkpoint, in new memory; sizes and hashes are compared while it is read. BadInput where one differs."""
    tree = json.loads(found.read_object("state.json"))["state"]
    forms = {(group, name): (type_name, tuple(shape), file, offset) for group, name, type_name, shape, file, offset in found.tensors()}
    made: Dict[Tuple[str, str], Any] = {}
    rows: List[Any] = []

    def tensor(kind: str, group: str, name: str) -> Any:
        if (group, name) not in made:
            if (group, name) not in forms:
                raise _ingot.BadInput(f"{found.path}: its state.json names the tensor '{name}' of '{group}', which no file has")
            type_name, shape, file, offset = forms[group, name]
            made[group, name], address = nest.empty(kind, type_name, shape)
            rows.append((type_name, list(shape), file, offset, address))
        return made[group, name]
    u = _Unpacker(tensor, kinds)
    state = {k: u.go(v, None, k) for k, v in tree.items()}
    found.restore(rows, threads)
    if u.plainly:
        warnings.warn("; ".join(u.plainly[:4]) + ": give their classes, kinds=[...], for them to come back as they were", RuntimeWarning, stacklevel=4)
    return state


def newest(directory: str, threads: int = 0, kinds: Iterable[type] = ()) -> Optional[Tuple[Any, Dict[str, Any]]]:
    """The newest whole checkpoint and its state; a damaged one is put aside with the reason, and the one before it taken. None: there is no whole one, and none that was damaged."""
    tried = 0
    for found in _ingot.scan(directory):
        if found.state == "newer":
            raise _ingot.Error(found.reason)
        if found.state != "whole":
            continue
        try:
            return found, read(found, threads, kinds)
        except _ingot.BadInput as e:
            if not os.path.isdir(found.path):
                continue  # retention removed it meanwhile
            tried += 1
            warnings.warn(f"{found.path} is damaged and put aside: {e}", RuntimeWarning, stacklevel=4)
            try:
                found.quarantine(str(e))
            except _ingot.Error:
                pass  # a directory that is read only
    if tried:
        raise _ingot.BadInput(f"{directory}: none of its checkpoints can be taken ({tried} tried): 'ingot checkpoint ls' tells why")
    return None
