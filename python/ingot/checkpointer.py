"""Checkpoints of a training run: saved without stalling it, found again whole, resumed exactly."""
from __future__ import annotations

import os
import re
import secrets
import sys
import threading
import time
import warnings
from datetime import timedelta
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple, Union

from . import _ingot, adapters, devices, foreign, nest, reading, shares
from .arguments import expand, fixed, metrics_of, number, outside, whole
from .ending import close_at_exit
from .match import Mismatch
from .preempt import Preemption
from .ranks import ranks_of_this_run


class Cadence:
    """When a checkpoint is due: every so many steps, every so many minutes, whichever comes first. ``Cadence()`` is never."""

    def __init__(self, steps: Optional[int] = None, minutes: Optional[float] = None):
        self.steps = None if steps is None else whole("Cadence: steps", steps, 1)
        self.minutes = None if minutes is None else number("Cadence: minutes", minutes, positive=True)

    @classmethod
    def from_nemo(cls, config: Any, steps_per_epoch: Optional[int] = None) -> "Cadence":
        """NeMo's exp_manager (a dict, or the path of a YAML): every_n_train_steps or train_time_interval of its checkpoint_callback_params; every_n_epochs needs ``steps_per_epoch``. NeMo's own default, a
        checkpoint after each validation, is a matter of the loop: ValueError. async_saving is what ingot does in any case."""
        p, manager = _of_nemo(config)
        steps, interval, epochs = p.get("every_n_train_steps"), p.get("train_time_interval"), p.get("every_n_epochs")
        for name in ("async_save", "async_saving"):
            if not isinstance(manager.get(name, p.get(name, False)), (bool, type(None))):
                raise ValueError(f"Cadence.from_nemo: {name} is {manager.get(name, p.get(name))!r}, expected true or false")
        given = [name for name, value in (("every_n_train_steps", steps), ("train_time_interval", interval), ("every_n_epochs", epochs)) if value not in (None, 0)]
        if len(given) > 1:
            raise ValueError(f"Cadence.from_nemo: {' and '.join(given)} are given, of which NeMo takes one; leave one")
        if steps:
            return cls(steps=steps)
        if interval:
            return cls(minutes=_minutes_of(interval))
        if epochs and steps_per_epoch is not None:
            return cls(steps=whole("Cadence.from_nemo: every_n_epochs", epochs, 1) * whole("Cadence.from_nemo: steps_per_epoch", steps_per_epoch, 1))
        if epochs:
            raise ValueError(f"Cadence.from_nemo: every_n_epochs is {epochs!r}, and how many steps an epoch has the file does not say: give steps_per_epoch=len(dataloader)")
        raise ValueError("Cadence.from_nemo: checkpoint_callback_params has none of every_n_train_steps, train_time_interval, every_n_epochs; NeMo then saves after each validation: "
                         "call ck.save there, or give ingot.Cadence(steps=val_check_interval)")


