"""Checkpoints of a training run: saved without stalling it, found again whole, resumed exactly."""
from __future__ import annotations

import atexit
import json
import os
import re
import sys
import time
import warnings
import weakref
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from . import _ingot, foreign, nest
from .preempt import Preemption
from .rng import Rng


class Cadence:
    """When a checkpoint is due: every so many steps, every so many minutes, whichever comes first. ``Cadence()`` is never."""

    def __init__(self, steps: Optional[int] = None, minutes: Optional[float] = None):
        if (steps is not None and steps < 1) or (minutes is not None and minutes <= 0):
            raise ValueError("Cadence: steps is at least 1 and minutes more than 0")
        self.steps, self.minutes = steps, minutes


class Keep:
    """What retention keeps: whatever one of the rules wants; everything where there is none. The newest checkpoint, and the one that the run resumed from, always stay.

    last: the newest N. best: the best N by ``metric`` (``mode`` "min" or "max"). every_steps: each whose step is a multiple; these are full copies.
    exponential: one in each doubling of the distance to the newest. max_age (seconds), max_bytes: limits; they take the oldest. pinned: steps.
    """

    def __init__(self, last: Optional[int] = None, best: Optional[int] = None, metric: Optional[str] = None, mode: str = "min", every_steps: Optional[int] = None,
                 exponential: bool = False, max_age: Optional[float] = None, max_bytes: Optional[int] = None, pinned: Tuple[int, ...] = ()):
        if mode not in ("min", "max"):
            raise ValueError(f"Keep: mode is 'min' or 'max', not {mode!r}")
        self._rules = {"last": last, "best": best, "metric": metric, "greatest": mode == "max", "every_steps": every_steps, "exponential": exponential,
                       "max_age": max_age, "max_bytes": max_bytes, "pinned": set(pinned)}


    @classmethod
    def from_nemo(cls, config: Any) -> "Keep":
        """NeMo's exp_manager (a dict, or the path of a YAML): save_top_k, monitor and mode of its checkpoint_callback_params; save_last. -1 keeps all, as there."""
        if not isinstance(config, Mapping):
            import yaml  # PyYAML: whoever has NeMo has it
            with open(expand(config), encoding="utf-8") as f:
                config = yaml.safe_load(f)
        manager = config.get("exp_manager", config) or {}
        p = manager.get("checkpoint_callback_params", manager) or {}
        top, monitor = p.get("save_top_k", 3), p.get("monitor", "val_loss")
        if not isinstance(top, int) or top < -1:
            raise ValueError(f"Keep.from_nemo: save_top_k is {top!r}, expected an integer of at least -1")
        if top == -1:
            return cls()
        return cls(best=top, metric=str(monitor), mode=str(p.get("mode", "min")), last=1 if p.get("save_last", True) or top == 0 else None)


def expand(path: Union[str, os.PathLike]) -> str:
    """``${NAME}`` and ``${NAME:-default}``; an unset variable is an error that names it."""
    def value(m: "re.Match[str]") -> str:
        v = os.environ.get(m[1])
        if v:
            return v
        if m[2] is not None:
            return m[2][2:]
        raise ValueError(f"the path {os.fspath(path)} needs the variable {m[1]}, which is not set; give ${{{m[1]}:-default}} or set it")
    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}", value, os.fspath(path))


def run_id() -> str:
    """SKYPILOT_TASK_ID, which stays the same across recoveries of a managed job; else empty."""
    return os.environ.get("SKYPILOT_TASK_ID", "")


