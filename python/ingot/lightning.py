"""Lightning (``lightning`` 2.x, or ``pytorch_lightning``): a CheckpointIO plugin that saves behind the training's back, and a callback for preemption and an exact resume.

::

    from ingot.lightning import Checkpoint, CheckpointIO
    trainer = Trainer(plugins=[CheckpointIO()], callbacks=[ModelCheckpoint(dirpath=run, save_top_k=2, monitor="val_loss", save_last=True), Checkpoint()])
    trainer.fit(model, ckpt_path="last")

    trainer = Trainer(callbacks=[Checkpoint(run, cadence=ingot.Cadence(steps=500), keep=ingot.Keep(last=3))])   # without a ModelCheckpoint
    trainer.fit(model, ckpt_path=ingot.latest(run))

Lightning's file is kept as Lightning makes it, as ``run/checkpoint-<global_step>/lightning.ckpt``. A path that Lightning names, ``run/epoch=0-step=10.ckpt`` or ``run/last.ckpt``, is a link to it, made
when that is committed: a plain Trainer, ``load_from_checkpoint`` and ``torch.load`` take it as it is.
"""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from typing import Any, Dict, List, Optional, Tuple, Union

try:
    import lightning.pytorch as _pl  # noqa: F401
    from lightning.pytorch.callbacks import Checkpoint as _CheckpointBase, ModelCheckpoint
    from lightning.pytorch.plugins.io import CheckpointIO as _CheckpointIOBase, TorchCheckpointIO
except ImportError:
    from pytorch_lightning.callbacks import Checkpoint as _CheckpointBase, ModelCheckpoint
    from pytorch_lightning.plugins.io import CheckpointIO as _CheckpointIOBase, TorchCheckpointIO

from . import _ingot, layouts, names, torchzip
from .after import After
from .arguments import expand, metrics_of
from .checkpointer import Cadence, Checkpointer, Handle, Keep
from .data import Loader
from .nest import Packed, torch_if_loaded
from .rng import Rng, plain

__all__ = ["Checkpoint", "CheckpointIO"]

_FILE = "lightning.ckpt"
_WEIGHTS = "weights-only"  # a folder: what cannot be resumed from must not be the newest of a run
_LEFT_OUT = (("signals", "ingot.lightning.Checkpoint hears them"), ("compress", "a plain Trainer reads these files"), ("model_files", "Lightning's file is saved"), ("keep", "ModelCheckpoint says what stays, or ingot.lightning.Checkpoint(directory, keep=...)"),
             ("cadence", "ModelCheckpoint says when to save, or ingot.lightning.Checkpoint(directory, cadence=...)"), ("ranks", "Lightning's rank 0 saves"))


