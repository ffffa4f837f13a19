"""DeepSpeed's checkpoints, saved behind the training's back: ``ingot.deepspeed.attach(engine)``, and ``save_checkpoint`` and ``load_checkpoint`` stay as they are.

DeepSpeed's files are kept as DeepSpeed makes them, as ``dir/ingot/checkpoint-<global_steps>/mp_rank_00_model_states.pt`` and its like. A tag, ``dir/global_step10``, is a link to that directory, made when it is
committed; after it ``dir/latest``. So a plain DeepSpeed, ``zero_to_fp32.py``, ``ds_to_universal.py`` and ``ingot convert`` take ``dir`` as they take their own.
"""
from __future__ import annotations

import importlib
import json
import os
import re
import sys
import warnings
from typing import Any, Dict, List, Optional, Tuple, Union

import deepspeed as _deepspeed
import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine as _Base

from . import _ingot, layouts, names, torchzip
from .after import After
from .arguments import expand
from .attached import Holder
from .checkpointer import Checkpointer, Handle, Keep
from .foreign import numpy_classes
from .nest import Packed
from .ranks import rank_here
from .rng import Rng

__all__ = ["CheckpointEngine", "attach"]

_FOLDER = "ingot"
_SEAM = ("save_checkpoint", "load_checkpoint", "destroy", "load_universal_checkpoint", "zero_optimization_stage")  # tested with deepspeed 0.19.8


def attach(engine: Any, directory: Union[None, str, os.PathLike] = None, *, keep: Optional[Keep] = None, state: Optional[Dict[str, Any]] = None, wait: bool = False, weights_only: bool = True,
           **options: Any) -> "CheckpointEngine":
    """Gives a DeepSpeedEngine ingot's CheckpointEngine. All ranks call it, at the same place.

    ::

        engine, _, _, _ = deepspeed.initialize(model=model, config=config)
        loader = ingot.loader(DataLoader(...))
        hook = ingot.deepspeed.attach(engine, "run", keep=ingot.Keep(last=3), state={"data": loader})
        engine.load_checkpoint("run")                  # the newest whole one; (None, {}) where there is none
        for batch in loader:
            ...
            preempted = hook.preempted  # asked once in a step: a signal may come in between
            if engine.global_steps % 500 == 0 or preempted:
                engine.save_checkpoint("run")          # returns when the state has been copied
            if preempted:
                hook.exit()                            # waits, exit code 75

    directory: where the run saves; its signals are heard from here on. keep: which checkpoints stay, and with them their tags. state: objects with ``state_dict`` that each rank keeps and gets back, as the
    loader; the generators (Python's, NumPy's, torch's) are kept without being asked for. wait: each save returns when it is written. weights_only=False: a checkpoint may hold any object that pickle can make
    (Megatron's args), as without ingot. Other options are those of ``ingot.Checkpointer``: threads, overlap, staging_bytes, deadline, signals, run, settle, rank_timeout.

    A damaged checkpoint is put aside with the reason and the one before it taken; one of another number of ranks is refused, and told how to take it.
    """
    return CheckpointEngine(engine, directory, keep, state, wait, weights_only, options)


