"""DeepSpeed: its CheckpointEngine, so that ``engine.save_checkpoint(dir, tag)`` goes through ingot.

::

    engine, _, loader, _ = deepspeed.initialize(model=model, config=config)
    ingot.deepspeed.attach(engine)
    engine.load_checkpoint(dir)          # the newest whole one
    engine.save_checkpoint(dir, tag)     # returns when the state has been copied

The state lies in ``dir/ingot/checkpoint-<global_steps>``. What DeepSpeed looks for, ``dir/<tag>/mp_rank_00_model_states.pt`` and its like, are small JSON files that name it, written
when it is committed; after them ``dir/latest``.
"""
from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from typing import Any, Dict, List, Optional, Tuple

import deepspeed as _deepspeed
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine as _Base

from . import _ingot, stored
from .after import After
from .checkpointer import Checkpointer, Handle, Keep

_FOLDER = "ingot"
_MARK = "__deepspeed__"


def _classes() -> Dict[str, type]:
    """The plain objects of DeepSpeed's own that stand in its states; a file names them, and nothing else is made of what it says."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    out: Dict[str, type] = {"LossScaler": LossScaler, "DynamicLossScaler": DynamicLossScaler}
    try:
        from deepspeed.utils.tensor_fragment import fragment_address
        out["fragment_address"] = fragment_address
    except ImportError:
        pass
    return out


def _kinds() -> Tuple[type, ...]:
    try:
        from deepspeed.runtime.zero.config import ZeroStageEnum
        return (ZeroStageEnum,)
    except ImportError:
        return ()


def _coded(x: Any, classes: Dict[type, str]) -> Any:
    """With DeepSpeed's own objects as dicts of what they hold."""
    if type(x) in classes:
        return {_MARK: classes[type(x)], "value": _coded(dict(vars(x)), classes)}
    if isinstance(x, dict):
        if type(x) in (dict,) or type(x).__name__ == "OrderedDict":
            return type(x)((k, _coded(v, classes)) for k, v in x.items())
        return x
    return type(x)(_coded(v, classes) for v in x) if type(x) in (list, tuple) else x


def _decoded(x: Any, classes: Dict[str, type]) -> Any:
    if isinstance(x, dict):
        if type(x) is dict and x.keys() == {_MARK, "value"} and x[_MARK] in classes:
            made = classes[x[_MARK]].__new__(classes[x[_MARK]])
            made.__dict__.update(_decoded(x["value"], classes))
            return made
        for k in x:
            x[k] = _decoded(x[k], classes)
        return x
    return type(x)(_decoded(v, classes) for v in x) if type(x) in (list, tuple) else x


