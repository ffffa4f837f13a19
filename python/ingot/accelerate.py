"""Accelerate's states, saved behind the training's back: ``ingot.accelerate.attach(accelerator)``, and ``save_state`` and ``load_state`` stay as they are.

Accelerate saves as it does, its files are caught and given to the engine (capture.py). Beside them is kept where each prepared dataloader was, and what its order was drawn from: a loop that goes on gets the
batches that it would have got.
"""
from __future__ import annotations

import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

import accelerate

from . import _ingot, foreign, layouts, torchzip
from .arguments import expand, whole
from .attached import Holder
from .capture import Catch, pack, replaced
from .checkpointer import Checkpointer, Keep
from .nest import torch_if_loaded
from .ranks import Part
from .rng import Rng

__all__ = ["Attached", "attach"]

_SEAM = ("save_state", "load_state", "skip_first_batches", "prepare_data_loader")
_LISTS = ("_models", "_optimizers", "_schedulers", "_dataloaders", "_custom_objects")
_DATA = "ingot_data.bin"  # of rank 0, and of the only process; of others with their rank
_INSTEAD = {"DEEPSPEED": "its engine saves itself; ingot.deepspeed.attach(engine) is for it", "FSDP": "each rank has a part of its state; ingot.dcp.StorageWriter or an ingot.Checkpointer on all ranks saves it",
            "MEGATRON_LM": "it saves itself; ingot.dcp.StorageWriter saves what is spread over ranks", "XLA": "its processes do not speak torch.distributed"}


def attach(accelerator: Any, directory: Union[None, str, os.PathLike] = None, *, keep: Optional[Keep] = None, wait: bool = False, data: bool = True, **options: Any) -> "Attached":
    """Takes over an Accelerator's ``save_state`` and ``load_state``.

    ::

        accelerator = Accelerator()
        hook = ingot.accelerate.attach(accelerator, "out")
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        step = hook.resume()                                  # loads the newest whole one; 0 where there is none
        for epoch in range(loader.iteration, epochs):
            for batch in loader:                              # in a resumed epoch: what is left of it, in its order
                ...
                preempted = hook.preempted                    # of several processes all hear the same
                if step % 100 == 0 or preempted:
                    accelerator.save_state(f"out/checkpoint-{step}")
                if preempted:
                    hook.exit()                               # waits, exit code 75

    Of several processes (``accelerate launch``, torchrun; DistributedDataParallel) all attach, save, load and ask ``preempted`` at the same places. Rank 0 saves what Accelerate's main process saves, each rank its
    generators and its place in the data; a checkpoint has all of that, or is not there.

    A path's name is checkpoint-N (checkpoint_N, step_N and step-N are taken for it): N is the step. With ``automatic_checkpoint_naming`` the directory is project_dir/checkpoints, N counts on, and ``total_limit`` is kept.
    ``load_state(path)`` verifies before it loads; ``load_state()`` takes the newest that is whole.

    keep: which checkpoints stay. wait: ``save_state`` returns when it is written. data: whether the prepared dataloaders go on where they were; ``accelerator.skip_first_batches`` then gives the loader that does.
    Other options are those of ``ingot.Checkpointer``: threads, staging_bytes, overlap, deadline, signals, run, settle, rank_timeout.
    """
    return Attached(accelerator, directory, keep, wait, data, options)


