"""A state as JSON and tensors, and back: docs/formats/checkpoint.md, state.json.

``pack`` takes any nest of modules, objects with ``state_dict``, tensors, arrays and plain values apart into a tree of JSON and
tensors by group and name; ``unpack`` puts one together again. Nothing is imported that the state does not hold: torch and NumPy are looked up
where they have been imported already.
"""
from __future__ import annotations

import base64
import collections
import enum
import json
import math
import sys
import warnings
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from . import adapters, shares, sharded
from .arguments import outside

_NUMPY_TYPES = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32", "int64": "I64", "uint64": "U64",
    "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
}
TYPE_NAMES = {st: name for name, st in _NUMPY_TYPES.items()}



def bits_of(type_name: str) -> int:
    return 8 if type_name == "BOOL" or type_name.startswith("F8") else int("".join(c for c in type_name if c.isdigit()))


def bytes_of(type_name: str, shape: Tuple[int, ...] = ()) -> int:
    return math.prod(shape) * bits_of(type_name) // 8


MOST_TEXT = 256 << 20  # bytes of state.json
_MOST_DEPTH = 200

# The value of a subclass's instance, whatever it makes of itself.
_VALUES: Dict[type, Callable[[Any], Any]] = {int: int.__int__, float: float.__float__, complex: lambda x: complex(x.real, x.imag), str: str.__str__,
                                             bytes: lambda x: bytes(memoryview(x)), bytearray: lambda x: bytearray(memoryview(x))}

# Factories of a defaultdict that are known by their names.
_FACTORIES: Dict[str, Any] = {f.__name__: f for f in (bool, dict, float, int, list, set, str, tuple)}


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

    __slots__ = ("group", "name", "type", "shape", "address", "still", "owner", "on_device", "part", "own")

    def __init__(self, group: str, name: str, type: str, shape: Tuple[int, ...], address: int, still: bool, owner: Any, on_device: Any = None):
        self.group, self.name, self.type, self.shape, self.address, self.still, self.owner, self.on_device = group, name, type, shape, address, still, owner, on_device
        self.part: Optional[Tuple[str, Tuple[int, ...], Tuple[int, ...]]] = None  # of a tensor that ranks share: its name and shape, and where this part of it begins
        self.own = False  # this rank's alone

    @property
    def bytes(self) -> int:
        return bytes_of(self.type, self.shape)


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


