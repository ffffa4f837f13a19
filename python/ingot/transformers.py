"""Trainer's checkpoints, saved behind the training's back: ``ingot.transformers.attach(trainer)``, and the rest of the script stays as it is.

How: while Trainer saves, its directory is one of ours and ``torch.save`` and safetensors' writer are held off there (capture.py), so that whatever it and its subclasses save is
what is kept, by its own names; the engine copies, writes, commits and prunes. Loading is Trainer's own, of a directory that has been verified.
"""
from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import warnings
from typing import Any, Dict, Iterator, Optional, Tuple, Union

import transformers

from . import _ingot, layouts
from .arguments import expand
from .attached import Holder
from .capture import Catch, Once, pack, replaced
from .checkpointer import Cadence, Checkpointer, Keep
from .ranks import Part
from .sharded import is_shared

__all__ = ["Attached", "attach"]

# What is replaced on the instance, and what is called. Tested with transformers 4.57.3 and 5.24.0.
_SEAM = ("train", "_save_checkpoint", "_load_best_model", "_get_output_dir", "_load_rng_state", "get_batch_samples", "_push_from_checkpoint")
_REPLACED = _SEAM[:-1]
_ARGS = "training_args.bin"  # a pickle of the script's own classes that no resume reads: training_args.json stands in its place
_OWED = "ingot_evaluation.json"  # of a preempted run: the evaluation that would have come before the save, and comes when the run goes on
_BEST = "best_model"         # the metric of each checkpoint that was the best when it was saved


def attach(trainer: Any, *, cadence: Optional[Cadence] = None, keep: Optional[Keep] = None, wait: bool = False, **options: Any) -> "Attached":
    """Takes over the saving, pruning and choosing of a Trainer's checkpoints.

    ::

        trainer = Trainer(...)
        ingot.transformers.attach(trainer)
        trainer.train(resume_from_checkpoint=True)   # the newest whole one; a fresh start where there is none

    ``save_strategy``, ``save_steps``, ``save_total_limit``, ``load_best_model_at_end``, ``metric_for_best_model`` and ``resume_from_checkpoint`` mean what they mean without it. A save returns when the
    state has been copied. SIGTERM and SIGUSR1 save at the next step's end and exit with code 75 (``Checkpointer.exit_code``). A plain Trainer resumes from what is saved, and this one from what a
    plain Trainer left.

    Under torchrun (DistributedDataParallel) all ranks call it. Rank 0 saves what Trainer's rank 0 saves, each rank its generators; a checkpoint has all of that, or is not there. A signal to any rank counts for all, and all
    resume from what rank 0 has chosen.

    cadence: saves beside Trainer's own, as in ``Cadence(minutes=10)``. keep: in the place of ``save_total_limit``. wait: each save returns when it is written: for callbacks whose on_save reads the
    checkpoint. Other options are those of ``ingot.Checkpointer``: threads, staging_bytes, max_shard_bytes, overlap, deadline, signals, run, settle, rank_timeout.

    Errors: TypeError and ValueError for what cannot be attached to, which the message tells.
    """
    return Attached(trainer, cadence, keep, wait, options)