class CheckpointEngine(Holder, _Base):
    """``wait()``, ``preempted``, ``exit()``, ``stats``, ``detach()``; DeepSpeed calls the rest."""

    exit_code = Checkpointer.exit_code

    def __init__(self, engine: Any, directory: Union[None, str, os.PathLike], keep: Optional[Keep], state: Optional[Dict[str, Any]], wait: bool, weights_only: bool, options: Dict[str, Any]):
        super().__init__(None)
        missing = [n for n in _SEAM if not callable(getattr(engine, n, None))] + [n for n in ("checkpoint_engine", "global_steps") if not hasattr(engine, n)]
        if missing:
            raise TypeError(f"ingot.deepspeed.attach: {type(engine).__module__}.{type(engine).__qualname__} (deepspeed {_deepspeed.__version__}) has no {', '.join(missing)}, which is where its checkpoints are taken "
                            "over; expected what deepspeed.initialize gives first")
        if isinstance(engine.checkpoint_engine, CheckpointEngine):
            raise ValueError("ingot.deepspeed.attach: this engine is attached already; detach() it first to attach it with other options")
        if engine.zero_nvme_offload_optimizer() or engine.use_node_local_storage():
            raise ValueError("ingot.deepspeed.attach: the engine keeps its optimizer on NVMe, or its checkpoints on each node's own disk: DeepSpeed writes these files itself, beside a checkpoint; turn that off")
        for name, why in (("compress", "a plain DeepSpeed reads these files"), ("model_files", "DeepSpeed's own are saved"), ("cadence", "the loop says when to save"), ("ranks", "all of them save")):
            if options.pop(name, None) is not None:
                raise ValueError(f"ingot.deepspeed.attach: {name} is no option here: {why}")
        for key, value in (state or {}).items():
            if key == "rng" or not callable(getattr(value, "state_dict", None)) or not callable(getattr(value, "load_state_dict", None)):
                raise TypeError(f"ingot.deepspeed.attach: state[{key!r}] is {'kept without being asked for' if key == 'rng' else f'a {type(value).__name__}, expected an object with state_dict and load_state_dict'}")
        self.name = "IngotCheckpointEngine"
        self.engine, self._keep, self._wait, self._options = engine, keep, wait, options
        self._weights_only = weights_only
        self._state = {"rng": Rng(), **(state or {})}
        self._after = After()
        self._info: Optional[CheckpointCommitInfo] = None
        self._files: Dict[str, bytes] = {}  # of this rank, by their names in the tag's folder
        self._latest = True
        self._tags: Tuple[int, List[str]] = (-1, [])  # of the newest step
        self._last: Optional[Handle] = None
        if directory is not None:
            self._of(os.path.join(os.path.abspath(expand(directory)), _FOLDER))
        self._original = {n: getattr(engine, n) for n in ("save_checkpoint", "load_checkpoint", "destroy")}
        self._before, engine.checkpoint_engine = engine.checkpoint_engine, self
        engine.save_checkpoint, engine.load_checkpoint, engine.destroy = self._save_checkpoint, self._load_checkpoint, self._destroy

    # -- for the loop

    @property
    def preempted(self) -> bool:
        """Whether SIGTERM or SIGUSR1 has come, to any rank: all hear the same at the same step. False without a directory."""
        return self._ck is not None and self._ck.preempted

    def exit(self) -> None:
        """Ends the program when all is written, with the exit code of a preempted run."""
        self.wait()
        _together()
        if rank_here() == 0:
            print(f"ingot: preempted: step {self.engine.global_steps} is saved; exit code {self.exit_code}", file=sys.stderr)
        sys.exit(self.exit_code)

    def wait(self) -> None:
        """Until what was saved is committed, and ``latest`` has moved; raises what went wrong."""
        super().wait()
        self._after.wait()

    def detach(self) -> None:
        """The engine is a plain one again. Waits for what is being written."""
        try:
            self._close()
        finally:
            for n in self._original:
                vars(self.engine).pop(n, None)
            self.engine.checkpoint_engine = self._before

    def _close(self) -> None:
        ck, self._ck = self._ck, None
        try:
            self._after.close()
        finally:
            self._last = None
            if ck is not None:
                ck.close()

    def _destroy(self) -> Any:
        self._close()
        return self._original["destroy"]()

    def _of(self, folder: str) -> Checkpointer:
        if self._ck is not None and self._ck.directory != folder:
            self._after.wait()
            self._ck.close()
            self._ck = None
        if self._ck is None:
            self._ck = Checkpointer(folder, None, self._keep, **self._options)
        return self._ck

    # -- saving, as DeepSpeed asks for it: create, makedirs, save of each file, commit

    def _save_checkpoint(self, save_dir: Any, tag: Any = None, client_state: Any = None, save_latest: bool = True, exclude_frozen_parameters: bool = False) -> Any:
        self._latest = bool(save_latest)
        try:
            return self._original["save_checkpoint"](os.path.abspath(expand(save_dir)), tag, client_state or {}, False, exclude_frozen_parameters)  # `latest` moves when it is committed
        finally:
            self._info, self._files = None, {}

    def create(self, info: CheckpointCommitInfo) -> None:
        if not re.fullmatch(r"[^/]+", info.tag) or info.tag in (".", "..", _FOLDER, "latest"):
            raise ValueError(f"saving '{info.tag}' into {info.save_dir}: this tag cannot be the name of a checkpoint there; give another")
        self._after.raise_errors()
        self._info, self._files = info, {}

    def _is_of_the_tag(self, folder: str) -> bool:
        return self._info is not None and os.path.abspath(folder) == os.path.join(self._info.save_dir, self._info.tag)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not self._is_of_the_tag(path):  # which is a name, once there is what it names
            os.makedirs(path, exist_ok=exist_ok)

    def save(self, state_dict: Any, path: str) -> None:
        if self._is_of_the_tag(os.path.dirname(path)):
            self._files[os.path.basename(path)] = torchzip.dumps(state_dict, torchzip.folder_of(path), self._options.get("threads", 0))
            return
        aside = f"{path}.ingot-new"  # another one than a checkpoint's (save_16bit_model): under its name when it is whole
        torch.save(state_dict, aside)
        os.replace(aside, path)

    def commit(self, info: Optional[CheckpointCommitInfo]) -> bool:
        if info is None or not self._is_of_the_tag(os.path.join(info.save_dir, info.tag)):
            return True  # save_16bit_model has written its file
        save_dir, tag, step, latest = info.save_dir, info.tag, int(self.engine.global_steps), self._latest
        ck = self._of(os.path.join(save_dir, _FOLDER))
        if ck._last is not None and ck._last.step == step:
            self._after.wait()
            ck._go_back()  # the same step under another tag, or with another client_state: the later one counts, under both tags
        if self._tags[0] != step:
            self._tags = step, []
        tags = self._tags[1]
        if tag not in tags:
            tags.append(tag)
        own = {_own(): torchzip.dumps({k: v.state_dict() for k, v in self._state.items()}, "ingot")}

        def packed() -> Packed:
            mine = {**self._files, **own}
            return Packed(json.dumps({"ingot": "state", "version": 1, "framework": "deepspeed", "state": self._described(tag, step, mine)}, ensure_ascii=False), [], {}, own_files=mine)
        handle = ck._save(step, packed)
        if handle is None:
            return False  # overlap="skip"
        self._last = handle
        if rank_here() == 0:
            self._after.add(handle, lambda: self._publish(save_dir, list(tags), step, tag if latest else None))
        if self._wait:
            handle.wait()
            self._after.wait()
        return True

    def _described(self, tag: str, step: int, files: Dict[str, bytes]) -> Dict[str, Any]:
        """What the files hold, as whoever lists the checkpoint tells it: by the members that such objects have."""
        model = next((n for n in sorted(files) if n.endswith("model_states.pt")), None)
        optimizer = next((n for n in sorted(files) if n.endswith("optim_states.pt")), model)
        out: Dict[str, Any] = {"model": {"file": model}, "optimizer": {"file": optimizer, "param_groups": None}, "rng": {"file": _own(), "torch": None}}
        if getattr(self.engine, "lr_scheduler", None) is not None:
            out["scheduler"] = {"file": model, "last_epoch": None}
        return {**out, "deepspeed": {"tag": tag, "position": step, "ranks": int(self.engine.seq_dp_world_size), "zero_stage": int(self.engine.zero_optimization_stage())}}

    def _publish(self, save_dir: str, tags: List[str], step: int, latest: Optional[str]) -> None:
        """The tag, then `latest`; then tags whose checkpoints retention has removed go."""
        target = os.path.join(save_dir, _FOLDER, f"checkpoint-{step}")
        for tag in tags:
            path = os.path.join(save_dir, tag)
            if os.path.isdir(path) and not os.path.islink(path):
                n, aside = 1, f"{path}-other"
                while os.path.exists(aside):
                    n, aside = n + 1, f"{path}-other-{n + 1}"
                os.rename(path, aside)
                warnings.warn(f"{path} was there, made by other software; it is {aside} now, as the checkpoint of step {step} takes its name", RuntimeWarning, stacklevel=2)
            names.point(path, target)
        if latest is not None:
            names.write_text(os.path.join(save_dir, "latest"), latest)
        folder = os.path.realpath(os.path.join(save_dir, _FOLDER))
        for name in os.listdir(save_dir):
            to = names.target_of(os.path.join(save_dir, name))
            if to is not None and os.path.dirname(to) == folder and not os.path.exists(to):
                os.remove(os.path.join(save_dir, name))

    # -- loading

    def _load_checkpoint(self, load_dir: Any, tag: Any = None, load_module_strict: bool = True, load_optimizer_states: bool = True, load_lr_scheduler_states: bool = True, load_module_only: bool = False,
                         custom_load_fn: Any = None) -> Any:
        self.wait()
        load_dir = os.path.abspath(expand(load_dir))
        optimizer = load_optimizer_states and not load_module_only
        at = _told(lambda: self._chosen(load_dir, None if tag is None else str(tag), optimizer))
        rest = (load_module_strict, load_optimizer_states, load_lr_scheduler_states, load_module_only, custom_load_fn)
        if at is None:  # DeepSpeed says what it makes of it
            if rank_here() == 0 and tag is None and not self.engine.load_universal_checkpoint():
                print(f"ingot: fresh start, no checkpoint in {load_dir}", file=sys.stderr)
            return self._original["load_checkpoint"](load_dir, tag, *rest)
        out = self._original["load_checkpoint"](os.path.dirname(at), os.path.basename(at), *rest)
        if out[0] is None:
            raise _ingot.BadInput(f"loading {at}: DeepSpeed did not take it, and its log says why")
        if os.path.basename(os.path.dirname(at)) == _FOLDER and not load_module_only:
            self._goes_on(at)
        return out

    def _goes_on(self, at: str) -> None:
        found = _ingot.look_at(at)
        ck = self._of(os.path.dirname(at))
        ck._loaded_elsewhere(found, _ingot.lease_epoch(ck.directory))
        if rank_here() == 0:
            ck._resumed(found, found.step)
        path = os.path.join(at, _own())
        if not os.path.exists(path):
            warnings.warn(f"{at} has nothing of rank {rank_here()}'s own (generators, places in the data): they go on as they are", RuntimeWarning, stacklevel=4)
            return
        kept = self.load(path)
        missing = [k for k in self._state if k not in kept]
        if missing:
            warnings.warn(f"{path} has nothing of {', '.join(map(repr, missing))}, which was given to attach(state=...): it goes on as it is", RuntimeWarning, stacklevel=4)
        for key, value in sorted(self._state.items(), key=lambda item: item[0] == "rng"):  # last: what is drawn on the way counts for nothing
            if key in kept:
                value.load_state_dict(kept[key])

    def _chooser(self) -> layouts.Chooser:
        return layouts.Chooser(_check, _check_plain, self._options.get("threads", 0))

    def _chosen(self, load_dir: str, tag: Optional[str], optimizer: bool) -> Optional[str]:
        """Of rank 0: the directory to load; None where DeepSpeed is to see for itself."""
        folder, chooser = os.path.join(load_dir, _FOLDER), self._chooser()
        if self.engine.load_universal_checkpoint() and not os.path.isdir(folder):
            return None
        if tag is not None:
            path = os.path.join(load_dir, tag)
            at = names.target_of(path) or (os.path.join(folder, tag) if not os.path.isdir(path) else path)
            if not os.path.isdir(at):
                return None
            found = chooser.named(at)
        else:
            found = self._newest(load_dir, folder, chooser)
            if found is None:
                return None
        at = str(found.path)
        if optimizer and not self.engine.load_universal_checkpoint():
            self._fits(at)
        return at

    def _newest(self, load_dir: str, folder: str, chooser: layouts.Chooser) -> Any:
        """Ours, or what `latest` names where a plain DeepSpeed has written that later."""
        error = None
        try:
            found = chooser.newest(folder) if os.path.isdir(folder) else None
        except _ingot.BadInput as e:
            found, error = None, e
        try:
            with open(os.path.join(load_dir, "latest"), encoding="utf-8") as f:
                plain = os.path.join(load_dir, f.read().strip())
        except (OSError, ValueError):
            plain = load_dir
        if plain != load_dir and os.path.isdir(plain) and not os.path.islink(plain) and (found is None or os.path.getmtime(plain) > os.path.getmtime(os.path.join(found.path, "manifest.json"))):
            try:
                return chooser.named(plain)
            except _ingot.BadInput as e:
                if found is None:
                    raise
                warnings.warn(f"{plain} is passed over: {e}", RuntimeWarning, stacklevel=5)
        if error is not None:
            raise error
        if found is None and plain != load_dir and not os.path.isdir(plain):
            raise _ingot.BadInput(f"{load_dir}: its `latest` names {os.path.basename(plain)}, which is not there, and neither is another checkpoint. To start afresh, remove {os.path.join(load_dir, 'latest')}")
        return found

    def _fits(self, at: str) -> None:
        """Whether this many ranks can take what so many have saved."""
        try:
            saved = json.loads(_ingot.look_at(at).read_object("state.json"))["state"]["deepspeed"]
        except (_ingot.Error, ValueError, KeyError, TypeError):
            return  # a plain DeepSpeed's: it tells itself
        ranks, stage = int(self.engine.seq_dp_world_size), int(self.engine.zero_optimization_stage())
        if stage and saved["ranks"] != ranks and not self.engine.zero_elastic_checkpoint():
            raise _ingot.BadInput(f"loading {at}: {saved['ranks']} data-parallel ranks saved it, these are {ranks}, and ZeRO's optimizer state is cut by their number. Either start {saved['ranks']}, or: "
                                  f"ingot convert {at} --to deepspeed-universal --out {os.path.dirname(os.path.dirname(at))}/universal, then load_checkpoint(that) with \"checkpoint\": {{\"load_universal\": true}} in the config")
        if saved["zero_stage"] != stage:
            raise _ingot.BadInput(f"loading {at}: it was saved with ZeRO stage {saved['zero_stage']}, and this engine has {stage}: give the config that stage, or convert the checkpoint: "
                                  f"ingot convert {at} --to deepspeed-universal --out DIR")

    def load(self, path: str, map_location: Any = None) -> Any:
        try:
            with torch.serialization.safe_globals([*_classes(), *numpy_classes()]):
                return torch.load(path, map_location=map_location, weights_only=self._weights_only)
        except Exception as e:  # whatever torch and pickle raise of a torn file
            other = re.search(r"GLOBAL (\S+)", str(e))
            if other is None:
                raise _ingot.BadInput(f"loading {path}: {type(e).__name__}: {e}") from e
            raise _ingot.BadInput(f"loading {path}: it holds a {other[1]}, which is neither torch's nor DeepSpeed's. For a file that you trust: attach(engine, weights_only=False) takes whatever it makes, as "
                                  "DeepSpeed does") from None