class Attached(Holder):
    """An Accelerator whose states are ingot's: ``resume()``, ``preempted``, ``exit()``, ``wait()``, ``stats``, ``detach()``."""

    exit_code = Checkpointer.exit_code

    def __init__(self, accelerator: Any, directory: Union[None, str, os.PathLike], keep: Optional[Keep], wait: bool, data: bool, options: Dict[str, Any]):
        missing = [n for n in _SEAM if not callable(getattr(accelerator, n, None))] + [n for n in (*_LISTS, "project_configuration") if not hasattr(accelerator, n)]
        if missing:
            raise TypeError(f"ingot.accelerate.attach: {type(accelerator).__module__}.{type(accelerator).__qualname__} (accelerate {accelerate.__version__}) has no {', '.join(missing)}, which is where its "
                            "states are taken over; expected an accelerate.Accelerator; tested with 1.15")
        if isinstance(vars(accelerator).get("_ingot"), Attached):
            raise ValueError("ingot.accelerate.attach: this accelerator is attached already; detach() it first to attach it with other options")
        kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
        if kind in _INSTEAD:
            raise ValueError(f"ingot.accelerate.attach: the accelerator runs with {kind}: {_INSTEAD[kind]}")
        for name, why in (("compress", "a plain Accelerator reads these files"), ("model_files", "Accelerate's own are saved"), ("cadence", "the loop says when to save"), ("ranks", "all of them save")):
            if options.pop(name, None) is not None:
                raise ValueError(f"ingot.accelerate.attach: {name} is no option here: {why}")
        config = accelerator.project_configuration
        if directory is None and config.automatic_checkpoint_naming:
            directory = os.path.join(accelerator.project_dir, "checkpoints")
        if keep is None and config.automatic_checkpoint_naming and config.total_limit:
            keep = Keep(last=config.total_limit)
        self.accelerator, self._wait, self._data, self._options, self._keep = accelerator, wait, data, options, keep or Keep()
        self._directory = None if directory is None else expand(directory)
        self.resumed_from: Optional[str] = None
        self._original = {n: getattr(accelerator, n) for n in _SEAM}
        self._ck: Optional[Checkpointer] = None
        if self._directory is not None:
            self._of(self._directory)  # it hears signals from here on
        accelerator._ingot = self
        accelerator.save_state, accelerator.load_state, accelerator.skip_first_batches, accelerator.prepare_data_loader = self._save_state, self._load_state, self._skip_first_batches, self._prepare_data_loader
        for loader in accelerator._dataloaders:
            self._follow(loader)

    # -- for the loop

    @property
    def preempted(self) -> bool:
        """Whether SIGTERM or SIGUSR1 has come, to any rank: all ask at the same places, and hear the same. Raises what went wrong in a save."""
        return self._ck is not None and self._ck._polled()

    def resume(self) -> int:
        """Loads the newest whole checkpoint of the directory; its step, 0 where there is none."""
        if self._directory is None:
            raise ValueError("ingot.accelerate: resume() from where? Give attach a directory, as in attach(accelerator, 'out')")
        ck = self._of(self._directory)
        found = self._newest(ck)
        if found is None:
            layouts.told_fresh(ck)
            return 0
        self._load(ck, found, {})
        return int(found.step)

    def _newest(self, ck: Checkpointer) -> Any:
        ck._see_lease()
        return self._chosen(ck, lambda: self._chooser().newest(ck.directory))

    def _chosen(self, ck: Checkpointer, choose: Callable[[], Any]) -> Any:
        """What rank 0 has chosen and verified."""
        def path() -> Optional[str]:
            found = choose()
            return None if found is None else str(found.path)
        told = ck._of_rank_0("loads", path)
        if told is None:
            return None
        layouts.seen_by_all(ck, told)
        return _ingot.look_at(told)

    def exit(self) -> None:
        """Ends the program when all is written, with the exit code of a preempted run."""
        self.wait()
        sys.exit(self.exit_code)

    def detach(self) -> None:
        """The accelerator is a plain one again. Waits for what is being written."""
        for name in (*_SEAM, "_ingot"):
            vars(self.accelerator).pop(name, None)
        ck, self._ck = self._ck, None
        if ck is not None:
            ck.close()

    # -- states

    def _of(self, directory: str) -> Checkpointer:
        if self._ck is not None and self._ck.directory != expand(directory):
            self._ck.close()
            self._ck = None
        if self._ck is None:
            self._ck = Checkpointer(directory, None, self._keep, **self._options)
        return self._ck

    def _place(self, path: Union[None, str, os.PathLike]) -> Tuple[str, int]:
        """The directory and the step that a path means."""
        config = self.accelerator.project_configuration
        if config.automatic_checkpoint_naming:
            return os.path.join(self.accelerator.project_dir, "checkpoints"), whole("save_iteration", config.iteration, 0)
        if path is None:
            raise ValueError("save_state: where? Give a path, as in save_state('out/checkpoint-100'), or the Accelerator ProjectConfiguration(automatic_checkpoint_naming=True)")
        path = os.path.expanduser(expand(path)).rstrip("/")
        m = re.fullmatch(r"(?:checkpoint|step)[-_](\d+)", os.path.basename(path))
        if not m:
            raise ValueError(f"save_state: {path}: ingot's checkpoints are called checkpoint-N by their step N, and this name has none; give save_state(f'{os.path.dirname(path) or '.'}/checkpoint-{{step}}')")
        return os.path.dirname(path) or ".", int(m[1])

    def _save_state(self, output_dir: Union[None, str, os.PathLike] = None, *args: Any, **kwargs: Any) -> Path:
        directory, step = self._place(output_dir)
        ck = self._of(directory)
        name = f"checkpoint-{step}"

        def packed() -> Any:
            with Part(ck._ranks, f"saving step {step}") as part, Catch(name, self._options.get("threads", 0)) as catch:
                if ck._leads:
                    layouts.make_way(ck.directory, step)
                part.meet()  # before what a hook of the script may gather of all ranks
                with replaced(self.accelerator.project_configuration, automatic_checkpoint_naming=False):
                    self._original["save_state"](catch.path, *args, **kwargs)
                caught = catch.done()
                if self._data:
                    caught.files[_data_of(part.rank)] = torchzip.dumps([state_of(loader) for loader in self.accelerator._dataloaders], "ingot_data")
                return pack(caught, "accelerate", _described(caught.files, step), self.accelerator._models, part)
        handle = ck._save(step, packed)
        if handle is not None and self._wait:
            handle.wait()
        return Path(ck.directory) / name

    def _chooser(self) -> layouts.Chooser:
        return layouts.Chooser(self._check_complete, self._check_plain, self._options.get("threads", 0))

    def _check_complete(self, path: str) -> None:
        """Whether it has a file for each object of this accelerator."""
        names, a = os.listdir(path), self.accelerator
        for what, pattern, wanted in (("optimizer", r"optimizer(_\d+)?\.bin", len(a._optimizers)), ("scheduler", r"scheduler(_\d+)?\.bin", len(a._schedulers)),
                                      ("registered object", r"custom_checkpoint_\d+\.pkl", len(a._custom_objects)), ("random generators' state", r"random_states_\d+\.pkl", None)):
            there = sum(re.fullmatch(pattern, n) is not None for n in names)
            if wanted is None and there > 0:
                continue  # as many as there were processes
            if there != wanted:
                raise _ingot.BadInput(f"{path} has {there} files of the kind {what}, and the accelerator {1 if wanted is None else wanted}: its save did not end, or other objects were prepared and registered then")

    def _check_plain(self, path: str) -> None:
        names = sorted(os.listdir(path))
        layouts.check_weights(path, names)
        for name in names:
            if name.endswith((".bin", ".pt", ".pkl")) and not name.startswith("pytorch_model"):
                layouts.check_archive(os.path.join(path, name))

    def _load_state(self, input_dir: Union[None, str, os.PathLike] = None, *args: Any, **kwargs: Any) -> Any:
        config = self.accelerator.project_configuration
        if input_dir is None and (config.automatic_checkpoint_naming or self._directory is not None):
            directory = self._directory if self._directory is not None else os.path.join(self.accelerator.project_dir, "checkpoints")
            ck = self._of(directory)
            self.wait()
            found = self._newest(ck)
            if found is None:
                raise ValueError(f"load_state: there is no checkpoint in {ck.directory}; resume() of what attach() gave starts afresh then")
            return self._load(ck, found, kwargs, *args)
        if input_dir is None:
            return self._original["load_state"](None, *args, **kwargs)  # which says what is missing
        self.wait()
        path = os.path.expanduser(expand(input_dir)).rstrip("/")
        m = re.fullmatch(r"(?:checkpoint|step)[-_](\d+)", os.path.basename(path))
        saved = os.path.join(os.path.dirname(path), f"checkpoint-{m[1]}") if m else path
        if not os.path.isdir(path) and os.path.isdir(saved):
            path = saved
        if not os.path.isdir(path) or not m:
            return self._original["load_state"](path, *args, **kwargs)
        ck = self._of(os.path.dirname(path) or ".")
        ck._see_lease()
        return self._load(ck, self._chosen(ck, lambda: self._chooser().named(path)), kwargs, *args)

    def _load(self, ck: Checkpointer, found: Any, kwargs: Dict[str, Any], *args: Any) -> Any:
        config, path = self.accelerator.project_configuration, found.path
        handle = self.accelerator.register_load_state_pre_hook(_load_shards)
        try:
            out = self._original["load_state"](path, *args, **kwargs)
        finally:
            handle.remove()
        if config.automatic_checkpoint_naming:
            config.iteration = found.step + 1  # which accelerate leaves to the script
        a = self.accelerator
        data = os.path.join(path, _data_of(a.process_index))
        before = max(1, sum(re.fullmatch(r"random_states_\d+\.pkl", n) is not None for n in os.listdir(path)))  # processes that saved it
        if not os.path.exists(data):
            data = os.path.join(path, _DATA)  # of rank 0: all draw the same order
        if self._data and os.path.exists(data):
            states = foreign._load(data)
            if before != a.num_processes and not a.split_batches:
                _divided_anew(states, before, a.num_processes, path)
            if len(states) != len(self.accelerator._dataloaders):
                warnings.warn(f"{path} has the places of {len(states)} dataloaders, and {len(self.accelerator._dataloaders)} are prepared: prepare the same ones, in the same order; they begin anew", RuntimeWarning, stacklevel=3)
            else:
                for loader, state in zip(self.accelerator._dataloaders, states):
                    put_state(loader, state)
        layouts.told_resumed(ck, found)
        self.resumed_from = ck.resumed_from
        return out

    # -- data

    def _follow(self, loader: Any) -> Any:
        return follow(loader) if self._data else loader

    def _prepare_data_loader(self, *args: Any, **kwargs: Any) -> Any:
        return self._follow(self._original["prepare_data_loader"](*args, **kwargs))

    def _skip_first_batches(self, dataloader: Any, num_batches: int = 0) -> Any:
        place = _place_of(dataloader)
        if place is None or place.pending is None or place.pending["start"] is None:
            return self._original["skip_first_batches"](dataloader, num_batches)
        if num_batches != place.pending["position"]:
            warnings.warn(f"skip_first_batches({num_batches}): the checkpoint was made after {place.pending['position']} batches of this epoch; {num_batches} are skipped, in the epoch's order", RuntimeWarning, stacklevel=2)
            place.pending["position"] = num_batches
        return dataloader