class CheckpointIO(_CheckpointIOBase):
    """``Trainer(plugins=[CheckpointIO()])``: whatever saves through the Trainer (ModelCheckpoint, ``trainer.save_checkpoint``) goes through ingot.

    A save returns when the state has been copied; what went wrong in writing is raised by the next one, by ``load_checkpoint``, and at the end of ``fit``, which waits. What ModelCheckpoint removes goes when what
    it saved before is committed; the newest whole checkpoint and the one that was resumed from stay. Options are those of ``ingot.Checkpointer``: threads, overlap, staging_bytes, run, settle.
    """

    def __init__(self, **options: Any):
        super().__init__()
        for name, why in _LEFT_OUT:
            if name in options:
                raise ValueError(f"ingot.lightning.CheckpointIO: {name} is no option here: {why}")
        self._options = options
        self._keeps: Dict[str, Keep] = {}        # of directories that a Checkpoint saves into
        self._cks: Dict[str, Checkpointer] = {}
        self._after = After()
        self._names: Dict[str, str] = {}         # what a path is to stand for, while that is being written
        self._metrics: Dict[str, Dict[str, float]] = {}  # of the newest, which may be saved once more
        self._removed: List[str] = []
        self._resumed: Optional[str] = None
        self._last: Optional[Handle] = None
        Checkpointer(tempfile.gettempdir(), ranks=False, signals=False, **options).close()  # what is wrong with the options is told here

    def _of(self, directory: str) -> Checkpointer:
        if directory not in self._cks:
            self._cks[directory] = Checkpointer(directory, keep=self._keeps.get(directory), signals=False, ranks=False, **self._options)
        return self._cks[directory]

    # -- saving

    def save_checkpoint(self, checkpoint: Dict[str, Any], path: Any, storage_options: Optional[Any] = None) -> None:
        """Copies the state and returns. ``storage_options``: {"metrics": {name: number}} goes into the checkpoint's metrics."""
        if storage_options is not None and (not isinstance(storage_options, dict) or set(storage_options) - {"metrics"}):
            raise TypeError(f"CheckpointIO.save_checkpoint: storage_options is {storage_options!r}, expected None or {{'metrics': {{name: number}}}}")
        self._after.raise_errors()
        step = checkpoint.get("global_step")
        if not isinstance(step, int):
            raise ValueError(f"saving {path}: its 'global_step' is {step!r}, expected the number of optimizer steps")
        path = _local(path)
        directory = os.path.dirname(path) if "optimizer_states" in checkpoint else os.path.join(os.path.dirname(path), _WEIGHTS)
        target, name = os.path.join(directory, f"checkpoint-{step}"), os.path.basename(path)
        if path == target:
            name = ""
        elif directory in self._keeps:
            raise ValueError(f"saving {path}: ingot.lightning.Checkpoint(keep=...) removes what it does not keep in {directory}, whoever saved it; give the ModelCheckpoint another dirpath")
        elif os.path.isdir(path) and not os.path.islink(path):
            raise _ingot.Error(f"saving {path}: a directory is there, which is not replaced; move it away, or give another path")
        ck = self._of(directory)
        if ck._last is not None and ck._last.step == step:
            # The same step once more, with other callbacks, loops or metrics in it (save_last after save_top_k; the epoch's end): the later one counts, under both names.
            self._after.give_up(ck._last)
            try:
                ck._go_back()
            except _ingot.Error:
                pass  # given up in time: nothing of it is there
        metrics = {**self._metrics.get(target, {}), **_scores(checkpoint, path), **metrics_of("CheckpointIO.save_checkpoint", (storage_options or {}).get("metrics"))}

        def packed() -> Packed:
            layouts.make_way(directory, step)
            text = json.dumps({"ingot": "state", "version": 1, "framework": "lightning", "state": _described(checkpoint, name)}, ensure_ascii=False)
            return Packed(text, [], {_FILE: torchzip.dumps(checkpoint, "lightning", self._options.get("threads", 0))})
        metrics = {k: v for k, v in metrics.items() if v == v}
        handle = ck._save(step, packed, metrics)
        if handle is None:
            return  # overlap="skip"
        self._last, self._metrics = handle, {target: metrics}
        if name:
            self._names[path] = target
            self._removed = [p for p in self._removed if p != path]
        here = [p for p, t in self._names.items() if t == target]
        self._after.add(handle, lambda: self._named(here, directory, target))

    def _named(self, paths: List[str], directory: str, target: str) -> None:
        for path in paths:
            if self._names.get(path) == target:  # else a later save has taken the name
                names.point(path, os.path.join(target, _FILE))
                if self._names.get(path) == target:
                    del self._names[path]
        self._sweep(directory)

    # -- removal

    def remove_checkpoint(self, path: Any) -> None:
        """Takes the name away when what was saved before this call is committed, and the checkpoint if no other name has it."""
        path = _local(path)
        self._names.pop(path, None)
        self._removed.append(path)
        self._after.add(self._last, lambda: self._sweep(os.path.dirname(path)))

    def _sweep(self, directory: str) -> None:
        """Also after the next save, where the one that a removal was to follow has been given up for it."""
        while self._removed:
            path = self._removed.pop(0)
            if path in self._names:
                continue  # the name has been given again
            if os.path.isdir(path) and not os.path.islink(path):
                _remove(path)
            elif os.path.lexists(path):
                os.remove(path)
            self._unnamed(os.path.dirname(path))
        self._unnamed(directory)

    def _unnamed(self, directory: str) -> None:
        """Removes what was saved under a name, and has none any more."""
        parent = os.path.dirname(directory) if os.path.basename(directory) == _WEIGHTS else directory
        for place in {directory, parent, os.path.join(parent, _WEIGHTS)}:
            there = [f for f in _ingot.scan(place) if f.state == "whole"] if os.path.isdir(place) else []
            if len(there) < 2:
                continue
            # On a mount that uploads later, what is newer must have arrived. Without a bucket it has.
            settle = 0.0 if self._last is None or self._last.uploaded else self._options.get("settle") or 300.0
            settled = next((i for i, f in enumerate(there) if time.time() - os.stat(os.path.join(f.path, "manifest.json")).st_mtime >= settle), len(there))
            named = {os.path.dirname(t) for t in (names.target_of(os.path.join(parent, n)) for n in os.listdir(parent)) if t} | {os.path.realpath(t) for t in list(self._names.values())}
            for f in there[settled + 1:]:
                real = os.path.realpath(f.path)
                if real not in named and real != self._resumed and not os.path.exists(os.path.join(real, "pinned")) and _name_of(f):
                    _remove(real)

    # -- loading

    def load_checkpoint(self, path: Any, map_location: Optional[Any] = None, weights_only: Optional[bool] = None) -> Dict[str, Any]:
        """A checkpoint by its directory or a name, verified. Of a directory of checkpoints, its ``latest``, or a name that begins with ``last``: the newest whole one there; damaged ones are put aside with
        the reason. A file of a plain Trainer is read to its end before it is taken."""
        self._after.wait()
        path = _local(path)
        last = os.path.basename(path).startswith("last") or os.path.basename(path) == "latest"
        target = names.target_of(path)
        if target is None and os.path.isfile(path) and os.path.basename(path) != "latest":
            try:
                layouts.check_archive(path)
            except _ingot.BadInput as e:
                if not last:
                    raise _ingot.BadInput(f"loading {path}: {e}. Another one may be whole: ckpt_path={os.path.dirname(path)!r} takes the newest that is") from None
                warnings.warn(f"{path} is passed over: {e}", RuntimeWarning, stacklevel=2)
                return self._load(*self._newest(os.path.dirname(path), path, path), map_location, weights_only)
            return self._load(None, path, map_location, weights_only)
        at = os.path.dirname(target) if target is not None else os.path.realpath(path)
        if last or not re.fullmatch(r"checkpoint-\d+", os.path.basename(at)):
            directory = os.path.dirname(at) if target is not None else os.path.dirname(path) if last else path
            return self._load(*self._newest(directory, path), map_location, weights_only)
        if not os.path.isdir(at):
            raise FileNotFoundError(f"loading {path}: {at} is not there; 'ingot checkpoint ls {os.path.dirname(at)}' shows what is")
        found = self._chooser().named(at)
        return self._load(found, os.path.join(found.path, _FILE), map_location, weights_only)

    def _chooser(self) -> layouts.Chooser:
        return layouts.Chooser(_check, _check_plain, self._options.get("threads", 0))

    def _newest(self, directory: str, path: str, torn: str = "") -> Tuple[Any, str]:
        """The newest whole checkpoint of a directory and its file; a plain Trainer's where that is the newer one."""
        error = None
        try:
            found = self._chooser().newest(directory) if os.path.isdir(directory) else None
        except _ingot.BadInput as e:
            found, error = None, e
        plain = [os.path.join(directory, n) for n in (os.listdir(directory) if os.path.isdir(directory) else ()) if n.endswith(".ckpt")]
        plain = sorted((p for p in plain if os.path.isfile(p) and p != torn and names.target_of(p) is None), key=os.path.getmtime, reverse=True)
        for p in plain:
            if found is not None and os.path.getmtime(p) <= os.path.getmtime(os.path.join(found.path, "manifest.json")):
                break
            try:
                layouts.check_archive(p)
                return None, p
            except _ingot.BadInput as e:
                warnings.warn(f"{p} is passed over: {e}", RuntimeWarning, stacklevel=3)
        if found is None:
            raise error or FileNotFoundError(f"loading {path}: there is no whole checkpoint in {directory}. For a fresh start where there is none: ckpt_path=ingot.latest({directory!r})")
        return found, os.path.join(found.path, _FILE)

    def _load(self, found: Any, file: str, map_location: Any, weights_only: Optional[bool]) -> Dict[str, Any]:
        options = {} if map_location is None else {"map_location": map_location}
        checkpoint = TorchCheckpointIO().load_checkpoint(file, weights_only=weights_only, **options)
        if found is not None:
            self._resumed = os.path.realpath(found.path)
            ck = self._of(os.path.dirname(self._resumed))
            ck._go_back()
            ck._see_lease()
            layouts.told_resumed(ck, found)
        else:
            print(f"ingot: loaded {file}, of a plain Trainer", file=sys.stderr)
        return checkpoint

    def wait(self) -> None:
        """Until what was saved is committed, and its names point to it."""
        self._after.wait()
        for ck in self._cks.values():
            ck.wait()

    def teardown(self) -> None:
        """Waits; what went wrong is raised."""
        try:
            self._after.close()
        finally:
            self._last = None
            for ck in self._cks.values():
                ck._go_back()  # a Trainer may fit again