def _classes() -> List[type]:
    """DeepSpeed's own that stand in its files."""
    out = []
    for module, names_ in (("runtime.fp16.loss_scaler", ("LossScaler", "DynamicLossScaler")), ("runtime.zero.config", ("ZeroStageEnum",)), ("utils.tensor_fragment", ("fragment_address",))):
        try:
            found = importlib.import_module(f"deepspeed.{module}")
        except ImportError:
            continue
        out += [c for c in (getattr(found, n, None) for n in names_) if c is not None]
    return out


def _own() -> str:
    """The file of what is this rank's own."""
    return f"ingot_rank_{rank_here():05}.pt"


def _together() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _told(answer: Any) -> Any:
    """What rank 0 finds, on all of them; what it raises, too."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return answer()
    said: List[Any] = [None]
    error: Optional[Exception] = None
    if rank_here() == 0:
        try:
            said = [{"at": answer()}]
        except Exception as e:
            error, said = e, [{"error": f"rank 0: {e}", "damaged": isinstance(e, _ingot.BadInput)}]
    torch.distributed.broadcast_object_list(said, src=0)
    if error is not None:
        raise error
    if "error" in said[0]:
        raise (_ingot.BadInput if said[0]["damaged"] else _ingot.Error)(said[0]["error"])
    return said[0]["at"]


def _check(path: str) -> None:
    if not any(n.endswith("model_states.pt") for n in os.listdir(path)):
        raise _ingot.BadInput(f"{path} has no *model_states.pt: it was not saved through DeepSpeed; Checkpointer.restore may take it")


def _check_plain(path: str) -> None:
    """A tag's folder of a plain DeepSpeed, all bytes of it: `latest` moves after it, and tells of no other."""
    files = sorted(n for n in os.listdir(path) if n.endswith(".pt"))
    for name in files:
        layouts.check_archive(os.path.join(path, name))
    if not files and not os.path.isdir(os.path.join(path, "zero")):
        raise _ingot.BadInput(f"{path} has no file of DeepSpeed's: the save that should have written them did not end")
