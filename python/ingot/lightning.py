"""Lightning (``lightning`` 2.x, or ``pytorch_lightning``): a CheckpointIO plugin, and a callback.

::

    from ingot.lightning import Checkpoint, CheckpointIO
    trainer = Trainer(plugins=[CheckpointIO()], callbacks=[ModelCheckpoint(dirpath=run, save_top_k=2, monitor="val_loss", save_last=True)])
    trainer.fit(model, ckpt_path="last")

    trainer = Trainer(callbacks=[Checkpoint(run, cadence=ingot.Cadence(steps=500), keep=ingot.Keep(last=3))])
    trainer.fit(model, ckpt_path=ingot.latest(run))

A path that Lightning names (``run/epoch=0-step=10.ckpt``, ``run/last.ckpt``) is a link to the checkpoint's directory (``run/checkpoint-10``), made when that is committed.
"""
from __future__ import annotations

import os
import re
import shutil
import sys
import warnings
import weakref
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

try:
    import lightning.pytorch as _pl
    from lightning.pytorch.callbacks import Checkpoint as _CheckpointBase
    from lightning.pytorch.plugins.io import CheckpointIO as _CheckpointIOBase, TorchCheckpointIO as _TorchCheckpointIO
except ImportError:
    import pytorch_lightning as _pl
    from pytorch_lightning.callbacks import Checkpoint as _CheckpointBase
    from pytorch_lightning.plugins.io import CheckpointIO as _CheckpointIOBase, TorchCheckpointIO as _TorchCheckpointIO

from . import _ingot, stored
from .after import After
from .arguments import expand
from .checkpointer import Cadence, Checkpointer, Handle, Keep
from .data import Loader
from .preempt import Preemption
from .rng import Rng

_NAME = re.compile(r"checkpoint-\d+")
_WEIGHTS = "weights-only"  # a folder: what cannot be resumed from must not be the newest of a run
_TAKEN = {"state_dict": "model", "optimizer_states": "optimizer", "lr_schedulers": "scheduler"}
_ADVICE = "CheckpointIO(kinds=[its class]) takes an Enum, a namedtuple, or a subclass of a plain kind; else keep plain values (save_hyperparameters(ignore=[...]), on_save_checkpoint)"


def _to_state(checkpoint: Dict[str, Any]) -> Dict[str, Any]:
    """Lightning's dict under the names that ingot's checkpoints have."""
    state = {name: checkpoint[key] for key, name in _TAKEN.items() if key in checkpoint}
    metadata = getattr(checkpoint.get("state_dict"), "_metadata", None)
    rest = {k: v for k, v in checkpoint.items() if k not in _TAKEN}
    state["lightning"] = {"keys": list(checkpoint), "rest": rest, "metadata": None if metadata is None else {k: dict(v) for k, v in metadata.items()}}
    return state


def _from_state(state: Dict[str, Any], path: str) -> Dict[str, Any]:
    if "lightning" not in state:
        raise _ingot.BadInput(f"{path}: it was not saved through Lightning (its state has {', '.join(map(repr, state))}); Checkpointer.restore takes it")
    mine = state["lightning"]
    checkpoint = {k: state[_TAKEN[k]] if k in _TAKEN else mine["rest"][k] for k in mine["keys"]}
    if mine["metadata"] is not None:
        checkpoint["state_dict"]._metadata = type(checkpoint["state_dict"])(mine["metadata"])
    return checkpoint


def load(path: Union[str, os.PathLike], kinds: Iterable[type] = ()) -> Dict[str, Any]:
    """Lightning's dict of one checkpoint, verified: for ``model.load_state_dict(load(path)["state_dict"])``, as ``load_from_checkpoint`` reads files of torch.save only."""
    found = _ingot.look_at(os.path.realpath(expand(path)))
    if found.state != "whole":
        raise _ingot.BadInput(f"loading {path}: it is no whole checkpoint ({found.state}): {found.reason}")
    return _from_state(stored.read(found, 0, kinds), found.path)


def _scores(checkpoint: Dict[str, Any], path: str) -> Dict[str, float]:
    """What a ModelCheckpoint has written down of this very path."""
    out = {}
    for state in (checkpoint.get("callbacks") or {}).values():
        if isinstance(state, dict) and isinstance(state.get("best_k_models"), dict) and isinstance(state.get("monitor"), str):
            score = state["best_k_models"].get(path)
            if score is not None:
                out[state["monitor"]] = float(score)
    return out


