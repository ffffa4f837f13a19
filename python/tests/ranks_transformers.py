"""One rank of a Trainer's run under DistributedDataParallel, for test_transformers.py: from what is there to its end."""
import os
import signal
import time
import warnings

try:
    import deepspeed  # noqa: F401 accelerate imports it where it is: once here, and not in each fork
except ImportError:
    pass
import torch
from transformers import Trainer, TrainerCallback

import ingot
import test_transformers as t
from ingot.transformers import attach


class Events(TrainerCallback):
    """What happens at a step's end, to one rank alone. slow: seconds that each step takes beside."""

    def __init__(self, began, rank, slow=0.0, on=1, signal_at=0, die_at=0):
        self.began, self.rank, self.slow, self.on, self.signal_at, self.die_at = began, rank, slow, on, signal_at, die_at

    def on_step_begin(self, args, state, control, **kwargs):
        self.began()
        time.sleep(self.slow)

    def on_step_end(self, args, state, control, **kwargs):
        if self.rank == self.on and state.global_step == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.rank == self.on and state.global_step == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


class Breaks(Trainer):
    """Of the rank `on` a save of the step `at` does not go well: where it begins, or in its own files; die: it ends there."""
    at, on, where, die = 0, 1, "", False

    def _breaks(self, where):
        if self.state.global_step == self.at and self.args.process_index == self.on and self.where == where:
            if self.die:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(f"no room on the {where}")

    def save_model(self, *args, **kwargs):
        super().save_model(*args, **kwargs)
        self._breaks("model")

    def _save_rng_state(self, *args, **kwargs):
        super()._save_rng_state(*args, **kwargs)
        self._breaks("rng")


class Given(TrainerCallback):
    """Values of an evaluation, in their order."""

    def __init__(self, values):
        self.values = iter(values)

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        metrics["eval_it"] = next(self.values)


def run(began, rank, world, port, directory, out, plain=False, resume=True, options=None, arguments=None, skew=0.0, breaks=None, best=None, **events):
    torch.set_num_threads(1)
    warnings.simplefilter("always", RuntimeWarning)  # told to the test, whatever it was started with
    if world > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if skew and rank:
        real = time.monotonic
        ingot.checkpointer.time.monotonic = lambda: real() + skew
    if breaks:
        for name, value in breaks.items():
            setattr(Breaks, name, value)
    torch.manual_seed(100 + rank)
    trainer = t.trainer(directory, cls=Breaks if breaks else None, callbacks=[Events(began, rank, **events), *([Given(best)] if best else [])], **{"max_steps": 16, "ddp_backend": "gloo" if world > 1 else None, **(arguments or {})})
    if not plain:
        attach(trainer, **(options or {}))
    trainer.train(resume_from_checkpoint=resume)
    if rank == 0:
        torch.save({"weights": t.weights(trainer), "best": trainer.state.best_model_checkpoint}, out)
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
