"""A state as JSON and tensors, and back: docs/formats/checkpoint.md, state.json.

``pack`` takes any nest of modules, objects with ``state_dict``, tensors, arrays and plain values apart into a tree of JSON and
tensors by group and name; ``unpack`` puts one together again. Nothing is imported that the state does not hold: torch and NumPy are looked up
where they have been imported already.
"""
from __future__ import annotations

import base64
import collections
import json
import math
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

_NUMPY_TYPES = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32", "int64": "I64", "uint64": "U64",
    "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
}
TYPE_NAMES = {st: name for name, st in _NUMPY_TYPES.items()}


def torch_if_loaded() -> Any:
    """torch, if the program has imported it."""
    return sys.modules.get("torch")


def numpy_if_loaded() -> Any:
    return sys.modules.get("numpy")


class StateError(TypeError):
    """Something in the state cannot be kept; the message names its place in the nest."""


class Entry:
    """One tensor that is to be saved: where it lies, and whatever keeps it, and what it was made from, there: an address is one tensor's for as long as its owner lives.
    One on a device has the address 0, and is ``on_device``."""

    __slots__ = ("group", "name", "type", "shape", "address", "still", "owner", "on_device")

    def __init__(self, group: str, name: str, type: str, shape: Tuple[int, ...], address: int, still: bool, owner: Any, on_device: Any = None):
        self.group, self.name, self.type, self.shape, self.address, self.still, self.owner, self.on_device = group, name, type, shape, address, still, owner, on_device


def unwrapped(module: Any) -> Any:
    """The module beneath DistributedDataParallel, DataParallel and torch.compile."""
    for _ in range(8):
        name = type(module).__name__
        if name in ("DistributedDataParallel", "DataParallel") and hasattr(module, "module"):
            module = module.module
        elif name == "OptimizedModule" and hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            break
    return module


def on_host(t: Any) -> bool:
    """Whether a tensor of torch lies in memory that the engine reads."""
    return t.device.type == "cpu"


def is_stateful(x: Any) -> bool:
    return callable(getattr(x, "state_dict", None)) and callable(getattr(x, "load_state_dict", None)) and not isinstance(x, type)


def _group_of(key: str) -> str:
    """Keys become names of files; one that cannot is among the others'."""
    ok = key and len(key) <= 80 and not key.startswith(".") and all(c.isalnum() and c.isascii() or c in "_-." for c in key)
    return key if ok and key not in ("manifest", "metrics", "quarantine", "state") and "-of-" not in key else "state"