def _write(path: str, text: str) -> None:
    """A small file, whole or not at all."""
    aside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.ingot-new")
    with open(aside, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(aside, path)


def _reference(path: str) -> Optional[Dict[str, Any]]:
    """What a file of a tag names; None for one that is not ingot's."""
    if not os.path.isfile(path) or os.path.getsize(path) > 4096:
        return None
    with open(path, "rb") as f:
        text = f.read()
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("ingot") == "deepspeed" else None


class CheckpointEngine(_Base):
    """DeepSpeed's interface (create, save, load, commit). By itself ``commit`` waits until the checkpoint is written, as DeepSpeed moves ``latest`` next; ``attach`` makes it asynchronous.

    ``keep``: retention; None: everything. Others: ``ingot.Checkpointer``'s (compress, threads, settle, ...). One process for now: another world size is refused in ``create``.
    """

    def __init__(self, config_params: Any = None, *, keep: Optional[Keep] = None, **options: Any):
        super().__init__(config_params)
        self.name = "IngotCheckpointEngine"
        self._keep, self._options = keep, {"signals": False, **options}
        self._cks: Dict[str, Checkpointer] = {}
        self._after = After()
        self._info: Optional[CheckpointCommitInfo] = None
        self._pending: Dict[str, Any] = {}       # by the names of files in the tag's folder
        self._read: Tuple[str, Any] = ("", None)  # the checkpoint that is being loaded: all of its files are one
        self._background = False
        self._latest = False
        self.last: Optional[Handle] = None

    def create(self, info: CheckpointCommitInfo) -> None:
        world = _deepspeed.comm.get_world_size() if _deepspeed.comm.is_initialized() else 1
        if world > 1:
            raise _ingot.Error(f"saving '{info.tag}' into {info.save_dir}: {world} ranks; for now ingot.deepspeed saves those of one process")
        self._after.raise_errors()
        self._info, self._pending = info, {}

    def save(self, state_dict: Any, path: str) -> None:
        """Notes what belongs to the checkpoint; ``commit`` copies all of it at once. A file outside of the tag's folder (save_16bit_model) is torch.save's, under its name when it is whole."""
        info = self._info
        if info is None or os.path.abspath(os.path.dirname(path)) != os.path.abspath(os.path.join(info.save_dir, str(info.tag))) or not isinstance(state_dict, dict):
            import torch
            aside = f"{path}.ingot-new"
            torch.save(state_dict, aside)
            os.replace(aside, path)
            return
        self._pending[os.path.basename(path)] = state_dict

    def _state(self, tag: str) -> Tuple[Optional[int], Dict[str, Any]]:
        """DeepSpeed's dicts under the names that ingot's checkpoints have: the module is `model`, what the optimizer holds `optimizer`, the rest `deepspeed`."""
        names = {c: n for n, c in _classes().items()}
        state: Dict[str, Any] = {}
        rest: Dict[str, Any] = {}
        step: Optional[int] = None
        for file, d in self._pending.items():
            taken = {}
            if "module" in d and "model" not in state and isinstance(d["module"], dict):
                state["model"], taken["module"] = d["module"], ["model"]
            for key in ("optimizer", "optimizer_state_dict"):
                if d.get(key) is not None:
                    state.setdefault("optimizer", {})[file] = _coded(d[key], names)
                    taken[key] = ["optimizer", file]
            rest[file] = {"keys": list(d), "taken": taken, "rest": _coded({k: v for k, v in d.items() if k not in taken}, names)}
            if isinstance(d.get("global_steps"), int):
                step = d["global_steps"]
        state["deepspeed"] = {"tag": tag, "files": rest}
        return step, state

    def commit(self, info: Optional[CheckpointCommitInfo]) -> bool:
        if info is None or not self._pending:
            self._info = None
            return True
        pending = list(self._pending)
        step, state = self._state(str(info.tag))
        self._pending, self._info = {}, None
        if step is None:
            digits = re.search(r"(\d+)$", str(info.tag))
            if digits is None:
                raise ValueError(f"saving '{info.tag}' into {info.save_dir}: the state has no global_steps, and the tag does not end in a number: its step is not known")
            step = int(digits[1])
        stored.refuse_inexact(state, _kinds(), (), "keep plain values, tensors and arrays in client_state and in state dicts")
        save_dir = os.path.abspath(info.save_dir)
        folder = os.path.join(save_dir, _FOLDER)
        if folder not in self._cks:
            self._cks[folder] = Checkpointer(folder, keep=self._keep, **self._options)
        ck = self._cks[folder]
        if ck._last is not None and ck._last.step == step:
            self._after.wait()
            ck._go_back()  # the same step under another tag, or with another client_state: the later one counts
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the state has no ")
            handle = ck.save(step, state)
        if handle is None:
            return False  # overlap="skip"
        self.last = handle
        latest, tag = self._latest and self._background, str(info.tag)
        self._after.add(handle, lambda: self._publish(save_dir, tag, step, pending, latest))
        if not self._background:
            self._after.wait()
        return True

    def _publish(self, save_dir: str, tag: str, step: int, files: List[str], latest: bool) -> None:
        os.makedirs(os.path.join(save_dir, tag), exist_ok=True)
        for file in files:
            _write(os.path.join(save_dir, tag, file), json.dumps({"ingot": "deepspeed", "checkpoint": f"{_FOLDER}/checkpoint-{step}", "file": file}) + "\n")
        if latest:
            _write(os.path.join(save_dir, "latest"), tag)
        if self._keep is not None:
            self._forget(save_dir)

    def _forget(self, save_dir: str) -> None:
        """Folders of tags whose checkpoints retention has removed, and that hold nothing else."""
        for name in os.listdir(save_dir):
            folder = os.path.join(save_dir, name)
            if name == _FOLDER or os.path.islink(folder) or not os.path.isdir(folder):
                continue
            found = [_reference(os.path.join(folder, f)) for f in os.listdir(folder) if not f.startswith(".")]
            if found and all(r is not None and not os.path.exists(os.path.join(save_dir, r["checkpoint"])) for r in found):
                shutil.rmtree(folder, ignore_errors=True)

    def load(self, path: str, map_location: Any = None) -> Any:
        """What was given to ``save`` for this file, verified. A file that torch.save made is read as plain kinds alone."""
        self._after.wait()
        reference = _reference(path)
        if reference is None:
            import torch
            try:
                return torch.load(path, map_location=map_location, weights_only=True)
            except Exception as e:
                raise _ingot.BadInput(f"loading {path}: it is no reference of ingot's, and torch.load(weights_only=True) does not take it: {e}. Load it with DeepSpeed's own engine, then attach ingot's") from e
        where = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(path))), reference["checkpoint"])
        found = _ingot.look_at(where)
        if found.state != "whole":
            raise _ingot.BadInput(f"loading {path}: {where}, which it names, is no whole checkpoint ({found.state}): {found.reason}")
        state = self._taken(found)
        files = state["deepspeed"]["files"]
        if reference["file"] not in files:
            raise _ingot.BadInput(f"loading {path}: {where} has no '{reference['file']}'; it has {', '.join(map(repr, files))}")
        one, out = files[reference["file"]], {}
        for key in one["keys"]:
            at = one["taken"].get(key)
            value = one["rest"][key] if at is None else state["model"] if at[0] == "model" else state["optimizer"][at[1]]
            out[key] = value
        return _decoded(out, _classes())

    def _taken(self, found: Any) -> Dict[str, Any]:
        # Each file of a tag is asked for once, and a state that was given out may have been changed: it is read anew.
        return stored.read(found, self._options.get("threads", 0), _kinds())

    def newest(self, save_dir: str) -> Optional[str]:
        """The tag of the newest whole checkpoint; its references are made again where a kill came before them. A damaged checkpoint is put aside, and the one before it taken."""
        self._after.wait()
        save_dir = os.path.abspath(save_dir)
        taken = stored.newest(os.path.join(save_dir, _FOLDER), self._options.get("threads", 0), _kinds())
        if taken is None:
            return None
        found, state = taken
        tag = state["deepspeed"]["tag"]
        self._publish(save_dir, tag, found.step, list(state["deepspeed"]["files"]), True)
        folder = os.path.join(save_dir, _FOLDER)
        if folder not in self._cks:
            self._cks[folder] = Checkpointer(folder, keep=self._keep, **self._options)
        ck = self._cks[folder]
        ck._go_back()
        ck._lease_seen = _ingot.lease_epoch(folder)
        ck._resumes, ck._parent, ck.resumed_from = True, found.step, found.path
        if found.run and not ck._run:
            ck._run = found.run
        return tag

    def preserves_storage_sharing(self) -> bool:
        return False  # DeepSpeed need not clone: a slice is saved as what it shows

    def wait(self) -> None:
        """Until what was saved is committed, and ``latest`` has moved."""
        self._after.wait()

    def cleanup(self) -> None:
        try:
            self._after.close()
        finally:
            cks, self._cks = list(self._cks.values()), {}
            for ck in cks:
                ck.close()