class Keep:
    """What retention keeps: whatever one of the rules wants; everything where there is none. The newest checkpoint, and the one that the run resumed from, always stay.

    last: the newest N. best: the best N by ``metric`` (``mode`` "min" or "max"). every_steps: each whose step is a multiple; these are full copies.
    exponential: one in each doubling of the distance to the newest. max_age (seconds), max_bytes: limits; they take the oldest. pinned: steps.
    """

    def __init__(self, last: Optional[int] = None, best: Optional[int] = None, metric: Optional[str] = None, mode: str = "min", every_steps: Optional[int] = None,
                 exponential: bool = False, max_age: Optional[float] = None, max_bytes: Optional[int] = None, pinned: Tuple[int, ...] = ()):
        if mode not in ("min", "max"):
            raise ValueError(f"Keep: mode is 'min' or 'max', not {mode!r}")
        if metric is not None and not isinstance(metric, str):
            raise TypeError(f"Keep: metric is {metric!r} ({type(metric).__name__}), expected the name of a metric")
        if best is not None and not metric:
            raise ValueError("Keep: best by what? Give metric= too, as in Keep(best=2, metric='val_loss')")
        if isinstance(pinned, (str, bytes)) or not hasattr(pinned, "__iter__"):
            raise TypeError(f"Keep: pinned is {pinned!r} ({type(pinned).__name__}), expected steps, as in Keep(pinned=(1000, 2000))")

        def count(name: str, value: Any, least: int) -> Optional[int]:
            return None if value is None else whole(f"Keep: {name}", value, least, 2**31 - 1 if name in ("last", "best") else 2**63 - 1)
        self._rules = {"last": count("last", last, 1), "best": count("best", best, 0), "metric": metric, "greatest": mode == "max", "every_steps": count("every_steps", every_steps, 1),
                       "exponential": bool(exponential), "max_age": None if max_age is None else number("Keep: max_age", max_age, 0), "max_bytes": count("max_bytes", max_bytes, 0),
                       "pinned": {whole("Keep: pinned", step, 0) for step in pinned}}

    @classmethod
    def from_nemo(cls, config: Any) -> "Keep":
        """NeMo's exp_manager (a dict, or the path of a YAML): save_top_k, monitor and mode of its checkpoint_callback_params; save_last. -1 keeps all, as there. When to save is ``Cadence.from_nemo``'s."""
        p, _ = _of_nemo(config)
        top, monitor = p.get("save_top_k", 3), p.get("monitor", "val_loss")
        if not isinstance(top, int) or top < -1:
            raise ValueError(f"Keep.from_nemo: save_top_k is {top!r}, expected an integer of at least -1")
        if top == -1:
            return cls()
        return cls(best=top, metric=str(monitor), mode=str(p.get("mode", "min")), last=1 if p.get("save_last", True) or top == 0 else None)


def _of_nemo(config: Any) -> Tuple[Mapping[str, Any], Mapping[str, Any]]:
    """checkpoint_callback_params, and the exp_manager that has it."""
    if not isinstance(config, Mapping):
        import yaml  # PyYAML: whoever has NeMo has it
        with open(expand(config), encoding="utf-8") as f:
            config = yaml.safe_load(f)
        if not isinstance(config, Mapping):
            raise ValueError(f"from_nemo: the YAML holds a {type(config).__name__}, expected NeMo's configuration, with exp_manager")
    manager = config.get("exp_manager", config) or {}
    return manager.get("checkpoint_callback_params", manager) or {}, manager


def _minutes_of(interval: Any) -> float:
    """Lightning's train_time_interval as a configuration has it: a timedelta, {"hours": 1, "minutes": 30}, or "DD:HH:MM:SS" and its shorter ends."""
    if isinstance(interval, Mapping):
        try:
            interval = timedelta(**interval)
        except TypeError:
            raise ValueError(f"Cadence.from_nemo: train_time_interval is {interval!r}, expected days, hours, minutes, seconds") from None
    if isinstance(interval, timedelta):
        return interval.total_seconds() / 60
    if isinstance(interval, str) and re.fullmatch(r"\d+(:\d+){1,3}", interval):
        return sum(int(n) * seconds for n, seconds in zip(reversed(interval.split(":")), (1, 60, 3600, 86400))) / 60
    raise ValueError(f"Cadence.from_nemo: train_time_interval is {interval!r}, expected {{'minutes': 30}}, '00:00:30:00' or a timedelta")


def run_id() -> str:
    """SKYPILOT_TASK_ID, which stays the same across recoveries of a managed job; else empty. ``Checkpointer.run_id`` is there without it, too."""
    return os.environ.get("SKYPILOT_TASK_ID", "")