class _Packer:
    def __init__(self, groups: bool) -> None:
        self.groups = groups
        self.entries: List[Entry] = []
        self.names: Dict[str, set] = {}
        self.known: Dict[tuple, List[str]] = {}  # tensors that are one, by what they are
        self.keep: List[Any] = []
        self.open: set = set()  # containers above the one that is looked at
        self.frozen: set = set()  # addresses of parameters that need no gradient

    def module_hints(self, module: Any) -> None:
        if callable(getattr(module, "named_parameters", None)):
            for _, p in module.named_parameters():
                if not p.requires_grad:
                    self.frozen.add(p.data_ptr())

    def add(self, path: Tuple[str, ...], type: str, shape: Tuple[int, ...], address: int, owner: Any, identity: tuple, kind: str, on_device: Any = None) -> dict:
        ref = self.known.get(identity)
        if ref is None:
            group = _group_of(path[0]) if self.groups else ""
            rest = path[1:] if group == path[0] and len(path) > 1 else path
            name = base = ".".join(rest)
            taken = self.names.setdefault(group, {"__metadata__"})
            n = 1
            while name in taken:
                n += 1
                name = f"{base}~{n}"
            taken.add(name)
            still = (on_device.data_ptr() if on_device is not None else address) in self.frozen
            self.entries.append(Entry(group, name, type, shape, address, still, owner, on_device))
            ref = self.known[identity] = [group, name]
        else:
            self.keep.append(owner)
        return {kind: list(ref)}

    def tensor(self, t: Any, path: Tuple[str, ...]) -> dict:
        torch = torch_if_loaded()
        where = "/".join(path)
        if hasattr(t, "to_local") and type(t).__name__ == "DTensor":
            raise StateError(f"{where}: a DTensor: a state of one process has none; gather it (full_tensor()) or save by ranks")
        if t.layout != torch.strided or t.is_quantized or t.is_meta:
            raise StateError(f"{where}: a {t.layout} tensor on {t.device}{' that is quantized' if t.is_quantized else ''} cannot be kept; a dense one with data can")
        type_name = _NUMPY_TYPES.get(str(t.dtype).removeprefix("torch."))
        if type_name is None:
            raise StateError(f"{where}: a tensor of {t.dtype} cannot be kept; convert it to one of {', '.join(sorted(_NUMPY_TYPES))}")
        data = t.detach()
        if data.is_conj() or data.is_neg():
            data = data.resolve_conj().resolve_neg()
        identity = (str(data.device), data.data_ptr(), tuple(data.shape), tuple(data.stride()), data.dtype) if data.numel() else (id(t),)
        if not on_host(data) and data.numel():
            return self.add(path, type_name, tuple(data.shape), 0, (t, data), identity, "$tensor", data)
        data = data.cpu().contiguous()
        return self.add(path, type_name, tuple(data.shape), data.data_ptr(), (t, data), identity, "$tensor")

    def array(self, a: Any, path: Tuple[str, ...]) -> dict:
        numpy = numpy_if_loaded()
        type_name = _NUMPY_TYPES.get(a.dtype.name)
        if type_name is None:
            raise StateError(f"{'/'.join(path)}: an array of {a.dtype} cannot be kept; convert it to one of {', '.join(sorted(_NUMPY_TYPES))}")
        identity = ("numpy", a.__array_interface__["data"][0], a.shape, a.strides, a.dtype.name) if a.size else (id(a),)
        data = numpy.ascontiguousarray(a.astype(a.dtype.newbyteorder("="), copy=False)).reshape(a.shape)
        return self.add(path, type_name, tuple(data.shape), data.ctypes.data, (a, data), identity, "$array")

    def pairs(self, items: Any, path: Tuple[str, ...]) -> list:
        return [[self.pack(k, path), self.pack(v, path + (str(k),))] for k, v in items]

    def pack(self, x: Any, path: Tuple[str, ...]) -> Any:
        if x is None or x is True or x is False or type(x) is str or type(x) is int:
            return x
        if type(x) is float:
            return x if math.isfinite(x) else {"$float": "nan" if x != x else "inf" if x > 0 else "-inf"}
        torch, numpy = torch_if_loaded(), numpy_if_loaded()
        if torch is not None:
            if isinstance(x, torch.Tensor):
                return self.tensor(x, path)
            if isinstance(x, torch.dtype):
                return {"$dtype": str(x).removeprefix("torch.")}
            if isinstance(x, torch.device):
                return {"$device": str(x)}
            if isinstance(x, torch.Size):
                return {"$size": [int(d) for d in x]}
        if numpy is not None:
            if isinstance(x, numpy.ndarray):
                return self.array(x, path)
            if isinstance(x, numpy.generic):
                if x.dtype.name not in _NUMPY_TYPES:
                    raise StateError(f"{'/'.join(path)}: a scalar of {x.dtype} cannot be kept")
                return {"$scalar": [x.dtype.name, self.pack(x.item(), path)]}
        if isinstance(x, bool) or isinstance(x, int) and not isinstance(x, str):
            return int(x)
        if isinstance(x, complex):
            return {"$complex": [self.pack(x.real, path), self.pack(x.imag, path)]}
        if isinstance(x, (bytes, bytearray)):
            return {"$bytes": base64.b64encode(bytes(x)).decode()}
        if isinstance(x, (str, float)):  # a subclass: its value
            return self.pack(str.__str__(x) if isinstance(x, str) else float(x), path)
        if id(x) in self.open:
            raise StateError(f"{'/'.join(path)}: the state holds itself")
        self.open.add(id(x))
        try:
            return self.container(x, path)
        finally:
            self.open.discard(id(x))

    def container(self, x: Any, path: Tuple[str, ...]) -> Any:
        if isinstance(x, collections.Counter):
            return {"$counter": self.pairs(x.items(), path)}
        if isinstance(x, dict):
            texts = all(type(k) is str for k in x)
            if isinstance(x, collections.OrderedDict):
                return {"$odict": self.pairs(x.items(), path)}
            if not texts or (len(x) == 1 and next(iter(x)).startswith("$")):
                return {"$dict": self.pairs(x.items(), path)}
            return {k: self.pack(v, path + (k,)) for k, v in x.items()}
        if isinstance(x, list):
            return [self.pack(v, path + (str(i),)) for i, v in enumerate(x)]
        if isinstance(x, tuple):
            return {"$tuple": [self.pack(v, path + (str(i),)) for i, v in enumerate(x)]}
        for kind, name in ((collections.deque, "$deque"), (frozenset, "$frozenset"), (set, "$set")):
            if isinstance(x, kind):
                return {name: [self.pack(v, path + (str(i),)) for i, v in enumerate(x)]}
        if is_stateful(x):
            module = unwrapped(x)
            self.module_hints(module)
            state = module.state_dict()
            # The order and the attributes of an OrderedDict are a module's own matter: its names and tensors are kept.
            return self.pack(dict(state) if isinstance(state, dict) else state, path)
        if callable(getattr(x, "__array__", None)) and numpy_if_loaded() is not None:  # JAX's and others'
            return self.array(numpy_if_loaded().asarray(x), path)
        raise StateError(f"{'/'.join(path)}: a {type(x).__module__}.{type(x).__qualname__} cannot be kept: it is no plain value, tensor or array, and has no state_dict and load_state_dict")