def _local(path: Any) -> str:
    path = expand(path)
    if re.match(r"[a-z][a-z0-9+.-]*://", path):
        raise ValueError(f"{path}: ingot's Lightning plugin writes to paths and reads from them; mount the bucket, and give its mount")
    return os.path.abspath(path)


def _scores(checkpoint: Dict[str, Any], path: str) -> Dict[str, float]:
    """What a ModelCheckpoint has written down of this very path."""
    out = {}
    for state in (checkpoint.get("callbacks") or {}).values():
        if isinstance(state, dict) and isinstance(state.get("best_k_models"), dict) and isinstance(state.get("monitor"), str):
            score = state["best_k_models"].get(path)
            if score is not None:
                out[state["monitor"]] = float(score)
    return out


def _described(checkpoint: Dict[str, Any], name: str) -> Dict[str, Any]:
    """What the file holds, as whoever lists the checkpoint tells it: by the members that such objects have."""
    has_rng = any("rng" in s for s in (checkpoint.get("callbacks") or {}).values() if isinstance(s, dict))
    what = {"model": ("state_dict" in checkpoint, {}), "optimizer": (bool(checkpoint.get("optimizer_states")), {"param_groups": None}),
            "scheduler": (bool(checkpoint.get("lr_schedulers")), {"last_epoch": None}), "rng": (has_rng, {"torch": None})}
    out: Dict[str, Any] = {key: {"file": _FILE, **members} for key, (there, members) in what.items() if there}
    return {**out, "lightning": {"file": _FILE, "name": name, "epoch": checkpoint.get("epoch"), "position": checkpoint.get("global_step")}}