class Handle:
    """A save under way. The error of a save comes out here, at the next call of its checkpointer, and at the end of the program."""

    def __init__(self, save: Any):
        self._save = save
        self._pid = os.getpid()

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

    @property
    def uploaded(self) -> Optional[bool]:
        """Whether all of it is in the bucket, on a mount that uploads behind one's back (rclone with a cache; SkyPilot's MOUNT_CACHED); elsewhere: whether it is written.
        None: nobody here can tell, and ``wait(durable=True)`` says why."""
        return {"done": True, "pending": False, "unknown": None}[self._save.uploaded[0]]

    def wait(self, timeout: Optional[float] = None, durable: bool = False) -> "Handle":
        """Until it is written; with ``durable`` until it survives this machine, too: where a mount uploads what was written later (rclone with a cache), until that has happened.
        TimeoutError where that takes longer; what went wrong is raised."""
        if os.getpid() != self._pid:
            raise _ingot.Error(f"step {self.step} is saved by process {self._pid}, and this is its child {os.getpid()}, which has none of its threads: wait there")
        end = None if timeout is None else time.monotonic() + timeout
        while not self._save.wait(0.2 if end is None else max(0.0, min(0.2, end - time.monotonic()))):  # in pieces, so that Ctrl-C is heard
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"step {self.step} is still being written after {timeout} s")
        while durable:
            state, how = self._save.uploaded
            if state == "done":
                break
            if state == "unknown":
                raise _ingot.Error(f"step {self.step} is written, and whether it has been uploaded cannot be found out: {how}")
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"step {self.step} is written, and not uploaded after {timeout} s; rclone goes on trying")
            time.sleep(0.2 if end is None else max(0.0, min(0.2, end - time.monotonic())))
        return self

    def abort(self) -> None:
        """Gives it up unless it is committed already: the checkpoint before it stays the newest."""
        self._save.abort()


