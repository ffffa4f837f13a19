"""One file: a state as safetensors, and the tensors of whatever ingot opens."""
from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterator, List, Mapping, Tuple, Union

from . import _ingot, nest
from .arguments import expand, fixed

_STATE = "ingot.state"


class File(Mapping[str, Any]):
    """The tensors of a model, a checkpoint or a file by their names, each read when it is asked for. A tensor of torch where torch is there, else an array."""

    def __init__(self, path: Union[str, os.PathLike]):
        where = expand(path)
        self._artifact = _ingot.open(fixed(where) if os.path.exists(where) else where)  # its tensors are read later
        self._tensors: List[Tuple[str, str, Tuple[int, ...]]] = self._artifact.tensors()
        self._numbers = {name: i for i, (name, _, _) in enumerate(self._tensors)}
        self.path = os.fspath(path)

    @property
    def format(self) -> str:
        return self._artifact.format

    @property
    def notices(self) -> List[str]:
        """What whoever opened it should know."""
        return self._artifact.notices

    @property
    def values(self) -> Dict[str, Any]:  # type: ignore[override]
        """Plain values beside the tensors (a step, a learning rate), by their paths."""
        return {k: json.loads(v) for k, v in self._artifact.values.items()}

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def shape(self, name: str) -> Tuple[int, ...]:
        return self._tensors[self._numbers[name]][2]

    def dtype(self, name: str) -> str:
        """As safetensors names it ("BF16"), or ggml ("Q4_K")."""
        return self._tensors[self._numbers[name]][1]

    def __getitem__(self, name: str) -> Any:
        return self.read([name])[name]

    def read(self, names: Any = None) -> Dict[str, Any]:
        """Several at once, or all: in one pass over the file."""
        out: Dict[str, Any] = {}
        rows = []
        for name in self._numbers if names is None else names:
            number = self._numbers[name]
            _, type_name, shape = self._tensors[number]
            if type_name not in nest.TYPE_NAMES:
                raise ValueError(f"{self.path}: '{name}' is {type_name}, which neither torch nor NumPy has; convert the file to float first: ingot convert")
            out[name], address = nest.empty("$tensor", type_name, shape)
            rows.append((number, address))
        self._artifact.load(rows, 0)
        return out


def open(path: Union[str, os.PathLike]) -> File:  # noqa: A001: the package's name for it
    """Opens a model file or directory, an adapter, a checkpoint, of any format that ingot reads, or a name like org/model. Headers only."""
    return File(path)


def save(path: Union[str, os.PathLike], state: Dict[str, Any]) -> int:
    """Writes a state as one safetensors file, whole or not at all, and reads it back; its bytes. What is there is replaced."""
    text, entries, *_ = nest.pack(state, groups=False)
    for e in entries:
        if e.on_device is not None:
            e.owner = e.on_device.cpu().contiguous()
            e.address = e.owner.data_ptr()
    plain = all(isinstance(v, dict) and set(v) == {"$tensor"} for v in json.loads(text)["state"].values())
    # A dict of tensors is what any reader of safetensors sees; what else there is stands in the metadata.
    metadata = {"format": "pt"} if plain and len(entries) == len(state) else {"format": "pt", _STATE: text}
    return _ingot.save_file(expand(path), [(e.name, e.type, e.shape, e.address) for e in entries], metadata, 0)


def load(path: Union[str, os.PathLike]) -> Dict[str, Any]:
    """What ``save`` wrote; of any other file its tensors by name."""
    f = File(path)
    tensors = f.read()
    text = f._artifact.metadata().get(_STATE)
    if text is None:
        return tensors
    as_array = {}

    def tensor(kind: str, group: str, name: str) -> Any:
        t = tensors[name]
        if kind == "$array" and hasattr(t, "numpy"):
            return as_array.setdefault(name, t.numpy())
        return t
    return nest.unpack(json.loads(text)["state"], tensor)