class CheckpointIO(_CheckpointIOBase):
    """``Trainer(plugins=[CheckpointIO()])``: whatever saves through the Trainer (ModelCheckpoint, ``trainer.save_checkpoint``) goes through ingot.

    ``directory``: where the checkpoints are; None: in the folder of each path. ``keep``: retention by ingot beside ModelCheckpoint's own; None: what ModelCheckpoint removes goes, nothing
    else. ``kinds``: classes of the program's own that may stand in the checkpoint (hyperparameters) and come back as what they were. Others: ``ingot.Checkpointer``'s (compress, threads, ...).
    A save returns when the state has been copied. What cannot be kept is a StateError that names its place, before anything is written; what went wrong in writing is raised by the
    next save, by ``load_checkpoint`` and by ``teardown``, which waits.
    """

    def __init__(self, directory: Union[None, str, os.PathLike] = None, *, keep: Optional[Keep] = None, kinds: Iterable[type] = (), **options: Any):
        super().__init__()
        if "signals" in options:
            raise TypeError("CheckpointIO: signals is Lightning's matter, and ingot.lightning.Checkpoint's")
        self.directory = None if directory is None else os.path.abspath(expand(directory))
        self.keep, self.kinds, self._options = keep, tuple(kinds), options
        self._cks: Dict[str, Checkpointer] = {}
        self._after = After()
        self._links: Dict[str, str] = {}    # what a path is to point to, while that is being written
        self._removals: List[str] = []
        self._resumed: Optional[str] = None  # the checkpoint that this process goes on from
        self.last: Optional[Handle] = None

    # -- saving

    def _place(self, path: Any, whole: bool) -> Tuple[str, str]:
        """The directory of checkpoints, and the path as it is to be."""
        path = os.fspath(path)
        if re.match(r"[a-z][a-z0-9+.-]*://", path):
            raise ValueError(f"saving {path}: ingot writes to paths; mount the bucket, and give its mount")
        path = os.path.abspath(path)
        directory = self.directory or os.path.dirname(path)
        return directory if whole else os.path.join(directory, _WEIGHTS), path

    def _checkpointer(self, directory: str) -> Checkpointer:
        if directory not in self._cks:
            self._cks[directory] = Checkpointer(directory, keep=self.keep, signals=False, **self._options)
        return self._cks[directory]

    def save_checkpoint(self, checkpoint: Dict[str, Any], path: Any, storage_options: Optional[Any] = None) -> None:
        """Copies the state and returns. ``storage_options``: {"metrics": {name: number}} goes into the checkpoint's metrics."""
        if storage_options is not None and (not isinstance(storage_options, dict) or set(storage_options) - {"metrics"}):
            raise TypeError(f"CheckpointIO.save_checkpoint: storage_options is {storage_options!r}, expected None or {{'metrics': {{name: number}}}}")
        self._after.raise_errors()
        directory, path = self._place(path, "optimizer_states" in checkpoint)
        step = checkpoint.get("global_step")
        if not isinstance(step, int):
            raise ValueError(f"saving {path}: its 'global_step' is {step!r}, expected the number of optimizer steps")
        if os.path.lexists(path) and not os.path.islink(path) and not (os.path.isdir(path) and _NAME.fullmatch(os.path.basename(path))):
            raise _ingot.Error(f"saving {path}: something is there that is no link to a checkpoint of ingot (a file of torch.save?), and it is not replaced; move it away, or give another dirpath")
        stored.refuse_inexact(checkpoint, self.kinds, (), _ADVICE)
        ck = self._checkpointer(directory)
        if ck._last is not None and ck._last.step == step:
            # The same step once more, with other callbacks, loops or metrics in it (save_last after save_top_k; the epoch's end): the later one counts, under both names.
            before = ck._last
            before.given_up = True  # type: ignore[attr-defined]
            before.abort()
            try:
                before.wait()
                ck._go_back()
            except _ingot.Error:
                pass  # given up in time: nothing of it is there
            ck._last = None
        metrics = {**_scores(checkpoint, path), **((storage_options or {}).get("metrics") or {})}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the state has no ")
            handle = ck.save(step, _to_state(checkpoint), {k: v for k, v in metrics.items() if v == v})
        if handle is None:
            return  # overlap="skip"
        self.last = handle
        target = os.path.join(directory, f"checkpoint-{step}")
        if path != target:
            self._links[path] = target
        again = [p for p, t in self._links.items() if t == target]
        self._after.add(handle, lambda: self._name(again, target))

    def _name(self, paths: List[str], target: str) -> None:
        for path in paths:
            self._link(path, target)
        self._sweep()

    def _link(self, path: str, target: str) -> None:
        if self._links.get(path) != target:
            return  # a later save has taken the name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        aside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.ingot-link")
        if os.path.lexists(aside):
            os.remove(aside)
        os.symlink(os.path.relpath(target, os.path.dirname(path)), aside)
        os.replace(aside, path)

    # -- removal

    def remove_checkpoint(self, path: Any) -> None:
        """Takes the name away, and the checkpoint if no other name has it; when what was saved before this call is committed. What the run resumed from, and the newest whole one, stay."""
        path = os.path.abspath(os.fspath(path))
        self._links.pop(path, None)
        self._removals.append(path)
        self._after.add(self.last, self._sweep)

    def _sweep(self) -> None:
        """Also after the next save, where the one that it was to follow has been given up for it."""
        while self._removals:
            self._remove(self._removals.pop(0))

    def _remove(self, path: str) -> None:
        if path in self._links:
            return  # the name has been given again
        if os.path.islink(path):
            target = os.path.realpath(path)
            os.remove(path)
        elif os.path.isdir(path):
            target = os.path.realpath(path)
        else:
            if os.path.isfile(path):
                os.remove(path)  # of a run that began without ingot
            return
        if not _NAME.fullmatch(os.path.basename(target)) or not os.path.isdir(target) or self._needed(target):
            return
        aside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.ingot-lightning.gone")
        os.rename(target, aside)  # gone in one step; what a kill leaves of it the next saver removes
        shutil.rmtree(aside, ignore_errors=True)

    def _needed(self, target: str) -> bool:
        directory = os.path.dirname(target)
        if target == self._resumed or target in self._links.values() or os.path.exists(os.path.join(target, "pinned")):
            return True
        newest = next((f.path for f in _ingot.scan(directory) if f.state == "whole"), None)
        if newest is None or os.path.realpath(newest) == target:
            return True
        for folder in {directory, os.path.dirname(directory), *(os.path.dirname(p) for p in self._links)}:
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                p = os.path.join(folder, name)
                if os.path.islink(p) and os.path.realpath(p) == target:
                    return True
        return False

    # -- loading

    def load_checkpoint(self, path: Any, map_location: Optional[Any] = None, weights_only: Optional[bool] = None) -> Dict[str, Any]:
        """A checkpoint by its path or its link; of a directory of checkpoints, its ``latest`` or a name that begins with ``last``: the newest whole one there, damaged ones put aside. A file
        is torch.load's, of plain kinds alone unless weights_only=False was asked for."""
        self._after.wait()
        path = os.path.abspath(expand(path))
        if os.path.isfile(path) and os.path.basename(path) != "latest":
            return _TorchCheckpointIO().load_checkpoint(path, map_location, weights_only=True if weights_only is None else weights_only)
        real = os.path.realpath(path)
        named = _NAME.fullmatch(os.path.basename(real)) is not None
        threads = self._options.get("threads", 0)
        if not named or os.path.basename(path).startswith("last"):
            directory = os.path.dirname(real) if named or os.path.basename(path).startswith("last") else real
            taken = stored.newest(directory, threads, self.kinds)
            if taken is None:
                raise FileNotFoundError(f"loading {path}: there is no whole checkpoint in {directory}")
            found, state = taken
        else:
            found = _ingot.look_at(real)
            if found.state != "whole":
                raise _ingot.BadInput(f"loading {path}: {real} is no whole checkpoint ({found.state}): {found.reason}")
            state = stored.read(found, threads, self.kinds)
        checkpoint = _from_state(state, found.path)
        self._resumed = os.path.realpath(found.path)
        ck = self._checkpointer(os.path.dirname(self._resumed))
        ck._go_back()
        ck._lease_seen = _ingot.lease_epoch(ck.directory)
        ck._resumes, ck._parent, ck.resumed_from = True, found.step, found.path
        if found.run and not ck._run:
            ck._run = found.run
        print(f"ingot: resumed at step {found.step} from {found.path}", file=sys.stderr)
        if isinstance(map_location, (str, int)) or type(map_location).__name__ == "device":
            checkpoint = _moved(checkpoint, map_location)
        return checkpoint

    def wait(self) -> None:
        """Until what was saved is committed, and its names point to it."""
        for ck in self._cks.values():
            ck.wait()
        self._after.wait()

    def teardown(self) -> None:
        """Waits; what went wrong is raised."""
        try:
            self._after.close()
        finally:
            cks, self._cks = list(self._cks.values()), {}
            for ck in cks:
                ck.close()