taken: Dict[str, int] = {}  # the newest epoch by directory that this process has had
NOTHING_SAVED = {"saves": 0, "newest": -1, "uploaded": -1}  # Checkpointer.stats before the first save


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
    checkpoint before an older one is removed; 300 there, 0 elsewhere. ``threads``: of copies and writes, 0 for all (of writes without
    compression four on a machine, at least one of each rank: more slow a disk down). ``staging_bytes``: memory for copies of the
    state, 0 for as much as the state is large; what does not fit is written from where it lies, and ``save`` returns when that is done. ``compress``: "zstd" packs the files of all keys but ``model``,
    which other software reads, losslessly. ``deadline``: seconds after a preemption signal by which the process must be gone.

    Under torch.distributed with several ranks all of them make one, of the same directory, and call ``restore``, ``due``, ``preempted`` and ``save`` at the same steps: each writes and reads its share.
    ``ranks=False``: this process saves by itself, whatever the others do. ``rank_timeout``: seconds that a rank waits for another one, which is then named.
    """

    exit_code = _ingot.PREEMPTED_EXIT_CODE  # what a preempted script exits with, for SkyPilot's recover_on_exit_codes

    def __init__(self, directory: Union[str, os.PathLike], cadence: Optional[Cadence] = None, keep: Optional[Keep] = None, *, overlap: str = "wait",
                 model_files: Union[None, str, os.PathLike] = None, threads: int = 0, max_shard_bytes: int = 0, staging_bytes: int = 0, compress: Optional[str] = None, deadline: Optional[float] = None, signals: bool = True,
                 run: Optional[str] = None, settle: Optional[float] = None, ranks: Optional[bool] = None, rank_timeout: float = 600.0):
        if overlap not in ("wait", "skip"):
            raise ValueError(f"Checkpointer: overlap is 'wait' or 'skip', not {overlap!r}")
        if compress not in (None, "zstd"):
            raise ValueError(f"Checkpointer: compress is None or 'zstd', not {compress!r}")
        self.directory = _no_checkpoint(fixed(expand(directory)))
        if not isinstance(cadence, (Cadence, type(None))):
            raise TypeError(f"Checkpointer: cadence is {cadence!r}, expected an ingot.Cadence, as in Cadence(steps=500)")
        if not isinstance(keep, (Keep, type(None))):
            raise TypeError(f"Checkpointer: keep is {keep!r}, expected an ingot.Keep, as in Keep(last=3)")
        self.cadence = cadence or Cadence()
        self.keep = keep or Keep()
        self.resumed_from: Optional[str] = None
        self._options = (overlap == "skip", whole("Checkpointer: threads", threads, 0, 4096), whole("Checkpointer: max_shard_bytes", max_shard_bytes, 0),
                         None if settle is None else number("Checkpointer: settle", settle, 0, most=1e9),
                         whole("Checkpointer: staging_bytes", staging_bytes, 0), compress is not None)
        self._run = run_id() if run is None else run
        self._files = _model_files(model_files)
        self._saver: Any = None
        self._lock = threading.RLock()  # a signal's handler may save while the first save opens the saver
        self._closed = False
        self._parent: Optional[int] = None
        self._resumes: Optional[bool] = None  # whether restore() found something; None: nobody has asked
        self._lease_seen: Optional[int] = None  # whoever takes the directory between a restore and the first save goes on, and not this one
        self._loads = 0  # how often it went on from one
        self._saved_by_processes = False  # of torch's DCP, whose lease it is then
        self._last_due = time.monotonic()
        self._last: Optional[Handle] = None
        self._checked = False
        self._preemption = Preemption(None if deadline is None else number("Checkpointer: deadline", deadline, positive=True, most=1e9)) if signals else None
        patience = number("Checkpointer: rank_timeout", rank_timeout, positive=True, most=1e6)
        self._ranks = None if ranks is False else ranks_of_this_run(patience)
        if ranks and self._ranks is None:
            raise ValueError("Checkpointer: ranks=True, and torch.distributed is not initialized with several ranks")
        self._all_preempted = False
        self._reported: Dict[int, Dict[str, float]] = {}  # of steps that have no checkpoint yet
        self._told_of_reports: Set[bool] = set()
        self._engines = 0
        self._pid = os.getpid()
        self._at_exit = close_at_exit(self)

    # -- the process that saves

    def _engine(self) -> Any:
        with self._lock:
            if self._closed:
                raise ValueError("the checkpointer is closed")
            if self._saver is None:
                if self._resumes is None:
                    self._resumes = False  # what lies there is another run's
                skip, threads, shard, settle, staging, packed = self._options
                self._engines += 1
                run, meeting = self.run_id, self._ranks and self._ranks.within(f"saver {self._engines}")
                # What a handler opens before this one does is thereby seen, and not taken from it.
                seen = _ingot.lease_epoch(self.directory) if self._lease_seen is None and self._ranks is None else self._lease_seen
                try:
                    opened = _ingot.Saver(self.directory, self.keep._rules, skip, threads, shard, run, self._parent, settle, devices.lock, devices.unlock, staging, packed, seen, meeting)
                except _ingot.Error:
                    if self._saver is None:
                        raise
                    return self._saver  # a handler's
                if self._saver is not None:  # a handler's, opened after this one: the directory is its own
                    return self._saver
                self._saver, self._lease_seen = opened, None  # what was taken is this one's
                taken[os.path.realpath(self.directory)] = opened.epoch
            return self._saver

    def _tell(self) -> None:
        for text in self._saver.notices() if self._saver is not None else ():
            warnings.warn(text, RuntimeWarning, stacklevel=outside())

    def _tell_of_signals(self) -> None:
        lost = self._preemption.lost() if self._preemption is not None else []
        if lost:
            warnings.warn(f"something has set its own handler for {' and '.join(lost)} after the checkpointer was made: unless that hands them on, ck.preempted does not see them. Set it before the "
                          "checkpointer, which calls it too", RuntimeWarning, stacklevel=outside())

    def due(self, step: int) -> bool:
        """Whether the cadence wants a checkpoint of this step; the same on all ranks, whose minutes are those of rank 0."""
        self._tell_of_signals()
        c, step = self.cadence, whole("due: step", step, 0)
        by_time = c.minutes is not None and self._of_rank_0("due", lambda: time.monotonic() - self._last_due >= 60 * c.minutes)
        return (c.steps is not None and step % c.steps == 0) or by_time

    def save(self, step: int, state: Dict[str, Any], metrics: Optional[Mapping[str, float]] = None) -> Optional[Handle]:
        """Copies the state and returns: everything may change then. A step that is under way or saved gives the handle it had. None: it was skipped, as overlap="skip" says, because
        another is being written; never while a preemption is under way."""
        def packed() -> nest.Packed:
            self._warn_once(state)
            self._spare_others(step)
            return nest.pack(state, rank=self._ranks and self._ranks.rank)
        return self._save(step, packed, metrics)

    def _save(self, step: int, packed: Callable[[], nest.Packed], metrics: Optional[Mapping[str, float]] = None) -> Optional[Handle]:
        if self._closed:
            raise ValueError("the checkpointer is closed")
        step, numbers = whole("save: step", step, 0), metrics_of("save", metrics)
        self._tell_of_signals()
        if self._is_saved(step):
            return self._last
        if self._last is not None and step < self._last.step:
            self._go_back()
        if self.preempted:
            self._let_it_end()  # this one is not left out, whatever overlap says
        text, groups, files, signature = self._share_of(packed())
        rows = [(group, stem, [(e.name, e.type, e.shape, e.address, e.still, e.part) for e in members]) for group, stem, members in groups]
        on_devices = [e.on_device for _, _, members in groups for e in members if e.on_device is not None]
        save = self._engine().save(step, rows, text, files, {**self._reported.get(step, {}), **numbers}, devices.copier(on_devices), signature)
        self._tell()
        if save is None:
            return None  # and it stays due
        self._reported.pop(step, None)
        self._last_due = time.monotonic()
        self._last = Handle(save)
        return self._last

    def _is_saved(self, step: int) -> bool:
        """Whether that step is saved or being saved, and has not gone wrong; the same on all ranks."""
        last = self._last
        if last is None or last.step != step:
            return False
        if self._of_rank_0("is saved", lambda: not (last.done and last.error)):
            return True
        self._let_it_end()  # the others are about to hear of it
        return False

    def _share_of(self, p: nest.Packed) -> Tuple[str, List[Tuple[str, str, List[nest.Entry]]], Dict[str, bytes], str]:
        """What this process writes: state.json, groups with the stems of their files, small files; and what all ranks have the same."""
        ranks = self._ranks
        if ranks is None or not p.divided:
            groups: Dict[str, List[nest.Entry]] = {}
            for e in p.entries:
                groups.setdefault(e.group, []).append(e)
            return p.text, [(group, "", members) for group, members in groups.items()], {**self._files, **p.files, **p.own_files}, p.signature if ranks is not None else ""
        share = shares.share_of([shares.Piece(e.group, e.name, e.bytes, e.part is not None, e.own) for e in p.entries], p.spread, ranks.rank, ranks.world, self._options[2])
        mine = [(group, stem, [p.entries[i] for i in those]) for group, stem, those in share.groups]
        if ranks.rank == 0:
            return p.text, mine, {**self._files, **p.files, **p.own_files, **share.files}, p.signature
        own = {shares.own_group(ranks.rank) + ".json": p.own.encode()} if p.own != "[]" else {}
        return "", mine, {**own, **p.own_files}, p.signature

    # -- what torch's DCP does with it (dcp.py)

    def _saved_elsewhere(self) -> None:
        self._last_due = time.monotonic()

    def _loaded_elsewhere(self, found: Any, lease: int) -> None:
        self._go_back()
        self._loads += 1
        self._lease_seen = lease if self._leads else None
        self._in_run_of(found)
        self.resumed_from, self._parent, self._resumes = found.path, found.step, True

    def _of_rank_0(self, what: str, answer: Callable[[], Any]) -> Any:
        return answer() if self._ranks is None else self._ranks.found(what, answer)

    def _see_lease(self) -> None:
        """Before a load: whoever takes the directory between that and the first save goes on, and not this one."""
        self._lease_seen = _ingot.lease_epoch(self.directory) if self._leads else None

    @property
    def _leads(self) -> bool:
        return self._ranks is None or self._ranks.rank == 0

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a step that is saved or being saved; they count for ``Keep(best=)``. From a process that saves nothing, too: an evaluation."""
        step, numbers = whole("report: step", step, 0), metrics_of("report", metrics)
        try:
            if self._saver is None:
                self._at(step).put_metrics(numbers)
            else:
                self._saver.report(step, numbers)
        except _ingot.BadInput as e:
            # An evaluation is no save: one may have been skipped, not be due, or been removed by now. That ends no training.
            coming = self._last is None or step > self._last.step
            if coming:
                self._reported.setdefault(step, {}).update(numbers)
                while len(self._reported) > 64:
                    del self._reported[min(self._reported)]
            if coming not in self._told_of_reports:
                self._told_of_reports.add(coming)
                kept = "they are kept for a save of that step" if coming else "they count for nothing"
                warnings.warn(f"metrics of step {step}, of which {self.directory} has no checkpoint: {kept} ({e}). Later ones are not told of", RuntimeWarning, stacklevel=outside())

    def _spare_others(self, step: int) -> None:
        """What another program left under the name is not replaced: it may be all that there is."""
        path = os.path.join(self.directory, f"checkpoint-{step}")
        if self._of_rank_0("spared", lambda: of_others(path)):
            raise not_replaced(path, step)

    def poll(self) -> bool:
        """For within long steps and evaluations, and cheap: raises what went wrong in a save, and tells whether a preemption signal has come (to this rank). It saves nothing: what is under way goes on,
        until the deadline if there is one."""
        if self._last is not None and self._last.done:
            self._last._save.poll()
        return self._heard_here or self._all_preempted

    def _polled(self) -> bool:
        """The same on all ranks: at the same step all raise what went wrong in a save, and hear of a preemption."""
        return self.poll() if self._ranks is None else self._all_hear(self.poll)

    @property
    def _heard_here(self) -> bool:
        return self._preemption is not None and self._preemption.seen

    def _let_it_end(self) -> None:
        """Until nothing is being written; errors stay with their handles."""
        if self._last is not None:
            try:
                self._last.wait()
            except _ingot.Error:
                pass

    def _go_back(self) -> None:
        """What follows is another branch of the run: newer than what was saved before, whatever its steps are. Whoever has taken the directory since the old one did goes on, and not this one."""
        saver, self._saver, self._last = self._saver, None, None
        if saver is not None:
            self._lease_seen = saver.epoch if self._leads else None
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
        self._at_exit()
        try:
            if saver is not None and os.getpid() == self._pid:
                saver.close()
                if self._ranks is not None:
                    self._ranks.leave(10.0)  # the others may not have heard yet that the last save is committed
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
    def run_id(self) -> str:
        """The run's id, which all of its checkpoints carry: ``run=``, SKYPILOT_TASK_ID, that of the checkpoint that was resumed from, or a new one. Before ``restore`` it is that of the
        newest checkpoint in the directory."""
        if not self._run:
            newest = next((f for f in _ingot.scan(self.directory) if f.state == "whole"), None) if self._resumes is None else None
            self._run = newest.run if newest is not None and newest.run else secrets.token_hex(8)
        return self._run

    @property
    def stats(self) -> Dict[str, Any]:
        """Numbers for W&B or Prometheus: saves, stall_seconds, save_seconds, bytes, written_bytes, newest, age_seconds, ... On a mount that uploads later, ``newest`` is written and
        ``uploaded`` is the newest that is in the bucket (None: nobody here can tell); ``pending_bytes`` are on their way."""
        return dict(self._saver.stats()) if self._saver is not None else dict(NOTHING_SAVED)

    @property
    def preempted(self) -> bool:
        """Whether SIGTERM or SIGUSR1 has come; of several ranks to any of them, and all hear the same at the same step."""
        return self._all_hear(lambda: False)

    def _all_hear(self, also: Callable[[], bool]) -> bool:
        here, ranks = self._heard_here, self._ranks
        if ranks is None or self._all_preempted:
            return here or self._all_preempted
        if here and ranks.rank > 0:
            ranks.flag("preempted")
        self._all_preempted = bool(ranks.found("preempted", lambda: also() or here or ranks.flagged("preempted")))
        return self._all_preempted

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
                self._let_it_end()
            if self.due(step) or step == n:
                self.save(step, state)
        self.wait()

    # -- and the one that goes on

    def restore(self, state: Dict[str, Any], which: Union[str, int] = "latest", strict: bool = True) -> int:
        """Puts the newest whole checkpoint into the state's objects and returns its step; 0 where there is none.

        which: "latest", "best" (by ``Keep``'s metric), a step, or a path: of a checkpoint, of a directory of checkpoints, or of its ``latest``. Sizes and hashes are compared while the
        bytes are read; one that fails is put aside with the reason, and the next older one is taken. Plain values and tensors directly in ``state`` are replaced in it. strict=False tells of
        what does not fit (names, shapes, types, a PeftModel's base) instead of raising, and converts types.
        """
        self._go_back()
        self._loads += 1
        self._see_lease()
        self._torn: List[Any] = []
        step = self._restored(state, which, strict)
        self._resumes = self.resumed_from is not None
        adapters.prepare(state)
        return step

    def _restored(self, state: Dict[str, Any], which: Any, strict: bool) -> int:
        tried: List[str] = []
        for again in (False, True):
            candidates = self._agreed(which)
            if candidates and candidates[0].state == "unverified":
                return self._restore_foreign(candidates, state, strict)
            for i, found in enumerate(candidates):
                if again and found.path in tried:
                    continue
                try:
                    # It must not be half in the state when it fails and nothing fills all of that again: then all of it is verified before any is read into place, which reads it twice. Where each of
                    # the older ones fits (headers tell, which costs far less), a damaged one is read over by the next. More than eight damaged ones in a row are not provided for, but told of below.
                    older = candidates[i + 1:i + 9]
                    if not older or not all(reading.fits(f, state, self._ranks) for f in older):
                        reading.verify(found, self._options[1], self._ranks)
                    reading.restore(found, state, strict, self._options[1], self._ranks)
                except Mismatch as e:
                    if i > 8:
                        raise Mismatch(f"{e}. The state may hold bytes of {i} newer ones, which are damaged") from None
                    raise
                except _ingot.BadInput as e:
                    if len(candidates) == 1 and not (isinstance(which, str) and which in ("latest", "best")):
                        raise  # one that was asked for by name
                    tried.append(found.path)
                    if not os.path.isdir(found.path):
                        continue  # retention removed it meanwhile
                    warnings.warn(f"{found.path} is damaged and put aside: {e}", RuntimeWarning, stacklevel=outside())
                    try:
                        if self._leads:
                            found.quarantine(str(e))
                    except _ingot.Error:
                        pass  # a directory that is read only
                    continue
                for f in candidates:
                    if f.late_reason:
                        warnings.warn(f.late_reason, RuntimeWarning, stacklevel=outside())
                for f in self._torn:
                    if f.step > found.step:
                        warnings.warn(f"{f.path} is passed over: {f.reason}", RuntimeWarning, stacklevel=outside())
                self._in_run_of(found)
                return self._resumed(found, found.step)
            if not tried:
                break
        if tried:
            raise _none_can_be_taken(self.directory, f"{len(tried)} tried{', and the state may hold bytes of a damaged one' if len(tried) > 1 else ''}")
        for f in self._torn:
            warnings.warn(f"{f.path} is torn, and a fresh start passes it over: {f.reason}", RuntimeWarning, stacklevel=outside())
        print(f"ingot: fresh start, no checkpoint in {self.directory}", file=sys.stderr)
        return 0

    def _in_run_of(self, found: Any) -> None:
        """A run that has no name goes on under that of what it resumed from, in the same directory."""
        if found.run and not self._run and os.path.dirname(os.path.realpath(found.path)) == os.path.realpath(self.directory):
            self._run = found.run

    def _resumed(self, found: Any, step: int) -> int:
        self.resumed_from, self._parent = found.path, step
        print(f"ingot: resumed at step {step} from {found.path}{' (unverified)' if found.state == 'unverified' else ''}", file=sys.stderr)
        return step

    def _restore_foreign(self, candidates: List[Any], state: Dict[str, Any], strict: bool) -> int:
        found, taken = foreign.choose(candidates, state, strict)
        warnings.warn(f"{found.path} has no manifest: what it should hold nobody knows, and it is taken unverified", RuntimeWarning, stacklevel=outside())
        return self._resumed(found, foreign.restore(taken, state, strict))

    def _at(self, step: int) -> Any:
        return _ingot.look_at(os.path.join(self.directory, f"checkpoint-{step}"))

    def _agreed(self, which: Any) -> List[Any]:
        """The candidates; of several ranks those that rank 0 finds."""
        if self._ranks is None:
            return self._candidates(which)
        mine: List[Any] = []

        def paths() -> List[str]:
            mine.extend(self._candidates(which))
            return [os.path.abspath(f.path) for f in mine]
        told = self._ranks.found("candidates", paths)
        return mine if self._ranks.rank == 0 else [_ingot.look_at(p) for p in told]

    def _candidates(self, which: Any) -> List[Any]:
        if not isinstance(which, (str, bytes, os.PathLike)):
            return [self._at(whole("restore: which", which, 0))]
        if which not in ("latest", "best"):
            path = expand(which).rstrip("/") or "/"
            if not os.path.exists(path) and os.path.isdir(os.path.join(self.directory, path)):
                path = os.path.join(self.directory, path)  # a checkpoint's name
            if os.path.basename(path) == "latest" and not os.path.isdir(path):
                return self._newest(os.path.dirname(path) or ".")
            found = _ingot.look_at(path)
            return self._newest(path) if found.state in ("unverified", "torn") and _ingot.scan(path) else [found]
        if which == "latest":
            return self._newest(self.directory)
        those = [f for f in self._newest(self.directory) if f.state == "whole"]
        metric, greatest = self.keep._rules["metric"], self.keep._rules["greatest"]
        if not metric:
            raise ValueError("restore: 'best' by what? Give the checkpointer keep=Keep(best=..., metric=...)")
        by = [f for f in those if f.metrics.get(metric) is not None and f.metrics[metric] == f.metrics[metric]]
        if those and not by:
            raise ValueError(f"restore: none of the checkpoints in {self.directory} has the metric '{metric}'")
        return sorted(by, key=lambda f: f.metrics[metric], reverse=greatest)

    def _newest(self, directory: str) -> List[Any]:
        """Those that can be taken, the newest first: whole ones, or where there are none what other programs left."""
        there = _ingot.scan(directory)
        self._torn = [f for f in there if f.state == "torn"]
        newer = [f for f in there if f.state == "newer"]
        if newer:
            raise _ingot.Error(newer[0].reason)
        those = [f for f in there if f.state == "whole"] or [f for f in there if f.state == "unverified"]
        aside = sum(f.state == "quarantined" for f in there)
        if aside and not those:  # a run that is started again and again must not start afresh the second time
            raise _none_can_be_taken(directory, f"{aside} put aside")
        return those

    def _warn_once(self, state: Dict[str, Any]) -> None:
        if self._checked:
            return
        self._checked = True
        kinds = {type(v).__name__ for v in state.values()}
        has = {"optimizer": any(nest.is_optimizer(nest.unwrapped(v)) for v in state.values()), "random number generators (ingot.rng())": "Rng" in kinds}
        missing = [name for name, there in has.items() if not there]
        if missing and any(nest.is_module(nest.unwrapped(v)) for v in state.values()):
            warnings.warn("the state has no " + " and no ".join(missing) + ": a resumed run will not go on as this one would have", RuntimeWarning, stacklevel=outside())