class Attached(Holder):
    """A Trainer whose checkpoints are ingot's. ``wait()``, ``stats``, ``detach()``; nothing of it needs to be kept."""

    def __init__(self, trainer: Any, cadence: Optional[Cadence], keep: Optional[Keep], wait: bool, options: Dict[str, Any]):
        missing = [name for name in _SEAM if not callable(getattr(trainer, name, None))]
        missing += [name for name in ("args", "state", "callback_handler") if not hasattr(trainer, name)]
        if missing:
            raise TypeError(f"ingot.transformers.attach: {type(trainer).__module__}.{type(trainer).__qualname__} (transformers {transformers.__version__}) has no {', '.join(missing)}, which is where its "
                            "checkpoints are taken over; expected a transformers.Trainer, of 4.57 or later")
        if isinstance(vars(trainer).get("_ingot"), Attached):
            raise ValueError("ingot.transformers.attach: this trainer is attached already; detach() it first to attach it with other options")
        args = trainer.args
        for what, is_so, instead in _REFUSED:
            if is_so(trainer):
                raise ValueError(f"ingot.transformers.attach: the trainer runs with {what}: {instead}")
        for name, why in (("compress", "a plain Trainer reads these files"), ("model_files", "Trainer's own are saved"), ("directory", "TrainingArguments.output_dir is the directory"), ("ranks", "all of them save")):
            if options.pop(name, None) is not None:
                raise ValueError(f"ingot.transformers.attach: {name} is no option here: {why}")
        self.trainer, self._wait, self._cadence, self._options = trainer, wait, cadence, options
        self._keep = _keep_of(args, keep)
        self._ck: Optional[Checkpointer] = None
        self._original = {name: getattr(trainer, name) for name in _SEAM}
        self._once, self._saving = Once(), False
        Checkpointer(args.output_dir, cadence, self._keep, **{**options, "signals": False}, ranks=False).close()  # what is wrong with the options is told here
        self._owed: Optional[Dict[str, Any]] = None  # what goes into the checkpoint of a preempted run; after a resume: what is to be done
        for name in _REPLACED:
            setattr(trainer, name, getattr(self, "_train" if name == "train" else "_batch_samples" if name == "get_batch_samples" else name))
        trainer._ingot = self
        self._callback = _callback(self)
        trainer.add_callback(self._callback)

    # -- for whoever holds it

    def detach(self) -> None:
        """The trainer is a plain one again. Waits for what is being written."""
        self._end()
        for name in (*_REPLACED, "_ingot"):
            vars(self.trainer).pop(name, None)
        self.trainer.remove_callback(self._callback)

    # -- the training

    def _of(self, directory: str) -> Checkpointer:
        """The checkpointer of a run's directory: each trial of a search for hyperparameters has its own."""
        if self._ck is not None and self._ck.directory != expand(directory):
            self._end()
        if self._ck is None:
            self._ck = Checkpointer(directory, self._cadence, self._keep, **self._options)
        return self._ck

    def _end(self) -> None:
        ck, self._ck = self._ck, None
        if ck is not None:
            ck.close()

    def _train(self, resume_from_checkpoint: Union[None, bool, str, os.PathLike] = None, *args: Any, **kwargs: Any) -> Any:
        self._end()
        ck = self._of(self.trainer.args.output_dir)  # it hears signals from here on
        try:
            path = self._resumable(ck, resume_from_checkpoint)
            out = self._original["train"](path, *args, **kwargs)
        except BaseException as e:
            try:
                self._end()
            except Exception as other:
                warnings.warn(f"closing the checkpointer: {other}", RuntimeWarning, stacklevel=2)
                if isinstance(e, SystemExit) and e.code == Checkpointer.exit_code:
                    raise other from None  # what was to be saved is not
            raise
        self._end()
        return out

    def _chooser(self) -> layouts.Chooser:
        return layouts.Chooser(_check_complete, _check_plain, self._options.get("threads", 0))

    def _resumable(self, ck: Checkpointer, which: Union[None, bool, str, os.PathLike]) -> Optional[str]:
        self._owed = None
        if which is None or which is False:
            ck._resumes = False
            return None
        ck._see_lease()
        told = ck._of_rank_0("resumes from", lambda: self._choice(ck, "" if which is True else expand(which).rstrip("/")))  # type: ignore[arg-type]
        if told is None:
            layouts.told_fresh(ck)
            return None
        path, checked, self._owed = told
        if checked:
            layouts.seen_by_all(ck, path)
            layouts.told_resumed(ck, _ingot.look_at(path))
        return str(path)

    def _choice(self, ck: Checkpointer, path: str) -> Optional[Tuple[str, bool, Any]]:
        """What a run goes on from, whether that is a checkpoint, and the evaluation that it owes; None for a fresh start."""
        if path and os.path.basename(path) == "latest" and not os.path.isdir(path):
            found = self._chooser().newest(os.path.dirname(path) or ".")
        elif path and not os.path.isdir(path):
            return path, False, None  # Trainer says what is wrong with it
        elif path:
            found = self._chooser().named(path)
        else:
            found = self._chooser().newest(ck.directory)
        if found is None:
            return None
        owed = os.path.join(found.path, _OWED)
        return str(found.path), True, layouts.read_json(owed) if os.path.exists(owed) else None

    def _load_rng_state(self, *args: Any, **kwargs: Any) -> Any:
        out = self._original["_load_rng_state"](*args, **kwargs)
        self._evaluate_owed()  # the generators are as they were behind the step
        return out

    def _evaluate_owed(self) -> None:
        """What the preempted run had no time for, in its place: between the step that it saved and the next."""
        owed, self._owed = self._owed, None
        trainer, step = self.trainer, int(self.trainer.state.global_step)
        if owed is None or owed.get("step") != step:
            return
        metrics = trainer._evaluate(None, None)
        trainer._determine_best_metric(metrics=metrics, trial=None)
        path = os.path.join(trainer.args.output_dir, f"checkpoint-{step}")

        def noted() -> bool:
            if os.path.exists(os.path.join(path, "manifest.json")):
                _ingot.look_at(path).put_metrics(self._metrics(step))
            return os.path.isdir(path)
        there = self._of_rank_0("evaluated", noted)
        if getattr(trainer.state, "best_global_step", None) == step and (owed.get("save") or trainer.args.save_strategy == "best") and there:
            trainer.state.best_model_checkpoint = path

    def _batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        state = self.trainer.state
        if state.max_steps > 0 and state.global_step >= state.max_steps:  # a run that had ended: Trainer would make one step more
            self.trainer.control.should_training_stop = True
            return [], None
        return self._original["get_batch_samples"](*args, **kwargs)

    def _get_output_dir(self, *args: Any, **kwargs: Any) -> str:
        if not self._saving:
            self.wait()  # whoever asks where the checkpoints are wants them to be there
        return str(self._original["_get_output_dir"](*args, **kwargs))

    def _load_best_model(self, *args: Any, **kwargs: Any) -> Any:
        self.wait()
        path = self.trainer.state.best_model_checkpoint

        def verified() -> None:
            if path is not None and os.path.isdir(path) and os.path.exists(os.path.join(path, "manifest.json")):
                f = _ingot.look_at(path)
                if f.state != "whole":
                    raise _ingot.BadInput(f"loading the best model: {path}: {f.reason}. The newest model is trained and in the trainer: save_model() keeps it; 'ingot checkpoint ls' shows what is left")
                f.verify(self._options.get("threads", 0))
        self._of_rank_0("best model", verified)
        return self._original["_load_best_model"](*args, **kwargs)

    # -- a save

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Trainer's own, with its files caught and given to the engine."""
        trainer = self.trainer
        step = int(trainer.state.global_step)
        trial = kwargs.get("trial", args[1] if len(args) > 1 else None)
        ck = self._of(self._original["_get_output_dir"](trial=trial))
        if ck._is_saved(step):
            # Of this step already, and the weights are the same: it may have become the best since.
            if getattr(trainer.state, "best_global_step", None) == step:
                trainer.state.best_model_checkpoint = os.path.join(ck.directory, f"checkpoint-{step}")
            ck.report(step, self._metrics(step))
            return
        before, pushes = trainer.state.best_model_checkpoint, []

        def packed() -> Any:
            with Part(ck._ranks, f"saving step {step}") as part:
                return self._caught(ck, step, args, kwargs, pushes, part)
        self._saving = True
        try:
            handle = ck._save(step, packed, self._metrics(step))
        finally:
            self._saving = False
        if handle is None:
            trainer.state.best_model_checkpoint = before  # it was left out: overlap="skip"
        elif self._wait or pushes:
            handle.wait()
        for _ in pushes:
            self._original["_push_from_checkpoint"](os.path.join(ck.directory, f"checkpoint-{step}"))

    def _caught(self, ck: Checkpointer, step: int, args: Any, kwargs: Any, pushes: list, part: Part) -> Any:
        trainer, state, name = self.trainer, self.trainer.state, f"checkpoint-{step}"
        if ck._leads:
            layouts.make_way(ck.directory, step)
        with Catch(name, self._options.get("threads", 0), (_ARGS,)) as catch:
            best = getattr(state, "best_global_step", None)
            part.meet()  # before what Trainer gathers of all ranks
            if best and best != step and ck._of_rank_0("best is there", lambda: self._is_there(ck, best)):
                os.mkdir(os.path.join(catch.root, f"checkpoint-{best}"))  # Trainer looks whether it is
            tokenizers = [t for t in (getattr(trainer, "processing_class", None) or getattr(trainer, "tokenizer", None), getattr(trainer.data_collator, "tokenizer", None))
                          if callable(getattr(t, "save_pretrained", None))]
            with replaced(trainer, _get_output_dir=lambda *a, **k: catch.root, _push_from_checkpoint=lambda *a, **k: pushes.append(a)), _barriers(part):
                if tokenizers and hasattr(tokenizers[0], "__dict__"):
                    with replaced(tokenizers[0], save_pretrained=self._once.of(tokenizers[0])):
                        self._original["_save_checkpoint"](*args, **kwargs)
                else:
                    self._original["_save_checkpoint"](*args, **kwargs)
            caught = catch.done()
            if state.best_model_checkpoint is not None:
                state.best_model_checkpoint = _moved(state.best_model_checkpoint, catch.root, ck.directory)
            if "trainer_state.json" in caught.files:
                told = json.loads(caught.files["trainer_state.json"])
                if told.get("best_model_checkpoint"):
                    told["best_model_checkpoint"] = _moved(told["best_model_checkpoint"], catch.root, ck.directory)
                    caught.files["trainer_state.json"] = (json.dumps(told, indent=2, sort_keys=True) + "\n").encode()
            if ck._leads:
                if self._owed is not None:
                    caught.files[_OWED] = (json.dumps(self._owed) + "\n").encode()
                caught.files.setdefault("training_args.json", (trainer.args.to_json_string() + "\n").encode())
            return pack(caught, "transformers", _described(caught.files, state), [trainer.model], part)

    def _is_there(self, ck: Checkpointer, step: int) -> bool:
        under_way = ck._last is not None and ck._last.step == step
        return under_way or os.path.isdir(os.path.join(ck.directory, f"checkpoint-{step}"))

    def _metrics(self, step: int) -> Dict[str, float]:
        """What Trainer has logged of this step."""
        out: Dict[str, float] = {}
        for entry in self.trainer.state.log_history[-8:]:
            if entry.get("step") == step:
                out.update({k: float(v) for k, v in entry.items() if k not in ("step", "epoch") and isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and not k.endswith(_SPEEDS)})
        if getattr(self.trainer.state, "best_global_step", None) == step:
            out[_BEST] = 1.0
        return out


