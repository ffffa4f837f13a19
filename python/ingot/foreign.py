"""Checkpoints that other programs left: Trainer's directories, and scripts that save model, optimizer and the rest with torch.save. Nothing tells whether they are whole."""
from __future__ import annotations

import json
import os
import re
import warnings
from typing import Any, Dict, List, Optional, Tuple

from . import nest
from .match import Mismatch, foreign_problems, merged, with_ties
from .rng import Rng

# Where each thing of a state may lie, by what it is; the first that is there is taken.
_FILES: Dict[str, List[str]] = {
    "optimizer": ["optimizer.pt", "optimizer.bin", "optimizer.pth"],
    "scheduler": ["scheduler.pt", "scheduler.bin", "scheduler.pth", "lr_scheduler.pt"],
    "scaler": ["scaler.pt", "scaler.pth"],
    "rng": ["rng_state.pth", "rng_state_0.pth", "random_states_0.pkl"],
}
_MODELS = ["model.pt", "model.pth", "pytorch_model.pt", "checkpoint.pt", "checkpoint.pth"]
_STATES = ["training_state.pt", "training_state.pth", "trainer_state.pt", "state.pt", "checkpoint.pt", "checkpoint.pth"]


def numpy_classes() -> List[Any]:
    """What torch.load needs for arrays with weights_only=True."""
    try:
        import numpy
    except ImportError:
        return []
    core = getattr(numpy, "_core", None) or numpy.core
    return [core.multiarray._reconstruct, numpy.ndarray, numpy.dtype, type(numpy.dtype(numpy.uint32)), type(numpy.dtype(numpy.int64)), type(numpy.dtype(numpy.float64))]


def _load(path: str) -> Any:
    """Of torch's own kinds alone: nothing that a file says is run."""
    import torch
    with torch.serialization.safe_globals(numpy_classes()):
        return torch.load(path, map_location="cpu", weights_only=True)


def _kind(key: str, value: Any) -> str:
    """What an object of the state is, whatever it is called there."""
    value = nest.unwrapped(value)
    if isinstance(value, Rng):
        return "rng"
    if nest.is_module(value):
        return "model"
    if nest.is_optimizer(value):
        return "optimizer"
    if "scaler" in type(value).__name__.lower():
        return "scaler"
    return "scheduler" if nest.is_scheduler(value) else key


class Foreign:
    """One such directory. ``state_of(key, value)`` gives the state for an object of the caller's, or None where the directory has none."""

    def __init__(self, path: str):
        self.path = path
        self.names = set(os.listdir(path))
        self._both: Optional[Dict[str, Any]] = None

    def _find(self, names: List[str]) -> Optional[str]:
        return next((os.path.join(self.path, n) for n in names if n in self.names), None)

    def _state(self) -> Dict[str, Any]:
        """The one file of a script that saves everything into one, if there is one."""
        if self._both is None:
            path = self._find(_STATES)
            found = _load(path) if path else {}
            self._both = found if isinstance(found, dict) else {}
        return self._both

    @property
    def step(self) -> int:
        path = self._find(["trainer_state.json"])
        if path:
            with open(path, encoding="utf-8") as f:
                step = json.load(f).get("global_step")
            if isinstance(step, int):
                return step
        for name in ("step", "global_step", "iteration", "iter"):
            if isinstance(self._state().get(name), int):
                return self._state()[name]
        digits = re.search(r"(\d+)$", self.path.rstrip("/"))
        return int(digits[1]) if digits else 0

    def state_of(self, key: str, value: Any) -> Any:
        kind = _kind(key, value)
        inside = self._state()
        for name in (key, f"{key}_state_dict", f"{kind}_state_dict", kind):
            if name in inside:
                return inside[name]
        if kind == "model":
            return self._model()
        path = self._find(_FILES.get(kind, []) + [f"{key}.pt", f"{key}.pth", f"{key}.bin"])
        if path is None:
            return None
        found = _load(path)
        return _rng(found) if kind == "rng" else found

    def _model(self) -> Optional[Dict[str, Any]]:
        path = self._find(_MODELS)
        if path is not None:
            found = _load(path)
            for name in ("model", "model_state_dict", "state_dict"):
                if isinstance(found, dict) and isinstance(found.get(name), dict):
                    return found[name]
            return found
        if any(n.endswith((".safetensors", ".bin")) and not n.startswith(("optimizer", "scheduler")) for n in self.names):
            from .files import File
            return File(self.path).read()
        return None