def _data_of(rank: int) -> str:
    return _DATA if rank == 0 else f"ingot_data_{rank}.bin"


def _divided_anew(states: List[Dict[str, Any]], before: int, now: int, path: str) -> None:
    """Places of so many processes, which each had every so manieth batch, as those of another number."""
    left = 0
    for state in states:
        if state["followed"]:
            state["position"], rest = divmod(state["position"] * before, now)
            left += rest
    if left:
        warnings.warn(f"{path} was saved by {before} processes, these are {now}, and the batches that had been given out are no multiple of that: {left} of them are given out again", RuntimeWarning, stacklevel=4)


def _described(files: Dict[str, bytes], step: int) -> Dict[str, Any]:
    """What the other files hold, by the members that such objects have."""
    what = {"optimizer.bin": ("optimizer", {"param_groups": None}), "scheduler.bin": ("scheduler", {"last_epoch": None}), "scaler.pt": ("scaler", {"growth_factor": None}),
            "random_states_0.pkl": ("rng", {"torch": None}), _DATA: ("data", {"position": None, "epoch": None})}
    return {key: {"file": name, **members} for name, (key, members) in what.items() if name in files}


def _load_shards(models: List[Any], directory: str) -> None:
    """Models in more than one file (parameters that do not change have their own), which accelerate itself does not load."""
    stems = ["model" if i == 0 else f"model_{i}" for i in range(len(models))]
    indexes = [os.path.join(directory, f"{stem}.safetensors.index.json") for stem in stems]
    if not any(os.path.exists(p) for p in indexes):
        return
    from safetensors.torch import load_file
    for model, stem, index in zip(models, stems, indexes):
        files = [f"{stem}.safetensors"]
        if os.path.exists(index):
            with open(index, encoding="utf-8") as f:
                files = sorted(set(json.load(f)["weight_map"].values()))
        state: Dict[str, Any] = {}
        for name in files:
            state.update(load_file(os.path.join(directory, name)))
        from .match import with_ties
        model.load_state_dict(with_ties(state, model))
    models.clear()


