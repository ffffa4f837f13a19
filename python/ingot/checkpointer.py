"""Checkpoints of a training run: saved without stalling it, found again whole, resumed exactly."""
from __future__ import annotations

import atexit
import json
import os
import re
import sys
import threading
import time
import warnings
import weakref
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from . import _ingot, devices, foreign, nest
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
    checkpoint before an older one is removed; 300 there, 0 elsewhere. ``threads``: of copies and writes, 0 for all. ``staging_bytes``: memory for copies of the
    state, 0 for as much as the state is large; what does not fit is written from where it lies, and ``save`` returns when that is done. ``compress``: "zstd" packs the files of all keys but ``model``,
    which other software reads, losslessly. ``deadline``: seconds after a preemption signal by which the process must be gone.
    """

    exit_code = _ingot.PREEMPTED_EXIT_CODE  # what a preempted script exits with, for SkyPilot's recover_on_exit_codes

    def __init__(self, directory: Union[str, os.PathLike], cadence: Optional[Cadence] = None, keep: Optional[Keep] = None, *, overlap: str = "wait",
                 model_files: Union[None, str, os.PathLike] = None, threads: int = 0, max_shard_bytes: int = 0, staging_bytes: int = 0, compress: Optional[str] = None, deadline: Optional[float] = None, signals: bool = True,
                 run: Optional[str] = None, settle: Optional[float] = None):
        if overlap not in ("wait", "skip"):
            raise ValueError(f"Checkpointer: overlap is 'wait' or 'skip', not {overlap!r}")
        if compress not in (None, "zstd"):
            raise ValueError(f"Checkpointer: compress is None or 'zstd', not {compress!r}")
        self.directory = expand(directory)
        self.cadence = cadence or Cadence()
        self.keep = keep or Keep()
        self.resumed_from: Optional[str] = None
        self._options = (overlap == "skip", threads, max_shard_bytes, run_id() if run is None else run, settle, staging_bytes, compress is not None)
        self._files = _model_files(model_files)
        self._saver: Any = None
        self._lock = threading.Lock()
        self._closed = False
        self._parent: Optional[int] = None
        self._lease_seen: Optional[int] = None  # whoever takes the directory between a restore and the first save goes on, and not this one
        self._last_due = time.monotonic()
        self._last: Optional[Handle] = None
        self._checked = False
        self._preemption = Preemption(deadline) if signals else None
        self._pid = os.getpid()
        self._at_exit = _close_at_exit(self)

    # -- the process that saves

    def _engine(self) -> Any:
        with self._lock:
            if self._closed:
                raise ValueError("the checkpointer is closed")
            if self._saver is None:
                skip, threads, shard, run, settle, staging, packed = self._options
                self._saver = _ingot.Saver(self.directory, self.keep._rules, skip, threads, shard, run, self._parent, settle, devices.lock, devices.unlock, staging, packed, self._lease_seen)
                self._lease_seen = None  # what was taken is this one's
            return self._saver

    def _tell(self) -> None:
        for text in self._saver.notices() if self._saver is not None else ():
            warnings.warn(text, RuntimeWarning, stacklevel=3)

    def due(self, step: int) -> bool:
        """Whether the cadence wants a checkpoint of this step."""
        c = self.cadence
        by_time = c.minutes is not None and time.monotonic() - self._last_due >= 60 * c.minutes
        return (c.steps is not None and step % c.steps == 0) or by_time

    def save(self, step: int, state: Dict[str, Any], metrics: Optional[Mapping[str, float]] = None) -> Optional[Handle]:
        """Copies the state and returns: everything may change then. A step that is under way or saved gives the handle it had. None: it was skipped, as overlap="skip" says, because
        another is being written; never while a preemption is under way."""
        if self._closed:
            raise ValueError("the checkpointer is closed")
        if step < 0:
            raise ValueError(f"save: step is {step}; steps begin at 0")
        if self._last is not None and self._last.step == step and not (self._last.done and self._last.error):
            return self._last
        if self._last is not None and step < self._last.step:
            self._go_back()
        if self.preempted:
            self._settle()  # this one is not left out, whatever overlap says
        self._warn_once(state)
        text, entries = nest.pack(state)
        groups: Dict[str, List[nest.Entry]] = {}
        for e in entries:
            groups.setdefault(e.group, []).append(e)
        rows = [(group, [(e.name, e.type, e.shape, e.address, e.still) for e in members]) for group, members in groups.items()]
        on_devices = [e.on_device for members in groups.values() for e in members if e.on_device is not None]
        save = self._engine().save(step, rows, text, self._files, {k: float(v) for k, v in (metrics or {}).items()}, devices.copier(on_devices))
        self._tell()
        self._last_due = time.monotonic()
        if save is None:
            return None
        self._last = Handle(save)
        return self._last

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a step that is saved or being saved; they count for ``Keep(best=)``. From a process that saves nothing, too: an evaluation."""
        numbers = {str(k): float(v) for k, v in metrics.items()}
        if self._saver is None:
            self._at(step).put_metrics(numbers)
        else:
            self._saver.report(step, numbers)

    def _settle(self) -> None:
        """Until nothing is being written; errors stay with their handles."""
        if self._last is not None:
            try:
                self._last.wait()
            except _ingot.Error:
                pass

    def _go_back(self) -> None:
        """What follows is another branch of the run: newer than what was saved before, whatever its steps are."""
        saver, self._saver, self._last = self._saver, None, None
        if saver is not None:
            saver.close()

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._last is not None:
            self._last.wait()
        if self._saver is not None:
            self._saver.wait()
            self._tell()

    def close(self) -> None:
        """Waits for what is being written. An error that nobody has seen is raised."""
        saver, self._saver, self._closed = self._saver, None, True
        self._at_exit.detach()
        try:
            if saver is not None and os.getpid() == self._pid:
                saver.close()
        finally:
            # Last: a signal that comes while the end is written waits for it.
            if self._preemption is not None:
                self._preemption.close()

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
            if step == n:
                self._settle()
            if self.due(step) or step == n:
                self.save(step, state)
        self.wait()

    # -- and the one that goes on

    def restore(self, state: Dict[str, Any], which: Union[str, int] = "latest", strict: bool = True) -> int:
        """Puts the newest whole checkpoint into the state's objects and returns its step; 0 where there is none.

        which: "latest", "best" (by ``Keep``'s metric), a step, or a path. Sizes and hashes are compared while the bytes are read; one that fails is put aside
        with the reason, and the next older one is taken. Plain values and tensors directly in ``state`` are replaced in it. strict=False tells of what does not fit instead of raising.
        """
        self._go_back()
        self._torn: List[Any] = []
        self._lease_seen = _ingot.lease_epoch(self.directory)
        tried: List[str] = []
        for again in (False, True):
            candidates = self._candidates(which)
            for i, found in enumerate(candidates):
                if again and found.path in tried:
                    continue
                try:
                    if found.state == "unverified":
                        warnings.warn(f"{found.path} has no manifest: what it should hold nobody knows, and it is taken unverified", RuntimeWarning, stacklevel=2)
                        step = foreign.restore(found.path, state, strict, lambda s, k, v, t: s.__setitem__(k, _merged(s[k], v, t, k)))
                    else:
                        if i + 1 == len(candidates):
                            found.verify(self._options[1])  # nothing could be taken in its place: it must not be half in the state when it fails
                        self._restore(found, state, strict)
                        step = found.step
                except _ingot.BadInput as e:
                    if not isinstance(which, str) or which not in ("latest", "best"):
                        raise
                    tried.append(found.path)
                    if not os.path.isdir(found.path):
                        continue  # retention removed it meanwhile
                    warnings.warn(f"{found.path} is damaged and put aside: {e}", RuntimeWarning, stacklevel=2)
                    try:
                        found.quarantine(str(e))
                    except _ingot.Error:
                        pass  # a directory that is read only
                    continue
                for f in candidates:
                    if f.late_reason:
                        warnings.warn(f.late_reason, RuntimeWarning, stacklevel=2)
                for f in self._torn:
                    if f.step > step:
                        warnings.warn(f"{f.path} is passed over: {f.reason}", RuntimeWarning, stacklevel=2)
                self.resumed_from = found.path
                self._parent = step
                print(f"ingot: resumed at step {step} from {found.path}{' (unverified)' if found.state == 'unverified' else ''}", file=sys.stderr)
                return step
            if not tried:
                break
        if tried:
            raise _ingot.BadInput(f"{self.directory}: none of its checkpoints can be taken ({len(tried)} tried): 'ingot checkpoint ls' tells why. To start afresh, give another directory, or remove them")
        print(f"ingot: fresh start, no checkpoint in {self.directory}", file=sys.stderr)
        return 0

    def _at(self, step: int) -> Any:
        return _ingot.look_at(os.path.join(self.directory, f"checkpoint-{step}"))

    def _candidates(self, which: Union[str, int]) -> List[Any]:
        if isinstance(which, int):
            return [self._at(which)]
        if which not in ("latest", "best"):
            return [_ingot.look_at(expand(which))]
        there = _ingot.scan(self.directory)
        self._torn = [f for f in there if f.state == "torn"]
        newer = [f for f in there if f.state == "newer"]
        if newer:
            raise _ingot.Error(newer[0].reason)
        whole = [f for f in there if f.state == "whole"]
        if which == "latest":
            return whole or [f for f in there if f.state == "unverified"]
        metric, greatest = self.keep._rules["metric"], self.keep._rules["greatest"]
        if not metric:
            raise ValueError("restore: 'best' by what? Give the checkpointer keep=Keep(best=..., metric=...)")
        by = [f for f in whole if f.metrics.get(metric) is not None and f.metrics[metric] == f.metrics[metric]]
        if whole and not by:
            raise ValueError(f"restore: none of the checkpoints in {self.directory} has the metric '{metric}'")
        return sorted(by, key=lambda f: f.metrics[metric], reverse=greatest)

    def _restore(self, found: Any, state: Dict[str, Any], strict: bool) -> None:
        tree = json.loads(found.read_object("state.json"))["state"]
        problems = [f"'{k}' is in the state and not in the checkpoint" for k in state if k not in tree]
        problems += [f"'{k}' is in the checkpoint and not in the state" for k in tree if k not in state]
        stored = {(group, name): (type_name, shape, file, offset) for group, name, type_name, shape, file, offset in found.tensors()}
        wanted: Dict[Tuple[str, str], Any] = {}
        rows, taken = [], set()
        for key in state:
            if key not in tree:
                continue
            live, modules = _live_tensors(state[key])
            named = _named_references(tree[key])
            there = {path for path, _, _, _ in named}
            for module in modules:  # the names of each are its structure
                inside = lambda path: path[:len(module)] == module and len(path) == len(module) + 1
                missing, extra = [p[-1] for p in live if inside(p) and p not in there], [p[-1] for p in there if inside(p) and p not in live]
                where = "/".join((key,) + module)
                problems += [f"'{where}': the checkpoint has no {_some(missing)}"] if missing else []
                problems += [f"'{where}': the model has no {_some(extra)}"] if extra else []
            for path, kind, group, name in named:
                if (group, name) not in stored:
                    raise _ingot.BadInput(f"{found.path}: its state.json names the tensor '{name}' of '{group}', which no file has")
                type_name, shape, file, offset = stored[group, name]
                target = live.get(path)
                if target is not None and tuple(target.shape) != tuple(shape) and path[:-1] in modules:
                    problems.append(f"'{key}': '{path[-1]}' has the shape {list(target.shape)}, in the checkpoint {list(shape)}")
                if (group, name) in wanted:
                    continue
                address = nest.in_place(target, type_name, shape)
                if address is not None and address not in taken:
                    taken.add(address)
                    wanted[group, name] = target.detach()
                else:
                    wanted[group, name], address = nest.empty(kind, type_name, shape)
                rows.append((type_name, list(shape), file, offset, address))
        if problems:
            text = f"restoring {found.path}: " + "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
            if strict:
                raise Mismatch(text + ". strict=False goes on without them")
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        found.restore(rows, self._options[1])
        both = [k for k in state if k in tree]
        for key in [k for k in both if not isinstance(state[k], Rng)] + [k for k in both if isinstance(state[k], Rng)]:
            value = nest.unpack(tree[key], lambda kind, group, name: wanted[group, name])
            state[key] = _merged(state[key], value, strict, key)
        wanted.clear()  # what was only read to be copied (onto a device) goes now, not when the collector comes by

    def _warn_once(self, state: Dict[str, Any]) -> None:
        if self._checked:
            return
        self._checked = True
        kinds = {type(v).__name__ for v in state.values()}
        has = {"optimizer": any(hasattr(v, "param_groups") for v in state.values()), "random number generators (ingot.rng())": "Rng" in kinds}
        missing = [name for name, there in has.items() if not there]
        if missing and any(callable(getattr(v, "named_parameters", None)) for v in state.values()):
            warnings.warn("the state has no " + " and no ".join(missing) + ": a resumed run will not go on as this one would have", RuntimeWarning, stacklevel=4)