def of_others(path: str) -> bool:
    """Whether what lies there, if anything does, is another program's."""
    return os.path.isdir(path) and _ingot.look_at(path).state == "unverified"


def not_replaced(path: str, step: int) -> Exception:
    return _ingot.Error(f"saving step {step}: {path} is there and has no manifest.json: other software made it, and it is not replaced; give the checkpointer another directory, or move that one away")


def _none_can_be_taken(directory: str, why: str) -> Exception:
    return _ingot.BadInput(f"{directory}: none of its checkpoints can be taken ({why}): 'ingot checkpoint ls' tells why. To start afresh, give another directory, or remove them")


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


def _no_checkpoint(directory: str) -> str:
    """Refuses a checkpoint's own path: nothing would be found in it, and a run would start afresh."""
    name = os.path.basename(directory.rstrip("/"))
    entries = set(os.listdir(directory)) if os.path.isdir(directory) else set()
    others = re.fullmatch(r"(checkpoint[-_]|step[-_]|global_step)\d+", name) and entries and "lease.json" not in entries and not _ingot.scan(directory)
    if others or "manifest.json" in entries:
        raise ValueError(f"Checkpointer: {directory} is a checkpoint itself; give the directory that it is in, {os.path.dirname(directory.rstrip('/')) or '.'}, and restore(state, which={directory!r}) to go on from it")
    return directory


def latest(directory: Union[str, os.PathLike]) -> Optional[str]:
    """The path of the newest whole checkpoint, for Trainer's ``resume_from_checkpoint``; None where there is none."""
    for f in _ingot.scan(fixed(expand(directory))):
        if f.state == "whole":
            return f.path
    return None