_REFUSED = (
    ("DeepSpeed", lambda t: getattr(t, "is_deepspeed_enabled", False), "its engine saves itself, and Trainer's code has no part in it; ingot.deepspeed.attach(engine) saves an engine's state, in a loop of one's own"),
    ("FSDP", lambda t: getattr(t, "is_fsdp_enabled", False) or getattr(t, "is_fsdp_xla_enabled", False),
     "each rank has a part of its state, which Trainer saves in directories of torch.distributed.checkpoint; in a loop of one's own ingot.dcp.StorageWriter saves it, or ingot.Checkpointer"),
    ("tensor parallelism", lambda t: t.args.world_size > 1 and (getattr(t, "is_tp_enabled", False) or getattr(t, "is_distributed_loading_by_transformers", False)) or any(is_shared(p) for p in t.model.parameters()),
     "each rank has a part of its state; in a loop of one's own ingot.dcp.StorageWriter saves it, or ingot.Checkpointer"),
    ("several processes of another kind than torch's DistributedDataParallel (a TPU, SageMaker)", lambda t: t.args.world_size > 1 and t.args.parallel_mode.value != "distributed", "start it with torchrun"),
    ("enable_jit_checkpoint", lambda t: getattr(t.args, "enable_jit_checkpoint", False), "ingot saves on SIGTERM itself: turn it off"))
