"""One process of several of a run by Accelerate, for test_accelerate.py: from what is there to its end."""
import os
import signal
import time
import warnings

try:
    import deepspeed  # noqa: F401 accelerate imports it where it is: once here, and not in each fork
except ImportError:
    pass
import torch

import test_accelerate as t


def run(began, rank, world, port, directory, out, hooked=True, load=None, stop=None, save_every=4, slow=0.0, signal_at=0, breaks=0, on=1, **arguments):
    torch.set_num_threads(1)
    warnings.simplefilter("always", RuntimeWarning)  # told to the test, whatever it was started with
    if world > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    training = t.Training(directory, hooked=hooked, **({"signals": True} if hooked else {}), **arguments)

    def before_a_step():
        began()
        time.sleep(slow)
        if rank == on and training.counter.n + 1 == signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
    if breaks and rank == on:
        state_dict = training.scheduler.state_dict  # saved by all

        def broken():
            if training.counter.n == breaks:
                raise OSError("no room")
            return state_dict()
        training.scheduler.state_dict = broken
    try:
        if load is not None:
            training.a.load_state(load)
        elif hooked:
            training.hook.resume()
        training.run(save_every=save_every, stop=stop, began=before_a_step)
    finally:
        if hooked:
            training.hook.detach()  # what the end of a program does, and not that of a fork
    torch.save({"weights": training.weights(), "seen": training.seen}, out.format(rank))
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