def pack(state: Dict[str, Any], groups: bool = True) -> Tuple[str, List[Entry]]:
    """The text of state.json and the tensors of a state; without groups they are all of one, ""."""
    if not isinstance(state, dict) or not all(type(k) is str for k in state):
        raise StateError("a state is a dict with text keys, as {'model': model, 'optimizer': optimizer}")
    p = _Packer(groups)
    tree = {k: p.pack(v, (k,)) for k, v in state.items()}
    return json.dumps({"ingot": "state", "version": 1, "state": tree}, ensure_ascii=False, allow_nan=False), p.entries


def references(tree: Any) -> Iterator[Tuple[str, str, str]]:
    """(kind, group, name) of each tensor that a tree names, as often as it names it."""
    if isinstance(tree, dict):
        if len(tree) == 1:
            (kind, v), = tree.items()
            if kind in ("$tensor", "$array"):
                yield kind, v[0], v[1]
                return
        for v in tree.values():
            yield from references(v)
    elif isinstance(tree, list):
        for v in tree:
            yield from references(v)


def unpack(tree: Any, tensor: Callable[[str, str, str], Any]) -> Any:
    """What was packed; ``tensor(kind, group, name)`` gives each tensor and array."""
    def go(x: Any) -> Any:
        if isinstance(x, list):
            return [go(v) for v in x]
        if not isinstance(x, dict):
            return x
        if len(x) != 1 or not next(iter(x)).startswith("$"):
            return {k: go(v) for k, v in x.items()}
        (kind, v), = x.items()
        if kind in ("$tensor", "$array"):
            return tensor(kind, v[0], v[1])
        if kind in ("$dict", "$odict", "$counter"):
            made = {"$dict": dict, "$odict": collections.OrderedDict, "$counter": collections.Counter}[kind]()
            for k, value in v:
                made[go(k)] = go(value)
            return made
        if kind in ("$tuple", "$set", "$frozenset", "$deque"):
            return {"$tuple": tuple, "$set": set, "$frozenset": frozenset, "$deque": collections.deque}[kind](go(i) for i in v)
        if kind == "$float":
            return float(v)
        if kind == "$complex":
            return complex(go(v[0]), go(v[1]))
        if kind == "$bytes":
            return base64.b64decode(v)
        if kind == "$scalar":
            import numpy
            return numpy.dtype(v[0]).type(go(v[1]))
        if kind in ("$dtype", "$device", "$size"):
            import torch
            return getattr(torch, v) if kind == "$dtype" else torch.device(v) if kind == "$device" else torch.Size(v)
        raise ValueError(f"state.json has a '{kind}', which this ingot does not know; a newer one does")
    return go(tree)


def empty(kind: str, type_name: str, shape: Tuple[int, ...]) -> Tuple[Any, int]:
    """A tensor or an array for what is read, and its address. A tensor where torch is not there is an array."""
    name = TYPE_NAMES[type_name]
    torch = torch_if_loaded()
    if kind == "$tensor":
        try:
            import torch
        except ImportError:
            torch = None
        if torch is not None:
            t = torch.empty(shape, dtype=getattr(torch, name))
            return t, t.data_ptr()
    import numpy
    if name not in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "complex64"):
        name = {1: "uint8", 2: "uint16"}[1 if name.startswith("float8") else 2]  # NumPy has no such type: its bits
    a = numpy.empty(shape, dtype=name)
    return a, a.ctypes.data


def in_place(t: Any, type_name: str, shape: Tuple[int, ...]) -> Optional[int]:
    """The address of a live tensor that can take the stored bytes as they are; None for one that cannot."""
    torch = torch_if_loaded()
    if torch is None or not isinstance(t, torch.Tensor) or not on_host(t) or t.layout != torch.strided or not t.is_contiguous():
        return None
    if _NUMPY_TYPES.get(str(t.dtype).removeprefix("torch.")) != type_name or tuple(t.shape) != tuple(shape):
        return None
    return t.data_ptr()