_SPEEDS = ("_runtime", "_per_second")


@contextlib.contextmanager
def _barriers(part: Part) -> Iterator[None]:
    """Where Trainer waits for all ranks within a save, a rank that has failed is heard of: a barrier would wait for torch's half an hour."""
    if part.ranks is None:
        yield
        return
    import torch.distributed as distributed
    barrier = distributed.barrier
    with replaced(distributed, barrier=lambda group=None, *args, **kwargs: barrier(group, *args, **kwargs) if group is not None else part.meet() and None):
        yield


def _moved(path: str, from_: str, to: str) -> str:
    return os.path.join(to, os.path.relpath(path, from_)) if os.path.abspath(path).startswith(from_ + os.sep) else path


def _described(files: Dict[str, bytes], state: Any) -> Dict[str, Any]:
    """What the other files hold, as whoever lists the checkpoint tells it: by the members that such objects have."""
    what = {"optimizer.pt": ("optimizer", {"param_groups": None}), "scheduler.pt": ("scheduler", {"last_epoch": state.global_step}), "scaler.pt": ("scaler", {"growth_factor": None}),
            "rng_state.pth": ("rng", {"torch": None}), "rng_state_0.pth": ("rng", {"torch": None}), "trainer_state.json": ("trainer_state", {"position": state.global_step, "epoch": state.epoch})}
    return {key: {"file": name, **members} for name, (key, members) in what.items() if name in files}