def _live_tensors(value: Any) -> Tuple[Dict[Tuple[str, ...], Any], List[Tuple[str, ...]]]:
    """The tensors of a nest by their places in its tree, so that bytes can be read straight into them; and the places of its modules."""
    out: Dict[Tuple[str, ...], Any] = {}
    modules: List[Tuple[str, ...]] = []
    torch = nest.torch_if_loaded()

    def go(x: Any, path: Tuple[str, ...]) -> None:
        if isinstance(x, dict):
            for k, v in x.items():
                if type(k) is str:
                    go(v, path + (k,))
        elif isinstance(x, (list, tuple)):
            for i, v in enumerate(x):
                go(v, path + (("$tuple",) if isinstance(x, tuple) else ()) + (str(i),))
        elif torch is not None and isinstance(x, torch.Tensor):
            if path:
                out[path] = x
        else:
            module = nest.unwrapped(x)
            if callable(getattr(module, "named_parameters", None)) and nest.is_stateful(module):
                modules.append(path)
                out.update({path + (k,): v for k, v in module.state_dict().items() if hasattr(v, "data_ptr")})
    go(value, ())
    return out, modules


def _some(names: List[str]) -> str:
    return ", ".join(repr(n) for n in names[:4]) + (" and more" if len(names) > 4 else "")