def is_jax(x: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def _torch_generator(x: Any) -> bool:
    torch = torch_if_loaded()
    return torch is not None and isinstance(x, torch.Generator)


def _numpy_generator(x: Any) -> bool:
    numpy = numpy_if_loaded()
    return numpy is not None and isinstance(x, (numpy.random.Generator, numpy.random.RandomState))


def is_generator(x: Any) -> bool:
    """A generator of random numbers of the program's own: it takes its state, and has other names for that."""
    return _torch_generator(x) or _numpy_generator(x)


def generator_state(x: Any) -> Any:
    return x.get_state() if _torch_generator(x) else x.bit_generator.state if hasattr(x, "bit_generator") else x.get_state(legacy=False)


def set_generator(x: Any, state: Any) -> None:
    if _numpy_generator(x) and hasattr(x, "bit_generator"):
        x.bit_generator.state = state
    else:
        x.set_state(state)


def is_stateful(x: Any) -> bool:
    return callable(getattr(x, "state_dict", None)) and callable(getattr(x, "load_state_dict", None)) and not isinstance(x, type)


def is_module(x: Any) -> bool:
    return callable(getattr(x, "named_parameters", None)) and is_stateful(x)


def is_optimizer(x: Any) -> bool:
    return is_stateful(x) and isinstance(getattr(x, "param_groups", None), list)


def is_scheduler(x: Any) -> bool:
    """Of learning rates: torch's, and what others call one."""
    name = type(x).__name__.lower()
    return is_stateful(x) and not is_optimizer(x) and not is_module(x) and ("scheduler" in name or name.endswith("lr") or hasattr(x, "last_epoch"))


def _group_of(key: str) -> str:
    """Keys become names of files; one that cannot is among the others'."""
    ok = key and len(key) <= 80 and not key.startswith(".") and all(c.isalnum() and c.isascii() or c in "_-." for c in key)
    return key if ok and key not in ("manifest", "metrics", "quarantine", "state") and "-of-" not in key and not key.startswith("rank-") and "-rank-" not in key else "state"


def stored_type(t: Any, where: str) -> str:
    type_name = _NUMPY_TYPES.get(str(t.dtype).removeprefix("torch."))
    if type_name is None:
        raise StateError(f"{where}: a tensor of {t.dtype} cannot be kept; convert it to one of {', '.join(sorted(_NUMPY_TYPES))}")
    return type_name


def dense(t: Any, where: str) -> Tuple[str, Any]:
    """The type as safetensors names it of a tensor of torch that can be kept, and its data; StateError for any other."""
    torch = torch_if_loaded()
    if isinstance(t, torch.nn.parameter.UninitializedTensorMixin):
        raise StateError(f"{where}: a parameter of a lazy module that has no shape yet; run the model once before it is saved")
    if t.layout != torch.strided or t.is_quantized or t.is_meta or t.is_nested:
        raise StateError(f"{where}: a {t.layout} tensor on {t.device}{' that is quantized' if t.is_quantized else ' that is nested' if t.is_nested else ''} cannot be kept; a dense one with data can")
    if hasattr(t, "__tensor_flatten__"):
        raise StateError(f"{where}: a {type(t).__module__}.{type(t).__qualname__}, a tensor made of others, cannot be kept; keep what it is made of, or dequantize it")
    type_name, data = stored_type(t, where), t.detach()
    return type_name, data.resolve_conj().resolve_neg() if data.is_conj() or data.is_neg() else data


class _Packer:
    def __init__(self, groups: bool, rank: Optional[int] = None) -> None:
        self.groups = groups
        self.rank = rank  # of several; None: one process, which has everything
        self.own = 0      # objects above that are each rank's own
        self.lines: List[str] = []  # what is the same on all ranks
        self.spread: Set[str] = set()  # groups with tensors that ranks share
        self.of_this_rank: List[Any] = []  # (path, tree) of what is its own
        self.entries: List[Entry] = []
        self.names: Dict[str, set] = {}
        self.known: Dict[tuple, List[str]] = {}  # tensors that are one, by what they are
        self.keep: List[Any] = []
        self.open: set = set()  # containers above the one that is looked at
        self.frozen: set = set()  # addresses of parameters that need no gradient
        self.fixed: Optional[str] = None  # a group whose tensors all stand in its own file, by the last of their places
        self.files: Dict[str, bytes] = {}
        self.reserved: set = set()  # groups that keys of the state have
        self.inside = 0  # objects above that take what they are given: what they hold has no live counterpart
        self.plainly: List[str] = []  # what comes back as a plain kind

    def module_hints(self, module: Any) -> None:
        if callable(getattr(module, "named_parameters", None)):
            for _, p in module.named_parameters():
                if not p.requires_grad:
                    self.frozen.add(p.data_ptr())

    def place_of(self, path: Tuple[str, ...]) -> Tuple[str, str]:
        group = _group_of(path[0]) if self.groups else ""
        rest = path[1:] if group == path[0] and len(path) > 1 else path
        if self.own:
            group, rest = shares.own_group(self.rank or 0), path
        name = base = ".".join(rest)
        taken = self.names.setdefault(group, {"__metadata__"})
        n = 1
        while name in taken:
            n += 1
            name = f"{base}~{n}"
        taken.add(name)
        return group, name

    def add(self, path: Tuple[str, ...], type: str, shape: Tuple[int, ...], address: int, owner: Any, identity: tuple, kind: str, on_device: Any = None) -> dict:
        ref = self.known.get(identity) if self.fixed is None else None
        if ref is None:
            group, name = self.place_of(path) if self.fixed is None else (self.fixed, path[-1])
            still = (on_device.data_ptr() if on_device is not None else address) in self.frozen
            self.entries.append(Entry(group, name, type, shape, address, still, owner, on_device))
            self.entries[-1].own = bool(self.own)
            if not self.own:
                self.lines.append(f"{group}/{name} {type} {list(shape)}")
            ref = [group, name]
            self.known.setdefault(identity, ref)
        else:
            self.keep.append(owner)
        return {kind: list(ref)}

    def tensor(self, t: Any, path: Tuple[str, ...]) -> dict:
        where = "/".join(path)
        spread = sharded.kind_of(t)
        if spread is not None:
            whole = sharded.local(t)
            if whole is None and self.rank is not None and not self.own:
                return self.shared(t, path)
            if whole is None:
                raise StateError(f"{where}: a {spread} of {sharded.ranks_of(t)} ranks: this process has a part of it, and a checkpoint of one process holds whole tensors; let all ranks make the checkpointer (without ranks=False), or gather it and "
                                 "save from rank 0 (get_model_state_dict and get_optimizer_state_dict with StateDictOptions(full_state_dict=True, cpu_offload=True))")
            t = whole
        type_name, data = dense(t, where)
        identity = (str(data.device), data.data_ptr(), tuple(data.shape), tuple(data.stride()), data.dtype) if data.numel() else (id(t),)
        if not on_host(data) and data.numel():
            return self.add(path, type_name, tuple(data.shape), 0, (t, data), identity, "$tensor", data)
        data = data.cpu().contiguous()
        return self.add(path, type_name, tuple(data.shape), data.data_ptr(), (t, data), identity, "$tensor")

    def shared(self, t: Any, path: Tuple[str, ...]) -> dict:
        """A tensor that ranks share: the parts that this one writes."""
        where = "/".join(path)
        type_name = stored_type(t, where)
        identity = (id(sharded.storage_of(t)), tuple(t.shape))
        ref = self.known.get(identity)
        if ref is None:
            group, name = self.place_of(path)
            whole = tuple(t.shape)
            self.spread.add(group)
            self.lines.append(f"{group}/{name} {type_name} {list(whole)}")
            for k, (piece, offset) in enumerate(sharded.written_here(t, where)):
                data = piece.detach().contiguous()
                e = Entry(group, name if k == 0 else f"{name}~{k + 1}", type_name, tuple(data.shape), data.data_ptr() if on_host(data) else 0, data.data_ptr() in self.frozen, (t, piece, data),
                          None if on_host(data) else data)
                e.part = (name, whole, tuple(offset))
                self.entries.append(e)
            self.keep.append(t)
            ref = self.known.setdefault(identity, [group, name])
        return {"$tensor": list(ref)}

    def array(self, a: Any, path: Tuple[str, ...]) -> dict:
        numpy = numpy_if_loaded()
        if isinstance(a, numpy.ma.MaskedArray):
            raise StateError(f"{'/'.join(path)}: a masked array cannot be kept as one; keep its data and its mask (a.data, a.mask)")
        if type(a) not in (numpy.ndarray, numpy.memmap):
            self.name_of(a, path, always=True)
        type_name = _NUMPY_TYPES.get(a.dtype.name)
        if type_name is None:
            raise StateError(f"{'/'.join(path)}: an array of {a.dtype} cannot be kept; convert it to one of {', '.join(sorted(_NUMPY_TYPES))}")
        identity = ("numpy", a.__array_interface__["data"][0], a.shape, a.strides, a.dtype.str, a.dtype.name) if a.size else (id(a),)
        data = numpy.ascontiguousarray(a.astype(a.dtype.newbyteorder("="), copy=False)).reshape(a.shape)
        return self.add(path, type_name, tuple(data.shape), data.ctypes.data, (a, data), identity, "$array")

    def text(self, x: str, path: Tuple[str, ...], what: str = "a text") -> str:
        if not x.isascii():
            try:
                x.encode()
            except UnicodeEncodeError as e:
                where = "/".join(p.encode("utf-8", "backslashreplace").decode() for p in path)
                raise StateError(f"{where}: {what} with a lone surrogate (U+{ord(x[e.start]):04X} at {e.start}) is no Unicode; keep its bytes (os.fsencode(text))") from None
        return x

    def pairs(self, items: Any, path: Tuple[str, ...]) -> list:
        return [[self.pack(k, path), self.pack(v, path + (str(k),))] for k, v in items]

    def items(self, x: Any, path: Tuple[str, ...]) -> list:
        return [self.pack(v, path + (str(i),)) for i, v in enumerate(x)]

    def sub(self, x: Any, value: Any, path: Tuple[str, ...]) -> dict:
        """A kind of the program's own: it comes back where the state that is restored has one of that kind."""
        return {"$sub": [self.name_of(x, path), value]}

    def name_of(self, x: Any, path: Tuple[str, ...], always: bool = False) -> str:
        name = f"{type(x).__module__}.{type(x).__qualname__}"
        if self.inside or always:
            self.plainly.append(f"{'/'.join(path)} ({name})")
        return name

    def pack(self, x: Any, path: Tuple[str, ...]) -> Any:
        kind = type(x)
        if x is None or kind is bool:
            return x
        if kind is str:
            return self.text(x, path)
        if kind is int:
            if x.bit_length() > 14000:
                raise StateError(f"{'/'.join(path)}: an integer of {x.bit_length()} bits, which readers of JSON refuse, cannot be kept; keep its bytes (to_bytes)")
            return x
        if kind is float:
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
        if isinstance(x, enum.Enum):
            return self.sub(x, self.pack(x.value, path), path)
        if numpy is not None:
            if isinstance(x, numpy.ndarray):
                return self.array(x, path)
            if isinstance(x, numpy.generic) and not isinstance(x, (str, bytes)):
                if x.dtype.name not in _NUMPY_TYPES:
                    raise StateError(f"{'/'.join(path)}: a scalar of {x.dtype} cannot be kept")
                return {"$scalar": [x.dtype.name, self.pack(x.item(), path)]}
        if kind is complex:
            return {"$complex": [self.pack(x.real, path), self.pack(x.imag, path)]}
        if kind is bytes:
            return {"$bytes": base64.b64encode(x).decode()}
        if kind is bytearray:
            return {"$bytearray": base64.b64encode(x).decode()}
        for plain, value_of in _VALUES.items():
            if isinstance(x, plain):
                return self.sub(x, self.pack(value_of(x), path), path)
        if id(x) in self.open:
            raise StateError(f"{'/'.join(path)}: the state holds itself")
        if len(path) > _MOST_DEPTH:
            raise StateError(f"{'/'.join(path[:8])}/...: the state is nested more than {_MOST_DEPTH} deep there, which cannot be kept")
        self.open.add(id(x))
        try:
            return self.container(x, path)
        finally:
            self.open.discard(id(x))

    def container(self, x: Any, path: Tuple[str, ...]) -> Any:
        if self.rank is not None and not self.own and (is_generator(x) or getattr(x, "of_each_rank", False) is True):
            self.own = 1
            try:
                tree = self.container(x, path)
            finally:
                self.own = 0
            self.of_this_rank.append([list(path), tree])
            return tree
        kind = type(x)
        if kind is dict:
            for k in x:
                if isinstance(k, str):
                    self.text(k, path + (k,), "a key")
            if not all(type(k) is str for k in x) or (len(x) == 1 and next(iter(x)).startswith("$")):
                return {"$dict": self.pairs(x.items(), path)}
            return {k: self.pack(v, path + (k,)) for k, v in x.items()}
        if kind is list:
            return self.items(x, path)
        for exact, name in ((tuple, "$tuple"), (set, "$set"), (frozenset, "$frozenset")):
            if kind is exact:
                return {name: self.items(x, path)}
        for exact, name in ((collections.OrderedDict, "$odict"), (collections.Counter, "$counter")):
            if kind is exact:
                return {name: self.pairs(x.items(), path)}
        if kind is collections.deque:
            return {"$deque": self.items(x, path)} if x.maxlen is None else {"$bounded_deque": [x.maxlen, self.items(x, path)]}
        if kind is collections.defaultdict:
            factory = x.default_factory
            known = factory is None or _FACTORIES.get(getattr(factory, "__name__", "")) is factory
            return {"$defaultdict": [(factory and factory.__name__) if known else self.name_of(x, path), self.pairs(x.items(), path)]}
        if adapters.is_peft(unwrapped(x)):
            return adapters.pack(self, unwrapped(x), path)
        if is_stateful(x) or is_generator(x):
            module = unwrapped(x)
            self.module_hints(module)
            state = generator_state(x) if is_generator(x) else module.state_dict()
            self.inside += 1
            try:
                # The order and the attributes of an OrderedDict are a module's own matter: its names and tensors are kept.
                return self.pack(dict(state) if isinstance(state, dict) else state, path)
            finally:
                self.inside -= 1
        if isinstance(x, tuple) and isinstance(getattr(x, "_fields", None), tuple) and len(x._fields) == len(x):
            return {"$named": [self.name_of(x, path), [[f, self.pack(v, path + (f,))] for f, v in zip(x._fields, x)]]}
        for plain in (collections.Counter, collections.OrderedDict, dict, list, tuple, set, frozenset):
            if isinstance(x, plain):
                value = plain(dict.items(x)) if plain in (collections.OrderedDict, dict) else plain(x)
                return self.sub(x, self.container(value, path), path)
        if isinstance(x, collections.deque):
            return self.sub(x, self.container(collections.deque(x, x.maxlen), path), path)
        if callable(getattr(x, "__array__", None)) and numpy_if_loaded() is not None:  # JAX's and others'
            try:
                a = numpy_if_loaded().asarray(x)
            except Exception as e:  # whatever that library raises: JAX of its keys of random numbers
                raise StateError(f"{'/'.join(path)}: a {kind.__module__}.{kind.__qualname__} does not become an array: {e}") from e
            if not is_jax(x):
                self.name_of(x, path, always=True)
            return self.array(a, path)
        raise StateError(f"{'/'.join(path)}: a {kind.__module__}.{kind.__qualname__} cannot be kept: it is no plain value, tensor or array, and has no state_dict and load_state_dict")


_told: set = set()


def _tell(plainly: List[str]) -> None:
    """Once of each place."""
    new = [p for p in dict.fromkeys(plainly) if p not in _told]
    _told.update(new)
    if new:
        warnings.warn(f"these come back as plain kinds, arrays, texts, numbers, tuples and dicts: {', '.join(new[:4])}{f' and {len(new) - 4} more' if len(new) > 4 else ''}",
                      RuntimeWarning, stacklevel=outside())


def _largest(tree: Any, where: str) -> str:
    """The place below which most of a tree's text stands."""
    while True:
        sizes = [(len(json.dumps(v, ensure_ascii=False)), str(k), v) for k, v in (tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())]
        if not sizes or max(s for s, _, _ in sizes) < sum(s for s, _, _ in sizes) / 2:
            return where
        _, key, tree = max(sizes, key=lambda s: s[0])
        where = where if key.startswith("$") else f"{where}/{key}" if where else key


class Packed(NamedTuple):
    text: str  # of state.json
    entries: List[Entry]
    files: Dict[str, bytes]  # small ones that others read beside the tensors: adapter_config.json
    signature: str = ""  # lines: tensors that are the same on all ranks
    spread: Set[str] = frozenset()  # groups with tensors that ranks share
    own: str = "[]"  # JSON of what is this rank's own, [[PATH, TREE], ...]
    own_files: Dict[str, bytes] = {}  # those of this rank, by names that no other one's have
    divided: bool = True  # whether ranks that have the same write it together; else each writes all that it has packed


def pack(state: Dict[str, Any], groups: bool = True, rank: Optional[int] = None) -> Packed:
    """A state taken apart; without groups its tensors are all of one, "". rank: of several that pack theirs; then of tensors that ranks share the parts of this one are taken."""
    if not isinstance(state, dict) or not all(type(k) is str for k in state):
        raise StateError("a state is a dict with text keys, as {'model': model, 'optimizer': optimizer}")
    p = _Packer(groups, rank)
    p.reserved = {_group_of(k) for k in state}
    tree = {p.text(k, (k,), "a key"): p.pack(v, (k,)) for k, v in state.items()}
    whole: Dict[str, Any] = {"ingot": "state", "version": 1, "state": tree}
    if p.of_this_rank:
        whole["own"] = [path for path, _ in p.of_this_rank]
        for path in whole["own"]:
            try:
                step_to(tree, path)
            except LookupError:
                raise StateError(f"{'/'.join(path)}: what is each rank's own stands in dicts with text keys and lists alone, so that each finds its own again") from None
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    if len(text) > MOST_TEXT / 4 and len(text.encode()) > MOST_TEXT:
        raise StateError(f"{_largest(tree, '')}: the plain values of the state take {len(text.encode())} bytes as JSON, of which most stand here; at most {MOST_TEXT} are kept: "
                         "make a NumPy array or a tensor of them")
    _tell(p.plainly)
    return Packed(text, p.entries, p.files, "\n".join(p.lines), p.spread, json.dumps(p.of_this_rank, ensure_ascii=False, allow_nan=False))


STAYS = {"$stays": None}  # instead of a tree: the live value there goes on as it is


class _Stays:
    """What STAYS unpacks to."""


STAYING = _Stays()


def step_to(tree: Any, path: List[str]) -> Tuple[Any, Any]:
    """The container in a tree that a path of plain dicts and lists leads to, and the last key or index. LookupError where it leads through anything else."""
    for i, key in enumerate(path):
        if kind_of(tree) or not isinstance(tree, (dict, list)):
            raise LookupError("/".join(path))
        k: Any = int(key) if isinstance(tree, list) else key
        if i + 1 == len(path):
            return tree, k
        tree = tree[k]
    raise LookupError("a path of nothing")


_MAPPINGS = {"$dict": dict, "$odict": collections.OrderedDict, "$counter": collections.Counter}
_SEQUENCES = {"$tuple": tuple, "$set": set, "$frozenset": frozenset, "$deque": collections.deque}


def kind_of(tree: Any) -> str:
    """"$tensor", "$dict", ... of a tree that stands for what JSON has not; else ""."""
    if isinstance(tree, dict) and len(tree) == 1:
        kind = next(iter(tree))
        return kind if kind.startswith("$") else ""
    return ""


def members(tree: Any) -> Tuple[Optional[List[Tuple[Any, Any]]], Optional[List[Any]]]:
    """What a tree holds: (key, tree) of each where it is a mapping, else the trees of a sequence; neither for a plain value."""
    kind = kind_of(tree)
    if not kind:
        return (list(tree.items()), None) if isinstance(tree, dict) else (None, tree) if isinstance(tree, list) else (None, None)
    v = tree[kind]
    if kind == "$sub":
        return members(v[1])
    if kind in _MAPPINGS or kind == "$defaultdict":
        return [(unpack(k), value) for k, value in (v[1] if kind == "$defaultdict" else v)], None
    if kind == "$peft":
        return list(v.items()), None
    return None, v if kind in _SEQUENCES else v[1] if kind == "$bounded_deque" else [value for _, value in v[1]] if kind == "$named" else None


def _no_tensor(kind: str, group: str, name: str) -> Any:
    raise ValueError(f"state.json has the tensor '{name}' where a plain value is expected")


class PeftState(Dict[str, Any]):
    """The adapters of a PeftModel, as adapters.py keeps them."""


class _Unpacker:
    def __init__(self, tensor: Callable[[str, str, str], Any]) -> None:
        self.tensor = tensor
        self.plainly: List[str] = []

    def named(self, live: Any, name: str) -> bool:
        return type(live).__name__ == name.rpartition(".")[2]  # its module may have another name: __main__

    def otherwise(self, value: Any, name: str, live: Any, where: str) -> Any:
        if live is not _INSIDE:  # else the save has told
            self.plainly.append(f"'{where}' was a {name} and is a {type(value).__name__}")
        return value

    def items(self, trees: list, live: Any, where: str) -> list:
        lives = [_INSIDE] * len(trees) if live is _INSIDE else list(live) if isinstance(live, (list, tuple)) and len(live) == len(trees) else [None] * len(trees)
        return [self.go(t, one, f"{where}/{i}") for i, (t, one) in enumerate(zip(trees, lives))]

    def fill(self, made: Any, pairs: Any, live: Any, where: str) -> Any:
        for k, v in pairs:
            made[k] = self.go(v, _INSIDE if live is _INSIDE else live.get(k) if isinstance(live, dict) else None, f"{where}/{k}")
        return made

    def go(self, x: Any, live: Any, where: str) -> Any:
        if live is not None and live is not _INSIDE and (is_generator(live) or is_stateful(unwrapped(live))):
            live = _INSIDE
        kind = kind_of(x)
        if isinstance(x, list):
            return self.items(x, live, where)
        if not kind:
            return self.fill({}, x.items(), live, where) if isinstance(x, dict) else x
        v = x[kind]
        if kind in ("$tensor", "$array"):
            return self.tensor(kind, v[0], v[1])
        if kind in _MAPPINGS:
            return self.fill(_MAPPINGS[kind](), [(self.go(k, _INSIDE, where), value) for k, value in v], live, where)
        if kind in _SEQUENCES:
            return _SEQUENCES[kind](self.items(v, live, where))
        if kind == "$bounded_deque":
            return collections.deque(self.items(v[1], live, where), v[0])
        if kind == "$defaultdict":
            pairs = [(self.go(k, _INSIDE, where), value) for k, value in v[1]]
            if isinstance(live, collections.defaultdict):
                return self.fill(collections.defaultdict(live.default_factory), pairs, live, where)
            if v[0] is None or v[0] in _FACTORIES:
                return self.fill(collections.defaultdict(_FACTORIES.get(v[0])), pairs, live, where)
            return self.otherwise(self.fill({}, pairs, live, where), v[0], live, where)
        if kind == "$named":
            values = self.items([value for _, value in v[1]], live, where)
            if live is not _INSIDE and isinstance(live, tuple) and getattr(live, "_fields", None) == tuple(f for f, _ in v[1]):
                return type(live)._make(values)
            return self.otherwise(tuple(values), f"{v[0]}({', '.join(f for f, _ in v[1])})", live, where)
        if kind == "$sub":
            value = self.go(v[1], live, where)
            if live is not _INSIDE and self.named(live, v[0]):
                if isinstance(live, (dict, list)):
                    return value  # which is put into the live one
                try:
                    return type(live)(value, value.maxlen) if isinstance(live, collections.deque) else type(live)(value)
                except Exception as e:  # whatever the program's own class raises
                    return self.otherwise(value, f"{v[0]} ({e})", live, where)
            return self.otherwise(value, v[0], live, where)
        if kind == "$stays":
            return STAYING
        if kind == "$peft":
            return self.fill(PeftState(), v.items(), _INSIDE, where)
        if kind == "$float":
            return float(v)
        if kind == "$complex":
            return complex(self.go(v[0], None, where), self.go(v[1], None, where))
        if kind in ("$bytes", "$bytearray"):
            return base64.b64decode(v) if kind == "$bytes" else bytearray(base64.b64decode(v))
        if kind == "$scalar":
            import numpy
            if v[0] not in _NUMPY_TYPES:
                raise ValueError(f"'{where}' is a scalar of {v[0]!r}")
            return numpy.dtype(v[0]).type(self.go(v[1], None, where))
        if kind in ("$dtype", "$device", "$size"):
            import torch
            if kind == "$dtype" and not isinstance(getattr(torch, v, None), torch.dtype):
                raise ValueError(f"'{where}' is the type {v!r}, which torch has not")  # torch has other things, too: functions
            return getattr(torch, v) if kind == "$dtype" else torch.device(v) if kind == "$device" else torch.Size(v)
        raise UnknownKind(f"state.json has a '{kind}' at '{where}', which this ingot does not know; a newer one does")


# What a tree that is no state's makes of unpack and of those who look into it.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError)


class UnknownKind(ValueError):
    """A newer ingot's."""


def check(tree: Any, where: str) -> None:
    """One of UNREADABLE where a tree is none that unpack takes. No object of the program's is made or looked at."""
    def tensor(kind: str, group: Any, name: Any) -> Any:
        if not isinstance(group, str) or not isinstance(name, str):
            raise ValueError(f"a tensor's place is {[group, name]!r}")
        return None
    _Unpacker(tensor).go(tree, _INSIDE, where)
    _check_peft(tree)


def _check_peft(tree: Any) -> None:
    if kind_of(tree) == "$peft":
        v = tree["$peft"]
        for kept in v["adapters"].values():
            if not isinstance(kept["config"], dict) or not isinstance(kept["tensors"], dict):
                raise ValueError("an adapter's configuration or tensors are none")
        if not isinstance(v["extra"], dict) or any(len(of_one) != 3 for of_one in v["base"]["tensors"].values()):
            raise ValueError("a PeftModel's base is not described")
    elif isinstance(tree, (dict, list)):
        for v in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(v, (dict, list)):
                _check_peft(v)


_INSIDE = object()  # instead of a live value: what lies below one that takes a state


def unpack(tree: Any, tensor: Callable[[str, str, str], Any] = _no_tensor, live: Any = None, where: str = "") -> Any:
    """What was packed; ``tensor(kind, group, name)`` gives each tensor and array. Kinds of the program's own come from the live value that stands in the same place:
    nothing that the file names is looked up. What comes back as a plain kind is told."""
    u = _Unpacker(tensor)
    value = u.go(tree, live, where)
    if u.plainly:
        warnings.warn(f"{'; '.join(u.plainly[:4])}{f'; and {len(u.plainly) - 4} more' if len(u.plainly) > 4 else ''}: the state has none of that kind there that it could be made like",
                      RuntimeWarning, stacklevel=outside())
    return value


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
        try:
            import ml_dtypes  # whoever saved such an array had it: JAX
            a = numpy.empty(shape, dtype=getattr(ml_dtypes, name))
            return a, a.ctypes.data
        except (ImportError, AttributeError):
            if kind == "$array" and name not in _told:
                _told.add(name)
                warnings.warn(f"an array of {name} comes back as its bits: NumPy has no such type without ml_dtypes (pip install ml_dtypes)", RuntimeWarning, stacklevel=outside())
            name = "uint8" if name.startswith("float8") else "uint16"
    a = numpy.empty(shape, dtype=name)
    return a, a.ctypes.data


def type_of(t: Any) -> str:
    """The type of a tensor or an array as safetensors names it; as its own library does where that has none."""
    name = str(getattr(t, "dtype", type(t).__name__)).removeprefix("torch.")
    return _NUMPY_TYPES.get(name, name)


def in_place(t: Any, type_name: str, shape: Tuple[int, ...]) -> Optional[int]:
    """The address of a live tensor that can take the stored bytes as they are; None for one that cannot."""
    torch = torch_if_loaded()
    if torch is None or not isinstance(t, torch.Tensor):
        return None
    t = sharded.plain(t)
    if not on_host(t) or t.layout != torch.strided or not t.is_contiguous() or t.is_conj() or t.is_neg():
        return None  # of a conjugate or a negative view the memory holds other numbers than it shows
    if type_of(t) != type_name or tuple(t.shape) != tuple(shape):
        return None
    return t.data_ptr()