class Place:
    """Where a loader is. pending: where the next loop over it goes on."""

    def __init__(self) -> None:
        self.position = 0  # batches given out in this epoch
        self.start: Optional[Dict[str, Any]] = None  # what is drawn from, as it was when this epoch began
        self.pending: Optional[Dict[str, Any]] = None


def _place_of(loader: Any) -> Optional[Place]:
    return vars(loader).get("_ingot_place") if hasattr(loader, "__dict__") else None


def _sources(loader: Any) -> List[Any]:
    """The loader and its samplers: whatever draws its order."""
    found: List[Any] = []
    queue = [loader, getattr(loader, "base_dataloader", None)]
    while queue and len(found) < 16:
        x = queue.pop(0)
        if x is None or any(x is y for y in found):
            continue
        found.append(x)
        queue += [getattr(x, n, None) for n in ("batch_sampler", "sampler")]
    return found


def _capture(loader: Any) -> List[Dict[str, Any]]:
    out = []
    for x in _sources(loader):
        generator = getattr(x, "generator", None)
        one: Dict[str, Any] = {"generator": generator.get_state()} if hasattr(generator, "get_state") else {}
        one.update({n: getattr(x, n) for n in ("epoch", "initial_seed") if isinstance(getattr(x, n, None), int)})
        out.append(one)
    synchronized = getattr(loader, "synchronized_generator", None)
    out.append({"generator": synchronized.get_state()} if hasattr(synchronized, "get_state") else {})
    return out