def _moved(x: Any, device: Any) -> Any:
    import torch
    if isinstance(x, torch.Tensor):
        return x.to(device)
    if isinstance(x, dict):
        for k in x:
            x[k] = _moved(x[k], device)
    elif type(x) in (list, tuple):
        return type(x)(_moved(v, device) for v in x)
    return x


class Checkpoint(_CheckpointBase):
    """``Trainer(callbacks=[Checkpoint(directory, cadence=..., keep=...)])``: saves by ingot's cadence and retention, at the end, and on a preemption signal.

    It brings what Lightning itself does not restore: the generators (Python, NumPy, torch), and with ``ingot.loader(DataLoader(...))`` as the train_dataloader the place in the
    data. On SIGTERM or SIGUSR1 it saves after the step that is under way, waits for that, and exits with 75. Where the Trainer has no ingot.lightning.CheckpointIO, it puts one in (with
    ``kinds`` and the other options). Metrics that are logged go into the checkpoints, for ``Keep(best=..., metric=...)``. Beside a ModelCheckpoint, ``cadence=None`` and
    ``directory=None``: it then saves on a preemption alone, where the ModelCheckpoint saves, and puts the generators into its checkpoints.
    """

    def __init__(self, directory: Union[None, str, os.PathLike] = None, *, cadence: Optional[Cadence] = None, keep: Optional[Keep] = None, kinds: Iterable[type] = (),
                 deadline: Optional[float] = None, at_end: bool = True, **options: Any):
        super().__init__()
        if directory is None and cadence is not None:
            raise ValueError("Checkpoint: cadence= needs a directory to save into")
        if not isinstance(cadence, (Cadence, type(None))):
            raise TypeError(f"Checkpoint: cadence is {cadence!r}, expected an ingot.Cadence, as in Cadence(steps=500)")
        self.directory = None if directory is None else os.path.abspath(expand(directory))
        self.cadence, self.at_end, self.deadline = cadence or Cadence(), at_end, deadline
        self._make = lambda: CheckpointIO(self.directory, keep=keep, kinds=kinds, **options)
        self._preemption: Optional[Preemption] = None
        self._rng: Optional[Dict[str, Any]] = None
        self._saved = -1
        self._time = 0.0

    def _io(self, trainer: Any) -> CheckpointIO:
        io = trainer.strategy.checkpoint_io
        if not isinstance(io, CheckpointIO):
            raise TypeError(f"ingot.lightning.Checkpoint: the Trainer's CheckpointIO is a {type(io).__name__}; leave it out, or give plugins=[ingot.lightning.CheckpointIO(...)]")
        return io

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if trainer.world_size > 1:
            raise _ingot.Error(f"ingot.lightning.Checkpoint: {trainer.world_size} processes; for now it saves those of one process (devices=1)")
        if type(trainer.strategy.checkpoint_io) is _TorchCheckpointIO:
            trainer.strategy.checkpoint_io = self._make()
        self._io(trainer)

    def state_dict(self) -> Dict[str, Any]:
        return {"rng": Rng().state_dict()}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._rng = state_dict.get("rng")

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Dict[str, Any]) -> None:
        # Lightning asks a loader of known length for no batch beyond the last, so that its epoch has not ended yet when that has been trained on: it has for whoever resumes.
        fit = checkpoint["loops"]["fit_loop"]["state_dict"]
        loaders = [x for x in getattr(trainer.fit_loop._combined_loader, "flattened", []) if hasattr(x, "state_dict")]
        for loader, state in zip(loaders, fit.get("combined_loader", [])):
            if isinstance(loader, Loader) and state["start"] is not None and state["position"] >= len(loader):
                state.update(start=None, position=0, epoch=state["epoch"] + 1)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        import time
        self._time, self._saved = time.monotonic(), trainer.global_step
        if self._preemption is None:
            self._preemption = Preemption(self.deadline)  # after Lightning's own handlers, which it hands signals on to
        if self._rng is not None:
            Rng().load_state_dict(self._rng)
            self._rng = None

    def _save(self, trainer: Any) -> None:
        import time
        step = trainer.global_step
        if self.directory is not None:
            path = os.path.join(self.directory, f"checkpoint-{step}")
        else:
            others = [c for c in trainer.checkpoint_callbacks if c is not self and getattr(c, "dirpath", None)]
            io = self._io(trainer)
            path = os.path.join(io.directory or (str(others[0].dirpath) if others else os.path.join(trainer.default_root_dir, "checkpoints")), f"checkpoint-{step}")
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if getattr(v, "numel", lambda: 1)() == 1}
        trainer.save_checkpoint(path, False, {"metrics": metrics})
        self._saved, self._time = step, time.monotonic()

    @property
    def preempted(self) -> bool:
        return self._preemption is not None and self._preemption.seen

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        import time
        if trainer.global_step == self._saved:
            return  # gradients are being accumulated
        if self.preempted or trainer.received_sigterm:
            self._save(trainer)
            self._io(trainer).wait()
            raise SystemExit(Checkpointer.exit_code)
        c = self.cadence
        if (c.steps is not None and trainer.global_step % c.steps == 0) or (c.minutes is not None and time.monotonic() - self._time >= 60 * c.minutes):
            self._save(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.at_end and self.directory is not None and trainer.global_step != self._saved:
            self._save(trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if self._preemption is not None:
            self._preemption.close()
            self._preemption = None
