"""What a framework writes when it saves, caught before it is written: the tensors where they lie, everything else as bytes.

The framework saves into a directory of its own making. ``torch.save`` and safetensors' ``save_file`` are held off there, and what they were given is noted; a writer that is
not known here writes, and its file is read: slower, and the same checkpoint.
"""
from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import threading
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from . import _ingot, nest, torchzip
from .ranks import Part

_TRIM = re.compile(r"^(.*)-(\d{5})-of-(\d{5})$")
_catching = threading.Lock()


class Caught(NamedTuple):
    """tensors: by the stem of their file (model: model.safetensors), by their names. files: the others, by their names."""
    tensors: Dict[str, Dict[str, Any]]
    files: Dict[str, bytes]


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Attributes of an object, or of a module, for a while."""
    absent = object()
    before = {name: vars(owner).get(name, absent) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is absent:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


class Catch:
    """``with Catch(name) as catch``: whatever is saved into ``catch.path``, the directory NAME of ``catch.root``, is caught; ``done()`` gives it. threads: of the copies.
    leave_out: names of files that are none of the checkpoint's."""

    def __init__(self, name: str, threads: int = 0, leave_out: tuple = ()):
        self.name, self.threads, self.leave_out = name, threads, leave_out
        self._tensors: Dict[str, Dict[str, Any]] = {}
        self._files: Dict[str, bytes] = {}
        self._open = contextlib.ExitStack()

    def _inside(self, path: Any) -> Optional[str]:
        """The name within the directory; None for a path elsewhere."""
        if not isinstance(path, (str, os.PathLike)):
            return None
        path = os.path.abspath(os.fspath(path))
        return path[len(self.path) + 1:] if path.startswith(self.path + os.sep) else None

    def __enter__(self) -> "Catch":
        import safetensors.torch
        import torch
        self.root = os.path.abspath(self._open.enter_context(tempfile.TemporaryDirectory(prefix="ingot-")))
        self.path = os.path.join(self.root, self.name)
        os.mkdir(self.path)
        self._open.enter_context(_catching)
        torch_save, save_file = torch.save, safetensors.torch.save_file

        def saved(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            name = self._inside(f)
            if name is None or args or kwargs:
                return torch_save(obj, f, *args, **kwargs)
            if name not in self.leave_out:
                self._files[name] = torchzip.dumps(obj, torchzip.folder_of(name), self.threads)

        def written(tensors: Any, filename: Any, metadata: Any = None, **kwargs: Any) -> Any:
            name = self._inside(filename)
            if name is None or kwargs or not name.endswith(".safetensors") or not set(metadata or {}) <= {"format"}:
                return save_file(tensors, filename, metadata, **kwargs)
            self._tensors[name.removesuffix(".safetensors")] = dict(tensors)
        self._open.enter_context(replaced(torch, save=saved))
        # Under whatever name a module has it.
        for module in [m for m in list(sys.modules.values()) if m is not None]:
            names = [n for n in ("save_file", "safe_save_file") if vars(module).get(n) is save_file] if hasattr(module, "__dict__") else []
            if names:
                self._open.enter_context(replaced(module, **{n: written for n in names}))
        return self

    def __exit__(self, *args: Any) -> None:
        self._open.close()

    def done(self) -> Caught:
        for directory, _, names in os.walk(self.path):
            for name in names:
                path = os.path.join(directory, name)
                inside = self._inside(path)
                assert inside is not None
                if inside in self._files or inside in self.leave_out:
                    continue
                with open(path, "rb") as f:
                    self._files[inside] = f.read()
        deep = sorted(n for n in [*self._files, *(f"{stem}.safetensors" for stem in self._tensors)] if os.sep in n)
        if deep:
            raise _ingot.Error(f"saving {self.name}: {', '.join(deep[:3])} would be in a directory of its own within the checkpoint, which ingot's checkpoints do not have yet (PEFT does so for "
                               "adapters beside 'default')")
        return Caught(self._whole(), self._files)

    def _whole(self) -> Dict[str, Dict[str, Any]]:
        """Shards are put together: ingot makes its own."""
        out: Dict[str, Dict[str, Any]] = {}
        for stem, tensors in self._tensors.items():
            m = _TRIM.match(stem)
            index = f"{m[1]}.safetensors.index.json" if m else ""
            if m and index in self._files or m and m[1] in out:
                self._files.pop(index, None)
                stem = m[1]
            out.setdefault(stem, {}).update(tensors)
        return out


def pack(caught: Caught, framework: str, state: Dict[str, Any], modules: List[Any], part: Part) -> nest.Packed:
    """As the engine takes it. state: what each file of another format holds, for whoever lists the checkpoint; modules: whose parameters may be frozen. part: of several ranks, each of which gives what it has
    saved; of one name the first rank's is kept, as Trainer's and Accelerate's ranks write the same then."""
    for other in part.meet([*caught.tensors, *caught.files])[:part.rank]:
        for name in other:
            caught.tensors.pop(name, None)
            caught.files.pop(name, None)
    p = nest._Packer(True)
    for module in modules:
        p.module_hints(module)
    tree: Dict[str, Any] = {}
    for stem, tensors in caught.tensors.items():
        p.fixed = stem
        tree[stem] = {name: p.tensor(t, (stem, name)) for name, t in tensors.items()}
    p.fixed = None
    text = json.dumps({"ingot": "state", "version": 1, "framework": framework, "state": {**tree, **state}}, ensure_ascii=False, allow_nan=False)
    return nest.Packed(text if part.rank == 0 else "", p.entries, {}, own_files=caught.files, divided=False)


class Once:
    """A ``save_pretrained`` whose files stay the same: written by it once, and again where ``what`` it was has changed."""

    def __init__(self) -> None:
        self._made: Dict[int, Any] = {}

    def of(self, obj: Any) -> Callable[..., Any]:
        original = obj.save_pretrained

        def save_pretrained(directory: Any, *args: Any, **kwargs: Any) -> Any:
            what = (_fingerprint(obj), repr(args), repr(sorted(kwargs.items())))
            known = self._made.get(id(obj))
            if known is None or known[0] is not obj or known[1] != what:
                with tempfile.TemporaryDirectory(prefix="ingot-") as apart:
                    original(apart, *args, **kwargs)
                    files = {}
                    for path, _, names in os.walk(apart):
                        for name in names:
                            with open(os.path.join(path, name), "rb") as f:
                                files[os.path.relpath(os.path.join(path, name), apart)] = f.read()
                known = self._made[id(obj)] = (obj, what, files)
            for name, data in known[2].items():
                path = os.path.join(os.fspath(directory), name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as f:
                    f.write(data)
        return save_pretrained


def _fingerprint(tokenizer: Any) -> str:
    """What may change of a tokenizer within a run, cheap to tell."""
    parts = [len(tokenizer) if hasattr(tokenizer, "__len__") else 0]
    for name in ("chat_template", "padding_side", "truncation_side", "model_max_length", "special_tokens_map", "init_kwargs"):
        try:
            parts.append(getattr(tokenizer, name, None))
        except Exception:  # a processor's own properties
            parts.append(None)
    return repr(parts)