def _put(loader: Any, states: List[Dict[str, Any]]) -> None:
    sources = _sources(loader)
    if len(states) != len(sources) + 1:
        warnings.warn(f"the dataloader has {len(sources)} samplers and loaders in one another, and had {len(states) - 1} when it was saved: its order may be another", RuntimeWarning, stacklevel=4)
        return
    for x, one in zip(sources, states):
        if "generator" in one:
            if getattr(x, "generator", None) is None:
                x.generator = torch_if_loaded().Generator()
            x.generator.set_state(one["generator"])
        for n in ("epoch", "initial_seed"):
            if n in one and isinstance(getattr(x, n, None), int):
                setattr(x, n, one[n])
    if "generator" in states[-1] and hasattr(getattr(loader, "synchronized_generator", None), "set_state"):
        loader.synchronized_generator.set_state(states[-1]["generator"])


def state_of(loader: Any) -> Dict[str, Any]:
    place = _place_of(loader)
    if place is None:
        return {"followed": False}
    if place.pending is not None:
        return {**place.pending, "followed": True}
    return {"followed": True, "iteration": int(getattr(loader, "iteration", 0)), "position": place.position if place.start is not None else 0, "start": place.start, "own": _capture(loader)}


def put_state(loader: Any, state: Dict[str, Any]) -> None:
    place = _place_of(loader)
    if place is None or not state["followed"]:
        return
    place.start, place.position = None, 0
    place.pending = {k: state[k] for k in ("iteration", "position", "start", "own")}
    if hasattr(loader, "iteration"):
        loader.iteration = state["iteration"]
    if state["start"] is None:
        _put(loader, state["own"])
        place.pending = None


_followed: Dict[type, type] = {}


def follow(loader: Any) -> Any:
    """The same loader, which from now on knows where it is. One of torchdata does so itself."""
    kind = type(loader)
    if getattr(loader, "use_stateful_dataloader", False) or _place_of(loader) is not None or not hasattr(loader, "__dict__"):
        return loader
    if kind not in _followed:
        def __iter__(self: Any) -> Iterator[Any]:
            return _batches(self, kind)
        _followed[kind] = type(kind.__name__, (kind,), {"__iter__": __iter__, "__module__": kind.__module__, "__qualname__": kind.__qualname__})
    object.__dict__["__class__"].__set__(loader, _followed[kind])  # accelerate's loaders say they are of torch's class
    loader._ingot_place = Place()
    return loader


def _batches(loader: Any, kind: type) -> Iterator[Any]:
    place = _place_of(loader)
    assert place is not None
    pending, place.pending = place.pending, None
    batches: Iterator[Any]
    if pending is None:
        place.start, place.position = {"own": _capture(loader), "process": Rng().state_dict()}, 0
        batches, rest = kind.__iter__(loader), None  # type: ignore[attr-defined]
        now = None
    else:
        # What was drawn when the epoch began is drawn again from the same states; what the process has drawn since stays as it was loaded.
        now = Rng().state_dict()
        place.start, place.position = pending["start"], pending["position"]
        _put(loader, pending["start"]["own"])
        Rng().load_state_dict(pending["start"]["process"])
        rest = accelerate.data_loader.skip_first_batches(loader, place.position)
        rest.iteration = pending["iteration"]
        batches = iter(rest)
    mine, ended = place.start, False
    try:
        if now is not None:
            try:
                first = next(batches)
            except StopIteration:
                first = None
            Rng().load_state_dict(now)
            if first is not None:
                place.position += 1
                yield first
        for batch in batches:
            place.position += 1
            yield batch
        ended = True
    finally:
        if place.start is mine and place.pending is None:  # else another loop has begun, or another state been loaded, meanwhile
            place.start = None
            if pending is not None and ended and hasattr(loader, "iteration"):
                loader.iteration = pending["iteration"] + 1