def _rng(found: Dict[str, Any]) -> Dict[str, Any]:
    """Trainer's and accelerate's names for what Rng has."""
    out: Dict[str, Any] = {}
    python = found.get("python", found.get("random_state"))
    if python is not None:
        out["python"] = {"version": python[0], "state": list(python[1]), "gauss": python[2]}
    numpy = found.get("numpy", found.get("numpy_random_seed"))
    if numpy is not None:
        out["numpy"] = dict(zip(("name", "keys", "pos", "has_gauss", "cached"), numpy))
    torch = found.get("cpu", found.get("torch_manual_seed"))
    if torch is not None:
        out["torch"] = torch
    if found.get("cuda") is not None:
        out["cuda"] = found["cuda"] if isinstance(found["cuda"], list) else [found["cuda"]]
    return out


def _without_wrappers(value: Any, live: Any) -> Any:
    """A module's tensors under the names that the live one has: what DistributedDataParallel ("module.", where all have it) and torch.compile ("_orig_mod.", of the whole or of a part) have put before them goes."""
    inner = nest.unwrapped(live)
    if not nest.is_module(inner) or not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        return value

    def plain(name: str) -> str:
        return name.replace("_orig_mod.", "")
    mine = {plain(n): n for n in inner.state_dict()}
    names = [plain(n) for n in value]
    while names and all(n.startswith("module.") for n in names) and not any(n.startswith("module.") for n in mine):
        names = [n[len("module."):] for n in names]
    names = [mine.get(n, n) for n in names]
    return dict(zip(names, value.values())) if len(set(names)) == len(names) else value


class Taken:
    """A directory, and what it has for each key of a state."""

    def __init__(self, path: str, state: Dict[str, Any]):
        self.foreign = Foreign(path)
        self.found = {key: with_ties(_without_wrappers(self.foreign.state_of(key, value), value), value) for key, value in state.items()}
        self.missing = [key for key, value in self.found.items() if value is None]


def choose(candidates: List[Any], state: Dict[str, Any], strict: bool) -> Tuple[Any, Taken]:
    """The newest of the directories that has all that the state wants; with strict=False all models and optimizers. Else the newest that can be read."""
    vital = [k for k, v in state.items() if not strict and _kind(k, v) in ("model", "optimizer")] or list(state)
    first: Optional[Tuple[Any, Taken]] = None
    passed: List[str] = []
    error: Optional[Exception] = None
    for found in candidates:
        try:
            taken = Taken(found.path, state)
        except Exception as e:  # whatever torch and pickle raise of a torn file
            error = error or ValueError(f"restoring {found.path}: {type(e).__name__}: {e}")
            passed.append(f"{found.path} is passed over, as it cannot be read: {type(e).__name__}: {e}")
            continue
        lacks = [k for k in taken.missing if k in vital]
        if not lacks:
            for text in passed:
                warnings.warn(text, RuntimeWarning, stacklevel=5)
            return found, taken
        if first is None:
            first = found, taken
        else:
            taken.found.clear()
        passed.append(f"{found.path} is passed over, as it has nothing for {', '.join(map(repr, lacks))}, which an older one has")
    if first is not None:
        return first
    assert error is not None
    raise error


def restore(taken: Taken, state: Dict[str, Any], strict: bool) -> int:
    """Puts what the directory has into the state's objects; the step. Mismatch names what it has not."""
    foreign, found = taken.foreign, taken.found
    if taken.missing and strict:
        raise Mismatch(f"restoring {foreign.path}: it has nothing for {', '.join(repr(k) for k in taken.missing)}; it has {', '.join(sorted(foreign.names)[:12])}. strict=False goes on without")
    problems = [p for key, value in found.items() if value is not None for p in foreign_problems(key, value, state[key])]
    if problems:
        text = f"restoring {foreign.path}: " + "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        if strict:
            raise Mismatch(text + ". strict=False goes on without what has no place, and converts types")
        warnings.warn(text, RuntimeWarning, stacklevel=5)
    for key in sorted(found, key=lambda k: isinstance(state[k], Rng)):
        if found[key] is not None:
            state[key] = merged(state[key], found[key], strict, key)
    return foreign.step