def attach(engine: Any, *, keep: Optional[Keep] = None, **options: Any) -> CheckpointEngine:
    """Gives a DeepSpeedEngine this checkpoint engine. ``save_checkpoint`` then returns when the state has been copied, and ``latest`` moves when it is committed; ``load_checkpoint`` without a
    tag takes the newest whole one. ``wait()`` of what is returned before the program ends on purpose; its end waits as well."""
    import atexit
    ce = CheckpointEngine(getattr(engine, "_config", None), keep=keep, **options)
    ce._background = True
    engine.checkpoint_engine = ce
    save, load, destroy = engine.save_checkpoint, engine.load_checkpoint, engine.destroy

    def save_checkpoint(save_dir: Any, tag: Any = None, client_state: Any = None, save_latest: bool = True, exclude_frozen_parameters: bool = False) -> Any:
        ce._latest = bool(save_latest)
        return save(save_dir, tag, client_state or {}, False, exclude_frozen_parameters)

    def load_checkpoint(load_dir: Any, tag: Any = None, *args: Any, **kwargs: Any) -> Any:
        if tag is None and os.path.isdir(os.path.join(load_dir, _FOLDER)):
            tag = ce.newest(load_dir)
        return load(load_dir, tag, *args, **kwargs)

    def destroyed() -> Any:
        ce.cleanup()
        return destroy()
    engine.save_checkpoint, engine.load_checkpoint, engine.destroy = save_checkpoint, load_checkpoint, destroyed
    atexit.register(ce.cleanup)
    return ce
