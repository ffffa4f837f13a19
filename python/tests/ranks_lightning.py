"""A training of two ranks by Lightning's DDP, for test_lightning.py: DIR STOP OUT; at step STOP rank 1 alone gets a signal."""
import os
import signal
import sys

import torch

torch.set_num_threads(1)
import lightning.pytorch as pl

import ingot
from ingot.lightning import Checkpoint, CheckpointIO
from test_lightning import Net, by_model_checkpoint, fit, loader, rows, weights

directory, stop, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Stop(pl.Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.global_rank == 1 and stop and trainer.global_step == stop:
            os.kill(os.getpid(), signal.SIGTERM)


rank = int(os.environ["LOCAL_RANK"])
data = loader(torch.utils.data.DistributedSampler(rows(), 2, rank, shuffle=True, seed=3))
module, _ = fit([Stop(), by_model_checkpoint(directory), Checkpoint()], [CheckpointIO()], "last", data, max_steps=16, strategy="ddp", devices=2)
if rank == 0:
    torch.save(weights(module), out)