class Handle:
    """A save under way. The error of a save comes out here, at the next call of its checkpointer, and at the end of the program."""

    def __init__(self, save: Any):
        self._save = save

    @property
    def step(self) -> int:
        return self._save.step

    @property
    def done(self) -> bool:
        return self._save.done

    @property
    def error(self) -> Optional[Exception]:
        """What went wrong, once it is over."""
        if not self.done:
            return None
        try:
            self._save.wait(0)
        except Exception as e:
            return e
        return None

    def wait(self, timeout: Optional[float] = None) -> "Handle":
        """Until it is durable. TimeoutError where that takes longer; what went wrong is raised."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._save.wait(0.2 if end is None else max(0.0, min(0.2, end - time.monotonic()))):  # in pieces, so that Ctrl-C is heard
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"step {self.step} is still being written after {timeout} s")
        return self

    def abort(self) -> None:
        """Gives it up unless it is committed already: the checkpoint before it stays the newest."""
        self._save.abort()


class Mismatch(ValueError):
    """The checkpoint and the state do not go together: names, shapes or types differ."""


class Checkpointer:
    """Saves and restores the state of one training process in a directory.

    ::

        with ingot.Checkpointer("/checkpoints/${SKYPILOT_TASK_ID}", cadence=ingot.Cadence(steps=500), keep=ingot.Keep(last=3)) as ck:
            state = {"model": model, "optimizer": optimizer, "rng": ingot.rng()}
            step = ck.restore(state)
            for step in range(step + 1, n + 1):
                train(step)
                if ck.due(step):
                    ck.save(step, state)
                if ck.preempted:
                    ck.save(step, state).wait()
                    sys.exit(ck.exit_code)

    ``overlap``: what a save does while another is being written: "wait" for it, or "skip" itself. ``model_files``: a directory whose config and tokenizer files go
    into each checkpoint, so that transformers loads it as a model. ``settle``: seconds that a mount with a cache (rclone; SkyPilot's MOUNT_CACHED) gets to upload a
    checkpoint before an older one is removed; 300 there, 0 elsewhere. ``threads``: of copies and writes, 0 for all. ``deadline``: seconds after a
    preemption signal by which the process must be gone.
    """

    exit_code = 75  # what a preempted script exits with, for SkyPilot's recover_on_exit_codes

    def __init__(self, directory: Union[str, os.PathLike], cadence: Optional[Cadence] = None, keep: Optional[Keep] = None, *, overlap: str = "wait",
                 model_files: Union[None, str, os.PathLike] = None, threads: int = 0, max_shard_bytes: int = 0, deadline: Optional[float] = None, signals: bool = True,
                 run: Optional[str] = None, settle: Optional[float] = None):
        if overlap not in ("wait", "skip"):
            raise ValueError(f"Checkpointer: overlap is 'wait' or 'skip', not {overlap!r}")
        self.directory = expand(directory)
        self.cadence = cadence or Cadence()
        self.keep = keep or Keep()
        self.resumed_from: Optional[str] = None
        self._options = (overlap == "skip", threads, max_shard_bytes, run_id() if run is None else run, settle)
        self._files = _model_files(model_files)
        self._saver: Any = None
        self._parent: Optional[int] = None
        self._last_due = time.monotonic()
        self._last: Optional[Handle] = None
        self._checked = False
        self._preemption = Preemption(deadline) if signals else None
        self._pid = os.getpid()
        self._at_exit = _close_at_exit(self)

    # -- the process that saves

    def _engine(self) -> Any:
        if self._saver is None:
            skip, threads, shard, run, settle = self._options
            self._saver = _ingot.Saver(self.directory, self.keep._rules, skip, threads, shard, run, self._parent, settle)
        return self._saver

    def _tell(self) -> None:
        for text in self._saver.notices() if self._saver is not None else ():
            warnings.warn(text, RuntimeWarning, stacklevel=3)

    def due(self, step: int) -> bool:
        """Whether the cadence wants a checkpoint of this step."""
        c = self.cadence
        by_time = c.minutes is not None and time.monotonic() - self._last_due >= 60 * c.minutes
        return (c.steps is not None and step % c.steps == 0) or by_time

    def save(self, step: int, state: Dict[str, Any], metrics: Optional[Mapping[str, float]] = None) -> Handle:
        """Copies the state and returns: everything may change then. A step that is under way or saved gives the handle it had."""
        if self._last is not None and self._last.step == step and not (self._last.done and self._last.error):
            return self._last
        self._warn_once(state)
        text, entries = nest.pack(state)
        groups: Dict[str, List[Tuple]] = {}
        for e in entries:
            groups.setdefault(e.group, []).append((e.name, e.type, e.shape, e.address, e.still))
        save = self._engine().save(step, list(groups.items()), text, self._files, {k: float(v) for k, v in (metrics or {}).items()})
        self._tell()
        self._last_due = time.monotonic()
        if save is None:  # overlap="skip", and another is being written
            return self._last
        self._last = Handle(save)
        return self._last

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a step that is saved or being saved; they count for ``Keep(best=)``."""
        self._engine().report(step, {k: float(v) for k, v in metrics.items()})

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._last is not None:
            while not self._last._save.wait(0.2):
                pass
        if self._saver is not None:
            self._saver.wait()
            self._tell()

    def close(self) -> None:
        """Waits for what is being written. An error that nobody has seen is raised."""
        saver, self._saver = self._saver, None
        self._at_exit.detach()
        if self._preemption is not None:
            self._preemption.close()
        if saver is not None and os.getpid() == self._pid:
            saver.close()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self.close()
        except Exception as e:
            if kind is None:
                raise
            warnings.warn(f"closing the checkpointer: {e}", RuntimeWarning)

    @property
    def stats(self) -> Dict[str, Any]:
        """Numbers for W&B or Prometheus: saves, stall_seconds, save_seconds, bytes, written_bytes, newest, age_seconds, ..."""
        s = dict(self._saver.stats()) if self._saver is not None else {"saves": 0, "newest": -1}
        if s.get("newest", -1) >= 0:
            s["age_seconds"] = max(0.0, time.time() - s["newest_time"])
        return s

    @property
    def preempted(self) -> bool:
        """Whether SIGTERM or SIGUSR1 has come."""
        return self._preemption is not None and self._preemption.seen

    def steps(self, n: int, state: Dict[str, Any]) -> Iterator[int]:
        """``for step in ck.steps(n, state)``: restores, gives out the steps that are left, saves where the cadence wants it and at the end, and on a preemption saves and exits."""
        first = self.restore(state) + 1
        for step in range(first, n + 1):
            yield step
            if self.preempted:
                self.save(step, state).wait()
                self.close()
                sys.exit(self.exit_code)
            if self.due(step) or step == n:
                self.save(step, state)
        self.wait()

    # -- and the one that goes on

    def restore(self, state: Dict[str, Any], which: Union[str, int] = "latest", strict: bool = True) -> int:
        """Puts the newest whole checkpoint into the state's objects and returns its step; 0 where there is none.

        which: "latest", "best" (by ``Keep``'s metric), a step, or a path. Sizes and hashes are compared while the bytes are read; one that fails is put aside
        with the reason, and the next older one is taken. Plain values and tensors directly in ``state`` are replaced in it. strict=False tells of what does not fit instead of raising.
        """
        for found in self._candidates(which):
            try:
                if found["state"] == "unverified":
                    warnings.warn(f"{found['path']} has no manifest: what it should hold nobody knows, and it is taken unverified", RuntimeWarning, stacklevel=2)
                    found["step"] = foreign.restore(found["path"], state, strict, _put)
                else:
                    self._restore(found, state, strict)
            except _ingot.BadInput as e:
                asked = not isinstance(which, str) or which not in ("latest", "best")
                if asked:
                    raise
                warnings.warn(f"{found['path']} is damaged and put aside; the one before it is taken: {e}", RuntimeWarning, stacklevel=2)
                try:
                    _ingot.quarantine(found["path"], str(e), time.time())
                except _ingot.Error:
                    pass  # a directory that is read only
                continue
            self.resumed_from = found["path"]
            self._parent = found["step"]
            print(f"ingot: resumed at step {found['step']} from {found['path']}{' (unverified)' if found['state'] == 'unverified' else ''}", file=sys.stderr)
            return found["step"]
        print(f"ingot: fresh start, no checkpoint in {self.directory}", file=sys.stderr)
        return 0

    def _candidates(self, which: Union[str, int]) -> List[Dict[str, Any]]:
        if isinstance(which, int):
            return [_ingot.look_at(os.path.join(self.directory, f"checkpoint-{which}"))]
        if which not in ("latest", "best"):
            return [_ingot.look_at(expand(which))]
        there = _ingot.scan(self.directory)
        whole = [f for f in there if f["state"] == "whole"]
        if which == "latest":
            return whole or [f for f in there if f["state"] == "unverified"]
        metric, greatest = self.keep._rules["metric"], self.keep._rules["greatest"]
        if not metric:
            raise ValueError("restore: 'best' by what? Give the checkpointer keep=Keep(best=..., metric=...)")
        by = [f for f in whole if f["metrics"].get(metric) is not None and f["metrics"][metric] == f["metrics"][metric]]
        return sorted(by, key=lambda f: f["metrics"][metric], reverse=greatest)

    def _restore(self, found: Dict[str, Any], state: Dict[str, Any], strict: bool) -> None:
        tree = json.loads(_ingot.read_text(os.path.join(found["path"], "state.json")))["state"]
        problems = [f"'{k}' is in the state and not in the checkpoint" for k in state if k not in tree]
        problems += [f"'{k}' is in the checkpoint and not in the state" for k in tree if k not in state]
        live = {k: _live_tensors(state[k]) for k in state if k in tree}
        for key, tensors in live.items():
            if not isinstance(state[key], dict):
                problems += _differences(key, tree[key], tensors)
        stored = {(group, name): (type_name, shape, file, offset) for group, name, type_name, shape, file, offset in _ingot.tensors(found["path"])}
        wanted: Dict[Tuple[str, str], Any] = {}
        rows = []
        for key in live:
            for path, kind, group, name in _named_references(tree[key]):
                if (group, name) in wanted:
                    continue
                if (group, name) not in stored:
                    raise _ingot.BadInput(f"{found['path']}: its state.json names the tensor '{name}' of '{group}', which no file has")
                type_name, shape, file, offset = stored[group, name]
                target = live[key].get(path)
                if target is not None and tuple(target.shape) != tuple(shape) and not isinstance(state[key], dict):
                    problems.append(f"'{key}': '{path}' has the shape {list(target.shape)}, in the checkpoint {list(shape)}")
                address = nest.in_place(target, type_name, shape)
                if address is not None:
                    wanted[group, name] = target.detach()
                else:
                    wanted[group, name], address = nest.empty(kind, type_name, shape)
                rows.append((type_name, list(shape), file, offset, address))
        if problems:
            text = f"restoring {found['path']}: " + "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
            if strict:
                raise Mismatch(text + ". strict=False goes on without them")
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        _ingot.restore(found["path"], rows, self._options[1])
        order = [k for k in live if not isinstance(state[k], Rng)] + [k for k in live if isinstance(state[k], Rng)]
        for key in order:
            value = nest.unpack(tree[key], lambda kind, group, name: wanted[group, name])
            _put(state, key, value, strict)

    def _warn_once(self, state: Dict[str, Any]) -> None:
        if self._checked:
            return
        self._checked = True
        kinds = {type(v).__name__ for v in state.values()}
        has = {"optimizer": any(hasattr(v, "param_groups") for v in state.values()), "random number generators (ingot.rng())": "Rng" in kinds}
        missing = [name for name, there in has.items() if not there]
        if missing and any(callable(getattr(v, "named_parameters", None)) for v in state.values()):
            warnings.warn("the state has no " + " and no ".join(missing) + ": a resumed run will not go on as this one would have", RuntimeWarning, stacklevel=4)


def _live_tensors(value: Any, path: str = "") -> Dict[str, Any]:
    """The tensors of a module by their names in its state_dict, and of dicts, so that bytes can be read straight into them."""
    if isinstance(value, dict):
        out: Dict[str, Any] = {}
        for k, v in value.items():
            if type(k) is str:
                out.update(_live_tensors(v, f"{path}.{k}" if path else k))
        return out
    module = nest.unwrapped(value)
    if callable(getattr(module, "named_parameters", None)) and nest.is_stateful(module):
        return {f"{path}.{k}" if path else k: v for k, v in module.state_dict().items() if hasattr(v, "data_ptr")}
    torch = nest.torch_if_loaded()
    return {path: value} if path and torch is not None and isinstance(value, torch.Tensor) else {}


def _named_references(tree: Any) -> List[Tuple[str, str, str, str]]:
    """(path in the tree, kind, group, name)."""
    out: List[Tuple[str, str, str, str]] = []

    def go(x: Any, path: str) -> None:
        if isinstance(x, dict):
            if len(x) == 1:
                (kind, v), = x.items()
                if kind in ("$tensor", "$array"):
                    out.append((path, kind, v[0], v[1]))
                    return
            for k, v in x.items():
                go(v, f"{path}.{k}" if path else k)
        elif isinstance(x, list):
            for i, v in enumerate(x):
                go(v, f"{path}.{i}" if path else str(i))
    go(tree, "")
    return out


def _differences(key: str, tree: Any, live: Dict[str, Any]) -> List[str]:
    if not live or not isinstance(tree, dict):
        return []
    missing = [k for k in live if k not in tree]
    extra = [k for k, v in tree.items() if k not in live and isinstance(v, dict) and "$tensor" in v]
    return ([f"'{key}': the checkpoint has no {', '.join(repr(k) for k in missing[:4])}{' and more' if len(missing) > 4 else ''}"] if missing else []) + \
           ([f"'{key}': the model has no {', '.join(repr(k) for k in extra[:4])}{' and more' if len(extra) > 4 else ''}"] if extra else [])


def _put(state: Dict[str, Any], key: Any, value: Any, strict: bool) -> None:
    target = nest.unwrapped(state[key])
    torch = nest.torch_if_loaded()
    if nest.is_stateful(target):
        if torch is not None and isinstance(target, torch.nn.Module):
            target.load_state_dict(value, strict=strict)
        else:
            target.load_state_dict(value)
    elif torch is not None and isinstance(target, torch.Tensor) and isinstance(value, torch.Tensor) and target.shape == value.shape:
        if target.data_ptr() != value.data_ptr() or target.stride() != value.stride():
            with torch.no_grad():
                target.copy_(value)
    elif isinstance(target, dict) and isinstance(value, dict):
        # The same dict goes on, with what was saved.
        for k in [k for k in target if k not in value]:
            del target[k]
        for k, v in value.items():
            if k in target:
                _put(target, k, v, strict)
            else:
                target[k] = v
    else:
        state[key] = value


_SIDE_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
               "merges.txt", "chat_template.jinja", "preprocessor_config.json", "processor_config.json", "adapter_config.json")


def _model_files(directory: Union[None, str, os.PathLike]) -> Dict[str, bytes]:
    if directory is None:
        return {}
    directory = expand(directory)
    files = {}
    for name in _SIDE_FILES:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                files[name] = f.read()
    if not files:
        raise ValueError(f"model_files: {directory} has neither a config.json nor files of a tokenizer")
    return files


def _close_at_exit(ck: Checkpointer) -> Any:
    """A program that ends waits for what is being written, whether or not anybody closed."""
    ref = weakref.ref(ck)

    def end() -> None:
        c = ref()
        if c is not None and c._saver is not None:
            try:
                c.close()
            except Exception as e:
                print(f"ingot: {e}", file=sys.stderr)
    atexit.register(end)

    class Registered:
        @staticmethod
        def detach() -> None:
            atexit.unregister(end)
    return Registered


def latest(directory: Union[str, os.PathLike]) -> Optional[str]:
    """The path of the newest whole checkpoint, for Trainer's ``resume_from_checkpoint``; None where there is none."""
    for f in _ingot.scan(expand(directory)):
        if f["state"] == "whole":
            return f["path"]
    return None