def _named_references(tree: Any) -> List[Tuple[Tuple[str, ...], str, str, str]]:
    """(place in the tree, kind, group, name)."""
    out: List[Tuple[Tuple[str, ...], str, str, str]] = []

    def go(x: Any, path: Tuple[str, ...]) -> None:
        if isinstance(x, dict):
            if len(x) == 1:
                (kind, v), = x.items()
                if kind in ("$tensor", "$array"):
                    out.append((path, kind, v[0], v[1]))
                    return
            for k, v in x.items():
                go(v, path + (k,))
        elif isinstance(x, list):
            for i, v in enumerate(x):
                go(v, path + (str(i),))
    go(tree, ())
    return out


def _has_objects(x: Any) -> bool:
    """Whether something in it takes a state, rather than being one."""
    if isinstance(x, dict):
        return any(_has_objects(v) for v in x.values())
    if isinstance(x, (list, tuple)):
        return any(_has_objects(v) for v in x)
    return nest.is_stateful(x)


def _merged(target: Any, value: Any, strict: bool, where: str) -> Any:
    """What stands in the target's place when the value has been put into it: itself wherever it can take it."""
    inner = nest.unwrapped(target)
    torch = nest.torch_if_loaded()
    if nest.is_stateful(inner):
        if torch is not None and isinstance(inner, torch.nn.Module):
            inner.load_state_dict(value, strict=strict)
        else:
            inner.load_state_dict(value)
        return target
    if torch is not None and isinstance(target, torch.Tensor) and isinstance(value, torch.Tensor) and target.shape == value.shape:
        if target.data_ptr() != value.data_ptr() or target.stride() != value.stride():
            with torch.no_grad():
                target.copy_(value)
        return target
    if isinstance(target, dict) and isinstance(value, dict):
        # The same dict goes on, with what was saved; objects that were not saved stay.
        for k in [k for k in target if k not in value]:
            if not _has_objects(target[k]):
                del target[k]
            elif strict:
                raise Mismatch(f"'{where}/{k}' is in the state and not in the checkpoint. strict=False goes on without it")
        for k, v in value.items():
            target[k] = _merged(target[k], v, strict, f"{where}/{k}") if k in target else v
        return target
    if isinstance(target, (list, tuple)) and type(target) is type(value) and len(target) == len(value):
        each = [_merged(t, v, strict, f"{where}/{i}") for i, (t, v) in enumerate(zip(target, value))]
        if isinstance(target, tuple):
            return tuple(each)
        target[:] = each
        return target
    if _has_objects(target):
        raise Mismatch(f"'{where}' holds objects that take a state, and the checkpoint has something of another form there")
    return value


def _model_files(directory: Union[None, str, os.PathLike]) -> Dict[str, bytes]:
    if directory is None:
        return {}
    directory = expand(directory)
    files = {}
    for name in ("config.json", "preprocessor_config.json", "processor_config.json", "adapter_config.json", *_ingot.tokenizer_files()):
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
        if f.state == "whole":
            return f.path
    return None