def _name_of(found: Any) -> str:
    """The name that it was saved under; "" where it had none of its own, and retention says whether it stays."""
    try:
        return str(json.loads(found.read_object("state.json"))["state"]["lightning"]["name"])
    except (_ingot.Error, ValueError, KeyError, TypeError):
        return ""


def _remove(path: str) -> None:
    aside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.ingot-lightning.gone")
    try:
        os.rename(path, aside)  # gone in one step; what a kill leaves of it the next saver removes
    except OSError:  # a mounted bucket
        aside = path
        if os.path.exists(os.path.join(path, "manifest.json")):
            os.remove(os.path.join(path, "manifest.json"))
    shutil.rmtree(aside, ignore_errors=True)


def _check(path: str) -> None:
    if not os.path.isfile(os.path.join(path, _FILE)):
        raise _ingot.BadInput(f"{path} has no {_FILE}: it was not saved through Lightning; Checkpointer.restore may take it")


def _check_plain(path: str) -> None:
    raise _ingot.BadInput(f"{path} has no manifest.json and was not saved by ingot")


# -- the callback

class Checkpoint(_CheckpointBase):
    """``Trainer(callbacks=[Checkpoint()])``: what Lightning itself does not bring back, and a preempted run that ends well.

    The generators (Python's, NumPy's, torch's, of each rank) are in every checkpoint of the Trainer, and with ``ingot.loader(DataLoader(...))`` as the train_dataloader the place in the data. On SIGTERM or
    SIGUSR1 it saves after the step that is under way (where the ModelCheckpoint saves, as ``last.ckpt``), waits for that, and exits with 75. ``deadline``: seconds after the signal by which the process must be gone.

    With a directory it saves by itself, as ``directory/checkpoint-<global_step>``: by ``cadence``, and at the end (``at_end``); ``keep``: retention there. Metrics that are logged go into these checkpoints,
    for ``Keep(best=..., metric=...)``. Where the Trainer has no ``ingot.lightning.CheckpointIO`` it puts one in, with the other options.
    """

    def __init__(self, directory: Union[None, str, os.PathLike] = None, *, cadence: Optional[Cadence] = None, keep: Optional[Keep] = None, deadline: Optional[float] = None, at_end: bool = True, **options: Any):
        super().__init__()
        if directory is None and (cadence is not None or keep is not None):
            raise ValueError("ingot.lightning.Checkpoint: cadence= and keep= need a directory to save into; without one a ModelCheckpoint saves")
        self.directory = None if directory is None else _local(directory)
        self.at_end = at_end
        self._cadence, self._keep, self._deadline, self._options = cadence, keep, deadline, options
        self._made = CheckpointIO(**options)
        self._watch: Optional[Checkpointer] = None  # signals and cadence, agreed over the ranks; it saves nothing
        self._rng: Any = None
        self._saved = -1
        Checkpointer(tempfile.gettempdir(), cadence, keep, deadline=deadline, signals=False, ranks=False).close()  # what is wrong with these is told here

    def _io(self, trainer: Any) -> CheckpointIO:
        io = trainer.strategy.checkpoint_io
        io = getattr(io, "checkpoint_io", io) if not isinstance(io, CheckpointIO) else io  # a wrapper's (AsyncCheckpointIO)
        if not isinstance(io, CheckpointIO):
            raise TypeError(f"ingot.lightning.Checkpoint: the Trainer's CheckpointIO is a {type(io).__name__}; leave it out, or give plugins=[ingot.lightning.CheckpointIO()]")
        return io

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = self._made
        io = self._io(trainer)
        if io is not self._made and self._options:
            raise ValueError(f"ingot.lightning.Checkpoint: {', '.join(self._options)}: the Trainer has a CheckpointIO already; give them to that")
        if self.directory is not None and self._keep is not None:
            io._keeps[self.directory] = self._keep

    # -- what every checkpoint of the Trainer has

    def state_dict(self) -> Dict[str, Any]:
        mine = plain(Rng().state_dict())
        torch = torch_if_loaded()
        if not (torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
            return {"rng": [mine]}
        all_: List[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(all_, mine)
        return {"rng": all_}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._rng = state_dict.get("rng")

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Dict[str, Any]) -> None:
        # Lightning asks a loader of known length for no batch beyond the last, so that its epoch has not ended yet when that has been trained on: it has for whoever resumes.
        loop = checkpoint["loops"]["fit_loop"]["state_dict"]
        loaders = [x for x in getattr(trainer.fit_loop._combined_loader, "flattened", []) if hasattr(x, "state_dict")]
        for loader, state in zip(loaders, loop.get("combined_loader", [])):
            if isinstance(loader, Loader) and state["start"] is not None and state["position"] >= len(loader):
                state.update(start=None, position=0, epoch=state["epoch"] + 1)

    # -- a training

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._saved = trainer.global_step
        if self._watch is None:
            self._listen()
            self._watch = Checkpointer(self.directory or trainer.default_root_dir, self._cadence, deadline=self._deadline)
            if self._watch._preemption is not None:
                self._watch._preemption._told = True  # of a second fit the engine's handler may lie beneath that of above, which hears it
        if self._rng is not None:
            if trainer.global_rank < len(self._rng):
                Rng().load_state_dict(self._rng[trainer.global_rank])
            self._rng = None

    def _listen(self) -> None:
        """In the place of Lightning's handler of SIGTERM, which broadcasts in whatever collective the signal finds the rank in: of a signal to one rank alone the run dies. Others are handed on to, Slurm's requeueing too."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGUSR1):
            before = signal.getsignal(number)
            others = [h for h in getattr(before, "signal_handlers", [before]) if callable(h) and getattr(h, "__name__", "") not in ("_sigterm_notifier_fn", "_sigterm_handler_fn", "default_int_handler")]

            def hear(number_: int, frame: Any, others: List[Any] = others) -> None:
                if self._watch is not None and self._watch._preemption is not None:
                    self._watch._preemption.heard = True
                for h in others:
                    h(number_, frame)
            signal.signal(number, hear)

    def _save(self, trainer: Any) -> None:
        model_checkpoint = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath), None)
        if self.directory is not None:
            path = os.path.join(self.directory, f"checkpoint-{trainer.global_step}")
        elif model_checkpoint is not None:
            # Where ckpt_path="last" looks.
            path = os.path.join(str(model_checkpoint.dirpath), model_checkpoint.CHECKPOINT_NAME_LAST + model_checkpoint.FILE_EXTENSION)
            model_checkpoint.last_model_path = path
        else:
            path = os.path.join(trainer.default_root_dir, "checkpoints", f"checkpoint-{trainer.global_step}")
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if getattr(v, "numel", lambda: 1)() == 1}
        trainer.save_checkpoint(path, False, {"metrics": metrics} if trainer.strategy.checkpoint_io is self._io(trainer) else None)
        self._saved = trainer.global_step
        assert self._watch is not None
        self._watch._last_due = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        watch = self._watch
        if watch is None or trainer.global_step == self._saved:
            return  # gradients are being accumulated
        if watch.preempted:
            self._save(trainer)
            self._io(trainer).wait()
            trainer.strategy.barrier("ingot: preempted")
            if trainer.is_global_zero:
                print(f"ingot: preempted: step {trainer.global_step} is saved; exit code {Checkpointer.exit_code}", file=sys.stderr)
            raise SystemExit(Checkpointer.exit_code)
        if watch.due(trainer.global_step) and self.directory is not None:
            self._save(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.at_end and self.directory is not None and trainer.global_step != self._saved:
            self._save(trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._stop_listening()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._stop_listening()  # Lightning tears no callback down then, and a later fit of this process is not preempted

    def _stop_listening(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()  # Lightning puts back the handlers that it found