def _keep_of(args: Any, keep: Optional[Keep]) -> Keep:
    """``save_total_limit`` as rules: the newest, among them the best. Whoever gives rules of his own keeps the best beside them."""
    has_best = args.metric_for_best_model is not None
    if keep is not None:
        if has_best and args.load_best_model_at_end and not keep._rules["best"] and any(keep._rules[r] for r in ("last", "every_steps", "exponential")):
            keep._rules.update(best=1, metric=_BEST, greatest=True)
        return keep
    limit = args.save_total_limit
    if limit is None or limit <= 0:
        return Keep()
    return Keep(last=max(1, limit - 1), best=1, metric=_BEST, mode="max") if has_best else Keep(last=limit)


def _check_complete(path: str) -> None:
    """Whether Trainer can go on exactly from there."""
    names = set(os.listdir(path))
    missing = [n for n in ("trainer_state.json", "optimizer.pt", "scheduler.pt") if n not in names]
    ranks = {int(m[1]) for m in (re.fullmatch(r"rng_state_(\d+)\.pth", n) for n in names) if m}
    if "rng_state.pth" not in names and not ranks:
        missing.append("rng_state.pth")
    missing += [f"rng_state_{r}.pth" for r in range(max(ranks, default=0)) if r not in ranks]
    if missing:
        model_only = "trainer_state.json" in names and len(missing) == 3
        raise _ingot.BadInput(f"{path} has no {', '.join(missing)}: {'it was saved with save_only_model' if model_only else 'the save that should have written it did not end'}")


def _check_plain(path: str) -> None:
    """A directory of a plain Trainer, all bytes of it: its save leaves no word of whether it ended. trainer_state.json is the last that it writes."""
    names = sorted(os.listdir(path))
    if "checkpoint-is-incomplete.txt" in names:
        raise _ingot.BadInput(f"{path}: checkpoint-is-incomplete.txt says that its save did not end")
    state = layouts.read_json(os.path.join(path, "trainer_state.json"))
    digits = os.path.basename(path.rstrip("/")).rpartition("-")[2]
    if not isinstance(state, dict) or digits.isdigit() and state.get("global_step") != int(digits):
        raise _ingot.BadInput(f"{path}: its trainer_state.json is of step {state.get('global_step') if isinstance(state, dict) else None}: files of two saves, or of none")
    layouts.check_weights(path, names)
    for name in names:
        if name.endswith((".pt", ".pth")):
            layouts.check_archive(os.path.join(path, name))
        elif name in ("config.json", "adapter_config.json", "generation_config.json"):
            layouts.read_json(os.path.join(path, name))


def _callback(attached: Attached) -> Any:
    class Ingot(transformers.TrainerCallback):
        """Says when to save: by the cadence, and when the machine is about to go."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step >= state.max_steps:
                attached._evaluate_owed()  # no epoch comes any more

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ck = attached._ck
            if ck is None:
                return
            ends = bool(state.epoch) and float(state.epoch).is_integer()  # on_epoch_end comes right behind
            if ck._polled():
                attached._owed = None
                if control.should_evaluate or ends and args.eval_strategy == "epoch":
                    # It may take longer than there is time.
                    attached._owed = {"step": state.global_step, "save": control.should_save or ends and args.save_strategy == "epoch"}
                    control.should_evaluate = False
                    if ck._leads:
                        print(f"ingot: preempted at step {state.global_step}: it is saved first, and evaluated when the run goes on", file=sys.stderr)
                control.should_save, control.should_training_stop = True, True
            elif ck.due(state.global_step) and not (ends and args.save_strategy == "epoch"):
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ck = attached._ck
            if ck is not None and ck.preempted:
                ck.wait()
                if ck._leads:
                    print(f"ingot: preempted: step {state.global_step} is saved in {ck.directory}; exit code {ck.exit_code}", file=sys.stderr)
                sys.exit(ck.exit_code)
    return Ingot()
